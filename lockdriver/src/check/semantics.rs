//! Rules between the fields of the tables, which no checksum can see.

use ondisk::{CellId, Geometry, SlotIndex, VolumeIndex, VolumeTable};

use super::{BlockId, Violation};
use crate::tables::Tables;

/// Every rule that the tables break, with the cell it is about (None: the header).
pub fn violations(geometry: &Geometry, tables: &Tables) -> Vec<(Option<CellId>, Violation)> {
    let mut found = Vec::new();
    header(tables, &mut found);
    clients(tables, &mut found);
    volumes(tables, &mut found);
    for (index, table) in tables.volumes() {
        volume(geometry, tables, index, table, &mut found);
    }
    found
}

fn header(tables: &Tables, found: &mut Vec<(Option<CellId>, Violation)>) {
    let header = &tables.header;
    let (clients, volumes) = tables.counts();
    if (header.clients, header.volumes) != (clients, volumes) {
        found.push((None, Violation::Counts(header.clients, header.volumes, clients, volumes)));
    }
    for entry in header.cells.iter().filter(|e| e.commit > header.commit) {
        found.push((None, Violation::CellNumber(entry.commit, header.commit)));
    }
}

fn clients(tables: &Tables, found: &mut Vec<(Option<CellId>, Violation)>) {
    let all: Vec<_> = tables.clients().collect();
    for (i, (b, second)) in all.iter().enumerate() {
        for (a, first) in &all[..i] {
            if first.name == second.name {
                found.push((Some(CellId::Client(*b)), Violation::ClientName(*a, *b)));
            }
            if first.uuid == second.uuid {
                found.push((Some(CellId::Client(*b)), Violation::ClientUuid(*a, *b)));
            }
        }
    }
}

fn volumes(tables: &Tables, found: &mut Vec<(Option<CellId>, Violation)>) {
    let all: Vec<_> = tables.volumes().collect();
    for (i, (b, second)) in all.iter().enumerate() {
        for (a, first) in &all[..i] {
            if first.name == second.name {
                found.push((Some(CellId::Volume(*b)), Violation::VolumeName(*a, *b)));
            }
            if first.uuid == second.uuid {
                found.push((Some(CellId::Volume(*b)), Violation::VolumeUuid(*a, *b)));
            }
        }
    }
}

fn volume(
    geometry: &Geometry,
    tables: &Tables,
    index: VolumeIndex,
    table: &VolumeTable,
    found: &mut Vec<(Option<CellId>, Violation)>,
) {
    let mut add = |v: Violation| found.push((Some(CellId::Volume(index)), v));
    let known = |slot: SlotIndex| tables.client(slot).is_some();
    if let Some(writer) = table.writer.as_ref().filter(|w| !known(w.slot)) {
        add(Violation::Writer(index, writer.slot));
    }
    if let Some(next) = table.next.as_ref().filter(|n| !known(n.slot)) {
        add(Violation::Next(index, next.slot));
    }
    let now = tables.header.commit.epoch;
    let writer = table.writer.as_ref().map_or(0, |w| w.epoch);
    for epoch in [writer, table.dirty_since, table.last.epoch] {
        if epoch > now {
            add(Violation::Epoch(index, epoch, now));
        }
    }
    let expected = usize::from(geometry.max_clients());
    if table.permissions.len() != expected {
        add(Violation::Permissions(index, table.permissions.len(), expected));
    }
}

/// The block that a finding about a cell points at: the first copy of its current version.
pub(crate) fn block_of(geometry: &Geometry, tables: &Tables, cell: Option<CellId>) -> (BlockId, u64) {
    match cell {
        None => (BlockId::Header(0), geometry.header_copy(0).offset),
        Some(cell) => {
            let version = tables.header.cells[geometry.cell_index(cell)].version;
            (BlockId::Cell(cell, version, 0), geometry.cell_block(cell, version, 0).offset)
        }
    }
}
