//! `volctl client add | remove | list` and `volctl set-client` (section 9).

use lockdriver::poll::Poll;
use lockdriver::tables::Tables;
use lockdriver::transaction::Change;
use ondisk::{AutoResponse, ClientRecord, Label, Permission, SlotIndex, Uuid};
use serde::Serialize;

use super::revoke::{self, Scope};
use crate::cli::args::{ClientAddArgs, ClientCommand, ControlArgs, RemoveArgs, SetClientArgs};
use crate::cli::output::{Ui, table};
use crate::cli::values::{self, ClientSetting};
use crate::engine::ops::unreadable_up_to;
use crate::engine::{Peer, World};
use crate::wire::outcome::Failure;

/// Runs `volctl client`.
///
/// # Errors
/// Refused (3) by a rule, busy (5) while it is logged on, damage (6).
pub fn run(command: &ClientCommand, ui: &mut Ui) -> Result<(), Failure> {
    match command {
        ClientCommand::Add(args) => add(args, ui),
        ClientCommand::Remove(args) => remove(args, ui),
        ClientCommand::List(args) => list(args, ui),
    }
}

#[derive(Debug, Serialize)]
struct Changed {
    client: String,
    slot: SlotIndex,
    #[serde(skip)]
    text: String,
}

fn add(args: &ClientAddArgs, ui: &mut Ui) -> Result<(), Failure> {
    let name = super::name(&args.name)?;
    let uuid = super::uuid()?;
    let changed = super::logged_on(&args.tables.control, ui, |session, _| {
        super::commit(session, |_, world| {
            let slot = free_slot(world.tables, name.as_str())?;
            let record = ClientRecord {
                name: name.clone(),
                host: Label::default(),
                uuid,
                enabled: true,
                admin: false,
                locked_out: false,
                notify: true,
                auto_response: AutoResponse::Off,
                // The incarnations of a slot that is used again go on.
                logged_on: world.peer(slot).map(|p| p.incarnation).unwrap_or_default(),
            };
            let mut change = Change::client(slot, Some(record));
            forget_permissions(world.tables, slot, &mut change);
            let text = format!("client {name} has slot {slot}; it may do nothing until `volctl allow` says so");
            Ok((Some(change), Changed { client: name.to_string(), slot, text }))
        })
    })?;
    ui.show(&changed, |c| c.text.clone());
    Ok(())
}

fn free_slot(tables: &Tables, name: &str) -> Result<SlotIndex, Failure> {
    let what = format!("client {name} was not added");
    if let Some((slot, _)) = tables.find_client(name) {
        let why = format!("rule unique names: slot {slot} has that name");
        return Err(Failure::refused(what, why, "give another name"));
    }
    tables.free_client().ok_or_else(|| {
        let why = format!("rule limits: the tables are made for {} clients, and all are in use", tables.clients.len());
        let next = "remove one with `volctl client remove`, or make tables for more with `volctl init --max-clients`";
        Failure::refused(what, why, next)
    })
}

/// A slot's next client starts with no permissions.
fn forget_permissions(tables: &Tables, slot: SlotIndex, change: &mut Change) {
    for (index, volume) in tables.volumes().filter(|(_, v)| v.permission(slot) != Permission::default()) {
        if let Some(permission) = revoke::entry(change, index, volume).permissions.get_mut(slot.index()) {
            *permission = Permission::default();
        }
    }
}

fn remove(args: &RemoveArgs, ui: &mut Ui) -> Result<(), Failure> {
    let changed = super::logged_on(&args.tables.control, ui, |session, notes| {
        let slot = session.poll(|world| super::client(world.tables, &args.name).map(|(slot, _)| slot))??;
        let scope = Scope::Client(slot);
        let mut ended = Vec::new();
        if args.force {
            ended = revoke::revoke(session, notes, &scope, &|world, change| {
                let (slot, record) = super::client(world.tables, &args.name)?;
                change.clients.push((slot, Some(ClientRecord { enabled: false, ..record.clone() })));
                forget_permissions(world.tables, slot, change);
                Ok(())
            })?;
            revoke::wait_until_off(session, notes, slot)?;
        }
        super::commit(session, |_, world| {
            let (slot, record) = super::client(world.tables, &args.name)?;
            let mut change = Change::client(slot, None);
            let peer = world.peer(slot);
            match peer {
                Some(p) if p.is_off() || p.reaped => {}
                Some(p) if args.force && p.silent => {
                    let judged =
                        if p.known { p.incarnation } else { unreadable_up_to(world.tables, slot, p.incarnation) };
                    change.reaped.push((slot, judged));
                }
                _ => return Err(logged_on(&args.name, record, peer, args.force)),
            }
            revoke::clear_grants(world, &scope, &ended, &mut change)?;
            forget_permissions(world.tables, slot, &mut change);
            let text = format!("client {} is removed; slot {slot} is free", args.name);
            Ok((Some(change), Changed { client: args.name.clone(), slot, text }))
        })
    })?;
    ui.show(&changed, |c| c.text.clone());
    Ok(())
}

fn logged_on(name: &str, record: &ClientRecord, peer: Option<&Peer>, force: bool) -> Failure {
    let host = if record.host.as_str().is_empty() { "a host" } else { record.host.as_str() };
    let why = match peer {
        Some(p) if p.known => {
            format!("rule live log-on: {name} is logged on from {host}, incarnation {}", p.incarnation)
        }
        _ => format!("rule live log-on: the slot of {name} cannot be read, so nobody knows whether it is logged on"),
    };
    let next =
        if force { "stop its daemon, then try again" } else { "stop its daemon, or use --force if its host is gone" };
    Failure::busy(format!("client {name} was not changed"), why, next)
}

/// A client as the list shows it.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    slot: SlotIndex,
    uuid: Uuid,
    host: String,
    state: &'static str,
    incarnation: u64,
    enabled: bool,
    admin: bool,
    locked_out: bool,
    notify: bool,
    auto_response: AutoResponse,
}

#[derive(Debug, Serialize)]
struct List {
    clients: Vec<Listed>,
}

fn list(args: &ControlArgs, ui: &mut Ui) -> Result<(), Failure> {
    let clients = super::read_tables(&args.control, |tables, poll| {
        tables.clients().map(|(slot, record)| listed(tables, poll, slot, record)).collect()
    })?;
    ui.show(&List { clients }, |list| {
        let yes = |b: bool| if b { "yes" } else { "no" }.to_owned();
        let head = ["NAME", "SLOT", "STATE", "HOST", "ENABLED", "ADMIN", "LOCKED OUT", "ANSWERS"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(list.clients.iter().map(|c| {
            let host = if c.host.is_empty() { "-".to_owned() } else { c.host.clone() };
            let answers = match c.auto_response {
                AutoResponse::Off => "asks",
                AutoResponse::Idle => "when idle",
                AutoResponse::Always => "always yes",
            };
            let (slot, state) = (c.slot.to_string(), c.state.to_owned());
            vec![c.name.clone(), slot, state, host, yes(c.enabled), yes(c.admin), yes(c.locked_out), answers.to_owned()]
        }));
        if list.clients.is_empty() {
            "no clients yet: `volctl client add NAME --control CONTROL`".to_owned()
        } else {
            table(&rows)
        }
    });
    Ok(())
}

fn listed(tables: &Tables, poll: &Poll, slot: SlotIndex, record: &ClientRecord) -> Listed {
    let sector = poll.slot(slot).and_then(|r| r.view.legible().copied()).unwrap_or_default();
    let state = match (sector.logged_on, tables.is_reaped(slot, sector.incarnation)) {
        (false, _) => "off",
        (true, true) => "dead",
        (true, false) => "on",
    };
    Listed {
        name: record.name.to_string(),
        slot,
        uuid: record.uuid,
        host: record.host.to_string(),
        state,
        incarnation: sector.incarnation.0,
        enabled: record.enabled,
        admin: record.admin,
        locked_out: record.locked_out,
        notify: record.notify,
        auto_response: record.auto_response,
    }
}

/// Runs `volctl set-client`.
///
/// # Errors
/// Refused (3) for an unknown client; busy (5) when a client that is logged on would be disabled.
pub fn set(args: &SetClientArgs, setting: ClientSetting, ui: &mut Ui) -> Result<(), Failure> {
    let changed = super::logged_on(&args.tables.control, ui, |session, notes| {
        let disables = setting == ClientSetting::Enabled(false);
        if disables && args.force {
            let slot = session.poll(|world| super::client(world.tables, &args.name).map(|(slot, _)| slot))??;
            let scope = Scope::Client(slot);
            let ended = revoke::revoke(session, notes, &scope, &|world, change| {
                let (slot, record) = super::client(world.tables, &args.name)?;
                change.clients.push((slot, Some(with(record, setting))));
                Ok(())
            })?;
            super::commit(session, |_, world| {
                let mut change = Change::default();
                revoke::clear_grants(world, &scope, &ended, &mut change)?;
                Ok(((!change.volumes.is_empty()).then_some(change), ()))
            })?;
        }
        super::commit(session, |_, world| {
            let (slot, record) = super::client(world.tables, &args.name)?;
            if disables && !args.force {
                refuse_live(world, slot, record)?;
            }
            let new = with(record, setting);
            let change = (new != *record).then(|| Change::client(slot, Some(new)));
            let text = format!("client {}: {}", args.name, words(setting));
            Ok((change, Changed { client: args.name.clone(), slot, text }))
        })
    })?;
    ui.show(&changed, |c| c.text.clone());
    Ok(())
}

fn refuse_live(world: &World<'_>, slot: SlotIndex, record: &ClientRecord) -> Result<(), Failure> {
    match world.peer(slot) {
        Some(p) if p.is_off() || p.reaped => Ok(()),
        peer => Err(logged_on(record.name.as_str(), record, peer, false)),
    }
}

fn with(record: &ClientRecord, setting: ClientSetting) -> ClientRecord {
    let mut record = record.clone();
    match setting {
        ClientSetting::AutoResponse(answer) => {
            record.auto_response = match answer {
                values::AutoResponse::Off => AutoResponse::Off,
                values::AutoResponse::Idle => AutoResponse::Idle,
                values::AutoResponse::Always => AutoResponse::Always,
            };
        }
        ClientSetting::Admin(on) => record.admin = on,
        ClientSetting::Enabled(on) => record.enabled = on,
        ClientSetting::LockedOut(on) => record.locked_out = on,
        ClientSetting::Notify(on) => record.notify = on,
    }
    record
}

fn words(setting: ClientSetting) -> String {
    let on = |name: &str, on: bool| format!("{name} {}", if on { "on" } else { "off" });
    match setting {
        ClientSetting::AutoResponse(values::AutoResponse::Off) => "auto-response off".to_owned(),
        ClientSetting::AutoResponse(values::AutoResponse::Idle) => "auto-response idle".to_owned(),
        ClientSetting::AutoResponse(values::AutoResponse::Always) => "auto-response always".to_owned(),
        ClientSetting::Admin(x) => on("admin", x),
        ClientSetting::Enabled(x) => on("enabled", x),
        ClientSetting::LockedOut(x) => on("locked-out", x),
        ClientSetting::Notify(x) => on("notify", x),
    }
}
