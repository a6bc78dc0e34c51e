//! Loading: what a reader believes.

use ondisk::{CommitNo, Incarnation, SlotIndex, VolumeIndex};

use super::testkit::{client, commit, drive_load, load, used, volume};
use super::{IoResult, LoadStep, Loader, elect_header};
use crate::check::{Severity, Wrong};
use crate::transaction::Change;

#[test]
fn tables_read_back_as_committed() {
    let (g, disk) = used();
    let tables = load(&g, &disk, CommitNo { epoch: 13, count: 1 }).unwrap();
    assert_eq!(tables.header.commit, CommitNo { epoch: 13, count: 1 });
    assert_eq!((tables.header.clients, tables.header.volumes, tables.header.opened), (2, 2, 4));
    assert_eq!(tables.find_client("bob").unwrap().0, SlotIndex(1));
    assert_eq!(tables.find_volume("audio").unwrap().0, VolumeIndex(2));
    assert!(tables.is_reaped(SlotIndex(0), Incarnation(1)) && !tables.is_reaped(SlotIndex(1), Incarnation(1)));
    assert_eq!((tables.free_client(), tables.free_volume()), (Some(SlotIndex(2)), Some(VolumeIndex(1))));
}

#[test]
fn incremental_load_reads_only_cells_whose_entry_changed() {
    let (g, mut disk) = used();
    let old = load(&g, &disk, CommitNo::default()).unwrap();
    let reads = |old, disk: &super::testkit::Disk| {
        let mut loader = Loader::incremental(&g, CommitNo::default(), old);
        let mut seen = Vec::new();
        loop {
            match loader.step() {
                LoadStep::Read { offset, len } => {
                    seen.push((offset, len));
                    loader.done(IoResult::Bytes(disk.get(offset, len).unwrap()));
                }
                LoadStep::Done(tables) => return (seen, tables),
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!(reads(old.clone(), &disk).0.len(), 1, "the header alone");
    let reaped = commit(&g, &mut disk, 14, Change::reap(SlotIndex(1), Incarnation(2)));
    let (seen, tables) = reads(old.clone(), &disk);
    assert_eq!((seen.len(), &tables), (1, &reaped), "reaping changes the header only");
    let changed = commit(&g, &mut disk, 15, Change::volume(VolumeIndex(1), Some(volume(&g, "new", None))));
    let (seen, tables) = reads(old, &disk);
    assert_eq!((seen.len(), &tables), (3, &changed), "header, the one cell, header again");
    let cell = ondisk::CellId::Volume(VolumeIndex(1));
    assert_eq!(seen[1], (g.cell_block(cell, 1, 0).offset, 2 * g.cell_bytes(cell)));
}

#[test]
fn c4_a_header_torn_both_ways_is_read_again_before_it_is_damage() {
    let (g, disk) = used();
    let mut loader = Loader::new(&g, CommitNo::default());
    let LoadStep::Read { offset, len } = loader.step() else { panic!() };
    let mut bytes = disk.get(offset, len).unwrap();
    // Copy 0 half-written while it was read, then copy 1 half-written.
    bytes[100] ^= 1;
    bytes[g.header_bytes() + 100] ^= 1;
    assert!(elect_header(&g, &bytes).is_none(), "a torn header extends nothing and gives no epoch");
    loader.done(IoResult::Bytes(bytes));
    assert_eq!(loader.step(), LoadStep::Retry);
    // Taken out, the rule (ask again) would call this damage.
    assert!(loader.give_up().iter().all(|f| f.severity == Severity::Damage));
    assert!(drive_load(loader, &disk).is_ok());
}

#[test]
fn a_commit_between_header_and_cells_is_noticed() {
    let (g, mut disk) = used();
    let mut loader = Loader::new(&g, CommitNo::default());
    let mut reads = 0;
    let first = loop {
        match loader.step() {
            LoadStep::Read { offset, len } => {
                if reads == 1 {
                    // Two commits: the version that the reader goes for is overwritten.
                    commit(&g, &mut disk, 20, Change::client(SlotIndex(0), Some(client("carol"))));
                    commit(&g, &mut disk, 21, Change::client(SlotIndex(0), Some(client("dora"))));
                }
                reads += 1;
                loader.done(disk.get(offset, len).map_or(IoResult::Failed, IoResult::Bytes));
            }
            other => break other,
        }
    };
    assert_eq!(first, LoadStep::Retry);
    assert!(loader.give_up().is_empty(), "change is not damage");
    assert!(drive_load(loader, &disk).unwrap().find_client("dora").is_some());
}

#[test]
fn one_unreadable_sector_hides_no_neighbour() {
    let (g, mut disk) = used();
    let whole = load(&g, &disk, CommitNo::default()).unwrap();
    disk.rot(g.header_copy(0).offset, 512);
    let entry = whole.header.cells[0];
    let cell = ondisk::CellId::Client(SlotIndex(0));
    disk.rot(g.cell_block(cell, entry.version, 1).offset, 512);
    let mut loader = Loader::new(&g, CommitNo::default());
    let tables = loop {
        match loader.step() {
            LoadStep::Read { offset, len } => {
                loader.done(disk.get(offset, len).map_or(IoResult::Failed, IoResult::Bytes));
            }
            LoadStep::Done(tables) => break tables,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(tables, whole);
    let wrong: Vec<_> = loader.findings().iter().map(|f| (f.severity, f.wrong.clone())).collect();
    assert_eq!(wrong, vec![(Severity::Redundancy, Wrong::Unreadable); 2]);
}

#[test]
fn marks_are_compared_only_with_a_header_read_after_the_slot() {
    let (g, mut disk) = used();
    let early = g.header_copy(0).offset;
    let header = disk.get(early, 2 * g.header_bytes()).unwrap();
    // A commit and its mark come between the header read and the slot read: the wrong order sees damage (hole 13).
    let mark = commit(&g, &mut disk, 30, Change::default()).header.commit;
    let mut wrong_order = Loader::new(&g, mark);
    let _ = wrong_order.step();
    wrong_order.done(IoResult::Bytes(header));
    assert!(matches!(wrong_order.step(), LoadStep::Damaged(_)));
    assert!(load(&g, &disk, mark).is_ok());
}
