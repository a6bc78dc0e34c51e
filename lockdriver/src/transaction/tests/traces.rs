//! The counterexamples by name: sound with the rule, wrong with the rule taken out.

use ondisk::{CellId, CommitNo, Geometry, Incarnation, SlotIndex};

use crate::check::{Severity, Wrong};
use crate::tables::testkit::{Did, Disk, client, commit, drive, drive_load, formatted, load, tenure, tiny, try_commit};
use crate::tables::{Loader, Tables};
use crate::transaction::{Change, Commit, CommitStep, Rules};

const X: SlotIndex = SlotIndex(0);

fn named(name: &str) -> Change {
    Change::client(X, Some(client(name)))
}

fn start() -> (Geometry, Disk) {
    let g = tiny();
    let mut disk = formatted(&g);
    commit(&g, &mut disk, 3, named("old"));
    (g, disk)
}

fn name(tables: &Tables) -> String {
    tables.client(X).map(|c| c.name.to_string()).unwrap_or_default()
}

fn loaded(g: &Geometry, disk: &Disk) -> Result<Tables, String> {
    load(g, disk, CommitNo::default()).map_err(|f| format!("{f:?}"))
}

/// What a reader finds, or that it finds damage.
fn expect(g: &Geometry, disk: &Disk, allowed: &[&str]) -> Result<(), String> {
    let found = name(&loaded(g, disk)?);
    if allowed.contains(&found.as_str()) { Ok(()) } else { Err(format!("{found}, allowed {allowed:?}")) }
}

/// A holder that dies before its n-th write; returns that write, which is still in flight.
fn cut(g: &Geometry, rules: Rules, disk: &mut Disk, epoch: u64, change: Change, nth: usize) -> (u64, Vec<u8>) {
    let base = load(g, disk, CommitNo::default()).unwrap();
    let mut machine = Commit::with_rules(g, rules, tenure(epoch), base, change);
    let mut writes = 0;
    drive(&mut machine, disk, |_, step, _| {
        writes += usize::from(matches!(step, CommitStep::Write { .. }));
        writes <= nth
    });
    match machine.step() {
        CommitStep::Write { offset, bytes, .. } => (offset, bytes),
        other => panic!("not at a write: {other:?}"),
    }
}

/// Both ways of a trace: the rule in, then taken out.
fn seen_red(out: Rules, trace: impl Fn(Rules) -> Result<(), String>) {
    trace(Rules::default()).expect("sound with the rule");
    trace(out).expect_err("the rule taken out must show the counterexample");
}

/// b3c: one lost block of a cell, in mid-commit.
#[test]
fn b3c_one_lost_block_loses_no_cell() {
    seen_red(Rules { each_version_twice: false, ..Rules::default() }, |rules| {
        let (g, mut disk) = start();
        try_commit(&g, rules, &mut disk, 4, named("acknowledged"))?;
        // The next transaction has overwritten the other version when the current one rots.
        cut(&g, rules, &mut disk, 5, named("next"), if rules.each_version_twice { 2 } else { 1 });
        let entry = loaded(&g, &disk)?.header.cells[0];
        disk.rot(g.cell_block(CellId::Client(X), entry.version, 0).offset, 4096);
        expect(&g, &disk, &["acknowledged"])
    });
}

/// b4c: the header of a lapsed holder lands while the next one overwrites the cells that it names.
#[test]
fn b4c_a_late_header_names_no_overwritten_cell() {
    seen_red(Rules { renew_header: false, ..Rules::default() }, |rules| {
        let (g, mut disk) = start();
        let late = cut(&g, rules, &mut disk, 5, named("lapsed"), 2);
        // The next holder dies after its cells, before its own header.
        let mut next = Commit::with_rules(&g, rules, tenure(6), loaded(&g, &disk)?, named("next"));
        drive(&mut next, &mut disk, |_, step, _| !matches!(step, CommitStep::Flush));
        disk.put(late.0, &late.1);
        expect(&g, &disk, &["old"])
    });
}

/// q7: acknowledged at the first header copy, which a late header overwrites.
#[test]
fn q7_a_late_header_takes_no_acknowledged_commit() {
    seen_red(Rules { both_headers: false, ..Rules::default() }, |rules| {
        let (g, mut disk) = start();
        let late = cut(&g, Rules::default(), &mut disk, 5, named("lapsed"), 2);
        try_commit(&g, rules, &mut disk, 6, named("acknowledged"))?;
        disk.put(late.0, &late.1);
        expect(&g, &disk, &["acknowledged"])
    });
}

/// q7b: acknowledged at the first header copy, which is lost.
#[test]
fn q7b_one_lost_header_copy_takes_no_acknowledged_commit() {
    seen_red(Rules { both_headers: false, ..Rules::default() }, |rules| {
        let (g, mut disk) = start();
        try_commit(&g, rules, &mut disk, 6, named("acknowledged"))?;
        disk.rot(g.header_copy(1).offset, g.header_bytes());
        expect(&g, &disk, &["acknowledged"])
    });
}

/// b8: two commits of one tenure under one number; the second is cut between the header copies.
#[test]
fn b8_every_commit_of_a_tenure_has_its_own_number() {
    seen_red(Rules { own_number: false, ..Rules::default() }, |rules| {
        let (g, mut disk) = start();
        let reap = Change::reap(SlotIndex(0), Incarnation(1));
        let mut first = Commit::with_rules(&g, rules, tenure(5), loaded(&g, &disk)?, reap);
        let (_, end) = drive(&mut first, &mut disk, |_, _, _| true);
        let (number, tables) = end.unwrap().map_err(|e| e.to_string())?;
        let mut second = Commit::with_rules(&g, rules, tenure(5).after(number), tables, named("second"));
        let mut headers = 0;
        drive(&mut second, &mut disk, |_, step, _| {
            headers += usize::from(matches!(step, CommitStep::Write { fua: true, .. }));
            headers < 2
        });
        expect(&g, &disk, &["old", "second"])
    });
}

/// b9b: a reader that knows commit N is fooled by a second commit under the same N.
#[test]
fn b9b_a_reader_notices_the_second_commit_of_a_tenure() {
    seen_red(Rules { own_number: false, ..Rules::default() }, |rules| {
        let (g, mut disk) = start();
        let mut numbers = Vec::new();
        let mut by = tenure(5);
        for who in ["first", "second"] {
            let mut machine = Commit::with_rules(&g, rules, by, loaded(&g, &disk)?, named(who));
            let (_, end) = drive(&mut machine, &mut disk, |_, _, _| true);
            let (number, _) = end.unwrap().map_err(|e| e.to_string())?;
            by = by.after(number);
            numbers.push(number);
        }
        if numbers[0] < numbers[1] { Ok(()) } else { Err("a seqlock on the number sees no change".to_owned()) }
    });
}

/// q9: an interrupted commit is not finished; the newer header is lost later, the older names overwritten cells.
#[test]
fn q9_the_next_holder_finishes_what_it_finds() {
    seen_red(Rules { finish_found: false, ..Rules::default() }, |rules| {
        let (g, mut disk) = start();
        // Dies between its header copies.
        cut(&g, rules, &mut disk, 5, named("interrupted"), 3);
        let newer = loaded(&g, &disk)?;
        assert_eq!(name(&newer), "interrupted");
        let mut next = Commit::with_rules(&g, rules, tenure(6), newer, named("next"));
        drive(&mut next, &mut disk, |_, step, _| !matches!(step, CommitStep::Flush));
        disk.rot(g.header_copy(1).offset, g.header_bytes());
        expect(&g, &disk, &["interrupted"])
    });
}

/// Cells must be stable before a header names them: power goes, the volatile cache with it.
#[test]
fn cells_in_a_volatile_cache_are_flushed_before_the_header() {
    seen_red(Rules { flush_cells: false, ..Rules::default() }, |rules| {
        let (g, mut disk) = start();
        let mut after = disk.clone();
        let mut machine = Commit::with_rules(&g, rules, tenure(5), loaded(&g, &disk)?, named("new"));
        let (did, _) = drive(&mut machine, &mut disk, |_, _, _| true);
        // A flush saves what went before it; a stable write only itself.
        let flushed = did.iter().rposition(|d| *d == Did::Flush).unwrap_or(0);
        for (i, step) in did.iter().enumerate() {
            if let Did::Write { offset, bytes, fua } = step
                && (*fua || i < flushed)
            {
                after.put(*offset, bytes);
            }
        }
        expect(&g, &after, &["new"])
    });
}

/// s5 and s6: a late header on one copy, then the other copy lost. Two faults: reported, never taken for the truth.
#[test]
fn s5_s6_with_the_mark_two_faults_are_reported_without_it_they_are_silent() {
    for lost in [0usize, 1] {
        let (g, mut disk) = start();
        // A reaping in flight: its header names no new cell, so that it looks whole when it lands.
        let (_, late) = cut(&g, Rules::default(), &mut disk, 5, Change::reap(SlotIndex(1), Incarnation(9)), 0);
        let late = ondisk::TableHeader::decode(&late, g.header_copy(1), &g).valid().unwrap();
        let mark = commit(&g, &mut disk, 6, Change::reap(SlotIndex(0), Incarnation(4))).header.commit;
        let place = g.header_copy(1 - lost);
        let mut bytes = vec![0; g.header_bytes()];
        late.encode(place, &mut bytes);
        disk.put(place.offset, &bytes);
        disk.rot(g.header_copy(lost).offset, g.header_bytes());
        let silent = load(&g, &disk, CommitNo::default()).expect("without the mark it passes for the truth");
        assert!(!silent.is_reaped(SlotIndex(0), Incarnation(4)), "and the acknowledged reaping is gone");
        let reported = load(&g, &disk, mark).unwrap_err();
        let lost = reported.iter().find(|f| f.severity == Severity::Lost).expect("reported as lost");
        assert!(matches!(lost.wrong, Wrong::BelowMark { .. }));
    }
}

/// m14: with marks, crashes and a late write, there is no false alarm.
#[test]
fn m14_marks_give_no_false_alarm() {
    let g = tiny();
    for nth in 0..4 {
        let mut disk = start().1;
        let mut mark = CommitNo { epoch: 3, count: 1 };
        let late = cut(&g, Rules::default(), &mut disk, 5, named("cut"), nth);
        for epoch in 6..9 {
            assert!(load(&g, &disk, mark).is_ok());
            mark = commit(&g, &mut disk, epoch, named(&format!("n{epoch}"))).header.commit;
            assert!(load(&g, &disk, mark).is_ok());
            if epoch == 7 {
                disk.put(late.0, &late.1);
                assert!(load(&g, &disk, mark).is_ok(), "cut before write {nth}");
            }
        }
        let loader = Loader::incremental(&g, mark, load(&g, &disk, mark).unwrap());
        assert_eq!(name(&drive_load(loader, &disk).unwrap()), "n8");
    }
}
