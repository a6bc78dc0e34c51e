//! Carries a plan out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use volctl_tests::paths::Mode;
use volctl_tests::studio::Client;

use crate::plan::{APART_MS, Action, Plan, Process, Who};
use crate::stage::{IMAGE, Stage};
use crate::user::Crowd;

/// So many records are stable before anything breaks.
const RECORDS_FIRST: u64 = 5;
/// What a killed daemon has by then not left the kernel for is held back.
const AT_ONCE: Duration = Duration::from_millis(200);
/// A crowd that cannot agree for so long is trouble enough.
const PATIENCE: Duration = Duration::from_secs(6);

pub(crate) fn carry_out(stage: &Stage, plan: &Plan, crowd: &Crowd) {
    let mut chaos = Chaos { stage, crowd, writers: BTreeMap::new(), hits: BTreeMap::new(), faulty: BTreeMap::new() };
    // It is no trouble if nobody works.
    let begun = Instant::now();
    while stage.ledger.told() < RECORDS_FIRST && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    stage.history.add("CHAOS  begins");
    let begun = Instant::now();
    let wait_until = |ms: u64| std::thread::sleep(Duration::from_millis(ms).saturating_sub(begun.elapsed()));
    for due in &plan.due {
        wait_until(due.at_ms);
        let index = chaos.whom(due.who);
        let done = chaos.act(index, &due.action);
        let note = if done { "" } else { " (nothing to do, or too close to another)" };
        stage.history.add(format!("CHAOS  {}: {}{note}", stage.client(index).name(), due.action));
    }
    wait_until(plan.until_ms);
}

struct Chaos<'a> {
    stage: &'a Stage,
    crowd: &'a Crowd,
    /// Who was meant by "the writer".
    writers: BTreeMap<usize, usize>,
    /// When a client's daemon or guardian was hit last.
    hits: BTreeMap<(usize, Process), Instant>,
    /// Which paths have a fault.
    faulty: BTreeMap<(usize, &'static str), bool>,
}

impl Chaos<'_> {
    fn whom(&mut self, who: Who) -> usize {
        match who {
            Who::Client(index) => index,
            Who::Writer(number) => *self.writers.entry(number).or_insert_with(|| {
                let seen = self.stage.paths().seen();
                self.stage.history.collect(&seen);
                let writer = seen.writers.get(IMAGE);
                self.stage.clients.iter().position(|c| Some(c.name()) == writer.map(String::as_str)).unwrap_or(number)
            }),
        }
    }

    /// Not both of a client before the one that is left has closed the gates, whoever is hit twice.
    fn may_hit(&mut self, index: usize, process: Process) -> bool {
        let other = if process == Process::Daemon { Process::Guardian } else { Process::Daemon };
        let close =
            self.hits.get(&(index, other)).is_some_and(|at| at.elapsed() < Duration::from_millis(APART_MS - 50));
        if !close {
            self.hits.insert((index, process), Instant::now());
        }
        !close
    }

    fn act(&mut self, index: usize, action: &Action) -> bool {
        let client = self.stage.client(index);
        match action {
            Action::Kill(process) | Action::Stop(process) if !self.may_hit(index, *process) => false,
            Action::Kill(Process::Daemon) => {
                let ran = Self::signal(client, Process::Daemon, Signal::SIGKILL);
                // Not longer: what it has in the kernel may be held back until a later step lets it through.
                let killed = Instant::now();
                while client.runs() && killed.elapsed() < AT_ONCE {
                    std::thread::sleep(Duration::from_millis(1));
                }
                ran
            }
            Action::Start => start(client),
            Action::Terminate => self.stage.tell_to_end(index),
            Action::Kill(process) => Self::signal(client, *process, Signal::SIGKILL),
            Action::Stop(process) => Self::signal(client, *process, Signal::SIGSTOP),
            Action::Continue(process) => Self::signal(client, *process, Signal::SIGCONT),
            Action::Path(image, mode) => {
                let faulty = self.faulty.insert((index, image), *mode != Mode::PASS) == Some(true);
                // A second hold would keep back for too long what the first one held.
                if !(mode.hold && faulty) {
                    self.stage.paths().set(client.name(), image, *mode);
                }
                true
            }
            Action::KillPrograms => self.crowd.kill_programs(index),
            Action::Takeover => self.crowd.take_over(client),
            Action::Fill => self.crowd.fill(client),
        }
    }

    fn signal(client: &Client, process: Process, what: Signal) -> bool {
        match process {
            Process::Daemon => client.try_signal(what),
            Process::Guardian => client.try_guardian().is_some_and(|pid| kill(pid, what).is_ok()),
        }
    }
}

/// Starts a daemon where none runs: the one before has ended, or ends now.
pub(crate) fn start(client: &Client) -> bool {
    if client.runs() {
        return false;
    }
    client.start();
    true
}
