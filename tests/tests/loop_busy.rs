//! Programs that hold a volume when it is to be released are named, and nothing is taken away from under them.

use std::time::Duration;

use volctl::wire::status::VolumeState;
use volctl_tests::studio::{Client, Fs, Hold, Output, Studio, write_synced};

const SOON: Duration = Duration::from_secs(8);

/// Exit 5; program, PID and user are named; and the volume is as usable as before.
fn is_refused(client: &Client, hold: &Hold, said: &Output, text: &str) {
    let failure = said.failed(5);
    for part in ["sleep", &hold.pid().to_string(), "root"] {
        assert!(failure.why.contains(part), "'{part}' is missing: {said}");
    }
    let volume = client.until_state("footage", VolumeState::Rw, SOON);
    assert_eq!(volume.writer.as_deref(), Some(client.name()));
    write_synced(&client.path("footage", "goes-on"), text);
}

#[test]
fn loop_open_files_and_working_directories_are_named_and_stay() {
    let (studio, alice, bob) = Studio::pair(Fs::Ext4, &["--readers", "live"]);
    alice.write_access("footage");
    let film = alice.path("footage", "film");
    write_synced(&film, "frames");
    let hold = Hold::file(&film);
    is_refused(&alice, &hold, &alice.cli(&["release", "footage"]), "one");
    drop(hold);
    let _ = alice.cli(&["release", "footage"]).ok();
    alice.until_state("footage", VolumeState::Ro, SOON);
    alice.write_access("footage");
    let directory = alice.path("footage", "reel");
    std::fs::create_dir(&directory).expect("ours");
    let hold = Hold::directory(&directory);
    is_refused(&alice, &hold, &alice.cli(&["release", "footage"]), "two");
    drop(hold);
    let _ = alice.cli(&["release", "footage"]).ok();
    bob.write_access("footage");
    assert_eq!(std::fs::read_to_string(bob.path("footage", "goes-on")).expect("handed over"), "two");
    studio.end();
}

#[test]
fn loop_a_yes_that_open_files_prevent_is_told_to_the_asker() {
    let (studio, alice, bob) = Studio::pair(Fs::Xfs, &["--readers", "exclusive"]);
    alice.write_access("footage");
    let film = alice.path("footage", "film");
    write_synced(&film, "frames");
    let hold = Hold::file(&film);
    let asking = bob.begin(&["request", "footage", "--wait", "20s"]);
    alice.until("the request is there", SOON, |s| s.requests.iter().any(|r| r.from == "bob"));
    is_refused(&alice, &hold, &alice.cli(&["answer", "footage", "bob", "yes"]), "three");
    bob.until("bob hears why", SOON, |s| s.requests.iter().any(|r| r.answer_message.contains("sleep")));
    drop(hold);
    let _ = alice.cli(&["answer", "footage", "bob", "yes"]).ok();
    let _ = asking.wait().ok();
    bob.until_state("footage", VolumeState::Rw, SOON);
    studio.end();
}
