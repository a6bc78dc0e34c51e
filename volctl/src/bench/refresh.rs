//! From the writer's publish to the reader's eyes, and the switch itself.

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lockdriver::gate::Mode;
use ondisk::FsKind;

use super::Bench;
use super::figures::{Figures, Unit, median};
use crate::demo::fault::Fault;
use crate::demo::loop_over::LoopOver;
use crate::demo::stage::{Stage, is, volume};
use crate::volumes::mounting::mount_reader;
use crate::volumes::mounting::root::{MountRoot, prepare_mount_root, tear_down_mount_root};
use crate::wire::client::Client;
use crate::wire::status::VolumeState;

const FIRST: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(20);
const ROUNDS: u32 = 20;
/// How often the reader looks; the default is 2 s, which would hide everything else.
const CHECK: &str = "100ms";
/// The switch of one mount for another.
const SWITCH: Duration = Duration::from_millis(1);

pub(super) fn measure(bench: &Bench<'_>, stage: &mut Stage, figures: &mut Figures) -> Result<(), Fault> {
    stage.on_control("init", &["--size", "16M"], 0)?;
    for name in ["alice", "bob"] {
        stage.admin(&["client", "add", name], 0)?;
    }
    for (name, fs, size) in [("footage", "ext4", "64M"), ("music", "btrfs", "128M")] {
        let image = stage.image(name).display().to_string();
        stage.admin(&["volume", "add", name, "--device", &image, "--mkfs", fs, "--size", size], 0)?;
        for client in ["alice", "bob"] {
            stage.admin(&["allow", client, name, "write", "--check", CHECK], 0)?;
        }
    }
    for name in ["alice", "bob"] {
        stage.hire(name, "publish = \"200ms\"")?;
        stage.start(name)?;
    }
    for name in ["alice", "bob"] {
        stage.until(name, &format!("{name} reads"), FIRST, |status| {
            is(status, "footage", VolumeState::Ro) && is(status, "music", VolumeState::Ro)
        })?;
    }
    // One poll until the reader sees the generation, one check interval, and the mount itself.
    let poll = ondisk::Timings::default().poll();
    let target = poll + Duration::from_millis(100) + Duration::from_millis(100);
    for (name, kind) in [("footage", "ext4"), ("music", "btrfs")] {
        stage.client("alice", &["request", name, "--wait", "30s"], 0)?;
        let mut times = Vec::new();
        for round in 0..bench.rounds(ROUNDS) {
            times.push(one(stage, name, round)?);
        }
        figures.times(&format!("{kind}: published until the reader sees it"), &times, Some(target));
        stage.client("alice", &["release", name], 0)?;
    }
    for name in ["alice", "bob"] {
        stage.end(name, nix::sys::signal::Signal::SIGTERM)?;
    }
    switches(bench, stage, figures)
}

/// Writes, waits for the publish, and then for the reader.
fn one(stage: &Stage, name: &str, round: u32) -> Result<Duration, Fault> {
    let mut writer = Client::connect(&stage.actor("alice").socket())?;
    let mut generation = || -> Result<String, Fault> {
        Ok(volume(&writer.status()?, name).map(|v| v.generation.clone()).unwrap_or_default())
    };
    let before = generation()?;
    let text = format!("take {round}");
    fs::write(stage.actor("alice").mount(name).join("take.txt"), &text).map_err(Fault::system("writing a file"))?;
    let began = Instant::now();
    while generation()? == before {
        stage.stop.check()?;
        if began.elapsed() > SOON {
            return Err(Fault::TooLong { what: format!("{name} is published"), limit: SOON });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let seen = stage.actor("bob").mount(name).join("take.txt");
    stage.until_true(&format!("bob sees {text} on {name}"), SOON, Duration::from_micros(500), || {
        fs::read_to_string(&seen).is_ok_and(|found| found == text)
    })
}

/// Switches a reader's mount while somebody opens a file in it all the time.
fn switches(bench: &Bench<'_>, stage: &Stage, figures: &mut Figures) -> Result<(), Fault> {
    let place = stage.directory().join("switched");
    fs::create_dir_all(&place).map_err(Fault::system("making a mount root"))?;
    let failed =
        |e: crate::volumes::mounting::MountError| Fault::Wrong { what: "a switch".into(), seen: e.to_string() };
    let root = prepare_mount_root(&place).map_err(failed)?;
    let measured = switched(bench, stage, &root);
    let _ = root.detach("footage");
    tear_down_mount_root(root).map_err(failed)?;
    let (times, opens, missed) = measured?;
    figures.times("ext4: the switch of the mount", &times, Some(SWITCH));
    figures.add("opens of a file meanwhile", median(&[opens]), Unit::Count);
    figures.at_most("opens that failed", median(&[missed]), Unit::Count, 0.0);
    Ok(())
}

fn switched(bench: &Bench<'_>, stage: &Stage, root: &MountRoot) -> Result<(Vec<Duration>, u64, u64), Fault> {
    let failed =
        |e: crate::volumes::mounting::MountError| Fault::Wrong { what: "a switch".into(), seen: e.to_string() };
    let rounds = bench.rounds(ROUNDS);
    let mut loops = Vec::new();
    let put = |loops: &mut Vec<LoopOver>| -> Result<Duration, Fault> {
        let over = LoopOver::of_mode(&stage.image("footage"), Mode::ReadOnly)?;
        let mount = mount_reader(&over.path(), FsKind::Ext4, None).map_err(failed)?;
        loops.push(over);
        let began = Instant::now();
        root.switch_beneath(mount, "footage").map_err(failed)?;
        Ok(began.elapsed())
    };
    put(&mut loops)?;
    let (stop, opens, missed) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let file = root.path_of("footage").join("take.txt");
    let times = std::thread::scope(|scope| {
        scope.spawn(|| open_all_the_time(&file, &stop, &opens, &missed));
        let mut times = Vec::new();
        let mut all = || -> Result<(), Fault> {
            for _ in 0..rounds {
                bench.stop.check()?;
                times.push(put(&mut loops)?);
                // The one before has no open file for long.
                if loops.len() > 2 {
                    drop(loops.remove(0));
                }
            }
            Ok(())
        };
        let done = all();
        stop.store(true, Ordering::SeqCst);
        done.map(|()| times)
    })?;
    let _ = root.detach("footage");
    Ok((times, opens.load(Ordering::SeqCst), missed.load(Ordering::SeqCst)))
}

fn open_all_the_time(file: &Path, stop: &AtomicBool, opens: &AtomicU64, missed: &AtomicU64) {
    while !stop.load(Ordering::SeqCst) {
        let counter = if File::open(file).is_ok() { opens } else { missed };
        counter.fetch_add(1, Ordering::SeqCst);
    }
}
