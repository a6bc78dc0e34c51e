//! The key by which a host is registered on a control volume of the kind `pr`, as the logins of the host share it.
//!
//! A registration belongs to a host's path and not to a process. So its key lies where all processes of the host find it, and not longer
//! than the host is up: in two files of the run directory, one with the key, locked for moments, and one that each login holds shared.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use lockdriver::reservation::Key;
use nix::fcntl::{Flock, FlockArg};
use ondisk::Uuid;

/// As long as it is held, no other login of this host joins or leaves.
pub trait Moment {}

/// The key of this host on one control volume. What a process holds of it ends with the process.
pub trait HostKey: Send + Sync {
    /// Waits until no other login of this host joins or leaves.
    ///
    /// # Errors
    /// When there is no place for it.
    fn moment(&self) -> io::Result<Box<dyn Moment>>;
    /// The key of the login that joined last; None: none, or it cannot be read.
    fn key(&self) -> Option<Key>;
    /// Puts the key there, or takes it away. Within a moment.
    ///
    /// # Errors
    /// When it cannot be written.
    fn set(&self, key: Option<Key>) -> io::Result<()>;
    /// Shares the key from now on. True: nobody else does. Within a moment.
    ///
    /// # Errors
    /// When there is no place for it.
    fn share(&self) -> io::Result<bool>;
    /// Shares it no more. True: nobody does any more. Within a moment.
    fn let_go(&self) -> bool;
}

/// Two files; they are never removed, since others may hold them.
#[derive(Debug)]
pub struct KeyFiles {
    run: PathBuf,
    table: Uuid,
    file: File,
    users: Mutex<Option<Flock<File>>>,
}

impl Moment for Flock<File> {}

impl KeyFiles {
    /// Those of a control volume in a run directory.
    ///
    /// # Errors
    /// When they cannot be made there.
    pub fn open(run: &Path, table: Uuid) -> io::Result<Self> {
        let file = open(run, table, "key")?;
        Ok(Self { run: run.to_owned(), table, file, users: Mutex::new(None) })
    }
}

fn open(run: &Path, table: Uuid, ending: &str) -> io::Result<File> {
    std::fs::create_dir_all(run)?;
    let path = run.join(format!("{table}.{ending}"));
    let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC;
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(path)
}

fn lock(file: File, how: FlockArg) -> io::Result<Flock<File>> {
    Flock::lock(file, how).map_err(|(_, e)| e.into())
}

impl HostKey for KeyFiles {
    fn moment(&self) -> io::Result<Box<dyn Moment>> {
        Ok(Box::new(lock(open(&self.run, self.table, "key")?, FlockArg::LockExclusive)?))
    }

    fn key(&self) -> Option<Key> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, 0).ok()?;
        Some(Key(u64::from_le_bytes(bytes))).filter(|key| key.0 != 0)
    }

    fn set(&self, key: Option<Key>) -> io::Result<()> {
        match key {
            Some(key) => self.file.write_all_at(&key.0.to_le_bytes(), 0),
            None => self.file.set_len(0),
        }
    }

    fn share(&self) -> io::Result<bool> {
        let (users, alone) =
            match Flock::lock(open(&self.run, self.table, "key.users")?, FlockArg::LockExclusiveNonblock) {
                // Nobody else takes it exclusively within this moment.
                Ok(users) => {
                    users.relock(FlockArg::LockShared)?;
                    (users, true)
                }
                Err((users, _)) => (lock(users, FlockArg::LockShared)?, false),
            };
        *self.users.lock().unwrap_or_else(PoisonError::into_inner) = Some(users);
        Ok(alone)
    }

    fn let_go(&self) -> bool {
        let users = self.users.lock().unwrap_or_else(PoisonError::into_inner).take();
        users.is_some_and(|users| users.relock(FlockArg::LockExclusiveNonblock).is_ok())
    }
}
