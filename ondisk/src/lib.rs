//! The on-disk format of the control volume: bytes in, bytes out (section 4 of the design).
//!
//! No I/O, no clock, no thread. Every block opens with the same [`block`] head, so that a block read from the
//! wrong place, of the wrong table, or half-written is recognised as such. `docs/ondisk.md` has the offset tables.
#![forbid(unsafe_code)]

pub mod block;
pub mod client_page;
pub mod client_record;
pub mod codec;
pub mod dump;
pub mod elect;
pub mod envelope;
pub mod error;
pub mod geometry;
pub mod header;
pub mod ids;
pub mod semaphore_word;
pub mod slot;
pub mod superblock;
pub mod text;
pub mod volume_table;

pub use block::{Place, Stamp};
pub use client_page::{Answer, AnswerVerdict, ClientPage, MountState, Request, VolumeEntry};
pub use client_record::{AutoResponse, ClientRecord};
pub use dump::Dump;
pub use error::{Corrupt, Verdict};
pub use geometry::{CellId, Geometry};
pub use header::{CellEntry, TableHeader};
pub use ids::{CommitNo, DaemonId, Generation, InFlight, Incarnation, RequestId, SlotIndex, Ticket, VolumeIndex};
pub use semaphore_word::SemaphoreWord;
pub use slot::{LockFile, SlotSector};
pub use superblock::{LockKind, Superblock, Timings};
pub use text::{Label, Message, Name};
pub use uuid::Uuid;
pub use volume_table::{
    Access, FsKind, Grant, GrantState, Identity, NextWriter, Permission, ReadersPolicy, VolumeTable,
};
