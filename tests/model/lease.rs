//! The lease of one client against the `dead` of another: the shipping `Lease` and `Watch`, any delays of beats and reads.
//!
//! Time goes by in seconds, up to a horizon that leaves room for a lease, its end, `dead` and a late beat; a beat or a
//! read takes as many of them as it likes. In one second the client begins at most one beat: another one of the same second
//! would begin and extend nothing else. Its own reads need no state: one that returns now may have begun in any second.

use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use lockdriver::lease::{BeatNo, Confirmation, Lease, LeaseStage};
use lockdriver::poll::{OwnSlot, Poll, SectorReading, SlotReading, Token};
use lockdriver::rules::Rules;
use lockdriver::watch::Watch;
use ondisk::{Corrupt, Geometry, Incarnation, SlotIndex, SlotSector, Uuid, Verdict};
use stateright::{Model, Property};

use crate::run::{World, no_harm};
use crate::same_by_hash;

const SLOT: SlotIndex = SlotIndex(0);

/// The model. All times in seconds.
#[derive(Debug, Clone)]
pub(crate) struct Leases {
    lease: u64,
    dead: u64,
    horizon: u64,
    rules: Rules,
    geometry: Geometry,
}

/// A beat on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Beat {
    number: BeatNo,
    landed: bool,
}

/// A read of the other client on its way: its beginning, and what it saw of the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Read {
    begun: u64,
    saw: Option<u64>,
}

/// The two clients.
#[derive(Debug, Clone, Hash)]
pub(crate) struct State {
    now: u64,
    lease: Lease,
    beat: Option<Beat>,
    /// It has begun one in this second.
    beaten: bool,
    /// Beats that have landed: stands for the slot's bytes.
    slot: u64,
    read: Option<Read>,
    watch: Watch,
    harm: Option<&'static str>,
}

same_by_hash!(State);

impl World for State {
    fn harm(&self) -> Option<&'static str> {
        self.harm
    }
}

/// One event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// A second passes.
    Tick,
    /// The client begins a beat.
    Beat,
    /// It lands.
    BeatLands,
    /// It returns.
    BeatReturns,
    /// A read of the client returns that began in this second, and shows nothing amiss.
    Confirm(u64),
    /// The other begins a read.
    Read,
    /// It samples the slot.
    Sample,
    /// It returns.
    ReadReturns,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tick => "a second passes",
            Self::Beat => "alice begins a beat",
            Self::BeatLands => "alice's beat lands",
            Self::BeatReturns => "alice's beat returns",
            Self::Confirm(begun) => return write!(f, "alice's read of second {begun} returns and confirms"),
            Self::Read => "bob begins a read",
            Self::Sample => "bob's read samples alice's slot",
            Self::ReadReturns => "bob's read returns",
        })
    }
}

fn s(seconds: u64) -> Duration {
    // Zero stands for "never" here and there.
    Duration::from_secs(100 + seconds)
}

impl Leases {
    /// With these lengths.
    pub(crate) fn new(lease: u64, dead: u64, horizon: u64, rules: Rules) -> Self {
        let geometry = Geometry::plan(Uuid::from_bytes([7; 16]), 1, 1, 512, 1 << 20).expect("a small control volume");
        Self { lease, dead, horizon, rules, geometry }
    }

    fn observe(&self, next: &mut State, read: Read) {
        let sector = SlotSector { incarnation: Incarnation(1), logged_on: true, ..SlotSector::default() };
        let of = |token: u64, content| SectorReading::Read { token: Token(token), content: Verdict::Valid(content) };
        let saw = read.saw.expect("sampled before it returns");
        let slot = SlotReading::new([of(0, SlotSector::default()), of(100 + saw, sector)]);
        let poll = Poll {
            number: 1,
            begun: s(read.begun),
            ended: s(next.now),
            slots: vec![slot],
            headers: [Verdict::Corrupt(Corrupt::Short(0)), Verdict::Corrupt(Corrupt::Short(0))],
            elected: None,
            older_mark: None,
        };
        next.watch.observe(&poll);
        if next.watch.judged(&poll, SLOT).is_some() && next.lease.stage(s(next.now)) != LeaseStage::Over {
            next.harm = Some("one is judged dead that may still act");
        }
    }
}

impl Model for Leases {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut lease = Lease::new(Duration::from_secs(self.lease)).with_rules(self.rules);
        lease.begin(s(0), s(0));
        let watch = Watch::new(&self.geometry, Duration::from_secs(self.dead)).with_rules(self.rules);
        vec![State { now: 0, lease, beat: None, beaten: false, slot: 1, read: None, watch, harm: None }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.harm.is_some() {
            return;
        }
        if state.now < self.horizon {
            actions.push(Action::Tick);
        }
        match state.beat {
            None if !state.beaten => actions.push(Action::Beat),
            Some(beat) if !beat.landed => actions.push(Action::BeatLands),
            Some(_) => actions.push(Action::BeatReturns),
            None => {}
        }
        actions.extend((0..=state.now).map(Action::Confirm));
        match state.read {
            None => actions.push(Action::Read),
            Some(read) if read.saw.is_none() => actions.push(Action::Sample),
            Some(_) => actions.push(Action::ReadReturns),
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        let now = s(last.now);
        match action {
            Action::Tick => {
                next.now += 1;
                next.beaten = false;
            }
            Action::Beat => {
                let number = next.lease.beat_begun(now);
                next.beat = Some(Beat { number, landed: false });
                next.beaten = true;
            }
            Action::BeatLands => {
                next.beat.as_mut()?.landed = true;
                next.slot += 1;
            }
            Action::BeatReturns => {
                let beat = next.beat.take()?;
                next.lease.beat_completed(beat.number, now, true);
            }
            Action::Confirm(begun) => {
                let fine = Confirmation { own: OwnSlot::Ours, reaped: false, revoked: false, header_valid: true };
                let _ = next.lease.confirm(s(begun), fine, now);
            }
            Action::Read => {
                next.read = Some(Read { begun: last.now, saw: None });
            }
            Action::Sample => next.read.as_mut()?.saw = Some(last.slot),
            Action::ReadReturns => {
                let read = next.read.take()?;
                self.observe(&mut next, read);
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        no_harm()
    }
}
