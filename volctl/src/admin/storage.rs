//! A device or image before something is made on it: what it holds, who uses it, and making an image that is not there.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use lockdriver::device::{Access, AlignedBuf, BlockDevice, DirectDevice, Durability};
use ondisk::block::{self, Kind};
use ondisk::superblock::SUPERBLOCK_BYTES;
use ondisk::{Superblock, Verdict};

use crate::control::open::{open_device, partition_table, read};
use crate::units::format_size;
use crate::volumes::identify::{self, IdentityError};
use crate::wire::outcome::Failure;

/// So much of the beginning is searched for anything that is not zero.
const SEARCH_FIRST: u64 = 64 << 20;
/// And so much of the end.
const SEARCH_LAST: u64 = 1 << 20;
const PIECE: usize = 1 << 20;

/// A device or image that something is about to be made on. An image made here goes again unless it is kept.
#[derive(Debug)]
pub(super) struct Target {
    /// Where it is.
    pub(super) path: PathBuf,
    /// It was made, or was an empty file: there is nothing on it.
    pub(super) fresh: bool,
    remove: bool,
}

impl Target {
    /// What is there, or a new sparse image of `size` bytes.
    ///
    /// # Errors
    /// When there is nothing and no size is known, or a size is given for something that has another.
    pub(super) fn prepare(path: &Path, given: Option<u64>, size: Option<u64>) -> Result<Self, Failure> {
        let failed = |e: io::Error| {
            let what = format!("{} cannot be made", path.display());
            Failure::failed(what, e.to_string(), "give a path in a directory that can be written to")
        };
        let old = |fresh| Self { path: path.to_owned(), fresh, remove: false };
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_file() && metadata.len() == 0 => {
                let size = size.ok_or_else(|| no_size(path))?;
                OpenOptions::new().write(true).open(path).and_then(|f| f.set_len(size)).map_err(failed)?;
                Ok(old(true))
            }
            Ok(metadata) => match given {
                Some(size) if metadata.is_file() && metadata.len() != size => Err(Failure::usage(
                    format!("{} is there already", path.display()),
                    format!(
                        "it has {}, not {}; a file is never cut or stretched",
                        format_size(metadata.len()),
                        format_size(size)
                    ),
                    "leave --size out, or give another path",
                )),
                Some(_) if !metadata.is_file() => Err(Failure::usage(
                    format!("{} has its own size", path.display()),
                    "--size is for images that are made",
                    "leave --size out",
                )),
                _ => Ok(old(false)),
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound && !path.starts_with("/dev") => {
                let size = size.ok_or_else(|| no_size(path))?;
                let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
                let target = Self { path: path.to_owned(), fresh: true, remove: true };
                file.set_len(size).map_err(failed)?;
                Ok(target)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Failure::failed(
                format!("{} is not there", path.display()),
                "no image is made among the device nodes",
                "attach the device, or give the path of an image",
            )),
            Err(e) => Err(failed(e)),
        }
    }

    /// It is of use now, and its name is made to last.
    pub(super) fn keep(mut self) {
        self.remove = false;
        if self.fresh {
            let parent = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            // The content is stable already; a directory that cannot be synced loses only the name, and only now.
            let _ = File::open(parent).and_then(|d| d.sync_all());
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if self.remove {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn no_size(path: &Path) -> Failure {
    Failure::usage(
        format!("{} is not there", path.display()),
        "to make an image, its size must be known",
        "give --size, such as --size 1G",
    )
}

/// What stands on a device that is not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// Fewer bytes than a block.
    Short(u64),
    /// A volume in an envelope.
    Envelope,
    /// A file system, in words.
    FileSystem(String),
    /// A control volume.
    Control(Box<Superblock>),
    /// What was one, or will be in a later version.
    ControlUnknown,
    /// A partition table.
    Partitions(&'static str),
    /// The first byte that is not zero.
    Unknown(u64),
}

impl fmt::Display for Content {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short(len) => write!(out, "{len} bytes, less than a block"),
            Self::Envelope => write!(out, "a volume in an envelope of volctl"),
            Self::FileSystem(words) => write!(out, "{words}"),
            Self::Control(sb) => write!(out, "the control volume {} ({})", sb.uuid, label_words(sb.label.as_str())),
            Self::ControlUnknown => write!(out, "a control volume, damaged or of another version"),
            Self::Partitions(table) => write!(out, "{table}"),
            Self::Unknown(at) => write!(out, "something unknown: byte {at} is not zero"),
        }
    }
}

/// What stands on a device, in words; None: zeroes, as far as it is looked through.
///
/// # Errors
/// When it cannot be read.
pub(super) fn contents(path: &Path) -> Result<Option<String>, Failure> {
    Ok(content(path)?.map(|content| content.to_string()))
}

/// What stands on a device; None: zeroes, as far as it is looked through.
///
/// # Errors
/// When it cannot be read.
pub(super) fn content(path: &Path) -> Result<Option<Content>, Failure> {
    let device = open_device(path, Access::Read)?;
    look(&device, path).map_err(|e| {
        Failure::failed(format!("{} cannot be read", path.display()), e.to_string(), "look at the device and its path")
    })
}

fn look(device: &DirectDevice, path: &Path) -> io::Result<Option<Content>> {
    let len = device.len_bytes();
    let size = u64::from(SUPERBLOCK_BYTES);
    if len < size {
        return Ok((len > 0).then_some(Content::Short(len)));
    }
    let first = read(device, 0, SUPERBLOCK_BYTES as usize)?;
    let last_at = len / size * size - size;
    let last = read(device, last_at, SUPERBLOCK_BYTES as usize)?;
    if kind_of(&first) == Some(Kind::Envelope) {
        return Ok(Some(Content::Envelope));
    }
    if let Some(kind) = file_system(device) {
        return Ok(Some(Content::FileSystem(kind)));
    }
    for (bytes, offset) in [(&first, 0), (&last, last_at)] {
        if let Verdict::Valid(sb) = Superblock::decode(bytes, offset) {
            return Ok(Some(Content::Control(Box::new(sb))));
        }
    }
    if !matches!(Superblock::decode(&first, 0), Verdict::Absent) {
        return Ok(Some(Content::ControlUnknown));
    }
    if let Some(table) = partition_table(&first) {
        return Ok(Some(Content::Partitions(table)));
    }
    Ok(not_zero(device, path)?.map(Content::Unknown))
}

/// What kind of block of ours begins here, by its head alone.
pub(super) fn kind_of(block: &[u8]) -> Option<Kind> {
    let (number, ..) = block::peek(block)?;
    [Kind::Envelope, Kind::Superblock].into_iter().find(|kind| kind.number() == number)
}

fn label_words(label: &str) -> String {
    if label.is_empty() { "no label".to_owned() } else { format!("label {label}") }
}

fn file_system(device: impl AsFd) -> Option<String> {
    match identify::find_fs(device, 0) {
        Ok(found) if found.label.is_empty() => Some(format!("a {} file system, {}", found.kind, found.uuid)),
        Ok(found) => Some(format!("the {} file system {}, {}", found.kind, found.label, found.uuid)),
        Err(IdentityError::UnknownFileSystem { .. } | IdentityError::Io(_)) => None,
        Err(other) => Some(other.to_string()),
    }
}

/// The first byte that is not zero, in the beginning and the end of the device.
fn not_zero(device: &DirectDevice, path: &Path) -> io::Result<Option<u64>> {
    let sector = u64::from(device.sector_bytes());
    let len = device.len_bytes() / sector * sector;
    let tail = len.saturating_sub(SEARCH_LAST) / sector * sector;
    let mut buffer = AlignedBuf::zeroed(PIECE);
    let is_hole = |from: u64, to: u64| holes(path, from, to).unwrap_or(false);
    for (mut at, end) in [(0, len.min(SEARCH_FIRST)), (tail.max(SEARCH_FIRST), len)] {
        while at < end {
            let want = usize::try_from((end - at).min(PIECE as u64)).unwrap_or(PIECE);
            if !is_hole(at, at + want as u64) {
                device.read_at(at, &mut buffer[..want])?;
                if let Some(found) = buffer[..want].iter().position(|b| *b != 0) {
                    return Ok(Some(at + found as u64));
                }
            }
            at += want as u64;
        }
    }
    Ok(None)
}

/// Is this part of an image a hole? (A sparse image of many gigabytes is read in no time.)
fn holes(path: &Path, from: u64, to: u64) -> io::Result<bool> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(false);
    }
    let from = i64::try_from(from).map_err(io::Error::other)?;
    match nix::unistd::lseek(&file, from, nix::unistd::Whence::SeekData) {
        Ok(data) => Ok(u64::try_from(data).is_ok_and(|d| d >= to)),
        Err(nix::errno::Errno::ENXIO) => Ok(true),
        Err(e) => Err(e.into()),
    }
}

/// Overwrites every place where a superblock of the known kinds could stand.
///
/// # Errors
/// The device's.
pub(super) fn wipe(path: &Path) -> Result<(), Failure> {
    let device = open_device(path, Access::ReadWrite)?;
    let sector = u64::from(device.sector_bytes());
    let len = device.len_bytes() / sector * sector;
    let zeroes = AlignedBuf::zeroed(PIECE);
    let wiped = || -> io::Result<()> {
        let tail = len.saturating_sub(PIECE as u64);
        // Beginning, the second copies of btrfs, end.
        for (at, bytes) in
            [(0, 4 * PIECE as u64), (64 << 20, PIECE as u64), (256 << 30, PIECE as u64), (tail, PIECE as u64)]
        {
            let mut at = at;
            let end = (at + bytes).min(len);
            while at < end {
                let want = usize::try_from((end - at).min(PIECE as u64)).unwrap_or(PIECE);
                device.write_at(at, &zeroes[..want], Durability::Plain)?;
                at += want as u64;
            }
        }
        device.flush()
    };
    wiped().map_err(|e| {
        let what = format!("{} could not be wiped", path.display());
        Failure::failed(what, e.to_string(), "look at the device; part of it may be zeroes now")
    })
}

/// Refuses a device that this host uses: mounted, part of another device, or under a loop device that is.
///
/// # Errors
/// Busy.
pub(super) fn refuse_in_use(path: &Path) -> Result<(), Failure> {
    let metadata = std::fs::metadata(path).map_err(|e| {
        Failure::failed(format!("{} cannot be looked at", path.display()), e.to_string(), "check the path")
    })?;
    let nodes = if metadata.file_type().is_block_device() { vec![path.to_owned()] } else { loops_over(&metadata) };
    match nodes.iter().find(|node| is_claimed(node)) {
        None => Ok(()),
        Some(node) => Err(Failure::busy(
            format!("{} is in use on this host", path.display()),
            format!("{} is mounted, or part of another device", node.display()),
            "unmount it first (`lsblk` and `findmnt` show it)",
        )),
    }
}

/// An exclusive open fails while the kernel uses the device for anything.
fn is_claimed(node: &Path) -> bool {
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_EXCL | libc::O_NONBLOCK).open(node);
    opened.is_err_and(|e| e.raw_os_error() == Some(libc::EBUSY))
}

/// The loop devices over an image.
fn loops_over(image: &std::fs::Metadata) -> Vec<PathBuf> {
    let Ok(list) = std::fs::read_dir("/sys/block") else { return Vec::new() };
    list.flatten()
        .filter(|entry| {
            let backing = std::fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
            std::fs::metadata(backing.trim_end()).is_ok_and(|m| (m.dev(), m.ino()) == (image.dev(), image.ino()))
        })
        .map(|entry| Path::new("/dev").join(entry.file_name()))
        .collect()
}

/// What a path stands on: an image by its inode, a device by its number; a loop device by the image under it.
pub(super) fn stands_on(path: &Path) -> io::Result<(bool, u64, u64)> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.file_type().is_block_device() {
        return Ok((false, metadata.dev(), metadata.ino()));
    }
    let (major, minor) = (nix::sys::stat::major(metadata.rdev()), nix::sys::stat::minor(metadata.rdev()));
    let backing = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/loop/backing_file"));
    match backing.map(|b| std::fs::metadata(b.trim_end())) {
        Ok(Ok(image)) => Ok((false, image.dev(), image.ino())),
        _ => Ok((true, metadata.rdev(), 0)),
    }
}
