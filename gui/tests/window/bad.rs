//! Bad input: whatever comes, a clear sentence, no panic, nothing that another's text can turn over.

use std::sync::Arc;
use std::time::Duration;

use eframe::egui::{Key, Modifiers};
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use volctl::wire::call::Call;
use volctl::wire::outcome::Failure;
use volctl::wire::status::Status;
use volctl_gui::command::Command;
use volctl_gui::model::Event;

use crate::rig::{Rig, model};
use crate::sample::{ask, event, status, volume, written};

#[test]
fn a_message_of_ten_thousand_letters_is_refused_before_it_is_sent() {
    let mut rig = Rig::new(model(Some(status(vec![volume("footage")]))));
    rig.click("Request write access to footage");
    rig.type_into("Message to the writer", &"x".repeat(10_000));
    assert!(rig.has("The message cannot be sent: it has 10000 bytes, at most 255 are allowed"));
    assert!(rig.harness.get_by_label("Ask for footage").accesskit_node().is_disabled());
    // Neither the button nor the key sends it, nor would the window if one did.
    rig.click("Ask for footage");
    rig.harness.key_press_modifiers(Modifiers::COMMAND, Key::Enter);
    rig.run();
    assert!(rig.has("Message to the writer"), "the text is still there, to be made shorter");
    let command = Command::Ask { volume: "footage".into(), message: "x".repeat(10_000) };
    rig.harness.state_mut().wish(command, Duration::ZERO);
    assert_eq!(rig.effects(), []);
    rig.run();
    assert!(rig.has("the request was not sent"), "{:?}", rig.names());
}

#[test]
fn a_message_of_ten_thousand_letters_that_comes_is_cut_and_the_buttons_stay_on_the_screen() {
    let mut at = status(vec![written("footage", "alice")]);
    ask(&mut at, "footage", "bob", &"word ".repeat(2000), 10);
    for scale in [1.0, 2.0] {
        let mut rig = Rig::sized(model(Some(at.clone())), 800.0, 600.0, scale);
        let sight = rig.harness.ctx.content_rect();
        for name in ["Yes: answer bob", "No: answer bob", "Later: answer bob", "Decide in a moment"] {
            let place = rig.harness.get_by_label(name).rect();
            assert!(sight.contains_rect(place), "{name} at {place:?} of {sight:?}");
        }
        rig.click("Yes: answer bob");
        assert!(matches!(rig.call(), Call::Answer(_)));
    }
}

#[test]
fn right_to_left_text_emoji_and_markup_are_shown_as_what_they_are() {
    let mut at = status(vec![written("<b>&lt;footage</b>", "alice")]);
    ask(&mut at, "<b>&lt;footage</b>", "bob", "مرحبا، أحتاجه 🎬 \u{202e}evil\u{202c} <script>", 10);
    let rig = Rig::tofu(model(Some(at)));
    assert!(rig.has("bob asks for <b>&lt;footage</b>"), "{:?}", rig.names());
    let message = rig.names().into_iter().find(|n| n.starts_with('“')).expect("the message");
    assert!(message.contains("<script>") && message.contains("مرحبا") && !message.contains('\u{202e}'), "{message}");
}

#[test]
fn sixty_four_requests_at_once_stand_in_a_queue() {
    let mut at = status(vec![written("footage", "alice")]);
    for i in 0..64 {
        ask(&mut at, "footage", &format!("client{i:02}"), "me", 1000 + i);
    }
    let mut rig = Rig::new(model(Some(at)));
    assert!(rig.has("1 of 64") && rig.has("client63 asks for footage"));
    for i in (0..64).rev() {
        rig.click(&format!("Later: answer client{i:02}"));
    }
    assert!(!rig.has("What to say"), "all are answered");
    assert_eq!(rig.effects().iter().filter(|e| matches!(e, volctl_gui::model::Effect::Call(..))).count(), 64);
}

#[test]
fn sixty_four_by_sixty_four_is_drawn_in_every_view() {
    let mut volumes = Vec::new();
    for v in 0..64 {
        let mut one = volume(&format!("volume{v:02}"));
        one.clients = (0..64)
            .map(|c| crate::sample::mount(&format!("client{c:02}"), one.access, volctl::wire::status::ClientMount::Ro))
            .collect();
        volumes.push(one);
    }
    let mut at = status(volumes);
    at.clients = (0..64)
        .map(|c| crate::sample::client(&format!("client{c:02}"), c + 1, volctl::wire::status::ClientState::On, 100))
        .collect();
    let mut rig = Rig::new(model(Some(at)));
    rig.click("View Status matrix");
    assert!(rig.has("64 volumes, 65 clients: 0 read-write, 4096 read-only, 0 stale"));
    // Only what is in sight is drawn: thousands of cells would take the time of thousands.
    let cells = rig.names().iter().filter(|n| n.contains("mounted read-only")).count();
    assert!((50..600).contains(&cells), "{cells}");
    let painted = rig.harness.output().shapes.len();
    assert!(painted < 3000, "{painted} shapes");
    rig.click("View Activity");
    rig.click("View Volumes");
    assert!(rig.has("volume00 is Read-only"));
}

#[test]
fn a_status_of_another_version_with_nothing_in_it_is_drawn() {
    let bare = r#"{"client":"alice","slot":0,"incarnation":1,"control":{"path":"","uuid":"","epoch":0,"lock":"","semaphore":null,"lease_left_ms":0},
        "volumes":[{"name":"","state":"rw","mountpoint":null,"writer":"zoe","write_enabled":false,"access":"none","locked_out":true,"auto_update":false,
        "generation":"","seen_generation":"","stale":true,"fs":"","readers":"snapshot","enforcement":"fenced","free_bytes":9,"last_modified":"x"}],
        "clients":[],"requests":[{"volume":"gone","from":"","to":"alice","message":"","age_ms":18446744073709551615,"answer":null,"answer_message":""}]}"#;
    let odd: Status = serde_json::from_str(bare).expect("a status");
    let mut rig = Rig::new(model(Some(odd)));
    for view in ["View Status matrix", "View Activity", "View Administration", "View Preferences", "View Volumes"] {
        rig.click(view);
    }
}

#[test]
fn a_socket_that_talks_rubbish_is_a_sentence() {
    let mut rig = Rig::new(model(None));
    let why = "the message is not JSON: \u{1b}[2J";
    rig.tell(Event::Down(Failure::failed("talking to the daemon failed", why, "check that the socket is volctl's")));
    assert!(rig.has("Talking to the daemon failed") && rig.has("the message is not JSON: ?[2J"));
}

#[test]
fn events_of_any_kind_are_drawn() {
    let mut rig = Rig::new(model(Some(status(vec![volume("footage")]))));
    let mut events =
        vec![event("", "", "", "", ""), event("99:99:99", "x\u{202e}", "no such", "", &"y".repeat(20_000))];
    events.extend((0..2000).map(|i| event("11:00:00", "volume.refreshed", "footage", "", &format!("{i}"))));
    rig.tell(Event::Log(events));
    rig.click("View Activity");
    assert!(rig.has("1024 events"));
    rig.tell(Event::Status(Arc::new(Status::default())));
}
