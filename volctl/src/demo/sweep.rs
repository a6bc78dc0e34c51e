//! Looks for everything that the demo could have left - processes, mounts, loop devices, files - and takes it away.
//!
//! What ended in order has left nothing but files; the rest is for daemons that were killed.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lockdriver::sys::loopdev;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::control::host::run_dir;
use crate::control::open::ControlVolume;

/// A guardian whose daemon is gone closes its gates and ends within this.
const GUARDIAN: Duration = Duration::from_secs(10);
/// How long the kernel may take over what it was told.
const SETTLE: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(10);

/// By what everything of one demo is found.
#[derive(Debug, Clone)]
pub struct Traces {
    /// Images, sockets, mounts, logs.
    pub directory: PathBuf,
    /// The program of daemons and guardians.
    pub program: PathBuf,
}

/// Takes everything away and names what is still there.
pub fn clear(traces: &Traces) -> Vec<String> {
    let locks = lock_files(traces);
    let mut left = Vec::new();
    if !wait_until(GUARDIAN, || processes(traces, &locks).is_empty()) {
        for pid in processes(traces, &locks) {
            // It may have ended meanwhile.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        wait_until(SETTLE, || processes(traces, &locks).is_empty());
    }
    // The innermost first; each may lie on top of another one at the same place.
    for mount in mounts(&traces.directory).iter().rev() {
        let _ = umount2(mount, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
    }
    if !wait_until(SETTLE, || loops(&traces.directory).is_empty()) {
        for node in loops(&traces.directory) {
            if let Ok(node) = fs::File::open(node) {
                let _ = loopdev::clear(node.as_fd());
            }
        }
        wait_until(SETTLE, || loops(&traces.directory).is_empty());
    }
    left.extend(processes(traces, &locks).iter().map(|pid| format!("process {pid}")));
    left.extend(mounts(&traces.directory).iter().map(|path| format!("the mount {}", path.display())));
    left.extend(loops(&traces.directory).iter().map(|node| format!("{} (still in use)", node.display())));
    // Never through a mount into a volume.
    if mounts(&traces.directory).is_empty() {
        left.extend(remove(&traces.directory, fs::remove_dir_all));
    } else {
        left.push(traces.directory.display().to_string());
    }
    for lock in locks {
        left.extend(remove(&lock, fs::remove_file));
    }
    left
}

/// Daemons and guardians that are there.
pub fn running(traces: &Traces) -> Vec<i32> {
    processes(traces, &lock_files(traces))
}

fn remove(path: &Path, how: fn(PathBuf) -> io::Result<()>) -> Option<String> {
    match how(path.to_owned()) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Some(format!("{} ({e})", path.display())),
        _ => None,
    }
}

fn wait_until(limit: Duration, is_so: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while !is_so() {
        if began.elapsed() > limit {
            return false;
        }
        std::thread::sleep(TICK);
    }
    true
}

/// The lock files of the demo's own control volume; nobody else knows its UUID.
fn lock_files(traces: &Traces) -> Vec<PathBuf> {
    let control = traces.directory.join("control.img");
    let Ok(volume) = ControlVolume::open(&control, lockdriver::device::Access::Read) else { return Vec::new() };
    let prefix = format!("{}.", volume.superblock.uuid);
    let Ok(entries) = fs::read_dir(run_dir()) else { return Vec::new() };
    let ours = entries.flatten().filter(|entry| entry.file_name().as_bytes().starts_with(prefix.as_bytes()));
    ours.map(|entry| entry.path()).collect()
}

/// Daemons and guardians of the demo: processes of this very program that name its directory or hold its lock files.
fn processes(traces: &Traces, locks: &[PathBuf]) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    numbers.filter(|pid| *pid != own && is_ours(traces, locks, *pid)).collect()
}

fn is_ours(traces: &Traces, locks: &[PathBuf], pid: i32) -> bool {
    let at = PathBuf::from(format!("/proc/{pid}"));
    if fs::read_link(at.join("exe")).ok().as_deref() != Some(&*traces.program) {
        return false;
    }
    let named = fs::read(at.join("cmdline")).unwrap_or_default();
    let directory = traces.directory.as_os_str().as_bytes();
    if named.windows(directory.len()).any(|part| part == directory) {
        return true;
    }
    let Ok(open) = fs::read_dir(at.join("fd")) else { return false };
    let mut targets = open.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.any(|target| locks.contains(&target) || target.starts_with(&traces.directory))
}

/// Mounts below the directory, the outermost first.
fn mounts(directory: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let paths = table.lines().filter_map(|line| line.split(' ').nth(4)).map(|path| path.replace("\\040", " "));
    paths.map(PathBuf::from).filter(|path| path.starts_with(directory)).collect()
}

/// Loop devices over images in the directory.
fn loops(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir("/sys/block") else { return Vec::new() };
    let over = |entry: &fs::DirEntry| {
        let backing = fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
        Path::new(backing.trim_end()).starts_with(directory)
    };
    entries.flatten().filter(over).map(|entry| Path::new("/dev").join(entry.file_name())).collect()
}
