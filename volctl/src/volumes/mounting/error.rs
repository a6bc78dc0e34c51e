//! What can go wrong with a mount, said so that a person knows what to do next (section 2, G6).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::volumes::busy::BusyProcess;
use crate::volumes::elsewhere::MountCopy;
use ondisk::FsKind;

/// Why something could not be mounted, moved or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// A system call failed.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done, in words that go before the path.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel did not mount the file system.
    #[error("the kernel refuses to mount {kind} on {}: {errno}{}", device.display(), Said(kernel))]
    Refused {
        /// Type of the file system.
        kind: FsKind,
        /// The block device.
        device: PathBuf,
        /// Its answer.
        errno: Errno,
        /// Its words, if it had any.
        kernel: Vec<String>,
    },
    /// A reader's device must be read-only in the kernel itself.
    #[error("{} can be written to: a reader is only mounted on a read-only device", device.display())]
    DeviceWritable {
        /// The block device.
        device: PathBuf,
    },
    /// A writer's device must not be read-only.
    #[error("{} is read-only: the writer needs a gate that is open for writing", device.display())]
    DeviceReadOnly {
        /// The block device.
        device: PathBuf,
    },
    /// The device is already mounted, perhaps in another mount namespace.
    #[error("{} is already held by a mounted file system (see findmnt, or lsns -t mnt)", device.display())]
    AlreadyOpen {
        /// The block device.
        device: PathBuf,
    },
    /// A btrfs that an older kernel has mounted through another device.
    #[error(
        "this kernel mounts a btrfs through one device at a time, and an older state of {} is still mounted; Linux 6.7 and newer can do both \
         (until then: `volctl unmount`, then `volctl mount`)",
        device.display()
    )]
    MountedOnce {
        /// The block device.
        device: PathBuf,
    },
    /// There is no read-only snapshot at this path.
    #[error("{} has no such snapshot: {why}", device.display())]
    NoSnapshot {
        /// The block device.
        device: PathBuf,
        /// What was found instead.
        why: &'static str,
    },
    /// A name that cannot be a directory of its own below the mount root.
    #[error("{name:?} cannot be the name of a mount point: {why}")]
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A path with a NUL byte.
    #[error("a path with a NUL byte cannot be mounted")]
    NulInName,
    /// The mount root is not a place where only root decides.
    #[error("{} cannot be the mount root: {why}", path.display())]
    UnsafeRoot {
        /// The mount root.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Something is mounted there already.
    #[error("something is already mounted at {}", path.display())]
    Occupied {
        /// The mount point.
        path: PathBuf,
    },
    /// Nothing is mounted there.
    #[error("nothing is mounted at {}", path.display())]
    NotMounted {
        /// The mount point.
        path: PathBuf,
    },
    /// After the switch another mount than ours is on top: somebody else mounted there.
    #[error("somebody else mounted over {}", path.display())]
    Overmounted {
        /// The mount point.
        path: PathBuf,
    },
}

impl MountError {
    /// For `map_err`: what was being done to which path.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    /// As [`Self::io`], for the errors of system calls.
    pub(super) fn errno(doing: &'static str, path: &Path) -> impl FnOnce(Errno) -> Self {
        let path = path.to_owned();
        move |errno| Self::Io { doing, path, source: errno.into() }
    }

    /// Whether the same mount may succeed a moment later, because the writer was just committing.
    pub(super) const fn may_pass(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::NoSnapshot { .. } | Self::Io { .. })
    }
}

/// The kernel's words behind an error, if there are any.
struct Said<'a>(&'a [String]);

impl fmt::Display for Said<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(out, " ({})", self.0.join("; ")) }
    }
}

/// Who keeps a volume from being unmounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Busy {
    /// Processes with files open, mapped, or as working directory.
    pub processes: Vec<BusyProcess>,
    /// Other file systems mounted inside this one.
    pub submounts: Vec<PathBuf>,
    /// The same mount in other mount namespaces.
    pub elsewhere: Vec<MountCopy>,
}

impl Busy {
    /// Whether nobody was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.processes.is_empty() && self.submounts.is_empty() && self.elsewhere.is_empty()
    }
}

impl fmt::Display for Busy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = self.processes.iter().map(ToString::to_string).collect();
        parts.extend(self.submounts.iter().map(|path| format!("a mount inside it at {}", path.display())));
        parts.extend(self.elsewhere.iter().map(ToString::to_string));
        if parts.is_empty() {
            return out.write_str("the kernel itself (a swap file, a loop device or an NFS export on it)");
        }
        out.write_str(&parts.join(", "))
    }
}

/// Why a volume was not unmounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnmountError {
    /// It is in use; it is still mounted, nothing was lost.
    #[error("the volume is in use by {0}")]
    Busy(Busy),
    /// The mount is gone from this place, but the file system still holds its device: it is NOT unmounted, and
    /// its gate must be closed before anybody else may write.
    #[error("{} is still held by a file system although it was unmounted here: a mount namespace that cannot be seen keeps it", device.display())]
    StillOpen {
        /// The block device.
        device: PathBuf,
    },
    /// Anything else.
    #[error(transparent)]
    Mount(#[from] MountError),
}
