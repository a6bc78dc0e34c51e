//! Persistent reservations and COMPARE AND WRITE: what a device can do beyond reading and writing.
//!
//! [`Commands`] is what a device offers: `/dev` nodes through the kernel ([`node`]), the tests' targets in memory
//! ([`target`]). [`prove()`] finds out by doing it, never by believing a bit.
//!
//! A registration belongs to a host's path (an initiator port), not to a process: two processes of one host
//! have one key, and a key outlives the host that registered it.

use std::fmt;
use std::io;

pub mod fence;
mod key;
pub mod node;
mod prove;
#[doc(hidden)]
pub mod target;

pub use key::Key;
pub use prove::{Caw, Proof, ReservationProof, prove_caw, prove_reservations};

/// The kind of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Whoever is registered may write, everybody may read; one registrant holds it.
    WriteRegistrants,
    /// The same, and every registrant holds it: it lasts as long as anybody is registered.
    WriteAllRegistrants,
    /// One that this program never makes, with the number that the device gave.
    Other(u8),
}

impl Kind {
    /// By its number in SCSI's answers.
    pub fn of_scsi(number: u8) -> Self {
        match number {
            5 => Self::WriteRegistrants,
            7 => Self::WriteAllRegistrants,
            other => Self::Other(other),
        }
    }

    /// By its number in the kernel's ioctls and in NVMe.
    pub fn of_ioctl(number: u32) -> Self {
        match number {
            3 => Self::WriteRegistrants,
            5 => Self::WriteAllRegistrants,
            other => Self::Other(u8::try_from(other).unwrap_or(u8::MAX)),
        }
    }

    /// Its number for the kernel.
    pub fn number(self) -> u32 {
        match self {
            Self::WriteRegistrants => 3,
            Self::WriteAllRegistrants => 5,
            Self::Other(number) => number.into(),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WriteRegistrants => out.write_str("write exclusive, registrants only"),
            Self::WriteAllRegistrants => out.write_str("write exclusive, all registrants"),
            Self::Other(number) => write!(out, "of kind {number}"),
        }
    }
}

/// A reservation that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Held {
    /// The holder's key; zero where all registrants hold it and the device says so.
    pub key: u64,
    /// Its kind.
    pub kind: Kind,
}

/// Why a command did not do what it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The device holds a registration or reservation against it; nothing was done.
    #[error("the device refused it: a reservation conflict")]
    Conflict,
    /// The device, or the kernel on the way to it, does not know this; nothing was done.
    #[error("not supported here: {0}")]
    Unsupported(String),
    /// Anything else: it may have been done, or may yet be.
    #[error("no known result: {0}")]
    Unknown(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EOPNOTSUPP | libc::ENOTTY | libc::EINVAL | libc::ENOSYS) => Self::Unsupported(error.to_string()),
            Some(libc::EBADE) => Self::Conflict,
            _ => Self::Unknown(error.to_string()),
        }
    }
}

/// How a compare-and-write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Swap {
    /// The bytes were as expected, and are the new ones now.
    Done,
    /// They were others, and still are.
    Differs,
}

/// What a device can do beyond reading and writing. Every call acts for this host's path to it.
pub trait Commands: Send + Sync {
    /// Registers `new` in the place of `old` (zero: not registered yet; `new` zero: not any more).
    ///
    /// # Errors
    /// [`Fault::Conflict`] when this path is registered with another key than `old`.
    fn register(&self, old: u64, new: u64) -> Result<(), Fault>;
    /// Registers `new`, whatever key this path had.
    ///
    /// # Errors
    /// The device's.
    fn register_anyhow(&self, new: u64) -> Result<(), Fault>;
    /// Takes the reservation for the registered `key`.
    ///
    /// # Errors
    /// [`Fault::Conflict`] when another holds one, or `key` is not the own one.
    fn reserve(&self, key: u64, kind: Kind) -> Result<(), Fault>;
    /// Gives it back.
    ///
    /// # Errors
    /// The device's.
    fn release(&self, key: u64, kind: Kind) -> Result<(), Fault>;
    /// Throws out everyone registered with `victim`, ends the commands that they have under way, and takes over what
    /// they held.
    ///
    /// # Errors
    /// [`Fault::Conflict`] when `victim` is registered no more, or `own` is not the own key.
    fn preempt(&self, own: u64, victim: u64, kind: Kind) -> Result<(), Fault>;
    /// Ends all registrations and the reservation.
    ///
    /// # Errors
    /// The device's.
    fn clear(&self, own: u64) -> Result<(), Fault>;
    /// All registered keys, one for each path.
    ///
    /// # Errors
    /// The device's.
    fn keys(&self) -> Result<Vec<u64>, Fault>;
    /// The reservation that stands.
    ///
    /// # Errors
    /// The device's.
    fn reservation(&self) -> Result<Option<Held>, Fault>;
    /// A write that changes nothing, whatever else is under way, and that a reservation against this host must refuse: SCSI's
    /// COMPARE AND WRITE of equal bytes, NVMe's flush. [`Fault::Conflict`] is the refused write that proves a reservation. (SCSI
    /// commands that send no data are let through by Linux's target, and hypervisors answer some of them themselves.)
    ///
    /// # Errors
    /// The device's.
    fn write_nothing(&self) -> Result<(), Fault>;
    /// Writes the block `new` at `offset` if it is `expected` there, as one act of the device.
    ///
    /// # Errors
    /// After [`Fault::Unknown`] read it back: it may have been done.
    fn compare_and_write(&self, offset: u64, expected: &[u8], new: &[u8]) -> Result<Swap, Fault>;
}

/// Is this the error of a write that a reservation refused?
pub fn refused_by_reservation(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBADE)
}
