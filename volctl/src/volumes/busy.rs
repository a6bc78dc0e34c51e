//! Who uses a mount: open files, working directories, mapped files, found by the number of the mount in `/proc`.
//!
//! The number stays the same when a mount is hidden or lazily detached, so its users can be named even then.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::mountinfo::{self, MountLine, mount_id, mount_id_of_fdinfo};
use super::sysfs::{attribute, entries, name};

/// One use of a mount by a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusyProcess {
    /// Name of the program, as the kernel knows it.
    pub program: String,
    /// Its process id.
    pub pid: i32,
    /// Login name of its user, or the number when it has none.
    pub user: String,
    /// The file or directory.
    pub path: PathBuf,
    /// Whether it may write through it.
    pub for_writing: bool,
}

impl fmt::Display for BusyProcess {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.for_writing { ", for writing" } else { "" };
        write!(out, "{} (pid {}, {}: {}{how})", self.program, self.pid, self.user, self.path.display())
    }
}

/// Which mounts are meant.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    mount_ids: BTreeSet<u64>,
    /// `major:minor` of the file system, to know its mounts in other mount namespaces.
    device: Option<String>,
}

impl Scope {
    /// One mount, and its copies in other mount namespaces.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn of_mount(directory: impl AsFd) -> io::Result<Self> {
        Self::of_id(mount_id(directory)?)
    }

    /// The mount with this number, and its copies in other mount namespaces while it is attached.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn of_id(id: u64) -> io::Result<Self> {
        let device = mountinfo::own()?.into_iter().find(|line| line.id == id).map(|line| line.device);
        Ok(Self { mount_ids: BTreeSet::from([id]), device })
    }

    /// Several mounts by number only, such as lazily detached ones.
    #[must_use]
    pub fn of_ids(ids: impl IntoIterator<Item = u64>) -> Self {
        Self { mount_ids: ids.into_iter().collect(), device: None }
    }

    pub(super) fn of_line(line: &MountLine) -> Self {
        Self { mount_ids: BTreeSet::from([line.id]), device: Some(line.device.clone()) }
    }
}

/// Everybody who uses these mounts; a process appears once for each file.
///
/// A process that ends while it is being looked at is left out.
#[must_use]
pub fn who_holds(scope: &Scope) -> Vec<BusyProcess> {
    let own_namespace = fs::read_link("/proc/self/ns/mnt").ok();
    let mut others: BTreeMap<PathBuf, BTreeSet<u64>> = BTreeMap::new();
    let mut found = Vec::new();
    for process in entries(Path::new("/proc")) {
        let Ok(pid) = name(&process).parse::<i32>() else {
            continue;
        };
        let namespace = fs::read_link(process.join("ns/mnt")).ok();
        match (namespace, &scope.device) {
            (Some(namespace), Some(device)) if Some(&namespace) != own_namespace.as_ref() => {
                let ids = others.entry(namespace).or_insert_with(|| {
                    let lines = mountinfo::read(&process.join("mountinfo")).unwrap_or_default();
                    let copies = lines.into_iter().filter(|line| line.device == *device).map(|line| line.id);
                    copies.chain(scope.mount_ids.iter().copied()).collect()
                });
                look_at(pid, &process, ids, &mut found);
            }
            _ => look_at(pid, &process, &scope.mount_ids, &mut found),
        }
    }
    found
}

/// Those of [`who_holds`] that may write: without any, a volume is idle (auto response, section 7).
///
/// # Errors
/// When `/proc` cannot be read.
pub fn open_for_writing(mount: impl AsFd) -> io::Result<Vec<BusyProcess>> {
    let mut found = who_holds(&Scope::of_mount(mount)?);
    found.retain(|process| process.for_writing);
    Ok(found)
}

fn look_at(pid: i32, process: &Path, ids: &BTreeSet<u64>, found: &mut Vec<BusyProcess>) {
    let mut uses: BTreeMap<PathBuf, bool> = BTreeMap::new();
    for info in entries(&process.join("fdinfo")) {
        let Ok(text) = fs::read_to_string(&info) else {
            continue;
        };
        if mount_id_of_fdinfo(&text).is_some_and(|id| ids.contains(&id)) {
            let path = fs::read_link(process.join("fd").join(name(&info))).unwrap_or_default();
            *uses.entry(path).or_default() |= opened_for_writing(&text);
        }
    }
    for link in ["cwd", "root"] {
        let link = process.join(link);
        if lies_on(&link, ids) {
            uses.entry(fs::read_link(&link).unwrap_or_default()).or_default();
        }
    }
    for (path, writes) in mapped_files(process, ids) {
        *uses.entry(path).or_default() |= writes;
    }
    if uses.is_empty() {
        return;
    }
    let program = attribute(process, "comm").unwrap_or_default();
    let user = fs::metadata(process).map(|metadata| user_name(metadata.uid())).unwrap_or_default();
    found.extend(uses.into_iter().map(|(path, for_writing)| BusyProcess {
        program: program.clone(),
        pid,
        user: user.clone(),
        path,
        for_writing,
    }));
}

/// Whether what a link in `/proc` leads to lies on one of the mounts. Opening with O_PATH asks no file system.
fn lies_on(link: &Path, ids: &BTreeSet<u64>) -> bool {
    let opened = File::options().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC).open(link);
    opened.and_then(mount_id).is_ok_and(|id| ids.contains(&id))
}

fn opened_for_writing(fdinfo: &str) -> bool {
    let flags = fdinfo.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|text| i32::from_str_radix(text.trim(), 8).ok()).unwrap_or(0);
    flags & libc::O_PATH == 0 && flags & libc::O_ACCMODE != libc::O_RDONLY
}

/// Files mapped into memory: `maps` names them, `map_files` leads to them. Each file is looked at once.
fn mapped_files(process: &Path, ids: &BTreeSet<u64>) -> Vec<(PathBuf, bool)> {
    let Ok(maps) = fs::read(process.join("maps")) else {
        return Vec::new();
    };
    let maps = String::from_utf8_lossy(&maps);
    let mut seen: BTreeMap<(&str, &str), (String, bool)> = BTreeMap::new();
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(range), Some(rights), Some(_), Some(device), Some(inode)) =
            (fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if inode == "0" {
            continue;
        }
        let writes = rights.contains('w') && rights.contains('s');
        seen.entry((device, inode)).or_insert_with(|| (range.to_owned(), false)).1 |= writes;
    }
    seen.into_values()
        .filter_map(|(range, writes)| {
            let link = process.join("map_files").join(trimmed_range(&range)?);
            lies_on(&link, ids).then(|| (fs::read_link(&link).unwrap_or_default(), writes))
        })
        .collect()
}

/// `maps` pads addresses with zeros, `map_files` does not.
fn trimmed_range(range: &str) -> Option<String> {
    let (from, to) = range.split_once('-')?;
    let from = u64::from_str_radix(from, 16).ok()?;
    let to = u64::from_str_radix(to, 16).ok()?;
    Some(format!("{from:x}-{to:x}"))
}

fn user_name(uid: u32) -> String {
    match nix::unistd::User::from_uid(uid.into()) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_descriptors_that_can_write_count_as_writing() {
        assert!(opened_for_writing("pos:\t0\nflags:\t0100001\nmnt_id:\t29\n"));
        assert!(opened_for_writing("pos:\t0\nflags:\t0100002\nmnt_id:\t29\n"));
        assert!(!opened_for_writing("pos:\t0\nflags:\t0100000\nmnt_id:\t29\n"));
        assert!(!opened_for_writing("pos:\t0\nflags:\t012000002\nmnt_id:\t29\n"), "O_PATH opens nothing");
    }

    #[test]
    fn this_process_is_found_by_its_open_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let held = who_holds(&Scope::of_mount(file.as_file()).unwrap());
        let own = held.iter().find(|process| process.path == file.path()).unwrap();
        assert_eq!(own.pid, i32::try_from(std::process::id()).unwrap());
        assert!(own.for_writing);
    }
}
