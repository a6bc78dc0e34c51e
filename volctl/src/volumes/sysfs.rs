//! Finding a block device in sysfs, and what is under it. The root is a parameter so that tests can build a tree.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};

/// A view of sysfs.
#[derive(Debug, Clone)]
pub(super) struct SysFs {
    root: PathBuf,
}

impl SysFs {
    /// The real one.
    pub(super) fn real() -> Self {
        Self { root: PathBuf::from("/sys") }
    }

    /// A tree made by a test.
    #[cfg(test)]
    pub(super) fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// A path below the root of sysfs.
    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// The directory of a block device number, all links resolved.
    pub(super) fn block(&self, device: u64) -> Option<PathBuf> {
        let link = self.root.join(format!("dev/block/{}:{}", major(device), minor(device)));
        fs::canonicalize(link).ok()
    }

    /// The whole disk to which a block device directory belongs: itself, or the parent of a partition.
    pub(super) fn disk(directory: &Path) -> PathBuf {
        match directory.parent() {
            Some(parent) if directory.join("partition").exists() => parent.to_owned(),
            _ => directory.to_owned(),
        }
    }
}

/// The text of an attribute without its line end; `None` when there is none or it is empty.
pub(super) fn attribute(directory: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(directory.join(name)).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The entries of a directory, sorted by name; empty when it cannot be read.
pub(super) fn entries(directory: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(directory).map(|list| list.flatten().map(|entry| entry.path()).collect()).unwrap_or_default();
    found.sort();
    found
}

/// The last part of a path as text; empty when there is none.
pub(super) fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}
