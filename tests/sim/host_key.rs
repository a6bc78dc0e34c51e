//! What the run directory of a simulated host says of its registration: as the two files of the real one, in memory.

use std::io;

use lockdriver::reservation::Key;
use volctl::control::host_key::{HostKey, Moment};
use volctl::control::machine::Machine;

use crate::threads::{Shared, SimMachine};
use crate::world::ProcId;

/// It ends with the host's boot.
#[derive(Debug, Default)]
pub(crate) struct KeyRoom {
    key: Option<Key>,
    /// Who has the moment.
    locked: Option<ProcId>,
    /// Logins that share the key, by process and number.
    users: Vec<(ProcId, u64)>,
    next: u64,
}

impl KeyRoom {
    /// A process is gone, and what it held.
    pub(crate) fn forget(&mut self, proc: ProcId) {
        self.locked = self.locked.filter(|owner| *owner != proc);
        self.users.retain(|(owner, _)| *owner != proc);
    }
}

/// A login's share of it. What a dead process does changes nothing.
pub(crate) struct SimKey {
    machine: SimMachine,
    number: u64,
}

struct SimMoment(Shared, ProcId);

impl Moment for SimMoment {}

impl Drop for SimMoment {
    fn drop(&mut self) {
        let mut world = self.0.world();
        if !world.procs[self.1].dead {
            let host = world.procs[self.1].host;
            world.hosts[host].key.locked = None;
            world.progress(self.1);
        }
    }
}

impl SimKey {
    pub(crate) fn new(machine: SimMachine) -> Self {
        let number = {
            let mut world = machine.shared.world();
            let host = world.procs[machine.proc].host;
            world.hosts[host].key.next += 1;
            world.hosts[host].key.next
        };
        Self { machine, number }
    }

    /// None: the process is dead.
    fn room<T>(&self, f: impl FnOnce(&mut KeyRoom) -> T) -> Option<T> {
        let mut world = self.machine.shared.world();
        let (host, dead) = (world.procs[self.machine.proc].host, world.procs[self.machine.proc].dead);
        (!dead).then(|| f(&mut world.hosts[host].key))
    }
}

impl HostKey for SimKey {
    fn moment(&self) -> io::Result<Box<dyn Moment>> {
        let proc = self.machine.proc;
        let take = |room: &mut KeyRoom| match room.locked {
            None => room.locked.replace(proc).is_none(),
            Some(_) => false,
        };
        let mut again = false;
        while self.room(take) == Some(false) {
            self.machine.give_way(None, again);
            again = true;
        }
        Ok(Box::new(SimMoment(self.machine.shared.clone(), proc)))
    }

    fn key(&self) -> Option<Key> {
        self.room(|room| room.key).flatten()
    }

    fn set(&self, key: Option<Key>) -> io::Result<()> {
        self.room(|room| room.key = key);
        Ok(())
    }

    fn share(&self) -> io::Result<bool> {
        let user = (self.machine.proc, self.number);
        let alone = self.room(|room| {
            room.users.push(user);
            room.users.len() == 1
        });
        Ok(alone.unwrap_or_default())
    }

    fn let_go(&self) -> bool {
        let user = (self.machine.proc, self.number);
        let last = self.room(|room| {
            room.users.retain(|other| *other != user);
            room.users.is_empty()
        });
        last.unwrap_or_default()
    }
}

impl Drop for SimKey {
    /// Files close with their last handle.
    fn drop(&mut self) {
        self.let_go();
    }
}
