//! The flows of a person, by accessible label.

use eframe::egui::{Key, Modifiers};
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use volctl::wire::call::{Answer3, Call, RequestCall, TakeoverCall, VolumeCall};
use volctl::wire::outcome::Failure;
use volctl::wire::status::{ClientState, VolumeState};
use volctl_gui::command::{Command, View};
use volctl_gui::model::{Effect, Event};
use volctl_gui::prefs::Theme;

use crate::rig::{Rig, model};
use crate::sample::{answered, ask, event, status, volume, written};

fn footage() -> VolumeCall {
    VolumeCall { volume: "footage".into() }
}

#[test]
fn asking_with_a_ready_phrase_and_following_it_to_the_mount() {
    let mut rig = Rig::new(model(Some(status(vec![written("footage", "bob")]))));
    rig.click("Request write access to footage");
    assert!(rig.has("bob writes now and is asked"));
    rig.click("I need it for about an hour.");
    rig.click("Ask for footage");
    let message = "I need it for about an hour.".to_owned();
    assert_eq!(rig.call(), Call::Request(RequestCall { volume: "footage".into(), message, wait_ms: None }));
    let command = Command::Ask { volume: "footage".into(), message: String::new() };
    rig.tell(Event::Called { command, result: Ok("asked".into()) });
    let mut at = status(vec![written("footage", "bob")]);
    ask(&mut at, "footage", "alice", "an hour", 1500);
    rig.status(at.clone());
    assert!(rig.has("The request for footage is at step Answered"));
    answered(&mut at, "footage", Answer3::Yes, "here you are");
    rig.status(at);
    assert!(rig.has("The request for footage is at step Releasing") && rig.has("bob said yes: “here you are”"));
    rig.status(status(vec![written("footage", "alice")]));
    assert!(rig.has("footage is Read-write") && rig.has("You have write access, at /mnt/volctl/footage."));
    rig.click("Close the news about footage");
    assert!(!rig.has("You have write access, at"));
    rig.click("Release footage");
    assert_eq!(rig.call(), Call::Release(footage()));
}

#[test]
fn asking_with_own_words_by_keyboard_alone() {
    let mut rig = Rig::new(model(Some(status(vec![volume("footage")]))));
    rig.harness.key_press_modifiers(Modifiers::COMMAND, Key::K);
    rig.run();
    rig.type_into("Command", "reque");
    rig.harness.key_press(Key::Enter);
    rig.run();
    assert!(rig.has("Nobody writes now"), "the composer is open");
    rig.type_into("Message to the writer", "need to fix the titles");
    rig.harness.key_press_modifiers(Modifiers::COMMAND, Key::Enter);
    rig.run();
    let message = "need to fix the titles".to_owned();
    assert_eq!(rig.call(), Call::Request(RequestCall { volume: "footage".into(), message, wait_ms: None }));
}

#[test]
fn the_palette_begins_with_what_one_does_with_volumes() {
    let mut rig = Rig::new(model(Some(status(vec![volume("footage")]))));
    rig.harness.key_press_modifiers(Modifiers::COMMAND, Key::K);
    rig.run();
    let first = rig.names().into_iter().find(|name| name.starts_with("Palette: "));
    assert_eq!(first.as_deref(), Some("Palette: Request write access to footage"));
    rig.harness.key_press(Key::ArrowDown);
    rig.run();
    rig.harness.key_press(Key::Enter);
    rig.run();
    assert_eq!(rig.call(), Call::Refresh(footage()), "the second one");
}

/// Tab went on below the edge of the window, and nobody saw where.
#[test]
fn what_gets_the_keyboard_is_scrolled_into_sight() {
    let volumes = ["one", "two", "three", "four", "five"].map(volume).to_vec();
    let mut rig = Rig::sized(model(Some(status(volumes))), 800.0, 600.0, 2.0);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..40 {
        rig.harness.key_press(Key::Tab);
        rig.run();
        let Some(node) = rig.harness.root().children_recursive().find(|n| n.accesskit_node().is_focused()) else {
            continue;
        };
        let (name, rect) = (node.accesskit_node().label().unwrap_or_default(), node.rect());
        assert!(rect.min.y >= 0.0 && rect.max.y <= 300.0, "{name} has the keyboard at {rect:?}");
        seen.insert(name);
    }
    assert!(seen.contains("Request write access to five"), "{seen:?}");
}

#[test]
fn a_request_is_withdrawn_with_the_main_button() {
    let mut at = status(vec![written("footage", "bob")]);
    ask(&mut at, "footage", "alice", "", 1500);
    let mut rig = Rig::new(model(Some(at)));
    rig.click("Withdraw the request for footage");
    assert_eq!(rig.call(), Call::Withdraw(footage()));
}

#[test]
fn a_stale_volume_is_refreshed_and_others_are_mounted_and_unmounted() {
    let mut stale = volume("footage");
    (stale.stale, stale.seen_generation) = (true, "40.1".into());
    let mut rig = Rig::new(model(Some(status(vec![stale]))));
    rig.click("Refresh footage now");
    assert_eq!(rig.call(), Call::Refresh(footage()));
    let done =
        Event::Called { command: Command::Refresh("footage".into()), result: Ok("footage: generation 41.3".into()) };
    rig.tell(done);
    assert!(rig.has("footage: generation 41.3"));
    rig.click("Unmount footage");
    assert_eq!(rig.call(), Call::Unmount(footage()));
    let mut locked = volume("footage");
    (locked.state, locked.mountpoint) = (VolumeState::Locked, None);
    rig.tell(Event::Called { command: Command::Unmount("footage".into()), result: Ok("done".into()) });
    rig.status(status(vec![locked]));
    rig.click("Mount footage for reading");
    assert_eq!(rig.call(), Call::Mount(footage()));
}

/// The daemon refreshed of itself while somebody aimed at the request, and the click fell on what had taken its place.
#[test]
fn a_state_that_comes_and_goes_moves_no_button() {
    let mut stale = volume("footage");
    (stale.stale, stale.seen_generation) = (true, "40.1".into());
    let mut rig = Rig::new(model(Some(status(vec![volume("footage")]))));
    let place = |rig: &Rig| rig.harness.get_by_label("Request write access to footage").rect();
    let before = place(&rig);
    rig.status(status(vec![stale]));
    assert!(rig.has("Newer exists"), "{:?}", rig.names());
    assert_eq!(place(&rig), before);
}

#[test]
fn the_folder_opens_in_the_file_manager() {
    let mut rig = Rig::new(model(Some(status(vec![volume("footage")]))));
    rig.click("Open the folder of footage");
    assert_eq!(rig.effects(), [Effect::OpenFolder("/mnt/volctl/footage".into())]);
}

#[test]
fn a_refusal_says_what_why_and_what_next_until_it_is_closed() {
    let mut rig = Rig::new(model(Some(status(vec![volume("footage")]))));
    let failure =
        Failure::refused("no write access to footage", "rule lockout: alice is locked out", "ask the administrator");
    rig.tell(Event::Called { command: Command::Compose("footage".into()), result: Err(failure) });
    for text in ["no write access to footage", "rule lockout: alice is locked out", "ask the administrator"] {
        assert!(rig.has(text), "{text}");
    }
    rig.click("Close notice 1");
    assert!(!rig.has("rule lockout"));
}

#[test]
fn a_takeover_of_a_living_writer_skips_nothing_and_of_a_silent_one_only_by_typing_its_name() {
    let mut at = status(vec![written("footage", "bob")]);
    let mut rig = Rig::new(model(Some(at.clone())));
    let refused = "Take footage over (not now: Only a client that the tables call an administrator may take over.)";
    assert!(rig.has(refused));
    at.settings.as_mut().expect("settings").admin = true;
    rig.status(at.clone());
    rig.click("Take footage over");
    assert!(rig.has("bob is there. It is told to stop") && !rig.has("Do not wait for its last writes"));
    rig.click("Take over footage now");
    assert_eq!(rig.call(), Call::Takeover(TakeoverCall { volume: "footage".into(), yes_i_know: None }));
    rig.tell(Event::Called {
        command: Command::Takeover { volume: "footage".into(), yes_i_know: None },
        result: Ok("done".into()),
    });
    at.clients[0].state = ClientState::Dead;
    rig.status(at);
    rig.click("Take footage over");
    rig.click("Do not wait for its last writes");
    assert!(rig.has("If bob still runs, or comes back with writes in its queue"));
    rig.harness.get_by_label("Take over footage now");
    assert!(rig.harness.get_by_label("Take over footage now").accesskit_node().is_disabled());
    rig.type_into("The name of the silent writer", "bob");
    rig.click("Take over footage now");
    assert_eq!(rig.call(), Call::Takeover(TakeoverCall { volume: "footage".into(), yes_i_know: Some("bob".into()) }));
}

#[test]
fn every_view_is_reached_by_rail_by_key_and_by_menu() {
    let mut rig = Rig::new(model(Some(status(vec![volume("footage")]))));
    for (name, view) in [
        ("View Status matrix", View::Matrix),
        ("View Activity", View::Activity),
        ("View Preferences", View::Preferences),
    ] {
        rig.click(name);
        assert_eq!(rig.harness.state().model.view, view);
    }
    rig.harness.key_press_modifiers(Modifiers::COMMAND, Key::Num4);
    rig.run();
    assert_eq!(rig.harness.state().model.view, View::Administration);
    rig.click("View");
    rig.click("Show Volumes");
    assert_eq!(rig.harness.state().model.view, View::Volumes);
}

#[test]
fn the_matrix_is_filtered_and_its_cells_are_read_aloud() {
    let mut rig = Rig::new(model(Some(status(vec![written("footage", "bob"), volume("audio")]))));
    rig.click("View Status matrix");
    assert!(rig.has("footage, bob: mounted read-write, unlocked; may write"));
    assert!(
        rig.has("audio, alice: mounted read-only, unlocked; may write") && rig.has("carol: off; last beat 1 min ago")
    );
    rig.type_into("Filter volumes", "foot");
    assert!(!rig.has("audio, alice") && rig.has("footage, alice"));
    rig.type_into("Filter clients", "nobody");
    assert!(rig.has("The filters leave nothing."));
}

#[test]
fn the_log_is_filtered_and_copied() {
    let mut rig = Rig::new(model(Some(status(vec![volume("footage")]))));
    let events = vec![
        event("11:00:00", "grant.taken", "footage", "", "footage: write access, by grant 9"),
        event("11:05:00", "volume.published", "footage", "", "footage: generation 9.1"),
    ];
    rig.tell(Event::Log(events));
    rig.click("View Activity");
    assert!(rig.has("alice wrote footage, still") && rig.has("2 events"));
    rig.type_into("Filter events", "publ");
    assert!(rig.has("1 event"));
    rig.click("Copy what is shown");
    let effects = rig.effects();
    assert!(
        matches!(effects.as_slice(), [Effect::Copy(text)] if text.contains("volume.published") && !text.contains("grant"))
    );
}

#[test]
fn preferences_change_with_a_click() {
    let mut rig = Rig::new(model(Some(status(vec![]))));
    rig.click("View Preferences");
    rig.click("light");
    rig.click("Desktop notifications when somebody asks or answers");
    let prefs = &rig.harness.state().model.prefs;
    assert_eq!((prefs.theme, prefs.notify), (Theme::Light, false));
    assert!(
        rig.has("The daemon looks at the control volume every 250 ms")
            || rig.has("The daemon looks at the control volume every")
    );
}

#[test]
fn without_a_daemon_the_window_says_what_to_do_and_goes_on_when_it_comes() {
    let mut rig = Rig::new(model(None));
    rig.tell(Event::Down(Failure::no_daemon("no daemon answers at /s", "there is no such socket", "start it")));
    assert!(rig.has("No volctl daemon answers here") && rig.has("sudo systemctl start volctl"));
    rig.click("Copy the command sudo systemctl start volctl");
    assert_eq!(rig.effects(), [Effect::Copy("sudo systemctl start volctl".into())]);
    rig.click("Try again");
    assert_eq!(rig.effects(), [Effect::Reconnect]);
    rig.status(status(vec![volume("footage")]));
    assert!(!rig.has("No volctl daemon") && rig.has("footage is Read-only"));
}

/// On a slow machine Control was up again in the very frame that had the Enter, and nothing was sent.
#[test]
fn a_short_press_of_control_and_enter_sends_a_request() {
    let mut rig = Rig::new(model(Some(status(vec![volume("footage")]))));
    rig.click("Request write access to footage");
    rig.type_into("Message to the writer", "titles");
    let (key, held) = (Key::Enter, Modifiers::COMMAND);
    for pressed in [true, false] {
        let event = eframe::egui::Event::Key { key, physical_key: None, pressed, repeat: false, modifiers: held };
        rig.harness.input_mut().events.push(event);
    }
    rig.run();
    assert!(matches!(rig.call(), Call::Request(call) if call.message == "titles"));
}
