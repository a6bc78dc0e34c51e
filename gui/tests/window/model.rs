//! The model alone: what it does with news and with wishes.

use std::sync::Arc;
use std::time::Duration;

use volctl::wire::call::{Answer3, Call};
use volctl::wire::outcome::Failure;
use volctl::wire::status::{Status, VolumeState};
use volctl_gui::command::Command;
use volctl_gui::model::{Effect, Event, Link, Model};
use volctl_gui::prefs::{TextSize, Theme};
use volctl_gui::view::volumes;

use crate::rig::model;
use crate::sample::{answered, ask, event, status, volume, written};

fn tell(model: &mut Model, status: Status) -> Vec<Effect> {
    model.apply(Event::Status(Arc::new(status)), Duration::from_secs(1))
}

fn ending(model: &Model) -> Option<String> {
    volumes::cards(model)[0].ending.as_ref().map(|e| e.text.clone())
}

fn asked() -> Status {
    let mut at = status(vec![written("footage", "bob")]);
    ask(&mut at, "footage", "alice", "titles", 1000);
    at
}

#[test]
fn a_no_is_shown_with_its_text_whichever_of_event_and_status_comes_first() {
    let no = || {
        Event::News(vec![event("11:00:00", "answer.received", "footage", "bob", "bob says no for footage: rendering")])
    };
    let after = || status(vec![written("footage", "bob")]);
    let mut one = model(Some(asked()));
    one.apply(no(), Duration::ZERO);
    tell(&mut one, after());
    let mut other = model(Some(asked()));
    tell(&mut other, after());
    other.apply(no(), Duration::ZERO);
    for model in [one, other] {
        assert_eq!(ending(&model).as_deref(), Some("Bob says no for footage: rendering"));
    }
}

#[test]
fn a_request_that_is_gone_has_ended_somehow_and_that_is_said() {
    let mut model = model(Some(asked()));
    tell(&mut model, status(vec![written("footage", "bob")]));
    assert!(ending(&model).expect("an ending").contains("nobody answered in time"));
    // The next request forgets it.
    model.perform(Command::Ask { volume: "footage".into(), message: String::new() }, Duration::ZERO);
    assert_eq!(ending(&model), None);
}

#[test]
fn taking_a_request_back_is_no_refusal() {
    let mut model = model(Some(asked()));
    let effects = model.perform(Command::Withdraw("footage".into()), Duration::ZERO);
    let [Effect::Call(command, Call::Withdraw(_))] = effects.as_slice() else { panic!("{effects:?}") };
    let done = Event::Called { command: command.clone(), result: Ok("withdrawn".into()) };
    model.apply(done, Duration::ZERO);
    tell(&mut model, status(vec![written("footage", "bob")]));
    assert_eq!(ending(&model).as_deref(), Some("You took the request back."));
}

#[test]
fn write_access_that_came_is_said_with_its_place() {
    let mut at = asked();
    answered(&mut at, "footage", Answer3::Yes, "");
    let mut model = model(Some(at));
    tell(&mut model, status(vec![written("footage", "alice")]));
    assert_eq!(ending(&model).as_deref(), Some("You have write access, at /mnt/volctl/footage."));
    let mut back = volume("footage");
    back.state = VolumeState::Ro;
    tell(&mut model, status(vec![back]));
    assert_eq!(ending(&model), None, "what was given back is no news");
}

#[test]
fn a_new_request_calls_for_attention_once_and_looks_for_programs() {
    let mut at = status(vec![written("footage", "alice")]);
    ask(&mut at, "footage", "bob", "titles", 10);
    let mut model = model(None);
    let effects = tell(&mut model, at.clone());
    let notify = Effect::Notify { title: "bob asks for footage".into(), body: "titles".into() };
    let find = Effect::FindPrograms { volume: "footage".into(), mountpoint: "/mnt/volctl/footage".into() };
    assert_eq!(effects, [Effect::Attention, notify, find]);
    assert_eq!(tell(&mut model, at.clone()), []);
    model.prefs.notify = false;
    ask(&mut at, "footage", "carol", "", 10);
    let effects = tell(&mut model, at);
    assert!(matches!(effects.as_slice(), [Effect::Attention, Effect::FindPrograms { .. }]), "{effects:?}");
}

#[test]
fn an_answer_takes_the_prompt_away_at_once_and_a_failure_brings_it_back() {
    let mut at = status(vec![written("footage", "alice")]);
    ask(&mut at, "footage", "bob", "titles", 10);
    let mut model = model(Some(at.clone()));
    let answer = Command::Answer {
        id: "bob-footage".into(),
        volume: "footage".into(),
        client: "bob".into(),
        answer: Answer3::Yes,
        message: String::new(),
    };
    model.perform(answer.clone(), Duration::ZERO);
    assert!(model.prompts().is_empty());
    let busy = Failure::refused("footage cannot be released", "files are open: blender (pid 7)", "close it");
    model.apply(Event::Called { command: answer, result: Err(busy.clone()) }, Duration::ZERO);
    assert_eq!(model.prompts().len(), 1, "it still waits for an answer");
    assert_eq!(model.notices[0].result, Err(busy));
    // A daemon that starts anew knows of no answer that was under way.
    model.answering.insert("bob-footage".into());
    model.apply(Event::Down(Failure::no_daemon("a", "b", "c")), Duration::ZERO);
    tell(&mut model, at);
    assert_eq!(model.prompts().len(), 1);
}

#[test]
fn a_daemon_that_restarts_is_followed_and_nothing_of_before_is_believed_meanwhile() {
    let mut model = model(Some(status(vec![volume("footage")])));
    model.apply(Event::Down(Failure::no_daemon("a", "b", "c")), Duration::ZERO);
    assert!(model.live().is_none());
    let card = volumes::cards(&model).remove(0);
    assert!(card.buttons.iter().all(|b| b.refused.as_deref() == Some("The daemon does not answer.")));
    tell(&mut model, status(vec![volume("footage")]));
    assert_eq!(model.link, Link::Live);
    assert!(volumes::cards(&model)[0].buttons[0].refused.is_none());
}

#[test]
fn preferences_are_kept_when_they_change() {
    let mut model = model(None);
    let kept = |model: &mut Model, command| {
        let effects = model.perform(command, Duration::ZERO);
        matches!(effects.as_slice(), [Effect::Save(prefs)] if *prefs == model.prefs)
    };
    model.dark = true;
    assert!(kept(&mut model, Command::Theme(Theme::Other)));
    assert_eq!(model.prefs.theme, Theme::Light, "the other one of the two");
    assert!(kept(&mut model, Command::Step(true)));
    assert_eq!(model.prefs.text_size, TextSize::Large);
    assert!(kept(&mut model, Command::Notify(false)));
}

#[test]
fn the_log_has_an_end() {
    let mut model = model(None);
    let one = |i: usize| event("11:00:00", "note", "", "", &i.to_string());
    model.apply(Event::Log((0..3000).map(one).collect()), Duration::ZERO);
    model.apply(Event::News(vec![one(3000)]), Duration::ZERO);
    assert_eq!(model.events.len(), volctl_gui::model::EVENTS_MAX);
    assert_eq!(model.events.back().map(|e| e.text.as_str()), Some("3000"));
}

/// Whoever closed the program that was in the way went on reading that it was.
#[test]
fn programs_are_looked_for_again_while_the_prompt_stands() {
    let mut at = status(vec![written("footage", "alice")]);
    ask(&mut at, "footage", "bob", "titles", 10);
    let mut model = model(None);
    let looks = |model: &mut Model, second: u64| {
        let effects = model.apply(Event::Status(Arc::new(at.clone())), Duration::from_secs(second));
        effects.iter().filter(|e| matches!(e, Effect::FindPrograms { .. })).count()
    };
    assert_eq!(looks(&mut model, 1), 1);
    assert_eq!(looks(&mut model, 9), 0, "the first look has not ended: no second one behind it");
    let found = |names: &[&str]| Ok(names.iter().map(|&n| n.to_owned()).collect::<Vec<String>>());
    model.apply(Event::Programs { volume: "footage".into(), found: found(&["blender"]) }, Duration::from_secs(9));
    assert_eq!(looks(&mut model, 10), 1);
    assert_eq!(model.programs["footage"], found(&["blender"]), "what is known stands until then");
    model.apply(Event::Programs { volume: "footage".into(), found: found(&[]) }, Duration::from_secs(10));
    assert_eq!((looks(&mut model, 11), looks(&mut model, 12)), (0, 1), "not more often than need be");
    model.put_off.insert("bob-footage".into());
    model.apply(Event::Programs { volume: "footage".into(), found: found(&[]) }, Duration::from_secs(12));
    assert_eq!(looks(&mut model, 20), 0, "nobody looks at a prompt that was put off");
}

/// With statuses that say nothing new no picture was made, and the window said "connecting" and refused everything.
#[test]
fn connecting_anew_while_all_is_well_takes_nothing_away() {
    let mut live = model(Some(status(vec![volume("footage")])));
    assert_eq!(live.perform(Command::Reconnect, Duration::ZERO), [Effect::Reconnect]);
    assert_eq!(live.link, Link::Live);
    let mut none = model(None);
    none.apply(Event::Down(Failure::no_daemon("a", "b", "c")), Duration::ZERO);
    none.perform(Command::Reconnect, Duration::ZERO);
    assert!(none.link == Link::Connecting && none.counts(), "the next picture is not far");
}

#[test]
fn who_comes_into_the_group_may_act_without_a_new_window() {
    let mut model = model(Some(status(vec![volume("footage")])));
    model.rights.no_acting = Some("only root and members of the group volctl may act".into());
    model.apply(Event::Rights(volctl_gui::admin::Rights::default()), Duration::ZERO);
    assert!(volumes::cards(&model)[0].buttons[0].refused.is_none());
}
