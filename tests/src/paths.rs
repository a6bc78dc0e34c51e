//! Each host's own path to the same disks, which can be slow, fail, hold writes back or be cut, alone and at any time.
//!
//! ```text
//!   DIR/footage.img           the disk
//!      ^ pread, pwrite        one process serves every path, keeps the order in which bytes land, and judges each write
//!   FUSE file, one a host
//!      ^ direct I/O
//!   /dev/loopN                the host's "disk": what its configuration names
//!      ^ direct I/O
//!   /dev/loopM                the gate that volctl makes
//! ```
//! The FUSE mounts are detached as soon as the loop devices have opened their files: nothing can stumble over them, and they
//! go with the last loop device. The kernel shows a detached file's path from its mount's root, and below that each image
//! has the path that it has in truth: so volctl, which looks through loop devices, finds an image on a local file system,
//! whose late writes it need not wait for.

mod judge;
mod serve;
mod valve;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use nix::mount::{MntFlags, umount2};

pub use judge::{Line, Seen};
pub use serve::serve;
use serve::{Order, Spec};
pub use valve::Mode;

use crate::studio::LoopDevice;

/// The paths of several hosts to a control volume and volumes, until this is dropped.
pub struct Paths {
    disks: Vec<(String, String, LoopDevice)>,
    talk: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    child: Child,
}

impl Paths {
    /// Serves the images `control` and `volumes` of a directory to hosts, each named with its slot if it has one. `program`
    /// and its first arguments run [`serve`].
    ///
    /// # Panics
    /// When that does not work.
    #[must_use]
    pub fn serve(program: &[&str], dir: &Path, control: &str, volumes: &[&str], hosts: &[(&str, Option<u16>)]) -> Self {
        let spec = Spec {
            dir: dir.to_owned(),
            control: control.to_owned(),
            volumes: volumes.iter().map(|&v| v.to_owned()).collect(),
            hosts: hosts.iter().map(|(name, slot)| ((*name).to_owned(), *slot)).collect(),
        };
        let text = serde_json::to_string(&spec).expect("JSON");
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).arg(text).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the process behind the paths");
        let stdin = child.stdin.take().expect("a pipe");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut ready = String::new();
        let _ = stdout.read_line(&mut ready);
        assert_eq!(ready.trim(), "ready", "the process behind the paths does not serve");
        let mut paths = Self { disks: Vec::new(), talk: Mutex::new((stdin, stdout)), child };
        for (host, slot) in hosts {
            let images = volumes.iter().filter(|_| slot.is_some()).chain(std::iter::once(&control));
            for image in images {
                let disk = LoopDevice::attach(&spec.shown(host, image), 512);
                paths.disks.push(((*host).to_owned(), (*image).to_owned(), disk));
            }
            umount2(&spec.mount_point(host), MntFlags::MNT_DETACH).expect("it can be detached");
        }
        paths
    }

    /// The block device by which a host sees an image.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn disk(&self, host: &str, image: &str) -> &Path {
        let found = self.disks.iter().find(|(h, i, _)| h == host && i == image);
        found.map(|(_, _, disk)| disk.path()).unwrap_or_else(|| panic!("{host} has no path to {image}"))
    }

    /// Numbers of all those loop devices: disks, not gates.
    #[must_use]
    pub fn numbers(&self) -> Vec<(u32, String)> {
        let number = |path: &Path| path.to_str()?.strip_prefix("/dev/loop")?.parse().ok();
        self.disks.iter().filter_map(|(_, image, disk)| Some((number(disk.path())?, image.clone()))).collect()
    }

    /// What a host's path to an image does from now on.
    ///
    /// # Panics
    /// When the process behind it is gone.
    pub fn set(&self, host: &str, image: &str, mode: Mode) {
        let _ = self.order(&Order::Set { host: host.to_owned(), image: image.to_owned(), mode });
    }

    /// What was seen at the disk.
    ///
    /// # Panics
    /// As [`Paths::set`].
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.order(&Order::Report)
    }

    fn order(&self, order: &Order) -> Seen {
        let mut talk = self.talk.lock().unwrap_or_else(PoisonError::into_inner);
        let (stdin, stdout) = &mut *talk;
        let mut line = serde_json::to_string(order).expect("JSON");
        line.push('\n');
        stdin.write_all(line.as_bytes()).expect("the process behind the paths is there");
        let mut answer = String::new();
        stdout.read_line(&mut answer).expect("the process behind the paths answers");
        serde_json::from_str(&answer).expect("an answer")
    }
}

impl Drop for Paths {
    /// First the process: whatever still waits in a path gets its error, so that nothing hangs in the kernel.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.disks.clear();
    }
}

/// This package's own program, which serves when it is called with `paths`.
#[must_use]
pub fn program() -> PathBuf {
    std::env::current_exe().expect("a program knows where it is")
}
