//! Devices with logical sectors of 4096 bytes, for the control volume and for the volumes.

use std::fs::File;
use std::time::Duration;

use volctl::wire::status::VolumeState;
use volctl_tests::studio::{FAST, Fs, LoopDevice, Studio, run, write_synced};

const SOON: Duration = Duration::from_secs(8);

fn image(studio: &Studio, name: &str, bytes: u64) -> std::path::PathBuf {
    let path = studio.dir().join(name);
    File::create(&path).and_then(|f| f.set_len(bytes)).expect("an image");
    path
}

fn hands_over(fs: Fs, readers: &str, bytes: u64) {
    let mut studio = Studio::new(FAST);
    let control_image = image(&studio, "control4k.img", 16 << 20);
    let control = LoopDevice::attach(&control_image, 4096);
    let path = control.path().display().to_string();
    let periods = [FAST.beat, FAST.lease, FAST.dead].map(|ms| format!("{ms}ms"));
    let made = run(&["init", &path, "--beat", &periods[0], "--lease", &periods[1], "--dead", &periods[2]]).ok();
    studio.uuid = made.json()["uuid"].as_str().expect("a UUID").to_owned();
    studio.control = control.path().to_owned();
    let volume_image = image(&studio, "volume4k.img", bytes);
    let device = LoopDevice::attach(&volume_image, 4096);
    let (alice, bob) = (studio.client("alice"), studio.client("bob"));
    let at = device.path().display().to_string();
    let _ =
        studio.admin(&["volume", "add", "footage", "--device", &at, "--mkfs", fs.word(), "--readers", readers]).ok();
    for client in [&alice, &bob] {
        studio.allow(client, "footage", "write");
        client.start();
    }
    for client in [&alice, &bob] {
        client.logged_on();
        client.until_state("footage", VolumeState::Ro, SOON);
    }
    alice.write_access("footage");
    write_synced(&alice.path("footage", "file"), "on big sectors");
    let direct: Vec<String> = volctl_tests::studio::loops_below(&volume_image)
        .into_iter()
        .filter(|n| !device.path().ends_with(format!("loop{n}")))
        .map(|n| std::fs::read_to_string(format!("/sys/block/loop{n}/loop/dio")).unwrap_or_default())
        .collect();
    assert!(!direct.is_empty() && direct.iter().all(|d| d.trim() == "1"), "gates are not direct: {direct:?}");
    let _ = alice.cli(&["release", "footage"]).ok();
    bob.write_access("footage");
    assert_eq!(std::fs::read_to_string(bob.path("footage", "file")).expect("handed over"), "on big sectors");
    alice.stop();
    bob.stop();
    let _ = run(&["check", &path]).ok();
    drop(device);
    drop(control);
    // The image has small sectors; the tables are the same.
    studio.control = control_image;
    studio.end();
}

#[test]
fn loop_big_sectors_serve_ext4_live() {
    hands_over(Fs::Ext4, "live", 64 << 20);
}

#[test]
fn loop_big_sectors_serve_xfs_exclusive() {
    hands_over(Fs::Xfs, "exclusive", 320 << 20);
}

#[test]
fn loop_big_sectors_serve_btrfs_snapshot() {
    hands_over(Fs::Btrfs, "snapshot", 160 << 20);
}
