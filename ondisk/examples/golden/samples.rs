//! One record of each layout with every field set to a value of its own: for the golden blocks and the tests.
#![allow(dead_code, clippy::unwrap_used, reason = "shared by several test programs, none of which uses all of it")]

use ondisk::client_page::{AnswerVerdict, HELD};
use ondisk::envelope::{ENVELOPE_BYTES, Envelope};
use ondisk::*;

pub(crate) const TABLE: Uuid = Uuid::from_u128(0x1a2b_3c4d_5e6f_4788_99aa_bbcc_ddee_ff01);
pub(crate) const FOOTAGE: Uuid = Uuid::from_u128(0x2021_2223_2425_4627_8829_2a2b_2c2d_2e2f);

/// Four clients, three volumes.
pub(crate) fn geometry(stride: u32) -> Geometry {
    Geometry::plan(TABLE, 4, 3, stride, 1 << 20).unwrap()
}

pub(crate) fn superblock() -> Superblock {
    let timings = Timings { beat_ms: 1000, lease_ms: 8000, dead_ms: 12000, poll_ms: 250 };
    let mut sb = geometry(512).superblock(LockKind::Bakery, timings, Label::new("lab").unwrap(), 1_795_000_000);
    sb.compatible = 0x0102_0304;
    sb.read_only = 0;
    sb
}

pub(crate) fn slot() -> SlotSector {
    SlotSector {
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
    }
}

pub(crate) fn header(g: &Geometry) -> TableHeader {
    TableHeader {
        commit: CommitNo { epoch: 41, count: 2 },
        opened: 17,
        clients: 2,
        volumes: 1,
        reaped: (0u64..).take(g.slot_count()).map(|n| Incarnation(n * 0x0101)).collect(),
        cells: (0u8..)
            .zip(1u32..)
            .zip(5u64..)
            .take(g.cell_count())
            .map(|((v, c), e)| CellEntry::new(v % 2, c * 0x0101_0101, CommitNo { epoch: e, count: e + 0x0100 }))
            .collect(),
    }
}

pub(crate) fn entry() -> VolumeEntry {
    let mut e = VolumeEntry::of(FOOTAGE);
    e.state = MountState::ReadWrite;
    e.busy = true;
    e.advisory = true;
    e.epoch = 41;
    e.seen = Generation { epoch: 37, count: 5 };
    e.published = Generation { epoch: 41, count: 3 };
    e.retired = Generation { epoch: 41, count: 1 };
    e.modified_ms = 1_795_000_123_456;
    e.free = 0x0102_0304_0506;
    e.capacity = 0x1112_1314_1516;
    e.inflight = InFlight(30_000);
    for (held, count) in e.held.iter_mut().zip(1u64..).take(HELD - 1) {
        *held = Generation { epoch: 37, count };
    }
    e
}

pub(crate) fn request() -> Request {
    Request {
        id: RequestId(0x8182_8384_8586_8788),
        number: 7,
        volume: FOOTAGE,
        to: SlotIndex(1),
        created_ms: 1_795_000_100_000,
        message: Message::new("need to fix the titles").unwrap(),
    }
}

pub(crate) fn answer() -> Answer {
    Answer {
        request: RequestId(0x9192_9394_9596_9798),
        to: SlotIndex(2),
        volume: FOOTAGE,
        verdict: AnswerVerdict::Later,
        message: Message::new("in ten minutes – the render is running").unwrap(),
    }
}

pub(crate) fn page() -> ClientPage {
    let mut volumes = vec![VolumeEntry { inflight: InFlight::ZERO, ..VolumeEntry::default() }; 3];
    volumes[1] = entry();
    ClientPage {
        incarnation: Incarnation(3),
        sequence: 21,
        polls: 4000,
        refreshes: 12,
        requests: vec![request()],
        answers: vec![answer()],
        volumes,
    }
}

pub(crate) fn client() -> ClientRecord {
    ClientRecord {
        name: Name::new("alice").unwrap(),
        host: Label::new("suite-3.example.org").unwrap(),
        uuid: Uuid::from_u128(0x3031_3233_3435_4637_b839_3a3b_3c3d_3e3f),
        enabled: true,
        admin: false,
        locked_out: false,
        notify: true,
        auto_response: AutoResponse::Idle,
        logged_on: Incarnation(3),
    }
}

pub(crate) fn volume() -> VolumeTable {
    VolumeTable {
        name: Name::new("footage").unwrap(),
        uuid: FOOTAGE,
        identity: Identity {
            fs_uuid: Uuid::from_u128(0x4041_4243_4445_4647_8849_4a4b_4c4d_4e4f),
            partition: Uuid::from_u128(0x5051_5253_5455_4657_9859_5a5b_5c5d_5e5f),
            wwid: Label::new("naa.60014055f1e2d3c4").unwrap(),
            size: 1 << 40,
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
            Permission::default(),
        ],
    }
}

pub(crate) fn word() -> SemaphoreWord {
    let holder =
        semaphore_word::Holder { slot: SlotIndex(1), incarnation: Incarnation(9), daemon: DaemonId([0x6b; 16]) };
    SemaphoreWord { epoch: Ticket(41), holder: Some(holder) }
}

pub(crate) fn envelope() -> Envelope {
    Envelope {
        volume: FOOTAGE,
        name: Name::new("footage").unwrap(),
        created: 1_795_000_050,
        fs: FsKind::Btrfs,
        data_first: ENVELOPE_BYTES,
        data_length: (1 << 40) - ENVELOPE_BYTES,
    }
}

pub(crate) const COMMIT: CommitNo = CommitNo { epoch: 41, count: 2 };

/// Every golden block: file name, where it belongs, its bytes, and what it says as text.
pub(crate) fn all() -> Vec<(&'static str, String, Vec<u8>, String)> {
    let (g, g4) = (geometry(512), geometry(4096));
    let mut out = Vec::new();
    let mut add = |name, place: String, bytes: Vec<u8>, text: String| out.push((name, place, bytes, text));
    use ondisk::dump::{to_text, view};
    let mut b = vec![0; 4096];
    superblock().encode(0, &mut b);
    add("superblock", "first copy".into(), b, to_text(&view::SuperblockView::of(&superblock())));
    for (name, g) in [("slot-512", &g), ("slot-4096", &g4)] {
        let mut b = vec![0; g.stride()];
        slot().encode(g.slot_sector(SlotIndex(1), 0), &mut b);
        add(name, "slot 1, first sector".into(), b, to_text(&view::SlotView::of(&slot())));
    }
    let mut b = vec![0; g.header_bytes()];
    header(&g).encode(g.header_copy(1), &mut b);
    add("header", "copy 1".into(), b, to_text(&view::HeaderView::of(&header(&g))));
    let mut b = vec![0; g.page_bytes()];
    page().encode(g.page_copy(SlotIndex(0), 1), &mut b);
    add("client-page", "page of slot 0, copy 1".into(), b, to_text(&view::PageView::of(&page())));
    let cell = CellId::Client(SlotIndex(0));
    let mut b = vec![0; g.cell_bytes(cell)];
    ClientRecord::encode(Some(&client()), g.cell_block(cell, 1, 0), COMMIT, &mut b);
    let text = to_text(&view::ClientView::of(SlotIndex(0), &client()));
    add("client-record", "client record 0, version 1, copy 0".into(), b, text);
    let cell = CellId::Volume(VolumeIndex(2));
    let mut b = vec![0; g.cell_bytes(cell)];
    VolumeTable::encode(Some(&volume()), g.cell_block(cell, 0, 1), COMMIT, &mut b);
    let text = to_text(&view::VolumeView::of(VolumeIndex(2), &volume()));
    add("volume-table", "volume control table 2, version 0, copy 1".into(), b, text);
    let mut b = vec![0; 512];
    word().encode(Place { table: TABLE, offset: 0x8_0000 }, &mut b);
    add("semaphore-word", "at byte 524288".into(), b, to_text(&view::SemaphoreWordView::of(&word())));
    let mut b = vec![0; 4096];
    envelope().encode(4096, &mut b);
    add("envelope", "second copy".into(), b, to_text(&view::EnvelopeView::of(&envelope())));
    out
}
