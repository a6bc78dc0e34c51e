//! Reads a whole control volume and keeps what judging and repairing it needs; small also for large geometries.

use ondisk::geometry::GeometryError;
use ondisk::superblock::SUPERBLOCK_BYTES;
use ondisk::{
    CellId, ClientPage, CommitNo, Geometry, Incarnation, SlotIndex, SlotSector, Stamp, Superblock, TableHeader, elect,
};

use super::map::{Decoded, look, span};
use super::{BlockId, Finding, ReadAt, Recovered, Severity, Wrong};
use crate::tables::Tables;
use crate::tables::cells::{self, CellRead, Content};
use crate::tables::headers::HeaderRead;

/// A client's page copies.
#[derive(Debug, Clone)]
pub(super) struct PageSurvey {
    /// The stamp (incarnation, sequence) of each copy.
    pub(super) copies: [Result<Stamp, Wrong>; 2],
    /// The newest valid copy, kept only when the copies are not two equal ones.
    pub(super) elected: Option<(ClientPage, usize)>,
    pub(super) equal: bool,
}

impl PageSurvey {
    /// Sequence of the newest valid copy.
    pub(super) fn newest(&self) -> Option<Stamp> {
        self.copies.iter().filter_map(|c| c.as_ref().ok()).max().copied()
    }
}

/// A cell's four blocks.
#[derive(Debug, Clone)]
pub(super) struct CellSurvey {
    /// Commit number and content checksum by version and copy.
    pub(super) blocks: [[Result<(CommitNo, u32), Wrong>; 2]; 2],
    /// What the header names; None without a header.
    pub(super) current: Option<CellRead>,
}

/// Everything that was read.
#[derive(Debug, Clone)]
pub(super) struct Survey {
    pub(super) geometry: Geometry,
    pub(super) superblock: Superblock,
    pub(super) superblocks: [Result<Superblock, Wrong>; 2],
    pub(super) slots: Vec<[Result<SlotSector, Wrong>; 2]>,
    pub(super) headers: HeaderRead,
    pub(super) pages: Vec<PageSurvey>,
    pub(super) cells: Vec<CellSurvey>,
}

impl Survey {
    /// Reads everything; the flag is false when the tables changed meanwhile. Without a usable superblock the
    /// findings say why.
    pub(super) fn take(source: &dyn ReadAt) -> Result<(Self, bool), Vec<Finding>> {
        let (superblocks, superblock, geometry) = superblocks(source)?;
        let g = &geometry;
        let get = |id| {
            let (offset, len) = span(g, id);
            source.read(offset, len).ok().filter(|b| b.len() == len)
        };
        // Slots before the header: a mark is compared only with a header read begun after that slot was read.
        let slots = g.slots().map(|slot| [0, 1].map(|s| slot_sector(g, BlockId::Slot(slot, s), &get))).collect();
        let raw = [get(BlockId::Header(0)), get(BlockId::Header(1))];
        let headers = HeaderRead::new(g, [raw[0].as_deref(), raw[1].as_deref()]);
        let pages = g.clients().map(|slot| page(g, slot, &get)).collect();
        let header = headers.elected.as_ref().map(|e| &e.content);
        let cells = g.cells().map(|cell| survey_cell(g, cell, header, &get)).collect();
        let stable = raw == [get(BlockId::Header(0)), get(BlockId::Header(1))];
        Ok((Self { superblock, superblocks, slots, headers, pages, cells, geometry }, stable))
    }

    /// The elected header.
    pub(super) fn header(&self) -> Option<&TableHeader> {
        self.headers.elected.as_ref().map(|e| &e.content)
    }

    /// The highest commit acknowledged in any sector.
    pub(super) fn mark(&self) -> CommitNo {
        let sectors = self.slots.iter().flatten().filter_map(|s| s.as_ref().ok());
        sectors.map(|s| s.acknowledged).max().unwrap_or_default()
    }

    /// The sector that counts among those of a slot that can be read, and whether both can be.
    pub(super) fn slot(&self, slot: SlotIndex) -> (Option<&SlotSector>, bool) {
        let Some(sectors) = self.slots.get(slot.index()) else { return (None, false) };
        let legible = sectors.iter().filter_map(|s| s.as_ref().ok());
        let best = legible.reduce(|a, b| if b.incarnation > a.incarnation { b } else { a });
        (best, sectors.iter().all(Result::is_ok))
    }

    /// The highest incarnation of a slot that anything on the volume names.
    pub(super) fn highest_incarnation(&self, slot: SlotIndex) -> Incarnation {
        let mut all = vec![self.slot(slot).0.map_or(Incarnation(0), |s| s.incarnation)];
        if let Some(header) = self.header() {
            all.extend(header.reaped.get(slot.index()));
        }
        if let Some(page) = self.pages.get(slot.index()) {
            all.extend(page.newest().map(|s| Incarnation(s.major)));
        }
        for cell in &self.cells {
            match cell.current.as_ref().and_then(|c| c.content.as_ref()) {
                Some(Content::Volume(Some(v))) => {
                    all.extend(v.writer.filter(|w| w.slot == slot).map(|w| w.incarnation));
                    all.extend(v.next.filter(|n| n.slot == slot).map(|n| n.incarnation));
                }
                Some(Content::Client(_) | Content::Volume(None)) | None => {}
            }
        }
        if let Some(Content::Client(Some(c))) = self
            .cells
            .get(slot.index())
            .and_then(|c| c.current.as_ref()?.content.as_ref())
            .filter(|_| !self.geometry.is_admin(slot))
        {
            all.push(c.logged_on);
        }
        all.into_iter().max().unwrap_or_default()
    }

    /// The tables, if every cell was recovered.
    pub(super) fn tables(&self) -> Option<Tables> {
        let mut tables = Tables::empty(&self.geometry, self.header()?.clone());
        for (cell, survey) in self.geometry.cells().zip(&self.cells) {
            tables.put(cell, survey.current.as_ref()?.content.clone()?);
        }
        Some(tables)
    }
}

type Superblocks = ([Result<Superblock, Wrong>; 2], Superblock, Geometry);

fn superblocks(source: &dyn ReadAt) -> Result<Superblocks, Vec<Finding>> {
    let bytes = u64::from(SUPERBLOCK_BYTES);
    let get = |offset: u64| {
        let block = source.read(offset, SUPERBLOCK_BYTES as usize).map_err(|_| Wrong::Unreadable)?;
        Wrong::of(Superblock::decode(&block, offset))
    };
    let first = get(0);
    let from_size = || source.size().ok().and_then(|size| (size / 4096 * 4096).checked_sub(bytes));
    let trailing_at = match &first {
        Ok(sb) => sb.total.checked_sub(bytes).filter(|at| at.is_multiple_of(512)),
        Err(_) => from_size(),
    };
    let trailing = trailing_at.filter(|at| *at > 0).map_or(Err(Wrong::Unreadable), get);
    let bad = |copy: u8, wrong| {
        let (offset, block) = (if copy == 0 { 0 } else { trailing_at.unwrap_or(0) }, BlockId::Superblock(copy));
        Finding { severity: Severity::Damage, block, offset, wrong, recovered: Recovered::Nothing }
    };
    let copies = [first, trailing];
    let unsupported = copies.iter().any(|c| matches!(c, Err(Wrong::Unsupported(_))));
    let usable = copies.iter().enumerate().filter(|_| !unsupported).find_map(|(i, c)| Some((i, c.as_ref().ok()?)));
    let Some((index, superblock)) = usable else {
        let [a, b] = copies;
        return Err([a.err().map(|w| bad(0, w)), b.err().map(|w| bad(1, w))].into_iter().flatten().collect());
    };
    match Geometry::of(superblock) {
        Ok(geometry) if source.size().is_ok_and(|size| size < geometry.total()) => {
            // Not even its own end is there: nothing is written on the strength of such a superblock.
            let found = source.size().unwrap_or_default();
            let (clients, volumes) = (geometry.max_clients(), geometry.max_volumes());
            let short = GeometryError::TooSmall { found, needed: geometry.total(), clients, volumes };
            Err(vec![bad(u8::from(index == 1), Wrong::Geometry(short))])
        }
        Ok(geometry) => Ok((copies.clone(), superblock.clone(), geometry)),
        Err(e) => Err(vec![bad(u8::from(index == 1), Wrong::Geometry(e))]),
    }
}

fn slot_sector(
    geometry: &Geometry,
    id: BlockId,
    get: &impl Fn(BlockId) -> Option<Vec<u8>>,
) -> Result<SlotSector, Wrong> {
    match look(geometry, id, get(id).as_deref())? {
        Decoded::Slot(sector) => Ok(sector),
        _ => Err(Wrong::Absent),
    }
}

fn page(geometry: &Geometry, slot: SlotIndex, get: &impl Fn(BlockId) -> Option<Vec<u8>>) -> PageSurvey {
    let copies = [0, 1].map(|copy| {
        let id = BlockId::Page(slot, copy);
        match look(geometry, id, get(id).as_deref())? {
            Decoded::Page(page) => Ok(*page),
            _ => Err(Wrong::Absent),
        }
    });
    let stamp = |p: &ClientPage| Stamp { major: p.incarnation.0, minor: p.sequence };
    let equal = matches!(&copies, [Ok(a), Ok(b)] if a == b);
    let verdict = |copy: &Result<ClientPage, Wrong>| match copy {
        Ok(p) => ondisk::Verdict::Valid(p.clone()),
        Err(Wrong::Unsupported(v)) => ondisk::Verdict::Unsupported(*v),
        Err(_) => ondisk::Verdict::Absent,
    };
    let elected = if equal {
        None
    } else {
        elect::page(&[verdict(&copies[0]), verdict(&copies[1])]).map(|e| (e.content, e.copy))
    };
    PageSurvey { copies: copies.map(|c| c.map(|p| stamp(&p))), elected, equal }
}

fn survey_cell(
    geometry: &Geometry,
    cell: CellId,
    header: Option<&TableHeader>,
    get: &impl Fn(BlockId) -> Option<Vec<u8>>,
) -> CellSurvey {
    let raw = [0, 1].map(|version| [0, 1].map(|copy| get(BlockId::Cell(cell, version, copy))));
    let mark = |version: u8, copy: usize| {
        let bytes = raw[usize::from(version)][copy].as_deref();
        cells::decode(geometry, cell, (version, copy), bytes).map(|b| (b.commit, b.crc))
    };
    let current = header.map(|h| {
        let entry = &h.cells[geometry.cell_index(cell)];
        let version = &raw[usize::from(entry.version)];
        cells::named(geometry, cell, entry, [version[0].as_deref(), version[1].as_deref()])
    });
    CellSurvey { blocks: [[mark(0, 0), mark(0, 1)], [mark(1, 0), mark(1, 1)]], current }
}
