//! Claims about silence.

use ondisk::SlotIndex;

use super::*;
use crate::rules::Rules;
use crate::traces::bench::{Bench, Client, DEAD, EVERYTHING, at};

fn pair() -> (Bench, Client, Client) {
    let mut bench = Bench::new(2);
    let a = Client::new(&mut bench, 0, 1, Rules::ALL);
    let b = Client::new(&mut bench, 1, 3, Rules::ALL);
    (bench, a, b)
}

#[test]
fn stillness_runs_from_the_end_of_the_first_to_the_start_of_the_latest_read() {
    let (bench, mut a, b) = pair();
    a.look(&bench, at(1.0), at(2.0));
    assert_eq!(a.watch.still_for(b.me.slot), at(0.0));
    a.look(&bench, at(13.9), at(30.0));
    assert_eq!(a.watch.still_for(b.me.slot), at(11.9));
    assert!(!a.watch.is_silent(b.me.slot));
    a.look(&bench, at(14.0), at(14.0));
    assert!(a.watch.is_silent(b.me.slot));
}

#[test]
fn a_beat_in_either_sector_ends_the_silence() {
    let (mut bench, mut a, mut b) = pair();
    a.look(&bench, at(0.0), at(0.0));
    a.look(&bench, DEAD, DEAD);
    assert!(a.watch.is_silent(b.me.slot));
    b.beat(&mut bench);
    a.look(&bench, at(12.1), at(12.1));
    assert!(!a.watch.is_silent(b.me.slot));
    assert_eq!(a.watch.beat_age(b.me.slot, at(12.4)), Some(at(12.4) - at(12.1)));
}

#[test]
fn an_outage_of_the_own_path_proves_nothing_but_bytes_seen_before_and_after_it_do() {
    let (mut bench, mut a, mut b) = pair();
    a.look(&bench, at(0.0), at(0.0));
    bench.bad = vec![EVERYTHING];
    a.look(&bench, at(13.0), at(13.0));
    assert!(!a.watch.is_silent(b.me.slot));
    bench.bad.clear();
    b.beat(&mut bench);
    a.look(&bench, at(14.0), at(14.0));
    assert!(!a.watch.is_silent(b.me.slot), "it beat during the outage");
    bench.bad = vec![EVERYTHING];
    a.look(&bench, at(20.0), at(20.0));
    bench.bad.clear();
    a.look(&bench, at(27.0), at(27.0));
    assert!(a.watch.is_silent(b.me.slot), "two good reads saw the same bytes");
}

#[test]
fn a_judgement_is_about_the_poll_observed_last() {
    let (bench, mut a, b) = pair();
    let old = a.look(&bench, at(0.0), at(0.0));
    let new = a.look(&bench, DEAD, DEAD);
    assert_eq!(a.watch.judged(&old, b.me.slot), None);
    assert_eq!(a.watch.judged(&new, b.me.slot), Some(Incarnation(3)));
}

#[test]
fn the_highest_incarnation_seen_is_remembered() {
    let (mut bench, mut a, b) = pair();
    a.look(&bench, at(0.0), at(0.0));
    let range = bench.sector(b.me.slot, b.me.incarnation.sector());
    bench.tear(range);
    let poll = a.look(&bench, at(0.1), at(0.1));
    assert!(matches!(poll.slot(b.me.slot).unwrap().view, SlotView::Unknown(_)));
    assert_eq!(a.watch.highest_incarnation(b.me.slot), Incarnation(3));
    assert_eq!(a.watch.highest_incarnation(SlotIndex(999)), Incarnation(0));
}

#[test]
fn an_unknown_slot_is_silent_only_after_a_dense_row_of_unknown_reads() {
    let (mut bench, mut a, b) = pair();
    bench.tear(bench.sector(b.me.slot, 0));
    for second in 0..12 {
        a.look(&bench, at(f64::from(second)), at(f64::from(second)));
        assert!(!a.watch.is_silent(b.me.slot));
    }
    a.look(&bench, DEAD, DEAD);
    assert!(a.watch.is_silent(b.me.slot));
    a.look(&bench, at(30.0), at(30.0));
    assert!(!a.watch.is_silent(b.me.slot), "eighteen seconds without a look");
}
