//! What a device or image is, layer by layer, and what the kernel says of it: for people who choose one.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::sys::statfs::statfs;
use serde::Serialize;

use super::sysfs::{SysFs, attribute, entries, name};

/// More layers than this are not looked through.
const LAYERS_MAX: u32 = 8;

/// What the uppermost layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// An image file.
    File,
    /// A loop device.
    Loop,
    /// A part of a disk.
    Partition,
    /// A SCSI disk, whatever carries it.
    Scsi,
    /// An NVMe namespace.
    Nvme,
    /// A virtio disk.
    Virtio,
    /// Several paths to one disk, under device-mapper.
    Multipath,
    /// Another device of device-mapper.
    DeviceMapper,
    /// A software RAID.
    Md,
    /// Anything else.
    Other,
}

/// How writes larger than a sector are kept whole, in bytes; zeroes: not at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Atomicity {
    /// `atomic_write_unit_min_bytes`.
    pub unit_min: u64,
    /// `atomic_write_unit_max_bytes`.
    pub unit_max: u64,
    /// `atomic_write_boundary_bytes`.
    pub boundary: u64,
}

/// What the kernel says of a device or image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Description {
    /// What it is.
    pub kind: DeviceKind,
    /// From the top down, in words.
    pub layers: Vec<String>,
    /// The disks at the bottom.
    pub disks: Vec<String>,
    /// Several ways lead to it.
    pub several_paths: bool,
    /// World-wide identifier, where the kernel knows one.
    pub wwid: Option<String>,
    /// The host drivers promise nothing more than sectors, or more.
    pub atomicity: Option<Atomicity>,
    /// `write back` (volatile) or `write through`.
    pub write_cache: Option<String>,
    /// Writes can be stable one by one.
    pub fua: Option<bool>,
    /// `LOGICAL BLOCKS of one COMPARE AND WRITE` by the disk's own page B0h; 0: none.
    pub caw_blocks: Option<u8>,
}

/// Describes a path.
#[must_use]
pub fn describe(path: &Path) -> Description {
    let sysfs = SysFs::real();
    let mut seen = Seen { sysfs: &sysfs, found: empty() };
    let kind = seen.path(path, 0);
    seen.found.kind = kind;
    seen.found
}

fn empty() -> Description {
    Description {
        kind: DeviceKind::Other,
        layers: Vec::new(),
        disks: Vec::new(),
        several_paths: false,
        wwid: None,
        atomicity: None,
        write_cache: None,
        fua: None,
        caw_blocks: None,
    }
}

struct Seen<'a> {
    sysfs: &'a SysFs,
    found: Description,
}

impl Seen<'_> {
    fn path(&mut self, path: &Path, depth: u32) -> DeviceKind {
        let Ok(metadata) = fs::metadata(path) else {
            self.layer(format!("{}, which is not there", path.display()));
            return DeviceKind::Other;
        };
        if metadata.is_file() {
            self.file(path, metadata.dev());
            return DeviceKind::File;
        }
        if metadata.file_type().is_block_device()
            && let Some(directory) = self.sysfs.block(metadata.rdev())
        {
            return self.device(&directory, depth);
        }
        self.layer(format!("{}, which sysfs does not know", path.display()));
        DeviceKind::Other
    }

    fn layer(&mut self, words: String) {
        self.found.layers.push(words);
    }

    fn file(&mut self, path: &Path, device: u64) {
        let system = statfs(path).map_or_else(|_| "a file system".to_owned(), |s| file_system(s.filesystem_type().0));
        let disk = self.sysfs.block(device).map(|directory| SysFs::disk(&directory));
        let below = disk.as_deref().map_or_else(String::new, |disk| format!(" of {}", name(disk)));
        self.layer(format!("image file {} on {system}{below}", path.display()));
        if let Some(disk) = disk {
            self.queue(&disk);
            self.found.disks.push(name(&disk).to_owned());
        }
    }

    fn device(&mut self, directory: &Path, depth: u32) -> DeviceKind {
        if depth > LAYERS_MAX {
            return DeviceKind::Other;
        }
        let disk = SysFs::disk(directory);
        if disk == directory {
            return self.disk(&disk, depth);
        }
        self.layer(format!("partition {} of {}", name(directory), name(&disk)));
        self.disk(&disk, depth);
        DeviceKind::Partition
    }

    fn disk(&mut self, disk: &Path, depth: u32) -> DeviceKind {
        let disk_name = name(disk).to_owned();
        self.queue(disk);
        if let Some(backing) = attribute(disk, "loop/backing_file") {
            let direct = match attribute(disk, "loop/dio").as_deref() {
                Some("1") => "",
                _ => ", through the page cache (losetup --direct-io=on)",
            };
            self.layer(format!("loop device {disk_name} over {backing}{direct}"));
            self.path(Path::new(&backing), depth.saturating_add(1));
            return DeviceKind::Loop;
        }
        if disk_name.starts_with("loop") {
            self.layer(format!("loop device {disk_name} over nothing"));
            return DeviceKind::Loop;
        }
        if let Some(map) = attribute(disk, "dm/name") {
            return self.mapped(disk, &map, depth);
        }
        if disk.join("md").is_dir() {
            self.layer(format!("md array {disk_name}"));
            self.slaves(disk, depth);
            return DeviceKind::Md;
        }
        self.found.disks.push(disk_name.clone());
        if disk_name.starts_with("nvme") {
            return self.nvme(disk, &disk_name);
        }
        if disk_name.starts_with("sd") || disk.join("device/scsi_level").exists() {
            return self.scsi(disk, &disk_name);
        }
        if disk_name.starts_with("vd") {
            self.layer(format!("virtio disk {disk_name}"));
            return DeviceKind::Virtio;
        }
        self.layer(format!("block device {disk_name}"));
        DeviceKind::Other
    }

    fn mapped(&mut self, disk: &Path, map: &str, depth: u32) -> DeviceKind {
        let uuid = attribute(disk, "dm/uuid").unwrap_or_default();
        self.found.wwid.get_or_insert_with(|| uuid.clone());
        let below: Vec<String> = entries(&disk.join("slaves")).iter().map(|slave| name(slave).to_owned()).collect();
        let count = below.len();
        let kind = if uuid.starts_with("mpath-") {
            self.layer(format!("multipath map {map} of {count} paths: {}", below.join(", ")));
            self.found.several_paths |= count > 1;
            DeviceKind::Multipath
        } else {
            let owner = uuid.split_once('-').map_or("", |(owner, _)| owner);
            self.layer(format!("device-mapper device {map} {owner} on {}", below.join(", ")).replace("  ", " "));
            DeviceKind::DeviceMapper
        };
        self.slaves(disk, depth);
        kind
    }

    fn slaves(&mut self, disk: &Path, depth: u32) {
        for slave in entries(&disk.join("slaves")) {
            if let Ok(directory) = fs::canonicalize(&slave) {
                self.device(&directory, depth.saturating_add(1));
            }
        }
    }

    fn scsi(&mut self, disk: &Path, disk_name: &str) -> DeviceKind {
        let model = [attribute(disk, "device/vendor"), attribute(disk, "device/model")];
        let model = model.into_iter().flatten().collect::<Vec<_>>().join(" ");
        let address = fs::canonicalize(disk.join("device")).unwrap_or_default();
        let part = |prefix: &str| {
            address.components().any(|p| p.as_os_str().to_str().is_some_and(|text| text.starts_with(prefix)))
        };
        let by = if part("session") {
            ", iSCSI"
        } else if part("rport-") {
            ", Fibre Channel"
        } else if part("end_device-") {
            ", SAS"
        } else if part("virtio") {
            ", virtio"
        } else {
            ""
        };
        self.layer(format!("SCSI disk {disk_name}: {model}{by}"));
        let wwid = attribute(disk, "device/wwid");
        if self.found.wwid.is_none() {
            self.found.wwid = wwid;
        }
        if let Ok(page) = fs::read(disk.join("device/vpd_pgb0")) {
            self.found.caw_blocks = caw_blocks(&page).or(self.found.caw_blocks);
        }
        DeviceKind::Scsi
    }

    fn nvme(&mut self, disk: &Path, disk_name: &str) -> DeviceKind {
        let device = fs::canonicalize(disk.join("device")).unwrap_or_default();
        let mut controllers: Vec<_> = if device.join("transport").exists() {
            vec![device.clone()]
        } else {
            entries(&device).into_iter().filter(|entry| entry.join("transport").exists()).collect()
        };
        controllers.dedup();
        let model = controllers.first().and_then(|c| attribute(c, "model")).unwrap_or_default();
        let ways: Vec<String> = controllers
            .iter()
            .map(|c| format!("{} ({})", name(c), attribute(c, "transport").unwrap_or_default()))
            .collect();
        self.found.several_paths |= ways.len() > 1;
        self.layer(format!("NVMe namespace {disk_name}: {model}, by {}", ways.join(", ")));
        let wwid = attribute(disk, "wwid");
        if self.found.wwid.is_none() {
            self.found.wwid = wwid;
        }
        DeviceKind::Nvme
    }

    /// The uppermost layer that says something of itself counts: that is what is written to.
    fn queue(&mut self, disk: &Path) {
        let queue = disk.join("queue");
        let number = |file: &str| attribute(&queue, file).and_then(|text| text.parse::<u64>().ok());
        if self.found.atomicity.is_none() {
            self.found.atomicity = number("atomic_write_unit_max_bytes").map(|unit_max| Atomicity {
                unit_min: number("atomic_write_unit_min_bytes").unwrap_or(0),
                unit_max,
                boundary: number("atomic_write_boundary_bytes").unwrap_or(0),
            });
        }
        if self.found.write_cache.is_none() {
            self.found.write_cache = attribute(&queue, "write_cache");
            self.found.fua = number("fua").map(|fua| fua != 0);
        }
    }
}

/// MAXIMUM COMPARE AND WRITE LENGTH of the page "block limits".
fn caw_blocks(page: &[u8]) -> Option<u8> {
    (page.get(1) == Some(&0xb0)).then(|| page.get(5).copied()).flatten()
}

fn file_system(magic: i64) -> String {
    let known = match magic {
        0xEF53 => "ext4",
        0x5846_5342 => "XFS",
        0x9123_683E => "btrfs",
        0x0102_1994 => "tmpfs",
        0x8584_58F6 => "ramfs",
        0x794C_7630 => "overlayfs",
        0x6969 => "NFS",
        0x2FC1_2FC1 => "ZFS",
        _ => return format!("a file system of type {magic:#x}"),
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn put(root: &Path, file: &str, bytes: &[u8]) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn look(root: &Path, below: &str) -> Description {
        let sysfs = SysFs::at(root);
        let mut seen = Seen { sysfs: &sysfs, found: empty() };
        seen.found.kind = seen.device(&root.join(below), 0);
        seen.found
    }

    fn scsi(root: &Path, disk: &str, below: &str) {
        put(root, &format!("{below}/vendor"), b"LIO-ORG \n");
        put(root, &format!("{below}/model"), b"volume\n");
        put(root, &format!("{below}/wwid"), b"naa.6001\n");
        put(root, &format!("{below}/block/{disk}/queue/write_cache"), b"write back\n");
        symlink("../..", root.join(format!("{below}/block/{disk}/device"))).unwrap();
    }

    #[test]
    fn a_multipath_map_names_its_paths_and_each_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for (disk, session) in [("sda", "session1"), ("sdb", "session2")] {
            let below = format!("devices/host2/{session}/target2:0:0/2:0:0:1{disk}");
            scsi(root, disk, &below);
            let mut page = vec![0, 0xb0, 0, 60, 0, 1];
            page.resize(64, 0);
            put(root, &format!("{below}/vpd_pgb0"), &page);
            fs::create_dir_all(root.join("block/dm-0/slaves")).unwrap();
            symlink(root.join(below).join("block").join(disk), root.join("block/dm-0/slaves").join(disk)).unwrap();
        }
        put(root, "block/dm-0/dm/name", b"data\n");
        put(root, "block/dm-0/dm/uuid", b"mpath-3600\n");
        let found = look(root, "block/dm-0");
        assert_eq!(found.kind, DeviceKind::Multipath);
        assert!(found.several_paths);
        assert_eq!(found.layers[0], "multipath map data of 2 paths: sda, sdb");
        assert_eq!(found.layers[2], "SCSI disk sdb: LIO-ORG volume, iSCSI");
        assert_eq!(found.disks, ["sda", "sdb"]);
        assert_eq!((found.caw_blocks, found.wwid.as_deref()), (Some(1), Some("mpath-3600")));
        assert_eq!(found.write_cache.as_deref(), Some("write back"));
    }

    #[test]
    fn a_partition_says_of_what_and_atomic_writes_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        put(root, "devices/nvme0/transport", b"tcp\n");
        put(root, "devices/nvme0/model", b"Linux\n");
        put(root, "devices/nvme0/nvme0n1/nvme0n1p2/partition", b"2\n");
        put(root, "devices/nvme0/nvme0n1/queue/atomic_write_unit_max_bytes", b"65536\n");
        put(root, "devices/nvme0/nvme0n1/queue/fua", b"1\n");
        put(root, "devices/nvme0/nvme0n1/queue/write_cache", b"write through\n");
        symlink("..", root.join("devices/nvme0/nvme0n1/device")).unwrap();
        let found = look(root, "devices/nvme0/nvme0n1/nvme0n1p2");
        assert_eq!(found.kind, DeviceKind::Partition);
        assert_eq!(found.layers, ["partition nvme0n1p2 of nvme0n1", "NVMe namespace nvme0n1: Linux, by nvme0 (tcp)"]);
        assert_eq!(found.atomicity, Some(Atomicity { unit_min: 0, unit_max: 65536, boundary: 0 }));
        assert_eq!(found.fua, Some(true));
    }

    #[test]
    fn a_loop_device_through_the_page_cache_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let image = root.join("image");
        fs::write(&image, b"x").unwrap();
        put(root, "block/loop3/loop/backing_file", image.display().to_string().as_bytes());
        put(root, "block/loop3/loop/dio", b"0\n");
        let found = look(root, "block/loop3");
        assert_eq!(found.kind, DeviceKind::Loop);
        assert!(found.layers[0].contains("page cache"), "{:?}", found.layers);
        assert!(found.layers[1].starts_with("image file "), "{:?}", found.layers);
        put(root, "block/loop3/loop/dio", b"1\n");
        assert!(!look(root, "block/loop3").layers[0].contains("page cache"));
    }

    #[test]
    fn compare_and_write_is_read_only_from_its_own_page() {
        assert_eq!(caw_blocks(&[0, 0xb0, 0, 60, 0, 8]), Some(8));
        assert_eq!(caw_blocks(&[0, 0xb1, 0, 60, 0, 8]), None);
        assert_eq!(caw_blocks(&[0, 0xb0]), None);
    }
}
