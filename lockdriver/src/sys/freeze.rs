//! Freezing and thawing a mounted file system: while frozen, what is on the disk is clean and does not change.

use std::os::fd::{AsFd, AsRawFd};

/// Flushes everything, and holds every writer of the file system back until [`thaw`].
///
/// # Errors
/// `EBUSY` when somebody else froze it, `EOPNOTSUPP` when the file system cannot, `EPERM` without the privilege.
pub fn freeze(mount: impl AsFd) -> nix::Result<()> {
    // SAFETY: FIFREEZE ignores its argument; the descriptor is open for the whole call.
    let answer = unsafe { libc::ioctl(mount.as_fd().as_raw_fd(), FIFREEZE, 0) };
    nix::errno::Errno::result(answer).map(drop)
}

/// Lets the writers go on.
///
/// # Errors
/// `EINVAL` when it was not frozen.
pub fn thaw(mount: impl AsFd) -> nix::Result<()> {
    // SAFETY: FITHAW ignores its argument; the descriptor is open for the whole call.
    let answer = unsafe { libc::ioctl(mount.as_fd().as_raw_fd(), FITHAW, 0) };
    nix::errno::Errno::result(answer).map(drop)
}

const FIFREEZE: libc::Ioctl = nix::request_code_readwrite!(b'X', 119, size_of::<libc::c_int>());
const FITHAW: libc::Ioctl = nix::request_code_readwrite!(b'X', 120, size_of::<libc::c_int>());
