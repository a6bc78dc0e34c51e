//! Files and directories that this process believes: only those that nobody but root and itself can change.
//!
//! What a daemon reads, locks or writes by a path must not be somebody else's to swap: the configuration names programs
//! that run as root, a lock that anybody can take stops the daemon, and a link in a directory of others leads anywhere.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::geteuid;

/// Why something is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Untrusted {
    /// Its owner can change it at any time.
    #[error("it belongs to user {0}, not to root (chown root)")]
    Owner(u32),
    /// Others can.
    #[error("others than its owner may write to it (mode {0:04o}; chmod go-w)")]
    Writable(u32),
    /// A pipe, a device, a directory.
    #[error("it is no regular file")]
    NotAFile,
}

/// Whether nobody but root and this process's user can change it.
///
/// # Errors
/// [`Untrusted`], the first rule that it breaks.
pub fn check_owner(metadata: &Metadata) -> Result<(), Untrusted> {
    if metadata.uid() != 0 && metadata.uid() != geteuid().as_raw() {
        return Err(Untrusted::Owner(metadata.uid()));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(Untrusted::Writable(metadata.mode() & 0o7777));
    }
    Ok(())
}

/// As [`check_owner`], for a directory on the way to something: in one that is sticky (/tmp) others may add names, but
/// not take away those of root.
///
/// # Errors
/// As [`check_owner`].
pub fn check_on_the_way(metadata: &Metadata) -> Result<(), Untrusted> {
    match check_owner(metadata) {
        Err(Untrusted::Writable(mode)) if mode & 0o1000 != 0 => Ok(()),
        other => other,
    }
}

/// Opens a regular file for the options given, never through a link in the last part, and never waiting for a pipe.
///
/// # Errors
/// `InvalidInput` for anything that is no regular file, else what the system says.
pub fn open_regular(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let file = options.custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, Untrusted::NotAFile));
    }
    let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?);
    fcntl(&file, FcntlArg::F_SETFL(flags.difference(OFlag::O_NONBLOCK)))?;
    Ok(file)
}

/// Opens (and makes) a file to be locked. Nobody else may open it: whoever can open a file can lock it, and a lock held
/// by a stranger would stop this process for good.
///
/// # Errors
/// As [`open_regular`].
pub fn open_lock_file(path: &Path) -> io::Result<File> {
    let file = open_regular(path, OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600))?;
    if file.metadata()?.mode() & 0o077 != 0 {
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn a_file_is_believed_only_if_nobody_else_can_change_it() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let with = |mode| {
            fs::set_permissions(file.path(), Permissions::from_mode(mode)).expect("a mode");
            check_owner(&fs::metadata(file.path()).expect("metadata"))
        };
        assert_eq!(with(0o644), Ok(()));
        assert_eq!(with(0o664), Err(Untrusted::Writable(0o664)));
        assert_eq!(with(0o602), Err(Untrusted::Writable(0o602)));
    }

    #[test]
    fn a_sticky_directory_is_a_way_and_an_open_one_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let with = |mode| {
            fs::set_permissions(dir.path(), Permissions::from_mode(mode)).expect("a mode");
            check_on_the_way(&fs::metadata(dir.path()).expect("metadata"))
        };
        assert_eq!(with(0o1777), Ok(()));
        assert_eq!(with(0o777), Err(Untrusted::Writable(0o777)));
    }

    /// Lock files were made with the usual mode, 0644: any user could open one and lock it, and no daemon ever started.
    #[test]
    fn a_lock_file_is_for_its_owner_only_also_one_that_was_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s.lock");
        fs::write(&path, "").expect("a file");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("a mode");
        for _ in 0..2 {
            let lock = open_lock_file(&path).expect("a lock file");
            assert_eq!(lock.metadata().expect("metadata").mode() & 0o777, 0o600);
            fs::remove_file(&path).expect("gone");
        }
    }

    #[test]
    fn links_and_pipes_are_not_opened_for_a_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let (target, link, pipe) = (dir.path().join("t"), dir.path().join("l"), dir.path().join("p"));
        std::os::unix::fs::symlink(&target, &link).expect("a link");
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).expect("a pipe");
        assert!(open_lock_file(&link).is_err());
        assert!(!target.exists(), "nothing is made through a link");
        assert!(open_regular(&pipe, OpenOptions::new().read(true)).is_err());
        assert!(open_regular(dir.path(), OpenOptions::new().read(true)).is_err());
    }
}
