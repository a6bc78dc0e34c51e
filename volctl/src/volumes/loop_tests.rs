//! Tests on real loop devices (root): each makes its own image, loop devices and mount root, and cleans them up
//! even when it fails.

mod mounts;
mod publishing;
mod release;

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::Hasher;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, umount2};

use super::fscheck::mkfs;
use super::mounting::root::{prepare_mount_root, tear_down_mount_root};
use super::mounting::{DetachedMount, MountRoot, mount_writer};
use ondisk::FsKind;

pub(super) const KINDS: [FsKind; 3] = [FsKind::Ext4, FsKind::Xfs, FsKind::Btrfs];

/// An image with a file system, its loop devices, and a mount root of its own.
pub(super) struct Bed {
    pub(super) root: MountRoot,
    pub(super) image: PathBuf,
    loops: Vec<Loop>,
    dir: tempfile::TempDir,
}

impl Bed {
    pub(super) fn new(kind: FsKind) -> Self {
        let bed = Self::empty(320);
        mkfs(&bed.image, kind, "test").unwrap();
        bed
    }

    pub(super) fn empty(mebibytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        File::create(&image).unwrap().set_len(mebibytes << 20).unwrap();
        let root = prepare_mount_root(&dir.path().join("volumes")).unwrap();
        Self { root, image, loops: Vec::new(), dir }
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A new loop device over the image, which lasts as long as the bed.
    pub(super) fn open_loop(&mut self, read_only: bool) -> PathBuf {
        let device = open_loop(&self.image, read_only);
        let path = device.0.clone();
        self.loops.push(device);
        path
    }

    /// Mounts the writer at the volume name `w`.
    pub(super) fn writer(&mut self, kind: FsKind) -> PathBuf {
        let device = self.open_loop(false);
        let mount = mount_writer(&device, kind, kind == FsKind::Btrfs).unwrap();
        self.root.attach(mount, "w").unwrap();
        device
    }

    pub(super) fn reader(&mut self, kind: FsKind, subvol: Option<&str>) -> DetachedMount {
        let device = self.open_loop(true);
        super::mounting::mount_reader(&device, kind, subvol).unwrap()
    }

    /// A hash of every byte of the image, read past the page cache of the loop devices.
    pub(super) fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let mut file = File::open(&self.image).unwrap();
        let mut buffer = vec![0; 1 << 20];
        loop {
            let count = file.read(&mut buffer).unwrap();
            if count == 0 {
                return hasher.finish();
            }
            hasher.write(&buffer[..count]);
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for leftover in self.root.leftovers().unwrap_or_default() {
            let _best_effort = self.root.detach_leftover(&leftover);
        }
        self.loops.clear();
        let _best_effort = tear_down_mount_root(self.root.clone());
    }
}

/// A loop device that goes when it is dropped, or when what is mounted on it has gone.
pub(super) struct Loop(pub(super) PathBuf);

impl Drop for Loop {
    fn drop(&mut self) {
        let _best_effort = Command::new("losetup").arg("-d").arg(&self.0).output();
    }
}

pub(super) fn open_loop(image: &Path, read_only: bool) -> Loop {
    let mut command = Command::new("losetup");
    command.args(["--find", "--show", "--direct-io=on"]);
    if read_only {
        command.arg("--read-only");
    }
    let output = command.arg(image).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Loop(PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()))
}

/// What is mounted there goes when the test ends.
pub(super) struct Detached(pub(super) PathBuf);

impl Drop for Detached {
    fn drop(&mut self) {
        let _best_effort = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// A child process that is killed when the test ends.
pub(super) struct Victim(pub(super) std::process::Child);

impl Victim {
    /// A shell that holds a file open, once it does.
    pub(super) fn holding(file: &Path, mode: &str) -> Self {
        let script = format!("exec 9{mode}\"$0\"; echo ready; read line");
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .arg(file)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
        Self(child)
    }

    pub(super) fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

pub(super) fn write(root: &MountRoot, file: &str, text: &str) {
    fs::write(root.path_of("w").join(file), text).unwrap();
}
