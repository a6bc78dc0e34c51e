//! Administration beside others: under live log-ons, holds and grants, at the same time, and after a kill.

use std::process::Child;
use std::time::{Duration, Instant};

use ondisk::GrantState;
use serde_json::Value;
use volctl_tests::control::Control;
use volctl_tests::fake::{Fake, Manner, give, hold_semaphore};
use volctl_tests::program::{Said, command, volctl};

/// Alice (slot 0) and bob (slot 1) may write footage.
fn studio() -> Control {
    let control = Control::small();
    let footage = control.ext4("footage.img");
    let _ = control.run(&["client", "add", "alice"]).ok();
    let _ = control.run(&["client", "add", "bob"]).ok();
    let _ = control.run(&["volume", "add", "footage", "--device", &footage]).ok();
    let _ = control.run(&["allow", "alice", "footage", "write"]).ok();
    let _ = control.run(&["allow", "bob", "footage", "write"]).ok();
    control
}

fn commit(control: &Control) -> Value {
    control.dump()["header"]["commit"].clone()
}

fn footage(control: &Control) -> Value {
    control.dump()["volumes"][0].clone()
}

fn start(control: &Control, args: &[&str]) -> Child {
    let path = control.arg("control.img");
    command(args.iter().copied().chain(["--control", &path])).spawn().expect("started")
}

fn end(child: Child) -> Said {
    Said::of(&child.wait_with_output().expect("it ends"))
}

#[test]
fn what_a_living_client_holds_is_not_taken_away_without_force() {
    let control = studio();
    let alice = Fake::log_on(&control, 0, Manner::Deaf);
    // Logged on, with the volume mounted read-only.
    let _ = control.run(&["allow", "alice", "footage", "read"]).ok();
    let before = commit(&control);
    for args in [
        &["allow", "alice", "footage", "none"][..],
        &["volume", "remove", "footage"],
        &["client", "remove", "alice"],
        &["set-client", "alice", "enabled", "off"],
    ] {
        control.run(args).is(5).says(&["alice", "--force"]);
    }
    volctl(["init", &control.arg("control.img"), "--force"]).is(5).says(&["alice", "beats"]);
    assert_eq!(commit(&control), before);
    // With the write privilege.
    let _ = control.run(&["allow", "alice", "footage", "write"]).ok();
    give(&control, "footage", 0, GrantState::Held);
    let before = commit(&control);
    for args in [
        &["allow", "alice", "footage", "none"][..],
        &["allow", "alice", "footage", "read"],
        &["set", "footage", "write-enabled", "off"],
        &["volume", "remove", "footage"],
        &["client", "remove", "alice"],
    ] {
        control.run(args).is(5).says(&["alice", "--force"]);
    }
    assert_eq!(commit(&control), before);
    // What takes nothing away is done all the same.
    let _ = control.run(&["allow", "bob", "footage", "none"]).ok();
    let _ = control.run(&["set-client", "alice", "locked-out", "on"]).ok();
    drop(alice);
}

#[test]
fn force_revokes_and_waits_for_the_writer_that_obeys() {
    let control = studio();
    let alice = Fake::log_on(&control, 0, Manner::Obedient);
    give(&control, "footage", 0, GrantState::Held);
    let begun = Instant::now();
    let said = control.run(&["set", "footage", "write-enabled", "off", "--force"]).ok();
    said.says(&["waiting for alice to stop writing footage"]);
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "it need not be waited out: its page says that the gate is closed"
    );
    let table = footage(&control);
    assert_eq!((&table["writer"], &table["write_enabled"]), (&Value::Null, &Value::Bool(false)));
    // The gate is closed, but nobody knows how: the file system is looked at before it changes hands.
    assert_eq!(table["check_due"], true);
    let _ = control.run(&["set", "footage", "write-enabled", "on"]).ok();
    give(&control, "footage", 0, GrantState::Pending);
    let _ = control.run(&["volume", "remove", "footage", "--force"]).ok();
    assert_eq!(control.dump()["volumes"], serde_json::json!([]));
    drop(alice);
    let _ = control.look(&["check"]).ok();
}

#[test]
fn force_never_robs_a_writer_that_beats_and_says_nothing() {
    let control = studio();
    let alice = Fake::log_on(&control, 0, Manner::Deaf);
    give(&control, "footage", 0, GrantState::Held);
    let begun = Instant::now();
    let _ = control.run(&["allow", "alice", "footage", "none", "--force"]).ok();
    // A revoked lease is not extended: by `dead` the guardian has closed the gate, whatever the daemon does.
    assert!(begun.elapsed() >= Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(footage(&control)["writer"], Value::Null);
    // It still beats: it is disabled and holds nothing, but it is not removed.
    control.run(&["client", "remove", "alice", "--force"]).is(5).says(&["alice", "still beats", "stop its daemon"]);
    let record = control.dump()["clients"][0].clone();
    assert_eq!((record["name"].as_str(), record["enabled"].as_bool()), (Some("alice"), Some(false)));
    drop(alice);
}

#[test]
fn force_waits_out_the_dead_and_reaps_them() {
    let control = studio();
    drop(Fake::log_on(&control, 0, Manner::Deaf));
    give(&control, "footage", 0, GrantState::Held);
    control.run(&["client", "remove", "alice"]).is(5).says(&["alice", "host is gone"]);
    let begun = Instant::now();
    let _ = control.run(&["client", "remove", "alice", "--force"]).ok();
    assert!(begun.elapsed() >= Duration::from_secs(4), "{:?}", begun.elapsed());
    let dump = control.dump();
    assert_eq!((dump["clients"][0]["name"].as_str(), &dump["volumes"][0]["writer"]), (Some("bob"), &Value::Null));
    assert_eq!(dump["header"]["reaped"][0], 1);
    assert_eq!(dump["volumes"][0]["check_due"], true);
    // The slot's next client goes on above the dead one's incarnation.
    let _ = control.run(&["client", "add", "carol"]).ok();
    assert_eq!(control.dump()["slots"][0]["incarnation"], 1);
    let _ = control.look(&["check"]).ok();
}

#[test]
fn commands_at_the_same_time_all_succeed() {
    let control = Control::made(&["--beat", "250ms", "--lease", "2s", "--dead", "4s"]);
    let names: Vec<String> = (0..8).map(|n| format!("c{n}")).collect();
    let running: Vec<Child> = names.iter().map(|name| start(&control, &["client", "add", name])).collect();
    for child in running {
        let _ = end(child).ok();
    }
    assert_eq!(control.dump()["clients"].as_array().map(Vec::len), Some(8));
    let _ = control.look(&["check"]).ok();
}

/// Its lease goes on while it waits: nothing of the tables was read yet, and it has no grants to look at.
#[test]
fn a_command_waits_longer_than_a_lease_for_its_turn() {
    let control = studio();
    let holder = hold_semaphore(&control, 1, Duration::from_secs(3));
    let begun = Instant::now();
    let _ = control.run(&["client", "add", "carol"]).ok();
    assert!(begun.elapsed() >= Duration::from_millis(2500), "{:?}", begun.elapsed());
    holder.join().expect("held");
}

/// But for one thing: killed within the write of its slot, nobody knows whether that write may still arrive, and the next
/// command says that it waits for it. Without such luck each goes on at once.
#[test]
fn a_killed_command_leaves_nothing_else_that_the_next_must_wait_for() {
    let control = Control::small();
    let _ = control.run(&["client", "add", "alice"]).ok();
    let mut at_once = 0;
    for round in 0..40 {
        let value = if round % 2 == 0 { "on" } else { "off" };
        let mut child = start(&control, &["set-client", "alice", "admin", value]);
        std::thread::sleep(Duration::from_micros(300 * (round % 20)));
        child.kill().expect("killed");
        let _ = child.wait();
        if round % 4 == 3 {
            let begun = Instant::now();
            let said = control.run(&["set-client", "alice", "notify", value]).ok();
            if said.err.is_empty() {
                at_once += 1;
                assert!(begun.elapsed() < Duration::from_millis(1500), "round {round}: {:?}", begun.elapsed());
            } else {
                assert!(said.err.contains("ended within its write"), "round {round}: {}", said.err);
            }
        }
    }
    assert!(at_once > 0, "every command had to wait");
    let _ = control.look(&["check"]).ok();
}

#[test]
fn a_check_beside_living_clients_reports_nothing_that_is_not_there() {
    let control = studio();
    let _alice = Fake::log_on(&control, 0, Manner::Obedient);
    let _bob = Fake::log_on(&control, 1, Manner::Obedient);
    let until = Instant::now() + Duration::from_secs(4);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0.. {
                if Instant::now() > until {
                    break;
                }
                let value = if round % 2 == 0 { "on" } else { "off" };
                let _ = control.run(&["set-client", "bob", "notify", value]).ok();
            }
        });
        while Instant::now() < until {
            let said = control.look(&["check", "--json"]).ok();
            assert_eq!(said.json()["clean"], true);
        }
    });
}
