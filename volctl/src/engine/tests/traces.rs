//! The traces that shaped the rules, as tests of the transactions. Each was red with its rule taken out; how is said with it.

use std::time::Duration;

use ondisk::{GrantState, InFlight, Incarnation, Label, MountState, NextWriter, ReadersPolicy, RequestId};

use super::desk::{ALICE, BOB, CAROL, Desk, V, generation, grant, page, parts, put, why, world};
use crate::engine::ops::{self, Actor};
use crate::engine::{PageView, TableOp};

const NOW: Duration = Duration::from_secs(50);

fn actor(slot: ondisk::SlotIndex, epoch: u64) -> Actor {
    Actor { slot, incarnation: Incarnation(1), epoch }
}

fn take(outwaited: Option<u64>) -> TableOp {
    TableOp::TakeGrant {
        volume: V,
        request: None,
        clean_only: false,
        inflight: InFlight::ZERO,
        outwaited,
        next_over: None,
    }
}

/// Trace A2. Red when `grant_is_over` takes a newer incarnation in the slot for the end of the older one's grant.
#[test]
fn a_newer_login_in_the_slot_proves_nothing_about_an_older_grant() {
    let (mut tables, mut peers) = parts(ReadersPolicy::Live);
    tables.volumes[0].as_mut().unwrap().writer = Some(grant(ALICE, 20, GrantState::Held));
    peers[0].incarnation = Incarnation(2);
    peers[0].page = PageView::Unknown;
    let refused = ops::apply(&take(Some(20)), actor(BOB, 30), &world(NOW, &tables, &peers));
    assert_eq!(why(refused), "alice holds it, by grant 20");
}

/// Traces A2 and E1. Red when the second way, too, clears the grants (`if first_way` made `if true`).
#[test]
fn only_a_log_on_in_the_same_kernel_ends_the_own_older_grant_at_once() {
    let log_on = |first_way| {
        let (mut tables, mut peers) = parts(ReadersPolicy::Live);
        tables.volumes[0].as_mut().unwrap().writer = Some(grant(ALICE, 20, GrantState::Held));
        peers[0].incarnation = Incarnation(3);
        let actor = Actor { slot: ALICE, incarnation: Incarnation(3), epoch: 30 };
        let op = TableOp::LogOn { host: Label::default(), first_way };
        let change = ops::apply(&op, actor, &world(NOW, &tables, &peers)).unwrap().unwrap();
        put(&mut tables, change);
        tables
    };
    let first = log_on(true);
    assert_eq!(first.volumes[0].as_ref().unwrap().writer, None);
    assert!(first.volumes[0].as_ref().unwrap().check_due);
    let second = log_on(false);
    assert_eq!(second.volumes[0].as_ref().unwrap().writer, Some(grant(ALICE, 20, GrantState::Held)));
    assert!(second.is_reaped(ALICE, Incarnation(1)) && !second.is_reaped(ALICE, Incarnation(3)));
}

/// Section 6, the two waits. Red when `Held => reaped && waited` is made `reaped`.
#[test]
fn a_dead_writers_grant_passes_only_after_in_flight() {
    let (mut tables, mut peers) = parts(ReadersPolicy::Live);
    tables.volumes[0].as_mut().unwrap().writer = Some(grant(ALICE, 20, GrantState::Held));
    peers[0].silent = true;
    assert!(ops::apply(&take(Some(20)), actor(BOB, 30), &world(NOW, &tables, &peers)).is_err(), "not reaped");
    tables.header.reaped[0] = Incarnation(1);
    peers[0].reaped = true;
    assert!(ops::apply(&take(None), actor(BOB, 30), &world(NOW, &tables, &peers)).is_err(), "not waited");
    assert!(ops::apply(&take(Some(19)), actor(BOB, 30), &world(NOW, &tables, &peers)).is_err(), "another grant's wait");
    assert!(ops::apply(&take(Some(20)), actor(BOB, 30), &world(NOW, &tables, &peers)).is_ok());
}

/// The engine counts `inflight` from its own first read of the reaping. Red when `wait_end` leaves `inflight` out.
#[test]
fn in_flight_is_counted_from_the_own_first_read_of_the_reaping() {
    let mut desk = Desk::new(ReadersPolicy::Live).published().held_by(ALICE, 20);
    desk.settle();
    desk.request(Some(Duration::from_secs(100)));
    desk.peers[0].silent = true;
    desk.peers[0].reaped = true;
    desk.tables.header.reaped[0] = Incarnation(1);
    desk.tables.header.commit.epoch += 10;
    desk.step();
    desk.step();
    desk.wait(Duration::from_millis(4500));
    assert_eq!(desk.writer(), Some(ALICE), "the grant says 5 s");
    desk.wait(Duration::from_millis(500));
    assert_eq!(desk.writer(), Some(BOB));
}

/// Traces A9 and E3. Red when `holder_closed` does not compare the epoch (`&& e.epoch == grant.epoch` taken out).
#[test]
fn a_revoked_grant_ends_with_gate_closed_of_this_very_grant() {
    let (mut tables, mut peers) = parts(ReadersPolicy::Live);
    tables.volumes[0].as_mut().unwrap().writer = Some(grant(ALICE, 20, GrantState::Revoked));
    // "Gate closed" from yesterday.
    assert!(ops::apply(&take(None), actor(BOB, 30), &world(NOW, &tables, &peers)).is_err());
    let mut closed = page();
    closed.volumes[0].epoch = 20;
    peers[0].page = PageView::Current(closed.into());
    assert!(ops::apply(&take(None), actor(BOB, 30), &world(NOW, &tables, &peers)).is_ok());
}

/// Trace E3: a revoked writer that does not say so is waited out: `dead`, and then `inflight`.
#[test]
fn a_revoked_writer_that_hangs_is_waited_out() {
    let mut desk = Desk::new(ReadersPolicy::Live).published().held_by(ALICE, 20);
    desk.tables.clients[1].as_mut().unwrap().admin = true;
    desk.settle();
    desk.command(crate::engine::Command::Takeover { volume: "v0".into(), yes_i_know: None });
    let (op, done) = desk.run_op();
    assert!(done.is_ok() && matches!(op, TableOp::Revoke { epoch: 20, .. }), "{op:?}");
    desk.step();
    desk.wait(Duration::from_secs(16));
    assert_eq!(desk.writer(), Some(ALICE), "12 s and 5 s are not over");
    desk.wait(Duration::from_secs(1));
    assert_eq!(desk.writer(), Some(BOB));
}

/// Trace A10, with a storage that throws the lost writer out: then nothing of it lands any more, and nobody waits. Red when
/// `thrown_out` does nothing, and the other way when `late_writes` names a writer that is not lost yet.
#[test]
fn a_lost_writer_that_the_storage_threw_out_is_not_waited_for() {
    let lost = || {
        let mut desk = Desk::new(ReadersPolicy::Live).published().held_by(ALICE, 20);
        desk.settle();
        desk.request(None);
        desk.step();
        assert!(desk.late_writes().is_empty(), "alice lives");
        desk.peers[0].reaped = true;
        desk.tables.header.reaped[0] = Incarnation(1);
        desk.wait(Duration::ZERO);
        desk
    };
    let mut waits = lost();
    assert_eq!(waits.late_writes(), [(V, 20)]);
    waits.wait(Duration::from_secs(4));
    assert_eq!(waits.writer(), Some(ALICE), "5 s are not over");
    let mut thrown_out = lost();
    thrown_out.throw_out(V, 10);
    thrown_out.wait(Duration::ZERO);
    assert_eq!(thrown_out.writer(), Some(ALICE), "another grant");
    thrown_out.throw_out(V, 20);
    thrown_out.wait(Duration::ZERO);
    assert_eq!(thrown_out.writer(), Some(BOB));
    assert!(thrown_out.late_writes().is_empty());
}

/// Found by the model: the taker counted from its last poll before its own transaction, and the writer's lease from a beat
/// just before the commit; with storage so slow that the commit took seconds, the taker was early by as much. Red when
/// `watch_grant` counts by what a transaction left (`self.by_poll` taken out).
#[test]
fn a_revocation_is_waited_out_from_a_poll_after_its_commit() {
    let mut desk = Desk::new(ReadersPolicy::Live).published().held_by(ALICE, 20);
    desk.tables.clients[1].as_mut().unwrap().admin = true;
    desk.settle();
    desk.command(crate::engine::Command::Takeover { volume: "v0".into(), yes_i_know: None });
    let (op, done) = desk.run_op();
    assert!(done.is_ok() && matches!(op, TableOp::Revoke { epoch: 20, .. }), "{op:?}");
    // The commit has taken 7 s since the poll that the transaction looked at.
    desk.after(Duration::from_secs(7));
    desk.wait(Duration::from_secs(16));
    assert_eq!(desk.writer(), Some(ALICE), "12 s and 5 s since the commit are not over");
    desk.wait(Duration::from_secs(1));
    assert_eq!(desk.writer(), Some(BOB));
}

/// Trace A7 (d6, d7). Red when `hold` does not look at the pages (`others_have_open` taken out of it).
#[test]
fn pending_becomes_held_only_when_no_other_gate_may_be_open() {
    let (mut tables, mut peers) = parts(ReadersPolicy::Exclusive);
    tables.volumes[0].as_mut().unwrap().writer = Some(grant(BOB, 20, GrantState::Pending));
    let hold = TableOp::Hold { volume: V, epoch: 20 };
    for state in [MountState::Mounting, MountState::ReadOnly] {
        let mut open = page();
        open.volumes[0].state = state;
        peers[2].page = PageView::Current(open.into());
        assert!(ops::apply(&hold, actor(BOB, 30), &world(NOW, &tables, &peers)).is_err(), "{state:?}");
    }
    // Trace E11: a page that is older than its slot, or of another incarnation, counts as mounted.
    peers[2].page = PageView::Unknown;
    assert!(ops::apply(&hold, actor(BOB, 30), &world(NOW, &tables, &peers)).is_err(), "unknown");
    // Trace E10: silent is not dead; reaped is.
    peers[2].silent = true;
    assert!(ops::apply(&hold, actor(BOB, 30), &world(NOW, &tables, &peers)).is_err(), "silent");
    peers[2].reaped = true;
    let change = ops::apply(&hold, actor(BOB, 30), &world(NOW, &tables, &peers)).unwrap().unwrap();
    put(&mut tables, change);
    let table = tables.volumes[0].as_ref().unwrap();
    assert_eq!((table.writer.unwrap().state, table.dirty_since), (GrantState::Held, 20));
}

/// Trace E10: who gives up a pending grant leaves no dirty volume. Red when `TakeGrant` marks a pending one dirty.
#[test]
fn a_pending_grant_dirties_nothing() {
    let (mut tables, peers) = parts(ReadersPolicy::Exclusive);
    let change = ops::apply(&take(None), actor(BOB, 30), &world(NOW, &tables, &peers)).unwrap().unwrap();
    put(&mut tables, change);
    let table = tables.volumes[0].as_ref().unwrap();
    assert_eq!((table.writer.unwrap().state, table.dirty_since), (GrantState::Pending, 0));
}

/// Trace C15. Red when a clean-only grant of a clean volume is refused instead of clearing what is over.
#[test]
fn a_pending_grant_goes_with_its_holder_and_opens_the_volume_to_readers_again() {
    let mut desk = Desk::new(ReadersPolicy::Exclusive).published();
    desk.table().writer = Some(grant(ALICE, 20, GrantState::Pending));
    desk.peers[0].silent = true;
    desk.peers[0].reaped = true;
    desk.tables.header.reaped[0] = Incarnation(1);
    desk.settle();
    // Alice would be first in line to see to it, were she alive.
    assert_eq!(desk.tables.volumes[0].as_ref().unwrap().writer, None);
    assert_eq!(desk.own().state, MountState::ReadOnly);
}

/// Trace B6. Red when `take_grant` does not ask `not_promised`.
#[test]
fn others_leave_alone_what_was_promised() {
    let (mut tables, mut peers) = parts(ReadersPolicy::Live);
    let next = NextWriter { slot: ALICE, incarnation: Incarnation(1), request: RequestId(5) };
    tables.volumes[0].as_mut().unwrap().next = Some(next);
    let mut asks = page();
    asks.requests.push(ondisk::Request {
        id: RequestId(5),
        number: 1,
        volume: V,
        to: BOB,
        created_ms: 0,
        message: ondisk::Message::default(),
    });
    peers[0].page = PageView::Current(asks.into());
    let refused = ops::apply(&take(None), actor(CAROL, 31), &world(NOW, &tables, &peers));
    assert_eq!(why(refused), "the last writer handed it to alice");
    assert!(ops::apply(&take(None), actor(ALICE, 30), &world(NOW, &tables, &peers)).is_ok(), "but alice may");
    // Kept long enough; but an older promise's time says nothing of this one. Red when `next_over` is a mere flag.
    for (over, taken) in [(next, true), (NextWriter { request: RequestId(4), ..next }, false)] {
        let mut op = take(None);
        if let TableOp::TakeGrant { next_over, .. } = &mut op {
            *next_over = Some(over);
        }
        assert_eq!(ops::apply(&op, actor(CAROL, 31), &world(NOW, &tables, &peers)).is_ok(), taken);
    }
    // Withdrawn, dead, or logged on anew: the promise is over.
    peers[0].page = PageView::Current(page().into());
    assert!(ops::apply(&take(None), actor(CAROL, 31), &world(NOW, &tables, &peers)).is_ok());
}

/// Trace A12: a number names the grant that published it.
#[test]
fn a_release_never_lowers_the_generation() {
    let (mut tables, peers) = parts(ReadersPolicy::Live);
    let table = tables.volumes[0].as_mut().unwrap();
    table.writer = Some(grant(BOB, 20, GrantState::Held));
    table.last = generation(25, 7);
    let op = TableOp::Release {
        volume: V,
        epoch: 20,
        generation: Some(generation(20, 9)),
        clean: true,
        modified_ms: 1,
        checked: true,
        next: None,
    };
    let change = ops::apply(&op, actor(BOB, 30), &world(NOW, &tables, &peers)).unwrap().unwrap();
    put(&mut tables, change);
    assert_eq!(tables.volumes[0].as_ref().unwrap().last, generation(25, 7));
    let again = ops::apply(&op, actor(BOB, 40), &world(NOW, &tables, &peers));
    assert_eq!(why(again), "the tables name another writer, or none");
}

/// A disabled client that crashed cannot end its old grant by logging on. Red when `is_followed` is taken out.
#[test]
fn a_login_that_was_followed_by_another_is_ended_by_others() {
    let mut desk = Desk::new(ReadersPolicy::Live).published().held_by(ALICE, 20);
    desk.peers[0].incarnation = Incarnation(5);
    desk.peers[0].logged_on = false;
    desk.settle();
    desk.after(Duration::from_secs(13));
    desk.settle();
    assert!(desk.tables.is_reaped(ALICE, Incarnation(1)) && !desk.tables.is_reaped(ALICE, Incarnation(5)));
}

/// An unreadable slot is reaped as one above the highest login known, once.
#[test]
fn an_unreadable_slot_is_reaped_above_everything_known() {
    let (mut tables, mut peers) = parts(ReadersPolicy::Live);
    peers[0].known = false;
    peers[0].silent = true;
    peers[0].incarnation = Incarnation(0);
    let op = TableOp::Reap { dead: vec![(ALICE, Incarnation(0))] };
    let change = ops::apply(&op, actor(BOB, 30), &world(NOW, &tables, &peers)).unwrap().unwrap();
    assert_eq!(change.reaped, [(ALICE, Incarnation(2))]);
    put(&mut tables, change);
    assert_eq!(ops::apply(&op, actor(BOB, 40), &world(NOW, &tables, &peers)), Ok(None));
}

/// Trace A1's reap: the judged incarnation, not the one that is in the slot by then; and a living one never.
#[test]
fn only_the_judged_incarnation_is_reaped() {
    let (tables, mut peers) = parts(ReadersPolicy::Live);
    let op = TableOp::Reap { dead: vec![(ALICE, Incarnation(1))] };
    assert_eq!(ops::apply(&op, actor(BOB, 30), &world(NOW, &tables, &peers)), Ok(None), "it lives");
    peers[0].silent = true;
    peers[0].incarnation = Incarnation(3);
    assert_eq!(ops::apply(&op, actor(BOB, 30), &world(NOW, &tables, &peers)), Ok(None), "another login");
}
