//! `volctl bench`: what a sceptic runs. Each figure stands beside its target (section 9).
//!
//! Real tables on images and loop devices, real daemons where one is needed; everything is taken away again.

mod counting;
mod crowd;
mod figures;
mod handover;
mod lock;
mod poll;
mod refresh;

use std::path::Path;

use crate::cli::args::{BenchArgs, BenchWhat};
use crate::cli::output::Ui;
use crate::demo::fault::{Fault, Stop};
use crate::demo::needs;
use crate::demo::stage::Stage;
use crate::wire::outcome::Failure;
use figures::Figures;

/// What every measurement is given.
struct Bench<'a> {
    home: &'a Path,
    stop: Stop,
    rounds: Option<u32>,
}

impl Bench<'_> {
    fn stage(&self) -> Result<Stage, Fault> {
        Stage::set_up(self.home, self.stop.clone())
    }

    fn rounds(&self, default: u32) -> u32 {
        self.rounds.unwrap_or(default)
    }
}

/// Measures one thing or all. A figure over its target is said, and no failure: another machine, another figure.
///
/// # Errors
/// What it would need; what could not be measured; what could not be cleaned up.
pub fn run(args: &BenchArgs, ui: &mut Ui) -> Result<(), Failure> {
    let home = needs::find_home_in(args.dir.as_deref())?;
    let stop = Stop::listen().map_err(|why| not_measured("anything", &why))?;
    let bench = Bench { home: &home, stop, rounds: args.rounds };
    if cfg!(debug_assertions) {
        ui.remark("this is a debug build: times are longer, and the targets are not meant for it");
    }
    let all = [BenchWhat::Lock, BenchWhat::Handover, BenchWhat::Refresh, BenchWhat::Poll];
    for what in all.into_iter().filter(|what| args.what.is_none_or(|wanted| wanted == *what)) {
        let figures = one(&bench, what, ui)?;
        ui.show(&figures, Figures::text);
    }
    Ok(())
}

fn one(bench: &Bench<'_>, what: BenchWhat, ui: &mut Ui) -> Result<Figures, Failure> {
    let (name, about) = match what {
        BenchWhat::Lock => ("lock", "the semaphore of 64 slots, nobody else wants it"),
        BenchWhat::Handover => ("handover", "an ext4 volume with fresh writes goes to and fro between two daemons"),
        BenchWhat::Refresh => ("refresh", "from the writer's publish to the reader's eyes"),
        BenchWhat::Poll => {
            ("poll", "a daemon that has nothing to do, among 64 clients and 64 volumes; this takes half a minute")
        }
    };
    if !ui.json() {
        ui.remark(&format!("{name}: {about}"));
    }
    let mut figures = Figures::new(name);
    let mut stage = bench.stage().map_err(|why| not_measured(name, &why))?;
    let done = match what {
        BenchWhat::Lock => lock::measure(bench, &mut stage, &mut figures),
        BenchWhat::Handover => handover::measure(bench, &mut stage, &mut figures),
        BenchWhat::Refresh => refresh::measure(bench, &mut stage, &mut figures),
        BenchWhat::Poll => poll::measure(&mut stage, &mut figures),
    };
    if done.is_err() {
        for line in stage.last_words() {
            ui.remark(&line);
        }
    }
    let left = stage.strike();
    done.map_err(|why| not_measured(name, &why))?;
    if left.is_empty() {
        return Ok(figures);
    }
    Err(Failure::failed(
        "the measurement left something behind",
        left.join("; "),
        "close what uses it, then 'umount' and 'losetup -d' what is named, and remove the directory",
    ))
}

fn not_measured(what: &str, why: &Fault) -> Failure {
    Failure::failed(
        format!("{what} could not be measured"),
        why.to_string(),
        "'volctl demo' shows whether all works here",
    )
}
