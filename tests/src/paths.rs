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
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::mount::{MntFlags, umount2};

pub use judge::{Line, Seen};
pub use serve::serve;
use serve::{Order, Spec};
pub use valve::Mode;

use crate::studio::{Client, LoopDevice, Options, Studio};

/// A daemon that is told to end has ended.
const ENDS: Duration = Duration::from_secs(20);

/// The image of a studio's control volume.
pub const CONTROL: &str = "control.img";
/// Where the administrator's commands come from: a host without a daemon.
const DESK: &str = "desk";

/// The paths of several hosts to a control volume and volumes, until this is dropped.
pub struct Paths {
    disks: Vec<(String, String, LoopDevice)>,
    talk: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    child: Child,
}

impl Paths {
    /// Gives each client of a studio, whose daemons do not run yet, a path of its own to the control volume and to one volume
    /// on an image in the studio's directory, and the administrator one to the control volume. `program` serves when it
    /// is called with `paths`.
    ///
    /// # Panics
    /// When that does not work.
    #[must_use]
    pub fn between(program: &Path, studio: &mut Studio, clients: &[Client], volume: &str, options: &Options) -> Self {
        let image = format!("{volume}.img");
        let mut hosts: Vec<(&str, Option<u16>)> = clients.iter().map(|c| (c.name(), Some(c.slot()))).collect();
        hosts.push((DESK, None));
        studio.witness.hosts_have_disks();
        let program = program.display().to_string();
        let paths = Self::serve(&[&program, "paths"], studio.dir(), CONTROL, &[&image], &hosts);
        studio.control = paths.disk(DESK, CONTROL).to_owned();
        for client in clients {
            let disk = |image: &str| paths.disk(client.name(), image).display().to_string();
            let options = options.clone().set("control", &disk(CONTROL));
            client.configure(&options.set(&format!("devices.{volume}"), &disk(&image)));
        }
        paths
    }

    /// Ends every daemon, then the paths, then the studio, and shows that nobody wrote who had no grant.
    ///
    /// # Panics
    /// When anything is left or wrong.
    pub fn end(self, mut studio: Studio, clients: &[Client]) {
        for client in clients {
            client.terminate();
        }
        for client in clients {
            client.ended(ENDS);
        }
        let seen = self.seen();
        assert!(seen.violations.is_empty(), "WRITTEN WITHOUT A GRANT: {:#?}", seen.violations);
        drop(self);
        studio.control = studio.dir().join(CONTROL);
        studio.end();
    }

    /// Serves the images `control` and `volumes` of a directory to hosts, each named with its slot if it has one.
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
