//! The writer's daemon, or its guardian, is stopped or killed at every point of what a writer does: nobody may write after
//! another has the grant, and nothing stable may be lost.

use std::fmt;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use volctl::wire::call::{Answer3, AnswerCall, Call};
use volctl::wire::client::Client as Wire;
use volctl::wire::status::VolumeState;
use volctl_tests::studio::{Client, write_synced};

use crate::plan::Process;
use crate::rng::Rng;
use crate::scribe::Scribe;
use crate::stage::{Stage, VOLUME, volume};
use crate::{chaos, heal};

const SOON: Duration = Duration::from_secs(10);
/// For how long it stands still: a moment, longer than the lease, longer than death.
const STOPS_MS: [u64; 3] = [300, 3_000, 6_000];
/// By then a hand-over or a log-off is over, on a machine with nothing else to do.
const OPERATION: Duration = Duration::from_millis(150);

/// What the writer is doing when it is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    /// Somebody asked, and yes was said.
    HandOver,
    /// A program writes, and it publishes every 300 ms.
    Publish,
    /// It was told to end.
    LogOff,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    doing: Doing,
    whom: Process,
    /// None: it is killed.
    stop_ms: Option<u64>,
    at: Duration,
}

impl fmt::Display for Case {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { doing, whom, stop_ms, at } = self;
        let how = stop_ms.map_or("killed".to_owned(), |ms| format!("stopped for {ms} ms"));
        write!(out, "{doing:?}: {whom:?} {how} after {} ms", at.as_millis())
    }
}

fn grid(step: Duration) -> Vec<Case> {
    let mut cases = Vec::new();
    for doing in [Doing::HandOver, Doing::Publish, Doing::LogOff] {
        for whom in [Process::Daemon, Process::Guardian] {
            for stop_ms in STOPS_MS.map(Some).into_iter().chain([None]) {
                let mut at = Duration::ZERO;
                while at < OPERATION {
                    cases.push(Case { doing, whom, stop_ms, at });
                    at += step;
                }
            }
        }
    }
    cases
}

/// Every case, or `count` of them that the seed picks.
pub(crate) fn all(stage: &Stage, step: Duration, count: Option<u64>, seed: u64) {
    let cases = grid(step.max(Duration::from_millis(1)));
    let mut rng = Rng::new(seed, 0);
    let picked: Vec<Case> = match count {
        Some(count) => (0..count).map(|_| *rng.pick(&cases)).collect(),
        None => cases,
    };
    for (number, case) in picked.iter().enumerate() {
        let begun = Instant::now();
        stage.history.begin();
        stage.history.add(format!("SWEEP  {case}"));
        one(stage, number, *case);
        println!(
            "{} {number:>4} of {} in {:>5} ms  {case}",
            stage.fs.word(),
            picked.len(),
            begun.elapsed().as_millis()
        );
    }
}

fn one(stage: &Stage, number: usize, case: Case) {
    stage.ledger.begin();
    let writer = stage.client(number % stage.clients.len());
    let asker = stage.client((number + 1) % stage.clients.len());
    let _ = writer.cli(&["request", VOLUME, "--wait", "20s"]).ok();
    writer.until_state(VOLUME, VolumeState::Rw, SOON);
    let entry = stage.ledger.entry(format!("s{number}-{}", writer.name()));
    let mut scribe = Scribe::start(&writer.path(VOLUME, ""), &entry).expect("a program");
    stage.studio().wait_until("a few records", SOON, || stage.ledger.told() > 2 || scribe.has_ended());
    let asking = asker.begin(&["request", VOLUME, "--wait", "40s"]);
    writer.until("the request is there", SOON, |s| s.requests.iter().any(|r| r.from == asker.name()));
    let hit = begin(stage, writer, asker, case, &mut scribe);
    let asked = asking.wait();
    assert!(asked.code == 0, "{} does not get it: {asked}", asker.name());
    let waited = hit.elapsed();
    stage.history.add(format!("SWEEP  {} has it {} ms after the blow", asker.name(), waited.as_millis()));
    let limit = stage.studio().patience(stage.studio().timings.dead() + Duration::from_secs(5));
    assert!(waited < limit, "{} has it only after {waited:?}", asker.name());
    asker.until_state(VOLUME, VolumeState::Rw, SOON);
    // Now is when something of the old writer would do harm.
    for turn in 0..5 {
        write_synced(&asker.path(VOLUME, "by-the-new-writer"), &"new ".repeat(20_000 + turn));
    }
    if let Some(ms) = case.stop_ms {
        std::thread::sleep(Duration::from_millis(ms).saturating_sub(hit.elapsed()));
    }
    writer.resume();
    drop(scribe);
    back(stage, writer);
    stage.ledger.check(&asker.path(VOLUME, "")).unwrap_or_else(|lost| panic!("{lost}"));
    let _ = asker.cli(&["release", VOLUME]).ok();
    heal::nothing_is_wrong(stage);
}

/// Begins what the writer does, and hits it at its point.
fn begin(stage: &Stage, writer: &Client, asker: &Client, case: Case, scribe: &mut Scribe) -> Instant {
    let begun;
    match case.doing {
        Doing::HandOver => {
            scribe.end(SOON);
            let mut wire = Wire::connect(&writer.socket()).expect("it listens");
            let (volume, client) = (VOLUME.into(), asker.name().into());
            let call = Call::Answer(AnswerCall { volume, client, answer: Answer3::Yes, message: String::new() });
            begun = Instant::now();
            // Its reply may never come.
            std::thread::spawn(move || drop(wire.call(&call)));
        }
        Doing::Publish => {
            let generation = || writer.try_status().and_then(|s| Some(volume(&s)?.generation.clone()));
            let before = generation();
            if stage.readers != "exclusive" {
                stage.studio().wait_until("it publishes", SOON, || generation() != before);
            }
            // The next one comes after the interval, and some 50 ms are left of this window before it and after it.
            begun = Instant::now() + Duration::from_millis(250);
        }
        Doing::LogOff => {
            scribe.end(SOON);
            begun = Instant::now();
            let _ = writer.try_signal(Signal::SIGTERM);
        }
    }
    std::thread::sleep((begun + case.at).saturating_duration_since(Instant::now()));
    let signal = if case.stop_ms.is_some() { Signal::SIGSTOP } else { Signal::SIGKILL };
    let hit = Instant::now();
    let there = match case.whom {
        Process::Daemon => writer.try_signal(signal),
        Process::Guardian => writer.try_guardian().is_some_and(|pid| kill(pid, signal).is_ok()),
    };
    stage.history.add(format!("SWEEP  the blow{}", if there { "" } else { " came too late" }));
    if case.doing == Doing::Publish && case.stop_ms.is_some() {
        // A writer that goes on after a moment has to be asked.
        std::thread::sleep(Duration::from_millis(case.stop_ms.unwrap_or(0).min(400)));
        if case.stop_ms == Some(STOPS_MS[0]) {
            writer.resume();
            scribe.end(SOON);
            let _ = writer.cli(&["release", VOLUME]);
        }
    } else if case.stop_ms == Some(STOPS_MS[0]) {
        std::thread::sleep(Duration::from_millis(STOPS_MS[0]));
        writer.resume();
    }
    hit
}

/// The writer's daemon is there again, logged on.
fn back(stage: &Stage, writer: &Client) {
    let begun = Instant::now();
    let limit = stage.studio().timings.dead() * 3;
    while writer.try_status().is_none_or(|s| s.incarnation == 0) {
        let _ = chaos::start(writer);
        let limit = stage.studio().patience(limit);
        assert!(begun.elapsed() < limit, "{} is not logged on after {:?}", writer.name(), begun.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
}
