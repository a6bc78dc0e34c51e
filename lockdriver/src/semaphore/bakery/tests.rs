//! Claims about the bakery's steps.

use std::time::Duration;

use ondisk::{DaemonId, Incarnation, SlotSector, Ticket};

use super::*;
use crate::rules::Rules;
use crate::traces::bench::{Bench, Client, DEAD, at};

fn pair() -> (Bench, Client, Client) {
    let mut bench = Bench::new(2);
    let a = Client::new(&mut bench, 0, 1, Rules::ALL);
    let b = Client::new(&mut bench, 1, 1, Rules::ALL);
    (bench, a, b)
}

#[test]
fn uncontended_it_takes_two_writes_and_two_reads_in_and_one_write_out() {
    let (mut bench, mut a, _) = pair();
    let mut steps = vec![a.begin(at(0.0)).clone()];
    for _ in 0..4 {
        steps.push(a.advance(&mut bench, at(0.0)).clone());
    }
    let durable = |s: &Step| matches!(s, Step::WriteSlot { durable: true, .. });
    assert!(durable(&steps[0]) && durable(&steps[2]), "{steps:?}");
    assert!(steps[1] == Step::Poll && steps[3] == Step::Poll, "{steps:?}");
    assert!(matches!(&steps[4], Step::Entered(t) if t.epoch == Ticket(6) && t.reap.is_empty()), "{steps:?}");
    let out = a.bakery.release();
    let fields = SlotFields { ticket: Ticket(6), ..SlotFields::default() };
    assert_eq!(out, Step::WriteSlot { fields, durable: false });
    assert_eq!(a.bakery.slot_written(WriteResult::Stable, at(0.1)), Step::Left);
}

#[test]
fn first_come_first_served() {
    let (mut bench, mut a, mut b) = pair();
    a.acquire(&mut bench, at(0.0));
    assert_eq!(*b.acquire(&mut bench, at(0.1)), Step::WaitThenPoll(WAITING_POLL));
    a.release(&mut bench, at(0.2));
    a.acquire(&mut bench, at(0.3));
    assert!(!a.inside(), "b came first");
    b.advance(&mut bench, at(0.4));
    assert!(b.inside());
}

#[test]
fn a_poll_begun_before_the_write_returned_counts_for_nothing() {
    let (mut bench, mut a, _) = pair();
    a.begin(at(1.0));
    a.beat(&mut bench);
    let early = a.look(&bench, at(1.0), at(2.0));
    assert_eq!(a.bakery.slot_written(WriteResult::Stable, at(1.5)), Step::Poll);
    assert_eq!(a.bakery.polled(&early, &a.watch, at(2.0)), Step::Poll);
}

#[test]
fn a_silent_blocker_is_passed_and_reaped_a_beating_one_is_not() {
    let (mut bench, mut a, mut b) = pair();
    b.acquire(&mut bench, at(0.0));
    a.look(&bench, at(0.5), at(0.5));
    a.acquire(&mut bench, at(1.0));
    assert!(!a.inside());
    a.advance(&mut bench, at(0.5) + DEAD - Duration::from_millis(1));
    assert!(!a.inside());
    a.advance(&mut bench, at(0.5) + DEAD);
    assert!(matches!(&a.step, Step::Entered(t) if t.reap == [(b.me.slot, Incarnation(1))]));

    let (mut bench, mut a, mut b) = pair();
    b.acquire(&mut bench, at(0.0));
    a.acquire(&mut bench, at(0.0));
    for second in 1..40 {
        b.beat(&mut bench);
        a.advance(&mut bench, at(f64::from(second)));
        assert!(!a.inside());
    }
}

#[test]
fn another_daemon_in_the_own_slot_ends_it() {
    let (mut bench, mut a, _) = pair();
    a.begin(at(0.0));
    a.advance(&mut bench, at(0.0));
    let other = SlotSector { incarnation: Incarnation(2), daemon_id: DaemonId([9; 16]), ..SlotSector::default() };
    bench.write_slot(a.me.slot, &other);
    a.advance(&mut bench, at(0.1));
    assert_eq!(a.failed(), Some(&LockError::AnotherDaemon(DaemonId([9; 16]))));
}

#[test]
fn giving_up_clears_the_flags_and_keeps_the_ticket() {
    let (mut bench, mut a, mut b) = pair();
    a.acquire(&mut bench, at(0.0));
    b.acquire(&mut bench, at(0.0));
    let ticket = b.fields().ticket;
    b.step = b.bakery.abandon();
    assert_eq!(*b.run(&mut bench, at(0.1)), Step::Left);
    assert_eq!(b.fields(), SlotFields { ticket, ..SlotFields::default() });
    a.release(&mut bench, at(0.2));
    assert!(b.tenure(&mut bench, at(0.3)) > ticket);
}

#[test]
fn a_refused_write_steps_back_and_may_be_tried_again() {
    let (mut bench, mut a, _) = pair();
    a.begin(at(0.0));
    let step = a.bakery.slot_written(WriteResult::Failed, at(0.1));
    assert!(matches!(step, Step::WriteSlot { fields, .. } if !fields.choosing));
    let step = a.bakery.slot_written(WriteResult::Failed, at(0.2));
    assert_eq!(step, Step::Failed(LockError::NotWritten));
    assert!(matches!(a.acquire(&mut bench, at(0.3)), Step::Entered(_)));
}

#[test]
fn a_release_of_unknown_result_is_tried_once_more_and_then_ends_the_login() {
    let (mut bench, mut a, _) = pair();
    a.acquire(&mut bench, at(0.0));
    let release = a.bakery.release();
    assert_eq!(a.bakery.slot_written(WriteResult::Unknown, at(0.1)), release);
    a.beat(&mut bench);
    assert_eq!(a.bakery.slot_written(WriteResult::Stable, at(0.2)), Step::Left);
    // The first try may still land: the next acquisition settles that before it draws.
    a.begin(at(0.3));
    a.advance(&mut bench, at(0.3));
    assert!(matches!(a.advance(&mut bench, at(0.4)), Step::WaitThenPoll(wait) if *wait > at(3.0)));

    let (mut bench, mut a, _) = pair();
    a.acquire(&mut bench, at(0.0));
    a.bakery.release();
    a.bakery.slot_written(WriteResult::Unknown, at(0.1));
    assert_eq!(a.bakery.slot_written(WriteResult::Unknown, at(0.2)), Step::Failed(LockError::UnknownInside));
}

#[test]
fn ticket_numbers_at_their_end_are_damage_not_a_wrap() {
    let (mut bench, mut a, mut b) = pair();
    b.sector.ticket = Ticket(u64::MAX - 1);
    bench.write_slot(b.me.slot, &b.sector);
    a.acquire(&mut bench, at(0.0));
    assert_eq!(a.failed(), Some(&LockError::TicketsExhausted));
}

#[test]
fn own_bytes_that_went_back_are_doubted() {
    let (mut bench, mut a, mut b) = pair();
    b.acquire(&mut bench, at(0.0));
    let old = a.next_sector();
    a.acquire(&mut bench, at(0.1));
    bench.write_slot(a.me.slot, &old);
    b.release(&mut bench, at(0.2));
    assert!(matches!(a.advance(&mut bench, at(0.3)), Step::WaitThenPoll(wait) if *wait == at(4.0)));
    assert!(matches!(a.advance(&mut bench, at(4.3)), Step::WriteSlot { durable: true, fields } if fields.waiting));
    a.run(&mut bench, at(4.4));
    assert!(a.inside());
}
