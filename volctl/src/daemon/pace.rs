//! How soon the next poll comes. The engine says how soon it could use one; but a request may stand for minutes before
//! somebody answers, and a poll every 10 ms reads half a megabyte each time, from storage that everybody shares. So what
//! does not move is looked at less and less often, and fast again from the first change on.

use std::time::Duration;

/// Nothing has moved for this long: [`SLOWER`].
const STILL: Duration = Duration::from_secs(2);
/// Nothing has moved for this long: [`SLOW`].
const LONG_STILL: Duration = Duration::from_secs(10);
const SLOWER: Duration = Duration::from_millis(50);
const SLOW: Duration = Duration::from_millis(100);

/// The pace of one login's polls.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    idle: Duration,
    moved_at: Duration,
    changes: u64,
}

impl Pace {
    /// `idle` is the time between two polls of a client that waits for nothing.
    #[must_use]
    pub fn new(idle: Duration) -> Self {
        Self { idle, moved_at: Duration::ZERO, changes: 0 }
    }

    /// The time until the next poll. `wanted` is the engine's wish, `changes` counts what polls showed anew, `acted` says
    /// that the engine did something; `now` is CLOCK_BOOTTIME.
    pub fn next(&mut self, wanted: Duration, changes: u64, acted: bool, now: Duration) -> Duration {
        let changed = std::mem::replace(&mut self.changes, changes) != changes;
        if acted || changed || wanted >= self.idle {
            self.moved_at = now;
        }
        let still = now.saturating_sub(self.moved_at);
        let slowed = if still < STILL {
            wanted
        } else if still < LONG_STILL {
            SLOWER
        } else {
            SLOW
        };
        slowed.max(wanted).min(self.idle.max(wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Duration = Duration::from_millis(10);
    const IDLE: Duration = Duration::from_millis(250);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1000 + seconds)
    }

    #[test]
    fn what_moves_is_polled_fast_and_what_stands_slower_and_slower() {
        let mut pace = Pace::new(IDLE);
        assert_eq!(pace.next(FAST, 1, true, at(0)), FAST);
        assert_eq!(pace.next(FAST, 1, false, at(1)), FAST);
        assert_eq!(pace.next(FAST, 1, false, at(3)), SLOWER);
        assert_eq!(pace.next(FAST, 1, false, at(60)), SLOW);
        assert_eq!(pace.next(FAST, 2, false, at(61)), FAST, "somebody else did something");
        assert_eq!(pace.next(FAST, 2, false, at(70)), SLOWER);
        assert_eq!(pace.next(FAST, 2, true, at(71)), FAST, "this client did something");
    }

    #[test]
    fn a_wait_begins_fast_after_any_idle_time() {
        let mut pace = Pace::new(IDLE);
        assert_eq!(pace.next(IDLE, 1, false, at(0)), IDLE);
        assert_eq!(pace.next(IDLE, 1, false, at(600)), IDLE);
        assert_eq!(pace.next(FAST, 1, false, at(600)), FAST);
    }

    #[test]
    fn a_wait_is_never_polled_slower_than_no_wait() {
        let idle = Duration::from_millis(20);
        let mut pace = Pace::new(idle);
        pace.next(FAST, 1, true, at(0));
        assert_eq!(pace.next(FAST, 1, false, at(60)), idle);
        assert_eq!(pace.next(idle, 1, false, at(120)), idle);
    }
}
