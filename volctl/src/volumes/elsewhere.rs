//! The same mount in other mount namespaces.
//!
//! A service that starts with a mount namespace of its own takes a copy of every mount along, and that copy keeps
//! the file system alive after it was unmounted here: it would go on writing under the next writer. So copies
//! that nobody uses are detached over there, and the others are named.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam::channel::bounded;
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use super::busy::{Scope, who_holds};
use super::mountinfo::{self, MountLine};
use super::sysfs::{attribute, entries, name};

/// How long the detaching in another namespace may take.
const THERE_TIME: Duration = Duration::from_secs(1);

/// A mount of the same file system in another mount namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountCopy {
    /// A process that lives in that namespace.
    pub pid: i32,
    /// Its program.
    pub program: String,
    /// Where the copy is, as that process sees it.
    pub target: PathBuf,
    mount_id: u64,
}

impl fmt::Display for MountCopy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, program, target, .. } = self;
        write!(out, "the mount namespace of {program} (pid {pid}: {})", target.display())
    }
}

/// Finds the mounts of a file system in all mount namespaces but our own.
fn find(device: &str) -> Vec<MountCopy> {
    let mut seen: BTreeSet<PathBuf> = fs::read_link("/proc/self/ns/mnt").into_iter().collect();
    let mut copies = Vec::new();
    for process in entries(Path::new("/proc")) {
        let Ok(pid) = name(&process).parse::<i32>() else {
            continue;
        };
        let Ok(namespace) = fs::read_link(process.join("ns/mnt")) else {
            continue;
        };
        if !seen.insert(namespace) {
            continue;
        }
        let lines = mountinfo::read(&process.join("mountinfo")).unwrap_or_default();
        let program = attribute(&process, "comm").unwrap_or_default();
        copies.extend(lines.into_iter().filter(|line| line.device == device).map(|line| MountCopy {
            pid,
            program: program.clone(),
            target: line.target,
            mount_id: line.id,
        }));
    }
    copies
}

/// Detaches the copies that no process uses; returns those that stay.
pub(super) fn let_go_of_idle(line: &MountLine) -> Vec<MountCopy> {
    let mut copies = find(&line.device);
    // One look at all processes is enough when, as usual, nobody uses any copy.
    let all = Scope::of_ids(copies.iter().map(|copy| copy.mount_id));
    let all_idle = copies.is_empty() || who_holds(&all).is_empty();
    copies.retain(|copy| {
        let idle = all_idle || who_holds(&Scope::of_ids([copy.mount_id])).is_empty();
        !idle || detach_there(copy).is_err()
    });
    copies
}

/// Detaches, everywhere but here, the copies that nobody uses of the mount on this device; returns those that stay.
///
/// For a reader's old generation, which would otherwise keep its snapshot held.
#[must_use]
pub fn let_go_of_copies(device_source: &Path) -> Vec<MountCopy> {
    let lines = mountinfo::own().unwrap_or_default();
    lines.iter().find(|line| line.source == device_source).map(let_go_of_idle).unwrap_or_default()
}

/// Enters the other namespace with a thread of its own, which ends there: nothing of that namespace is executed. Any user
/// can have a namespace of his own, with a file system of his own on the way to the copy that never answers: then the
/// thread is left behind, and the copy stays and is named.
fn detach_there(copy: &MountCopy) -> nix::Result<()> {
    let namespace = File::open(format!("/proc/{}/ns/mnt", copy.pid)).map_err(|_| nix::errno::Errno::ESRCH)?;
    let target = copy.target.clone();
    let (done, detached) = bounded(1);
    std::thread::spawn(move || {
        let result = (|| {
            unshare(CloneFlags::CLONE_FS)?;
            setns(&namespace, CloneFlags::CLONE_NEWNS)?;
            umount2(&target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
        })();
        // Nobody waits any more, if it took too long.
        let _ = done.send(result);
    });
    detached.recv_timeout(THERE_TIME).unwrap_or(Err(nix::errno::Errno::ETIMEDOUT))
}
