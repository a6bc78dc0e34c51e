//! Mounting a volume for a reader or the writer: always detached first, so that it can be looked at before
//! anybody sees it. How a mount comes into place and goes away again is in [`root`] and [`hidden`].

pub mod error;
pub mod hidden;
pub mod root;

use std::ffi::{CStr, CString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lockdriver::sys::btrfs::subvol_info;
use lockdriver::sys::mount as sys;
use lockdriver::sys::statfs::{device_read_only, flush_buffers};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

pub use error::{MountError, UnmountError};
pub use hidden::Hidden;
pub use root::{Leftover, MountRoot, Mounted};

use super::mountinfo::mount_id;
use ondisk::FsKind;

/// How often a btrfs reader mount is tried: the writer may commit twice while its trees are being read.
const BTRFS_TRIES: u32 = 4;
/// How often a device that is still held is tried: a mount that was just dropped may live for the instant that a
/// process being started elsewhere in this program still shares its descriptors.
const HELD_TRIES: u32 = 10;
/// Time between two of these tries.
const HELD_PAUSE: Duration = Duration::from_millis(20);
/// For how many seconds XFS tries a failing metadata write again, before it shuts the file system down.
const XFS_PATIENCE_S: &str = "2";
/// Inode number of the root directory of every btrfs subvolume.
const SUBVOLUME_ROOT: u64 = 256;

/// A mount that nobody can see yet. Dropping it lets the file system go.
#[derive(Debug)]
pub struct DetachedMount {
    tree: OwnedFd,
    mount_id: u64,
    device: PathBuf,
    kind: FsKind,
}

impl DetachedMount {
    /// The root directory of the mount, for a look before it is attached.
    #[must_use]
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.tree.as_fd()
    }

    /// Number of the mount; it stays the same when it is attached, hidden or lazily detached.
    #[must_use]
    pub const fn mount_id(&self) -> u64 {
        self.mount_id
    }

    /// The block device under it.
    #[must_use]
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// Type of the file system.
    #[must_use]
    pub const fn kind(&self) -> FsKind {
        self.kind
    }
}

/// An option of a file system: a flag, or a key with a value.
type FsOption<'a> = (&'a CStr, Option<&'a CStr>);

/// Mounts a volume for a reader, detached: nothing that happens through it changes a byte (section 2, G3).
///
/// The device must be one to which the kernel refuses writes. `subvol` (btrfs only) is the path of a read-only
/// snapshot, counted from the root of what the writer has mounted: see
/// [`super::snapshot_name::path`].
///
/// # Errors
/// [`MountError::DeviceWritable`] for a device that can be written to, [`MountError::NoSnapshot`] when there is no such
/// snapshot, [`MountError::Refused`] with the kernel's own words. A state that the writer has gone on from may
/// fail: the caller keeps what it has mounted and tries the next generation.
pub fn mount_reader(device: &Path, kind: FsKind, subvol: Option<&str>) -> Result<DetachedMount, MountError> {
    let tries = if kind == FsKind::Btrfs { BTRFS_TRIES } else { 1 };
    let mut tried = 1;
    loop {
        let read_only = flush_reader(device)?;
        if !read_only {
            return Err(MountError::DeviceWritable { device: device.to_owned() });
        }
        match reader_once(device, kind, subvol) {
            Err(error) if tried < tries && error.may_pass() => tried += 1,
            other => return other,
        }
    }
}

/// Forgets what an earlier try has cached of the device; says whether it is read-only.
fn flush_reader(device: &Path) -> Result<bool, MountError> {
    let file = File::open(device).map_err(MountError::io("opening", device))?;
    let read_only = device_read_only(&file).map_err(MountError::errno("asking", device))?;
    if read_only {
        flush_buffers(&file).map_err(MountError::errno("flushing", device))?;
    }
    Ok(read_only)
}

fn reader_once(device: &Path, kind: FsKind, subvol: Option<&str>) -> Result<DetachedMount, MountError> {
    const ATTRIBUTES: u64 = sys::ATTR_RDONLY | sys::ATTR_NOSUID | sys::ATTR_NODEV | sys::ATTR_NOATIME;
    let ext4: [FsOption<'_>; 3] = [(c"ro", None), (c"noload", None), (c"errors", Some(c"continue"))];
    let xfs: [FsOption<'_>; 3] = [(c"ro", None), (c"norecovery", None), (c"nouuid", None)];
    let btrfs: [FsOption<'_>; 2] = [(c"ro", None), (c"rescue", Some(c"nologreplay"))];
    match (kind, subvol) {
        (FsKind::Ext4, None) => open_fs(device, kind, &ext4, ATTRIBUTES, true),
        (FsKind::Xfs, None) => open_fs(device, kind, &xfs, ATTRIBUTES, true),
        (FsKind::Btrfs, None) => open_fs(device, kind, &btrfs, ATTRIBUTES, true),
        (FsKind::Btrfs, Some(path)) => {
            let mut options = btrfs.to_vec();
            options.push((c"rescue", Some(c"ignoredatacsums")));
            let whole = open_fs(device, kind, &options, ATTRIBUTES, true)?;
            let id = snapshot_id(&whole, path)?;
            let id = CString::new(id.to_string()).map_err(|_| MountError::NulInName)?;
            options.push((c"subvolid", Some(&id)));
            // Joins the file system that is already open: not exclusively.
            open_fs(device, kind, &options, ATTRIBUTES, false)
        }
        (_, Some(_)) => Err(MountError::NoSnapshot { device: device.to_owned(), why: "only btrfs has snapshots" }),
    }
}

/// Number of the snapshot at `path` below the root of the mount.
///
/// The kernel's own `subvol=` counts from the top level, but an adopted file system may have another default
/// subvolume, and the writer publishes in what it has mounted.
fn snapshot_id(whole: &DetachedMount, path: &str) -> Result<u64, MountError> {
    let missing = |why| MountError::NoSnapshot { device: whole.device.clone(), why };
    let directory = match open_beneath(whole, path, OFlag::O_RDONLY) {
        Ok(directory) => File::from(directory),
        Err(Errno::ENOENT) => return Err(missing("there is no such directory")),
        Err(errno) => {
            return Err(MountError::errno("opening the snapshot on", &whole.device)(errno));
        }
    };
    let metadata = directory.metadata().map_err(MountError::io("looking at the snapshot on", &whole.device))?;
    let info = subvol_info(&directory).map_err(MountError::errno("looking at the snapshot on", &whole.device))?;
    if metadata.ino() != SUBVOLUME_ROOT {
        return Err(missing("it is a plain directory"));
    }
    if !info.read_only {
        return Err(missing("it is a subvolume that can be written to"));
    }
    Ok(info.tree_id)
}

/// Mounts a volume for its writer, detached.
///
/// Without access times, which would make every look a change to publish. With `snapshot_policy` (btrfs):
/// `flushoncommit`, so that a snapshot holds what was written and renamed before it, and no interrupted
/// balance goes on.
///
/// # Errors
/// [`MountError::DeviceReadOnly`], [`MountError::AlreadyOpen`], [`MountError::Refused`] with the kernel's own words.
pub fn mount_writer(device: &Path, kind: FsKind, snapshot_policy: bool) -> Result<DetachedMount, MountError> {
    let file = File::open(device).map_err(MountError::io("opening", device))?;
    if device_read_only(&file).map_err(MountError::errno("asking", device))? {
        return Err(MountError::DeviceReadOnly { device: device.to_owned() });
    }
    drop(file);
    let snapshots = snapshot_policy && kind == FsKind::Btrfs;
    let options: &[FsOption<'_>] = match kind {
        FsKind::Xfs => &[(c"nouuid", None)],
        FsKind::Btrfs if snapshots => &[(c"flushoncommit", None), (c"skip_balance", None)],
        FsKind::Ext4 | FsKind::Btrfs => &[],
    };
    let attributes = sys::ATTR_NOSUID | sys::ATTR_NODEV | sys::ATTR_NOATIME;
    let mount = open_fs(device, kind, options, attributes, true)?;
    if kind == FsKind::Xfs
        && let Err(error) = give_up_failing_writes(device)
    {
        tracing::warn!(event = "note", %error, "XFS tries failing writes to {} for ever", device.display());
    }
    Ok(mount)
}

/// XFS would try a metadata write that fails again and again for ever, and whoever freezes or unmounts it would wait as
/// long: a release under which the gate was closed never ended, and nor did the daemon's next log-on
/// (kernel, Documentation/admin-guide/xfs.rst, "Error handling").
fn give_up_failing_writes(device: &Path) -> io::Result<()> {
    let device = device.canonicalize()?;
    let errors = Path::new("/sys/fs/xfs").join(device.file_name().unwrap_or_default()).join("error/metadata");
    for class in std::fs::read_dir(errors)? {
        std::fs::write(class?.path().join("retry_timeout_seconds"), XFS_PATIENCE_S)?;
    }
    Ok(())
}

/// Opens the file system and makes a detached mount of it.
fn open_fs(
    device: &Path,
    kind: FsKind,
    options: &[FsOption<'_>],
    attributes: u64,
    exclusive: bool,
) -> Result<DetachedMount, MountError> {
    let mut tried = 1;
    loop {
        match open_fs_once(device, kind, options, attributes, exclusive) {
            Err(MountError::AlreadyOpen { .. }) if tried < HELD_TRIES => tried += 1,
            other => return other,
        }
        std::thread::sleep(HELD_PAUSE);
    }
}

/// One try of [`open_fs`]; what the kernel says goes into the error.
fn open_fs_once(
    device: &Path,
    kind: FsKind,
    options: &[FsOption<'_>],
    attributes: u64,
    exclusive: bool,
) -> Result<DetachedMount, MountError> {
    let name = CString::new(kind.word()).map_err(|_| MountError::NulInName)?;
    let source = CString::new(device.as_os_str().as_bytes()).map_err(|_| MountError::NulInName)?;
    let context = sys::fsopen(&name).map_err(MountError::errno("opening a file system context for", device))?;
    let configured = (|| {
        sys::fsconfig_string(context.as_fd(), c"source", &source)?;
        for (key, value) in options {
            match value {
                Some(value) => sys::fsconfig_string(context.as_fd(), key, value)?,
                None => sys::fsconfig_flag(context.as_fd(), key)?,
            }
        }
        sys::fsconfig_create(context.as_fd(), exclusive)?;
        sys::fsmount(context.as_fd(), attributes)
    })();
    match configured {
        Ok(tree) => {
            let mount_id = mount_id(&tree).map_err(MountError::io("looking at the mount of", device))?;
            Ok(DetachedMount { tree, mount_id, device: device.to_owned(), kind })
        }
        Err(Errno::EBUSY) => Err(MountError::AlreadyOpen { device: device.to_owned() }),
        Err(Errno::EEXIST) if kind == FsKind::Btrfs => Err(MountError::MountedOnce { device: device.to_owned() }),
        Err(errno) => Err(MountError::Refused {
            kind,
            device: device.to_owned(),
            errno,
            kernel: sys::context_messages(context.as_fd()),
        }),
    }
}

/// Opens a path below a directory; no symbolic link on the way is followed, and nothing outside is reached.
fn open_beneath(directory: impl AsFd, path: &str, flags: OFlag) -> nix::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(flags | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC).resolve(resolve);
    openat2(directory, path, how)
}

impl AsFd for DetachedMount {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tree.as_fd()
    }
}

/// Whether a file system (mounted anywhere, or lazily detached and still in use) holds this block device.
///
/// # Errors
/// When the device cannot be opened for another reason.
pub fn device_in_use(device: &Path) -> io::Result<bool> {
    use std::os::unix::fs::OpenOptionsExt;
    match OpenOptions::new().read(true).custom_flags(libc::O_EXCL | libc::O_CLOEXEC).open(device) {
        Ok(_) => Ok(false),
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(true),
        Err(error) => Err(error),
    }
}
