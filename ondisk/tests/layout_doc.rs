//! The offset tables of `docs/ondisk.md`, of the module docs and of the code are one.
//!
//! Each table is read from the document and laid over a block that the code encoded from values of which no two
//! fields share one: the bytes at the documented offset must be the field's value, the rows must follow each other
//! without gap or overlap, and reserved rows must be zero. Flags are set one at a time.
#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is wrong")]

use std::collections::BTreeMap;
use std::path::Path;

use ondisk::client_page::AnswerVerdict;
use ondisk::envelope::Envelope;
use ondisk::*;

#[path = "../examples/golden/samples.rs"]
mod samples;
use samples::*;

#[derive(Debug, Clone, PartialEq)]
struct Row {
    offset: String,
    size: String,
    kind: String,
    field: String,
}

/// All tables of a text with the heading above them.
fn tables(text: &str) -> Vec<(String, Vec<String>)> {
    let mut out: Vec<(String, Vec<String>)> = Vec::new();
    let (mut title, mut inside) = (String::new(), false);
    for line in text.lines().map(str::trim_end) {
        if line.starts_with("| offset |") {
            out.push((title.clone(), Vec::new()));
            inside = true;
        } else if inside && line.starts_with('|') {
            if !line.starts_with("| ---") {
                out.last_mut().unwrap().1.push(line.to_owned());
            }
        } else if !line.is_empty() {
            inside = false;
            if line.starts_with('#') {
                title = line.trim_start_matches('#').trim().to_owned();
            }
        }
    }
    out
}

fn rows(lines: &[String]) -> Vec<Row> {
    let row = |line: &String| {
        let mut cells = line.trim_matches('|').split('|').map(|c| c.trim().to_owned());
        let mut next = || cells.next().unwrap();
        Row { offset: next(), size: next(), kind: next(), field: next() }
    };
    lines.iter().map(row).collect()
}

fn document() -> BTreeMap<String, Vec<Row>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ondisk.md");
    let text = std::fs::read_to_string(path).unwrap();
    tables(&text).into_iter().map(|(title, lines)| (title, rows(&lines))).collect()
}

/// A number in a table: "80", "8 x slots", "80 + 8 x slots", with the sizes of the sample geometry.
fn number(text: &str) -> usize {
    let factor = |t: &str| match t.trim() {
        "slots" => 8,
        "cells" => 7,
        "clients" => 4,
        "volumes" => 3,
        n => n.parse().unwrap(),
    };
    text.split('+').map(|term| term.split(" x ").map(factor).product::<usize>()).sum()
}

type Values = BTreeMap<&'static str, Vec<u8>>;

/// Lays a table over bytes. Fields that are not in `values` must be reserved rows, or `head`, or arrays (checked apart).
fn check(title: &str, table: &[Row], bytes: &[u8], values: &Values) {
    let mut end = 0;
    let mut seen = Vec::new();
    for row in table {
        let (at, size) = (number(&row.offset), number(&row.size));
        assert_eq!(at, end, "{title}, {}: gap or overlap", row.field);
        end = at + size;
        let found = &bytes[at..end];
        let wide = match row.kind.as_str() {
            "u8" | "flag" => 1,
            "u16" => 2,
            "u32" => 4,
            "u64" | "i64" => 8,
            "uuid" | "commit" | "generation" => 16,
            _ => size,
        };
        assert_eq!(size, wide, "{title}, {}: size and type disagree", row.field);
        if row.kind.contains(" x ") {
            assert_eq!(number(&row.kind), size, "{title}, {}: size and type disagree", row.field);
        }
        match values.get(row.field.as_str()) {
            Some(v) => {
                let mut want = v.clone();
                want.resize(size, 0);
                assert_eq!(found, want, "{title}, {} at {at}", row.field);
                seen.push(row.field.clone());
            }
            None if row.field.contains("reserved") => {
                assert!(found.iter().all(|b| *b == 0), "{title}, {} at {at}", row.field);
            }
            None => assert!(row.field == "head" || row.kind.contains(" x "), "{title}, {}: no value", row.field),
        }
    }
    assert_eq!(seen.len(), values.len(), "{title}: the document lacks some of {:?}", values.keys());
}

fn text(t: &str) -> Vec<u8> {
    let mut v = vec![u8::try_from(t.len()).unwrap()];
    v.extend(t.as_bytes());
    v
}

fn pair(major: u64, minor: u64) -> Vec<u8> {
    [major.to_le_bytes(), minor.to_le_bytes()].concat()
}

fn uuid(u: Uuid) -> Vec<u8> {
    u.as_bytes().to_vec()
}

macro_rules! values {
    ($($field:literal: $value:expr),* $(,)?) => {{
        let v: Values = [$(($field, $value.to_vec())),*].into_iter().collect();
        v
    }};
}

fn le16(n: u16) -> [u8; 2] {
    n.to_le_bytes()
}
fn le32(n: u32) -> [u8; 4] {
    n.to_le_bytes()
}
fn le64(n: u64) -> [u8; 8] {
    n.to_le_bytes()
}

fn flag(set: usize, this: usize) -> [u8; 1] {
    [u8::from(set == this)]
}

#[test]
fn the_head_lies_where_the_document_says() {
    let mut b = vec![0; 512];
    let place = Place { table: TABLE, offset: 0x0055_6677_8899_aa00 };
    slot().encode(place, &mut b);
    let crc = {
        let mut zeroed = b.clone();
        zeroed[56..60].fill(0);
        crc32c::crc32c(&zeroed)
    };
    let v = values! {
        "magic": *b"VOLCTL\x1a\n", "kind": le16(2), "version": le16(1), "length": le32(512), "table": uuid(TABLE),
        "sector": le64(0x0055_6677_8899_aa00 / 512), "stamp major": le64(slot().incarnation.0),
        "stamp minor": le64(slot().beat), "crc32c": le32(crc),
    };
    let doc = document();
    check("Head", &doc["Head"], &b, &v);
    assert_eq!(number(&doc["Head"].last().unwrap().offset) + 4, block::HEAD_BYTES);
}

#[test]
fn superblock_and_regions_lie_where_the_document_says() {
    let mut sb = superblock();
    sb.read_only = 0x1121_3141;
    sb.incompatible = 0x1222_3242;
    sb.max_clients = 0x0304;
    sb.max_volumes = 0x0203;
    sb.stride = 0x0001_0203;
    sb.total = 0x1222_3242_5262_7282;
    sb.created = 0x1323_3343_5363_7383;
    sb.timings = Timings { beat_ms: 0x1424_3444, lease_ms: 0x1525_3545, dead_ms: 0x1626_3646, poll_ms: 0x1727_3747 };
    sb.lock = LockKind::Ofd;
    sb.label = Label::new("L".repeat(63)).unwrap();
    let region = |n: u64| superblock::Region { kind: 0x0a0b_0c0d, first: n << 40 | 1, length: n << 48 | 2 };
    sb.regions = (1..=16).map(region).collect();
    let mut b = vec![0; 4096];
    sb.encode(0, &mut b);
    let v = values! {
        "compatible": le32(sb.compatible), "read_only": le32(sb.read_only), "incompatible": le32(sb.incompatible),
        "lock": le16(4), "max_clients": le16(sb.max_clients), "max_volumes": le16(sb.max_volumes),
        "stride": le32(sb.stride), "total": le64(sb.total), "created": sb.created.to_le_bytes(),
        "beat": le32(sb.timings.beat_ms), "lease": le32(sb.timings.lease_ms), "dead": le32(sb.timings.dead_ms),
        "poll": le32(sb.timings.poll_ms), "label": text(&"L".repeat(63)), "region_count": le16(16),
    };
    let doc = document();
    check("Superblock", &doc["Superblock"], &b, &v);
    for (n, r) in sb.regions.iter().enumerate() {
        let v = values! { "kind": le32(r.kind), "first": le64(r.first), "length": le64(r.length) };
        check("Region entry", &doc["Region entry"], &b[192 + 24 * n..][..24], &v);
    }
}

#[test]
fn the_slot_lies_where_the_document_says() {
    let doc = document();
    for set in 0..4 {
        let s = SlotSector { choosing: set == 0, waiting: set == 1, logged_on: set == 2, gui: set == 3, ..slot() };
        let mut b = vec![0; 512];
        s.encode(geometry(512).slot_sector(SlotIndex(1), 0), &mut b);
        let v = values! {
            "page_sequence": le64(s.page_sequence), "ticket": le64(s.ticket.0), "choosing": flag(set, 0),
            "waiting": flag(set, 1), "logged_on": flag(set, 2), "gui": flag(set, 3),
            "acknowledged": pair(s.acknowledged.epoch, s.acknowledged.count), "daemon_id": s.daemon_id.0,
            "machine_id": s.machine_id, "boot_id": s.boot_id, "lock_device": le64(s.lock_file.device),
            "lock_inode": le64(s.lock_file.inode),
        };
        check("Slot sector", &doc["Slot sector"], &b, &v);
    }
}

#[test]
fn the_semaphore_word_lies_where_the_document_says() {
    let doc = document();
    let holder = semaphore_word::Holder {
        slot: SlotIndex(0x0304),
        incarnation: Incarnation(0x1121_3141_5161_7181),
        daemon: DaemonId([0x5a; 16]),
    };
    let word = SemaphoreWord { epoch: Ticket(77), holder: Some(holder) };
    let mut b = vec![0; 512];
    word.encode(Place { table: TABLE, offset: 4096 }, &mut b);
    let v = values! {
        "held": [1], "slot": le16(holder.slot.0), "incarnation": le64(holder.incarnation.0), "daemon_id": holder.daemon.0,
    };
    check("Semaphore word", &doc["Semaphore word"], &b, &v);
}

#[test]
fn the_header_lies_where_the_document_says() {
    let (g, doc) = (geometry(512), document());
    let h = header(&g);
    let mut b = vec![0; g.header_bytes()];
    h.encode(g.header_copy(1), &mut b);
    let reaped: Vec<u8> = h.reaped.iter().flat_map(|r| le64(r.0)).collect();
    let v = values! {
        "opened": le64(h.opened), "clients": le16(h.clients), "volumes": le16(h.volumes), "slot_count": le16(8),
        "cell_count": le16(7), "reaped": reaped,
    };
    check("Table header", &doc["Table header"], &b, &v);
    for (n, c) in h.cells.iter().enumerate() {
        let v = values! { "version": [c.version], "crc": le32(c.crc), "commit": pair(c.commit.epoch, c.commit.count) };
        check("Cell entry", &doc["Cell entry"], &b[80 + 8 * 8 + 24 * n..][..24], &v);
    }
    assert_eq!(TableHeader::bytes(8, 7), u64::try_from(80 + 8 * 8 + 24 * 7).unwrap());
}

#[test]
fn the_client_page_lies_where_the_document_says() {
    let (g, doc) = (geometry(512), document());
    let place = g.page_copy(SlotIndex(0), 1);
    for set in 0..3 {
        let mut p = page();
        p.polls = 0x1121_3141_5161_7181;
        p.refreshes = 0x1222_3242_5262_7282;
        p.volumes = vec![
            VolumeEntry {
                busy: set == 0,
                stale: set == 1,
                advisory: set == 2,
                refused: 0x3132_3334_3536_3738,
                ..entry()
            };
            3
        ];
        p.requests = vec![request(); 32];
        p.answers = vec![answer(); 32];
        let mut b = vec![0; g.page_bytes()];
        p.encode(place, &mut b);
        check(
            "Client page",
            &doc["Client page"],
            &b,
            &values! { "polls": le64(p.polls), "refreshes": le64(p.refreshes) },
        );
        let e = &p.volumes[0];
        let held: Vec<u8> = e.held.iter().flat_map(|h| pair(h.epoch, h.count)).collect();
        let v = values! {
            "volume": uuid(e.volume), "state": [3], "busy": flag(set, 0), "stale": flag(set, 1),
            "advisory": flag(set, 2), "epoch": le64(e.epoch), "seen": pair(e.seen.epoch, e.seen.count),
            "published": pair(e.published.epoch, e.published.count), "retired": pair(e.retired.epoch, e.retired.count),
            "modified": e.modified_ms.to_le_bytes(), "free": le64(e.free), "capacity": le64(e.capacity),
            "inflight": le64(e.inflight.0), "held": held, "refused": le64(e.refused),
        };
        let (r, a) = (request(), answer());
        let rv = values! {
            "present": [1], "to": le16(r.to.0), "number": le64(r.number), "id": le64(r.id.0), "volume": uuid(r.volume),
            "created": r.created_ms.to_le_bytes(), "message": text(r.message.as_str()),
        };
        let av = values! {
            "present": [1], "verdict": [3], "request": le64(a.request.0), "volume": uuid(a.volume),
            "to": le16(a.to.0), "message": text(a.message.as_str()),
        };
        assert_eq!(a.verdict, AnswerVerdict::Later);
        for n in 0..3 {
            check("Volume entry", &doc["Volume entry"], &b[20608 + 256 * n..][..256], &v);
        }
        for n in 0..32 {
            check("Request", &doc["Request"], &b[128 + 320 * n..][..320], &rv);
            check("Answer", &doc["Answer"], &b[10368 + 320 * n..][..320], &av);
        }
    }
}

#[test]
fn the_client_record_lies_where_the_document_says() {
    let (g, doc) = (geometry(512), document());
    let place = g.cell_block(CellId::Client(SlotIndex(0)), 0, 0);
    for set in 0..4 {
        let c = ClientRecord { enabled: set == 0, admin: set == 1, locked_out: set == 2, notify: set == 3, ..client() };
        let mut b = vec![0; 4096];
        ClientRecord::encode(Some(&c), place, COMMIT, &mut b);
        let v = values! {
            "present": [1], "name": text(c.name.as_str()), "host": text(c.host.as_str()), "uuid": uuid(c.uuid),
            "enabled": flag(set, 0), "admin": flag(set, 1), "locked_out": flag(set, 2), "notify": flag(set, 3),
            "auto_response": [1], "logged_on": le64(c.logged_on.0),
        };
        check("Client record", &doc["Client record"], &b, &v);
    }
    assert_eq!(ClientRecord::BYTES, 248);
    let mut b = vec![1; 4096];
    ClientRecord::encode(None, place, COMMIT, &mut b);
    assert!(b[64..].iter().all(|x| *x == 0), "a record that is not in use is all zero");
}

#[test]
fn the_volume_table_lies_where_the_document_says() {
    let (g, doc) = (geometry(512), document());
    let place = g.cell_block(CellId::Volume(VolumeIndex(0)), 0, 0);
    for set in 0..3 {
        let mut t = volume();
        t.identity.enveloped = set == 0;
        t.write_enabled = set == 1;
        t.check_due = set == 2;
        let (i, w, n) = (t.identity.clone(), t.writer.unwrap(), t.next.unwrap());
        let mut b = vec![0; 4096];
        VolumeTable::encode(Some(&t), place, COMMIT, &mut b);
        let v = values! {
            "present": [1], "name": text(t.name.as_str()), "uuid": uuid(t.uuid), "fs_uuid": uuid(i.fs_uuid),
            "partition": uuid(i.partition), "wwid": text(i.wwid.as_str()), "size": le64(i.size),
            "enveloped": flag(set, 0), "fs": [3], "readers": [1], "write_enabled": flag(set, 1),
            "device": text(t.device.as_str()), "writer present": [1], "writer slot": le16(w.slot.0),
            "writer incarnation": le64(w.incarnation.0), "writer epoch": le64(w.epoch),
            "writer in-flight": le64(w.inflight.0), "writer state": [2], "dirty_since": le64(t.dirty_since),
            "next present": [1], "next slot": le16(n.slot.0), "next incarnation": le64(n.incarnation.0),
            "next request": le64(n.request.0), "last": pair(t.last.epoch, t.last.count),
            "modified": t.modified_ms.to_le_bytes(), "check_due": flag(set, 2),
        };
        check("Volume control table", &doc["Volume control table"], &b, &v);
    }
    let mut t = volume();
    for set in 0..2 {
        t.permissions = vec![Permission::new(Access::Write, set == 0, set == 1, 0x0102_0304); 4];
        let mut b = vec![0; 4096];
        VolumeTable::encode(Some(&t), place, COMMIT, &mut b);
        let v =
            values! { "access": [2], "lockout": flag(set, 0), "auto_update": flag(set, 1), "check": le32(0x0102_0304) };
        for n in 0..4 {
            check("Permission entry", &doc["Permission entry"], &b[640 + 8 * n..][..8], &v);
        }
    }
}

#[test]
fn the_envelope_lies_where_the_document_says() {
    let doc = document();
    let e: Envelope = envelope();
    let mut b = vec![0; 4096];
    e.encode(4096, &mut b);
    let v = values! {
        "name": text(e.name.as_str()), "created": e.created.to_le_bytes(), "software_lock": [1], "fs": [3],
        "region_count": le16(1),
    };
    check("Envelope", &doc["Envelope"], &b, &v);
    let v = values! { "kind": le32(1), "first": le64(e.data_first), "length": le64(e.data_length) };
    check("Region entry", &doc["Region entry"], &b[144..168], &v);
    assert!(b[168..].iter().all(|x| *x == 0));
}

#[test]
fn module_docs_hold_the_same_tables() {
    let doc = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ondisk.md")).unwrap();
    let doc: Vec<Vec<String>> = tables(&doc).into_iter().map(|(_, lines)| lines).collect();
    let mut found = 0;
    for name in [
        "block",
        "superblock",
        "slot",
        "semaphore_word",
        "header",
        "client_page",
        "client_record",
        "volume_table",
        "envelope",
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/{name}.rs"));
        let source = std::fs::read_to_string(path).unwrap();
        let comment: String =
            source.lines().filter_map(|l| l.strip_prefix("//!")).map(|l| format!("{}\n", l.trim_start())).collect();
        for (number, (_, lines)) in tables(&comment).into_iter().enumerate() {
            assert!(doc.contains(&lines), "{name}.rs: its table {number} is not in docs/ondisk.md");
            found += 1;
        }
    }
    assert_eq!(found, doc.len(), "every table of the document stands in a module doc");
}
