//! The queue under the storage's semaphores: the bakery, left for a reason that is told only once it is left.

use std::time::Duration;

use super::{Bakery, LockError, Params, Semaphore, SlotFields, Step, WriteResult};
use crate::poll::Poll;
use crate::watch::Watch;

/// The bakery of one client, of which another lock makes use.
#[derive(Debug, Clone, Hash)]
pub(super) struct Queue {
    bakery: Bakery,
    leaving: bool,
    why: Option<LockError>,
}

impl Queue {
    pub(super) fn new(params: Params) -> Self {
        Self { bakery: Bakery::new(params), leaving: false, why: None }
    }

    /// Leaves it; then `why` is the outcome, or that it was left.
    pub(super) fn leave(&mut self, why: Option<LockError>) -> Step {
        (self.leaving, self.why) = (true, why);
        let step = self.bakery.release();
        self.left(step)
    }

    /// It is being left; a failure now means that it never will be.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving
    }

    fn left(&mut self, step: Step) -> Step {
        let over = matches!(&step, Step::Failed(why) if why.ends_incarnation());
        if !self.leaving || over || !matches!(step, Step::Left | Step::Failed(_)) {
            return step;
        }
        self.leaving = false;
        self.why.take().map_or(step, Step::Failed)
    }

    pub(super) fn begin(&mut self, now: Duration) -> Step {
        self.bakery.begin(now)
    }

    pub(super) fn slot_written(&mut self, result: WriteResult, now: Duration) -> Step {
        let step = self.bakery.slot_written(result, now);
        self.left(step)
    }

    pub(super) fn polled(&mut self, poll: &Poll, watch: &Watch, now: Duration) -> Step {
        self.bakery.polled(poll, watch, now)
    }

    pub(super) fn beat_unknown(&mut self, now: Duration) -> Option<Step> {
        self.bakery.beat_unknown(now)
    }

    pub(super) fn abandon(&mut self) -> Step {
        if self.leaving { Step::Failed(LockError::OutOfTurn("abandon")) } else { self.bakery.abandon() }
    }

    pub(super) fn fields(&self) -> SlotFields {
        self.bakery.fields()
    }
}
