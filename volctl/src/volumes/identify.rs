//! What lies on a device, told by its superblock, and whether it is the volume that the table means (section 7).
//!
//! Everything is read through a descriptor: the one that is proven is the one that is handed on, never a path
//! that may name something else a moment later (section 11).

pub(super) mod superblocks;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::PathBuf;

use lockdriver::sys::statfs::device_bytes;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use uuid::Uuid;

use super::sysfs::{SysFs, attribute, entries, name};
use ondisk::FsKind;

/// By what a volume is recognised (section 4, volume control table).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Type of the file system.
    pub kind: FsKind,
    /// UUID of the file system.
    pub fs_uuid: Uuid,
    /// Size of the whole device or image in bytes.
    pub size_bytes: u64,
    /// Where the file system begins: 0 for a native volume, 1 MiB for an enveloped one.
    pub offset_bytes: u64,
    /// World-wide identifier of the disk, where the kernel knows one.
    pub wwid: Option<String>,
    /// UUID of the partition, where it is one and the kernel knows it.
    pub partition_uuid: Option<Uuid>,
}

/// What a superblock says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFs {
    /// Type of the file system.
    pub kind: FsKind,
    /// Its UUID.
    pub uuid: Uuid,
    /// Its label; empty when there is none.
    pub label: String,
    /// How many bytes it believes to own.
    pub fs_bytes: u64,
    /// ext4: the feature words; `None` for the others.
    pub ext4: Option<Ext4Features>,
}

/// The feature words of an ext4 superblock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ext4Features {
    /// Features that every driver may ignore.
    pub compatible: u32,
    /// Features without which nobody may mount.
    pub incompatible: u32,
    /// Features without which nobody may write.
    pub read_only_compatible: u32,
}

impl Ext4Features {
    /// Without a journal a crash leaves a file system that must be repaired before it is used again.
    #[must_use]
    pub const fn has_journal(self) -> bool {
        self.compatible & 0x4 != 0
    }

    /// The journal holds what is not yet in its place: the file system was not cleanly unmounted or frozen.
    #[must_use]
    pub const fn needs_recovery(self) -> bool {
        self.incompatible & 0x4 != 0
    }
}

/// Why a device was not recognised, or is not the volume that the table means.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The device could not be read.
    #[error("the device cannot be read: {0}")]
    Io(#[from] io::Error),
    /// No superblock of ext4, XFS or btrfs.
    #[error("unknown file system: no superblock of ext4, XFS or btrfs at byte {offset_bytes}")]
    UnknownFileSystem {
        /// Where the file system should begin.
        offset_bytes: u64,
    },
    /// A file system that volctl must not touch.
    #[error("this {kind} cannot be shared: {why}")]
    Unsupported {
        /// Its type.
        kind: FsKind,
        /// What is in the way.
        why: &'static str,
    },
    /// The file system is larger than what holds it.
    #[error("the {kind} file system claims {fs_bytes} bytes but only {room_bytes} are there")]
    Truncated {
        /// Its type.
        kind: FsKind,
        /// What its superblock claims.
        fs_bytes: u64,
        /// Size of the device behind the offset.
        room_bytes: u64,
    },
    /// It is another volume, or the same one changed by somebody else.
    #[error("this is not the volume of the table: its {what} is {found}, the table says {expected}")]
    Differs {
        /// What differs.
        what: Part,
        /// What the table says.
        expected: String,
        /// What the device says.
        found: String,
    },
}

/// The part of an identity that differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Type of the file system.
    Kind,
    /// UUID of the file system.
    FsUuid,
    /// Size of the device.
    Size,
    /// World-wide identifier of the disk.
    Wwid,
    /// UUID of the partition.
    PartitionUuid,
}

impl std::fmt::Display for Part {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Kind => "file system type",
            Self::FsUuid => "file system UUID",
            Self::Size => "size in bytes",
            Self::Wwid => "WWID",
            Self::PartitionUuid => "partition UUID",
        })
    }
}

/// Reads the superblock of the file system that begins at `offset_bytes`.
///
/// # Errors
/// [`IdentityError::UnknownFileSystem`] when there is none, [`IdentityError::Unsupported`] for one on several
/// devices, with an external journal, a real-time device, or a btrfs seed.
pub fn find_fs(device: impl AsFd, offset_bytes: u64) -> Result<FoundFs, IdentityError> {
    let file = File::from(device.as_fd().try_clone_to_owned()?);
    // What another host wrote since may lie under a stale cache; without O_DIRECT the kernel must forget it first.
    let _best_effort = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    let head = read_block(&file, offset_bytes, 0)?;
    let deep = read_block(&file, offset_bytes, superblocks::BTRFS_AT)?;
    superblocks::find(&head, &deep)?.ok_or(IdentityError::UnknownFileSystem { offset_bytes })
}

/// The identity of the volume on this device, as `volume add` writes it into the table.
///
/// # Errors
/// As [`find_fs`], and [`IdentityError::Truncated`] when the device is smaller than its file system.
pub fn identify(device: impl AsFd, offset_bytes: u64) -> Result<Identity, IdentityError> {
    let found = find_fs(&device, offset_bytes)?;
    let file = File::from(device.as_fd().try_clone_to_owned()?);
    let size_bytes = size_bytes(&file)?;
    let room_bytes = size_bytes.saturating_sub(offset_bytes);
    if found.fs_bytes > room_bytes {
        return Err(IdentityError::Truncated { kind: found.kind, fs_bytes: found.fs_bytes, room_bytes });
    }
    let (wwid, partition_uuid) = disk_names(&file, &SysFs::real());
    Ok(Identity { kind: found.kind, fs_uuid: found.uuid, size_bytes, offset_bytes, wwid, partition_uuid })
}

/// Proves that the device behind this descriptor is the volume that `expected` describes.
///
/// A WWID or partition UUID is compared only where this host knows one too: the same disk may be reached here
/// through a transport that has none.
///
/// # Errors
/// [`IdentityError::Differs`] naming what differs; otherwise as [`identify`].
pub fn prove(device: impl AsFd, expected: &Identity) -> Result<(), IdentityError> {
    let found = identify(device, expected.offset_bytes)?;
    differs(Part::Kind, &expected.kind, &found.kind)?;
    differs(Part::FsUuid, &expected.fs_uuid, &found.fs_uuid)?;
    differs(Part::Size, &expected.size_bytes, &found.size_bytes)?;
    if let (Some(expected), Some(found)) = (&expected.wwid, &found.wwid) {
        differs(Part::Wwid, expected, found)?;
    }
    if let (Some(expected), Some(found)) = (&expected.partition_uuid, &found.partition_uuid) {
        differs(Part::PartitionUuid, expected, found)?;
    }
    Ok(())
}

fn differs<T: PartialEq + ToString>(what: Part, expected: &T, found: &T) -> Result<(), IdentityError> {
    if expected == found {
        return Ok(());
    }
    Err(IdentityError::Differs { what, expected: expected.to_string(), found: found.to_string() })
}

/// Size of a device or image in bytes.
///
/// # Errors
/// When it is neither, or the kernel cannot say.
pub fn size_bytes(file: &File) -> io::Result<u64> {
    let metadata = file.metadata()?;
    if metadata.is_file() {
        return Ok(metadata.len());
    }
    if metadata.file_type().is_block_device() {
        return Ok(device_bytes(file)?);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a block device nor an image file"))
}

/// One aligned 4 KiB read (the descriptor may be O_DIRECT); zeros behind the end of a short device.
fn read_block(file: &File, offset_bytes: u64, at: u64) -> io::Result<[u8; 4096]> {
    const LENGTH: usize = 4096;
    let from = offset_bytes.checked_add(at).ok_or(io::ErrorKind::InvalidInput)?;
    let mut room = vec![0_u8; 2 * LENGTH];
    let start = room.as_ptr().align_offset(LENGTH);
    let buffer = room.get_mut(start..start.saturating_add(LENGTH)).ok_or(io::ErrorKind::OutOfMemory)?;
    let mut filled = 0;
    while filled < LENGTH {
        match file.read_at(&mut buffer[filled..], from.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(count) => filled = filled.saturating_add(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let mut block = [0_u8; LENGTH];
    block.copy_from_slice(buffer);
    Ok(block)
}

/// WWID and partition UUID of the block device, where the kernel or udev knows them.
fn disk_names(file: &File, sysfs: &SysFs) -> (Option<String>, Option<Uuid>) {
    let Ok(metadata) = file.metadata() else {
        return (None, None);
    };
    if !metadata.file_type().is_block_device() {
        return (None, None);
    }
    let device = metadata.rdev();
    let Some(directory) = sysfs.block(device) else {
        return (None, None);
    };
    let disk = SysFs::disk(&directory);
    let wwid =
        attribute(&disk, "wwid").or_else(|| attribute(&disk, "device/wwid")).or_else(|| attribute(&disk, "dm/uuid"));
    let from_uevent = attribute(&directory, "uevent")
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("PARTUUID=")?.parse().ok()));
    let partition_uuid = from_uevent.or_else(|| partition_uuid_by_udev(device));
    (wwid, partition_uuid)
}

fn partition_uuid_by_udev(device: u64) -> Option<Uuid> {
    let links = entries(&PathBuf::from("/dev/disk/by-partuuid"));
    let link = links.iter().find(|link| std::fs::metadata(link).is_ok_and(|to| to.rdev() == device))?;
    name(link).parse().ok()
}
