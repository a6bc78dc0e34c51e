//! What can happen.

use std::fmt;

/// One event. Clients by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Reads slots and tables.
    Poll(usize),
    /// Reads the pages, and acts.
    PollPages(usize),
    /// The page is on the disk.
    PageWritten(usize),
    /// The slot that points at it, too.
    SlotWritten(usize),
    /// The job comes to its end.
    JobEnds(usize),
    /// Enters the semaphore, looks at everything and decides.
    Look(usize),
    /// The new tables are on the disk.
    Commit(usize),
    /// A person runs the command of this place in the case.
    Run(usize, usize),
    /// Its daemon is told to end.
    Leave(usize),
    /// Every gate is closed: the client logs off.
    LogOff(usize),
    /// Its daemon is killed.
    Kill(usize),
    /// The guardian of a daemon that is gone closes its gates.
    Guardian(usize),
    /// Its lease is over, and its gates are closed.
    Lapse(usize),
    /// A new daemon has claimed the slot.
    Start(usize),
    /// Its log-on transaction.
    LogOn(usize),
    /// Every clock moves on.
    Jump,
}

pub(super) const NAMES: [&str; 3] = ["alice", "bob", "carol"];

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (c, what) = match *self {
            Self::Poll(c) => (c, "reads slots and tables"),
            Self::PollPages(c) => (c, "reads the pages, and acts"),
            Self::PageWritten(c) => (c, "has its page on the disk"),
            Self::SlotWritten(c) => (c, "has the slot on the disk that points at its page"),
            Self::JobEnds(c) => (c, "ends its job"),
            Self::Look(c) => (c, "is in the semaphore, looks again and decides"),
            Self::Commit(c) => (c, "commits"),
            Self::Run(c, place) => return write!(f, "{}'s person runs command {place}", NAMES[c]),
            Self::Leave(c) => (c, "is told to end"),
            Self::LogOff(c) => (c, "logs off"),
            Self::Kill(c) => (c, "is killed; its gates are open"),
            Self::Guardian(c) => (c, "has its gates closed by the guardian"),
            Self::Lapse(c) => (c, "loses its lease and its gates"),
            Self::Start(c) => (c, "is started anew and has its slot"),
            Self::LogOn(c) => (c, "commits its log-on"),
            Self::Jump => return f.write_str("13 s pass"),
        };
        write!(f, "{} {what}", NAMES[c])
    }
}
