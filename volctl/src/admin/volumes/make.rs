//! `volume add --mkfs`: a file system, in an envelope if asked for, on a device or a new image.

use std::io;
use std::path::Path;

use lockdriver::device::{Access, AlignedBuf, BlockDevice, Durability};
use ondisk::envelope::{COPIES, ENVELOPE_BYTES, Envelope};
use ondisk::{FsKind, Name};

use crate::admin::storage::{self, Target};
use crate::cli::args::VolumeAddArgs;
use crate::cli::values::FsChoice;
use crate::control::open::open_device;
use crate::volumes::envelope_io::mkfs_at;
use crate::volumes::fscheck::{MkfsError, mkfs};
use crate::wire::outcome::Failure;

/// Makes what `--mkfs` asks for; None without it.
///
/// # Errors
/// Refused (3) when something is there and --force is not given; busy (5) when this host uses it.
pub(super) fn make_if_asked(
    args: &VolumeAddArgs,
    path: &Path,
    name: &Name,
    notes: &mut dyn FnMut(&str),
) -> Result<Option<Target>, Failure> {
    let Some(choice) = args.mkfs else { return Ok(None) };
    let target = Target::prepare(path, args.size, args.size)?;
    storage::refuse_in_use(path)?;
    if !target.fresh {
        refuse_contents(path, args.force)?;
    }
    notes(&format!("making {} on {}", choice.word(), path.display()));
    let offset = if args.envelope { ENVELOPE_BYTES } else { 0 };
    if args.envelope {
        write_envelope(path, name, choice)?;
    }
    let made = if offset == 0 {
        mkfs(path, kind(choice), name.as_str())
    } else {
        mkfs_at(path, offset, kind(choice), name.as_str())
    };
    made.map_err(|e| no_file_system(path, &e))?;
    let synced = std::fs::File::open(path).and_then(|f| f.sync_all());
    synced.map_err(|e| Failure::failed("the new file system is not stable", e.to_string(), "look at the device"))?;
    Ok(Some(target))
}

fn refuse_contents(path: &Path, force: bool) -> Result<(), Failure> {
    match storage::contents(path)? {
        None => Ok(()),
        Some(_) if force => storage::wipe(path),
        Some(what) => Err(Failure::refused(
            format!("{} is not empty", path.display()),
            format!("rule empty: it holds {what}"),
            "leave --mkfs out to use what is there; --force destroys it",
        )),
    }
}

fn no_file_system(path: &Path, why: &MkfsError) -> Failure {
    let next = match why {
        MkfsError::NoTool { tool } => format!("install the package that has {tool}"),
        MkfsError::NotEmpty { .. } => "leave --mkfs out to use what is there; --force destroys it".to_owned(),
        _ => "btrfs needs about 110M, XFS 300M, ext4 a few; see what the tool said".to_owned(),
    };
    Failure::failed(format!("no file system was made on {}", path.display()), why.to_string(), next)
}

const fn kind(choice: FsChoice) -> FsKind {
    match choice {
        FsChoice::Btrfs => FsKind::Btrfs,
        FsChoice::Ext4 => FsKind::Ext4,
        FsChoice::Xfs => FsKind::Xfs,
    }
}

/// The first MiB: zeroes, then both copies of the header.
fn write_envelope(path: &Path, name: &Name, choice: FsChoice) -> Result<(), Failure> {
    let device = open_device(path, Access::ReadWrite)?;
    let len = device.len_bytes();
    if len <= ENVELOPE_BYTES {
        let why = format!("it has {len} bytes, the envelope alone needs {ENVELOPE_BYTES}");
        return Err(Failure::failed(format!("{} is too small", path.display()), why, "give a larger one"));
    }
    let envelope = Envelope {
        volume: crate::admin::uuid()?,
        name: name.clone(),
        created: crate::admin::now_ms() / 1000,
        fs: match choice {
            FsChoice::Btrfs => FsKind::Btrfs,
            FsChoice::Ext4 => FsKind::Ext4,
            FsChoice::Xfs => FsKind::Xfs,
        },
        data_first: ENVELOPE_BYTES,
        data_length: len - ENVELOPE_BYTES,
    };
    let mut bytes = AlignedBuf::zeroed(usize::try_from(ENVELOPE_BYTES).expect("1 MiB"));
    for offset in COPIES {
        let at = usize::try_from(offset).expect("4096 at most");
        let end = at + ondisk::envelope::COPY_BYTES;
        envelope.encode(offset, &mut bytes[at..end]);
    }
    let write = || -> io::Result<()> {
        device.write_at(0, &bytes, Durability::Fua)?;
        device.flush()
    };
    write()
        .map_err(|e| Failure::failed(format!("no envelope on {}", path.display()), e.to_string(), "look at the device"))
}
