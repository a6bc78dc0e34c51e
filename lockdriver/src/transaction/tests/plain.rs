//! Plain behaviour: order of writes, refusals, results that are not known.

use ondisk::{CellId, CommitNo, Incarnation, SlotIndex, VolumeIndex};

use crate::check::Violation;
use crate::tables::testkit::{Did, Disk, client, commit, drive, load, tenure, used, volume};
use crate::transaction::{Change, Commit, CommitError, CommitStep, IoResult};

fn machine(g: &ondisk::Geometry, disk: &Disk, epoch: u64, change: Change) -> Commit {
    Commit::new(g, tenure(epoch), load(g, disk, CommitNo::default()).unwrap(), change)
}

#[test]
fn cells_then_flush_then_headers_one_after_the_other() {
    let (g, mut disk) = used();
    let old = load(&g, &disk, CommitNo::default()).unwrap();
    let mut commit = machine(&g, &disk, 20, Change::client(SlotIndex(0), Some(client("carol"))));
    let (did, end) = drive(&mut commit, &mut disk, |_, _, _| true);
    let (_, tables) = end.unwrap().unwrap();
    let version = 1 - old.header.cells[0].version;
    let cell = |copy| g.cell_block(CellId::Client(SlotIndex(0)), version, copy).offset;
    let seen: Vec<_> = did
        .iter()
        .map(|d| match d {
            Did::Read => (0, false),
            Did::Write { offset, fua, .. } => (*offset, *fua),
            Did::Flush => (1, false),
        })
        .collect();
    let headers = [g.header_copy(1).offset, g.header_copy(0).offset];
    let cells = [(cell(0), false), (cell(1), false)];
    let expected = [(0, false), (0, false), cells[0], cells[1], (1, false), (headers[0], true), (headers[1], true)];
    assert_eq!(seen, expected, "two reads, two cell copies, a flush, two stable headers");
    assert_eq!(load(&g, &disk, tables.header.commit).unwrap(), tables);
    assert_eq!(tables.header.opened, old.header.opened + 1);
    assert_eq!(tables.header.commit, CommitNo { epoch: 20, count: 1 });
}

#[test]
fn reaping_changes_the_header_only_and_never_lowers() {
    let (g, mut disk) = used();
    let before = load(&g, &disk, CommitNo::default()).unwrap();
    let mut commit = machine(&g, &disk, 20, Change::reap(SlotIndex(0), Incarnation(0)));
    let (did, end) = drive(&mut commit, &mut disk, |_, _, _| true);
    let (_, tables) = end.unwrap().unwrap();
    assert_eq!(did.iter().filter(|d| matches!(d, Did::Write { .. })).count(), 2);
    assert_eq!((tables.header.reaped, tables.header.cells), (before.header.reaped, before.header.cells));
}

#[test]
fn a_reaped_holder_and_a_repeated_epoch_write_nothing() {
    let (g, mut disk) = used();
    commit(&g, &mut disk, 20, Change::reap(SlotIndex(1), Incarnation(99)));
    let image = disk.bytes();
    let mut late = machine(&g, &disk, 21, Change::default());
    let (_, end) = drive(&mut late, &mut disk, |_, _, _| true);
    assert!(matches!(end, Some(Err(CommitError::Reaped { .. }))));
    for epoch in [20, 19] {
        let base = load(&g, &disk, CommitNo::default()).unwrap();
        let other = crate::transaction::Tenure::new(epoch, SlotIndex(2), Incarnation(1));
        let mut repeated = Commit::new(&g, other, base, Change::default());
        let (_, end) = drive(&mut repeated, &mut disk, |_, _, _| true);
        assert!(matches!(end, Some(Err(CommitError::StaleEpoch { .. }))));
    }
    assert_eq!(image, disk.bytes());
}

#[test]
fn tables_that_moved_since_they_were_loaded_are_not_written_over() {
    let (g, mut disk) = used();
    let mut stale = machine(&g, &disk, 21, Change::client(SlotIndex(0), None));
    commit(&g, &mut disk, 20, Change::default());
    let image = disk.bytes();
    let (_, end) = drive(&mut stale, &mut disk, |_, _, _| true);
    assert!(matches!(end, Some(Err(CommitError::Moved { .. }))));
    assert_eq!(image, disk.bytes());
}

#[test]
fn a_change_that_contradicts_itself_is_refused_before_a_byte_is_written() {
    let (g, mut disk) = used();
    let image = disk.bytes();
    let twice = Change { clients: vec![(SlotIndex(2), Some(client("x"))), (SlotIndex(2), None)], ..Change::default() };
    let refused = |disk: &mut Disk, change| {
        let mut commit = machine(&g, disk, 20, change);
        match drive(&mut commit, disk, |_, _, _| true).1 {
            Some(Err(CommitError::Refused(v))) => v,
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(refused(&mut disk, twice), Violation::NoSuchCell(_)));
    let name = Change::client(SlotIndex(2), Some(client("bob")));
    assert_eq!(refused(&mut disk, name), Violation::ClientName(SlotIndex(1), SlotIndex(2)));
    let writer_leaves = Change::client(SlotIndex(0), None);
    assert_eq!(refused(&mut disk, writer_leaves), Violation::Writer(VolumeIndex(0), SlotIndex(0)));
    let mut short = volume(&g, "short", None);
    short.permissions.pop();
    let short = Change::volume(VolumeIndex(1), Some(short));
    assert!(matches!(refused(&mut disk, short), Violation::Permissions(..)));
    let outside = Change::reap(SlotIndex(200), Incarnation(1));
    assert!(matches!(refused(&mut disk, outside), Violation::NoSuchCell(_)));
    assert_eq!(image, disk.bytes());
}

/// Runs a commit in which the n-th write has an unknown result; `lands` says whether it took place.
fn with_unknown_write(nth: usize, lands: bool, read_back: bool) -> Result<CommitNo, CommitError> {
    let (g, mut disk) = used();
    let mut commit = machine(&g, &disk, 20, Change::client(SlotIndex(0), Some(client("carol"))));
    let (mut writes, mut unknown) = (0, false);
    loop {
        match commit.step() {
            CommitStep::Read { offset, len } => {
                let bytes = disk.get(offset, len).filter(|_| !unknown || read_back);
                unknown = false;
                commit.done(bytes.map_or(IoResult::Failed, IoResult::Bytes));
            }
            CommitStep::Write { offset, bytes, .. } => {
                unknown = writes == nth;
                writes += 1;
                if !unknown || lands {
                    disk.put(offset, &bytes);
                }
                commit.done(if unknown { IoResult::Failed } else { IoResult::Done });
            }
            CommitStep::Flush => commit.done(IoResult::Done),
            CommitStep::Committed { commit, .. } => return Ok(commit),
            CommitStep::Failed(e) => return Err(e),
        }
    }
}

#[test]
fn b3_a_write_of_unknown_result_is_read_back_and_if_still_unknown_nothing_is_released() {
    for nth in 0..4 {
        assert!(with_unknown_write(nth, true, true).is_ok(), "it landed, so the commit goes on");
        for (lands, read_back) in [(false, true), (true, false), (false, false)] {
            let error = with_unknown_write(nth, lands, read_back).expect_err("it is not known to have landed");
            assert!(error.ends_incarnation(), "{error}");
        }
    }
}

#[test]
fn a_failed_flush_ends_the_incarnation() {
    let (g, mut disk) = used();
    let mut commit = machine(&g, &disk, 20, Change::client(SlotIndex(2), Some(client("carol"))));
    let (_, end) = drive(&mut commit, &mut disk, |_, step, _| !matches!(step, CommitStep::Flush));
    assert!(end.is_none());
    commit.done(IoResult::Failed);
    let CommitStep::Failed(error) = commit.step() else { panic!("a failed flush is not known") };
    assert!(error.ends_incarnation());
}

#[test]
fn scrub_makes_whole_what_a_reader_found_bad() {
    let (g, mut disk) = used();
    let tables = load(&g, &disk, CommitNo::default()).unwrap();
    let cell = CellId::Volume(VolumeIndex(0));
    let version = tables.header.cells[g.cell_index(cell)].version;
    disk.rot(g.cell_block(cell, version, 0).offset, g.cell_bytes(cell));
    commit(&g, &mut disk, 20, Change { scrub: vec![cell], ..Change::default() });
    assert!(disk.unreadable.is_empty());
    disk.rot(g.cell_block(cell, version, 1).offset, g.cell_bytes(cell));
    assert_eq!(load(&g, &disk, CommitNo::default()).unwrap().volumes, tables.volumes);
}
