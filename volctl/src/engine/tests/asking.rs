//! Requests, answers and the write privilege, command by command.

use std::time::Duration;

use ondisk::client_page::{ANSWERS, AnswerVerdict, REQUESTS};
use ondisk::{
    Answer, AutoResponse, GrantState, Message, MountState, ReadersPolicy, Request, RequestId, SlotIndex, Uuid,
};

use super::desk::{ALICE, BOB, CAROL, Desk, V, grant, healthy};
use crate::engine::effect::{Busy, Fact};
use crate::engine::{Command, Effect, Job, JobDone, Reply, TableOp};
use crate::wire::event::EventName;
use crate::wire::outcome::{ExitCode, Failure};

fn live() -> Desk {
    let mut desk = Desk::new(ReadersPolicy::Live).published();
    desk.settle();
    desk
}

fn writer() -> Desk {
    let mut desk = live();
    let id = desk.request(Some(Duration::from_secs(5)));
    desk.settle();
    assert!(matches!(desk.told(id), Some(Reply::Done { asked: false, .. })));
    assert_eq!(desk.own().state, MountState::ReadWrite);
    desk
}

fn failed() -> JobDone {
    JobDone::Failed(Failure::failed("no mount", "the device is gone", "attach it"))
}

fn busy() -> JobDone {
    JobDone::StillBusy(vec![Busy { program: "vi".into(), pid: 7, user: "u".into(), path: "/x".into() }])
}

fn release() -> Command {
    Command::Release { volume: "v0".into() }
}

fn answer(client: &str, verdict: AnswerVerdict) -> Command {
    Command::Answer { volume: "v0".into(), client: client.into(), verdict, message: Message::cut("well") }
}

#[test]
fn a_free_volume_is_granted_and_mounted_at_once_even_without_wait() {
    let mut desk = live();
    let id = desk.request(None);
    assert!(desk.told(id).is_none(), "the answer is the mount itself");
    desk.settle();
    assert!(matches!(desk.told(id), Some(Reply::Done { asked: false, .. })));
    assert!(desk.engine.page().requests.is_empty());
}

/// Section 6: the grant carries how long this host may hold back writes. Red when `TakeGrant` does not wait for the
/// measure: a writer that dies before its first look at the volume could never be followed.
#[test]
fn the_grant_carries_the_measured_in_flight_time() {
    // It was never mounted here, so that no look at it has measured anything yet.
    let mut desk = Desk::with(ReadersPolicy::Live, |s| s.unmounted = vec![V]).published();
    desk.request(None);
    desk.settle();
    let grant = desk.tables.volumes[0].as_ref().unwrap().writer.unwrap();
    assert_eq!(grant.inflight, ondisk::InFlight(1234));
}

#[test]
fn without_wait_a_request_to_a_living_writer_is_done_once_it_is_on_disk() {
    let mut desk = live().held_by(ALICE, 20);
    let id = desk.request(None);
    assert!(matches!(desk.told(id), Some(Reply::Done { asked: true, .. })));
    assert_eq!(desk.engine.page().request(V).map(|r| r.to), Some(ALICE));
    assert_eq!(desk.on_disk, desk.engine.page_version());
}

#[test]
fn a_wait_that_ends_leaves_the_request_standing_and_says_so() {
    let mut desk = live().held_by(ALICE, 20);
    let id = desk.request(Some(Duration::from_secs(3)));
    desk.wait(Duration::from_secs(4));
    assert_eq!(desk.failure(id).exit, ExitCode::TimedOut);
    assert!(desk.engine.page().request(V).is_some());
}

#[test]
fn a_request_times_out_from_the_log_on_or_the_request_whichever_is_later() {
    let standing =
        Request { id: RequestId(5), number: 1, volume: V, to: ALICE, created_ms: 0, message: Message::default() };
    let mut desk = Desk::with(ReadersPolicy::Live, |s| s.requests.push(standing)).published().held_by(ALICE, 20);
    desk.settle();
    assert!(desk.engine.page().request(V).is_some(), "created long ago, but by the wall clock, for people");
    desk.wait(Duration::from_secs(590));
    assert!(desk.engine.page().request(V).is_some());
    desk.wait(Duration::from_secs(10));
    assert!(desk.engine.page().request(V).is_none());
}

#[test]
fn a_no_ends_the_request_and_a_later_does_not() {
    for (verdict, stands) in [(AnswerVerdict::Later, true), (AnswerVerdict::No, false)] {
        let mut desk = live().held_by(ALICE, 20);
        let id = desk.request(Some(Duration::from_secs(30)));
        let request = desk.engine.page().request(V).unwrap().id;
        let message = Message::cut("not now");
        desk.edit_page(ALICE, |p| p.answers.push(Answer { request, to: BOB, volume: V, verdict, message }));
        desk.settle();
        assert_eq!(desk.engine.page().request(V).is_some(), stands, "{verdict:?}");
        if stands {
            assert!(matches!(desk.told(id), Some(Reply::Progress { .. })));
        } else {
            let failure = desk.failure(id);
            assert_eq!((failure.exit, failure.why.as_str()), (ExitCode::Refused, "alice said no: not now"));
        }
    }
}

/// Trace C1. Red when answers are matched by the volume instead of the request's id.
#[test]
fn an_old_no_does_not_answer_a_new_request() {
    let mut desk = live().held_by(ALICE, 20);
    let old =
        Answer { request: RequestId(1), to: BOB, volume: V, verdict: AnswerVerdict::No, message: Message::default() };
    desk.edit_page(ALICE, |p| p.answers.push(old));
    desk.request(None);
    desk.settle();
    assert!(desk.engine.page().request(V).is_some());
}

/// Red when the first page with an answer is believed: the writer that followed would never be heard.
#[test]
fn the_present_writers_answer_counts_not_an_earlier_ones() {
    let mut desk = live().held_by(ALICE, 20);
    let id = desk.request(Some(Duration::from_secs(30)));
    let request = desk.engine.page().request(V).unwrap().id;
    let says = |verdict| Answer { request, to: BOB, volume: V, verdict, message: Message::default() };
    desk.edit_page(ALICE, |p| p.answers.push(says(AnswerVerdict::Later)));
    desk.settle();
    desk = desk.held_by(CAROL, 30);
    desk.edit_page(CAROL, |p| p.answers.push(says(AnswerVerdict::No)));
    desk.settle();
    assert_eq!(desk.failure(id).why, "carol said no");
}

/// Trace C13: "yes" is news; the table decides.
#[test]
fn a_yes_is_only_news_the_table_decides() {
    let mut desk = live().held_by(ALICE, 20);
    desk.request(Some(Duration::from_secs(30)));
    let request = desk.engine.page().request(V).unwrap().id;
    let yes = Answer { request, to: BOB, volume: V, verdict: AnswerVerdict::Yes, message: Message::default() };
    desk.edit_page(ALICE, |p| p.answers.push(yes));
    desk.settle();
    assert_eq!(desk.writer(), Some(ALICE));
    desk.table().writer = None;
    desk.settle();
    assert_eq!(desk.writer(), Some(BOB));
}

#[test]
fn what_is_withdrawn_while_it_is_granted_is_given_back() {
    let mut desk = live();
    let id = desk.request(Some(Duration::from_secs(30)));
    desk.step();
    while !desk.effects.iter().any(|e| matches!(e, Effect::Table { .. })) {
        let job = desk.job().expect("the measure");
        desk.end_job(healthy(&job));
    }
    desk.command(Command::Withdraw { volume: "v0".into() });
    assert_eq!(desk.failure(id).exit, ExitCode::Refused);
    desk.run_op().1.unwrap();
    assert_eq!(desk.writer(), Some(BOB), "the transaction was on its way");
    desk.settle();
    assert_eq!(desk.writer(), None);
    assert!(
        !desk.effects.iter().any(|e| matches!(e, Effect::Fact(f) if f.name == EventName::GrantTaken)),
        "not mounted"
    );
    assert_eq!(desk.tables.volumes[0].as_ref().unwrap().dirty_since, 0);
}

#[test]
fn what_is_withdrawn_while_it_is_mounted_is_released() {
    let mut desk = live();
    desk.request(Some(Duration::from_secs(30)));
    let mut mount = None;
    for _ in 0..20 {
        desk.step();
        match desk.job() {
            Some(job @ Job::MountWriter { .. }) => mount = Some(job),
            Some(job) => desk.end_job(healthy(&job)),
            None if desk.effects.iter().any(|e| matches!(e, Effect::Table { .. })) => desk.run_op().1.unwrap(),
            None => {}
        }
    }
    desk.command(Command::Withdraw { volume: "v0".into() });
    desk.end_job(healthy(&mount.expect("it is being mounted")));
    desk.settle();
    assert_eq!((desk.writer(), desk.own().state), (None, MountState::ReadOnly));
}

/// No loop: the grant is given back, the request is gone with the reason, and nothing is tried again.
#[test]
fn a_writers_mount_that_fails_gives_the_grant_back_and_says_why() {
    for (done, dirty) in
        [(failed(), false), (JobDone::HalfMounted(Failure::failed("a", "the device is gone", "b")), true)]
    {
        let mut desk = live();
        let id = desk.request(Some(Duration::from_secs(30)));
        let mut mounts = 0;
        for _ in 0..60 {
            desk.after(Duration::from_millis(200));
            while let Some(job) = desk.job() {
                let fails = matches!(job, Job::MountWriter { .. });
                mounts += usize::from(fails);
                desk.end_job(if fails { done.clone() } else { healthy(&job) });
            }
            if desk.effects.iter().any(|e| matches!(e, Effect::Table { .. })) {
                desk.run_op().1.unwrap();
            }
        }
        assert_eq!(desk.failure(id).why, "the device is gone");
        assert_eq!((desk.writer(), mounts), (None, 1));
        assert!(desk.engine.page().requests.is_empty());
        assert_eq!(desk.tables.volumes[0].as_ref().unwrap().dirty_since != 0, dirty);
        assert_eq!(desk.own().state, MountState::ReadOnly, "a reader again");
    }
}

#[test]
fn rights_that_are_taken_away_take_the_request_with_them() {
    let mut desk = live().held_by(ALICE, 20);
    let id = desk.request(Some(Duration::from_secs(30)));
    desk.settle();
    desk.table().permissions[1].lockout = true;
    desk.settle();
    assert_eq!(desk.failure(id).why, "rule lockout: bob may not ask for v0");
    assert!(desk.engine.page().requests.is_empty());
}

#[test]
fn a_writer_whose_rights_are_taken_away_releases_when_its_files_are_closed() {
    let mut desk = writer();
    desk.tables.clients[1].as_mut().unwrap().enabled = false;
    let mut stops = 0;
    for _ in 0..30 {
        desk.after(Duration::from_millis(500));
        while let Some(job) = desk.job() {
            let stop = matches!(job, Job::StopWriter { .. });
            stops += usize::from(stop);
            desk.end_job(if stop { busy() } else { healthy(&job) });
        }
    }
    assert!((1..=3).contains(&stops), "{stops} tries in 15 s: no busy loop");
    desk.wait(Duration::from_secs(10));
    assert_eq!(desk.writer(), None);
}

#[test]
fn a_grant_revoked_while_it_is_being_mounted_is_given_back_by_force() {
    let mut desk = live();
    desk.request(Some(Duration::from_secs(30)));
    let mut force = None;
    for _ in 0..20 {
        desk.step();
        while let Some(job) = desk.job() {
            if matches!(job, Job::MountWriter { .. }) {
                let table = desk.table();
                table.writer.as_mut().unwrap().state = GrantState::Revoked;
            }
            if let Job::StopWriter { force: f, .. } = job {
                force = Some(f);
            }
            desk.end_job(healthy(&job));
        }
        if desk.effects.iter().any(|e| matches!(e, Effect::Table { .. })) {
            desk.run_op().1.unwrap();
        }
    }
    assert_eq!((desk.writer(), force), (None, Some(true)));
}

/// Red when `lost_grant` stops in order: it would publish into what may be another's volume.
#[test]
fn a_lost_grant_closes_the_gate_and_publishes_nothing() {
    let mut desk = writer();
    desk.effects.clear();
    desk.table().writer = Some(grant(ALICE, 99, GrantState::Held));
    desk.step();
    assert_eq!(desk.job(), Some(Job::FenceWriter));
    desk.end_job(healthy(&Job::FenceWriter));
    desk.settle();
    assert_eq!(desk.writer(), Some(ALICE));
}

#[test]
fn a_volume_removed_from_the_tables_is_closed_and_forgotten() {
    for mut desk in [live(), writer()] {
        desk.effects.clear();
        desk.tables.volumes[0] = None;
        desk.tables.header.volumes = 0;
        desk.tables.header.commit.epoch += 10;
        desk.settle();
        assert!(desk.engine.volumes.is_empty());
        desk.leave(false);
        assert!(desk.engine.has_left());
    }
}

#[test]
fn a_release_that_open_files_prevent_names_them_and_the_grant_stays() {
    let mut desk = writer();
    desk.effects.clear();
    let id = desk.command(release());
    assert!(matches!(desk.job(), Some(Job::StopWriter { force: false, .. })));
    desk.end_job(busy());
    assert_eq!(desk.failure(id).why, "it is in use: vi (PID 7, user u)");
    assert_eq!((desk.writer(), desk.own().state), (Some(BOB), MountState::ReadWrite));
}

/// Found by the random runs: the command waited for ever. Red when `keeps_writing` drops a release that somebody asked for.
#[test]
fn a_release_that_somebody_waits_for_is_not_dropped_by_asking_again() {
    let mut desk = Desk::new(ReadersPolicy::Live).published();
    desk.table().readers = ReadersPolicy::Snapshot;
    desk.table().dirty_since = 2;
    desk.peers[0].logged_on = false;
    for _ in 0..20 {
        desk.step();
        match desk.job() {
            // Brought in order, and then a program keeps it busy.
            Some(Job::StopWriter { .. }) => desk.end_job(busy()),
            Some(job) => desk.end_job(healthy(&job)),
            None => {}
        }
        if desk.effects.iter().any(|e| matches!(e, Effect::Table { .. })) {
            desk.run_op().1.unwrap();
        }
    }
    let mut running = None;
    for _ in 0..40 {
        desk.after(Duration::from_millis(300));
        match desk.job() {
            Some(Job::StopWriter { .. }) => desk.end_job(busy()),
            None => {}
            job => {
                running = job;
                break;
            }
        }
    }
    let id = desk.command(release());
    desk.request(Some(Duration::from_secs(30)));
    desk.end_job(healthy(&running.expect("a look at the volume")));
    desk.wait(Duration::from_secs(3));
    assert!(matches!(desk.told(id), Some(Reply::Done { .. })), "{:?}", desk.told(id));
}

#[test]
fn a_yes_that_open_files_prevent_becomes_a_later_that_names_them() {
    let mut desk = writer();
    desk.ask_from(CAROL, 9, 1);
    desk.settle();
    desk.effects.clear();
    let id = desk.command(answer("carol", AnswerVerdict::Yes));
    desk.job().unwrap();
    desk.end_job(busy());
    assert_eq!(desk.failure(id).exit, ExitCode::Busy);
    let said = &desk.engine.page().answers[0];
    assert_eq!((said.verdict, said.message.as_str()), (AnswerVerdict::Later, "in use: vi (PID 7, user u)"));
}

/// Section 7: stop, publish, close the gate; the yes stands beside "gate closed", and the table names the asker next.
#[test]
fn a_yes_is_never_said_before_the_gate_is_closed() {
    let mut desk = writer();
    desk.ask_from(CAROL, 9, 4);
    desk.ask_from(ALICE, 8, 3);
    desk.settle();
    desk.effects.clear();
    desk.command(answer("carol", AnswerVerdict::Yes));
    let job = desk.job().unwrap();
    assert!(desk.engine.page().answers.is_empty());
    desk.end_job(healthy(&job));
    assert_eq!(desk.own().state, MountState::GateClosed);
    let (op, done) = desk.run_op();
    assert!(done.is_ok());
    assert!(matches!(op, TableOp::Release { next: Some((CAROL, RequestId(9))), .. }), "{op:?}");
    assert_eq!(desk.engine.page().answers[0].verdict, AnswerVerdict::Yes);
}

#[test]
fn a_release_to_nobody_in_particular_names_the_first_in_the_queue() {
    let mut desk = writer();
    desk.ask_from(CAROL, 9, 3);
    desk.ask_from(ALICE, 8, 3);
    desk.settle();
    desk.effects.clear();
    desk.command(release());
    let job = desk.job().unwrap();
    desk.end_job(healthy(&job));
    assert!(matches!(desk.run_op().0, TableOp::Release { next: Some((ALICE, RequestId(8))), .. }));
}

#[test]
fn auto_response_idle_says_yes_only_after_quiet_seconds_without_open_files() {
    let mut desk = writer();
    desk.tables.clients[1].as_mut().unwrap().auto_response = AutoResponse::Idle;
    desk.table();
    desk.ask_from(CAROL, 9, 1);
    let mut open = true;
    let mut released_after = None;
    for i in 0..60u32 {
        desk.after(Duration::from_millis(250));
        open = open && i < 20;
        while let Some(job) = desk.job() {
            if matches!(job, Job::StopWriter { .. }) {
                released_after.get_or_insert(i);
            }
            let mut done = healthy(&job);
            if let JobDone::Probed(probe) = &mut done {
                probe.open_for_writing = matches!(job, Job::Probe { files: true }).then_some(open);
            }
            desk.end_job(done);
        }
        if desk.effects.iter().any(|e| matches!(e, Effect::Table { .. })) {
            desk.run_op().1.unwrap();
        }
    }
    let after = released_after.expect("it says yes in the end");
    assert!((27..=34).contains(&after), "open until 5 s, then quiet for 2 s: {after} quarter seconds");
}

#[test]
fn a_request_is_told_once_and_the_hook_is_asked_once() {
    let mut desk = Desk::with(ReadersPolicy::Live, |s| s.ask_hook = true).published().held_by(BOB, 20);
    desk.ask_from(CAROL, 9, 1);
    desk.settle();
    let told = |e: &&Effect| matches!(e, Effect::Fact(f) if f.name == EventName::RequestReceived);
    assert_eq!(desk.effects.iter().filter(told).count(), 1);
    assert_eq!(desk.effects.iter().filter(|e| matches!(e, Effect::AskHook(_))).count(), 1);
    let fact = desk.effects.iter().find_map(|e| if let Effect::AskHook(f) = e { Some(f.as_ref()) } else { None });
    let expected =
        Fact::of(EventName::RequestReceived, "v0", "carol asks for v0: please").client("carol").message("please");
    assert_eq!(fact, Some(&expected));
}

/// Trace B5.
#[test]
fn a_full_page_of_answers_never_leaves_an_asker_without_one() {
    let mut desk = writer();
    let no = |n: u64| (SlotIndex(0), RequestId(n), V, AnswerVerdict::No, Message::default());
    for n in 0..ANSWERS as u64 {
        let (to, id, volume, mut verdict, message) = no(n);
        if n == 7 {
            verdict = AnswerVerdict::Later;
        }
        assert!(desk.engine.put_answer(to, id, volume, verdict, message));
    }
    let (to, _, volume, verdict, message) = no(0);
    assert!(desk.engine.put_answer(to, RequestId(100), volume, verdict, message.clone()), "the later one goes");
    assert!(!desk.engine.page().answers.iter().any(|a| a.request == RequestId(7)));
    assert!(!desk.engine.put_answer(to, RequestId(101), volume, verdict, message), "and the command is told");
}

#[test]
fn the_thirty_third_request_is_refused_by_name() {
    let mut desk = live().held_by(ALICE, 20);
    for n in 0..REQUESTS as u64 {
        desk.engine.page.requests.push(Request {
            id: RequestId(n),
            number: 1,
            volume: Uuid::from_u128(u128::from(n) + 100),
            to: ALICE,
            created_ms: 0,
            message: Message::default(),
        });
    }
    let id = desk.request(None);
    assert_eq!(desk.failure(id).why, "32 requests of this client stand already");
}

/// Found by reading for the fuzzer: a page may hold any number. The one after the highest was 0, so that whoever asked next,
/// after everybody else, came before everybody.
#[test]
fn the_highest_number_in_a_page_lets_nobody_jump_the_queue() {
    let mut desk = live().held_by(ALICE, 20);
    desk.ask_from(BOB, 5, u64::MAX);
    desk.step();
    desk.request(Some(Duration::from_secs(5)));
    assert_eq!(desk.engine.page().requests[0].number, u64::MAX);
}
