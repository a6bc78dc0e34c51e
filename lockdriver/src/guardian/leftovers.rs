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

use super::process::start_time;
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
    /// It was killed, or cannot be found, and its lock is still held: a thread of it hangs in the kernel.
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

/// Ends the guardian that holds `lock_path`, if there is one, and waits until its lock is free: then no thread of it is left.
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
        if let Some((pid, started)) = holder
            && ended.is_none()
            && kill_exactly(pid, started).map_err(fail)?
        {
            ended = Some(pid);
        }
        if begun.elapsed() >= timeout {
            let pid = holder.map(|(pid, _)| pid);
            return Err(LeftoverError::StillHeld { path: lock_path.to_path_buf(), pid });
        }
        thread::sleep(POLL);
    }
}

/// `None` while the file is still being written.
fn read_holder(file: &mut File) -> io::Result<Option<(u32, u64)>> {
    use std::io::Seek;
    let mut text = String::new();
    file.rewind()?;
    file.take(64).read_to_string(&mut text)?;
    let Some(line) = text.strip_suffix('\n') else {
        return Ok(None);
    };
    let parsed = line.split_once(' ').map(|(pid, started)| (pid.parse(), started.parse()));
    Ok(match parsed {
        Some((Ok(pid), Ok(started))) => Some((pid, started)),
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
    // Closed is what counts; what follows is order.
    let tidy = mounts::thaw_all(node)
        .and_then(|()| mounts::detach_all(node).map(drop))
        .map_err(|source| GateError::Node { node, source })
        .and_then(|()| gate.clear());
    drop(gate);
    if let Err(error) = tidy.and_then(|()| settle(node, mark)) {
        tracing::warn!(gate = %node, %error, "a gate that was left is closed, but could not be cleared");
    }
    Ok(())
}
