//! Traces A3, A5, A9, C4, C5: numbers that repeat, late writes, reaped waiters, torn headers.

use ondisk::{CommitNo, Incarnation, SlotIndex, Ticket};

use super::bench::{BEAT, Bench, Client, MARGIN, at, host, request};
use super::holds_only_with;
use crate::logon::{Logon, LogonStep};
use crate::rules::Rules;
use crate::semaphore::{LockError, Semaphore, Step, WriteResult, holder};

/// Two contenders read the same numbers; both have their tenure, one after the other.
fn two_who_read_the_same(rules: Rules) -> bool {
    let mut bench = Bench::new(2);
    let mut a = Client::new(&mut bench, 0, 1, rules);
    let mut b = Client::new(&mut bench, 1, 1, rules);
    for client in [&mut a, &mut b] {
        client.begin(at(0.0));
        client.advance(&mut bench, at(0.0));
    }
    for client in [&mut a, &mut b] {
        client.advance(&mut bench, at(0.0));
    }
    let mut epochs = Vec::new();
    a.run(&mut bench, at(0.0));
    b.run(&mut bench, at(0.0));
    for _ in 0..4 {
        for client in [&mut a, &mut b] {
            if let Some(epoch) = client.epoch() {
                bench.commit(epoch, &[]);
                epochs.push(epoch);
                client.release(&mut bench, at(0.0));
            } else if matches!(client.step, Step::WaitThenPoll(_)) {
                client.advance(&mut bench, at(0.0));
            }
        }
    }
    assert_eq!(epochs.len(), 2);
    epochs[0] < epochs[1]
}

#[test]
fn trace_a3_i_two_contenders_never_draw_the_same_ticket() {
    holds_only_with(|r| r.own_residue = false, two_who_read_the_same);
}

/// A's read samples the header before B's tenure and B's slot after it.
fn header_read_before_the_slots(rules: Rules) -> bool {
    let mut bench = Bench::new(2);
    let mut a = Client::new(&mut bench, 0, 1, rules);
    let mut b = Client::new(&mut bench, 1, 1, rules);
    let mut last = b.tenure(&mut bench, at(0.0));
    a.begin(at(0.0));
    let early = bench.area.clone();
    while last.0 < 12 {
        last = b.tenure(&mut bench, at(0.0));
    }
    a.advance(&mut bench, at(0.0));
    let mut sampled = bench.area.clone();
    for copy in 0..2 {
        let range = bench.header_copy(copy);
        sampled[range.clone()].copy_from_slice(&early[range]);
    }
    a.advance_with(&sampled, &[], at(0.0));
    a.run(&mut bench, at(0.0));
    a.epoch().is_some_and(|epoch| epoch > last)
}

#[test]
fn trace_a3_ii_a_header_read_before_the_slots_gives_no_smaller_epoch() {
    holds_only_with(|r| r.keep_tickets = false, header_read_before_the_slots);
}

/// B enters, crashes before its commit, restarts on the same host, and enters again.
fn crash_before_the_commit(rules: Rules) -> bool {
    let mut bench = Bench::new(2);
    let mut b = Client::new(&mut bench, 1, 1, rules);
    let home = host(9);
    b.sector.machine_id = home.machine_id;
    b.sector.boot_id = home.boot_id;
    b.sector.lock_file = home.lock_file;
    b.acquire(&mut bench, at(0.0));
    let first = b.epoch().expect("uncontended");
    let mut logon = Logon::new(request(1, 77, home, rules));
    let mut step = logon.begin();
    let sector = loop {
        step = match step {
            LogonStep::Poll => {
                let poll = b.look(&bench, at(0.1), at(0.1));
                logon.polled(&poll, &b.watch, at(0.1))
            }
            LogonStep::CloseOldGates(_) => logon.gates_closed(true),
            LogonStep::WriteSlot { sector, .. } => {
                bench.write_slot(SlotIndex(1), &sector);
                logon.slot_written(WriteResult::Stable, at(0.1), at(0.1))
            }
            LogonStep::Claimed(claimed) => break claimed.sector,
            other => panic!("{other:?}"),
        };
    };
    let mut again = Client::resume(&mut bench, 1, sector, rules);
    again.acquire(&mut bench, at(0.2));
    again.epoch().expect("uncontended") > first
}

#[test]
fn trace_a3_iii_a_crash_before_the_commit_repeats_no_epoch() {
    holds_only_with(|r| r.keep_tickets = false, crash_before_the_commit);
}

/// A beat with an unknown result; the client goes on to a ticket; then the old beat lands over it.
fn own_beat_lands_late(rules: Rules) -> bool {
    let mut bench = Bench::new(2);
    let mut a = Client::new(&mut bench, 0, 1, rules);
    let mut b = Client::new(&mut bench, 1, 1, rules);
    let lost = a.next_sector();
    assert_eq!(a.bakery.beat_unknown(at(0.0)), None, "not inside: no reason to end");
    a.begin(at(0.1));
    for _ in 0..4 {
        if matches!(a.step, Step::WriteSlot { .. } | Step::Poll) {
            a.advance(&mut bench, at(0.1));
        }
    }
    // It lands within `margin`.
    bench.write_slot(a.me.slot, &lost);
    b.acquire(&mut bench, at(1.0));
    !(a.inside() && b.inside())
}

#[test]
fn trace_a5_a_late_own_beat_hides_no_ticket() {
    holds_only_with(|r| r.doubt_unknown_writes = false, own_beat_lands_late);
}

#[test]
fn after_an_unknown_write_margin_passes_and_the_slot_is_written_and_read_back() {
    let mut bench = Bench::new(2);
    let mut a = Client::new(&mut bench, 0, 1, Rules::ALL);
    a.begin(at(0.0));
    let lost = a.next_sector();
    a.step = a.bakery.slot_written(WriteResult::Unknown, at(0.5));
    assert_eq!(a.step, Step::Poll);
    // It did land, but that does not settle it: a second landing over a later write is what is feared.
    bench.write_slot(a.me.slot, &lost);
    assert_eq!(*a.advance(&mut bench, at(0.6)), Step::WaitThenPoll(at(0.5) + MARGIN - at(0.6)));
    let again = a.advance(&mut bench, at(4.6)).clone();
    assert!(matches!(again, Step::WriteSlot { fields, durable: true } if fields.choosing), "{again:?}");
    assert_eq!(*a.advance(&mut bench, at(4.7)), Step::Poll);
    assert!(matches!(a.run(&mut bench, at(4.8)), Step::Entered(_)));
}

/// A client waited out a beat of unknown result. Another beat failed just then, and the semaphore heard of it between its decision to
/// write the slot again and that write. The write ended the new doubt as well; the second beat landed a second later, over the ticket with
/// which the client was inside, and the next one drew a smaller number. (Found by the simulator.)
#[test]
fn a_beat_that_fails_while_a_doubt_is_being_ended_is_waited_out_for_itself() {
    let mut bench = Bench::new(2);
    let mut a = Client::new(&mut bench, 0, 1, Rules::ALL);
    a.begin(at(0.0));
    a.step = a.bakery.slot_written(WriteResult::Unknown, at(0.0));
    assert_eq!(*a.advance(&mut bench, at(0.1)), Step::WaitThenPoll(MARGIN - at(0.1)));
    let lost = a.next_sector();
    assert!(matches!(a.advance(&mut bench, at(4.1)), Step::WriteSlot { .. }));
    assert_eq!(a.bakery.beat_unknown(at(4.2)), None, "not inside: no reason to end");
    a.run(&mut bench, at(4.3));
    assert!(!a.inside(), "the second beat may land until 8.2");
    bench.write_slot(a.me.slot, &lost);
    a.advance(&mut bench, at(8.1));
    assert!(matches!(a.step, Step::WaitThenPoll(_)), "{:?}", a.step);
    a.advance(&mut bench, at(8.3));
    a.run(&mut bench, at(8.4));
    assert!(a.inside());
}

#[test]
fn an_unknown_beat_inside_ends_the_incarnation() {
    let mut bench = Bench::new(2);
    let mut a = Client::new(&mut bench, 0, 1, Rules::ALL);
    a.acquire(&mut bench, at(0.0));
    assert_eq!(a.bakery.beat_unknown(at(0.1)), Some(Step::Failed(LockError::UnknownInside)));
    assert!(!a.inside());
    assert_eq!(a.bakery.begin(at(9.0)), Step::Failed(LockError::UnknownInside), "for good");
}

/// A waiter that lives is reaped all the same; a later one does not wait for it.
fn reaped_waiter(rules: Rules) -> bool {
    let mut bench = Bench::new(3);
    let mut a = Client::new(&mut bench, 0, 1, rules);
    let mut b = Client::new(&mut bench, 1, 1, rules);
    let mut c = Client::new(&mut bench, 2, 1, rules);
    a.acquire(&mut bench, at(0.0));
    b.acquire(&mut bench, at(0.0));
    assert!(a.inside() && !b.inside());
    bench.commit(a.epoch().unwrap(), &[(b.me.slot, b.me.incarnation)]);
    a.release(&mut bench, at(0.0));
    c.acquire(&mut bench, at(0.0));
    assert!(c.inside(), "a reaped ticket is not waited for");
    let before = bench.area.clone();
    b.advance(&mut bench, at(0.0));
    if rules.entry_check {
        assert_eq!(b.failed(), Some(&LockError::Reaped));
        assert_eq!(before, bench.area, "left without writing");
    }
    !b.inside()
}

#[test]
fn trace_a9_a_reaped_waiter_does_not_enter() {
    holds_only_with(|r| r.entry_check = false, reaped_waiter);
}

#[test]
fn trace_a9_the_read_after_entering_finds_a_reaping_that_the_poll_missed() {
    let mut bench = Bench::new(2);
    let mut a = Client::new(&mut bench, 0, 1, Rules::ALL);
    let Step::Entered(tenure) = a.acquire(&mut bench, at(0.0)).clone() else { panic!() };
    assert_eq!(tenure.admits(&bench.header), Ok(()));
    bench.header.reaped[0] = Incarnation(1);
    assert_eq!(tenure.admits(&bench.header), Err(LockError::Reaped));
    bench.header.reaped[0] = Incarnation(0);
    bench.header.commit = CommitNo { epoch: tenure.epoch.0 + 1, count: 1 };
    assert!(matches!(tenure.admits(&bench.header), Err(LockError::Overtaken { .. })));
}

/// Both header copies read torn once; the epoch is far above the tickets.
fn torn_header(rules: Rules) -> bool {
    let mut bench = Bench::new(2);
    bench.commit(Ticket(600), &[]);
    let whole = bench.area.clone();
    for copy in 0..2 {
        bench.tear(bench.header_copy(copy));
    }
    let mut a = Client::new(&mut bench, 0, 1, rules);
    a.acquire(&mut bench, at(0.0));
    for copy in 0..2 {
        let range = bench.header_copy(copy);
        bench.area[range.clone()].copy_from_slice(&whole[range]);
    }
    if matches!(a.step, Step::WaitThenPoll(_)) {
        a.advance(&mut bench, at(0.5));
        a.run(&mut bench, at(0.5));
    }
    a.epoch().is_some_and(|epoch| epoch.0 > 600)
}

#[test]
fn trace_c4_a_torn_header_never_counts_as_epoch_zero() {
    holds_only_with(|r| r.draw_needs_header = false, torn_header);
}

#[test]
fn a_header_torn_for_longer_than_a_beat_is_damage_and_the_client_steps_back() {
    let mut bench = Bench::new(2);
    let mut a = Client::new(&mut bench, 0, 1, Rules::ALL);
    for copy in 0..2 {
        bench.tear(bench.header_copy(copy));
    }
    a.acquire(&mut bench, at(0.0));
    assert!(matches!(a.step, Step::WaitThenPoll(_)));
    a.advance(&mut bench, BEAT + at(0.01));
    a.run(&mut bench, BEAT + at(0.01));
    assert_eq!(a.failed(), Some(&LockError::HeaderDamaged));
    assert!(!a.fields().choosing && !a.fields().waiting, "nobody is to wait for it");
}

#[test]
fn holder_is_the_lowest_ticket_of_those_waiting_and_not_reaped() {
    let mut bench = Bench::new(2);
    let mut a = Client::new(&mut bench, 0, 1, Rules::ALL);
    let mut b = Client::new(&mut bench, 1, 1, Rules::ALL);
    assert_eq!(holder(&a.look(&bench, at(0.0), at(0.0))), None);
    a.acquire(&mut bench, at(0.0));
    b.acquire(&mut bench, at(0.0));
    let poll = b.look(&bench, at(0.0), at(0.0));
    assert_eq!(holder(&poll), a.epoch().map(|epoch| (a.me.slot, epoch)));
    bench.commit(Ticket(1), &[(a.me.slot, a.me.incarnation)]);
    let poll = b.look(&bench, at(0.0), at(0.0));
    assert_eq!(holder(&poll).map(|(slot, _)| slot), Some(b.me.slot));
}
