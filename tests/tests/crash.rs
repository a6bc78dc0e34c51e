//! Crash points, enumerated: for every kind of table transaction, cut after every single write, with the last one absent, torn
//! or whole, or with writes lost from a volatile cache; and then opened again.

mod clients;
mod damage;
pub(crate) mod disk;
mod oracle;
pub(crate) mod verbs;

use std::collections::BTreeMap;

use lockdriver::check::{BlockId, Severity, blocks, check};
use ondisk::{Geometry, SlotSector};

use disk::{Recording, Step};
use oracle::{open, survives_every_crash};

fn all_survive(recordings: &[Recording]) -> usize {
    assert!(!recordings.is_empty());
    let count = recordings.iter().map(survives_every_crash).sum();
    println!("{count} crashes of {} transactions", recordings.len());
    count
}

#[test]
fn what_two_clients_do_in_a_day_survives_a_crash_at_every_write() {
    let recordings = clients::a_day();
    assert_eq!(recordings.len(), 17, "each kind of transaction is there");
    assert!(all_survive(&recordings) > 600);
}

#[test]
fn a_dead_writer_is_reaped_and_followed_whatever_crashes() {
    assert!(all_survive(&clients::a_death()) > 140);
}

#[test]
fn a_log_on_from_elsewhere_survives_a_crash_at_every_write() {
    assert!(all_survive(&clients::a_log_on_from_elsewhere()) > 40);
}

#[test]
fn every_administrators_verb_survives_a_crash_at_every_write() {
    if verbs::has_place_for_locks("crash::every_administrators_verb_survives_a_crash_at_every_write") {
        let recordings = verbs::a_week();
        assert_eq!(recordings.len(), 14, "each verb is there");
        assert!(all_survive(&recordings) > 700);
    }
}

#[test]
fn a_repair_of_the_tables_survives_a_crash_at_every_write() {
    if verbs::has_place_for_locks("crash::a_repair_of_the_tables_survives_a_crash_at_every_write") {
        all_survive(&verbs::mended_tables());
    }
}

#[test]
fn a_repair_of_a_client_survives_a_crash_at_every_write() {
    if verbs::has_place_for_locks("crash::a_repair_of_a_client_survives_a_crash_at_every_write") {
        all_survive(&verbs::mended_client());
    }
}

/// Wherever an init is cut, what is there is the old control volume, none, or a whole new one.
#[test]
fn an_init_that_crashes_leaves_the_old_control_volume_none_or_a_whole_new_one() {
    let old = clients::a_death().pop().expect("a recording").base;
    let (before, table) = (open(&old).expect("the old one").tables, check(&old).geometry().map(Geometry::table));
    let recording = verbs::init_over(old);
    let count = recording.crashes(|crash| {
        let report = check(&crash.image);
        let found = report.geometry().map(Geometry::table);
        match (found, open(&crash.image)) {
            (None, opened) => assert!(opened.is_err(), "{}", crash.what),
            (Some(uuid), opened) if Some(uuid) == table => {
                // Only the first write can be under way: the first superblock goes, and the last one is still there.
                let tables = report.tables.as_ref().or(opened.as_ref().ok().map(|o| &o.tables));
                assert_eq!(tables, Some(&before), "{}", crash.what);
            }
            (Some(_), _) => {
                assert!(report.worst() <= Some(Severity::Redundancy), "{}: {:?}", crash.what, report.findings);
                assert_eq!(report.tables.map(|t| t.counts()), Some((0, 0)), "{}", crash.what);
            }
        }
    });
    assert!(count > 150, "{count} crashes");
}

/// Trace C2: what others act upon at once may not lie in a volatile cache (section 5). Beats may, and the release, which says
/// only what a crash would say; and cells, which are flushed before a header names them.
#[test]
fn trace_c2_tickets_claims_pages_and_headers_are_written_through() {
    let mut seen = BTreeMap::<&str, usize>::new();
    for recording in clients::a_day().iter().chain(&clients::a_log_on_from_elsewhere()) {
        let geometry = check(&recording.base).geometry().expect("a control volume").clone();
        let mut now = recording.base.clone();
        for step in &recording.steps {
            let Step::Write { offset, bytes, fua } = step else { continue };
            let at = *offset as u64;
            let (id, ..) =
                blocks(&geometry).find(|(_, start, len)| (*start, *len) == (at, bytes.len())).expect("a block");
            let told = match id {
                BlockId::Slot(slot, sector) => {
                    let place = geometry.slot_sector(slot, sector.into());
                    let said = |bytes: &[u8]| SlotSector::decode(bytes, place).valid().expect("a slot");
                    let old = said(now.get(at, bytes.len()).expect("within the disk"));
                    let new = said(bytes);
                    let raised = new.choosing && !old.choosing
                        || new.ticket > old.ticket
                        || new.incarnation != old.incarnation
                        || new.page_sequence > old.page_sequence;
                    raised.then_some("slot")
                }
                BlockId::Page(..) => Some("page"),
                BlockId::Header(_) => Some("header"),
                BlockId::Superblock(_) | BlockId::Cell(..) => None,
            };
            if let Some(what) = told {
                assert!(fua, "{}: a {what} that may lie in a cache", recording.name);
                *seen.entry(what).or_default() += 1;
            }
            now.put(*offset, bytes);
        }
    }
    assert!(seen["slot"] > 30 && seen["page"] >= 4 && seen["header"] > 20, "{seen:?}");
}

/// The tests above can fail: a program that wrote in another order, or without making sure, would be caught.
#[test]
fn a_program_that_takes_less_care_is_caught() {
    let day = clients::a_day();
    let hold = day.iter().find(|r| r.name == "hold").expect("a recording");
    let caught = |name: &str, break_it: &dyn Fn(&mut Vec<Step>)| {
        let mut broken = hold.clone();
        break_it(&mut broken.steps);
        let survives = std::panic::catch_unwind(|| survives_every_crash(&broken));
        assert!(survives.is_err(), "nobody notices: {name}");
    };
    survives_every_crash(hold);
    caught("the cells are not flushed before the header names them", &|steps| {
        steps.retain(|step| !matches!(step, Step::Flush));
    });
    caught("the headers are not forced to stable storage", &|steps| {
        for step in steps {
            if let Step::Write { fua, .. } = step {
                *fua = false;
            }
        }
    });
    caught("the header is written before the cells", &|steps| {
        let header = |step: &Step| matches!(step, Step::Write { bytes, .. } if bytes[8..10] == [3, 0]);
        let at = steps.iter().position(header).expect("a header is written");
        let first = steps.remove(at);
        let cell = |step: &Step| matches!(step, Step::Write { bytes, .. } if bytes[8..10] == [6, 0]);
        let before = steps.iter().position(cell).expect("a cell is written");
        steps.insert(before, first);
    });
    caught("only one copy of the cell is written", &|steps| {
        let cell = |step: &Step| matches!(step, Step::Write { bytes, .. } if bytes[8..10] == [6, 0]);
        let at = steps.iter().position(cell).expect("a cell is written");
        steps.remove(at);
    });
    caught("only one header is written", &|steps| {
        let header = |step: &Step| matches!(step, Step::Write { bytes, .. } if bytes[8..10] == [3, 0]);
        let at = steps.iter().rposition(header).expect("a header is written");
        steps.remove(at);
    });
}
