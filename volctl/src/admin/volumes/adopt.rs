//! What `volume add` finds on a device: a file system of its own, or one in an envelope. Nothing is written.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use lockdriver::device::{Access, BlockDevice};
use ondisk::block::Kind;
use ondisk::envelope::{COPIES, COPY_BYTES, ENVELOPE_BYTES, Envelope};
use ondisk::{FsKind, Identity, Uuid, Verdict};

use crate::admin::storage;
use crate::control::open::{open_device, read};
use crate::volumes::identify::{self, IdentityError};
use crate::volumes::inflight::{self, Inflight};
use crate::wire::outcome::Failure;

/// Smaller devices are mistakes.
const MIN_BYTES: u64 = 4 << 20;

/// A volume as it was found.
#[derive(Debug)]
pub(super) struct Found {
    /// By what it is recognised.
    pub(super) identity: Identity,
    /// Its file system.
    pub(super) fs: FsKind,
    /// Its UUID, if it lies in an envelope that names one.
    pub(super) volume: Option<Uuid>,
    /// What the person should know.
    pub(super) told: Vec<String>,
}

/// Looks at a device that may become a volume.
///
/// # Errors
/// Failed (1) when there is no volume; busy (5) when this host uses it; refused (3) for an envelope that is not there.
pub(super) fn find(path: &Path, wants_envelope: bool) -> Result<Found, Failure> {
    let device = open_device(path, Access::Read)?;
    let len = device.len_bytes();
    storage::refuse_in_use(path)?;
    if len < MIN_BYTES {
        return Err(Failure::failed(
            format!("{} cannot be a volume", path.display()),
            format!("it has only {len} bytes"),
            "give a device of at least 4M",
        ));
    }
    let envelope = envelope(&device, path)?;
    if envelope.is_none() && wants_envelope {
        return Err(Failure::refused(
            format!("{} has no envelope", path.display()),
            "rule native: a file system that is there already stays where it is; an envelope would destroy it",
            "leave --envelope out, or make a new file system: --envelope --mkfs btrfs|ext4|xfs",
        ));
    }
    let offset = envelope.as_ref().map_or(0, |_| ENVELOPE_BYTES);
    let file =
        std::fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECT | libc::O_NONBLOCK).open(path).map_err(
            |e| Failure::failed(format!("{} cannot be read", path.display()), e.to_string(), "check the path"),
        )?;
    let identity = identify::identify(&file, offset).map_err(|e| no_volume(path, &e))?;
    let fs = identity.kind;
    if let Some(envelope) = &envelope {
        let room = len - ENVELOPE_BYTES;
        if envelope.fs != fs || envelope.data_first != ENVELOPE_BYTES || envelope.data_length > room {
            return Err(Failure::failed(
                format!("{} cannot be a volume", path.display()),
                "its envelope does not describe what is in it",
                "make it anew with --mkfs, if nothing on it is needed",
            ));
        }
    }
    let told = remarks(path, &file, offset);
    Ok(Found { identity: super::identity(&identity), fs, volume: envelope.map(|e| e.volume), told })
}

/// The envelope at the beginning, by either copy of its header.
fn envelope(device: &impl BlockDevice, path: &Path) -> Result<Option<Envelope>, Failure> {
    let what = format!("the envelope of {} cannot be used", path.display());
    let mut damaged = None;
    for offset in COPIES {
        let Ok(bytes) = read(device, offset, COPY_BYTES) else { continue };
        match Envelope::decode(&bytes, offset) {
            Verdict::Valid(envelope) => return Ok(Some(envelope)),
            Verdict::Unsupported(version) if storage::kind_of(&bytes) == Some(Kind::Envelope) => {
                let why = format!("it is of format version {version}");
                return Err(Failure::failed(what, why, "use a newer volctl"));
            }
            Verdict::Corrupt(why) if storage::kind_of(&bytes) == Some(Kind::Envelope) => damaged = Some(why),
            Verdict::Corrupt(_) | Verdict::Unsupported(_) | Verdict::Absent => {}
        }
    }
    match damaged {
        None => Ok(None),
        Some(why) => {
            let next = "restore the first 8 KiB of the device from a backup";
            Err(Failure::damaged(what, format!("both copies of its header are damaged: {why}"), next))
        }
    }
}

fn no_volume(path: &Path, why: &IdentityError) -> Failure {
    let what = format!("{} cannot be a volume", path.display());
    match why {
        IdentityError::UnknownFileSystem { .. } => {
            let found = match storage::contents(path) {
                Ok(Some(found)) => format!("; it holds {found}"),
                _ => "; it holds zeroes".to_owned(),
            };
            Failure::failed(
                what,
                format!("{why}{found}"),
                "give another device, or make a file system with --mkfs btrfs|ext4|xfs",
            )
        }
        _ => Failure::failed(what, why.to_string(), "give another device, or repair this one first"),
    }
}

fn remarks(path: &Path, file: &File, offset: u64) -> Vec<String> {
    let mut told = Vec::new();
    let ext4 = identify::find_fs(file.as_fd(), offset).ok().and_then(|found| found.ext4);
    if ext4.is_some_and(|features| !features.has_journal()) {
        told.push(
            "this ext4 has no journal: after a crash of its writer it must be repaired before it is used".to_owned(),
        );
    }
    match inflight::measure(path) {
        Inflight::Bounded(_) => {}
        Inflight::Unbounded(why) | Inflight::Unknown(why) => told.push(format!(
            "advisory: from this host nothing bounds late writes to it ({why}); without reservations a dead writer \
             needs a human"
        )),
    }
    told
}
