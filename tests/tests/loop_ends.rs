//! However a daemon ends, nothing is left of it.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use volctl::wire::status::VolumeState;
use volctl_tests::studio::{Client, FAST, Fs, Hold, Studio, guardian_pid, loops_below, mounts_below, run};

const SOON: Duration = Duration::from_secs(8);

/// A number below `below`, other in each run: what matters is that many moments are hit.
fn some(below: u64) -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0) % below
}

fn pause(at_most: u64) -> Duration {
    let pause = Duration::from_millis(some(at_most));
    std::thread::sleep(pause);
    pause
}

fn nothing_is_left(studio: &Studio, alice: &Client, how: &str) {
    studio.wait_until(&format!("the guardian is gone ({how})"), SOON, || {
        guardian_pid(&studio.uuid, alice.slot()).is_none()
    });
    let (loops, mounts) = (loops_below(studio.dir()), mounts_below(studio.dir()));
    assert!(loops.is_empty(), "{how}: loop devices {loops:?}");
    // Killed before its guardian lived, nobody is there to take the mount root away; the next daemon does.
    let alone = how.contains("kill");
    let mounts: Vec<_> = mounts.into_iter().filter(|m| !alone || *m != alice.mount_root()).collect();
    assert!(mounts.is_empty(), "{how}: mounts {mounts:?}");
    assert!(alone || !alice.socket().exists(), "{how}: the socket is still there");
}

#[test]
fn loop_ended_at_any_moment_a_daemon_leaves_nothing() {
    let studio = Studio::new(FAST);
    let alice = studio.client("alice");
    studio.volume("footage", Fs::Ext4, &["--readers", "live"]);
    studio.allow(&alice, "footage", "write");
    alice.start();
    alice.logged_on();
    alice.stop();
    for turn in 0..20 {
        alice.start();
        let mut asking = None;
        if turn % 2 == 0 {
            // Somewhere in the log-on.
            alice.hears_signals();
            pause(250);
        } else {
            alice.logged_on();
            asking = Some(alice.begin(&["request", "footage"]));
            pause(400);
        }
        let how = if turn % 4 < 2 { "SIGTERM" } else { "kill -9" };
        if turn % 4 < 2 {
            alice.terminate();
            alice.ended(Duration::from_secs(15));
        } else {
            alice.kill();
        }
        nothing_is_left(&studio, &alice, &format!("{how}, turn {turn}"));
        drop(asking.map(volctl_tests::studio::Running::wait));
    }
    alice.start();
    alice.logged_on();
    studio.end();
}

#[test]
fn loop_a_second_word_ends_it_at_once_whoever_has_files_open() {
    let (studio, alice, bob) = Studio::pair(Fs::Ext4, &["--readers", "live"]);
    alice.write_access("footage");
    std::fs::write(alice.path("footage", "file"), "kept open").expect("a file");
    let hold = Hold::file(&alice.path("footage", "file"));
    alice.terminate();
    alice.until("it leaves", SOON, |s| s.volumes.iter().all(|v| v.state != VolumeState::Ro));
    let begun = Instant::now();
    alice.signal(Signal::SIGTERM);
    alice.ended(Duration::from_secs(4));
    println!("ended {:?} after the second word", begun.elapsed());
    drop(hold);
    // It left in order: nobody has to wait.
    let asked = bob.write_access("footage");
    assert!(asked.took < FAST.dead(), "{asked}");
    assert_eq!(std::fs::read_to_string(bob.path("footage", "file")).expect("published"), "kept open");
    studio.end();
}

#[test]
fn loop_told_to_end_while_it_waits_for_its_slot_it_ends() {
    let studio = Studio::new(FAST);
    let alice = studio.client("alice");
    // Its first log-on waits for `margin`.
    alice.start();
    alice.until("it waits", SOON, |s| s.incarnation == 0);
    alice.terminate();
    alice.ended(Duration::from_secs(2));
    studio.end();
}

#[test]
fn loop_one_name_runs_once_on_a_host_and_the_second_names_the_first() {
    let studio = Studio::new(FAST);
    let alice = studio.client("alice");
    alice.start();
    alice.logged_on();
    let config = alice.config().display().to_string();
    let second = run(&["daemon", "--config", &config]);
    let failure = second.failed(5);
    assert!(failure.why.contains(&format!("process {} ", alice.pid())), "{failure}");
    // Another client, but the same mount root.
    let root = alice.mount_root().display().to_string();
    let bob = studio.client_with("bob", &volctl_tests::studio::Options::default().set("mount_root", &root));
    let failure = run(&["daemon", "--config", &bob.config().display().to_string()]).failed(5);
    assert!(failure.what.contains(&root), "{failure}");
    assert!(mounts_below(studio.dir()).contains(&alice.mount_root()), "the first one's mount root stays");
    studio.end();
}
