//! Making a control volume: an ordered list of writes, the superblocks last (sections 4 and 9, `init`).
//!
//! A torn `init` leaves no control volume: the old superblocks go first, and the first copy of the new one is the very
//! last write. Large geometries are made in pieces, so that memory stays small.

use ondisk::superblock::SUPERBLOCK_BYTES;
use ondisk::{
    CellEntry, CellId, ClientPage, CommitNo, Geometry, Incarnation, SlotIndex, SlotSector, Superblock, TableHeader,
    VolumeEntry,
};

use crate::tables::Content;

/// The number of the commit that `init` counts as.
pub const FIRST_COMMIT: CommitNo = CommitNo { epoch: 0, count: 1 };
/// About as many bytes are written at once.
const PIECE_BYTES: usize = 256 * 1024;

/// One step of formatting, each to be done before the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FormatStep {
    /// Write these bytes.
    Write {
        /// Byte offset on the control volume.
        offset: u64,
        /// Whole blocks.
        bytes: Vec<u8>,
    },
    /// Bring everything written so far to stable storage.
    Flush,
}

/// The steps that make a control volume. `superblock` must be the one of `geometry`. With `admin` the first
/// administration slot is left as left by this machine, so that its next command logs on without waiting: a
/// sector with its machine id, not logged on (section 6).
pub fn format(
    geometry: &Geometry,
    superblock: &Superblock,
    admin: Option<SlotSector>,
) -> impl Iterator<Item = FormatStep> + use<> {
    let sb = superblock.clone();
    let [first, trailing] = geometry.superblock_offsets();
    let blank = move |offset| FormatStep::Write { offset, bytes: vec![0; SUPERBLOCK_BYTES as usize] };
    let copy = move |offset: u64| {
        let mut bytes = vec![0; SUPERBLOCK_BYTES as usize];
        sb.encode(offset, &mut bytes);
        FormatStep::Write { offset, bytes }
    };
    let last = [copy(trailing), FormatStep::Flush, copy(first), FormatStep::Flush];
    [blank(first), blank(trailing), FormatStep::Flush]
        .into_iter()
        .chain(slots(geometry, admin))
        .chain(std::iter::once(header(geometry)))
        .chain(pages(geometry))
        .chain(cells(geometry))
        .chain(word(geometry))
        .chain(std::iter::once(FormatStep::Flush))
        .chain(last)
}

/// Items grouped so that one write holds about [`PIECE_BYTES`].
fn pieces<T: Clone>(items: Vec<T>, item_bytes: usize) -> impl Iterator<Item = Vec<T>> {
    let per_piece = (PIECE_BYTES / item_bytes).max(1);
    let count = items.len().div_ceil(per_piece);
    (0..count).map(move |i| items[i * per_piece..items.len().min((i + 1) * per_piece)].to_vec())
}

fn slots(geometry: &Geometry, admin: Option<SlotSector>) -> impl Iterator<Item = FormatStep> + use<> {
    let g = geometry.clone();
    let stride = g.stride();
    let first_admin = SlotIndex(g.max_clients());
    pieces(g.slots().collect(), 2 * stride).map(move |slots| {
        let offset = g.slot_sector(slots[0], 0).offset;
        let mut bytes = vec![0; slots.len() * 2 * stride];
        for (block, (slot, sector)) in
            bytes.chunks_exact_mut(stride).zip(slots.iter().flat_map(|s| [(*s, 0usize), (*s, 1usize)]))
        {
            let left = admin.filter(|a| {
                slot == first_admin && (a.incarnation.sector() == sector || a.incarnation == Incarnation(0))
            });
            left.unwrap_or_default().encode(g.slot_sector(slot, sector), block);
        }
        FormatStep::Write { offset, bytes }
    })
}

fn header(geometry: &Geometry) -> FormatStep {
    let cells = geometry
        .cells()
        .map(|cell| {
            CellEntry::new(0, Content::empty(cell).encode(geometry, cell, (0, 0), FIRST_COMMIT).1, FIRST_COMMIT)
        })
        .collect();
    let reaped = vec![Incarnation(0); geometry.slot_count()];
    let header = TableHeader { commit: FIRST_COMMIT, opened: 0, clients: 0, volumes: 0, reaped, cells };
    let mut bytes = vec![0; 2 * geometry.header_bytes()];
    for (copy, block) in bytes.chunks_exact_mut(geometry.header_bytes()).enumerate() {
        header.encode(geometry.header_copy(copy), block);
    }
    FormatStep::Write { offset: geometry.header_copy(0).offset, bytes }
}

/// The semaphore's region holds zeroes until somebody is inside for the first time.
fn word(geometry: &Geometry) -> Option<FormatStep> {
    let area = geometry.semaphore_area()?;
    let length = usize::try_from(area.end - area.start).ok()?;
    Some(FormatStep::Write { offset: area.start, bytes: vec![0; length] })
}

/// A page that says nothing, for `geometry`.
pub fn empty_page(geometry: &Geometry) -> ClientPage {
    ClientPage { volumes: vec![VolumeEntry::default(); usize::from(geometry.max_volumes())], ..ClientPage::default() }
}

fn pages(geometry: &Geometry) -> impl Iterator<Item = FormatStep> + use<> {
    let g = geometry.clone();
    let page = empty_page(&g);
    pieces(g.clients().collect(), 2 * g.page_bytes()).map(move |slots| {
        let offset = g.page_copy(slots[0], 0).offset;
        let mut bytes = vec![0; slots.len() * 2 * g.page_bytes()];
        for (i, block) in bytes.chunks_exact_mut(g.page_bytes()).enumerate() {
            page.encode(g.page_copy(slots[i / 2], i % 2), block);
        }
        FormatStep::Write { offset, bytes }
    })
}

fn cells(geometry: &Geometry) -> impl Iterator<Item = FormatStep> + use<> {
    let g = geometry.clone();
    let clients: Vec<_> = g.clients().map(CellId::Client).collect();
    let volumes: Vec<_> = g.volumes().map(CellId::Volume).collect();
    let (c, v) = (4 * g.cell_bytes(clients[0]), 4 * g.cell_bytes(volumes[0]));
    pieces(clients, c).chain(pieces(volumes, v)).map(move |cells| {
        let offset = g.cell_block(cells[0], 0, 0).offset;
        let mut bytes = Vec::with_capacity(cells.len() * 4 * g.cell_bytes(cells[0]));
        for cell in &cells {
            for (version, copy, commit) in
                [(0, 0, FIRST_COMMIT), (0, 1, FIRST_COMMIT), (1, 0, CommitNo::default()), (1, 1, CommitNo::default())]
            {
                bytes.extend(Content::empty(*cell).encode(&g, *cell, (version, copy), commit).0);
            }
        }
        FormatStep::Write { offset, bytes }
    })
}

#[cfg(test)]
mod tests {
    use ondisk::{Label, LockKind, Timings, Uuid};

    use super::*;
    use crate::check::check;
    use crate::tables::testkit::{Disk, used};

    fn plan(table: u128, clients: u16, volumes: u16, stride: u32, total: u64) -> (Geometry, Superblock) {
        let g = Geometry::plan(Uuid::from_u128(table), clients, volumes, stride, total).unwrap();
        let sb = g.superblock(LockKind::Bakery, Timings::default(), Label::default(), 0);
        (g, sb)
    }

    fn run(disk: &mut Disk, steps: impl Iterator<Item = FormatStep>) {
        for step in steps {
            if let FormatStep::Write { offset, bytes } = step {
                disk.put(offset, &bytes);
            }
        }
    }

    #[test]
    fn an_init_cut_anywhere_leaves_the_old_volume_none_or_a_whole_new_one() {
        let (old, disk) = used();
        let (g, sb) = plan(99, 3, 2, 512, old.total());
        let steps: Vec<_> = format(&g, &sb, None).collect();
        for cut in 0..=steps.len() {
            let mut at = disk.clone();
            run(&mut at, steps[..cut].iter().cloned());
            let report = check(&at);
            match report.geometry().map(Geometry::table) {
                None => assert!(report.tables.is_none()),
                Some(table) if table == old.table() => assert_eq!(report.tables.unwrap().counts(), (2, 2)),
                Some(_) => {
                    assert_eq!(report.tables.as_ref().unwrap().counts(), (0, 0));
                    assert!(report.worst() <= Some(crate::check::Severity::Redundancy), "cut at {cut}");
                }
            }
        }
        assert_eq!(steps[steps.len() - 4..].iter().filter(|s| **s == FormatStep::Flush).count(), 2);
    }

    #[test]
    fn all_geometries_are_clean_and_made_in_small_pieces() {
        for (clients, volumes, stride, total) in
            [(1, 1, 512, 1 << 20), (64, 64, 512, 16 << 20), (5, 7, 4096, 8 << 20), (2, 2, 65536, 16 << 20)]
        {
            let (g, sb) = plan(5, clients, volumes, stride, total);
            let mut disk = Disk::new(vec![0xee; usize::try_from(total).unwrap()]);
            run(&mut disk, format(&g, &sb, None));
            assert_eq!(check(&disk).findings, vec![], "{clients} {volumes} {stride}");
        }
        let (g, sb) = plan(5, 1024, 1024, 4096, 2 << 30);
        let largest = format(&g, &sb, None).take(200).map(|s| match s {
            FormatStep::Write { bytes, .. } => bytes.len(),
            FormatStep::Flush => 0,
        });
        assert!(largest.max() <= Some(2 * g.page_bytes().max(PIECE_BYTES)));
    }

    #[test]
    fn the_first_administration_slot_is_left_as_left_by_this_machine() {
        let (g, sb) = plan(5, 4, 3, 512, 1 << 20);
        let left = SlotSector { incarnation: Incarnation(1), machine_id: [9; 16], ..SlotSector::default() };
        let mut disk = Disk::new(vec![0; 1 << 20]);
        run(&mut disk, format(&g, &sb, Some(left)));
        assert!(check(&disk).clean);
        let read = |slot: u16, sector| {
            let place = g.slot_sector(SlotIndex(slot), sector);
            SlotSector::decode(&disk.get(place.offset, 512).unwrap(), place).valid().unwrap()
        };
        assert_eq!((read(4, 0), read(4, 1), read(5, 0)), (left, SlotSector::default(), SlotSector::default()));
    }
}
