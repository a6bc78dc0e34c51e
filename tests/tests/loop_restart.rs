//! A writer's daemon is killed and started again while a program goes on writing into the volume.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use volctl::wire::status::VolumeState;
use volctl_tests::studio::{Client, Fs, Studio, hash, write_synced};

const SOON: Duration = Duration::from_secs(10);

/// A program that writes and syncs through one open file, and makes new files, whatever errors it gets.
struct Program {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Program {
    fn start(directory: PathBuf) -> Self {
        let counters = || Arc::new(AtomicU64::new(0));
        let (stop, written, refused) = (Arc::new(AtomicBool::new(false)), counters(), counters());
        let (stopped, good, bad) = (stop.clone(), written.clone(), refused.clone());
        let file = File::create(directory.join("log")).expect("a file");
        let thread = spawn(move || {
            let mut at = 0;
            while !stopped.load(Ordering::Relaxed) {
                let logged = file.write_all_at(&[7; 4096], at % (1 << 20)).and_then(|()| file.sync_data());
                let made =
                    File::create(directory.join(format!("f{}", at / 4096 % 50))).and_then(|mut f| f.write_all(b"x"));
                drop(made);
                match logged {
                    Ok(()) => good.fetch_add(1, Ordering::Relaxed),
                    Err(_) => {
                        // Others want the processor too.
                        std::thread::sleep(Duration::from_millis(1));
                        bad.fetch_add(1, Ordering::Relaxed)
                    }
                };
                at += 4096;
            }
        });
        Self { stop, written, refused, thread }
    }

    /// Ends it; how many writes went through, and how many did not.
    fn end(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the program");
        (self.written.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }
}

/// No gate is open for writing: from here on not one byte may change.
fn closed(studio: &Studio, image: &Path) {
    studio.wait_until("the gate is closed", SOON, || {
        studio.witness.look_again().moments.iter().rfind(|m| m.image == image).is_none_or(|m| m.gates.is_empty())
    });
}

fn kill_and_restart(studio: &Studio, image: &Path, alice: &Client, bob: &Client, turn: u64) {
    alice.write_access("footage");
    write_synced(&alice.path("footage", "kept"), &format!("turn {turn}"));
    let program = Program::start(alice.path("footage", ""));
    while program.written.load(Ordering::Relaxed) < 3 + turn * 7 {
        std::thread::yield_now();
    }
    std::thread::sleep(Duration::from_millis(turn * 37 % 200));
    alice.kill();
    std::thread::sleep(Duration::from_millis(100));
    alice.start();
    let incarnation = alice.logged_on().incarnation;
    closed(studio, image);
    let (moments, before) = (studio.witness.look_again().moments.len(), hash(image));
    std::thread::sleep(Duration::from_millis(150));
    let after = hash(image);
    // (A client that may write brings a `snapshot` volume in order at once: then a gate was open, with a grant.)
    if studio.witness.look_again().moments.len() == moments {
        assert_eq!(after, before, "turn {turn}: bytes came through a closed gate");
    }
    assert!(program.refused.load(Ordering::Relaxed) > 0, "the program did not notice");
    let asked = bob.write_access("footage");
    assert_eq!(fs::read_to_string(bob.path("footage", "kept")).expect("it was synced"), format!("turn {turn}"));
    write_synced(&bob.path("footage", "kept"), "by bob");
    // The program of alice still writes, into what is no volume any more.
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(fs::read_to_string(bob.path("footage", "kept")).expect("a file"), "by bob");
    let (written, refused) = program.end();
    println!("turn {turn}: incarnation {incarnation}, {written} writes, {refused} refused, bob after {:?}", asked.took);
    let _ = bob.cli(&["release", "footage"]).ok();
    alice.until_volume("footage", SOON, |v| v.state == VolumeState::Ro && v.writer.is_none());
}

fn many_times(fs: Fs, turns: std::ops::Range<u64>) {
    let readers = if fs == Fs::Btrfs { "snapshot" } else { "live" };
    let (studio, alice, bob) = Studio::pair(fs, &["--readers", readers]);
    let image = studio.dir().join("footage.img");
    for turn in turns {
        kill_and_restart(&studio, &image, &alice, &bob, turn);
    }
    studio.end();
}

#[test]
fn loop_a_killed_writer_of_ext4_that_comes_back_writes_no_byte_more() {
    many_times(Fs::Ext4, 0..10);
}

#[test]
fn loop_a_killed_writer_of_xfs_that_comes_back_writes_no_byte_more() {
    many_times(Fs::Xfs, 0..2);
}

#[test]
fn loop_a_killed_writer_of_btrfs_that_comes_back_writes_no_byte_more() {
    many_times(Fs::Btrfs, 0..3);
}
