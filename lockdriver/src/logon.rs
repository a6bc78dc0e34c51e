//! Log-on is claimed, not assumed (section 6): the state machine that makes a slot this daemon's.
//!
//! *First way*: the slot names the very lock file that this daemon holds, so the old daemon is gone with its I/O;
//! its gates are closed, and the slot is written without waiting. *Second way*: both sectors still for `dead` (no
//! wait if it was left cleanly), write, wait longer than `margin` and an eighth, read back.
//!
//! Which sector, and which number. Two daemons of one name may look at one slot at the same moment, one going the
//! first way and acting at once, one the second. So the first keeps the parity of the incarnation that counts (it
//! overwrites only the sector of a daemon proven gone, trace n3), and the second takes the other sector and a lower
//! number than the first would: whatever the order, the first one's sector counts and the second finds it.

use std::time::Duration;

use ondisk::elect::SlotView;
use ondisk::{CommitNo, DaemonId, Incarnation, LockFile, SlotIndex, SlotSector, Ticket};
use thiserror::Error;

use crate::poll::{Me, OwnSlot, Poll, SlotReading, Token};
use crate::rules::Rules;
use crate::semaphore::WriteResult;
use crate::watch::Watch;

/// Claims that may be decided anew because the write came too late after the read.
const STALE_MAX: u8 = 8;

/// The host and the lock file that this daemon holds on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Host {
    /// /etc/machine-id.
    pub machine_id: [u8; 16],
    /// The kernel's boot id.
    pub boot_id: [u8; 16],
    /// Device and inode of the lock file, which lies in /run and is held.
    pub lock_file: LockFile,
}

/// Who wants to log on, and what is known besides the slots.
#[derive(Debug, Clone, Copy, Hash)]
pub struct LogonRequest {
    /// The slot.
    pub slot: SlotIndex,
    /// A fresh random id.
    pub daemon_id: DaemonId,
    /// This host.
    pub host: Host,
    /// The client record's highest logged-on incarnation; 0 for an administration slot.
    pub record: Incarnation,
    /// The highest number (ticket, epoch) in any cell: counts if the own slot cannot be read.
    pub highest_number: u64,
    /// When the last write of the slot was begun on this host whose result nobody knows; zero: there is none.
    pub unsettled: Duration,
    /// The own page's sequence: goes on over log-ons.
    pub page_sequence: u64,
    /// A window is connected.
    pub gui: bool,
    /// The lease.
    pub lease: Duration,
    /// The death time.
    pub dead: Duration,
    /// For how long a torn header is read again.
    pub beat: Duration,
    /// Between two polls.
    pub poll: Duration,
    /// All on, except in tests.
    #[doc(hidden)]
    pub rules: Rules,
}

impl LogonRequest {
    fn margin(&self) -> Duration {
        self.dead.saturating_sub(self.lease)
    }
}

/// How long after the read that it rests on a claim may still be submitted.
fn fresh(margin: Duration) -> Duration {
    margin / 8
}

/// How long a claim of a slot that another host left waits before it is read back: by then every other claim has landed that
/// rests on a read from before it. One is submitted within an eighth of `margin` of its read, and lands within `margin` of
/// that (assumption A3).
pub fn claim_wait(margin: Duration) -> Duration {
    margin + fresh(margin)
}

/// What the driver is to do next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LogonStep {
    /// Read all slots and the header, hand them to [`Logon::polled`] after [`Watch::observe`].
    Poll,
    /// Wait so long, then poll.
    WaitThenPoll(Duration),
    /// End the old guardian, then find and close every gate that incarnations up to this one left in this kernel;
    /// hand to [`Logon::gates_closed`] whether every closing call has returned well.
    CloseOldGates(Incarnation),
    /// Write the own slot, FUA. Not to be submitted after `not_after` (CLOCK_BOOTTIME): then it is
    /// [`WriteResult::Failed`], for a claim that lands late would hide the one who came between (trace A6).
    WriteSlot {
        /// What to write.
        sector: SlotSector,
        /// The last moment to submit it.
        not_after: Duration,
    },
    /// Logged on.
    Claimed(Claimed),
    /// Not logged on.
    Failed(LogonError),
}

/// A claim that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Claimed {
    /// The sector as it stands on the disk; every later write of the slot starts from it.
    pub sector: SlotSector,
    /// Came the first way: older grants end in the log-on transaction, their gates are closed and drained.
    pub first_way: bool,
    /// Came the second way: the log-on transaction reaps the own incarnations up to this one, and waits `inflight`
    /// like everybody else.
    pub reap_own: Option<Incarnation>,
    /// The claim's write counts as the first beat: for [`crate::lease::Lease::begin`].
    pub write_begun: Duration,
}

/// Why a log-on failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum LogonError {
    /// Someone else logged on to the slot, or lives in it.
    #[error("another daemon ({0}) uses this client's name; stop it, or give this one another name")]
    AnotherDaemon(DaemonId),
    /// The claim took too long.
    #[error("the storage was too slow to claim the slot safely; trying again may help")]
    TooSlow,
    /// The write was refused or its result is unknown.
    #[error("the slot could not be written; look at the control volume's device")]
    NotWritten,
    /// No valid header for longer than a beat.
    #[error("both copies of the table header are damaged; run `volctl check`")]
    HeaderDamaged,
    /// The claim was reaped before it was confirmed.
    #[error("the claim was judged dead before it was confirmed; log on again")]
    Reaped,
    /// There are no more numbers.
    #[error("incarnation numbers are used up: the slot is damaged; run `volctl check`")]
    Exhausted,
    /// There is no such slot.
    #[error("slot {0} does not exist on this control volume")]
    NoSuchSlot(SlotIndex),
    /// A call at a moment when it means nothing: a fault of the driver.
    #[error("internal: {0} called out of turn")]
    OutOfTurn(&'static str),
}

#[derive(Debug, Clone, Hash)]
enum Phase {
    Begin,
    /// Looks, and waits until the slot is still.
    Looking,
    /// The driver closes gates.
    Closing,
    /// The claim is being written.
    Writing(Claim),
    /// The claim is to be read back.
    Confirming(Claim),
    Done,
}

#[derive(Debug, Clone, Copy, Hash)]
struct Claim {
    sector: SlotSector,
    first_way: bool,
    read_begun: Duration,
    write_begun: Duration,
    /// When the claim's first write began: others may count its stillness from then on.
    claim_begun: Duration,
    written: Duration,
    /// What the other sector was before the claim.
    other: Option<Token>,
    /// The slot could not be read before the claim, and was reaped up to there.
    unread: Option<Incarnation>,
    /// The claim stood; this is its second write, from which the lease runs.
    renewed: bool,
}

/// One log-on.
#[derive(Debug, Clone, Hash)]
pub struct Logon {
    request: LogonRequest,
    phase: Phase,
    /// None: not asked yet.
    gates: Option<bool>,
    torn_since: Option<Duration>,
    last_tokens: Option<[Option<Token>; 2]>,
    changes: u8,
    /// Claims that were not submitted, since the read before them was too old.
    stale: u8,
}

/// Does the slot name the very lock file that this host holds? Then whoever wrote it is gone, with its I/O.
pub fn names_lock_of(reading: &SlotReading, host: &Host) -> bool {
    reading
        .view
        .known()
        .is_some_and(|s| s.machine_id == host.machine_id && s.boot_id == host.boot_id && s.lock_file == host.lock_file)
}

/// Another daemon's id in the own slot: to be looked at in every poll of a daemon that is logged on (section 6).
pub fn foreign_daemon(poll: &Poll, me: &Me) -> Option<DaemonId> {
    match poll.own(me) {
        OwnSlot::Foreign(other) => Some(other),
        OwnSlot::Ours | OwnSlot::Unknown => None,
    }
}

/// The owner rewrites a bad sector of its own at once: the one not in use, as a record of the incarnation before.
/// None while that sector is good. (A bad sector in use is mended by the next beat.)
pub fn mend_unused_sector(reading: &SlotReading, own: &SlotSector) -> Option<SlotSector> {
    let unused = 1 - own.incarnation.sector();
    if reading.sectors[unused].valid().is_some() {
        return None;
    }
    let incarnation = Incarnation(own.incarnation.0.checked_sub(1)?);
    Some(SlotSector {
        incarnation,
        page_sequence: own.page_sequence,
        ticket: own.ticket,
        acknowledged: own.acknowledged,
        ..SlotSector::default()
    })
}

impl Logon {
    /// A log-on that has not begun.
    pub fn new(request: LogonRequest) -> Self {
        Self { request, phase: Phase::Begin, gates: None, torn_since: None, last_tokens: None, changes: 0, stale: 0 }
    }

    /// The first step.
    pub fn begin(&mut self) -> LogonStep {
        self.phase = Phase::Looking;
        LogonStep::Poll
    }

    fn fail(&mut self, why: LogonError) -> LogonStep {
        self.phase = Phase::Done;
        LogonStep::Failed(why)
    }

    /// A poll was read; `watch` has observed it.
    pub fn polled(&mut self, poll: &Poll, watch: &Watch, now: Duration) -> LogonStep {
        let Some(reading) = poll.slot(self.request.slot) else {
            return self.fail(LogonError::NoSuchSlot(self.request.slot));
        };
        if poll.header().is_none() {
            let since = *self.torn_since.get_or_insert(now);
            if now.saturating_sub(since) > self.request.beat {
                return self.fail(LogonError::HeaderDamaged);
            }
            return LogonStep::WaitThenPoll(self.request.poll.min(self.request.beat / 4));
        }
        self.torn_since = None;
        match self.phase {
            Phase::Looking => self.look(poll, reading, watch, now),
            Phase::Confirming(claim) => self.read_back(poll, reading, claim, now),
            _ => self.fail(LogonError::OutOfTurn("polled")),
        }
    }

    /// The old gates were closed, every call returned (`all`), or at least one does not close: then the other way.
    pub fn gates_closed(&mut self, all: bool) -> LogonStep {
        if !matches!(self.phase, Phase::Closing) {
            return self.fail(LogonError::OutOfTurn("gates_closed"));
        }
        self.gates = Some(all);
        self.phase = Phase::Looking;
        LogonStep::Poll
    }

    /// The claim's write, begun at `begun`, returned at `now`.
    pub fn slot_written(&mut self, result: WriteResult, begun: Duration, now: Duration) -> LogonStep {
        let Phase::Writing(mut claim) = self.phase else {
            return self.fail(LogonError::OutOfTurn("slot_written"));
        };
        if result == WriteResult::Failed && !claim.renewed && self.stale < STALE_MAX {
            // The disk knows nothing of it: it is decided anew, by a new read.
            self.stale += 1;
            self.phase = Phase::Looking;
            return LogonStep::Poll;
        }
        if result != WriteResult::Stable {
            return self.fail(LogonError::NotWritten);
        }
        if self.request.rules.claim_gives_up && now.saturating_sub(claim.read_begun) > self.request.margin() {
            return self.fail(LogonError::TooSlow);
        }
        if claim.renewed && now.saturating_sub(claim.claim_begun) >= self.request.dead {
            // Somebody may have judged the claim silent before this write landed.
            return self.fail(LogonError::TooSlow);
        }
        if !claim.renewed {
            claim.claim_begun = begun;
        }
        claim.write_begun = begun;
        claim.written = now;
        self.phase = Phase::Confirming(claim);
        if claim.first_way || claim.renewed || !self.request.rules.claim_waits_margin {
            LogonStep::Poll
        } else {
            LogonStep::WaitThenPoll(claim_wait(self.request.margin()) + Duration::from_millis(1))
        }
    }

    fn look(&mut self, poll: &Poll, reading: &SlotReading, watch: &Watch, now: Duration) -> LogonStep {
        let ours = names_lock_of(reading, &self.request.host);
        if ours && self.gates.is_none() {
            self.phase = Phase::Closing;
            let legible = reading.valid().map(|s| s.incarnation).max().unwrap_or_default();
            return LogonStep::CloseOldGates(legible);
        }
        let first_way = ours && self.gates == Some(true);
        // A write of unknown result may still land within `margin` (assumption A3), in the very sector that is claimed now.
        let settled = self.request.unsettled + self.request.margin();
        let doubtful = !self.request.unsettled.is_zero() && now < settled;
        if first_way && doubtful && self.request.rules.first_way_settles {
            return LogonStep::WaitThenPoll(settled.saturating_sub(now).min(self.request.margin()));
        }
        let clean = reading.view.known().is_some_and(|s| !s.logged_on);
        if !first_way && !clean && !watch.is_silent(self.request.slot) {
            return self.wait_for_stillness(reading, watch);
        }
        let Some(sector) = self.claim_sector(poll, reading, watch, first_way) else {
            return self.fail(LogonError::Exhausted);
        };
        let other = reading.sectors[1 - sector.incarnation.sector()].token();
        let zero = Duration::ZERO;
        let claim = Claim {
            sector,
            first_way,
            read_begun: poll.begun,
            write_begun: zero,
            claim_begun: zero,
            written: zero,
            other,
            unread: reading.view.known().is_none().then(|| self.reaped(poll)),
            renewed: false,
        };
        self.phase = Phase::Writing(claim);
        LogonStep::WriteSlot { sector, not_after: poll.begun + fresh(self.request.margin()) }
    }

    /// A slot that goes on changing belongs to a daemon that lives.
    fn wait_for_stillness(&mut self, reading: &SlotReading, watch: &Watch) -> LogonStep {
        let tokens = [reading.sectors[0].token(), reading.sectors[1].token()];
        let changed = self
            .last_tokens
            .is_some_and(|last| last.iter().zip(&tokens).any(|(was, is)| was.is_some() && is.is_some() && was != is));
        self.last_tokens = Some(tokens);
        if changed {
            self.changes += 1;
        }
        if let (3.., SlotView::Known(s)) = (self.changes, &reading.view) {
            let other = s.daemon_id;
            return self.fail(LogonError::AnotherDaemon(other));
        }
        let still = watch.unknown_for(self.request.slot).unwrap_or_else(|| watch.still_for(self.request.slot));
        let left = self.request.dead.saturating_sub(still);
        LogonStep::WaitThenPoll(left.min(self.request.poll))
    }

    /// The sector that claims the slot.
    fn claim_sector(&self, poll: &Poll, reading: &SlotReading, watch: &Watch, first_way: bool) -> Option<SlotSector> {
        let request = &self.request;
        let incarnation = self.claim_incarnation(poll, reading, watch, first_way)?;
        let carried = |f: fn(&SlotSector) -> u64| reading.valid().map(f).max().unwrap_or(0);
        let known = reading.view.known().is_some();
        let ticket = match (request.rules.keep_tickets, known) {
            (false, _) => 0,
            (true, true) => carried(|s| s.ticket.0),
            (true, false) => poll.max_ticket_and_epoch().max(request.highest_number),
        };
        let acknowledged = reading.valid().map(|s| s.acknowledged).max().unwrap_or(CommitNo::default());
        Some(SlotSector {
            incarnation,
            beat: 1,
            page_sequence: carried(|s| s.page_sequence).max(request.page_sequence),
            ticket: Ticket(ticket),
            choosing: false,
            waiting: false,
            logged_on: true,
            gui: request.gui,
            acknowledged,
            daemon_id: request.daemon_id,
            machine_id: request.host.machine_id,
            boot_id: request.host.boot_id,
            lock_file: request.host.lock_file,
        })
    }

    /// Up to where the header says that the slot was reaped.
    fn reaped(&self, poll: &Poll) -> Incarnation {
        poll.header().and_then(|h| h.content.reaped.get(self.request.slot.index()).copied()).unwrap_or_default()
    }

    /// Above everything that slot, header or record ever named; see the module's head for the parity. Whoever cannot read
    /// the slot, either, and reaps it, records one more than what it knows; and may have read it before the claim landed.
    fn claim_incarnation(
        &self,
        poll: &Poll,
        reading: &SlotReading,
        watch: &Watch,
        first_way: bool,
    ) -> Option<Incarnation> {
        let rules = self.request.rules;
        let seen = reading.valid().map(|s| s.incarnation).max().unwrap_or_default();
        let newest = seen.max(watch.highest_incarnation(self.request.slot)).max(self.request.record);
        let unread = u64::from(rules.claim_above_reapers && reading.view.known().is_none());
        let next = newest.max(self.reaped(poll)).0.checked_add(1 + unread)?;
        let after_clean = reading.view.known().is_some_and(|s| !s.logged_on && s.incarnation.0 > 0);
        // The number that a claim the second way takes: the other sector than the one that counts.
        let second = if next % 2 == newest.0 % 2 { next.checked_add(1)? } else { next };
        let other_sector = !after_clean || rules.second_way_other_sector;
        let number = match (first_way, rules.first_way_same_sector) {
            (true, true) => second.checked_add(1)?,
            (true, false) => next,
            (false, _) if other_sector => second,
            (false, _) => second.checked_add(1)?,
        };
        Some(Incarnation(number))
    }

    fn renew(&mut self, poll: &Poll, claim: Claim) -> LogonStep {
        let sector = SlotSector { beat: claim.sector.beat + 1, ..claim.sector };
        self.phase = Phase::Writing(Claim { sector, read_begun: poll.begun, renewed: true, ..claim });
        // It must have landed before anybody can judge the claim silent, as a beat in time would have.
        let landed_by = claim.claim_begun + self.request.dead;
        let not_after = (poll.begun + self.request.margin()).min(landed_by.saturating_sub(self.request.margin() / 2));
        LogonStep::WriteSlot { sector, not_after }
    }

    fn read_back(&mut self, poll: &Poll, reading: &SlotReading, claim: Claim, now: Duration) -> LogonStep {
        let at_once = claim.first_way || claim.renewed;
        let after = if at_once || !self.request.rules.claim_waits_margin {
            claim.written
        } else {
            claim.written + claim_wait(self.request.margin())
        };
        if poll.begun < after || (!at_once && poll.begun == after) {
            return LogonStep::WaitThenPoll(after.saturating_sub(poll.begun) + Duration::from_millis(1));
        }
        let own = claim.sector.incarnation.sector();
        let mine = reading.sectors[own].valid().is_some_and(|s| s.daemon_id == claim.sector.daemon_id);
        let stands = match &reading.view {
            SlotView::Known(s) => s.daemon_id == claim.sector.daemon_id,
            // The other sector was bad before the claim and is still: whoever came between would have written it.
            SlotView::Unknown(_) => mine && reading.sectors[1 - own].token() == claim.other,
        };
        if !stands {
            return match reading.view {
                SlotView::Known(s) => self.fail(LogonError::AnotherDaemon(s.daemon_id)),
                SlotView::Unknown(_) if now.saturating_sub(claim.write_begun) >= self.request.lease => {
                    self.fail(LogonError::TooSlow)
                }
                SlotView::Unknown(_) => LogonStep::WaitThenPoll(self.request.poll.min(self.request.beat / 4)),
            };
        }
        let me = Me { slot: self.request.slot, incarnation: claim.sector.incarnation, daemon: claim.sector.daemon_id };
        if poll.reaped(&me) != Some(false) {
            return self.fail(LogonError::Reaped);
        }
        // Somebody reaped the slot before the claim landed, and so may the next one have read it that would reap the claim.
        let moved = claim.unread.is_some_and(|before| before != self.reaped(poll));
        if moved && !claim.renewed && self.request.rules.claim_above_reapers {
            return self.fail(LogonError::Reaped);
        }
        // `margin` may be as long as the lease: then the claim, waited out, is too old to be the first beat, and a second
        // write is, which is read back in its turn.
        if !claim.renewed && now.saturating_sub(claim.write_begun) >= self.request.lease / 2 {
            return self.renew(poll, claim);
        }
        if now.saturating_sub(claim.write_begun) >= self.request.lease {
            return self.fail(LogonError::TooSlow);
        }
        self.phase = Phase::Done;
        let before = Incarnation(claim.sector.incarnation.0 - 1);
        let older = before > self.reaped(poll);
        LogonStep::Claimed(Claimed {
            sector: claim.sector,
            first_way: claim.first_way,
            reap_own: (older && !claim.first_way).then_some(before),
            write_begun: claim.write_begun,
        })
    }
}

#[cfg(test)]
mod tests;
