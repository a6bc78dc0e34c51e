//! The simulator: the shipping login, semaphore, transactions and engine of several clients, on a simulated shared disk and
//! simulated clocks, with everything going wrong that the assumptions of `docs/safety.md` allow. One seed is one run, for
//! ever. What is simulated and what is real: `docs/simulator.md`.

mod course;
mod daemon;
mod disk;
mod faults;
mod guardian;
mod host_key;
mod jobs;
mod many;
mod mutants;
mod oracle;
mod people;
mod place;
mod plan;
mod reservations;
mod rng;
mod run;
#[cfg(test)]
mod tests;
mod threads;
mod volumes;
mod weather;
mod world;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use many::{Kind, Range};
use plan::Lock;
use weather::Weather;

/// Runs volctl's clients on a simulated shared disk
#[derive(Debug, Parser)]
#[command(name = "sim")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run many seeds, and say which break a promise
    Run(RunArgs),
    /// Tell one run event by event
    Replay(ReplayArgs),
    /// Take each rule out in its turn, and show by which seed that is noticed
    Mutants(MutantArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// How many seeds
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many clients each; else each seed says itself (2 to 8)
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=8))]
    clients: Option<u8>,
    /// What goes wrong most; else each seed says itself
    #[arg(long)]
    weather: Option<Weather>,
    /// How the control volume is locked; else each seed says itself
    #[arg(long)]
    lock: Option<Lock>,
    /// How many runs at once; else as many as there are processors
    #[arg(long)]
    jobs: Option<usize>,
}

#[derive(Debug, Args)]
struct ReplayArgs {
    /// The seed
    seed: u64,
    /// As for `run`
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=8))]
    clients: Option<u8>,
    /// As for `run`; else with a rule taken out the weather in which that is looked for
    #[arg(long)]
    weather: Option<Weather>,
    /// As for `run`; else with a rule taken out the one with which that is looked for
    #[arg(long)]
    lock: Option<Lock>,
    /// With this rule taken out
    #[arg(long)]
    mutant: Option<String>,
}

#[derive(Debug, Args)]
struct MutantArgs {
    /// How many seeds at most to look for each
    #[arg(long, default_value_t = 2000)]
    seeds: u64,
    /// Only those whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// In this weather; else in the one of each
    #[arg(long)]
    weather: Option<Weather>,
    /// How many runs at once
    #[arg(long)]
    jobs: Option<usize>,
}

fn main() -> ExitCode {
    // A panic of the product is a finding, told with its seed; the usual message would come without.
    std::panic::set_hook(Box::new(|_| {}));
    let done = match Cli::parse().verb {
        Verb::Run(args) => {
            let kind = Kind { clients: args.clients, weather: args.weather, lock: args.lock };
            many::run(&Range { from: args.from, seeds: args.seeds, kind, jobs: args.jobs })
        }
        Verb::Replay(args) => {
            let kind = Kind { clients: args.clients, weather: args.weather, lock: args.lock };
            many::replay(args.seed, kind, args.mutant.as_deref())
        }
        Verb::Mutants(args) => many::mutants(args.seeds, args.only.as_deref(), args.weather, args.jobs),
    };
    if done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
