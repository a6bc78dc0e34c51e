//! Exhaustive damage of one whole control volume: every byte of every block, every sector, and what a disk may do to a sector.

use std::collections::HashMap;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use lockdriver::check::{
    BlockId, Finding, RepairOptions, Report, Severity, Violation, Wrong, blocks, check, look, padding, repair,
};
use ondisk::{CommitNo, Geometry};

use super::clients;
use super::disk::{Image, everything};
use super::oracle::open;

const SECTOR: usize = 512;

/// A whole control volume, and what its check says.
struct Volume {
    image: Image,
    geometry: Geometry,
    whole: Report,
}

/// A control volume after a day's work, everybody logged off, and the disks that it was before.
fn worked_on() -> (Volume, Vec<Image>) {
    let recordings = clients::a_day();
    let mut last = recordings.last().expect("recordings").prefixes().pop().expect("a disk");
    let geometry = check(&last).geometry().expect("a geometry").clone();
    // The other client is reaped, so that repair may write its blocks.
    let opened = open(&last).expect("a good volume");
    let reaped = geometry.slots().map(|slot| (slot, ondisk::Incarnation(1 << 40))).collect();
    let change = lockdriver::transaction::Change { reaped, ..Default::default() };
    super::oracle::next_holder(&mut last, &opened, change).expect("a commit");
    let whole = check(&last);
    assert!(whole.clean, "{:?}", whole.findings);
    let older = recordings.into_iter().map(|r| r.base).collect();
    (Volume { image: last, geometry, whole }, older)
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("a small disk")
}

/// What becomes of a byte.
fn changes(byte: u8) -> impl Iterator<Item = u8> {
    [byte ^ 0xff, byte ^ 0x10, 0].into_iter().filter(move |new| *new != byte)
}

/// Damage of one block was reported: repair brings back the same clients and volumes, and then it is clean.
fn repaired(image: &Image, report: &Report, whole: &Report, most: Severity, what: &str) {
    let geometry = whole.geometry().expect("a geometry");
    let tables = whole.tables.as_ref().expect("tables");
    assert_eq!(report.tables.as_ref(), Some(tables), "{what}: one bad block loses no table");
    assert!(report.worst() <= Some(most), "{what}: {:?}", report.findings);
    let newest = open(image).map_or(tables.header.commit.epoch + 100, |opened| opened.newest);
    let options = RepairOptions {
        commit: CommitNo { epoch: newest + 1, count: 1 },
        accept_loss: false,
        still: geometry.slots().collect(),
        passed: Vec::new(),
    };
    let plan = repair(report, &options).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(plan.left, vec![], "{what}: nothing is left broken");
    let mut mended = image.clone();
    for write in &plan.writes {
        mended.put(place(write.offset), &write.bytes);
    }
    let after = check(&mended);
    assert!(after.clean, "{what}: repaired, and then {:?}", after.findings);
    let after = after.tables.unwrap_or_else(|| panic!("{what}: no tables"));
    assert_eq!((&after.clients, &after.volumes), (&tables.clients, &tables.volumes), "{what}: repair forgets nothing");
}

/// Every byte of one block: [`look`] does not believe it, and of one byte in `step` the check of the whole volume
/// reports it there and repair brings it back.
fn every_byte_of(volume: &Volume, (id, offset, len): (BlockId, u64, usize), step: usize) {
    let start = place(offset);
    let mut bad = volume.image.clone();
    for i in 0..len {
        let old = bad.0[start + i];
        for new in changes(old) {
            let what = || format!("byte {i} of {id}: {old} became {new}");
            bad.0[start + i] = new;
            assert!(look(&volume.geometry, id, Some(&bad.0[start..start + len])).is_err(), "{}", what());
            if i % step == 9 % step {
                let report = check(&bad);
                assert!(report.findings.iter().any(|f| f.block == id && f.offset == offset), "{}", what());
                repaired(&bad, &report, &volume.whole, Severity::Redundancy, &what());
            }
        }
        bad.0[start + i] = old;
    }
}

/// Of every byte of every block it is shown that the block is not believed; of some of each block, and with
/// `VOLCTL_CRASH=all` of all, that the check of the whole volume reports it there, and that repair brings it back.
#[test]
fn every_changed_byte_is_reported_and_repaired() {
    let (volume, _) = worked_on();
    let all: Vec<_> = blocks(&volume.geometry).collect();
    let next = AtomicUsize::new(0);
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(block) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    every_byte_of(&volume, *block, if everything() { 1 } else { block.2 / 4 });
                    if everything() {
                        println!("every byte of {}: reported and repaired", block.0);
                    }
                }
            });
        }
    });
}

#[test]
fn what_stands_in_the_padding_means_nothing() {
    let (volume, _) = worked_on();
    let mut noisy = volume.image;
    for range in padding(&volume.geometry) {
        noisy.0[place(range.start)..place(range.end)].fill(0xa5);
    }
    let report = check(&noisy);
    assert!(report.clean, "{:?}", report.findings);
    assert_eq!(report.tables, volume.whole.tables);
}

#[test]
fn every_sector_that_is_zeroed_or_written_with_another_is_reported_and_repaired() {
    let (Volume { image, geometry, whole }, _) = worked_on();
    let all: Vec<_> = blocks(&geometry).collect();
    let sectors: Vec<(BlockId, usize, usize)> = all
        .iter()
        .flat_map(|(id, offset, len)| (0..len / SECTOR).map(|n| (*id, place(*offset), place(*offset) + n * SECTOR)))
        .collect();
    let mut looked_at = 0;
    for (n, (id, start, at)) in sectors.iter().enumerate() {
        let own = image.0[*at..at + SECTOR].to_vec();
        // Misdirected: what belongs to the same place of the neighbours, far away, and anywhere; and zeroes.
        let others =
            [n + 1, n + 2, n + 8, n + 48, n + sectors.len() / 2, n * 7 + 3].map(|m| sectors[m % sectors.len()].2);
        let others = others.iter().map(|from| image.0[*from..from + SECTOR].to_vec());
        for new in others.chain([vec![0; SECTOR]]).filter(|new| *new != own) {
            let mut bad = image.clone();
            bad.put(*at, &new);
            let what = format!("sector {} of {id}", (at - start) / SECTOR);
            let report = check(&bad);
            assert!(report.findings.iter().any(|f| f.block == *id), "{what}: {:?}", report.findings);
            if n % 5 == 0 || everything() {
                repaired(&bad, &report, &whole, Severity::Redundancy, &what);
            }
            looked_at += 1;
        }
    }
    assert!(looked_at > sectors.len(), "{looked_at} of {} sectors", sectors.len());
}

/// A write that the disk says it has done, and has not: the block is an older version of itself, whole.
#[test]
fn a_lost_write_of_a_block_is_reported_or_harmless() {
    let (Volume { image, geometry, whole }, older) = worked_on();
    let newest = open(&image).expect("a good volume").newest;
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (id, offset, len) in blocks(&geometry) {
        let start = place(offset);
        let mut last = image.0[start..start + len].to_vec();
        for old in older.iter().rev() {
            let old = &old.0[start..start + len];
            if *old == last {
                continue;
            }
            last = old.to_vec();
            let mut bad = image.clone();
            bad.put(start, old);
            let what = format!("an older {id}");
            let report = check(&bad);
            if report.findings.iter().any(|f| f.block == id) {
                *seen.entry("reported").or_default() += 1;
                // A log-on that the record knows and the slot does not: nobody can say who acts under it.
                let lost_log_on = |f: &Finding| matches!(f.wrong, Wrong::Rule(Violation::LoggedOn(..)));
                let most =
                    if report.findings.iter().any(lost_log_on) { Severity::Damage } else { Severity::Redundancy };
                repaired(&bad, &report, &whole, most, &what);
                continue;
            }
            // A slot has one writer and no copy. Its owner writes it anew with every beat, and extends no lease by a read that
            // does not show it; and no number of it that is lost comes again: the header has the epoch of every commit.
            assert!(matches!(id, BlockId::Slot(..)), "{what}: {:?}", report.findings);
            let opened = open(&bad).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(opened.tables, *whole.tables.as_ref().expect("tables"), "{what}");
            assert_eq!(opened.newest, newest, "{what}: a ticket could come again");
            *seen.entry("harmless").or_default() += 1;
        }
    }
    assert!(seen["reported"] > 20 && seen["harmless"] > 0, "{seen:?}");
}
