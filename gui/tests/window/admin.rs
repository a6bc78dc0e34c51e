//! Administration, by accessible label.

use egui_kittest::kittest::{NodeT as _, Queryable as _};
use volctl::wire::outcome::Failure;
use volctl::wire::status::Access;
use volctl_gui::admin::{AdminCommand, ClientRow, Device, Means, Privilege, Probe, Tables, VolumeRow};
use volctl_gui::command::{AdminPage, Command};
use volctl_gui::model::{Administered, Effect, Event, Model};

use crate::rig::{Rig, model, root};
use crate::sample::{status, volume, written};

fn tables() -> Tables {
    let client = |name: &str| ClientRow { name: name.into(), enabled: true, notify: true, ..ClientRow::default() };
    let row = VolumeRow {
        name: "footage".into(),
        device: "/dev/vdb".into(),
        fs: "ext4".into(),
        readers: "live".into(),
        write_enabled: true,
        permissions: vec![Privilege {
            client: "alice".into(),
            access: Access::Write,
            auto_update: true,
            check_ms: 2000,
            ..Privilege::default()
        }],
        ..VolumeRow::default()
    };
    Tables { clients: vec![client("alice"), client("bob")], volumes: vec![row] }
}

fn open(mut model: Model, page: AdminPage) -> Rig {
    model.admin.control = "/c.img".into();
    let mut rig = Rig::new(model);
    rig.harness.state_mut().wish(Command::ShowAdmin(page), std::time::Duration::ZERO);
    let looks = rig.effects();
    for effect in looks {
        if let Effect::Administer { command, .. } = effect {
            let result = match command {
                AdminCommand::LookAt => Administered::Tables(tables()),
                _ => {
                    Administered::Devices(vec![Device { path: "/dev/vdb".into(), size: 1 << 30, ..Device::default() }])
                }
            };
            rig.tell(Event::Administered { command, result: Ok(result) });
        }
    }
    let _ = rig.effects();
    rig
}

/// The command lines that the window wants to be run.
fn lines(rig: &mut Rig) -> Vec<String> {
    let acts = rig.effects().into_iter().filter_map(|e| match e {
        Effect::Administer { command, control, .. } => Some(command.line(&control).unwrap_or_else(|| command.doing())),
        _ => None,
    });
    acts.collect()
}

#[test]
fn new_tables_want_a_look_and_the_typed_name() {
    let mut rig = open(root(None), AdminPage::Tables);
    rig.type_into("Device or image for the tables", "/srv/new.img");
    rig.type_into("Label of the tables", "studio");
    assert!(!rig.has("Make the tables"), "not before somebody has looked");
    rig.click("Look at what is on it");
    assert_eq!(lines(&mut rig), ["looking at /srv/new.img"]);
    let probe = Probe { path: "/srv/new.img".into(), text: "There is no such file".into(), absent: true, full: false };
    rig.tell(Event::Administered {
        command: AdminCommand::Probe("/srv/new.img".into()),
        result: Ok(Administered::Probe(probe)),
    });
    assert!(rig.harness.get_by_label("Make the tables").accesskit_node().is_disabled());
    rig.type_into("Confirm by typing the name", "new.img");
    rig.click("Make the tables");
    assert_eq!(lines(&mut rig), ["sudo volctl init /srv/new.img --label studio --size 16M"]);
    assert_eq!(rig.harness.state().model.admin.control, "/srv/new.img", "the next acts are on the new tables");
}

#[test]
fn a_client_and_a_volume_are_added_and_privileges_set() {
    let mut rig = open(root(None), AdminPage::Clients);
    rig.type_into("Name of the new client", "carol");
    rig.click("Add the client");
    assert_eq!(lines(&mut rig), ["sudo volctl client add carol --control /c.img"]);
    rig.click("bob may take over");
    rig.click("bob answers: yes while nothing writes");
    let expected = [
        "sudo volctl set-client bob admin on --control /c.img",
        "sudo volctl set-client bob auto-response idle --control /c.img",
    ];
    assert_eq!(lines(&mut rig), expected);
    rig.click("Page Privileges");
    let _ = rig.effects();
    rig.click("bob on footage: read");
    rig.click("alice on footage: locked out of asking");
    let expected = [
        "sudo volctl allow bob footage read --lockout off --auto-update on --check 2000ms --control /c.img",
        "sudo volctl allow alice footage write --lockout on --auto-update on --check 2000ms --control /c.img",
    ];
    assert_eq!(lines(&mut rig), expected);
}

#[test]
fn a_new_file_system_wants_the_devices_own_name() {
    let mut rig = open(root(None), AdminPage::Volumes);
    rig.click("Devices and images of this computer");
    rig.click("Use /dev/vdb");
    let _ = rig.effects();
    rig.type_into("Name of the new volume", "scratch");
    let probe = Probe { path: "/dev/vdb".into(), text: "On it now: xfs".into(), absent: false, full: true };
    rig.tell(Event::Administered {
        command: AdminCommand::Probe("/dev/vdb".into()),
        result: Ok(Administered::Probe(probe)),
    });
    rig.click("make ext4");
    assert!(rig.harness.get_by_label("Add the volume").accesskit_node().is_disabled());
    rig.type_into("Confirm the volume by typing the name", "vdb");
    rig.click("Add the volume");
    assert_eq!(
        lines(&mut rig),
        ["sudo volctl volume add scratch --device /dev/vdb --mkfs ext4 --force --control /c.img"]
    );
}

#[test]
fn what_is_removed_is_asked_for_twice() {
    let mut rig = open(root(None), AdminPage::Volumes);
    rig.click("remove volume footage");
    assert_eq!(lines(&mut rig).len(), 0);
    rig.click("Do not remove volume footage");
    rig.click("remove volume footage");
    rig.click("Yes, remove volume footage");
    assert_eq!(lines(&mut rig), ["sudo volctl volume remove footage --control /c.img"]);
    rig.click("Writing on footage is allowed");
    assert_eq!(lines(&mut rig), ["sudo volctl set footage write-enabled off --control /c.img"]);
}

#[test]
fn without_rights_everything_is_shown_with_the_reason_and_the_command_to_copy() {
    let mut rig = open(model(None), AdminPage::Tables);
    assert!(rig.has("Only root may change the tables"));
    let check =
        rig.names().into_iter().find(|n| n.starts_with("Check the tables now (not now:")).expect("with its reason");
    assert!(rig.harness.get_by_label(&check).accesskit_node().is_disabled());
    rig.click("Copy the command for: Check the tables now");
    assert_eq!(rig.effects(), [Effect::Copy("sudo volctl check /c.img".into())]);
}

#[test]
fn with_pkexec_the_password_is_asked_for_only_when_something_is_wanted() {
    let mut asked = model(None);
    asked.rights.means = Means::Pkexec("/usr/bin/pkexec".into());
    let mut rig = open(asked, AdminPage::Tables);
    assert_eq!(lines(&mut rig).len(), 0);
    assert!(rig.harness.state().model.admin.tables.is_none());
    rig.click("Read the tables");
    assert_eq!(lines(&mut rig), ["reading the tables"]);
}

#[test]
fn a_refusal_of_the_tables_is_shown_and_the_tables_are_read_again() {
    let mut rig = open(root(None), AdminPage::Volumes);
    rig.click("remove volume footage");
    rig.click("Yes, remove volume footage");
    let _ = rig.effects();
    let busy = Failure::busy("footage is not removed", "bob has write access", "ask bob to release, or use --force");
    rig.tell(Event::Administered { command: AdminCommand::RemoveVolume("footage".into()), result: Err(busy) });
    assert!(rig.has("footage is not removed: bob has write access"));
    assert_eq!(lines(&mut rig), ["reading the tables"]);
}

#[test]
fn the_daemon_is_started_for_a_client_of_the_tables() {
    let mut rig = open(root(None), AdminPage::Tables);
    rig.click("This computer is bob");
    rig.click("Start the daemon");
    let effects = rig.effects();
    let [Effect::Administer { command: AdminCommand::StartDaemon, daemon, control, .. }] = effects.as_slice() else {
        panic!("{effects:?}")
    };
    assert_eq!((daemon.client.as_str(), control.as_str()), ("bob", "/c.img"));
    assert_eq!(daemon.socket, "/run/volctl/volctl.sock");
}

#[test]
fn a_takeover_is_offered_where_somebody_else_writes() {
    let mut at = status(vec![written("footage", "bob"), volume("audio")]);
    at.settings.as_mut().expect("settings").admin = true;
    let mut rig = open(root(Some(at)), AdminPage::Tables);
    rig.click("Take footage over from bob");
    assert!(rig.has("bob is there. It is told to stop"));
}

#[test]
fn a_damaged_table_is_checked_from_the_window() {
    let mut rig = open(root(None), AdminPage::Tables);
    rig.click("Check the tables now");
    assert_eq!(lines(&mut rig), ["sudo volctl check /c.img"]);
    let text = "header copy 1: the checksum is wrong; the other copy is good".to_owned();
    rig.tell(Event::Administered { command: AdminCommand::Check(false), result: Ok(Administered::Text(text)) });
    assert!(rig.has("header copy 1: the checksum is wrong"));
    // What was said stands only until something else is done.
    rig.click("Restore lost copies");
    assert!(!rig.has("header copy 1") && rig.has("Under way: restoring lost copies"));
    assert_eq!(lines(&mut rig), ["sudo volctl check /c.img --repair"]);
}
