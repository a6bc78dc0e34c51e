//! The gate as a loop device: made with its mark in one call, closed under whatever stands on it, found again by its mark.
//!
//! **How a gate is closed under a mounted file system.** The block layer compares a request with the device's size *before* it
//! enters the device's queue; changing the status of a loop device waits until the queue is empty. So one change alone leaves two
//! holes: a request that was compared before the change and enters after it, and sector 0, which a size limit of 512 bytes still
//! allows (the superblock of XFS lies there). Hence two steps with a pause between them: first the size limit, which refuses every
//! new request but those for sector 0; a pause in which threads that had passed the comparison get into the queue; then an offset
//! beyond every device, which drains them, makes the size zero and leaves sector 0 nowhere to land. What remains is a thread that
//! stands still for the whole pause between two lines of kernel code: that is what `margin` is for.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use super::mark::{Mark, Mode};
use super::{GateError, Kind, Node};
use crate::sys::blockdev;
use crate::sys::loopdev::{self, LoopSetup};

/// How often a number that somebody else took first is replaced by another.
const TAKEN_TRIES: u32 = 64;
/// How often, and how long apart, a busy device is asked again (EAGAIN of older kernels).
const AGAIN_TRIES: u32 = 40;
const AGAIN_PAUSE: Duration = Duration::from_millis(5);
/// Long enough for a running thread to get from the size check into the queue, short beside `margin`.
const SETTLE_PAUSE: Duration = Duration::from_millis(10);
/// The size limit of a closed gate in bytes: the smallest that the kernel takes for one.
const CLOSED_LIMIT: u64 = 512;
/// Beyond every device and every file of ext4, yet far from overflowing: writes that come this far fail (ENOSPC, EFBIG).
const NOWHERE_OFFSET: u64 = 1 << 60;
/// From here on the kernel refuses requests to a device of size zero; before, it let them through.
const ZERO_SIZE_REFUSES: (u32, u32) = (6, 4);

/// What a gate is to be made of.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Opening {
    /// Who makes it and how.
    pub mark: Mark,
    /// First byte of the volume on the backing, in bytes (1 MiB behind an envelope, else 0).
    pub offset: u64,
    /// Length in bytes; 0 = up to the end.
    pub size_limit: u64,
    /// Block size in bytes; 0 = the kernel's choice.
    pub block_size: u32,
    /// Ask for direct I/O.
    pub direct_io: bool,
    /// Which kind of device.
    pub kind: Kind,
}

/// An open gate. Holding it keeps the number from coming to mean another device; dropping it closes nothing.
#[derive(Debug)]
pub struct LoopGate {
    number: u32,
    node: File,
    mark: Mark,
    setup: LoopSetup,
}

impl LoopGate {
    /// Makes a gate over `backing`, the very descriptor on which the volume's identity was proven.
    ///
    /// # Errors
    /// A [`GateError`]; nothing is left behind then.
    pub fn open(backing: BorrowedFd<'_>, opening: &Opening) -> Result<Self, GateError> {
        let setup = LoopSetup {
            offset: opening.offset,
            size_limit: opening.size_limit,
            read_only: opening.mark.mode == Mode::ReadOnly,
            direct_io: opening.direct_io,
            autoclear: false,
            name: opening.mark.encode().into_bytes(),
        };
        let (number, node) = configure_free(backing, opening.block_size, &setup)?;
        let seen = Self::find(number, &opening.mark);
        let refused = match seen {
            Ok(Some(gate)) if gate.setup.read_only == setup.read_only => return Ok(gate),
            Ok(Some(_)) => GateError::BackingReadOnly,
            Ok(None) => GateError::Configure(io::Error::from(io::ErrorKind::NotFound)),
            Err(error) => error,
        };
        loopdev::clear(node.as_fd()).map_err(|source| GateError::Node { node: Node::Loop(number), source })?;
        Err(refused)
    }

    /// Takes hold of the device `number` as it stands; `None` when it is bound to nothing or bears another mark.
    ///
    /// # Errors
    /// [`GateError::Node`].
    pub fn find(number: u32, mark: &Mark) -> Result<Option<Self>, GateError> {
        let fail = |source| GateError::Node { node: Node::Loop(number), source };
        // Kept read-only: where the kernel forbids writers beside a mount, a writable descriptor would forbid the mount.
        let node = open_node(number, false, 0).map_err(fail)?;
        let setup = loopdev::status(node.as_fd()).map_err(fail)?;
        let setup = setup.filter(|setup| setup.name == mark.encode().as_bytes());
        Ok(setup.map(|setup| Self { number, node, mark: mark.clone(), setup }))
    }

    /// Its device.
    #[must_use]
    pub fn node(&self) -> Node {
        Node::Loop(self.number)
    }

    /// What it says about itself.
    #[must_use]
    pub fn mark(&self) -> &Mark {
        &self.mark
    }

    /// Whether the kernel does direct I/O on it: without, readers may see stale or torn blocks, which has to be said.
    #[must_use]
    pub fn direct_io(&self) -> bool {
        self.setup.direct_io
    }

    /// Path of the node.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.node().path()
    }

    /// Closes the gate under whatever stands on it: when this returns, no write passes any more and none is in flight in this
    /// kernel's loop device. Takes some 40 ms; waits for I/O in flight first, and so hangs with hung storage.
    ///
    /// # Errors
    /// [`GateError::Close`]: writes may still pass. Calling again is right.
    pub fn close_under(&self) -> Result<(), GateError> {
        let fail = |source| GateError::Close { node: self.node(), source };
        let limited = LoopSetup { size_limit: CLOSED_LIMIT, ..self.setup.clone() };
        self.set_status(&limited).map_err(fail)?;
        std::thread::sleep(SETTLE_PAUSE);
        let nowhere = LoopSetup { offset: NOWHERE_OFFSET, ..limited.clone() };
        let moved = kernel_at_least(ZERO_SIZE_REFUSES) && self.set_status(&nowhere).is_ok();
        if !moved {
            self.set_status(&limited).map_err(fail)?;
        }
        let left = blockdev::block_sizes(self.node.as_fd()).map_err(fail)?.length;
        if left > CLOSED_LIMIT {
            return Err(fail(io::Error::other("the device kept its size")));
        }
        Ok(())
    }

    /// Has the kernel unbind the device when its last user lets go; that is at once, when this gate is dropped, if nobody else has it.
    ///
    /// # Errors
    /// [`GateError::Node`].
    pub fn clear(&self) -> Result<(), GateError> {
        let number = self.number;
        loopdev::clear(self.node.as_fd()).map_err(|source| GateError::Node { node: Node::Loop(number), source })
    }

    /// As [`clear`](Self::clear) if nothing has it mounted any more (an exclusive open succeeds); else false, and nothing has changed.
    /// After dropping the gate, [`settle`](super::settle) makes sure.
    ///
    /// # Errors
    /// [`GateError::Node`].
    pub fn clear_if_unused(&self) -> Result<bool, GateError> {
        let Some(exclusive) = self.exclusive()? else {
            return Ok(false);
        };
        let number = self.number;
        loopdev::clear(exclusive.as_fd()).map_err(|source| GateError::Node { node: Node::Loop(number), source })?;
        Ok(true)
    }

    fn exclusive(&self) -> Result<Option<File>, GateError> {
        let number = self.number;
        match open_node(number, false, libc::O_EXCL) {
            Ok(node) => Ok(Some(node)),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(None),
            Err(source) => Err(GateError::Node { node: Node::Loop(number), source }),
        }
    }

    fn set_status(&self, setup: &LoopSetup) -> io::Result<()> {
        for _ in 0..AGAIN_TRIES {
            match loopdev::set_status(self.node.as_fd(), setup) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(AGAIN_PAUSE);
                }
                other => return other,
            }
        }
        Err(io::Error::from(io::ErrorKind::WouldBlock))
    }
}

/// Number and mark of every loop device in this kernel that is a gate.
///
/// # Errors
/// When /sys cannot be read, or a bound device cannot be asked: a gate may be hidden then.
pub(super) fn all_marked() -> Result<Vec<(u32, Mark)>, GateError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/sys/block").map_err(GateError::NoneFree)? {
        let entry = entry.map_err(GateError::NoneFree)?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("loop")?.parse::<u32>().ok());
        let Some(number) = number.filter(|_| entry.path().join("loop").exists()) else {
            continue;
        };
        let asked = open_node(number, false, 0).and_then(|node| loopdev::status(node.as_fd()));
        let setup = match asked {
            Ok(setup) => setup,
            // Removed, or cleared, between the listing and the asking.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENXIO)) => None,
            Err(source) => return Err(GateError::Node { node: Node::Loop(number), source }),
        };
        found.extend(setup.and_then(|setup| Mark::decode(&setup.name)).map(|mark| (number, mark)));
    }
    Ok(found)
}

fn configure_free(backing: BorrowedFd<'_>, block_size: u32, setup: &LoopSetup) -> Result<(u32, File), GateError> {
    for _ in 0..TAKEN_TRIES {
        let number = loopdev::free_number().map_err(GateError::NoneFree)?;
        let node = open_node(number, !setup.read_only, 0)
            .map_err(|source| GateError::Node { node: Node::Loop(number), source })?;
        match loopdev::configure(node.as_fd(), backing, block_size, setup) {
            Ok(()) => return Ok((number, node)),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(GateError::Configure(error)),
        }
    }
    Err(GateError::NoneFree(io::Error::from(io::ErrorKind::ResourceBusy)))
}

fn open_node(number: u32, write: bool, flags: i32) -> io::Result<File> {
    File::options().read(true).write(write).custom_flags(flags | libc::O_NONBLOCK).open(Node::Loop(number).path())
}

fn kernel_at_least(wanted: (u32, u32)) -> bool {
    let release = nix::sys::utsname::uname().ok();
    let release = release.as_ref().and_then(|names| names.release().to_str()).unwrap_or("");
    let mut parts = release.split(|letter: char| !letter.is_ascii_digit()).map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= wanted,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
