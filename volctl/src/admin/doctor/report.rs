//! What `doctor` tells, as JSON and for the text: keys are added, never changed.

use ondisk::{LockKind, Timings, Uuid};
use serde::Serialize;

use super::latency::Latency;
use super::propose::Proposal;
use crate::volumes::describe::Description;
use crate::volumes::inflight::Setting;
use crate::wire::outcome::Failure;

/// Everything that was found, and what to make of it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) devices: Vec<Device>,
    /// Which device for what, when there are several.
    pub(super) set: Vec<String>,
}

/// One device, or why nothing can be said of it.
#[derive(Debug, Serialize)]
pub(super) struct Device {
    pub(super) path: String,
    #[serde(flatten)]
    pub(super) found: Option<Box<Found>>,
    /// Why it is left out, or could not be read.
    pub(super) failure: Option<Failure>,
}

#[derive(Debug, Serialize)]
pub(super) struct Found {
    #[serde(flatten)]
    pub(super) description: Description,
    pub(super) size: u64,
    pub(super) logical_sector: Option<u32>,
    pub(super) physical_block: Option<u32>,
    pub(super) read_only: bool,
    pub(super) direct_io: Direct,
    pub(super) contents: Holds,
    pub(super) used_by: Vec<String>,
    pub(super) latency: Latency,
    pub(super) inflight: Late,
    pub(super) settings: Vec<Setting>,
    /// What the gates of a volume on it would be here.
    pub(super) gate: String,
    pub(super) reservations: Tried,
    pub(super) compare_and_write: Tried,
    #[serde(rename = "use")]
    pub(super) good_for: Use,
    /// Can be pasted; None where there is nothing to do.
    pub(super) command: Option<String>,
    /// Why it is good for that.
    pub(super) because: String,
    pub(super) proposal: Proposal,
    /// Number of the device, or file system and inode: two paths of one thing have one.
    #[serde(skip)]
    pub(super) same: (u64, u64),
}

/// Whether direct I/O was seen to work.
#[derive(Debug, Serialize)]
pub(super) struct Direct {
    pub(super) works: bool,
    pub(super) why: Option<String>,
}

/// What stands on it.
#[derive(Debug, Serialize)]
pub(super) struct Holds {
    pub(super) kind: &'static str,
    pub(super) text: String,
    pub(super) control: Option<Control>,
}

/// What a control volume says of itself.
#[derive(Debug, Serialize)]
pub(super) struct Control {
    pub(super) uuid: Uuid,
    pub(super) label: String,
    pub(super) lock: LockKind,
    #[serde(flatten)]
    pub(super) timings: Timings,
    /// Whose slots were seen to change.
    pub(super) beating: Vec<String>,
}

/// How late a write can be.
#[derive(Debug, Serialize)]
pub(super) struct Late {
    /// `bounded`, `unbounded` or `unknown`.
    pub(super) bound: &'static str,
    pub(super) ms: Option<u64>,
    pub(super) why: Option<String>,
}

/// A thing that only trying can tell.
#[derive(Debug, Serialize)]
pub(super) struct Tried {
    pub(super) tried: bool,
    pub(super) text: String,
}

/// What a device is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Use {
    /// Empty and large enough for the tables; a volume can be made there as well.
    Control,
    /// It holds a file system that can be adopted.
    Volume,
    /// It is a control volume or a volume already.
    Already,
    /// Something is in the way.
    Nothing,
}
