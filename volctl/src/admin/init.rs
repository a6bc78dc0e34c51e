//! `volctl init`: makes a control volume (section 9).

use std::path::Path;
use std::time::Duration;

use lockdriver::device::{Access, AlignedBuf, BlockDevice, DirectDevice, Durability};
use lockdriver::format::{FormatStep, format};
use lockdriver::sys::clock::boottime;
use ondisk::geometry::GeometryError;
use ondisk::slot::{MAX_STRIDE, MIN_STRIDE};
use ondisk::{Geometry, Label, LockKind, SlotSector, Superblock, Timings, Uuid};
use serde::Serialize;

use super::storage::{self, Target};
use crate::cli::args::InitArgs;
use crate::cli::output::Ui;
use crate::control::host::HostLock;
use crate::control::open::{ControlVolume, open_device};
use crate::control::view::View;
use crate::engine::World;
use crate::units::{format_duration, round_size};
use crate::wire::outcome::Failure;

pub(super) mod lock_choice;

/// An image that is made without --size has at least so many bytes.
const IMAGE_BYTES: u64 = 16 << 20;
/// Between two polls of an idle client, unless beats are closer.
const POLL_MS: u32 = 250;

/// What was made.
#[derive(Debug, Serialize)]
struct Made {
    control: String,
    uuid: Uuid,
    label: String,
    lock: LockKind,
    max_clients: u16,
    max_volumes: u16,
    timings: Timings,
    stride: u32,
    size: u64,
    used: u64,
    /// Why this lock kind.
    reasons: Vec<String>,
}

/// Runs `volctl init`.
///
/// # Errors
/// Usage (2) for timings that break a rule; refused (3) when something is there already; busy (5) when it is in use.
pub fn run(args: &InitArgs, ui: &mut Ui) -> Result<(), Failure> {
    let timings = timings(args)?;
    let label = Label::new(args.label.clone().unwrap_or_default())
        .map_err(|e| Failure::usage("the label is not taken", e.to_string(), "give at most 63 bytes"))?;
    let size = args.size.unwrap_or_else(|| default_size(args));
    let target = Target::prepare(&args.control, args.size, Some(size))?;
    let device = open_device(&target.path, Access::ReadWrite)?;
    device.lock_exclusive().map_err(|e| {
        Failure::busy(format!("{} is in use", args.control.display()), e.to_string(), "wait until that program is done")
    })?;
    storage::refuse_in_use(&target.path)?;
    if !target.fresh {
        refuse_contents(&target.path, args.force)?;
    }
    let chosen = lock_choice::choose(args.lock, &device)?;
    let lock = chosen.kind;
    let uuid = super::uuid()?;
    let stride = stride(&device, &target.path);
    let geometry = Geometry::plan(uuid, args.max_clients, args.max_volumes, stride, device.len_bytes())
        .and_then(|geometry| if has_word(lock) { geometry.with_semaphore() } else { Ok(geometry) })
        .map_err(|e| bad_geometry(&args.control, &e))?;
    let superblock = geometry.superblock(lock, timings, label, super::now_ms() / 1000);
    write(&device, &geometry, &superblock).map_err(|e| {
        let what = format!("{} could not be made into a control volume", args.control.display());
        Failure::failed(what, e.to_string(), "look at the device; what was made so far is no control volume")
    })?;
    let made = Made {
        control: args.control.display().to_string(),
        uuid,
        label: superblock.label.to_string(),
        lock,
        max_clients: args.max_clients,
        max_volumes: args.max_volumes,
        timings,
        stride,
        size: superblock.total,
        used: geometry.free_area().start + u64::from(ondisk::superblock::SUPERBLOCK_BYTES),
        reasons: chosen.reasons,
    };
    drop(device);
    ControlVolume::open(&target.path, Access::Read)?;
    target.keep();
    if lock == LockKind::Ofd {
        ui.remark("lock ofd: it keeps clients apart only within one kernel, or on a file system with coherent locks");
    }
    for reason in &made.reasons {
        ui.remark(reason);
    }
    ui.show(&made, words);
    Ok(())
}

fn words(made: &Made) -> String {
    let t = &made.timings;
    let time = |d: Duration| format_duration(d);
    format!(
        "made the control volume {}, {}\n  for {} clients and {} volumes; lock {}; beat {}, lease {}, dead {}\n  \
         uses {} of {}; a slot sector has {} bytes\n",
        made.control,
        made.uuid,
        made.max_clients,
        made.max_volumes,
        made.lock.word(),
        time(t.beat()),
        time(t.lease()),
        time(t.dead()),
        round_size(made.used),
        round_size(made.size),
        made.stride,
    )
}

fn timings(args: &InitArgs) -> Result<Timings, Failure> {
    let next = "leave --beat, --lease and --dead out for 1s, 8s and 12s";
    let ms = |name: &str, time: Duration| {
        u32::try_from(time.as_millis())
            .map_err(|_| Failure::usage(format!("--{name} is too long"), "at most a day is possible", next))
    };
    let beat_ms = ms("beat", args.beat)?;
    let timings = Timings {
        beat_ms,
        lease_ms: ms("lease", args.lease)?,
        dead_ms: ms("dead", args.dead)?,
        poll_ms: POLL_MS.min(beat_ms),
    };
    match timings.broken_rule() {
        None => Ok(timings),
        Some(rule) => {
            let given = [args.beat, args.lease, args.dead].map(format_duration);
            let [beat, lease, dead] = given;
            Err(Failure::usage(
                "these timings are not safe",
                format!("rule timings: {rule} (beat {beat}, lease {lease}, dead {dead})"),
                next,
            ))
        }
    }
}

/// The kinds whose control volumes have a region for the semaphore.
fn has_word(lock: LockKind) -> bool {
    matches!(lock, LockKind::Pr | LockKind::Caw)
}

/// 16M, or what the asked-for geometry needs.
fn default_size(args: &InitArgs) -> u64 {
    match Geometry::plan(Uuid::nil(), args.max_clients, args.max_volumes, 4096, IMAGE_BYTES) {
        Err(GeometryError::TooSmall { needed, .. }) => needed.next_multiple_of(1 << 20),
        _ => IMAGE_BYTES,
    }
}

/// The unit that the medium writes. For an image, also under a loop device, that is the block of the file system under
/// it, which reads, changes and writes whole ones: two slots in one block could be torn together (trace C3).
pub(super) fn stride(device: &DirectDevice, path: &Path) -> u32 {
    let mut stride = device.physical_block_bytes().max(device.sector_bytes());
    if storage::stands_on(path).is_ok_and(|(is_device, ..)| !is_device) {
        let block = nix::sys::statfs::statfs(path).map_or(4096, |s| s.block_size());
        stride = stride.max(u32::try_from(block).unwrap_or(4096)).max(4096);
    }
    stride.checked_next_power_of_two().unwrap_or(MAX_STRIDE).clamp(MIN_STRIDE, MAX_STRIDE)
}

fn bad_geometry(path: &Path, why: &GeometryError) -> Failure {
    let next = match why {
        GeometryError::TooSmall { needed, .. } => {
            format!("give at least {}, or fewer --max-clients and --max-volumes", round_size(*needed + (1 << 20)))
        }
        _ => "see `volctl init --help`".to_owned(),
    };
    Failure::failed(format!("{} cannot hold the tables", path.display()), why.to_string(), next)
}

/// Without --force only zeroes are overwritten; with it anything that no living client uses.
fn refuse_contents(path: &Path, force: bool) -> Result<(), Failure> {
    let Some(what) = storage::contents(path)? else { return Ok(()) };
    if !force {
        return Err(Failure::refused(
            format!("{} is not empty", path.display()),
            format!("rule empty: it holds {what}"),
            "check the path; `volctl init --force` destroys what is there",
        ));
    }
    let Ok(volume) = ControlVolume::open(path, Access::Read) else { return Ok(()) };
    let alive = beating(&volume);
    if alive.is_empty() {
        return Ok(());
    }
    Err(Failure::busy(
        format!("{} is in use", path.display()),
        format!("{} beats in it", alive.join(", ")),
        "stop every daemon and command that uses it, then try again",
    ))
}

/// The names of those whose slots change within two beats.
pub(super) fn beating(volume: &ControlVolume) -> Vec<String> {
    let timings = volume.superblock.timings;
    let mut view = View::new(volume);
    let begun = boottime();
    let mut first = None;
    let mut alive = Vec::new();
    while boottime().saturating_sub(begun) < 2 * timings.beat() + timings.poll() {
        view.read_slots();
        // Names are for people; damaged tables have none.
        let _ = view.load_tables();
        let poll = view.decoder.poll();
        let seen: Vec<_> = poll.slots.iter().map(|r| [r.sectors[0].token(), r.sectors[1].token()]).collect();
        let first = first.get_or_insert_with(|| seen.clone());
        for (index, (was, is)) in first.iter().zip(&seen).enumerate() {
            if was != is && !alive.contains(&index) {
                alive.push(index);
            }
        }
        std::thread::sleep(timings.poll().min(Duration::from_millis(100)));
    }
    let name = |world: Option<&World<'_>>, index: usize| {
        let slot = ondisk::SlotIndex(u16::try_from(index).unwrap_or(u16::MAX));
        world.map_or_else(|| format!("slot {slot}"), |w| w.name(slot))
    };
    let world = view.world();
    alive.into_iter().map(|index| name(world.as_ref(), index)).collect()
}

/// Writes everything, superblocks last. The first administration slot is left as left by this machine, if it has a
/// place for lock files, so that its first command need not wait.
fn write(device: &DirectDevice, geometry: &Geometry, superblock: &Superblock) -> std::io::Result<()> {
    let lock = HostLock::take(superblock.uuid, superblock.max_clients, "another command").ok();
    let admin = lock.as_ref().map(|lock| SlotSector {
        machine_id: lock.host.machine_id,
        boot_id: lock.host.boot_id,
        lock_file: lock.host.lock_file,
        ..SlotSector::default()
    });
    for step in format(geometry, superblock, admin) {
        match step {
            FormatStep::Write { offset, bytes } => {
                let mut aligned = AlignedBuf::zeroed(bytes.len());
                aligned.copy_from_slice(&bytes);
                device.write_at(offset, &aligned, Durability::Plain)?;
            }
            FormatStep::Flush => device.flush()?,
        }
    }
    Ok(())
}
