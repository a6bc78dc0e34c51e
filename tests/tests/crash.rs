//! Crash points, enumerated: for every kind of table transaction, cut after every single write, with the last one absent, torn
//! or whole, or with writes lost from a volatile cache; and then opened again.

mod clients;
mod damage;
pub(crate) mod disk;
mod oracle;
pub(crate) mod verbs;

use lockdriver::check::{Severity, check};
use ondisk::Geometry;

use disk::Recording;
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
    assert!(all_survive(&recordings) > 2_000);
}

#[test]
fn a_dead_writer_is_reaped_and_followed_whatever_crashes() {
    assert!(all_survive(&clients::a_death()) > 500);
}

#[test]
fn a_log_on_from_elsewhere_survives_a_crash_at_every_write() {
    assert!(all_survive(&clients::a_log_on_from_elsewhere()) > 200);
}

#[test]
fn every_administrators_verb_survives_a_crash_at_every_write() {
    if verbs::has_place_for_locks("crash::every_administrators_verb_survives_a_crash_at_every_write") {
        let recordings = verbs::a_week();
        assert_eq!(recordings.len(), 14, "each verb is there");
        assert!(all_survive(&recordings) > 2_000);
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
    assert!(count > 500, "{count} crashes");
}
