//! Claims about the registered client's steps.

use super::*;
use crate::rules::Rules;
use crate::traces::bench::{BEAT, Bench, Client, MARGIN, at};

struct Rig {
    bench: Bench,
    client: Client,
    pr: Pr,
    step: Step,
}

fn rig() -> Rig {
    let mut bench = Bench::new(2);
    let client = Client::new(&mut bench, 0, 1, Rules::ALL);
    let (margin, beat, ticket) = (MARGIN, BEAT, client.sector.ticket);
    let pr = Pr::new(Params { me: client.me, slots: 6, margin, beat, ticket, rules: Rules::ALL });
    Rig { bench, client, pr, step: Step::Left }
}

impl Rig {
    /// Goes on until the device is asked for the key, or it is out.
    fn run(&mut self, now: Duration) -> Step {
        loop {
            self.step = match self.step {
                Step::WriteSlot { .. } => {
                    self.client.sector.beat += 1;
                    self.pr.fields().put(&mut self.client.sector);
                    self.bench.write_slot(self.client.me.slot, &self.client.sector);
                    self.pr.slot_written(WriteResult::Stable, now)
                }
                Step::Poll | Step::WaitThenPoll(_) => {
                    let poll = self.client.look(&self.bench, now, now);
                    self.pr.polled(&poll, &self.client.watch, now)
                }
                ref other => return other.clone(),
            };
        }
    }

    fn asked(&mut self) {
        self.step = self.pr.begin(at(0.0));
        assert_eq!(self.run(at(0.0)), Step::Key);
        assert!(self.pr.tenure().is_none(), "not before the answer");
    }
}

#[test]
fn nobody_is_inside_before_its_registration_was_seen_and_it_is_asked_for_again_before_each_commit() {
    let mut rig = rig();
    rig.asked();
    assert!(matches!(rig.pr.ofd_done(OfdResult::Held, at(0.1)), Step::Entered(_)));
    assert_eq!(rig.pr.before_commit(), Some(Retest::Key));
    assert_eq!(rig.pr.retested(OfdResult::Held), Ok(()));
    rig.step = rig.pr.release();
    assert_eq!(rig.run(at(0.2)), Step::Left);
}

#[test]
fn a_host_that_was_thrown_out_ends_its_login() {
    let mut rig = rig();
    rig.asked();
    assert_eq!(rig.pr.ofd_done(OfdResult::NotHeld, at(0.1)), Step::Failed(LockError::KeyGone));
    assert!(LockError::KeyGone.ends_incarnation());
    assert_eq!(rig.pr.begin(at(1.0)), Step::Failed(LockError::KeyGone));

    let mut rig = self::rig();
    rig.asked();
    rig.pr.ofd_done(OfdResult::Held, at(0.1));
    assert_eq!(rig.pr.retested(OfdResult::NotHeld), Err(LockError::KeyGone));
    assert_eq!(rig.pr.release(), Step::Failed(LockError::KeyGone));
}

#[test]
fn a_device_that_gives_no_answer_ends_nothing() {
    let mut rig = rig();
    rig.asked();
    rig.step = rig.pr.ofd_done(OfdResult::Failed, at(0.1));
    assert_eq!(rig.run(at(0.2)), Step::Failed(LockError::KeyUnknown));
    assert!(!rig.pr.fields().waiting && !LockError::KeyUnknown.ends_incarnation());
    rig.asked();
}
