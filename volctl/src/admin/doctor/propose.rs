//! What a device is good for, with which lock and which times, and why: from facts alone.

use std::time::Duration;

use ondisk::{LockKind, Timings};
use serde::Serialize;

use crate::units::format_duration;
use crate::volumes::describe::DeviceKind;
use crate::volumes::inflight::Setting;

/// The facts that decide.
#[derive(Debug, Clone)]
pub(super) struct Case<'a> {
    /// What it is.
    pub(super) kind: DeviceKind,
    /// Only this host can reach it: an image on a local file system, also under a loop device.
    pub(super) local: bool,
    /// Several paths lead to it.
    pub(super) several_paths: bool,
    /// The longest time that one request took.
    pub(super) worst: Option<Duration>,
    /// What the kernel says of the path.
    pub(super) settings: &'a [Setting],
    /// The kind of lock that was chosen by trying, if anything was tried.
    pub(super) proven: Option<LockKind>,
}

/// A lock, times, and the reason for each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Proposal {
    pub(super) lock: LockKind,
    #[serde(flatten)]
    pub(super) timings: Timings,
    pub(super) reasons: Vec<Reason>,
}

/// Why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Reason {
    /// `lock`, `lease`, `beat`, `dead`, `poll`.
    pub(super) of: &'static str,
    pub(super) why: String,
}

/// The shortest lease that is proposed, for one host's own images.
const LEASE_LOCAL: u64 = 2_000;
/// The one for shared storage, unless something there takes longer.
const LEASE_SHARED: u64 = 8_000;
/// Nobody waits longer for a dead client; what takes longer in health must be made faster.
const LEASE_MAX: u64 = 60_000;
/// A few seconds of measuring do not see the worst of a year.
const TAIL: u32 = 20;
/// Above this a local disk is no fast one.
const LOCAL_WORST: Duration = Duration::from_millis(50);
const POLL_MS: u32 = 250;

/// Proposes lock and times.
pub(super) fn propose(case: &Case<'_>) -> Proposal {
    let (lease_ms, why_lease) = lease(case);
    let lease = u32::try_from(lease_ms).unwrap_or(u32::MAX);
    let beat_ms = lease / 8;
    // A claim from another host, a gate that drains and clocks that drift: all of them live in `margin`.
    let dead_ms = lease + (lease / 2).max(2_000);
    let timings = Timings { beat_ms, lease_ms: lease, dead_ms, poll_ms: POLL_MS.min(beat_ms) };
    debug_assert_eq!(timings.broken_rule(), None);
    let time = |time: Duration| format_duration(time);
    let reasons = vec![
        Reason { of: "lock", why: why_lock(case) },
        Reason { of: "lease", why: why_lease },
        Reason {
            of: "beat",
            why: format!(
                "an eighth of the lease: seven beats in a row may be lost or late before {} are over",
                time(timings.lease())
            ),
        },
        Reason {
            of: "dead",
            why: format!(
                "the lease and a margin of {}, in which gates are closed and late writes of slots land (at least 2s and a \
                 quarter of the lease)",
                time(timings.margin())
            ),
        },
        Reason { of: "poll", why: "never slower than the beat; `init` sets it itself".to_owned() },
    ];
    Proposal { lock: case.proven.unwrap_or(LockKind::Bakery), timings, reasons }
}

fn why_lock(case: &Case<'_>) -> String {
    let safe = "bakery needs reads and writes only and is safe without any promise of the device";
    match case.kind {
        _ if case.proven == Some(LockKind::Pr) => {
            "the storage itself refuses whoever was passed: that was proven here by a refused write".to_owned()
        }
        _ if case.proven == Some(LockKind::Caw) => {
            "who is inside is decided by the device in one act: COMPARE AND WRITE was proven here".to_owned()
        }
        _ if case.local => format!("{safe}; ofd would do as well while every client runs on this one host"),
        DeviceKind::Scsi | DeviceKind::Nvme | DeviceKind::Multipath if case.proven.is_none() => {
            format!("{safe}; reservations (pr, caw) were not tried here, and are proposed only where they were proven")
        }
        DeviceKind::Virtio => format!("{safe}; a virtio disk has no reservations"),
        _ => safe.to_owned(),
    }
}

fn lease(case: &Case<'_>) -> (u64, String) {
    let worst = case.worst.unwrap_or_default();
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let measured = |why: String| match case.worst {
        Some(worst) => format!("{why}; the longest request here took {}", short(worst)),
        None => format!("{why}; nothing was measured"),
    };
    if case.local && case.worst.is_some() && worst <= LOCAL_WORST {
        return (LEASE_LOCAL, measured("the shortest set, for clients on this one host".to_owned()));
    }
    let tail = millis(worst.saturating_mul(TAIL));
    let failover = if case.several_paths { failover(case.settings) } else { None };
    let needed = tail.max(failover.as_ref().map_or(0, |(time, _)| millis(*time).saturating_mul(2)));
    let lease = needed.clamp(LEASE_SHARED, LEASE_MAX).next_multiple_of(1_000);
    let why = match &failover {
        Some((time, setting)) if millis(*time).saturating_mul(2) > LEASE_SHARED => {
            let cut = if needed > LEASE_MAX { "; that is too long for any lease: shorten it" } else { "" };
            format!("twice the {} after which a lost path is given up ({setting}){cut}", format_duration(*time))
        }
        _ if tail > LEASE_SHARED => {
            format!("{TAIL} times the longest request, since a short measurement misses the worst")
        }
        Some((time, setting)) => {
            format!("the default; a lost path is given up after {} ({setting})", format_duration(*time))
        }
        None => "the default: several times the hiccups that shared storage has in health".to_owned(),
    };
    (lease, measured(why))
}

/// When a request that went into a lost path is sent on another one: the settings of the slowest path.
fn failover(settings: &[Setting]) -> Option<(Duration, String)> {
    let all = |name: &str| {
        settings
            .iter()
            .filter(|setting| setting.name == name)
            .filter_map(|setting| Some((setting.value.parse::<u64>().ok()?, format!("{} of {}", name, setting.of))))
            .max()
    };
    let seconds = |(value, words)| (Duration::from_secs(value), words);
    if let Some((hold, words)) = all("recovery_tmo") {
        let more = ["recv_tmo", "ping_tmo"].into_iter().filter_map(all).map(|(value, _)| value).sum::<u64>();
        return Some(seconds((hold.saturating_add(more), format!("{words}, and the time to notice it"))));
    }
    if let Some(fast) =
        all("fast_io_fail_tmo").or_else(|| all("dev_loss_tmo")).filter(|_| all("queue/io_timeout").is_none())
    {
        return Some(seconds(fast));
    }
    if let Some((value, words)) = all("queue/io_timeout") {
        return Some((Duration::from_millis(value), words));
    }
    all("timeout").map(seconds)
}

/// Microseconds and milliseconds as people read them.
pub(super) fn short(time: Duration) -> String {
    match time.as_micros() {
        us @ 0..1_000 => format!("{us}us"),
        us @ 1_000..1_000_000 => format!("{}.{}ms", us / 1_000, us % 1_000 / 100),
        us => format!("{}.{}s", us / 1_000_000, us % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(of: &str, name: &str, value: &str) -> Setting {
        Setting { of: of.into(), name: name.into(), value: value.into(), meaning: "" }
    }

    fn case(settings: &[Setting]) -> Case<'_> {
        Case { kind: DeviceKind::Multipath, local: false, several_paths: true, worst: None, settings, proven: None }
    }

    fn lease_of(proposal: &Proposal) -> u32 {
        proposal.timings.lease_ms
    }

    fn why<'p>(proposal: &'p Proposal, of: &str) -> &'p str {
        &proposal.reasons.iter().find(|reason| reason.of == of).expect("a reason").why
    }

    /// Whatever was measured and read, `init` takes it.
    #[test]
    fn no_proposal_breaks_a_rule_of_the_timings_and_each_has_its_reasons() {
        let values = ["0", "1", "5", "7", "15", "120", "600", "2147483647", "18446744073709551615", "off"];
        for local in [false, true] {
            for several_paths in [false, true] {
                for name in ["recovery_tmo", "fast_io_fail_tmo", "queue/io_timeout", "timeout"] {
                    for value in values {
                        for worst in
                            [None, Some(0), Some(40), Some(51), Some(333), Some(1_234), Some(3_600_000), Some(u64::MAX)]
                        {
                            let settings = [setting("x", name, value)];
                            let worst = worst.map(Duration::from_millis);
                            let case = Case {
                                kind: DeviceKind::Scsi,
                                local,
                                several_paths,
                                worst,
                                settings: &settings,
                                proven: None,
                            };
                            let proposal = propose(&case);
                            assert_eq!(proposal.timings.broken_rule(), None, "{case:?}: {proposal:?}");
                            for of in ["lock", "lease", "beat", "dead", "poll"] {
                                assert!(!why(&proposal, of).is_empty());
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_local_image_gets_short_times_and_a_slow_one_the_defaults() {
        let mut case = Case {
            kind: DeviceKind::File,
            local: true,
            several_paths: false,
            worst: Some(Duration::from_millis(2)),
            settings: &[],
            proven: None,
        };
        let fast = propose(&case);
        assert_eq!((fast.timings.beat_ms, fast.timings.lease_ms, fast.timings.dead_ms), (250, 2_000, 4_000));
        assert!(why(&fast, "lock").contains("ofd"));
        case.worst = Some(Duration::from_millis(51));
        assert_eq!(lease_of(&propose(&case)), 8_000);
        case.worst = None;
        assert_eq!(propose(&case).timings, Timings::default());
    }

    #[test]
    fn a_path_that_is_given_up_late_makes_the_lease_long() {
        let slow = [
            setting("session1", "recovery_tmo", "15"),
            setting("session2", "recovery_tmo", "5"),
            setting("c", "recv_tmo", "5"),
        ];
        let proposal = propose(&case(&slow));
        assert_eq!(lease_of(&proposal), 40_000);
        assert!(why(&proposal, "lease").contains("recovery_tmo of session1"), "{}", why(&proposal, "lease"));
        let linux = [setting("session1", "recovery_tmo", "120")];
        let proposal = propose(&case(&linux));
        assert_eq!(lease_of(&proposal), 60_000);
        assert!(why(&proposal, "lease").contains("shorten it"));
        let single = propose(&Case { several_paths: false, ..case(&linux) });
        assert_eq!(lease_of(&single), 8_000, "there is no other path to fail over to");
        let fast = [setting("rport-1", "fast_io_fail_tmo", "3"), setting("sda", "timeout", "30")];
        assert_eq!(lease_of(&propose(&case(&fast))), 8_000);
        let nvme = [setting("nvme0", "fast_io_fail_tmo", "3"), setting("n", "queue/io_timeout", "10000")];
        assert_eq!(
            lease_of(&propose(&case(&nvme))),
            20_000,
            "a command that is lost in a dead link waits for its own time"
        );
    }

    #[test]
    fn what_was_proven_is_proposed_and_the_reason_says_so() {
        let shared = Case { kind: DeviceKind::Scsi, ..case(&[]) };
        assert!(why(&propose(&shared), "lock").contains("not tried"));
        for (kind, words) in
            [(LockKind::Pr, "refused write"), (LockKind::Caw, "COMPARE AND WRITE"), (LockKind::Bakery, "safe")]
        {
            let proposal = propose(&Case { proven: Some(kind), ..shared.clone() });
            assert_eq!(proposal.lock, kind);
            assert!(why(&proposal, "lock").contains(words) && !why(&proposal, "lock").contains("not tried"));
        }
    }

    #[test]
    fn slow_storage_makes_the_lease_long() {
        let case = Case {
            kind: DeviceKind::Scsi,
            local: false,
            several_paths: false,
            worst: Some(Duration::from_millis(600)),
            settings: &[],
            proven: None,
        };
        let proposal = propose(&case);
        assert_eq!(lease_of(&proposal), 12_000);
        assert!(why(&proposal, "lease").contains("600.0ms"), "{}", why(&proposal, "lease"));
    }

    #[test]
    fn times_are_short_to_read() {
        assert_eq!(short(Duration::from_micros(58)), "58us");
        assert_eq!(short(Duration::from_micros(12_340)), "12.3ms");
        assert_eq!(short(Duration::from_millis(2_540)), "2.5s");
    }
}
