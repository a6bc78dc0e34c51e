//! What is left below a studio's directory, and how it is taken away, also after a test run that was killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::Pid;
use tempfile::TempDir;

const PREFIX: &str = "volctl-test-";
/// Names the tables of a studio, in its directory.
pub(super) const UUID_FILE: &str = "uuid";
/// Where lock files lie.
const RUN: &str = "/run/volctl";
/// How long a guardian has to close its gates and go by itself.
const GUARDIAN: Duration = Duration::from_secs(5);

/// A new directory on a real file system: a tmpfs has no direct I/O.
pub(super) fn directory() -> TempDir {
    static SWEEP: Once = Once::new();
    let parents = [std::env::temp_dir(), PathBuf::from("/var/tmp")];
    let real = |path: &&PathBuf| statfs(path.as_path()).is_ok_and(|s| s.filesystem_type() != TMPFS_MAGIC);
    let parent = parents.iter().find(real).expect("/tmp or /var/tmp on a disk (set TMPDIR to one)");
    SWEEP.call_once(|| sweep(parent));
    let prefix = format!("{PREFIX}{}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir_in(parent).expect("a temporary directory")
}

/// Takes away what runs left that were killed themselves.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            end_processes(&entry.path());
            let uuid = fs::read_to_string(entry.path().join(UUID_FILE)).ok();
            take_away(&entry.path(), uuid.as_deref());
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Kills every process that has the directory in its command line.
fn end_processes(dir: &Path) {
    let dir = format!("{}/", dir.display());
    let Ok(entries) = fs::read_dir("/proc") else { return };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(&dir) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// Takes everything below `dir` away, and the lock files and guardians of the tables `uuid`.
pub(super) fn take_away(dir: &Path, uuid: Option<&str>) {
    if let Some(uuid) = uuid {
        end_guardians(uuid);
    }
    for point in mounts_below(dir).into_iter().rev() {
        let _ = umount2(&point, MntFlags::MNT_DETACH);
    }
    for number in loops_below(dir) {
        let detach = Command::new("losetup").args(["-d", &format!("/dev/loop{number}")]).stderr(Stdio::null()).status();
        drop(detach);
    }
    for path in uuid.map(lock_files).unwrap_or_default() {
        let _ = fs::remove_file(path);
    }
}

fn end_guardians(uuid: &str) {
    let begun = Instant::now();
    let slots = lock_files(uuid).into_iter().filter_map(|path| {
        let name = path.file_name()?.to_str()?.strip_suffix(".guardian.lock")?.to_owned();
        name.rsplit_once('.')?.1.parse::<u16>().ok()
    });
    for slot in slots.collect::<Vec<_>>() {
        while let Some(pid) = guardian_pid(uuid, slot) {
            if begun.elapsed() > GUARDIAN {
                let _ = kill(pid, Signal::SIGKILL);
            }
            // One that a test has stopped.
            let _ = kill(pid, Signal::SIGCONT);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn lock_files(uuid: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(RUN) else { return Vec::new() };
    entries.flatten().map(|e| e.path()).filter(|p| p.to_string_lossy().contains(uuid)).collect()
}

/// The process of a slot's guardian, if one lives: the lock file names it with its start time.
#[must_use]
pub fn guardian_pid(uuid: &str, slot: u16) -> Option<Pid> {
    let text = fs::read_to_string(format!("{RUN}/{uuid}.{slot}.guardian.lock")).ok()?;
    // A third word says that it is closing gates.
    let mut words = text.split_ascii_whitespace();
    let (pid, start) = (words.next()?, words.next()?);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    // The start time is the 20th field after the name; the state was the first.
    let alive = fields.nth(18) == Some(start) && state != "Z";
    alive.then_some(Pid::from_raw(pid.parse().ok()?))
}

/// Mount points below a directory, in the order in which they were made.
#[must_use]
pub fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let list = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = list.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    points.filter(|point| point.starts_with(dir)).collect()
}

/// Numbers of the loop devices over images below a directory; those that stand on another loop device first.
#[must_use]
pub fn loops_below(dir: &Path) -> Vec<u32> {
    let mut found = bound_loops(dir);
    found.sort_by_key(|bound| !bound.stacked);
    found.into_iter().map(|bound| bound.number).collect()
}

/// A loop device over an image, directly or through one more.
#[derive(Debug, Clone)]
pub(super) struct BoundLoop {
    pub(super) number: u32,
    pub(super) image: PathBuf,
    /// It stands on another loop device, which stands on the image.
    pub(super) stacked: bool,
}

pub(super) fn bound_loops(dir: &Path) -> Vec<BoundLoop> {
    let Ok(entries) = fs::read_dir("/sys/block") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| loop_number(Path::new(&entry.file_name())));
    numbers.filter_map(bound_loop).filter(|bound| bound.image.starts_with(dir)).collect()
}

fn loop_number(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.strip_prefix("loop")?.parse().ok()
}

pub(super) fn bound_loop(number: u32) -> Option<BoundLoop> {
    let backing = |number: u32| {
        let text = fs::read_to_string(format!("/sys/block/loop{number}/loop/backing_file")).ok()?;
        Some(PathBuf::from(text.trim_end()))
    };
    let direct = backing(number)?;
    let below = loop_number(&direct).filter(|_| direct.starts_with("/dev"));
    Some(match below {
        Some(below) => BoundLoop { number, image: backing(below)?, stacked: true },
        None => BoundLoop { number, image: direct, stacked: false },
    })
}
