//! Readers: open files and working directories go on over refreshes, and a reader's death troubles nobody.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use volctl::wire::status::VolumeState;
use volctl_tests::studio::{Client, Fs, Hold, Studio, volume_of, wait_until, write_synced};

const SOON: Duration = Duration::from_secs(8);
const REFRESHES: u32 = 10;

fn quick_refresh(studio: &Studio, client: &Client) {
    let _ = studio.admin(&["allow", client.name(), "footage", "write", "--check", "100ms"]).ok();
}

fn reads(client: &Client, file: &str, text: &str) {
    let path = client.path("footage", file);
    wait_until(&format!("{} reads {text} in {file}", client.name()), SOON, &mut || {
        fs::read_to_string(&path).is_ok_and(|seen| seen == text)
    });
}

/// Replaces a file as careful programs do.
fn replace(writer: &Client, file: &str, text: &str) {
    let new = writer.path("footage", "new");
    write_synced(&new, text);
    fs::rename(new, writer.path("footage", file)).expect("it is ours");
}

/// What is open goes on over ten refreshes, what is opened anew is new, and at the end everything old is let go.
fn over_ten_refreshes(fs: Fs, more: &[&str]) {
    let (studio, alice, bob) = Studio::pair(fs, more);
    quick_refresh(&studio, &bob);
    alice.write_access("footage");
    fs::create_dir(alice.path("footage", "reel")).expect("ours");
    write_synced(&alice.path("footage", "reel/kept"), "as it was");
    write_synced(&alice.path("footage", "version"), "0");
    reads(&bob, "version", "0");
    let mut open = File::open(bob.path("footage", "version")).expect("readable");
    let hold = Hold::directory(&bob.path("footage", "reel"));
    let inside = std::path::PathBuf::from(format!("/proc/{}/cwd/kept", hold.pid()));
    for version in 1..=REFRESHES {
        replace(&alice, "version", &version.to_string());
        reads(&bob, "version", &version.to_string());
        let mut text = String::new();
        open.rewind().and_then(|()| open.read_to_string(&mut text)).expect("an open file goes on");
        assert_eq!(text, "0", "it goes on showing what it showed");
        assert_eq!(fs::read_to_string(&inside).expect("a working directory goes on"), "as it was");
    }
    let held = volume_of(&bob.status(), "footage").mounted_generations.len();
    assert!((2..=8).contains(&held), "the first and the last, and what is just being let go: {held}");
    // On a volume with snapshots even what is read for the first time is of the old state.
    if more.contains(&"snapshot") {
        assert!(fs::read_to_string(format!("/proc/{}/cwd/../version", hold.pid())).is_ok_and(|t| t == "0"));
    }
    drop(open);
    drop(hold);
    bob.until_volume("footage", SOON, |v| v.mounted_generations.len() == 1);
    studio.end();
}

#[test]
fn loop_ext4_readers_keep_what_they_have_open() {
    over_ten_refreshes(Fs::Ext4, &["--readers", "live"]);
}

#[test]
fn loop_xfs_readers_keep_what_they_have_open() {
    over_ten_refreshes(Fs::Xfs, &["--readers", "live"]);
}

#[test]
fn loop_btrfs_readers_keep_what_they_have_open() {
    over_ten_refreshes(Fs::Btrfs, &["--readers", "snapshot"]);
}

#[test]
fn loop_an_exclusive_readers_open_file_is_closed_after_the_grace_time() {
    let (studio, alice, bob) = Studio::pair(Fs::Ext4, &["--readers", "exclusive"]);
    alice.write_access("footage");
    write_synced(&alice.path("footage", "film"), &"frames".repeat(200_000));
    let _ = alice.cli(&["release", "footage"]).ok();
    bob.until_volume("footage", SOON, |v| v.state == VolumeState::Ro && !v.stale);
    let open = File::open(bob.path("footage", "film")).expect("readable");
    let mut first = [0; 6];
    open.read_exact_at(&mut first, 0).expect("readable");
    let begun = Instant::now();
    alice.write_access("footage");
    let took = begun.elapsed();
    println!("past an open file of an exclusive reader: {took:?}");
    assert!(took >= Duration::from_millis(1_900), "it has its grace time: {took:?}");
    assert!(took < Duration::from_secs(6), "and not more: {took:?}");
    let far = open.read_exact_at(&mut first, 1_100_000).expect_err("its gate is closed");
    assert_eq!(far.raw_os_error(), Some(libc::EIO));
    let named = bob.cli(&["log"]).ok().stdout;
    assert!(named.contains(&std::process::id().to_string()), "bob's log names who was in the way: {named}");
    drop(open);
    let _ = alice.cli(&["release", "footage"]).ok();
    bob.until_state("footage", VolumeState::Ro, SOON);
    studio.end();
}

#[test]
fn loop_a_killed_reader_troubles_nobody_and_comes_back() {
    let (studio, alice, bob) = Studio::pair(Fs::Btrfs, &["--readers", "snapshot"]);
    quick_refresh(&studio, &bob);
    alice.write_access("footage");
    write_synced(&alice.path("footage", "film"), "one");
    reads(&bob, "film", "one");
    let open = File::open(bob.path("footage", "film")).expect("readable");
    bob.kill();
    for text in ["two", "three"] {
        let before = volume_of(&alice.status(), "footage").generation.clone();
        replace(&alice, "film", text);
        alice.until_volume("footage", SOON, |v| v.generation != before);
    }
    let begun = Instant::now();
    let _ = alice.cli(&["release", "footage"]).ok();
    assert!(begun.elapsed() < SOON, "a dead reader holds up no release");
    alice.write_access("footage");
    bob.start();
    bob.logged_on();
    reads(&bob, "film", "three");
    drop(open);
    studio.end();
}

#[test]
fn loop_unmounted_stays_unmounted_over_a_restart_until_it_is_mounted() {
    let (studio, alice, bob) = Studio::pair(Fs::Ext4, &["--readers", "live"]);
    bob.until_state("footage", VolumeState::Ro, SOON);
    let _ = bob.cli(&["unmount", "footage"]).ok();
    let locked = bob.until_state("footage", VolumeState::Locked, SOON);
    assert!(locked.reason.is_some_and(|why| why.contains("volctl mount")));
    for round in ["in order", "killed"] {
        if round == "killed" {
            bob.kill()
        } else {
            bob.stop()
        }
        bob.start();
        bob.logged_on();
        let says = |why: &String| why.contains("volctl mount");
        bob.until_volume("footage", SOON, |v| v.state == VolumeState::Locked && v.reason.as_ref().is_some_and(says));
    }
    let _ = bob.cli(&["mount", "footage"]).ok();
    bob.until_state("footage", VolumeState::Ro, SOON);
    bob.stop();
    bob.start();
    bob.until_state("footage", VolumeState::Ro, SOON);
    alice.write_access("footage");
    let refused = alice.cli(&["unmount", "footage"]).failed(3);
    assert!(refused.next.contains("release"), "a writer releases: {refused}");
    studio.end();
}

#[test]
fn loop_without_auto_update_a_reader_refreshes_when_told() {
    let (studio, alice, bob) = Studio::pair(Fs::Xfs, &["--readers", "live"]);
    let _ = studio.admin(&["allow", "bob", "footage", "write", "--auto-update", "off", "--check", "100ms"]).ok();
    bob.until_volume("footage", SOON, |v| !v.auto_update && v.state == VolumeState::Ro);
    alice.write_access("footage");
    write_synced(&alice.path("footage", "film"), "frames");
    let stale = bob.until_volume("footage", SOON, |v| v.stale);
    assert!(!bob.path("footage", "film").exists(), "not of itself");
    // Several checks later it is still so: ten of the writer's publishes apart from the reader's own will.
    for count in 0..3 {
        let before = volume_of(&alice.status(), "footage").generation.clone();
        write_synced(&alice.path("footage", &format!("more-{count}")), "x");
        alice.until_volume("footage", SOON, |v| v.generation != before);
    }
    let now = bob.until_volume("footage", SOON, |v| v.stale);
    assert_eq!(now.seen_generation, stale.seen_generation, "not of itself");
    let _ = bob.cli(&["refresh", "footage"]).ok();
    assert_eq!(fs::read_to_string(bob.path("footage", "film")).expect("at once"), "frames");
    bob.until_volume("footage", SOON, |v| v.seen_generation != stale.seen_generation);
    studio.end();
}
