//! Exhaustive damage: every byte, every block, arbitrary images.

use std::collections::BTreeSet;

use ondisk::{CommitNo, Geometry, SlotIndex, SlotSector};
use proptest::prelude::*;

use crate::check::{BlockId, OnDevice, Severity, blocks, check, look, padding};
use crate::tables::testkit::{Disk, formatted, load, used};

#[test]
fn a_formatted_and_a_used_volume_are_clean() {
    let (g, disk) = used();
    assert_eq!(check(&formatted(&g)).findings, vec![]);
    let report = check(&disk);
    assert_eq!(report.findings, vec![]);
    assert!(report.clean);
    assert_eq!(report.tables, load(&g, &disk, CommitNo::default()).ok());
}

#[test]
fn blocks_and_padding_cover_every_byte_once() {
    for g in [used().0, Geometry::plan(ondisk::Uuid::from_u128(1), 5, 9, 4096, 8 << 20).unwrap()] {
        let mut spans: Vec<_> = blocks(&g).map(|(_, offset, len)| offset..offset + len as u64).collect();
        spans.extend(padding(&g));
        spans.sort_unstable_by_key(|s| s.start);
        assert!(spans.windows(2).all(|w| w[0].end == w[1].start));
        assert_eq!((spans[0].start, spans[spans.len() - 1].end), (0, g.total()));
    }
}

#[test]
fn a_device_is_checked_as_its_bytes_are() {
    let (_, disk) = used();
    let device = crate::device::MemoryDevice::from_bytes(disk.bytes(), 512);
    assert!(check(&OnDevice(&device)).clean);
}

/// `look` is what the check asks about each block; that the check reports what it says is shown block by block below.
#[test]
fn every_single_changed_byte_of_every_block_is_seen() {
    let (g, disk) = used();
    let bytes = disk.bytes();
    for (id, offset, len) in blocks(&g) {
        let at = usize::try_from(offset).unwrap();
        let mut block = bytes[at..at + len].to_vec();
        assert!(look(&g, id, Some(&block)).is_ok());
        for i in 0..len {
            let old = block[i];
            block[i] = old.wrapping_add(if i % 2 == 0 { 1 } else { 0x80 });
            assert!(look(&g, id, Some(&block)).is_err(), "byte {i} of {id}");
            block[i] = old;
        }
    }
}

#[test]
fn a_changed_byte_is_reported_at_its_block_and_in_padding_it_is_not() {
    let (g, disk) = used();
    for (id, offset, len) in blocks(&g) {
        // One byte in the head, one in the checksum, one at the end.
        for byte in [9, 57, len - 1] {
            let mut bytes = disk.get(offset, len).unwrap();
            bytes[byte] ^= 0x10;
            let mut bad = disk.clone();
            bad.put(offset, &bytes);
            let report = check(&bad);
            assert!(report.findings.iter().any(|f| f.block == id && f.offset == offset), "byte {byte} of {id}");
            assert!(report.tables.is_some(), "one bad block loses no table");
        }
    }
    for range in padding(&g) {
        let mut bad = disk.clone();
        bad.put(range.start, &[0xa5; 512]);
        assert!(check(&bad).clean);
    }
}

/// Found by fuzzing: a superblock that names more bytes than the device has was usable, its other copy "unreadable", and a repair
/// would write that copy behind the end of the device.
#[test]
fn a_device_that_is_cut_short_is_damage_and_nothing_is_written_behind_its_end() {
    let (g, disk) = used();
    let whole = disk.bytes();
    let cut = Disk::new(whole[..whole.len() - 4096].to_vec());
    let report = check(&cut);
    assert_eq!(report.worst(), Some(Severity::Damage));
    assert!(report.findings[0].to_string().contains(&g.total().to_string()), "{}", report.findings[0]);
    let options = crate::check::RepairOptions {
        commit: CommitNo { epoch: u64::MAX, count: 1 },
        accept_loss: true,
        still: g.slots().collect(),
        passed: Vec::new(),
    };
    assert_eq!(crate::check::repair(&report, &options), Err(crate::check::RepairError::NoSuperblock));
}

/// What may come to stand in a block's place: zeroes, noise, a neighbour of the same kind, an error.
fn ruins(disk: &Disk, all: &[(BlockId, u64, usize)], n: usize) -> Vec<Option<Vec<u8>>> {
    let (_, offset, len) = all[n];
    let noise = (0..len).map(|i| u8::try_from((i * 37 + n * 11 + i / 256) % 251).unwrap()).collect();
    let other = all.iter().filter(|(_, o, l)| *l == len && *o != offset).max_by_key(|(_, o, _)| o.abs_diff(offset));
    let misplaced = other.map_or(vec![1; len], |(_, o, _)| disk.get(*o, len).unwrap());
    vec![Some(vec![0; len]), Some(noise), Some(misplaced), None]
}

#[test]
fn every_overwritten_block_is_reported_and_no_table_is_lost() {
    let (g, disk) = used();
    let whole = load(&g, &disk, CommitNo::default()).unwrap();
    let all: Vec<_> = blocks(&g).collect();
    for (n, (id, offset, len)) in all.iter().enumerate() {
        for ruin in ruins(&disk, &all, n) {
            let mut bad = disk.clone();
            match &ruin {
                Some(bytes) => bad.put(*offset, bytes),
                None => bad.rot(*offset, *len),
            }
            let report = check(&bad);
            assert!(report.findings.iter().any(|f| f.block == *id), "{id} {:?}", ruin.map(|b| b[0]));
            assert_eq!(report.tables.as_ref(), Some(&whole), "{id}");
            assert!(report.worst() < Some(Severity::Damage), "one bad block is not the end: {id}");
        }
    }
}

#[test]
fn two_bad_blocks_that_hide_something_are_damage() {
    let (g, disk) = used();
    let entry = load(&g, &disk, CommitNo::default()).unwrap().header.cells[0];
    let cell = ondisk::CellId::Client(SlotIndex(0));
    let pairs = [
        [BlockId::Header(0), BlockId::Header(1)],
        [BlockId::Slot(SlotIndex(3), 0), BlockId::Slot(SlotIndex(3), 1)],
        [BlockId::Page(SlotIndex(1), 0), BlockId::Page(SlotIndex(1), 1)],
        [BlockId::Cell(cell, entry.version, 0), BlockId::Cell(cell, entry.version, 1)],
        [BlockId::Superblock(0), BlockId::Superblock(1)],
    ];
    for pair in pairs {
        let mut bad = disk.clone();
        for id in pair {
            let (_, offset, len) = blocks(&g).find(|b| b.0 == id).unwrap();
            bad.put(offset, &vec![0; len]);
        }
        let report = check(&bad);
        assert_eq!(report.worst(), Some(Severity::Damage), "{pair:?}");
        let tables_gone = !matches!(pair[0], BlockId::Slot(..) | BlockId::Page(..));
        assert_eq!(report.tables.is_none(), tables_gone, "{pair:?}");
    }
}

#[test]
fn a_header_below_a_mark_is_lost_and_named() {
    let (g, mut disk) = used();
    let place = g.slot_sector(SlotIndex(1), 1);
    let mut sector = SlotSector::decode(&disk.get(place.offset, 512).unwrap(), place).valid().unwrap();
    sector.acknowledged = CommitNo { epoch: 14, count: 1 };
    let mut block = vec![0; 512];
    sector.encode(place, &mut block);
    disk.put(place.offset, &block);
    let report = check(&disk);
    assert_eq!(report.worst(), Some(Severity::Lost));
    assert!(report.tables.is_none());
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["findings"][0]["severity"], "lost");
    assert!(json["findings"][0]["wrong"].as_str().unwrap().contains("14.1"), "{json}");
}

#[test]
fn every_severity_has_a_word_and_findings_are_sentences() {
    let (g, mut disk) = used();
    disk.rot(g.header_copy(1).offset, 512);
    let report = check(&disk);
    let text = report.findings[0].to_string();
    assert!(text.starts_with("table header copy 1 at byte "), "{text}");
    let words: BTreeSet<_> = [Severity::Note, Severity::Redundancy, Severity::Damage, Severity::Lost]
        .iter()
        .map(|s| serde_json::to_string(s).unwrap())
        .collect();
    assert_eq!(words.len(), 4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn arbitrary_images_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..20_000), pad in 0usize..3) {
        let len = bytes.len() / 512 * 512;
        let report = check(&Disk::new([&bytes[..len], &vec![0; pad * 4096]].concat()));
        prop_assert!(!report.clean && report.tables.is_none());
    }

    #[test]
    fn arbitrary_patches_of_a_used_image_never_panic(
        patches in proptest::collection::vec((0u64..660, proptest::collection::vec(any::<u8>(), 512)), 1..8),
        resealed in any::<u64>(),
    ) {
        let (g, mut disk) = used();
        for (sector, bytes) in &patches {
            disk.put(sector * 512, bytes);
        }
        // Fields that no valid writer would write, under a valid checksum.
        let place = g.slot_sector(SlotIndex(2), 0);
        let sector = SlotSector {
            incarnation: ondisk::Incarnation(resealed),
            ticket: ondisk::Ticket(resealed),
            page_sequence: resealed,
            ..SlotSector::default()
        };
        let mut block = vec![0; 512];
        sector.encode(place, &mut block);
        disk.put(place.offset, &block);
        let report = check(&disk);
        prop_assert!(!report.clean || patches.is_empty() || report.tables.is_some());
        for accept_loss in [false, true] {
            let options = crate::check::RepairOptions {
                commit: CommitNo { epoch: u64::MAX, count: 1 },
                accept_loss,
                still: g.slots().collect(),
                passed: Vec::new(),
            };
            let _ = crate::check::repair(&report, &options);
        }
    }
}
