//! Snapshots of a btrfs volume: each generation is a read-only one, `.volctl/gen-E-N`, of what the writer has mounted.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use lockdriver::sys::btrfs;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use uuid::Uuid;

use super::{PublishError, Sample, flush};
use crate::volumes::snapshot_name;
use crate::volumes::sysfs::{SysFs, attribute, name};
use ondisk::Generation;

/// Name of the directory of snapshots at the root of the volume.
const DIRECTORY: &str = ".volctl";
/// Inode number of the root directory of every subvolume.
const SUBVOLUME_ROOT: u64 = 256;

/// Publishes by snapshot: when it returns, the snapshot is stable on the disk, and the generation may be raised.
///
/// Subvolumes inside the volume are not part of the snapshot: they show as empty directories.
///
/// Returns a sample of the very state that was published: what the mounted subvolume was last changed by is the
/// transaction that made the snapshot, until somebody writes.
///
/// # Errors
/// [`PublishError::Exists`] when the generation was used before; [`PublishError::ForeignDirectory`].
pub fn publish_snapshot(mount: impl AsFd, generation: Generation) -> Result<Sample, PublishError> {
    let directory = open_directory(&mount, true)?.ok_or(PublishError::ForeignDirectory { why: "it vanished" })?;
    let snapshot = snapshot_name::of(generation);
    match btrfs::snapshot_read_only(&mount, &directory, &snapshot) {
        Ok(()) => {}
        Err(Errno::EEXIST) => return Err(PublishError::Exists { name: snapshot }),
        Err(errno) => return Err(PublishError::errno("taking the snapshot")(errno)),
    }
    flush(&mount)?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let taken = openat(&directory, snapshot.as_str(), flags, Mode::empty());
    let taken = taken.map_err(PublishError::errno("opening the snapshot"))?;
    let info = |fd| btrfs::subvol_info(fd).map_err(PublishError::errno("asking the subvolume"));
    Ok(Sample::Subvolume { tree_id: info(mount.as_fd())?.tree_id, generation: info(taken.as_fd())?.generation })
}

/// The generations that have a snapshot on this volume, oldest first.
///
/// # Errors
/// When the directory cannot be read.
pub fn list_snapshots(mount: impl AsFd) -> Result<Vec<Generation>, PublishError> {
    let Some(directory) = open_directory(mount, false)? else {
        return Ok(Vec::new());
    };
    let listing = || PublishError::errno("listing the snapshots");
    let copy = directory.try_clone().map_err(|source| PublishError::Io { doing: "listing the snapshots", source })?;
    let mut dir = Dir::from_fd(copy).map_err(listing())?;
    let mut found = Vec::new();
    for entry in dir.iter() {
        let entry = entry.map_err(listing())?;
        let Ok(entry) = entry.file_name().to_str() else {
            continue;
        };
        let Some(generation) = snapshot_name::parse(entry) else {
            continue;
        };
        if is_snapshot(&directory, entry) {
            found.push(generation);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Deletes the snapshot of a generation that nobody holds any more. Says whether there was one.
///
/// # Errors
/// Only what the system says.
pub fn delete_snapshot(mount: impl AsFd, generation: Generation) -> Result<bool, PublishError> {
    let Some(directory) = open_directory(mount, false)? else {
        return Ok(false);
    };
    match btrfs::delete_subvolume(directory, &snapshot_name::of(generation)) {
        Ok(()) => Ok(true),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(PublishError::errno("deleting a snapshot")(errno)),
    }
}

/// Has the room of deleted snapshots freed now, so that a full volume has room again soon after something was deleted from it.
///
/// # Errors
/// Only what the system says; the room comes later, then.
pub fn free_deleted(mount: impl AsFd) -> Result<(), PublishError> {
    btrfs::free_deleted(mount).map_err(PublishError::errno("freeing deleted snapshots"))
}

/// Opens `.volctl`; with `make`, makes it first. Nothing but root may look into it: a snapshot ignores nobody's
/// rights, but shows files that their owner has deleted since.
fn open_directory(mount: impl AsFd, make: bool) -> Result<Option<OwnedFd>, PublishError> {
    if make {
        match mkdirat(&mount, DIRECTORY, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(PublishError::errno("making .volctl")(errno)),
        }
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let directory = match openat(&mount, DIRECTORY, flags, Mode::empty()) {
        Ok(directory) => File::from(directory),
        Err(Errno::ENOENT) => return Ok(None),
        Err(Errno::ELOOP | Errno::ENOTDIR) => {
            return Err(PublishError::ForeignDirectory { why: "it is no directory" });
        }
        Err(errno) => return Err(PublishError::errno("opening .volctl")(errno)),
    };
    let metadata = directory.metadata().map_err(|source| PublishError::Io { doing: "looking at .volctl", source })?;
    if metadata.uid() != 0 {
        return Err(PublishError::ForeignDirectory { why: "it does not belong to root" });
    }
    if make && metadata.mode() & 0o777 != 0o700 {
        fchmod(&directory, Mode::S_IRWXU).map_err(PublishError::errno("closing .volctl to others"))?;
    }
    Ok(Some(directory.into()))
}

/// A name can also be the empty stub that a snapshot of the top level has in place of an older snapshot.
fn is_snapshot(directory: &OwnedFd, entry: &str) -> bool {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let opened = openat(directory, entry, flags, Mode::empty()).map(File::from);
    opened.is_ok_and(|opened| {
        opened.metadata().is_ok_and(|metadata| metadata.ino() == SUBVOLUME_ROOT)
            && btrfs::subvol_info(&opened).is_ok_and(|info| info.read_only)
    })
}

/// What moves blocks from place to place at the moment, under the readers of a published state (section 11).
///
/// `None` when nothing does. `Some` names it, as `balance`, `balance paused`, `device remove`, `resize`.
///
/// # Errors
/// When sysfs does not tell: then nobody knows, and nothing should be published.
pub fn relocation_running(mount: impl AsFd) -> Result<Option<String>, PublishError> {
    let directory = sysfs_directory(mount)?;
    let operation = attribute(&directory, "exclusive_operation").ok_or_else(|| PublishError::Io {
        doing: "reading exclusive_operation in sysfs",
        source: io::ErrorKind::NotFound.into(),
    })?;
    Ok(match operation.as_str() {
        // These move no block.
        "none" | "device add" | "swap activate" => None,
        _ => Some(operation),
    })
}

/// Switches off what moves blocks of itself, right after the writer's mount. Returns the settings that could not
/// be changed, which is none on kernels that do not have them.
///
/// # Errors
/// When the file system cannot be found in sysfs.
pub fn switch_reclaim_off(mount: impl AsFd) -> Result<Vec<String>, PublishError> {
    let directory = sysfs_directory(mount)?;
    let mut failed = Vec::new();
    for kind in ["data", "metadata", "system"] {
        for setting in ["bg_reclaim_threshold", "dynamic_reclaim", "periodic_reclaim"] {
            let path = directory.join("allocation").join(kind).join(setting);
            match std::fs::write(&path, "0") {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => failed.push(format!("{kind}/{setting}")),
            }
        }
    }
    Ok(failed)
}

/// The directory of this very mount in sysfs: the kernel gives a temporary identifier to the second mount of a file system.
fn sysfs_directory(mount: impl AsFd) -> Result<std::path::PathBuf, PublishError> {
    let info = btrfs::fs_info(&mount).map_err(PublishError::errno("asking btrfs for its identifier"))?;
    let directory = SysFs::real().path(&format!("fs/btrfs/{}", Uuid::from_bytes(info.fsid)));
    if directory.is_dir() {
        return Ok(directory);
    }
    tracing::debug!(directory = name(&directory), "no such btrfs in sysfs");
    Err(PublishError::Io { doing: "finding the file system in /sys/fs/btrfs", source: io::ErrorKind::NotFound.into() })
}

/// Lets the kernel forget a btrfs device that is no longer mounted, best effort: a freed loop device number may
/// soon carry another state of the same file system.
pub fn forget_device(device: &std::path::Path) {
    let Ok(control) = File::open("/dev/btrfs-control") else {
        return;
    };
    if let Some(device) = device.to_str() {
        let _best_effort = btrfs::forget_device(control, device);
    }
}
