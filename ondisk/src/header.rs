//! The table header: root of the tables, written under the semaphore only (section 4).
//!
//! The head's stamp is the commit number. Lengths follow the geometry: `slots` = max_clients + 4,
//! `cells` = max_clients + max_volumes (client records first).
//!
//! | offset | size | type | field | meaning |
//! | --- | --- | --- | --- | --- |
//! | 0 | 64 | head | head | kind 3; stamp = commit number |
//! | 64 | 8 | u64 | opened | how often the tables were opened for a tenure |
//! | 72 | 2 | u16 | clients | client records in use |
//! | 74 | 2 | u16 | volumes | volume control tables in use |
//! | 76 | 2 | u16 | slot_count | length of `reaped`, as the geometry has it |
//! | 78 | 2 | u16 | cell_count | length of `cells`, as the geometry has it |
//! | 80 | 8 x slots | slots x 8 | reaped | u64: highest reaped incarnation of each slot |
//! | 80 + 8 x slots | 24 x cells | cells x 24 | cells | one cell entry each |
//!
//! Cell entry:
//!
//! | offset | size | type | field | meaning |
//! | --- | --- | --- | --- | --- |
//! | 0 | 1 | u8 | version | 0 or 1: the version that counts |
//! | 1 | 3 | bytes | reserved | zero |
//! | 4 | 4 | u32 | crc | CRC32C of that version's blocks, their place and checksum fields left out |
//! | 8 | 16 | commit | commit | the commit that wrote it |

use binrw::binrw;
use serde::Serialize;

use crate::block::{self, Kind, Place};
use crate::error::{Corrupt, Verdict};
use crate::geometry::Geometry;
use crate::ids::{CommitNo, Incarnation, SlotIndex};

/// What the header says of one cell: which version counts, and how to recognise it.
#[binrw]
#[brw(little)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub struct CellEntry {
    /// 0 or 1.
    #[br(assert(version < 2))]
    pub version: u8,
    #[br(temp, assert(reserved == [0; 3]))]
    #[bw(calc = [0; 3])]
    reserved: [u8; 3],
    /// The checksum of the current version's blocks. Copies lie in different places, so this is the checksum
    /// with the place left out: see [`block::content_crc`].
    pub crc: u32,
    /// The commit that wrote it.
    pub commit: CommitNo,
}

impl CellEntry {
    /// An entry.
    pub fn new(version: u8, crc: u32, commit: CommitNo) -> Self {
        Self { version, crc, commit }
    }
}

/// The table header's content.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct TableHeader {
    /// The commit that wrote this header.
    pub commit: CommitNo,
    /// How often the tables were opened for a tenure.
    pub opened: u64,
    /// Client records in use.
    pub clients: u16,
    /// Volume control tables in use.
    pub volumes: u16,
    /// Highest reaped incarnation of each slot.
    pub reaped: Vec<Incarnation>,
    /// The cells.
    pub cells: Vec<CellEntry>,
}

#[binrw]
#[brw(little)]
#[br(import(slots: usize, cells_expected: usize))]
struct Body {
    opened: u64,
    clients: u16,
    volumes: u16,
    #[br(assert(usize::from(slot_count) == slots))]
    slot_count: u16,
    #[br(assert(usize::from(cell_count) == cells_expected))]
    cell_count: u16,
    #[br(count = slots)]
    reaped: Vec<Incarnation>,
    #[br(count = cells_expected)]
    cells: Vec<CellEntry>,
}

impl TableHeader {
    /// Bytes of a header, head included, for a geometry.
    pub fn bytes(slots: u64, cells: u64) -> u64 {
        80 + 8 * slots + 24 * cells
    }

    /// Was this incarnation of that slot reaped? Reaping n ends everything of incarnations up to n.
    pub fn is_reaped(&self, slot: SlotIndex, incarnation: Incarnation) -> bool {
        self.reaped.get(slot.index()).is_some_and(|r| incarnation <= *r)
    }

    /// Writes the copy for `place` into `block`.
    ///
    /// # Panics
    /// When the lists are longer than any geometry has them, or than the block has room for.
    pub fn encode(&self, place: Place, block: &mut [u8]) {
        let count = |len: usize| u16::try_from(len).expect("the limits keep counts far below 65536");
        let body = Body {
            opened: self.opened,
            clients: self.clients,
            volumes: self.volumes,
            slot_count: count(self.reaped.len()),
            cell_count: count(self.cells.len()),
            reaped: self.reaped.clone(),
            cells: self.cells.clone(),
        };
        block::seal(block, Kind::Header, place, self.commit.into(), &body);
    }

    /// Decodes a copy read from `place`.
    pub fn decode(block: &[u8], place: Place, geometry: &Geometry) -> Verdict<Self> {
        block::open(block, Kind::Header, Some(place.table), place.offset).and_then(|opened| {
            let args = (geometry.slot_count(), geometry.cell_count());
            let b: Body = block::body(&opened, args, "table header")?;
            if b.clients > geometry.max_clients() || b.volumes > geometry.max_volumes() {
                return Err(Corrupt::Field("counts of cells in use"));
            }
            Ok(Self {
                commit: opened.stamp.into(),
                opened: b.opened,
                clients: b.clients,
                volumes: b.volumes,
                reaped: b.reaped,
                cells: b.cells,
            })
        })
    }
}
