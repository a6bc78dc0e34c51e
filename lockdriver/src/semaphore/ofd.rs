//! Open-file-description byte-range locks on the image (section 5): clients of one kernel, or of a coherent shared
//! file system. The kernel decides who is in; the epoch is drawn inside, as in the bakery, and written to the own
//! slot before the first table write. The guardian holds a duplicate of the descriptor and unlocks through it.

use std::time::Duration;

use super::bakery::no_header;
use super::common::{Common, Look};
use super::{
    LockError, OfdOp, OfdResult, Params, Retest, Semaphore, SlotFields, Step, Tenure, WAITING_POLL, WriteResult,
};
use crate::poll::Poll;
use crate::watch::Watch;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Idle,
    /// The lock operation is under way.
    Locking,
    /// Another holds the lock; it is tried again after a poll.
    Denied,
    /// Inside the lock: the epoch is drawn.
    Drawing,
    /// The epoch is written to the own slot.
    Ticketing,
    /// The epoch's write had an unknown result: it is settled before anything is done.
    Settling,
    Inside(Tenure),
    /// The write that clears the slot is under way.
    Leaving {
        why: Option<LockError>,
        tries: u8,
    },
    /// The unlocking is under way.
    Unlocking(Option<LockError>),
    Over(LockError),
}

/// The byte-range lock of one client.
#[derive(Debug, Clone)]
pub struct Ofd {
    common: Common,
    phase: Phase,
}

impl Ofd {
    /// A lock at rest.
    pub fn new(params: Params) -> Self {
        Self { common: Common::new(params), phase: Phase::Idle }
    }

    fn fail(&mut self, why: LockError) -> Step {
        if why.ends_incarnation() {
            // The lock itself is let go by the guardian, or with the descriptor.
            self.phase = Phase::Over(why.clone());
            return Step::Failed(why);
        }
        match self.phase {
            Phase::Idle | Phase::Locking | Phase::Denied => {
                self.phase = Phase::Idle;
                Step::Failed(why)
            }
            _ => self.leave(Some(why)),
        }
    }

    /// First the slot, then the lock: nobody enters while the slot still says `waiting`.
    fn leave(&mut self, why: Option<LockError>) -> Step {
        self.phase = Phase::Leaving { why, tries: 0 };
        let cleared = self.common.cleared();
        self.common.write(cleared, false)
    }

    fn cleared(&mut self, result: WriteResult) -> Step {
        let Phase::Leaving { why, tries } = &mut self.phase else {
            return Step::Failed(LockError::OutOfTurn("slot_written"));
        };
        if result == WriteResult::Stable {
            self.phase = Phase::Unlocking(why.take());
            return Step::Ofd(OfdOp::Unlock);
        }
        if *tries == 0 {
            *tries = 1;
            let fields = self.common.fields;
            return self.common.write(fields, false);
        }
        self.fail(LockError::UnknownInside)
    }

    fn enter(&mut self, now: Duration) -> Step {
        let tenure =
            Tenure { epoch: self.common.fields.ticket, reap: Vec::new(), begun: now, me: self.common.params.me };
        self.phase = Phase::Inside(tenure.clone());
        Step::Entered(tenure)
    }
}

impl Semaphore for Ofd {
    fn begin(&mut self, _now: Duration) -> Step {
        match &self.phase {
            Phase::Idle => {
                self.phase = Phase::Locking;
                Step::Ofd(OfdOp::TryLock)
            }
            Phase::Over(why) => Step::Failed(why.clone()),
            _ => Step::Failed(LockError::OutOfTurn("begin")),
        }
    }

    fn slot_written(&mut self, result: WriteResult, now: Duration) -> Step {
        if let Some(step) = self.common.rewritten(result, now) {
            return step;
        }
        self.common.written(result, now);
        match (&self.phase, result) {
            (Phase::Leaving { .. }, _) => self.cleared(result),
            (Phase::Ticketing, WriteResult::Stable) => self.enter(now),
            (Phase::Ticketing, WriteResult::Unknown) => {
                self.phase = Phase::Settling;
                Step::Poll
            }
            (Phase::Ticketing, WriteResult::Failed) => self.fail(LockError::NotWritten),
            _ => Step::Failed(LockError::OutOfTurn("slot_written")),
        }
    }

    fn polled(&mut self, poll: &Poll, watch: &Watch, now: Duration) -> Step {
        if self.phase == Phase::Denied {
            self.phase = Phase::Locking;
            return Step::Ofd(OfdOp::TryLock);
        }
        if !matches!(self.phase, Phase::Drawing | Phase::Settling) || self.common.is_rewriting() {
            return Step::Failed(LockError::OutOfTurn("polled"));
        }
        match self.common.look(poll, now, &no_header()) {
            Look::Clear(_) => {}
            Look::Again(step) => return step,
            Look::Leave(why) => return self.fail(why),
        }
        if self.phase == Phase::Settling {
            return self.enter(now);
        }
        match self.common.draw(poll, watch) {
            Ok(Some(ticket)) => {
                self.phase = Phase::Ticketing;
                self.common.write(SlotFields { choosing: false, waiting: true, ticket }, true)
            }
            Ok(None) => Step::WaitThenPoll(WAITING_POLL),
            Err(why) => self.fail(why),
        }
    }

    fn ofd_done(&mut self, result: OfdResult, _now: Duration) -> Step {
        match (&mut self.phase, result) {
            (Phase::Locking, OfdResult::Held) => {
                self.phase = Phase::Drawing;
                Step::Poll
            }
            (Phase::Locking, OfdResult::NotHeld) => {
                self.phase = Phase::Denied;
                Step::WaitThenPoll(WAITING_POLL)
            }
            (Phase::Locking, OfdResult::Failed) => self.fail(LockError::LockRefused),
            (Phase::Unlocking(why), OfdResult::NotHeld) => {
                let why = why.take();
                self.phase = Phase::Idle;
                why.map_or(Step::Left, Step::Failed)
            }
            // A lock that cannot be let go keeps all others out: the descriptor must go, and with it this login.
            (Phase::Unlocking(_), _) => self.fail(LockError::LockLost),
            _ => Step::Failed(LockError::OutOfTurn("ofd_done")),
        }
    }

    fn beat_unknown(&mut self, now: Duration) -> Option<Step> {
        self.common.doubt(now);
        matches!(self.phase, Phase::Inside(_)).then(|| self.fail(LockError::UnknownInside))
    }

    fn before_commit(&self) -> Option<Retest> {
        Some(Retest::Range)
    }

    fn retested(&mut self, result: OfdResult) -> Result<(), LockError> {
        if result == OfdResult::Held {
            return Ok(());
        }
        self.phase = Phase::Over(LockError::LockLost);
        Err(LockError::LockLost)
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
            Phase::Idle => Step::Left,
            Phase::Denied => {
                self.phase = Phase::Idle;
                Step::Left
            }
            Phase::Drawing | Phase::Settling if !self.common.is_rewriting() => self.leave(None),
            Phase::Inside(_) => self.leave(None),
            Phase::Over(why) => Step::Failed(why.clone()),
            _ => Step::Failed(LockError::OutOfTurn("abandon")),
        }
    }

    fn fields(&self) -> SlotFields {
        self.common.fields
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
