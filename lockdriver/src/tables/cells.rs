//! One cell: two versions, each in two copies; which block holds what the header names.

use ondisk::{CellEntry, CellId, ClientRecord, CommitNo, Geometry, VolumeTable};

use crate::check::Wrong;

/// What a cell says; the inner None: the cell is not in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A client record.
    Client(Option<ClientRecord>),
    /// A volume control table.
    Volume(Option<VolumeTable>),
}

/// A valid block of a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellBlock {
    /// What it says.
    pub content: Content,
    /// The commit that wrote it.
    pub commit: CommitNo,
    /// Its content checksum.
    pub crc: u32,
}

impl Content {
    /// A cell not in use.
    pub fn empty(cell: CellId) -> Self {
        match cell {
            CellId::Client(_) => Self::Client(None),
            CellId::Volume(_) => Self::Volume(None),
        }
    }

    /// The block of this content for one place, and its content checksum.
    pub fn encode(&self, geometry: &Geometry, cell: CellId, at: (u8, usize), commit: CommitNo) -> (Vec<u8>, u32) {
        let mut block = vec![0; geometry.cell_bytes(cell)];
        let place = geometry.cell_block(cell, at.0, at.1);
        let crc = match self {
            Self::Client(c) => ClientRecord::encode(c.as_ref(), place, commit, &mut block),
            Self::Volume(v) => VolumeTable::encode(v.as_ref(), place, commit, &mut block),
        };
        (block, crc)
    }
}

/// Decodes one block of a cell (version, copy); None is a block that could not be read.
pub fn decode(geometry: &Geometry, cell: CellId, at: (u8, usize), bytes: Option<&[u8]>) -> Result<CellBlock, Wrong> {
    let bytes = bytes.ok_or(Wrong::Unreadable)?;
    let place = geometry.cell_block(cell, at.0, at.1);
    let (content, commit, crc) = match cell {
        CellId::Client(_) => {
            let (c, commit, crc) = Wrong::of(ClientRecord::decode(bytes, place))?;
            (Content::Client(c), commit, crc)
        }
        CellId::Volume(_) => {
            let clients = usize::from(geometry.max_clients());
            let (v, commit, crc) = Wrong::of(VolumeTable::decode(bytes, place, clients))?;
            (Content::Volume(v), commit, crc)
        }
    };
    Ok(CellBlock { content, commit, crc })
}

/// What the header names, from either copy, and what is wrong with each copy.
#[derive(Debug, Clone)]
pub struct CellRead {
    /// The content; None when neither copy is the one named.
    pub content: Option<Content>,
    /// What is wrong with copy 0 and copy 1.
    pub wrong: [Option<Wrong>; 2],
}

/// Looks at the two copies of the version that `entry` names.
pub fn named(geometry: &Geometry, cell: CellId, entry: &CellEntry, copies: [Option<&[u8]>; 2]) -> CellRead {
    let look = |copy: usize| {
        let block = decode(geometry, cell, (entry.version, copy), copies[copy])?;
        if block.commit != entry.commit {
            return Err(Wrong::OtherCommit { found: block.commit, expected: entry.commit });
        }
        if block.crc != entry.crc {
            return Err(Wrong::OtherContent(entry.commit));
        }
        Ok(block.content)
    };
    match (look(0), look(1)) {
        (Ok(content), second) => CellRead { content: Some(content), wrong: [None, second.err()] },
        (Err(first), Ok(content)) => CellRead { content: Some(content), wrong: [Some(first), None] },
        (Err(first), Err(second)) => CellRead { content: None, wrong: [Some(first), Some(second)] },
    }
}
