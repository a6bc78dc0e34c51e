//! The head that every block shares, and sealing and opening of whole blocks.
//!
//! | offset | size | type | field | meaning |
//! | --- | --- | --- | --- | --- |
//! | 0 | 8 | bytes | magic | `VOLCTL\x1a\n` |
//! | 8 | 2 | u16 | kind | 1 superblock, 2 slot, 3 table header, 4 client page, 5 client record, 6 volume control table, 7 envelope, 8 semaphore word |
//! | 10 | 2 | u16 | version | format version, 1 |
//! | 12 | 4 | u32 | length | bytes of the whole block |
//! | 16 | 16 | uuid | table | UUID of the control volume (of the envelope: of the volume) |
//! | 32 | 8 | u64 | sector | where the block lies, in units of 512 bytes |
//! | 40 | 8 | u64 | stamp major | commit epoch; of slots and pages the incarnation |
//! | 48 | 8 | u64 | stamp minor | commit count; of slots the beat counter, of pages the page sequence |
//! | 56 | 4 | u32 | crc32c | over the whole block with this field zero |
//! | 60 | 4 | u32 | reserved | zero |
//!
//! The head keeps its layout in every format version, so that a newer version is told from damage.

use std::io::Cursor;

use binrw::{BinRead, BinWrite, binrw};
use uuid::Uuid;

use crate::codec::uuid_bytes;
use crate::error::{Corrupt, Verdict};

/// The bytes of the head.
pub const HEAD_BYTES: usize = 64;
/// The format version that this program writes.
pub const VERSION: u16 = 1;
/// The first bytes of every block.
pub const MAGIC: [u8; 8] = *b"VOLCTL\x1a\n";
const CRC_AT: std::ops::Range<usize> = 56..60;

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// The superblock.
    Superblock = 1,
    /// One sector of a client's slot.
    Slot = 2,
    /// A copy of the table header.
    Header = 3,
    /// A copy of a client page.
    ClientPage = 4,
    /// A block of a client record cell.
    ClientRecord = 5,
    /// A block of a volume control table cell.
    VolumeTable = 6,
    /// The header before an enveloped volume.
    Envelope = 7,
    /// The word of the semaphore.
    SemaphoreWord = 8,
}

impl Kind {
    /// The number on disk.
    pub fn number(self) -> u16 {
        match self {
            Self::Superblock => 1,
            Self::Slot => 2,
            Self::Header => 3,
            Self::ClientPage => 4,
            Self::ClientRecord => 5,
            Self::VolumeTable => 6,
            Self::Envelope => 7,
            Self::SemaphoreWord => 8,
        }
    }

    /// The kind of a number on disk.
    pub fn of(number: u16) -> Option<Self> {
        [
            Self::Superblock,
            Self::Slot,
            Self::Header,
            Self::ClientPage,
            Self::ClientRecord,
            Self::VolumeTable,
            Self::Envelope,
            Self::SemaphoreWord,
        ]
        .into_iter()
        .find(|k| k.number() == number)
    }
}

/// Where a block belongs: which table, and at which byte of the control volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// UUID of the control volume.
    pub table: Uuid,
    /// Byte offset, a multiple of 512.
    pub offset: u64,
}

/// The two ordered numbers in each head; what they count depends on the kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Stamp {
    /// Commit epoch, or incarnation.
    pub major: u64,
    /// Commit count, beat counter or page sequence.
    pub minor: u64,
}

impl From<crate::ids::CommitNo> for Stamp {
    fn from(c: crate::ids::CommitNo) -> Self {
        Self { major: c.epoch, minor: c.count }
    }
}

impl From<Stamp> for crate::ids::CommitNo {
    fn from(s: Stamp) -> Self {
        Self { epoch: s.major, count: s.minor }
    }
}

#[binrw]
#[brw(little)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    magic: [u8; 8],
    kind: u16,
    version: u16,
    length: u32,
    #[br(parse_with = uuid_bytes::parse)]
    #[bw(write_with = uuid_bytes::write)]
    table: Uuid,
    sector: u64,
    major: u64,
    minor: u64,
    crc: u32,
    reserved: u32,
}

/// The checksum of what a block says, its place left out: equal for both copies of one version of a cell, and
/// what the table header names the cell by. (Total: of bytes too short for a head it covers what is there.)
pub fn content_crc(block: &[u8]) -> u32 {
    let part = |range: std::ops::Range<usize>| block.get(range).unwrap_or_default();
    let crc = crc32c::crc32c(part(0..32));
    let crc = crc32c::crc32c_append(crc, part(40..CRC_AT.start));
    crc32c::crc32c_append(crc, part(CRC_AT.end..block.len()))
}

/// A block whose head and checksum were found good: its stamp and its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Opened<'a> {
    /// The numbers of the head.
    pub stamp: Stamp,
    /// The whole block.
    pub block: &'a [u8],
    /// UUID of the table the block belongs to.
    pub table: Uuid,
    /// Everything after the head.
    pub body: &'a [u8],
}

fn checksum(block: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&block[..CRC_AT.start]);
    let crc = crc32c::crc32c_append(crc, &[0; 4]);
    crc32c::crc32c_append(crc, &block[CRC_AT.end..])
}

/// Writes head, body and checksum into `block`, whose length is the block's; the rest becomes zero.
/// Returns [`content_crc`]. Does not allocate.
///
/// # Panics
/// When the body does not fit or the place is no multiple of 512: the geometry, checked before, sees to both.
pub fn seal<T>(block: &mut [u8], kind: Kind, place: Place, stamp: Stamp, body: &T) -> u32
where
    T: BinWrite,
    for<'a> T: BinWrite<Args<'a> = ()>,
{
    assert!(place.offset.is_multiple_of(512), "blocks lie on sectors");
    block.fill(0);
    let head = Head {
        magic: MAGIC,
        kind: kind.number(),
        version: VERSION,
        length: u32::try_from(block.len()).expect("a block is far below 4 GiB"),
        table: place.table,
        sector: place.offset / 512,
        major: stamp.major,
        minor: stamp.minor,
        crc: 0,
        reserved: 0,
    };
    let mut cursor = Cursor::new(&mut *block);
    head.write_le(&mut cursor).expect("the head fits every block");
    body.write_le(&mut cursor).expect("the geometry makes room for every record");
    let crc = checksum(block);
    block[CRC_AT].copy_from_slice(&crc.to_le_bytes());
    content_crc(block)
}

/// Looks at a block as read from `offset`. With `table` None any table is taken (a superblock before its UUID is known).
pub fn open(block: &[u8], kind: Kind, table: Option<Uuid>, offset: u64) -> Verdict<Opened<'_>> {
    let Some((head, body)) = block.split_at_checked(HEAD_BYTES) else {
        return Verdict::Corrupt(Corrupt::Short(block.len()));
    };
    if head[..8] != MAGIC {
        // A superblock or an envelope may lie on a device that was never ours; every other block was formatted
        // by `init`, so that there foreign bytes are damage. A block of ours whose first bytes went is damage too.
        let may_be_foreign = matches!(kind, Kind::Superblock | Kind::Envelope) && !looks_ours(head, kind, block.len());
        return if may_be_foreign || block.iter().all(|b| *b == 0) {
            Verdict::Absent
        } else {
            Verdict::Corrupt(Corrupt::Magic)
        };
    }
    let Ok(head) = Head::read_le(&mut Cursor::new(head)) else {
        return Verdict::Corrupt(Corrupt::Field("head"));
    };
    let computed = checksum(block);
    if head.crc != computed {
        return Verdict::Corrupt(Corrupt::Checksum { found: head.crc, computed });
    }
    // Table and place first: a block that was written for elsewhere says nothing about the version used here.
    if table.is_some_and(|t| t != head.table) {
        return Verdict::Corrupt(Corrupt::ForeignTable(head.table));
    }
    if head.sector.checked_mul(512) != Some(offset) {
        return Verdict::Corrupt(Corrupt::Place { found: head.sector, expected: offset / 512 });
    }
    if head.version != VERSION {
        return Verdict::Unsupported(head.version);
    }
    if head.kind != kind.number() {
        return Verdict::Corrupt(Corrupt::Kind { found: head.kind, expected: kind.number() });
    }
    let length = u32::try_from(block.len()).unwrap_or(u32::MAX);
    if head.length != length {
        return Verdict::Corrupt(Corrupt::Length { found: head.length, expected: length });
    }
    if head.reserved != 0 {
        return Verdict::Corrupt(Corrupt::Field("head reserved"));
    }
    Verdict::Valid(Opened { stamp: Stamp { major: head.major, minor: head.minor }, block, table: head.table, body })
}

/// Do the bytes after the magic name this kind and this length, as only a block of ours does?
fn looks_ours(head: &[u8], kind: Kind, length: usize) -> bool {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    head[8..10] == kind.number().to_le_bytes() && head[12..16] == length.to_le_bytes()
}

/// What the head of a block says of itself, unchecked: for `dump` and for finding misplaced blocks.
pub fn peek(block: &[u8]) -> Option<(u16, Stamp, u64)> {
    let head = Head::read_le(&mut Cursor::new(block.get(..HEAD_BYTES)?)).ok()?;
    (head.magic == MAGIC).then_some((head.kind, Stamp { major: head.major, minor: head.minor }, head.sector))
}

/// Decodes the body of an opened block; binrw's own errors end here.
pub(crate) fn body<T, A>(opened: &Opened<'_>, args: A, what: &'static str) -> Result<T, Corrupt>
where
    T: for<'a> BinRead<Args<'a> = A>,
{
    T::read_le_args(&mut Cursor::new(opened.body), args).map_err(|_| Corrupt::Field(what))
}
