//! One client: its daemon's driver around the engine.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use lockdriver::tables::Tables;
use lockdriver::transaction::Change;
use ondisk::{ClientPage, Incarnation, SlotIndex};
use volctl::engine::{Effect, Engine, Job, OpTag, PageView, Peer, TableOp, World};

use super::CLIENTS;

pub(super) fn index(c: usize) -> SlotIndex {
    SlotIndex(u16::try_from(c).expect("few clients"))
}

/// What a client read last.
#[derive(Debug, Clone, Hash)]
pub(super) struct View {
    pub(super) now: Duration,
    pub(super) tables: Arc<Tables>,
    pub(super) peers: Vec<Peer>,
    pub(super) page_on_disk: u64,
}

impl View {
    pub(super) fn world(&self) -> World<'_> {
        World {
            now: self.now,
            begun: self.now,
            wall_ms: 0,
            tables: &self.tables,
            peers: &self.peers,
            page_on_disk: self.page_on_disk,
        }
    }
}

/// A poll that has read slots and tables and not yet the pages.
#[derive(Debug, Clone, Hash)]
pub(super) struct HalfPoll {
    pub(super) view: View,
    /// The page number in each slot.
    pub(super) pages: [u64; CLIENTS],
}

/// A page on its way: its version in the engine's count, and whether it is on the disk while its slot is not.
#[derive(Debug, Clone, Hash)]
pub(super) struct Flight {
    pub(super) page: Arc<ClientPage>,
    pub(super) version: u64,
    pub(super) landed: bool,
}

/// A transaction between its look and its commit.
#[derive(Debug, Clone, Hash)]
pub(super) struct Running {
    pub(super) tag: OpTag,
    pub(super) op: TableOp,
    pub(super) change: HashedChange,
}

/// A change, hashed by what it shows: it has no hash of its own.
#[derive(Debug, Clone)]
pub(super) struct HashedChange(pub(super) Change);

impl std::hash::Hash for HashedChange {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (&self.0.reaped, &self.0.clients, &self.0.volumes, &self.0.scrub).hash(state);
    }
}

/// How a client stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Life {
    /// Its daemon runs.
    Up,
    /// Its slot is claimed, its log-on transaction is to come. True: it came the first way.
    LoggingOn(bool),
    /// Its daemon is gone. True: it was killed, so the next one may come the first way.
    Gone(bool),
    /// Logged off in order, or never there.
    Off,
}

/// A client.
#[derive(Debug, Clone, Hash)]
pub(super) struct Client {
    pub(super) life: Life,
    pub(super) engine: Option<Engine>,
    pub(super) view: View,
    pub(super) half: Option<HalfPoll>,
    /// Of each other one the page that was read last, and its number.
    pub(super) cache: [(u64, Incarnation, PageView); CLIENTS],
    pub(super) waiting: VecDeque<Effect>,
    pub(super) flight: Option<Flight>,
    /// The version of the page that stands on the disk, slot and all.
    pub(super) on_disk: u64,
    pub(super) job: Option<Job>,
    pub(super) ops: VecDeque<(OpTag, TableOp)>,
    pub(super) running: Option<Running>,
    /// Commands given to this daemon.
    pub(super) commands: u64,
}

impl Client {
    pub(super) fn away(view: View) -> Self {
        Self {
            life: Life::Off,
            engine: None,
            view,
            half: None,
            cache: std::array::from_fn(|_| (0, Incarnation(0), PageView::Unknown)),
            waiting: VecDeque::new(),
            flight: None,
            on_disk: 0,
            job: None,
            ops: VecDeque::new(),
            running: None,
            commands: 0,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.life == Life::Up
    }

    /// Its process is gone, and all that it had in memory.
    pub(super) fn forget(&mut self, life: Life) {
        let view = self.view.clone();
        let commands = self.commands;
        *self = Self { life, commands, ..Self::away(view) };
    }
}
