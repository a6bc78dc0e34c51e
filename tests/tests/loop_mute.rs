//! What daemon and guardian have to say cannot be written.

use std::fs::{self, File};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use volctl_tests::studio::{Client, Fs, Studio, guardian_pid, mounts_below, write_synced};

const SOON: Duration = Duration::from_secs(8);

fn writing(studio: &Studio, alice: &Client) {
    // Every write to it says that the disk is full.
    alice.start_telling(File::options().write(true).open("/dev/full").expect("the device"));
    alice.logged_on();
    let _ =
        studio.wait_until("it may write", SOON * 2, || alice.cli(&["request", "footage", "--wait", "10s"]).code == 0);
    write_synced(&alice.path("footage", "film"), "frames");
}

/// Once, with the disk full on which its log lay, a daemon ended just when its guardian had been killed: the line that was to
/// say so could not be written, that could not be told either, and the panic came before the gates were closed. Another
/// client took the volume after the death time, and then the kernel wrote what the old writer had left in its cache.
#[test]
fn loop_whose_log_cannot_be_written_closes_its_gates_all_the_same() {
    let studio = Studio::new(volctl_tests::studio::FAST);
    let alice = studio.client("alice");
    studio.volume("footage", Fs::Ext4, &["--readers", "live"]);
    studio.allow(&alice, "footage", "write");
    writing(&studio, &alice);
    let (before, daemon) = (alice.status().incarnation, alice.pid());
    kill(alice.guardian(), Signal::SIGKILL).expect("a guardian");
    alice.until("it is logged on anew", SOON * 2, |s| s.incarnation > before);
    assert_eq!(alice.try_pid(), Some(daemon), "it lives");
    assert!(fs::write(alice.path("footage", "late"), "x").is_err(), "its gate was closed");
    // And the other way round: the daemon is gone, and the guardian cannot say so.
    alice.kill();
    studio.wait_until("nothing is left", SOON, || {
        mounts_below(&alice.mount_root()).is_empty() && guardian_pid(&studio.uuid, alice.slot()).is_none()
    });
    writing(&studio, &alice);
    studio.end();
}
