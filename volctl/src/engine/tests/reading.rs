//! Readers: holds, refreshes, closing for a writer, leaving.

use std::time::Duration;

use ondisk::{Generation, GrantState, Incarnation, MountState, ReadersPolicy};

use super::desk::{ALICE, CAROL, Desk, V, generation, grant, healthy};
use crate::engine::effect::Busy;
use crate::engine::{Command, Effect, Job, JobDone, PageView, Reply};
use crate::wire::event::EventName;
use crate::wire::outcome::{ExitCode, Failure};

fn busy() -> Vec<Busy> {
    vec![Busy { program: "vi".into(), pid: 7, user: "u".into(), path: "/x".into() }]
}

fn is_mount(e: &Effect) -> bool {
    matches!(e, Effect::Job { job: Job::MountReader { .. }, .. })
}

/// Alice writes and has published; what her page says.
fn alice_says(desk: &mut Desk, published: Generation, retired: Generation) {
    desk.edit_page(ALICE, |p| {
        p.volumes[0].state = MountState::ReadWrite;
        p.volumes[0].epoch = 20;
        p.volumes[0].published = published;
        p.volumes[0].retired = retired;
    });
}

fn reader() -> Desk {
    let mut desk = Desk::new(ReadersPolicy::Snapshot).published().held_by(ALICE, 20);
    alice_says(&mut desk, generation(20, 1), generation(3, 1));
    desk
}

/// Trace A8: the hold stands on the disk before the last look, and the mount comes after it. Red when `step_reader`
/// decides without comparing with `page_on_disk`.
#[test]
fn a_hold_is_on_the_disk_before_the_poll_that_decides() {
    let mut desk = reader();
    desk.step();
    assert!(desk.own().holds(generation(20, 1)) && desk.own().state == MountState::Mounting);
    assert!(!desk.effects.iter().any(is_mount));
    // A poll that began before the page was written decides nothing.
    let written = std::mem::take(&mut desk.on_disk);
    desk.step();
    assert!(!desk.effects.iter().any(is_mount));
    desk.on_disk = written;
    desk.step();
    assert_eq!(desk.job(), Some(Job::MountReader { generation: generation(20, 1) }));
}

/// Trace A8 (c2). Red when `decide_announced` does not look at what the writer has retired.
#[test]
fn a_generation_that_was_retired_meanwhile_is_let_go() {
    let mut desk = reader();
    desk.step();
    alice_says(&mut desk, generation(20, 2), generation(20, 1));
    desk.step();
    assert!(!desk.own().holds(generation(20, 1)));
    desk.step();
    desk.step();
    assert_eq!(desk.job(), Some(Job::MountReader { generation: generation(20, 2) }), "it picks anew");
}

/// Traces E6 and h1: the page of the writer that the table names now, not of the one that the reader knew.
#[test]
fn the_last_look_is_at_the_writer_that_the_table_names_now() {
    let mut desk = reader();
    desk.step();
    desk.table().writer = Some(grant(CAROL, 40, GrantState::Held));
    desk.table().dirty_since = 40;
    desk.table().last = generation(20, 1);
    desk.edit_page(CAROL, |p| {
        p.volumes[0].published = generation(40, 1);
        p.volumes[0].retired = generation(20, 1);
    });
    desk.step();
    assert!(!desk.effects.iter().any(is_mount) && !desk.own().holds(generation(20, 1)));
}

/// The next writer may have come and gone: what it released has retired everything older.
#[test]
fn a_generation_below_the_last_release_is_never_mounted() {
    let mut desk = reader();
    desk.step();
    desk.table().writer = None;
    desk.table().dirty_since = 0;
    desk.table().last = generation(40, 1);
    desk.step();
    assert!(!desk.effects.iter().any(is_mount) && !desk.own().holds(generation(20, 1)));
}

/// A writer that died had published, retired and deleted `last`; the next one has not published yet. Red when
/// `oldest_safe` is only the table's `last`: found by the random runs.
#[test]
fn after_a_writer_that_died_unpublished_readers_wait_for_the_first_publish_of_the_next() {
    let mut desk = Desk::new(ReadersPolicy::Snapshot).published();
    desk.table().writer = Some(grant(CAROL, 40, GrantState::Held));
    desk.table().dirty_since = 20;
    desk.settle();
    assert!(!desk.effects.iter().any(is_mount) && desk.own().held == [Generation::NONE; 8]);
    desk.edit_page(CAROL, |p| p.volumes[0].published = generation(40, 1));
    desk.settle();
    assert_eq!(desk.own().seen, generation(40, 1));
}

/// Trace E11: nobody acts on a page of another incarnation, or older than its slot.
#[test]
fn a_writers_page_that_is_unknown_decides_nothing() {
    let mut desk = reader();
    desk.step();
    desk.peers[0].page = PageView::Unknown;
    desk.settle();
    assert!(desk.own().holds(generation(20, 1)) && desk.own().seen.is_none(), "it waits");
    alice_says(&mut desk, generation(20, 1), generation(3, 1));
    desk.settle();
    assert_eq!(desk.own().seen, generation(20, 1));
}

/// Trace A7: a reader that announced itself looks at the table again. Red when `locked_because` ignores the writer.
#[test]
fn an_exclusive_reader_withdraws_when_there_is_a_writer_pending_or_not_or_dirt() {
    for dirty in [false, true] {
        let mut desk = Desk::new(ReadersPolicy::Exclusive).published();
        desk.step();
        assert_eq!(desk.own().state, MountState::Mounting);
        if dirty {
            desk.table().dirty_since = 9;
            desk.table().permissions[1].access = ondisk::Access::Read;
        } else {
            desk.table().writer = Some(grant(ALICE, 20, GrantState::Pending));
        }
        desk.step();
        assert_eq!(desk.own().state, MountState::GateClosed);
        assert!(!desk.effects.iter().any(is_mount));
    }
}

/// Found by the random runs: a grant that came and was given up said "gate closed", and the announced mount went on.
/// Red when `step_writer` keeps what was announced and `decide_announced` does not look at the own page.
#[test]
fn a_mount_that_was_announced_before_a_grant_is_announced_again_after_it() {
    let mut desk = Desk::new(ReadersPolicy::Exclusive).published();
    desk.step();
    assert_eq!(desk.own().state, MountState::Mounting);
    desk.engine.volumes.get_mut(&V).unwrap().measured = true;
    desk.on_disk = 0;
    desk.request(None);
    desk.command(Command::Withdraw { volume: "v0".into() });
    for _ in 0..20 {
        desk.step();
        if desk.effects.iter().any(is_mount) {
            assert_eq!(desk.own().state, MountState::Mounting, "the page says so");
            return;
        }
        if desk.effects.iter().any(|e| matches!(e, Effect::Table { .. })) {
            desk.run_op().1.unwrap();
            assert!(!desk.effects.iter().any(is_mount) || desk.own().state == MountState::Mounting);
        }
    }
    panic!("it is never mounted");
}

#[test]
fn for_an_exclusive_writer_the_gate_is_closed_under_open_files_after_the_grace_time() {
    let mut desk = Desk::new(ReadersPolicy::Exclusive).published();
    desk.settle();
    assert_eq!(desk.own().state, MountState::ReadOnly);
    desk.table().writer = Some(grant(ALICE, 20, GrantState::Pending));
    let begun = desk.now;
    let mut tries = 0;
    loop {
        desk.after(Duration::from_millis(50));
        let Some(Job::UnmountReader { force }) = desk.job() else { continue };
        tries += 1;
        if force {
            break;
        }
        assert_ne!(desk.own().state, MountState::GateClosed, "not closed while files are open");
        desk.end_job(JobDone::ReaderUnmounted { closed: false, busy: busy() });
    }
    assert!(desk.now >= begun + Duration::from_secs(3) && tries < 12, "{tries} tries");
    desk.end_job(JobDone::ReaderUnmounted { closed: true, busy: busy() });
    assert_eq!(desk.own().state, MountState::GateClosed);
    let named =
        |e: &Effect| matches!(e, Effect::Fact(f) if f.text == "v0: the gate was closed under vi (PID 7, user u)");
    assert!(desk.effects.iter().any(named));
}

/// Red when a failed mount keeps the hold: the page would say "mounting" for ever, and no exclusive writer could go on.
#[test]
fn a_read_mount_that_fails_lets_go_and_is_tried_again_more_and_more_seldom() {
    let mut desk = Desk::new(ReadersPolicy::Exclusive).published();
    let mut mounts = 0;
    for _ in 0..600 {
        desk.after(Duration::from_millis(100));
        if let Some(Job::MountReader { .. }) = desk.job() {
            mounts += 1;
            desk.end_job(JobDone::Failed(Failure::failed("no mount", "the device is gone", "attach it")));
            assert_eq!(desk.own().state, MountState::GateClosed);
        }
    }
    assert!((4..=7).contains(&mounts), "{mounts} tries in a minute");
    assert_eq!(desk.status().reason.as_deref(), Some("no mount: the device is gone"));
}

#[test]
fn a_refresh_that_fails_keeps_the_old_generation() {
    let mut desk = reader();
    desk.settle();
    alice_says(&mut desk, generation(20, 2), generation(20, 1));
    let id = desk.command(Command::Refresh { volume: "v0".into() });
    desk.step();
    assert_eq!(desk.job(), Some(Job::MountReader { generation: generation(20, 2) }));
    desk.end_job(JobDone::Failed(Failure::failed("no mount", "damaged", "look")));
    assert_eq!(desk.failure(id).why, "damaged");
    assert_eq!((desk.own().seen, desk.own().state), (generation(20, 1), MountState::ReadOnly));
    assert!(desk.own().holds(generation(20, 1)) && !desk.own().holds(generation(20, 2)));
    let told = |e: &Effect| matches!(e, Effect::Fact(f) if f.name == EventName::RefreshFailed);
    assert_eq!(desk.effects.iter().filter(|e| told(e)).count(), 1);
}

/// Runs of the simulator found commands that waited a minute for what the write privilege had made needless meanwhile.
#[test]
fn whoever_waits_for_a_mount_hears_that_the_volume_is_the_own_one_by_now() {
    let mut desk = reader();
    desk.settle();
    alice_says(&mut desk, generation(20, 2), generation(20, 1));
    desk.request(None);
    let id = desk.command(Command::Refresh { volume: "v0".into() });
    desk.table().writer = None;
    desk.settle();
    assert!(matches!(desk.told(id), Some(Reply::Done { .. })), "{:?}", desk.told(id));
}

/// A run of the simulator found a refresh that waited a minute for a volume that its user had unmounted meanwhile.
#[test]
fn a_refresh_of_what_goes_away_is_refused_at_once() {
    let mut desk = reader();
    desk.settle();
    alice_says(&mut desk, generation(20, 2), generation(20, 1));
    desk.command(Command::Unmount { volume: "v0".into() });
    let id = desk.command(Command::Refresh { volume: "v0".into() });
    desk.settle();
    assert!(desk.failure(id).why.contains("unmounted by the user"));
}

#[test]
fn what_is_still_read_stays_held_until_its_gate_is_closed() {
    let mut desk = reader();
    desk.settle();
    alice_says(&mut desk, generation(20, 2), generation(20, 1));
    desk.wait(Duration::from_secs(1));
    while let Some(job) = desk.job() {
        desk.end_job(match job {
            Job::Retire => JobDone::Retired { lingering: vec![generation(20, 1)], busy: Vec::new() },
            job => healthy(&job),
        });
    }
    assert_eq!(desk.own().seen, generation(20, 2));
    let lingers = desk.engine.volumes[&V].lingering.clone();
    assert_eq!(desk.own().holds(generation(20, 1)), lingers.contains(&generation(20, 1)));
    desk.wait(Duration::from_secs(1));
    assert!(!desk.own().holds(generation(20, 1)) && desk.own().holds(generation(20, 2)));
}

/// Trace A8: retired on the disk first, then a look at all pages, then the deletion. Red when `deletable` does not
/// compare with `page_on_disk`, or `holds` takes an unknown page for one that holds nothing.
#[test]
fn a_writer_deletes_only_what_it_retired_and_nobody_holds() {
    let deleted = |desk: &mut Desk| {
        for _ in 0..30 {
            desk.step();
            match desk.job() {
                Some(Job::Delete { generations }) => return generations,
                Some(Job::MountWriter { .. }) => {
                    desk.end_job(JobDone::WriterMounted { snapshots: vec![generation(3, 1)] });
                }
                Some(job) => desk.end_job(healthy(&job)),
                None => {}
            }
            if desk.effects.iter().any(|e| matches!(e, Effect::Table { .. })) {
                desk.run_op().1.unwrap();
            }
        }
        Vec::new()
    };
    let writer = || {
        let mut desk = Desk::new(ReadersPolicy::Snapshot).published();
        desk.table().dirty_since = 2;
        desk.request(Some(Duration::from_secs(5)));
        desk
    };
    assert_eq!(deleted(&mut writer()), [generation(3, 1)]);
    let mut held = writer();
    held.edit_page(CAROL, |p| p.volumes[0].held[0] = generation(3, 1));
    assert_eq!(deleted(&mut held), []);
    let mut unknown = writer();
    unknown.peers[2].page = PageView::Unknown;
    assert_eq!(deleted(&mut unknown), []);
    // Logged off in order: its gates are closed.
    unknown.peers[2].logged_on = false;
    assert_eq!(deleted(&mut unknown), [generation(3, 1)]);
}

/// Trace A8, the writer's half. Red when `deletable` does not compare with `page_on_disk`.
#[test]
fn a_writer_deletes_nothing_by_pages_that_it_read_before_its_retirement_was_on_disk() {
    let mut desk = Desk::new(ReadersPolicy::Snapshot).published();
    desk.table().dirty_since = 2;
    desk.request(None);
    let publish = loop {
        desk.step();
        match desk.job() {
            Some(job @ Job::Publish { .. }) => break job,
            Some(Job::MountWriter { .. }) => {
                desk.end_job(JobDone::WriterMounted { snapshots: vec![generation(3, 1)] });
            }
            Some(job) => desk.end_job(healthy(&job)),
            None => assert!(desk.now < Duration::from_secs(1002), "no publish comes"),
        }
        if desk.effects.iter().any(|e| matches!(e, Effect::Table { .. })) {
            desk.run_op().1.unwrap();
        }
    };
    let before = desk.on_disk;
    desk.end_job(healthy(&publish));
    assert_eq!(desk.own().retired, generation(3, 1));
    let is_delete = |e: &Effect| matches!(e, Effect::Job { job: Job::Delete { .. }, .. });
    let written = std::mem::replace(&mut desk.on_disk, before);
    desk.step();
    assert!(!desk.effects.iter().any(is_delete));
    desk.on_disk = written;
    desk.settle_until(is_delete);
}

/// What a dead reader held is kept for ten minutes, over its next log-on. Red when `watch_deaths` forgets the page.
#[test]
fn a_dead_readers_snapshots_are_kept_over_its_next_log_on() {
    let mut desk = Desk::new(ReadersPolicy::Snapshot).published();
    desk.edit_page(CAROL, |p| p.volumes[0].held[0] = generation(3, 1));
    desk.settle();
    desk.peers[2].silent = true;
    desk.peers[2].reaped = true;
    desk.tables.header.reaped[2] = Incarnation(1);
    desk.settle();
    let keeps =
        |desk: &Desk| desk.engine.reaper.dead_hold(V, generation(3, 1), desk.now, desk.engine.setup.periods.dead_hold);
    assert!(keeps(&desk));
    desk.peers[2].incarnation = Incarnation(2);
    desk.peers[2].reaped = false;
    desk.peers[2].silent = false;
    desk.edit_page(CAROL, |p| p.volumes[0].held[0] = Generation::NONE);
    desk.settle();
    assert!(keeps(&desk));
    desk.wait(Duration::from_secs(600));
    assert!(!keeps(&desk));
}

/// Found by the simulator: the one who had asked for the unmount waited a minute for what nobody wanted any more.
#[test]
fn who_waits_for_an_unmount_hears_that_somebody_mounts_it_again() {
    let mut desk = Desk::new(ReadersPolicy::Live).published();
    desk.settle();
    let unmount = desk.command(Command::Unmount { volume: "v0".into() });
    let mount = desk.command(Command::Mount { volume: "v0".into() });
    desk.settle();
    assert_eq!(desk.failure(unmount).exit, ExitCode::Refused);
    assert!(matches!(desk.told(mount), Some(Reply::Done { .. })));
}

#[test]
fn unmount_and_mount_are_for_readers_and_are_remembered() {
    let mut desk = Desk::new(ReadersPolicy::Live).published();
    desk.settle();
    let id = desk.command(Command::Unmount { volume: "v0".into() });
    desk.settle();
    assert!(matches!(desk.told(id), Some(Reply::Done { .. })));
    assert_eq!((desk.own().state, desk.engine.unmounted()), (MountState::GateClosed, vec![V]));
    let mut again = Desk::with(ReadersPolicy::Live, |s| s.unmounted = vec![V]).published();
    again.settle();
    assert!(!again.effects.iter().any(is_mount));
    let id = again.command(Command::Mount { volume: "v0".into() });
    again.settle();
    assert!(matches!(again.told(id), Some(Reply::Done { .. })));
    let mut writer = Desk::new(ReadersPolicy::Live).published();
    writer.settle();
    writer.request(None);
    writer.settle();
    for command in [Command::Unmount { volume: "v0".into() }, Command::Mount { volume: "v0".into() }] {
        let id = writer.command(command);
        assert_eq!(writer.failure(id).exit, ExitCode::Refused, "release first");
    }
}

#[test]
fn a_locked_volume_answers_mount_at_once_with_the_reason() {
    let mut desk = Desk::new(ReadersPolicy::Exclusive).published().held_by(ALICE, 20);
    desk.settle();
    let id = desk.command(Command::Mount { volume: "v0".into() });
    desk.settle();
    assert_eq!(desk.failure(id).why, "exclusive: alice has the write privilege");
}

#[test]
fn leaving_closes_readers_and_gives_a_grant_back_by_force_after_the_grace_time() {
    let mut desk = Desk::new(ReadersPolicy::Live).published();
    desk.settle();
    desk.request(None);
    desk.settle();
    let begun = desk.now;
    desk.leave(false);
    let mut stops = 0;
    while !desk.engine.has_left() {
        desk.after(Duration::from_millis(50));
        match desk.job() {
            Some(Job::StopWriter { force: false, .. }) => {
                stops += 1;
                desk.end_job(JobDone::StillBusy(busy()));
            }
            Some(job) => desk.end_job(healthy(&job)),
            None => {}
        }
        if desk.effects.iter().any(|e| matches!(e, Effect::Table { .. })) {
            desk.run_op().1.unwrap();
        }
        assert!(desk.now < begun + Duration::from_secs(10), "it does not leave");
    }
    assert!(desk.now >= begun + Duration::from_secs(3) && stops <= 3, "{stops} tries");
    assert_eq!(desk.writer(), None);
}

#[test]
fn told_to_end_now_it_does_not_wait_for_tables_that_cannot_be_changed() {
    let mut desk = Desk::new(ReadersPolicy::Live).published();
    desk.settle();
    desk.request(None);
    desk.settle();
    desk.effects.clear();
    desk.leave(true);
    assert!(matches!(desk.job(), Some(Job::StopWriter { force: true, .. })));
    desk.end_job(healthy(&Job::StopWriter { generation: generation(9, 1), always: false, force: true, check: false }));
    let (tag, _) = desk.op().unwrap();
    assert!(!desk.engine.has_left());
    desk.end_op(tag, Err(Failure::failed("the tables cannot be changed", "an error", "try again")));
    assert!(desk.engine.has_left(), "its gates are closed: with its log-off the grant is over");
}

/// Section 8: the first living client that may write replays, publishes and releases a dirty volume of itself.
#[test]
fn a_dirty_volume_is_brought_in_order_by_the_first_client_that_may() {
    let mut desk = Desk::new(ReadersPolicy::Exclusive);
    desk.wait(Duration::from_secs(1));
    assert_eq!(desk.writer(), None);
    assert!(desk.tables.volumes[0].as_ref().unwrap().last.is_none(), "alice comes first");
    // Alice does nothing: her device is not there, perhaps. After a while it is bob's turn.
    desk.wait(Duration::from_secs(5));
    let table = desk.tables.volumes[0].clone().unwrap();
    assert!(!table.last.is_none() && table.dirty_since == 0 && table.writer.is_none());
    desk.settle();
    assert_eq!(desk.own().state, MountState::ReadOnly);
}

#[test]
fn a_client_without_a_gate_brings_nothing_in_order() {
    let mut desk = Desk::with(ReadersPolicy::Exclusive, |s| s.gateless = true);
    desk.peers[0].logged_on = false;
    desk.peers[2].logged_on = false;
    desk.wait(Duration::from_secs(60));
    assert!(desk.tables.volumes[0].as_ref().unwrap().last.is_none());
    assert_eq!(desk.writer(), None);
}
