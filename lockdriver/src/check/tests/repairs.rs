//! After a repair the tables are the same and a check finds nothing.

use ondisk::{CommitNo, Geometry, Incarnation, SlotIndex, SlotSector, Ticket};

use crate::check::{BlockId, RepairError, RepairOptions, RepairPlan, Severity, blocks, check, repair};
use crate::tables::Tables;
use crate::tables::testkit::{Disk, load, used};

fn options(g: &Geometry) -> RepairOptions {
    let commit = CommitNo { epoch: 50, count: 1 };
    RepairOptions { commit, accept_loss: false, still: g.slots().collect(), passed: Vec::new() }
}

fn apply(disk: &mut Disk, plan: &RepairPlan) {
    for write in &plan.writes {
        disk.put(write.offset, &write.bytes);
    }
}

/// What the tables say, without the number that each commit of a header gets, and without what was reaped.
fn said(tables: &Tables) -> Tables {
    let mut tables = tables.clone();
    tables.header.commit = CommitNo::default();
    tables.header.reaped.clear();
    tables
}

fn ruin(g: &Geometry, disk: &mut Disk, id: BlockId) {
    let (_, offset, len) = blocks(g).find(|b| b.0 == id).unwrap();
    disk.put(offset, &vec![0x5a; len]);
}

#[test]
fn every_single_bad_block_is_made_whole() {
    let (g, disk) = used();
    let whole = load(&g, &disk, CommitNo::default()).unwrap();
    for (id, offset, len) in blocks(&g) {
        for unreadable in [false, true] {
            let mut bad = disk.clone();
            if unreadable {
                bad.rot(offset, len);
            } else {
                bad.put(offset, &vec![0x5a; len]);
            }
            let plan = repair(&check(&bad), &options(&g)).unwrap();
            assert_eq!(plan.left, vec![], "{id}");
            apply(&mut bad, &plan);
            let after = check(&bad);
            assert_eq!(after.findings, vec![], "{id}");
            let tables = after.tables.unwrap();
            assert_eq!(said(&tables), said(&whole), "{id}");
            for (slot, (old, new)) in (0u16..).zip(whole.header.reaped.iter().zip(&tables.header.reaped)) {
                let rewritten = matches!(id, BlockId::Slot(s, _) if s == SlotIndex(slot));
                assert!(if rewritten { new > old } else { new == old }, "{id}: only what was lost is reaped");
            }
        }
    }
}

/// A repair is cut after any of its writes: no worse than before, and a second one finishes it.
#[test]
fn a_repair_that_is_cut_loses_nothing_and_can_be_repeated() {
    let (g, disk) = used();
    let whole = load(&g, &disk, CommitNo::default()).unwrap();
    let entry = whole.header.cells[0];
    let cell = ondisk::CellId::Client(SlotIndex(0));
    let mut bad = disk.clone();
    let ids = [
        BlockId::Header(0),
        BlockId::Cell(cell, entry.version, 1),
        BlockId::Cell(cell, 1 - entry.version, 0),
        BlockId::Page(SlotIndex(1), 0),
        BlockId::Slot(SlotIndex(2), 0),
    ];
    ids.into_iter().for_each(|id| ruin(&g, &mut bad, id));
    let plan = repair(&check(&bad), &options(&g)).unwrap();
    for cut in 0..=plan.writes.len() {
        let mut at = bad.clone();
        plan.writes[..cut].iter().for_each(|w| at.put(w.offset, &w.bytes));
        let report = check(&at);
        assert!(report.worst() < Some(Severity::Damage), "cut at {cut}: {:?}", report.findings);
        let again = RepairOptions { commit: CommitNo { epoch: 51, count: 1 }, ..options(&g) };
        apply(&mut at, &repair(&report, &again).unwrap());
        let after = check(&at);
        assert_eq!(after.findings, vec![], "cut at {cut}");
        assert_eq!(said(&after.tables.unwrap()), said(&whole));
    }
}

#[test]
fn slots_and_pages_of_the_living_are_left_alone() {
    let (g, disk) = used();
    // Bob (slot 1) is logged off, alice (slot 0) reaped; now bob lives.
    let place = g.slot_sector(SlotIndex(1), 1);
    let mut sector = SlotSector::decode(&disk.get(place.offset, 512).unwrap(), place).valid().unwrap();
    sector.logged_on = true;
    let mut live = disk.clone();
    let mut block = vec![0; 512];
    sector.encode(place, &mut block);
    live.put(place.offset, &block);
    for id in [BlockId::Page(SlotIndex(1), 0), BlockId::Slot(SlotIndex(1), 0)] {
        let mut bad = live.clone();
        ruin(&g, &mut bad, id);
        let plan = repair(&check(&bad), &options(&g)).unwrap();
        assert_eq!((plan.writes.len(), plan.left.len()), (0, 1), "{id}");
    }
    // Nobody watched slot 1 for the death time: it is left alone although it looks left.
    let mut bad = disk.clone();
    ruin(&g, &mut bad, BlockId::Slot(SlotIndex(1), 0));
    let unwatched = RepairOptions { still: vec![], ..options(&g) };
    assert!(repair(&check(&bad), &unwatched).unwrap().writes.is_empty());
}

#[test]
fn a_rewritten_slot_goes_on_above_every_number_that_was_in_it() {
    let (g, mut disk) = used();
    ruin(&g, &mut disk, BlockId::Slot(SlotIndex(1), 1));
    ruin(&g, &mut disk, BlockId::Slot(SlotIndex(1), 0));
    let plan = repair(&check(&disk), &options(&g)).unwrap();
    apply(&mut disk, &plan);
    assert_eq!(check(&disk).findings, vec![]);
    let sectors = [0, 1].map(|s| {
        let place = g.slot_sector(SlotIndex(1), s);
        SlotSector::decode(&disk.get(place.offset, 512).unwrap(), place).valid().unwrap()
    });
    let best = sectors.iter().max_by_key(|s| s.incarnation).unwrap();
    // The page named incarnation 2.
    assert!(best.incarnation >= Incarnation(4), "{best:?}");
    assert!(sectors.iter().all(|s| s.ticket == Ticket(50) && !s.logged_on && !s.waiting));
    assert_eq!(best.page_sequence, 2, "the page that is there is still believed");
    let reaped = load(&g, &disk, CommitNo::default()).unwrap().header.reaped[1];
    assert_eq!(reaped, Incarnation(3), "what the lost sectors held is over: 1 + the highest known");
    assert!(best.incarnation > reaped);
}

#[test]
fn a_page_lost_in_both_copies_starts_empty_where_the_slot_says() {
    let (g, mut disk) = used();
    for copy in 0..2 {
        ruin(&g, &mut disk, BlockId::Page(SlotIndex(0), copy));
    }
    assert_eq!(check(&disk).worst(), Some(Severity::Damage));
    let plan = repair(&check(&disk), &options(&g)).unwrap();
    apply(&mut disk, &plan);
    assert_eq!(check(&disk).findings, vec![]);
    let place = g.page_copy(SlotIndex(0), 1);
    let page = ondisk::ClientPage::decode(&disk.get(place.offset, g.page_bytes()).unwrap(), place, &g).valid().unwrap();
    assert_eq!((page.incarnation, page.sequence), (Incarnation(1), 2));
    assert!(page.requests.is_empty() && page.volumes.iter().all(|v| v.volume.is_nil()));
}

#[test]
fn nothing_is_repaired_by_forgetting() {
    let (g, disk) = used();
    let entry = load(&g, &disk, CommitNo::default()).unwrap().header.cells[0];
    let cell = ondisk::CellId::Client(SlotIndex(0));
    let mut bad = disk.clone();
    for copy in 0..2 {
        ruin(&g, &mut bad, BlockId::Cell(cell, entry.version, copy));
    }
    let plan = repair(&check(&bad), &options(&g)).unwrap();
    assert_eq!(plan.left.len(), 2, "a cell lost in both copies stays damage");
    apply(&mut bad, &plan);
    assert_eq!(check(&bad).worst(), Some(Severity::Damage));
    let mut bad = disk.clone();
    for copy in 0..2 {
        ruin(&g, &mut bad, BlockId::Header(copy));
    }
    let plan = repair(&check(&bad), &options(&g)).unwrap();
    assert!(plan.writes.is_empty(), "without a header nothing is invented");
}

#[test]
fn a_header_below_a_mark_stays_until_a_human_accepts_the_loss() {
    let (g, mut disk) = used();
    let place = g.slot_sector(SlotIndex(1), 1);
    let mut sector = SlotSector::decode(&disk.get(place.offset, 512).unwrap(), place).valid().unwrap();
    sector.acknowledged = CommitNo { epoch: 14, count: 1 };
    let mut block = vec![0; 512];
    sector.encode(place, &mut block);
    disk.put(place.offset, &block);
    let report = check(&disk);
    let refused = repair(&report, &options(&g)).unwrap();
    assert!(refused.writes.is_empty() && refused.left.len() == 1);
    let too_low = RepairOptions { accept_loss: true, commit: CommitNo { epoch: 14, count: 1 }, ..options(&g) };
    assert!(matches!(repair(&report, &too_low), Err(RepairError::StaleEpoch { .. })));
    let plan = repair(&report, &RepairOptions { accept_loss: true, ..options(&g) }).unwrap();
    apply(&mut disk, &plan);
    assert_eq!(check(&disk).findings, vec![]);
    assert_eq!(plan.commit, Some(CommitNo { epoch: 50, count: 1 }));
}

/// A silent client that the tenure passed is reaped although nothing else is wrong: it must find itself over.
#[test]
fn who_was_passed_on_the_way_in_is_reaped() {
    let (g, mut disk) = used();
    let passed = vec![(SlotIndex(2), Incarnation(9))];
    let plan = repair(&check(&disk), &RepairOptions { passed, ..options(&g) }).unwrap();
    assert!(plan.commit.is_some());
    apply(&mut disk, &plan);
    assert!(check(&disk).tables.unwrap().is_reaped(SlotIndex(2), Incarnation(9)));
}
