//! Many runs, and what they say to a person.
#![expect(clippy::print_stdout, reason = "this is what the command prints")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::mutants::{ALL, Mutant};
use crate::oracle::Waits;
use crate::plan::{Lock, Plan};
use crate::run::{Outcome, run as run_plan};
use crate::weather::Weather;

/// What each seed does not say itself.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Kind {
    pub(crate) clients: Option<u8>,
    pub(crate) weather: Option<Weather>,
    pub(crate) lock: Option<Lock>,
}

/// Which seeds.
pub(crate) struct Range {
    pub(crate) from: u64,
    pub(crate) seeds: u64,
    pub(crate) kind: Kind,
    pub(crate) jobs: Option<usize>,
}

/// All runs together.
#[derive(Default)]
struct Sum {
    broken: Vec<(u64, String)>,
    counts: BTreeMap<&'static str, u64>,
    commits: u64,
    grants: u64,
    waits: Waits,
    time: Duration,
}

pub(crate) fn plan(seed: u64, kind: Kind, mutant: Option<&Mutant>) -> Plan {
    // Of a mutant, few clients: they meet as often as many, and a run costs less.
    let clients = kind.clients.or(mutant.map(|_| 3));
    let mut plan = Plan::of(seed, clients.map(usize::from), kind.weather.or(mutant.map(|m| m.weather)));
    if let Some(lock) = kind.lock.or(mutant.and_then(|m| m.lock)) {
        plan.lock = lock.kind();
    }
    if let Some(mutant) = mutant {
        (mutant.apply)(&mut plan);
    }
    plan
}

/// Seeds go to as many threads as there are processors; `each` says whether to go on.
fn spread(range: &Range, mutant: Option<&Mutant>, each: &(dyn Fn(u64, Outcome) -> bool + Sync)) {
    let jobs = range.jobs.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
    let next = AtomicU64::new(range.from);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= range.from + range.seeds {
                        return;
                    }
                    if !each(seed, run_plan(plan(seed, range.kind, mutant), false)) {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

/// Runs seeds; true if none breaks a promise.
pub(crate) fn run(range: &Range) -> bool {
    let begun = Instant::now();
    let sum = Mutex::new(Sum::default());
    spread(range, None, &|seed, outcome| {
        let mut sum = sum.lock().expect("nobody panics here");
        for (what, count) in outcome.counts {
            *sum.counts.entry(what).or_default() += count;
        }
        sum.commits += outcome.commits;
        sum.grants += outcome.grants;
        sum.waits.add(&outcome.waits);
        sum.time += outcome.time;
        if let Some(broken) = outcome.broken {
            println!("seed {seed}: {broken}");
            sum.broken.push((seed, broken));
        }
        true
    });
    let sum = sum.into_inner().expect("nobody panics here");
    println!("\nwhat went wrong, in all runs:");
    for (what, count) in &sum.counts {
        println!("{count:>12}  {what}");
    }
    println!(
        "{} runs from seed {} on, {:.1} h of simulated time in {:.0} s: {} commits, {} grants, {} broken promises",
        range.seeds,
        range.from,
        sum.time.as_secs_f64() / 3600.0,
        begun.elapsed().as_secs_f64(),
        sum.commits,
        sum.grants,
        sum.broken.len()
    );
    println!("turns of others before the own: {}", sum.waits);
    if let Some((seed, _)) = sum.broken.iter().min() {
        println!("`make sim SEED={seed}` tells that run event by event");
    }
    sum.broken.is_empty()
}

/// Tells a run; true if it breaks no promise.
pub(crate) fn replay(seed: u64, kind: Kind, mutant: Option<&str>) -> bool {
    let found = mutant.map(|name| ALL.iter().find(|m| m.name == name));
    if let Some(None) = found {
        println!("there is no such mutant; they are:");
        ALL.iter().for_each(|m| println!("  {:<40} {}", m.name, m.what));
        return false;
    }
    let outcome = run_plan(plan(seed, kind, found.flatten()), true);
    outcome.trace.iter().for_each(|line| println!("{line}"));
    match &outcome.broken {
        Some(broken) => println!("\nseed {seed} breaks a promise: {broken}"),
        None => println!("\nseed {seed} breaks no promise ({} commits, {} grants)", outcome.commits, outcome.grants),
    }
    outcome.broken.is_none()
}

/// Looks for a seed that notices each mutant; true if all are noticed.
pub(crate) fn mutants(seeds: u64, only: Option<&str>, weather: Option<Weather>, jobs: Option<usize>) -> bool {
    let begun = Instant::now();
    let mut missed = Vec::new();
    let kind = Kind { weather, ..Kind::default() };
    println!("{:<40} {:>6}  what was noticed", "rule taken out", "seed");
    for mutant in ALL.iter().filter(|m| only.is_none_or(|part| m.name.contains(part))) {
        let first = Mutex::new(None::<(u64, String)>);
        spread(&Range { from: 0, seeds, kind, jobs }, Some(mutant), &|seed, outcome| {
            let Some(broken) = outcome.broken else { return true };
            let mut first = first.lock().expect("nobody panics here");
            if first.as_ref().is_none_or(|f| seed < f.0) {
                *first = Some((seed, broken));
            }
            false
        });
        match first.into_inner().expect("nobody panics here") {
            Some((seed, broken)) => println!("{:<40} {seed:>6}  {broken}", mutant.name),
            None => {
                println!("{:<40} {:>6}  NOT NOTICED in {seeds} runs: {}", mutant.name, "-", mutant.what);
                missed.push(mutant.name);
            }
        }
    }
    println!("{} not noticed, {:.0} s", missed.len(), begun.elapsed().as_secs_f64());
    missed.is_empty()
}
