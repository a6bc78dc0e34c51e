//! The superblock: what a control volume is, and where everything on it lies (section 4).
//!
//! | offset | size | type | field | meaning |
//! | --- | --- | --- | --- | --- |
//! | 0 | 64 | head | head | kind 1; stamp 0.0 |
//! | 64 | 4 | u32 | compatible | feature flags that an older program may ignore |
//! | 68 | 4 | u32 | read_only | unknown flags here: look, but write nothing |
//! | 72 | 4 | u32 | incompatible | unknown flags here: refuse |
//! | 76 | 2 | u16 | lock | 1 bakery, 2 pr, 3 caw, 4 ofd |
//! | 78 | 2 | u16 | max_clients | 1 to 1024 |
//! | 80 | 2 | u16 | max_volumes | 1 to 1024 |
//! | 82 | 2 | u16 | reserved | zero |
//! | 84 | 4 | u32 | stride | bytes of a slot sector: the physical block size, 512 to 65536 |
//! | 88 | 8 | u64 | total | bytes of the control volume when it was made |
//! | 96 | 8 | i64 | created | seconds since 1970, UTC |
//! | 104 | 4 | u32 | beat | milliseconds |
//! | 108 | 4 | u32 | lease | milliseconds |
//! | 112 | 4 | u32 | dead | milliseconds |
//! | 116 | 4 | u32 | poll | milliseconds |
//! | 120 | 64 | text | label | length byte and 63 bytes of UTF-8 |
//! | 184 | 2 | u16 | region_count | used entries of regions |
//! | 186 | 6 | bytes | reserved | zero |
//! | 192 | 384 | 16 x 24 | regions | one region entry each, unused ones zero |
//!
//! Region entry:
//!
//! | offset | size | type | field | meaning |
//! | --- | --- | --- | --- | --- |
//! | 0 | 4 | u32 | kind | 1 slots, 2 header, 3 pages, 4 client cells, 5 volume cells, 6 semaphore; others are skipped; in an envelope 1 data |
//! | 4 | 4 | u32 | reserved | zero |
//! | 8 | 8 | u64 | first | first byte |
//! | 16 | 8 | u64 | length | bytes |

use std::time::Duration;

use binrw::binrw;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::block::{self, Kind, Place, Stamp};
use crate::error::{Corrupt, Verdict};
use crate::text::Label;

/// Bytes of a superblock copy.
pub const SUPERBLOCK_BYTES: u32 = 4096;
/// Regions that a superblock can name.
pub const REGIONS: usize = 16;
/// Incompatible features this program knows.
pub const KNOWN_INCOMPATIBLE: u32 = 0;
/// Read-only-compatible features this program knows.
pub const KNOWN_READ_ONLY: u32 = 0;

/// Which semaphore guards the tables (section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LockKind {
    /// Lamport's bakery on the slot sectors.
    Bakery,
    /// SCSI-3 / NVMe persistent reservation.
    Pr,
    /// SCSI COMPARE AND WRITE.
    Caw,
    /// Open-file-description locks, within one kernel or a coherent shared file system.
    Ofd,
}

impl LockKind {
    /// All kinds with their number on disk.
    pub const ALL: [(Self, u16); 4] = [(Self::Bakery, 1), (Self::Pr, 2), (Self::Caw, 3), (Self::Ofd, 4)];

    /// The word used on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bakery => "bakery",
            Self::Pr => "pr",
            Self::Caw => "caw",
            Self::Ofd => "ofd",
        }
    }
}

/// The timings that all clients of one control volume share, in milliseconds (section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    /// Between two beats.
    pub beat_ms: u32,
    /// How long a client may act after its last confirmed beat.
    pub lease_ms: u32,
    /// How long others must see a slot unchanged before they may pass its client.
    pub dead_ms: u32,
    /// Between two polls of an idle client.
    pub poll_ms: u32,
}

impl Default for Timings {
    fn default() -> Self {
        Self { beat_ms: 1000, lease_ms: 8000, dead_ms: 12000, poll_ms: 250 }
    }
}

impl Timings {
    /// Between two beats.
    pub fn beat(&self) -> Duration {
        Duration::from_millis(u64::from(self.beat_ms))
    }
    /// The lease.
    pub fn lease(&self) -> Duration {
        Duration::from_millis(u64::from(self.lease_ms))
    }
    /// The dead time.
    pub fn dead(&self) -> Duration {
        Duration::from_millis(u64::from(self.dead_ms))
    }
    /// Between two polls.
    pub fn poll(&self) -> Duration {
        Duration::from_millis(u64::from(self.poll_ms))
    }
    /// dead - lease.
    pub fn margin(&self) -> Duration {
        self.dead().saturating_sub(self.lease())
    }

    /// The first rule of section 6 that these timings break, in words.
    pub fn broken_rule(&self) -> Option<&'static str> {
        let margin = self.dead_ms.saturating_sub(self.lease_ms);
        if self.beat_ms == 0 || self.poll_ms == 0 {
            Some("beat and poll must not be zero")
        } else if self.dead_ms > 24 * 3600 * 1000 {
            Some("dead must be at most a day")
        } else if self.beat_ms > self.lease_ms / 4 {
            Some("beat must be at most a quarter of the lease")
        } else if margin < 2000 {
            Some("dead must be at least 2 s longer than the lease")
        } else if margin < self.lease_ms / 4 {
            Some("dead must be longer than the lease by at least a quarter of the lease")
        } else if margin > self.lease_ms / 2 * 3 {
            // A claim of a slot that another host left waits for longer than `margin` before it counts.
            Some("dead must be at most two and a half times the lease")
        } else if self.poll_ms > self.beat_ms {
            Some("poll must not be slower than beat")
        } else {
            None
        }
    }
}

/// What a region of the control volume holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RegionKind {
    /// The slot sectors.
    Slots,
    /// The table header's copies.
    Header,
    /// The client pages.
    Pages,
    /// The client record cells.
    ClientCells,
    /// The volume control table cells.
    VolumeCells,
    /// The semaphore's word, and a place for test writes: only with the kinds `caw` and `pr`.
    Semaphore,
}

impl RegionKind {
    /// All kinds that every control volume has, with their number on disk.
    pub const ALL: [(Self, u32); 5] =
        [(Self::Slots, 1), (Self::Header, 2), (Self::Pages, 3), (Self::ClientCells, 4), (Self::VolumeCells, 5)];
    /// The kind that only some have.
    pub const SEMAPHORE: (Self, u32) = (Self::Semaphore, 6);
}

/// One region; unknown kinds are skipped.
#[binrw]
#[brw(little)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Region {
    /// The number of the kind, see [`RegionKind::ALL`].
    pub kind: u32,
    #[br(temp, assert(reserved == 0))]
    #[bw(calc = 0)]
    reserved: u32,
    /// First byte.
    pub first: u64,
    /// Length in bytes.
    pub length: u64,
}

impl RegionKind {
    /// The kind of a number on disk; None for regions to come.
    pub fn of(number: u32) -> Option<Self> {
        Self::ALL.iter().chain([&Self::SEMAPHORE]).find(|(_, n)| *n == number).map(|(k, _)| *k)
    }
}

impl Region {
    /// A region.
    pub fn new(kind: RegionKind, first: u64, length: u64) -> Self {
        let kinds = RegionKind::ALL.iter().chain([&RegionKind::SEMAPHORE]);
        let kind = kinds.into_iter().find(|(k, _)| *k == kind).map_or(0, |(_, n)| *n);
        Self { kind, first, length }
    }
}

/// The superblock's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Superblock {
    /// The control volume's identity.
    pub uuid: Uuid,
    /// Features an older program may ignore.
    pub compatible: u32,
    /// Features that forbid an older program to write.
    pub read_only: u32,
    /// Features that an older program must refuse.
    pub incompatible: u32,
    /// The semaphore.
    pub lock: LockKind,
    /// Clients, without administration slots.
    pub max_clients: u16,
    /// Volumes.
    pub max_volumes: u16,
    /// Bytes of a slot sector.
    pub stride: u32,
    /// Bytes of the control volume.
    pub total: u64,
    /// Seconds since 1970.
    pub created: i64,
    /// The timings.
    pub timings: Timings,
    /// A name for people.
    pub label: Label,
    /// Where everything lies.
    pub regions: Vec<Region>,
}

#[binrw]
#[brw(little)]
struct Body {
    compatible: u32,
    read_only: u32,
    incompatible: u32,
    lock: u16,
    max_clients: u16,
    max_volumes: u16,
    #[br(temp, assert(reserved == 0))]
    #[bw(calc = 0)]
    reserved: u16,
    stride: u32,
    total: u64,
    created: i64,
    beat: u32,
    lease: u32,
    dead: u32,
    poll: u32,
    label: Label,
    region_count: u16,
    #[br(temp, assert(reserved_regions == [0; 6]))]
    #[bw(calc = [0; 6])]
    reserved_regions: [u8; 6],
    regions: [Region; REGIONS],
}

impl Superblock {
    /// Writes the copy that belongs at `offset` into `block`.
    ///
    /// # Panics
    /// When there are more regions than [`REGIONS`]: none may be lost without a word.
    pub fn encode(&self, offset: u64, block: &mut [u8]) {
        let mut regions = [Region::default(); REGIONS];
        let count = self.regions.len();
        assert!(count <= REGIONS, "a superblock names at most {REGIONS} regions");
        regions[..count].copy_from_slice(&self.regions);
        let lock = LockKind::ALL.iter().find(|(k, _)| *k == self.lock).map_or(0, |(_, n)| *n);
        let body = Body {
            compatible: self.compatible,
            read_only: self.read_only,
            incompatible: self.incompatible,
            lock,
            max_clients: self.max_clients,
            max_volumes: self.max_volumes,
            stride: self.stride,
            total: self.total,
            created: self.created,
            beat: self.timings.beat_ms,
            lease: self.timings.lease_ms,
            dead: self.timings.dead_ms,
            poll: self.timings.poll_ms,
            label: self.label.clone(),
            region_count: u16::try_from(count).expect("at most 16 regions"),
            regions,
        };
        block::seal(block, Kind::Superblock, Place { table: self.uuid, offset }, Stamp::default(), &body);
    }

    /// Decodes a copy read from `offset`.
    pub fn decode(block: &[u8], offset: u64) -> Verdict<Self> {
        block::open(block, Kind::Superblock, None, offset).and_then(|opened| {
            let b: Body = block::body(&opened, (), "superblock")?;
            let lock =
                LockKind::ALL.iter().find(|(_, n)| *n == b.lock).map(|(k, _)| *k).ok_or(Corrupt::Field("lock"))?;
            let (regions, unused) =
                b.regions.split_at_checked(usize::from(b.region_count)).ok_or(Corrupt::Field("region_count"))?;
            if regions.iter().any(|r| r.kind == 0) || unused.iter().any(|r| *r != Region::default()) {
                return Err(Corrupt::Field("regions"));
            }
            Ok(Self {
                uuid: opened.table,
                compatible: b.compatible,
                read_only: b.read_only,
                incompatible: b.incompatible,
                lock,
                max_clients: b.max_clients,
                max_volumes: b.max_volumes,
                stride: b.stride,
                total: b.total,
                created: b.created,
                timings: Timings { beat_ms: b.beat, lease_ms: b.lease, dead_ms: b.dead, poll_ms: b.poll },
                label: b.label,
                regions: regions.to_vec(),
            })
        })
    }
}
