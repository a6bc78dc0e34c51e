//! Who has been silent for how long, judged by this client's own successful reads only (section 6).

use std::time::Duration;

use ondisk::elect::SlotView;
use ondisk::{Geometry, Incarnation, SlotIndex};

use crate::poll::{Poll, Token};
use crate::rules::Rules;

#[derive(Debug, Clone, Copy, Default, Hash)]
struct Sight {
    /// What the last successful reading of each sector saw.
    tokens: [Option<Token>; 2],
    /// END of the first reading that saw it.
    since: [Duration; 2],
    /// START of the latest poll that read both sectors.
    both_begun: Option<Duration>,
    /// END of the first of an unbroken row of readings that all found the slot unknown.
    unknown_since: Option<Duration>,
    highest: Incarnation,
}

/// Watches all slots over all own polls, those before an acquisition included.
#[derive(Debug, Clone, Hash)]
pub struct Watch {
    dead: Duration,
    rules: Rules,
    sights: Vec<Sight>,
    latest: Option<u64>,
    begun: Duration,
    ended: Duration,
}

impl Watch {
    /// Sees nobody yet. `dead` is the control volume's death time.
    pub fn new(geometry: &Geometry, dead: Duration) -> Self {
        Self {
            dead,
            rules: Rules::ALL,
            sights: vec![Sight::default(); geometry.slot_count()],
            latest: None,
            begun: Duration::ZERO,
            ended: Duration::ZERO,
        }
    }

    /// For tests that take a rule out.
    #[doc(hidden)]
    pub fn with_rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// Takes in a poll. Polls come in the order in which they were read. One in which nothing could be read proves
    /// nothing and is passed over.
    pub fn observe(&mut self, poll: &Poll) {
        if poll.failed() {
            self.latest = None;
            return;
        }
        // Between two readings that both failed for a slot, good ones could have lain: only a dense row of failures
        // counts. Polls are never further apart than a beat, which is below a quarter of `dead`.
        let gap = poll.begun.saturating_sub(self.ended) > self.dead / 4;
        let first_seen = if self.rules.still_from_read_end { poll.ended } else { poll.begun };
        for (sight, reading) in self.sights.iter_mut().zip(&poll.slots) {
            let tokens = [reading.sectors[0].token(), reading.sectors[1].token()];
            for ((token, seen), since) in tokens.iter().zip(&mut sight.tokens).zip(&mut sight.since) {
                if token.is_some() && token != seen {
                    *seen = *token;
                    *since = first_seen;
                }
            }
            if tokens.iter().all(Option::is_some) {
                sight.both_begun = Some(poll.begun);
            }
            if matches!(reading.view, SlotView::Unknown(_)) {
                if gap && self.rules.unknown_in_every_read {
                    sight.unknown_since = None;
                }
                sight.unknown_since.get_or_insert(poll.ended);
            } else if self.rules.unknown_in_every_read {
                sight.unknown_since = None;
            }
            let highest = reading.valid().map(|s| s.incarnation).max().unwrap_or_default();
            sight.highest = sight.highest.max(highest);
        }
        self.latest = Some(poll.number);
        self.begun = poll.begun;
        self.ended = poll.ended;
    }

    /// Is this the poll that was observed last? A judgement is about the bytes of one poll (trace C14).
    pub fn observed(&self, poll: &Poll) -> bool {
        self.latest == Some(poll.number)
    }

    /// For how long own reads have seen the same bytes in both sectors: from the END of the first to the START of
    /// the latest.
    pub fn still_for(&self, slot: SlotIndex) -> Duration {
        let Some(sight) = self.sights.get(slot.index()) else { return Duration::ZERO };
        match (sight.tokens, sight.both_begun) {
            ([Some(_), Some(_)], Some(begun)) => begun.saturating_sub(sight.since[0].max(sight.since[1])),
            _ => Duration::ZERO,
        }
    }

    /// For how long every own read has found the slot unknown; None if it is known.
    pub fn unknown_for(&self, slot: SlotIndex) -> Option<Duration> {
        let since = self.sights.get(slot.index())?.unknown_since?;
        Some(self.begun.saturating_sub(since))
    }

    /// For how long no own read has seen anything new in what of the slot could be read.
    fn nothing_new_for(&self, slot: SlotIndex) -> Duration {
        let Some(sight) = self.sights.get(slot.index()) else { return Duration::ZERO };
        let seen = sight.tokens.iter().zip(sight.since).filter(|(token, _)| token.is_some());
        self.begun.saturating_sub(seen.map(|(_, since)| since).max().unwrap_or_default())
    }

    /// May others pass this client? By the very bytes of the latest poll: still for `dead`, or unknown in every own
    /// read for `dead` with nothing new in the sector that can be read. (With one sector bad a client may still log on by
    /// the other; its lease ends soon after its last write of that, for its own slot must be whole to extend it.)
    pub fn is_silent(&self, slot: SlotIndex) -> bool {
        if self.latest.is_none() {
            return false;
        }
        match self.unknown_for(slot) {
            Some(time) if self.rules.unreadable_must_be_still => time.min(self.nothing_new_for(slot)) >= self.dead,
            Some(time) => time >= self.dead,
            None => self.still_for(slot) >= self.dead,
        }
    }

    /// The incarnation to reap, if the slot's client is silent in this poll, which must be the latest observed: the
    /// one that was judged, or of an unreadable slot 1 + the highest known (trace B4).
    /// The log-on record may know a higher one: the transaction takes the larger of this and 1 + the record's.
    pub fn judged(&self, poll: &Poll, slot: SlotIndex) -> Option<Incarnation> {
        if !self.observed(poll) || !self.is_silent(slot) {
            return None;
        }
        match &poll.slot(slot)?.view {
            SlotView::Known(s) => Some(s.incarnation),
            SlotView::Unknown(_) if !self.rules.reap_unreadable_above => Some(self.highest_incarnation(slot)),
            SlotView::Unknown(_) => {
                let reaped = poll.header().and_then(|h| h.content.reaped.get(slot.index()).copied());
                let known = self.highest_incarnation(slot).max(reaped.unwrap_or_default());
                Some(Incarnation(known.0.saturating_add(1)))
            }
        }
    }

    /// The highest incarnation that any own read ever saw in either sector.
    pub fn highest_incarnation(&self, slot: SlotIndex) -> Incarnation {
        self.sights.get(slot.index()).map_or(Incarnation(0), |s| s.highest)
    }

    /// How long ago, at `now`, an own read first saw what the slot says; None if it was never read.
    pub fn beat_age(&self, slot: SlotIndex, now: Duration) -> Option<Duration> {
        let sight = self.sights.get(slot.index())?;
        let seen = sight.tokens.iter().zip(sight.since).filter(|(t, _)| t.is_some()).map(|(_, since)| since).max()?;
        Some(now.saturating_sub(seen))
    }
}

#[cfg(test)]
mod tests;
