//! The hand-over of an idle volume with fresh writes, beside what the kernel's own unmount and mount take.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;

use super::Bench;
use super::figures::{Figures, Spread, Unit, ms};
use crate::demo::fault::Fault;
use crate::demo::loop_over::LoopOver;
use crate::demo::stage::{Stage, is};
use crate::wire::call::{Call, RequestCall};
use crate::wire::client::Client;
use crate::wire::status::VolumeState;

const CLIENTS: [&str; 2] = ["alice", "bob"];
const ROUNDS: u32 = 20;
/// Fresh files in each round.
const FILES: u32 = 50;
const FILE_BYTES: usize = 4096;
const FIRST: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(20);
const WAIT_MS: u64 = 30_000;
/// At most this many times the unmount and mount, and one poll more: the writer has to see the request.
const TIMES: f64 = 3.0;

pub(super) fn measure(bench: &Bench<'_>, stage: &mut Stage, figures: &mut Figures) -> Result<(), Fault> {
    stage.on_control("init", &["--size", "16M"], 0)?;
    let image = stage.image("footage").display().to_string();
    stage.admin(&["volume", "add", "footage", "--device", &image, "--mkfs", "ext4", "--size", "64M"], 0)?;
    for name in CLIENTS {
        stage.admin(&["client", "add", name], 0)?;
        stage.admin(&["set-client", name, "auto-response", "always"], 0)?;
        stage.admin(&["allow", name, "footage", "write"], 0)?;
        stage.hire(name, "")?;
        stage.start(name)?;
    }
    for name in CLIENTS {
        stage.until(name, &format!("{name} reads"), FIRST, |status| is(status, "footage", VolumeState::Ro))?;
    }
    let rounds = bench.rounds(ROUNDS);
    let poll = ondisk::Timings::default().poll();
    let mut times = Vec::new();
    for round in 0..=rounds {
        let to = CLIENTS[usize::try_from(round % 2).unwrap_or(0)];
        let from = CLIENTS[usize::try_from((round + 1) % 2).unwrap_or(0)];
        if round > 0 {
            scribble(&stage.actor(from).mount("footage"), round)?;
        }
        // People ask at any time: not always just after a poll, as the end of the round before would have it.
        pause(stage, poll.mul_f64(f64::from(round * 7 % rounds) / f64::from(rounds)))?;
        let took = request(stage, to)?;
        if round > 0 {
            times.push(took);
            whole(&stage.actor(to).mount("footage"), round)?;
        }
        stage.until(from, &format!("{from} reads again"), SOON, |status| is(status, "footage", VolumeState::Ro))?;
    }
    for name in CLIENTS {
        stage.end(name, Signal::SIGTERM)?;
    }
    let bare = by_the_kernel(bench, stage, rounds)?;
    let spread = Spread::of(&bare);
    figures.times("unmount and mount by system calls", &bare, None);
    let target = spread.median.mul_f64(TIMES) + poll;
    figures.times("from the request to the read-write mount", &times, Some(target));
    let beyond = Spread::of(&times).median.saturating_sub(poll / 2);
    figures.add("of it beyond half a poll, in which the request is seen", ms(beyond), Unit::Ms);
    Ok(())
}

fn pause(stage: &Stage, time: Duration) -> Result<(), Fault> {
    let end = Instant::now() + time;
    stage.until_true("a pause", SOON, Duration::from_millis(1), || Instant::now() >= end).map(drop)
}

/// Asks and waits for the mount, as `volctl request --wait` does.
fn request(stage: &Stage, who: &str) -> Result<Duration, Fault> {
    let mut client = Client::connect(&stage.actor(who).socket())?;
    let call = Call::Request(RequestCall { volume: "footage".into(), message: String::new(), wait_ms: Some(WAIT_MS) });
    let began = Instant::now();
    client.call_more(&call, |_| Ok(true))?;
    let took = began.elapsed();
    let status = client.status()?;
    if is(&status, "footage", VolumeState::Rw) {
        return Ok(took);
    }
    Err(Fault::Wrong {
        what: format!("{who}'s footage after the hand-over"),
        seen: "it is not mounted read-write".into(),
    })
}

fn content(round: u32, number: u32) -> String {
    format!("{round}.{number}\n").repeat(FILE_BYTES / 8)
}

/// Fresh, unsynced files.
fn scribble(directory: &Path, round: u32) -> Result<(), Fault> {
    for number in 0..FILES {
        fs::write(directory.join(format!("file{number}")), content(round, number))
            .map_err(Fault::system("writing files"))?;
    }
    Ok(())
}

/// Everything that was written before the hand-over is there after it.
fn whole(directory: &Path, round: u32) -> Result<(), Fault> {
    for number in 0..FILES {
        let path = directory.join(format!("file{number}"));
        if fs::read_to_string(&path).map_err(Fault::system("reading files"))? != content(round, number) {
            return Err(Fault::Wrong {
                what: path.display().to_string(),
                seen: "other bytes than were written".into(),
            });
        }
    }
    Ok(())
}

/// The floor: the same volume, the same writes, nothing but the kernel.
fn by_the_kernel(bench: &Bench<'_>, stage: &Stage, rounds: u32) -> Result<Vec<Duration>, Fault> {
    let over = LoopOver::new(&stage.image("footage"))?;
    let place = stage.directory().join("bare");
    fs::create_dir_all(&place).map_err(Fault::system("making a mount point"))?;
    let flags = MsFlags::MS_NOATIME | MsFlags::MS_NODEV | MsFlags::MS_NOSUID;
    let on = || mount(Some(&over.path()), &place, Some("ext4"), flags, None::<&str>);
    let failed = |what: &'static str| move |e: nix::Error| Fault::System { what: what.into(), source: e.into() };
    on().map_err(failed("mounting"))?;
    let mut times = Vec::new();
    let mut rounds_done = || -> Result<(), Fault> {
        for round in 1..=rounds {
            bench.stop.check()?;
            scribble(&place, round)?;
            let began = Instant::now();
            umount2(&place, MntFlags::empty()).map_err(failed("unmounting"))?;
            on().map_err(failed("mounting"))?;
            times.push(began.elapsed());
        }
        Ok(())
    };
    let done = rounds_done();
    // Also after a failure: the loop device under it is to go.
    let off = umount2(&place, MntFlags::MNT_DETACH).map_err(failed("unmounting"));
    done.and(off).map(|()| times)
}
