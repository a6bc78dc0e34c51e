//! The one clock: CLOCK_BOOTTIME, which counts suspend (section 6).

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Time since this kernel started, suspend included.
///
/// # Panics
/// Never on Linux 2.6.39 or later: the clock is always there.
#[must_use]
pub fn boottime() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("every supported kernel has CLOCK_BOOTTIME");
    Duration::from(time)
}

#[cfg(test)]
mod tests {
    use super::boottime;

    #[test]
    fn boottime_never_goes_back() {
        let first = boottime();
        assert!(!first.is_zero());
        assert!(boottime() >= first);
    }
}
