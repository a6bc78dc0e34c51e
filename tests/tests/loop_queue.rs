//! Several ask for one volume: each gets it once, in the order of asking, and every message arrives.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::time::Duration;

use volctl::wire::status::VolumeState;
use volctl_tests::studio::{Client, FAST, Fs, Running, Studio, volume_of};

const SOON: Duration = Duration::from_secs(8);

fn four() -> (Studio, Client, [Client; 3]) {
    let studio = Studio::new(FAST);
    let alice = studio.client("alice");
    let others = ["bob", "carol", "dave"].map(|name| studio.client(name));
    studio.volume("footage", Fs::Ext4, &[]);
    for client in others.iter().chain([&alice]) {
        studio.allow(client, "footage", "write");
    }
    for client in others.iter().chain([&alice]) {
        client.start();
    }
    for client in others.iter().chain([&alice]) {
        client.logged_on();
    }
    alice.write_access("footage");
    (studio, alice, others)
}

fn ask(client: &Client) -> Running {
    client.begin(&["request", "footage", "-m", &format!("{} says: é \"quoted\"", client.name()), "--wait", "30s"])
}

/// The names of those who wait, in their order.
fn waiting(client: &Client) -> Vec<String> {
    volume_of(&client.status(), "footage").waiting.iter().map(|w| w.client.clone()).collect()
}

/// Once it is this client's turn: one line into a file, and on it goes.
fn take_a_turn(client: &Client, asking: Running) {
    let _ = asking.wait().ok();
    let file = OpenOptions::new().create(true).append(true).open(client.path("footage", "turns"));
    file.and_then(|mut f| writeln!(f, "{}", client.name()).and_then(|()| f.sync_all())).expect("it is ours");
    let _ = client.cli(&["release", "footage"]).ok();
}

fn go_round(alice: &Client, others: &[Client], order: &[String], asking: Vec<Running>) {
    let _ = alice.cli(&["release", "footage"]).ok();
    std::thread::scope(|scope| {
        for (client, asking) in others.iter().zip(asking) {
            scope.spawn(move || take_a_turn(client, asking));
        }
    });
    let turns = alice.path("footage", "turns");
    alice.until_volume("footage", SOON, |v| v.writer.is_none() && !v.stale && v.state == VolumeState::Ro);
    let text = fs::read_to_string(turns).expect("three lines");
    assert_eq!(text.lines().collect::<Vec<_>>(), order, "each once, in the order of asking");
    for client in others {
        assert_eq!(client.events("grant.taken").len(), 1, "{} got it once", client.name());
    }
}

#[test]
fn loop_three_who_ask_at_once_get_it_once_each_and_every_message_arrives() {
    let (studio, alice, others) = four();
    let asking: Vec<Running> = others.iter().map(ask).collect();
    let seen = alice.until("all three wait", SOON, |s| volume_of(s, "footage").waiting.len() == 3);
    let order: Vec<String> = volume_of(&seen, "footage").waiting.iter().map(|w| w.client.clone()).collect();
    for client in &others {
        assert_eq!(waiting(client), order, "{} sees the same order", client.name());
    }
    let listed = alice.cli(&["requests"]).ok().json();
    let logged = alice.events("request.received");
    for client in &others {
        let text = format!("{} says: é \"quoted\"", client.name());
        let is_it = |r: &serde_json::Value, who: &str| r[who] == client.name() && r["message"] == text.as_str();
        assert!(listed["requests"].as_array().is_some_and(|all| all.iter().any(|r| is_it(r, "from"))), "{listed}");
        assert!(logged.iter().any(|e| is_it(e, "client")), "{logged:#?}");
    }
    go_round(&alice, &others, &order, asking);
    studio.end();
}

#[test]
fn loop_the_order_of_asking_counts_and_not_the_slot() {
    let (studio, alice, others) = four();
    let mut asking = Vec::new();
    for (count, client) in others.iter().rev().enumerate() {
        asking.push(ask(client));
        alice.until("one more waits", SOON, |s| volume_of(s, "footage").waiting.len() == count + 1);
    }
    asking.reverse();
    let order = ["dave", "carol", "bob"].map(str::to_owned);
    assert_eq!(waiting(&alice), order);
    go_round(&alice, &others, &order, asking);
    studio.end();
}
