//! Claims about the byte-range lock's steps.

use super::*;
use crate::rules::Rules;
use crate::semaphore::Params;
use crate::traces::bench::{Bench, Client, at};

struct Rig {
    bench: Bench,
    client: Client,
    ofd: Ofd,
}

fn rig() -> Rig {
    let mut bench = Bench::new(2);
    let client = Client::new(&mut bench, 0, 1, Rules::ALL);
    let params = Params {
        me: client.me,
        slots: 6,
        margin: at(4.0),
        beat: at(1.0),
        ticket: client.sector.ticket,
        rules: Rules::ALL,
    };
    Rig { bench, client, ofd: Ofd::new(params) }
}

impl Rig {
    fn poll(&mut self, now: f64) -> Step {
        let poll = self.client.look(&self.bench, at(now), at(now));
        self.ofd.polled(&poll, &self.client.watch, at(now))
    }

    fn land(&mut self) {
        self.ofd.fields().put(&mut self.client.sector);
        let sector = self.client.sector;
        self.bench.write_slot(self.client.me.slot, &sector);
    }

    fn write(&mut self, now: f64) -> Step {
        self.land();
        self.ofd.slot_written(WriteResult::Stable, at(now))
    }

    fn enter(&mut self) -> Step {
        self.ofd.begin(at(0.0));
        self.ofd.ofd_done(OfdResult::Held, at(0.0));
        self.poll(0.1);
        self.write(0.2)
    }
}

#[test]
fn the_epoch_is_drawn_inside_and_written_before_anything_else() {
    let mut rig = rig();
    assert_eq!(rig.ofd.begin(at(0.0)), Step::Ofd(OfdOp::TryLock));
    assert_eq!(rig.ofd.ofd_done(OfdResult::Held, at(0.0)), Step::Poll);
    let step = rig.poll(0.1);
    assert!(matches!(step, Step::WriteSlot { fields, durable: true } if fields.waiting && fields.ticket.0 == 6));
    assert!(matches!(rig.write(0.2), Step::Entered(t) if t.epoch.0 == 6));
    assert_eq!(rig.ofd.before_commit(), Some(Retest::Range));
    assert!(matches!(rig.ofd.release(), Step::WriteSlot { fields, durable: false } if !fields.waiting));
    assert_eq!(rig.write(0.3), Step::Ofd(OfdOp::Unlock));
    assert_eq!(rig.ofd.ofd_done(OfdResult::NotHeld, at(0.4)), Step::Left);
}

#[test]
fn a_lock_held_elsewhere_is_tried_again() {
    let mut rig = rig();
    rig.ofd.begin(at(0.0));
    assert_eq!(rig.ofd.ofd_done(OfdResult::NotHeld, at(0.0)), Step::WaitThenPoll(WAITING_POLL));
    assert_eq!(rig.poll(0.1), Step::Ofd(OfdOp::TryLock));
    rig.ofd.ofd_done(OfdResult::NotHeld, at(0.1));
    assert_eq!(rig.ofd.abandon(), Step::Left);
}

#[test]
fn a_lock_lost_before_a_commit_ends_the_login() {
    let mut rig = rig();
    assert!(matches!(rig.enter(), Step::Entered(_)));
    assert_eq!(rig.ofd.retested(OfdResult::Held), Ok(()));
    assert_eq!(rig.ofd.retested(OfdResult::NotHeld), Err(LockError::LockLost));
    assert_eq!(rig.ofd.tenure(), None);
    assert_eq!(rig.ofd.release(), Step::Failed(LockError::LockLost));
}

#[test]
fn an_epoch_write_of_unknown_result_is_settled_before_entering() {
    let mut rig = rig();
    rig.ofd.begin(at(0.0));
    rig.ofd.ofd_done(OfdResult::Held, at(0.0));
    rig.poll(0.1);
    assert_eq!(rig.ofd.slot_written(WriteResult::Unknown, at(0.2)), Step::Poll);
    assert!(matches!(rig.poll(0.3), Step::WaitThenPoll(_)));
    assert!(matches!(rig.poll(4.3), Step::WriteSlot { durable: true, .. }));
    assert_eq!(rig.write(4.4), Step::Poll);
    assert!(matches!(rig.poll(4.5), Step::Entered(_)));
}

#[test]
fn an_image_without_such_locks_is_refused() {
    let mut rig = rig();
    rig.ofd.begin(at(0.0));
    assert_eq!(rig.ofd.ofd_done(OfdResult::Failed, at(0.0)), Step::Failed(LockError::LockRefused));
}
