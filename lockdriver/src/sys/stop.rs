//! Stopping a mounted file system from outside.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

nix::ioctl_read!(
    /// FS_IOC_SHUTDOWN (the header says "read"; the argument is read by the kernel).
    fs_shutdown,
    b'X',
    125,
    u32
);

/// Do not write the log out.
const SHUTDOWN_NO_LOG_FLUSH: u32 = 2;

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
