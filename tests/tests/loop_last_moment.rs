//! What is written in the last moment before a release belongs to what is released.

use std::fs;
use std::time::Duration;

use volctl::wire::status::VolumeState;
use volctl_tests::studio::{Fs, Studio, volume_of};

const SOON: Duration = Duration::from_secs(8);

/// Once, whether anything had changed was decided before the mount was moved out of sight. A file written in between was safe
/// on the volume, but released without a generation of its own: no reader saw it until somebody published the next time.
fn everything_is_seen(fs: Fs, readers: &str) {
    let (studio, alice, bob) = Studio::pair(fs, &["--readers", readers]);
    let mut written = 0;
    for turn in 0..14_u64 {
        alice.write_access("footage");
        if readers != "exclusive" {
            // Nothing is owed, and nothing has changed: only what comes now.
            bob.until("all is published", SOON, |s| {
                let volume = volume_of(s, "footage");
                !volume.stale && volume.writer.as_deref() == Some("alice")
            });
        }
        let name = format!("take-{turn}");
        let path = alice.path("footage", &name);
        let releasing = alice.begin(&["release", "footage"]);
        std::thread::sleep(Duration::from_millis(4 + turn * 2));
        let put = fs::write(&path, "the last words").is_ok();
        // In use at that very moment: it says so, and is asked again.
        let _ = releasing.wait();
        let _ = alice.cli(&["release", "footage"]);
        alice.until_state("footage", VolumeState::Ro, SOON);
        if put {
            written += 1;
            studio.wait_until(&format!("bob sees {name}"), SOON, || bob.path("footage", &name).exists());
            let text = fs::read_to_string(bob.path("footage", &name)).expect("readable");
            assert_eq!(text, "the last words");
        }
    }
    println!("{written} of 14 were written in time");
    assert!(written > 0, "the release was always quicker");
    studio.end();
}

#[test]
fn loop_readers_see_what_was_written_in_the_last_moment_on_btrfs() {
    everything_is_seen(Fs::Btrfs, "snapshot");
}

#[test]
fn loop_readers_see_what_was_written_in_the_last_moment_on_ext4() {
    everything_is_seen(Fs::Ext4, "exclusive");
}
