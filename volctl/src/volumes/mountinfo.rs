//! `/proc/PID/mountinfo`: which mounts there are, and of what.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

/// One line of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MountLine {
    /// Number of the mount, as in `/proc/PID/fdinfo`.
    pub(super) id: u64,
    /// Number of the mount on which it is mounted.
    pub(super) parent: u64,
    /// `major:minor` of the file system (on btrfs of the file system, not of the subvolume).
    pub(super) device: String,
    /// Where it is mounted.
    pub(super) target: PathBuf,
    options: String,
    /// Whether mounts in it show elsewhere, or mounts from elsewhere show in it.
    pub(super) propagates: bool,
    /// What was mounted, usually the path of a block device.
    pub(super) source: PathBuf,
    /// The options of the file system itself, such as `rw,soft,timeo=600`.
    pub(super) super_options: String,
}

impl MountLine {
    /// Whether both the mount and its file system can be written to.
    pub(super) fn writable(&self) -> bool {
        let read_only = |options: &str| options.split(',').any(|option| option == "ro");
        !read_only(&self.options) && !read_only(&self.super_options)
    }
}

/// The options of the file system with this `major:minor`.
pub(super) fn super_options(device: &str) -> Option<String> {
    own().ok()?.into_iter().find(|mount| mount.device == device).map(|mount| mount.super_options)
}

/// Reads the mounts of our own mount namespace.
pub(super) fn own() -> io::Result<Vec<MountLine>> {
    read(Path::new("/proc/self/mountinfo"))
}

/// Reads one mountinfo file; lines that cannot be understood are left out.
pub(super) fn read(path: &Path) -> io::Result<Vec<MountLine>> {
    Ok(lines(&fs::read(path)?))
}

/// The lines of a mountinfo that can be understood.
pub(super) fn lines(text: &[u8]) -> Vec<MountLine> {
    String::from_utf8_lossy(text).lines().filter_map(parse).collect()
}

fn parse(line: &str) -> Option<MountLine> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ');
    let id = left.next()?.parse().ok()?;
    let parent = left.next()?.parse().ok()?;
    let device = left.next()?.to_owned();
    let _root = left.next()?;
    let target = unescape(left.next()?);
    let options = left.next()?.to_owned();
    let propagates = left.any(|tag| tag.starts_with("shared:") || tag.starts_with("master:"));
    let mut right = right.split(' ');
    let _fs_type = right.next()?;
    let source = unescape(right.next()?);
    let super_options = right.next().unwrap_or_default().to_owned();
    Some(MountLine { id, parent, device, target, options, propagates, source, super_options })
}

/// Undoes the `\040` that the kernel writes for a space, tab, line end or backslash.
fn unescape(text: &str) -> PathBuf {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, tail) = rest.split_at(at);
        out.push_str(before);
        let code = tail.get(1..4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                out.push(char::from(code));
                rest = &tail[4..];
            }
            None => {
                out.push('\\');
                rest = &tail[1..];
            }
        }
    }
    out.push_str(rest);
    PathBuf::from(out)
}

/// Number of the mount on which an open descriptor lies.
pub(super) fn mount_id(descriptor: impl AsFd) -> io::Result<u64> {
    let path = format!("/proc/self/fdinfo/{}", descriptor.as_fd().as_raw_fd());
    let text = fs::read_to_string(path)?;
    mount_id_of_fdinfo(&text).ok_or_else(|| io::Error::other("the kernel's fdinfo has no mnt_id"))
}

/// The `mnt_id` of the text of an fdinfo file.
pub(super) fn mount_id_of_fdinfo(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{PathBuf, parse};

    #[test]
    fn escaped_targets_and_propagation_are_read() {
        let line = r"36 35 98:0 /mnt1 /a\040b\134c rw,noatime shared:7 master:1 - ext3 /dev/root rw,errors=continue";
        let mount = parse(line).unwrap();
        assert_eq!(mount.target, PathBuf::from(r"/a b\c"));
        assert_eq!((mount.id, mount.parent, mount.device.as_str()), (36, 35, "98:0"));
        assert!(mount.propagates);
        assert_eq!(mount.source, PathBuf::from("/dev/root"));
        let private = parse("36 35 98:0 / /x rw - ext4 /dev/loop1 rw").unwrap();
        assert!(!private.propagates);
    }
}
