//! Checking a file system without changing it, making one, and how much room is left.
//!
//! The check runs at the first release after a takeover from a dead writer (section 7), on an unmounted device.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::statvfs::fstatvfs;

use super::identify::{IdentityError, find_fs};
use crate::program::{self, Ended};
use ondisk::FsKind;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckOutcome {
    /// The file system is whole.
    Clean,
    /// Nothing can be said.
    NotChecked(WhyNot),
    /// It is damaged; the end of what the checker printed.
    Damaged(String),
}

/// Why there was no check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhyNot {
    /// The time was over.
    OutOfTime(Duration),
    /// The checker is not installed.
    NoTool(&'static str),
    /// The checker itself failed.
    ToolFailed {
        /// Its name.
        tool: &'static str,
        /// What it printed last, or what the system said.
        said: String,
    },
}

impl fmt::Display for WhyNot {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfTime(budget) => write!(out, "the check did not end within {budget:?}"),
            Self::NoTool(tool) => write!(out, "{tool} is not installed"),
            Self::ToolFailed { tool, said } => write!(out, "{tool} failed: {said}"),
        }
    }
}

/// Why a file system was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MkfsError {
    /// The device could not be read or set up.
    #[error("{}: {source}", path.display())]
    Io {
        /// The device or image.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is a file system already.
    #[error("{} already holds {what}; nothing was changed (wipefs shows it)", path.display())]
    NotEmpty {
        /// The device or image.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// A tool that must be there is not.
    #[error("{tool} is not installed")]
    NoTool {
        /// Its name.
        tool: &'static str,
    },
    /// The tool refused or failed.
    #[error("{tool} failed: {said}")]
    ToolFailed {
        /// Its name.
        tool: &'static str,
        /// What it printed last.
        said: String,
    },
}

/// Checks an unmounted file system, without changing it, within a time budget.
///
/// `path` should be a read-only device: then not even a bug of the checker changes anything.
#[must_use]
pub fn check_unchanged(path: &Path, kind: FsKind, budget: Duration) -> CheckOutcome {
    let (tool, arguments): (&'static str, &[&str]) = match kind {
        FsKind::Ext4 => ("e2fsck", &["-n", "-f"]),
        FsKind::Xfs if is_file(path) => ("xfs_repair", &["-n", "-f"]),
        FsKind::Xfs => ("xfs_repair", &["-n"]),
        FsKind::Btrfs => ("btrfs", &["check", "--readonly"]),
    };
    let mut command = program::command(tool);
    command.args(arguments).arg(path);
    let (status, said) = match program::run(&mut command, Some(budget)) {
        Ok(Ended { status: Some(status), said }) => (status, said),
        Ok(Ended { status: None, .. }) => return CheckOutcome::NotChecked(WhyNot::OutOfTime(budget)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return CheckOutcome::NotChecked(WhyNot::NoTool(tool));
        }
        Err(error) => {
            return CheckOutcome::NotChecked(WhyNot::ToolFailed { tool, said: error.to_string() });
        }
    };
    match (kind, status.code()) {
        (_, Some(0)) => CheckOutcome::Clean,
        // e2fsck: 4 = errors left, as they are with -n; the others: 1 = errors found.
        (FsKind::Ext4, Some(4)) | (FsKind::Xfs | FsKind::Btrfs, Some(1)) => CheckOutcome::Damaged(said),
        _ => CheckOutcome::NotChecked(WhyNot::ToolFailed { tool, said: format!("{status}; {said}") }),
    }
}

/// Makes a file system on a device or image, which must not hold one yet.
///
/// The label is cut to what the file system has room for. ext4 initialises everything at once: a volume that
/// goes on writing in the background would never look unchanged.
///
/// # Errors
/// [`MkfsError::NotEmpty`] when there is a file system; [`MkfsError::ToolFailed`], for a device that is too small.
pub fn mkfs(path: &Path, kind: FsKind, label: &str) -> Result<(), MkfsError> {
    let failed = |source| MkfsError::Io { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    let what = match find_fs(&file, 0) {
        Err(IdentityError::UnknownFileSystem { .. }) => None,
        Err(IdentityError::Io(source)) => return Err(failed(source)),
        Err(other) => Some(other.to_string()),
        Ok(found) => Some(format!("{} {}", found.kind, found.uuid)),
    };
    if let Some(what) = what {
        return Err(MkfsError::NotEmpty { path: path.to_owned(), what });
    }
    drop(file);
    let (tool, arguments, label_bytes): (&'static str, &[&str], usize) = match kind {
        FsKind::Ext4 => ("mkfs.ext4", &["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"], 16),
        FsKind::Xfs => ("mkfs.xfs", &["-q", "-f"], 12),
        FsKind::Btrfs => ("mkfs.btrfs", &["-q", "-f"], 255),
    };
    let mut command = program::command(tool);
    command.args(arguments).arg("-L").arg(cut(label, label_bytes)).arg(path);
    run_tool(tool, &mut command).map(drop)
}

/// Runs a tool that must succeed; returns what it printed.
pub(super) fn run_tool(tool: &'static str, command: &mut Command) -> Result<String, MkfsError> {
    match program::run(command, None) {
        Ok(Ended { status: Some(status), said }) if status.success() => Ok(said),
        Ok(Ended { said, .. }) => Err(MkfsError::ToolFailed { tool, said }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(MkfsError::NoTool { tool }),
        Err(error) => Err(MkfsError::ToolFailed { tool, said: error.to_string() }),
    }
}

/// Room on a mounted file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What users may still fill.
    pub free_bytes: u64,
    /// Size of the file system.
    pub total_bytes: u64,
}

/// How much room there is.
///
/// # Errors
/// Only what the system says.
pub fn space(mount: impl AsFd) -> io::Result<Space> {
    let found = fstatvfs(mount)?;
    let unit = found.fragment_size();
    Ok(Space {
        free_bytes: found.blocks_available().saturating_mul(unit),
        total_bytes: found.blocks().saturating_mul(unit),
    })
}

fn is_file(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.size() > 0)
}

/// The longest beginning of a text that fits, at a character's edge.
fn cut(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_cut_at_a_character() {
        assert_eq!(cut("abcäöü", 4), "abc");
        assert_eq!(cut("abc", 16), "abc");
    }
}
