//! Claims about the log-on.

use ondisk::Ticket;

use super::*;
use crate::traces::bench::{Bench, Client, DEAD, LEASE, MARGIN, at, host, request};
use crate::traces::claim::{Claimer, left_by};

fn claim(bench: &mut Bench, home: Host) -> (Claimed, Duration) {
    let mut claimer = Claimer::new(bench, 40, home, Rules::ALL);
    let end = claimer.run(bench, at(0.0));
    (*claimer.claimed().unwrap_or_else(|| panic!("{:?}", claimer.step)), end)
}

#[test]
fn a_fresh_slot_is_claimed_as_incarnation_one_after_margin() {
    let mut bench = Bench::new(2);
    let (claimed, end) = claim(&mut bench, host(1));
    assert_eq!(claimed.sector.incarnation, Incarnation(1));
    let wait = MARGIN + MARGIN / 8;
    assert!(end > wait && end < wait + at(0.1), "{end:?}");
    assert_eq!((claimed.first_way, claimed.reap_own), (false, None));
    assert!(claimed.sector.logged_on, "others must not take it for left cleanly");
}

#[test]
fn a_slot_not_left_cleanly_must_be_still_first_and_is_reaped() {
    let mut bench = Bench::new(2);
    left_by(&mut bench, 3, host(1), true);
    let (claimed, end) = claim(&mut bench, host(2));
    assert!(end > DEAD + MARGIN);
    assert_eq!(claimed.sector.incarnation, Incarnation(4));
    assert_eq!((claimed.first_way, claimed.reap_own), (false, Some(Incarnation(3))));
}

#[test]
fn the_first_way_waits_for_nothing_and_keeps_the_parity() {
    for logged_on in [true, false] {
        let mut bench = Bench::new(2);
        left_by(&mut bench, 3, host(1), logged_on);
        let (claimed, end) = claim(&mut bench, host(1));
        assert_eq!(end, at(0.0));
        assert_eq!(claimed.sector.incarnation, Incarnation(5));
        assert_eq!((claimed.first_way, claimed.reap_own), (true, None));
    }
}

/// Somebody who found the slot unreadable, too, may be inside and about to record one more than the highest login known.
#[test]
fn a_slot_that_cannot_be_read_is_claimed_above_what_others_may_be_reaping() {
    let mut bench = Bench::new(2);
    left_by(&mut bench, 3, host(1), true);
    let sector = bench.sector(SlotIndex(0), Incarnation(3).sector());
    bench.tear(sector);
    let reader = Client::new(&mut bench, 1, 1, Rules::ALL);
    let known = {
        let mut reader = reader;
        reader.look(&bench, at(0.0), at(0.0));
        reader.watch.highest_incarnation(SlotIndex(0))
    };
    let (claimed, _) = claim(&mut bench, host(2));
    assert!(claimed.sector.incarnation.0 > known.0 + 1, "{} of {known}", claimed.sector.incarnation);
}

/// The model found it: a slot write returned an error, the daemon was killed, and its successor on this host claimed the same sector at
/// once and drew a ticket. Then the write landed after all, and hid it.
#[test]
fn a_write_of_unknown_result_has_landed_before_the_first_way_claims_its_sector() {
    let mut bench = Bench::new(2);
    let home = host(1);
    left_by(&mut bench, 3, home, true);
    let unsettled = LogonRequest { unsettled: at(10.0), ..request(0, 9, home, Rules::ALL) };
    let claims_at = |request: LogonRequest, now: Duration| {
        let mut client = Client::new(&mut bench.clone(), 1, 1, Rules::ALL);
        let mut logon = Logon::new(request);
        logon.begin();
        let poll = client.look(&bench, now, now);
        logon.polled(&poll, &client.watch, now);
        logon.gates_closed(true);
        let poll = client.look(&bench, now, now);
        logon.polled(&poll, &client.watch, now)
    };
    assert_eq!(claims_at(unsettled, at(11.0)), LogonStep::WaitThenPoll(MARGIN - at(1.0)));
    assert!(matches!(claims_at(unsettled, at(10.0) + MARGIN), LogonStep::WriteSlot { .. }));
    let rules = Rules { first_way_settles: false, ..Rules::ALL };
    assert!(matches!(claims_at(LogonRequest { rules, ..unsettled }, at(11.0)), LogonStep::WriteSlot { .. }));
}

#[test]
fn a_gate_that_does_not_close_sends_it_the_other_way() {
    let mut bench = Bench::new(2);
    let home = host(1);
    left_by(&mut bench, 3, home, true);
    let mut logon = Logon::new(request(0, 9, home, Rules::ALL));
    let mut client = Client::new(&mut bench, 1, 1, Rules::ALL);
    logon.begin();
    let poll = client.look(&bench, at(0.0), at(0.0));
    assert_eq!(logon.polled(&poll, &client.watch, at(0.0)), LogonStep::CloseOldGates(Incarnation(3)));
    assert_eq!(logon.gates_closed(false), LogonStep::Poll);
    let poll = client.look(&bench, at(0.1), at(0.1));
    assert!(matches!(logon.polled(&poll, &client.watch, at(0.1)), LogonStep::WaitThenPoll(_)));
}

#[test]
fn what_the_slot_said_is_carried_on() {
    let mut bench = Bench::new(2);
    let mut old = left_by(&mut bench, 3, host(1), true);
    old.ticket = Ticket(18);
    old.waiting = true;
    old.choosing = true;
    old.page_sequence = 70;
    old.acknowledged = CommitNo { epoch: 18, count: 2 };
    bench.write_slot(SlotIndex(0), &old);
    let (claimed, _) = claim(&mut bench, host(1));
    let new = claimed.sector;
    assert_eq!((new.ticket, new.page_sequence, new.acknowledged), (old.ticket, 70, old.acknowledged));
    assert!(!new.waiting && !new.choosing);
}

#[test]
fn incarnations_go_above_what_header_and_record_name() {
    let mut bench = Bench::new(2);
    left_by(&mut bench, 3, host(1), true);
    bench.header.reaped[0] = Incarnation(8);
    bench.write_header();
    assert!(claim(&mut bench, host(2)).0.sector.incarnation > Incarnation(8));

    let mut bench = Bench::new(2);
    let mut logon = Logon::new(LogonRequest { record: Incarnation(11), ..request(0, 9, host(1), Rules::ALL) });
    let mut client = Client::new(&mut bench, 1, 1, Rules::ALL);
    logon.begin();
    let poll = client.look(&bench, at(0.0), at(0.0));
    let LogonStep::WriteSlot { sector, .. } = logon.polled(&poll, &client.watch, at(0.0)) else { panic!() };
    assert!(sector.incarnation > Incarnation(11));
}

#[test]
fn an_unreadable_own_slot_takes_the_highest_number_there_is() {
    let mut bench = Bench::new(2);
    left_by(&mut bench, 3, host(1), true);
    bench.tear(bench.sector(SlotIndex(0), 0));
    let mut logon = Logon::new(LogonRequest { highest_number: 90, ..request(0, 9, host(1), Rules::ALL) });
    let mut client = Client::new(&mut bench, 1, 1, Rules::ALL);
    logon.begin();
    let mut now = at(0.0);
    let sector = loop {
        let poll = client.look(&bench, now, now);
        match logon.polled(&poll, &client.watch, now) {
            LogonStep::WaitThenPoll(wait) => now += wait,
            LogonStep::WriteSlot { sector, .. } => break sector,
            other => panic!("{other:?}"),
        }
    };
    assert!(now >= DEAD, "unknown in every own read for the death time");
    assert_eq!(sector.ticket, Ticket(90));
}

#[test]
fn a_slot_that_goes_on_beating_belongs_to_another_daemon() {
    let mut bench = Bench::new(2);
    let mut old = left_by(&mut bench, 3, host(1), true);
    let mut claimer = Claimer::new(&bench, 40, host(2), Rules::ALL);
    for second in 0..8 {
        old.beat += 1;
        bench.write_slot(SlotIndex(0), &old);
        claimer.advance(&mut bench, at(f64::from(second)));
        if let LogonStep::Failed(why) = &claimer.step {
            assert_eq!(*why, LogonError::AnotherDaemon(old.daemon_id));
            return;
        }
    }
    panic!("it would wait for ever");
}

#[test]
fn a_claim_reaped_before_its_read_back_is_none() {
    let mut bench = Bench::new(2);
    let mut claimer = Claimer::new(&bench, 40, host(2), Rules::ALL);
    claimer.advance(&mut bench, at(0.0));
    claimer.advance(&mut bench, at(0.1));
    bench.header.reaped[0] = Incarnation(1);
    bench.write_header();
    claimer.run(&mut bench, at(0.1));
    assert_eq!(claimer.step, LogonStep::Failed(LogonError::Reaped));
}

#[test]
fn a_read_back_after_the_lease_is_too_late() {
    let mut bench = Bench::new(2);
    let mut claimer = Claimer::new(&bench, 40, host(2), Rules::ALL);
    claimer.advance(&mut bench, at(0.0));
    claimer.advance(&mut bench, at(0.1));
    let late = at(0.1) + LEASE;
    claimer.advance(&mut bench, late);
    let LogonStep::WriteSlot { not_after, .. } = claimer.step.clone() else { panic!("{:?}", claimer.step) };
    let soon = at(0.1) + DEAD - MARGIN / 2;
    assert_eq!(not_after, soon, "too old to be the first beat: it is written again, before it can count as silent");
    claimer.advance(&mut bench, late);
    claimer.advance(&mut bench, late + LEASE);
    assert_eq!(claimer.step, LogonStep::Failed(LogonError::TooSlow), "and so may the second write be");
}

#[test]
fn the_owner_mends_the_sector_it_does_not_use() {
    let mut bench = Bench::new(2);
    let mut a = Client::new(&mut bench, 0, 4, Rules::ALL);
    let poll = a.look(&bench, at(0.0), at(0.0));
    assert_eq!(mend_unused_sector(&poll.slots[0], &a.sector), None);
    bench.tear(bench.sector(SlotIndex(0), 0));
    let poll = a.look(&bench, at(0.1), at(0.1));
    let mend = mend_unused_sector(&poll.slots[0], &a.sector).unwrap();
    assert_eq!(mend.incarnation, Incarnation(3));
    assert!(!mend.logged_on && !mend.waiting);
    bench.write_slot(SlotIndex(0), &mend);
    let poll = a.look(&bench, at(0.2), at(0.2));
    assert_eq!(poll.own(&a.me), OwnSlot::Ours);
    assert_eq!(foreign_daemon(&poll, &a.me), None);
}
