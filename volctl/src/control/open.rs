//! Finding a control volume, and saying what is wrong with what is not one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lockdriver::device::{Access, AlignedBuf, BlockDevice, DirectDevice, OpenError};
use ondisk::geometry::GeometryError;
use ondisk::superblock::SUPERBLOCK_BYTES;
use ondisk::{Corrupt, Geometry, Superblock, Uuid, Verdict};

use super::machine::{Machine, RealMachine};
use super::rules::Rules;
use crate::volumes::identify::{self, IdentityError};
use crate::wire::outcome::Failure;

/// An opened control volume.
#[derive(Clone)]
pub struct ControlVolume {
    /// The path it was opened by.
    pub path: PathBuf,
    /// The device; behind the trait, so that a measurement can count what is done to it.
    pub device: Arc<dyn BlockDevice>,
    /// What it says of itself.
    pub superblock: Superblock,
    /// Where everything lies.
    pub geometry: Geometry,
    /// The computer that looks at it.
    pub machine: Arc<dyn Machine>,
    /// All on, except in tests.
    #[doc(hidden)]
    pub rules: Rules,
}

impl std::fmt::Debug for ControlVolume {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { path, superblock, .. } = self;
        out.debug_struct("ControlVolume").field("path", path).field("superblock", superblock).finish_non_exhaustive()
    }
}

/// Reads bytes at an offset into a vector.
///
/// # Errors
/// As the device says.
pub fn read(device: &dyn BlockDevice, offset: u64, len: usize) -> std::io::Result<Vec<u8>> {
    let mut buffer = AlignedBuf::zeroed(len);
    device.read_at(offset, &mut buffer)?;
    Ok(buffer.to_vec())
}

impl ControlVolume {
    /// Opens the first of several paths of the same control volume that answers, and that is `wanted`, if that is known.
    ///
    /// # Errors
    /// The failure of the last path.
    pub fn open_first(paths: &[PathBuf], access: Access, wanted: Option<Uuid>) -> Result<Self, Failure> {
        let mut last = Failure::usage("no control volume", "the configuration names none", "set `control = \"PATH\"`");
        for path in paths {
            match Self::open(path, access) {
                Ok(volume) if wanted.is_some_and(|uuid| volume.superblock.uuid != uuid) => {
                    last = Failure::failed(
                        format!("{} is another control volume now", path.display()),
                        "its UUID is not the one that this daemon started with",
                        "attach the right device; it is tried again",
                    );
                }
                Ok(volume) => return Ok(volume),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    /// Opens one path.
    ///
    /// # Errors
    /// Each thing that can be wrong has its own sentence and exit code.
    pub fn open(path: &Path, access: Access) -> Result<Self, Failure> {
        let device = open_device(path, access)?;
        let superblock = read_superblock(path, &device)?;
        let geometry = Geometry::of(&superblock).map_err(|e| bad_geometry(path, &e))?;
        let sector = device.sector_bytes();
        if superblock.stride < sector {
            return Err(Failure::failed(
                format!("{} cannot be used through this device", path.display()),
                format!("it was made for sectors of {} bytes; this device has {sector}", superblock.stride),
                "attach it through a device with its own sector size, or make it anew with `volctl init --force`",
            ));
        }
        if access == Access::ReadWrite && !geometry.writable() {
            return Err(Failure::failed(
                format!("{} can only be looked at", path.display()),
                "it uses features of a newer volctl that forbid this one to write",
                "install that version",
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            device: Arc::new(device),
            superblock,
            geometry,
            machine: RealMachine::shared(),
            rules: Rules::default(),
        })
    }
}

/// Opens a device for control I/O.
///
/// # Errors
/// What, why and what next.
pub fn open_device(path: &Path, access: Access) -> Result<DirectDevice, Failure> {
    DirectDevice::open(path, access).map_err(|e| {
        let what = format!("{} cannot be opened", path.display());
        let next = match &e {
            OpenError::HeldBySomeone { .. } => "wait until that program is done, then try again",
            OpenError::Missing { .. } => "give the path of the control device or image; `volctl init PATH` makes one",
            OpenError::ReadOnly { .. } => "make the device writable for this host",
            OpenError::Permission { .. } => "run it as root",
            _ => "give a block device or an image file on a file system that knows direct I/O",
        };
        match e {
            OpenError::HeldBySomeone { .. } => Failure::busy(what, e.to_string(), next),
            _ => Failure::failed(what, e.to_string(), next),
        }
    })
}

fn read_superblock(path: &Path, device: &DirectDevice) -> Result<Superblock, Failure> {
    let size = u64::from(SUPERBLOCK_BYTES);
    let len = device.len_bytes();
    if len < 2 * size {
        return Err(foreign(path, format!("it has only {len} bytes")));
    }
    let bytes = SUPERBLOCK_BYTES as usize;
    let first = read(device, 0, bytes);
    let verdict = first.as_ref().ok().map(|b| Superblock::decode(b, 0));
    if let Some(Verdict::Unsupported(version)) = verdict {
        return Err(Failure::failed(
            format!("{} is of a newer format", path.display()),
            format!("format version {version}; this volctl knows {}", ondisk::block::VERSION),
            "install a volctl that knows it; nothing was changed",
        ));
    }
    // Where something else begins, a copy left at the end is a thing of the past: nothing may write past it.
    // (Bytes that are nothing known are damage of the first copy, which the second one outlives.)
    let taken = matches!(verdict, Some(Verdict::Absent)) && first.as_ref().is_ok_and(|b| is_taken(path, b));
    let found = verdict.clone().and_then(Verdict::valid).or_else(|| {
        if taken {
            return None;
        }
        let offset = len / size * size - size;
        let last = read(device, offset, bytes).ok()?;
        Superblock::decode(&last, offset).valid()
    });
    match (found, verdict) {
        (Some(superblock), _) if superblock.total > len => Err(Failure::damaged(
            format!("{} is cut short", path.display()),
            format!("the control volume has {} bytes, the device only {len}", superblock.total),
            "attach the whole device",
        )),
        (Some(superblock), _) => Ok(superblock),
        (None, Some(Verdict::Corrupt(why))) => Err(damaged(path, &why)),
        (None, Some(_)) => {
            let zeroes = first.as_ref().is_ok_and(|b| b.iter().all(|x| *x == 0));
            let why = if zeroes && !taken { "it begins with zeroes".to_owned() } else { foreign_words(path) };
            Err(foreign(path, why))
        }
        (None, None) => {
            let why = first.err().map_or_else(String::new, |e| e.to_string());
            Err(Failure::failed(format!("{} cannot be read", path.display()), why, "look at the device and its path"))
        }
    }
}

/// Does a file system or a partition table begin here?
fn is_taken(path: &Path, first: &[u8]) -> bool {
    let file_system = std::fs::File::open(path).is_ok_and(|f| {
        !matches!(identify::find_fs(&f, 0), Err(IdentityError::UnknownFileSystem { .. } | IdentityError::Io(_)))
    });
    file_system || partition_table(first).is_some()
}

/// The partition table that begins a device, by its first 4 KiB.
pub fn partition_table(first: &[u8]) -> Option<&'static str> {
    let at = |offset: usize, magic: &[u8]| first.get(offset..offset + magic.len()).is_some_and(|b| b == magic);
    if at(512, b"EFI PART") {
        Some("a GPT partition table")
    } else if at(510, &[0x55, 0xaa]) {
        Some("a partition table or boot sector")
    } else {
        None
    }
}

fn foreign_words(path: &Path) -> String {
    let found = std::fs::File::open(path).ok().and_then(|f| identify::find_fs(&f, 0).ok());
    match found {
        Some(fs) => format!("it holds a file system: {}", fs.kind),
        None => "it holds something else".to_owned(),
    }
}

fn foreign(path: &Path, why: String) -> Failure {
    Failure::failed(
        format!("{} is no control volume", path.display()),
        why,
        "check the path; `volctl init PATH` makes a control volume (and destroys what is there)",
    )
}

fn damaged(path: &Path, why: &Corrupt) -> Failure {
    Failure::damaged(
        format!("both superblocks of {} are damaged", path.display()),
        why.to_string(),
        "restore the device, or make the tables anew with `volctl init --force`",
    )
}

fn bad_geometry(path: &Path, why: &GeometryError) -> Failure {
    let what = format!("{} cannot be used", path.display());
    match why {
        GeometryError::Incompatible(_) => Failure::failed(what, why.to_string(), "install a newer volctl"),
        _ => Failure::damaged(what, why.to_string(), "run `volctl check CONTROL`"),
    }
}
