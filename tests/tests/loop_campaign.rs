//! A few rounds of the campaign on each file system, and a few points of its sweep. `make campaign` runs it for long.

use std::process::{Command, Stdio};

use volctl_tests::program;

/// It says itself how a failed round is played again.
const PROGRAM: &str = env!("CARGO_BIN_EXE_campaign");

fn campaign(args: &[&str]) {
    // It takes the program beside it: that is built here.
    let _ = program::path();
    let output = Command::new(PROGRAM).args(args).stdin(Stdio::null()).output().expect("the campaign starts");
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{}\n{said}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn loop_rounds_of_trouble_on_ext4_lose_nothing() {
    campaign(&["--fs", "ext4", "--readers", "exclusive", "--rounds", "3", "--seed", "1"]);
}

#[test]
fn loop_rounds_of_trouble_on_xfs_lose_nothing() {
    campaign(&["--fs", "xfs", "--readers", "live", "--rounds", "3", "--seed", "2"]);
}

#[test]
fn loop_rounds_of_trouble_on_btrfs_lose_nothing() {
    campaign(&["--fs", "btrfs", "--readers", "snapshot", "--rounds", "3", "--seed", "3"]);
}

#[test]
fn loop_a_writer_stopped_or_killed_at_some_points_writes_nothing_after_another_has_it() {
    campaign(&["--fs", "ext4", "--readers", "live", "--sweep", "5", "--rounds", "4", "--seed", "4"]);
}
