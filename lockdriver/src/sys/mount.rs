//! The kernel's newer mount calls: a file system context, a detached mount, and moving it into place.
//!
//! nix wraps none of these. Every function returns the errno as `nix::Result`; what the kernel says in words
//! is read from the context with [`context_messages`].

use std::ffi::CStr;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

/// `move_mount`: the mount to be moved is the one that the `from` descriptor itself names.
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x04;
/// `move_mount`: the place is the one that the `to` descriptor itself names.
const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;
/// `move_mount`: slip the mount beneath the one at the place (Linux 6.5).
const MOVE_MOUNT_BENEATH: libc::c_uint = 0x200;

/// Mount attribute: nothing can be written through this mount.
pub const ATTR_RDONLY: u64 = 0x01;
/// Mount attribute: set-user-id bits do not count.
pub const ATTR_NOSUID: u64 = 0x02;
/// Mount attribute: device nodes do not work.
pub const ATTR_NODEV: u64 = 0x04;
/// Mount attribute: access times are never updated.
pub const ATTR_NOATIME: u64 = 0x10;

const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const FSCONFIG_CMD_CREATE_EXCL: libc::c_uint = 8;
const OPEN_TREE_CLONE: libc::c_uint = 1;
const CLOEXEC: libc::c_uint = 1;

/// Where [`move_mount`] puts the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On top of whatever is there.
    OnTop,
    /// Under the mount that is there, which stays on top until it is unmounted (Linux 6.5).
    Beneath,
}

#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Turns the raw answer of a call that returns a new descriptor into an owned one.
fn owned(answer: libc::c_long) -> nix::Result<OwnedFd> {
    let raw = RawFd::try_from(Errno::result(answer)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just returned this descriptor to us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Opens a context for mounting a file system of the named type.
///
/// # Errors
/// `ENODEV` when the kernel does not know the type, `EPERM` without the privilege.
pub fn fsopen(fs_name: &CStr) -> nix::Result<OwnedFd> {
    // SAFETY: the name is a valid NUL-terminated string that outlives the call.
    owned(unsafe { libc::syscall(libc::SYS_fsopen, fs_name.as_ptr(), CLOEXEC) })
}

fn fsconfig(
    context: BorrowedFd<'_>,
    command: libc::c_uint,
    key: Option<&CStr>,
    value: Option<&CStr>,
) -> nix::Result<()> {
    let key = key.map_or(std::ptr::null(), CStr::as_ptr);
    let value = value.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: both pointers are null or NUL-terminated strings that outlive the call; the kernel copies them.
    let answer = unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key, value, 0) };
    Errno::result(answer).map(drop)
}

/// Sets an option that has no value, such as `ro`.
///
/// # Errors
/// `EINVAL` for an option that the file system does not know.
pub fn fsconfig_flag(context: BorrowedFd<'_>, key: &CStr) -> nix::Result<()> {
    fsconfig(context, FSCONFIG_SET_FLAG, Some(key), None)
}

/// Sets an option with a value, such as `source`.
///
/// # Errors
/// `EINVAL` for an option or value that the file system does not know.
pub fn fsconfig_string(context: BorrowedFd<'_>, key: &CStr, value: &CStr) -> nix::Result<()> {
    fsconfig(context, FSCONFIG_SET_STRING, Some(key), Some(value))
}

/// Opens the file system; on kernels that can (6.6), refuses with `EBUSY` to join one that is already open.
///
/// # Errors
/// What the file system says: `EINVAL`, `EUCLEAN`, `EIO`, `EROFS`, `EBUSY` ...
pub fn fsconfig_create(context: BorrowedFd<'_>, exclusive: bool) -> nix::Result<()> {
    if exclusive {
        match fsconfig(context, FSCONFIG_CMD_CREATE_EXCL, None, None) {
            Err(Errno::EOPNOTSUPP) => {}
            other => return other,
        }
    }
    fsconfig(context, FSCONFIG_CMD_CREATE, None, None)
}

/// Makes a detached mount of the file system that the context has opened.
///
/// The mount lives as long as the descriptor, or until it is moved into place.
///
/// # Errors
/// `EBUSY`, `EINVAL` when the context is not ready.
pub fn fsmount(context: BorrowedFd<'_>, attributes: u64) -> nix::Result<OwnedFd> {
    // SAFETY: only a descriptor and plain numbers are passed.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), CLOEXEC, attributes) })
}

/// What the kernel has to say about a context, a line each (`e ...` are errors, `w ...` warnings, `i ...` information).
#[must_use]
pub fn context_messages(context: BorrowedFd<'_>) -> Vec<String> {
    let Ok(copy) = context.try_clone_to_owned() else {
        return Vec::new();
    };
    let mut file = std::fs::File::from(copy);
    let mut lines = Vec::new();
    let mut buffer = [0_u8; 1024];
    // Each read gives one message; ENODATA ends them. The limit keeps a broken kernel from holding us for ever.
    while lines.len() < 32 {
        match file.read(&mut buffer) {
            Ok(length) if length > 0 => {
                let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
                lines.push(text.trim().to_owned());
            }
            _ => break,
        }
    }
    lines
}

/// Moves the mount that `from` names (detached, or the root of an attached one) to the directory that `to` names.
///
/// # Errors
/// `EINVAL` when the parent of either is a shared mount, or the kernel does not know [`Place::Beneath`].
pub fn move_mount(from: impl AsFd, to: impl AsFd, place: Place) -> nix::Result<()> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH
        | MOVE_MOUNT_T_EMPTY_PATH
        | if place == Place::Beneath { MOVE_MOUNT_BENEATH } else { 0 };
    // SAFETY: two descriptors, two empty NUL-terminated strings, a number.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            from.as_fd().as_raw_fd(),
            c"".as_ptr(),
            to.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
        )
    };
    Errno::result(answer).map(drop)
}

/// A detached bind mount of the directory that the descriptor names, without the mounts below it.
///
/// # Errors
/// `EINVAL` when the directory lies in another mount namespace, `EPERM` without the privilege.
pub fn clone_tree(directory: impl AsFd) -> nix::Result<OwnedFd> {
    let cloexec = libc::c_uint::try_from(libc::O_CLOEXEC).map_err(|_| Errno::EINVAL)?;
    let empty = libc::c_uint::try_from(libc::AT_EMPTY_PATH).map_err(|_| Errno::EINVAL)?;
    let flags = OPEN_TREE_CLONE | cloexec | empty;
    // SAFETY: a descriptor, an empty NUL-terminated string, a number.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, directory.as_fd().as_raw_fd(), c"".as_ptr(), flags) })
}

/// Makes the mount that the descriptor is the root of a private one: nothing mounted in it shows elsewhere.
///
/// # Errors
/// `EINVAL` when the descriptor is not the root of a mount.
pub fn make_private(mount: impl AsFd) -> nix::Result<()> {
    setattr(mount, &MountAttr { attr_set: 0, attr_clr: 0, propagation: libc::MS_PRIVATE, userns_fd: 0 })
}

/// Makes this one mount read-only, or writable again; others of the same file system stay as they are.
///
/// # Errors
/// `EINVAL` when the descriptor is not the root of a mount.
pub fn set_read_only(mount: impl AsFd, read_only: bool) -> nix::Result<()> {
    let (attr_set, attr_clr) = if read_only { (ATTR_RDONLY, 0) } else { (0, ATTR_RDONLY) };
    setattr(mount, &MountAttr { attr_set, attr_clr, propagation: 0, userns_fd: 0 })
}

fn setattr(mount: impl AsFd, attr: &MountAttr) -> nix::Result<()> {
    // SAFETY: the structure is the kernel's `struct mount_attr` in its first size, and outlives the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    Errno::result(answer).map(drop)
}
