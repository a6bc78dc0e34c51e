//! The dump: every field, a verdict on every copy, and a sentence on everything that is not as it should be.
#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is wrong")]

use ondisk::*;
use serde_json::Value;

#[path = "../examples/golden/samples.rs"]
mod samples;
use samples::*;

const TOTAL: usize = 1 << 20;

/// A whole control volume in memory: one client, one volume, all the rest as `init` leaves it.
struct Disk {
    g: Geometry,
    bytes: Vec<u8>,
}

impl Disk {
    fn put(&mut self, place: Place, len: usize, encode: impl FnOnce(Place, &mut [u8])) {
        let at = usize::try_from(place.offset).unwrap();
        encode(place, &mut self.bytes[at..at + len]);
    }

    fn new() -> Self {
        let g = geometry(512);
        let mut d = Self { bytes: vec![0; TOTAL], g: g.clone() };
        for offset in g.superblock_offsets() {
            let sb = Superblock { total: g.total(), ..superblock() };
            d.put(Place { table: TABLE, offset }, 4096, |p, b| sb.encode(p.offset, b));
        }
        for slot in g.slots() {
            for sector in 0..2 {
                let mut s = SlotSector::default();
                if (slot.0, sector) == (1, 0) {
                    s = SlotSector { acknowledged: CommitNo { epoch: 41, count: 2 }, ..samples::slot() };
                }
                d.put(g.slot_sector(slot, sector), g.stride(), |p, b| s.encode(p, b));
            }
        }
        for slot in g.clients() {
            let p = if slot.0 == 0 { page() } else { ClientPage::default() };
            for copy in 0..2 {
                d.put(g.page_copy(slot, copy), g.page_bytes(), |at, b| p.encode(at, b));
            }
        }
        let mut h = header(&g);
        for cell in g.cells() {
            let version = h.cells[g.cell_index(cell)].version;
            for (v, copy) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let commit = if v == version { COMMIT } else { CommitNo::default() };
                let mut crc = 0;
                let (client, volume) = (client(), volume());
                d.put(g.cell_block(cell, v, copy), g.cell_bytes(cell), |p, b| {
                    crc = match cell {
                        CellId::Client(s) => ClientRecord::encode((s.0 == 1).then_some(&client), p, commit, b),
                        CellId::Volume(n) => VolumeTable::encode((n.0 == 0).then_some(&volume), p, commit, b),
                    }
                });
                if v == version {
                    h.cells[g.cell_index(cell)] = CellEntry::new(version, crc, commit);
                }
            }
        }
        for copy in 0..2 {
            d.put(g.header_copy(copy), g.header_bytes(), |p, b| h.encode(p, b));
        }
        d
    }

    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, String> {
        let at = usize::try_from(offset).map_err(|e| e.to_string())?;
        self.bytes.get(at..at + len).map(<[u8]>::to_vec).ok_or_else(|| "behind the end".to_owned())
    }

    fn dump(&self) -> Dump {
        Dump::read(self.bytes.len() as u64, &|o, l| self.read(o, l))
    }

    fn rot(&mut self, place: Place) {
        self.bytes[usize::try_from(place.offset).unwrap() + 70] ^= 4;
    }
}

fn json(d: &Dump) -> Value {
    serde_json::from_str(&d.to_json().unwrap()).unwrap()
}

#[test]
fn a_healthy_volume_is_dumped_whole_and_without_damage() {
    let d = Disk::new().dump();
    assert_eq!(d.damage, Vec::<String>::new());
    let v = json(&d);
    for key in ["superblock", "header", "slots", "pages", "clients", "volumes", "cells", "damage"] {
        assert!(v.get(key).is_some(), "{key}");
    }
    assert_eq!(v["superblock"]["uuid"], "1a2b3c4d-5e6f-4788-99aa-bbccddeeff01");
    assert_eq!(v["superblock"]["lock"], "bakery");
    assert_eq!(v["superblock"]["regions"][0]["kind"], "slots");
    assert_eq!(v["superblock"]["copies"][1]["verdict"], "valid");
    assert_eq!(v["header"]["commit"], "41.2");
    assert_eq!(v["header"]["whole"], true);
    assert_eq!((v["slots"].as_array().unwrap().len(), v["pages"].as_array().unwrap().len()), (8, 4));
    assert_eq!(v["slots"][1]["acknowledged"], "41.2");
    assert_eq!(v["slots"][1]["boot_id"], "626f6f74-2d69-642d-3136-2d6279746573");
    assert_eq!((&v["slots"][4]["admin"], &v["slots"][4]["known"]), (&Value::Bool(true), &Value::Bool(true)));
    assert_eq!(v["pages"][0]["requests"][0]["id"], "8182838485868788");
    assert_eq!(v["pages"][0]["answers"][0]["verdict"], "later");
    assert_eq!(v["pages"][0]["volumes"][0]["state"], "read_write");
    assert_eq!(v["pages"][1]["volumes"], serde_json::json!([]));
    assert_eq!((&v["clients"][0]["name"], &v["clients"][0]["slot"]), (&"alice".into(), &1.into()));
    assert_eq!(v["clients"].as_array().unwrap().len(), 1);
    assert_eq!(v["volumes"][0]["writer"]["state"], "held");
    assert_eq!((&v["volumes"][0]["mode"], &v["volumes"][0]["generation"]), (&"enveloped".into(), &"37.8".into()));
    assert_eq!(v["cells"].as_array().unwrap().len(), 7);
    assert_eq!((&v["cells"][4]["volume"], &v["cells"][4]["whole"]), (&0.into(), &Value::Bool(true)));
    // What the other version said is shown beside, and nothing is said twice.
    assert_eq!(v["cells"][4]["blocks"][0].get("content"), None);
    assert_eq!(v["cells"][4]["blocks"][2]["content"]["name"], "footage");
}

/// Adds a field somewhere and forgets to print it: this fails. The derived Debug text has all fields of a record.
#[test]
fn every_field_of_every_record_is_printed() {
    use ondisk::dump::{to_text, view};
    let fields = |debug: String| {
        let names: Vec<String> = debug
            .lines()
            .filter_map(|l| l.trim().split_once(": ").map(|(k, _)| k.to_owned()))
            .filter(|k| k.chars().all(|c| c.is_ascii_lowercase() || c == '_') && !k.is_empty())
            .collect();
        assert!(names.len() > 5);
        names
    };
    let g = geometry(512);
    let renamed = |f: &str| match f {
        "inflight" => "inflight_ms".to_owned(),
        "last" => "generation".to_owned(),
        "enveloped" => "mode".to_owned(),
        other => other.to_owned(),
    };
    let structure = ["identity", "epoch", "count"];
    for (debug, text) in [
        (format!("{:#?}", superblock()), to_text(&view::SuperblockView::of(&superblock()))),
        (format!("{:#?}", slot()), to_text(&view::SlotView::of(&slot()))),
        (format!("{:#?}", header(&g)), to_text(&view::HeaderView::of(&header(&g)))),
        (format!("{:#?}", page()), to_text(&view::PageView::of(&page()))),
        (format!("{:#?}", client()), to_text(&view::ClientView::of(SlotIndex(0), &client()))),
        (format!("{:#?}", volume()), to_text(&view::VolumeView::of(VolumeIndex(0), &volume()))),
        (format!("{:#?}", envelope()), to_text(&view::EnvelopeView::of(&envelope()))),
    ] {
        for field in fields(debug) {
            let key = format!("{}:", renamed(&field));
            assert!(structure.contains(&field.as_str()) || text.contains(&key), "{field} is not in\n{text}");
        }
    }
}

#[test]
fn one_bad_copy_is_named_and_the_other_counts() {
    let g = geometry(512);
    let cell = CellId::Volume(VolumeIndex(0));
    let cases: [(Place, &str, &str); 5] = [
        (g.header_copy(0), "table header, copy 0,", "/header/copies/0"),
        (g.page_copy(SlotIndex(2), 1), "page of slot 2, copy 1,", "/pages/2/copies/1"),
        (g.slot_sector(SlotIndex(1), 1), "slot 1, sector 1,", "/slots/1/sectors/1"),
        (g.cell_block(cell, 0, 1), "volume control table 0, version 0: copy 1 is corrupt", "/cells/4/blocks/1"),
        (Place { table: TABLE, offset: 0 }, "superblock, copy 0,", "/superblock/copies/0"),
    ];
    for (place, sentence, pointer) in cases {
        let mut disk = Disk::new();
        let healthy = json(&disk.dump());
        disk.rot(place);
        let d = disk.dump();
        let v = json(&d);
        assert!(d.damage.len() == 1 && d.damage[0].starts_with(sentence), "{:?}", d.damage);
        assert_eq!(v.pointer(pointer).unwrap()["verdict"], "corrupt", "{pointer}");
        assert!(v.pointer(pointer).unwrap()["reason"].as_str().unwrap().contains("checksum"));
        assert_eq!((&v["clients"], &v["volumes"]), (&healthy["clients"], &healthy["volumes"]));
        assert!(d.to_text().contains(sentence));
    }
}

#[test]
fn a_bad_block_of_the_version_that_does_not_count_is_no_damage() {
    let mut disk = Disk::new();
    disk.rot(disk.g.cell_block(CellId::Volume(VolumeIndex(0)), 1, 0));
    let d = disk.dump();
    assert!(d.damage.is_empty(), "{:?}", d.damage);
    assert_eq!(d.cells[4].blocks[2].block.verdict, "corrupt");
}

#[test]
fn losses_are_named_and_nothing_is_made_up() {
    let mut disk = Disk::new();
    for copy in 0..2 {
        disk.rot(disk.g.cell_block(CellId::Client(SlotIndex(1)), 1, copy));
    }
    let d = disk.dump();
    assert!(d.clients.is_empty() && d.damage[0].starts_with("client record 1: lost"), "{:?}", d.damage);
    let mut disk = Disk::new();
    for copy in 0..2 {
        disk.rot(disk.g.header_copy(copy));
    }
    let d = disk.dump();
    assert!(d.damage.iter().any(|s| s == "table header: no copy can be believed"), "{:?}", d.damage);
    assert!(d.clients.is_empty() && d.volumes.is_empty() && d.slots.len() == 8);
}

#[test]
fn a_header_below_a_mark_is_reported() {
    let mut disk = Disk::new();
    let s = SlotSector { acknowledged: CommitNo { epoch: 41, count: 3 }, ..slot() };
    disk.put(disk.g.slot_sector(SlotIndex(1), 0), 512, |p, b| s.encode(p, b));
    let damage = disk.dump().damage;
    assert!(damage.len() == 1 && damage[0].contains("a commit was lost"), "{damage:?}");
}

#[test]
fn read_errors_and_foreign_devices_are_answers_too() {
    let disk = Disk::new();
    let bad = disk.g.header_copy(1).offset;
    let d = Dump::read(TOTAL as u64, &|o, l| if o == bad { Err("Input/output error".into()) } else { disk.read(o, l) });
    let copy = &d.header.as_ref().unwrap().copies[1];
    assert_eq!((copy.verdict, copy.reason.as_deref()), ("unreadable", Some("Input/output error")));
    assert_eq!((d.damage.len(), d.volumes.len()), (1, 1));
    for size in [0u64, 100, 4096, 1 << 20, u64::MAX] {
        let d = Dump::read(size, &|_, l| Ok(vec![0; l]));
        assert!(d.header.is_none() && d.superblock.copies[0].verdict == "absent" && !d.damage.is_empty());
        let d = Dump::read(size, &|_, _| Err("gone".into()));
        assert!(d.superblock.copies[0].verdict == "unreadable");
        let d = Dump::read(size, &|_, _| Ok(Vec::new()));
        assert!(d.superblock.copies[0].verdict == "unreadable");
    }
}

#[test]
fn a_lost_first_superblock_is_found_at_the_end_of_the_device() {
    let mut disk = Disk::new();
    disk.bytes[..4096].fill(0);
    disk.bytes.extend([0; 100]);
    let d = disk.dump();
    assert_eq!((d.superblock.elected, d.volumes.len()), (Some(1), 1));
}

#[test]
fn a_commit_that_passes_under_the_dump_is_waited_out() {
    let disk = Disk::new();
    let mut newer = header(&disk.g);
    newer.commit = CommitNo { epoch: 40, count: 1 };
    let place = disk.g.header_copy(0);
    let mut stale = vec![0; disk.g.header_bytes()];
    newer.encode(place, &mut stale);
    let reads = std::cell::Cell::new(0);
    let d = Dump::read(TOTAL as u64, &|o, l| {
        // The first read of either header copy still sees the commit before.
        if [disk.g.header_copy(0).offset, disk.g.header_copy(1).offset].contains(&o) && reads.get() < 2 {
            reads.set(reads.get() + 1);
            let mut b = stale.clone();
            newer.encode(Place { table: TABLE, offset: o }, &mut b);
            return Ok(b);
        }
        disk.read(o, l)
    });
    assert_eq!(d.damage, Vec::<String>::new());
    assert_eq!(d.volumes.len(), 1);
}
