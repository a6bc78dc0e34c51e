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
