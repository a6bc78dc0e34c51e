//! The rules of the protocol in every interleaving of small cases, on the machines that ship.
//!
//! `make model` runs everything and prints a table; `ARGS=` chooses: parts of names, `--trace` for the events that lead
//! to each harm, `--quick` for the small cases only. The tests run the small cases.
#![expect(clippy::derived_hash_with_manual_eq, reason = "states are equal if they hash alike: see `same_by_hash`")]

mod bakery;
mod cases;
mod claim;
mod commit;
mod lease;
mod run;
mod studio;
#[cfg(test)]
mod traces;

use std::io::Write as _;
use std::process::ExitCode;

use cases::{Entry, all};
use clap::Parser;
use run::{Limits, Outcome, threads};

/// Checks the rules in every interleaving of small cases.
#[derive(Parser)]
struct Args {
    /// Only cases whose model or name has one of these in it.
    names: Vec<String>,
    /// Print the events that lead to each harm.
    #[arg(long)]
    trace: bool,
    /// Leave the large cases out.
    #[arg(long)]
    quick: bool,
    /// Threads.
    #[arg(long)]
    threads: Option<usize>,
    /// States, repetitions included, at which a search ends (8 million; 2.5 million of engines, some GB of memory).
    #[arg(long)]
    most: Option<usize>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let limits = Limits { threads: args.threads.unwrap_or_else(threads), most: args.most };
    let wanted = |e: &Entry| {
        let named = |n: &String| e.model.contains(n.as_str()) || e.name.contains(n.as_str());
        (args.names.is_empty() || args.names.iter().any(named)) && !(args.quick && e.large)
    };
    let mut good = true;
    say(
        "| model | case | setting | rule taken out | states | depth | time | verdict |\n| --- | --- | --- | --- | ---: | ---: | ---: | --- |",
    );
    for entry in all().iter().filter(|e| wanted(e)) {
        let runs = [false, true]
            .into_iter()
            .filter(|out| if *out { entry.rule.is_some() } else { !(args.quick && entry.slow) });
        for out in runs {
            let outcome = (entry.run)(out, limits);
            good &= show(entry, out, &outcome, args.trace);
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One row. False: it did not come out as it should.
fn show(entry: &Entry, out: bool, outcome: &Outcome, trace: bool) -> bool {
    let expected = entry.rule.filter(|_| out).map(|(_, harm)| harm);
    let found = outcome.harm.as_ref().map(|h| h.what);
    let verdict = match (&outcome.harm, expected) {
        (None, None) if outcome.whole => "sound".to_owned(),
        (None, None) => "nothing found, and not exhaustive".to_owned(),
        (Some(harm), Some(what)) if harm.what == what => {
            format!("as it should: {what}, in {} events", harm.trace.len())
        }
        (Some(harm), _) => format!("**BROKEN**: {}, in {} events", harm.what, harm.trace.len()),
        (None, Some(what)) => format!("**BROKEN**: not found: {what}"),
    };
    let rule = entry.rule.filter(|_| out).map_or("none", |(rule, _)| rule);
    let time = outcome.time.as_secs_f64();
    say(&format!(
        "| {} | {} | {} | {rule} | {} | {} | {time:.1} s | {verdict} |",
        entry.model, entry.name, entry.setting, outcome.states, outcome.depth
    ));
    let wrong = found != expected;
    if let Some(harm) = outcome.harm.as_ref().filter(|_| trace || wrong) {
        for (n, event) in (1..).zip(&harm.trace) {
            say(&format!("    {n:>3}  {event}"));
        }
    }
    !wrong
}

fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
