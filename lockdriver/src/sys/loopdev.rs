//! The ioctls of the loop driver (`linux/loop.h`).

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Longest name of a loop device in bytes; the kernel keeps one more for its NUL.
pub const NAME_BYTES: usize = 63;

const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;
const DIRECT_IO: u32 = 16;

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct RawConfig {
    backing: u32,
    block_size: u32,
    info: RawInfo,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<RawInfo>() == 232 && size_of::<RawConfig>() == 304);

mod raw {
    #![allow(missing_docs, reason = "named after the kernel's own, and private to this file")]
    use super::{RawConfig, RawInfo};

    nix::ioctl_none_bad!(loop_clr_fd, 0x4C01);
    nix::ioctl_write_ptr_bad!(loop_set_status64, 0x4C04, RawInfo);
    nix::ioctl_read_bad!(loop_get_status64, 0x4C05, RawInfo);
    nix::ioctl_write_ptr_bad!(loop_configure, 0x4C0A, RawConfig);
    nix::ioctl_none_bad!(loop_ctl_get_free, 0x4C82);
}

/// What a loop device is to show of its backing file, or what it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoopSetup {
    /// First byte of the backing file, in bytes.
    pub offset: u64,
    /// Largest length in bytes; 0 = all that there is.
    pub size_limit: u64,
    /// The kernel refuses writes.
    pub read_only: bool,
    /// Past the page cache. The kernel may refuse it: what counts is [`status`].
    pub direct_io: bool,
    /// Cleared by the kernel at its last close.
    pub autoclear: bool,
    /// At most [`NAME_BYTES`] bytes, no NUL: the mark by which it is found again.
    pub name: Vec<u8>,
}

impl RawInfo {
    fn from_setup(setup: &LoopSetup) -> io::Result<Self> {
        let mut file_name = [0; 64];
        if setup.name.len() > NAME_BYTES || setup.name.contains(&0) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "name of a loop device"));
        }
        file_name[..setup.name.len()].copy_from_slice(&setup.name);
        let flag = |on: bool, bit: u32| if on { bit } else { 0 };
        Ok(Self {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: setup.offset,
            size_limit: setup.size_limit,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: flag(setup.read_only, READ_ONLY)
                | flag(setup.direct_io, DIRECT_IO)
                | flag(setup.autoclear, AUTOCLEAR),
            file_name,
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        })
    }

    fn to_setup(self) -> LoopSetup {
        let name = self.file_name.iter().copied().take_while(|byte| *byte != 0).collect();
        LoopSetup {
            offset: self.offset,
            size_limit: self.size_limit,
            read_only: self.flags & READ_ONLY != 0,
            direct_io: self.flags & DIRECT_IO != 0,
            autoclear: self.flags & AUTOCLEAR != 0,
            name,
        }
    }
}

/// Number of a loop device that is free at this instant (another process may take it first).
///
/// # Errors
/// When /dev/loop-control is missing or the kernel has none left.
pub fn free_number() -> io::Result<u32> {
    let control = File::options().read(true).write(true).open("/dev/loop-control")?;
    // SAFETY: takes no argument; the descriptor is open.
    let number = unsafe { raw::loop_ctl_get_free(control.as_raw_fd())? };
    u32::try_from(number).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

/// Binds a free loop device to `backing` in one call, so that it is never visible half set up.
/// `block_size` in bytes; 0 = the kernel's choice.
///
/// # Errors
/// EBUSY when somebody else took the number meanwhile, else what the kernel said.
pub fn configure(node: BorrowedFd<'_>, backing: BorrowedFd<'_>, block_size: u32, setup: &LoopSetup) -> io::Result<()> {
    let backing = u32::try_from(backing.as_raw_fd()).expect("open descriptors are not negative");
    let info = RawInfo::from_setup(setup)?;
    let config = RawConfig { backing, block_size, info, reserved: [0; 8] };
    // SAFETY: the pointer names one complete `struct loop_config`, which the kernel only reads.
    unsafe { raw::loop_configure(node.as_raw_fd(), &raw const config)? };
    Ok(())
}

/// What the loop device behind `node` shows; `None` when it is bound to nothing.
///
/// # Errors
/// What the kernel said.
pub fn status(node: BorrowedFd<'_>) -> io::Result<Option<LoopSetup>> {
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut info: RawInfo = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills one complete structure.
    match unsafe { raw::loop_get_status64(node.as_raw_fd(), &raw mut info) } {
        Ok(_) => Ok(Some(info.to_setup())),
        Err(nix::errno::Errno::ENXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Changes offset, size limit, name and autoclear of a bound loop device. The call waits for all requests in the device's queue.
///
/// # Errors
/// EAGAIN on older kernels while pages are in flight (try again), else what the kernel said.
pub fn set_status(node: BorrowedFd<'_>, setup: &LoopSetup) -> io::Result<()> {
    let info = RawInfo::from_setup(setup)?;
    // SAFETY: the pointer names one complete `struct loop_info64`, which the kernel only reads.
    unsafe { raw::loop_set_status64(node.as_raw_fd(), &raw const info)? };
    Ok(())
}

/// Unbinds the device; while others have it open the kernel does so at the last close.
///
/// # Errors
/// What the kernel said; a device that is bound to nothing is no error.
pub fn clear(node: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes no argument; the descriptor is open.
    match unsafe { raw::loop_clr_fd(node.as_raw_fd()) } {
        Ok(_) | Err(nix::errno::Errno::ENXIO) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
