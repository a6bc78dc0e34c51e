//! What a block device says about itself: its size, and whether the kernel refuses writes to it.

use std::os::fd::{AsFd, AsRawFd};

#[allow(missing_docs, reason = "made by macros; the documented wrappers are below")]
mod raw {
    nix::ioctl_read!(blkgetsize64, 0x12, 114, libc::size_t);
    nix::ioctl_read_bad!(blkroget, nix::request_code_none!(0x12, 94), libc::c_int);
    nix::ioctl_none_bad!(blkflsbuf, nix::request_code_none!(0x12, 97));
}

/// The size of a block device in bytes.
///
/// # Errors
/// `ENOTTY` when it is not a block device.
pub fn device_bytes(device: impl AsFd) -> nix::Result<u64> {
    let mut bytes: u64 = 0;
    // SAFETY: BLKGETSIZE64 writes exactly one u64, which lives on our stack.
    unsafe { raw::blkgetsize64(device.as_fd().as_raw_fd(), std::ptr::from_mut(&mut bytes).cast()) }?;
    Ok(bytes)
}

/// Whether the kernel refuses every write to this block device.
///
/// # Errors
/// `ENOTTY` when it is not a block device.
pub fn device_read_only(device: impl AsFd) -> nix::Result<bool> {
    let mut flag: libc::c_int = 0;
    // SAFETY: BLKROGET writes exactly one int, which lives on our stack.
    unsafe { raw::blkroget(device.as_fd().as_raw_fd(), &mut flag) }?;
    Ok(flag != 0)
}

/// Writes back and forgets what the kernel has cached of this block device.
///
/// # Errors
/// `ENOTTY` when it is not a block device, `EACCES` without the privilege.
pub fn flush_buffers(device: impl AsFd) -> nix::Result<()> {
    // SAFETY: BLKFLSBUF takes no argument.
    unsafe { raw::blkflsbuf(device.as_fd().as_raw_fd()) }.map(drop)
}
