//! What the demo and the measurements need of the machine, looked for before anything is made.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;

use crate::volumes::inflight::{self, Inflight};
use crate::wire::outcome::Failure;

/// Room for the images: they are sparse, and little is written.
const ROOM: u64 = 512 << 20;
const MKFS: [&str; 3] = ["mkfs.ext4", "mkfs.xfs", "mkfs.btrfs"];
const TOOL_DIRECTORIES: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// A directory to work in, if everything else that is needed is there too.
///
/// # Errors
/// Names everything that is missing, at once.
pub fn find_home() -> Result<PathBuf, Failure> {
    find_home_in(None)
}

/// As [`find_home`], for a directory that the caller names.
///
/// # Errors
/// As for [`find_home`].
pub fn find_home_in(named: Option<&Path>) -> Result<PathBuf, Failure> {
    let mut missing = Vec::new();
    if !may_mount() {
        missing.push("root (it mounts file systems)".to_owned());
    }
    if !Path::new("/dev/loop-control").exists() {
        missing.push("loop devices (/dev/loop-control; 'modprobe loop')".to_owned());
    }
    missing.extend(MKFS.iter().filter(|tool| !is_installed(tool)).map(|tool| (*tool).to_owned()));
    let home = match named {
        Some(directory) => std::path::absolute(directory).ok().filter(|directory| suits(directory)),
        None => find_directory(),
    };
    if let (None, Some(directory)) = (&home, named) {
        missing.push(format!("512M free in {}, on a local disk with direct I/O (not tmpfs)", directory.display()));
    } else if home.is_none() {
        missing.push("a directory on a local disk with 512M free (not tmpfs); name one in TMPDIR".to_owned());
    }
    match home {
        Some(home) if missing.is_empty() => Ok(home),
        _ => Err(Failure::failed(
            "this needs more than there is here",
            format!("missing: {}", missing.join(", ")),
            "run it as root (with 'sudo') when those are in place; it changes nothing outside its own directory",
        )),
    }
}

/// Root alone is not enough in many containers.
fn may_mount() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    nix::unistd::geteuid().is_root() && effective & CAP_SYS_ADMIN != 0
}

fn is_installed(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).any(|directory| directory.join(tool).exists());
    in_path || TOOL_DIRECTORIES.iter().any(|directory| Path::new(directory).join(tool).exists())
}

fn find_directory() -> Option<PathBuf> {
    let named = std::env::var_os("TMPDIR").map(PathBuf::from);
    let known = ["/var/tmp", "/tmp", "/run"].map(PathBuf::from);
    named.into_iter().chain(known).chain(std::env::current_dir()).find(|directory| suits(directory))
}

/// Direct I/O works there, late writes are bounded, and there is room.
fn suits(directory: &Path) -> bool {
    let room =
        statvfs(directory).is_ok_and(|found| found.blocks_available().saturating_mul(found.fragment_size()) >= ROOM);
    room && directory.is_absolute() && takes_direct_io(directory).unwrap_or(false)
}

fn takes_direct_io(directory: &Path) -> io::Result<bool> {
    const TMPFS: [i64; 2] = [0x0102_1994, 0x8584_58F6];
    let kind = nix::sys::statfs::statfs(directory)?.filesystem_type().0;
    if TMPFS.contains(&kind) {
        return Ok(false);
    }
    let path = directory.join(format!("volctl-try.{}", std::process::id()));
    File::options().write(true).create_new(true).mode(0o600).open(&path)?;
    let direct = File::options().read(true).write(true).custom_flags(libc::O_DIRECT).open(&path).is_ok();
    let bounded = matches!(inflight::measure(&path), Inflight::Bounded(_));
    fs::remove_file(&path)?;
    Ok(direct && bounded)
}
