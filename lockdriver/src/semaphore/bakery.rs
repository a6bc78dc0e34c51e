//! Lamport's bakery on the single-writer slot sectors (section 5): reads and writes only, first come first served.
//!
//! 1. write `choosing`; 2. read all, draw a ticket; 3. write ticket and `waiting`; 4. read all until nobody who
//!    counts is choosing or waiting with a smaller ticket.
//!
//! Uncontended: two writes and two reads in, one write out.

use std::time::Duration;

use ondisk::elect::SlotView;
use ondisk::{Incarnation, SlotIndex, SlotSector, TableHeader, Ticket};

use super::common::{Common, Look};
use super::{LockError, OfdResult, Params, Retest, Semaphore, SlotFields, Step, Tenure, WAITING_POLL, WriteResult};
use crate::poll::Poll;
use crate::watch::Watch;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    /// Step 1 under way.
    Choosing,
    /// Step 2.
    Drawing,
    /// Step 3 under way.
    Ticketing,
    /// Step 4.
    Waiting,
    Inside(Tenure),
    /// The write that clears the flags is under way.
    Leaving {
        why: Option<LockError>,
        inside: bool,
        tries: u8,
    },
    /// The incarnation is over.
    Over(LockError),
}

/// What the slots say about entering.
enum Queue {
    Blocked,
    Mine(Vec<(SlotIndex, Incarnation)>),
}

/// The bakery of one client.
#[derive(Debug, Clone, Hash)]
pub struct Bakery {
    common: Common,
    phase: Phase,
    /// Only for the test that takes out "judged by the bytes of this poll".
    remembered: Vec<Option<Incarnation>>,
}

impl Bakery {
    /// A bakery at rest.
    pub fn new(params: Params) -> Self {
        Self { common: Common::new(params), phase: Phase::Idle, remembered: Vec::new() }
    }

    /// Tells phases apart, for the search over all interleavings.
    #[cfg(test)]
    pub(crate) fn phase_number(&self) -> u64 {
        match self.phase {
            Phase::Idle => 0,
            Phase::Choosing => 1,
            Phase::Drawing => 2,
            Phase::Ticketing => 3,
            Phase::Waiting => 4,
            Phase::Inside(_) => 5,
            Phase::Leaving { .. } => 6,
            Phase::Over(_) => 7,
        }
    }

    fn fail(&mut self, why: LockError) -> Step {
        if why.ends_incarnation() {
            self.phase = Phase::Over(why.clone());
            Step::Failed(why)
        } else {
            self.leave(Some(why), false)
        }
    }

    fn leave(&mut self, why: Option<LockError>, inside: bool) -> Step {
        self.phase = Phase::Leaving { why, inside, tries: 0 };
        let cleared = self.common.cleared();
        self.common.write(cleared, false)
    }

    fn left(&mut self, why: Option<LockError>) -> Step {
        self.phase = Phase::Idle;
        why.map_or(Step::Left, Step::Failed)
    }

    /// The clearing write returned. A release is tried twice: its sector carries the acknowledged mark, and a later
    /// landing of the first try is the doubt that the next acquisition settles.
    fn cleared(&mut self, result: WriteResult) -> Step {
        let Phase::Leaving { why, inside, tries } = &mut self.phase else {
            return Step::Failed(LockError::OutOfTurn("slot_written"));
        };
        if result == WriteResult::Stable || (!*inside && result == WriteResult::Unknown) {
            let why = why.take();
            return self.left(why);
        }
        if *inside && *tries == 0 {
            *tries = 1;
            let fields = self.common.fields;
            return self.common.write(fields, false);
        }
        if *inside {
            return self.fail(LockError::UnknownInside);
        }
        let why = why.take().or(Some(LockError::NotWritten));
        self.left(why)
    }

    fn draw(&mut self, poll: &Poll, watch: &Watch) -> Step {
        if !self.common.params.rules.judge_this_poll {
            let slots = (0..self.common.params.slots).map(SlotIndex);
            self.remembered = slots.map(|slot| watch.judged(poll, slot)).collect();
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

    /// Step 4: everyone who counts and comes first is waited for, or passed if silent by the bytes of this poll.
    fn queue(&self, poll: &Poll, watch: &Watch, header: &TableHeader) -> Queue {
        let me = self.common.params.me.slot;
        let rules = self.common.params.rules;
        let mut reap = Vec::new();
        for (reading, slot) in poll.slots.iter().zip((0..).map(SlotIndex)) {
            let blocks = match &reading.view {
                _ if slot == me => false,
                SlotView::Known(s) => self.comes_first(s, slot, header),
                SlotView::Unknown(_) if rules.unknown_stops_entry => true,
                SlotView::Unknown(s) => s.as_ref().is_some_and(|s| self.comes_first(s, slot, header)),
            };
            if !blocks {
                continue;
            }
            let silent = if rules.judge_this_poll {
                watch.judged(poll, slot)
            } else {
                self.remembered.get(slot.index()).copied().flatten()
            };
            match silent {
                Some(incarnation) => reap.push((slot, incarnation)),
                None => return Queue::Blocked,
            }
        }
        Queue::Mine(reap)
    }

    fn comes_first(&self, other: &SlotSector, slot: SlotIndex, header: &TableHeader) -> bool {
        if header.is_reaped(slot, other.incarnation) {
            return false;
        }
        let mine = (self.common.fields.ticket, self.common.params.me.slot);
        (other.choosing && self.common.params.rules.wait_for_choosing) || (other.waiting && (other.ticket, slot) < mine)
    }

    fn enter(&mut self, reap: Vec<(SlotIndex, Incarnation)>, now: Duration) -> Step {
        let epoch: Ticket = self.common.fields.ticket;
        let tenure = Tenure { epoch, reap, begun: now, me: self.common.params.me };
        self.phase = Phase::Inside(tenure.clone());
        Step::Entered(tenure)
    }
}

impl Semaphore for Bakery {
    fn begin(&mut self, _now: Duration) -> Step {
        match &self.phase {
            Phase::Idle => {
                self.phase = Phase::Choosing;
                let fields = SlotFields { choosing: true, ..self.common.fields };
                self.common.write(fields, true)
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
        let next = match self.phase {
            Phase::Choosing => Phase::Drawing,
            Phase::Ticketing => Phase::Waiting,
            Phase::Leaving { .. } => return self.cleared(result),
            _ => return Step::Failed(LockError::OutOfTurn("slot_written")),
        };
        if result == WriteResult::Failed {
            return self.fail(LockError::NotWritten);
        }
        // Also after an unknown result: the next poll finds the doubt and settles it before anything else.
        self.phase = next;
        Step::Poll
    }

    fn polled(&mut self, poll: &Poll, watch: &Watch, now: Duration) -> Step {
        if !matches!(self.phase, Phase::Drawing | Phase::Waiting) || self.common.is_rewriting() {
            return Step::Failed(LockError::OutOfTurn("polled"));
        }
        let none = no_header();
        let header = match self.common.look(poll, now, &none) {
            Look::Clear(header) => header,
            Look::Again(step) => return step,
            Look::Leave(why) => return self.fail(why),
        };
        if self.phase == Phase::Drawing {
            return self.draw(poll, watch);
        }
        match self.queue(poll, watch, header) {
            Queue::Blocked => Step::WaitThenPoll(WAITING_POLL),
            Queue::Mine(reap) => self.enter(reap, now),
        }
    }

    fn ofd_done(&mut self, _result: OfdResult, _now: Duration) -> Step {
        Step::Failed(LockError::OutOfTurn("ofd_done"))
    }

    fn beat_unknown(&mut self, now: Duration) -> Option<Step> {
        self.common.doubt(now);
        let inside = matches!(self.phase, Phase::Inside(_)) && self.common.params.rules.doubt_unknown_writes;
        inside.then(|| self.fail(LockError::UnknownInside))
    }

    fn before_commit(&self) -> Option<Retest> {
        None
    }

    fn retested(&mut self, _result: OfdResult) -> Result<(), LockError> {
        Ok(())
    }

    fn release(&mut self) -> Step {
        match &self.phase {
            Phase::Inside(_) => self.leave(None, true),
            Phase::Over(why) => Step::Failed(why.clone()),
            _ => Step::Failed(LockError::OutOfTurn("release")),
        }
    }

    fn abandon(&mut self) -> Step {
        match &self.phase {
            Phase::Inside(_) => self.leave(None, true),
            Phase::Drawing | Phase::Waiting if !self.common.is_rewriting() => self.leave(None, false),
            Phase::Idle => Step::Left,
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

/// What stands for a missing header when the rule that asks for one is taken out.
pub(super) fn no_header() -> TableHeader {
    TableHeader {
        commit: ondisk::CommitNo::default(),
        opened: 0,
        clients: 0,
        volumes: 0,
        reaped: Vec::new(),
        cells: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
