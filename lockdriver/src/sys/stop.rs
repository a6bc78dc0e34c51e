//! Stopping a mounted file system from outside, and letting a frozen one go.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

nix::ioctl_readwrite!(
    /// FITHAW.
    fs_thaw,
    b'X',
    120,
    libc::c_int
);
nix::ioctl_read!(
    /// FS_IOC_SHUTDOWN (the header says "read"; the argument is read by the kernel).
    fs_shutdown,
    b'X',
    125,
    u32
);

/// Do not write the log out.
const SHUTDOWN_NO_LOG_FLUSH: u32 = 2;

/// Lets a frozen file system go on; one that is not frozen stays as it is.
///
/// # Errors
/// What the kernel said.
pub fn thaw(mount: BorrowedFd<'_>) -> io::Result<()> {
    let mut unused = 0;
    // SAFETY: the argument is not used by the kernel; the pointer is valid all the same.
    match unsafe { fs_thaw(mount.as_raw_fd(), &raw mut unused) } {
        Ok(_) | Err(nix::errno::Errno::EINVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Makes every later write of the mounted file system fail (ext4, XFS; others return ENOTTY).
///
/// # Errors
/// What the kernel said.
pub fn shut_down(mount: BorrowedFd<'_>) -> io::Result<()> {
    let mut how = SHUTDOWN_NO_LOG_FLUSH;
    // SAFETY: the kernel reads one u32 behind the pointer.
    unsafe { fs_shutdown(mount.as_raw_fd(), &raw mut how)? };
    Ok(())
}
