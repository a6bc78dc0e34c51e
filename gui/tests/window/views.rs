//! The view-model as text.

use std::time::Duration;

use volctl::wire::call::Answer3;
use volctl::wire::outcome::Failure;
use volctl::wire::status::{
    Access, ClientMount, ClientState, Enforcement, Readers, VolumeState, WaitingClient, WaitsFor, Warning,
};
use volctl_gui::model::{Event, Link, Model};
use volctl_gui::view::matrix::Matrix;
use volctl_gui::view::{activity, head, prompt, title, trouble, volumes};

use crate::rig::{NOON, model, snapshot};
use crate::sample::{answered, ask, client, event, mount, status, volume, written};

fn cards(model: &Model) -> String {
    volumes::cards(model).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_state_of_a_volume_has_its_word_its_shape_and_its_main_button() {
    let mut stale = volume("stale");
    (stale.stale, stale.seen_generation, stale.auto_update) = (true, "40.1".into(), false);
    let mut locked = written("exclusive", "bob");
    (locked.state, locked.mountpoint, locked.readers) = (VolumeState::Locked, None, Readers::Exclusive);
    locked.reason = Some("exclusive: bob has the write privilege".into());
    let mut granted = written("granted", "alice");
    granted.state = VolumeState::Granted;
    let mut releasing = written("releasing", "alice");
    releasing.state = VolumeState::Releasing;
    let mut fresh = volume("never");
    (fresh.generation, fresh.seen_generation, fresh.state, fresh.mountpoint) =
        ("0.0".into(), "0.0".into(), VolumeState::Locked, None);
    let all = vec![
        volume("free"),
        written("theirs", "bob"),
        written("mine", "alice"),
        stale,
        locked,
        granted,
        releasing,
        fresh,
    ];
    snapshot("states", &cards(&model(Some(status(all)))));
}

#[test]
fn why_one_cannot_ask_is_said_before_one_tries() {
    let mut read = volume("read");
    read.access = Access::Read;
    let mut none = volume("none");
    (none.access, none.state) = (Access::None, VolumeState::Locked);
    let mut off = volume("off");
    off.write_enabled = false;
    let mut out = volume("out");
    out.locked_out = true;
    let mut advisory = volume("advisory");
    advisory.enforcement = Enforcement::Advisory;
    advisory.enforcement_note = Some("no bound is known on how long this path may hold back a write".into());
    let all = status(vec![read, none, off, out, advisory]);
    snapshot("refusals", &cards(&model(Some(all.clone()))));
    let mut looker = model(Some(all));
    looker.rights.no_acting = Some("only root and members of the group volctl may act".into());
    let every = volumes::cards(&looker);
    assert!(every.iter().flat_map(|c| &c.buttons).all(|b| b.refused.as_deref().is_some_and(|w| w.contains("volctl"))));
}

#[test]
fn a_request_is_followed_through_all_its_steps() {
    let mut text = String::new();
    let mut tell = |what: &str, status| {
        let model = model(Some(status));
        let card = volumes::cards(&model).remove(0);
        text.push_str(&format!("{what}\n{}\n", card.progress.map(|p| p.to_string()).unwrap_or_default()));
    };
    let mut at = status(vec![written("footage", "bob")]);
    at.volumes[0].waiting.push(WaitingClient { client: "carol".into(), age_ms: 90_000 });
    ask(&mut at, "footage", "alice", "titles", 100);
    tell("just asked", at.clone());
    at.requests[0].age_ms = 1400;
    tell("bob's daemon has beaten since", at.clone());
    answered(&mut at, "footage", Answer3::Later, "in ten minutes");
    tell("bob says later", at.clone());
    answered(&mut at, "footage", Answer3::Yes, "");
    tell("bob says yes", at.clone());
    at.volumes[0].clients[1].state = ClientMount::Closed;
    tell("bob has closed it", at.clone());
    at.volumes[0].writer = Some("alice".into());
    at.volumes[0].state = VolumeState::Granted;
    at.requests.clear();
    tell("granted", at.clone());
    at.volumes[0].waits_for = Some(WaitsFor::Grace);
    at.volumes[0].wait_ms = Some(9000);
    tell("readers have files open", at.clone());
    let mut silent = status(vec![written("footage", "bob")]);
    ask(&mut silent, "footage", "alice", "titles", 6000);
    silent.clients[0].beat_age_ms = Some(9000);
    silent.volumes[0].waits_for = Some(WaitsFor::Dead);
    silent.volumes[0].wait_ms = Some(7000);
    tell("bob is silent", silent);
    snapshot("progress", &text);
}

#[test]
fn a_prompt_says_who_what_why_and_which_programs_are_in_the_way() {
    let mut at = status(vec![written("footage", "alice"), written("audio", "alice")]);
    ask(&mut at, "audio", "carol", "", 1000);
    ask(&mut at, "footage", "bob", "need to fix\nthe titles", 65_000);
    let mut model = model(Some(at));
    let first = prompt::prompt(&model).expect("a prompt");
    let mut text = first.to_string();
    let programs = Ok(vec!["blender: shots/a.blend (for writing)".to_owned(), "bash: the folder itself".to_owned()]);
    model.apply(Event::Programs { volume: "footage".into(), found: programs }, Duration::ZERO);
    text.push_str(&prompt::prompt(&model).expect("a prompt").to_string());
    model.put_off.insert(first.id);
    model.apply(Event::Programs { volume: "audio".into(), found: Ok(Vec::new()) }, Duration::ZERO);
    text.push_str(&prompt::prompt(&model).expect("the next one").to_string());
    let (line, _) = prompt::put_off(&model).expect("a banner");
    text.push_str(&format!("{line}\n{}\n", title(&model)));
    snapshot("prompt", &text);
}

#[test]
fn the_matrix_says_of_every_client_what_it_has_of_every_volume() {
    let mut live = written("footage", "bob");
    let mut dead = mount("dave", Access::Write, ClientMount::Rw);
    dead.locked_out = true;
    let mut stale = mount("carol", Access::Read, ClientMount::Ro);
    stale.stale = true;
    live.clients.extend([stale, dead]);
    live.waiting.push(WaitingClient { client: "alice".into(), age_ms: 1 });
    let mut other = volume("audio");
    other.clients =
        vec![mount("bob", Access::Read, ClientMount::Unknown), mount("carol", Access::Write, ClientMount::Closed)];
    let mut at = status(vec![live, other]);
    at.clients.push(client("dave", 3, ClientState::Dead, 70_000));
    let matrix = Matrix::of(&at);
    let filtered = matrix.filtered("AUD", "bo", false);
    let trouble = matrix.filtered("", "", true);
    snapshot("matrix", &format!("{matrix}\nfiltered\n{filtered}\ntrouble\n{trouble}"));
}

#[test]
fn a_daemon_that_knows_nothing_of_others_mounts_still_shows_its_own() {
    let mut old = volume("footage");
    old.clients.clear();
    let matrix = Matrix::of(&status(vec![old]));
    assert_eq!(matrix.rows[0].1[0].state, ClientMount::Ro);
    assert_eq!(matrix.rows[0].1[1].state, ClientMount::None);
}

#[test]
fn whatever_is_wrong_is_said_with_what_to_do() {
    let mut text = String::new();
    let mut tell = |what: &str, model: &Model| {
        let all: Vec<String> = trouble::troubles(model).iter().map(ToString::to_string).collect();
        text.push_str(&format!("# {what} [{}]\n{}\n", head(model).text, all.join("")));
    };
    let down = |failure| {
        let mut model = model(Some(status(vec![volume("v")])));
        model.apply(Event::Down(failure), Duration::ZERO);
        model
    };
    let nobody =
        Failure::no_daemon("no daemon answers at /run/volctl/volctl.sock", "there is no such socket", "start it");
    tell("no daemon", &down(nobody.clone()));
    let mut ended = model(Some(status(vec![])));
    let why = "the tables are damaged: table header copy 0 at byte 561152: nothing of a control volume is there";
    ended.apply(Event::Log(vec![event("11:59:00", "control.lost", "", "", why)]), Duration::ZERO);
    ended.apply(Event::Down(nobody.clone()), Duration::ZERO);
    tell("a daemon that ended because the tables are damaged", &ended);
    ended.apply(Event::News(vec![event("11:59:30", "client.logged_on", "", "", "logged on")]), Duration::ZERO);
    ended.apply(Event::Down(nobody), Duration::ZERO);
    tell("and one that ended long after", &ended);
    let claim = "the daemon is not logged on: the slot is being proven free";
    tell("logging on", &down(Failure::busy("not now", claim, "wait a moment")));
    let damage = "the daemon is not logged on: no log-on: both header copies are damaged";
    tell("a damaged table", &down(Failure::busy("not now", damage, "wait a moment")));
    let garbage =
        Failure::failed("talking to the daemon failed", "the message is not JSON", "check that the socket is volctl's");
    tell("a socket that talks rubbish", &down(garbage));
    let mut quiet = model(Some(status(vec![])));
    quiet.apply(Event::Quiet(Duration::from_secs(7)), Duration::ZERO);
    tell("a daemon that hangs", &quiet);
    let mut looker = model(Some(status(vec![])));
    looker.rights.no_acting = Some("only root and members of the group volctl may act through the daemon".into());
    tell("no rights", &looker);
    let mut low = status(vec![]);
    low.control.lease_left_ms = 3000;
    low.warnings.push(Warning { code: "control".into(), text: "a slot is damaged".into(), volume: None });
    tell("a lease that runs out, and a damaged slot", &model(Some(low)));
    let mut fenced = model(Some(status(vec![])));
    fenced.apply(
        Event::Log(vec![event("11:59:00", "lease.lost", "", "", "no beat was confirmed within the lease")]),
        Duration::ZERO,
    );
    tell("a fenced client", &fenced);
    assert_eq!(fenced.link, Link::Live);
    snapshot("troubles", &text);
}

#[test]
fn the_time_line_knows_who_wrote_when() {
    let mut model = model(Some(status(vec![written("footage", "bob"), volume("audio")])));
    let events = vec![
        event("11:00:00", "daemon.started", "", "", "started"),
        event("11:00:01", "peer.granted", "footage", "bob", "footage: bob has the write privilege, by grant 7"),
        event("11:10:00", "peer.released", "footage", "bob", "footage: bob has the write privilege no more"),
        event("11:10:01", "grant.taken", "footage", "", "footage: write access, by grant 9"),
        event("11:20:00", "volume.published", "footage", "", "footage: generation 9.1"),
        event("11:30:00", "lease.lost", "", "", "gone"),
        event("11:31:00", "peer.granted", "footage", "bob", "footage: bob has the write privilege, by grant 11"),
        event("11:32:00", "daemon.started", "", "", "started"),
        event("11:32:01", "peer.granted", "footage", "bob", "footage: bob has the write privilege, by grant 11"),
        event("11:33:00", "grant.revoked", "footage", "bob", "footage: the write privilege is being taken from bob"),
        event("11:34:00", "answer.received", "audio", "bob", "bob says no for audio: busy"),
        event("when?", "note", "footage", "", "a time that is none"),
    ];
    model.apply(Event::Log(events), Duration::ZERO);
    let lanes = activity::lanes(&model);
    let (from, to) = activity::window(&lanes, NOON);
    assert_eq!(to - from, 60 * 60 * 1000 - 1000, "from the first grant on");
    let text: String = lanes.iter().map(ToString::to_string).collect();
    snapshot("timeline", &text);
    let found = activity::rows(&model, "bob revoked");
    assert_eq!(found.len(), 1);
    assert!(activity::copy(&found).contains("grant.revoked\tfootage"));
    assert_eq!(activity::rows(&model, "").len(), 12);
}
