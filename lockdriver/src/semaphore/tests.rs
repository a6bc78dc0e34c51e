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
fn built_kinds_begin() {
    for kind in [LockKind::Bakery, LockKind::Pr, LockKind::Caw] {
        assert!(matches!(open(kind, params()).begin(Duration::ZERO), Step::WriteSlot { durable: true, .. }));
    }
    let mut ofd = open(LockKind::Ofd, params());
    assert_eq!(ofd.begin(Duration::ZERO), Step::Ofd(OfdOp::TryLock));
}

#[test]
fn a_call_out_of_turn_is_an_error_not_a_panic() {
    for kind in [LockKind::Bakery, LockKind::Ofd, LockKind::Pr, LockKind::Caw] {
        let mut lock = open(kind, params());
        assert!(matches!(lock.release(), Step::Failed(LockError::OutOfTurn(_))));
        assert!(matches!(lock.slot_written(WriteResult::Stable, Duration::ZERO), Step::Failed(_)));
        assert!(matches!(lock.ofd_done(OfdResult::Held, Duration::ZERO), Step::Failed(_)));
        assert!(matches!(lock.word_done(WordResult::Swapped, Duration::ZERO), Step::Failed(_)));
        assert_eq!(lock.before_commit().is_some(), kind == LockKind::Ofd);
        assert_eq!(lock.abandon(), Step::Left);
    }
}
