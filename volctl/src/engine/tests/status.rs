//! The status: states, reasons, and what a waiting volume waits for.

use std::time::Duration;

use ondisk::{GrantState, Incarnation, ReadersPolicy};

use super::desk::{ALICE, BOB, CAROL, Desk, V, generation, grant, healthy};
use crate::engine::effect::Probe;
use crate::engine::status::Surroundings;
use crate::engine::{Command, Effect, Job, JobDone};
use crate::wire::status::{Access, ClientMount, Enforcement, VolumeState, WaitsFor};

#[test]
fn the_states_of_a_write_privilege_from_locked_to_read_only_again() {
    let mut desk = Desk::new(ReadersPolicy::Live).published();
    desk.step();
    let status = desk.status();
    assert_eq!((status.state, status.reason.as_deref()), (VolumeState::Locked, Some("not mounted yet")));
    desk.settle();
    let status = desk.status();
    assert_eq!((status.state, status.mountpoint.as_deref()), (VolumeState::Ro, Some("/vol/v0")));
    assert_eq!((status.generation.as_str(), status.seen_generation.as_str()), ("3.1", "3.1"));
    desk.request(Some(Duration::from_secs(9)));
    assert_eq!(desk.status().state, VolumeState::Requesting);
    let mut seen = Vec::new();
    for _ in 0..12 {
        desk.step();
        seen.push(desk.status().state);
        if let Some(job) = desk.job() {
            desk.end_job(healthy(&job));
        } else if desk.effects.iter().any(|e| matches!(e, Effect::Table { .. })) {
            desk.run_op().1.unwrap();
        }
        seen.push(desk.status().state);
    }
    seen.dedup();
    assert_eq!(seen, [VolumeState::Requesting, VolumeState::Granted, VolumeState::Rw]);
    let status = desk.status();
    assert_eq!((status.writer.as_deref(), status.mountpoint.as_deref()), (Some("bob"), Some("/vol/v0")));
    desk.effects.clear();
    desk.command(Command::Release { volume: "v0".into() });
    assert_eq!(desk.status().state, VolumeState::Releasing);
    desk.settle();
    desk.end_job(healthy(&Job::StopWriter { generation: generation(50, 1), always: true, force: false, check: false }));
    desk.settle();
    assert_eq!(desk.status().state, VolumeState::Ro);
}

#[test]
fn without_a_gate_a_writer_has_no_mountpoint() {
    let mut desk = Desk::with(ReadersPolicy::Live, |s| s.gateless = true).published();
    desk.settle();
    desk.request(None);
    desk.settle();
    let status = desk.status();
    assert_eq!((status.state, status.mountpoint), (VolumeState::Rw, None));
}

#[test]
fn a_locked_volume_says_why() {
    let mut desk = Desk::new(ReadersPolicy::Exclusive).published().held_by(ALICE, 20);
    desk.settle();
    let status = desk.status();
    assert_eq!(status.state, VolumeState::Locked);
    assert_eq!(status.reason.as_deref(), Some("exclusive: alice has the write privilege"));
    desk.table().writer = None;
    desk.table().dirty_since = 0;
    desk.table().permissions[1].access = ondisk::Access::None;
    desk.settle();
    assert_eq!(desk.status().reason.as_deref(), Some("rule mount access: this client has access none"));
}

#[test]
fn a_request_to_a_silent_writer_waits_for_dead_and_then_for_in_flight() {
    let mut desk = Desk::new(ReadersPolicy::Live).published().held_by(ALICE, 20);
    desk.settle();
    desk.request(Some(Duration::from_secs(60)));
    assert_eq!(desk.status().waits_for, None, "she answers");
    desk.peers[0].beat_age = Duration::from_secs(5);
    desk.step();
    let status = desk.status();
    assert_eq!((status.waits_for, status.wait_ms), (Some(WaitsFor::Dead), Some(7000)));
    desk.peers[0].silent = true;
    desk.peers[0].reaped = true;
    desk.tables.header.reaped[0] = Incarnation(1);
    desk.tables.header.commit.epoch += 10;
    desk.step();
    // The poll after the one that shows the reaping counts.
    desk.step();
    let status = desk.status();
    assert_eq!((status.waits_for, status.wait_ms), (Some(WaitsFor::Inflight), Some(5000)));
    // No bound: it waits for ever, and says so.
    desk.table().writer =
        Some(ondisk::Grant { inflight: ondisk::InFlight::UNBOUNDED, ..grant(ALICE, 20, GrantState::Held) });
    desk.step();
    let status = desk.status();
    assert_eq!((status.waits_for, status.wait_ms), (Some(WaitsFor::Inflight), None));
    let note = status.enforcement_note.expect("a note");
    assert!(note.contains("no bound") && note.contains("the host of alice"), "{note}");
}

#[test]
fn fenced_is_said_of_the_grant_whose_fence_was_seen_to_refuse_and_of_no_other() {
    let mut desk = Desk::new(ReadersPolicy::Live).published();
    desk.table().writer = Some(grant(ALICE, 20, GrantState::Held));
    desk.step();
    let seen = |epoch| Surroundings { fenced: [(V, epoch)].into(), ..Default::default() };
    assert_eq!(desk.status_in(&seen(20)).enforcement, Enforcement::Fenced);
    assert_ne!(desk.status_in(&seen(10)).enforcement, Enforcement::Fenced, "the writer before");
    let nothing_gated = Surroundings { advisory: Some("gate none".into()), ..seen(20) };
    assert_eq!(desk.status_in(&nothing_gated).enforcement, Enforcement::Advisory);
    // The writer itself cannot see it: another client's page says so.
    desk.edit_page(CAROL, |page| page.volumes[0].refused = 20);
    assert_eq!(desk.status().enforcement, Enforcement::Fenced);
    desk.edit_page(CAROL, |page| page.volumes[0].refused = 10);
    assert_ne!(desk.status().enforcement, Enforcement::Fenced);
    desk.edit_page(ALICE, |page| page.volumes[0].refused = 20);
    assert_ne!(desk.status().enforcement, Enforcement::Fenced, "nobody proves his own");
    desk.table().writer = None;
    desk.step();
    assert_ne!(desk.status_in(&seen(0)).enforcement, Enforcement::Fenced, "nobody is guarded");
}

/// "See the documents" sent people looking for what the daemon knew.
#[test]
fn an_own_path_without_a_bound_is_advisory_and_names_the_setting() {
    let mut desk = Desk::new(ReadersPolicy::Live).published();
    for _ in 0..20 {
        desk.step();
        while let Some(job) = desk.job() {
            let done = match healthy(&job) {
                JobDone::Measured { .. } => JobDone::Measured { inflight_ms: u64::MAX },
                JobDone::Probed(probe) => JobDone::Probed(Probe { inflight_ms: u64::MAX, ..probe }),
                done => done,
            };
            desk.end_job(done);
        }
    }
    assert!(desk.own().inflight.bound().is_none() && desk.own().capacity > 0);
    let unbounded = [(V, "multipath map m has queue_if_no_path; set no_path_retry fail".to_owned())];
    let around = Surroundings { unbounded: unbounded.into(), ..Default::default() };
    let status = desk.status_in(&around);
    assert_eq!(status.enforcement, Enforcement::Advisory);
    assert!(status.enforcement_note.is_some_and(|note| note.contains("set no_path_retry fail")));
    assert!(desk.status().enforcement_note.is_some_and(|note| note.contains("docs/operations.md")));
}

#[test]
fn an_exclusive_grant_waits_for_the_readers_grace() {
    let mut desk = Desk::new(ReadersPolicy::Exclusive).published();
    desk.settle();
    desk.edit_page(CAROL, |p| p.volumes[0].state = ondisk::MountState::ReadOnly);
    desk.request(Some(Duration::from_secs(60)));
    desk.settle();
    let status = desk.status();
    assert_eq!((status.state, status.waits_for), (VolumeState::Granted, Some(WaitsFor::Grace)));
    assert!(status.wait_ms.is_some_and(|ms| ms < 3000));
}

#[test]
fn a_reader_of_an_older_generation_is_stale_and_what_lingers_is_named() {
    let mut desk = Desk::new(ReadersPolicy::Live).published();
    desk.settle();
    desk.table().permissions[1].auto_update = false;
    desk.table().last = generation(30, 1);
    desk.settle();
    let status = desk.status();
    assert!(status.stale && status.generation == "30.1" && status.seen_generation == "3.1");
    desk.command(Command::Refresh { volume: "v0".into() });
    for _ in 0..10 {
        desk.step();
        match desk.job() {
            Some(Job::Retire) => desk.end_job(JobDone::Retired { lingering: vec![generation(3, 1)], busy: Vec::new() }),
            Some(job) => desk.end_job(healthy(&job)),
            None => {}
        }
    }
    let status = desk.status();
    assert!(!status.stale);
    assert_eq!(status.mounted_generations, ["30.1", "3.1"]);
}

#[test]
fn the_queue_is_shown_in_its_order() {
    let mut desk = Desk::new(ReadersPolicy::Live).published().held_by(BOB, 20);
    desk.ask_from(CAROL, 9, 1);
    desk.ask_from(ALICE, 8, 2);
    desk.settle();
    let names: Vec<String> = desk.status().waiting.into_iter().map(|w| w.client).collect();
    assert_eq!(names, ["carol", "alice"]);
}

#[test]
fn since_when_somebody_writes_is_counted_from_the_poll_that_showed_the_grant() {
    let mut desk = Desk::new(ReadersPolicy::Live).published();
    desk.settle();
    assert_eq!(desk.status().writer_age_ms, None, "nobody writes");
    desk.table().writer = Some(grant(ALICE, 20, GrantState::Held));
    desk.step();
    assert_eq!(desk.status().writer_age_ms, Some(0));
    desk.after(Duration::from_millis(4990));
    assert_eq!(desk.status().writer_age_ms, Some(5000));
    // Another grant of the same client is another tenure.
    desk.table().writer = Some(grant(ALICE, 40, GrantState::Held));
    assert_eq!(desk.status().writer_age_ms, None, "not seen by a poll yet");
    desk.step();
    assert_eq!(desk.status().writer_age_ms, Some(0));
}

#[test]
fn every_client_of_a_volume_is_shown_with_what_it_may_and_what_it_has() {
    let mut desk = Desk::new(ReadersPolicy::Live).published().held_by(ALICE, 20);
    desk.table().permissions[2].access = ondisk::Access::Read;
    desk.edit_page(ALICE, |p| {
        p.volumes[0].state = ondisk::MountState::ReadWrite;
        p.volumes[0].published = generation(20, 2);
    });
    desk.edit_page(CAROL, |p| {
        p.volumes[0].state = ondisk::MountState::ReadOnly;
        p.volumes[0].seen = generation(3, 1);
    });
    desk.settle();
    let clients = desk.status().clients;
    let words: Vec<_> = clients.iter().map(|c| (c.client.as_str(), c.access, c.state, c.stale)).collect();
    let expected = [
        ("alice", Access::Write, ClientMount::Rw, false),
        ("bob", Access::Write, ClientMount::Ro, false),
        ("carol", Access::Read, ClientMount::Ro, true),
    ];
    assert_eq!(words, expected);
    assert_eq!(clients[2].seen_generation.as_deref(), Some("3.1"));
    // Who may do nothing and has nothing is not there; who still has it open is.
    desk.table().permissions[2].access = ondisk::Access::None;
    desk.step();
    assert!(desk.status().clients.iter().any(|c| c.client == "carol" && c.state == ClientMount::Ro));
    desk.edit_page(CAROL, |p| p.volumes[0].state = ondisk::MountState::GateClosed);
    desk.step();
    assert!(!desk.status().clients.iter().any(|c| c.client == "carol"));
    // A page that cannot be read counts as mounted; whoever left in order has nothing.
    desk.peers[0].page = crate::engine::PageView::Unknown;
    desk.step();
    assert_eq!(desk.status().clients[0].state, ClientMount::Unknown);
    desk.peers[0].logged_on = false;
    desk.step();
    assert_eq!(desk.status().clients[0].state, ClientMount::None);
}
