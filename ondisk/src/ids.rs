//! Newtypes for every number that means something on disk.

use std::fmt;

use binrw::binrw;
use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[binrw]
        #[brw(little)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// The number of a client's slot, 0 to max_clients + 3 (the last four are administration slots).
    SlotIndex(u16)
}
number! {
    /// The number of a volume control table, 0 to max_volumes - 1.
    VolumeIndex(u16)
}
number! {
    /// The number of a client's login; grows at each, 0 = never logged on.
    Incarnation(u64)
}
number! {
    /// A bakery ticket; the ticket of a tenure is its epoch, the fencing token. Never lowered, never repeated.
    Ticket(u64)
}
number! {
    /// The random identity of a request, kept over restarts.
    RequestId(u64)
}

impl SlotIndex {
    /// The slot as an index into arrays.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl VolumeIndex {
    /// The volume as an index into arrays.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl Incarnation {
    /// Which of the two sectors of a slot this incarnation writes: odd the first, even the second (section 4).
    pub fn sector(self) -> usize {
        usize::from(self.0.is_multiple_of(2))
    }
}

/// The number of a commit: the epoch of its tenure and the count within the tenure. Ordered, never repeated.
#[binrw]
#[brw(little)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct CommitNo {
    /// The epoch (ticket) of the semaphore tenure.
    pub epoch: u64,
    /// The count of the commit within the tenure, from 1.
    pub count: u64,
}

impl fmt::Display for CommitNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.count)
    }
}

/// The number of a published state of a volume: the grant's epoch and the count within the grant (section 8).
#[binrw]
#[brw(little)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation {
    /// The epoch of the grant under which it was published.
    pub epoch: u64,
    /// The count of the publish within the grant, from 1.
    pub count: u64,
}

impl Generation {
    /// The generation of a volume that was never published.
    pub const NONE: Self = Self { epoch: 0, count: 0 };

    /// True for a volume that was never published.
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.count)
    }
}

impl std::str::FromStr for Generation {
    type Err = std::num::ParseIntError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let (epoch, count) = s.split_once('.').unwrap_or((s, ""));
        Ok(Self { epoch: epoch.parse()?, count: count.parse()? })
    }
}

impl Serialize for Generation {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Generation {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The random identity of one running daemon (or one administration command).
#[binrw]
#[brw(little)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct DaemonId(pub [u8; 16]);

impl fmt::Display for DaemonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.0).fmt(f)
    }
}

/// How long a host may hold back a write to a volume (section 6, "Two waits").
#[binrw]
#[brw(little)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InFlight(pub u64);

impl InFlight {
    /// Every write that returned or failed is over: a regular file on local storage.
    pub const ZERO: Self = Self(0);
    /// No bound is known, or there is none: no takeover without reservations or a human.
    pub const UNBOUNDED: Self = Self(u64::MAX);

    /// The bound, or None where there is none.
    pub fn bound(self) -> Option<std::time::Duration> {
        (self != Self::UNBOUNDED).then(|| std::time::Duration::from_millis(self.0))
    }
}

impl Default for InFlight {
    fn default() -> Self {
        Self::UNBOUNDED
    }
}
