//! The one short lock that guards the tables, as sans-I/O state machines (section 5): an event goes in, the next
//! I/O or wait comes out. The code that runs on the device is the code that the simulator checks.
//!
//! The driver does what a [`Step`] says and hands the outcome back: [`Step::WriteSlot`] to
//! [`Semaphore::slot_written`], [`Step::Poll`] and [`Step::WaitThenPoll`] to [`Semaphore::polled`] (after
//! [`Watch::observe`]), [`Step::Ofd`] and [`Step::Key`] to [`Semaphore::ofd_done`], [`Step::Word`] to
//! [`Semaphore::word_done`]. Every slot write, beats included, carries
//! [`Semaphore::fields`] from the moment at which a step asked for them.

use std::fmt::Debug;
use std::time::Duration;

use ondisk::elect::SlotView;
use ondisk::{
    DaemonId, Geometry, Incarnation, LockKind, SemaphoreWord, SlotIndex, SlotSector, TableHeader, Ticket, Timings,
};
use thiserror::Error;

use crate::poll::{Me, Poll};
use crate::rules::Rules;
use crate::watch::Watch;

mod bakery;
mod caw;
mod common;
mod ofd;
mod pr;
mod queue;

pub use bakery::Bakery;
pub use caw::Caw;
pub use common::stops_drawing;
pub use ofd::Ofd;
pub use pr::Pr;

/// Between two polls of a client that waits for the semaphore.
pub const WAITING_POLL: Duration = Duration::from_millis(10);

/// The part of the own slot that belongs to the semaphore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SlotFields {
    /// Draws a ticket.
    pub choosing: bool,
    /// Waits with `ticket`, or is inside with it.
    pub waiting: bool,
    /// The last ticket drawn; never lowered.
    pub ticket: Ticket,
}

impl SlotFields {
    /// What a sector says.
    pub fn of(sector: &SlotSector) -> Self {
        Self { choosing: sector.choosing, waiting: sector.waiting, ticket: sector.ticket }
    }

    /// Puts the fields into a sector that is about to be written.
    pub fn put(self, sector: &mut SlotSector) {
        sector.choosing = self.choosing;
        sector.waiting = self.waiting;
        sector.ticket = self.ticket;
    }
}

/// What became of a slot write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WriteResult {
    /// It landed, and for good if it was asked for as durable.
    Stable,
    /// It was never submitted: the disk does not know of it, now or later.
    Failed,
    /// An error or a time-out after it was submitted: it may have landed, or may still land.
    Unknown,
}

/// An operation on the byte-range lock of `ofd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OfdOp {
    /// F_OFD_SETLK, exclusive, without waiting.
    TryLock,
    /// F_OFD_SETLK, unlock.
    Unlock,
    /// Is the lock still ours?
    Retest,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OfdResult {
    /// The lock is held by us.
    Held,
    /// The lock is not ours: another holds it, or we let it go.
    NotHeld,
    /// The operation failed.
    Failed,
}

/// An operation on the semaphore's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WordOp {
    /// Read it.
    Read,
    /// COMPARE AND WRITE; after an error of unknown result it may have been done.
    Swap {
        /// What must be there; None: the very bytes that were read last, whatever they say.
        expected: Option<SemaphoreWord>,
        /// What is to be there.
        new: SemaphoreWord,
    },
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WordResult {
    /// The word that was read.
    Is(SemaphoreWord),
    /// What was read is no word.
    Damaged,
    /// It is exchanged.
    Swapped,
    /// Other bytes were there, and still are.
    Differs,
    /// It may be exchanged, now or later.
    Unknown,
    /// Nothing was done: the device cannot, or may not.
    Failed,
}

/// How to see before a commit that the semaphore is still the own one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retest {
    /// The byte-range lock: [`OfdOp::Retest`].
    Range,
    /// The word must be this one.
    Word(SemaphoreWord),
    /// The own registration must stand.
    Key,
}

/// What the driver is to do next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// Write the own slot with these fields; `durable` writes are FUA.
    WriteSlot {
        /// What to write.
        fields: SlotFields,
        /// Must survive a loss of power at once (trace C2).
        durable: bool,
    },
    /// Read all slots and the header, begun after this step was given.
    Poll,
    /// Wait at least so long, then poll.
    WaitThenPoll(Duration),
    /// Do this to the byte-range lock.
    Ofd(OfdOp),
    /// Do this to the semaphore's word.
    Word(WordOp),
    /// Does the own registration on the control volume stand, and the reservation? Held, NotHeld, or Failed: no answer.
    Key,
    /// The semaphore is ours.
    Entered(Tenure),
    /// Out again; [`Semaphore::begin`] may follow.
    Left,
    /// Out, or never in, for this reason; see [`LockError::ends_incarnation`].
    Failed(LockError),
}

/// The right to write the tables, until it is released or the lease ends.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tenure {
    /// The number of this tenure: never repeated, always growing.
    pub epoch: Ticket,
    /// Silent clients that were passed: the first commit records these incarnations as reaped, before all else.
    pub reap: Vec<(SlotIndex, Incarnation)>,
    /// When it was entered: longer than a lease, and the beating stops (trace B1).
    pub begun: Duration,
    /// Whose it is.
    pub me: Me,
}

impl Tenure {
    /// The first act inside (trace A9): `header` was read after entering. An error means: leave without writing.
    ///
    /// # Errors
    /// [`LockError::Reaped`], and [`LockError::Overtaken`] when a later tenure has committed.
    pub fn admits(&self, header: &TableHeader) -> Result<(), LockError> {
        if header.is_reaped(self.me.slot, self.me.incarnation) {
            return Err(LockError::Reaped);
        }
        if header.commit.epoch > self.epoch.0 {
            return Err(LockError::Overtaken { ours: self.epoch, theirs: Ticket(header.commit.epoch) });
        }
        Ok(())
    }
}

/// Why the semaphore was not entered, or not left in order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum LockError {
    /// No valid header for longer than a beat.
    #[error(
        "both copies of the table header are damaged; nobody may change the tables until `volctl check` has looked at them"
    )]
    HeaderDamaged,
    /// Others judged this incarnation dead.
    #[error("other clients judged this one dead and reaped it; it must log on anew")]
    Reaped,
    /// Two daemons under one name.
    #[error("another daemon ({0}) writes this client's slot: two daemons under one name; stop one of them")]
    AnotherDaemon(DaemonId),
    /// The semaphore's word can neither be read nor exchanged.
    #[error("the device does not answer COMPARE AND WRITE on the semaphore's word")]
    WordUnreachable,
    /// The device does not tell whether the own registration stands.
    #[error("the device does not tell whether this host is still registered")]
    KeyUnknown,
    /// Others threw this host out, or the device forgot its registrations.
    #[error(
        "this host is no longer registered on the control volume: others passed it, or the device forgot; this login ends"
    )]
    KeyGone,
    /// The slot write was refused before it was submitted.
    #[error("the own slot could not be written: the lease is over or the device is gone")]
    NotWritten,
    /// A slot write inside the semaphore has an unknown result: the incarnation ends.
    #[error("a write of the own slot had no known result while the tables were held; this login ends")]
    UnknownInside,
    /// A later tenure has already committed.
    #[error("tenure {theirs} has committed although tenure {ours} was entered; this login ends")]
    Overtaken {
        /// Our epoch.
        ours: Ticket,
        /// The epoch in the header.
        theirs: Ticket,
    },
    /// There are no more ticket numbers.
    #[error("a slot or the header holds a ticket near 2^64: the control volume is damaged; run `volctl check`")]
    TicketsExhausted,
    /// The byte-range lock, or the word, is gone.
    #[error("the lock on the control volume was lost; this login ends")]
    LockLost,
    /// The byte-range lock cannot be had.
    #[error("the control image does not take byte-range locks; make the control volume with --lock bakery")]
    LockRefused,
    /// A call at a moment when it means nothing: a fault of the driver.
    #[error("internal: {0} called out of turn")]
    OutOfTurn(&'static str),
}

impl LockError {
    /// Must the incarnation end (gates closed, no further write), or may the client just try again later?
    pub fn ends_incarnation(&self) -> bool {
        match self {
            Self::Reaped
            | Self::AnotherDaemon(_)
            | Self::UnknownInside
            | Self::Overtaken { .. }
            | Self::LockLost
            | Self::KeyGone
            | Self::OutOfTurn(_) => true,
            Self::HeaderDamaged
            | Self::NotWritten
            | Self::TicketsExhausted
            | Self::LockRefused
            | Self::WordUnreachable
            | Self::KeyUnknown => false,
        }
    }
}

/// What a semaphore is made of.
#[derive(Debug, Clone, Copy, Hash)]
pub struct Params {
    /// Whose semaphore.
    pub me: Me,
    /// All slots, administration slots included.
    pub slots: u16,
    /// dead - lease.
    pub margin: Duration,
    /// For how long a torn header is read again.
    pub beat: Duration,
    /// The ticket that the log-on carried on.
    pub ticket: Ticket,
    /// All on, except in tests.
    #[doc(hidden)]
    pub rules: Rules,
}

impl Params {
    /// For a client that has just logged on with `sector`.
    pub fn new(geometry: &Geometry, timings: &Timings, slot: SlotIndex, sector: &SlotSector) -> Self {
        Self {
            me: Me { slot, incarnation: sector.incarnation, daemon: sector.daemon_id },
            slots: u16::try_from(geometry.slot_count()).expect("at most 1028 slots"),
            margin: timings.margin(),
            beat: timings.beat(),
            ticket: sector.ticket,
            rules: Rules::ALL,
        }
    }
}

/// A semaphore of any kind. Times are CLOCK_BOOTTIME and do not go backwards.
pub trait Semaphore: Debug + Send {
    /// Wants in.
    fn begin(&mut self, now: Duration) -> Step;
    /// The slot write of the last step returned.
    fn slot_written(&mut self, result: WriteResult, now: Duration) -> Step;
    /// A poll was read, begun after the last step; `watch` has observed it.
    fn polled(&mut self, poll: &Poll, watch: &Watch, now: Duration) -> Step;
    /// The lock operation of the last step returned.
    fn ofd_done(&mut self, result: OfdResult, now: Duration) -> Step;
    /// The word's operation of the last step returned.
    fn word_done(&mut self, _result: WordResult, _now: Duration) -> Step {
        Step::Failed(LockError::OutOfTurn("word_done"))
    }
    /// Another write of the own slot (a beat) had an unknown result. Inside the semaphore this ends the incarnation:
    /// then the step says so.
    fn beat_unknown(&mut self, now: Duration) -> Option<Step>;
    /// To be done, and handed to [`Semaphore::retested`], before each commit.
    fn before_commit(&self) -> Option<Retest>;
    /// The outcome of [`Semaphore::before_commit`].
    ///
    /// # Errors
    /// [`LockError::LockLost`]: nothing may be committed, the incarnation ends.
    fn retested(&mut self, result: OfdResult) -> Result<(), LockError>;
    /// Leaves after a tenure; the write that this asks for also carries the acknowledged mark.
    fn release(&mut self) -> Step;
    /// Gives up waiting (a time limit), or leaves: clears `choosing` and `waiting`, then [`Step::Left`].
    /// Not while a write or lock operation of the last step is still under way.
    fn abandon(&mut self) -> Step;
    /// What every write of the own slot must carry.
    fn fields(&self) -> SlotFields;
    /// The tenure, while inside.
    fn tenure(&self) -> Option<&Tenure>;
}

/// A semaphore of the kind that the superblock names.
pub fn open(kind: LockKind, params: Params) -> Box<dyn Semaphore> {
    match kind {
        LockKind::Bakery => Box::new(Bakery::new(params)),
        LockKind::Ofd => Box::new(Ofd::new(params)),
        LockKind::Pr => Box::new(Pr::new(params)),
        LockKind::Caw => Box::new(Caw::new(params)),
    }
}

/// Who holds the semaphore, or is next to: the lowest ticket of those waiting and not reaped. For status only.
pub fn holder(poll: &Poll) -> Option<(SlotIndex, Ticket)> {
    let header = poll.header().map(|h| &h.content);
    let waiting = poll.slots.iter().zip(0..).filter_map(|(reading, slot)| match &reading.view {
        SlotView::Known(s) if s.waiting => Some((s, SlotIndex(slot))),
        _ => None,
    });
    waiting
        .filter(|(s, slot)| !header.is_some_and(|h| h.is_reaped(*slot, s.incarnation)))
        .map(|(s, slot)| (s.ticket, slot))
        .min()
        .map(|(ticket, slot)| (slot, ticket))
}

#[cfg(test)]
mod tests;
