//! The few btrfs calls that publishing needs: snapshots, their deletion, and what a mount says about itself.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

const NAME_BYTES_V1: usize = 4088;
const NAME_BYTES_V2: usize = 4040;
const SUBVOL_RDONLY: u64 = 1 << 1;

#[repr(C)]
struct VolArgs {
    fd: i64,
    name: [u8; NAME_BYTES_V1],
}

#[repr(C)]
struct VolArgsV2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; NAME_BYTES_V2],
}

#[repr(C)]
struct FsInfoArgs {
    max_id: u64,
    num_devices: u64,
    fsid: [u8; 16],
    reserved: [u64; 124],
}

#[repr(C)]
struct SubvolInfoArgs {
    treeid: u64,
    name: [u8; 256],
    parent_id: u64,
    dirid: u64,
    generation: u64,
    flags: u64,
    reserved: [u64; 26],
}

const _: () = assert!(size_of::<VolArgs>() == 4096);
const _: () = assert!(size_of::<VolArgsV2>() == 4096);
const _: () = assert!(size_of::<FsInfoArgs>() == 1024);
const _: () = assert!(size_of::<SubvolInfoArgs>() == 504);

#[allow(missing_docs, reason = "made by macros; the documented wrappers are below")]
mod raw {
    use super::{FsInfoArgs, SubvolInfoArgs, VolArgs, VolArgsV2};

    nix::ioctl_write_ptr!(ioc_forget_dev, 0x94, 5, VolArgs);
    nix::ioctl_none!(ioc_sync, 0x94, 8);
    nix::ioctl_write_ptr!(ioc_snap_destroy, 0x94, 15, VolArgs);
    nix::ioctl_write_ptr!(ioc_wait_sync, 0x94, 22, u64);
    nix::ioctl_write_ptr!(ioc_snap_create_v2, 0x94, 23, VolArgsV2);
    nix::ioctl_read!(ioc_start_sync, 0x94, 24, u64);
    nix::ioctl_read!(ioc_fs_info, 0x94, 31, FsInfoArgs);
    nix::ioctl_read!(ioc_get_subvol_info, 0x94, 60, SubvolInfoArgs);
}

/// What a subvolume says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubvolInfo {
    /// The number of its tree, which `subvolid=` takes.
    pub tree_id: u64,
    /// The transaction that last changed it, as of the last commit.
    pub generation: u64,
    /// Whether it is a read-only snapshot.
    pub read_only: bool,
}

/// What a mounted btrfs says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FsInfo {
    /// The identifier under which sysfs knows it; a temporary one when the same file system is mounted twice.
    pub fsid: [u8; 16],
    /// How many devices it lies on.
    pub num_devices: u64,
}

/// Copies a name into a kernel name field, which must keep its terminating NUL.
fn fill<const N: usize>(name: &str) -> nix::Result<[u8; N]> {
    let bytes = name.as_bytes();
    if bytes.len() >= N || bytes.contains(&0) {
        return Err(Errno::ENAMETOOLONG);
    }
    let mut field = [0_u8; N];
    field[..bytes.len()].copy_from_slice(bytes);
    Ok(field)
}

/// Makes `name` in `directory` a read-only snapshot of the subvolume whose root is `source`.
///
/// Returns when the kernel has committed it.
///
/// # Errors
/// `EEXIST` when the name is taken, `EINVAL` when `source` is not the root of a subvolume, `ENOSPC`.
pub fn snapshot_read_only(source: impl AsFd, directory: impl AsFd, name: &str) -> nix::Result<()> {
    let args = VolArgsV2 {
        fd: i64::from(source.as_fd().as_raw_fd()),
        transid: 0,
        flags: SUBVOL_RDONLY,
        unused: [0; 4],
        name: fill(name)?,
    };
    // SAFETY: the structure is the kernel's btrfs_ioctl_vol_args_v2 (size asserted above) and outlives the call.
    unsafe { raw::ioc_snap_create_v2(directory.as_fd().as_raw_fd(), &args) }.map(drop)
}

/// Deletes the subvolume `name` in `directory`; its blocks are freed later, in the background: see [`free_deleted`].
///
/// # Errors
/// `ENOENT`, `EPERM`, `EBUSY`, or `EINVAL` when it is not a subvolume.
pub fn delete_subvolume(directory: impl AsFd, name: &str) -> nix::Result<()> {
    let args = VolArgs { fd: 0, name: fill(name)? };
    // SAFETY: the structure is the kernel's btrfs_ioctl_vol_args (size asserted above) and outlives the call.
    unsafe { raw::ioc_snap_destroy(directory.as_fd().as_raw_fd(), &args) }.map(drop)
}

/// Commits what the running transaction holds, and waits until it is on the disk.
///
/// # Errors
/// `EIO` or `EROFS` when the file system can no longer commit.
pub fn commit(mount: impl AsFd) -> nix::Result<()> {
    let fd = mount.as_fd().as_raw_fd();
    let mut transid: u64 = 0;
    // SAFETY: START_SYNC writes exactly one u64, which lives on our stack.
    unsafe { raw::ioc_start_sync(fd, &mut transid) }?;
    // SAFETY: WAIT_SYNC reads exactly one u64, which lives on our stack.
    unsafe { raw::ioc_wait_sync(fd, &transid) }.map(drop)
}

/// Wakes the kernel's thread that frees the blocks of deleted subvolumes, after a commit. By itself it wakes at each commit interval
/// only (30 s), whoever else commits meanwhile.
///
/// # Errors
/// `ENOTTY` when it is not btrfs, `EIO` or `EROFS` when it can no longer commit.
pub fn free_deleted(mount: impl AsFd) -> nix::Result<()> {
    // SAFETY: BTRFS_IOC_SYNC takes no argument.
    unsafe { raw::ioc_sync(mount.as_fd().as_raw_fd()) }.map(drop)
}

/// What the file system that the descriptor lies on says about itself.
///
/// # Errors
/// `ENOTTY` when it is not btrfs.
pub fn fs_info(mount: impl AsFd) -> nix::Result<FsInfo> {
    let mut args = FsInfoArgs { max_id: 0, num_devices: 0, fsid: [0; 16], reserved: [0; 124] };
    // SAFETY: the structure is the kernel's btrfs_ioctl_fs_info_args (size asserted above).
    unsafe { raw::ioc_fs_info(mount.as_fd().as_raw_fd(), &mut args) }?;
    Ok(FsInfo { fsid: args.fsid, num_devices: args.num_devices })
}

/// What the subvolume that the descriptor lies in says about itself, as of its last commit.
///
/// # Errors
/// `ENOTTY` when it is not btrfs or the kernel is older than 4.18.
pub fn subvol_info(directory: impl AsFd) -> nix::Result<SubvolInfo> {
    let mut args = SubvolInfoArgs {
        treeid: 0,
        name: [0; 256],
        parent_id: 0,
        dirid: 0,
        generation: 0,
        flags: 0,
        reserved: [0; 26],
    };
    // SAFETY: the structure is the kernel's btrfs_ioctl_get_subvol_info_args (size asserted above).
    unsafe { raw::ioc_get_subvol_info(directory.as_fd().as_raw_fd(), &mut args) }?;
    // The flags here are those of the root item, where read-only is the lowest bit.
    Ok(SubvolInfo { tree_id: args.treeid, generation: args.generation, read_only: args.flags & 1 != 0 })
}

/// Lets the kernel forget a device that it has seen but not mounted; `control` is `/dev/btrfs-control`.
///
/// # Errors
/// `ENOENT` when it does not know the device, `EBUSY` while it is mounted.
pub fn forget_device(control: impl AsFd, device: &str) -> nix::Result<()> {
    let args = VolArgs { fd: 0, name: fill(device)? };
    // SAFETY: the structure is the kernel's btrfs_ioctl_vol_args (size asserted above) and outlives the call.
    unsafe { raw::ioc_forget_dev(control.as_fd().as_raw_fd(), &args) }.map(drop)
}
