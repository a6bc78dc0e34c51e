//! How a case begins.

use std::sync::Arc;
use std::time::Duration;

use ondisk::{Incarnation, Message};
use volctl::engine::Command;

use super::act::Action;
use super::client::{Client, View};
use super::engines::{FIRST, tables};
use super::kernel::Kernel;
use super::{Begins, CLIENTS, Slot, State, Studio};

/// Virtual time begins here.
const START: Duration = Duration::from_secs(1000);
/// More events than any prologue needs.
const PATIENCE: usize = 2000;

impl Studio {
    pub(super) fn begin(&self) -> State {
        let readers = self.case.readers;
        let tables = Arc::new(tables(readers, self.case.willing, self.case.dirty));
        let view = View { now: START, tables: Arc::clone(&tables), peers: Vec::new(), page_on_disk: 0 };
        let mut state = State {
            now: START,
            tables,
            semaphore: None,
            slots: [Slot::default(); CLIENTS],
            pages: Default::default(),
            clients: std::array::from_fn(|_| Arc::new(Client::away(view.clone()))),
            kernel: Kernel::new(readers, self.case.keeps_files, FIRST, self.case.dirty),
            ran: 0,
            noes: 0,
            left: self.case.budget,
            harm: None,
        };
        // A prologue in which one thing happens after the other, and nothing goes wrong.
        let of = |wanted: Begins| (0..CLIENTS).filter(move |c| self.case.begins[*c] == wanted);
        for c in of(Begins::Settled).chain(of(Begins::Unmounted)) {
            self.log_in(&mut state, c);
        }
        self.settle(&mut state);
        for c in of(Begins::Unmounted) {
            self.command(&mut state, c, Command::Unmount { volume: "footage".into() });
        }
        if let Some(writer) = self.case.writer {
            let wanted = Command::Request { volume: "footage".into(), message: Message::default(), wait: None };
            self.command(&mut state, writer, wanted);
        }
        for c in of(Begins::Fresh) {
            self.log_in(&mut state, c);
        }
        if let Some((c, killed)) = self.case.gone {
            state.end(c, killed);
            if !killed {
                state.kernel.close(c, state.now);
            }
        }
        state.forget_numbers();
        state
    }

    fn log_in(&self, state: &mut State, c: usize) {
        state.slots[c] = Slot { incarnation: Incarnation(1), logged_on: true, page: 0, beat: state.now };
        self.start_engine(state, c);
    }

    /// A person runs it, and all that comes of it happens.
    fn command(&self, state: &mut State, c: usize, command: Command) {
        let case = super::Case { people: vec![(c, command)], ..self.case.clone() };
        Self { case, ..self.clone() }.run(state, c, 0);
        state.ran = 0;
        self.settle(state);
    }

    /// Everything that can be done without anybody's wish or trouble is done.
    fn settle(&self, state: &mut State) {
        let quiet = Self { case: super::Case { people: Vec::new(), ..self.case.clone() }, ..self.clone() };
        state.left = super::Budget::default();
        for n in 0..PATIENCE {
            let mut ready = Vec::new();
            for c in state.everybody() {
                quiet.actions_of(state, c, &mut ready);
            }
            // Polls of everybody in turn, and whatever else there is first.
            let other = ready.iter().find(|a| !matches!(a, Action::Poll(_)));
            let polls = ready.len();
            let Some(action) = other.or_else(|| ready.get(n % polls.max(1))).copied() else { break };
            quiet.act(state, action);
        }
        state.left = self.case.budget;
    }
}
