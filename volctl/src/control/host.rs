//! Which host this is, and the lock file by which a later daemon proves an earlier one gone (section 6).

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use lockdriver::logon::Host;
use nix::fcntl::{Flock, FlockArg};
use ondisk::{LockFile, Uuid};

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
    _lock: Flock<File>,
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
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut pid = String::new();
                let _ = file.read_to_string(&mut pid);
                return Err(Failure::busy(
                    format!("{who} runs here already"),
                    format!("process {} holds {}", pid.trim(), path.display()),
                    "use that one, or stop it first",
                ));
            }
            Err((_, e)) => return Err(failed(e.into())),
        };
        lock.set_len(0).map_err(failed)?;
        lock.rewind().map_err(failed)?;
        writeln!(&mut *lock, "{}", std::process::id()).map_err(failed)?;
        let meta = lock.metadata().map_err(failed)?;
        let lock_file = LockFile { device: meta.dev(), inode: meta.ino() };
        let host = Host { machine_id: machine_id(), boot_id: boot_id().map_err(failed)?, lock_file };
        Ok(Self { host, path, _lock: lock })
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
