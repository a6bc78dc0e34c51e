//! The write privilege moves between two clients by asking, on every file system and with every readers' policy.

use std::fs;
use std::time::{Duration, Instant};

use volctl::wire::status::VolumeState;
use volctl_tests::studio::{Client, Fs, Studio, write_synced};

const SOON: Duration = Duration::from_secs(8);

/// `to` asks, `from` says yes: then `to` writes.
fn hand_over(from: &Client, to: &Client) -> Duration {
    let asking = to.begin(&["request", "footage", "-m", "my turn", "--wait", "10s"]);
    from.until("the request is there", SOON, |s| s.requests.iter().any(|r| r.from == to.name()));
    let begun = Instant::now();
    let _ = from.cli(&["answer", "footage", to.name(), "yes", "-m", "here you are"]).ok();
    let asked = asking.wait().ok();
    let took = begun.elapsed();
    assert_eq!(asked.json()["state"], "mounted", "{asked}");
    to.until_state("footage", VolumeState::Rw, SOON);
    took
}

/// The reader has the file without any command.
fn sees(reader: &Client, file: &str, text: &str) -> Duration {
    let path = reader.path("footage", file);
    volctl_tests::studio::wait_until(&format!("{} reads {file}", reader.name()), SOON, &mut || {
        fs::read_to_string(&path).is_ok_and(|seen| seen == text)
    })
}

fn both_ways(fs: Fs, more: &[&str]) {
    let exclusive = more.contains(&"exclusive");
    let (studio, alice, bob) = Studio::pair(fs, more);
    alice.write_access("footage");
    write_synced(&alice.path("footage", "one"), "by alice");
    if exclusive {
        let says = |why: &String| why.contains("alice has the write privilege");
        bob.until_volume("footage", SOON, |v| v.state == VolumeState::Locked && v.reason.as_ref().is_some_and(says));
        assert!(!bob.path("footage", "one").exists(), "readers and the writer never overlap");
    } else {
        let took = sees(&bob, "one", "by alice");
        println!("auto refresh alice to bob: {took:?}");
        let refused = fs::write(bob.path("footage", "x"), "x").expect_err("a reader never writes");
        assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    }
    println!("hand-over to bob: {:?}", hand_over(&alice, &bob));
    assert_eq!(fs::read_to_string(bob.path("footage", "one")).expect("handed over"), "by alice");
    write_synced(&bob.path("footage", "two"), "by bob");
    if exclusive {
        alice.until_state("footage", VolumeState::Locked, SOON);
    } else {
        let took = sees(&alice, "two", "by bob");
        println!("auto refresh bob to alice: {took:?}");
    }
    println!("hand-over back: {:?}", hand_over(&bob, &alice));
    write_synced(&alice.path("footage", "three"), "by alice again");
    let _ = alice.cli(&["release", "footage"]).ok();
    for client in [&alice, &bob] {
        sees(client, "two", "by bob");
        sees(client, "three", "by alice again");
        client.until_volume("footage", SOON, |v| v.state == VolumeState::Ro && v.writer.is_none() && !v.stale);
    }
    // A writer that ends in order releases first.
    bob.write_access("footage");
    write_synced(&bob.path("footage", "four"), "by bob at last");
    bob.stop();
    sees(&alice, "four", "by bob at last");
    studio.end();
}

#[test]
fn loop_ext4_live_is_handed_over_both_ways() {
    both_ways(Fs::Ext4, &["--readers", "live"]);
}

#[test]
fn loop_ext4_exclusive_is_handed_over_both_ways() {
    both_ways(Fs::Ext4, &["--readers", "exclusive"]);
}

#[test]
fn loop_xfs_live_is_handed_over_both_ways() {
    both_ways(Fs::Xfs, &["--readers", "live"]);
}

#[test]
fn loop_xfs_exclusive_is_handed_over_both_ways() {
    both_ways(Fs::Xfs, &["--readers", "exclusive"]);
}

#[test]
fn loop_btrfs_snapshot_is_handed_over_both_ways() {
    both_ways(Fs::Btrfs, &["--readers", "snapshot"]);
}

#[test]
fn loop_btrfs_exclusive_is_handed_over_both_ways() {
    both_ways(Fs::Btrfs, &["--readers", "exclusive"]);
}

#[test]
fn loop_an_enveloped_ext4_is_handed_over_both_ways() {
    both_ways(Fs::Ext4, &["--readers", "live", "--envelope"]);
}
