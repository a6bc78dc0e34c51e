//! Trace A1: a late beat revives a lease that others have already judged dead.

use std::time::Duration;

use super::bench::{Bench, Client, DEAD, LEASE, at};
use super::holds_only_with;
use crate::lease::{Confirmation, Lease, LeaseStage};
use crate::poll::OwnSlot;
use crate::rules::Rules;
use crate::semaphore::Step;

pub(super) const FINE: Confirmation =
    Confirmation { own: OwnSlot::Ours, reaped: false, revoked: false, header_valid: true };

/// D holds the semaphore and stalls; C judges it; D's beat, submitted at `submitted`, lands at 12.3; C enters.
fn stalled_holder(rules: Rules, submitted: Duration) -> bool {
    let mut bench = Bench::new(2);
    let mut d = Client::new(&mut bench, 0, 1, rules);
    let mut c = Client::new(&mut bench, 1, 1, rules);
    let mut lease = Lease::new(LEASE).with_rules(rules);
    lease.begin(at(0.0), at(0.0));
    d.acquire(&mut bench, at(0.0));
    c.look(&bench, at(0.05), at(0.1));
    c.begin(at(12.0));
    c.advance(&mut bench, at(12.0));
    c.advance(&mut bench, at(12.1));
    c.advance(&mut bench, at(12.15));
    c.advance(&mut bench, at(12.2));
    assert!(matches!(&c.step, Step::Entered(t) if t.reap == [(d.me.slot, d.me.incarnation)]));
    let beat = lease.beat_begun(submitted);
    d.beat(&mut bench);
    lease.beat_completed(beat, at(12.3), true);
    let poll = d.look(&bench, at(12.4), at(12.4));
    assert_eq!(poll.reaped(&d.me), Some(false), "C has not committed the reaping yet");
    lease.confirm(at(12.4), FINE, at(12.4));
    lease.stage(at(12.4)) == LeaseStage::Over
}

#[test]
fn trace_a1_a_late_beat_revives_no_lease() {
    holds_only_with(|r| r.lease_stays_over = false, |rules| stalled_holder(rules, at(12.3)));
}

#[test]
fn trace_a1_a_beat_submitted_in_time_that_lands_late_revives_no_lease() {
    holds_only_with(|r| r.lease_stays_over = false, |rules| stalled_holder(rules, at(7.9)));
}

/// C's first read is slow: submitted at 0, it samples D's slot only at 5, just after D's beat of 5.
fn slow_first_read(rules: Rules) -> bool {
    let mut bench = Bench::new(2);
    let mut d = Client::new(&mut bench, 0, 1, rules);
    let mut c = Client::new(&mut bench, 1, 1, rules);
    d.beat(&mut bench);
    let mut lease = Lease::new(LEASE);
    lease.begin(at(4.9), at(5.0));
    c.look(&bench, at(0.0), at(5.1));
    c.look(&bench, at(12.1), at(12.2));
    !c.watch.is_silent(d.me.slot) || lease.stage(at(12.2)) == LeaseStage::Over
}

#[test]
fn trace_a1_stillness_counts_from_the_end_of_the_first_read() {
    holds_only_with(|r| r.still_from_read_end = false, slow_first_read);
}

#[test]
fn whoever_is_judged_silent_has_no_lease_left_whatever_the_delays() {
    // Beats begin at b, take any time; reads begin and end at any time: all on a half-second grid.
    let grid = |n: u32| Duration::from_millis(500) * n;
    for landed in 0..6 {
        for first_end in landed..8 {
            for second_begun in first_end..(first_end + 30) {
                let mut lease = Lease::new(LEASE);
                lease.begin(Duration::ZERO, grid(landed));
                let still = grid(second_begun) - grid(first_end);
                if still >= DEAD {
                    assert_eq!(lease.stage(grid(second_begun)), LeaseStage::Over);
                }
            }
        }
    }
}
