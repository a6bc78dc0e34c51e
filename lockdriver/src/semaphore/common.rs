//! What all kinds of semaphore share: the own slot's fields, doubt after a write of unknown result, the look at a
//! poll, and the drawing of tickets (section 5).

use std::time::Duration;

use ondisk::elect::SlotView;
use ondisk::{SlotIndex, TableHeader, Ticket};

use super::{LockError, Params, SlotFields, Step, WAITING_POLL, WriteResult};
use crate::poll::{OwnSlot, Poll};
use crate::watch::Watch;

/// A slot write had an unknown result: it may still land over what is written later (trace A5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Doubt {
    /// By then it has landed or never will.
    until: Duration,
    /// The slot was written again after that.
    rewritten: bool,
}

/// State shared by the kinds.
#[derive(Debug, Clone, Hash)]
pub(super) struct Common {
    pub(super) params: Params,
    pub(super) fields: SlotFields,
    /// A poll counts only if it was begun after the last slot write had returned.
    written_at: Duration,
    torn_since: Option<Duration>,
    doubt: Option<Doubt>,
    /// The write under way is the one that ends this doubt.
    rewriting: Option<Doubt>,
}

/// What a poll allows.
pub(super) enum Look<'a> {
    /// It may be acted on.
    Clear(&'a TableHeader),
    /// Not yet.
    Again(Step),
    /// Never; with a last write that clears the flags if the error says so.
    Leave(LockError),
}

impl Common {
    pub(super) fn new(params: Params) -> Self {
        Self {
            fields: SlotFields { ticket: params.ticket, ..SlotFields::default() },
            params,
            written_at: Duration::ZERO,
            torn_since: None,
            doubt: None,
            rewriting: None,
        }
    }

    /// Asks for a write of the own slot.
    pub(super) fn write(&mut self, fields: SlotFields, durable: bool) -> Step {
        self.fields = fields;
        Step::WriteSlot { fields, durable }
    }

    /// Notes when a write returned, and doubt if its result is unknown.
    pub(super) fn written(&mut self, result: WriteResult, now: Duration) {
        self.written_at = now;
        if result == WriteResult::Unknown {
            self.doubt(now);
        }
    }

    /// From now on the slot is in doubt.
    pub(super) fn doubt(&mut self, now: Duration) {
        if self.params.rules.doubt_unknown_writes {
            self.doubt = Some(Doubt { until: now + self.params.margin, rewritten: false });
        }
    }

    /// The write that was to end a doubt returned; None if the last write was another one.
    pub(super) fn rewritten(&mut self, result: WriteResult, now: Duration) -> Option<Step> {
        let ended = self.rewriting.take()?;
        self.written(result, now);
        Some(match (result, &mut self.doubt) {
            // Not a doubt that came up meanwhile: what that one is about may land after this write.
            (WriteResult::Stable, Some(doubt)) if *doubt == ended => {
                doubt.rewritten = true;
                Step::Poll
            }
            _ => Step::WaitThenPoll(WAITING_POLL),
        })
    }

    pub(super) fn is_rewriting(&self) -> bool {
        self.rewriting.is_some()
    }

    /// What must hold of every poll before it is acted on.
    pub(super) fn look<'a>(&mut self, poll: &'a Poll, now: Duration, none: &'a TableHeader) -> Look<'a> {
        if poll.begun < self.written_at {
            return Look::Again(Step::Poll);
        }
        match poll.own(&self.params.me) {
            OwnSlot::Foreign(other) => return Look::Leave(LockError::AnotherDaemon(other)),
            OwnSlot::Unknown => return Look::Again(Step::WaitThenPoll(WAITING_POLL)),
            OwnSlot::Ours => {}
        }
        if let Some(step) = self.settle_doubt(poll, now) {
            return Look::Again(step);
        }
        let header = match poll.header() {
            Some(elected) => &elected.content,
            None if !self.params.rules.draw_needs_header => none,
            None => {
                let since = *self.torn_since.get_or_insert(now);
                let torn = now.saturating_sub(since) <= self.params.beat;
                return if torn {
                    Look::Again(Step::WaitThenPoll(WAITING_POLL))
                } else {
                    self.torn_since = None;
                    Look::Leave(LockError::HeaderDamaged)
                };
            }
        };
        self.torn_since = None;
        if self.params.rules.entry_check && header.is_reaped(self.params.me.slot, self.params.me.incarnation) {
            return Look::Leave(LockError::Reaped);
        }
        Look::Clear(header)
    }

    /// While in doubt: wait out `margin`, write again, read back. None once the slot is as it should be.
    fn settle_doubt(&mut self, poll: &Poll, now: Duration) -> Option<Step> {
        if !self.params.rules.doubt_unknown_writes {
            return None;
        }
        let own = poll.slot(self.params.me.slot).and_then(|s| s.view.known());
        let as_written = own.is_some_and(|s| SlotFields::of(s) == self.fields);
        match self.doubt {
            None if as_written => None,
            None => {
                // An earlier write came late, or a cache lost one: whatever it was may not be the last of its kind.
                self.doubt(now);
                Some(Step::WaitThenPoll(self.params.margin))
            }
            Some(doubt) if doubt.rewritten && as_written => {
                self.doubt = None;
                None
            }
            Some(doubt) if doubt.rewritten => {
                self.doubt(now);
                Some(Step::WaitThenPoll(self.params.margin))
            }
            Some(doubt) if now < doubt.until => Some(Step::WaitThenPoll(doubt.until - now)),
            Some(doubt) => {
                self.rewriting = Some(doubt);
                Some(self.write(self.fields, true))
            }
        }
    }

    /// Step 2: the smallest number above every ticket and the epoch, congruent to the own slot; None while a slot
    /// that cannot be read stops the drawing (trace n1).
    pub(super) fn draw(&self, poll: &Poll, watch: &Watch) -> Result<Option<Ticket>, LockError> {
        let rules = self.params.rules;
        let me = self.params.me.slot;
        if rules.unknown_stops_draw && stops_drawing(poll, watch, me) {
            return Ok(None);
        }
        let own = if rules.keep_tickets { self.fields.ticket.0 } else { 0 };
        let above = poll.max_ticket_and_epoch().max(own);
        let first = above.checked_add(1).ok_or(LockError::TicketsExhausted)?;
        if !rules.own_residue {
            return Ok(Some(Ticket(first)));
        }
        let (slots, own) = (u64::from(self.params.slots), u64::from(me.0));
        let up = (own + slots - first % slots) % slots;
        first.checked_add(up).map(|t| Some(Ticket(t))).ok_or(LockError::TicketsExhausted)
    }

    /// The fields of a client that wants nothing.
    pub(super) fn cleared(&self) -> SlotFields {
        let ticket = if self.params.rules.keep_tickets { self.fields.ticket } else { Ticket(0) };
        SlotFields { choosing: false, waiting: false, ticket }
    }
}

/// Does a slot that cannot be read, and whose client was not silent for the death time yet, keep `me` from drawing a ticket (trace
/// n1)? Everybody waits for whoever has announced that it draws, so this is best waited for before.
pub fn stops_drawing(poll: &Poll, watch: &Watch, me: SlotIndex) -> bool {
    poll.slots.iter().zip((0..).map(SlotIndex)).any(|(reading, slot)| {
        slot != me && matches!(reading.view, SlotView::Unknown(_)) && watch.judged(poll, slot).is_none()
    })
}
