//! Which device of the kernel a gate is.

use std::fmt;
use std::path::PathBuf;

/// Names a gate's device for as long as somebody holds the gate; after that the number may mean another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Node {
    /// N of /dev/loopN.
    Loop(u32),
    /// N of /dev/dm-N.
    Mapped(u32),
}

impl Node {
    /// As the kernel calls it, in /sys/block and in /dev.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Loop(number) => format!("loop{number}"),
            Self::Mapped(number) => format!("dm-{number}"),
        }
    }

    /// Path of the node, which the kernel makes by itself: nothing here waits for udev.
    #[must_use]
    pub fn path(self) -> PathBuf {
        PathBuf::from(format!("/dev/{}", self.name()))
    }

    /// What the kernel may show as the source of a mount of it. btrfs shows the path by which it met the device first or last, and udev's
    /// rules may have called a mapped one by its other name.
    #[must_use]
    pub fn sources(self) -> Vec<String> {
        let mut sources = vec![self.to_string()];
        if let Self::Mapped(_) = self
            && let Ok(name) = std::fs::read_to_string(format!("/sys/block/{}/dm/name", self.name()))
        {
            sources.push(format!("/dev/mapper/{}", name.trim_end()));
        }
        sources
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/dev/{}", self.name())
    }
}
