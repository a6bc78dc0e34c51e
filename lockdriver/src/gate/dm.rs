//! The gate as a device of device-mapper over a block device: made with its mark, closed by a table that fails everything, found again
//! by its mark.
//!
//! **How a gate is closed under a mounted file system.** The table `error` is prepared; then the device is suspended. From that
//! moment the kernel holds every new request, and the call returns when those that had passed the table in force have all come back
//! (counted; whoever is between the table and the device below is waited for, too). There is no instant between a check and a
//! queue, so there is no pause here as in [`super::loopdev`]. Then the device below is told to make stable what it has taken; then
//! the device goes on, with the other table: what was held fails, and so does everything later, sector 0 included.
//!
//! Why the flush, and why before going on: a table that fails everything has no device whose cache could be flushed, so the kernel lets an
//! empty flush succeed. A program whose data had been written out before the closing, and who asks after it whether they are stable,
//! would hear yes. While the device is suspended nobody hears anything, and then it is true.
//!
//! **Read-only.** Programs are refused by the kernel (EPERM), file systems ask the device and refuse to replay. The table itself
//! passes on what a file system writes all the same; a loop device would refuse that, too.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::sys::stat::{major, minor};
use uuid::Uuid;

use super::loopdev::Opening;
use super::mark::{Mark, Mode};
use super::{GateError, Node};
use crate::sys::blockdev;
use crate::sys::dm::{Control, Target, Whom};

/// With this the UUID of each gate begins; the mark follows, and what tells gates of one mark apart.
pub const UUID_PREFIX: &str = "VOLCTL-";
const SECTOR: u64 = 512;
/// How often, and how long apart, a suspending is tried again that a signal or another closing came between.
const AGAIN_TRIES: u32 = 40;
const AGAIN_PAUSE: Duration = Duration::from_millis(5);
/// An exclusive look of another client on this host takes the device below for an instant.
const CLAIMED_TRIES: u32 = 10;
const CLAIMED_PAUSE: Duration = Duration::from_millis(20);
/// There is the driver, loaded.
const DRIVER: &str = "/sys/class/misc/device-mapper";

/// An open gate. Holding it keeps its device; dropping it closes nothing.
#[derive(Debug)]
pub struct DmGate {
    control: Control,
    uuid: String,
    minor: u32,
    /// Keeps the number from coming to mean another device; none while the device never had a table.
    pinned: Option<File>,
    /// What is under it, to be flushed; looked up when it is closed by somebody who did not make it.
    backing: Option<OwnedFd>,
    mark: Mark,
}

impl DmGate {
    /// Makes a gate over the block device `backing`, the very descriptor on which the volume's identity was proven: while it is
    /// open its number can mean no other device, and the kernel takes it by that number.
    ///
    /// # Errors
    /// A [`GateError`]; nothing is left behind then, or it is [`GateError::Close`].
    pub fn open(backing: BorrowedFd<'_>, opening: &Opening) -> Result<Self, GateError> {
        let control = Control::open().map_err(GateError::NoMapper)?;
        let target = linear(backing, opening)?;
        let kept = backing.try_clone_to_owned().map_err(GateError::Configure)?;
        let (name, uuid) = fresh_names(&opening.mark);
        let (device, minor) = control.create(&name, &uuid).map_err(GateError::NoMapper)?;
        let mut gate = Self { control, uuid, minor, pinned: None, backing: Some(kept), mark: opening.mark.clone() };
        match gate.activate(device, &target) {
            Ok(pinned) => {
                gate.pinned = Some(pinned);
                Ok(gate)
            }
            Err(error) => gate.abandon().and(Err(error)),
        }
    }

    fn activate(&self, device: u64, target: &Target) -> Result<File, GateError> {
        let read_only = self.mark.mode == Mode::ReadOnly;
        let mut made = self.control.load(&self.uuid, target, read_only);
        for _ in 0..CLAIMED_TRIES {
            match &made {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => std::thread::sleep(CLAIMED_PAUSE),
                _ => break,
            }
            made = self.control.load(&self.uuid, target, read_only);
        }
        made.and_then(|()| self.control.resume(&self.uuid)).map_err(GateError::Configure)?;
        let fail = |source| GateError::Node { node: self.node(), source };
        let pinned = open_node(self.node(), 0).map_err(fail)?;
        if pinned.metadata().map_err(fail)?.rdev() != device {
            return Err(fail(io::Error::other(
                "the node is another device's; /dev must be the kernel's own (devtmpfs)",
            )));
        }
        let sizes = blockdev::block_sizes(pinned.as_fd()).map_err(fail)?;
        if sizes.read_only && !read_only {
            return Err(GateError::BackingReadOnly);
        }
        if sizes.read_only != read_only || sizes.length != target.sectors * SECTOR {
            return Err(fail(io::Error::other("the device is not as it was ordered")));
        }
        Ok(pinned)
    }

    /// Takes away what could not be finished. Nobody was told of it, but a prober may have it open.
    fn abandon(&self) -> Result<(), GateError> {
        match self.control.remove(&self.uuid, false) {
            Err(error) if error.raw_os_error() != Some(libc::ENXIO) => {
                self.close_under()?;
                self.clear()
            }
            _ => Ok(()),
        }
    }

    /// Takes hold of the device with minor number `minor` as it stands; `None` when there is none or it bears another mark.
    ///
    /// # Errors
    /// [`GateError::Node`].
    pub fn find(minor: u32, mark: &Mark) -> Result<Option<Self>, GateError> {
        let fail = |source| GateError::Node { node: Node::Mapped(minor), source };
        let Some(control) = present_control().map_err(fail)? else {
            return Ok(None);
        };
        let mut found = marked(&control).map_err(fail)?.into_iter();
        let Some((_, uuid, _)) = found.find(|(number, _, theirs)| *number == minor && theirs == mark) else {
            return Ok(None);
        };
        let pinned = open_node(Node::Mapped(minor), 0).ok();
        // It may have gone, and its number with it, before the node was open.
        let still = control.status(Whom::Uuid(&uuid)).map_err(fail)?.is_some();
        Ok(still.then(|| Self { control, uuid, minor, pinned, backing: None, mark: mark.clone() }))
    }

    /// Its device.
    #[must_use]
    pub fn node(&self) -> Node {
        Node::Mapped(self.minor)
    }

    /// What it says about itself.
    #[must_use]
    pub fn mark(&self) -> &Mark {
        &self.mark
    }

    /// Closes the gate under whatever stands on it: when this returns, every request that ever passed it has come back, what the device
    /// below had taken by then is stable, and nothing passes any more. Waits for I/O in flight, and so hangs with hung storage;
    /// what is begun meanwhile is held.
    ///
    /// # Errors
    /// [`GateError::Close`]: writes may still pass. Calling again is right.
    pub fn close_under(&self) -> Result<(), GateError> {
        match self.swap() {
            // Gone: it had no user any more, and nobody comes in by it.
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(()),
            other => other.map_err(|source| GateError::Close { node: self.node(), source }),
        }
    }

    fn swap(&self) -> io::Result<()> {
        let before = self.control.table(&self.uuid)?;
        let looked_up = if self.backing.is_none() { backing_of(&before) } else { None };
        let sectors = before.iter().map(|target| target.sectors).sum::<u64>().max(1);
        let error = Target { sectors, kind: "error".into(), parameters: String::new() };
        self.control.load(&self.uuid, &error, self.mark.mode == Mode::ReadOnly)?;
        self.suspend()?;
        if let Some(backing) = self.backing.as_ref().or(looked_up.as_ref())
            && self.mark.mode == Mode::ReadWrite
            && let Err(error) = nix::unistd::fsync(backing)
        {
            tracing::warn!(gate = %self.node(), %error, "the disk did not say that what it has taken is stable");
        }
        self.control.resume(&self.uuid)?;
        let status = self.control.status(Whom::Uuid(&self.uuid))?;
        let closed = self.control.table(&self.uuid)?.iter().all(|target| target.kind == "error");
        match status {
            Some(status) if !closed || status.suspended || !status.active => {
                Err(io::Error::other("the device kept its table"))
            }
            _ => Ok(()),
        }
    }

    fn suspend(&self) -> io::Result<()> {
        // A signal would break the waiting off and let go what is held. None but the two that nobody can block shall.
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        let suspended = self.suspend_unsignalled();
        before.thread_set_mask()?;
        suspended
    }

    fn suspend_unsignalled(&self) -> io::Result<()> {
        let mut last = None;
        for _ in 0..AGAIN_TRIES {
            match self.control.suspend(&self.uuid) {
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EINVAL)) => last = Some(error),
                other => return other,
            }
            std::thread::sleep(AGAIN_PAUSE);
        }
        Err(last.unwrap_or_else(|| io::Error::from(io::ErrorKind::Interrupted)))
    }

    /// Has the kernel remove the device when its last user lets go, this gate included.
    ///
    /// # Errors
    /// [`GateError::Node`].
    pub fn clear(&self) -> Result<(), GateError> {
        remove(&self.control, &self.uuid, true).map_err(|source| GateError::Node { node: self.node(), source })
    }

    /// If nothing has it mounted any more (an exclusive open succeeds): closes a writer's gate, clears it, true. Else nothing has changed.
    ///
    /// # Errors
    /// [`GateError::Close`], [`GateError::Node`].
    pub fn clear_if_unused(&self) -> Result<bool, GateError> {
        let exclusive = match open_node(self.node(), libc::O_EXCL) {
            Ok(exclusive) => exclusive,
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => return Ok(false),
            Err(source) => return Err(GateError::Node { node: self.node(), source }),
        };
        if self.mark.mode == Mode::ReadWrite {
            self.close_under()?;
        }
        self.clear()?;
        drop(exclusive);
        Ok(true)
    }

    /// Lets go of a gate that was cleared and removes it at once, if nobody else has it open.
    ///
    /// # Errors
    /// [`GateError::Close`] when writes may still pass.
    pub(super) fn settle(mut self) -> Result<(), GateError> {
        if self.mark.mode == Mode::ReadWrite {
            self.close_under()?;
        }
        self.pinned = None;
        match remove(&self.control, &self.uuid, false) {
            Err(error) if error.raw_os_error() != Some(libc::EBUSY) => {
                Err(GateError::Node { node: self.node(), source: error })
            }
            _ => Ok(()),
        }
    }
}

fn remove(control: &Control, uuid: &str, deferred: bool) -> io::Result<()> {
    match control.remove(uuid, deferred) {
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(()),
        other => other,
    }
}

/// Minor number and mark of every gate of device-mapper in this kernel.
///
/// # Errors
/// When device-mapper is there and cannot be asked: a gate may be hidden then.
pub(super) fn all_marked() -> io::Result<Vec<(u32, Mark)>> {
    let Some(control) = present_control()? else {
        return Ok(Vec::new());
    };
    Ok(marked(&control)?.into_iter().map(|(minor, _, mark)| (minor, mark)).collect())
}

/// Without the driver there are no devices, and looking must not load it.
fn present_control() -> io::Result<Option<Control>> {
    if std::fs::exists(DRIVER)? { Control::open().map(Some) } else { Ok(None) }
}

fn marked(control: &Control) -> io::Result<Vec<(u32, String, Mark)>> {
    let mut found = Vec::new();
    for named in control.list()? {
        // Gone since the list was made, or a device of somebody else.
        let Some(status) = control.status(Whom::Name(&named.name))? else { continue };
        if let Some(mark) = mark_of(&status.uuid) {
            found.push((status.minor, status.uuid, mark));
        }
    }
    Ok(found)
}

/// The mark in a device's UUID.
fn mark_of(uuid: &str) -> Option<Mark> {
    let (mark, _) = uuid.strip_prefix(UUID_PREFIX)?.rsplit_once('.')?;
    Mark::decode(mark.as_bytes())
}

/// True when all that is made of the block device with this number is gates of volctl, and there is at least one: then it is they
/// who claim it. (Loop devices claim nothing.)
#[must_use]
pub fn claimed_by_gates(device: u64) -> bool {
    only_gates(format!("/sys/dev/block/{}:{}/holders", major(device), minor(device)).as_ref())
}

fn only_gates(holders: &Path) -> bool {
    let Ok(list) = std::fs::read_dir(holders) else {
        return false;
    };
    let mut gates = list.map(|holder| {
        let uuid = holder.and_then(|holder| std::fs::read_to_string(holder.path().join("dm/uuid")));
        uuid.is_ok_and(|uuid| mark_of(uuid.trim_end()).is_some())
    });
    gates.next() == Some(true) && gates.all(|gate| gate)
}

/// Name and UUID of a new gate. Several gates of one client may bear the same mark, so chance tells them apart.
fn fresh_names(mark: &Mark) -> (String, String) {
    let (chance, _) = Uuid::new_v4().as_u64_pair();
    let name = format!("volctl-{}-{chance:016x}", mark.volume.simple());
    (name, format!("{UUID_PREFIX}{}.{chance:016x}", mark.encode()))
}

/// The table of an open gate.
fn linear(backing: BorrowedFd<'_>, opening: &Opening) -> Result<Target, GateError> {
    let metadata = backing.try_clone_to_owned().and_then(|fd| File::from(fd).metadata());
    let metadata = metadata.map_err(GateError::Configure)?;
    let sizes = blockdev::block_sizes(backing).map_err(GateError::Configure)?;
    let flags = fcntl(backing, FcntlArg::F_GETFL).map_err(|errno| GateError::Configure(errno.into()))?;
    let writable = OFlag::from_bits_retain(flags) & OFlag::O_ACCMODE == OFlag::O_RDWR && !sizes.read_only;
    if opening.mark.mode == Mode::ReadWrite && !writable {
        return Err(GateError::BackingReadOnly);
    }
    let device = metadata.rdev();
    if maps_memory(device) {
        let error = io::Error::other("programs may map its memory past every table (DAX); set gate = \"loop\"");
        return Err(GateError::Configure(error));
    }
    let sectors = table_sectors(sizes.length, opening);
    if !metadata.file_type().is_block_device() || sectors == 0 {
        return Err(GateError::Configure(io::Error::from(io::ErrorKind::InvalidInput)));
    }
    let parameters = format!("{}:{} {}", major(device), minor(device), opening.offset / SECTOR);
    Ok(Target { sectors, kind: "linear".into(), parameters })
}

/// Whether file systems on it can hand out the medium itself as memory (DAX): what is stored there goes through no request queue, so no table
/// could stop it. A loop device hides that.
fn maps_memory(device: u64) -> bool {
    let own = format!("/sys/dev/block/{}:{}", major(device), minor(device));
    // A partition has the queue of its disk.
    let read = |path: String| std::fs::read_to_string(path).ok();
    read(format!("{own}/queue/dax"))
        .or_else(|| read(format!("{own}/../queue/dax")))
        .is_some_and(|dax| dax.trim_end() != "0")
}

/// How many sectors a gate shows; none where offset and length make no sense.
fn table_sectors(length: u64, opening: &Opening) -> u64 {
    if !opening.offset.is_multiple_of(SECTOR) || !opening.size_limit.is_multiple_of(SECTOR) {
        return 0;
    }
    let shown = length.saturating_sub(opening.offset);
    let shown = if opening.size_limit == 0 { shown } else { shown.min(opening.size_limit) };
    shown / SECTOR
}

/// Opens the device under a gate that another process made. Only for the flush: without it the gate closes all the same.
fn backing_of(table: &[Target]) -> Option<OwnedFd> {
    let number = table.iter().find(|target| target.kind == "linear")?.parameters.split(' ').next()?;
    let event = std::fs::read_to_string(format!("/sys/dev/block/{number}/uevent")).ok()?;
    let name = event.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(format!("/dev/{name}")).ok()?;
    let device = file.metadata().ok()?.rdev();
    (format!("{}:{}", major(device), minor(device)) == number).then(|| file.into())
}

/// Read-only: where the kernel forbids writers beside a mount, a writable descriptor would forbid the mount.
fn open_node(node: Node, flags: i32) -> io::Result<File> {
    File::options().read(true).custom_flags(flags | libc::O_NONBLOCK).open(node.path())
}

#[cfg(test)]
mod tests;
