//! What will break in a round, and when: all of it from the seed.
//!
//! What docs/safety.md takes for granted is kept: daemon and guardian of one client are not both hit within a quarter of the
//! lease, a path holds a write back for less than the margin between lease and death, and the machine goes on.

use std::fmt;

use volctl_tests::paths::Mode;

use crate::rng::Rng;
use crate::stage::{CONTROL, IMAGE};

/// A quarter of the lease is 500 ms; what comes after it, with something for a busy machine.
pub(crate) const APART_MS: u64 = 900;
/// A daemon that stands still needs its guardian until its lease of 2 s has run out and the gates are closed.
pub(crate) const LEASE_OVER_MS: u64 = 2_900;
/// Less than the margin of 2 s, also for a write that was sent just before the path became slow.
const HOLD_MS_MAX: u64 = 1_200;
/// Two times this is drained when a gate closes.
const DATA_DELAY_MS_MAX: u64 = 500;
const CONTROL_DELAY_MS_MAX: u64 = 1_200;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Process {
    Daemon,
    Guardian,
}

/// One thing that is done to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Kill(Process),
    Stop(Process),
    Continue(Process),
    /// The daemon is told to end in order.
    Terminate,
    /// A daemon, if none runs.
    Start,
    /// Its path to an image.
    Path(&'static str, Mode),
    /// Its programs are killed in the middle of a record.
    KillPrograms,
    /// It takes the volume over as an administrator.
    Takeover,
    /// A program fills the volume, if it can.
    Fill,
}

impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(image, mode) if *mode == Mode::PASS => write!(out, "{image} mended"),
            Self::Path(image, mode) => {
                write!(out, "{image}")?;
                let words = [
                    (mode.cut, "cut"),
                    (mode.hold, "held"),
                    (mode.fail_reads, "fails-reads"),
                    (mode.fail_writes, "fails-writes"),
                    (mode.fail_flushes, "fails-flushes"),
                    (mode.full, "full"),
                ];
                for (_, word) in words.iter().filter(|(is, _)| *is) {
                    write!(out, " {word}")?;
                }
                if mode.delay_ms > 0 { write!(out, " slow by {} ms", mode.delay_ms) } else { Ok(()) }
            }
            other => write!(out, "{}", format!("{other:?}").to_lowercase()),
        }
    }
}

/// To whom something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// This client.
    Client(usize),
    /// Whoever may write when the first of these with the same number is due.
    Writer(usize),
}

impl fmt::Display for Who {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(index) => write!(out, "{}", ["alice", "bob", "carol"][*index]),
            Self::Writer(0) => write!(out, "writer"),
            Self::Writer(_) => write!(out, "next-writer"),
        }
    }
}

/// An action, to whom, and when.
#[derive(Debug, Clone)]
pub(crate) struct Due {
    pub(crate) at_ms: u64,
    pub(crate) who: Who,
    pub(crate) action: Action,
}

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// In the order of their times.
    pub(crate) due: Vec<Due>,
    /// How long it goes on.
    pub(crate) until_ms: u64,
}

impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = self.due.iter().map(|d| format!("{} {}:{}", d.at_ms, d.who, d.action));
        write!(out, "{}", texts.collect::<Vec<_>>().join(", "))
    }
}

impl Plan {
    pub(crate) fn of(seed: u64, round: u64, clients: usize) -> Self {
        let mut rng = Rng::new(seed, round);
        let mut due = Vec::new();
        let mut hit = |who, rng: &mut Rng| {
            let both = rng.chance(25);
            let with_process = both || rng.chance(65);
            let mut add = |at_ms, action| due.push(Due { at_ms, who, action });
            let at = rng.range(0, 1_500);
            if with_process {
                process(rng, at, &mut add);
            }
            if both || !with_process {
                let at = rng.range(0, 1_500);
                path(rng, at, &mut add);
            }
        };
        let client = usize::try_from(rng.range(0, clients as u64)).expect("few");
        match rng.range(0, 10) {
            0..4 => hit(Who::Writer(0), &mut rng),
            4..6 => {
                hit(Who::Writer(0), &mut rng);
                hit(Who::Writer(1), &mut rng);
            }
            6..8 => {
                hit(Who::Writer(0), &mut rng);
                hit(Who::Client(client), &mut rng);
            }
            _ => hit(Who::Client(client), &mut rng),
        }
        if rng.chance(15) {
            let who = Who::Client(client);
            due.push(Due { at_ms: rng.range(0, 2_000), who, action: Action::Takeover });
        }
        due.sort_by_key(|d| d.at_ms);
        let until_ms = due.last().map_or(0, |d| d.at_ms) + rng.range(100, 800);
        Self { due, until_ms }
    }
}

/// For how long something stands still: mostly a moment, sometimes longer than the lease, sometimes longer than death.
fn pause(rng: &mut Rng) -> u64 {
    match rng.range(0, 10) {
        0..4 => rng.range(20, 700),
        4..7 => rng.range(700, 2_500),
        7..9 => rng.range(2_500, 4_500),
        _ => rng.range(4_500, 6_500),
    }
}

fn process(rng: &mut Rng, at: u64, add: &mut dyn FnMut(u64, Action)) {
    use Process::{Daemon, Guardian};
    let again = at + *rng.pick(&[0, 300, 1_000, 2_500]);
    match rng.range(0, 9) {
        0 | 1 => {
            add(at, Action::Kill(Daemon));
            add(again, Action::Start);
        }
        2 => add(at, Action::Kill(Guardian)),
        3 => {
            add(at, Action::Stop(Daemon));
            add(at + pause(rng), Action::Continue(Daemon));
        }
        4 => {
            add(at, Action::Stop(Guardian));
            add(at + pause(rng), Action::Continue(Guardian));
        }
        // Both, but not at once.
        5 => {
            let (one, other) = if rng.chance(50) { (Daemon, Guardian) } else { (Guardian, Daemon) };
            add(at, if rng.chance(50) { Action::Kill(one) } else { Action::Stop(one) });
            let apart = if one == Daemon { LEASE_OVER_MS } else { APART_MS };
            add(at + apart, Action::Kill(other));
            add(at + apart + pause(rng), Action::Continue(one));
            add(at + apart + 1_000, Action::Start);
        }
        6 => {
            add(at, Action::Terminate);
            add(again, Action::Start);
        }
        7 => add(at, Action::KillPrograms),
        _ => {
            // It stands still, is killed as it stands, and a new one comes.
            add(at, Action::Stop(Daemon));
            add(at + pause(rng).min(2_500), Action::Kill(Daemon));
            add(again + 2_600, Action::Start);
        }
    }
}

fn path(rng: &mut Rng, at: u64, add: &mut dyn FnMut(u64, Action)) {
    let control = rng.chance(45);
    let image = if control { CONTROL } else { IMAGE };
    let delay = rng.range(5, if control { CONTROL_DELAY_MS_MAX } else { DATA_DELAY_MS_MAX });
    let time = pause(rng).min(5_000);
    let (mode, time) = match rng.range(0, 8) {
        0 | 1 => (Mode { delay_ms: delay, ..Mode::PASS }, time),
        2 | 3 => (Mode { cut: true, ..Mode::PASS }, time),
        4 => (Mode { hold: true, ..Mode::PASS }, rng.range(50, HOLD_MS_MAX)),
        5 => (Mode { fail_writes: true, ..Mode::PASS }, time),
        6 if control => (Mode { fail_reads: true, ..Mode::PASS }, time),
        6 => (Mode { fail_flushes: true, ..Mode::PASS }, time),
        _ if control => (Mode { delay_ms: delay, fail_flushes: true, ..Mode::PASS }, time),
        _ if rng.chance(50) => (Mode { full: true, ..Mode::PASS }, time),
        _ => {
            add(at, Action::Fill);
            return;
        }
    };
    add(at, Action::Path(image, mode));
    // Held back, then lost or landed: both happen.
    if mode.hold && rng.chance(40) {
        add(at + time, Action::Path(image, Mode { cut: true, ..Mode::PASS }));
        add(at + time + rng.range(50, 1_000), Action::Path(image, Mode::PASS));
    } else {
        add(at + time, Action::Path(image, Mode::PASS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_the_same_each_time_and_keeps_what_is_taken_for_granted() {
        for round in 0..2_000 {
            let plan = Plan::of(7, round, 3);
            assert_eq!(format!("{plan}"), format!("{}", Plan::of(7, round, 3)));
            assert!(!plan.due.is_empty(), "round {round} does nothing");
            assert!(plan.until_ms < 12_000, "round {round} is long: {plan}");
            for a in &plan.due {
                for b in &plan.due {
                    let hits = |d: &Due| matches!(d.action, Action::Kill(_) | Action::Stop(_));
                    let same =
                        std::mem::discriminant(&a.action) == std::mem::discriminant(&b.action) && a.action == b.action;
                    if a.who == b.who && hits(a) && hits(b) && !same {
                        let of =
                            |d: &Due| matches!(d.action, Action::Kill(p) | Action::Stop(p) if p == Process::Daemon);
                        assert!(of(a) == of(b) || a.at_ms.abs_diff(b.at_ms) >= APART_MS, "round {round}: {plan}");
                    }
                }
            }
        }
    }
}
