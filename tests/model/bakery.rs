//! The bakery with lapses, reaping, restarts and one late write: the shipping `Bakery`, `Logon` and `Watch` over slots of
//! two sectors and a header.
//!
//! What is atomic: the two sectors of one slot in a sample (a reading takes the slots and the header one after the other,
//! in any order and at any time: see `Action`), the read of a log-on, and the newest header (the two copies are the
//! commit's model).
//!
//! Time. Nothing here reads a clock but the waits of a client that doubts a write of its own and of one that logs on; each
//! client has a clock of its own that only those waits move, so it takes few values. That somebody is silent is not
//! measured: every client that is gone *may* be judged silent by every reading that was taken after it was gone, or not
//! yet. That covers each way in which the readers' clocks can stand, since the lease's model shows that whoever is judged
//! silent is gone. The judging itself is done by `Watch`, to which the bytes are shown twice, `dead` apart.

mod act;
mod client;
mod reading;
mod ready;
mod step;

use std::sync::Arc;

use lockdriver::rules::Rules;
use ondisk::Geometry;
use stateright::{Model, Property};

use crate::run::{World, no_harm};
use crate::same_by_hash;
pub(crate) use act::Action;
use act::Event;
use client::Client;
use reading::{Head, Sector};

/// Clients of which there are at most so many.
pub(crate) const CLIENTS: usize = 3;

/// How much may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    /// Tenures that each client wants.
    pub(crate) rounds: u8,
    /// Leases that end while the client stands still.
    pub(crate) lapses: u8,
    /// Daemons that are killed, with no write under way that has not returned.
    pub(crate) kills: u8,
    /// Log-ons of clients that are gone.
    pub(crate) restarts: u8,
    /// Writes of a slot or of the header that land later than their writer knows.
    pub(crate) late: u8,
    /// Sectors that one reading finds bad.
    pub(crate) bad_reads: u8,
    /// Living clients that somebody reaps, as no rule allows.
    pub(crate) robbed: u8,
}

impl Budget {
    /// Nothing goes wrong.
    pub(crate) const PEACE: Self =
        Self { rounds: 1, lapses: 0, kills: 0, restarts: 0, late: 0, bad_reads: 0, robbed: 0 };
}

/// The model.
#[derive(Debug, Clone)]
pub(crate) struct Bakeries {
    clients: usize,
    budget: Budget,
    rules: Rules,
    geometry: Geometry,
}

/// A write that has not landed when its writer goes on or is gone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Late {
    /// Of a slot's sector. It lands before the second next log-on elsewhere, or within `margin` if its writer lives.
    Slot {
        slot: usize,
        sector: Sector,
        logons: u8,
        /// Its writer lived on, and knows that it does not know.
        unknown: bool,
    },
    Header(Head),
}

/// The disk, the clients, and what may still go wrong.
#[derive(Debug, Clone, Hash)]
pub(crate) struct State {
    slots: [[Sector; 2]; CLIENTS],
    header: Head,
    clients: [Arc<Client>; CLIENTS],
    late: Option<Late>,
    left: Budget,
    harm: Option<&'static str>,
}

same_by_hash!(State);

impl World for State {
    fn harm(&self) -> Option<&'static str> {
        self.harm
    }
}

impl Bakeries {
    /// So many clients, with this budget.
    pub(crate) fn new(clients: usize, budget: Budget, rules: Rules) -> Self {
        let geometry = reading::geometry();
        Self { clients, budget, rules, geometry }
    }
}

impl Model for Bakeries {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut slots = [[Sector::default(); 2]; CLIENTS];
        let clients = std::array::from_fn(|slot| {
            let sector =
                Sector { incarnation: 1, logged_on: true, daemon: client::daemon(slot, 1), ..Sector::default() };
            slots[slot][sector.place()] = sector;
            let wants = if slot < self.clients { self.budget.rounds } else { 0 };
            Arc::new(Client::on(slot, sector, wants, self.rules))
        });
        let header = Head::default();
        vec![State { slots, header, clients, late: None, left: self.budget, harm: None }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.harm.is_none() {
            let mut events = Vec::new();
            for c in 0..self.clients {
                self.actions_of(state, c, &mut events);
            }
            if state.late.is_some() {
                events.push(Event::Land);
            }
            for event in events {
                self.with_readers(state, event, actions);
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        self.act(&mut next, action);
        let inside = next.clients.iter().filter(|c| c.is_inside(self.budget.robbed > 0)).count();
        if inside > 1 {
            next.harm = Some("two are inside");
        }
        if next.harm.is_none() && self.rules == Rules::ALL && self.is_wedged(&next) {
            next.harm = Some("nobody gets on");
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        no_harm()
    }
}
