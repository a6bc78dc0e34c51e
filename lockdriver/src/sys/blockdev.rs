//! What the kernel tells about a block device or image, and the write that is stable when it returns.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

nix::ioctl_read_bad!(
    /// BLKSSZGET: logical sector size in bytes.
    blk_logical_sector,
    0x1268,
    libc::c_int
);
nix::ioctl_read_bad!(
    /// BLKPBSZGET: physical block size in bytes.
    blk_physical_block,
    0x127b,
    libc::c_uint
);
nix::ioctl_read!(
    /// BLKGETSIZE64: length in bytes.
    blk_length,
    0x12,
    114,
    u64
);
nix::ioctl_read_bad!(
    /// BLKROGET: 1 when the device is read-only.
    blk_read_only,
    0x125e,
    libc::c_int
);

/// Sizes of an open block device, all in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSizes {
    /// Unit of reading and writing.
    pub logical: u32,
    /// Unit that the medium really writes.
    pub physical: u32,
    /// Length of the device.
    pub length: u64,
    /// The kernel refuses writes to it.
    pub read_only: bool,
}

/// Asks the kernel for the sizes of the block device behind `node`.
///
/// # Errors
/// Whatever an ioctl returned; a size that makes no sense is `InvalidData`.
pub fn block_sizes(node: BorrowedFd<'_>) -> io::Result<BlockSizes> {
    let raw = node.as_raw_fd();
    let (mut logical, mut physical, mut length, mut read_only) = (0, 0, 0_u64, 0);
    // SAFETY: each call writes one value of the given type behind the pointer; the descriptor is open.
    unsafe {
        blk_logical_sector(raw, &raw mut logical)?;
        blk_physical_block(raw, &raw mut physical)?;
        blk_length(raw, &raw mut length)?;
        blk_read_only(raw, &raw mut read_only)?;
    }
    let logical = u32::try_from(logical).ok().filter(|size| size.is_power_of_two() && *size >= 512);
    let logical = logical
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "logical sector size is not a power of two"))?;
    let physical = if physical.is_power_of_two() { physical.max(logical) } else { logical };
    Ok(BlockSizes { logical, physical, length, read_only: read_only != 0 })
}

/// Smallest unit of offset and length for direct I/O on a regular file, in bytes: `None` where the kernel does not say,
/// `Some(0)` where it says that the file takes no direct I/O.
#[must_use]
pub fn direct_io_unit(file: BorrowedFd<'_>) -> Option<u32> {
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut answer: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the path is a NUL-terminated empty string (AT_EMPTY_PATH), the answer points to one writable structure.
    let result = unsafe {
        libc::statx(file.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, libc::STATX_DIOALIGN, &raw mut answer)
    };
    (result == 0 && answer.stx_mask & libc::STATX_DIOALIGN != 0).then_some(answer.stx_dio_offset_align)
}

/// Writes `data` at `offset` in one call that returns only when the bytes are stable (RWF_DSYNC: FUA where the device has it).
/// Returns how many bytes were written.
///
/// # Errors
/// The system call's error; `InvalidInput` for an offset beyond what files can have.
pub fn write_stable(file: &File, data: &[u8], offset: u64) -> io::Result<usize> {
    let offset = libc::off_t::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let vector = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: the vector names `data`, which outlives the call and is only read.
    let written = unsafe { libc::pwritev2(file.as_raw_fd(), &raw const vector, 1, offset, libc::RWF_DSYNC) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}
