//! `volctl allow` and `volctl set`: who may do what with which volume (section 9).

use lockdriver::transaction::Change;
use ondisk::{Access, Permission};
use serde::Serialize;

use super::revoke::{self, Scope, entry};
use crate::cli::args::{AllowArgs, SetArgs};
use crate::cli::output::Ui;
use crate::cli::values::{AccessChoice, VolumeKey};
use crate::units::format_duration;
use crate::wire::outcome::Failure;

#[derive(Debug, Serialize)]
struct Allowed {
    client: String,
    volume: String,
    #[serde(flatten)]
    permission: Permission,
}

/// Runs `volctl allow`.
///
/// # Errors
/// Refused (3) for unknown names; busy (5) when it takes away what the client holds now, without --force.
pub fn allow(args: &AllowArgs, ui: &mut Ui) -> Result<(), Failure> {
    let check_ms = args.check.map(|time| u32::try_from(time.as_millis())).transpose().map_err(|_| {
        Failure::usage("--check is too long", "at most 49 days are possible", "give a time such as --check 2s")
    })?;
    if check_ms == Some(0) {
        return Err(Failure::usage("--check is zero", "a client cannot look all the time", "use --auto-update off"));
    }
    let new = |old: Permission| {
        let access = match args.access {
            AccessChoice::None => Access::None,
            AccessChoice::Read => Access::Read,
            AccessChoice::Write => Access::Write,
        };
        let switch = |choice: Option<crate::cli::values::OnOff>, old: bool| choice.map_or(old, |c| c.is_on());
        let (lockout, auto_update) = (switch(args.lockout, old.lockout), switch(args.auto_update, old.auto_update));
        Permission::new(access, lockout, auto_update, check_ms.unwrap_or(old.check_ms))
    };
    let allowed = super::logged_on(&args.tables.control, ui, |session, notes| {
        let loses_write = args.access != AccessChoice::Write;
        let mut ended = Vec::new();
        if args.force && loses_write {
            let (slot, volume) = session.poll(|world| {
                let (slot, _) = super::client(world.tables, &args.client)?;
                let (_, table) = super::volume(world.tables, &args.volume)?;
                Ok::<_, Failure>((slot, table.uuid))
            })??;
            ended = revoke::revoke(session, notes, &Scope::Of(slot, volume), &|world, change| {
                let (slot, _) = super::client(world.tables, &args.client)?;
                let (index, table) = super::volume(world.tables, &args.volume)?;
                let table = entry(change, index, table);
                let permission = table.permission(slot);
                table.permissions[slot.index()] = new(permission);
                Ok(())
            })?;
        }
        super::commit(session, |_, world| {
            let (slot, _) = super::client(world.tables, &args.client)?;
            let (index, table) = super::volume(world.tables, &args.volume)?;
            let scope = Scope::Of(slot, table.uuid);
            let mut change = Change::default();
            if loses_write && args.force {
                revoke::clear_grants(world, &scope, &ended, &mut change)?;
            } else if loses_write {
                revoke::refuse_grants(world, &scope)?;
                if args.access == AccessChoice::None {
                    revoke::refuse_openers(world, table, Some(slot))?;
                }
            }
            let permission = new(table.permission(slot));
            if table.permission(slot) != permission {
                entry(&mut change, index, table).permissions[slot.index()] = permission;
            }
            let told = Allowed { client: args.client.clone(), volume: args.volume.clone(), permission };
            Ok(((!change.volumes.is_empty()).then_some(change), told))
        })
    })?;
    ui.show(&allowed, |a| {
        let p = &a.permission;
        let lockout = if p.lockout { "; it may not ask for the write privilege" } else { "" };
        let update = match p.auto_update {
            true => format!(
                "; looks for newer states every {}",
                format_duration(std::time::Duration::from_millis(p.check_ms.into()))
            ),
            false => "; keeps the state it shows until it is told".to_owned(),
        };
        format!(
            "{} may {} {}{lockout}{}",
            a.client,
            verb(p.access),
            a.volume,
            if p.access == Access::None { "" } else { &update }
        )
    });
    Ok(())
}

fn verb(access: Access) -> &'static str {
    match access {
        Access::None => "do nothing with",
        Access::Read => "read",
        Access::Write => "read and write",
    }
}

#[derive(Debug, Serialize)]
struct Set {
    volume: String,
    write_enabled: bool,
}

/// Runs `volctl set`.
///
/// # Errors
/// Refused (3) for an unknown volume; busy (5) while someone writes it, without --force.
pub fn set(args: &SetArgs, ui: &mut Ui) -> Result<(), Failure> {
    let VolumeKey::WriteEnabled = args.key;
    let on = args.value.is_on();
    let set = super::logged_on(&args.tables.control, ui, |session, notes| {
        let mut ended = Vec::new();
        if args.force && !on {
            let volume = session.poll(|world| super::volume(world.tables, &args.volume).map(|(_, t)| t.uuid))??;
            ended = revoke::revoke(session, notes, &Scope::Volume(volume), &|world, change| {
                let (index, table) = super::volume(world.tables, &args.volume)?;
                entry(change, index, table).write_enabled = false;
                Ok(())
            })?;
        }
        super::commit(session, |_, world| {
            let (index, table) = super::volume(world.tables, &args.volume)?;
            let scope = Scope::Volume(table.uuid);
            let mut change = Change::default();
            match (on, args.force) {
                (false, true) => revoke::clear_grants(world, &scope, &ended, &mut change)?,
                (false, false) => revoke::refuse_grants(world, &scope)?,
                (true, _) => {}
            }
            if table.write_enabled != on {
                entry(&mut change, index, table).write_enabled = on;
            }
            let told = Set { volume: args.volume.clone(), write_enabled: on };
            Ok(((!change.volumes.is_empty()).then_some(change), told))
        })
    })?;
    ui.show(&set, |s| format!("{}: write-enabled {}", s.volume, if s.write_enabled { "on" } else { "off" }));
    Ok(())
}
