//! What a host without volctl sees of a volume: nothing of an enveloped one, every byte of an adopted one.

use std::process::Command;
use std::time::Duration;

use volctl::wire::status::VolumeState;
use volctl_tests::studio::{FAST, Fs, LoopDevice, Studio, hash, write_synced};

const SOON: Duration = Duration::from_secs(8);

fn said(program: &str, args: &[&str]) -> (bool, String) {
    let output = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    (output.status.success(), String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn nothing_is_seen(fs: Fs) {
    let studio = Studio::new(FAST);
    let alice = studio.client("alice");
    let volume = studio.volume("footage", fs, &["--readers", "exclusive", "--envelope"]);
    studio.allow(&alice, "footage", "write");
    alice.start();
    alice.logged_on();
    alice.until_state("footage", VolumeState::Ro, SOON);
    alice.write_access("footage");
    write_synced(&alice.path("footage", "file"), "behind the envelope");
    alice.stop();
    let image = volume.image.display().to_string();
    let (found, what) = said("blkid", &["-p", &image]);
    assert!(!found && what.is_empty(), "blkid sees {what}");
    let (_, what) = said("file", &["-b", "-s", &image]);
    assert_eq!(what, "data", "file sees {what}");
    let device = LoopDevice::attach(&volume.image, 512);
    let (_, what) = said("lsblk", &["-f", "-n", "-o", "FSTYPE,UUID,LABEL", &device.path().display().to_string()]);
    assert!(what.is_empty(), "lsblk sees {what}");
    let mounted = Command::new("mount").args(["-o", "ro"]).arg(device.path()).arg("/mnt").output().expect("mount");
    assert!(!mounted.status.success(), "a host without volctl can mount it");
    drop(device);
    studio.end();
}

#[test]
fn loop_an_enveloped_ext4_looks_like_nothing() {
    nothing_is_seen(Fs::Ext4);
}

#[test]
fn loop_an_enveloped_xfs_looks_like_nothing() {
    nothing_is_seen(Fs::Xfs);
}

#[test]
fn loop_an_enveloped_btrfs_looks_like_nothing() {
    nothing_is_seen(Fs::Btrfs);
}

fn untouched(fs: Fs, readers: &str, size: u64, mkfs: &[&str]) {
    let studio = Studio::new(FAST);
    let image = studio.dir().join("native.img");
    std::fs::File::create(&image).and_then(|f| f.set_len(size)).expect("an image");
    let made = Command::new(mkfs[0]).args(&mkfs[1..]).arg(&image).output().expect("mkfs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let before = hash(&image);
    let alice = studio.client("alice");
    let path = image.display().to_string();
    let _ = studio.admin(&["volume", "add", "old", "--device", &path, "--readers", readers]).ok();
    assert_eq!(hash(&image), before, "{}: adding it changed it", fs.word());
    studio.allow(&alice, "old", "read");
    alice.start();
    alice.logged_on();
    if readers == "live" {
        alice.until_state("old", VolumeState::Ro, SOON);
    }
    alice.stop();
    assert_eq!(hash(&image), before, "{}: a reader changed it", fs.word());
    studio.allow(&alice, "old", "none");
    let _ = studio.admin(&["volume", "remove", "old"]).ok();
    assert_eq!(hash(&image), before, "{}: removing it changed it", fs.word());
    studio.end();
}

#[test]
fn loop_an_adopted_ext4_keeps_every_byte() {
    untouched(Fs::Ext4, "live", 48 << 20, &["mkfs.ext4", "-q", "-F"]);
}

#[test]
fn loop_an_adopted_xfs_keeps_every_byte() {
    untouched(Fs::Xfs, "live", 304 << 20, &["mkfs.xfs", "-q"]);
}

#[test]
fn loop_an_adopted_btrfs_keeps_every_byte() {
    untouched(Fs::Btrfs, "snapshot", 128 << 20, &["mkfs.btrfs", "-q"]);
}
