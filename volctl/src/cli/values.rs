//! Values on the command line: names, messages, durations, sizes, switches, and the words of the tables.

use std::time::Duration;

use clap::ValueEnum;

use crate::units;
use crate::wire::names;

/// Reads the name of a client or a volume.
///
/// # Errors
/// Which rule it breaks.
pub fn name(text: &str) -> Result<String, names::NameError> {
    names::check_name(text).map(|()| text.to_owned())
}

/// Reads a message to another person.
///
/// # Errors
/// Which rule it breaks.
pub fn message(text: &str) -> Result<String, names::NameError> {
    names::check_message(text).map(|()| text.to_owned())
}

/// Reads a duration.
///
/// # Errors
/// What is wrong with it.
pub fn duration(text: &str) -> Result<Duration, units::UnitError> {
    units::parse_duration(text)
}

/// Reads a size in bytes.
///
/// # Errors
/// What is wrong with it.
pub fn size(text: &str) -> Result<u64, units::UnitError> {
    units::parse_size(text)
}

/// A switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnOff {
    /// It is so.
    On,
    /// It is not so.
    Off,
}

impl OnOff {
    /// Whether it is on.
    #[must_use]
    pub const fn is_on(self) -> bool {
        matches!(self, Self::On)
    }
}

/// The lock kind to write into the superblock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LockChoice {
    /// The strongest that is proven to work here: pr, then caw, else bakery
    #[default]
    Auto,
    /// Reads and writes only, on any shared block device
    Bakery,
    /// Persistent reservations of the control volume (SCSI-3, NVMe)
    Pr,
    /// SCSI COMPARE AND WRITE
    Caw,
    /// File locks: clients on one host, or an image on NFSv4, GFS2 or OCFS2
    Ofd,
}

/// A file system that can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FsChoice {
    /// btrfs: readers see snapshots
    Btrfs,
    /// ext4
    Ext4,
    /// XFS
    Xfs,
}

impl FsChoice {
    /// The name that mkfs and mount know.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Btrfs => "btrfs",
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }
}

/// What readers may see while someone writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReadersChoice {
    /// Only published states, while the writer goes on (btrfs)
    Snapshot,
    /// Readers and writer never overlap
    Exclusive,
    /// Possibly a mix of old and new until the next refresh
    Live,
}

/// What a client may do with a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccessChoice {
    /// Nothing
    None,
    /// Read
    Read,
    /// Read, and ask for write access
    Write,
}

/// When a client's daemon gives write access back without asking its person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AutoResponse {
    /// Never
    Off,
    /// When nothing has been written for a while
    Idle,
    /// Always
    Always,
}

/// A key of `volctl set`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VolumeKey {
    /// Whether anybody may write at all
    WriteEnabled,
}

/// A key of `volctl set-client`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ClientKey {
    /// off, idle or always: give write access back without asking the person
    AutoResponse,
    /// on or off: may take over from others
    Admin,
    /// on or off: may log on
    Enabled,
    /// on or off: may not ask for write access
    LockedOut,
    /// on or off: is told of requests and refreshes
    Notify,
}

/// A setting of a client: key and value together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientSetting {
    /// When it answers by itself.
    AutoResponse(AutoResponse),
    /// Whether it may take over.
    Admin(bool),
    /// Whether it may log on.
    Enabled(bool),
    /// Whether it is locked out of requests.
    LockedOut(bool),
    /// Whether it is told.
    Notify(bool),
}
