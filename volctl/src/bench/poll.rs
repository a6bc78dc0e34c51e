//! What a daemon costs that has nothing to do: memory, processor, among 64 clients that beat and 64 volumes.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use ondisk::SlotIndex;

use super::crowd::Crowd;
use super::figures::{Figures, Unit};
use crate::demo::fault::Fault;
use crate::demo::stage::{Stage, is};
use crate::wire::status::{ClientState, VolumeState};

const CLIENTS: u32 = 64;
const VOLUMES: u32 = 64;
const FIRST: Duration = Duration::from_secs(120);
/// After everything is mounted, until it is at rest.
const REST: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(20);
const MEMORY_MIB: f64 = 30.0;
const PROCESSOR_PERCENT: f64 = 0.5;

pub(super) fn measure(stage: &mut Stage, figures: &mut Figures) -> Result<(), Fault> {
    stage.on_control("init", &["--max-clients", "64", "--max-volumes", "64", "--size", "16M"], 0)?;
    stage.admin(&["client", "add", "alice"], 0)?;
    for number in 1..CLIENTS {
        stage.admin(&["client", "add", &format!("client{number}")], 0)?;
    }
    for number in 0..VOLUMES {
        let name = format!("volume{number}");
        let image = stage.image(&name).display().to_string();
        stage.admin(&["volume", "add", &name, "--device", &image, "--mkfs", "ext4", "--size", "4M"], 0)?;
        stage.admin(&["allow", "alice", &name, "read"], 0)?;
    }
    let _crowd = Crowd::start(&stage.control(), SlotIndex(0))?;
    stage.hire("alice", "")?;
    stage.start("alice")?;
    stage.until("alice", "all volumes are mounted", FIRST, |status| {
        status.volumes.iter().filter(|v| is(status, &v.name, VolumeState::Ro)).count()
            == usize::try_from(VOLUMES).unwrap_or(0)
    })?;
    let alive = |status: &crate::wire::status::Status| {
        status.clients.iter().filter(|client| client.state == ClientState::On).count() + 1
            == usize::try_from(CLIENTS).unwrap_or(0)
    };
    stage.until("alice", "all clients are alive", FIRST, alive)?;
    let pid = stage.actor("alice").pid().unwrap_or(0);
    pause(stage, REST)?;
    let (before, began) = (processor(pid)?, Instant::now());
    pause(stage, IDLE)?;
    let busy = processor(pid)?.saturating_sub(before);
    let percent = 100.0 * busy.as_secs_f64() / began.elapsed().as_secs_f64();
    figures.at_most("processor time, of one core", percent, Unit::Percent, PROCESSOR_PERCENT);
    figures.at_most("resident memory of the daemon", resident(pid)?, Unit::Mib, MEMORY_MIB);
    if let Some(guardian) = guardian(stage) {
        figures.add("resident memory of its guardian", resident(guardian)?, Unit::Mib);
    }
    stage.until("alice", "all clients are alive still", FIRST, alive)?;
    stage.end("alice", Signal::SIGTERM)?;
    Ok(())
}

fn pause(stage: &Stage, time: Duration) -> Result<(), Fault> {
    let began = Instant::now();
    while began.elapsed() < time {
        stage.stop.check()?;
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Processor time of all threads so far, in the scheduler's own nanoseconds.
fn processor(pid: u32) -> Result<Duration, Fault> {
    let failed = || Fault::system(format!("reading the processor time of {pid}"));
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).map_err(failed())? {
        let text = fs::read_to_string(task.map_err(failed())?.path().join("schedstat")).map_err(failed())?;
        total += text.split(' ').next().and_then(|word| word.trim().parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(total))
}

fn resident(pid: u32) -> Result<f64, Fault> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).map_err(Fault::system("reading /proc"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u32>().ok()).unwrap_or(0);
    Ok(f64::from(kib) / 1024.0)
}

/// The guardian beside the daemon.
fn guardian(stage: &Stage) -> Option<u32> {
    let daemon = stage.actor("alice").pid()?;
    let pids = stage.processes();
    pids.into_iter().find(|pid| *pid != daemon)
}
