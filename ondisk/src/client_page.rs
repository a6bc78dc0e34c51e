//! The client page: what one client says to the others, written by it alone, in two copies (section 4).
//!
//! The head's stamp is (incarnation, page sequence). `volumes` follows the geometry's max_volumes.
//!
//! | offset | size | type | field | meaning |
//! | --- | --- | --- | --- | --- |
//! | 0 | 64 | head | head | kind 4; stamp = incarnation . page sequence |
//! | 64 | 8 | u64 | polls | counter, for people |
//! | 72 | 8 | u64 | refreshes | counter, for people |
//! | 80 | 48 | bytes | reserved | zero |
//! | 128 | 10240 | 32 x 320 | requests | one outgoing request each, rooms in use first |
//! | 10368 | 10240 | 32 x 320 | answers | one answer each, rooms in use first |
//! | 20608 | 256 x volumes | volumes x 256 | volumes | one volume entry per volume control table |
//!
//! Volume entry:
//!
//! | offset | size | type | field | meaning |
//! | --- | --- | --- | --- | --- |
//! | 0 | 16 | uuid | volume | UUID of the volume it speaks of; nil: says nothing |
//! | 16 | 1 | u8 | state | 0 none, 1 mounting, 2 ro, 3 rw, 4 gate closed |
//! | 17 | 1 | flag | busy | files are open on it |
//! | 18 | 1 | flag | stale | a newer generation exists that it does not show |
//! | 19 | 1 | flag | advisory | nothing here can stop this client's writes |
//! | 20 | 4 | u32 | reserved | zero |
//! | 24 | 8 | u64 | epoch | the grant epoch that rw and gate closed speak of |
//! | 32 | 16 | generation | seen | mounted here, read-only |
//! | 48 | 16 | generation | published | as writer: newest published |
//! | 64 | 16 | generation | retired | as writer: all up to here are retired |
//! | 80 | 8 | i64 | modified | as writer: milliseconds since 1970 of the publish |
//! | 88 | 8 | u64 | free | bytes free |
//! | 96 | 8 | u64 | capacity | bytes in all |
//! | 104 | 8 | u64 | inflight | milliseconds; all ones: no bound |
//! | 112 | 128 | 8 x 16 | held | generations held, unused ones 0.0 |
//! | 240 | 8 | u64 | refused | the grant epoch whose fence has just refused a write of this client; 0: none |
//! | 248 | 8 | bytes | reserved | zero |
//!
//! Request:
//!
//! | offset | size | type | field | meaning |
//! | --- | --- | --- | --- | --- |
//! | 0 | 1 | flag | present | 0: no request, all the rest zero |
//! | 1 | 2 | u16 | to | slot of the writer as the asker sees it, a client's |
//! | 3 | 8 | u64 | number | place in the queue of the volume |
//! | 11 | 8 | u64 | id | random |
//! | 19 | 16 | uuid | volume | UUID of the volume |
//! | 35 | 8 | i64 | created | milliseconds since 1970, for people |
//! | 43 | 256 | text | message | length byte and 255 bytes of UTF-8 |
//! | 299 | 21 | bytes | reserved | zero |
//!
//! Answer:
//!
//! | offset | size | type | field | meaning |
//! | --- | --- | --- | --- | --- |
//! | 0 | 1 | flag | present | 0: no answer, all the rest zero |
//! | 1 | 1 | u8 | verdict | 1 yes, 2 no, 3 later |
//! | 2 | 8 | u64 | request | id of the request |
//! | 10 | 16 | uuid | volume | UUID of the volume |
//! | 26 | 2 | u16 | to | slot of the asker, a client's |
//! | 28 | 256 | text | message | length byte and 255 bytes of UTF-8 |
//! | 284 | 36 | bytes | reserved | zero |

use binrw::binrw;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::block::{self, Kind, Place, Stamp};
use crate::codec::{Flag, uuid_bytes};
use crate::error::{Corrupt, Verdict};
use crate::geometry::Geometry;
use crate::ids::{Generation, InFlight, Incarnation, RequestId, SlotIndex};
use crate::text::Message;

/// Outgoing requests that fit a page.
pub const REQUESTS: usize = 32;
/// Answers that fit a page.
pub const ANSWERS: usize = 32;
/// Generations one client may hold of one volume.
pub const HELD: usize = 8;

/// What a client's operating system sees of a volume.
#[binrw]
#[brw(little, repr = u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum MountState {
    /// Nothing, and never said otherwise in this incarnation.
    #[default]
    None = 0,
    /// About to be mounted; counts as mounted.
    Mounting = 1,
    /// Mounted read-only.
    ReadOnly = 2,
    /// Mounted read-write under the named grant epoch.
    ReadWrite = 3,
    /// The closing call has returned; nothing can reach the volume from here.
    GateClosed = 4,
}

/// What a page says of one volume.
#[binrw]
#[brw(little)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub struct VolumeEntry {
    /// The volume; nil: nothing is said.
    #[br(parse_with = uuid_bytes::parse)]
    #[bw(write_with = uuid_bytes::write)]
    pub volume: Uuid,
    /// Mount state.
    pub state: MountState,
    /// Files are open on it.
    #[br(parse_with = Flag::parse)]
    #[bw(write_with = Flag::write)]
    pub busy: bool,
    /// A newer generation exists that is not shown here.
    #[br(parse_with = Flag::parse)]
    #[bw(write_with = Flag::write)]
    pub stale: bool,
    /// Nothing here can stop this client's writes.
    #[br(parse_with = Flag::parse)]
    #[bw(write_with = Flag::write)]
    pub advisory: bool,
    #[br(temp, assert(reserved == 0))]
    #[bw(calc = 0)]
    reserved: u32,
    /// Grant epoch of which `rw` and `gate closed` speak.
    pub epoch: u64,
    /// Generation mounted read-only here.
    pub seen: Generation,
    /// As writer: newest published.
    pub published: Generation,
    /// As writer: all up to here are retired.
    pub retired: Generation,
    /// As writer: when it published, milliseconds since 1970.
    pub modified_ms: i64,
    /// Bytes free.
    pub free: u64,
    /// Bytes in all.
    pub capacity: u64,
    /// How long this host may hold back a write to it.
    pub inflight: InFlight,
    /// Generations held.
    pub held: [Generation; HELD],
    /// Grant epoch of the writer whose fence has just refused a write of this client; 0: none.
    pub refused: u64,
    #[br(temp, assert(reserved_tail == [0; 8]))]
    #[bw(calc = [0; 8])]
    reserved_tail: [u8; 8],
}

impl VolumeEntry {
    /// An entry that speaks of `volume` and says nothing yet.
    pub fn of(volume: Uuid) -> Self {
        Self { volume, ..Self::default() }
    }

    /// Is this generation held here?
    pub fn holds(&self, generation: Generation) -> bool {
        !generation.is_none() && self.held.contains(&generation)
    }
}

/// A request for the write privilege (1360).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Request {
    /// Random identity.
    pub id: RequestId,
    /// Place in the queue: one more than any number seen for the volume.
    pub number: u64,
    /// Of which volume.
    pub volume: Uuid,
    /// The client that writes it as the asker sees it.
    pub to: SlotIndex,
    /// Milliseconds since 1970, for people.
    pub created_ms: i64,
    /// From person to person.
    pub message: Message,
}

/// A verdict on a request (1354).
#[binrw]
#[brw(little, repr = u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum AnswerVerdict {
    /// The writer has let go.
    Yes = 1,
    /// The writer goes on.
    No = 2,
    /// The writer goes on for now; the request stands.
    Later = 3,
}

/// An answer (1362), kept until the request has gone from the asker's page.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Answer {
    /// Which request.
    pub request: RequestId,
    /// The asker.
    pub to: SlotIndex,
    /// Of which volume.
    pub volume: Uuid,
    /// The verdict.
    pub verdict: AnswerVerdict,
    /// From person to person.
    pub message: Message,
}

/// A client page.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
pub struct ClientPage {
    /// The login that wrote it.
    pub incarnation: Incarnation,
    /// Grows at each change, over log-ons.
    pub sequence: u64,
    /// Polls since log-on, for people.
    pub polls: u64,
    /// Refreshes since log-on, for people.
    pub refreshes: u64,
    /// Outgoing requests, at most [`REQUESTS`].
    pub requests: Vec<Request>,
    /// Answers, at most [`ANSWERS`].
    pub answers: Vec<Answer>,
    /// One per volume control table.
    pub volumes: Vec<VolumeEntry>,
}

/// A request's room behind the flag that says whether it is used.
#[binrw]
#[brw(little)]
struct RequestRoom {
    to: SlotIndex,
    number: u64,
    id: RequestId,
    #[br(parse_with = uuid_bytes::parse)]
    #[bw(write_with = uuid_bytes::write)]
    volume: Uuid,
    created_ms: i64,
    message: Message,
    #[br(temp, assert(reserved == [0; 21]))]
    #[bw(calc = [0; 21])]
    reserved: [u8; 21],
}

/// An answer's.
#[binrw]
#[brw(little)]
struct AnswerRoom {
    verdict: AnswerVerdict,
    request: RequestId,
    #[br(parse_with = uuid_bytes::parse)]
    #[bw(write_with = uuid_bytes::write)]
    volume: Uuid,
    to: SlotIndex,
    message: Message,
    #[br(temp, assert(reserved.iter().all(|b| *b == 0)))]
    #[bw(calc = [0; 36])]
    reserved: [u8; 36],
}

#[binrw]
#[brw(little)]
#[br(import(volumes: usize))]
struct Body {
    polls: u64,
    refreshes: u64,
    #[br(temp, assert(reserved.iter().all(|b| *b == 0)))]
    #[bw(calc = [0; 48])]
    reserved: [u8; 48],
    #[br(parse_with = rooms::read, args(REQUESTS))]
    #[bw(write_with = rooms::write, args(REQUESTS))]
    requests: Vec<RequestRoom>,
    #[br(parse_with = rooms::read, args(ANSWERS))]
    #[bw(write_with = rooms::write, args(ANSWERS))]
    answers: Vec<AnswerRoom>,
    #[br(count = volumes)]
    volumes: Vec<VolumeEntry>,
}

/// Rooms of one size, those in use first; whatever is behind the last of them is zero.
mod rooms {
    use binrw::{BinRead, BinResult, BinWrite, Endian, Error};

    use crate::codec::Maybe;

    /// Bytes of a room behind its flag.
    const ROOM: usize = 319;

    pub(super) fn read<R, T>(reader: &mut R, endian: Endian, (count,): (usize,)) -> BinResult<Vec<T>>
    where
        R: std::io::Read + std::io::Seek,
        T: for<'a> BinRead<Args<'a> = ()>,
    {
        let mut used = Vec::new();
        for room in 0..count {
            let pos = reader.stream_position()?;
            match Maybe::read(reader, endian, ROOM)? {
                Some(_) if used.len() < room => return Err(Error::AssertFail { pos, message: "order".to_owned() }),
                Some(content) => used.push(content),
                None => {}
            }
        }
        Ok(used)
    }

    #[expect(clippy::ptr_arg, reason = "binrw hands the field itself over")]
    pub(super) fn write<W, T>(used: &Vec<T>, writer: &mut W, endian: Endian, (count,): (usize,)) -> BinResult<()>
    where
        W: std::io::Write + std::io::Seek,
        T: for<'a> BinWrite<Args<'a> = ()>,
    {
        let rooms = used.iter().map(Some).chain(std::iter::repeat(None));
        rooms.take(count).try_for_each(|content| Maybe::write(content, writer, endian, ROOM))
    }
}

impl ClientPage {
    /// Bytes of a page, head included.
    pub fn bytes(volumes: u64) -> u64 {
        20608 + 256 * volumes
    }

    /// Writes the copy for `place` into `block`. Volume entries that are left out say nothing.
    ///
    /// # Panics
    /// When there are more requests or answers than fit, or more volume entries than the block has room for: none
    /// may be lost without a word.
    pub fn encode(&self, place: Place, block: &mut [u8]) {
        assert!(self.requests.len() <= REQUESTS, "a page has room for {REQUESTS} requests");
        assert!(self.answers.len() <= ANSWERS, "a page has room for {ANSWERS} answers");
        let requests = self.requests.iter().map(RequestRoom::of).collect();
        let answers = self.answers.iter().map(AnswerRoom::of).collect();
        let body =
            Body { polls: self.polls, refreshes: self.refreshes, requests, answers, volumes: self.volumes.clone() };
        let stamp = Stamp { major: self.incarnation.0, minor: self.sequence };
        block::seal(block, Kind::ClientPage, place, stamp, &body);
    }

    /// Decodes a copy read from `place`.
    pub fn decode(block: &[u8], place: Place, geometry: &Geometry) -> Verdict<Self> {
        block::open(block, Kind::ClientPage, Some(place.table), place.offset).and_then(|opened| {
            let volumes = usize::from(geometry.max_volumes());
            let b: Body = block::body(&opened, (volumes,), "client page")?;
            let is_client = |slot: SlotIndex| !geometry.is_admin(slot);
            if b.requests.iter().any(|r| !is_client(r.to)) {
                return Err(Corrupt::Field("request"));
            }
            if b.answers.iter().any(|a| !is_client(a.to)) {
                return Err(Corrupt::Field("answer"));
            }
            let requests = b.requests.into_iter().map(Request::from).collect();
            let answers = b.answers.into_iter().map(Answer::from).collect();
            Ok(Self {
                incarnation: Incarnation(opened.stamp.major),
                sequence: opened.stamp.minor,
                polls: b.polls,
                refreshes: b.refreshes,
                requests,
                answers,
                volumes: b.volumes,
            })
        })
    }

    /// What the page says of a volume, if anything.
    pub fn volume(&self, volume: Uuid) -> Option<&VolumeEntry> {
        self.volumes.iter().find(|e| e.volume == volume)
    }

    /// Its request for a volume, if it asks.
    pub fn request(&self, volume: Uuid) -> Option<&Request> {
        self.requests.iter().find(|r| r.volume == volume)
    }
}

impl RequestRoom {
    fn of(r: &Request) -> Self {
        Self {
            to: r.to,
            number: r.number,
            id: r.id,
            volume: r.volume,
            created_ms: r.created_ms,
            message: r.message.clone(),
        }
    }
}

impl AnswerRoom {
    fn of(a: &Answer) -> Self {
        Self { verdict: a.verdict, request: a.request, volume: a.volume, to: a.to, message: a.message.clone() }
    }
}

impl From<RequestRoom> for Request {
    fn from(r: RequestRoom) -> Self {
        Self { id: r.id, number: r.number, volume: r.volume, to: r.to, created_ms: r.created_ms, message: r.message }
    }
}

impl From<AnswerRoom> for Answer {
    fn from(a: AnswerRoom) -> Self {
        Self { request: a.request, to: a.to, volume: a.volume, verdict: a.verdict, message: a.message }
    }
}
