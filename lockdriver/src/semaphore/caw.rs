//! The semaphore with COMPARE AND WRITE: the bakery says who is next, the device's word says who is inside.
//!
//! The queue in the slots gives order, epochs and the judgement of the silent, as in [`super::Bakery`]. The word on top is one act of the
//! device: whatever the slots' timing was worth, no two tenures have it at once. Words never repeat, since epochs do not,
//! so a compare-and-write that lands late finds other bytes and does nothing.

use std::time::Duration;

use ondisk::elect::SlotView;
use ondisk::semaphore_word::Holder;
use ondisk::{Incarnation, SemaphoreWord, SlotIndex};

use super::queue::Queue;
use super::{
    LockError, OfdResult, Params, Retest, Semaphore, SlotFields, Step, Tenure, WAITING_POLL, WordOp, WordResult,
    WriteResult,
};
use crate::poll::{Me, OwnSlot, Poll};
use crate::watch::Watch;

/// A word that is not let go by then ends the login.
const TRIES: u8 = 3;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Phase {
    /// At rest, in the queue, or leaving it.
    Queue,
    /// First in the queue; the word is being read.
    Reading(Tenure),
    /// Another holds the word: is it still alive?
    Judging(Tenure, SemaphoreWord),
    /// An answer was lost: the word is read again after a wait.
    Again(Tenure),
    Taking(Tenure),
    Inside(Tenure),
    /// The word is being let go.
    Freeing {
        tenure: Tenure,
        tries: u8,
    },
    /// The answer was lost, or the word is another: it is read back.
    Checking {
        tenure: Tenure,
        tries: u8,
    },
    Over(LockError),
}

/// The word of one client.
#[derive(Debug, Clone, Hash)]
pub struct Caw {
    me: Me,
    queue: Queue,
    phase: Phase,
}

impl Caw {
    /// At rest.
    pub fn new(params: Params) -> Self {
        Self { me: params.me, queue: Queue::new(params), phase: Phase::Queue }
    }

    fn holder(&self) -> Holder {
        Holder { slot: self.me.slot, incarnation: self.me.incarnation, daemon: self.me.daemon }
    }

    fn held(&self, tenure: &Tenure) -> SemaphoreWord {
        SemaphoreWord { epoch: tenure.epoch, holder: Some(self.holder()) }
    }

    fn free(tenure: &Tenure) -> SemaphoreWord {
        SemaphoreWord { epoch: tenure.epoch, holder: None }
    }

    fn end(&mut self, why: LockError) -> Step {
        self.phase = Phase::Over(why.clone());
        Step::Failed(why)
    }

    /// What the queue wants is done; whoever is first goes on to the word.
    fn queued(&mut self, step: Step) -> Step {
        match step {
            Step::Entered(tenure) => {
                self.phase = Phase::Reading(tenure);
                Step::Word(WordOp::Read)
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

    fn take(&mut self, tenure: Tenure, expected: Option<SemaphoreWord>) -> Step {
        let new = self.held(&tenure);
        self.phase = Phase::Taking(tenure);
        Step::Word(WordOp::Swap { expected, new })
    }

    fn enter(&mut self, tenure: Tenure) -> Step {
        self.phase = Phase::Inside(tenure.clone());
        Step::Entered(tenure)
    }

    fn read(&mut self, tenure: Tenure, result: WordResult) -> Step {
        match result {
            WordResult::Is(word) if word == self.held(&tenure) => self.enter(tenure),
            WordResult::Is(word) => match word.holder {
                Some(holder) if holder.slot != self.me.slot => {
                    self.phase = Phase::Judging(tenure, word);
                    Step::Poll
                }
                // Free, or a word of an earlier login in this very slot: the claim proved that one gone.
                _ => self.take(tenure, Some(word)),
            },
            // Nobody can be inside by a word that nobody can read: whoever is first in the queue mends it.
            WordResult::Damaged => self.take(tenure, None),
            _ => self.leave(Some(LockError::WordUnreachable)),
        }
    }

    /// Is the login that holds the word over? With whom to reap, if it is so by silence.
    #[allow(clippy::option_option, reason = "over, and by silence, are two questions")]
    fn over(poll: &Poll, watch: &Watch, holder: Holder) -> Option<Option<(SlotIndex, Incarnation)>> {
        let reaped = poll.header().is_some_and(|h| h.content.is_reaped(holder.slot, holder.incarnation));
        // A number that no slot has was never written by a client.
        let Some(reading) = poll.slot(holder.slot) else { return Some(None) };
        let left = match &reading.view {
            SlotView::Known(s) if s.incarnation == holder.incarnation => !s.logged_on,
            SlotView::Known(s) => s.incarnation > holder.incarnation,
            SlotView::Unknown(_) => false,
        };
        if reaped || left {
            return Some(None);
        }
        watch.judged(poll, holder.slot).map(|judged| Some((holder.slot, judged)))
    }

    fn judge(&mut self, mut tenure: Tenure, word: SemaphoreWord, poll: &Poll, watch: &Watch) -> Step {
        if let OwnSlot::Foreign(other) = poll.own(&self.me) {
            return self.end(LockError::AnotherDaemon(other));
        }
        if poll.reaped(&self.me) == Some(true) {
            return self.end(LockError::Reaped);
        }
        if poll.header().is_none() {
            return Step::WaitThenPoll(WAITING_POLL);
        }
        match word.holder.map(|holder| Self::over(poll, watch, holder)) {
            None | Some(Some(None)) => self.take(tenure, Some(word)),
            Some(Some(Some(silent))) => {
                if !tenure.reap.contains(&silent) {
                    tenure.reap.push(silent);
                }
                self.take(tenure, Some(word))
            }
            Some(None) => {
                self.phase = Phase::Again(tenure);
                Step::WaitThenPoll(WAITING_POLL)
            }
        }
    }

    fn freed(&mut self, tenure: Tenure, tries: u8, result: WordResult) -> Step {
        match result {
            WordResult::Swapped => self.leave(None),
            WordResult::Is(word) if word == Self::free(&tenure) => self.leave(None),
            WordResult::Is(word) if word == self.held(&tenure) && tries < TRIES => {
                let expected = Some(word);
                let new = Self::free(&tenure);
                self.phase = Phase::Freeing { tenure, tries: tries + 1 };
                Step::Word(WordOp::Swap { expected, new })
            }
            // Somebody took it over: this login was judged silent. Or it cannot be let go: others will judge it so.
            _ => self.end(LockError::LockLost),
        }
    }
}

impl Semaphore for Caw {
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
            Phase::Judging(tenure, word) => {
                let (tenure, word) = (tenure.clone(), *word);
                self.judge(tenure, word, poll, watch)
            }
            Phase::Again(tenure) => {
                self.phase = Phase::Reading(tenure.clone());
                Step::Word(WordOp::Read)
            }
            _ => Step::Failed(LockError::OutOfTurn("polled")),
        }
    }

    fn ofd_done(&mut self, _result: OfdResult, _now: Duration) -> Step {
        Step::Failed(LockError::OutOfTurn("ofd_done"))
    }

    fn word_done(&mut self, result: WordResult, _now: Duration) -> Step {
        match self.phase.clone() {
            Phase::Reading(tenure) => self.read(tenure, result),
            Phase::Taking(tenure) => match result {
                WordResult::Swapped => self.enter(tenure),
                WordResult::Differs => {
                    self.phase = Phase::Reading(tenure);
                    Step::Word(WordOp::Read)
                }
                WordResult::Unknown => {
                    self.phase = Phase::Again(tenure);
                    Step::WaitThenPoll(WAITING_POLL)
                }
                _ => self.leave(Some(LockError::WordUnreachable)),
            },
            Phase::Freeing { tenure, tries } => match result {
                WordResult::Differs | WordResult::Unknown => {
                    self.phase = Phase::Checking { tenure, tries };
                    Step::Word(WordOp::Read)
                }
                other => self.freed(tenure, tries, other),
            },
            Phase::Checking { tenure, tries } => self.freed(tenure, tries, result),
            _ => Step::Failed(LockError::OutOfTurn("word_done")),
        }
    }

    fn beat_unknown(&mut self, now: Duration) -> Option<Step> {
        match self.queue.beat_unknown(now) {
            Some(Step::Failed(why)) => Some(self.end(why)),
            other => other,
        }
    }

    fn before_commit(&self) -> Option<Retest> {
        match &self.phase {
            Phase::Inside(tenure) => Some(Retest::Word(self.held(tenure))),
            _ => None,
        }
    }

    fn retested(&mut self, result: OfdResult) -> Result<(), LockError> {
        if result == OfdResult::Held {
            return Ok(());
        }
        self.end(LockError::LockLost);
        Err(LockError::LockLost)
    }

    fn release(&mut self) -> Step {
        match self.phase.clone() {
            Phase::Inside(tenure) => {
                let (expected, new) = (Some(self.held(&tenure)), Self::free(&tenure));
                self.phase = Phase::Freeing { tenure, tries: 1 };
                Step::Word(WordOp::Swap { expected, new })
            }
            Phase::Over(why) => Step::Failed(why),
            _ => Step::Failed(LockError::OutOfTurn("release")),
        }
    }

    fn abandon(&mut self) -> Step {
        match &self.phase {
            Phase::Queue => self.queue.abandon(),
            Phase::Judging(..) | Phase::Again(_) => self.leave(None),
            Phase::Inside(_) => self.release(),
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
