//! What each block says, ready to print: UUIDs, enums and numbers of commits and generations as words.

mod page;
mod tables;

use serde::Serialize;
use uuid::Uuid;

use crate::block::VERSION;
use crate::header::TableHeader;
use crate::ids::{InFlight, Incarnation, SlotIndex, Ticket};
use crate::semaphore_word::SemaphoreWord;
use crate::slot::{LockFile, SlotSector};
use crate::superblock::{LockKind, RegionKind, Superblock, Timings};
use crate::text::Label;

pub use page::{AnswerView, EntryOfPage, PageView, RequestView};
pub use tables::{CellView, ClientView, EnvelopeView, GrantView, NextView, PermissionView, VolumeView};

/// A region.
#[derive(Debug, Clone, Serialize)]
pub struct RegionView {
    /// Its kind in words, "unknown" for kinds to come.
    pub kind: &'static str,
    /// Its kind's number.
    pub number: u32,
    /// First byte.
    pub first: u64,
    /// Bytes.
    pub length: u64,
}

/// A superblock.
#[derive(Debug, Clone, Serialize)]
pub struct SuperblockView {
    /// Identity of the control volume.
    pub uuid: Uuid,
    /// For people.
    pub label: Label,
    /// Format version.
    pub version: u16,
    /// The semaphore's kind.
    pub lock: LockKind,
    /// Clients.
    pub max_clients: u16,
    /// Volumes.
    pub max_volumes: u16,
    /// Bytes of a slot sector.
    pub stride: u32,
    /// Bytes.
    pub total: u64,
    /// Seconds since 1970.
    pub created: i64,
    /// Milliseconds.
    pub timings: Timings,
    /// Feature flags.
    pub compatible: u32,
    /// Feature flags.
    pub read_only: u32,
    /// Feature flags.
    pub incompatible: u32,
    /// All regions, unknown ones too.
    pub regions: Vec<RegionView>,
}

impl SuperblockView {
    /// The view of a superblock.
    pub fn of(sb: &Superblock) -> Self {
        let regions = sb.regions.iter().map(|r| RegionView {
            kind: match RegionKind::of(r.kind) {
                Some(RegionKind::Slots) => "slots",
                Some(RegionKind::Header) => "header",
                Some(RegionKind::Pages) => "pages",
                Some(RegionKind::ClientCells) => "client_cells",
                Some(RegionKind::VolumeCells) => "volume_cells",
                Some(RegionKind::Semaphore) => "semaphore",
                None => "unknown",
            },
            number: r.kind,
            first: r.first,
            length: r.length,
        });
        Self {
            uuid: sb.uuid,
            label: sb.label.clone(),
            version: VERSION,
            lock: sb.lock,
            max_clients: sb.max_clients,
            max_volumes: sb.max_volumes,
            stride: sb.stride,
            total: sb.total,
            created: sb.created,
            timings: sb.timings,
            compatible: sb.compatible,
            read_only: sb.read_only,
            incompatible: sb.incompatible,
            regions: regions.collect(),
        }
    }
}

/// A semaphore word.
#[derive(Debug, Clone, Serialize)]
pub struct SemaphoreWordView {
    /// The tenure that wrote it.
    pub epoch: Ticket,
    /// Whose tenure lasts; None: free.
    pub slot: Option<SlotIndex>,
    /// Which login.
    pub incarnation: Option<Incarnation>,
    /// Which daemon.
    pub daemon_id: Option<String>,
}

impl SemaphoreWordView {
    /// The view of a word.
    pub fn of(word: &SemaphoreWord) -> Self {
        Self {
            epoch: word.epoch,
            slot: word.holder.map(|h| h.slot),
            incarnation: word.holder.map(|h| h.incarnation),
            daemon_id: word.holder.map(|h| h.daemon.to_string()),
        }
    }
}

/// A slot sector.
#[derive(Debug, Clone, Serialize)]
pub struct SlotView {
    /// The login.
    pub incarnation: Incarnation,
    /// Beat counter.
    pub beat: u64,
    /// Sequence of the page written before it.
    pub page_sequence: u64,
    /// Last ticket drawn.
    pub ticket: Ticket,
    /// Draws a ticket.
    pub choosing: bool,
    /// Waits for or holds the semaphore.
    pub waiting: bool,
    /// Is logged on.
    pub logged_on: bool,
    /// A window is connected.
    pub gui: bool,
    /// Highest commit acknowledged, epoch.count.
    pub acknowledged: String,
    /// The running daemon.
    pub daemon_id: String,
    /// The host, as in /etc/machine-id.
    pub machine_id: String,
    /// The host's boot.
    pub boot_id: Uuid,
    /// The lock file held.
    pub lock_file: LockFile,
}

impl SlotView {
    /// The view of a sector.
    pub fn of(s: &SlotSector) -> Self {
        Self {
            incarnation: s.incarnation,
            beat: s.beat,
            page_sequence: s.page_sequence,
            ticket: s.ticket,
            choosing: s.choosing,
            waiting: s.waiting,
            logged_on: s.logged_on,
            gui: s.gui,
            acknowledged: s.acknowledged.to_string(),
            daemon_id: s.daemon_id.to_string(),
            machine_id: Uuid::from_bytes(s.machine_id).simple().to_string(),
            boot_id: Uuid::from_bytes(s.boot_id),
            lock_file: s.lock_file,
        }
    }
}

/// What the header says of a cell.
#[derive(Debug, Clone, Serialize)]
pub struct EntryView {
    /// The version that counts.
    pub version: u8,
    /// Its checksum, hexadecimal.
    pub crc: String,
    /// Its commit, epoch.count.
    pub commit: String,
}

/// A table header.
#[derive(Debug, Clone, Serialize)]
pub struct HeaderView {
    /// Its commit, epoch.count.
    pub commit: String,
    /// How often the tables were opened.
    pub opened: u64,
    /// Client records in use.
    pub clients: u16,
    /// Volume control tables in use.
    pub volumes: u16,
    /// Highest reaped incarnation by slot.
    pub reaped: Vec<Incarnation>,
    /// By cell, client records first.
    pub cells: Vec<EntryView>,
}

impl HeaderView {
    /// The view of a header.
    pub fn of(h: &TableHeader) -> Self {
        let cells = h.cells.iter().map(|c| EntryView {
            version: c.version,
            crc: format!("{:08x}", c.crc),
            commit: c.commit.to_string(),
        });
        Self {
            commit: h.commit.to_string(),
            opened: h.opened,
            clients: h.clients,
            volumes: h.volumes,
            reaped: h.reaped.clone(),
            cells: cells.collect(),
        }
    }
}

fn bound(inflight: InFlight) -> Option<u64> {
    (inflight != InFlight::UNBOUNDED).then_some(inflight.0)
}
