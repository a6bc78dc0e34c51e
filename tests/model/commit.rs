//! The commit of three holders, one after the other, with crashes and one fault: the shipping `Commit` and `Loader` over a
//! disk of blocks.
//!
//! What is atomic: one write, one flush, one read. The tables are loaded at one instant by a holder; a reader without the
//! semaphore goes read by read. A write that is under way when its holder dies has landed, has not, or (these are the
//! faults, one of them in a run) lands later, or is torn in the middle. Any block may be lost instead.
//!
//! A machine's state is hashed by what it was made for and by everything that it was told: it is a function of those.

mod act;
mod disk;
mod state;

use lockdriver::tables::Tables;
use lockdriver::transaction::{Change, Rules};
use ondisk::{ClientRecord, Geometry, Incarnation, Label, Name, SlotIndex, Uuid};
use stateright::{Model, Property};

use crate::run::no_harm;
pub(crate) use act::Action;
use disk::Disk;
pub(crate) use state::State;

/// What one holder wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Wish {
    /// To change the first client's record.
    X,
    /// To change both clients' records.
    Both,
    /// To reap: the header alone.
    Reap,
    /// Two commits in one tenure, each of the first client's record.
    Twice,
}

/// Which fault may happen, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// None: holders die, that is all.
    None,
    /// The write under way when a holder dies is half written.
    Torn,
    /// It lands later.
    Late,
    /// A block is lost.
    Lost,
}

/// The model.
#[derive(Debug, Clone)]
pub(crate) struct Commits {
    holders: Vec<Wish>,
    fault: Fault,
    /// Somebody reads without the semaphore.
    reader: bool,
    rules: Rules,
    geometry: Geometry,
    disk: Disk,
    tables: Tables,
}

/// What tables say, in short: the names of both clients, and who is reaped.
pub(crate) type Value = (u8, u8, u64);

impl Commits {
    /// These holders, with this fault.
    pub(crate) fn new(holders: &[Wish], fault: Fault, reader: bool, rules: Rules) -> Self {
        let geometry = Geometry::plan(Uuid::from_u128(8), 2, 1, 512, 1 << 20).expect("a small control volume");
        let disk = Disk::formatted(&geometry);
        let tables = disk::load(&geometry, &disk, Default::default()).expect("formatted tables are whole");
        Self { holders: holders.to_vec(), fault, reader, rules, geometry, disk, tables }
    }

    /// The change that the nth commit makes: every name is written once only.
    fn change(wish: Wish, number: u8) -> Change {
        let client = |slot: u16| (SlotIndex(slot), Some(record(slot, number)));
        match wish {
            Wish::X | Wish::Twice => Change { clients: vec![client(0)], ..Change::default() },
            Wish::Both => Change { clients: vec![client(0), client(1)], ..Change::default() },
            Wish::Reap => Change::reap(SlotIndex(1), Incarnation(u64::from(number))),
        }
    }

    fn value(tables: &Tables) -> Value {
        let name = |slot: u16| {
            let record = tables.client(SlotIndex(slot));
            record.and_then(|r| r.name.as_str().rsplit('-').next()?.parse().ok()).unwrap_or(0)
        };
        (name(0), name(1), tables.header.reaped[1].0)
    }
}

fn record(slot: u16, number: u8) -> ClientRecord {
    ClientRecord {
        name: Name::new(format!("client-{slot}-{number}")).expect("a name"),
        host: Label::default(),
        uuid: Uuid::from_u128(u128::from(slot) + 1),
        enabled: true,
        admin: false,
        locked_out: false,
        notify: false,
        auto_response: ondisk::AutoResponse::Off,
        logged_on: Incarnation(0),
    }
}

impl Model for Commits {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.disk.clone(), Self::value(&self.tables))]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if !state.is_harmed() {
            self.ready(state, actions);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        self.act(&mut next, action);
        if next.disk != last.disk || next.acknowledged != last.acknowledged {
            self.look(&mut next);
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        no_harm()
    }
}
