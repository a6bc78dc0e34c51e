//! What is said to a request: by the person, by the client of itself, by a hook, by the rules; and when nobody answers.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use volctl::wire::call::Answer3;
use volctl::wire::status::VolumeState;
use volctl_tests::studio::{Client, FAST, Fs, Options, Studio, write_synced};

const SOON: Duration = Duration::from_secs(8);

/// Alice writes, bob may ask.
fn writer_and_asker(alice: &Options, bob: &Options) -> (Studio, Client, Client) {
    let studio = Studio::new(FAST);
    let (alice, bob) = (studio.client_with("alice", alice), studio.client_with("bob", bob));
    studio.volume("footage", Fs::Ext4, &[]);
    for client in [&alice, &bob] {
        studio.allow(client, "footage", "write");
        client.start();
    }
    for client in [&alice, &bob] {
        client.logged_on();
    }
    alice.write_access("footage");
    (studio, alice, bob)
}

fn plain() -> (Studio, Client, Client) {
    writer_and_asker(&Options::default(), &Options::default())
}

fn asked(writer: &Client, asker: &Client) {
    writer.until("the request is there", SOON, |s| s.requests.iter().any(|r| r.from == asker.name()));
}

fn nobody_asks(client: &Client) {
    client.until("no request stands", SOON, |s| s.requests.is_empty());
}

#[test]
fn loop_no_later_and_yes_arrive_with_their_texts_both_ways() {
    let (studio, alice, bob) = plain();
    for (writer, asker) in [(&alice, &bob), (&bob, &alice)] {
        let name = asker.name();
        let asking = asker.begin(&["request", "footage", "--wait", "20s"]);
        asked(writer, asker);
        let _ = writer.cli(&["answer", "footage", name, "later", "-m", "in ten minutes"]).ok();
        let has_later = |r: &volctl::wire::status::RequestStatus| {
            r.answer == Some(Answer3::Later) && r.answer_message == "in ten minutes"
        };
        asker.until("later arrives", SOON, |s| s.requests.iter().any(has_later));
        let _ = writer.cli(&["answer", "footage", name, "no", "-m", "not today"]).ok();
        let refused = asking.wait();
        let failure = refused.failed(3);
        assert!(failure.why.contains(&format!("{} said no: not today", writer.name())), "{refused}");
        let steps = refused.lines();
        assert!(steps.iter().any(|s| s["state"] == "later" && s.to_string().contains("in ten minutes")), "{refused}");
        nobody_asks(writer);
        let asking = asker.begin(&["request", "footage", "--wait", "20s"]);
        asked(writer, asker);
        let _ = writer.cli(&["answer", "footage", name, "yes", "-m", "take it"]).ok();
        let granted = asking.wait().ok();
        assert!(granted.lines().iter().any(|s| s["state"] == "yes" && s.to_string().contains("take it")), "{granted}");
        asker.until_state("footage", VolumeState::Rw, SOON);
        let heard = asker.events("answer.received");
        assert_eq!(heard.iter().filter(|e| e["message"] == "take it").count(), 1, "told once: {heard:#?}");
    }
    let refused = bob.cli(&["answer", "footage", "alice", "yes"]).failed(3);
    assert!(refused.what.contains("alice does not ask for footage"), "{refused}");
    studio.end();
}

#[test]
fn loop_the_automatic_answer_is_off_idle_or_always() {
    let (studio, alice, bob) = writer_and_asker(&Options::default().set("idle", "300ms"), &Options::default());
    let told = bob.cli(&["request", "footage", "--wait", "1s"]).failed(4);
    assert!(told.why.contains("the request stands"), "off: nobody answers: {told}");
    let _ = bob.cli(&["withdraw", "footage"]).ok();
    // Idle: not while a file is open for writing.
    let _ = studio.admin(&["set-client", "alice", "auto-response", "idle"]).ok();
    let open = OpenOptions::new().create(true).append(true).open(alice.path("footage", "film")).expect("ours");
    let _ = bob.cli(&["request", "footage", "--wait", "3s"]).failed(4);
    alice.until_state("footage", VolumeState::Rw, SOON);
    drop(open);
    bob.until_state("footage", VolumeState::Rw, SOON);
    // Always: at once, and to whoever asks.
    let _ = studio.admin(&["set-client", "bob", "auto-response", "always"]).ok();
    let took = alice.write_access("footage").took;
    assert!(took < Duration::from_secs(3), "at once: {took:?}");
    studio.end();
}

/// A hook that does what the message says.
fn hook(studio: &Studio) -> PathBuf {
    let path = studio.dir().join("hook");
    let script = "#!/bin/sh\n[ \"$VOLCTL_EVENT\" = request ] && [ \"$VOLCTL_FROM\" = bob ] || exit 9\n\
        case \"$VOLCTL_MESSAGE\" in\nyes) exit 0;; no) exit 1;; later) exit 2;; hang) exec sleep 600;;\nesac\nexit 42\n";
    fs::write(&path, script).expect("a hook");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    path
}

#[test]
fn loop_the_hook_on_request_decides_or_leaves_it_to_the_person() {
    let studio = Studio::new(FAST);
    let alice = studio.client_with("alice", &Options::default().hook("on-request", &hook(&studio)));
    let bob = studio.client("bob");
    studio.volume("footage", Fs::Ext4, &[]);
    for client in [&alice, &bob] {
        studio.allow(client, "footage", "write");
        client.start();
        client.logged_on();
    }
    alice.write_access("footage");
    let _ = bob.cli(&["request", "footage", "-m", "no", "--wait", "10s"]).failed(3);
    let _ = bob.cli(&["request", "footage", "-m", "later"]).ok();
    bob.until("later arrives", SOON, |s| s.requests.iter().any(|r| r.answer == Some(Answer3::Later)));
    let _ = bob.cli(&["withdraw", "footage"]).ok();
    nobody_asks(&alice);
    // Neither says anything that counts: the person is left to answer.
    for (message, failures) in [("garbage", 1), ("hang", 2)] {
        let asking = bob.begin(&["request", "footage", "-m", message, "--wait", "20s"]);
        asked(&alice, &bob);
        studio.wait_until("the hook's failure is logged", SOON, || alice.events("hook.failed").len() == failures);
        assert!(alice.status().requests.iter().all(|r| r.answer.is_none()), "{message}: nobody has answered");
        let _ = alice.cli(&["answer", "footage", "bob", "no", "-m", "by the person"]).ok();
        assert!(asking.wait().failed(3).why.contains("by the person"));
        nobody_asks(&alice);
    }
    let _ = bob.cli(&["request", "footage", "-m", "yes", "--wait", "10s"]).ok();
    bob.until_state("footage", VolumeState::Rw, SOON);
    studio.end();
}

#[test]
fn loop_a_request_is_withdrawn_times_out_or_outlives_its_wait() {
    let (studio, alice, bob) = writer_and_asker(&Options::default(), &Options::default().set("request_timeout", "2s"));
    // Withdrawn: whoever waits hears it, and there is nothing left to answer.
    let asking = bob.begin(&["request", "footage", "--wait", "20s"]);
    asked(&alice, &bob);
    let _ = bob.cli(&["withdraw", "footage"]).ok();
    assert!(asking.wait().failed(3).what.contains("withdrawn"));
    nobody_asks(&alice);
    let _ = alice.cli(&["answer", "footage", "bob", "yes"]).failed(3);
    let _ = bob.cli(&["withdraw", "footage"]).failed(3);
    // Timed out.
    let asking = bob.begin(&["request", "footage", "--wait", "20s"]);
    asked(&alice, &bob);
    let over = asking.wait();
    assert!(over.failed(4).what.contains("nobody answered"), "{over}");
    assert!(over.took >= Duration::from_secs(2) && over.took < Duration::from_secs(4), "{over}");
    nobody_asks(&alice);
    // Only the wait is over: it exits with 4, says that the request stands, and the request is granted all the same.
    let over = bob.cli(&["request", "footage", "-m", "still here", "--wait", "300ms"]);
    assert!(over.failed(4).why.contains("the request stands"), "{over}");
    assert!(alice.status().requests.iter().any(|r| r.message == "still here"));
    let _ = alice.cli(&["answer", "footage", "bob", "yes"]).ok();
    bob.until_state("footage", VolumeState::Rw, SOON);
    studio.end();
}

#[test]
fn loop_a_request_survives_the_restart_of_either_daemon() {
    let (studio, alice, bob) = plain();
    let _ = bob.cli(&["request", "footage", "-m", "I can wait"]).ok();
    asked(&alice, &bob);
    bob.stop();
    bob.start();
    bob.logged_on();
    let stands = |s: &volctl::wire::status::Status| s.requests.iter().any(|r| r.message == "I can wait");
    alice.until("it stands after the asker's restart", SOON, stands);
    let _ = alice.cli(&["answer", "footage", "bob", "later", "-m", "soon"]).ok();
    alice.kill();
    alice.start();
    alice.logged_on();
    bob.until_state("footage", VolumeState::Rw, SOON);
    studio.end();
}

#[test]
fn loop_every_rule_refuses_in_its_order_by_its_name() {
    let studio = Studio::new(FAST);
    let (alice, bob) = (studio.client("alice"), studio.client("bob"));
    studio.volume("footage", Fs::Ext4, &[]);
    studio.allow(&alice, "footage", "write");
    let admin = |args: &[&str]| drop(studio.admin(args).ok());
    admin(&["allow", "bob", "footage", "none", "--lockout", "on"]);
    admin(&["set-client", "bob", "locked-out", "on"]);
    admin(&["set", "footage", "write-enabled", "off"]);
    for client in [&alice, &bob] {
        client.start();
    }
    bob.logged_on();
    let peel: [(&str, &[&str]); 5] = [
        ("rule mount access: bob has access none to footage", &["allow", "bob", "footage", "read"]),
        ("rule mount access: bob has access read to footage", &["allow", "bob", "footage", "write"]),
        ("rule lockout: bob may not ask for footage", &["allow", "bob", "footage", "write", "--lockout", "off"]),
        ("rule lockout: bob may not ask for any volume", &["set-client", "bob", "locked-out", "off"]),
        ("rule write-enabled: nobody may write footage", &["set", "footage", "write-enabled", "on"]),
    ];
    for (rule, undo) in peel {
        let refused = bob.cli(&["request", "footage", "--wait", "5s"]);
        let failure = refused.failed(3);
        assert_eq!(failure.why, rule, "{refused}");
        assert!(failure.next.contains("volctl"), "what to do next: {refused}");
        assert!(bob.status().requests.is_empty(), "nothing of it stands");
        admin(undo);
    }
    bob.write_access("footage");
    write_synced(&bob.path("footage", "at-last"), "x");
    let _ = bob.cli(&["release", "footage"]).ok();
    let unknown = bob.cli(&["request", "nothing"]).failed(3);
    assert!(unknown.why.contains("the volumes are: footage"), "{unknown}");
    // A disabled client does not even log on, and says so.
    bob.stop();
    admin(&["set-client", "bob", "enabled", "off"]);
    bob.start();
    let code = bob.exit_code(SOON);
    assert_eq!(code, Some(3), "{}", bob.last_words());
    assert!(bob.last_words().contains("disabled"), "{}", bob.last_words());
    studio.end();
}
