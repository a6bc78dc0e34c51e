//! The envelope: a 1 MiB header before the file system of an enveloped volume (section 8; FIG. 14, 1454).
//!
//! Two copies, at byte 0 and at byte 4096 of the device; the rest up to 1 MiB is zero. The head's table is the volume's UUID.
//!
//! | offset | size | type | field | meaning |
//! | --- | --- | --- | --- | --- |
//! | 0 | 64 | head | head | kind 7; stamp 0.0; table = UUID of the volume |
//! | 64 | 64 | text | name | of the volume |
//! | 128 | 8 | i64 | created | seconds since 1970 |
//! | 136 | 1 | flag | software_lock | always 1: only volume control passes it (1658) |
//! | 137 | 1 | u8 | fs | 1 ext4, 2 XFS, 3 btrfs |
//! | 138 | 2 | u16 | region_count | used entries of regions |
//! | 140 | 4 | u32 | reserved | zero |
//! | 144 | 96 | 4 x 24 | regions | region entries as in the superblock; kind 1 is the data, others are skipped, unused ones zero |

use binrw::binrw;
use uuid::Uuid;

use crate::block::{self, Kind, Place, Stamp};
use crate::codec::Flag;
use crate::error::{Corrupt, Verdict};
use crate::superblock::Region;
use crate::text::Name;
use crate::volume_table::FsKind;

/// Bytes before the file system.
pub const ENVELOPE_BYTES: u64 = 1 << 20;
/// Bytes of one copy of the header.
pub const COPY_BYTES: usize = 4096;
/// Where the copies lie.
pub const COPIES: [u64; 2] = [0, 4096];
/// The region kind of the file system.
pub const DATA_REGION: u32 = 1;

/// An envelope's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The volume's UUID in the tables.
    pub volume: Uuid,
    /// Its name when it was made.
    pub name: Name,
    /// Seconds since 1970.
    pub created: i64,
    /// What lies inside.
    pub fs: FsKind,
    /// First byte of the file system.
    pub data_first: u64,
    /// Length of the file system in bytes.
    pub data_length: u64,
}

#[binrw]
#[brw(little)]
struct Body {
    name: Name,
    created: i64,
    #[br(parse_with = Flag::parse)]
    #[bw(write_with = Flag::write)]
    #[br(assert(software_lock))]
    software_lock: bool,
    fs: FsKind,
    region_count: u16,
    #[br(temp, assert(reserved == 0))]
    #[bw(calc = 0)]
    reserved: u32,
    regions: [Region; 4],
}

impl Envelope {
    /// Writes the copy for byte `offset` of the volume's device.
    ///
    /// # Panics
    /// When the file system would lie over the envelope itself.
    pub fn encode(&self, offset: u64, block: &mut [u8]) {
        assert!(self.data_first >= ENVELOPE_BYTES, "the file system lies behind the envelope");
        let mut regions = [Region::default(); 4];
        regions[0].kind = DATA_REGION;
        regions[0].first = self.data_first;
        regions[0].length = self.data_length;
        let body = Body {
            name: self.name.clone(),
            created: self.created,
            software_lock: true,
            fs: self.fs,
            region_count: 1,
            regions,
        };
        block::seal(block, Kind::Envelope, Place { table: self.volume, offset }, Stamp::default(), &body);
    }

    /// Decodes a copy read from `offset`.
    pub fn decode(block: &[u8], offset: u64) -> Verdict<Self> {
        block::open(block, Kind::Envelope, None, offset).and_then(|opened| {
            let b: Body = block::body(&opened, (), "envelope")?;
            let (used, unused) =
                b.regions.split_at_checked(usize::from(b.region_count)).ok_or(Corrupt::Field("region_count"))?;
            if used.iter().any(|r| r.kind == 0) || unused.iter().any(|r| *r != Region::default()) {
                return Err(Corrupt::Field("regions"));
            }
            let mut data = used.iter().filter(|r| r.kind == DATA_REGION);
            let (Some(data), None) = (data.next(), data.next()) else {
                return Err(Corrupt::Field("data region"));
            };
            // The file system lies behind both copies, within what a device can have.
            if data.first < ENVELOPE_BYTES || data.first.checked_add(data.length).is_none() {
                return Err(Corrupt::Field("data region"));
            }
            Ok(Self {
                volume: opened.table,
                name: b.name,
                created: b.created,
                fs: b.fs,
                data_first: data.first,
                data_length: data.length,
            })
        })
    }
}
