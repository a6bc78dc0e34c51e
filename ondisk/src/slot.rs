//! A slot sector: one client's beat, bakery fields and marks, written by that client only (section 4).
//!
//! Each slot has two sectors; odd incarnations write the first, even ones the second.
//! The head's stamp is (incarnation, beat counter).
//!
//! | offset | size | type | field | meaning |
//! | --- | --- | --- | --- | --- |
//! | 0 | 64 | head | head | kind 2; stamp = incarnation . beat counter |
//! | 64 | 8 | u64 | page_sequence | sequence of the client page written before this sector |
//! | 72 | 8 | u64 | ticket | bakery ticket; never lowered, never repeated |
//! | 80 | 1 | flag | choosing | draws a ticket |
//! | 81 | 1 | flag | waiting | holds or waits for the semaphore with `ticket` |
//! | 82 | 1 | flag | logged_on | the daemon is logged on |
//! | 83 | 1 | flag | gui | a window is connected |
//! | 84 | 4 | u32 | reserved | zero |
//! | 88 | 16 | commit | acknowledged | highest commit number this client ever acknowledged |
//! | 104 | 16 | bytes | daemon_id | random id of the running daemon |
//! | 120 | 16 | bytes | machine_id | of the host |
//! | 136 | 16 | bytes | boot_id | of the host's kernel |
//! | 152 | 8 | u64 | lock_device | st_dev of the lock file it holds |
//! | 160 | 8 | u64 | lock_inode | st_ino of the lock file it holds |

use binrw::binrw;
use serde::Serialize;

use crate::block::{self, Kind, Place, Stamp};
use crate::codec::Flag;
use crate::error::Verdict;
use crate::ids::{CommitNo, DaemonId, Incarnation, Ticket};

/// Smallest stride: one 512-byte sector.
pub const MIN_STRIDE: u32 = 512;
/// Largest stride: the largest block a Linux device can have.
pub const MAX_STRIDE: u32 = 65536;

/// The lock file that a running daemon holds on its host, by which a later daemon proves it gone (section 6).
#[binrw]
#[brw(little)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub struct LockFile {
    /// st_dev.
    pub device: u64,
    /// st_ino.
    pub inode: u64,
}

/// One sector of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SlotSector {
    /// The login that wrote it.
    pub incarnation: Incarnation,
    /// Grows at most once a `beat`, however often the slot is written.
    pub beat: u64,
    /// Sequence of the client page written before it.
    pub page_sequence: u64,
    /// The last ticket drawn.
    pub ticket: Ticket,
    /// Draws a ticket.
    pub choosing: bool,
    /// Waits for or holds the semaphore.
    pub waiting: bool,
    /// The daemon is logged on.
    pub logged_on: bool,
    /// A window is connected.
    pub gui: bool,
    /// Highest commit ever acknowledged by this client.
    pub acknowledged: CommitNo,
    /// The running daemon.
    pub daemon_id: DaemonId,
    /// The host.
    pub machine_id: [u8; 16],
    /// The host's boot.
    pub boot_id: [u8; 16],
    /// The daemon's lock file.
    pub lock_file: LockFile,
}

#[binrw]
#[brw(little)]
struct Body {
    page_sequence: u64,
    ticket: Ticket,
    #[br(parse_with = Flag::parse)]
    #[bw(write_with = Flag::write)]
    choosing: bool,
    #[br(parse_with = Flag::parse)]
    #[bw(write_with = Flag::write)]
    waiting: bool,
    #[br(parse_with = Flag::parse)]
    #[bw(write_with = Flag::write)]
    logged_on: bool,
    #[br(parse_with = Flag::parse)]
    #[bw(write_with = Flag::write)]
    gui: bool,
    #[br(temp, assert(reserved == 0))]
    #[bw(calc = 0)]
    reserved: u32,
    acknowledged: CommitNo,
    daemon_id: DaemonId,
    machine_id: [u8; 16],
    boot_id: [u8; 16],
    lock_file: LockFile,
}

impl SlotSector {
    /// Writes the sector into `block` (one stride long). Does not allocate: it lies on the beat path.
    pub fn encode(&self, place: Place, block: &mut [u8]) {
        let body = Body {
            page_sequence: self.page_sequence,
            ticket: self.ticket,
            choosing: self.choosing,
            waiting: self.waiting,
            logged_on: self.logged_on,
            gui: self.gui,
            acknowledged: self.acknowledged,
            daemon_id: self.daemon_id,
            machine_id: self.machine_id,
            boot_id: self.boot_id,
            lock_file: self.lock_file,
        };
        let stamp = Stamp { major: self.incarnation.0, minor: self.beat };
        block::seal(block, Kind::Slot, place, stamp, &body);
    }

    /// Decodes a sector read from `place`.
    pub fn decode(block: &[u8], place: Place) -> Verdict<Self> {
        block::open(block, Kind::Slot, Some(place.table), place.offset).and_then(|opened| {
            let b: Body = block::body(&opened, (), "slot")?;
            Ok(Self {
                incarnation: Incarnation(opened.stamp.major),
                beat: opened.stamp.minor,
                page_sequence: b.page_sequence,
                ticket: b.ticket,
                choosing: b.choosing,
                waiting: b.waiting,
                logged_on: b.logged_on,
                gui: b.gui,
                acknowledged: b.acknowledged,
                daemon_id: b.daemon_id,
                machine_id: b.machine_id,
                boot_id: b.boot_id,
                lock_file: b.lock_file,
            })
        })
    }
}
