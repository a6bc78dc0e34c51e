//! Traces n1, n2, B4, C14, E4, E13: slots that cannot be read, and judgements about the wrong bytes.

use std::time::Duration;

use ondisk::{CommitNo, Incarnation, SlotIndex};

use super::bench::{Bench, Client, DEAD, EVERYTHING, at};
use super::holds_only_with;
use crate::rules::Rules;
use crate::semaphore::Step;

/// B is inside with a ticket; A reads B's slot badly once, in step 2.
fn bad_read_in_step_2(rules: Rules) -> bool {
    let mut bench = Bench::new(2);
    let mut b = Client::new(&mut bench, 1, 1, rules);
    let mut a = Client::new(&mut bench, 0, 1, rules);
    for _ in 0..2 {
        b.tenure(&mut bench, at(0.0));
    }
    b.acquire(&mut bench, at(0.0));
    a.begin(at(0.0));
    a.advance(&mut bench, at(0.0));
    let mut bad = bench.clone();
    bad.tear(bench.sector(b.me.slot, b.me.incarnation.sector()));
    // The header's epoch is that of the tenure before, and so below B's ticket.
    a.advance_with(&bad.area, &[], at(0.1));
    a.run(&mut bench, at(0.2));
    !(a.inside() && b.inside())
}

#[test]
fn trace_n1_nobody_draws_past_a_slot_that_cannot_be_read() {
    holds_only_with(|r| r.unknown_stops_draw = false, bad_read_in_step_2);
}

/// The newer sector of B, inside, is bad in A's step 4; the older one is valid and idle.
fn bad_read_in_step_4(rules: Rules) -> bool {
    let mut bench = Bench::new(2);
    let mut b = Client::new(&mut bench, 1, 1, rules);
    let mut a = Client::new(&mut bench, 0, 1, rules);
    b.acquire(&mut bench, at(0.0));
    a.begin(at(0.0));
    for _ in 0..3 {
        a.advance(&mut bench, at(0.0));
    }
    let mut bad = bench.clone();
    bad.tear(bench.sector(b.me.slot, b.me.incarnation.sector()));
    a.advance_with(&bad.area, &[], at(0.1));
    !(a.inside() && b.inside())
}

#[test]
fn trace_n2_nobody_enters_past_a_slot_that_cannot_be_read() {
    holds_only_with(|r| r.unknown_stops_entry = false, bad_read_in_step_4);
}

/// A rotten slot that stays so: the winner reaps one more than the highest incarnation known.
fn rotten_slot(rules: Rules) -> bool {
    let mut bench = Bench::new(2);
    let mut a = Client::new(&mut bench, 0, 1, rules);
    let b = Client::new(&mut bench, 1, 5, rules);
    a.look(&bench, at(0.0), at(0.0));
    bench.tear(bench.sector(b.me.slot, 0));
    bench.tear(bench.sector(b.me.slot, 1));
    a.acquire(&mut bench, at(1.0));
    let mut now = at(1.0);
    while matches!(a.step, Step::WaitThenPoll(_)) && now < at(20.0) {
        now += Duration::from_millis(500);
        a.advance(&mut bench, now);
        a.run(&mut bench, now);
    }
    let Step::Entered(tenure) = &a.step else { panic!("wedged by a rotten slot: {:?}", a.step) };
    assert!(now >= at(1.0) + DEAD, "passed only after the death time");
    tenure.reap == [(b.me.slot, Incarnation(6))]
}

#[test]
fn trace_b4_a_rotten_slot_wedges_nobody_and_is_reaped_above_what_is_known() {
    holds_only_with(|r| r.reap_unreadable_above = false, rotten_slot);
}

/// D is silent before the acquisition, then comes back, draws a smaller ticket and enters.
fn judged_before_the_acquisition(rules: Rules) -> bool {
    let mut bench = Bench::new(2);
    let mut a = Client::new(&mut bench, 0, 1, rules);
    let mut d = Client::new(&mut bench, 1, 1, rules);
    a.look(&bench, at(0.0), at(0.0));
    a.look(&bench, at(12.5), at(12.5));
    a.begin(at(12.6));
    a.advance(&mut bench, at(12.6));
    a.advance(&mut bench, at(12.6));
    assert!(matches!(a.step, Step::WriteSlot { .. }), "drawn");
    // D comes back as a new incarnation before A's ticket is visible, and draws a smaller one.
    d.sector.incarnation = Incarnation(2);
    let mut d = Client::resume(&mut bench, 1, d.sector, rules);
    d.acquire(&mut bench, at(12.7));
    assert!(!d.inside(), "A is choosing");
    a.advance(&mut bench, at(12.8));
    assert!(d.fields().ticket < a.fields().ticket);
    d.advance(&mut bench, at(12.9));
    assert!(d.inside());
    a.advance(&mut bench, at(13.0));
    !a.inside()
}

#[test]
fn trace_c14_silence_is_judged_by_the_bytes_of_step_4() {
    holds_only_with(|r| r.judge_this_poll = false, judged_before_the_acquisition);
}

/// Two reads of B's slot fail, twelve seconds apart; every one between is good, and B beats.
fn two_bad_reads_with_good_ones_between(rules: Rules) -> bool {
    let mut bench = Bench::new(2);
    let mut a = Client::new(&mut bench, 0, 1, rules);
    let mut b = Client::new(&mut bench, 1, 1, rules);
    let range = bench.sector(b.me.slot, 0);
    let error = [Bench::as_bad(&range)];
    let mut now = Duration::ZERO;
    while now <= at(13.0) {
        bench.bad = if now.is_zero() || now == at(13.0) { error.to_vec() } else { Vec::new() };
        b.beat(&mut bench);
        a.look(&bench, now, now);
        now += at(0.5);
    }
    !a.watch.is_silent(b.me.slot)
}

#[test]
fn trace_e4_two_transient_errors_are_no_silence() {
    // Good reads show new bytes besides, which alone would do.
    let both = |r: &mut Rules| (r.unknown_in_every_read, r.unreadable_must_be_still) = (false, false);
    holds_only_with(both, two_bad_reads_with_good_ones_between);
}

/// The same, but between the bad reads nothing could be read at all.
fn two_bad_reads_with_nothing_between(rules: Rules) -> bool {
    let mut bench = Bench::new(2);
    let mut a = Client::new(&mut bench, 0, 1, rules);
    let b = Client::new(&mut bench, 1, 1, rules);
    let range = bench.sector(b.me.slot, 0);
    bench.bad = vec![Bench::as_bad(&range)];
    a.look(&bench, at(0.0), at(0.0));
    let some = std::mem::replace(&mut bench.bad, vec![EVERYTHING]);
    for half in 1..25 {
        a.look(&bench, at(0.5) * half, at(0.5) * half);
        assert!(!a.watch.is_silent(b.me.slot));
    }
    bench.bad = some;
    a.look(&bench, at(13.0), at(13.0));
    !a.watch.is_silent(b.me.slot)
}

#[test]
fn trace_e4_time_in_which_nothing_could_be_read_proves_nothing() {
    holds_only_with(|r| r.unknown_in_every_read = false, two_bad_reads_with_nothing_between);
}

#[test]
fn trace_e4_a_rotten_unused_sector_of_a_beating_client_does_not_wedge() {
    let mut bench = Bench::new(2);
    let mut a = Client::new(&mut bench, 0, 1, Rules::ALL);
    let mut b = Client::new(&mut bench, 1, 1, Rules::ALL);
    bench.tear(bench.sector(b.me.slot, 1));
    for half in 0..=41 {
        // It cannot read its own slot, so its lease is not extended, and after that it beats no more.
        if half <= 16 {
            b.beat(&mut bench);
        }
        assert!(half >= 41 || !a.watch.is_silent(b.me.slot), "its last beat was {half} halves of a second before");
        a.look(&bench, at(0.5) * half, at(0.5) * half);
    }
    assert!(a.watch.is_silent(b.me.slot), "unknown in every own read, and nothing new, for the death time");
    assert!(matches!(a.acquire(&mut bench, at(20.6)), Step::Entered(_)));
}

/// The simulator found it: B is dead, and the sector of its login goes bad. A finds the slot unreadable for the death time.
/// B logs on anew by the other sector; before it has mended the bad one A passes it, and reaps the login that has just begun.
fn a_login_beside_a_bad_sector_is_passed(rules: Rules) -> bool {
    let mut bench = Bench::new(2);
    let mut a = Client::new(&mut bench, 0, 1, rules);
    let b = Client::new(&mut bench, 1, 1, rules);
    bench.tear(bench.sector(b.me.slot, b.me.incarnation.sector()));
    for half in 0..40 {
        a.look(&bench, at(0.5) * half, at(0.5) * half);
    }
    assert!(a.watch.is_silent(b.me.slot), "it may be passed until somebody writes it");
    let mut b = Client::new(&mut bench, 1, 4, rules);
    b.beat(&mut bench);
    a.look(&bench, at(20.0), at(20.0));
    !a.watch.is_silent(b.me.slot)
}

#[test]
fn a_login_by_the_good_sector_of_an_unreadable_slot_is_not_reaped() {
    holds_only_with(|r| r.unreadable_must_be_still = false, a_login_beside_a_bad_sector_is_passed);
}

/// A poll samples the header, then a slot whose mark was raised meanwhile.
fn mark_raised_during_the_poll(rules: Rules) -> bool {
    let mut bench = Bench::new(2);
    let mut a = Client::new(&mut bench, 0, 1, rules);
    let mut b = Client::new(&mut bench, 1, 1, rules);
    a.look(&bench, at(0.0), at(0.0));
    b.sector.acknowledged = CommitNo { epoch: 7, count: 1 };
    b.beat(&mut bench);
    let poll = a.look(&bench, at(1.0), at(1.0));
    poll.damage_below_mark().is_none()
}

#[test]
fn trace_e13_a_mark_raised_during_the_poll_is_no_damage() {
    holds_only_with(|r| r.marks_of_earlier_reads = false, mark_raised_during_the_poll);
}

#[test]
fn a_header_below_a_mark_read_before_it_is_damage() {
    let mut bench = Bench::new(2);
    let mut a = Client::new(&mut bench, 0, 1, Rules::ALL);
    let mut b = Client::new(&mut bench, 1, 1, Rules::ALL);
    let mark = CommitNo { epoch: 7, count: 1 };
    b.sector.acknowledged = mark;
    b.beat(&mut bench);
    a.look(&bench, at(1.0), at(1.0));
    assert_eq!(a.look(&bench, at(2.0), at(2.0)).damage_below_mark(), Some((SlotIndex(1), mark)));
    bench.commit(ondisk::Ticket(7), &[]);
    assert_eq!(a.look(&bench, at(3.0), at(3.0)).damage_below_mark(), None);
}
