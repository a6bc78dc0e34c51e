//! Publishing (section 8): the writer makes the state on the disk clean, so that a generation names something
//! that a reader can mount. Whether and when is decided elsewhere; the snapshots are in [`snapshots`].
//!
//! Every function takes an open directory of the writer's mount (not one opened with `O_PATH`).

pub mod snapshots;

use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use lockdriver::sys::btrfs::{commit, subvol_info};
use lockdriver::sys::freeze::{freeze, thaw};
use nix::errno::Errno;
use nix::sys::stat::fstat;
use nix::sys::statfs::{BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, fstatfs};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::syncfs;

use super::sysfs::{SysFs, attribute};

/// Why a publish did not happen. The generation was not raised, unless the variant says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError<E = std::convert::Infallible> {
    /// A system call failed.
    #[error("{doing} failed: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else has frozen the file system.
    #[error("somebody else has frozen the file system (see fsfreeze --unfreeze)")]
    FrozenByOther,
    /// The snapshot of this generation exists already: it names another state, and is never replaced.
    #[error("a snapshot {name} exists already: a generation is never used twice")]
    Exists {
        /// Its name.
        name: String,
    },
    /// `.volctl` on the volume is not ours.
    #[error(".volctl on the volume cannot hold snapshots: {why}; move it away")]
    ForeignDirectory {
        /// What was found.
        why: &'static str,
    },
    /// The caller's own step failed; the file system was thawed.
    #[error("raising the generation failed")]
    Raise(#[source] E),
    /// The generation was raised, but the file system could not be thawed: its users hang.
    #[error("the file system could not be thawed, its users hang (try fsfreeze --unfreeze): {source}")]
    StillFrozen {
        /// What the system said.
        source: io::Error,
    },
}

impl<E> PublishError<E> {
    fn errno(doing: &'static str) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::Io { doing, source: errno.into() }
    }
}

/// How much had been written when a publish was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sample {
    /// ext4, XFS: sectors written to the device.
    Sectors {
        /// Number of the device.
        device: u64,
        /// Sectors of 512 bytes.
        written: u64,
    },
    /// btrfs: the transaction that last changed the mounted subvolume.
    Subvolume {
        /// Number of its tree.
        tree_id: u64,
        /// Number of the transaction.
        generation: u64,
    },
}

/// Samples how much has been written, after everything that is waiting has been.
///
/// Right for a mount that nobody else can see yet. A publish has a sample of its own, of the very state that it
/// published: between its end and a sample taken later somebody may write, and that would never be published.
///
/// # Errors
/// When the file system cannot write, or its statistics cannot be read.
pub fn sample(mount: impl AsFd) -> Result<Sample, PublishError> {
    flush(&mount)?;
    sample_now(mount)
}

/// Samples a file system that is frozen: as it will be after the thaw if nobody writes.
///
/// Bytes of the thaw itself are counted in, else each publish would cause the next: ext4 writes its superblock, one
/// block; XFS nothing.
///
/// # Errors
/// When the statistics cannot be read.
pub fn sample_frozen(mount: impl AsFd) -> Result<Sample, PublishError> {
    let about = fstatfs(&mount).map_err(PublishError::errno("asking for the file system type"))?;
    let block = u64::try_from(about.block_size()).unwrap_or_default();
    let thaw = if about.filesystem_type() == EXT4_SUPER_MAGIC { block / 512 } else { 0 };
    Ok(match sample_now(mount)? {
        Sample::Sectors { device, written } => Sample::Sectors { device, written: written + thaw },
        other @ Sample::Subvolume { .. } => other,
    })
}

/// Whether anything changed since the sample was taken. Writes back what is waiting first, so that a file
/// written a moment ago counts.
///
/// # Errors
/// As [`sample`].
pub fn changed_since(mount: impl AsFd, before: &Sample) -> Result<bool, PublishError> {
    if sample_now(&mount)? != *before {
        return Ok(true);
    }
    Ok(sample(mount)? != *before)
}

/// Whether the file system has made itself read-only, as it does after errors: nothing is written by it any more, and
/// a freeze of it says nothing. Right for a mount that is itself writable.
#[must_use]
pub fn has_given_up(mount: impl AsFd) -> bool {
    // What cannot even be asked is no better.
    fstatvfs(mount).map_or(true, |found| found.flags().contains(FsFlags::ST_RDONLY))
}

fn is_btrfs(mount: impl AsFd) -> Result<bool, PublishError> {
    let found = fstatfs(mount).map_err(PublishError::errno("asking for the file system type"))?;
    Ok(found.filesystem_type() == BTRFS_SUPER_MAGIC)
}

fn flush(mount: impl AsFd) -> Result<(), PublishError> {
    syncfs(&mount).map_err(PublishError::errno("writing back"))?;
    if is_btrfs(&mount)? { commit(mount).map_err(PublishError::errno("committing")) } else { Ok(()) }
}

fn sample_now(mount: impl AsFd) -> Result<Sample, PublishError> {
    if is_btrfs(&mount)? {
        let info = subvol_info(mount).map_err(PublishError::errno("asking the subvolume"))?;
        return Ok(Sample::Subvolume { tree_id: info.tree_id, generation: info.generation });
    }
    let device = fstat(mount).map_err(PublishError::errno("asking for the device"))?.st_dev;
    let written = sectors_written(&SysFs::real(), device).ok_or_else(|| PublishError::Io {
        doing: "reading the block statistics",
        source: io::Error::from(io::ErrorKind::NotFound),
    })?;
    Ok(Sample::Sectors { device, written })
}

fn sectors_written(sysfs: &SysFs, device: u64) -> Option<u64> {
    attribute(&sysfs.block(device)?, "stat")?.split_ascii_whitespace().nth(6)?.parse().ok()
}

/// Publishes by freezing (ext4, XFS): all writers are held, the state on the disk is clean, `raise` raises the
/// generation, and the writers go on, whatever `raise` does.
///
/// `raise` must be quick, and must touch nothing on the frozen file system.
///
/// # Errors
/// [`PublishError::Raise`] carries what `raise` said; [`PublishError::StillFrozen`] comes after a raised generation.
pub fn publish_freeze<T, E>(mount: impl AsFd, raise: impl FnOnce() -> Result<T, E>) -> Result<T, PublishError<E>> {
    match freeze(&mount) {
        Ok(()) => {}
        Err(Errno::EBUSY) => return Err(PublishError::FrozenByOther),
        Err(errno) => return Err(PublishError::errno("freezing")(errno)),
    }
    let raised = catch_unwind(AssertUnwindSafe(raise));
    let thawed = thaw(&mount);
    match (raised, thawed) {
        (Err(panic), _) => resume_unwind(panic),
        // Someone else's thaw (a guardian's, after it closed the gate) is no error of ours.
        (Ok(raised), Ok(()) | Err(Errno::EINVAL)) => raised.map_err(PublishError::Raise),
        (Ok(_), Err(errno)) => Err(PublishError::StillFrozen { source: errno.into() }),
    }
}
