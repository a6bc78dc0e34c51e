//! `volctl doctor`: what a device is, how it behaves, who uses it, and what it is good for (section 9).
//!
//! It only reads, unless `--write` allows a test on a device that is empty and that nobody uses.

mod advice;
mod latency;
mod propose;
mod report;
mod text;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use lockdriver::device::{Access, BlockDevice, DirectDevice, OpenError};
use lockdriver::reservation::{Fault, fence};

use self::advice::{judge, set};
use self::latency::Latency;
use self::propose::Case;
use self::report::{Control, Device, Direct, Found, Holds, Late, Report, Tried, Use};
use super::init;
use super::init::lock_choice::{Chosen, choose};
use super::storage::{self, Content};
use crate::cli::args::DoctorArgs;
use crate::cli::output::Ui;
use crate::cli::values::LockChoice;
use crate::control::open::{ControlVolume, open_device};
use crate::volumes::describe::{self, Description, DeviceKind};
use crate::volumes::inflight::{self, Inflight};
use crate::volumes::users::users;
use crate::wire::outcome::Failure;

/// Runs `volctl doctor`.
///
/// # Errors
/// The first device's of which nothing, or not enough, can be said; everything else is printed before that.
pub fn run(args: &DoctorArgs, ui: &mut Ui) -> Result<(), Failure> {
    let mut devices = Vec::new();
    for path in &args.devices {
        if ui.is_closed() {
            return Ok(());
        }
        devices.push(device(path, args, ui));
    }
    let set = if devices.len() > 1 { set(&devices) } else { Vec::new() };
    let failure = devices.iter().find_map(|device| device.failure.clone());
    ui.show(&Report { devices, set }, text::words);
    failure.map_or(Ok(()), Err)
}

fn device(path: &Path, args: &DoctorArgs, ui: &mut Ui) -> Device {
    let shown = path.display().to_string();
    match look(path, args, ui) {
        Ok((found, failure)) => Device { path: shown, found: Some(Box::new(found)), failure },
        Err(failure) => Device { path: shown, found: None, failure: Some(failure) },
    }
}

/// What can be told before anything is opened: opening a pipe would wait for ever, and a terminal or tape does something.
fn check_kind(path: &Path) -> Result<fs::Metadata, Failure> {
    let what = format!("{} cannot be examined", path.display());
    let metadata = fs::metadata(path).map_err(|e| {
        let next = match e.kind() {
            std::io::ErrorKind::NotFound => "attach the device, or check the path (lsblk shows what is there)",
            std::io::ErrorKind::PermissionDenied => "run it as root",
            _ => "check the path",
        };
        Failure::failed(&what, e.to_string(), next)
    })?;
    let kind = metadata.file_type();
    let word = match kind {
        _ if kind.is_file() || kind.is_block_device() => None,
        _ if kind.is_dir() => Some("a directory"),
        _ if kind.is_fifo() => Some("a pipe"),
        _ if kind.is_char_device() => Some("a character device"),
        _ => Some("a socket or something else"),
    };
    if let Some(word) = word {
        let next = "name the disk, its partition, or the image itself";
        return Err(Failure::failed(
            what,
            format!("it is {word}, not a block device or an image; it was not opened"),
            next,
        ));
    }
    Ok(metadata)
}

fn look(path: &Path, args: &DoctorArgs, ui: &mut Ui) -> Result<(Found, Option<Failure>), Failure> {
    let metadata = check_kind(path)?;
    let is_device = metadata.file_type().is_block_device();
    let (device, direct_io) = match DirectDevice::open(path, Access::Read) {
        Ok(device) => (Some(device), Direct { works: true, why: None }),
        Err(error @ OpenError::NoDirectIo { .. }) => (None, Direct { works: false, why: Some(error.to_string()) }),
        Err(OpenError::Permission { .. }) if nix::unistd::geteuid().is_root() => return Err(forbidden(path)),
        Err(_) => return Err(open_device(path, Access::Read).err().unwrap_or_else(|| unsteady(path))),
    };
    let size = device.as_ref().map_or(metadata.len(), BlockDevice::len_bytes);
    if size == 0 {
        let what = format!("{} cannot be examined", path.display());
        let next =
            if is_device { "attach a medium, or set the loop device up" } else { "make it larger: truncate -s 16M" };
        return Err(Failure::failed(what, "it has no bytes at all", next));
    }
    let description = describe::describe(path);
    let used_by = users(path);
    let (content, mut failure) = match device.is_some().then(|| storage::content(path)) {
        Some(Ok(content)) => (content, None),
        Some(Err(failure)) => (None, Some(failure)),
        None => (Some(Content::Unknown(0)), None),
    };
    let mut latency = Latency::default();
    let mut tried = None;
    if let (Some(device), None) = (&device, &failure) {
        measure(path, device, args, &mut latency, ui).unwrap_or_else(|e| {
            let what = format!("{} fails", path.display());
            failure = Some(Failure::failed(what, e.to_string(), "look at the device and its path (dmesg)"));
        });
        let empty = content.is_none() && failure.is_none();
        tried = write_test(path, is_device, empty, &used_by, args, &mut latency, ui);
    }
    let (late, settings) = inflight::explain(path);
    let local = is_local(path);
    let case = Case {
        kind: description.kind,
        local,
        several_paths: description.several_paths,
        worst: latency.worst(),
        settings: &settings,
        proven: tried.as_ref().map(|chosen| chosen.kind),
    };
    let proposal = propose::propose(&case);
    let mut found = Found {
        reservations: match tried.as_mut().and_then(|chosen| chosen.reservations.take()) {
            Some(text) => Tried { tried: true, text },
            None => reservations(&description, device.as_ref(), content.as_ref()),
        },
        compare_and_write: match tried.as_mut().and_then(|chosen| chosen.compare.take()) {
            Some(text) => Tried { tried: true, text },
            None => compare_and_write(&description),
        },
        gate: gate_words(is_device),
        size,
        logical_sector: device.as_ref().map(BlockDevice::sector_bytes),
        physical_block: device.as_ref().map(|device| init::stride(device, path).max(device.physical_block_bytes())),
        read_only: is_read_only(path, &metadata),
        direct_io,
        contents: holds(path, &description, content.as_ref(), failure.is_some() || device.is_none()),
        used_by,
        latency,
        inflight: late_words(&late),
        settings,
        good_for: Use::Nothing,
        command: None,
        because: String::new(),
        proposal,
        same: if is_device { (u64::MAX, metadata.rdev()) } else { (metadata.dev(), metadata.ino()) },
        description,
    };
    judge(path, device.as_ref(), content.as_ref(), failure.is_some(), &mut found);
    Ok((found, failure))
}

/// Not even root may open it.
fn forbidden(path: &Path) -> Failure {
    Failure::failed(
        format!("{} cannot be opened", path.display()),
        "root may not open it here: a container's list of devices forbids it, or another program holds it back",
        "run it on the host itself",
    )
}

/// It could be opened a moment later.
fn unsteady(path: &Path) -> Failure {
    Failure::failed(format!("{} cannot be examined", path.display()), "it came and went", "try again")
}

/// An image that only this host's kernel writes, also under a loop device.
fn is_local(path: &Path) -> bool {
    let Ok(metadata) = fs::metadata(path) else { return false };
    if metadata.is_file() {
        return inflight::is_on_local_storage(path) == Some(true);
    }
    let number = metadata.rdev();
    let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
    let backing = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/loop/backing_file"));
    backing.is_ok_and(|backing| {
        let below = Path::new(backing.trim_end());
        below != path && is_local(below)
    })
}

fn is_read_only(path: &Path, metadata: &fs::Metadata) -> bool {
    if metadata.is_file() {
        return nix::unistd::access(path, nix::unistd::AccessFlags::W_OK).is_err();
    }
    let number = metadata.rdev();
    let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
    fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/ro")).is_ok_and(|text| text.trim() == "1")
}

fn progress<'u>(path: &Path, what: &'static str, time: Duration, ui: &'u mut Ui) -> impl FnMut(Duration) + use<'u> {
    let shown = path.display().to_string();
    let mut last = None;
    move |gone: Duration| {
        let second = gone.as_secs();
        if ui.is_terminal() && !ui.json() && last != Some(second) {
            last = Some(second);
            let line = crate::wire::outcome::one_line(&format!("{shown}: {what} {second} of {} s", time.as_secs()));
            ui.text(&format!("\r\x1b[K{line}"));
        }
    }
}

fn measure(
    path: &Path,
    device: &DirectDevice,
    args: &DoctorArgs,
    latency: &mut Latency,
    ui: &mut Ui,
) -> std::io::Result<()> {
    let time = Duration::from_secs(args.seconds.into());
    latency.reads = latency::reads(device, time, &mut progress(path, "reading", time, ui))?;
    erase(ui);
    if is_sparse(path) {
        latency
            .notes
            .push("the image has holes, and reading a hole asks no disk: the figures may be too good".to_owned());
    }
    if is_local(path) {
        latency.notes.push("an image: the figures are those of this host's own disk and file system".to_owned());
    }
    Ok(())
}

fn erase(ui: &mut Ui) {
    if ui.is_terminal() && !ui.json() {
        ui.text("\r\x1b[K");
    }
}

/// Fewer bytes on the disk than in the file; for a loop device what is under it.
fn is_sparse(path: &Path) -> bool {
    let Ok((false, device, inode)) = storage::stands_on(path) else { return false };
    let file = fs::metadata(path).ok().filter(fs::Metadata::is_file).or_else(|| {
        let number = fs::metadata(path).ok()?.rdev();
        let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
        let backing = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/loop/backing_file")).ok()?;
        fs::metadata(backing.trim_end()).ok()
    });
    file.is_some_and(|m| (m.dev(), m.ino()) == (device, inode) && m.blocks().saturating_mul(512) < m.len())
}

fn write_test(
    path: &Path,
    is_device: bool,
    empty: bool,
    used_by: &[String],
    args: &DoctorArgs,
    latency: &mut Latency,
    ui: &mut Ui,
) -> Option<Chosen> {
    let why_not = match () {
        () if !args.write => {
            Some("not asked for: --write allows it, on a device that is empty and not in use".to_owned())
        }
        () if args.seconds == 0 => Some("no time was given".to_owned()),
        () if !empty => Some("it is not empty: somebody, here or on another host, may be using it".to_owned()),
        () if !used_by.is_empty() => Some(format!("this host uses it: {}", used_by.join("; "))),
        () => None,
    };
    latency.not_written = why_not;
    if latency.not_written.is_some() {
        return None;
    }
    let time = Duration::from_secs(args.seconds.into());
    let done = latency::claim(path, is_device).and_then(|(device, _claim)| {
        // Empty while it is claimed, too.
        match storage::content(path) {
            Ok(None) => {
                let times = latency::writes(&device, time, &mut progress(path, "writing", time, ui));
                let chosen = choose(LockChoice::Auto, &device).map_err(|failure| failure.why)?;
                times.map(|times| (times, chosen)).map_err(|e| e.to_string())
            }
            Ok(Some(content)) => Err(format!("it is not empty any more: {content}")),
            Err(failure) => Err(failure.why),
        }
    });
    erase(ui);
    match done {
        Ok(((plain, stable), chosen)) => {
            (latency.writes, latency.stable_writes) = (plain, stable);
            Some(chosen)
        }
        Err(why) => {
            latency.not_written = Some(why);
            None
        }
    }
}

fn late_words(late: &Inflight) -> Late {
    match late {
        Inflight::Bounded(time) => Late { bound: "bounded", ms: u64::try_from(time.as_millis()).ok(), why: None },
        Inflight::Unbounded(why) => Late { bound: "unbounded", ms: None, why: Some(why.clone()) },
        Inflight::Unknown(why) => Late { bound: "unknown", ms: None, why: Some(why.clone()) },
    }
}

/// What the gates of a volume on it would be on this host.
fn gate_words(is_device: bool) -> String {
    match is_device.then(lockdriver::gate::mapper_works) {
        None => "a loop device, as for every image".to_owned(),
        Some(Ok(())) => "device-mapper (it answers)".to_owned(),
        Some(Err(why)) => format!("a loop device: {why}"),
    }
}

/// Whether the thing at the bottom is of a kind that can have reservations.
fn can_reserve(description: &Description) -> bool {
    description.disks.iter().any(|disk| disk.starts_with("sd") || disk.starts_with("nvme"))
        && !matches!(description.kind, DeviceKind::File | DeviceKind::Loop)
}

/// Reading who is registered changes nothing; whether anybody is kept out only trying would tell.
fn stands(device: &DirectDevice, content: Option<&Content>) -> String {
    let table = match content {
        Some(Content::Control(superblock)) => superblock.uuid,
        _ => ondisk::Uuid::nil(),
    };
    match device.commands().map(|on| fence::describe(on, table)) {
        None => "none: this is no block device".to_owned(),
        Some(Err(Fault::Unsupported(why))) => format!("none: the device does not know them ({why})"),
        Some(Err(why)) => format!("unknown: {why}"),
        Some(Ok(Some(what))) => what,
        Some(Ok(None)) => {
            "nobody is registered; whether it would keep anybody out only trying tells: --write, while it is empty"
                .to_owned()
        }
    }
}

fn reservations(description: &Description, device: Option<&DirectDevice>, content: Option<&Content>) -> Tried {
    let text = match description.kind {
        DeviceKind::File => "none: an image file has no reservations".to_owned(),
        DeviceKind::Loop => "none: a loop device passes no reservations on".to_owned(),
        DeviceKind::Virtio => "none: a virtio disk passes no reservations on".to_owned(),
        DeviceKind::Partition => {
            "not tried; they are of the whole disk, so give a control volume a disk of its own".to_owned()
        }
        _ => device.map_or_else(|| "unknown: it could not be opened".to_owned(), |device| stands(device, content)),
    };
    Tried { tried: false, text }
}

fn compare_and_write(description: &Description) -> Tried {
    let is_scsi = can_reserve(description) && description.disks.iter().all(|disk| disk.starts_with("sd"));
    let text = match (is_scsi, description.caw_blocks) {
        (true, Some(0)) => "not tried; the disk's page B0h says that it has none".to_owned(),
        (true, Some(blocks)) => format!("not tried; the disk's page B0h says up to {blocks} blocks"),
        (true, None) => "not tried; the kernel has no page B0h of it".to_owned(),
        (false, _) => "none: only SCSI disks have it".to_owned(),
    };
    Tried { tried: false, text }
}

fn holds(path: &Path, description: &Description, content: Option<&Content>, unread: bool) -> Holds {
    let plain = |kind, text: String| Holds { kind, text, control: None };
    match content {
        _ if unread => plain("not_read", "it was not read".to_owned()),
        None => plain("empty", "nothing: its beginning and its end are zeroes".to_owned()),
        Some(Content::Control(superblock)) => {
            let beating = ControlVolume::open(path, Access::Read).map_or_else(|_| Vec::new(), |v| init::beating(&v));
            let text = match beating.as_slice() {
                [] => format!("{}; nobody beats in it", Content::Control(superblock.clone())),
                names => format!("{}; {} beats in it", Content::Control(superblock.clone()), names.join(", ")),
            };
            let control = Control {
                uuid: superblock.uuid,
                label: superblock.label.to_string(),
                lock: superblock.lock,
                timings: superblock.timings,
                beating,
            };
            Holds { kind: "control_volume", text, control: Some(control) }
        }
        Some(content) => {
            let kind = match content {
                Content::Envelope => "envelope",
                Content::FileSystem(_) => "file_system",
                Content::Partitions(_) if description.kind == DeviceKind::Partition => "boot_sector",
                Content::Partitions(_) => "partition_table",
                Content::ControlUnknown => "control_volume",
                Content::Control(_) | Content::Short(_) | Content::Unknown(_) => "unknown",
            };
            plain(kind, content.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_examined_is_named_and_never_opened() {
        let dir = tempfile::tempdir().expect("a directory");
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        let why = |path: &Path| check_kind(path).expect_err("refused").why;
        assert!(why(&pipe).contains("a pipe"));
        assert!(why(dir.path()).contains("a directory"));
        assert!(why(Path::new("/dev/null")).contains("a character device"));
        assert!(check_kind(&dir.path().join("none")).expect_err("not there").next.contains("lsblk"));
    }
}
