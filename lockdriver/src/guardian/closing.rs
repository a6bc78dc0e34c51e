//! The guardian's gates, and how they are closed. Everything here that touches storage runs in threads of its own.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::eventfd::EventFd;

use super::process::write_holder;
use super::protocol::{Answer, Event, Refusal, Word};
use crate::deadline::{LeaseView, SharedDeadline};
use crate::gate::{Gate, GateError, Mark, Mode, Node, mounts, settle};
use crate::sys::{clock, fdpass};

/// Memory is locked, so stacks are kept small.
const STACK_BYTES: usize = 512 * 1024;
/// How long after a failed closing it is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// Most descriptors held for locks: a daemon needs one.
pub(super) const LOCKS_MAX: usize = 16;

/// One gate and what is known of it.
pub(super) struct Guarded {
    pub(super) device: Gate,
    /// Someone has begun to close it for good.
    closing: AtomicBool,
    /// Nothing passes any more.
    closed: AtomicBool,
    /// By this a file system frozen for a publish is thawed.
    pub(super) frozen: Mutex<Option<OwnedFd>>,
    /// End of the lease for which the orderly stop was begun.
    stopped_for: Mutex<Option<Duration>>,
}

impl Guarded {
    pub(super) fn new(device: Gate) -> Arc<Self> {
        Arc::new(Self {
            device,
            closing: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            frozen: Mutex::new(None),
            stopped_for: Mutex::new(None),
        })
    }

    /// True once for the one who is to close it.
    pub(super) fn claim_closing(&self) -> bool {
        !self.closing.swap(true, SeqCst)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(SeqCst)
    }

    fn writes(&self) -> bool {
        self.device.mark().mode == Mode::ReadWrite
    }
}

/// What all threads of the guardian share. No lock is held over a call that storage could delay.
pub(super) struct Shared {
    pub(super) deadline: SharedDeadline,
    pub(super) lease: Duration,
    pub(super) socket: OwnedFd,
    pub(super) wake: EventFd,
    gates: Mutex<BTreeMap<Node, Arc<Guarded>>>,
    locks: Mutex<Vec<OwnedFd>>,
    /// Gates let go of while somebody still used them.
    left: Mutex<Vec<(Node, Mark)>>,
    jobs: AtomicUsize,
    /// Closings of the end of the lease whose call has not returned.
    unclosed: AtomicUsize,
    /// The lock file, and how many closings are under way.
    lock_file: Mutex<(File, usize)>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A thread that panicked must not keep the others from closing gates; every critical section leaves whole values.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(
        deadline: SharedDeadline,
        lease: Duration,
        socket: OwnedFd,
        wake: EventFd,
        lock_file: File,
    ) -> Arc<Self> {
        Arc::new(Self {
            lock_file: Mutex::new((lock_file, 0)),
            deadline,
            lease,
            socket,
            wake,
            gates: Mutex::default(),
            locks: Mutex::default(),
            left: Mutex::default(),
            jobs: AtomicUsize::new(0),
            unclosed: AtomicUsize::new(0),
        })
    }

    /// Runs `job` in a thread of its own and wakes the main thread when it is done; gives it back when no thread can be had.
    pub(super) fn run<J: FnOnce(&Arc<Self>) + Send + 'static>(self: &Arc<Self>, job: J) -> Result<(), J> {
        let parcel = Arc::new(Mutex::new(Some(job)));
        let (shared, inner) = (Arc::clone(self), Arc::clone(&parcel));
        self.jobs.fetch_add(1, SeqCst);
        let body = move || {
            let _done = JobDone(Arc::clone(&shared));
            let job = lock(&inner).take();
            if let Some(job) = job {
                job(&shared);
            }
        };
        if thread::Builder::new().stack_size(STACK_BYTES).spawn(body).is_ok() {
            return Ok(());
        }
        self.jobs.fetch_sub(1, SeqCst);
        let job = lock(&parcel).take();
        job.map_or(Ok(()), Err)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.jobs.load(SeqCst) == 0 && lock(&self.gates).is_empty()
    }

    pub(super) fn lease_now(&self) -> LeaseView {
        self.deadline.get(clock::boottime())
    }

    /// No gate is opened but under a live lease.
    pub(super) fn require_live(&self) -> Result<(), Refusal> {
        match self.lease_now() {
            LeaseView::Live { .. } => Ok(()),
            LeaseView::NotBegun => Err(Refusal::LeaseNotBegun),
            LeaseView::Over => Err(Refusal::LeaseOver),
        }
    }

    pub(super) fn say(&self, word: &Word) {
        let Ok(packet) = serde_json::to_vec(word) else {
            return;
        };
        // A stopped daemon may have a full socket: the gates are closed with or without its ear.
        if let Err(error) = fdpass::send(self.socket.as_fd(), &packet, &[], false) {
            tracing::debug!(%error, "the daemon does not hear");
        }
    }

    pub(super) fn reply(&self, id: u64, result: Result<Answer, Refusal>) {
        self.say(&Word::Reply { id, result });
    }

    pub(super) fn register(&self, gate: &Arc<Guarded>) {
        lock(&self.gates).insert(gate.device.node(), Arc::clone(gate));
    }

    pub(super) fn gate(&self, node: Node) -> Result<Arc<Guarded>, Refusal> {
        lock(&self.gates).get(&node).cloned().ok_or(Refusal::UnknownGate { node })
    }

    /// Lets go of a gate that was cleared, and makes sure that it is gone.
    pub(super) fn forget(&self, gate: Arc<Guarded>) -> Result<(), GateError> {
        let (node, mark) = (gate.device.node(), gate.device.mark().clone());
        lock(&self.gates).remove(&node);
        drop(gate);
        if let Ok(Some(_)) = Gate::find(node, &mark) {
            lock(&self.left).push((node, mark.clone()));
        }
        settle(node, &mark).inspect_err(|_| {
            // It would not close: it stays a gate, for the end of the lease to close.
            if let Ok(Some(device)) = Gate::find(node, &mark) {
                self.register(&Guarded::new(device));
            }
        })
    }

    /// Keeps a lock to give back later; gives it back at once when the lease is over already.
    pub(super) fn hold_lock(&self, held: OwnedFd) -> Result<Answer, Refusal> {
        let mut locks = lock(&self.locks);
        if locks.len() >= LOCKS_MAX {
            return Err(Refusal::Misunderstood);
        }
        locks.push(held);
        drop(locks);
        if self.lease_now() == LeaseView::Over {
            self.release_locks();
            return Err(Refusal::LeaseOver);
        }
        Ok(Answer::Done)
    }

    /// Unlocks what the daemon held (trace E12: a stopped holder would keep it for ever).
    pub(super) fn release_locks(&self) {
        let locks = std::mem::take(&mut *lock(&self.locks));
        for held in locks {
            // All zero: the whole file, from its start.
            let range = libc::flock {
                l_type: libc::c_short::try_from(libc::F_UNLCK).unwrap_or(2),
                l_whence: 0,
                l_start: 0,
                l_len: 0,
                l_pid: 0,
            };
            if let Err(error) = fcntl(&held, FcntlArg::F_OFD_SETLK(&range)) {
                tracing::error!(%error, "a lock could not be given back");
            }
        }
    }
}

/// As long as one lives, the lock file says that this process must not be killed.
struct Closing<'a>(&'a Shared);

impl<'a> Closing<'a> {
    fn begin(shared: &'a Shared) -> Self {
        let mut kept = lock(&shared.lock_file);
        kept.1 += 1;
        say_closing(&kept);
        drop(kept);
        Self(shared)
    }
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let mut kept = lock(&self.0.lock_file);
        kept.1 -= 1;
        say_closing(&kept);
    }
}

fn say_closing((file, count): &(File, usize)) {
    if let Err(error) = write_holder(file, *count > 0) {
        tracing::warn!(%error, "the lock file cannot say that gates are being closed");
    }
}

struct JobDone(Arc<Shared>);

impl Drop for JobDone {
    fn drop(&mut self) {
        self.0.jobs.fetch_sub(1, SeqCst);
        let _ = self.0.wake.write(1);
    }
}

/// At 75 % of a lease: write out and go read-only, each writer's gate in its own thread. Once for each end of the lease.
pub(super) fn stop_in_order(shared: &Arc<Shared>, until: Duration) {
    let mut nodes = Vec::new();
    for gate in snapshot(shared).into_iter().filter(|gate| gate.writes()) {
        if gate.closing.load(SeqCst) || lock(&gate.stopped_for).replace(until) == Some(until) {
            continue;
        }
        let node = gate.device.node();
        nodes.push(node);
        let job = move |_: &Arc<Shared>| {
            if let Err(error) = mounts::stop_in_order(gate.device.node()) {
                tracing::warn!(gate = %node, %error, "the orderly stop did not succeed; the gate closes at the end of the lease");
            }
        };
        // Without a thread there is no orderly stop: the main thread must not hang in it.
        let _ = shared.run(job);
    }
    if !nodes.is_empty() {
        shared.say(&Word::Event(Event::OrderlyStop { gates: nodes }));
    }
}

/// The lease is over (it has been ended in the shared word by now): closes the writers' gates first, then the readers'.
/// With `leaving` the read gates of `live` volumes go too, but without breaking open files. Calling again closes only what is new.
/// Returns how many closings it began.
pub(super) fn close_all(shared: &Arc<Shared>, leaving: bool) -> usize {
    let mut gates = snapshot(shared);
    gates.retain(|gate| (leaving || !gate.device.mark().outlives_lease()) && gate.claim_closing());
    gates.sort_by_key(|gate| !gate.writes());
    let begun = gates.len();
    shared.unclosed.fetch_add(begun, SeqCst);
    let mut without_thread = Vec::new();
    for gate in gates {
        let job = move |shared: &Arc<Shared>| {
            fence(shared, &gate, |_| ());
            if shared.unclosed.fetch_sub(1, SeqCst) == 1 {
                shared.say(&Word::Event(Event::GatesClosed));
            }
            clean_up(shared, gate);
        };
        without_thread.extend(shared.run(job).err());
    }
    for job in without_thread {
        job(shared);
    }
    begun
}

/// Before the guardian goes: a mount that was being made while its gate was cleaned up is taken away now that nobody makes any.
pub(super) fn sweep(shared: &Shared) {
    let left = std::mem::take(&mut *lock(&shared.left));
    for (node, mark) in left {
        if let Ok(Some(_held)) = Gate::find(node, &mark)
            && let Err(error) = mounts::detach_all(node)
        {
            tracing::warn!(gate = %node, %error, "a mount could not be detached");
        }
    }
}

/// Closes the gate under whatever stands on it, and does not return before it is closed. `on_failure` hears of the first failure.
pub(super) fn fence(shared: &Shared, gate: &Guarded, mut on_failure: impl FnMut(GateError)) {
    let node = gate.device.node();
    if gate.device.mark().outlives_lease() {
        gate.closed.store(true, SeqCst);
        return;
    }
    let _closing = Closing::begin(shared);
    let mut first = true;
    while let Err(error) = gate.device.close_under() {
        if first {
            first = false;
            tracing::error!(gate = %node, %error, "a gate does not close; trying again");
            let errno = match &error {
                GateError::Close { source, .. } => source.raw_os_error(),
                _ => None,
            };
            shared.say(&Word::Event(Event::GateClosed { node, errno: errno.or(Some(libc::EIO)) }));
            on_failure(error);
            // The second means, for file systems that have it. It proves nothing while a journal is being replayed (trace E8).
            let _ = mounts::shut_down_all(node);
        }
        thread::sleep(RETRY_PAUSE);
    }
    gate.closed.store(true, SeqCst);
    shared.say(&Word::Event(Event::GateClosed { node, errno: None }));
}

/// After the closing: thaw what was frozen, take the mounts away, clear the device. Holds the gate, so that its number stays its own.
pub(super) fn clean_up(shared: &Shared, gate: Arc<Guarded>) {
    let node = gate.device.node();
    let complain = |what: &str, error: &dyn std::fmt::Display| tracing::warn!(gate = %node, %error, "{what}");
    let frozen = lock(&gate.frozen).take();
    if let Some(root) = frozen
        && let Err(error) = mounts::thaw(root.as_fd())
    {
        complain("a frozen file system could not be thawed", &error);
    }
    if gate.writes()
        && let Err(error) = mounts::thaw_all(node)
    {
        complain("a file system could not be looked at for thawing", &error);
    }
    if let Err(error) = mounts::detach_all(node) {
        complain("a mount could not be detached", &error);
    }
    if let Err(error) = gate.device.clear() {
        complain("a closed gate could not be cleared", &error);
    }
    if let Err(error) = shared.forget(gate) {
        complain("a closed gate could not be looked at", &error);
    }
}

fn snapshot(shared: &Shared) -> Vec<Arc<Guarded>> {
    lock(&shared.gates).values().cloned().collect()
}
