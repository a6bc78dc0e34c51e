//! However hard the writer writes, every byte that a reader of a `snapshot` volume reads is of one published state.
//!
//! The file system of a live reader cannot keep that: there a tenth of such reads gives another file's bytes.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use volctl::wire::status::VolumeState;
use volctl_tests::studio::{Client, FAST, Fs, Studio};

const SOON: Duration = Duration::from_secs(10);
const FILES: u64 = 400;
/// Reads of a whole file; `VOLCTL_CHURN_READS` asks for more.
const READS: u64 = 20_000;
/// So many generations at least.
const GENERATIONS: u64 = 15;
/// No run takes longer, however slow the machine.
const LIMIT: Duration = Duration::from_secs(45);

/// Every line of a file names the file and its version, so that another file's bytes, a mixture and a part show.
fn text(name: u64, version: u64) -> String {
    let line = format!("file {name:06} version {version:012}\n");
    line.repeat(usize::try_from(20 + (name * 7 + version) % 500).expect("small"))
}

/// What is wrong with a file that says it is `name`.
fn wrong(name: u64, seen: &[u8]) -> Option<String> {
    let Ok(seen) = std::str::from_utf8(seen) else { return Some("no text".into()) };
    let Some(line) = seen.lines().next() else { return Some("empty".into()) };
    let version = line.rsplit(' ').next().and_then(|v| v.parse().ok());
    let Some(version) = version else { return Some(format!("torn: {line:?}")) };
    (seen != text(name, version)).then(|| format!("{} bytes that begin with {line:?}", seen.len()))
}

struct Churn {
    stop: Arc<AtomicBool>,
    changes: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

/// Replaces, deletes and renames as fast as it can.
fn churn(directory: PathBuf) -> Churn {
    let (stop, changes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (stopped, counted) = (stop.clone(), changes.clone());
    let thread = spawn(move || {
        let mut random: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut version = 1;
        while !stopped.load(Ordering::Relaxed) {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let name = (random >> 33) % FILES;
            let path = directory.join(format!("f{name}"));
            if (random >> 20).is_multiple_of(8) {
                let _ = fs::remove_file(&path);
            } else {
                // Written beside it and renamed over it: at no instant is there a part of it under its name.
                let new = directory.join(format!("new{}", version % 7));
                fs::write(&new, text(name, version)).expect("written");
                fs::rename(&new, &path).expect("renamed");
            }
            version += 1;
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    Churn { stop, changes, thread }
}

#[derive(Debug, Default)]
struct Seen {
    reads: u64,
    absent: u64,
    generations: u64,
    wrong: Vec<String>,
    errors: Vec<String>,
}

/// Lists the directory and reads what it lists, again and again, until it has read enough of enough generations.
fn read_all(bob: &Client, reads: u64, until: Instant) -> Seen {
    let mut seen = Seen::default();
    let directory = bob.path("footage", "");
    let mut last = String::new();
    while (seen.reads < reads || seen.generations < GENERATIONS) && Instant::now() < until {
        let generation = bob.status().volumes[0].seen_generation.clone();
        if generation != last {
            last = generation;
            seen.generations += 1;
        }
        // One open directory is one generation, whatever is refreshed meanwhile: all that it lists is there.
        let Ok(open) = File::open(&directory) else {
            seen.errors.push("the directory cannot be opened".into());
            break;
        };
        let base = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open)));
        let entries: Vec<_> = match fs::read_dir(&base) {
            Ok(entries) => entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect(),
            Err(e) => {
                seen.errors.push(format!("listing: {e}"));
                break;
            }
        };
        for entry in entries {
            let Some(name) = entry.strip_prefix('f').and_then(|n| n.parse().ok()) else { continue };
            match fs::read(base.join(&entry)) {
                Ok(bytes) => seen.wrong.extend(wrong(name, &bytes).map(|why| format!("{entry}: {why}"))),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => seen.absent += 1,
                Err(e) => seen.errors.push(format!("{entry}: {e}")),
            }
            seen.reads += 1;
        }
    }
    seen
}

#[test]
fn loop_a_reader_of_a_snapshot_volume_is_never_fooled_under_churn() {
    let wanted = std::env::var("VOLCTL_CHURN_READS").ok().and_then(|n| n.parse().ok()).unwrap_or(READS);
    let studio = Studio::new(FAST);
    let (alice, bob) = (studio.client("alice"), studio.client("bob"));
    studio.volume("footage", Fs::Btrfs, &["--readers", "snapshot"]);
    studio.allow(&alice, "footage", "write");
    let _ = studio.admin(&["allow", "bob", "footage", "read", "--check", "250ms"]).ok();
    for client in [&alice, &bob] {
        client.start();
    }
    bob.logged_on();
    alice.logged_on();
    bob.until_state("footage", VolumeState::Ro, SOON);
    alice.write_access("footage");
    let before = bob.status().volumes[0].seen_generation.clone();
    let churn = churn(alice.path("footage", ""));
    bob.until_volume("footage", SOON, |v| v.seen_generation != before);
    let begun = Instant::now();
    let limit = if wanted > READS { LIMIT * 10 } else { LIMIT };
    let seen = read_all(&bob, wanted, begun + limit);
    let took = begun.elapsed();
    churn.stop.store(true, Ordering::Relaxed);
    churn.thread.join().expect("the writer had no error");
    println!(
        "{} reads of {} generations in {took:?} while {} files were changed",
        seen.reads,
        seen.generations,
        churn.changes.load(Ordering::Relaxed),
    );
    assert!(seen.wrong.is_empty(), "{} wrong: {:#?}", seen.wrong.len(), &seen.wrong[..seen.wrong.len().min(5)]);
    assert!(seen.errors.is_empty(), "{} errors: {:#?}", seen.errors.len(), &seen.errors[..seen.errors.len().min(5)]);
    assert_eq!(seen.absent, 0, "what a published state lists is in it");
    assert!(seen.reads >= wanted, "only {} reads", seen.reads);
    assert!(seen.generations >= GENERATIONS, "only {} generations", seen.generations);
    studio.end();
}
