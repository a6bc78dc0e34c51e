//! The volumes, and what kernels have open of them: gates, mounts, programs that write, and writes on their way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ondisk::{Generation, ReadersPolicy, Uuid};

use crate::rng::nanos;
use crate::world::{Event, HostId, ProcId, World};

/// Index of a gate; never used again.
pub(crate) type GateId = usize;

/// A volume.
#[derive(Debug)]
pub(crate) struct Volume {
    /// In the tables.
    pub(crate) uuid: Uuid,
    /// Its name.
    pub(crate) name: String,
    /// What it promises to readers.
    pub(crate) readers: ReadersPolicy,
    /// A number for the state on the medium; each write that lands makes another.
    pub(crate) content: u64,
    /// What was published.
    pub(crate) published: BTreeMap<Generation, u64>,
    /// Snapshots that are there (`snapshot`).
    pub(crate) snapshots: BTreeSet<Generation>,
}

/// A gate with its mount.
#[derive(Debug)]
pub(crate) struct Gate {
    /// In whose kernel.
    pub(crate) host: HostId,
    /// Which process had it made.
    pub(crate) proc: ProcId,
    /// Of which volume.
    pub(crate) volume: usize,
    /// For the grant of this epoch; None: for reading.
    pub(crate) epoch: Option<u64>,
    /// What a reader sees.
    pub(crate) generation: Generation,
    /// Writes pass.
    pub(crate) open: bool,
    /// It is in its place; else being mounted, or lazily detached.
    pub(crate) current: bool,
    /// Mounted at all.
    pub(crate) mounted: bool,
    /// For a publish.
    pub(crate) frozen: bool,
    /// The guardian has begun an orderly stop.
    pub(crate) read_only: bool,
    /// Writes on their way.
    pub(crate) flying: u32,
    /// Programs have files open until then.
    pub(crate) files_until: u64,
    /// The last generation published through it.
    pub(crate) published: Option<Generation>,
    /// The content then.
    pub(crate) sampled: u64,
}

/// All volumes and gates.
#[derive(Debug, Default)]
pub(crate) struct Volumes {
    /// In the order of the tables.
    pub(crate) list: Vec<Volume>,
    /// Every gate that ever was.
    pub(crate) gates: Vec<Gate>,
    /// Those that are open or drain.
    pub(crate) alive: BTreeSet<GateId>,
}

impl Volumes {
    /// The index of a volume.
    pub(crate) fn index(&self, uuid: Uuid) -> usize {
        self.list.iter().position(|v| v.uuid == uuid).expect("every volume of the tables is here")
    }

    /// The gates of a process for a volume, open ones.
    pub(crate) fn open_of(&self, proc: ProcId, volume: usize) -> Vec<GateId> {
        let mine = |id: &&GateId| {
            let gate = &self.gates[**id];
            gate.proc == proc && gate.volume == volume && gate.open
        };
        self.alive.iter().filter(mine).copied().collect()
    }

    /// The writer's gate of a process.
    pub(crate) fn writer_of(&self, proc: ProcId, volume: usize) -> Option<GateId> {
        self.open_of(proc, volume).into_iter().find(|id| self.gates[*id].epoch.is_some())
    }

    /// The readers' gates of a process.
    pub(crate) fn readers_of(&self, proc: ProcId, volume: usize) -> Vec<GateId> {
        self.open_of(proc, volume).into_iter().filter(|id| self.gates[*id].epoch.is_none()).collect()
    }
}

impl World {
    /// The guardian makes a gate, if it is well and the lease lives.
    pub(crate) fn open_gate(
        &mut self,
        proc: ProcId,
        volume: usize,
        epoch: Option<u64>,
        generation: Generation,
    ) -> Result<GateId, &'static str> {
        let host = self.procs[proc].host;
        let now = self.clock_of(host);
        let guardian = self.hosts[host].guardian.as_ref().filter(|g| g.proc == proc && g.alive).ok_or("no guardian")?;
        if guardian.stopped {
            return Err("the guardian does not answer");
        }
        if !guardian.deadline.get(now).is_live() {
            return Err("the lease is over");
        }
        if epoch.is_some() && self.volumes.writer_of(proc, volume).is_some() {
            self.fail(format!("{} opens a writer's gate twice", self.name(host)));
        }
        let content = self.volumes.list[volume].content;
        let id = self.volumes.gates.len();
        self.volumes.gates.push(Gate {
            host,
            proc,
            volume,
            epoch,
            generation,
            open: true,
            current: false,
            mounted: false,
            frozen: false,
            read_only: false,
            flying: 0,
            files_until: 0,
            published: None,
            sampled: content,
        });
        self.volumes.alive.insert(id);
        self.note(|w| {
            format!("{}: opens gate {id} of {} {}", w.name(host), w.volumes.list[volume].name, kind(epoch, generation))
        });
        self.look_at_volume(volume);
        if epoch.is_some() {
            // Mounting replays the journal at once.
            self.after(Duration::from_micros(200), Event::Program(id));
        } else {
            self.look_at_reader(id);
        }
        Ok(id)
    }

    /// New requests fail from now on; what is on its way may still land.
    pub(crate) fn close_gate(&mut self, id: GateId) {
        let gate = &mut self.volumes.gates[id];
        if gate.open {
            gate.open = false;
            let host = gate.host;
            let flying = gate.flying;
            self.note(|w| format!("{}: gate {id} is closed, {flying} writes on their way", w.name(host)));
        }
        if self.volumes.gates[id].flying == 0 {
            self.volumes.alive.remove(&id);
        }
    }

    /// Is nothing of these on its way any more?
    pub(crate) fn is_drained(&self, ids: &[GateId]) -> bool {
        ids.iter().all(|id| self.volumes.gates[*id].flying == 0)
    }

    /// Every gate that processes of this client have in this kernel.
    pub(crate) fn gates_on(&self, host: HostId) -> Vec<GateId> {
        self.volumes.alive.iter().filter(|id| self.volumes.gates[**id].host == host).copied().collect()
    }

    /// A program writes, if it can.
    pub(crate) fn program(&mut self, id: GateId) {
        let gate = &self.volumes.gates[id];
        let host = gate.host;
        if !gate.open {
            return;
        }
        let writes = !gate.frozen && !gate.read_only && self.hosts[host].running && self.hosts[host].up;
        if writes {
            self.volumes.gates[id].flying += 1;
            let held = self.hosts[host].volumes_until;
            let most = nanos(self.plan.inflight);
            let after = if held > self.now && most > 0 {
                (held - self.now).min(self.rng.between(1, most))
            } else {
                self.rng.between(100_000, 2_000_000)
            };
            self.at(self.now + after, Event::Lands { gate: id });
        }
        let next = if self.calm { self.rng.ms(200, 900) } else { self.rng.ms(3, 120) };
        self.after(next, Event::Program(id));
    }

    /// A write lands.
    pub(crate) fn land(&mut self, id: GateId) {
        let gate = &mut self.volumes.gates[id];
        if gate.flying == 0 {
            // Lost with its host.
            return;
        }
        gate.flying -= 1;
        let (volume, drained) = (gate.volume, gate.flying == 0 && !gate.open);
        self.volumes.list[volume].content += 1;
        self.look_at_write(id);
        self.look_at_volume(volume);
        if drained {
            self.volumes.alive.remove(&id);
        }
    }

    /// The kernel of a host is gone: what it held back lands within `inflight`, or never.
    pub(crate) fn lose_gates(&mut self, host: HostId) {
        for id in self.gates_on(host) {
            let gate = &mut self.volumes.gates[id];
            gate.open = false;
            if gate.flying == 0 || self.rng.one_in(2) {
                gate.flying = 0;
                self.volumes.alive.remove(&id);
            }
        }
    }
}

/// What a gate is for, in words.
pub(crate) fn kind(epoch: Option<u64>, generation: Generation) -> String {
    match epoch {
        Some(epoch) => format!("for writing (grant {epoch})"),
        None => format!("for reading {generation}"),
    }
}
