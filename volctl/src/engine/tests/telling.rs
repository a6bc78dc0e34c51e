//! What people and programs are told: each thing by its event, once.

use std::time::Duration;

use ondisk::{AnswerVerdict, AutoResponse, GrantState, Incarnation, Message, ReadersPolicy};

use super::desk::{ALICE, BOB, CAROL, Desk, grant, healthy};
use crate::engine::{Command, Effect, Job, JobDone};
use crate::wire::event::EventName;
use crate::wire::outcome::Failure;

/// The events that came, each with the other client; they are taken from the list.
fn told(desk: &mut Desk) -> Vec<(EventName, String)> {
    let mut told = Vec::new();
    desk.effects.retain(|effect| {
        let Effect::Fact(fact) = effect else { return true };
        told.push((fact.name, fact.client.clone()));
        false
    });
    told
}

/// A reader of a volume that this one writes; what led there is told already.
fn reader_of(writer: Option<ondisk::SlotIndex>) -> Desk {
    let mut desk = Desk::new(ReadersPolicy::Live).published();
    desk.table().writer = writer.map(|slot| grant(slot, 20, GrantState::Held));
    desk.settle();
    told(&mut desk);
    desk
}

fn of(name: EventName, client: &str) -> (EventName, String) {
    (name, client.to_owned())
}

#[test]
fn who_gets_and_who_loses_the_write_privilege_is_an_event_once() {
    let mut desk = Desk::new(ReadersPolicy::Live).published().held_by(ALICE, 20);
    desk.step();
    assert_eq!(told(&mut desk), [of(EventName::PeerGranted, "alice")], "found at the log-on");
    desk.settle();
    told(&mut desk);
    desk.wait(Duration::from_secs(1));
    assert_eq!(told(&mut desk), []);
    desk.table().writer = Some(grant(CAROL, 40, GrantState::Held));
    desk.step();
    assert_eq!(told(&mut desk), [of(EventName::PeerReleased, "alice"), of(EventName::PeerGranted, "carol")]);
    desk.table().writer = Some(grant(CAROL, 40, GrantState::Revoked));
    desk.step();
    desk.step();
    assert_eq!(told(&mut desk), [of(EventName::GrantRevoked, "carol")]);
    desk.table().writer = None;
    desk.step();
    assert_eq!(told(&mut desk), [of(EventName::PeerReleased, "carol")]);
}

#[test]
fn another_client_that_comes_leaves_or_falls_silent_is_an_event_once() {
    let mut desk = Desk::new(ReadersPolicy::Live).published();
    desk.step();
    assert_eq!(told(&mut desk), [], "those who were found are no news");
    let mut after = |change: &dyn Fn(&mut crate::engine::Peer)| {
        change(&mut desk.peers[CAROL.index()]);
        desk.step();
        desk.step();
        told(&mut desk).into_iter().filter(|(name, _)| name.as_str().starts_with("peer.")).collect::<Vec<_>>()
    };
    assert_eq!(after(&|carol| carol.logged_on = false), [of(EventName::PeerOff, "carol")]);
    let comes = |carol: &mut crate::engine::Peer| (carol.logged_on, carol.incarnation) = (true, Incarnation(3));
    assert_eq!(after(&comes), [of(EventName::PeerOn, "carol")]);
    assert_eq!(after(&|carol| carol.known = false), [], "a slot that cannot be read says nothing");
    assert_eq!(after(&|carol| carol.known = true), []);
    assert_eq!(after(&|carol| carol.silent = true), [of(EventName::PeerDead, "carol")]);
    assert_eq!(after(&|carol| carol.silent = false), [of(EventName::PeerOn, "carol")], "it beats again");
    assert_eq!(after(&|carol| carol.incarnation = Incarnation(5)), [of(EventName::PeerOn, "carol")], "anew");
    assert_eq!(after(&|carol| carol.reaped = true), [of(EventName::PeerReaped, "carol")], "and not that it left");
}

#[test]
fn what_is_asked_is_an_event_once() {
    let mut desk = reader_of(Some(ALICE));
    desk.request(Some(Duration::from_secs(9)));
    assert_eq!(told(&mut desk), [of(EventName::RequestMade, "alice")]);
    desk.request(Some(Duration::from_secs(9)));
    assert_eq!(told(&mut desk), [], "it is the same request with another message");
    desk.command(Command::Withdraw { volume: "v0".into() });
    assert_eq!(told(&mut desk), [of(EventName::RequestWithdrawn, "")]);
    desk.request(None);
    desk.after(Duration::from_secs(601));
    let told = told(&mut desk);
    assert_eq!(told, [of(EventName::RequestMade, "alice"), of(EventName::RequestTimedOut, "")]);
}

#[test]
fn a_takeover_is_an_event_and_then_the_request_that_it_is() {
    let mut desk = reader_of(Some(ALICE));
    desk.tables.clients[BOB.index()].as_mut().expect("bob").admin = true;
    desk.command(Command::Takeover { volume: "v0".into(), yes_i_know: None });
    assert_eq!(told(&mut desk), [of(EventName::RequestMade, "alice"), of(EventName::TakeoverStarted, "alice")]);
}

#[test]
fn what_is_answered_is_an_event_whoever_answers() {
    let mut desk = reader_of(None);
    desk.request(Some(Duration::from_secs(9)));
    desk.settle();
    desk.ask_from(CAROL, 9, 1);
    desk.step();
    told(&mut desk);
    let verdict = AnswerVerdict::No;
    desk.command(Command::Answer { volume: "v0".into(), client: "carol".into(), verdict, message: Message::default() });
    assert_eq!(told(&mut desk), [of(EventName::RequestAnswered, "carol")]);
    desk.ask_from(ALICE, 8, 2);
    desk.tables.clients[BOB.index()].as_mut().expect("bob").auto_response = AutoResponse::Always;
    desk.tables.header.commit.epoch += 1;
    desk.step();
    let told = told(&mut desk);
    assert_eq!(told, [of(EventName::RequestReceived, "alice"), of(EventName::RequestAnswered, "alice")]);
}

#[test]
fn mounts_that_come_fail_and_go_are_events_once() {
    let mut desk = Desk::new(ReadersPolicy::Live).published();
    let failed = || JobDone::Failed(Failure::failed("no mount", "the device is gone", "attach it"));
    let mut tries = 0;
    while tries < 2 {
        desk.after(Duration::from_secs(1));
        if let Some(Job::MountReader { .. }) = desk.job() {
            tries += 1;
            desk.end_job(failed());
        }
    }
    assert_eq!(told(&mut desk), [of(EventName::MountFailed, "")], "the same trouble twice");
    desk.wait(Duration::from_secs(60));
    assert_eq!(told(&mut desk), [of(EventName::Mounted, "")]);
    desk.command(Command::Unmount { volume: "v0".into() });
    desk.settle();
    assert_eq!(told(&mut desk), [of(EventName::Unmounted, "")]);
}

#[test]
fn a_publish_that_fails_is_an_event() {
    let mut desk = Desk::new(ReadersPolicy::Snapshot).published();
    desk.settle();
    desk.request(Some(Duration::from_secs(9)));
    desk.settle();
    told(&mut desk);
    for _ in 0..100 {
        desk.after(Duration::from_secs(1));
        match desk.job() {
            Some(Job::Publish { .. }) => {
                desk.end_job(JobDone::Failed(Failure::failed("no publish", "a balance is running", "wait for it")));
                break;
            }
            Some(job) => desk.end_job(healthy(&job)),
            None => {}
        }
    }
    assert_eq!(told(&mut desk), [of(EventName::PublishFailed, "")]);
}
