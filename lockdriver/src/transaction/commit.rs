//! The commit as a machine: reads first, then a fixed list of writes, each confirmed before the next.

use ondisk::{CellId, Geometry};

use super::plan::{self, Act, Input, Plan};
use super::rules::Rules;
use super::{Change, CommitError, CommitStep, Tenure};
use crate::tables::blocks::Blocks;
use crate::tables::headers::HeaderRead;
use crate::tables::{IoResult, Tables};

#[derive(Debug, Clone)]
enum State {
    Headers(Blocks),
    Cells {
        headers: HeaderRead,
        cells: Vec<(CellId, Blocks)>,
        at: usize,
    },
    Acting(Plan),
    /// A write whose result is unknown is read back.
    ReadBack {
        plan: Plan,
        offset: u64,
        written: Vec<u8>,
    },
    Failed(CommitError),
}

/// One commit (section 4). [`Commit::step`] says what to do, [`Commit::done`] takes the outcome.
///
/// Reads: both header copies in one, and of each touched cell the four blocks in one. A read that fails is repeated
/// block by block. Nothing is written before everything is read and the change is found good.
#[derive(Debug, Clone)]
pub struct Commit {
    geometry: Geometry,
    rules: Rules,
    tenure: Tenure,
    base: Tables,
    change: Change,
    state: State,
}

impl Commit {
    /// A commit of `change` over `base`, the tables as the holder loaded them inside the semaphore.
    pub fn new(geometry: &Geometry, tenure: Tenure, base: Tables, change: Change) -> Self {
        Self::with_rules(geometry, Rules::default(), tenure, base, change)
    }

    /// A commit with some rules taken out: for tests that show what each rule is there for.
    pub fn with_rules(geometry: &Geometry, rules: Rules, tenure: Tenure, base: Tables, change: Change) -> Self {
        let state = match plan::touched(geometry, &change) {
            _ if !geometry.writable() => State::Failed(CommitError::ReadOnly),
            Ok(_) => State::Headers(HeaderRead::blocks(geometry)),
            Err(e) => State::Failed(e),
        };
        Self { geometry: geometry.clone(), rules, tenure, base, change, state }
    }

    /// What to do next; the same until [`Self::done`] is called.
    pub fn step(&self) -> CommitStep {
        let read = |blocks: &Blocks| {
            let (offset, len) = blocks.want().expect("a state that wants nothing is left in done()");
            CommitStep::Read { offset, len }
        };
        match &self.state {
            State::Headers(blocks) => read(blocks),
            State::Cells { cells, at, .. } => read(&cells[*at].1),
            State::Acting(plan) => match plan.acts.front() {
                Some(Act::Write { offset, bytes, fua }) => {
                    CommitStep::Write { offset: *offset, bytes: bytes.clone(), fua: *fua }
                }
                Some(Act::Flush) => CommitStep::Flush,
                None => CommitStep::Committed { commit: plan.commit, tables: plan.tables.clone() },
            },
            State::ReadBack { offset, written, .. } => CommitStep::Read { offset: *offset, len: written.len() },
            State::Failed(e) => CommitStep::Failed(e.clone()),
        }
    }

    /// Takes the outcome of what [`Self::step`] asked for.
    pub fn done(&mut self, result: IoResult) {
        let unknown = CommitError::Unknown { offset: 0 };
        self.state = match std::mem::replace(&mut self.state, State::Failed(unknown)) {
            State::Headers(mut blocks) => {
                blocks.done(bytes(result));
                if blocks.want().is_some() {
                    State::Headers(blocks)
                } else {
                    let headers = HeaderRead::of_blocks(&self.geometry, &blocks);
                    self.read_cells(headers)
                }
            }
            State::Cells { headers, mut cells, mut at } => {
                cells[at].1.done(bytes(result));
                at += usize::from(cells[at].1.want().is_none());
                if at < cells.len() { State::Cells { headers, cells, at } } else { self.act(&headers, &cells) }
            }
            State::Acting(plan) => acted(plan, &result),
            State::ReadBack { plan, offset, written } => match result {
                IoResult::Bytes(found) if found == written => confirmed(plan),
                _ => State::Failed(CommitError::Unknown { offset }),
            },
            State::Failed(e) => State::Failed(e),
        };
    }

    fn read_cells(&self, headers: HeaderRead) -> State {
        let cells: Vec<_> = match plan::touched(&self.geometry, &self.change) {
            Ok(cells) => cells.into_iter().map(|cell| (cell, self.blocks(cell))).collect(),
            Err(e) => return State::Failed(e),
        };
        if cells.is_empty() { self.act(&headers, &cells) } else { State::Cells { headers, cells, at: 0 } }
    }

    fn blocks(&self, cell: CellId) -> Blocks {
        Blocks::new(self.geometry.cell_block(cell, 0, 0).offset, self.geometry.cell_bytes(cell), 4)
    }

    fn act(&self, headers: &HeaderRead, cells: &[(CellId, Blocks)]) -> State {
        let input = Input {
            geometry: &self.geometry,
            rules: self.rules,
            tenure: self.tenure,
            base: &self.base,
            change: &self.change,
            headers,
            cells,
        };
        match input.plan() {
            Ok(plan) => State::Acting(plan),
            Err(e) => State::Failed(e),
        }
    }
}

fn bytes(result: IoResult) -> Option<Vec<u8>> {
    match result {
        IoResult::Bytes(b) => Some(b),
        IoResult::Done | IoResult::Failed => None,
    }
}

fn acted(mut plan: Plan, result: &IoResult) -> State {
    match (plan.acts.pop_front(), result) {
        (Some(_), IoResult::Done) => State::Acting(plan),
        (Some(Act::Write { offset, bytes, .. }), _) => State::ReadBack { plan, offset, written: bytes },
        // What a failed flush has lost cannot be read back: the bytes may come from a volatile cache.
        (Some(Act::Flush), _) => State::Failed(CommitError::Unknown { offset: 0 }),
        (None, _) => State::Acting(plan),
    }
}

/// The bytes are there; that they are stable is known only after a flush.
fn confirmed(mut plan: Plan) -> State {
    plan.acts.push_front(Act::Flush);
    State::Acting(plan)
}
