//! Reads the tables without the semaphore: header, cells, header again, a seqlock on the commit number (section 4).

use std::collections::VecDeque;

use ondisk::{CellId, CommitNo, Geometry, TableHeader};

use super::blocks::Blocks;
use super::headers::HeaderRead;
use super::{IoResult, Tables, cells};
use crate::check::{BlockId, Finding, Recovered, Severity};

/// Most bytes asked for in one read.
const READ_BYTES_MAX: usize = 1 << 20;

/// What the loader wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadStep {
    /// Read these bytes and hand them to [`Loader::done`].
    Read {
        /// Byte offset on the control volume.
        offset: u64,
        /// Bytes.
        len: usize,
    },
    /// The tables as of one commit.
    Done(Tables),
    /// The tables changed meanwhile, or the header was seen half-written. The loader starts anew with the next step;
    /// when this goes on for longer than a beat it is damage: [`Loader::give_up`] names it (trace C4).
    Retry,
    /// The tables cannot be recovered, or an acknowledged commit is missing.
    Damaged(Vec<Finding>),
}

/// Cells read together.
#[derive(Debug, Clone)]
struct Run {
    cells: Vec<CellId>,
    /// One cell: only the version that counts. More: all four blocks of each, since they are neighbours.
    one: bool,
    blocks: Blocks,
}

#[derive(Debug, Clone)]
enum State {
    Header(Blocks),
    Cells { tables: Tables, todo: VecDeque<Run>, bad: Vec<Finding>, lost: bool },
    Again { tables: Tables, bad: Vec<Finding>, lost: bool, blocks: Blocks },
    Out(Option<LoadStep>),
}

/// The recovery of section 4 as a machine: [`Loader::step`] says what to read, [`Loader::done`] takes the bytes.
#[derive(Debug, Clone)]
pub struct Loader {
    geometry: Geometry,
    mark: CommitNo,
    old: Option<Tables>,
    state: State,
    findings: Vec<Finding>,
    failure: Vec<Finding>,
}

impl Loader {
    /// A full load. `mark` is the highest commit acknowledged in any slot, as read BEFORE this load begins
    /// (a slot read later may name a commit that this header read is too early for); 0.0 when no slot was read.
    pub fn new(geometry: &Geometry, mark: CommitNo) -> Self {
        let state = State::Header(HeaderRead::blocks(geometry));
        Self { geometry: geometry.clone(), mark, old: None, state, findings: Vec::new(), failure: Vec::new() }
    }

    /// A load that takes from `old` every cell whose header entry has not changed.
    pub fn incremental(geometry: &Geometry, mark: CommitNo, old: Tables) -> Self {
        Self { old: Some(old), ..Self::new(geometry, mark) }
    }

    /// What to do next. After [`LoadStep::Done`] and [`LoadStep::Damaged`] there is nothing more.
    pub fn step(&mut self) -> LoadStep {
        let want = match &mut self.state {
            State::Header(blocks) | State::Again { blocks, .. } => blocks.want(),
            State::Cells { todo, .. } => todo.front().and_then(|run| run.blocks.want()),
            State::Out(out) => {
                let out = out.take().unwrap_or(LoadStep::Retry);
                if out == LoadStep::Retry {
                    self.state = State::Header(HeaderRead::blocks(&self.geometry));
                }
                return out;
            }
        };
        let (offset, len) = want.expect("a state that wants nothing is left in done()");
        LoadStep::Read { offset, len }
    }

    /// Takes the outcome of the read that [`Self::step`] asked for.
    pub fn done(&mut self, result: IoResult) {
        let bytes = match result {
            IoResult::Bytes(bytes) => Some(bytes),
            IoResult::Done | IoResult::Failed => None,
        };
        self.state = match std::mem::replace(&mut self.state, State::Out(None)) {
            State::Header(mut blocks) => {
                blocks.done(bytes);
                if blocks.want().is_some() { State::Header(blocks) } else { self.header(&blocks) }
            }
            State::Cells { mut tables, mut todo, mut bad, mut lost } => {
                if let Some(run) = todo.front_mut() {
                    run.blocks.done(bytes);
                    if run.blocks.want().is_none() {
                        lost |= take_run(&self.geometry, &mut tables, run, &mut bad);
                        todo.pop_front();
                    }
                }
                if todo.is_empty() {
                    State::Again { tables, bad, lost, blocks: HeaderRead::blocks(&self.geometry) }
                } else {
                    State::Cells { tables, todo, bad, lost }
                }
            }
            State::Again { tables, bad, lost, mut blocks } => {
                blocks.done(bytes);
                if blocks.want().is_some() {
                    State::Again { tables, bad, lost, blocks }
                } else {
                    self.again(tables, bad, lost, &blocks)
                }
            }
            out @ State::Out(_) => out,
        };
    }

    /// Blocks that were bad although everything was recovered: for a message, and for `Change::scrub`.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Why the last [`LoadStep::Retry`] was asked for: damage, once it has lasted for a beat. Empty when the tables
    /// only changed too fast.
    pub fn give_up(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.failure)
    }

    fn header(&mut self, blocks: &Blocks) -> State {
        let read = HeaderRead::of_blocks(&self.geometry, blocks);
        let found = read.findings(&self.geometry, self.mark);
        let Some(elected) = &read.elected else {
            if read.twins().is_some() {
                return State::Out(Some(LoadStep::Damaged(found)));
            }
            self.failure = found;
            return State::Out(Some(LoadStep::Retry));
        };
        if found.iter().any(|f| f.severity == Severity::Lost) {
            return State::Out(Some(LoadStep::Damaged(found)));
        }
        self.findings = found;
        let header = elected.content.clone();
        let (tables, todo) = self.plan(header);
        if todo.is_empty() {
            return State::Out(Some(LoadStep::Done(tables)));
        }
        State::Cells { tables, todo, bad: Vec::new(), lost: false }
    }

    /// What is known already, and the reads for the rest.
    fn plan(&self, header: TableHeader) -> (Tables, VecDeque<Run>) {
        let mut tables = Tables::empty(&self.geometry, header);
        let mut changed = Vec::new();
        for cell in self.geometry.cells() {
            let index = self.geometry.cell_index(cell);
            match &self.old {
                Some(old) if old.header.cells.get(index) == tables.header.cells.get(index) => {
                    tables.put(cell, old.get(cell));
                }
                _ => changed.push(cell),
            }
        }
        let todo = runs(&self.geometry, &tables.header, &changed);
        (tables, todo)
    }

    fn again(&mut self, tables: Tables, bad: Vec<Finding>, lost: bool, blocks: &Blocks) -> State {
        let read = HeaderRead::of_blocks(&self.geometry, blocks);
        let same = read.elected.as_ref().is_some_and(|e| e.content == tables.header);
        if !same {
            self.failure = if read.elected.is_none() { read.findings(&self.geometry, self.mark) } else { Vec::new() };
            return State::Out(Some(LoadStep::Retry));
        }
        if lost {
            return State::Out(Some(LoadStep::Damaged(bad)));
        }
        self.findings.extend(bad);
        State::Out(Some(LoadStep::Done(tables)))
    }
}

fn runs(geometry: &Geometry, header: &TableHeader, cells: &[CellId]) -> VecDeque<Run> {
    let mut groups: Vec<Vec<CellId>> = Vec::new();
    for cell in cells {
        let whole = geometry.cell_bytes(*cell) * 4;
        let start = geometry.cell_block(*cell, 0, 0).offset;
        match groups.last_mut() {
            Some(group)
                if geometry.cell_block(group[group.len() - 1], 0, 0).offset + whole as u64 == start
                    && geometry.cell_bytes(group[0]) * 4 == whole
                    && (group.len() + 1) * whole <= READ_BYTES_MAX =>
            {
                group.push(*cell);
            }
            _ => groups.push(vec![*cell]),
        }
    }
    groups
        .into_iter()
        .map(|cells| {
            let size = geometry.cell_bytes(cells[0]);
            let one = cells.len() == 1;
            let version = if one { header.cells[geometry.cell_index(cells[0])].version } else { 0 };
            let offset = geometry.cell_block(cells[0], version, 0).offset;
            let count = if one { 2 } else { cells.len() * 4 };
            Run { cells, one, blocks: Blocks::new(offset, size, count) }
        })
        .collect()
}

/// Puts the cells of a run into the tables; true when one could not be recovered.
fn take_run(geometry: &Geometry, tables: &mut Tables, run: &Run, bad: &mut Vec<Finding>) -> bool {
    let mut lost = false;
    for (i, cell) in run.cells.iter().enumerate() {
        let entry = tables.header.cells[geometry.cell_index(*cell)];
        let first = if run.one { 0 } else { i * 4 + usize::from(entry.version) * 2 };
        let read = cells::named(geometry, *cell, &entry, [run.blocks.block(first), run.blocks.block(first + 1)]);
        bad.extend(cell_findings(geometry, *cell, entry.version, &read));
        match read.content {
            Some(content) => tables.put(*cell, content),
            None => lost = true,
        }
    }
    lost
}

/// The findings about the current version of a cell.
pub(crate) fn cell_findings(geometry: &Geometry, cell: CellId, version: u8, read: &cells::CellRead) -> Vec<Finding> {
    let (severity, good) = match read.content {
        Some(_) => (Severity::Redundancy, true),
        None => (Severity::Damage, false),
    };
    let finding = |copy: u8| {
        let wrong = read.wrong[usize::from(copy)].clone()?;
        let recovered = if good { Recovered::FromCopy(1 - copy) } else { Recovered::Nothing };
        let offset = geometry.cell_block(cell, version, usize::from(copy)).offset;
        Some(Finding { severity, block: BlockId::Cell(cell, version, copy), offset, wrong, recovered })
    };
    [finding(0), finding(1)].into_iter().flatten().collect()
}
