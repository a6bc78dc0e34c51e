//! Somebody asks.

use eframe::egui::{Key, Modifiers};
use egui_kittest::kittest::Queryable as _;
use volctl::wire::call::{Answer3, AnswerCall, Call};
use volctl::wire::outcome::Failure;
use volctl::wire::status::Status;
use volctl_gui::model::Event;
use volctl_gui::view::title;

use crate::rig::{Rig, model};
use crate::sample::{ask, status, written};

fn asked() -> Status {
    let mut at = status(vec![written("footage", "alice")]);
    ask(&mut at, "footage", "bob", "need to fix the titles", 5000);
    at
}

fn answer(client: &str, answer: Answer3, message: &str) -> Call {
    Call::Answer(AnswerCall { volume: "footage".into(), client: client.into(), answer, message: message.into() })
}

#[test]
fn a_prompt_stands_over_every_view_and_yes_answers_it() {
    let mut rig = Rig::new(model(Some(status(vec![written("footage", "alice")]))));
    rig.click("View Preferences");
    rig.status(asked());
    assert!(rig.has("bob asks for footage") && rig.has("“need to fix the titles”"));
    assert_eq!(title(&rig.harness.state().model), "(1) volctl – alice");
    rig.tell(Event::Programs { volume: "footage".into(), found: Ok(vec!["blender: a.blend (for writing)".into()]) });
    assert!(rig.has("blender: a.blend (for writing)"));
    rig.click("Yes: answer bob");
    assert_eq!(rig.call(), answer("bob", Answer3::Yes, ""));
    assert!(!rig.has("“need to fix the titles”"), "it is gone at once");
}

#[test]
fn no_takes_a_text_with_it() {
    let mut rig = Rig::new(model(Some(asked())));
    rig.type_into("What to say with the answer", "rendering until five");
    rig.click("No: answer bob");
    assert_eq!(rig.call(), answer("bob", Answer3::No, "rendering until five"));
}

#[test]
fn the_keys_answer_only_with_alt_held() {
    let mut rig = Rig::new(model(Some(asked())));
    for key in [Key::Y, Key::N, Key::L, Key::Enter, Key::Space] {
        rig.harness.key_press(key);
        rig.run();
        assert_eq!(rig.effects().len(), 0, "{key:?} alone answers nothing");
    }
    rig.harness.key_press_modifiers(Modifiers::ALT, Key::L);
    rig.run();
    assert_eq!(rig.call(), answer("bob", Answer3::Later, ""));
}

#[test]
fn a_prompt_that_was_put_off_waits_in_a_line_at_the_top() {
    let mut rig = Rig::new(model(Some(asked())));
    rig.harness.key_press(Key::Escape);
    rig.run();
    assert!(!rig.has("Yes: answer bob") && rig.has("bob waits for your answer about footage"));
    rig.click("Answer the waiting request");
    rig.harness.get_by_label("Yes: answer bob");
}

#[test]
fn several_prompts_queue_the_longest_waiting_first() {
    let mut at = asked();
    ask(&mut at, "footage", "carol", "me too", 60_000);
    let mut rig = Rig::new(model(Some(at)));
    assert!(rig.has("carol asks for footage") && rig.has("1 of 2"));
    rig.click("Later: answer carol");
    assert_eq!(rig.call(), answer("carol", Answer3::Later, ""));
    assert!(rig.has("bob asks for footage") && !rig.has("1 of 2"));
}

#[test]
fn who_said_later_can_say_yes_at_any_time() {
    let mut at = asked();
    at.requests[0].answer = Some(Answer3::Later);
    let mut rig = Rig::new(model(Some(at)));
    assert!(!rig.has("Yes: answer bob"), "it is answered");
    rig.click("Answer bob about footage");
    rig.click("Yes: answer bob");
    assert_eq!(rig.call(), answer("bob", Answer3::Yes, ""));
}

/// The reason stood in a line at the top, under the shade of the prompt that had come back.
#[test]
fn a_yes_that_could_not_be_carried_out_says_why_in_the_prompt() {
    let mut rig = Rig::new(model(Some(asked())));
    rig.click("Yes: answer bob");
    let command = rig.effects().into_iter().find_map(|e| match e {
        volctl_gui::model::Effect::Call(command, _) => Some(command),
        _ => None,
    });
    let why = Failure::refused("footage cannot be released", "blender (pid 7) has files open", "close it");
    rig.tell(Event::Called { command: command.expect("an answer"), result: Err(why) });
    assert!(rig.has("Yes: answer bob"));
    assert!(rig.has("footage cannot be released: blender (pid 7) has files open. close it"), "{:?}", rig.names());
    rig.click("No: answer bob");
    assert!(!rig.has("footage cannot be released: blender"));
}
