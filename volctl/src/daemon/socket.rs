//! The daemon's socket: who listens, who may act, and one bounded thread for each connection (section 10).
//!
//! The daemon's loop gets [`Incoming`] calls over a bounded channel and answers through a
//! [`ReplySender`](super::reply::ReplySender); nothing that a peer does or leaves undone reaches further than its own
//! connection's thread.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::Sender;
use lockdriver::trust::{self, open_lock_file};
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::reply::ReplySender;
use crate::wire::call::Call;
use crate::wire::client::connect_socket;
use crate::wire::outcome::Failure;

mod connection;
mod peer;

pub use peer::{ACTING_GROUP, Peer, PeerCheck, may_act};

/// The most connections at once.
pub const CONNECTIONS_MAX: usize = 64;
/// Of these, how many may be held by peers that may only look: so that they cannot lock out those who may act.
pub const LOOKERS_MAX: usize = 48;
/// And how many by one user other than root and the daemon's own: so that one who floods the socket is alone in that.
pub const USER_MAX: usize = 16;

/// A call that has passed all checks, with the way back.
#[derive(Debug)]
pub struct Incoming {
    /// What is asked; names and sizes are checked.
    pub call: Call,
    /// Who asks, as the kernel says.
    pub peer: Peer,
    /// Where the replies go.
    pub reply: ReplySender,
}

/// What connections and listener share.
struct Shared {
    calls: Sender<Incoming>,
    may_act: PeerCheck,
    connections: Mutex<Connections>,
    limits: Limits,
}

/// How long a peer may take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Between two calls.
    idle: Duration,
    /// For one frame, in either direction.
    frame: Duration,
}

#[derive(Default)]
struct Connections {
    next_id: u64,
    /// A clone of each stream, to end it at shutdown, and whose it is.
    open: HashMap<u64, (UnixStream, u32)>,
    lookers: usize,
}

impl Connections {
    /// Why this user gets no further connection; None: there is room.
    fn full(&self, uid: u32) -> Option<String> {
        if self.open.len() >= CONNECTIONS_MAX {
            return Some(format!("{CONNECTIONS_MAX} are open already"));
        }
        let own = uid == 0 || uid == nix::unistd::geteuid().as_raw();
        let of_user = self.open.values().filter(|(_, theirs)| *theirs == uid).count();
        (!own && of_user >= USER_MAX).then(|| format!("user {uid} has {USER_MAX} open already"))
    }
}

impl Shared {
    fn connections<T>(&self, change: impl FnOnce(&mut Connections) -> T) -> T {
        // Each change is complete in itself, so a panic elsewhere leaves nothing half done.
        change(&mut self.connections.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The listening socket and its threads. Dropped, it stops in order.
pub struct SocketServer {
    path: PathBuf,
    /// Device and inode of the socket file that is ours.
    file: (u64, u64),
    stop: Arc<EventFd>,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
    /// Held for as long as the socket is ours.
    _lock: Flock<fs::File>,
}

impl SocketServer {
    /// Listens at `path` and sends calls to `calls`. Whoever is root, has the daemon's own uid, or is in group
    /// `volctl` may act; everybody may look.
    ///
    /// # Errors
    /// A [`Failure`]: exit 5 when another daemon listens there, 1 when the socket cannot be made.
    pub fn start(path: &Path, calls: Sender<Incoming>) -> Result<Self, Failure> {
        Self::start_with(path, calls, Arc::new(may_act))
    }

    /// As [`SocketServer::start`], with another rule for who may act.
    ///
    /// # Errors
    /// As [`SocketServer::start`].
    pub fn start_with(path: &Path, calls: Sender<Incoming>, may_act: PeerCheck) -> Result<Self, Failure> {
        let limits = Limits { idle: Duration::from_mins(1), frame: crate::wire::frame::FRAME_TIME };
        Self::start_limited(path, calls, may_act, limits)
    }

    fn start_limited(
        path: &Path,
        calls: Sender<Incoming>,
        may_act: PeerCheck,
        limits: Limits,
    ) -> Result<Self, Failure> {
        let failed = |error: io::Error| {
            Failure::failed(
                format!("cannot listen at {}", path.display()),
                error.to_string(),
                "check the directory and the key 'socket' of the configuration",
            )
        };
        make_directory(path).map_err(failed)?;
        check_directory(path)?;
        let lock = take_lock(path)?;
        remove_stale(path)?;
        let listener = UnixListener::bind(path).map_err(failed)?;
        // Everybody may connect; what one may do is decided by the peer's credentials.
        fs::set_permissions(path, fs::Permissions::from_mode(0o666)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let metadata = fs::symlink_metadata(path).map_err(failed)?;
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(|e| failed(e.into()))?;
        let stop = Arc::new(stop);
        let shared = Arc::new(Shared { calls, may_act, connections: Mutex::default(), limits });
        let thread = thread::Builder::new().name("socket".into()).spawn({
            let (shared, stop) = (Arc::clone(&shared), Arc::clone(&stop));
            move || listen(&listener, &stop, &shared)
        });
        Ok(Self {
            path: path.to_owned(),
            file: (metadata.dev(), metadata.ino()),
            stop,
            shared,
            listener: Some(thread.map_err(failed)?),
            _lock: lock,
        })
    }

    /// How many connections are open now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections(|all| all.open.len())
    }

    /// Stops in order: no new connections, idle ones end, those with a call under way get a second for their last
    /// reply; then all are closed and the socket file is removed, if it is still ours.
    pub fn stop(self) {
        drop(self);
    }

    fn stop_all(&mut self) {
        let Some(listener) = self.listener.take() else {
            return;
        };
        // It fails only when the counter is full, and then the listener is awake anyway.
        let _ = self.stop.write(1);
        // A listener that panicked has stopped as well.
        let _ = listener.join();
        if fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.file) {
            // If this fails, the next daemon finds that nobody listens and removes it.
            let _ = fs::remove_file(&self.path);
        }
        let deadline = Instant::now() + Duration::from_secs(1);
        self.shut(Shutdown::Read);
        while self.connections() > 0 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        self.shut(Shutdown::Both);
    }

    fn shut(&self, how: Shutdown) {
        self.shared.connections(|all| {
            for (stream, _) in all.open.values() {
                // A peer that is gone already needs no more.
                let _ = stream.shutdown(how);
            }
        });
    }
}

impl Drop for SocketServer {
    fn drop(&mut self) {
        self.stop_all();
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.exists()) else {
        return Ok(());
    };
    fs::create_dir_all(parent)?;
    // Whatever the umask is: others must be able to reach the socket, and nobody else to put a file beside it.
    fs::set_permissions(parent, fs::Permissions::from_mode(0o755))
}

/// In a directory of others the socket could be another's by the time that somebody connects to it.
fn check_directory(path: &Path) -> Result<(), Failure> {
    let Some(parent) = path.parent() else { return Ok(()) };
    let checked = fs::metadata(parent).map(|metadata| trust::check_owner(&metadata));
    let why = match checked {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(why)) => format!("{}: {why}", parent.display()),
        Err(error) => format!("{}: {error}", parent.display()),
    };
    let what = format!("cannot listen at {}", path.display());
    Err(Failure::failed(what, why, "put the socket into a directory that only root may change, such as /run/volctl"))
}

/// Takes the lock file beside the socket: two daemons that start at once cannot both find a stale socket.
fn take_lock(path: &Path) -> Result<Flock<fs::File>, Failure> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let what = format!("cannot listen at {}", path.display());
    let file = open_lock_file(&name).map_err(|error| {
        Failure::failed(&what, format!("{}: {error}", name.display()), "check the directory and who owns it")
    })?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| in_use(&what))
}

fn in_use(what: &str) -> Failure {
    Failure::busy(
        what,
        "another daemon listens there",
        "stop that one first, or give this one another 'socket' in its configuration",
    )
}

fn remove_stale(path: &Path) -> Result<(), Failure> {
    let what = format!("cannot listen at {}", path.display());
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        let why = "there is a file of that name that is not a socket";
        return Err(Failure::failed(what, why, "move it away, or change 'socket' in the configuration"));
    }
    match connect_socket(path, Duration::ZERO) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)
            .map_err(|error| Failure::failed(what, error.to_string(), "remove the old socket file by hand")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Connected, or a full queue: somebody listens.
        _ => Err(in_use(&what)),
    }
}

fn listen(listener: &UnixListener, stop: &EventFd, shared: &Arc<Shared>) {
    loop {
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN), PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
        if let Err(errno) = nix::poll::poll(&mut fds, PollTimeout::NONE)
            && errno != nix::errno::Errno::EINTR
        {
            tracing::error!(%errno, "the socket's thread cannot wait; nobody can connect any more");
            return;
        }
        if fds[1].any().unwrap_or(true) {
            return;
        }
        match listener.accept() {
            Ok((stream, _)) => connection::start(stream, shared),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => {
                // Out of descriptors, say: the queue stays readable, so do not spin on it.
                tracing::warn!(%error, "a connection could not be taken");
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// Registers a connection; the guard takes it out again, whatever happens in its thread.
struct Registered {
    shared: Arc<Shared>,
    id: u64,
    looker: bool,
}

impl Registered {
    /// # Errors
    /// Why there is no room.
    fn new(shared: &Arc<Shared>, stream: &UnixStream, uid: u32) -> Result<Self, String> {
        let clone = stream.try_clone().map_err(|error| error.to_string())?;
        let id = shared.connections(|all| {
            if let Some(why) = all.full(uid) {
                return Err(why);
            }
            all.next_id += 1;
            all.open.insert(all.next_id, (clone, uid));
            Ok(all.next_id)
        })?;
        Ok(Self { shared: Arc::clone(shared), id, looker: false })
    }

    /// Counts it among those who may only look; false when there are too many of them.
    fn count_looker(&mut self) -> bool {
        self.looker = self.shared.connections(|all| {
            let room = all.lookers < LOOKERS_MAX;
            all.lookers += usize::from(room);
            room
        });
        self.looker
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.shared.connections(|all| {
            all.open.remove(&self.id);
            all.lookers -= usize::from(self.looker);
        });
    }
}

#[cfg(test)]
mod tests;
