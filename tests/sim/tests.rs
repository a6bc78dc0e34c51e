//! A few runs for every build, and what the simulator says of itself. `make sim` and `make mutants` do the rest.

use std::time::Duration;

use clap::ValueEnum;

use crate::many::{Kind, plan};
use crate::mutants::ALL;
use crate::plan::{Lock, Plan};
use crate::run::{Outcome, run};
use crate::weather::Weather;

/// Seeds that once failed, each with a word on why, and before that the lock if it was not the seed's own: `fixtures/seeds.txt`.
const ONCE_FAILED: &str = include_str!("../../fixtures/seeds.txt");

fn seeds() -> impl Iterator<Item = (u64, Option<Lock>, &'static str)> {
    let lines = ONCE_FAILED.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines.map(|line| {
        let (seed, why) = line.split_once(' ').unwrap_or((line, ""));
        let named = why.split_once(' ').and_then(|(word, why)| Some((Lock::from_str(word, false).ok()?, why)));
        let (lock, why) = named.map_or((None, why), |(lock, why)| (Some(lock), why));
        (seed.parse().unwrap(), lock, why)
    })
}

fn outcome(seed: u64, clients: Option<u8>, lock: Option<Lock>) -> Outcome {
    run(plan(seed, Kind { clients, lock, weather: None }, None), false)
}

/// Nothing goes wrong, and everybody wants in so often.
fn undisturbed(clients: usize, clerks: Duration) -> Plan {
    Plan {
        strangers: Some(0),
        faults: Vec::new(),
        odds: Default::default(),
        stalls: 0,
        clerks,
        ..Plan::of(5, Some(clients), Some(Weather::Mixed))
    }
}

#[test]
fn a_few_seeds_break_no_promise() {
    for lock in [None, Some(Lock::Pr)] {
        for seed in 0..4 {
            let outcome = outcome(seed, Some(3), lock);
            assert_eq!(outcome.broken, None, "seed {seed}, {lock:?}");
            assert!(outcome.commits > 0, "seed {seed}, {lock:?}: something happened");
        }
    }
}

#[test]
fn one_seed_is_one_run_for_ever() {
    let [one, other] = [1, 2].map(|_| run(Plan::of(1, Some(3), None), true));
    assert!(one.trace.len() > 100, "it has a story");
    assert_eq!(one.trace, other.trace);
}

#[test]
fn seeds_that_once_failed_are_mended() {
    for (seed, lock, why) in seeds() {
        for clients in [None, Some(8)] {
            assert_eq!(outcome(seed, clients, lock).broken, None, "seed {seed}, {lock:?}: {why}");
        }
    }
}

/// Once whoever logged on announced that it draws a number before it had waited for the death of the slot that nobody can read: so
/// everybody else waited with it, at each log-on.
#[test]
fn who_waits_at_log_on_for_an_unreadable_slot_holds_up_nobody() {
    let plan = Plan { absent: Some(2), ..undisturbed(3, Duration::from_millis(200)) };
    let outcome = run(plan, true);
    assert_eq!(outcome.broken, None);
    let at = |what: &str| outcome.trace.iter().position(|line| line.contains(what)).expect(what);
    let waits = &outcome.trace[at("bob: claimed as")..at("bob: LogOn")];
    let commits = waits.iter().filter(|line| line.contains("the tables are at commit")).count();
    assert!(commits > 10, "alice goes on: {commits}");
}

/// Eight clients that want in again and again: whoever begins to wait has at most one turn of each other before its own, and those who were
/// under way when it began. With `pr` as with the bakery, whose queue it is.
#[test]
fn nobody_waits_for_longer_than_a_turn_of_each_other_and_those_under_way() {
    for lock in [Lock::Bakery, Lock::Pr] {
        let plan = Plan { lock: lock.kind(), ..undisturbed(8, Duration::from_millis(1)) };
        let outcome = run(plan, false);
        assert_eq!(outcome.broken, None);
        assert!(outcome.waits.turns > 1000, "{lock:?}: there is a crowd: {}", outcome.waits);
        assert!(outcome.waits.longest <= 2 * 7, "{lock:?}: {}", outcome.waits);
    }
}

#[test]
fn on_pr_hosts_are_thrown_out_and_what_they_still_write_is_refused() {
    let kind = Kind { clients: Some(3), weather: Some(Weather::Writes), lock: Some(Lock::Pr) };
    let runs: Vec<Outcome> = (0..6).map(|seed| run(plan(seed, kind, None), false)).collect();
    assert!(runs.iter().all(|run| run.broken.is_none()));
    for what in ["a host is thrown out", "a write is refused"] {
        assert!(runs.iter().any(|run| run.counts.contains_key(what)), "{what}");
    }
}

#[test]
fn a_rule_taken_out_is_noticed() {
    let mutant = ALL.iter().find(|m| m.name == "rules.lock.own_residue").unwrap();
    let noticed = (0..40).find_map(|seed| run(plan(seed, Kind::default(), Some(mutant)), false).broken);
    assert!(noticed.is_some_and(|what| what.contains("inside")), "two clients draw one number");
}

#[test]
fn mutants_have_names_of_their_own() {
    let names: std::collections::BTreeSet<_> = ALL.iter().map(|m| m.name).collect();
    assert_eq!(names.len(), ALL.len());
    assert!(names.len() >= 25);
}
