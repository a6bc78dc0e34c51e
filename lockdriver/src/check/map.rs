//! Every block of a control volume: where it lies, how it is looked at, and what lies between.

use std::ops::Range;

use ondisk::superblock::SUPERBLOCK_BYTES;
use ondisk::{ClientPage, Geometry, SlotSector, Superblock, TableHeader};

use super::{BlockId, Wrong};
use crate::tables::cells::{self, CellBlock};

/// The content of a valid block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// A superblock copy.
    Superblock(Superblock),
    /// A slot sector.
    Slot(SlotSector),
    /// A header copy.
    Header(TableHeader),
    /// A page copy.
    Page(Box<ClientPage>),
    /// A block of a cell.
    Cell(Box<CellBlock>),
}

/// All blocks that `init` formats: which, its byte offset, its length.
pub fn blocks(geometry: &Geometry) -> impl Iterator<Item = (BlockId, u64, usize)> + use<> {
    let superblocks = (0..2u8).map(BlockId::Superblock);
    let slots = geometry.slots().flat_map(|s| [BlockId::Slot(s, 0), BlockId::Slot(s, 1)]);
    let headers = (0..2u8).map(BlockId::Header);
    let pages = geometry.clients().flat_map(|s| [BlockId::Page(s, 0), BlockId::Page(s, 1)]);
    let cells = geometry.cells().flat_map(|c| [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(v, n)| BlockId::Cell(c, v, n)));
    let g = geometry.clone();
    superblocks.chain(slots).chain(headers).chain(pages).chain(cells).map(move |id| {
        let (offset, len) = span(&g, id);
        (id, offset, len)
    })
}

/// Byte offset and length of a block.
pub(crate) fn span(geometry: &Geometry, id: BlockId) -> (u64, usize) {
    match id {
        BlockId::Superblock(copy) => (geometry.superblock_offsets()[usize::from(copy & 1)], SUPERBLOCK_BYTES as usize),
        BlockId::Slot(slot, sector) => (geometry.slot_sector(slot, sector.into()).offset, geometry.stride()),
        BlockId::Header(copy) => (geometry.header_copy(copy.into()).offset, geometry.header_bytes()),
        BlockId::Page(slot, copy) => (geometry.page_copy(slot, copy.into()).offset, geometry.page_bytes()),
        BlockId::Cell(cell, version, copy) => {
            (geometry.cell_block(cell, version, copy.into()).offset, geometry.cell_bytes(cell))
        }
    }
}

/// Looks at one block; None is a block that could not be read. Any changed byte of a block is found here.
///
/// # Errors
/// What is wrong with it.
pub fn look(geometry: &Geometry, id: BlockId, bytes: Option<&[u8]>) -> Result<Decoded, Wrong> {
    let bytes = bytes.ok_or(Wrong::Unreadable)?;
    match id {
        BlockId::Superblock(copy) => {
            let offset = geometry.superblock_offsets()[usize::from(copy & 1)];
            Wrong::of(Superblock::decode(bytes, offset)).map(Decoded::Superblock)
        }
        BlockId::Slot(slot, sector) => {
            Wrong::of(SlotSector::decode(bytes, geometry.slot_sector(slot, sector.into()))).map(Decoded::Slot)
        }
        BlockId::Header(copy) => {
            Wrong::of(TableHeader::decode(bytes, geometry.header_copy(copy.into()), geometry)).map(Decoded::Header)
        }
        BlockId::Page(slot, copy) => {
            let place = geometry.page_copy(slot, copy.into());
            Wrong::of(ClientPage::decode(bytes, place, geometry)).map(|p| Decoded::Page(Box::new(p)))
        }
        BlockId::Cell(cell, version, copy) => {
            cells::decode(geometry, cell, (version, copy.into()), Some(bytes)).map(|b| Decoded::Cell(Box::new(b)))
        }
    }
}

/// Bytes between and behind the blocks: declared padding, where anything may stand.
pub fn padding(geometry: &Geometry) -> Vec<Range<u64>> {
    let mut spans: Vec<_> = blocks(geometry).map(|(_, offset, len)| offset..offset + len as u64).collect();
    spans.sort_unstable_by_key(|s| s.start);
    let mut at = 0;
    let mut free = Vec::new();
    for span in spans {
        if span.start > at {
            free.push(at..span.start);
        }
        at = span.end;
    }
    free
}
