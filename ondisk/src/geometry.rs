//! Where everything lies on a control volume, from the superblock's numbers (section 4).
//!
//! ```text
//! | superblock | slots: (max_clients + 4) x 2 strides | header: 2 copies | pages: max_clients x 2 | client cells x 4 | volume cells x 4 | free ... | superblock |
//! ```
//! Slots and header are neighbours, so that one read polls everything.
//!
//! Everything but the superblock copies is aligned to the larger of 4096 and the stride, and every block that can
//! be written alone fills whole units of that: a device that rewrites a whole physical block for a part of it, and
//! tears it, then hurts one block of one owner (trace C3).

use std::ops::Range;

use serde::Serialize;
use thiserror::Error;
use uuid::Uuid;

use crate::block::Place;
use crate::client_page::ClientPage;
use crate::client_record::ClientRecord;
use crate::header::TableHeader;
use crate::ids::{SlotIndex, VolumeIndex};
use crate::slot::{MAX_STRIDE, MIN_STRIDE};
use crate::superblock::{
    KNOWN_INCOMPATIBLE, KNOWN_READ_ONLY, LockKind, Region, RegionKind, SUPERBLOCK_BYTES, Superblock, Timings,
};
use crate::volume_table::VolumeTable;

/// Slots kept for administration commands (section 6).
pub const ADMIN_SLOTS: u16 = 4;
/// Most clients, and most volumes, that a control volume can be made for.
pub const MAX_CLIENTS: u16 = 1024;
/// Most volumes.
pub const MAX_VOLUMES: u16 = 1024;
/// Blocks of a cell: two versions, each in two copies.
pub const CELL_BLOCKS: u64 = 4;
const ALIGN: u64 = 4096;

/// A cell of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CellId {
    /// The client record of a slot.
    Client(SlotIndex),
    /// A volume control table.
    Volume(VolumeIndex),
}

/// Why a geometry cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GeometryError {
    /// Outside 1 to 1024.
    #[error("{0} clients; 1 to {MAX_CLIENTS} are possible")]
    Clients(u16),
    /// Outside 1 to 1024.
    #[error("{0} volumes; 1 to {MAX_VOLUMES} are possible")]
    Volumes(u16),
    /// Not a power of two between 512 and 65536.
    #[error("a physical block of {0} bytes; powers of two from 512 to 65536 are possible")]
    Stride(u32),
    /// The device is too small.
    #[error("the device has {found} bytes; {needed} are needed for {clients} clients and {volumes} volumes")]
    TooSmall {
        /// Bytes of the device.
        found: u64,
        /// Bytes needed.
        needed: u64,
        /// Clients asked for.
        clients: u16,
        /// Volumes asked for.
        volumes: u16,
    },
    /// A feature flag that this program does not know.
    #[error("it uses features of a newer version (flags {0:#x})")]
    Incompatible(u32),
    /// Timings that break a rule of section 6.
    #[error("its timings are impossible: {0}")]
    Timings(&'static str),
    /// The regions do not lie where this version puts them, overlap, or leave the device.
    #[error("its region list is impossible: {0}")]
    Regions(&'static str),
}

/// Where everything lies. Only a checked superblock gives one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Geometry {
    table: Uuid,
    max_clients: u16,
    max_volumes: u16,
    stride: u32,
    total: u64,
    slots: Range<u64>,
    header: Range<u64>,
    pages: Range<u64>,
    client_cells: Range<u64>,
    volume_cells: Range<u64>,
    semaphore: Option<Range<u64>>,
    used_end: u64,
    writable: bool,
}

impl Geometry {
    /// Lays out a new control volume of `total` bytes.
    pub fn plan(table: Uuid, clients: u16, volumes: u16, stride: u32, total: u64) -> Result<Self, GeometryError> {
        if !(1..=MAX_CLIENTS).contains(&clients) {
            return Err(GeometryError::Clients(clients));
        }
        if !(1..=MAX_VOLUMES).contains(&volumes) {
            return Err(GeometryError::Volumes(volumes));
        }
        if !stride.is_power_of_two() || !(MIN_STRIDE..=MAX_STRIDE).contains(&stride) {
            return Err(GeometryError::Stride(stride));
        }
        let align = ALIGN.max(u64::from(stride));
        let up = |bytes: u64| bytes.div_ceil(align) * align;
        let (c, v) = (u64::from(clients), u64::from(volumes));
        let slot_count = c + u64::from(ADMIN_SLOTS);
        let total = total / ALIGN * ALIGN;
        let mut at = up(u64::from(SUPERBLOCK_BYTES));
        let mut take = |bytes: u64| {
            let range = at..at + up(bytes);
            at = range.end;
            range
        };
        let slots = take(slot_count * 2 * u64::from(stride));
        let header = take(2 * up(TableHeader::bytes(slot_count, c + v)));
        let pages = take(c * 2 * up(ClientPage::bytes(v)));
        let client_cells = take(c * CELL_BLOCKS * up(ClientRecord::BYTES));
        let volume_cells = take(v * CELL_BLOCKS * up(VolumeTable::FIXED_BYTES + 8 * c));
        let needed = at + u64::from(SUPERBLOCK_BYTES);
        if total < needed {
            return Err(GeometryError::TooSmall { found: total, needed, clients, volumes });
        }
        Ok(Self {
            table,
            max_clients: clients,
            max_volumes: volumes,
            stride,
            total,
            slots,
            header,
            pages,
            client_cells,
            volume_cells,
            semaphore: None,
            used_end: at,
            writable: true,
        })
    }

    /// The geometry of an existing control volume, all of the superblock's claims checked.
    pub fn of(sb: &Superblock) -> Result<Self, GeometryError> {
        if sb.incompatible & !KNOWN_INCOMPATIBLE != 0 {
            return Err(GeometryError::Incompatible(sb.incompatible & !KNOWN_INCOMPATIBLE));
        }
        if let Some(rule) = sb.timings.broken_rule() {
            return Err(GeometryError::Timings(rule));
        }
        let mut plan = Self::plan(sb.uuid, sb.max_clients, sb.max_volumes, sb.stride, sb.total)?;
        if plan.total != sb.total {
            return Err(GeometryError::Regions("the control volume's size is no multiple of 4096"));
        }
        plan.writable = sb.read_only & !KNOWN_READ_ONLY == 0;
        for (kind, number) in RegionKind::ALL {
            let mut of_kind = sb.regions.iter().filter(|r| r.kind == number);
            let region = of_kind.next().ok_or(GeometryError::Regions("a region is missing"))?;
            if of_kind.next().is_some() {
                return Err(GeometryError::Regions("a region is named twice"));
            }
            let end = region.first.checked_add(region.length).ok_or(GeometryError::Regions("a region has no end"))?;
            let planned = plan.region_mut(kind);
            if region.length != planned.end - planned.start {
                return Err(GeometryError::Regions("a region has the wrong length"));
            }
            *planned = region.first..end;
        }
        plan.semaphore = semaphore_of(sb, plan.align())?;
        plan.check_regions(sb)?;
        Ok(plan)
    }

    /// The same with a region for the semaphore's word, behind all others.
    ///
    /// # Errors
    /// When the device is too small for it.
    pub fn with_semaphore(mut self) -> Result<Self, GeometryError> {
        let end = self.used_end + self.align();
        let needed = end + u64::from(SUPERBLOCK_BYTES);
        if self.total < needed.next_multiple_of(self.align()) {
            let (clients, volumes) = (self.max_clients, self.max_volumes);
            return Err(GeometryError::TooSmall { found: self.total, needed, clients, volumes });
        }
        self.semaphore = Some(self.used_end..end);
        self.used_end = end;
        Ok(self)
    }

    /// What every block that is written alone is a multiple of.
    fn align(&self) -> u64 {
        ALIGN.max(u64::from(self.stride))
    }

    /// Regions of kinds to come are skipped, but not before it is known that they leave the others alone.
    fn check_regions(&mut self, sb: &Superblock) -> Result<(), GeometryError> {
        let copy = u64::from(SUPERBLOCK_BYTES);
        let align = ALIGN.max(u64::from(self.stride));
        // The trailing superblock's whole physical block is taken.
        let last = (self.total - copy) / align * align;
        let mut spans: Vec<(u64, u64)> = vec![(0, align)];
        for r in &sb.regions {
            let end = r.first.checked_add(r.length).ok_or(GeometryError::Regions("a region has no end"))?;
            if !r.first.is_multiple_of(align) {
                return Err(GeometryError::Regions("a region is not aligned"));
            }
            if r.length == 0 {
                return Err(GeometryError::Regions("a region is empty"));
            }
            spans.push((r.first, end));
        }
        spans.sort_unstable();
        self.used_end = spans.iter().map(|s| s.1).max().unwrap_or(align);
        if spans.windows(2).any(|w| w[0].1 > w[1].0) {
            return Err(GeometryError::Regions("regions overlap"));
        }
        if self.used_end > last {
            return Err(GeometryError::Regions("a region leaves the device or covers the trailing superblock"));
        }
        if self.slots.end != self.header.start {
            return Err(GeometryError::Regions("slots and header are not neighbours"));
        }
        Ok(())
    }

    fn region_mut(&mut self, kind: RegionKind) -> &mut Range<u64> {
        match kind {
            RegionKind::Slots => &mut self.slots,
            RegionKind::Header => &mut self.header,
            RegionKind::Pages => &mut self.pages,
            RegionKind::ClientCells => &mut self.client_cells,
            RegionKind::VolumeCells => &mut self.volume_cells,
            RegionKind::Semaphore => self.semaphore.get_or_insert_default(),
        }
    }

    /// The superblock that describes this geometry.
    pub fn superblock(&self, lock: LockKind, timings: Timings, label: crate::text::Label, created: i64) -> Superblock {
        let region = |kind, r: &Range<u64>| Region::new(kind, r.start, r.end - r.start);
        Superblock {
            uuid: self.table,
            compatible: 0,
            read_only: 0,
            incompatible: 0,
            lock,
            max_clients: self.max_clients,
            max_volumes: self.max_volumes,
            stride: self.stride,
            total: self.total,
            created,
            timings,
            label,
            regions: [
                region(RegionKind::Slots, &self.slots),
                region(RegionKind::Header, &self.header),
                region(RegionKind::Pages, &self.pages),
                region(RegionKind::ClientCells, &self.client_cells),
                region(RegionKind::VolumeCells, &self.volume_cells),
            ]
            .into_iter()
            .chain(self.semaphore.as_ref().map(|r| region(RegionKind::Semaphore, r)))
            .collect(),
        }
    }

    /// UUID of the control volume.
    pub fn table(&self) -> Uuid {
        self.table
    }
    /// Clients.
    pub fn max_clients(&self) -> u16 {
        self.max_clients
    }
    /// Volumes.
    pub fn max_volumes(&self) -> u16 {
        self.max_volumes
    }
    /// Bytes of a slot sector.
    pub fn stride(&self) -> usize {
        usize::try_from(self.stride).expect("at most 65536")
    }
    /// Bytes of the control volume.
    pub fn total(&self) -> u64 {
        self.total
    }
    /// False when an unknown read-only feature forbids writing.
    pub fn writable(&self) -> bool {
        self.writable
    }
    /// Slots, administration slots included.
    pub fn slot_count(&self) -> usize {
        usize::from(self.max_clients) + usize::from(ADMIN_SLOTS)
    }
    /// All slots, administration slots included.
    pub fn slots(&self) -> impl Iterator<Item = SlotIndex> + use<> {
        (0..self.max_clients + ADMIN_SLOTS).map(SlotIndex)
    }
    /// The clients' slots.
    pub fn clients(&self) -> impl Iterator<Item = SlotIndex> + use<> {
        (0..self.max_clients).map(SlotIndex)
    }
    /// The volumes.
    pub fn volumes(&self) -> impl Iterator<Item = VolumeIndex> + use<> {
        (0..self.max_volumes).map(VolumeIndex)
    }
    /// Is this an administration slot?
    pub fn is_admin(&self, slot: SlotIndex) -> bool {
        slot.0 >= self.max_clients
    }
    /// Cells, client records first.
    pub fn cell_count(&self) -> usize {
        usize::from(self.max_clients) + usize::from(self.max_volumes)
    }
    /// A cell's place in the header's list.
    pub fn cell_index(&self, cell: CellId) -> usize {
        match cell {
            CellId::Client(s) => s.index(),
            CellId::Volume(v) => usize::from(self.max_clients) + v.index(),
        }
    }
    /// All cells in the header's order.
    pub fn cells(&self) -> impl Iterator<Item = CellId> + use<> {
        self.clients().map(CellId::Client).chain(self.volumes().map(CellId::Volume))
    }

    /// The superblock copies.
    pub fn superblock_offsets(&self) -> [u64; 2] {
        [0, self.total - u64::from(SUPERBLOCK_BYTES)]
    }
    /// The bytes that one poll reads: all slots and both header copies.
    pub fn poll_area(&self) -> Range<u64> {
        self.slots.start..self.header.end
    }
    /// A slot's sector 0 or 1.
    ///
    /// # Panics
    /// Outside the slots: such a place would lie in another region. (Slot numbers from disk are checked in decoding.)
    pub fn slot_sector(&self, slot: SlotIndex, sector: usize) -> Place {
        assert!(slot.index() < self.slot_count(), "slot {slot} is not on this control volume");
        let index = slot.index() * 2 + (sector & 1);
        self.place(self.slots.start + self.offset_of(index, u64::from(self.stride)))
    }
    /// Bytes of a header copy.
    pub fn header_bytes(&self) -> usize {
        self.len((self.header.end - self.header.start) / 2)
    }
    /// A header copy, 0 or 1.
    pub fn header_copy(&self, copy: usize) -> Place {
        self.place(self.header.start + self.offset_of(copy & 1, self.header_bytes() as u64))
    }
    /// Bytes of a page copy.
    pub fn page_bytes(&self) -> usize {
        self.len((self.pages.end - self.pages.start) / (2 * u64::from(self.max_clients)))
    }
    /// A client's page copy, 0 or 1.
    ///
    /// # Panics
    /// Outside the clients: an administration slot has no page.
    pub fn page_copy(&self, slot: SlotIndex, copy: usize) -> Place {
        assert!(!self.is_admin(slot), "slot {slot} has no page");
        let index = slot.index() * 2 + (copy & 1);
        self.place(self.pages.start + self.offset_of(index, self.page_bytes() as u64))
    }
    /// Bytes of each of a cell's four blocks.
    pub fn cell_bytes(&self, cell: CellId) -> usize {
        let (region, count) = match cell {
            CellId::Client(_) => (&self.client_cells, self.max_clients),
            CellId::Volume(_) => (&self.volume_cells, self.max_volumes),
        };
        self.len((region.end - region.start) / (CELL_BLOCKS * u64::from(count)))
    }
    /// A block of a cell: version 0 or 1, copy 0 or 1.
    ///
    /// # Panics
    /// Outside the cells: an administration slot has no record.
    pub fn cell_block(&self, cell: CellId, version: u8, copy: usize) -> Place {
        let (region, index, count) = match cell {
            CellId::Client(s) => (&self.client_cells, s.index(), self.max_clients),
            CellId::Volume(v) => (&self.volume_cells, v.index(), self.max_volumes),
        };
        assert!(index < usize::from(count), "{cell:?} is not on this control volume");
        let block = index * 4 + usize::from(version & 1) * 2 + (copy & 1);
        self.place(region.start + self.offset_of(block, self.cell_bytes(cell) as u64))
    }
    /// The semaphore's region.
    pub fn semaphore_area(&self) -> Option<Range<u64>> {
        self.semaphore.clone()
    }
    /// Where the semaphore's word lies: one logical sector. None with the kinds that have none.
    pub fn semaphore_word(&self) -> Option<Place> {
        self.semaphore.as_ref().map(|r| self.place(r.start))
    }
    /// Bytes in front of the trailing superblock that no region uses, those of kinds to come included: padding.
    pub fn free_area(&self) -> Range<u64> {
        self.used_end..self.total - u64::from(SUPERBLOCK_BYTES)
    }

    fn place(&self, offset: u64) -> Place {
        Place { table: self.table, offset }
    }
    fn offset_of(&self, index: usize, size: u64) -> u64 {
        index as u64 * size
    }
    fn len(&self, bytes: u64) -> usize {
        usize::try_from(bytes).expect("a region of a checked geometry fits memory")
    }
}

/// The semaphore's region, which the kinds that need it must have, and others may.
fn semaphore_of(sb: &Superblock, align: u64) -> Result<Option<Range<u64>>, GeometryError> {
    let mut found = sb.regions.iter().filter(|r| r.kind == RegionKind::SEMAPHORE.1);
    let Some(region) = found.next() else {
        return match sb.lock {
            LockKind::Pr | LockKind::Caw => Err(GeometryError::Regions("the semaphore's region is missing")),
            LockKind::Bakery | LockKind::Ofd => Ok(None),
        };
    };
    if found.next().is_some() {
        return Err(GeometryError::Regions("a region is named twice"));
    }
    if region.length != align {
        return Err(GeometryError::Regions("a region has the wrong length"));
    }
    let end = region.first.checked_add(region.length).ok_or(GeometryError::Regions("a region has no end"))?;
    Ok(Some(region.first..end))
}
