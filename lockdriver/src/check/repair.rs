//! The writes that restore redundancy (section 11, `check --repair`). Nothing is repaired by forgetting.

use std::collections::{BTreeMap, BTreeSet};

use ondisk::{CellId, ClientPage, CommitNo, Incarnation, SlotIndex, SlotSector, TableHeader, Ticket};
use thiserror::Error;

use super::map::span;
use super::survey::{PageSurvey, Survey};
use super::{BlockId, Finding, Report, Severity, Wrong};
use crate::format::empty_page;
use crate::tables::cells::Content;

/// One write; each must be on stable storage before the next begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Which block.
    pub block: BlockId,
    /// Where, in bytes.
    pub offset: u64,
    /// The whole block.
    pub bytes: Vec<u8>,
}

/// What the caller may do. It holds the semaphore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairOptions {
    /// A commit number of the caller's tenure that was not used yet, for the header.
    pub commit: CommitNo,
    /// A human accepts that acknowledged commits are gone.
    pub accept_loss: bool,
    /// Slots whose two sectors the caller saw unchanged, or unreadable, in every own read for `dead`.
    /// Slots and pages of others are left alone; so are those of a client that is logged on and not reaped.
    pub still: Vec<SlotIndex>,
    /// Silent clients that the caller's tenure passed: the header reaps them.
    pub passed: Vec<(SlotIndex, Incarnation)>,
}

/// What to write, and what stays broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairPlan {
    /// In order.
    pub writes: Vec<Write>,
    /// The number that the header carries afterwards, if it is written: to be acknowledged in the own slot.
    pub commit: Option<CommitNo>,
    /// Findings that these writes do not mend.
    pub left: Vec<Finding>,
}

/// Why nothing can be repaired.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RepairError {
    /// There is no usable superblock.
    #[error("no superblock can be used; without it nothing is known of the volume")]
    NoSuperblock,
    /// A feature, or a block, of a newer program forbids writing.
    #[error("a newer version of the program wrote on this control volume; only that one may repair it")]
    ReadOnly,
    /// The caller's commit number is not newer than what stands on the volume.
    #[error("commit {own} is not newer than {found}, which the volume names")]
    StaleEpoch {
        /// The caller's.
        own: CommitNo,
        /// The newest found.
        found: CommitNo,
    },
}

/// Plans the repair of what a check found. The check must have been made inside the semaphore's tenure that writes.
///
/// # Errors
/// When nothing may be written at all.
pub fn repair(report: &Report, options: &RepairOptions) -> Result<RepairPlan, RepairError> {
    let survey = report.survey.as_deref().ok_or(RepairError::NoSuperblock)?;
    let newer = report.findings.iter().any(|f| matches!(f.wrong, Wrong::Unsupported(_)));
    if newer || !survey.geometry.writable() {
        return Err(RepairError::ReadOnly);
    }
    let mut plan = Planner { survey, options, report, writes: Vec::new(), commit: None, reaped: BTreeMap::new() };
    plan.superblocks();
    plan.reap_unreadable();
    plan.tables()?;
    plan.slots_and_pages();
    let mended: BTreeSet<BlockId> = plan.writes.iter().map(|w| w.block).collect();
    let stays = |f: &&Finding| match f.wrong {
        Wrong::Rule(super::Violation::LoggedOn(..)) => !mended.contains(&f.block),
        Wrong::Rule(_) | Wrong::SuperblocksDiffer => true,
        _ => !mended.contains(&f.block),
    };
    let left = report.findings.iter().filter(stays).cloned().collect();
    Ok(RepairPlan { writes: plan.writes, commit: plan.commit, left })
}

struct Planner<'a> {
    survey: &'a Survey,
    options: &'a RepairOptions,
    report: &'a Report,
    writes: Vec<Write>,
    commit: Option<CommitNo>,
    /// Slots that are written anew, with the incarnation that the header reaps first.
    reaped: BTreeMap<SlotIndex, Incarnation>,
}

impl Planner<'_> {
    fn write(&mut self, block: BlockId, encode: impl FnOnce(ondisk::Place, &mut [u8])) {
        let (offset, len) = span(&self.survey.geometry, block);
        let mut bytes = vec![0; len];
        encode(ondisk::Place { table: self.survey.geometry.table(), offset }, &mut bytes);
        self.writes.push(Write { block, offset, bytes });
    }

    fn superblocks(&mut self) {
        let survey = self.survey;
        let (copy, good) = match &survey.superblocks {
            [Err(_), Ok(good)] => (0, good),
            [Ok(good), Err(_)] => (1, good),
            _ => return,
        };
        self.write(BlockId::Superblock(copy), |place, bytes| good.encode(place.offset, bytes));
    }

    /// Header and cells. The elected header is written anew under the caller's number before a spare version is
    /// touched: a header that names it may still be in flight (section 4, "Commit").
    fn tables(&mut self) -> Result<(), RepairError> {
        let about = |f: &&Finding| matches!(f.block, BlockId::Header(_) | BlockId::Cell(..));
        let mut found = self.report.findings.iter().filter(about).peekable();
        let lost = found.clone().any(|f| f.severity == Severity::Lost);
        let Some(elected) = self.survey.headers.elected.as_ref() else { return Ok(()) };
        let nobody_to_reap = self.reaped.is_empty() && self.options.passed.is_empty();
        let nothing_to_mend = found.all(|f| matches!(f.wrong, Wrong::Rule(_))) && nobody_to_reap;
        if nothing_to_mend || (lost && !self.options.accept_loss) {
            return Ok(());
        }
        let newest = elected.content.commit.max(self.survey.mark());
        if self.options.commit <= newest {
            return Err(RepairError::StaleEpoch { own: self.options.commit, found: newest });
        }
        for cell in self.survey.geometry.cells() {
            self.current_copies(cell, &elected.content);
        }
        let mut header = TableHeader { commit: self.options.commit, ..elected.content.clone() };
        for (slot, incarnation) in self.reaped.iter().map(|(s, i)| (*s, *i)).chain(self.options.passed.iter().copied())
        {
            if let Some(reaped) = header.reaped.get_mut(slot.index()) {
                *reaped = (*reaped).max(incarnation);
            }
        }
        for copy in [1 - elected.copy, elected.copy] {
            let id = BlockId::Header(u8::from(copy == 1));
            self.write(id, |place, bytes| header.encode(place, bytes));
        }
        self.commit = Some(self.options.commit);
        for cell in self.survey.geometry.cells() {
            self.spare_copies(cell, &elected.content);
        }
        Ok(())
    }

    fn cell(&mut self, cell: CellId, at: (u8, u8), content: &Content, entry: &ondisk::CellEntry) {
        let (bytes, crc) = content.encode(&self.survey.geometry, cell, (at.0, usize::from(at.1)), entry.commit);
        // A block that this program cannot make again as the header names it stays as it is.
        if crc == entry.crc {
            let block = BlockId::Cell(cell, at.0, at.1);
            self.writes.push(Write { block, offset: span(&self.survey.geometry, block).0, bytes });
        }
    }

    fn current_copies(&mut self, cell: CellId, header: &TableHeader) {
        let survey = self.survey;
        let index = survey.geometry.cell_index(cell);
        let Some(read) = &survey.cells[index].current else { return };
        let Some(content) = &read.content else { return };
        let entry = header.cells[index];
        for copy in (0..2u8).filter(|c| read.wrong[usize::from(*c)].is_some()) {
            self.cell(cell, (entry.version, copy), content, &entry);
        }
    }

    /// A spare version that is bad, uneven or of a commit that never came is filled with the current content.
    fn spare_copies(&mut self, cell: CellId, header: &TableHeader) {
        let survey = self.survey;
        let index = survey.geometry.cell_index(cell);
        let entry = header.cells[index];
        let spare = 1 - entry.version;
        let even = match &survey.cells[index].blocks[usize::from(spare)] {
            [Ok(a), Ok(b)] => a == b && a.0 <= header.commit,
            _ => false,
        };
        if even {
            return;
        }
        let Some(content) = survey.cells[index].current.as_ref().and_then(|c| c.content.as_ref()) else { return };
        for copy in 0..2u8 {
            self.cell(cell, (spare, copy), content, &entry);
        }
    }

    /// May the slot and page of this client be written by others?
    fn is_left(&self, slot: SlotIndex) -> bool {
        let Some(header) = self.survey.header() else { return false };
        let (sector, _) = self.survey.slot(slot);
        let live = sector.is_some_and(|s| s.logged_on && !header.is_reaped(slot, s.incarnation));
        self.options.still.contains(&slot) && !live
    }

    fn slots_and_pages(&mut self) {
        let left: Vec<_> = self.survey.geometry.slots().filter(|s| self.is_left(*s)).collect();
        for slot in left {
            // Without the header's reaping the slot is not written: nothing then says that the lost record is over.
            let fresh = self.reaped.get(&slot).filter(|_| self.commit.is_some()).map(|i| self.fresh_slot(slot, *i));
            let known = self.survey.slot(slot).0.copied().unwrap_or_default();
            // Page first, slot second, always: the slot promises a page that is there.
            if !self.survey.geometry.is_admin(slot) {
                let survey = self.survey;
                self.page(slot, &survey.pages[slot.index()], &fresh.unwrap_or(known));
            }
            if let Some(fresh) = fresh {
                self.slot(slot, fresh);
            }
        }
    }

    /// A slot with a bad sector is reaped before it is written anew, as 1 + the highest incarnation known: what the
    /// lost sector held is over by that, and grants of it wait `inflight` like those of any dead client.
    fn reap_unreadable(&mut self) {
        let bad =
            |slot: SlotIndex| self.report.findings.iter().any(|f| matches!(f.block, BlockId::Slot(s, _) if s == slot));
        let all = self.survey.geometry.slots().filter(|s| bad(*s) && self.is_left(*s));
        let reap = |slot| (slot, Incarnation(self.survey.highest_incarnation(slot).0.saturating_add(1)));
        self.reaped = all.map(reap).collect();
    }

    /// What a slot whose own record is gone carries on: numbers above everything that can have been in it.
    fn fresh_slot(&self, slot: SlotIndex, reaped: Incarnation) -> SlotSector {
        let legible = || self.survey.slots[slot.index()].iter().filter_map(|s| s.as_ref().ok());
        let page = self.survey.pages.get(slot.index()).filter(|_| !self.survey.geometry.is_admin(slot));
        let sequence = page.and_then(PageSurvey::newest).map_or(0, |s| s.minor);
        SlotSector {
            incarnation: Incarnation(reaped.0.saturating_add(1)),
            page_sequence: legible().map(|s| s.page_sequence).max().unwrap_or(0).max(sequence),
            ticket: self.highest_number(),
            acknowledged: legible().map(|s| s.acknowledged).max().unwrap_or_default(),
            ..SlotSector::default()
        }
    }

    fn highest_number(&self) -> Ticket {
        let sectors = self.survey.slots.iter().flatten().filter_map(|s| Some(s.as_ref().ok()?.ticket.0));
        let headers = self.survey.headers.copies.iter().filter_map(|h| Some(h.as_ref().ok()?.commit.epoch));
        let blocks = self.survey.cells.iter().flat_map(|c| c.blocks.iter().flatten());
        let cells = blocks.filter_map(|b| Some(b.as_ref().ok()?.0.epoch));
        let highest = sectors.chain(headers).chain(cells).max().unwrap_or(0);
        Ticket(highest.max(self.options.commit.epoch))
    }

    /// The other sector keeps the incarnation before, with the same ticket, so that a late write hides nothing.
    fn slot(&mut self, slot: SlotIndex, fresh: SlotSector) {
        let before = SlotSector { incarnation: Incarnation(fresh.incarnation.0.saturating_sub(1)), ..fresh };
        for sector in [before, fresh] {
            let at = u8::from(sector.incarnation.sector() == 1);
            self.write(BlockId::Slot(slot, at), |place, bytes| sector.encode(place, bytes));
        }
    }

    fn page(&mut self, slot: SlotIndex, page: &PageSurvey, sector: &SlotSector) {
        let promised = sector.page_sequence;
        let old = page.newest().is_none_or(|n| n.minor < promised);
        if page.equal && !old {
            return;
        }
        if let Some((good, copy)) = page.elected.as_ref().filter(|_| !old) {
            let id = BlockId::Page(slot, u8::from(*copy == 0));
            self.write(id, |place, bytes| good.encode(place, bytes));
            return;
        }
        let sequence = promised.max(page.newest().map_or(0, |n| n.minor));
        let fresh = ClientPage { incarnation: sector.incarnation, sequence, ..empty_page(&self.survey.geometry) };
        for copy in 0..2u8 {
            self.write(BlockId::Page(slot, copy), |place, bytes| fresh.encode(place, bytes));
        }
    }
}
