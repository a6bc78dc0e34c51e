//! Hand-over, `exclusive` and snapshot holds: three shipping engines, and the shipping transactions, over one volume.
//!
//! What is atomic: one poll's slots and tables, then (another event) its pages; a page, then (another event) the slot that
//! points at it; a transaction's look at everything, then (another event) its commit; the beginning and the end of a mount
//! or of its taking away. A measurement, a look for open files, a publish and a deletion happen in one event with the
//! step that asks for them. A driver takes in one thing at a time, and what waits for a page waits for its slot.
//!
//! Time. Nothing passes but in jumps of [`JUMP`], which is longer than every wait but `inflight`, which needs two. So
//! between two jumps everything is at one instant, and whoever lives has beaten in each jump. There are few jumps, so
//! times may be taken as they are. Numbers that grow for ever are counted from the lowest that is still compared.

mod act;
mod client;
mod drive;
mod engines;
mod harm;
mod kernel;
mod look;
mod people;
mod start;

use std::sync::Arc;
use std::time::Duration;

use lockdriver::tables::Tables;
use ondisk::{ClientPage, Incarnation, ReadersPolicy};
use stateright::{Model, Property};
use volctl::engine::{Command, Switches};

use crate::run::{World, no_harm};
use crate::same_by_hash;
pub(crate) use act::Action;
use client::Client;
use kernel::Kernel;

/// Engines.
pub(crate) const CLIENTS: usize = 3;
/// One jump of all clocks: longer than `dead`, and than every other wait but `inflight`.
pub(crate) const JUMP: Duration = Duration::from_secs(13);
/// For how long a host may hold back writes.
pub(crate) const INFLIGHT: Duration = Duration::from_secs(20);
/// By so much after its last beat a client that does nothing any more has its gates closed.
pub(crate) const DEAD: Duration = Duration::from_secs(12);

/// Where a client is when the model begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Begins {
    /// It has mounted what there was to mount.
    Settled,
    /// It was just logged on and has seen nothing yet.
    Fresh,
    /// It has nothing mounted, since its person took it away.
    Unmounted,
    /// It takes no part.
    Away,
}

/// How much may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Budget {
    /// Jumps of the clock.
    pub(crate) jumps: u8,
    /// Daemons that are killed.
    pub(crate) kills: u8,
    /// Leases that end.
    pub(crate) lapses: u8,
    /// Log-ons of clients that are gone.
    pub(crate) restarts: u8,
    /// Daemons that are told to end.
    pub(crate) leaves: u8,
}

/// A case.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// What readers are promised.
    pub(crate) readers: ReadersPolicy,
    /// Where each client begins.
    pub(crate) begins: [Begins; CLIENTS],
    /// What people run, each once and at any time, those of one client in this order.
    pub(crate) people: Vec<(usize, Command)>,
    /// Writers hand over to whoever asks, without asking their person.
    pub(crate) willing: bool,
    /// The readers of this client have files open and keep them.
    pub(crate) keeps_files: Option<usize>,
    /// This client writes when the model begins.
    pub(crate) writer: Option<usize>,
    /// This client is gone when the model begins: true, killed with its gates open; false, by the end of its lease.
    pub(crate) gone: Option<(usize, bool)>,
    /// What the last writer left was never published.
    pub(crate) dirty: bool,
    /// Pages and slots of a poll are read one after the other.
    pub(crate) fine: bool,
    /// What may go wrong.
    pub(crate) budget: Budget,
}

/// The model.
#[derive(Debug, Clone)]
pub(crate) struct Studio {
    case: Case,
    switches: Switches,
}

/// A slot as it stands on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Slot {
    incarnation: Incarnation,
    logged_on: bool,
    /// The number of the page that it points at.
    page: u64,
    /// Its last beat.
    beat: Duration,
}

/// A page as it stands on the disk, with its number.
type Page = (u64, Arc<ClientPage>);

/// Everything.
#[derive(Debug, Clone, Hash)]
pub(crate) struct State {
    now: Duration,
    tables: Arc<Tables>,
    semaphore: Option<usize>,
    slots: [Slot; CLIENTS],
    pages: [Option<Page>; CLIENTS],
    clients: [Arc<Client>; CLIENTS],
    kernel: Kernel,
    /// Which commands were run, by their place in the case.
    ran: u32,
    /// Times that somebody was told no, less the times that somebody said it.
    noes: i8,
    left: Budget,
    harm: Option<&'static str>,
}

same_by_hash!(State);

impl World for State {
    /// Those that are still to be looked at are in memory, some KiB each.
    const MOST: usize = 2_500_000;

    fn harm(&self) -> Option<&'static str> {
        self.harm
    }
}

impl Studio {
    /// This case, with these rules.
    pub(crate) fn new(case: Case, switches: Switches) -> Self {
        Self { case, switches }
    }
}

impl Model for Studio {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.begin()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.harm.is_some() {
            return;
        }
        for c in 0..CLIENTS {
            self.actions_of(state, c, actions);
        }
        if state.left.jumps > 0 {
            actions.push(Action::Jump);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        self.act(&mut next, action);
        if next.harm.is_none() {
            next.harm = next.kernel.harm(next.now);
        }
        next.forget_numbers();
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        no_harm()
    }
}
