//! A thread that looks all the time whether two could write one volume.
//!
//! It looks from outside, at the kernel's own lists: which loop devices lie over which image, whether they let writes
//! through (a closed gate has the size 0 or one sector), and which file systems are mounted read-write on them. A look
//! takes a while, so what looks like two is looked at once more: only if the first is still the same (the loop device's
//! sequence number, the mount's number), were both there at one instant.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::leftovers::{BoundLoop, bound_loop, bound_loops};
use super::locked;

/// Between two looks: short beside a hand-over, and the tests that run beside this one have to live too.
const PAUSE: Duration = Duration::from_millis(1);

/// Where the disks themselves are watched as well, and many studios run side by side.
const PAUSE_STACKED: Duration = Duration::from_millis(20);

/// A longer time between two looks means that the machine had no time for this process, nor for the others.
const STALL: Duration = Duration::from_millis(100);

/// A loop device through which writes pass.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gate {
    /// Its number.
    pub number: u32,
    /// The kernel's number of this binding: it never comes again.
    pub sequence: u64,
    /// Where its file system is mounted read-write.
    pub mounts: Vec<PathBuf>,
}

/// From when on which gates of an image were open for writing.
#[derive(Debug, Clone)]
pub struct Moment {
    /// When it was seen.
    pub at: Instant,
    /// The image.
    pub image: PathBuf,
    /// Open for writing; more than one is a violation.
    pub gates: Vec<Gate>,
}

/// What was seen.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// How often it was looked.
    pub samples: u64,
    /// For how long in all the machine had no time even for looking.
    pub stalled: Duration,
    /// Two writers at one instant.
    pub violations: Vec<String>,
    /// Every change, oldest first.
    pub moments: Vec<Moment>,
}

impl Report {
    /// When the gate that writes through `client`'s mount was first seen gone again, at or after `from`.
    #[must_use]
    pub fn closed(&self, image: &Path, client: &Path, from: Instant) -> Option<Instant> {
        let writes = |m: &Moment| m.gates.iter().any(|g| g.mounts.iter().any(|p| p.starts_with(client)));
        self.moments.iter().find(|m| m.image == image && m.at >= from && !writes(m)).map(|m| m.at)
    }

    /// When `client` was first seen with a read-write mount, at or after `from`.
    #[must_use]
    pub fn opened(&self, image: &Path, client: &Path, from: Instant) -> Option<Instant> {
        let writes = |m: &Moment| m.gates.iter().any(|g| g.mounts.iter().any(|p| p.starts_with(client)));
        self.moments.iter().find(|m| m.image == image && m.at >= from && writes(m)).map(|m| m.at)
    }
}

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Witness {
    stop: Arc<AtomicBool>,
    on_disks: Arc<AtomicBool>,
    samples: Arc<AtomicU64>,
    report: Arc<Mutex<Report>>,
    thread: Option<JoinHandle<()>>,
}

impl Witness {
    /// Looks at every image below `dir`.
    ///
    /// # Panics
    /// When no thread can be had.
    #[must_use]
    pub fn start(dir: &Path) -> Self {
        let (stop, on_disks, samples) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default(), Arc::default());
        let report: Arc<Mutex<Report>> = Arc::default();
        let look = {
            let (stop, on_disks, dir) = (Arc::clone(&stop), Arc::clone(&on_disks), dir.to_owned());
            let (samples, report) = (Arc::<AtomicU64>::clone(&samples), Arc::clone(&report));
            move || {
                let mut before = BTreeMap::new();
                let mut last = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    let stacked = on_disks.load(Ordering::Relaxed);
                    look(&dir, stacked, &mut before, &report);
                    let gap = last.elapsed();
                    last = Instant::now();
                    if gap > STALL {
                        locked(&report).stalled += gap;
                    }
                    samples.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(if stacked { PAUSE_STACKED } else { PAUSE });
                }
            }
        };
        let thread = std::thread::Builder::new().name("witness".into()).spawn(look).expect("a thread");
        Self { stop, on_disks, samples, report, thread: Some(thread) }
    }

    /// From now on each host has disks of its own, loop devices over the images; a gate is what stands on one of them.
    pub fn hosts_have_disks(&self) {
        self.on_disks.store(true, Ordering::Relaxed);
    }

    /// What was seen so far.
    #[must_use]
    pub fn report(&self) -> Report {
        Report { samples: self.samples.load(Ordering::Relaxed), ..locked(&self.report).clone() }
    }

    /// Waits for one whole further look, and says what was seen up to then.
    #[must_use]
    pub fn look_again(&self) -> Report {
        let seen = self.samples.load(Ordering::Relaxed);
        while self.samples.load(Ordering::Relaxed) < seen + 2 {
            std::thread::sleep(PAUSE);
        }
        self.report()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

type Gates = BTreeMap<PathBuf, Vec<Gate>>;

fn look(dir: &Path, on_disks: bool, before: &mut Gates, report: &Mutex<Report>) {
    let mounts = read_write_mounts(dir);
    let mut now = Gates::new();
    for BoundLoop { number, image, stacked } in bound_loops(dir) {
        // What hosts have for a disk is no gate.
        if stacked != on_disks {
            continue;
        }
        let sequence = open_for_writing(number, &image);
        let gates = now.entry(image).or_default();
        if let Some(sequence) = sequence {
            let source = format!("/dev/loop{number}");
            let on = mounts.iter().filter(|m| m.source == source).map(|m| m.point.clone()).collect();
            gates.push(Gate { number, sequence, mounts: on });
        }
    }
    let mut found = Vec::new();
    for (image, gates) in &now {
        let still = |g: &&Gate| open_for_writing(g.number, image) == Some(g.sequence);
        if gates.len() > 1 && gates.iter().filter(still).count() > 1 {
            found.push(format!("{}: open for writing at once: {gates:?}", image.display()));
        }
        if let Some(text) = two_mounts(dir, image, gates, &mounts) {
            found.push(text);
        }
    }
    for image in before.keys() {
        now.entry(image.clone()).or_default();
    }
    let changed: Vec<Moment> = now
        .iter()
        .filter(|(image, gates)| before.get(*image).map(Vec::as_slice).unwrap_or_default() != gates.as_slice())
        .map(|(image, gates)| Moment { at: Instant::now(), image: image.clone(), gates: gates.clone() })
        .collect();
    *before = now;
    if !found.is_empty() || !changed.is_empty() {
        let mut report = locked(report);
        // A violation lasts; the first looks at it are enough to read.
        if report.violations.len() < 20 {
            report.violations.extend(found);
        }
        report.moments.extend(changed);
    }
}

/// Read-write mounts of two clients on open gates of one image, still there at a second look.
fn two_mounts(dir: &Path, image: &Path, gates: &[Gate], mounts: &[Mount]) -> Option<String> {
    let sources: Vec<String> = gates.iter().map(|g| format!("/dev/loop{}", g.number)).collect();
    let writers =
        |list: &[Mount]| -> Vec<Mount> { list.iter().filter(|m| sources.contains(&m.source)).cloned().collect() };
    let of_client = |m: &Mount| m.point.strip_prefix(dir).ok()?.components().next().map(|c| c.as_os_str().to_owned());
    let two = |list: &[Mount]| list.iter().any(|m| of_client(m) != list.first().and_then(of_client));
    let first = writers(mounts);
    if !two(&first) {
        return None;
    }
    let second = writers(&read_write_mounts(dir));
    let lasting: Vec<Mount> = first.into_iter().filter(|m| second.contains(m)).collect();
    two(&lasting).then(|| format!("{}: mounted read-write at once: {lasting:?}", image.display()))
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    id: String,
    point: PathBuf,
    source: String,
}

fn read_write_mounts(dir: &Path) -> Vec<Mount> {
    let list = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    list.lines().filter_map(parse).filter(|m| m.point.starts_with(dir)).collect()
}

/// A line of mountinfo, if both the mount and its file system are read-write.
fn parse(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let left: Vec<&str> = left.split(' ').collect();
    let right: Vec<&str> = right.split(' ').collect();
    let writes = |options: &str| options.split(',').next() == Some("rw");
    let all = writes(left.get(5)?) && writes(right.get(2)?);
    all.then(|| Mount {
        id: (*left.first().unwrap_or(&"")).to_owned(),
        point: PathBuf::from(left.get(4).unwrap_or(&"")),
        source: (*right.get(1).unwrap_or(&"")).to_owned(),
    })
}

/// The sequence number of a loop device over `image` through which writes pass.
///
/// Numbers are used again at once, also by other tests: what is read of one counts only if it was the same binding from
/// the first to the last.
fn open_for_writing(number: u32, image: &Path) -> Option<u64> {
    let block = PathBuf::from(format!("/sys/block/loop{number}"));
    let read = |what: &str| -> Option<u64> { fs::read_to_string(block.join(what)).ok()?.trim().parse().ok() };
    let sequence = read("diskseq")?;
    let backing = bound_loop(number)?.image;
    let open = read("ro")? == 0 && read("size")? > 1;
    let same = backing == image && read("diskseq")? == sequence;
    (open && same).then_some(sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_mount_that_writes_all_the_way_down_counts() {
        let line =
            |mount: &str, fs: &str| format!("29 1 7:5 / /d/alice/mnt/v {mount},nosuid shared:1 - ext4 /dev/loop5 {fs}");
        assert_eq!(parse(&line("rw", "rw")).map(|m| m.source).as_deref(), Some("/dev/loop5"));
        assert_eq!(parse(&line("ro", "rw")), None);
        assert_eq!(parse(&line("rw", "ro")), None);
    }
}
