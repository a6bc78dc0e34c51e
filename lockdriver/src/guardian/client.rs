//! The daemon's handle of its guardian.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use nix::sys::socket::{Shutdown, shutdown};

use super::protocol::{Answer, Event, Hello, Order, Refusal, Request, Welcome, Word};
use crate::deadline::SharedDeadline;
use crate::gate::{Node, Opening};
use crate::sys::fdpass;

/// How a guardian is started.
#[derive(Debug)]
pub struct SpawnConfig {
    /// The executable, normally the daemon's own.
    pub program: PathBuf,
    /// Its arguments, so that it calls [`super::process::main`] before it starts any thread.
    pub args: Vec<OsString>,
    /// Environment variables beside the daemon's own.
    pub envs: Vec<(OsString, OsString)>,
    /// The guardian's lock file: not the daemon's, on a file system of this host (in /run).
    pub lock_path: PathBuf,
    /// The daemon's mount root, a mount on itself: taken away last, when the daemon is gone without a good-bye.
    pub mount_root: Option<PathBuf>,
    /// Length of the lease; ticks and the orderly stop follow from it.
    pub lease: Duration,
    /// The lease that it watches, not begun or live.
    pub deadline: SharedDeadline,
    /// How long an order may take before the caller is told that there is no answer.
    pub timeout: Duration,
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuardianError {
    /// The guardian said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It is gone: nothing but this daemon closes the gates now.
    #[error("the guardian is gone; the gates have to be closed at once")]
    Gone,
    /// No answer in time (hung storage, say). The order may still be carried out.
    #[error("the guardian has not answered within {after:?}; the order may still be carried out")]
    NoAnswer {
        /// How long was waited.
        after: Duration,
    },
    /// It could not be started or spoken to.
    #[error("the guardian cannot be reached: {0}")]
    Io(#[from] io::Error),
}

/// A gate that the guardian has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedGate {
    /// Its device.
    pub node: Node,
    /// False when the kernel refused direct I/O: to be said, for readers may then see stale blocks.
    pub direct_io: bool,
    /// Why it is a loop device although device-mapper is preferred, if it is so.
    pub instead: Option<String>,
}

impl OpenedGate {
    /// Path of the node.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.node.path()
    }
}

type Pending = Mutex<Option<HashMap<u64, Sender<Result<Answer, Refusal>>>>>;

/// The daemon's handle of its guardian; may be used from several threads. Dropping it is like the daemon's death: every gate is closed.
#[derive(Debug)]
pub struct Guardian {
    socket: Arc<OwnedFd>,
    pending: Arc<Pending>,
    events: Receiver<Event>,
    next_id: AtomicU64,
    deadline: SharedDeadline,
    timeout: Duration,
    welcome: Welcome,
}

impl Guardian {
    /// Starts a guardian for this process and waits until it watches.
    ///
    /// # Errors
    /// A refusal (its lock file is held: [`super::end_old`] first), or that it could not be started.
    pub fn spawn(config: SpawnConfig) -> Result<Self, GuardianError> {
        let (here, there) = fdpass::pair()?;
        let mut child = Command::new(&config.program)
            .args(&config.args)
            .envs(config.envs.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::from(there))
            .stdout(Stdio::null())
            .spawn()?;
        let started = Self::greet(here, &config);
        if started.is_err() {
            let _ = child.kill();
        }
        reap(child);
        started
    }

    fn greet(socket: OwnedFd, config: &SpawnConfig) -> Result<Self, GuardianError> {
        let socket = Arc::new(socket);
        let pending: Arc<Pending> = Arc::new(Mutex::new(Some(HashMap::new())));
        // Without bound, for none may be lost; there are a few for each gate.
        let (sender, events) = unbounded();
        let (reader_socket, reader_pending) = (Arc::clone(&socket), Arc::clone(&pending));
        thread::Builder::new()
            .name("guardian-ear".into())
            .spawn(move || listen(&reader_socket, &reader_pending, &sender))?;
        let welcome =
            Welcome { pid: 0, memory_locked: false, real_time: false, spared_by_oom: false, own_cgroup: false };
        let mut guardian = Self {
            socket,
            pending,
            events,
            next_id: AtomicU64::new(1),
            deadline: config.deadline.clone(),
            timeout: config.timeout,
            welcome,
        };
        let hello = Hello {
            daemon_pid: std::process::id(),
            lease_nanos: u64::try_from(config.lease.as_nanos()).unwrap_or(u64::MAX),
            lock_path: config.lock_path.clone(),
            mount_root: config.mount_root.clone(),
        };
        match guardian.ask(Order::Hello(hello), &[config.deadline.as_fd()])? {
            Answer::Welcome(welcome) => guardian.welcome = welcome,
            _ => return Err(Refusal::Misunderstood.into()),
        }
        Ok(guardian)
    }

    /// What the guardian could do to protect itself, and its process number.
    #[must_use]
    pub fn welcome(&self) -> Welcome {
        self.welcome
    }

    /// The lease that it watches.
    #[must_use]
    pub fn deadline(&self) -> &SharedDeadline {
        &self.deadline
    }

    /// What it tells unasked; the last one is [`Event::Gone`].
    #[must_use]
    pub fn events(&self) -> &Receiver<Event> {
        &self.events
    }

    /// False when it has not ticked for a quarter of the lease: the daemon then stops in order (section 6).
    #[must_use]
    pub fn is_ticking(&self, now: Duration, lease: Duration) -> bool {
        now.saturating_sub(self.deadline.guardian_tick()) < lease / 4
    }

    /// Has it make a gate over `backing`, the very descriptor on which the volume's identity was proven.
    ///
    /// # Errors
    /// Refused while the lease is not live, or by the kernel; nothing is left behind then.
    pub fn open_gate(&self, backing: BorrowedFd<'_>, opening: &Opening) -> Result<OpenedGate, GuardianError> {
        match self.ask(Order::OpenGate(opening.clone()), &[backing])? {
            Answer::Gate { node, direct_io, instead } => Ok(OpenedGate { node, direct_io, instead }),
            _ => Err(Refusal::Misunderstood.into()),
        }
    }

    /// Clears a reader's gate if its last user has let go; false when not.
    ///
    /// # Errors
    /// Refused for an unknown gate, or by the kernel.
    pub fn retire(&self, node: Node) -> Result<bool, GuardianError> {
        match self.ask(Order::Retire { node }, &[])? {
            Answer::Cleared(cleared) => Ok(cleared),
            _ => Err(Refusal::Misunderstood.into()),
        }
    }

    /// The writer's orderly close, after its unmount. When this returns the gate is closed and nothing is in flight in it.
    ///
    /// # Errors
    /// [`Refusal::Busy`] while it is still mounted.
    pub fn close(&self, node: Node) -> Result<(), GuardianError> {
        self.done(Order::Close { node }, &[])
    }

    /// Closes a gate under whatever stands on it, takes its mounts away and clears it.
    ///
    /// # Errors
    /// [`Refusal::Gate`] when it does not close: writes may still pass (the guardian tries on). No answer means the same.
    pub fn close_now(&self, node: Node) -> Result<(), GuardianError> {
        self.done(Order::CloseNow { node }, &[])
    }

    /// Said before a freeze, with the mount's root open: should the lease end meanwhile, the guardian thaws it (trace B7).
    ///
    /// # Errors
    /// Then do not freeze.
    pub fn frozen(&self, node: Node, root: BorrowedFd<'_>) -> Result<(), GuardianError> {
        self.done(Order::Frozen { node }, &[root])
    }

    /// Said after the thaw; the guardian lets go of the mount's root.
    ///
    /// # Errors
    /// When the gate is gone meanwhile.
    pub fn thawed(&self, node: Node) -> Result<(), GuardianError> {
        self.done(Order::Thawed { node }, &[])
    }

    /// Has it keep a duplicate of `file` and unlock all its open-file-description locks when the lease ends or this process is gone.
    /// Once for a descriptor, not for each locking.
    ///
    /// # Errors
    /// When the lease is over, or it keeps too many already.
    pub fn hold_lock(&self, file: BorrowedFd<'_>) -> Result<(), GuardianError> {
        self.done(Order::HoldLock, &[file])
    }

    /// Ends the lease at once; the gates are closed when [`Event::GatesClosed`] comes.
    ///
    /// # Errors
    /// When it cannot be told; the lease is over all the same.
    pub fn end_lease(&self) -> Result<(), GuardianError> {
        self.deadline.end();
        self.done(Order::EndLease, &[])
    }

    /// Nothing but an answer.
    ///
    /// # Errors
    /// When none comes.
    pub fn ping(&self) -> Result<(), GuardianError> {
        self.done(Order::Ping, &[])
    }

    /// Ends the lease, has it close what is left, and waits until it has exited (its lock is free then): true when it has.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn bye(self) -> Result<bool, GuardianError> {
        let timeout = self.timeout;
        let exited = crate::sys::pidfd::PidFd::open(self.welcome.pid);
        self.deadline.end();
        match self.done(Order::Bye, &[]) {
            Ok(()) | Err(GuardianError::Gone) => {}
            Err(error) => return Err(error),
        }
        match exited {
            Ok(handle) => Ok(handle.wait(timeout)?),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    fn done(&self, order: Order, fds: &[BorrowedFd<'_>]) -> Result<(), GuardianError> {
        self.ask(order, fds).map(drop)
    }

    fn ask(&self, order: Order, fds: &[BorrowedFd<'_>]) -> Result<Answer, GuardianError> {
        let id = self.next_id.fetch_add(1, SeqCst);
        let (sender, receiver) = bounded(1);
        match self.pending.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(waiting) => waiting.insert(id, sender),
            None => return Err(GuardianError::Gone),
        };
        let packet = serde_json::to_vec(&Request { id, order }).map_err(io::Error::from)?;
        match fdpass::send(self.socket.as_fd(), &packet, fds, false) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(GuardianError::Gone),
            Err(error) => Err(error.into()),
            Ok(()) => match receiver.recv_timeout(self.timeout) {
                Ok(result) => Ok(result?),
                Err(RecvTimeoutError::Timeout) => Err(GuardianError::NoAnswer { after: self.timeout }),
                Err(RecvTimeoutError::Disconnected) => Err(GuardianError::Gone),
            },
        }
        .inspect_err(|_| {
            if let Some(waiting) = self.pending.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                waiting.remove(&id);
            }
        })
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        // Ends the reading thread too, which holds the other reference.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }
}

/// The reading thread: hands replies to those who wait, and events on.
fn listen(socket: &OwnedFd, pending: &Pending, events: &Sender<Event>) {
    while let Ok(Some((packet, _))) = fdpass::receive(socket.as_fd()) {
        match serde_json::from_slice(&packet) {
            Ok(Word::Reply { id, result }) => {
                let mut waiting = pending.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(sender) = waiting.as_mut().and_then(|waiting| waiting.remove(&id)) {
                    let _ = sender.send(result);
                }
            }
            Ok(Word::Event(event)) => {
                let _ = events.send(event);
            }
            Err(error) => {
                tracing::error!(%error, "the guardian said something that was not understood")
            }
        }
    }
    // Dropping the senders tells everyone who waits.
    drop(pending.lock().unwrap_or_else(PoisonError::into_inner).take());
    let _ = events.send(Event::Gone);
}

/// The first of the two forks has ended by itself, or was killed.
fn reap(mut child: Child) {
    if let Err(error) = child.wait() {
        tracing::warn!(%error, "the process that started the guardian could not be waited for");
    }
}
