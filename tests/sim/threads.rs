//! Threads of simulated processes: stackful coroutines that run in turn, on one thread of the real machine.
//!
//! A simulated thread gives up its turn in three ways: it waits for an I/O, it sleeps, or it gives way to the other threads
//! of its process because what it waits for (a lock, a message) is not there yet. All three end in [`pause`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ondisk::Uuid;
use volctl::control::host_key::HostKey;
use volctl::control::machine::{Joiner, Machine};
use volctl::wire::outcome::Failure;

use crate::host_key::SimKey;
use crate::rng::nanos;
use crate::world::{Event, ProcId, World};

/// What a thread runs.
pub(crate) type Body = Box<dyn FnOnce() + Send>;

/// The world, as threads share it. It is never locked across a turn's end.
#[derive(Clone)]
pub(crate) struct Shared(pub(crate) Arc<Mutex<World>>);

impl Shared {
    /// The world.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A simulated thread, as the world knows it.
#[derive(Debug)]
pub(crate) struct Thread {
    /// Whose.
    pub(crate) proc: ProcId,
    /// For the trace.
    pub(crate) name: String,
    /// Wakes with another number are of the past.
    pub(crate) token: u64,
    /// It waits for another thread of its process.
    pub(crate) gives_way: bool,
    /// It ended.
    pub(crate) ended: bool,
}

/// Ends the running thread's turn. It is woken at `until` of the true time, or by whoever else knows it.
pub(crate) fn pause(shared: &Shared, until: Option<u64>, gives_way: bool) {
    {
        let mut world = shared.world();
        let thread = world.running.expect("a simulated thread has the turn");
        let token = world.threads[thread].token;
        world.threads[thread].gives_way = gives_way;
        if let Some(at) = until {
            world.at(at, Event::Wake { thread, token });
        }
    }
    #[expect(deprecated, reason = "the scoped handle does not reach code that knows nothing of the simulator")]
    generator::yield_with(());
}

/// The computer under a simulated process.
pub(crate) struct SimMachine {
    /// The world.
    pub(crate) shared: Shared,
    /// The process.
    pub(crate) proc: ProcId,
}

impl std::fmt::Debug for SimMachine {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "SimMachine({})", self.proc)
    }
}

impl Machine for SimMachine {
    fn now(&self) -> Duration {
        self.shared.world().clock_of_process(self.proc)
    }

    fn wall(&self) -> Duration {
        Duration::from_secs(1_700_000_000) + Duration::from_nanos(self.shared.world().now)
    }

    fn random(&self) -> Result<[u8; 16], Failure> {
        let mut world = self.shared.world();
        let (a, b) = (world.rng.next(), world.rng.next());
        Ok(((u128::from(a) << 64) | u128::from(b)).to_le_bytes())
    }

    fn sleep(&self, time: Duration) {
        let until = {
            let mut world = self.shared.world();
            if world.procs[self.proc].dead {
                return;
            }
            world.progress(self.proc);
            let late = world.scheduling_delay(self.proc);
            world.now + world.true_time(self.proc, time) + late
        };
        pause(&self.shared, Some(until), false);
    }

    fn spawn(&self, name: &str, _urgent: bool, run: Body) -> std::io::Result<Joiner> {
        let thread = self.shared.world().spawn(self.proc, name, run);
        let (shared, proc) = (self.shared.clone(), self.proc);
        Ok(Box::new(move || {
            let machine = Self { shared, proc };
            let mut again = false;
            while !machine.shared.world().threads[thread].ended {
                machine.give_way(None, again);
                again = true;
            }
        }))
    }

    fn give_way(&self, until: Option<Duration>, again: bool) -> bool {
        let until = {
            let mut world = self.shared.world();
            if !again {
                world.progress(self.proc);
            }
            let now = world.clock_of_process(self.proc);
            until.map(|until| world.now + world.true_time(self.proc, until.saturating_sub(now)))
        };
        pause(&self.shared, until, true);
        true
    }

    fn host_key(&self, _table: Uuid) -> std::io::Result<Box<dyn HostKey>> {
        Ok(Box::new(SimKey::new(Self { shared: self.shared.clone(), proc: self.proc })))
    }
}

/// The true time in nanoseconds of a length of time on a clock that runs `ppm` millionths too fast.
pub(crate) fn stretched(time: Duration, ppm: i64) -> u64 {
    let wanted = i128::from(nanos(time)) * 1_000_000;
    // Rounded up: who sleeps until a moment finds it passed.
    let stretched = wanted / i128::from(1_000_000 + ppm) + 1;
    u64::try_from(stretched).unwrap_or(u64::MAX / 4)
}
