//! Which copy counts, as whole truth tables: every verdict of one copy against every verdict of the other.

use ondisk::elect::{self, Elected, SlotView};
use ondisk::*;

#[path = "../examples/golden/samples.rs"]
mod samples;
use samples::*;

/// o valid and old, n valid and new, x corrupt, - absent, ? unsupported.
const VERDICTS: &str = "onx-?";

fn verdict<T>(c: char, old: T, new: T) -> Verdict<T> {
    match c {
        'o' => Verdict::Valid(old),
        'n' => Verdict::Valid(new),
        'x' => Verdict::Corrupt(Corrupt::Magic),
        '-' => Verdict::Absent,
        _ => Verdict::Unsupported(2),
    }
}

/// The table as text: one row a verdict of copy 0, one column a verdict of copy 1.
fn table<T: Clone>(old: &T, new: &T, word: impl Fn(&[Verdict<T>; 2]) -> &'static str) -> String {
    let mut out = String::new();
    for a in VERDICTS.chars() {
        let row: Vec<&str> = VERDICTS
            .chars()
            .map(|b| word(&[verdict(a, old.clone(), new.clone()), verdict(b, old.clone(), new.clone())]))
            .collect();
        out += &format!("{a}: {}\n", row.join(" "));
    }
    out
}

fn word<T>(e: Option<Elected<T>>) -> &'static str {
    match e {
        None => ". ",
        Some(Elected { copy: 0, whole: true, .. }) => "0 ",
        Some(Elected { copy: 0, whole: false, .. }) => "0+",
        Some(Elected { whole: true, .. }) => "1 ",
        Some(Elected { whole: false, .. }) => "1+",
    }
}

//                     o  n  x  -  ?
const TWO_COPIES: &str = "\
o: 0  1+ 0+ 0+ . \n\
n: 0+ 0  0+ 0+ . \n\
x: 1+ 1+ .  .  . \n\
-: 1+ 1+ .  .  . \n\
?: .  .  .  .  . \n";

#[test]
fn the_newest_valid_header_counts() {
    let old = header(&geometry(512));
    for commit in [CommitNo { epoch: 41, count: 3 }, CommitNo { epoch: 42, count: 1 }] {
        let new = TableHeader { commit, ..old.clone() };
        assert_eq!(table(&old, &new, |c| word(elect::header(c))), TWO_COPIES);
        let e = elect::header(&[Verdict::Valid(old.clone()), Verdict::Valid(new.clone())]).unwrap();
        assert_eq!(e.content, new);
    }
}

#[test]
fn the_newest_valid_page_of_the_latest_incarnation_counts() {
    let old = page();
    let (inc, seq) = (old.incarnation.0, old.sequence);
    for (i, s) in [(inc, seq + 1), (inc + 1, seq + 1), (inc + 1, seq)] {
        let new = ClientPage { incarnation: Incarnation(i), sequence: s, ..old.clone() };
        assert_eq!(table(&old, &new, |c| word(elect::page(c))), TWO_COPIES);
    }
}

#[test]
fn a_late_page_of_a_dead_daemon_never_hides_its_successors() {
    let mine = page();
    let late = ClientPage { incarnation: Incarnation(2), sequence: mine.sequence + 50, ..mine.clone() };
    let e = elect::page(&[Verdict::Valid(late), Verdict::Valid(mine.clone())]).unwrap();
    assert_eq!((e.content, e.copy, e.whole), (mine, 1, false));
}

#[test]
fn two_stories_under_one_number_elect_nothing() {
    let a = header(&geometry(512));
    let b = TableHeader { opened: a.opened + 1, ..a.clone() };
    assert_eq!(elect::header(&[Verdict::Valid(a), Verdict::Valid(b)]), None);
    let p = page();
    let q = ClientPage { polls: 1, ..p.clone() };
    assert_eq!(elect::page(&[Verdict::Valid(p), Verdict::Valid(q)]), None);
}

#[test]
fn superblocks_that_differ_elect_nothing() {
    let a = superblock();
    let b = Superblock { created: 1, ..a.clone() };
    let want = "\
o: 0  .  0+ 0+ . \n\
n: .  0  0+ 0+ . \n\
x: 1+ 1+ .  .  . \n\
-: 1+ 1+ .  .  . \n\
?: .  .  .  .  . \n";
    assert_eq!(table(&a, &b, |c| word(elect::superblock(c))), want);
}

#[test]
fn only_what_the_header_names_counts_of_a_cell() {
    let entry = CellEntry::new(0, 7, CommitNo { epoch: 5, count: 2 });
    let named = ("named", entry.commit, 7u32);
    // "Old" is here what the header does not name: by its commit, by its checksum, even if it is newer.
    for other in [
        ("other", CommitNo { epoch: 5, count: 1 }, 7),
        ("other", CommitNo { epoch: 6, count: 1 }, 7),
        ("other", entry.commit, 8),
    ] {
        let want = "\
o: .  1+ .  .  . \n\
n: 0+ 0  0+ 0+ 0+\n\
x: .  1+ .  .  . \n\
-: .  1+ .  .  . \n\
?: .  1+ .  .  . \n";
        let got = table(&other, &named, |c| {
            let e = elect::cell(c, &entry);
            assert!(e.as_ref().is_none_or(|e| e.content == "named"));
            word(e)
        });
        assert_eq!(got, want);
    }
}

#[test]
fn a_slot_is_unknown_while_either_sector_is_bad() {
    let old = slot();
    let new = SlotSector { incarnation: Incarnation(old.incarnation.0 + 1), beat: 0, ..old };
    let word = |c: &[Verdict<SlotSector>; 2]| match elect::slot(c) {
        SlotView::Known(s) if s == new => "new",
        SlotView::Known(_) => "old",
        SlotView::Unknown(Some(s)) if s == new => "n? ",
        SlotView::Unknown(Some(_)) => "o? ",
        SlotView::Unknown(None) => ".  ",
    };
    let want = "\
o: old new o?  o?  o? \n\
n: new new n?  n?  n? \n\
x: o?  n?  .   .   .  \n\
-: o?  n?  .   .   .  \n\
?: o?  n?  .   .   .  \n";
    assert_eq!(table(&old, &new, word), want);
}

#[test]
fn tickets_of_both_sectors_count() {
    let a = slot();
    let late = SlotSector { incarnation: Incarnation(1), ticket: Ticket(u64::MAX), ..a };
    assert_eq!(elect::highest_ticket(&[Verdict::Valid(a), Verdict::Valid(late)]), late.ticket);
    assert_eq!(elect::highest_ticket(&[Verdict::Absent, Verdict::Valid(a)]), a.ticket);
    assert_eq!(elect::highest_ticket(&[Verdict::Absent, Verdict::Unsupported(2)]), Ticket(0));
}
