//! The client record: what the access control table says of one client; a cell, under the semaphore only (section 4).
//!
//! | offset | size | type | field | meaning |
//! | --- | --- | --- | --- | --- |
//! | 0 | 64 | head | head | kind 5; stamp = commit number |
//! | 64 | 1 | flag | present | 0: not in use, all the rest zero |
//! | 65 | 64 | text | name | 1 to 63 bytes |
//! | 129 | 64 | text | host | host name of the last log-on, may be empty |
//! | 193 | 16 | uuid | uuid | of the client |
//! | 209 | 1 | flag | enabled | may log on |
//! | 210 | 1 | flag | admin | may administer through its daemon |
//! | 211 | 1 | flag | locked_out | may ask for no write privilege at all (1396) |
//! | 212 | 1 | flag | notify | wants to be told of changes of the tables (1358) |
//! | 213 | 1 | u8 | auto_response | 0 off, 1 when idle, 2 always (1604) |
//! | 214 | 2 | u16 | reserved | zero |
//! | 216 | 8 | u64 | logged_on | highest incarnation that committed a log-on |
//! | 224 | 24 | bytes | reserved | zero |

use binrw::binrw;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::block::{self, Kind, Opened, Place};
use crate::codec::{Flag, Maybe, uuid_bytes};
use crate::error::{Corrupt, Verdict};
use crate::ids::{CommitNo, Incarnation};
use crate::text::{Label, Name};

/// Bytes of the record's room after `present`.
const ROOM: usize = 183;

/// Who answers a request when the person does not (1604).
#[binrw]
#[brw(little, repr = u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum AutoResponse {
    /// Nobody: the person is asked.
    #[default]
    Off = 0,
    /// Yes when no file is open for writing and nothing was written for some seconds.
    Idle = 1,
    /// Always yes.
    Always = 2,
}

/// A client.
#[binrw]
#[brw(little)]
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct ClientRecord {
    /// Its name.
    pub name: Name,
    /// Its host's name at the last log-on.
    pub host: Label,
    /// Its identity.
    #[br(parse_with = uuid_bytes::parse)]
    #[bw(write_with = uuid_bytes::write)]
    pub uuid: Uuid,
    /// May log on.
    #[br(parse_with = Flag::parse)]
    #[bw(write_with = Flag::write)]
    pub enabled: bool,
    /// May administer.
    #[br(parse_with = Flag::parse)]
    #[bw(write_with = Flag::write)]
    pub admin: bool,
    /// May ask for no write privilege.
    #[br(parse_with = Flag::parse)]
    #[bw(write_with = Flag::write)]
    pub locked_out: bool,
    /// Its user is told of changes.
    #[br(parse_with = Flag::parse)]
    #[bw(write_with = Flag::write)]
    pub notify: bool,
    /// Who answers.
    pub auto_response: AutoResponse,
    #[br(temp, assert(reserved == 0))]
    #[bw(calc = 0)]
    reserved: u16,
    /// Highest incarnation that committed a log-on.
    pub logged_on: Incarnation,
    #[br(temp, assert(reserved_tail == [0; 24]))]
    #[bw(calc = [0; 24])]
    reserved_tail: [u8; 24],
}

#[derive(Debug)]
struct Body(Option<ClientRecord>);

impl binrw::BinRead for Body {
    type Args<'a> = ();
    fn read_options<R: std::io::Read + std::io::Seek>(r: &mut R, e: binrw::Endian, (): ()) -> binrw::BinResult<Self> {
        Maybe::read(r, e, ROOM).map(Self)
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
        Maybe::write(self.0.as_ref(), w, e, ROOM)
    }
}

impl ClientRecord {
    /// Bytes of a block of the cell, head included.
    pub const BYTES: u64 = 248;

    /// Writes a version of the cell (None: not in use) into `block` and returns its content checksum.
    pub fn encode(record: Option<&Self>, place: Place, commit: CommitNo, block: &mut [u8]) -> u32 {
        block::seal(block, Kind::ClientRecord, place, commit.into(), &Body(record.cloned()))
    }

    /// Decodes a block of the cell.
    pub fn decode(block: &[u8], place: Place) -> Verdict<(Option<Self>, CommitNo, u32)> {
        block::open(block, Kind::ClientRecord, Some(place.table), place.offset).and_then(Self::body)
    }

    fn body(opened: Opened<'_>) -> Result<(Option<Self>, CommitNo, u32), Corrupt> {
        let b: Body = block::body(&opened, (), "client record")?;
        Ok((b.0, opened.stamp.into(), block::content_crc(opened.block)))
    }
}
