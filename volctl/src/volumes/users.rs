//! Who uses a device or image on this host: mounts, swap, devices made of it, loop devices over it.

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::mountinfo::{self, MountLine};
use super::sysfs::{SysFs, attribute, entries, name};

/// More layers than this are not looked through.
const LAYERS_MAX: u32 = 8;

/// Each use of a path, in words; empty when nobody uses it, as far as the kernel tells.
#[must_use]
pub fn users(path: &Path) -> Vec<String> {
    let Ok(metadata) = fs::metadata(path) else { return Vec::new() };
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let mounts = mountinfo::own().unwrap_or_default();
    let sysfs = SysFs::real();
    Look { sysfs: &sysfs, mounts: &mounts, swaps: &swaps }.of(path, &metadata)
}

struct Look<'a> {
    sysfs: &'a SysFs,
    mounts: &'a [MountLine],
    swaps: &'a str,
}

impl Look<'_> {
    fn of(&self, path: &Path, metadata: &Metadata) -> Vec<String> {
        let mut found = Vec::new();
        if metadata.is_file() {
            if self.is_swap(path) {
                found.push("swap".to_owned());
            }
        } else if let Some(directory) = self.sysfs.block(metadata.rdev()) {
            self.device(&directory, "", 0, &mut found);
        }
        let same = |other: &Metadata| match metadata.file_type().is_block_device() {
            true => other.file_type().is_block_device() && other.rdev() == metadata.rdev(),
            false => (other.dev(), other.ino()) == (metadata.dev(), metadata.ino()),
        };
        self.loops(&same, &mut found);
        found
    }

    /// What is made directly of a block device, and of its partitions.
    fn device(&self, directory: &Path, prefix: &str, depth: u32, found: &mut Vec<String>) {
        if depth > LAYERS_MAX {
            return;
        }
        let own = name(directory);
        let number = attribute(directory, "dev").unwrap_or_default();
        for mount in self.mounts.iter().filter(|mount| is_mount_of(mount, own, &number)) {
            let how = if mount.writable() { "read-write" } else { "read-only" };
            found.push(format!("{prefix}mounted at {}, {how}", mount.target.display()));
        }
        if self.is_swap(&Path::new("/dev").join(own)) {
            found.push(format!("{prefix}swap"));
        }
        for holder in entries(&directory.join("holders")) {
            let map = attribute(&holder, "dm/name").map_or_else(String::new, |map| format!(" ({map})"));
            found.push(format!("{prefix}part of {}{map}", name(&holder)));
            if let Ok(holder) = fs::canonicalize(&holder) {
                self.device(&holder, &format!("{prefix}{}: ", name(&holder)), depth.saturating_add(1), found);
            }
        }
        for part in entries(directory).iter().filter(|part| part.join("partition").exists()) {
            self.device(part, &format!("{prefix}partition {}: ", name(part)), depth.saturating_add(1), found);
        }
    }

    /// Loop devices over what `same` recognises.
    fn loops(&self, same: &dyn Fn(&Metadata) -> bool, found: &mut Vec<String>) {
        for device in entries(&self.sysfs.path("block")) {
            let Some(backing) = attribute(&device, "loop/backing_file") else { continue };
            if fs::metadata(&backing).is_ok_and(|metadata| same(&metadata)) {
                found.push(format!("under the loop device {}", name(&device)));
                self.device(&device, &format!("{}: ", name(&device)), 1, found);
            }
        }
    }

    fn is_swap(&self, path: &Path) -> bool {
        let path = path.display().to_string();
        self.swaps.lines().skip(1).any(|line| line.split_whitespace().next() == Some(&path))
    }
}

/// On btrfs the number is the file system's own, so the source counts, too.
fn is_mount_of(mount: &MountLine, device: &str, number: &str) -> bool {
    if mount.device == number {
        return true;
    }
    let source = &mount.source;
    source.starts_with("/dev") && (name(source) == device || fs::canonicalize(source).is_ok_and(|s| name(&s) == device))
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

    fn look(root: &Path, below: &str, mounts: &str, swaps: &str) -> Vec<String> {
        let sysfs = SysFs::at(root);
        let mounts = mountinfo::lines(mounts.as_bytes());
        let mut found = Vec::new();
        Look { sysfs: &sysfs, mounts: &mounts, swaps }.device(&root.join(below), "", 0, &mut found);
        found
    }

    #[test]
    fn mounts_of_the_disk_its_partitions_and_what_is_made_of_it_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        put(root, "block/sda/dev", "8:0\n");
        put(root, "block/sda/sda1/dev", "8:1\n");
        put(root, "block/sda/sda1/partition", "1\n");
        put(root, "block/sda/sda2/dev", "8:2\n");
        put(root, "block/sda/sda2/partition", "2\n");
        put(root, "block/dm-0/dev", "253:0\n");
        put(root, "block/dm-0/dm/name", "vg-lv\n");
        fs::create_dir_all(root.join("block/sda/sda2/holders")).unwrap();
        symlink(root.join("block/dm-0"), root.join("block/sda/sda2/holders/dm-0")).unwrap();
        let mounts = "1 0 8:1 / /boot ro - ext4 /dev/sda1 ro\n2 0 253:0 / /srv/a\\040b rw - xfs /dev/mapper/vg-lv rw\n";
        let found = look(root, "block/sda", mounts, "");
        assert_eq!(
            found,
            [
                "partition sda1: mounted at /boot, read-only",
                "partition sda2: part of dm-0 (vg-lv)",
                "partition sda2: dm-0: mounted at /srv/a b, read-write"
            ]
        );
        assert!(look(root, "block/sda", "", "").len() == 1, "the map remains");
    }

    /// The number of a btrfs mount is no number of a device.
    #[test]
    fn btrfs_is_found_by_its_source_and_swap_by_its_path() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "block/sdb/dev", "8:16\n");
        let swaps = "Filename Type Size Used Priority\n/dev/sdb partition 8 0 -2\n";
        let found = look(dir.path(), "block/sdb", "1 0 0:44 / /b rw - btrfs /dev/sdb rw\n", swaps);
        assert_eq!(found, ["mounted at /b, read-write", "swap"]);
        assert!(look(dir.path(), "block/sdb", "1 0 0:44 / /b rw - btrfs /dev/sdc rw\n", "x\n/dev/sdc y\n").is_empty());
    }

    #[test]
    fn a_loop_device_over_an_image_is_a_user_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        fs::write(&image, b"x").unwrap();
        put(dir.path(), "block/loop3/loop/backing_file", &image.display().to_string());
        put(dir.path(), "block/loop3/dev", "7:3\n");
        let sysfs = SysFs::at(dir.path());
        let mounts = mountinfo::lines(b"1 0 7:3 / /m rw - ext4 /dev/loop3 rw\n");
        let look = Look { sysfs: &sysfs, mounts: &mounts, swaps: "" };
        let found = look.of(&image, &fs::metadata(&image).unwrap());
        assert_eq!(found, ["under the loop device loop3", "loop3: mounted at /m, read-write"]);
    }
}
