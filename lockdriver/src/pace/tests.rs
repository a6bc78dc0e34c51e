//! Claims about a clock that stands still while others beat.

use super::*;
use crate::rules::Rules;
use crate::traces::bench::{BEAT, Bench, Client, EVERYTHING, at};

struct Pair {
    bench: Bench,
    own: Client,
    other: Client,
    pace: Pace,
}

fn pair() -> Pair {
    let mut bench = Bench::new(2);
    let own = Client::new(&mut bench, 0, 1, Rules::ALL);
    let other = Client::new(&mut bench, 1, 3, Rules::ALL);
    let pace = Pace::new(bench.geometry.slot_count(), BEAT);
    Pair { bench, own, other, pace }
}

impl Pair {
    fn poll(&mut self, begun: f64) -> Duration {
        let poll = self.own.look(&self.bench, at(begun), at(begun));
        self.pace.observe(&poll)
    }

    fn beats(&mut self, count: u32) {
        for _ in 0..count {
            self.other.beat(&mut self.bench);
        }
    }
}

#[test]
fn twenty_beats_of_another_in_a_quarter_second_are_a_paused_machine() {
    let mut p = pair();
    assert_eq!(p.poll(0.0), Duration::ZERO);
    p.beats(20);
    assert_eq!(p.poll(0.25), at(17.75));
    p.beats(1);
    assert_eq!(p.poll(0.5), Duration::ZERO, "a pause is told once");
}

#[test]
fn beats_at_their_own_time_and_a_late_one_with_the_next_explain_themselves() {
    let mut p = pair();
    for second in 0..30 {
        assert_eq!(p.poll(f64::from(second)), Duration::ZERO);
        p.beats(1);
    }
    p.beats(1);
    assert_eq!(p.poll(29.3), Duration::ZERO);
}

#[test]
fn an_outage_of_the_own_path_is_own_time() {
    let mut p = pair();
    p.poll(0.0);
    p.bench.bad = vec![EVERYTHING];
    p.poll(1.0);
    p.beats(20);
    p.bench.bad.clear();
    assert_eq!(p.poll(20.0), Duration::ZERO);
}

#[test]
fn a_new_daemon_in_the_slot_is_no_pace() {
    let mut p = pair();
    p.poll(0.0);
    p.other.sector.daemon_id = DaemonId([9; 16]);
    p.beats(50);
    assert_eq!(p.poll(0.25), Duration::ZERO);
    p.other.sector.beat = 0;
    p.beats(1);
    assert_eq!(p.poll(0.5), Duration::ZERO, "a counter that went back shows nothing");
}
