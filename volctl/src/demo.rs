//! `volctl demo`: everything that volctl does, on one machine, with the real program and real file systems (section 9).
//!
//! It makes a control image and three volumes, starts three daemons, and shows the story step by step with its times.
//! Whatever happens - success, failure, Ctrl-C, a panic - it ends its daemons and leaves nothing behind; it looks for
//! that itself and says what it found. Here: the frame. `demo/scenes.rs` is the story, `demo/stage.rs` what it needs.

pub mod fault;
pub mod loop_over;
pub mod needs;
mod scenes;
pub mod stage;
pub mod sweep;
mod teller;

use std::time::{Duration, Instant};

use crate::cli::args::DemoArgs;
use crate::cli::output::Ui;
use crate::wire::outcome::Failure;
use fault::{Fault, Stop};
use stage::Stage;
use teller::Teller;

/// Between two looks whether `--keep` is to end.
const LOOK: Duration = Duration::from_millis(50);

/// Runs it.
///
/// # Errors
/// What it would need; which step did not go as it should; what it could not clean up.
pub fn run(args: &DemoArgs, ui: &mut Ui) -> Result<(), Failure> {
    let home = needs::find_home()?;
    let stop = Stop::listen().map_err(|why| cannot(&why))?;
    let mut teller = Teller::new(ui);
    let began = Instant::now();
    let mut stage = Stage::set_up(&home, stop).map_err(|why| cannot(&why))?;
    let played = scenes::play(&mut stage, &mut teller, args.keep);
    if let (Ok(()), true) = (&played, args.keep) {
        scenes::invite(&stage, &mut teller);
        while !stage.stop.is_set() && !teller.is_closed() {
            std::thread::sleep(LOOK);
        }
    }
    let logs = if played.is_err() { stage.last_words() } else { Vec::new() };
    let interrupted = matches!(played, Err(Fault::Interrupted));
    if interrupted {
        teller.remark("interrupted: cleaning up");
    }
    let left = stage.strike();
    teller.end(&played, &left, began.elapsed());
    match played {
        Ok(()) if left.is_empty() => Ok(()),
        Ok(()) => Err(still_there(&left)),
        Err(Fault::Interrupted) if left.is_empty() => Err(Failure::failed(
            "the demo was interrupted",
            "a signal told it to end, or nobody reads any more",
            "nothing is left of it; run it again whenever you like",
        )),
        Err(Fault::Interrupted) => Err(still_there(&left)),
        Err(fault) => {
            for line in logs {
                teller.remark(&line);
            }
            Err(Failure::failed(
                format!("the demo failed at step {}", teller.steps()),
                fault.to_string(),
                if left.is_empty() {
                    "nothing is left of it; the daemons' last words are above".into()
                } else {
                    left.join("; ")
                },
            ))
        }
    }
}

fn cannot(why: &dyn std::error::Error) -> Failure {
    Failure::failed("the demo cannot start", why.to_string(), "it needs root and a directory on a local disk")
}

fn still_there(left: &[String]) -> Failure {
    Failure::failed(
        "the demo left something behind",
        left.join("; "),
        "close what uses it, then 'umount' and 'losetup -d' what is named, and remove the directory",
    )
}
