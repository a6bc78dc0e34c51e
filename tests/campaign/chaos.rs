//! Carries a plan out.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use volctl_tests::studio::{Client, guardian_pid};

use crate::plan::{Action, Due, Plan, Process};
use crate::stage::Stage;
use crate::user::Crowd;

pub(crate) fn carry_out(stage: &Stage, plan: &Plan, crowd: &Crowd) {
    let begun = Instant::now();
    let wait_until = |ms: u64| {
        std::thread::sleep(Duration::from_millis(ms).saturating_sub(begun.elapsed()));
    };
    for due in &plan.due {
        wait_until(due.at_ms);
        let client = stage.client(due.client);
        let done = act(stage, client, due, crowd);
        let note = if done { "" } else { " (there was nothing to do)" };
        stage.history.add(format!("CHAOS  {}: {}{note}", client.name(), due.action));
    }
    wait_until(plan.until_ms);
}

fn act(stage: &Stage, client: &Client, due: &Due, crowd: &Crowd) -> bool {
    match &due.action {
        Action::Kill(Process::Daemon) => {
            let ran = client.runs();
            client.kill();
            ran
        }
        Action::Start => start(client),
        Action::Terminate => client.try_signal(Signal::SIGTERM),
        Action::Kill(process) => signal(stage, client, *process, Signal::SIGKILL),
        Action::Stop(process) => signal(stage, client, *process, Signal::SIGSTOP),
        Action::Continue(process) => signal(stage, client, *process, Signal::SIGCONT),
        Action::Path(image, mode) => {
            stage.paths().set(client.name(), image, *mode);
            true
        }
        Action::KillPrograms => crowd.kill_programs(due.client),
        Action::Takeover => crowd.take_over(client),
        Action::Fill => crowd.fill(client),
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

fn signal(stage: &Stage, client: &Client, process: Process, what: Signal) -> bool {
    match process {
        Process::Daemon => client.try_signal(what),
        Process::Guardian => {
            guardian_pid(&stage.studio().uuid, client.slot()).is_some_and(|pid| kill(pid, what).is_ok())
        }
    }
}
