//! What a new daemon does before it writes its slot: end the old guardian, then close every gate that is left (section 6, trace A2).
//!
//! In this order: an old guardian that still lived could finish opening a gate after the search (trace E5 d).

use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::bounded;
use uuid::Uuid;

use super::process::{CLOSING, start_time};
use crate::gate::{Gate, GateError, Mark, MarkedGate, Node, find_marked, mounts, settle};
use crate::sys::pidfd::PidFd;
use crate::trust::open_regular;

const POLL: Duration = Duration::from_millis(10);

/// Why what an old daemon left could not be ended; the log-on then goes the slow way.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeftoverError {
    /// The old guardian's lock file cannot be looked at.
    #[error("{}: {source}", path.display())]
    LockFile {
        /// The lock file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It was killed, cannot be found, or is closing gates, and its lock is still held: a call of it hangs in the kernel.
    #[error("{}: still held by the old guardian (process {pid:?}); a call of it hangs in the kernel", path.display())]
    StillHeld {
        /// The lock file.
        path: PathBuf,
        /// Its process number, if the file tells it.
        pid: Option<u32>,
    },
    /// The gates could not be searched.
    #[error("the gates that are left cannot be searched: {0}")]
    Search(#[source] GateError),
    /// This gate does not close.
    #[error("the gate {} left by incarnation {} does not close: {source}", gate.node, gate.mark.incarnation)]
    Open {
        /// Which.
        gate: MarkedGate,
        /// Why.
        source: GateError,
    },
    /// The closing call of this gate has not returned.
    #[error("the closing of the gate {} left by incarnation {} has not returned; its storage hangs", gate.node, gate.mark.incarnation)]
    Hangs {
        /// Which.
        gate: MarkedGate,
    },
}

/// Ends the guardian that holds `lock_path`, if there is one, and waits until its lock is free: then no thread of it is left. One that
/// is closing gates is left to end by itself.
/// Returns the process number of the one that was ended.
///
/// # Errors
/// [`LeftoverError::StillHeld`] after `timeout`.
pub fn end_old(lock_path: &Path, timeout: Duration) -> Result<Option<u32>, LeftoverError> {
    let fail = |source| LeftoverError::LockFile { path: lock_path.to_path_buf(), source };
    let mut file = match open_regular(lock_path, File::options().read(true)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    let begun = Instant::now();
    let mut ended = None;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(ended),
            Err(TryLockError::Error(error)) => return Err(fail(error)),
            Err(TryLockError::WouldBlock) => {}
        }
        let holder = read_holder(&mut file).map_err(fail)?;
        if let Some(Holder { pid, started, closing: false }) = holder
            && ended.is_none()
            && kill_exactly(pid, started).map_err(fail)?
        {
            ended = Some(pid);
        }
        if begun.elapsed() >= timeout {
            let pid = holder.map(|holder| holder.pid);
            return Err(LeftoverError::StillHeld { path: lock_path.to_path_buf(), pid });
        }
        thread::sleep(POLL);
    }
}

/// Who holds a guardian's lock file.
struct Holder {
    pid: u32,
    /// When it was started.
    started: u64,
    /// It closes gates at this moment. To kill it would break that off, and what device-mapper holds back for it would go on to the disk,
    /// long after the lease has ended. It ends by itself, or hangs with its storage.
    closing: bool,
}

/// `None` while the file is still being written.
fn read_holder(file: &mut File) -> io::Result<Option<Holder>> {
    use std::io::Seek;
    let mut text = String::new();
    file.rewind()?;
    file.take(64).read_to_string(&mut text)?;
    let Some(line) = text.strip_suffix('\n') else {
        return Ok(None);
    };
    let mut words = line.split_ascii_whitespace();
    let (pid, started) = (words.next().map(str::parse), words.next().map(str::parse));
    Ok(match (pid, started) {
        (Some(Ok(pid)), Some(Ok(started))) => Some(Holder { pid, started, closing: words.next() == Some(CLOSING) }),
        _ => None,
    })
}

/// Kills the process with this number and this start time; false when there is none. The look at the start time comes after the
/// opening, so the handle cannot mean a later process of the same number.
fn kill_exactly(pid: u32, started: u64) -> io::Result<bool> {
    let handle = match PidFd::open(pid) {
        Ok(handle) => handle,
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(false),
        Err(error) => return Err(error),
    };
    match start_time(pid) {
        Ok(time) if time == started => handle.kill().map(|()| true),
        _ => Ok(false),
    }
}

/// Closes every gate that `slot` of `control` left in this kernel, writers' first, each in a thread of its own; takes their mounts
/// away and clears them. Returns the gates found. To be called with the daemon's lock held and after [`end_old`]; also by a daemon
/// whose guardian is gone.
///
/// # Errors
/// Names the first gate that does not close within `timeout`: then an older grant may not be ended.
pub fn close_leftovers(control: Uuid, slot: u16, timeout: Duration) -> Result<Vec<MarkedGate>, LeftoverError> {
    close_leftovers_up_to(control, slot, u64::MAX, timeout)
}

/// As [`close_leftovers`], but only what incarnations up to `incarnation` left: for a daemon that ends, whose slot may be
/// another's by now.
///
/// # Errors
/// As [`close_leftovers`].
pub fn close_leftovers_up_to(
    control: Uuid,
    slot: u16,
    incarnation: u64,
    timeout: Duration,
) -> Result<Vec<MarkedGate>, LeftoverError> {
    let mut found = find_marked(control, Some(slot)).map_err(LeftoverError::Search)?;
    found.retain(|gate| gate.mark.incarnation <= incarnation);
    let begun = Instant::now();
    let mut waiting = Vec::new();
    for gate in found.clone() {
        let (sender, receiver) = bounded(1);
        let theirs = gate.clone();
        let spawned = thread::Builder::new().spawn(move || {
            let _ = sender.send(close_one(theirs.node, &theirs.mark));
        });
        if let Err(source) = spawned {
            let source = GateError::Close { node: gate.node, source };
            return Err(LeftoverError::Open { gate, source });
        }
        waiting.push((gate, receiver));
    }
    let mut failed = None;
    for (gate, receiver) in waiting {
        match receiver.recv_timeout(timeout.saturating_sub(begun.elapsed())) {
            Ok(Ok(())) => {}
            Ok(Err(source)) => failed = failed.or(Some(LeftoverError::Open { gate, source })),
            Err(_) => failed = failed.or(Some(LeftoverError::Hangs { gate })),
        }
    }
    failed.map_or(Ok(found), Err)
}

fn close_one(node: Node, mark: &Mark) -> Result<(), GateError> {
    let Some(gate) = Gate::find(node, mark)? else {
        return Ok(());
    };
    if !mark.outlives_lease() {
        gate.close_under()?;
    }
    // Closed is what counts; what follows is order. A mount that cannot be reached (something else was mounted over it) keeps its device for as
    // long as it stands; the device must go with it then.
    let looked_at = |source| GateError::Node { node, source };
    let thawed = mounts::thaw_all(node).map_err(looked_at);
    let detached = mounts::detach_all(node).map(drop).map_err(looked_at);
    let cleared = gate.clear();
    drop(gate);
    for error in [thawed, detached, cleared, settle(node, mark)].into_iter().filter_map(Result::err) {
        tracing::warn!(gate = %node, %error, "a gate that was left is closed, but could not be cleared");
    }
    Ok(())
}
