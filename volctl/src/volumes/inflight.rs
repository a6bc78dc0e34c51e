//! `inflight` (section 6): the longest time for which this host may still hold back a write to a volume
//! after its gate has closed or its kernel has stopped being asked.
//!
//! It is what the kernel's own settings say. Where they set no bound, or this program cannot tell, the answer
//! is so, and nobody takes the volume over on the strength of a guess.

use std::fmt;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use nix::sys::statfs::statfs;

use crate::program;

use super::mountinfo;
use super::sysfs::{SysFs, attribute, entries, name};

/// How long a late write of this host can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inflight {
    /// At most this long.
    Bounded(Duration),
    /// For ever; the reason names the setting.
    Unbounded(String),
    /// Nothing here tells.
    Unknown(String),
}

impl Inflight {
    /// The weaker of two promises.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unbounded(why), _) | (_, Self::Unbounded(why)) => Self::Unbounded(why),
            (Self::Unknown(why), _) | (_, Self::Unknown(why)) => Self::Unknown(why),
            (Self::Bounded(a), Self::Bounded(b)) => Self::Bounded(a.max(b)),
        }
    }
}

impl fmt::Display for Inflight {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bounded(time) => write!(out, "at most {time:?}"),
            Self::Unbounded(why) => write!(out, "unbounded: {why}"),
            Self::Unknown(why) => write!(out, "unknown: {why}"),
        }
    }
}

/// More layers than this are not looked through.
const LAYERS_MAX: u32 = 8;
/// How long `dmsetup` may take.
const DMSETUP_TIME: Duration = Duration::from_secs(10);
/// What the SCSI error handler may spend on abort and resets after a command has used up its time.
const SCSI_RECOVERY: Duration = Duration::from_secs(60);
/// `max_retries` of the SCSI disk driver when sysfs says -1 or nothing.
const SCSI_RETRIES: u64 = 5;
/// `max_retries` of the NVMe driver.
const NVME_RETRIES: u32 = 5;

/// Measures the path to a device or image, through loop devices, partitions and device-mapper.
#[must_use]
pub fn measure(path: &Path) -> Inflight {
    measure_path(&SysFs::real(), path, 0)
}

fn unknown(why: impl Into<String>) -> Inflight {
    Inflight::Unknown(why.into())
}

fn measure_path(sysfs: &SysFs, path: &Path, depth: u32) -> Inflight {
    if depth > LAYERS_MAX {
        return unknown("too many layers of devices");
    }
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return unknown(format!("{}: {error}", path.display())),
    };
    if metadata.is_file() {
        return measure_file(path, metadata.dev());
    }
    if !metadata.file_type().is_block_device() {
        return unknown(format!("{} is neither a block device nor an image", path.display()));
    }
    match sysfs.block(metadata.rdev()) {
        Some(directory) => measure_disk(sysfs, &SysFs::disk(&directory), depth),
        None => unknown(format!("sysfs does not know {}", path.display())),
    }
}

/// An image on a file system that only this kernel mounts has no late writes: every writer asks the same kernel.
fn measure_file(path: &Path, device: u64) -> Inflight {
    const LOCAL: [i64; 8] = [
        0xEF53,      // ext4
        0x5846_5342, // XFS
        0x9123_683E, // btrfs
        0x0102_1994, // tmpfs
        0x8584_58F6, // ramfs
        0xF2F5_2010, // F2FS
        0x794C_7630, // overlayfs
        0x2FC1_2FC1, // ZFS
    ];
    const NFS: i64 = 0x6969;
    let magic = match statfs(path) {
        Ok(found) => found.filesystem_type().0,
        Err(error) => return unknown(format!("{}: {error}", path.display())),
    };
    if LOCAL.contains(&magic) {
        return Inflight::Bounded(Duration::ZERO);
    }
    if magic != NFS {
        return unknown(format!("{} lies on a file system that is not local (type {magic:#x})", path.display()));
    }
    let device = format!("{}:{}", nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let options = mountinfo::super_options(&device).unwrap_or_default();
    nfs(&options)
}

/// A soft NFS mount gives up after its retransmissions, each `timeo` longer than the one before.
pub(super) fn nfs(options: &str) -> Inflight {
    let number = |key: &str| -> Option<u64> {
        options.split(',').find_map(|option| option.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
    };
    if !options.split(',').any(|option| option == "soft" || option == "softerr") {
        return Inflight::Unbounded(
            "the image lies on a hard NFS mount, which retries for ever (see mount option soft)".into(),
        );
    }
    match (number("timeo"), number("retrans")) {
        (Some(timeo), Some(retrans)) => {
            let steps = retrans.saturating_add(1);
            let tenths = timeo.saturating_mul(steps.saturating_mul(steps.saturating_add(1)) / 2);
            Inflight::Bounded(Duration::from_millis(tenths.saturating_mul(100)))
        }
        _ => unknown("the NFS mount does not tell timeo and retrans"),
    }
}

fn measure_disk(sysfs: &SysFs, disk: &Path, depth: u32) -> Inflight {
    let disk_name = name(disk);
    if let Some(backing) = attribute(disk, "loop/backing_file") {
        return measure_path(sysfs, Path::new(&backing), depth.saturating_add(1));
    }
    if disk_name.starts_with("loop") {
        return unknown(format!("{disk_name} has no backing file"));
    }
    if let Some(uuid) = attribute(disk, "dm/uuid").or_else(|| attribute(disk, "dm/name")) {
        let own = if uuid.starts_with("mpath-") { multipath(disk) } else { Inflight::Bounded(Duration::ZERO) };
        return own.worse(measure_slaves(sysfs, disk, depth));
    }
    if disk.join("md").is_dir() {
        return measure_slaves(sysfs, disk, depth);
    }
    if disk_name.starts_with("nvme") {
        return nvme(disk);
    }
    if disk_name.starts_with("sd") || disk.join("device/scsi_level").exists() {
        return scsi(sysfs, disk);
    }
    unknown(format!("{disk_name}: this driver tells no time limit"))
}

fn measure_slaves(sysfs: &SysFs, disk: &Path, depth: u32) -> Inflight {
    let slaves = entries(&disk.join("slaves"));
    if slaves.is_empty() || depth > LAYERS_MAX {
        return unknown(format!("{}: what is under it cannot be seen", name(disk)));
    }
    slaves.iter().fold(Inflight::Bounded(Duration::ZERO), |worst, slave| {
        let below = fs::canonicalize(slave).map_or_else(
            |error| unknown(format!("{}: {error}", slave.display())),
            |directory| measure_disk(sysfs, &SysFs::disk(&directory), depth.saturating_add(1)),
        );
        worst.worse(below)
    })
}

/// Whether a multipath map queues without a path; sysfs does not say, `dmsetup` does.
fn multipath(disk: &Path) -> Inflight {
    let Some(map) = attribute(disk, "dm/name") else {
        return unknown("a multipath map without a name");
    };
    let mut command = program::command("dmsetup");
    let answer = program::run(command.args(["table", "--target", "multipath", "--", &map]), Some(DMSETUP_TIME));
    let Ok(answer) = answer else {
        return unknown(format!("multipath map {map}: dmsetup is not installed"));
    };
    if !answer.status.is_some_and(|status| status.success()) {
        return unknown(format!("multipath map {map}: dmsetup cannot show it"));
    }
    // The features stand at the beginning, so an answer without it tells nothing.
    if !answer.said.contains(" multipath ") {
        return unknown(format!("multipath map {map}: dmsetup's answer is not understood"));
    }
    if answer.said.contains("queue_if_no_path") {
        return Inflight::Unbounded(format!("multipath map {map} has queue_if_no_path (see no_path_retry fail)"));
    }
    Inflight::Bounded(Duration::ZERO)
}

fn seconds(text: &str) -> Option<Duration> {
    text.parse().ok().map(Duration::from_secs)
}

/// Each try of a command has its own time; a lost transport holds commands back without using that time up.
fn scsi(sysfs: &SysFs, disk: &Path) -> Inflight {
    let Some(timeout) = attribute(disk, "device/timeout").and_then(|text| seconds(&text)) else {
        return unknown(format!("{}: no command timeout in sysfs", name(disk)));
    };
    let address = fs::canonicalize(disk.join("device")).ok();
    let retries = address
        .as_deref()
        .and_then(|address| attribute(&sysfs.path("class/scsi_disk").join(name(address)), "max_retries"))
        .and_then(|text| text.parse::<u64>().ok())
        .unwrap_or(SCSI_RETRIES);
    let tries = u32::try_from(retries.saturating_add(1)).unwrap_or(u32::MAX);
    let own = Inflight::Bounded(timeout.saturating_mul(tries).saturating_add(SCSI_RECOVERY));
    let Some(address) = address else { return own };
    match scsi_transport(sysfs, &address) {
        Inflight::Bounded(wait) => match own {
            Inflight::Bounded(time) => Inflight::Bounded(time.saturating_add(wait)),
            other => other,
        },
        other => other,
    }
}

/// How long Fibre Channel or iSCSI holds commands back for a transport that is gone; zero for the others.
fn scsi_transport(sysfs: &SysFs, address: &Path) -> Inflight {
    let parts = address.components().filter_map(|part| part.as_os_str().to_str());
    for part in parts {
        let (file, attribute_name) = if part.starts_with("rport-") {
            (sysfs.path("class/fc_remote_ports").join(part), "dev_loss_tmo")
        } else if part.starts_with("session") {
            (sysfs.path("class/iscsi_session").join(part), "recovery_tmo")
        } else {
            continue;
        };
        return match attribute(&file, attribute_name) {
            Some(text) => seconds(&text)
                .map_or_else(|| Inflight::Unbounded(format!("{part}: {attribute_name} is {text}")), Inflight::Bounded),
            None => unknown(format!("{part}: sysfs has no {attribute_name}")),
        };
    }
    Inflight::Bounded(Duration::ZERO)
}

/// A local controller resets after the time-out of a command; a fabrics one waits for the link up to `ctrl_loss_tmo`.
fn nvme(disk: &Path) -> Inflight {
    let Some(timeout) =
        attribute(disk, "queue/io_timeout").and_then(|text| text.parse().ok().map(Duration::from_millis))
    else {
        return unknown(format!("{}: no io_timeout in sysfs", name(disk)));
    };
    let own = timeout.saturating_mul(NVME_RETRIES.saturating_add(1));
    let Ok(device) = fs::canonicalize(disk.join("device")) else {
        return unknown(format!("{}: its controller cannot be seen", name(disk)));
    };
    let mut controllers: Vec<_> = if device.join("transport").exists() {
        vec![device]
    } else {
        entries(&device).into_iter().filter(|entry| entry.join("transport").exists()).collect()
    };
    let Some(first) = controllers.pop() else {
        return unknown(format!("{}: no controller in sysfs", name(disk)));
    };
    controllers.iter().fold(nvme_controller(&first, own), |worst, next| worst.worse(nvme_controller(next, own)))
}

fn nvme_controller(controller: &Path, own: Duration) -> Inflight {
    if attribute(controller, "transport").as_deref() == Some("pcie") {
        return Inflight::Bounded(own);
    }
    match attribute(controller, "ctrl_loss_tmo") {
        Some(text) => seconds(&text).map_or_else(
            || Inflight::Unbounded(format!("{}: ctrl_loss_tmo is {text}", name(controller))),
            |loss| Inflight::Bounded(own.saturating_add(loss)),
        ),
        None => unknown(format!("{}: no ctrl_loss_tmo in sysfs", name(controller))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn put(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn an_image_on_a_local_file_system_has_no_late_writes() {
        let image = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(measure(image.path()), Inflight::Bounded(Duration::ZERO));
    }

    #[test]
    fn what_is_under_a_loop_device_decides() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        fs::write(&image, b"").unwrap();
        let sysfs = SysFs::at(dir.path());
        put(dir.path(), "block/loop7/loop/backing_file", &format!("{}\n", image.display()));
        let seen = measure_disk(&sysfs, &dir.path().join("block/loop7"), 0);
        assert_eq!(seen, Inflight::Bounded(Duration::ZERO));
        put(dir.path(), "block/loop8/loop/backing_file", "/nowhere/image (deleted)\n");
        assert!(matches!(measure_disk(&sysfs, &dir.path().join("block/loop8"), 0), Inflight::Unknown(_)));
    }

    #[test]
    fn scsi_counts_every_try_and_the_transport() {
        let dir = tempfile::tempdir().unwrap();
        let sysfs = SysFs::at(dir.path());
        put(dir.path(), "devices/host2/session1/target2:0:0/2:0:0:1/timeout", "30\n");
        put(dir.path(), "devices/host2/session1/target2:0:0/2:0:0:1/block/sda/size", "8\n");
        put(dir.path(), "class/scsi_disk/2:0:0:1/max_retries", "2\n");
        put(dir.path(), "class/iscsi_session/session1/recovery_tmo", "120\n");
        let disk = dir.path().join("devices/host2/session1/target2:0:0/2:0:0:1/block/sda");
        symlink("../..", disk.join("device")).unwrap();
        assert_eq!(measure_disk(&sysfs, &disk, 0), Inflight::Bounded(Duration::from_secs(3 * 30 + 60 + 120)));
        put(dir.path(), "class/iscsi_session/session1/recovery_tmo", "-1\n");
        assert!(matches!(measure_disk(&sysfs, &disk, 0), Inflight::Unbounded(_)));
    }

    #[test]
    fn nvme_without_a_loss_limit_is_unbounded() {
        let dir = tempfile::tempdir().unwrap();
        let sysfs = SysFs::at(dir.path());
        put(dir.path(), "devices/nvme0/transport", "tcp\n");
        put(dir.path(), "devices/nvme0/ctrl_loss_tmo", "off\n");
        put(dir.path(), "devices/nvme0/nvme0n1/queue/io_timeout", "30000\n");
        let disk = dir.path().join("devices/nvme0/nvme0n1");
        symlink("..", disk.join("device")).unwrap();
        assert!(matches!(measure_disk(&sysfs, &disk, 0), Inflight::Unbounded(_)));
        put(dir.path(), "devices/nvme0/ctrl_loss_tmo", "600\n");
        assert_eq!(measure_disk(&sysfs, &disk, 0), Inflight::Bounded(Duration::from_secs(6 * 30 + 600)));
    }

    #[test]
    fn hard_nfs_is_unbounded_and_soft_is_counted() {
        assert!(matches!(nfs("rw,hard,timeo=600,retrans=2"), Inflight::Unbounded(_)));
        assert_eq!(nfs("rw,soft,timeo=100,retrans=2"), Inflight::Bounded(Duration::from_secs(60)));
    }

    #[test]
    fn an_unknown_driver_is_unknown() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "block/vda/size", "8\n");
        assert!(matches!(measure_disk(&SysFs::at(dir.path()), &dir.path().join("block/vda"), 0), Inflight::Unknown(_)));
    }
}
