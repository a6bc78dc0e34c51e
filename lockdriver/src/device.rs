//! Sectors of the control volume: the trait that the real disk, the simulator's disk and the tests' disks share.

mod aligned;
mod direct;
mod memory;

use std::io;
use std::path::PathBuf;

pub use aligned::{AlignedBuf, BUFFER_ALIGN};
pub use direct::{Access, DirectDevice};
pub use memory::MemoryDevice;

use crate::reservation::Commands;

/// What must be true of a write when it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Visible to every host; may still be lost from a volatile cache (beats, releases: section 5).
    Plain,
    /// On stable media (RWF_DSYNC: FUA where the device has it).
    Fua,
}

/// A device that is read and written in whole sectors, past every cache of this host.
///
/// Offsets, lengths and memory addresses are multiples of [`sector_bytes`](Self::sector_bytes) (use [`AlignedBuf`]); others are refused with
/// `InvalidInput`, and requests beyond the end with `UnexpectedEof`. A short read or write is an error, never a success.
pub trait BlockDevice: Send + Sync {
    /// Length in bytes.
    fn len_bytes(&self) -> u64;
    /// Logical sector size in bytes: 512 or a larger power of two.
    fn sector_bytes(&self) -> u32;
    /// The unit that the medium really writes, in bytes; at least one sector. Neighbours in one unit can be torn together.
    fn physical_block_bytes(&self) -> u32;
    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// The device's error, `InvalidInput` or `UnexpectedEof`; then `buf` holds nothing that means anything.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
    /// Writes all of `data` at `offset`.
    ///
    /// # Errors
    /// As for reading. After an error the write may have landed, in part or later: its result is unknown (section 4).
    fn write_at(&self, offset: u64, data: &[u8], durability: Durability) -> io::Result<()>;
    /// Makes every earlier write stable.
    ///
    /// # Errors
    /// The device's error; then nothing is known about what is stable.
    fn flush(&self) -> io::Result<()>;
    /// Reservations and compare-and-write; None: there is nothing here that could have them.
    fn commands(&self) -> Option<&dyn Commands> {
        None
    }
}

impl<D: BlockDevice + ?Sized> BlockDevice for std::sync::Arc<D> {
    fn len_bytes(&self) -> u64 {
        (**self).len_bytes()
    }
    fn sector_bytes(&self) -> u32 {
        (**self).sector_bytes()
    }
    fn physical_block_bytes(&self) -> u32 {
        (**self).physical_block_bytes()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        (**self).read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, data: &[u8], durability: Durability) -> io::Result<()> {
        (**self).write_at(offset, data, durability)
    }
    fn flush(&self) -> io::Result<()> {
        (**self).flush()
    }
    fn commands(&self) -> Option<&dyn Commands> {
        (**self).commands()
    }
}

/// Why a device could not be opened or locked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Nothing is there.
    #[error("{path}: there is nothing at this path; check the path and that the disk is attached", path = path.display())]
    Missing {
        /// What was asked for.
        path: PathBuf,
    },
    /// A directory, pipe, character device or the like.
    #[error("{path}: neither a block device nor a regular file; name the disk or the image itself", path = path.display())]
    NotABlockDeviceOrFile {
        /// What was asked for.
        path: PathBuf,
    },
    /// The file system under an image has no direct I/O, so another host's writes would stay unseen in the page cache.
    #[error("{path}: no direct I/O here, so writes of other hosts would stay unseen; put the image on a file system that has it", path = path.display())]
    NoDirectIo {
        /// What was asked for.
        path: PathBuf,
    },
    /// The device or its file system is read-only.
    #[error("{path}: read-only, and writing is needed; check the export of the disk or the mount of the image", path = path.display())]
    ReadOnly {
        /// What was asked for.
        path: PathBuf,
    },
    /// This process may not open it.
    #[error("{path}: permission denied; run as root or as a member of the disk's group", path = path.display())]
    Permission {
        /// What was asked for.
        path: PathBuf,
    },
    /// Another process holds the node, exclusively or by flock.
    #[error("{path}: another process of this host holds it (a mount, or a tool that writes tables); wait, or see who with fuser", path = path.display())]
    HeldBySomeone {
        /// What was asked for.
        path: PathBuf,
    },
    /// Anything else.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// What was asked for.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}
