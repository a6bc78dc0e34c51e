//! The blocks in `fixtures/ondisk/` decode to what they said when they were made, and encode to the same bytes.
//!
//! The expectations are written out here as literals, so that a change of the samples cannot hide a change of the code.
#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is wrong")]

use ondisk::client_page::AnswerVerdict;
use ondisk::envelope::Envelope;
use ondisk::superblock::{Region, RegionKind};
use ondisk::*;

#[path = "../examples/golden/samples.rs"]
mod samples;

fn file(name: &str) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/ondisk").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn geometry(stride: u32) -> Geometry {
    let table = "1a2b3c4d-5e6f-4788-99aa-bbccddeeff01".parse().unwrap();
    Geometry::plan(table, 4, 3, stride, 1 << 20).unwrap()
}

/// Encodes again over a block full of rubbish, and compares byte for byte.
fn same(bytes: &[u8], encode: impl FnOnce(&mut [u8])) {
    let mut again = vec![0xa5; bytes.len()];
    encode(&mut again);
    assert!(again == bytes, "encoding gives other bytes than the golden block");
}

fn footage() -> Uuid {
    "20212223-2425-4627-8829-2a2b2c2d2e2f".parse().unwrap()
}

#[test]
fn golden_superblock() {
    let bytes = file("superblock.bin");
    let sb = Superblock::decode(&bytes, 0).valid().unwrap();
    let region = |kind, first, length| Region::new(kind, first, length);
    let want = Superblock {
        uuid: "1a2b3c4d-5e6f-4788-99aa-bbccddeeff01".parse().unwrap(),
        compatible: 0x0102_0304,
        read_only: 0,
        incompatible: 0,
        lock: LockKind::Bakery,
        max_clients: 4,
        max_volumes: 3,
        stride: 512,
        total: 1_048_576,
        created: 1_795_000_000,
        timings: Timings { beat_ms: 1000, lease_ms: 8000, dead_ms: 12_000, poll_ms: 250 },
        label: Label::new("lab").unwrap(),
        regions: vec![
            region(RegionKind::Slots, 4096, 8192),
            region(RegionKind::Header, 12_288, 8192),
            region(RegionKind::Pages, 20_480, 196_608),
            region(RegionKind::ClientCells, 217_088, 65_536),
            region(RegionKind::VolumeCells, 282_624, 49_152),
        ],
    };
    assert_eq!(sb, want);
    assert_eq!(Geometry::of(&sb).unwrap(), geometry(512));
    same(&bytes, |b| sb.encode(0, b));
}

#[test]
fn golden_slots() {
    for (name, stride, offset) in [("slot-512.bin", 512, 4096 + 2 * 512), ("slot-4096.bin", 4096, 4096 + 2 * 4096)] {
        let bytes = file(name);
        let place = geometry(stride).slot_sector(SlotIndex(1), 0);
        assert_eq!(place.offset, offset);
        let s = SlotSector::decode(&bytes, place).valid().unwrap();
        let want = SlotSector {
            incarnation: Incarnation(0x0102_0304_0506_0709),
            beat: 0x1112_1314_1516_1718,
            page_sequence: 0x2122_2324_2526_2728,
            ticket: Ticket(0x3132_3334_3536_3738),
            choosing: false,
            waiting: true,
            logged_on: true,
            gui: false,
            acknowledged: CommitNo { epoch: 0x4142_4344_4546_4748, count: 0x5152_5354_5556_5758 },
            daemon_id: DaemonId(*b"daemon-id-16byte"),
            machine_id: *b"machine-id-16byt",
            boot_id: *b"boot-id-16-bytes",
            lock_file: LockFile { device: 0x6162_6364_6566_6768, inode: 0x7172_7374_7576_7778 },
        };
        assert_eq!(s, want);
        same(&bytes, |b| s.encode(place, b));
    }
}

#[test]
fn golden_header() {
    let (bytes, g) = (file("header.bin"), geometry(512));
    let place = g.header_copy(1);
    let h = TableHeader::decode(&bytes, place, &g).valid().unwrap();
    assert_eq!((h.commit.epoch, h.commit.count, h.opened, h.clients, h.volumes), (41, 2, 17, 2, 1));
    assert_eq!(h.reaped, [0, 0x101, 0x202, 0x303, 0x404, 0x505, 0x606, 0x707].map(Incarnation));
    let cell = |v, crc, epoch, count| CellEntry::new(v, crc, CommitNo { epoch, count });
    let want = [
        cell(0, 0x0101_0101, 5, 261),
        cell(1, 0x0202_0202, 6, 262),
        cell(0, 0x0303_0303, 7, 263),
        cell(1, 0x0404_0404, 8, 264),
        cell(0, 0x0505_0505, 9, 265),
        cell(1, 0x0606_0606, 10, 266),
        cell(0, 0x0707_0707, 11, 267),
    ];
    assert_eq!(h.cells, want);
    same(&bytes, |b| h.encode(place, b));
}

#[test]
fn golden_client_page() {
    let (bytes, g) = (file("client-page.bin"), geometry(512));
    let place = g.page_copy(SlotIndex(0), 1);
    let p = ClientPage::decode(&bytes, place, &g).valid().unwrap();
    assert_eq!((p.incarnation.0, p.sequence, p.polls, p.refreshes), (3, 21, 4000, 12));
    let request = Request {
        id: RequestId(0x8182_8384_8586_8788),
        number: 7,
        volume: footage(),
        to: SlotIndex(1),
        created_ms: 1_795_000_100_000,
        message: Message::new("need to fix the titles").unwrap(),
    };
    assert_eq!(p.requests, [request]);
    let answer = Answer {
        request: RequestId(0x9192_9394_9596_9798),
        to: SlotIndex(2),
        volume: footage(),
        verdict: AnswerVerdict::Later,
        message: Message::new("in ten minutes \u{2013} the render is running").unwrap(),
    };
    assert_eq!(p.answers, [answer]);
    let generation = |epoch, count| Generation { epoch, count };
    let mut held = [Generation::NONE; 8];
    for (h, count) in held.iter_mut().zip(1..=7) {
        *h = generation(37, count);
    }
    let entry = VolumeEntry {
        volume: footage(),
        state: MountState::ReadWrite,
        busy: true,
        stale: false,
        advisory: true,
        epoch: 41,
        seen: generation(37, 5),
        published: generation(41, 3),
        retired: generation(41, 1),
        modified_ms: 1_795_000_123_456,
        free: 0x0102_0304_0506,
        capacity: 0x1112_1314_1516,
        inflight: InFlight(30_000),
        held,
        refused: 0,
    };
    let nothing = VolumeEntry { inflight: InFlight(0), ..VolumeEntry::default() };
    assert_eq!(p.volumes, [nothing, entry, nothing]);
    same(&bytes, |b| p.encode(place, b));
}

#[test]
fn golden_client_record() {
    let (bytes, g) = (file("client-record.bin"), geometry(512));
    let place = g.cell_block(CellId::Client(SlotIndex(0)), 1, 0);
    let (c, commit, crc) = ClientRecord::decode(&bytes, place).valid().unwrap();
    let want = ClientRecord {
        name: Name::new("alice").unwrap(),
        host: Label::new("suite-3.example.org").unwrap(),
        uuid: "30313233-3435-4637-b839-3a3b3c3d3e3f".parse().unwrap(),
        enabled: true,
        admin: false,
        locked_out: false,
        notify: true,
        auto_response: AutoResponse::Idle,
        logged_on: Incarnation(3),
    };
    assert_eq!((c.as_ref(), commit), (Some(&want), CommitNo { epoch: 41, count: 2 }));
    assert_eq!(crc, block::content_crc(&bytes));
    same(&bytes, |b| assert_eq!(ClientRecord::encode(c.as_ref(), place, commit, b), crc));
}

#[test]
fn golden_volume_table() {
    let (bytes, g) = (file("volume-table.bin"), geometry(512));
    let place = g.cell_block(CellId::Volume(VolumeIndex(2)), 0, 1);
    let (t, commit, crc) = VolumeTable::decode(&bytes, place, 4).valid().unwrap();
    let want = VolumeTable {
        name: Name::new("footage").unwrap(),
        uuid: footage(),
        identity: Identity {
            fs_uuid: "40414243-4445-4647-8849-4a4b4c4d4e4f".parse().unwrap(),
            partition: "50515253-5455-4657-9859-5a5b5c5d5e5f".parse().unwrap(),
            wwid: Label::new("naa.60014055f1e2d3c4").unwrap(),
            size: 1_099_511_627_776,
            enveloped: true,
        },
        fs: FsKind::Btrfs,
        readers: ReadersPolicy::Snapshot,
        write_enabled: true,
        device: Message::new("/dev/disk/by-id/wwn-0x60014055f1e2d3c4").unwrap(),
        writer: Some(Grant::new(SlotIndex(1), Incarnation(9), 41, InFlight(30_000), GrantState::Held)),
        dirty_since: 41,
        next: Some(NextWriter { slot: SlotIndex(2), incarnation: Incarnation(6), request: RequestId(0x8182_8384) }),
        last: Generation { epoch: 37, count: 8 },
        modified_ms: 1_795_000_090_000,
        check_due: true,
        permissions: vec![
            Permission::new(Access::Write, false, true, 2000),
            Permission::new(Access::Read, true, false, 500),
            Permission::new(Access::Write, false, true, 60_000),
            Permission::new(Access::None, false, true, 2000),
        ],
    };
    assert_eq!((t.as_ref(), commit), (Some(&want), CommitNo { epoch: 41, count: 2 }));
    same(&bytes, |b| assert_eq!(VolumeTable::encode(t.as_ref(), place, commit, b), crc));
}

#[test]
fn golden_envelope() {
    let bytes = file("envelope.bin");
    let e = Envelope::decode(&bytes, 4096).valid().unwrap();
    let want = Envelope {
        volume: footage(),
        name: Name::new("footage").unwrap(),
        created: 1_795_000_050,
        fs: FsKind::Btrfs,
        data_first: 1_048_576,
        data_length: 1_099_511_627_776 - 1_048_576,
    };
    assert_eq!(e, want);
    same(&bytes, |b| e.encode(4096, b));
}

#[test]
fn golden_semaphore_word() {
    let bytes = file("semaphore-word.bin");
    let place = Place { table: geometry(512).table(), offset: 524_288 };
    let word = SemaphoreWord::decode(&bytes, place).valid().unwrap();
    let holder =
        semaphore_word::Holder { slot: SlotIndex(1), incarnation: Incarnation(9), daemon: DaemonId([0x6b; 16]) };
    assert_eq!(word, SemaphoreWord { epoch: Ticket(41), holder: Some(holder) });
    same(&bytes, |b| word.encode(place, b));
}

#[test]
fn every_golden_block_has_its_description() {
    for (name, _, bytes, text) in samples::all() {
        assert!(file(&format!("{name}.bin")) == bytes, "{name}: today's code makes another block");
        let described = String::from_utf8(file(&format!("{name}.txt"))).unwrap();
        assert!(described.contains(&text), "{name}: the description says something else");
    }
}
