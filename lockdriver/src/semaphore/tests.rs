//! Claims about the kinds.

use ondisk::LockKind;

use super::*;

fn params() -> Params {
    Params {
        me: Me { slot: SlotIndex(0), incarnation: Incarnation(1), daemon: DaemonId([1; 16]) },
        slots: 6,
        margin: Duration::from_secs(4),
        beat: Duration::from_secs(1),
        ticket: Ticket(0),
        rules: Rules::ALL,
    }
}

#[test]
fn kinds_without_code_are_refused_by_name() {
    for kind in [LockKind::Pr, LockKind::Caw] {
        let refused = open(kind, params()).expect_err("not built");
        assert_eq!(refused, LockError::NotBuilt(kind));
        assert!(refused.to_string().contains(kind.word()));
    }
}

#[test]
fn built_kinds_begin() {
    let mut bakery = open(LockKind::Bakery, params()).unwrap();
    assert!(matches!(bakery.begin(Duration::ZERO), Step::WriteSlot { durable: true, .. }));
    let mut ofd = open(LockKind::Ofd, params()).unwrap();
    assert_eq!(ofd.begin(Duration::ZERO), Step::Ofd(OfdOp::TryLock));
}

#[test]
fn a_call_out_of_turn_is_an_error_not_a_panic() {
    for kind in [LockKind::Bakery, LockKind::Ofd] {
        let mut lock = open(kind, params()).unwrap();
        assert!(matches!(lock.release(), Step::Failed(LockError::OutOfTurn(_))));
        assert!(matches!(lock.slot_written(WriteResult::Stable, Duration::ZERO), Step::Failed(_)));
        assert!(matches!(lock.ofd_done(OfdResult::Held, Duration::ZERO), Step::Failed(_)));
        assert_eq!(lock.abandon(), Step::Left);
    }
}
