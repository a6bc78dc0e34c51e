//! Did this machine stand still? Its own clock cannot tell (trace C7), the other clients' beat counters can.
//!
//! A counter grows at most once a `beat`, however often its slot is written. Of `k` beats that became visible between
//! two reads, all but the first two were begun between them, each a `beat` after the one before: so `(k - 2)` times
//! `beat` have passed for the others. What the own clock does not show of that is time in which it stood.

use std::time::Duration;

use ondisk::elect::SlotView;
use ondisk::{DaemonId, Incarnation};

use crate::poll::Poll;

/// Beats that two reads, however near to each other, may show: one that was under way for long, and the one after it.
const AT_ONCE: u64 = 2;

#[derive(Debug, Clone, Copy)]
struct Seen {
    incarnation: Incarnation,
    daemon: DaemonId,
    beat: u64,
    /// When the read that showed it was begun.
    begun: Duration,
}

/// Compares the own clock with the beat counters of all slots, poll by poll.
#[derive(Debug, Clone)]
pub struct Pace {
    beat: Duration,
    seen: Vec<Option<Seen>>,
}

impl Pace {
    /// For `slots` slots; `beat` is the control volume's.
    #[must_use]
    pub fn new(slots: usize, beat: Duration) -> Self {
        Self { beat, seen: vec![None; slots] }
    }

    /// Takes in a poll. Returns for how long, at least, the own clock stood since the poll before: zero in health.
    pub fn observe(&mut self, poll: &Poll) -> Duration {
        let mut stood = Duration::ZERO;
        for (seen, reading) in self.seen.iter_mut().zip(&poll.slots) {
            // An unknown slot shows nothing; what was seen before it still counts from its own time on.
            let SlotView::Known(slot) = &reading.view else { continue };
            let now =
                Seen { incarnation: slot.incarnation, daemon: slot.daemon_id, beat: slot.beat, begun: poll.begun };
            let before = seen.replace(now);
            let same = before.filter(|b| b.incarnation == now.incarnation && b.daemon == now.daemon);
            if let Some(before) = same {
                let own = poll.ended.saturating_sub(before.begun);
                stood = stood.max(unexplained(self.beat, now.beat.wrapping_sub(before.beat), own));
            }
        }
        stood
    }
}

/// What `beats` beats took at least, less what the own clock says.
fn unexplained(beat: Duration, beats: u64, own: Duration) -> Duration {
    // A counter that went back is no pace at all.
    if beats > u64::MAX / 2 {
        return Duration::ZERO;
    }
    let spaced = u32::try_from(beats.saturating_sub(AT_ONCE)).unwrap_or(u32::MAX);
    beat.saturating_mul(spaced).saturating_sub(own)
}

#[cfg(test)]
mod tests;
