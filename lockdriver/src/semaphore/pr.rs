//! The semaphore on a control volume that only registered hosts may write: the bakery says who is next, and the storage refuses
//! whoever was passed.
//!
//! The reservation is *write exclusive, all registrants*: every host that logs on registers a key, and the reservation lasts as
//! long as one is registered. Before anybody's reaping is committed its key is preempted and its commands are aborted
//! ([`crate::reservation::Commands::preempt`]; the driver does it), so what a stopped host still sends changes nothing. The
//! reservation itself is no lock: it belongs to a host and not to a process, and it has no order (`docs/decisions.md`).

use std::time::Duration;

use super::queue::Queue;
use super::{LockError, OfdResult, Params, Retest, Semaphore, SlotFields, Step, Tenure, WriteResult};
use crate::poll::Poll;
use crate::watch::Watch;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Phase {
    /// At rest, in the queue, or leaving it.
    Queue,
    /// First in the queue: is this host still registered?
    Asking(Tenure),
    Inside(Tenure),
    Over(LockError),
}

/// The queue of one client on a reserved control volume.
#[derive(Debug, Clone, Hash)]
pub struct Pr {
    queue: Queue,
    phase: Phase,
}

impl Pr {
    /// At rest.
    pub fn new(params: Params) -> Self {
        Self { queue: Queue::new(params), phase: Phase::Queue }
    }

    fn end(&mut self, why: LockError) -> Step {
        self.phase = Phase::Over(why.clone());
        Step::Failed(why)
    }

    fn queued(&mut self, step: Step) -> Step {
        match step {
            Step::Entered(tenure) => {
                self.phase = Phase::Asking(tenure);
                Step::Key
            }
            Step::Failed(why) if self.queue.is_leaving() => self.end(why),
            other => other,
        }
    }

    fn leave(&mut self, why: Option<LockError>) -> Step {
        self.phase = Phase::Queue;
        let step = self.queue.leave(why);
        self.queued(step)
    }
}

impl Semaphore for Pr {
    fn begin(&mut self, now: Duration) -> Step {
        match &self.phase {
            Phase::Queue => {
                let step = self.queue.begin(now);
                self.queued(step)
            }
            Phase::Over(why) => Step::Failed(why.clone()),
            _ => Step::Failed(LockError::OutOfTurn("begin")),
        }
    }

    fn slot_written(&mut self, result: WriteResult, now: Duration) -> Step {
        match &self.phase {
            Phase::Queue => {
                let step = self.queue.slot_written(result, now);
                self.queued(step)
            }
            _ => Step::Failed(LockError::OutOfTurn("slot_written")),
        }
    }

    fn polled(&mut self, poll: &Poll, watch: &Watch, now: Duration) -> Step {
        match &self.phase {
            Phase::Queue => {
                let step = self.queue.polled(poll, watch, now);
                self.queued(step)
            }
            _ => Step::Failed(LockError::OutOfTurn("polled")),
        }
    }

    fn ofd_done(&mut self, result: OfdResult, _now: Duration) -> Step {
        match (self.phase.clone(), result) {
            (Phase::Asking(tenure), OfdResult::Held) => {
                self.phase = Phase::Inside(tenure.clone());
                Step::Entered(tenure)
            }
            (Phase::Asking(_), OfdResult::NotHeld) => self.end(LockError::KeyGone),
            (Phase::Asking(_), OfdResult::Failed) => self.leave(Some(LockError::KeyUnknown)),
            _ => Step::Failed(LockError::OutOfTurn("ofd_done")),
        }
    }

    fn beat_unknown(&mut self, now: Duration) -> Option<Step> {
        match self.queue.beat_unknown(now) {
            Some(Step::Failed(why)) => Some(self.end(why)),
            other => other,
        }
    }

    fn before_commit(&self) -> Option<Retest> {
        matches!(self.phase, Phase::Inside(_)).then_some(Retest::Key)
    }

    fn retested(&mut self, result: OfdResult) -> Result<(), LockError> {
        match result {
            OfdResult::Held => Ok(()),
            OfdResult::NotHeld => {
                self.end(LockError::KeyGone);
                Err(LockError::KeyGone)
            }
            OfdResult::Failed => Err(LockError::KeyUnknown),
        }
    }

    fn release(&mut self) -> Step {
        match &self.phase {
            Phase::Inside(_) => self.leave(None),
            Phase::Over(why) => Step::Failed(why.clone()),
            _ => Step::Failed(LockError::OutOfTurn("release")),
        }
    }

    fn abandon(&mut self) -> Step {
        match &self.phase {
            Phase::Queue => self.queue.abandon(),
            Phase::Inside(_) => self.leave(None),
            Phase::Over(why) => Step::Failed(why.clone()),
            _ => Step::Failed(LockError::OutOfTurn("abandon")),
        }
    }

    fn fields(&self) -> SlotFields {
        self.queue.fields()
    }

    fn tenure(&self) -> Option<&Tenure> {
        match &self.phase {
            Phase::Inside(tenure) => Some(tenure),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
