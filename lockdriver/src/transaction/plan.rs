//! From what was read to the ordered writes of one commit.

use std::collections::VecDeque;

use ondisk::{CellEntry, CellId, CommitNo, Geometry, TableHeader};

use super::rules::Rules;
use super::{Change, CommitError, Tenure};
use crate::check::{BlockId, Violation, semantics};
use crate::tables::blocks::Blocks;
use crate::tables::cells::{self, CellRead, Content};
use crate::tables::headers::HeaderRead;
use crate::tables::{Tables, cell_findings};

/// One write or flush, each to be done before the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    Write { offset: u64, bytes: Vec<u8>, fua: bool },
    Flush,
}

/// The ordered writes, and what is true after them.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) acts: VecDeque<Act>,
    pub(super) commit: CommitNo,
    pub(super) tables: Tables,
}

/// Everything known before the first write.
pub(super) struct Input<'a> {
    pub(super) geometry: &'a Geometry,
    pub(super) rules: Rules,
    pub(super) tenure: Tenure,
    pub(super) base: &'a Tables,
    pub(super) change: &'a Change,
    pub(super) headers: &'a HeaderRead,
    pub(super) cells: &'a [(CellId, Blocks)],
}

/// The cells to be read: those that change, then those that only need to be made whole.
pub(super) fn touched(geometry: &Geometry, change: &Change) -> Result<Vec<CellId>, CommitError> {
    let mut cells: Vec<CellId> = change.clients.iter().map(|(s, _)| CellId::Client(*s)).collect();
    cells.extend(change.volumes.iter().map(|(v, _)| CellId::Volume(*v)));
    let refuse = |block| Err(CommitError::Refused(Violation::NoSuchCell(block)));
    for (i, cell) in cells.iter().enumerate() {
        if !exists(geometry, *cell) || cells[..i].contains(cell) {
            return refuse(BlockId::Cell(*cell, 0, 0));
        }
    }
    if let Some((slot, _)) = change.reaped.iter().find(|(s, _)| s.index() >= geometry.slot_count()) {
        return refuse(BlockId::Slot(*slot, 0));
    }
    for cell in &change.scrub {
        if !exists(geometry, *cell) {
            return refuse(BlockId::Cell(*cell, 0, 0));
        }
        if !cells.contains(cell) {
            cells.push(*cell);
        }
    }
    Ok(cells)
}

fn exists(geometry: &Geometry, cell: CellId) -> bool {
    match cell {
        CellId::Client(s) => s.0 < geometry.max_clients(),
        CellId::Volume(v) => v.0 < geometry.max_volumes(),
    }
}

impl Input<'_> {
    /// The plan, or why there is none; nothing has been written yet.
    pub(super) fn plan(&self) -> Result<Plan, CommitError> {
        let elected = self.elected()?;
        let mut acts = VecDeque::new();
        let older = 1 - elected.copy;
        if !elected.whole && self.rules.finish_found {
            acts.push_back(self.header_write(&elected.content, older));
        }
        let current = self.current(&mut acts)?;
        let mut header = elected.content.clone();
        let mut number = self.next_number(CommitNo { epoch: self.tenure.epoch, count: self.tenure.last });
        if self.rules.renew_header && self.overwrites_unfinished(&header) {
            header.commit = number;
            acts.push_back(self.header_write(&header, older));
            acts.push_back(self.header_write(&header, elected.copy));
            number = self.next_number(number);
        }
        let tables = self.changed(header, number, &current, &mut acts)?;
        acts.push_back(self.header_write(&tables.header, older));
        if self.rules.both_headers {
            acts.push_back(self.header_write(&tables.header, elected.copy));
        }
        Ok(Plan { acts, commit: number, tables })
    }

    fn elected(&self) -> Result<&ondisk::elect::Elected<TableHeader>, CommitError> {
        let damaged = || CommitError::Damaged(self.headers.findings(self.geometry, CommitNo::default()));
        let elected = self.headers.elected.as_ref().ok_or_else(damaged)?;
        let header = &elected.content;
        let Tenure { epoch, slot, incarnation, last } = self.tenure;
        if header.is_reaped(slot, incarnation) {
            return Err(CommitError::Reaped { slot, incarnation: header.reaped[slot.index()] });
        }
        if header.commit != self.base.header.commit {
            return Err(CommitError::Moved { base: self.base.header.commit, found: header.commit });
        }
        let own = header.commit.epoch == epoch && header.commit.count == last;
        if header.commit.epoch >= epoch && !own {
            return Err(CommitError::StaleEpoch { epoch, found: header.commit });
        }
        Ok(elected)
    }

    fn next_number(&self, last: CommitNo) -> CommitNo {
        let count = if self.rules.own_number { last.count.saturating_add(1) } else { 1 };
        CommitNo { count, ..last }
    }

    fn header_write(&self, header: &TableHeader, copy: usize) -> Act {
        let place = self.geometry.header_copy(copy);
        let mut bytes = vec![0; self.geometry.header_bytes()];
        header.encode(place, &mut bytes);
        Act::Write { offset: place.offset, bytes, fua: true }
    }

    /// What each touched cell says now; a bad copy of it is written again.
    fn current(&self, acts: &mut VecDeque<Act>) -> Result<Vec<(CellId, CellRead)>, CommitError> {
        let mut all = Vec::new();
        for (cell, blocks) in self.cells {
            let entry = self.base.header.cells[self.geometry.cell_index(*cell)];
            let at = usize::from(entry.version) * 2;
            let read = cells::named(self.geometry, *cell, &entry, [blocks.block(at), blocks.block(at + 1)]);
            let Some(content) = &read.content else {
                return Err(CommitError::Damaged(cell_findings(self.geometry, *cell, entry.version, &read)));
            };
            for copy in (0..2).filter(|c| read.wrong[*c].is_some() && self.rules.each_version_twice) {
                let (bytes, crc) = content.encode(self.geometry, *cell, (entry.version, copy), entry.commit);
                // A block that this program cannot make again as the header names it stays as it is.
                if crc == entry.crc {
                    let offset = self.geometry.cell_block(*cell, entry.version, copy).offset;
                    acts.push_back(Act::Write { offset, bytes, fua: true });
                }
            }
            all.push((*cell, read));
        }
        Ok(all)
    }

    /// Does a block that is about to be overwritten belong to a commit whose header may still be in flight?
    /// A block that cannot be read may.
    fn overwrites_unfinished(&self, header: &TableHeader) -> bool {
        let spare = |cell: &CellId, blocks: &Blocks| {
            let version = 1 - header.cells[self.geometry.cell_index(*cell)].version;
            (0..2).any(|copy| {
                let bytes = blocks.block(usize::from(version) * 2 + copy);
                !cells::decode(self.geometry, *cell, (version, copy), bytes).is_ok_and(|b| b.commit <= header.commit)
            })
        };
        self.cells.iter().any(|(cell, blocks)| self.new_content(*cell).is_some() && spare(cell, blocks))
    }

    fn new_content(&self, cell: CellId) -> Option<Content> {
        match cell {
            CellId::Client(s) => {
                self.change.clients.iter().find(|(i, _)| *i == s).map(|(_, c)| Content::Client(c.clone()))
            }
            CellId::Volume(v) => {
                self.change.volumes.iter().find(|(i, _)| *i == v).map(|(_, t)| Content::Volume(t.clone()))
            }
        }
    }

    /// The tables after the change, and the writes of their cells.
    fn changed(
        &self,
        header: TableHeader,
        number: CommitNo,
        current: &[(CellId, CellRead)],
        acts: &mut VecDeque<Act>,
    ) -> Result<Tables, CommitError> {
        let mut tables = Tables { header, ..self.base.clone() };
        tables.header.commit = number;
        for (slot, incarnation) in &self.change.reaped {
            let reaped = &mut tables.header.reaped[slot.index()];
            *reaped = (*reaped).max(*incarnation);
        }
        if self.tenure.last == 0 {
            tables.header.opened = tables.header.opened.saturating_add(1);
        }
        for (cell, content) in current.iter().filter_map(|(c, _)| Some((*c, self.new_content(*c)?))) {
            tables.put(cell, content);
        }
        let (clients, volumes) = tables.counts();
        (tables.header.clients, tables.header.volumes) = (clients, volumes);
        let old = semantics::violations(self.geometry, self.base);
        let new = semantics::violations(self.geometry, &tables);
        if let Some((_, violation)) = new.into_iter().find(|v| !old.contains(v)) {
            return Err(CommitError::Refused(violation));
        }
        let copies = if self.rules.each_version_twice { 2 } else { 1 };
        let mut wrote = false;
        for (cell, content) in current.iter().filter_map(|(c, _)| Some((*c, self.new_content(*c)?))) {
            let entry = &mut tables.header.cells[self.geometry.cell_index(cell)];
            let version = 1 - entry.version;
            for copy in 0..copies {
                let (bytes, crc) = content.encode(self.geometry, cell, (version, copy), number);
                let offset = self.geometry.cell_block(cell, version, copy).offset;
                acts.push_back(Act::Write { offset, bytes, fua: false });
                *entry = CellEntry::new(version, crc, number);
            }
            wrote = true;
        }
        if wrote && self.rules.flush_cells {
            acts.push_back(Act::Flush);
        }
        Ok(tables)
    }
}
