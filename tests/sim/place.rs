//! Where a simulated daemon runs, and the transactions that it makes there, with the oracle beside them.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lockdriver::logon::Host as HostIdentity;
use lockdriver::transaction::Change;
use ondisk::{LockFile, SlotIndex};
use volctl::control::beater::Doubts;
use volctl::control::open::ControlVolume;
use volctl::control::session::Session;
use volctl::engine::{OpDone, TableOp, World as Seen, ops};
use volctl::wire::outcome::Failure;

use crate::disk::SimDevice;
use crate::threads::{Shared, SimMachine};
use crate::world::{HostId, ProcId};

/// What a daemon's threads share.
#[derive(Clone)]
pub(crate) struct Place {
    /// The world.
    pub(crate) shared: Shared,
    /// The process.
    pub(crate) proc: ProcId,
    /// Where it runs.
    pub(crate) host: HostId,
    /// Its client's slot.
    pub(crate) slot: SlotIndex,
    /// The control volume, through this host's path.
    pub(crate) volume: ControlVolume,
}

impl Place {
    /// For a process.
    pub(crate) fn new(shared: &Shared, proc: ProcId) -> Self {
        let world = shared.world();
        let host = world.procs[proc].host;
        let slot = world.hosts[host].slot;
        let geometry = world.disk.geometry.clone();
        let superblock = geometry.superblock(world.plan.lock, world.plan.timings, ondisk::Label::default(), 0);
        let rules = world.plan.rules;
        let len = geometry.total();
        drop(world);
        let volume = ControlVolume {
            path: PathBuf::from("simulated"),
            device: Arc::new(SimDevice { shared: shared.clone(), proc, len }),
            superblock,
            geometry,
            machine: Arc::new(SimMachine { shared: shared.clone(), proc }),
            rules,
        };
        Self { shared: shared.clone(), proc, host, slot, volume }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.shared.world().procs[self.proc].dead
    }

    pub(crate) fn host_identity(&self) -> HostIdentity {
        let boot = self.shared.world().hosts[self.host].boot;
        let mut boot_id = [0; 16];
        boot_id[..8].copy_from_slice(&boot.to_le_bytes());
        let machine_id = [u8::try_from(self.host + 1).expect("few hosts"); 16];
        HostIdentity { machine_id, boot_id, lock_file: LockFile { device: 1, inode: u64::from(self.slot.0) + 10 } }
    }

    /// Ends the old guardian, and closes every gate of this client that is left in this kernel. True once nothing is on
    /// its way any more.
    pub(crate) fn close_old(&self) -> bool {
        let patience = self.volume.superblock.timings.lease() * 2;
        let begun = self.volume.machine.now();
        let gates = {
            let mut world = self.shared.world();
            if world.procs[self.proc].dead {
                return false;
            }
            if let Some(guardian) = world.hosts[self.host].guardian.take() {
                guardian.deadline.end();
            }
            let gates = world.gates_on(self.host);
            for id in &gates {
                world.close_gate(*id);
            }
            gates
        };
        while !self.shared.world().is_drained(&gates) {
            if self.is_dead() || self.volume.machine.now().saturating_sub(begun) > patience {
                return false;
            }
            self.volume.machine.sleep(Duration::from_millis(5));
        }
        true
    }
}

/// The lock file in the memory of a host.
impl Doubts for Place {
    fn begun(&self, now: Duration) {
        self.shared.world().hosts[self.host].doubts.0 = now;
    }

    fn ended(&self, known: bool) {
        let mut world = self.shared.world();
        if world.procs[self.proc].dead {
            // It was killed before it could say so.
            return;
        }
        let (under_way, unknown) = &mut world.hosts[self.host].doubts;
        let begun = std::mem::take(under_way);
        if !known {
            *unknown = begun;
        }
    }

    fn unsettled(&self) -> Duration {
        let (under_way, unknown) = self.shared.world().hosts[self.host].doubts;
        under_way.max(unknown)
    }
}

/// A transaction of the engine, with the oracle beside it.
pub(crate) fn transact(place: &Place, session: &Session, op: &TableOp) -> Result<OpDone, Failure> {
    let switches = place.shared.world().plan.switches;
    let done = watched(place, session, &mut |actor, world| ops::apply_with(switches, op, actor, world));
    if !place.is_dead() {
        place.shared.world().note(|w| format!("{}: {op:?}: {done:?}", w.name(place.host)));
    }
    done
}

type Decide<'d> = dyn FnMut(ops::Actor, &Seen<'_>) -> Result<Option<Change>, Failure> + 'd;

fn watched(place: &Place, session: &Session, decide: &mut Decide<'_>) -> Result<OpDone, Failure> {
    let begun = Cell::new(None);
    let entered = Cell::new(false);
    // Asked first when the wait begins.
    let stop = || {
        let world = place.shared.world();
        begun.set(begun.get().or(Some(world.oracle.waits.turns)));
        world.procs[place.proc].dead
    };
    let done = session.transact_unless(&stop, &mut |actor, world: &Seen<'_>| {
        let since = begun.get().expect("it has waited");
        entered.set(true);
        let live = session.deadline.get(place.volume.machine.now()).is_live();
        place.shared.world().look_at_entry(place.proc, actor.epoch, since, live);
        decide(actor, world)
    });
    if done.is_err() && !entered.get() && session.is_live() && !place.is_dead() {
        place.shared.world().oracle.waits.vain();
    }
    if let Ok(OpDone::Committed { .. }) = done {
        let commit = session.look(|world| world.tables.header.commit);
        if let (Ok(commit), false) = (commit, place.is_dead()) {
            place.shared.world().look_at_acknowledged(commit);
        }
    }
    done
}

/// Changes the own record again and again, so that there is a crowd before the semaphore.
pub(crate) fn keep_books(place: &Place, session: &Session, stop: &AtomicBool) {
    let slot = place.slot;
    loop {
        let live = session.is_live() && !stop.load(Ordering::SeqCst);
        let wait = {
            let mut world = place.shared.world();
            let every = world.plan.clerks;
            if !live || world.calm || world.procs[place.proc].dead {
                return;
            }
            world.rng.time(Duration::from_millis(1), every * 2)
        };
        place.volume.machine.sleep(wait);
        let flip = &mut |_: ops::Actor, world: &Seen<'_>| {
            let mut record = world.tables.client(slot).cloned();
            if let Some(record) = &mut record {
                record.notify = !record.notify;
            }
            Ok(Some(Change::client(slot, record)))
        };
        // Refused, or the login is over: seen at the next look.
        let _ = watched(place, session, flip);
    }
}
