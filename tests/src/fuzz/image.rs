//! Whole control volumes: what reads them must come to an end, and what mends them must not do harm.

use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use lockdriver::check::{BlockId, ReadAt, RepairOptions, Severity, blocks, check, repair};
use lockdriver::format::{FormatStep, format};
use lockdriver::poll::PollDecoder;
use lockdriver::tables::{IoResult, LoadStep, Loader, Tables, cells};
use lockdriver::transaction::{Change, Commit, CommitStep, Tenure};
use ondisk::{
    Access, AutoResponse, CellEntry, ClientPage, ClientRecord, CommitNo, Dump, FsKind, Generation, Geometry, Grant,
    GrantState, Identity, InFlight, Incarnation, Label, LockKind, Message, MountState, Name, Permission, ReadersPolicy,
    SlotIndex, SlotSector, TableHeader, Ticket, Timings, Uuid, VolumeEntry, VolumeIndex, VolumeTable,
};

use super::blocks::{seal_again, small};
use super::feed::Feed;

/// No reader of a small control volume asks for more than this many pieces.
const STEPS_MAX: usize = 10_000;

/// A client's record.
pub(super) fn a_client(name: &str) -> ClientRecord {
    ClientRecord {
        name: Name::new(name).expect("a name"),
        host: Label::new("host").expect("a label"),
        uuid: Uuid::from_u128(name.bytes().map(u128::from).sum()),
        enabled: true,
        admin: true,
        locked_out: false,
        notify: true,
        auto_response: AutoResponse::Idle,
        logged_on: Incarnation(1),
    }
}

/// A volume that slot 0 may write.
pub(super) fn a_volume(g: &Geometry, name: &str, number: u128) -> VolumeTable {
    VolumeTable {
        name: Name::new(name).expect("a name"),
        uuid: Uuid::from_u128(100 + number),
        identity: Identity {
            fs_uuid: Uuid::from_u128(200 + number),
            partition: Uuid::nil(),
            wwid: Label::default(),
            size: 1 << 30,
            enveloped: false,
        },
        fs: FsKind::Btrfs,
        readers: ReadersPolicy::Snapshot,
        write_enabled: true,
        device: Message::new("/dev/x").expect("a path"),
        writer: (number == 1).then(|| Grant::new(SlotIndex(0), Incarnation(1), 3, InFlight(500), GrantState::Held)),
        dirty_since: if number == 1 { 3 } else { 0 },
        next: None,
        last: Generation { epoch: 2, count: 1 },
        modified_ms: 7,
        check_due: false,
        permissions: vec![Permission::new(Access::Write, false, true, 2000); usize::from(g.max_clients())],
    }
}

/// A page with a request and an entry.
pub(super) fn a_page(g: &Geometry, incarnation: u64) -> ClientPage {
    let mut volumes = vec![VolumeEntry::default(); usize::from(g.max_volumes())];
    volumes[0] = VolumeEntry { state: MountState::ReadOnly, ..VolumeEntry::of(Uuid::from_u128(101)) };
    let request = ondisk::Request {
        id: ondisk::RequestId(77),
        number: 1,
        volume: Uuid::from_u128(101),
        to: SlotIndex(0),
        created_ms: 1,
        message: Message::new("titles").expect("a message"),
    };
    let incarnation = Incarnation(incarnation);
    ClientPage { incarnation, sequence: 2, requests: vec![request], volumes, ..ClientPage::default() }
}

struct Image(Vec<u8>);

impl Image {
    fn get(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let start = usize::try_from(offset).ok()?;
        self.0.get(start..start.checked_add(len)?)
    }

    fn put(&mut self, offset: u64, bytes: &[u8]) {
        let start = usize::try_from(offset).expect("a small image");
        self.0[start..start + bytes.len()].copy_from_slice(bytes);
    }
}

impl ReadAt for Image {
    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        assert!(len <= 4 << 20, "a read of {len} bytes for a small device");
        self.get(offset, len).map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }
}

/// A control volume in use: two clients, one logged on, two volumes, one with a writer.
fn used() -> &'static [u8] {
    static USED: OnceLock<Vec<u8>> = OnceLock::new();
    USED.get_or_init(|| {
        let g = small();
        let sb = g.superblock(LockKind::Bakery, Timings::default(), Label::default(), 1);
        let mut image = Image(vec![0; usize::try_from(g.total()).expect("1 MiB")]);
        for step in format(g, &sb, None) {
            if let FormatStep::Write { offset, bytes } = step {
                image.put(offset, &bytes);
            }
        }
        let change = Change {
            clients: vec![(SlotIndex(0), Some(a_client("alice"))), (SlotIndex(1), Some(a_client("bobby")))],
            volumes: vec![
                (VolumeIndex(0), Some(a_volume(g, "footage", 1))),
                (VolumeIndex(1), Some(a_volume(g, "audio", 2))),
            ],
            ..Change::default()
        };
        let base = load(&image, CommitNo::default()).expect("what was formatted can be loaded");
        let tenure = Tenure::new(4, SlotIndex(3), Incarnation(1));
        commit_on(&mut image, tenure, base, change).expect("a commit").expect("that is allowed");
        for (slot, logged_on) in [(0, true), (1, false)] {
            let sector = SlotSector {
                incarnation: Incarnation(1),
                beat: 9,
                page_sequence: 2,
                ticket: Ticket(4),
                logged_on,
                acknowledged: CommitNo { epoch: 4, count: 1 },
                ..SlotSector::default()
            };
            let page = a_page(g, 1);
            for copy in 0..2 {
                let place = g.page_copy(SlotIndex(slot), copy);
                let mut block = vec![0; g.page_bytes()];
                page.encode(place, &mut block);
                image.put(place.offset, &block);
            }
            let place = g.slot_sector(SlotIndex(slot), sector.incarnation.sector());
            let mut block = vec![0; g.stride()];
            sector.encode(place, &mut block);
            image.put(place.offset, &block);
        }
        assert!(check(&image).clean, "{:?}", check(&image).findings);
        image.0
    })
}

/// All blocks of the small geometry, found once.
fn places() -> &'static [(BlockId, u64, usize)] {
    static PLACES: OnceLock<Vec<(BlockId, u64, usize)>> = OnceLock::new();
    PLACES.get_or_init(|| blocks(small()).collect())
}

/// Those that a poll reads.
fn polled() -> &'static [(BlockId, u64, usize)] {
    static POLLED: OnceLock<Vec<(BlockId, u64, usize)>> = OnceLock::new();
    POLLED.get_or_init(|| {
        let area = small().poll_area();
        places().iter().filter(|(_, offset, _)| area.contains(offset)).copied().collect()
    })
}

fn changed(feed: &mut Feed) -> Image {
    changed_in(feed, used(), places())
}

/// Changes some blocks of a control volume in use, most of them so that each is whole by itself; then names the cells in
/// both headers as they are now, if the feed says so.
fn changed_in(feed: &mut Feed, used: &[u8], places: &[(BlockId, u64, usize)]) -> Image {
    let mut image = Image(used.to_vec());
    let named = feed.byte();
    while !feed.is_empty() {
        let (_, offset, len) = feed.pick(places);
        let start = usize::try_from(offset).expect("a small image");
        let how = feed.byte();
        match how & 7 {
            0 => image.0[start..start + len].fill(how),
            1 => {
                let (_, other, other_len) = feed.pick(places);
                let bytes = image.get(other, other_len.min(len)).expect("a block").to_vec();
                image.put(offset, &bytes);
            }
            _ => {
                // Most of what is said stands at the beginning of a block.
                let room = if how & 8 == 0 { len.min(256) } else { len };
                let block = &mut image.0[start..start + room];
                let at = feed.below(block.len());
                let new = feed.some(32);
                let end = room.min(at + new.len());
                block[at..end].copy_from_slice(&new[..end - at]);
            }
        }
        if how & 0x70 != 0x70 {
            seal_again(&mut image.0[start..start + len]);
        }
    }
    if named & 1 == 0 {
        name_cells(&mut image, named);
    }
    image
}

/// Writes into both headers the number and checksum that each cell's blocks have, so that they are believed.
fn name_cells(image: &mut Image, how: u8) {
    let g = small();
    for copy in 0..2 {
        let place = g.header_copy(copy);
        let bytes = image.get(place.offset, g.header_bytes()).expect("a block");
        let ondisk::Verdict::Valid(mut header) = TableHeader::decode(bytes, place, g) else { continue };
        for cell in g.cells() {
            let version = header.cells[g.cell_index(cell)].version;
            let block = g.cell_block(cell, version, usize::from(how >> 1 & 1)).offset;
            let bytes = image.get(block, g.cell_bytes(cell));
            if let Ok(block) = cells::decode(g, cell, (version, usize::from(how >> 1 & 1)), bytes) {
                header.cells[g.cell_index(cell)] = CellEntry::new(version, block.crc, block.commit);
            }
        }
        let mut block = vec![0; g.header_bytes()];
        header.encode(place, &mut block);
        image.put(place.offset, &block);
    }
}

/// Loads the tables; None when they cannot be had, be it that they are damaged or torn for good.
fn load(image: &Image, mark: CommitNo) -> Option<Tables> {
    let mut loader = Loader::new(small(), mark);
    for _ in 0..STEPS_MAX {
        match loader.step() {
            LoadStep::Read { offset, len } => {
                assert!(len <= 2 << 20, "a read of {len} bytes");
                loader.done(image.get(offset, len).map_or(IoResult::Failed, |b| IoResult::Bytes(b.to_vec())));
            }
            LoadStep::Done(tables) => return Some(tables),
            LoadStep::Damaged(findings) => {
                assert!(!findings.is_empty(), "damage has a name");
                return None;
            }
            // Nothing else runs: what is torn now stays torn, and says how.
            LoadStep::Retry => {
                assert!(!loader.give_up().is_empty(), "damage has a name");
                return None;
            }
        }
    }
    panic!("the loader does not come to an end");
}

/// Runs a commit to its end; None when it did not come to one.
fn commit_on(
    image: &mut Image,
    tenure: Tenure,
    base: Tables,
    change: Change,
) -> Option<Result<Tables, lockdriver::transaction::CommitError>> {
    let mut commit = Commit::new(small(), tenure, base, change);
    for _ in 0..STEPS_MAX {
        let result = match commit.step() {
            CommitStep::Read { offset, len } => {
                image.get(offset, len).map_or(IoResult::Failed, |b| IoResult::Bytes(b.to_vec()))
            }
            CommitStep::Write { offset, bytes, .. } => {
                image.put(offset, &bytes);
                IoResult::Done
            }
            CommitStep::Flush => IoResult::Done,
            CommitStep::Committed { tables, .. } => return Some(Ok(tables)),
            CommitStep::Failed(why) => return Some(Err(why)),
        };
        commit.done(result);
    }
    None
}

/// Slots and headers, twice, the second time with other bytes and with ranges that give errors.
pub(super) fn poll(data: &[u8]) {
    let g = small();
    let mut feed = Feed::new(data);
    let area = g.poll_area();
    let range = usize::try_from(area.start).expect("small")..usize::try_from(area.end).expect("small");
    let mut decoder = PollDecoder::new(g.clone());
    let mut now = Duration::ZERO;
    for _ in 0..2 {
        let half = Feed::new(&feed.some(512));
        let image = changed_in(&mut half.clone(), &used()[..range.end], polled());
        let bad: Vec<_> = (0..feed.below(3)).map(|_| feed.number()..feed.number()).collect();
        let whole = &image.0[range.clone()];
        let cut = if feed.byte() == 255 { feed.below(whole.len()) } else { whole.len() };
        let poll = decoder.decode(&whole[..cut], &bad, now, now + Duration::from_millis(1));
        let marks = poll.slots.iter().flat_map(|s| s.valid()).map(|s| s.ticket.0).max().unwrap_or(0);
        assert!(poll.max_ticket_and_epoch() >= marks);
        assert_eq!(poll.slots.len(), g.slot_count());
        let _ = (poll.damage_below_mark(), poll.failed(), lockdriver::semaphore::holder(poll));
        now += Duration::from_secs(1);
    }
}

pub(super) fn loader(data: &[u8]) {
    let mut feed = Feed::new(data);
    let mark = CommitNo { epoch: feed.number(), count: feed.number() };
    let image = changed(&mut feed);
    if let Some(tables) = load(&image, mark) {
        // The same once more, from what is known already.
        let mut again = Loader::incremental(small(), mark, tables.clone());
        while let LoadStep::Read { offset, len } = again.step() {
            again.done(image.get(offset, len).map_or(IoResult::Failed, |b| IoResult::Bytes(b.to_vec())));
        }
        assert_eq!(load(&image, mark), Some(tables.clone()));
        assert!(tables.header.commit >= mark, "older than what was acknowledged");
        assert!(tables.clients.len() == 3 && tables.volumes.len() == 2);
    }
}

/// A change over tables that somebody else has made: refused, or there as it was asked for.
pub(super) fn commit(data: &[u8]) {
    let mut feed = Feed::new(data);
    let epoch = feed.number();
    let what = feed.byte();
    let mut image = changed(&mut feed);
    let Some(base) = load(&image, CommitNo::default()) else { return };
    let change = match what % 4 {
        0 => Change::client(SlotIndex(2), Some(a_client("newcomer"))),
        1 => Change::volume(VolumeIndex(1), None),
        2 => Change::reap(SlotIndex(what.into()), Incarnation(u64::MAX)),
        _ => Change { scrub: small().cells().collect(), ..Change::client(SlotIndex(what.into()), None) },
    };
    let mut tenure = Tenure::new(epoch, SlotIndex(3), Incarnation(1));
    tenure.last = base.header.commit.count * u64::from(what & 0x80 != 0);
    let before = image.0.clone();
    match commit_on(&mut image, tenure, base.clone(), change).expect("a commit comes to an end") {
        Ok(tables) => {
            assert!(tables.header.commit > base.header.commit, "commit numbers grow");
            assert_eq!(load(&image, tables.header.commit), Some(tables), "what was committed is there");
        }
        Err(_) => assert!(image.0 == before, "a refused change writes nothing"),
    }
}

/// Checking any image ends; repairing it takes nothing away that could be read, and leaves nothing worse.
pub(super) fn check_repair(data: &[u8]) {
    let mut feed = Feed::new(data);
    let raw = feed.byte() == 255;
    let accept_loss = feed.flag();
    let still = feed.byte();
    let mut image = if raw { Image(feed.rest()) } else { changed(&mut feed) };
    let before = check(&image);
    assert_eq!(before.clean, before.findings.is_empty());
    let options = RepairOptions {
        commit: CommitNo { epoch: u64::MAX, count: u64::MAX },
        accept_loss,
        still: small().slots().filter(|s| still >> (s.0 & 7) & 1 == 1).collect(),
        passed: Vec::new(),
    };
    let Ok(plan) = repair(&before, &options) else { return };
    if before.clean {
        assert_eq!(plan.writes, vec![], "nothing to mend");
    }
    for write in &plan.writes {
        assert!(image.get(write.offset, write.bytes.len()).is_some(), "{} lies on the device", write.block);
        image.put(write.offset, &write.bytes);
    }
    let after = check(&image);
    assert!(after.worst() <= before.worst(), "worse than before: {:?}, was {:?}", after.findings, before.findings);
    if let (Some(old), Some(new)) = (&before.tables, &after.tables) {
        assert_eq!((&old.clients, &old.volumes), (&new.clients, &new.volumes), "repair forgets nothing");
    }
    assert!(before.tables.is_none() || after.tables.is_some(), "repair loses no table");
    for write in &plan.writes {
        let bad = after.findings.iter().find(|f| f.block == write.block && f.severity > Severity::Note);
        let known =
            bad.is_none_or(|f| before.findings.contains(f) || matches!(f.wrong, lockdriver::check::Wrong::Rule(_)));
        assert!(known, "what was written again is whole: {bad:?}");
    }
}

pub(super) fn dump(data: &[u8]) {
    let mut feed = Feed::new(data);
    let image = if feed.byte() == 255 { Image(feed.rest()) } else { changed(&mut feed) };
    let dump = Dump::read(image.0.len() as u64, &|offset, len| image.read(offset, len).map_err(|e| e.to_string()));
    let json = dump.to_json().expect("JSON");
    assert!(json.len() < 4 << 20 && dump.to_text().len() < 4 << 20);
    serde_json::from_str::<serde_json::Value>(&json).expect("whole JSON");
}
