//! The computer under a login: its clock, its chance, its threads. The device is [`lockdriver::device::BlockDevice`].
//!
//! Two kinds exist: [`RealMachine`], and the simulator's, which runs the threads of many logins in turn, on one thread and
//! in its own time. So whatever may wait here waits by [`lock`], [`receive`] or [`Machine::sleep`], and by nothing else.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, SystemTime};

use crossbeam::channel::{Receiver, RecvTimeoutError, TryRecvError};
use lockdriver::sys::{clock, process};
use ondisk::Uuid;

use super::host::run_dir;
use super::host_key::{HostKey, KeyFiles};
use crate::wire::outcome::Failure;

/// Waits until a thread has ended.
pub type Joiner = Box<dyn FnOnce() + Send + Sync>;

/// The computer under a login.
pub trait Machine: Debug + Send + Sync {
    /// CLOCK_BOOTTIME.
    fn now(&self) -> Duration;
    /// Since 1970, for people.
    fn wall(&self) -> Duration;
    /// Random bytes.
    ///
    /// # Errors
    /// When the kernel has none.
    fn random(&self) -> Result<[u8; 16], Failure>;
    /// Stands still for so long.
    fn sleep(&self, time: Duration);
    /// Starts a thread; an `urgent` one goes before all others where the system lets it.
    ///
    /// # Errors
    /// When no thread can be made.
    fn spawn(&self, name: &str, urgent: bool, run: Box<dyn FnOnce() + Send>) -> std::io::Result<Joiner>;
    /// What is waited for is not there yet (`again`: still not): lets the other threads run, at most until `until`. False:
    /// threads block here by themselves, and this one may, too.
    fn give_way(&self, until: Option<Duration>, again: bool) -> bool;
    /// The key by which this computer is registered on a control volume.
    ///
    /// # Errors
    /// When there is no place for it.
    fn host_key(&self, table: Uuid) -> std::io::Result<Box<dyn HostKey>>;
}

/// This computer.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealMachine;

impl RealMachine {
    /// As it is handed around.
    pub fn shared() -> Arc<dyn Machine> {
        Arc::new(Self)
    }
}

impl Machine for RealMachine {
    fn now(&self) -> Duration {
        clock::boottime()
    }

    fn wall(&self) -> Duration {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }

    fn random(&self) -> Result<[u8; 16], Failure> {
        super::host::random()
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn spawn(&self, name: &str, urgent: bool, run: Box<dyn FnOnce() + Send>) -> std::io::Result<Joiner> {
        let run = move || {
            // Where it may not be, it runs at ordinary priority: leases are long against that.
            if let Some(Err(error)) = urgent.then(process::become_real_time) {
                tracing::debug!(%error, "an urgent thread has no real-time priority");
            }
            run();
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Box::new(move || drop(thread.join())))
    }

    fn give_way(&self, _until: Option<Duration>, _again: bool) -> bool {
        false
    }

    fn host_key(&self, table: Uuid) -> std::io::Result<Box<dyn HostKey>> {
        Ok(Box::new(KeyFiles::open(&run_dir(), table)?))
    }
}

/// Locks what threads share. A thread that panicked leaves whole values behind: each is changed in one step.
pub fn lock<'m, T: ?Sized>(machine: &dyn Machine, mutex: &'m Mutex<T>) -> MutexGuard<'m, T> {
    let mut again = false;
    loop {
        match mutex.try_lock() {
            Ok(guard) => return guard,
            Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
            Err(TryLockError::WouldBlock) if machine.give_way(None, again) => again = true,
            Err(TryLockError::WouldBlock) => return mutex.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }
}

/// Waits for what another thread sends, at most until `until`.
///
/// # Errors
/// The time is over, or nobody sends any more.
pub fn receive<T>(machine: &dyn Machine, inbox: &Receiver<T>, until: Option<Duration>) -> Result<T, RecvTimeoutError> {
    let mut again = false;
    loop {
        match inbox.try_recv() {
            Ok(message) => return Ok(message),
            Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
            Err(TryRecvError::Empty) => {}
        }
        let now = machine.now();
        if until.is_some_and(|until| now >= until) {
            return Err(RecvTimeoutError::Timeout);
        }
        if machine.give_way(until, again) {
            again = true;
            continue;
        }
        return match until {
            Some(until) => inbox.recv_timeout(until.saturating_sub(now)),
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
    }
}
