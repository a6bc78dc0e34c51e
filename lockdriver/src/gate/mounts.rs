//! The mounts that stand on a gate, found in the kernel and not in anybody's memory.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::Node;
use crate::sys::{freeze, stop};

/// Most mounts looked at on one gate: a bound for loops over a list that others can change.
const MOUNTS_MAX: usize = 256;

/// Mount points, in this mount namespace, of the file system on gate `node`; the newest last.
///
/// # Errors
/// When the kernel's list cannot be read.
pub fn mounts_of(node: Node) -> io::Result<Vec<PathBuf>> {
    let device = std::fs::metadata(node.path())?.rdev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    Ok(find_mounts(&std::fs::read("/proc/self/mountinfo")?, &node.sources(), &format!("{major}:{minor}")))
}

/// Detaches the mount at `point` if nothing is mounted below it any more.
///
/// # Errors
/// When the kernel's list cannot be read, or it says no.
pub fn detach_empty(point: &Path) -> io::Result<()> {
    let list = std::fs::read("/proc/self/mountinfo")?;
    let points: Vec<PathBuf> = list
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(|field| PathBuf::from(OsString::from_vec(unescape(field))))
        .collect();
    let below = points.iter().any(|p| p != point && p.starts_with(point));
    if below || !points.iter().any(|p| p == point) {
        return Ok(());
    }
    let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
    umount2(point, flags).map_err(io::Error::from)
}

/// The mount points in the text of mountinfo. Public for the fuzzer.
#[doc(hidden)]
pub fn find_mounts(mountinfo: &[u8], sources: &[String], device: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in mountinfo.split(|byte| *byte == b'\n') {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let Some(dash) = fields.iter().position(|field| *field == b"-") else {
            continue;
        };
        let (Some(kind), Some(from)) = (fields.get(dash + 1), fields.get(dash + 2)) else {
            continue;
        };
        // btrfs shows a device number of its own, so there the source has to tell.
        let same_source = *kind == b"btrfs" && sources.iter().any(|source| *from == source.as_bytes());
        if (fields.get(2).is_some_and(|field| *field == device.as_bytes()) || same_source)
            && let Some(point) = fields.get(4)
        {
            found.push(PathBuf::from(OsString::from_vec(unescape(point))));
        }
    }
    found
}

/// Undoes the kernel's `\040` spelling of blanks.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = (*first == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        if let Some(byte) = octal {
            plain.push(byte);
            rest = &tail[3..];
        } else {
            plain.push(*first);
            rest = tail;
        }
    }
    plain
}

/// Takes every mount of gate `node` out of the tree; open files keep theirs until they are closed. Returns how many.
///
/// # Errors
/// The first one that could not be detached, after trying all.
pub fn detach_all(node: Node) -> io::Result<usize> {
    for detached in 0..MOUNTS_MAX {
        let Some(top) = mounts_of(node)?.pop() else {
            return Ok(detached);
        };
        umount2(&top, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
    }
    Err(io::Error::from(io::ErrorKind::QuotaExceeded))
}

/// Writes out what is dirty and makes the file system on gate `node` read-only: the orderly stop. Can hang with its storage.
///
/// # Errors
/// EBUSY while files are open for writing (what was dirty is written out all the same), else what the kernel said.
pub fn stop_in_order(node: Node) -> io::Result<()> {
    for point in mounts_of(node)? {
        nix::unistd::syncfs(open_root(&point)?)?;
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, &point, None::<&str>, flags, None::<&str>)?;
    }
    Ok(())
}

/// Lets every frozen file system on gate `node` go on, so that nothing hangs for ever behind a closed gate (trace B7).
///
/// # Errors
/// The first that could not be thawed.
pub fn thaw_all(node: Node) -> io::Result<()> {
    mounts_of(node)?.iter().try_for_each(|point| thaw(open_root(point)?.as_fd()))
}

/// Lets the file system behind `root` go on; one that is not frozen stays as it is.
///
/// # Errors
/// What the kernel said.
pub fn thaw(root: BorrowedFd<'_>) -> io::Result<()> {
    match freeze::thaw(root) {
        Ok(()) | Err(nix::errno::Errno::EINVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Makes the file systems on gate `node` refuse writes by themselves (ext4, XFS): the second means, where the first failed.
///
/// # Errors
/// The first that could not be stopped.
pub fn shut_down_all(node: Node) -> io::Result<()> {
    mounts_of(node)?.iter().try_for_each(|point| stop::shut_down(open_root(point)?.as_fd()))
}

fn open_root(point: &Path) -> io::Result<File> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
    File::options().read(true).custom_flags(flags).open(point)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_number_and_btrfs_by_source() {
        let list = b"29 1 7:5 / /mnt/with\\040blank rw - ext4 /dev/loop5 rw\n\
            30 1 0:44 / /mnt/b rw shared:1 - btrfs /dev/loop5 rw\n\
            31 1 0:45 / /mnt/c rw - tmpfs /dev/loop5 rw\n\
            32 1 7:50 / /mnt/d rw - xfs /dev/loop50 rw\n\
            33 1 0:46 / /mnt/e rw - btrfs /dev/mapper/volctl-x rw\n\
            cut line\n";
        let found = find_mounts(list, &Node::Loop(5).sources(), "7:5");
        assert_eq!(found, [PathBuf::from("/mnt/with blank"), PathBuf::from("/mnt/b")]);
        let found = find_mounts(list, &["/dev/dm-5".into(), "/dev/mapper/volctl-x".into()], "253:5");
        assert_eq!(found, [PathBuf::from("/mnt/e")]);
    }
}
