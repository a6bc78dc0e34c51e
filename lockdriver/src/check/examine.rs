//! From what was read to findings: the judgement of each kind of block.

use ondisk::{CellId, CommitNo, Incarnation, SlotIndex};

use super::map::span;
use super::semantics::{self, block_of};
use super::survey::{CellSurvey, Survey};
use super::{BlockId, Finding, Recovered, Severity, Violation, Wrong};
use crate::tables::{Tables, cell_findings};

/// All findings, in the order in which the blocks lie on the volume.
pub(super) fn findings(survey: &Survey) -> Vec<Finding> {
    let mut list = List { survey, found: Vec::new() };
    list.superblocks();
    for slot in survey.geometry.slots() {
        list.slot(slot);
    }
    list.found.extend(survey.headers.findings(&survey.geometry, survey.mark()));
    for slot in survey.geometry.clients() {
        list.page(slot);
    }
    for (cell, blocks) in survey.geometry.cells().zip(&survey.cells) {
        list.cell(cell, blocks);
    }
    if let Some(tables) = survey.tables() {
        list.rules(&tables);
    }
    list.found
}

struct List<'a> {
    survey: &'a Survey,
    found: Vec<Finding>,
}

impl List<'_> {
    fn add(&mut self, severity: Severity, block: BlockId, wrong: Wrong, recovered: Recovered) {
        let (offset, _) = span(&self.survey.geometry, block);
        self.found.push(Finding { severity, block, offset, wrong, recovered });
    }

    fn superblocks(&mut self) {
        match &self.survey.superblocks {
            [Ok(a), Ok(b)] if a != b => {
                self.add(Severity::Damage, BlockId::Superblock(1), Wrong::SuperblocksDiffer, Recovered::Nothing);
            }
            copies => {
                for (copy, wrong) in [0u8, 1].into_iter().zip(copies).filter_map(|(i, c)| Some((i, c.as_ref().err()?)))
                {
                    let recovered = Recovered::FromCopy(1 - copy);
                    self.add(Severity::Redundancy, BlockId::Superblock(copy), wrong.clone(), recovered);
                }
            }
        }
    }

    /// A slot with a bad sector is unknown to all others until it is good again; its number lives on in the other.
    fn slot(&mut self, slot: SlotIndex) {
        let sectors = &self.survey.slots[slot.index()];
        for sector in 0..2u8 {
            let other = sectors[usize::from(1 - sector)].is_ok();
            match &sectors[usize::from(sector)] {
                Err(wrong) if other => {
                    let recovered = Recovered::FromCopy(1 - sector);
                    self.add(Severity::Redundancy, BlockId::Slot(slot, sector), wrong.clone(), recovered);
                }
                Err(wrong) => {
                    self.add(Severity::Damage, BlockId::Slot(slot, sector), wrong.clone(), Recovered::Nothing);
                }
                Ok(s) if s.incarnation != Incarnation(0) && s.incarnation.sector() != usize::from(sector) => {
                    let wrong = Wrong::Parity(s.incarnation);
                    self.add(Severity::Damage, BlockId::Slot(slot, sector), wrong, Recovered::Nothing);
                }
                Ok(_) => {}
            }
        }
    }

    fn page(&mut self, slot: SlotIndex) {
        let page = &self.survey.pages[slot.index()];
        match &page.copies {
            [Ok(a), Ok(b)] if !page.equal => {
                let older = if a < b { 0u8 } else { 1 };
                let (old, new) = if a < b { (a, b) } else { (b, a) };
                let wrong = Wrong::PageCopies { found: old.minor, other: new.minor };
                if a == b {
                    self.add(Severity::Damage, BlockId::Page(slot, 1), wrong, Recovered::Nothing);
                } else if old.minor.checked_add(1) == Some(new.minor) {
                    self.add(Severity::Note, BlockId::Page(slot, older), wrong, Recovered::Unfinished);
                } else {
                    let recovered = Recovered::FromCopy(1 - older);
                    self.add(Severity::Redundancy, BlockId::Page(slot, older), wrong, recovered);
                }
            }
            copies => {
                for copy in 0..2u8 {
                    let Err(wrong) = &copies[usize::from(copy)] else { continue };
                    let (severity, recovered) = if copies[usize::from(1 - copy)].is_ok() {
                        (Severity::Redundancy, Recovered::FromCopy(1 - copy))
                    } else {
                        (Severity::Damage, Recovered::Nothing)
                    };
                    self.add(severity, BlockId::Page(slot, copy), wrong.clone(), recovered);
                }
            }
        }
        let promised = self.survey.slot(slot).0.map_or(0, |s| s.page_sequence);
        if let Some(newest) = page.newest().filter(|n| n.minor < promised) {
            let wrong = Wrong::PageOlder { found: newest.minor, promised };
            self.add(Severity::Damage, BlockId::Page(slot, 0), wrong, Recovered::Nothing);
        }
    }

    fn cell(&mut self, cell: CellId, blocks: &CellSurvey) {
        let (Some(header), Some(current)) = (self.survey.header(), &blocks.current) else {
            // Without a header nobody knows which version counts; a bad block is all that can be said.
            for (version, copy) in [(0u8, 0u8), (0, 1), (1, 0), (1, 1)] {
                if let Err(wrong) = &blocks.blocks[usize::from(version)][usize::from(copy)] {
                    let block = BlockId::Cell(cell, version, copy);
                    self.add(Severity::Damage, block, wrong.clone(), Recovered::Nothing);
                }
            }
            return;
        };
        let version = header.cells[self.survey.geometry.cell_index(cell)].version;
        self.found.extend(cell_findings(&self.survey.geometry, cell, version, current));
        self.spare(cell, 1 - version, header.commit, &blocks.blocks[usize::from(1 - version)]);
    }

    /// The version that is not current: nothing needs it to read the tables.
    fn spare(&mut self, cell: CellId, version: u8, now: CommitNo, copies: &[Result<(CommitNo, u32), Wrong>; 2]) {
        for copy in 0..2u8 {
            let block = BlockId::Cell(cell, version, copy);
            let other = &copies[usize::from(1 - copy)];
            match &copies[usize::from(copy)] {
                Ok((commit, _)) if *commit > now => {
                    self.add(Severity::Note, block, Wrong::NeverCommitted(*commit), Recovered::Unfinished);
                }
                Ok(_) => {}
                Err(wrong) => {
                    // Torn beside a block of a commit to come, or beside another torn one: a commit was cut off there.
                    let cut = !other.as_ref().is_ok_and(|(commit, _)| *commit <= now);
                    // Beside a good one of the past it is rot: every block was formatted, so in health each is good.
                    let (severity, recovered) = if cut {
                        (Severity::Note, Recovered::Unfinished)
                    } else {
                        (Severity::Redundancy, Recovered::NotNeeded)
                    };
                    self.add(severity, block, wrong.clone(), recovered);
                }
            }
        }
        if let [Ok(a), Ok(b)] = copies
            && a != b
            && a.0 <= now
            && b.0 <= now
        {
            let block = BlockId::Cell(cell, version, u8::from(b.0 < a.0));
            self.add(Severity::Note, block, Wrong::SpareDiffers, Recovered::NotNeeded);
        }
    }

    fn rules(&mut self, tables: &Tables) {
        for (cell, violation) in semantics::violations(&self.survey.geometry, tables) {
            let (block, _) = block_of(&self.survey.geometry, tables, cell);
            self.add(Severity::Damage, block, Wrong::Rule(violation), Recovered::Nothing);
        }
        for (slot, record) in tables.clients() {
            if let (Some(sector), true) = self.survey.slot(slot)
                && record.logged_on > sector.incarnation
            {
                let violation = Violation::LoggedOn(slot, record.logged_on, sector.incarnation);
                let sector = u8::from(sector.incarnation.sector() == 1);
                self.add(Severity::Damage, BlockId::Slot(slot, sector), Wrong::Rule(violation), Recovered::Nothing);
            }
        }
    }
}
