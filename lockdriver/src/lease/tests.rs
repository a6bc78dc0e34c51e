//! Claims about the lease.

use ondisk::DaemonId;

use super::*;

const LENGTH: Duration = Duration::from_secs(8);

fn s(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn fine() -> Confirmation {
    Confirmation { own: OwnSlot::Ours, reaped: false, revoked: false, header_valid: true }
}

/// A lease that runs until 8 s, with a completed beat that began at 1 s.
fn running() -> Lease {
    let mut lease = Lease::new(LENGTH);
    assert_eq!(lease.begin(s(0.0), s(0.1)), LeaseChange::ExtendTo(s(8.0)));
    let beat = lease.beat_begun(s(1.0));
    lease.beat_completed(beat, s(1.1), true);
    lease
}

#[test]
fn there_is_no_right_to_act_before_the_claim_is_confirmed() {
    let mut lease = Lease::new(LENGTH);
    assert_eq!(lease.stage(s(0.0)), LeaseStage::NotBegun);
    let beat = lease.beat_begun(s(0.0));
    lease.beat_completed(beat, s(0.1), true);
    assert_eq!(lease.confirm(s(0.2), fine(), s(0.3)), LeaseChange::None);
    assert_eq!(lease.until(), None);
}

#[test]
fn a_claim_confirmed_after_its_lease_begins_nothing() {
    let mut lease = Lease::new(LENGTH);
    assert_eq!(lease.begin(s(0.0), s(8.0)), LeaseChange::Ended(LeaseEnd::RanOut));
    assert_eq!(lease.begin(s(8.0), s(8.1)), LeaseChange::Ended(LeaseEnd::RanOut));
}

#[test]
fn a_beat_extends_from_its_start_once_a_later_read_confirms_it() {
    let mut lease = running();
    assert_eq!(lease.confirm(s(0.9), fine(), s(1.2)), LeaseChange::None, "read begun before the beat");
    assert_eq!(lease.confirm(s(1.0), fine(), s(1.2)), LeaseChange::ExtendTo(s(9.0)));
    assert_eq!(lease.confirm(s(1.5), fine(), s(1.6)), LeaseChange::None, "one beat extends once");
    assert_eq!(lease.until(), Some(s(9.0)));
}

#[test]
fn late_beat_and_late_confirmation_extend_nothing() {
    let mut lease = running();
    assert_eq!(lease.confirm(s(7.9), fine(), s(8.0)), LeaseChange::Ended(LeaseEnd::RanOut));
    let mut lease = Lease::new(LENGTH);
    lease.begin(s(0.0), s(0.1));
    let beat = lease.beat_begun(s(7.9));
    lease.beat_completed(beat, s(12.5), true);
    assert_eq!(lease.confirm(s(12.6), fine(), s(12.7)), LeaseChange::Ended(LeaseEnd::RanOut));
    assert_eq!(lease.ended(s(12.7)), Some(LeaseEnd::RanOut));
}

#[test]
fn a_failed_or_unknown_beat_extends_nothing() {
    let mut lease = Lease::new(LENGTH);
    lease.begin(s(0.0), s(0.1));
    let beat = lease.beat_begun(s(1.0));
    lease.beat_completed(beat, s(1.1), false);
    assert_eq!(lease.confirm(s(2.0), fine(), s(2.1)), LeaseChange::None);
}

#[test]
fn what_confirms_nothing_leaves_the_beat_for_a_later_read() {
    let nothing = [
        Confirmation { own: OwnSlot::Unknown, ..fine() },
        Confirmation { revoked: true, ..fine() },
        Confirmation { header_valid: false, ..fine() },
    ];
    for seen in nothing {
        let mut lease = running();
        assert_eq!(lease.confirm(s(2.0), seen, s(2.1)), LeaseChange::None, "{seen:?}");
        assert_eq!(lease.confirm(s(3.0), fine(), s(3.1)), LeaseChange::ExtendTo(s(9.0)));
    }
}

#[test]
fn a_reaping_or_another_daemon_ends_it_for_good() {
    let ends = [
        (Confirmation { reaped: true, ..fine() }, LeaseEnd::Reaped),
        (Confirmation { own: OwnSlot::Foreign(DaemonId([1; 16])), ..fine() }, LeaseEnd::AnotherDaemon),
    ];
    for (seen, why) in ends {
        let mut lease = running();
        assert_eq!(lease.confirm(s(2.0), seen, s(2.1)), LeaseChange::Ended(why));
        assert_eq!(lease.confirm(s(3.0), fine(), s(3.1)), LeaseChange::Ended(why));
        assert_eq!(lease.stage(s(3.0)), LeaseStage::Over);
        assert_eq!(lease.until(), None);
    }
}

#[test]
fn slow_reads_still_confirm_beats_that_come_faster() {
    let mut lease = Lease::new(LENGTH);
    lease.begin(s(0.0), s(0.0));
    for tenth in 1..30 {
        let now = s(f64::from(tenth) / 10.0);
        let beat = lease.beat_begun(now);
        lease.beat_completed(beat, now, true);
    }
    assert!(matches!(lease.confirm(s(0.75), fine(), s(3.0)), LeaseChange::ExtendTo(_)));
    assert!(matches!(lease.confirm(s(2.95), fine(), s(4.0)), LeaseChange::ExtendTo(t) if t > s(10.0)));
}

#[test]
fn it_warns_at_half_and_stops_in_order_at_three_quarters() {
    let lease = running();
    let stages = [
        (3.9, LeaseStage::Healthy),
        (4.0, LeaseStage::Warn),
        (6.0, LeaseStage::StopOrderly),
        (8.0, LeaseStage::Over),
        (80.0, LeaseStage::Over),
    ];
    for (now, stage) in stages {
        assert_eq!(lease.stage(s(now)), stage, "at {now}");
    }
}
