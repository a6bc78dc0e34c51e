//! The lease deadline that daemon and guardian share: one 64-bit word in shared memory, and one arbiter for "it is over".
//!
//! Two processes look at the same lease with two views of the clock (trace E7: the extender computes at 7.99 and stores at 8.01
//! while the guardian closes at 8.00). The word decides. Whoever finds it passed ends it *first*, by compare-exchange to 0, and
//! only then acts on the end; the extender's compare-exchange from the value that it read then fails, and it is the extender who
//! learns that its lease is over. If the extender's exchange comes first, nobody has acted on an end, the extension counts, and it
//! rests on a beat that was on disk in time: others count `dead` from that beat. Nothing ever leaves 0 (section 6).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use crate::sys::memory::SharedPage;

/// Ended for good.
const OVER: u64 = 0;
/// Not begun. As a time it lies in the first nanosecond after boot, so code that took it for one would find it passed.
const NOT_BEGUN: u64 = 1;

const WORD_MAGIC: usize = 0;
const WORD_LEASE: usize = 1;
// A line of the cache each: the ticks are written without a pause.
const WORD_GUARDIAN_TICK: usize = 8;
const WORD_DAEMON_TICK: usize = 16;

const MAGIC: u64 = u64::from_le_bytes(*b"vcLease1");

/// The lease has ended and will not come back; this incarnation may do nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the lease is over: this incarnation may not act any more and the client must log on anew")]
pub struct LeaseOver;

/// What the lease word says at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseView {
    /// No beat was confirmed yet: nothing may be done, but it can still begin.
    NotBegun,
    /// The client may act until `until` (boot time).
    Live {
        /// Boot time at which the lease ends unless it is extended.
        until: Duration,
    },
    /// Over for good.
    Over,
}

impl LeaseView {
    /// True while the client may act.
    #[must_use]
    pub fn is_live(self) -> bool {
        matches!(self, Self::Live { .. })
    }
}

/// The shared lease word and the ticks of the two processes. All times are boot time ([`crate::sys::clock::boottime`]).
#[derive(Debug, Clone)]
pub struct SharedDeadline {
    page: Arc<SharedPage>,
}

impl SharedDeadline {
    /// A lease that has not begun, in memory of its own.
    ///
    /// # Errors
    /// When memory or descriptors are out.
    pub fn create() -> io::Result<Self> {
        let page = SharedPage::create(c"volctl-lease")?;
        page.word(WORD_LEASE).store(NOT_BEGUN, SeqCst);
        page.word(WORD_MAGIC).store(MAGIC, SeqCst);
        Ok(Self { page: Arc::new(page) })
    }

    /// The lease behind a descriptor that another process passed on.
    ///
    /// # Errors
    /// `InvalidData` when it is something else.
    pub fn from_fd(memory: OwnedFd) -> io::Result<Self> {
        let page = SharedPage::map(memory)?;
        if page.word(WORD_MAGIC).load(SeqCst) != MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "shared memory holds no lease"));
        }
        Ok(Self { page: Arc::new(page) })
    }

    /// Begins the lease, or extends it, to `until`. `now` is read from the clock just before. Never shortens.
    ///
    /// # Errors
    /// [`LeaseOver`] when it has ended, when `now` shows that it has passed (it is ended then), or when `until` is itself past.
    pub fn extend(&self, now: Duration, until: Duration) -> Result<(), LeaseOver> {
        let target = nanos(until);
        let mut seen = self.lease().load(SeqCst);
        loop {
            let passed = seen == OVER || (seen != NOT_BEGUN && seen <= nanos(now));
            if !passed && seen != NOT_BEGUN && target <= seen {
                return Ok(());
            }
            if passed || target <= nanos(now).max(NOT_BEGUN) {
                self.end();
                return Err(LeaseOver);
            }
            match self.lease().compare_exchange(seen, target, SeqCst, SeqCst) {
                Ok(_) => return Ok(()),
                Err(other) => seen = other,
            }
        }
    }

    /// Ends the lease for good, begun or not.
    pub fn end(&self) {
        self.lease().store(OVER, SeqCst);
    }

    /// What the lease is at `now`. Finding it passed ends it first, so that no extender can think otherwise afterwards.
    #[must_use]
    pub fn get(&self, now: Duration) -> LeaseView {
        let mut seen = self.lease().load(SeqCst);
        loop {
            match seen {
                OVER => return LeaseView::Over,
                NOT_BEGUN => return LeaseView::NotBegun,
                until if until > nanos(now) => {
                    return LeaseView::Live { until: Duration::from_nanos(until) };
                }
                passed => match self.lease().compare_exchange(passed, OVER, SeqCst, SeqCst) {
                    Ok(_) => return LeaseView::Over,
                    Err(other) => seen = other,
                },
            }
        }
    }

    /// The guardian says that it runs.
    pub fn tick_guardian(&self, now: Duration) {
        self.page.word(WORD_GUARDIAN_TICK).store(nanos(now), SeqCst);
    }

    /// Boot time of the guardian's last tick; zero before the first.
    #[must_use]
    pub fn guardian_tick(&self) -> Duration {
        Duration::from_nanos(self.page.word(WORD_GUARDIAN_TICK).load(SeqCst))
    }

    /// The daemon's engine says that it runs.
    pub fn tick_daemon(&self, now: Duration) {
        self.page.word(WORD_DAEMON_TICK).store(nanos(now), SeqCst);
    }

    /// Boot time of the daemon's last tick; zero before the first.
    #[must_use]
    pub fn daemon_tick(&self) -> Duration {
        Duration::from_nanos(self.page.word(WORD_DAEMON_TICK).load(SeqCst))
    }

    fn lease(&self) -> &AtomicU64 {
        self.page.word(WORD_LEASE)
    }
}

impl AsFd for SharedDeadline {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.page.as_fd()
    }
}

/// Boot time as nanoseconds; 584 years fit.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_lease_not_begun_is_not_live_and_can_begin() {
        let lease = SharedDeadline::create().unwrap();
        assert_eq!(lease.get(at(1)), LeaseView::NotBegun);
        lease.extend(at(1), at(8000)).unwrap();
        assert_eq!(lease.get(at(7999)), LeaseView::Live { until: at(8000) });
    }

    #[test]
    fn a_lease_ended_before_it_began_never_begins() {
        let lease = SharedDeadline::create().unwrap();
        lease.end();
        assert_eq!(lease.extend(at(1), at(8000)), Err(LeaseOver));
        assert_eq!(lease.get(at(1)), LeaseView::Over);
    }

    #[test]
    fn an_ended_word_never_comes_back() {
        let lease = SharedDeadline::create().unwrap();
        lease.extend(at(0), at(8000)).unwrap();
        assert_eq!(lease.get(at(8000)), LeaseView::Over);
        // Even a clock that stands before the old end changes nothing.
        assert_eq!(lease.extend(at(7000), at(16000)), Err(LeaseOver));
        assert_eq!(lease.get(at(0)), LeaseView::Over);
    }

    #[test]
    fn late_beat_extends_nothing() {
        let lease = SharedDeadline::create().unwrap();
        lease.extend(at(0), at(8000)).unwrap();
        assert_eq!(lease.extend(at(8000), at(15990)), Err(LeaseOver));
        // The extender found it passed, so it is ended for the guardian too.
        assert_eq!(lease.get(at(0)), LeaseView::Over);
    }

    #[test]
    fn extender_that_read_the_clock_in_time_loses_to_a_guardian_that_ended_it() {
        let lease = SharedDeadline::create().unwrap();
        lease.extend(at(0), at(8000)).unwrap();
        let computed_at = at(7990);
        assert_eq!(lease.get(at(8000)), LeaseView::Over); // the guardian, at 8.00
        assert_eq!(lease.extend(computed_at, at(15990)), Err(LeaseOver)); // stores at 8.01
        assert_eq!(lease.get(at(8010)), LeaseView::Over);
    }

    #[test]
    fn an_extension_never_shortens() {
        let lease = SharedDeadline::create().unwrap();
        lease.extend(at(0), at(8000)).unwrap();
        lease.extend(at(1), at(5000)).unwrap();
        lease.extend(at(6000), at(5000)).unwrap();
        assert_eq!(lease.get(at(1)), LeaseView::Live { until: at(8000) });
    }

    #[test]
    fn the_other_process_sees_the_same_word() {
        let lease = SharedDeadline::create().unwrap();
        let other = SharedDeadline::from_fd(lease.as_fd().try_clone_to_owned().unwrap()).unwrap();
        lease.extend(at(0), at(10)).unwrap();
        assert!(other.get(at(9)).is_live());
        other.end();
        assert_eq!(lease.get(at(9)), LeaseView::Over);
        other.tick_guardian(at(5));
        assert_eq!(lease.guardian_tick(), at(5));
        lease.tick_daemon(at(6));
        assert_eq!(other.daemon_tick(), at(6));
    }

    #[test]
    fn in_every_race_of_extender_and_ender_both_agree_in_the_end() {
        for round in 0..2000 {
            let lease = SharedDeadline::create().unwrap();
            lease.extend(at(0), at(8000)).unwrap();
            let (extended, seen) = std::thread::scope(|scope| {
                let extender = scope.spawn(|| lease.extend(at(7990), at(15990)));
                let guardian = scope.spawn(|| lease.get(at(8000 + round % 2)));
                (extender.join().unwrap(), guardian.join().unwrap())
            });
            match (extended, seen) {
                (Ok(()), view) => assert_eq!(view, LeaseView::Live { until: at(15990) }),
                (Err(LeaseOver), view) => assert_eq!(view, LeaseView::Over),
            }
        }
    }
}
