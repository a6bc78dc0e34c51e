//! For how long this incarnation may act (section 6). Arithmetic only: the word in shared memory is the arbiter.

use std::time::Duration;

use ondisk::CommitNo;
use thiserror::Error;

use crate::poll::{Me, OwnSlot, Poll};
use crate::rules::Rules;

/// The number of a beat within an incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BeatNo(pub u64);

/// What a poll shows about the right to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmation {
    /// The own slot.
    pub own: OwnSlot,
    /// The own incarnation is reaped in the header.
    pub reaped: bool,
    /// A grant of this incarnation is revoked.
    pub revoked: bool,
    /// There is a valid header, of the commit at which the own volumes' cells were last read.
    pub header_valid: bool,
}

/// What the own volumes' cells said when they were last read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GrantsSeen {
    /// The header's commit number then.
    pub at: CommitNo,
    /// A grant of this incarnation was revoked.
    pub revoked: bool,
}

impl Confirmation {
    /// What `poll` shows; `grants` is what the cells said, and holds only while the header is of the same commit.
    /// None for a login that can have no grant (an administration slot, a log-on that is not committed yet).
    pub fn of(poll: &Poll, me: &Me, grants: Option<GrantsSeen>) -> Self {
        let header = poll.header().map(|h| &h.content);
        let current = header.is_some_and(|h| grants.is_none_or(|g| g.at == h.commit));
        Self {
            own: poll.own(me),
            reaped: header.is_some_and(|h| h.is_reaped(me.slot, me.incarnation)),
            revoked: grants.is_some_and(|g| g.revoked),
            header_valid: current,
        }
    }
}

/// Why an incarnation is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum LeaseEnd {
    /// No beat was completed and confirmed in time.
    #[error("no beat was completed and confirmed within the lease")]
    RanOut,
    /// Others judged this incarnation dead.
    #[error("other clients judged this one dead and reaped it")]
    Reaped,
    /// Another daemon runs under this client's name.
    #[error("another daemon writes this client's slot: two daemons under one name")]
    AnotherDaemon,
    /// This machine stood still, its clock with it (trace C7).
    #[error("this machine stood still: the others beat more often than its clock can explain")]
    StoodStill,
}

/// What a confirmation changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeaseChange {
    /// Nothing.
    None,
    /// The lease now runs until this time (CLOCK_BOOTTIME); to be put into the shared word.
    ExtendTo(Duration),
    /// The incarnation is over, for good.
    Ended(LeaseEnd),
}

/// How far the lease has run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeaseStage {
    /// The claim was not confirmed yet: no right to act.
    NotBegun,
    /// Less than half has run.
    Healthy,
    /// Half has run without a confirmed beat: warn.
    Warn,
    /// Three quarters: stop in order (sync, remount read-only).
    StopOrderly,
    /// Over, for good: gates closed, no further write of any kind.
    Over,
}

/// Completed beats that no read has confirmed yet.
const UNCONFIRMED: usize = 8;

/// The lease of one incarnation. Times are CLOCK_BOOTTIME and must not go backwards.
#[derive(Debug, Clone, Hash)]
pub struct Lease {
    length: Duration,
    rules: Rules,
    until: Option<Duration>,
    over: Option<LeaseEnd>,
    beats: u64,
    under_way: Option<(BeatNo, Duration)>,
    /// Starts of completed, unconfirmed beats, oldest first.
    completed: [Duration; UNCONFIRMED],
    count: usize,
}

impl Lease {
    /// A lease that has not begun.
    pub fn new(length: Duration) -> Self {
        Self {
            length,
            rules: Rules::ALL,
            until: None,
            over: None,
            beats: 0,
            under_way: None,
            completed: [Duration::ZERO; UNCONFIRMED],
            count: 0,
        }
    }

    /// For tests that take a rule out.
    #[doc(hidden)]
    pub fn with_rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// The claim was confirmed: its write, begun at `claim_begun`, counts as the first beat and the read-back as its
    /// confirmation (section 11). `now` is when the read-back was judged.
    pub fn begin(&mut self, claim_begun: Duration, now: Duration) -> LeaseChange {
        if let Some(end) = self.over {
            return LeaseChange::Ended(end);
        }
        if self.until.is_some() {
            return LeaseChange::None;
        }
        self.until = Some(claim_begun + self.length);
        match self.run_out(now) {
            Some(end) => LeaseChange::Ended(end),
            None => LeaseChange::ExtendTo(claim_begun + self.length),
        }
    }

    /// A beat is about to be submitted.
    pub fn beat_begun(&mut self, now: Duration) -> BeatNo {
        self.beats += 1;
        let number = BeatNo(self.beats);
        self.under_way = Some((number, now));
        number
    }

    /// A beat returned; `ok` if it is known to have landed. Extends nothing yet, and nothing ever if the lease is over.
    pub fn beat_completed(&mut self, number: BeatNo, now: Duration, ok: bool) {
        let Some((_, begun)) = self.under_way.take_if(|(n, _)| *n == number) else { return };
        if !ok || self.run_out(now).is_some() {
            return;
        }
        // When full, the newest is replaced: the oldest are those that a slow read can still confirm.
        let at = self.count.min(UNCONFIRMED - 1);
        self.completed[at] = begun;
        self.count = at + 1;
    }

    /// A read begun at `read_begun`, judged at `now`, showed `seen`. Confirms the latest beat begun before that read.
    pub fn confirm(&mut self, read_begun: Duration, seen: Confirmation, now: Duration) -> LeaseChange {
        if let Some(end) = self.run_out(now) {
            return LeaseChange::Ended(end);
        }
        let Some(until) = self.until else { return LeaseChange::None };
        let end = match seen.own {
            OwnSlot::Foreign(_) => Some(LeaseEnd::AnotherDaemon),
            _ if seen.reaped => Some(LeaseEnd::Reaped),
            _ => None,
        };
        if let Some(end) = end {
            self.over = Some(end);
            return LeaseChange::Ended(end);
        }
        if seen.own != OwnSlot::Ours || !seen.header_valid || seen.revoked {
            return LeaseChange::None;
        }
        let confirmed = self.completed[..self.count].iter().filter(|begun| **begun <= read_begun).count();
        let Some(begun) = confirmed.checked_sub(1).map(|last| self.completed[last]) else { return LeaseChange::None };
        self.completed.copy_within(confirmed..self.count, 0);
        self.count -= confirmed;
        if begun + self.length <= until {
            return LeaseChange::None;
        }
        self.until = Some(begun + self.length);
        LeaseChange::ExtendTo(begun + self.length)
    }

    /// Ends the lease now, for a reason found elsewhere.
    pub fn end(&mut self, why: LeaseEnd) {
        self.over.get_or_insert(why);
    }

    /// Until when this incarnation may act; None before it began and when it was ended.
    pub fn until(&self) -> Option<Duration> {
        self.until.filter(|_| self.over.is_none())
    }

    /// How far it has run.
    pub fn stage(&self, now: Duration) -> LeaseStage {
        if self.over.is_some() {
            return LeaseStage::Over;
        }
        let Some(until) = self.until else { return LeaseStage::NotBegun };
        let left = until.saturating_sub(now);
        if left.is_zero() {
            LeaseStage::Over
        } else if left <= self.length / 4 {
            LeaseStage::StopOrderly
        } else if left <= self.length / 2 {
            LeaseStage::Warn
        } else {
            LeaseStage::Healthy
        }
    }

    /// Why it is over, if it is.
    pub fn ended(&self, now: Duration) -> Option<LeaseEnd> {
        self.over.or_else(|| self.until.filter(|until| *until <= now).map(|_| LeaseEnd::RanOut))
    }

    /// Notes for good that the lease was found run out.
    fn run_out(&mut self, now: Duration) -> Option<LeaseEnd> {
        if self.rules.lease_stays_over {
            self.over = self.ended(now);
        }
        self.over
    }
}

#[cfg(test)]
mod tests;
