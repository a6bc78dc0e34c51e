//! What the tables say, and how that is read from the control volume (section 4, "Recovery").
//!
//! Everything here is sans-I/O: [`Loader`] says what to read and is given the bytes.

pub mod blocks;
pub mod cells;
pub mod headers;
mod loader;
#[cfg(test)]
pub(crate) mod testkit;
#[cfg(test)]
mod tests;

use ondisk::{ClientRecord, Geometry, Incarnation, SlotIndex, TableHeader, Uuid, VolumeIndex, VolumeTable};
use serde::Serialize;

pub use cells::Content;
pub use headers::elect_header;
pub(crate) use loader::cell_findings;
pub use loader::{LoadStep, Loader};

/// What came of an I/O that a machine asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IoResult {
    /// The bytes of a read.
    Bytes(Vec<u8>),
    /// A write or flush that succeeded.
    Done,
    /// An error, a timeout: nothing is known of it.
    Failed,
}

/// What the tables say, as of one commit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Tables {
    /// The elected header.
    pub header: TableHeader,
    /// One per client slot; None: not in use.
    pub clients: Vec<Option<ClientRecord>>,
    /// One per volume control table; None: not in use.
    pub volumes: Vec<Option<VolumeTable>>,
}

impl Tables {
    /// Tables with no cell in use under `header`.
    pub(crate) fn empty(geometry: &Geometry, header: TableHeader) -> Self {
        Self {
            header,
            clients: vec![None; usize::from(geometry.max_clients())],
            volumes: vec![None; usize::from(geometry.max_volumes())],
        }
    }

    /// The client records in use.
    pub fn clients(&self) -> impl Iterator<Item = (SlotIndex, &ClientRecord)> {
        (0u16..).map(SlotIndex).zip(&self.clients).filter_map(|(i, c)| Some((i, c.as_ref()?)))
    }

    /// The volume control tables in use.
    pub fn volumes(&self) -> impl Iterator<Item = (VolumeIndex, &VolumeTable)> {
        (0u16..).map(VolumeIndex).zip(&self.volumes).filter_map(|(i, v)| Some((i, v.as_ref()?)))
    }

    /// The record of a slot, if it is a client's.
    pub fn client(&self, slot: SlotIndex) -> Option<&ClientRecord> {
        self.clients.get(slot.index())?.as_ref()
    }

    /// A volume control table, if it is in use.
    pub fn volume(&self, index: VolumeIndex) -> Option<&VolumeTable> {
        self.volumes.get(index.index())?.as_ref()
    }

    /// The client of this name.
    pub fn find_client(&self, name: &str) -> Option<(SlotIndex, &ClientRecord)> {
        self.clients().find(|(_, c)| c.name.as_str() == name)
    }

    /// The volume of this name.
    pub fn find_volume(&self, name: &str) -> Option<(VolumeIndex, &VolumeTable)> {
        self.volumes().find(|(_, v)| v.name.as_str() == name)
    }

    /// The volume of this UUID.
    pub fn find_volume_uuid(&self, uuid: Uuid) -> Option<(VolumeIndex, &VolumeTable)> {
        self.volumes().find(|(_, v)| v.uuid == uuid)
    }

    /// The first client slot with no record.
    pub fn free_client(&self) -> Option<SlotIndex> {
        (0u16..).map(SlotIndex).zip(&self.clients).find(|(_, c)| c.is_none()).map(|(i, _)| i)
    }

    /// The first volume control table not in use.
    pub fn free_volume(&self) -> Option<VolumeIndex> {
        (0u16..).map(VolumeIndex).zip(&self.volumes).find(|(_, v)| v.is_none()).map(|(i, _)| i)
    }

    /// Was this incarnation reaped?
    pub fn is_reaped(&self, slot: SlotIndex, incarnation: Incarnation) -> bool {
        self.header.is_reaped(slot, incarnation)
    }

    /// Client records and volume control tables in use, as the header has to count them.
    pub fn counts(&self) -> (u16, u16) {
        let count = |n: usize| u16::try_from(n).expect("a geometry has at most 1024 of each");
        (count(self.clients().count()), count(self.volumes().count()))
    }

    pub(crate) fn put(&mut self, cell: ondisk::CellId, content: Content) {
        match (cell, content) {
            (ondisk::CellId::Client(s), Content::Client(c)) => self.clients[s.index()] = c,
            (ondisk::CellId::Volume(v), Content::Volume(t)) => self.volumes[v.index()] = t,
            _ => unreachable!("a cell's content is decoded by the cell's own kind"),
        }
    }

    pub(crate) fn get(&self, cell: ondisk::CellId) -> Content {
        match cell {
            ondisk::CellId::Client(s) => Content::Client(self.client(s).cloned()),
            ondisk::CellId::Volume(v) => Content::Volume(self.volume(v).cloned()),
        }
    }
}
