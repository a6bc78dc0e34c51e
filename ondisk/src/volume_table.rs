//! The volume control table: what the tables say of one volume; a cell, under the semaphore only (section 4).
//!
//! | offset | size | type | field | meaning |
//! | --- | --- | --- | --- | --- |
//! | 0 | 64 | head | head | kind 6; stamp = commit number |
//! | 64 | 1 | flag | present | 0: not in use, all the rest zero |
//! | 65 | 64 | text | name | 1 to 63 bytes |
//! | 129 | 16 | uuid | uuid | of the volume |
//! | 145 | 16 | uuid | fs_uuid | of the file system |
//! | 161 | 16 | uuid | partition | of the partition, nil if none |
//! | 177 | 64 | text | wwid | of the device, empty if none |
//! | 241 | 8 | u64 | size | bytes of the device |
//! | 249 | 1 | flag | enveloped | the file system lies behind a 1 MiB header |
//! | 250 | 1 | u8 | fs | 1 ext4, 2 XFS, 3 btrfs |
//! | 251 | 1 | u8 | readers | 1 snapshot, 2 exclusive, 3 live |
//! | 252 | 1 | flag | write_enabled | anyone may write (1392) |
//! | 253 | 256 | text | device | path of the device as it was added |
//! | 509 | 1 | flag | writer present | 0: nobody writes (1394), the next 28 bytes are zero |
//! | 510 | 2 | u16 | writer slot | of the writer, a client's |
//! | 512 | 8 | u64 | writer incarnation | of the writer |
//! | 520 | 8 | u64 | writer epoch | the epoch that gave the grant |
//! | 528 | 8 | u64 | writer in-flight | milliseconds; all ones: no bound |
//! | 536 | 1 | u8 | writer state | 1 pending, 2 held, 3 revoked |
//! | 537 | 1 | u8 | writer reserved | zero |
//! | 538 | 8 | u64 | dirty_since | grant epoch, 0 = clean |
//! | 546 | 1 | flag | next present | 0: promised to nobody, the next 18 bytes are zero |
//! | 547 | 2 | u16 | next slot | who was promised it, a client's |
//! | 549 | 8 | u64 | next incarnation | of that client |
//! | 557 | 8 | u64 | next request | random id of its request |
//! | 565 | 16 | generation | last | last generation published before a release |
//! | 581 | 8 | i64 | modified | milliseconds since 1970 of that publish, for people |
//! | 589 | 1 | flag | check_due | the last writer died; the file system is checked at the next release |
//! | 590 | 50 | bytes | reserved | zero |
//! | 640 | 8 x clients | clients x 8 | permissions | one permission entry per client slot |
//!
//! Permission entry:
//!
//! | offset | size | type | field | meaning |
//! | --- | --- | --- | --- | --- |
//! | 0 | 1 | u8 | access | 0 none, 1 read, 2 write (1388) |
//! | 1 | 1 | flag | lockout | may not ask for the write privilege (1396) |
//! | 2 | 1 | flag | auto_update | switches to newer generations by itself (1384) |
//! | 3 | 1 | u8 | reserved | zero |
//! | 4 | 4 | u32 | check | how often it looks for a newer generation, milliseconds |

use binrw::binrw;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::block::{self, Kind, Place};
use crate::codec::{Flag, Maybe, uuid_bytes};
use crate::error::{Corrupt, Verdict};
use crate::ids::{CommitNo, Generation, InFlight, Incarnation, RequestId, SlotIndex};
use crate::text::{Label, Message, Name};

/// A file system that volctl gates.
#[binrw]
#[brw(little, repr = u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum FsKind {
    /// ext4.
    Ext4 = 1,
    /// XFS.
    Xfs = 2,
    /// btrfs.
    Btrfs = 3,
}

impl FsKind {
    /// The name the kernel knows it by.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }
}

impl std::fmt::Display for FsKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

/// What a reader may see while the writer goes on (section 8).
#[binrw]
#[brw(little, repr = u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum ReadersPolicy {
    /// Every byte read belongs to one published state (btrfs).
    Snapshot = 1,
    /// Readers and the writer never overlap.
    Exclusive = 2,
    /// Clean at the moment of a publish; mixed after that.
    Live = 3,
}

impl ReadersPolicy {
    /// The word used on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Exclusive => "exclusive",
            Self::Live => "live",
        }
    }
}

/// What a client may do with a volume (1388).
#[binrw]
#[brw(little, repr = u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Access {
    /// Nothing: the gate stays locked.
    #[default]
    None = 0,
    /// Mount read-only.
    Read = 1,
    /// Ask for the write privilege.
    Write = 2,
}

impl Access {
    /// The word used on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// How far a grant has come.
#[binrw]
#[brw(little, repr = u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum GrantState {
    /// Taken, not yet mounted read-write: `exclusive` waits for the readers' gates.
    Pending = 1,
    /// The writer may write.
    Held = 2,
    /// An administrator took it back; the writer must stop.
    Revoked = 3,
}

/// The write privilege as the table has it (1394).
#[binrw]
#[brw(little)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Grant {
    /// Who holds it.
    pub slot: SlotIndex,
    /// Which login of it.
    pub incarnation: Incarnation,
    /// The epoch that gave it: the fencing token.
    pub epoch: u64,
    /// How long its host may hold back writes.
    pub inflight: InFlight,
    /// How far it has come.
    pub state: GrantState,
    #[br(temp, assert(reserved == 0))]
    #[bw(calc = 0)]
    reserved: u8,
}

impl Grant {
    const ROOM: usize = 28;

    /// A grant.
    pub fn new(slot: SlotIndex, incarnation: Incarnation, epoch: u64, inflight: InFlight, state: GrantState) -> Self {
        Self { slot, incarnation, epoch, inflight, state }
    }
}

/// Who was promised the write privilege at a release (section 7).
#[binrw]
#[brw(little)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct NextWriter {
    /// The client.
    pub slot: SlotIndex,
    /// Which login of it.
    pub incarnation: Incarnation,
    /// For which of its requests.
    pub request: RequestId,
}

impl NextWriter {
    const ROOM: usize = 18;
}

/// What one client may do with the volume.
#[binrw]
#[brw(little)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Permission {
    /// Mount access (1388).
    pub access: Access,
    /// May not ask for the write privilege (1396).
    #[br(parse_with = Flag::parse)]
    #[bw(write_with = Flag::write)]
    pub lockout: bool,
    /// Switches to newer generations by itself (1384).
    #[br(parse_with = Flag::parse)]
    #[bw(write_with = Flag::write)]
    pub auto_update: bool,
    #[br(temp, assert(reserved == 0))]
    #[bw(calc = 0)]
    reserved: u8,
    /// How often it looks for a newer generation, milliseconds.
    pub check_ms: u32,
}

impl Permission {
    const ROOM: usize = 8;

    /// A permission.
    pub fn new(access: Access, lockout: bool, auto_update: bool, check_ms: u32) -> Self {
        Self { access, lockout, auto_update, check_ms }
    }
}

impl Default for Permission {
    fn default() -> Self {
        Self::new(Access::None, false, true, 2000)
    }
}

/// How a device is recognised as this volume.
#[binrw]
#[brw(little)]
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Identity {
    /// Of the file system.
    #[br(parse_with = uuid_bytes::parse)]
    #[bw(write_with = uuid_bytes::write)]
    pub fs_uuid: Uuid,
    /// Of the partition, nil if none.
    #[br(parse_with = uuid_bytes::parse)]
    #[bw(write_with = uuid_bytes::write)]
    pub partition: Uuid,
    /// World-wide id of the device, empty if none.
    pub wwid: Label,
    /// Bytes of the device.
    pub size: u64,
    /// The file system lies behind an envelope.
    #[br(parse_with = Flag::parse)]
    #[bw(write_with = Flag::write)]
    pub enveloped: bool,
}

/// A volume control table.
#[binrw]
#[brw(little)]
#[br(import(clients: usize))]
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct VolumeTable {
    /// Its name.
    pub name: Name,
    /// Its identity in the tables.
    #[br(parse_with = uuid_bytes::parse)]
    #[bw(write_with = uuid_bytes::write)]
    pub uuid: Uuid,
    /// How its device is recognised.
    pub identity: Identity,
    /// Its file system.
    pub fs: FsKind,
    /// What readers may see.
    pub readers: ReadersPolicy,
    /// Whether anyone may write (1392).
    #[br(parse_with = Flag::parse)]
    #[bw(write_with = Flag::write)]
    pub write_enabled: bool,
    /// The device's path as it was added; a client's `[devices]` overrides it.
    pub device: Message,
    /// The writer, or none.
    #[br(parse_with = read_grant)]
    #[bw(write_with = write_grant)]
    pub writer: Option<Grant>,
    /// The grant epoch since which it is dirty, 0 = clean.
    pub dirty_since: u64,
    /// Who was promised it.
    #[br(parse_with = read_next)]
    #[bw(write_with = write_next)]
    pub next: Option<NextWriter>,
    /// The last generation written at a release.
    pub last: Generation,
    /// When that was, milliseconds since 1970.
    pub modified_ms: i64,
    /// The last writer died; to be checked at the next release.
    #[br(parse_with = Flag::parse)]
    #[bw(write_with = Flag::write)]
    pub check_due: bool,
    #[br(temp, assert(reserved == [0; 50]))]
    #[bw(calc = [0; 50])]
    reserved: [u8; 50],
    /// One per client slot.
    #[br(count = clients)]
    pub permissions: Vec<Permission>,
}

#[binrw::parser(reader, endian)]
fn read_grant() -> binrw::BinResult<Option<Grant>> {
    Maybe::read(reader, endian, Grant::ROOM)
}

#[binrw::writer(writer, endian)]
fn write_grant(grant: &Option<Grant>) -> binrw::BinResult<()> {
    Maybe::write(grant.as_ref(), writer, endian, Grant::ROOM)
}

#[binrw::parser(reader, endian)]
fn read_next() -> binrw::BinResult<Option<NextWriter>> {
    Maybe::read(reader, endian, NextWriter::ROOM)
}

#[binrw::writer(writer, endian)]
fn write_next(next: &Option<NextWriter>) -> binrw::BinResult<()> {
    Maybe::write(next.as_ref(), writer, endian, NextWriter::ROOM)
}

/// Bytes from behind `present` to the permissions.
const ROOM: usize = 575;

struct Body(Option<VolumeTable>);

impl binrw::BinRead for Body {
    type Args<'a> = (usize,);
    fn read_options<R: std::io::Read + std::io::Seek>(
        r: &mut R,
        e: binrw::Endian,
        (clients,): (usize,),
    ) -> binrw::BinResult<Self> {
        let pos = r.stream_position()?;
        match u8::read_options(r, e, ())? {
            0 => {
                let mut rest = vec![0u8; ROOM + Permission::ROOM * clients];
                r.read_exact(&mut rest)?;
                if rest.iter().any(|b| *b != 0) {
                    return Err(binrw::Error::AssertFail { pos, message: "absent table".to_owned() });
                }
                Ok(Self(None))
            }
            1 => Ok(Self(Some(VolumeTable::read_options(r, e, (clients,))?))),
            _ => Err(binrw::Error::AssertFail { pos, message: "presence".to_owned() }),
        }
    }
}

impl binrw::BinWrite for Body {
    type Args<'a> = ();
    fn write_options<W: std::io::Write + std::io::Seek>(
        &self,
        w: &mut W,
        e: binrw::Endian,
        (): (),
    ) -> binrw::BinResult<()> {
        u8::from(self.0.is_some()).write_options(w, e, ())?;
        self.0.as_ref().map_or(Ok(()), |table| table.write_options(w, e, ()))
    }
}

impl VolumeTable {
    /// Bytes before the permissions.
    pub const FIXED_BYTES: u64 = 640;

    /// Writes a version of the cell (None: not in use) into `block` and returns its content checksum.
    pub fn encode(table: Option<&Self>, place: Place, commit: CommitNo, block: &mut [u8]) -> u32 {
        block::seal(block, Kind::VolumeTable, place, commit.into(), &Body(table.cloned()))
    }

    /// Decodes a block of the cell; `clients` is the geometry's max_clients.
    pub fn decode(block: &[u8], place: Place, clients: usize) -> Verdict<(Option<Self>, CommitNo, u32)> {
        block::open(block, Kind::VolumeTable, Some(place.table), place.offset).and_then(|opened| {
            let b: Body = block::body(&opened, (clients,), "volume control table")?;
            if let Some(table) = &b.0 {
                let beyond = |slot: SlotIndex| slot.index() >= clients;
                if table.writer.is_some_and(|w| beyond(w.slot)) {
                    return Err(Corrupt::Field("writer slot"));
                }
                if table.next.is_some_and(|n| beyond(n.slot)) {
                    return Err(Corrupt::Field("next slot"));
                }
            }
            Ok((b.0, opened.stamp.into(), block::content_crc(opened.block)))
        })
    }

    /// What a client slot may do; nothing for a slot outside the table (an administration slot).
    pub fn permission(&self, slot: SlotIndex) -> Permission {
        self.permissions.get(slot.index()).copied().unwrap_or_default()
    }
}
