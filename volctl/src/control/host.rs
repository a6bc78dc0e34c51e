//! Which host this is, and the lock file by which a later daemon proves an earlier one gone (section 6).

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lockdriver::logon::Host;
use nix::fcntl::{Flock, FlockArg};
use ondisk::{LockFile, Uuid};

use super::beater::Doubts;
use crate::wire::outcome::Failure;

/// Where lock files lie if `$VOLCTL_RUN` names no other place: it must not outlive the boot.
const RUN: &str = "/run/volctl";

/// Where lock files lie. Two daemons with different places take each other for different hosts; so it is the same for all
/// of a host, and other only where each is to be a host of its own (containers, tests).
pub fn run_dir() -> PathBuf {
    std::env::var_os("VOLCTL_RUN").map_or_else(|| RUN.into(), PathBuf::from)
}

/// The lock file of the guardian of one slot on this host; not the daemon's, which outlives its guardians.
pub fn guardian_lock(control: Uuid, slot: u16) -> PathBuf {
    run_dir().join(format!("{control}.{slot}.guardian.lock"))
}

/// The lock of one client of one control volume on this host, held while the value lives.
#[derive(Debug)]
pub struct HostLock {
    /// What the slot names.
    pub host: Host,
    /// Where it lies.
    pub path: PathBuf,
    doubts: LockFileDoubts,
    _lock: Flock<File>,
}

/// A lock file begins with the number of the process that holds it, a line padded to this many bytes. Then stands which
/// slot writes are in doubt: when the one under way was begun, and the last one of unknown result; nanoseconds of
/// CLOCK_BOOTTIME, 0: none.
const DOUBTS_AT: u64 = PID_WIDTH as u64 + 1;
/// Of the number, without the line's end.
const PID_WIDTH: usize = 63;

/// [`Doubts`] in a lock file: it lies in memory and costs two microseconds a write.
#[derive(Debug, Clone)]
pub struct LockFileDoubts {
    file: Arc<File>,
    under_way: Arc<AtomicU64>,
    unknown: Arc<AtomicU64>,
}

impl LockFileDoubts {
    /// What the process before has left, taken in before the file is written anew.
    fn of(file: &File) -> std::io::Result<Self> {
        let mut words = [[0; 8]; 2];
        let left = file.read_exact_at(words.as_flattened_mut(), DOUBTS_AT).map_or(0, |()| {
            let [under_way, unknown] = words.map(u64::from_le_bytes);
            under_way.max(unknown)
        });
        let file = Arc::new(file.try_clone()?);
        Ok(Self { file, under_way: Arc::default(), unknown: Arc::new(left.into()) })
    }

    fn keep(&self) {
        let words = [&self.under_way, &self.unknown].map(|word| word.load(Ordering::SeqCst).to_le_bytes());
        // In memory: it fails only where the directory is no such thing, and then there is no other place.
        if let Err(error) = self.file.write_all_at(words.as_flattened(), DOUBTS_AT) {
            tracing::warn!(event = "control.write_failed", %error, "the lock file cannot be written");
        }
    }
}

impl Doubts for LockFileDoubts {
    fn begun(&self, now: Duration) {
        self.under_way.store(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
        self.keep();
    }

    fn ended(&self, known: bool) {
        let begun = self.under_way.swap(0, Ordering::SeqCst);
        if !known {
            self.unknown.store(begun, Ordering::SeqCst);
        }
        self.keep();
    }

    fn unsettled(&self) -> Duration {
        Duration::from_nanos(self.unknown.load(Ordering::SeqCst).max(self.under_way.load(Ordering::SeqCst)))
    }
}

impl HostLock {
    /// Takes the lock. It is taken before anything else, so that two daemons of one name on one host never meet in the slot.
    ///
    /// # Errors
    /// Busy, naming the PID, when another process holds it.
    pub fn take(control: Uuid, slot: u16, who: &str) -> Result<Self, Failure> {
        let directory = run_dir();
        let path = directory.join(format!("{control}.{slot}.lock"));
        let failed = |e: std::io::Error| {
            Failure::failed(
                format!("no lock file at {}", path.display()),
                e.to_string(),
                "run it as root; /run must be writable",
            )
        };
        std::fs::create_dir_all(&directory).map_err(failed)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&path)
            .map_err(failed)?;
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut pid = String::new();
                let _ = file.take(DOUBTS_AT).read_to_string(&mut pid);
                return Err(Failure::busy(
                    format!("{who} runs here already"),
                    format!("process {} holds {}", pid.lines().next().unwrap_or_default().trim_end(), path.display()),
                    "use that one, or stop it first",
                ));
            }
            Err((_, e)) => return Err(failed(e.into())),
        };
        let doubts = LockFileDoubts::of(&lock).map_err(failed)?;
        // In place: killed anywhere here, the doubts of the process before are still there.
        lock.write_all_at(format!("{:<PID_WIDTH$}\n", std::process::id()).as_bytes(), 0).map_err(failed)?;
        let meta = lock.metadata().map_err(failed)?;
        let lock_file = LockFile { device: meta.dev(), inode: meta.ino() };
        let host = Host { machine_id: machine_id(), boot_id: boot_id().map_err(failed)?, lock_file };
        Ok(Self { host, path, doubts, _lock: lock })
    }

    /// Slot writes of this host that are in doubt, also those of a process before this one.
    pub fn doubts(&self) -> LockFileDoubts {
        self.doubts.clone()
    }
}

/// This machine's id; a host without one gets zeroes, which never prove anything together with a lock file elsewhere.
pub fn machine_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    Uuid::parse_str(text.trim()).map(Uuid::into_bytes).unwrap_or_default()
}

/// The kernel's boot id.
///
/// # Errors
/// When /proc is not there.
pub fn boot_id() -> std::io::Result<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Uuid::parse_str(text.trim()).map(Uuid::into_bytes).map_err(std::io::Error::other)
}

/// This host's name, for people.
pub fn host_name() -> ondisk::Label {
    let name = nix::unistd::gethostname().ok().and_then(|n| n.into_string().ok()).unwrap_or_default();
    ondisk::Label::cut(&name)
}

/// Random bytes from the kernel.
///
/// # Errors
/// When the kernel has none.
pub fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|e| Failure::failed("no random numbers", e.to_string(), "look at the kernel's log"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_file_tells_the_next_process_of_a_write_that_was_under_way_or_failed() {
        let file = tempfile::tempfile().expect("a file");
        let at = |ms| Duration::from_millis(ms);
        let doubts = LockFileDoubts::of(&file).expect("a file");
        assert_eq!(doubts.unsettled(), Duration::ZERO);
        doubts.begun(at(5));
        // Killed here.
        assert_eq!(LockFileDoubts::of(&file).expect("a file").unsettled(), at(5));
        doubts.ended(true);
        assert_eq!(LockFileDoubts::of(&file).expect("a file").unsettled(), Duration::ZERO);
        doubts.begun(at(7));
        doubts.ended(false);
        doubts.begun(at(9));
        doubts.ended(true);
        assert_eq!(LockFileDoubts::of(&file).expect("a file").unsettled(), at(7), "a later good write settles nothing");
    }
}
