//! Making the file system of an enveloped volume (section 8): it begins 1 MiB behind the start of the device,
//! so the tools see it through a loop device that begins there. Nothing is ever shifted.

use std::path::{Path, PathBuf};

use super::fscheck::{MkfsError, mkfs, run_tool};
use crate::program;
use ondisk::FsKind;

/// Where the file system of an enveloped volume begins, in bytes.
pub const ENVELOPE_BYTES: u64 = 1024 * 1024;

/// Makes a file system that begins at `offset_bytes` of a device or image, which must not hold one there.
///
/// # Errors
/// As [`mkfs`], and when no loop device can be had.
pub fn mkfs_at(device: &Path, offset_bytes: u64, kind: FsKind, label: &str) -> Result<(), MkfsError> {
    let looped = TransientLoop::open(device, offset_bytes)?;
    let made = mkfs(&looped.path, kind, label);
    // What mkfs wrote must be on the disk before the loop device goes.
    let synced = std::fs::File::open(&looped.path).and_then(|file| file.sync_all());
    made?;
    synced.map_err(|source| MkfsError::Io { path: device.to_owned(), source })
}

/// A loop device that lasts as long as this value.
struct TransientLoop {
    path: PathBuf,
}

impl TransientLoop {
    fn open(device: &Path, offset_bytes: u64) -> Result<Self, MkfsError> {
        let mut command = program::command("losetup");
        command.args(["--find", "--show", "--direct-io=on", "--offset", &offset_bytes.to_string()]).arg(device);
        let said = run_tool("losetup", &mut command)?;
        match said.lines().next() {
            Some(path) if path.starts_with("/dev/loop") => Ok(Self { path: PathBuf::from(path) }),
            _ => Err(MkfsError::ToolFailed { tool: "losetup", said }),
        }
    }
}

impl Drop for TransientLoop {
    fn drop(&mut self) {
        if let Err(error) = run_tool("losetup", program::command("losetup").arg("-d").arg(&self.path)) {
            tracing::warn!(event = "loop.left", device = %self.path.display(), %error, "a loop device stays");
        }
    }
}
