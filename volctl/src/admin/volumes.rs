//! `volctl volume add | remove | list` (section 9).

mod adopt;
mod make;

use std::path::{Path, PathBuf};

use lockdriver::tables::Tables;
use lockdriver::transaction::Change;
use ondisk::{
    Access, FsKind, Generation, Identity, Label, Message, Permission, ReadersPolicy, Uuid, VolumeIndex, VolumeTable,
};
use serde::Serialize;

use self::adopt::Found;
use super::revoke::{self, Scope, entry};
use super::storage;
use crate::cli::args::{ControlArgs, RemoveArgs, VolumeAddArgs, VolumeCommand};
use crate::cli::output::{Ui, table};
use crate::cli::values::ReadersChoice;
use crate::units::round_size;
use crate::wire::outcome::Failure;

/// Runs `volctl volume`.
///
/// # Errors
/// Refused (3) by a rule, busy (5) while somebody uses the volume, failed (1) for a device that is none.
pub fn run(command: &VolumeCommand, ui: &mut Ui) -> Result<(), Failure> {
    match command {
        VolumeCommand::Add(args) => add(args, ui),
        VolumeCommand::Remove(args) => remove(args, ui),
        VolumeCommand::List(args) => list(args, ui),
    }
}

/// A volume as the list and `volume add` show it.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    index: VolumeIndex,
    uuid: Uuid,
    device: String,
    fs: FsKind,
    readers: ReadersPolicy,
    write_enabled: bool,
    identity: Identity,
    writer: Option<String>,
    generation: Generation,
    dirty: bool,
    permissions: Vec<Allowed>,
}

#[derive(Debug, Serialize)]
struct Allowed {
    client: String,
    #[serde(flatten)]
    permission: Permission,
}

impl Listed {
    fn of(tables: &Tables, index: VolumeIndex, volume: &VolumeTable) -> Self {
        let allowed = tables.clients().filter(|(slot, _)| volume.permission(*slot).access != Access::None);
        Self {
            name: volume.name.to_string(),
            index,
            uuid: volume.uuid,
            device: volume.device.to_string(),
            fs: volume.fs,
            readers: volume.readers,
            write_enabled: volume.write_enabled,
            identity: volume.identity.clone(),
            writer: volume.writer.and_then(|g| tables.client(g.slot)).map(|c| c.name.to_string()),
            generation: volume.last,
            dirty: volume.dirty_since != 0,
            permissions: allowed
                .map(|(slot, c)| Allowed { client: c.name.to_string(), permission: volume.permission(slot) })
                .collect(),
        }
    }
}

fn add(args: &VolumeAddArgs, ui: &mut Ui) -> Result<(), Failure> {
    let name = super::name(&args.name)?;
    let path = absolute(&args.device)?;
    let device = path.to_str().and_then(|p| Message::new(p).ok()).ok_or_else(|| {
        let why = format!("its path has {} bytes, or is no UTF-8; 255 bytes are possible", path.as_os_str().len());
        Failure::refused(format!("volume {name} was not added"), why, "give a shorter path, such as a symbolic link")
    })?;
    let (listed, told) = super::logged_on(&args.tables.control, ui, |session, notes| {
        // Looked at before anything is destroyed, and once more under the semaphore.
        session.poll(|world| free_place(world.tables, name.as_str()).map(drop))??;
        refuse_control(&path, &args.tables.control)?;
        let made = make::make_if_asked(args, &path, &name, notes)?;
        let found = adopt::find(&path, args.envelope)?;
        let readers = readers(args.readers, found.fs)?;
        let uuid = found.volume.map_or_else(super::uuid, Ok)?;
        let listed = super::commit(session, |_, world| {
            let index = free_place(world.tables, name.as_str())?;
            refuse_known(world.tables, name.as_str(), uuid, &path, &found)?;
            let table = VolumeTable {
                name: name.clone(),
                uuid,
                identity: found.identity.clone(),
                fs: found.fs,
                readers,
                write_enabled: true,
                device: device.clone(),
                writer: None,
                dirty_since: 0,
                next: None,
                last: Generation::NONE,
                modified_ms: 0,
                check_due: false,
                permissions: vec![Permission::default(); world.tables.clients.len()],
            };
            let listed = Listed::of(world.tables, index, &table);
            Ok((Some(Change::volume(index, Some(table))), listed))
        })?;
        if let Some(target) = made {
            target.keep();
        }
        Ok((listed, found.told))
    })?;
    for line in told {
        ui.remark(&line);
    }
    if args.readers.is_none() {
        ui.remark(&format!("readers {}: {}", listed.readers.word(), promise(listed.readers)));
    }
    ui.show(&listed, |v| {
        format!(
            "volume {} added: {} on {}, {}, readers {}; no client may use it until `volctl allow` says so",
            v.name,
            v.fs.word(),
            v.device,
            round_size(v.identity.size),
            v.readers.word()
        )
    });
    Ok(())
}

/// What readers are promised (section 8).
fn promise(readers: ReadersPolicy) -> &'static str {
    match readers {
        ReadersPolicy::Snapshot => "every byte that a reader sees belongs to one published state",
        ReadersPolicy::Exclusive => "readers and the writer never overlap",
        ReadersPolicy::Live => {
            "while someone writes, readers may see old, missing or another file's bytes until their next refresh; \
             --readers exclusive prevents it"
        }
    }
}

fn readers(choice: Option<ReadersChoice>, fs: FsKind) -> Result<ReadersPolicy, Failure> {
    match (choice, fs) {
        (None | Some(ReadersChoice::Snapshot), FsKind::Btrfs) => Ok(ReadersPolicy::Snapshot),
        (Some(ReadersChoice::Snapshot), fs) => Err(Failure::refused(
            format!("readers snapshot is not possible on {}", fs.word()),
            "rule readers: only btrfs has snapshots that readers can mount while the writer goes on",
            "use --readers exclusive, or --readers live, or make the volume with --mkfs btrfs",
        )),
        (Some(ReadersChoice::Exclusive), _) => Ok(ReadersPolicy::Exclusive),
        (None | Some(ReadersChoice::Live), _) => Ok(ReadersPolicy::Live),
    }
}

/// The path as every later command can use it. Links among the device nodes stay: they are there to last.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let failed = |e: std::io::Error| {
        let what = format!("{} cannot be used", path.display());
        Failure::failed(what, e.to_string(), "give the path of a block device or an image")
    };
    if path.starts_with("/dev") {
        return Ok(path.to_owned());
    }
    if path.symlink_metadata().is_ok() {
        return path.canonicalize().map_err(failed);
    }
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = path.file_name().ok_or_else(|| failed(std::io::ErrorKind::InvalidInput.into()))?;
    Ok(parent.canonicalize().map_err(failed)?.join(file))
}

fn free_place(tables: &Tables, name: &str) -> Result<VolumeIndex, Failure> {
    let what = format!("volume {name} was not added");
    if let Some((index, _)) = tables.find_volume(name) {
        return Err(Failure::refused(
            what,
            format!("rule unique names: volume {index} has that name"),
            "give another name",
        ));
    }
    tables.free_volume().ok_or_else(|| {
        let why = format!("rule limits: the tables are made for {} volumes, and all are in use", tables.volumes.len());
        let next = "remove one with `volctl volume remove`, or make tables for more with `volctl init --max-volumes`";
        Failure::refused(what, why, next)
    })
}

fn refuse_control(device: &Path, control: &Path) -> Result<(), Failure> {
    let same = storage::stands_on(device).ok().zip(storage::stands_on(control).ok()).is_some_and(|(a, b)| a == b);
    if !same {
        return Ok(());
    }
    Err(Failure::refused(
        format!("{} cannot be a volume", device.display()),
        "rule control volume: it is the control volume itself",
        "give another device",
    ))
}

/// One device is one volume, under one name.
fn refuse_known(tables: &Tables, name: &str, uuid: Uuid, path: &Path, found: &Found) -> Result<(), Failure> {
    let here = storage::stands_on(path).ok();
    for (_, other) in tables.volumes() {
        let same_place = here.is_some() && storage::stands_on(Path::new(other.device.as_str())).ok() == here;
        let why = if other.uuid == uuid {
            "has its envelope"
        } else if other.identity.fs_uuid == found.identity.fs_uuid {
            "is the same file system, by its UUID"
        } else if same_place {
            "is the same device"
        } else {
            continue;
        };
        return Err(Failure::refused(
            format!("volume {name} was not added"),
            format!("rule one volume, one name: {} {why}", other.name),
            format!("use {}, or remove it first", other.name),
        ));
    }
    Ok(())
}

#[derive(Debug, Serialize)]
struct Removed {
    volume: String,
}

fn remove(args: &RemoveArgs, ui: &mut Ui) -> Result<(), Failure> {
    let removed = super::logged_on(&args.tables.control, ui, |session, notes| {
        let mut ended = Vec::new();
        if args.force {
            let volume = session.poll(|world| super::volume(world.tables, &args.name).map(|(_, t)| t.uuid))??;
            ended = revoke::revoke(session, notes, &Scope::Volume(volume), &|world, change| {
                let (index, table) = super::volume(world.tables, &args.name)?;
                let table = entry(change, index, table);
                table.write_enabled = false;
                table.permissions.fill(Permission::default());
                Ok(())
            })?;
            revoke::wait_until_closed(session, notes, volume)?;
        }
        super::commit(session, |_, world| {
            let (index, table) = super::volume(world.tables, &args.name)?;
            let mut cleared = Change::default();
            revoke::clear_grants(world, &Scope::Volume(table.uuid), &ended, &mut cleared)?;
            if !args.force {
                revoke::refuse_openers(world, table, None)?;
            }
            Ok((Some(Change::volume(index, None)), Removed { volume: args.name.clone() }))
        })
    })?;
    ui.show(&removed, |r| format!("volume {} is removed from the tables; what is on it stays as it is", r.volume));
    Ok(())
}

#[derive(Debug, Serialize)]
struct List {
    volumes: Vec<Listed>,
}

fn list(args: &ControlArgs, ui: &mut Ui) -> Result<(), Failure> {
    let volumes = super::read_tables(&args.control, |tables, _| {
        tables.volumes().map(|(index, volume)| Listed::of(tables, index, volume)).collect()
    })?;
    ui.show(&List { volumes }, |list| {
        let head = ["NAME", "FS", "SIZE", "READERS", "WRITER", "STATE", "DEVICE", "ALLOWED"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(list.volumes.iter().map(row));
        if list.volumes.is_empty() {
            "no volumes yet: `volctl volume add NAME --device PATH --control CONTROL`".to_owned()
        } else {
            table(&rows)
        }
    });
    Ok(())
}

fn row(v: &Listed) -> Vec<String> {
    let allowed: Vec<String> =
        v.permissions.iter().map(|a| format!("{}:{}", a.client, a.permission.access.word())).collect();
    let state = match (&v.writer, v.write_enabled, v.dirty) {
        (_, false, _) => "write-disabled",
        (Some(_), true, _) => "written",
        (None, true, true) => "dirty",
        (None, true, false) => "clean",
    };
    let dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    vec![
        v.name.clone(),
        v.fs.word().to_owned(),
        round_size(v.identity.size),
        v.readers.word().to_owned(),
        dash(v.writer.clone().unwrap_or_default()),
        state.to_owned(),
        v.device.clone(),
        dash(allowed.join(" ")),
    ]
}

/// The words of the identity that the tables keep, from what the device says.
fn identity(found: &crate::volumes::identify::Identity) -> Identity {
    Identity {
        fs_uuid: found.fs_uuid,
        partition: found.partition_uuid.unwrap_or_default(),
        wwid: Label::cut(found.wwid.as_deref().unwrap_or_default()),
        size: found.size_bytes,
        enveloped: found.offset_bytes != 0,
    }
}
