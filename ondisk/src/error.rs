//! What can be wrong with a block: four verdicts, never two.

use thiserror::Error;

/// The outcome of decoding one block. A reader adds a fifth, "unreadable", when the device gave an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<T> {
    /// No block of ours was ever written here: all zeroes; of a superblock or an envelope, foreign bytes too.
    Absent,
    /// A whole block of the expected kind, table and place.
    Valid(T),
    /// A block of ours that is damaged, torn, or lies in the wrong place.
    Corrupt(Corrupt),
    /// A block of a format version that this program does not know.
    Unsupported(u16),
}

impl<T> Verdict<T> {
    /// The valid block, if it is one.
    pub fn valid(self) -> Option<T> {
        match self {
            Self::Valid(t) => Some(t),
            _ => None,
        }
    }

    /// A reference to the valid block, if it is one.
    pub fn as_valid(&self) -> Option<&T> {
        match self {
            Self::Valid(t) => Some(t),
            _ => None,
        }
    }

    /// Passes a valid block on to `f`, which may still find it corrupt.
    pub fn and_then<U>(self, f: impl FnOnce(T) -> Result<U, Corrupt>) -> Verdict<U> {
        match self {
            Self::Valid(t) => match f(t) {
                Ok(u) => Verdict::Valid(u),
                Err(c) => Verdict::Corrupt(c),
            },
            Self::Absent => Verdict::Absent,
            Self::Corrupt(c) => Verdict::Corrupt(c),
            Self::Unsupported(v) => Verdict::Unsupported(v),
        }
    }

    /// The verdict in words, for reports.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Valid(_) => "valid",
            Self::Corrupt(_) => "corrupt",
            Self::Unsupported(_) => "unsupported",
        }
    }
}

/// Why a block is not to be believed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Corrupt {
    /// The checksum over the whole block does not match: torn, rotten or overwritten.
    #[error("checksum is {found:#010x}, the bytes give {computed:#010x}")]
    Checksum {
        /// The checksum in the block.
        found: u32,
        /// The checksum of its bytes.
        computed: u32,
    },
    /// Foreign bytes where `init` had put a block.
    #[error("it does not begin like a block of volctl")]
    Magic,
    /// A block of another kind lies here.
    #[error("block is of kind {found}, expected {expected}")]
    Kind {
        /// The kind in the block.
        found: u16,
        /// The kind that belongs here.
        expected: u16,
    },
    /// The block belongs to another control volume.
    #[error("block belongs to table {0}")]
    ForeignTable(uuid::Uuid),
    /// The block was written for another place.
    #[error("block says it lies at sector {found}, it was read at {expected}")]
    Place {
        /// The 512-byte sector the block names.
        found: u64,
        /// The 512-byte sector it was read from.
        expected: u64,
    },
    /// The block names a length that is not the one of its kind.
    #[error("block says it is {found} bytes long, expected {expected}")]
    Length {
        /// The length in the block, bytes.
        found: u32,
        /// The length of the region's blocks, bytes.
        expected: u32,
    },
    /// The buffer is too short to hold the block.
    #[error("only {0} bytes where a block should be")]
    Short(usize),
    /// A field holds a value that no version of the program writes.
    #[error("field {0} holds an impossible value")]
    Field(&'static str),
}
