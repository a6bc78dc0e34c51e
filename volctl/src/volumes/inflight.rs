//! `inflight` (section 6): the longest time for which this host may still hold back a write to a volume
//! after its gate has closed or its kernel has stopped being asked.
//!
//! It is what the kernel's own settings say. Where they set no bound, or this program cannot tell, the answer
//! is so, and nobody takes the volume over on the strength of a guess. A reason names the setting to change and its value.

use std::fmt;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use nix::sys::statfs::statfs;

use serde::Serialize;

use crate::program;

use super::mountinfo;
use super::sysfs::{SysFs, attribute, entries, name};

mod nvme;
mod scsi;
#[cfg(test)]
mod tests;

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

    /// One after the other: a write that failed here is tried again there.
    #[must_use]
    pub fn then(self, other: Self) -> Self {
        match (self, other) {
            (Self::Bounded(a), Self::Bounded(b)) => Self::Bounded(a.saturating_add(b)),
            (a, b) => a.worse(b),
        }
    }
}

/// A setting of the kernel that was read on the way, and what it means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The device or object that it belongs to, such as `sda` or `session1`.
    pub of: String,
    /// Its name, as in sysfs or in a table.
    pub name: String,
    /// Its value, as it stands there.
    pub value: String,
    /// What it is good for.
    pub meaning: &'static str,
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
/// A limit longer than this is none: nobody waits for it, and some tools write 2^31 - 1 s for "never".
const LIMIT_MAX: Duration = Duration::from_hours(24);

/// Measures the path to a device or image, through loop devices, partitions and device-mapper.
#[must_use]
pub fn measure(path: &Path) -> Inflight {
    explain(path).0
}

/// Measures a path, and names each setting that was looked at.
#[must_use]
pub fn explain(path: &Path) -> (Inflight, Vec<Setting>) {
    let sysfs = SysFs::real();
    let mut look = Look::new(&sysfs, &dm_table);
    let found = look.path(path, 0);
    (found, look.settings)
}

fn unknown(why: impl Into<String>) -> Inflight {
    Inflight::Unknown(why.into())
}

/// One look through the layers under a path.
struct Look<'a> {
    sysfs: &'a SysFs,
    /// The table of a device-mapper device of this name, or why it cannot be had.
    table: &'a dyn Fn(&str) -> Result<String, String>,
    settings: Vec<Setting>,
}

impl<'a> Look<'a> {
    fn new(sysfs: &'a SysFs, table: &'a dyn Fn(&str) -> Result<String, String>) -> Self {
        Self { sysfs, table, settings: Vec::new() }
    }

    fn note(&mut self, of: &str, name: &str, value: &str, meaning: &'static str) {
        let setting = Setting { of: of.to_owned(), name: name.to_owned(), value: value.to_owned(), meaning };
        if !self.settings.contains(&setting) {
            self.settings.push(setting);
        }
    }

    /// Reads an attribute of a directory, and notes it.
    fn read(&mut self, directory: &Path, file: &str, meaning: &'static str) -> Option<String> {
        let value = attribute(directory, file)?;
        // What a module is told lies in a folder of one name for all of them.
        let of = directory.parent().filter(|_| name(directory) == "parameters").unwrap_or(directory);
        self.note(name(of), file, &value, meaning);
        Some(value)
    }

    fn path(&mut self, path: &Path, depth: u32) -> Inflight {
        if depth > LAYERS_MAX {
            return unknown("too many layers of devices");
        }
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) => return unknown(format!("{}: {error}", path.display())),
        };
        if metadata.is_file() {
            return self.file(path, metadata.dev());
        }
        if !metadata.file_type().is_block_device() {
            return unknown(format!("{} is neither a block device nor an image", path.display()));
        }
        match self.sysfs.block(metadata.rdev()) {
            Some(directory) => self.disk(&SysFs::disk(&directory), depth),
            None => unknown(format!("sysfs does not know {}", path.display())),
        }
    }

    /// An image on a file system that only this kernel mounts has no late writes: every writer asks the same kernel.
    fn file(&mut self, path: &Path, device: u64) -> Inflight {
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
        self.note("NFS", "mount options", &options, "soft, timeo (tenths of a second) and retrans bound a write");
        nfs(&options)
    }

    fn disk(&mut self, disk: &Path, depth: u32) -> Inflight {
        let disk_name = name(disk);
        if let Some(backing) = attribute(disk, "loop/backing_file") {
            return self.path(Path::new(&backing), depth.saturating_add(1));
        }
        if disk_name.starts_with("loop") {
            return unknown(format!("{disk_name} has no backing file"));
        }
        if let Some(uuid) = attribute(disk, "dm/uuid").or_else(|| attribute(disk, "dm/name")) {
            if self.read(disk, "dm/suspended", "1: it holds everything back").as_deref() == Some("1") {
                return Inflight::Unbounded(format!(
                    "{disk_name} is suspended and holds writes back for ever; dmsetup resume it"
                ));
            }
            if uuid.starts_with("mpath-") {
                // A write that failed on one path is tried on the next.
                return self.multipath(disk).then(self.slaves(disk, depth, Inflight::then));
            }
            return self.slaves(disk, depth, Inflight::worse);
        }
        if disk.join("md").is_dir() {
            return self.slaves(disk, depth, Inflight::worse);
        }
        if disk_name.starts_with("nvme") {
            return nvme::measure(self, disk);
        }
        if disk_name.starts_with("sd") || disk.join("device/scsi_level").exists() {
            return scsi::measure(self, disk);
        }
        without_limit(disk_name)
    }

    fn slaves(&mut self, disk: &Path, depth: u32, both: fn(Inflight, Inflight) -> Inflight) -> Inflight {
        let slaves = entries(&disk.join("slaves"));
        if slaves.is_empty() || depth > LAYERS_MAX {
            return unknown(format!("{}: what is under it cannot be seen", name(disk)));
        }
        slaves.iter().fold(Inflight::Bounded(Duration::ZERO), |sum, slave| {
            let below = match fs::canonicalize(slave) {
                Ok(directory) => self.disk(&SysFs::disk(&directory), depth.saturating_add(1)),
                Err(error) => unknown(format!("{}: {error}", slave.display())),
            };
            both(sum, below)
        })
    }

    /// Whether a multipath map queues without a path; sysfs does not say, `dmsetup` does. `no_path_retry N` shows as
    /// queueing, too: it is multipathd that ends it, if it still runs.
    fn multipath(&mut self, disk: &Path) -> Inflight {
        let Some(map) = attribute(disk, "dm/name") else {
            return unknown("a multipath map without a name");
        };
        let table = match (self.table)(&map) {
            Ok(table) => table,
            Err(why) => return unknown(format!("multipath map {map}: {why}")),
        };
        // The features stand at the beginning, so an answer without it tells nothing.
        if !table.contains(" multipath ") {
            return unknown(format!("multipath map {map}: dmsetup's answer is not understood"));
        }
        let queues = table.contains("queue_if_no_path");
        self.note(
            &map,
            "queue_if_no_path",
            if queues { "yes" } else { "no" },
            "yes: writes wait while there is no path",
        );
        if !queues {
            return Inflight::Bounded(Duration::ZERO);
        }
        let module = self.sysfs.path("module/dm_multipath/parameters");
        let limit = self.read(&module, "queue_if_no_path_timeout_secs", "ends that queueing; 0: never");
        match limit.and_then(|text| seconds(&text)).filter(|limit| !limit.is_zero() && *limit <= LIMIT_MAX) {
            Some(limit) => Inflight::Bounded(limit),
            None => Inflight::Unbounded(format!(
                "multipath map {map} has queue_if_no_path; set no_path_retry fail for it in \
                 multipath.conf, or queue_if_no_path_timeout_secs=30 of dm_multipath"
            )),
        }
    }
}

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

/// Whether an image here can be reached by this host alone; None where that cannot be told.
#[must_use]
pub fn is_on_local_storage(path: &Path) -> Option<bool> {
    let magic = statfs(path).ok()?.filesystem_type().0;
    (LOCAL.contains(&magic) || magic == NFS).then(|| LOCAL.contains(&magic))
}

/// Drivers without a limit in sysfs.
fn without_limit(disk: &str) -> Inflight {
    let starts = |words: &[&str]| words.iter().any(|word| disk.starts_with(word));
    if starts(&["vd", "xvd"]) {
        return Inflight::Unbounded(format!(
            "{disk}: this driver waits for the hypervisor as long as that likes, and no setting of this host ends it; \
             attach the storage inside the guest (iSCSI, NVMe over fabrics) or pass an NVMe device through"
        ));
    }
    if starts(&["rbd"]) {
        return Inflight::Unbounded(format!(
            "{disk} waits for its cluster for ever; map it with osd_request_timeout=30"
        ));
    }
    if starts(&["nbd"]) {
        return Inflight::Unbounded(format!("{disk}: its time-out is not to be seen here; nbd-client -timeout 30"));
    }
    unknown(format!("{disk}: this driver tells no time limit"))
}

fn dm_table(map: &str) -> Result<String, String> {
    let mut command = program::command("dmsetup");
    let answer = program::run(command.args(["table", "--target", "multipath", "--", map]), Some(DMSETUP_TIME));
    let answer = answer.map_err(|_| "dmsetup is not installed".to_owned())?;
    if answer.status.is_some_and(|status| status.success()) {
        Ok(answer.said)
    } else {
        Err("dmsetup cannot show it".to_owned())
    }
}

/// A soft NFS mount gives up after its retransmissions, each `timeo` longer than the one before.
pub(super) fn nfs(options: &str) -> Inflight {
    let number = |key: &str| -> Option<u64> {
        options.split(',').find_map(|option| option.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
    };
    if !options.split(',').any(|option| option == "soft" || option == "softerr") {
        return Inflight::Unbounded(
            "the image lies on a hard NFS mount, which retries for ever; mount it with soft,timeo=50,retrans=2".into(),
        );
    }
    match (number("timeo"), number("retrans")) {
        (Some(timeo), Some(retrans)) => {
            let steps = retrans.saturating_add(1);
            let tenths = timeo.saturating_mul(steps.saturating_mul(steps.saturating_add(1)) / 2);
            Inflight::Bounded(Duration::from_millis(tenths.saturating_mul(100)))
        }
        _ => unknown("the NFS mount does not tell timeo and retrans; mount it with soft,timeo=50,retrans=2"),
    }
}

fn seconds(text: &str) -> Option<Duration> {
    text.parse().ok().map(Duration::from_secs)
}

/// Seconds, or None for "off", negative numbers, and what is as good as never.
fn limit(text: &str) -> Option<Duration> {
    seconds(text).filter(|time| *time <= LIMIT_MAX)
}
