//! Traces A6, n3, E5: two daemons of one name, restarts, and which lock file is meant.

use std::time::Duration;

use ondisk::{Incarnation, SlotIndex, SlotSector};

use super::bench::{Bench, Client, DEAD, MARGIN, at, host, request};
use super::holds_only_with;
use crate::logon::{Claimed, Host, Logon, LogonError, LogonStep};
use crate::poll::PollDecoder;
use crate::rules::Rules;
use crate::semaphore::WriteResult;
use crate::watch::Watch;

/// A daemon that logs on to slot 0.
pub(crate) struct Claimer {
    logon: Logon,
    pub(crate) step: LogonStep,
    decoder: PollDecoder,
    pub(crate) watch: Watch,
}

impl Claimer {
    pub(crate) fn new(bench: &Bench, daemon: u8, home: Host, rules: Rules) -> Self {
        let mut logon = Logon::new(request(0, daemon, home, rules));
        let step = logon.begin();
        let decoder = PollDecoder::new(bench.geometry.clone());
        Self { logon, step, decoder, watch: Watch::new(&bench.geometry, DEAD) }
    }

    pub(crate) fn advance(&mut self, bench: &mut Bench, now: Duration) {
        self.step = match self.step {
            LogonStep::Poll | LogonStep::WaitThenPoll(_) => {
                let poll = self.decoder.decode(&bench.area, &bench.bad, now, now);
                self.watch.observe(poll);
                self.logon.polled(poll, &self.watch, now)
            }
            LogonStep::CloseOldGates(_) => self.logon.gates_closed(true),
            LogonStep::WriteSlot { ref sector, .. } => {
                bench.write_slot(SlotIndex(0), sector);
                self.logon.slot_written(WriteResult::Stable, now, now)
            }
            ref other => panic!("nothing to advance after {other:?}"),
        };
    }

    /// Advances, waiting where told to, until claimed or refused; the time by then.
    pub(crate) fn run(&mut self, bench: &mut Bench, mut now: Duration) -> Duration {
        while !matches!(self.step, LogonStep::Claimed(_) | LogonStep::Failed(_)) {
            if let LogonStep::WaitThenPoll(wait) = self.step {
                now += wait;
            }
            self.advance(bench, now);
        }
        now
    }

    /// Advances without waiting, until claimed or refused: a claim that stood may be written a second time.
    fn settle(&mut self, bench: &mut Bench, now: Duration) {
        while matches!(self.step, LogonStep::Poll | LogonStep::WriteSlot { .. }) {
            self.advance(bench, now);
        }
    }

    /// Advances until the claim is about to be written.
    fn advance_to_write(&mut self, bench: &mut Bench, now: Duration) {
        while !matches!(self.step, LogonStep::WriteSlot { .. }) {
            self.advance(bench, now);
        }
    }

    pub(crate) fn claimed(&self) -> Option<&Claimed> {
        match &self.step {
            LogonStep::Claimed(claimed) => Some(claimed),
            _ => None,
        }
    }
}

/// Leaves slot 0 as this host's daemon did, logged on or off.
pub(crate) fn left_by(bench: &mut Bench, incarnation: u64, home: Host, logged_on: bool) -> SlotSector {
    let sector = SlotSector {
        incarnation: Incarnation(incarnation),
        beat: 40,
        logged_on,
        machine_id: home.machine_id,
        boot_id: home.boot_id,
        lock_file: home.lock_file,
        ..SlotSector::default()
    };
    bench.write_slot(SlotIndex(0), &sector);
    sector
}

/// P and Q on two hosts read a slot left cleanly; P writes, then Q writes over it.
fn two_daemons(rules: Rules, q_writes: Duration) -> bool {
    let mut bench = Bench::new(2);
    left_by(&mut bench, 2, host(3), false);
    let mut p = Claimer::new(&bench, 10, host(1), rules);
    let mut q = Claimer::new(&bench, 20, host(2), rules);
    p.advance_to_write(&mut bench, at(0.0));
    q.advance_to_write(&mut bench, at(0.1));
    p.advance(&mut bench, at(0.2));
    let p_reads = at(0.3) + if rules.claim_waits_margin { MARGIN + MARGIN / 8 } else { Duration::ZERO };
    if p_reads < q_writes {
        p.advance(&mut bench, p_reads);
        p.settle(&mut bench, p_reads);
    }
    q.advance(&mut bench, q_writes);
    if let LogonStep::Poll | LogonStep::WaitThenPoll(_) = q.step {
        q.advance(&mut bench, q_writes + MARGIN + MARGIN / 8 + at(0.1));
        q.settle(&mut bench, q_writes + MARGIN + MARGIN / 8 + at(0.1));
    }
    if p_reads > q_writes {
        p.advance(&mut bench, p_reads);
        p.settle(&mut bench, p_reads);
    }
    !(p.claimed().is_some() && q.claimed().is_some())
}

#[test]
fn trace_a6_two_daemons_never_both_claim() {
    holds_only_with(|r| r.claim_waits_margin = false, |rules| two_daemons(rules, at(1.0)));
}

#[test]
fn trace_a6_a_claim_that_took_longer_than_margin_is_given_up() {
    holds_only_with(|r| r.claim_gives_up = false, |rules| two_daemons(rules, at(10.0)));
}

/// The second write of a claim must land before anybody can have judged the first one silent for `dead`: else the
/// client of another host that did so claims too, and hides what this one does until its next poll.
#[test]
fn a_claim_that_was_still_for_dead_is_not_written_a_second_time() {
    for (late, stands) in [(9.0, true), (11.9, false), (12.5, false), (40.0, false)] {
        let mut bench = Bench::new(2);
        let mut p = Claimer::new(&bench, 10, host(1), Rules::ALL);
        p.advance_to_write(&mut bench, at(0.0));
        p.advance(&mut bench, at(0.1));
        p.advance(&mut bench, at(late));
        let LogonStep::WriteSlot { not_after, .. } = p.step else { panic!("{late}: {:?}", p.step) };
        assert_eq!(at(late) <= not_after, stands, "it may be submitted at {late}");
        p.advance(&mut bench, at(late.max(12.2)));
        assert_eq!(p.step, LogonStep::Failed(LogonError::TooSlow), "a write that returns after dead is none");
    }
}

/// Found by the model: Q read the slot before P's claim was there, submitted its own as late as it might, and that took
/// `margin` to land. P had waited `margin` since its own write, read it back, and acted: until P's next beat nobody saw its
/// tickets. (Q gave up when its write returned; what it had hidden was hidden all the same.)
#[test]
fn every_claim_that_was_read_before_anothers_has_landed_when_that_one_is_read_back() {
    let mut bench = Bench::new(2);
    left_by(&mut bench, 2, host(3), false);
    let mut p = Claimer::new(&bench, 10, host(1), Rules::ALL);
    let mut q = Claimer::new(&bench, 20, host(2), Rules::ALL);
    p.advance_to_write(&mut bench, at(0.0));
    q.advance_to_write(&mut bench, at(0.1));
    p.advance(&mut bench, at(0.1));
    let LogonStep::WaitThenPoll(wait) = p.step else { panic!("{:?}", p.step) };
    let LogonStep::WriteSlot { not_after, .. } = q.step else { panic!("{:?}", q.step) };
    assert!(not_after + MARGIN < at(0.1) + wait, "{not_after:?} {wait:?}");
}

#[test]
fn a_claim_that_was_not_submitted_in_time_is_decided_anew_a_few_times() {
    let mut bench = Bench::new(2);
    let mut p = Claimer::new(&bench, 10, host(1), Rules::ALL);
    for late in 1..20 {
        p.advance_to_write(&mut bench, at(f64::from(late)));
        p.step = p.logon.slot_written(WriteResult::Failed, at(f64::from(late)), at(f64::from(late)));
        if let LogonStep::Failed(why) = &p.step {
            assert_eq!((why, late), (&LogonError::NotWritten, 9));
            return;
        }
        assert_eq!(p.step, LogonStep::Poll);
    }
    panic!("it would try for ever");
}

#[test]
fn a_claim_is_not_submitted_late() {
    let mut bench = Bench::new(2);
    let mut p = Claimer::new(&bench, 10, host(1), Rules::ALL);
    p.advance_to_write(&mut bench, at(1.0));
    assert!(matches!(p.step, LogonStep::WriteSlot { not_after, .. } if not_after < at(1.0) + MARGIN));
}

/// Slot 0 was left cleanly by host 1; its daemon comes back the first way and acts at once, while another host
/// claims the same slot.
fn first_way_against_second(rules: Rules, clean: bool, q_first: bool) -> bool {
    let mut bench = Bench::new(2);
    left_by(&mut bench, 2, host(1), !clean);
    let mut p = Claimer::new(&bench, 10, host(1), rules);
    let mut q = Claimer::new(&bench, 20, host(2), rules);
    let mut now = at(0.0);
    while !matches!(q.step, LogonStep::WriteSlot { .. }) {
        if let LogonStep::WaitThenPoll(wait) = q.step {
            now += wait;
        }
        q.advance(&mut bench, now);
    }
    p.advance_to_write(&mut bench, now);
    if q_first {
        q.advance(&mut bench, now + at(0.1));
    }
    p.run(&mut bench, now + at(0.2));
    let sector = p.claimed().expect("the first way waits for nobody").sector;
    let mut alice = Client::resume(&mut bench, 0, sector, rules);
    alice.acquire(&mut bench, now + at(0.3));
    assert!(alice.inside());
    if !q_first {
        q.advance(&mut bench, now + at(0.5));
    }
    let mut bob = Client::new(&mut bench, 1, 1, rules);
    bob.acquire(&mut bench, now + at(1.0));
    q.advance(&mut bench, now + at(0.5) + MARGIN + MARGIN / 8 + at(0.1));
    !bob.inside() && matches!(&q.step, LogonStep::Failed(LogonError::AnotherDaemon(_)))
}

#[test]
fn trace_a6_a_claim_from_elsewhere_hides_no_ticket_of_a_daemon_that_came_the_first_way() {
    holds_only_with(|r| r.second_way_other_sector = false, |rules| first_way_against_second(rules, true, false));
    for (clean, q_first) in [(true, true), (false, true), (false, false)] {
        assert!(first_way_against_second(Rules::ALL, clean, q_first));
    }
}

/// P (1) pauses with a slot write under way; Q logs on elsewhere as 2, is killed and restarts at once.
fn restart_over_a_late_write(rules: Rules) -> bool {
    let mut bench = Bench::new(2);
    let mut p = Client::new(&mut bench, 0, 1, rules);
    let lost = p.next_sector();
    let mut q = Claimer::new(&bench, 20, host(2), rules);
    let now = q.run(&mut bench, at(0.0));
    assert_eq!(q.claimed().unwrap().sector.incarnation, Incarnation(2));
    let mut again = Claimer::new(&bench, 21, host(2), rules);
    again.run(&mut bench, now + at(0.1));
    let mut alice = Client::resume(&mut bench, 0, again.claimed().unwrap().sector, rules);
    alice.acquire(&mut bench, now + at(0.2));
    bench.write_slot(SlotIndex(0), &lost);
    let mut bob = Client::new(&mut bench, 1, 1, rules);
    bob.acquire(&mut bench, now + at(0.3));
    assert!(alice.inside());
    !bob.inside()
}

#[test]
fn trace_n3_e5b_a_restart_overwrites_only_the_sector_of_the_daemon_proven_gone() {
    holds_only_with(|r| r.first_way_same_sector = false, restart_over_a_late_write);
}

/// The new log-on's ticket against the old one's: a claim from elsewhere.
fn ticket_over_a_log_on(rules: Rules) -> bool {
    let mut bench = Bench::new(2);
    let mut old = left_by(&mut bench, 1, host(1), true);
    old.ticket = ondisk::Ticket(12);
    bench.write_slot(SlotIndex(0), &old);
    let mut q = Claimer::new(&bench, 20, host(2), rules);
    q.run(&mut bench, at(0.0));
    let sector = q.claimed().unwrap().sector;
    assert!(!sector.waiting && !sector.choosing);
    sector.ticket >= old.ticket
}

#[test]
fn trace_e5a_a_log_on_carries_the_old_ticket_on() {
    holds_only_with(|r| r.keep_tickets = false, ticket_over_a_log_on);
}

#[test]
fn trace_e5c_another_lock_file_of_the_same_machine_proves_nothing() {
    let mut other = host(1);
    other.lock_file.inode = 2;
    let mut bench = Bench::new(2);
    left_by(&mut bench, 1, host(1), true);
    let mut q = Claimer::new(&bench, 20, other, Rules::ALL);
    q.advance(&mut bench, at(0.0));
    assert!(matches!(q.step, LogonStep::WaitThenPoll(_)), "{:?}", q.step);
    let now = q.run(&mut bench, at(0.0));
    assert!(now > DEAD + MARGIN);
    assert!(!q.claimed().unwrap().first_way);
}
