//! Opening the device of a volume by a path that another host may have written (docs/security.md, boundary 2).
//!
//! The path stands in the tables, and whoever can write the control volume can write any path there. So the thing is
//! looked at before it is opened: opening a pipe would wait for ever, opening a terminal, a tape or a watchdog does
//! something by itself, and a file that somebody else may change would be a file system that changes under the kernel.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};

use lockdriver::gate::claimed_by_gates;
use lockdriver::trust::{Untrusted, check_owner};

/// Who named the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The tables: any host that can write the control volume.
    Tables,
    /// `[devices]` of the configuration: this host's administrator, who may know better.
    Configuration,
}

/// Why the thing behind a path was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpeningError {
    /// What the system said.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A pipe, a terminal, a directory: opening it may wait for ever, or do something.
    #[error("it is {0}, and a volume is a block device or an image; it was not opened")]
    NotAVolume(&'static str),
    /// An image that others than root may change under a mounted file system.
    #[error("the image is not safe: {0}; if it is meant, name it in [devices]")]
    Image(#[from] Untrusted),
    /// Mounted, or a part of something else, past volctl.
    #[error("this host uses it already: it is mounted by hand, swap, or a part of another device (lsblk shows it)")]
    InUse,
}

/// An exclusive look of another client on this host takes the device for an instant.
const CLAIM_TRIES: u32 = 10;
const CLAIM_PAUSE: Duration = Duration::from_millis(20);

/// Opens the block device or image that `path` names.
///
/// # Errors
/// An [`OpeningError`]; nothing but a block device or a regular file is ever opened.
pub fn open_volume(path: &Path, origin: Origin, write: bool) -> Result<File, OpeningError> {
    // O_PATH asks no driver and waits for nobody. Links are followed, they are how devices are named for good; but not
    // those of /proc, which lead into other processes.
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let place = File::from(openat2(AT_FDCWD, path, how).map_err(io::Error::from)?);
    let metadata = place.metadata()?;
    let kind = metadata.file_type();
    if kind.is_block_device() {
        refuse_claimed(&place)?;
    } else if kind.is_file() {
        if origin == Origin::Tables {
            check_owner(&metadata)?;
        }
    } else {
        return Err(OpeningError::NotAVolume(word(kind)));
    }
    reopen(&place, write, 0).map_err(OpeningError::from)
}

/// What is opened is the very thing that was looked at.
fn reopen(place: &File, write: bool, flags: i32) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", place.as_raw_fd());
    File::options().read(true).write(write).custom_flags(flags | libc::O_CLOEXEC).open(path)
}

/// A claim is somebody else's, if it is not that of this kernel's gates: those of device-mapper claim what is under them, loop devices do not.
fn refuse_claimed(place: &File) -> Result<(), OpeningError> {
    for tried in 1.. {
        match reopen(place, false, libc::O_EXCL | libc::O_NONBLOCK).map(OwnedFd::from) {
            Ok(_) => return Ok(()),
            Err(error) if error.raw_os_error() != Some(libc::EBUSY) => return Err(error.into()),
            Err(_) if claimed_by_gates(place.metadata()?.rdev()) => return Ok(()),
            Err(_) if tried == CLAIM_TRIES => break,
            Err(_) => std::thread::sleep(CLAIM_PAUSE),
        }
    }
    Err(OpeningError::InUse)
}

fn word(kind: std::fs::FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_char_device() {
        "a character device"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "something else"
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use nix::sys::stat::Mode;

    use super::*;

    fn refused(path: &Path) -> String {
        open_volume(path, Origin::Tables, true).expect_err("refused").to_string()
    }

    /// A table named a pipe, and the daemon opened it to look for a file system: a job that never ended, and with it a
    /// login that could never end either.
    #[test]
    fn a_pipe_a_terminal_and_a_directory_are_named_and_never_opened() {
        let dir = tempfile::tempdir().expect("a directory");
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).expect("a pipe");
        assert!(refused(&pipe).contains("a pipe"));
        assert!(open_volume(&pipe, Origin::Configuration, false).is_err(), "no word of anybody makes it a volume");
        assert!(refused(Path::new("/dev/tty")).contains("a character device"));
        assert!(refused(dir.path()).contains("a directory"));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&pipe, &link).expect("a link");
        assert!(refused(&link).contains("a pipe"));
        assert!(matches!(open_volume(&dir.path().join("none"), Origin::Tables, false), Err(OpeningError::Io(_))));
    }

    #[test]
    fn the_links_of_proc_are_not_followed() {
        let image = tempfile::NamedTempFile::new().expect("an image");
        let by_proc = format!("/proc/self/fd/{}", image.as_file().as_raw_fd());
        assert!(matches!(open_volume(Path::new(&by_proc), Origin::Tables, false), Err(OpeningError::Io(_))));
        assert!(open_volume(image.path(), Origin::Tables, false).is_ok());
    }

    /// The kernel trusts what it has mounted: a file system that its owner changes from outside is a way into the kernel.
    #[test]
    fn an_image_that_others_may_change_is_opened_only_if_the_own_configuration_says_so() {
        let image = tempfile::NamedTempFile::new().expect("an image");
        fs::set_permissions(image.path(), Permissions::from_mode(0o620)).expect("a mode");
        assert!(refused(image.path()).contains("[devices]"));
        assert!(open_volume(image.path(), Origin::Configuration, true).is_ok());
        fs::set_permissions(image.path(), Permissions::from_mode(0o644)).expect("a mode");
        assert!(open_volume(image.path(), Origin::Tables, true).is_ok());
    }
}
