//! Changing the tables: the commit of section 4 as a sans-I/O machine, run by the holder of the semaphore.

mod commit;
mod plan;
pub mod rules;
#[cfg(test)]
mod tests;

use ondisk::{CellId, ClientRecord, CommitNo, Incarnation, SlotIndex, VolumeIndex, VolumeTable};
use thiserror::Error;

use crate::check::{Finding, Violation};
use crate::tables::Tables;

pub use crate::tables::IoResult;
pub use commit::Commit;
pub use rules::Rules;

/// What a commit changes. Reaping changes the header only.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// Incarnations reaped; everything of that slot up to it is over. Never lowers what stands there.
    pub reaped: Vec<(SlotIndex, Incarnation)>,
    /// Client records; None takes the cell out of use.
    pub clients: Vec<(SlotIndex, Option<ClientRecord>)>,
    /// Volume control tables; None takes the cell out of use.
    pub volumes: Vec<(VolumeIndex, Option<VolumeTable>)>,
    /// Cells of which a copy was found bad (see `Loader::findings`): only made whole, not changed.
    pub scrub: Vec<CellId>,
}

impl Change {
    /// Reaps one incarnation.
    pub fn reap(slot: SlotIndex, incarnation: Incarnation) -> Self {
        Self { reaped: vec![(slot, incarnation)], ..Self::default() }
    }

    /// Sets one client record.
    pub fn client(slot: SlotIndex, record: Option<ClientRecord>) -> Self {
        Self { clients: vec![(slot, record)], ..Self::default() }
    }

    /// Sets one volume control table.
    pub fn volume(index: VolumeIndex, table: Option<VolumeTable>) -> Self {
        Self { volumes: vec![(index, table)], ..Self::default() }
    }
}

/// The tenure of the semaphore under which a commit is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tenure {
    /// Its epoch: the ticket.
    pub epoch: u64,
    /// Who holds the semaphore.
    pub slot: SlotIndex,
    /// Which login of it.
    pub incarnation: Incarnation,
    /// The count of the last commit in this tenure, 0 = none yet.
    pub last: u64,
}

impl Tenure {
    /// A tenure with no commit yet.
    pub fn new(epoch: u64, slot: SlotIndex, incarnation: Incarnation) -> Self {
        Self { epoch, slot, incarnation, last: 0 }
    }

    /// The tenure after one of its commits.
    #[must_use]
    pub fn after(self, commit: CommitNo) -> Self {
        Self { last: commit.count, ..self }
    }
}

/// What the machine wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitStep {
    /// Read these bytes.
    Read {
        /// Byte offset on the control volume.
        offset: u64,
        /// Bytes.
        len: usize,
    },
    /// Write these bytes. The lease is to be checked right before, in the beating thread (section 6).
    Write {
        /// Byte offset on the control volume.
        offset: u64,
        /// The whole block.
        bytes: Vec<u8>,
        /// It must be on stable storage when the write returns.
        fua: bool,
    },
    /// Bring everything written so far to stable storage.
    Flush,
    /// Both header copies are stable. It is acknowledged only when the own slot carries `commit` as its mark.
    Committed {
        /// The number of the commit.
        commit: CommitNo,
        /// The tables after it.
        tables: Tables,
    },
    /// The commit did not happen, or nobody knows: see [`CommitError::ends_incarnation`].
    Failed(CommitError),
}

/// Why there was no commit.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CommitError {
    /// A write's result is unknown, and reading it back did not settle it.
    #[error(
        "a write of the tables at byte {offset} has an unknown result; it may still land: this log-on is over, others wait for it to be judged dead"
    )]
    Unknown {
        /// Where, in bytes.
        offset: u64,
    },
    /// The tables are not those that the change was made for: load them again.
    #[error("the tables are at commit {found}, the change was made for {base}; load them again")]
    Moved {
        /// The tables given.
        base: CommitNo,
        /// The tables found.
        found: CommitNo,
    },
    /// The tables cannot be recovered.
    #[error("the tables are damaged ({} findings); run `volctl check`", .0.len())]
    Damaged(Vec<Finding>),
    /// The client that wants to commit was reaped.
    #[error("slot {slot} was reaped up to incarnation {incarnation}; it leaves without writing")]
    Reaped {
        /// Whose.
        slot: SlotIndex,
        /// Up to which login.
        incarnation: Incarnation,
    },
    /// The epoch of the tenure is not newer than the tables: a ticket was repeated.
    #[error("the tables are at commit {found}, a tenure of epoch {epoch} may not write over it")]
    StaleEpoch {
        /// The tenure's.
        epoch: u64,
        /// The header's.
        found: CommitNo,
    },
    /// The change would make tables that contradict themselves.
    #[error("the change is refused: {0}")]
    Refused(Violation),
    /// A feature of a newer program forbids writing.
    #[error("this control volume was made by a newer version that allows this one only to read")]
    ReadOnly,
}

impl CommitError {
    /// True: nothing may be released; the incarnation ends and others wait `dead`. False: nothing was written.
    pub fn ends_incarnation(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }
}
