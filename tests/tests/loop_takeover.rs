//! An administrator takes the write privilege: from a writer that beats by making it stop, from a silent one by waiting.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use volctl::wire::status::VolumeState;
use volctl_tests::studio::{Fs, Hold, Studio, write_synced};

const SOON: Duration = Duration::from_secs(8);

#[test]
fn loop_a_live_writer_is_made_to_stop_even_with_open_files() {
    let (studio, alice, bob) = Studio::pair(Fs::Ext4, &["--readers", "live"]);
    alice.write_access("footage");
    let film = alice.path("footage", "film");
    write_synced(&film, "frames");
    let refused = bob.cli(&["takeover", "footage"]).failed(3);
    assert_eq!(refused.why, "rule admin: bob is not an administrator");
    let _ = studio.admin(&["set-client", "bob", "admin", "on"]).ok();
    let refused = bob.cli(&["takeover", "footage", "--yes-i-know", "alice"]).failed(3);
    assert!(refused.what.contains("alice is not silent"), "a live writer is never simply robbed: {refused}");
    let _ = bob.cli(&["takeover", "footage", "--yes-i-know", "carol"]).failed(2);
    let hold = Hold::file(&film);
    let begun = Instant::now();
    let _ = bob.cli(&["takeover", "footage"]).ok();
    println!("takeover of a live writer: {:?}", begun.elapsed());
    bob.until_state("footage", VolumeState::Rw, SOON);
    // From its gate's closing on: how long a busy machine takes for all that comes before says nothing.
    let (image, report) = (studio.dir().join("footage.img"), studio.one_writer());
    let closed = report.closed(&image, &alice.mount_root(), begun).expect("alice's gate was seen closing");
    let opened = report.opened(&image, &bob.mount_root(), begun).expect("bob's mount was seen");
    let waited = opened.saturating_duration_since(closed);
    println!("bob has it {waited:?} after alice's gate was closed");
    assert!(waited < studio.patience(studio.timings.dead()), "nobody's death is waited for, but it took {waited:?}");
    assert_eq!(fs::read_to_string(bob.path("footage", "film")).expect("nothing is lost"), "frames");
    write_synced(&bob.path("footage", "by-bob"), "x");
    // She reads again before her next poll shows whose it is now.
    alice.until_volume("footage", SOON, |v| v.state == VolumeState::Ro && v.writer.as_deref() == Some("bob"));
    assert!(alice.status().incarnation == 1, "it went on without a new login");
    studio.one_writer();
    drop(hold);
    studio.end();
}

#[test]
fn loop_a_silent_writer_is_waited_out() {
    let (studio, alice, bob) = Studio::pair(Fs::Ext4, &["--readers", "live"]);
    let _ = studio.admin(&["set-client", "bob", "admin", "on"]).ok();
    alice.write_access("footage");
    write_synced(&alice.path("footage", "film"), "frames");
    alice.signal(Signal::SIGSTOP);
    let begun = Instant::now();
    let taken = bob.cli(&["takeover", "footage"]);
    let took = begun.elapsed();
    println!("takeover of a stopped writer: {took:?}");
    let _ = taken.ok();
    assert!(took > studio.timings.lease(), "not before its lease is over");
    assert!(took < studio.timings.dead() * 2 + Duration::from_secs(4), "{took:?}");
    alice.signal(Signal::SIGCONT);
    alice.until("alice is back", SOON, |s| s.incarnation > 1);
    alice.until_state("footage", VolumeState::Ro, SOON);
    studio.end();
}

#[test]
fn loop_who_knows_that_a_silent_writer_is_gone_need_not_wait_for_its_last_writes() {
    let (studio, alice, bob) = Studio::pair(Fs::Xfs, &["--readers", "live"]);
    let _ = studio.admin(&["set-client", "bob", "admin", "on"]).ok();
    alice.write_access("footage");
    write_synced(&alice.path("footage", "film"), "frames");
    alice.kill();
    bob.until("alice counts as dead", studio.timings.dead() * 2, |s| {
        s.clients.iter().any(|c| c.name == "alice" && c.state == volctl::wire::status::ClientState::Dead)
    });
    let _ = bob.cli(&["takeover", "footage", "--yes-i-know", "alice"]).ok();
    bob.until_state("footage", VolumeState::Rw, SOON);
    assert_eq!(fs::read_to_string(bob.path("footage", "film")).expect("replayed"), "frames");
    studio.end();
}
