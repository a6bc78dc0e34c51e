//! What can happen, and what comes of it.

use std::fmt;

use lockdriver::tables::{IoResult, LoadStep, Loader};
use lockdriver::transaction::{Commit, CommitError, CommitStep, Tenure};
use ondisk::{CellId, CommitNo, Incarnation, SlotIndex};

use super::disk::load;
use super::state::{Holder, Reader, State};
use super::{Commits, Fault, Wish};

/// One event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// The next holder enters and loads the tables.
    Enter,
    /// The holder's next read, write or flush is done.
    Step,
    /// The holder dies; its write under way never lands.
    Die,
    /// It dies, and its write is half written.
    DieTorn,
    /// It dies, and its write is still on its way.
    DieLate,
    /// The late write lands.
    Land,
    /// The block with this number is lost.
    Lose(usize),
    /// The reader begins, or does its next read.
    Read,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enter => f.write_str("the next holder enters and loads the tables"),
            Self::Step => f.write_str("the holder's next read, write or flush is done"),
            Self::Die => f.write_str("the holder dies"),
            Self::DieTorn => f.write_str("the holder dies; its write is torn"),
            Self::DieLate => f.write_str("the holder dies; its write is still on its way"),
            Self::Land => f.write_str("the late write lands"),
            Self::Lose(block) => write!(f, "block {block} is lost (0, 1: header copies; then the first client's cell)"),
            Self::Read => f.write_str("the reader does its next read"),
        }
    }
}

impl Commits {
    pub(super) fn ready(&self, state: &State, out: &mut Vec<Action>) {
        match &state.holder {
            None if usize::from(state.entered) < self.holders.len() => out.push(Action::Enter),
            Some(holder) => {
                out.extend([Action::Step, Action::Die]);
                if matches!(holder.commit.step(), CommitStep::Write { .. }) && !state.faulted {
                    match self.fault {
                        Fault::Torn => out.push(Action::DieTorn),
                        Fault::Late => out.push(Action::DieLate),
                        Fault::None | Fault::Lost => {}
                    }
                }
            }
            None => {}
        }
        if state.late.is_some() {
            out.push(Action::Land);
        }
        if self.fault == Fault::Lost && !state.faulted {
            out.extend((0..self.blocks().len()).map(Action::Lose));
        }
        if self.reader && state.reads < 2 {
            out.push(Action::Read);
        }
    }

    /// Offsets of the blocks that may be lost.
    fn blocks(&self) -> Vec<u64> {
        let g = &self.geometry;
        let cell = |c: u16| (0..2u8).flat_map(move |v| (0..2).map(move |copy| (c, v, copy)));
        let headers = (0..2).map(|copy| g.header_copy(copy).offset);
        let cells = cell(0).chain(cell(1).filter(|_| self.holders.contains(&Wish::Both)));
        headers.chain(cells.map(|(c, v, copy)| g.cell_block(CellId::Client(SlotIndex(c)), v, copy).offset)).collect()
    }

    pub(super) fn act(&self, state: &mut State, action: Action) {
        match action {
            Action::Enter => self.enter(state),
            Action::Step => self.step(state),
            Action::Die => state.holder = None,
            Action::DieTorn => {
                state.faulted = true;
                if let Some(CommitStep::Write { offset, bytes, .. }) = state.holder.take().map(|h| h.commit.step()) {
                    state.disk.tear(offset, &bytes);
                }
            }
            Action::DieLate => {
                state.faulted = true;
                if let Some(CommitStep::Write { offset, bytes, .. }) = state.holder.take().map(|h| h.commit.step()) {
                    state.late = Some((offset, bytes.into()));
                }
            }
            Action::Land => {
                if let Some((offset, bytes)) = state.late.take() {
                    state.disk.put(offset, &bytes);
                }
            }
            Action::Lose(block) => {
                state.faulted = true;
                state.disk.lose(self.blocks()[block]);
            }
            Action::Read => self.read(state),
        }
    }

    fn enter(&self, state: &mut State) {
        let Some(tables) = load(&self.geometry, &state.disk, state.mark) else {
            state.harm("the tables are damaged");
            return;
        };
        let wish = self.holders[usize::from(state.entered)];
        state.entered += 1;
        let slot = SlotIndex(0);
        let tenure = Tenure::new(u64::from(state.entered) * 10, slot, Incarnation(1));
        self.begin(state, wish, tenure, tables, wish == Wish::Twice);
    }

    fn begin(&self, state: &mut State, wish: Wish, tenure: Tenure, base: lockdriver::tables::Tables, again: bool) {
        state.commits += 1;
        let change = Self::change(wish, state.commits);
        let before = Self::value(&base);
        let after = match wish {
            Wish::X | Wish::Twice => (state.commits, before.1, before.2),
            Wish::Both => (state.commits, state.commits, before.2),
            Wish::Reap => (before.0, before.1, before.2.max(u64::from(state.commits))),
        };
        state.tried.push(after);
        let commit = Commit::with_rules(&self.geometry, self.rules, tenure, base, change);
        state.holder = Some(Holder::new(commit, tenure, wish, after, again));
    }

    fn step(&self, state: &mut State) {
        let Some(holder) = &mut state.holder else { return };
        let result = match holder.commit.step() {
            CommitStep::Read { offset, len } => state.disk.read(offset, len),
            CommitStep::Write { offset, bytes, .. } => {
                state.disk.put(offset, &bytes);
                IoResult::Done
            }
            CommitStep::Flush => IoResult::Done,
            CommitStep::Committed { commit, tables } => {
                let Holder { tenure, wish, value, again, .. } = holder.clone();
                state.acknowledge(commit, value);
                state.holder = None;
                if again {
                    self.begin(state, wish, tenure.after(commit), tables, false);
                }
                return;
            }
            // The tables moved: the late header of one that died. The next holder looks again.
            CommitStep::Failed(CommitError::Moved { .. }) => {
                state.holder = None;
                return;
            }
            CommitStep::Failed(_) => {
                state.harm("a commit fails that nothing forbids");
                return;
            }
        };
        holder.done(result);
    }

    fn read(&self, state: &mut State) {
        let reader = state.reader.take();
        let mut reader = reader.unwrap_or_else(|| Reader::new(Loader::new(&self.geometry, state.mark), state.value));
        match reader.loader.step() {
            LoadStep::Read { offset, len } => {
                reader.done(state.disk.read(offset, len));
                state.reader = Some(reader);
            }
            LoadStep::Done(tables) => {
                let value = Self::value(&tables);
                let known = state.tried.contains(&value) || value == state.first;
                if !known || !state.is_allowed_since(value, &reader) {
                    state.harm("a reader sees tables that never were");
                }
                state.reads += 1;
            }
            LoadStep::Retry => state.reads += 1,
            LoadStep::Damaged(_) => state.harm("a reader finds damage"),
        }
    }

    /// Whoever loads the tables now gets what was acknowledged last, or what was tried after it.
    pub(super) fn look(&self, state: &mut State) {
        let Some(tables) = load(&self.geometry, &state.disk, CommitNo::default()) else {
            state.harm("the tables are damaged");
            return;
        };
        state.value = Self::value(&tables);
        if !state.is_allowed(state.value) {
            state.harm("an acknowledged commit is lost, or the tables never were so");
        } else if load(&self.geometry, &state.disk, state.mark).is_none() {
            state.harm("a mark raises a false alarm");
        }
    }
}
