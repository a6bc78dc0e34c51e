//! Before every mount the device is proven to be the volume that the tables mean; else it is refused by name.

use std::fs::{self, File};
use std::process::Command;
use std::time::Duration;

use volctl::wire::status::VolumeState;
use volctl_tests::studio::{Client, FAST, Fs, Options, Studio, Volume, write_synced};

const SOON: Duration = Duration::from_secs(8);

fn one(fs: Fs) -> (Studio, Client, Volume) {
    let studio = Studio::new(FAST);
    let alice = studio.client("alice");
    let volume = studio.volume("footage", fs, &["--readers", "live"]);
    studio.allow(&alice, "footage", "write");
    (studio, alice, volume)
}

/// It stays locked, status says why, and asking for it is refused.
fn is_refused(alice: &Client, words: &str) {
    let seen = alice.until_volume("footage", SOON, |v| v.reason.as_ref().is_some_and(|why| why.contains(words)));
    assert_eq!(seen.state, VolumeState::Locked, "{seen:?}");
    let refused = alice.cli(&["request", "footage", "--wait", "10s"]);
    assert_ne!(refused.code, 0, "{refused}");
    assert!(refused.stderr.contains(words), "{refused}");
}

#[test]
fn loop_another_file_system_of_the_same_size_is_refused_by_name() {
    let (studio, alice, volume) = one(Fs::Ext4);
    let ours = studio.dir().join("ours.img");
    fs::rename(&volume.image, &ours).expect("moved away");
    let size = fs::metadata(&ours).expect("an image").len();
    File::create(&volume.image).and_then(|f| f.set_len(size)).expect("another image");
    let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&volume.image).status();
    assert!(made.is_ok_and(|s| s.success()));
    let before = volctl_tests::studio::hash(&volume.image);
    alice.start();
    alice.logged_on();
    is_refused(&alice, "another device than the tables mean");
    assert_eq!(alice.cli(&["request", "footage", "--wait", "10s"]).code, 3);
    assert_eq!(volctl_tests::studio::hash(&volume.image), before, "not a byte of the other one was changed");
    fs::rename(&ours, &volume.image).expect("back again");
    alice.write_access("footage");
    write_synced(&alice.path("footage", "file"), "it is the right one again");
    studio.end();
}

#[test]
fn loop_a_device_that_moved_is_named_and_found_by_the_configuration() {
    let (studio, alice, volume) = one(Fs::Ext4);
    let elsewhere = studio.dir().join("elsewhere.img");
    fs::rename(&volume.image, &elsewhere).expect("moved");
    alice.start();
    alice.logged_on();
    is_refused(&alice, "cannot be opened");
    alice.stop();
    alice.configure(&Options::default().set("devices.footage", &elsewhere.display().to_string()));
    alice.start();
    alice.until_state("footage", VolumeState::Ro, SOON);
    alice.stop();
    fs::rename(&elsewhere, &volume.image).expect("back");
    studio.end();
}

#[test]
fn loop_a_truncated_image_is_refused_and_breaks_nothing() {
    let (studio, alice, volume) = one(Fs::Ext4);
    let size = fs::metadata(&volume.image).expect("an image").len();
    let kept = fs::read(&volume.image).expect("a copy");
    let cut = |len: u64| File::options().write(true).open(&volume.image).and_then(|f| f.set_len(len));
    cut(size / 2).expect("cut short");
    alice.start();
    alice.logged_on();
    is_refused(&alice, "another device than the tables mean");
    fs::write(&volume.image, kept).expect("the whole image");
    alice.write_access("footage");
    write_synced(&alice.path("footage", "file"), "whole");
    let _ = alice.cli(&["release", "footage"]).ok();
    alice.until_state("footage", VolumeState::Ro, SOON);
    // Under a mounted reader, too: what is read gives errors, the daemon lives on.
    let kept = fs::read(&volume.image).expect("a copy");
    cut(1 << 20).expect("cut short");
    let incarnation = alice.status().incarnation;
    std::thread::sleep(FAST.lease());
    assert_eq!(alice.status().incarnation, incarnation);
    fs::write(&volume.image, kept).expect("the whole image");
    studio.end();
}
