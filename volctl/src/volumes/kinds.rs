//! The small words that this room shares: which file system, which generation.

use std::fmt;
use std::str::FromStr;

/// The file systems that volctl can mount, publish and check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FsKind {
    /// ext4, and ext2 or ext3 mounted by its driver.
    Ext4,
    /// XFS.
    Xfs,
    /// btrfs on one device.
    Btrfs,
}

impl FsKind {
    /// The name that mount, mkfs and the tables use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }
}

impl fmt::Display for FsKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// The number of a published state (section 8): the grant epoch, then the count within it, ordered as such.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation {
    /// The epoch of the grant under which it was published.
    pub epoch: u64,
    /// The count within the grant.
    pub count: u64,
}

impl Generation {
    /// Name of the snapshot of this generation inside `.volctl`.
    #[must_use]
    pub fn snapshot_name(self) -> String {
        format!("gen-{}-{}", self.epoch, self.count)
    }

    /// Reads a snapshot name; `None` for any other name, and for numbers written otherwise than we do.
    #[must_use]
    pub fn from_snapshot_name(name: &str) -> Option<Self> {
        let (epoch, count) = name.strip_prefix("gen-")?.split_once('-')?;
        let found = Self { epoch: epoch.parse().ok()?, count: count.parse().ok()? };
        (found.snapshot_name() == name).then_some(found)
    }

    /// Path of the snapshot below the root of the volume, for [`crate::volumes::mounting::mount_reader`].
    #[must_use]
    pub fn snapshot_path(self) -> String {
        format!(".volctl/{}", self.snapshot_name())
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.epoch, self.count)
    }
}

/// A text that is not `epoch.count`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a generation: it must be two numbers with a dot between, such as 41.3")]
pub struct NotAGeneration {
    text: String,
}

impl FromStr for Generation {
    type Err = NotAGeneration;

    fn from_str(text: &str) -> Result<Self, NotAGeneration> {
        let parse = || {
            let (epoch, count) = text.split_once('.')?;
            Some(Self { epoch: epoch.parse().ok()?, count: count.parse().ok()? })
        };
        parse().ok_or_else(|| NotAGeneration { text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::Generation;

    #[test]
    fn generation_is_printed_and_read_as_epoch_dot_count() {
        let generation = Generation { epoch: 41, count: 3 };
        assert_eq!(generation.to_string(), "41.3");
        assert_eq!("41.3".parse(), Ok(generation));
        assert!("41".parse::<Generation>().is_err());
        assert!(Generation { epoch: 2, count: 9 } < Generation { epoch: 10, count: 0 });
    }

    #[test]
    fn only_our_own_spelling_of_a_snapshot_name_counts() {
        let generation = Generation { epoch: 41, count: 3 };
        assert_eq!(Generation::from_snapshot_name("gen-41-3"), Some(generation));
        for other in ["gen-041-3", "gen-41-3x", "gen-41", "gen-+41-3", "41-3", "gen-41-3-1"] {
            assert_eq!(Generation::from_snapshot_name(other), None, "{other}");
        }
    }
}

impl From<ondisk::FsKind> for FsKind {
    fn from(kind: ondisk::FsKind) -> Self {
        match kind {
            ondisk::FsKind::Ext4 => Self::Ext4,
            ondisk::FsKind::Xfs => Self::Xfs,
            ondisk::FsKind::Btrfs => Self::Btrfs,
        }
    }
}

impl From<ondisk::Generation> for Generation {
    fn from(g: ondisk::Generation) -> Self {
        Self { epoch: g.epoch, count: g.count }
    }
}

impl From<Generation> for ondisk::Generation {
    fn from(g: Generation) -> Self {
        Self { epoch: g.epoch, count: g.count }
    }
}
