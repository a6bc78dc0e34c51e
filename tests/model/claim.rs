//! Daemons of one name that log on together: the shipping `Logon` and `Watch` of each, over one slot of two sectors.
//!
//! Time goes by in seconds up to a horizon. A read is of one instant; a write is submitted, lands within `margin`
//! (assumption A3), and returns, each in a second of its own choice. A daemon whose claim stands beats and reads its slot
//! once a second, and ends when it finds another one's.

use std::fmt;
use std::time::Duration;

use lockdriver::logon::{Host, Logon, LogonRequest, LogonStep};
use lockdriver::poll::{Poll, SectorReading, SlotReading, Token};
use lockdriver::rules::Rules;
use lockdriver::semaphore::WriteResult;
use lockdriver::watch::Watch;
use ondisk::elect::Elected;
use ondisk::{CommitNo, DaemonId, Geometry, Incarnation, LockFile, SlotIndex, SlotSector, TableHeader, Uuid, Verdict};
use stateright::{Model, Property};

use crate::run::{World, no_harm};
use crate::same_by_hash;

const SLOT: SlotIndex = SlotIndex(0);

/// The model: a slot that host 1 left, and daemons on these hosts.
#[derive(Debug, Clone)]
pub(crate) struct Claims {
    hosts: Vec<u8>,
    left_cleanly: bool,
    horizon: u64,
    lease: u64,
    dead: u64,
    rules: Rules,
    geometry: Geometry,
    header: TableHeader,
}

/// A write on its way.
#[derive(Debug, Clone, Hash)]
struct Write {
    sector: SlotSector,
    begun: u64,
    landed: bool,
}

#[derive(Debug, Clone, Hash)]
enum Life {
    Claiming(Box<(Logon, LogonStep)>),
    /// Its claim stands: it draws tickets, beats, acts.
    Acting(SlotSector),
    Over,
}

#[derive(Debug, Clone, Hash)]
struct Daemon {
    life: Life,
    /// The next read is not before this.
    not_before: u64,
    write: Option<Write>,
    watch: Watch,
}

/// The slot and the daemons.
#[derive(Debug, Clone, Hash)]
pub(crate) struct State {
    now: u64,
    sectors: [SlotSector; 2],
    daemons: Vec<Daemon>,
    harm: Option<&'static str>,
}

same_by_hash!(State);

impl World for State {
    fn harm(&self) -> Option<&'static str> {
        self.harm
    }
}

/// One event; daemons by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// A second passes.
    Tick,
    /// Reads.
    Read(usize),
    /// Submits the write of its claim.
    Submit(usize),
    /// It lands.
    Land(usize),
    /// It returns.
    Return(usize),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tick => f.write_str("a second passes"),
            Self::Read(d) => write!(f, "daemon {d} reads"),
            Self::Submit(d) => write!(f, "daemon {d} submits its claim"),
            Self::Land(d) => write!(f, "daemon {d}'s claim lands"),
            Self::Return(d) => write!(f, "daemon {d}'s claim returns"),
        }
    }
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(100 + seconds)
}

/// Stands for a sector's bytes: of what is written here no two that differ have the same.
fn token(sector: &SlotSector) -> Token {
    Token(u64::from(sector.daemon_id.0[0]) << 32 | sector.incarnation.0 << 16 | sector.beat)
}

impl Claims {
    /// Daemons on these hosts; the slot was left by host 1. `lease`, `dead` and the horizon are in seconds.
    pub(crate) fn new(hosts: &[u8], left_cleanly: bool, (lease, dead, horizon): (u64, u64, u64), rules: Rules) -> Self {
        let geometry = Geometry::plan(Uuid::from_bytes([7; 16]), 1, 1, 512, 1 << 20).expect("a small control volume");
        let header = TableHeader {
            commit: CommitNo { epoch: 1, count: 1 },
            opened: 0,
            clients: 0,
            volumes: 0,
            reaped: vec![Incarnation(0); geometry.slot_count()],
            cells: Vec::new(),
        };
        Self { hosts: hosts.to_vec(), left_cleanly, horizon, lease, dead, rules, geometry, header }
    }

    fn host(number: u8) -> Host {
        let lock_file = LockFile { device: u64::from(number), inode: 1 };
        Host { machine_id: [number; 16], boot_id: [number; 16], lock_file }
    }

    fn daemon(&self, index: usize) -> Daemon {
        let request = LogonRequest {
            slot: SLOT,
            daemon_id: DaemonId([u8::try_from(index).expect("few") + 100; 16]),
            host: Self::host(self.hosts[index]),
            record: Incarnation(0),
            highest_number: 0,
            unsettled: Duration::ZERO,
            page_sequence: 0,
            gui: false,
            lease: Duration::from_secs(self.lease),
            dead: Duration::from_secs(self.dead),
            beat: Duration::from_secs(1),
            poll: Duration::from_millis(250),
            rules: self.rules,
        };
        let mut logon = Logon::new(request);
        let step = logon.begin();
        let watch = Watch::new(&self.geometry, Duration::from_secs(self.dead)).with_rules(self.rules);
        Daemon { life: Life::Claiming(Box::new((logon, step))), not_before: 0, write: None, watch }
    }

    fn poll(&self, state: &State) -> Poll {
        let reading =
            |sector: &SlotSector| SectorReading::Read { token: token(sector), content: Verdict::Valid(*sector) };
        Poll {
            number: state.now,
            begun: s(state.now),
            ended: s(state.now),
            slots: vec![SlotReading::new([reading(&state.sectors[0]), reading(&state.sectors[1])])],
            headers: [Verdict::Valid(self.header.clone()), Verdict::Valid(self.header.clone())],
            elected: Some(Elected { content: self.header.clone(), copy: 0, whole: true }),
            older_mark: None,
        }
    }

    fn read(&self, next: &mut State, d: usize) {
        let poll = self.poll(next);
        let now = s(next.now);
        let daemon = &mut next.daemons[d];
        let Life::Claiming(claiming) = &mut daemon.life else { return };
        let (logon, step) = &mut **claiming;
        daemon.watch.observe(&poll);
        *step = logon.polled(&poll, &daemon.watch, now);
        if matches!(step, LogonStep::CloseOldGates(_)) {
            logon.gates_closed(true);
            *step = logon.polled(&poll, &daemon.watch, now);
        }
        Self::follow(daemon, next.now);
    }

    /// What the step that just came means for the daemon.
    fn follow(daemon: &mut Daemon, now: u64) {
        let Life::Claiming(claiming) = &daemon.life else { return };
        match &claiming.1 {
            LogonStep::WaitThenPoll(wait) => {
                let seconds = wait.as_millis().div_ceil(1000);
                daemon.not_before = now + u64::try_from(seconds).expect("a short wait");
            }
            LogonStep::Claimed(claimed) => daemon.life = Life::Acting(claimed.sector),
            LogonStep::Failed(_) => daemon.life = Life::Over,
            _ => daemon.not_before = now,
        }
    }

    /// Who acts beats, and looks at its slot.
    fn tick(&self, next: &mut State) {
        next.now += 1;
        let shown = self.poll(next).slots[0].view;
        for daemon in &mut next.daemons {
            let Life::Acting(sector) = &mut daemon.life else { continue };
            let own = shown.known().is_some_and(|shown| shown.daemon_id == sector.daemon_id);
            if !own {
                daemon.life = Life::Over;
                continue;
            }
            sector.beat += 1;
            next.sectors[sector.incarnation.sector()] = *sector;
        }
    }

    /// Two act at once; or one acts whose slot says something else, so that nobody sees its tickets.
    fn look(&self, next: &mut State) {
        let acting: Vec<SlotSector> = next
            .daemons
            .iter()
            .filter_map(|d| match &d.life {
                Life::Acting(sector) => Some(*sector),
                _ => None,
            })
            .collect();
        if acting.len() > 1 {
            next.harm = Some("two daemons act under one name");
        }
        let shown = self.poll(next).slots[0].view;
        let hidden = |s: &SlotSector| shown.known().is_none_or(|shown| shown.daemon_id != s.daemon_id);
        if acting.iter().any(hidden) {
            next.harm = Some("the slot of one that acts is hidden");
        }
    }
}

impl Model for Claims {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let home = Self::host(1);
        let left = SlotSector {
            incarnation: Incarnation(2),
            beat: 40,
            logged_on: !self.left_cleanly,
            daemon_id: DaemonId([1; 16]),
            machine_id: home.machine_id,
            boot_id: home.boot_id,
            lock_file: home.lock_file,
            ..SlotSector::default()
        };
        let mut sectors = [SlotSector::default(); 2];
        sectors[left.incarnation.sector()] = left;
        let daemons = (0..self.hosts.len()).map(|d| self.daemon(d)).collect();
        vec![State { now: 0, sectors, daemons, harm: None }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.harm.is_some() {
            return;
        }
        let mut must_land = false;
        for (d, daemon) in state.daemons.iter().enumerate() {
            if let Some(write) = &daemon.write {
                must_land |= !write.landed && state.now >= write.begun + self.dead - self.lease;
                actions.push(if write.landed { Action::Return(d) } else { Action::Land(d) });
                continue;
            }
            let Life::Claiming(claiming) = &daemon.life else { continue };
            match claiming.1 {
                LogonStep::WriteSlot { .. } => actions.push(Action::Submit(d)),
                _ if state.now >= daemon.not_before => actions.push(Action::Read(d)),
                _ => {}
            }
        }
        if state.now < self.horizon && !must_land {
            actions.push(Action::Tick);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        match action {
            Action::Tick => self.tick(&mut next),
            Action::Read(d) => self.read(&mut next, d),
            Action::Submit(d) => {
                let now = next.now;
                let daemon = &mut next.daemons[d];
                let Life::Claiming(claiming) = &mut daemon.life else { return None };
                let (logon, step) = &mut **claiming;
                let LogonStep::WriteSlot { sector, not_after } = step else { return None };
                if s(now) <= *not_after {
                    daemon.write = Some(Write { sector: *sector, begun: now, landed: false });
                } else {
                    *step = logon.slot_written(WriteResult::Failed, s(now), s(now));
                    Self::follow(daemon, now);
                }
            }
            Action::Land(d) => {
                let write = next.daemons[d].write.as_mut()?;
                write.landed = true;
                let sector = write.sector;
                next.sectors[sector.incarnation.sector()] = sector;
            }
            Action::Return(d) => {
                let now = next.now;
                let daemon = &mut next.daemons[d];
                let write = daemon.write.take()?;
                let Life::Claiming(claiming) = &mut daemon.life else { return None };
                let (logon, step) = &mut **claiming;
                *step = logon.slot_written(WriteResult::Stable, s(write.begun), s(now));
                Self::follow(daemon, now);
            }
        }
        self.look(&mut next);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        no_harm()
    }
}
