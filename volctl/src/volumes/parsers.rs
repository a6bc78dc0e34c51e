//! What this room reads from the kernel and from devices, each as a function of bytes: for the fuzzer, which opens no files.

use super::identify::{FoundFs, IdentityError, superblocks};
use super::inflight::{self, Inflight};
use super::mountinfo::{self, MountLine};

/// The file system whose first 4 KiB, and 4 KiB at 64 KiB, these are.
///
/// # Errors
/// As [`super::identify::find_fs`].
pub fn file_system(head: &[u8; 4096], deep: &[u8; 4096]) -> Result<Option<FoundFs>, IdentityError> {
    superblocks::find(head, deep)
}

/// How many of the lines of a mountinfo are understood, and how many of these name a mount that can be written to.
pub fn mounts(text: &[u8]) -> (usize, usize) {
    let lines = mountinfo::lines(text);
    (lines.len(), lines.iter().filter(|line| MountLine::writable(line)).count())
}

/// The mount that an fdinfo names.
pub fn mount_of_fdinfo(text: &str) -> Option<u64> {
    mountinfo::mount_id_of_fdinfo(text)
}

/// The bound that the options of an NFS mount give.
pub fn nfs(options: &str) -> Inflight {
    inflight::nfs(options)
}
