//! What a check finds: which block, what was wrong with it, what was recovered (G6).

use std::fmt;

use ondisk::{CellId, CommitNo, Corrupt, Incarnation, SlotIndex, Verdict, VolumeIndex};
use serde::{Serialize, Serializer};
use thiserror::Error;

/// How much a finding matters; ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is lost and nothing is weaker: an unfinished transaction, a bad block that nobody needs.
    Note,
    /// Everything is known, but one copy fewer than there should be stands behind it.
    Redundancy,
    /// Something on the volume cannot be believed and was not recovered.
    Damage,
    /// Something that was acknowledged is gone; never repaired without a human who accepts the loss.
    Lost,
}

/// A block of the control volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockId {
    /// Copy 0 or 1 of the superblock.
    Superblock(u8),
    /// A slot's sector 0 or 1.
    Slot(SlotIndex, u8),
    /// Copy 0 or 1 of the table header.
    Header(u8),
    /// Copy 0 or 1 of a client page.
    Page(SlotIndex, u8),
    /// A block of a cell: version, copy.
    Cell(CellId, u8, u8),
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Superblock(copy) => write!(f, "superblock copy {copy}"),
            Self::Slot(slot, sector) => write!(f, "slot {slot} sector {sector}"),
            Self::Header(copy) => write!(f, "table header copy {copy}"),
            Self::Page(slot, copy) => write!(f, "page of client {slot} copy {copy}"),
            Self::Cell(CellId::Client(c), version, copy) => {
                write!(f, "client record {c} version {version} copy {copy}")
            }
            Self::Cell(CellId::Volume(v), version, copy) => {
                write!(f, "volume table {v} version {version} copy {copy}")
            }
        }
    }
}

/// What is wrong with a block.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Wrong {
    /// The device gave an error.
    #[error("it cannot be read")]
    Unreadable,
    /// Zeroes or foreign bytes.
    #[error("nothing of a control volume is there")]
    Absent,
    /// A damaged or misplaced block.
    #[error("it is damaged: {0}")]
    Corrupt(#[from] Corrupt),
    /// Written by a newer program.
    #[error("it is of format version {0}, which this program does not know")]
    Unsupported(u16),
    /// A valid block of a cell, but not the one that the header names.
    #[error("it was written by commit {found}, the header names commit {expected}")]
    OtherCommit {
        /// The block's commit.
        found: CommitNo,
        /// The commit that the header names.
        expected: CommitNo,
    },
    /// The right commit number on the wrong content.
    #[error("its content is not the one that the header names for commit {0}")]
    OtherContent(CommitNo),
    /// Two valid blocks of one number that say different things.
    #[error("both copies are numbered {0} and say different things")]
    Twins(CommitNo),
    /// One copy is older than the other.
    #[error("it is of commit {found}, the other copy of {newer}")]
    OlderCopy {
        /// This copy.
        found: CommitNo,
        /// The other copy.
        newer: CommitNo,
    },
    /// A cell's version that is not current carries a newer number than the header.
    #[error("it was written by commit {0}, which never came to its header")]
    NeverCommitted(CommitNo),
    /// The two copies of a version that is not current differ.
    #[error("the two copies of the version that is not current differ")]
    SpareDiffers,
    /// The header is older than what a client acknowledged.
    #[error("the tables are at commit {header}, but commit {mark} was acknowledged: it is lost")]
    BelowMark {
        /// The elected header.
        header: CommitNo,
        /// The highest acknowledged commit in any slot.
        mark: CommitNo,
    },
    /// The superblock copies are valid and differ.
    #[error("the two superblock copies are valid and say different things")]
    SuperblocksDiffer,
    /// The superblock describes no possible control volume.
    #[error("the superblock cannot be used: {0}")]
    Geometry(#[from] ondisk::geometry::GeometryError),
    /// A page's copies are more than one sequence apart, or differ under one number.
    #[error("its sequence is {found}, the other copy's {other}")]
    PageCopies {
        /// This copy.
        found: u64,
        /// The other.
        other: u64,
    },
    /// A page older than its slot says.
    #[error("its sequence is {found}, the slot promises {promised}")]
    PageOlder {
        /// The newest valid page.
        found: u64,
        /// The slot's number.
        promised: u64,
    },
    /// A slot sector holds an incarnation of the other parity.
    #[error("it holds incarnation {0}, which belongs into the other sector")]
    Parity(Incarnation),
    /// The tables contradict themselves.
    #[error(transparent)]
    Rule(#[from] Violation),
}

/// A rule between the fields of the tables that they break.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Violation {
    /// Two clients of one name.
    #[error("clients {0} and {1} have the same name")]
    ClientName(SlotIndex, SlotIndex),
    /// Two clients of one identity.
    #[error("clients {0} and {1} have the same UUID")]
    ClientUuid(SlotIndex, SlotIndex),
    /// Two volumes of one name.
    #[error("volumes {0} and {1} have the same name")]
    VolumeName(VolumeIndex, VolumeIndex),
    /// Two volumes of one identity.
    #[error("volumes {0} and {1} have the same UUID")]
    VolumeUuid(VolumeIndex, VolumeIndex),
    /// The writer is no client.
    #[error("the writer of volume {0} is slot {1}, which is no client")]
    Writer(VolumeIndex, SlotIndex),
    /// The promised next writer is no client.
    #[error("volume {0} is promised to slot {1}, which is no client")]
    Next(VolumeIndex, SlotIndex),
    /// An epoch of the future.
    #[error("volume {0} names epoch {1}, the header is at epoch {2}")]
    Epoch(VolumeIndex, u64, u64),
    /// A cell newer than the header that names it.
    #[error("the header of commit {1} names a cell of commit {0}")]
    CellNumber(CommitNo, CommitNo),
    /// The header's counts are wrong.
    #[error("the header counts {0} clients and {1} volumes, there are {2} and {3}")]
    Counts(u16, u16, u16, u16),
    /// A log-on of an incarnation that the slot never had.
    #[error("client {0} committed a log-on of incarnation {1}, its slot is at {2}")]
    LoggedOn(SlotIndex, Incarnation, Incarnation),
    /// The list of permissions does not fit the geometry.
    #[error("volume {0} has {1} permissions, the geometry asks for {2}")]
    Permissions(VolumeIndex, usize, usize),
    /// A slot or cell that the geometry does not have, or that is named twice in one change.
    #[error("{0} is not on this control volume, or is named twice")]
    NoSuchCell(BlockId),
}

impl Wrong {
    /// A block's content, or what is wrong with it.
    pub(crate) fn of<T>(verdict: Verdict<T>) -> Result<T, Self> {
        match verdict {
            Verdict::Valid(t) => Ok(t),
            Verdict::Absent => Err(Self::Absent),
            Verdict::Corrupt(c) => Err(Self::Corrupt(c)),
            Verdict::Unsupported(v) => Err(Self::Unsupported(v)),
        }
    }
}

/// What stands in for the bad block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recovered {
    /// Nothing does.
    Nothing,
    /// The other copy (or sector), which is good.
    FromCopy(u8),
    /// Nothing needs it: it holds no current version.
    NotNeeded,
    /// A transaction that was not finished; the next holder of the semaphore finishes or undoes it.
    Unfinished,
}

impl fmt::Display for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing was recovered"),
            Self::FromCopy(copy) => write!(f, "recovered from copy {copy}"),
            Self::NotNeeded => f.write_str("not needed: the current version is elsewhere"),
            Self::Unfinished => f.write_str("an unfinished transaction; the next commit tidies it"),
        }
    }
}

fn in_words<T: fmt::Display, S: Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(value)
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// Which block.
    #[serde(serialize_with = "in_words")]
    pub block: BlockId,
    /// Where it lies on the control volume, in bytes.
    pub offset: u64,
    /// What is wrong.
    #[serde(serialize_with = "in_words")]
    pub wrong: Wrong,
    /// What was recovered.
    #[serde(serialize_with = "in_words")]
    pub recovered: Recovered,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}: {}; {}", self.block, self.offset, self.wrong, self.recovered)
    }
}
