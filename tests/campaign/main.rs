//! A campaign against real daemons on real file systems: every round something breaks, and after every round nothing may be
//! lost, nobody may have written who had no right to, and everybody gets through. `docs/campaign.md` says what it does.
//!
//! ```text
//! campaign --fs ext4 --readers live --rounds 300 --seed 7        a long run
//! campaign --fs ext4 --seed 7 --from 41 --rounds 1               round 41 of it once more
//! ```

mod chaos;
mod heal;
mod history;
mod ledger;
mod plan;
mod rng;
mod scribe;
mod stage;
mod sweep;
mod user;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use volctl_tests::studio::Fs;

use plan::Plan;
use stage::Stage;

/// Rounds, unless it is said.
const ROUNDS: u64 = 10;

#[derive(Parser, Debug)]
#[command(about = "Breaks things round after round and looks whether anything was lost")]
struct Args {
    /// The file system of the volume.
    #[arg(long, value_enum)]
    fs: FsArg,
    /// What readers are promised; by default what `volume add` would take.
    #[arg(long)]
    readers: Option<String>,
    /// How many rounds; of a sweep, how many of its points, picked by the seed (by default all of them).
    #[arg(long)]
    rounds: Option<u64>,
    /// Everything that is random comes from this number and the round's.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The first round.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Instead of random rounds: stop and kill daemon and guardian at points this many milliseconds apart, all through a
    /// hand-over, a publish and a log-off.
    #[arg(long)]
    sweep: Option<u64>,
    /// Show every round's history.
    #[arg(long)]
    verbose: bool,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum FsArg {
    Ext4,
    Xfs,
    Btrfs,
}

impl FsArg {
    fn fs(self) -> Fs {
        match self {
            Self::Ext4 => Fs::Ext4,
            Self::Xfs => Fs::Xfs,
            Self::Btrfs => Fs::Btrfs,
        }
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        // Its own other processes.
        [_, "paths", spec] => {
            let served = volctl_tests::paths::serve(spec);
            served.map_or_else(|e| fail(&format!("paths: {e}")), |()| ExitCode::SUCCESS)
        }
        [_, "scribe", path, name] => scribe::write(path.as_ref(), name),
        _ => run(&Args::parse()),
    }
}

fn fail(why: &str) -> ExitCode {
    eprintln!("{why}");
    ExitCode::FAILURE
}

fn run(args: &Args) -> ExitCode {
    if !nix::unistd::geteuid().is_root() {
        return fail("campaign: this needs root: it makes loop devices and mounts file systems");
    }
    let fs = args.fs.fs();
    let readers = args.readers.clone().unwrap_or_else(|| if fs == Fs::Btrfs { "snapshot" } else { "live" }.to_owned());
    let begun = Instant::now();
    let stage = Stage::new(fs, &readers);
    let rounds = args.from..args.from + args.rounds.unwrap_or(ROUNDS);
    println!("{} {readers}: seed {}, from round {}", fs.word(), args.seed, args.from);
    let survived = match args.sweep.map(Duration::from_millis) {
        Some(step) => guarded(&stage, args, 0, || sweep::all(&stage, step, args.rounds, args.seed)),
        None => rounds.into_iter().all(|round| guarded(&stage, args, round, || one(&stage, args, round))),
    };
    if !survived {
        return ExitCode::FAILURE;
    }
    let totals = stage.totals();
    stage.end();
    println!("{} {readers}, seed {}: done in {:.0?}: {totals}", fs.word(), args.seed, begun.elapsed());
    ExitCode::SUCCESS
}

/// Runs something that panics at the first thing that is wrong; then tells what happened and how to play it again.
fn guarded(stage: &Stage, args: &Args, round: u64, act: impl FnOnce()) -> bool {
    let done = catch_unwind(AssertUnwindSafe(act));
    if done.is_ok() {
        return true;
    }
    stage.history.collect(&stage.paths().seen());
    println!("--- round {round} failed; what happened (milliseconds of the round):\n{}", stage.history);
    stage.last_words();
    let again = match (args.sweep, args.rounds) {
        (Some(step), None) => format!("--sweep {step}"),
        (Some(step), Some(rounds)) => format!("--sweep {step} --rounds {rounds}"),
        (None, _) => format!("--from {round} --rounds 1"),
    };
    println!("--- again: campaign --fs {} --readers {} --seed {} {again}", stage.fs.word(), stage.readers, args.seed);
    println!("    (VOLCTL_TEST_KEEP=1 keeps images, configurations and logs)");
    false
}

fn one(stage: &Stage, args: &Args, round: u64) {
    let begun = Instant::now();
    let plan = Plan::of(args.seed, round, stage.clients.len());
    stage.history.begin();
    let crowd = user::Crowd::start(stage, args.seed, round);
    chaos::carry_out(stage, &plan, &crowd);
    let broken = begun.elapsed();
    heal::heal(stage, &crowd);
    crowd.settle(stage);
    heal::everybody_gets_through(stage, round);
    drop(crowd);
    heal::nothing_is_wrong(stage);
    stage.history.collect(&stage.paths().seen());
    if args.verbose {
        println!("{}", stage.history);
    }
    let records = stage.ledger.records();
    println!(
        "{} {:>4} {:>5} ms broken {:>5} ms healed {:>6} records  {plan}",
        stage.fs.word(),
        round,
        broken.as_millis(),
        begun.elapsed().saturating_sub(broken).as_millis(),
        records
    );
}
