//! Administration that meets real daemons: refused, or a revocation that they obey.

use std::time::{Duration, Instant};

use serde_json::Value;
use volctl::wire::status::VolumeState;
use volctl_tests::studio::{Fs, Studio, write_synced};

const LIMIT: Duration = Duration::from_secs(15);

#[test]
fn a_revoked_writer_stops_in_order_and_nothing_of_it_is_lost() {
    let (studio, alice, bob) = Studio::pair(Fs::Ext4, &[]);
    let _ = alice.write_access("footage").ok();
    write_synced(&alice.path("footage", "take1"), "titles");
    for args in [
        &["allow", "alice", "footage", "read"][..],
        &["set", "footage", "write-enabled", "off"],
        &["volume", "remove", "footage"],
        &["client", "remove", "alice"],
        &["set-client", "alice", "enabled", "off"],
    ] {
        let refused = studio.admin(args).failed(5);
        assert!(refused.why.contains("alice"), "{args:?}: {refused:?}");
    }
    assert_eq!(alice.until_state("footage", VolumeState::Rw, LIMIT).writer.as_deref(), Some("alice"));
    let begun = Instant::now();
    let _ = studio.admin(&["allow", "alice", "footage", "read", "--force"]).ok();
    // It gave the grant back by itself: nothing had to be waited out.
    assert!(begun.elapsed() < studio.timings.dead(), "{:?}", begun.elapsed());
    alice.until_state("footage", VolumeState::Ro, LIMIT);
    assert_eq!(alice.cli(&["request", "footage"]).failed(3).exit, volctl::wire::outcome::ExitCode::Refused);
    let _ = bob.write_access("footage").ok();
    assert_eq!(std::fs::read(bob.path("footage", "take1")).expect("read"), b"titles");
    let _ = studio.admin(&["set", "footage", "write-enabled", "off", "--force"]).ok();
    bob.until_state("footage", VolumeState::Ro, LIMIT);
    studio.end();
}

#[test]
fn a_volume_and_a_client_are_removed_under_their_users_only_by_force() {
    let (studio, alice, bob) = Studio::pair(Fs::Ext4, &[]);
    for client in [&alice, &bob] {
        client.until_state("footage", VolumeState::Ro, LIMIT);
    }
    let refused = studio.admin(&["volume", "remove", "footage"]).failed(5);
    assert!(refused.why.contains("alice") && refused.why.contains("bob"), "{refused:?}");
    let _ = studio.admin(&["volume", "remove", "footage", "--force"]).ok();
    for client in [&alice, &bob] {
        client.until("the volume is gone", LIMIT, |status| status.volumes.is_empty());
    }
    let refused = studio.admin(&["client", "remove", "bob", "--force"]).failed(5);
    assert!(refused.next.contains("stop its daemon"), "{refused:?}");
    bob.stop();
    let _ = studio.admin(&["client", "remove", "bob"]).ok();
    let list = studio.admin(&["client", "list"]).ok().json();
    let names: Vec<&Value> = list["clients"].as_array().expect("a list").iter().map(|c| &c["name"]).collect();
    assert_eq!(names, ["alice"]);
    studio.end();
}
