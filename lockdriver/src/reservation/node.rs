//! The kernel's way to a real device: ioctls first, then SCSI and NVMe commands for what the kernel does not tell.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Commands, Fault, Held, Kind, Swap};
use crate::device::AlignedBuf;
use crate::scsi::{self, Completion, Meaning, ReserveIn};
use crate::sys::{blockdev, pr, sg};

/// For one command; a target that takes longer gives no known result.
const TIMEOUT: Duration = Duration::from_secs(10);
/// "Something had happened before" is heard so often; each time the command was not done.
const ATTENTIONS: u8 = 4;
/// SAM status that the kernel passes in the low byte.
const STATUS_CHECK_CONDITION: u32 = 0x02;
const STATUS_CONFLICT: u32 = 0x18;
/// NVMe's "Reservation Conflict", below the bits that say more about it.
const NVME_CONFLICT: u32 = 0x83;
const NVME_STATUS_BITS: u32 = 0x7ff;

/// An opened block device node.
#[derive(Debug)]
pub struct Node {
    file: File,
    /// Why commands must not be sent here: they would go to a device that is larger than this one.
    part: Option<&'static str>,
    block: u32,
}

impl Node {
    /// Commands through this node. A partition or a mapped part of a disk takes none: they would act on the whole disk, and
    /// a block number would mean another place.
    ///
    /// # Errors
    /// When it is no block device.
    pub fn new(file: File) -> io::Result<Self> {
        let block = blockdev::block_sizes(file.as_fd())?.logical;
        let device = file.metadata()?.rdev();
        let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
        let part = is_part(&PathBuf::from(format!("/sys/dev/block/{major}:{minor}")));
        Ok(Self { file, part, block })
    }

    fn whole(&self) -> Result<(), Fault> {
        self.part.map_or(Ok(()), |why| Err(Fault::Unsupported(why.to_owned())))
    }

    /// Runs a reservation ioctl; "something had happened before" is not its answer.
    fn run(&self, call: impl Fn() -> io::Result<u32>) -> Result<(), Fault> {
        self.whole()?;
        for _ in 0..ATTENTIONS {
            match judge(call()?) {
                Some(done) => return done,
                None => continue,
            }
        }
        Err(Fault::Unsupported("the device answers CHECK CONDITION, also when asked again".to_owned()))
    }

    fn reserve_in(&self, what: ReserveIn) -> Result<AlignedBuf, Fault> {
        let cdb = scsi::reserve_in(what);
        let mut answer = AlignedBuf::zeroed(4096);
        let done = self.command(&cdb, sg::Direction::In, &mut answer)?;
        match done.meaning() {
            Meaning::Good => Ok(AlignedBuf::copy_of(&answer[..done.moved])),
            Meaning::Illegal => Err(Fault::Unsupported(done.to_string())),
            _ => Err(Fault::Unknown(done.to_string())),
        }
    }

    fn command(&self, cdb: &[u8], direction: sg::Direction, data: &mut AlignedBuf) -> Result<Completion, Fault> {
        self.whole()?;
        let mut tries = 1;
        loop {
            let done = sg::command(self.file.as_fd(), cdb, direction, data, TIMEOUT)?;
            if done.meaning() != Meaning::Attention || tries == ATTENTIONS {
                return Ok(done);
            }
            tries += 1;
        }
    }

    fn unregister(&self, old: u64) -> Result<(), Fault> {
        let done = self.run(|| match sg::nvme_unregister(self.file.as_fd(), old)? {
            Some(status) => Ok(status),
            None => pr::register(self.file.as_fd(), old, 0, false),
        });
        // Over several paths: the second one first tells that a reservation has gone with the first one's key, and the kernel goes no further;
        // asked again, it stops at the first path, which has no key any more.
        if matches!(done, Err(Fault::Conflict)) && self.keys()?.contains(&old) {
            return self.register_anyhow(0);
        }
        done
    }

    fn report(&self) -> Result<Option<scsi::Report>, Fault> {
        let Some(report) = sg::nvme_reservation_report(self.file.as_fd())? else { return Ok(None) };
        let unknown = || Fault::Unknown("a reservation report that is none".to_owned());
        scsi::nvme_report(&report).map(Some).ok_or_else(unknown)
    }
}

/// What a positive status of an ioctl means; None: the device wanted something else told first, so ask again.
fn judge(status: u32) -> Option<Result<(), Fault>> {
    match (status, status & 0xff) {
        (0, _) => Some(Ok(())),
        (_, STATUS_CONFLICT) => Some(Err(Fault::Conflict)),
        (_, STATUS_CHECK_CONDITION) => None,
        _ if status & NVME_STATUS_BITS == NVME_CONFLICT => Some(Err(Fault::Conflict)),
        // Invalid opcode or field: nothing was done.
        _ if matches!(status & NVME_STATUS_BITS, 1 | 2) => {
            Some(Err(Fault::Unsupported(format!("NVMe status {status:#x}"))))
        }
        _ => Some(Err(Fault::Unknown(format!("status {status:#x}")))),
    }
}

/// Is this node only a part of the disk that commands go to?
fn is_part(sysfs: &Path) -> Option<&'static str> {
    if sysfs.join("partition").exists() {
        return Some("it is a partition, and the command would act on the whole disk");
    }
    let mapped = std::fs::read_to_string(sysfs.join("dm/uuid")).ok()?;
    (!mapped.starts_with("mpath-")).then_some("it is a mapped device, and the command would act on the disks under it")
}

impl Commands for Node {
    fn register(&self, old: u64, new: u64) -> Result<(), Fault> {
        match new {
            0 => self.unregister(old),
            _ => self.run(|| pr::register(self.file.as_fd(), old, new, false)),
        }
    }

    fn register_anyhow(&self, new: u64) -> Result<(), Fault> {
        self.run(|| pr::register(self.file.as_fd(), 0, new, true))
    }

    fn reserve(&self, key: u64, kind: Kind) -> Result<(), Fault> {
        self.run(|| pr::reserve(self.file.as_fd(), key, kind.number()))
    }

    fn release(&self, key: u64, kind: Kind) -> Result<(), Fault> {
        self.run(|| pr::release(self.file.as_fd(), key, kind.number()))
    }

    fn preempt(&self, own: u64, victim: u64, kind: Kind) -> Result<(), Fault> {
        self.run(|| pr::preempt_abort(self.file.as_fd(), own, victim, kind.number()))
    }

    fn clear(&self, own: u64) -> Result<(), Fault> {
        self.run(|| pr::clear(self.file.as_fd(), own))
    }

    fn keys(&self) -> Result<Vec<u64>, Fault> {
        self.whole()?;
        if let Ok(keys) = pr::read_keys(self.file.as_fd()) {
            return Ok(keys);
        }
        if let Some((keys, _)) = self.report()? {
            return Ok(keys);
        }
        let answer = self.reserve_in(ReserveIn::Keys)?;
        scsi::keys(&answer).ok_or_else(|| Fault::Unknown("an answer to READ KEYS that is none".to_owned()))
    }

    fn reservation(&self) -> Result<Option<Held>, Fault> {
        self.whole()?;
        if let Ok((key, kind)) = pr::read_reservation(self.file.as_fd()) {
            return Ok((kind != 0).then(|| Held { key, kind: Kind::of_ioctl(kind) }));
        }
        if let Some((_, held)) = self.report()? {
            return Ok(held);
        }
        let answer = self.reserve_in(ReserveIn::Reservation)?;
        scsi::reservation(&answer)
            .ok_or_else(|| Fault::Unknown("an answer to READ RESERVATION that is none".to_owned()))
    }

    fn write_nothing(&self) -> Result<(), Fault> {
        self.whole()?;
        if let Some(status) = sg::nvme_flush(self.file.as_fd())? {
            let unknown = || Err(Fault::Unknown(format!("NVMe status {status:#x}")));
            return judge(status).unwrap_or_else(unknown);
        }
        // Equal bytes: found there or not, nothing changes. Those that are there now, so that not even a device that writes
        // without comparing changes anything.
        let mut block = AlignedBuf::zeroed(usize::try_from(self.block).expect("a block fits memory"));
        self.file.read_exact_at(&mut block, 0).map_err(|e| Fault::Unknown(e.to_string()))?;
        self.compare_and_write(0, &block, &block).map(|_| ())
    }

    fn compare_and_write(&self, offset: u64, expected: &[u8], new: &[u8]) -> Result<Swap, Fault> {
        let block = u64::from(self.block);
        let length = u64::try_from(expected.len()).unwrap_or(u64::MAX);
        if !offset.is_multiple_of(block) || length != block || new.len() != expected.len() {
            return Err(Fault::Unsupported(format!("not one block of {block} bytes")));
        }
        let mut both = AlignedBuf::zeroed(2 * expected.len());
        both[..expected.len()].copy_from_slice(expected);
        both[expected.len()..].copy_from_slice(new);
        let done = self.command(&scsi::compare_and_write(offset / block), sg::Direction::Out, &mut both)?;
        match done.meaning() {
            Meaning::Good => Ok(Swap::Done),
            Meaning::Miscompare => Ok(Swap::Differs),
            Meaning::Conflict => Err(Fault::Conflict),
            Meaning::Illegal => Err(Fault::Unsupported(done.to_string())),
            Meaning::Attention | Meaning::Unknown => Err(Fault::Unknown(done.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positive_answers_of_the_kernel_are_told_apart() {
        let word = |status| match judge(status) {
            None => "again",
            Some(Ok(())) => "done",
            Some(Err(Fault::Conflict)) => "conflict",
            Some(Err(Fault::Unsupported(_))) => "unsupported",
            Some(Err(Fault::Unknown(_))) => "unknown",
        };
        for (status, meaning) in [
            (0, "done"),
            (0x18, "conflict"),
            (0x118, "conflict"),
            (0x402, "again"),
            (0x83, "conflict"),
            (0x4083, "conflict"),
            (0x4001, "unsupported"),
            (0x6001, "unsupported"),
            (0x7, "unknown"),
            (0x1_0000, "unknown"),
        ] {
            assert_eq!(word(status), meaning, "{status:#x}");
        }
    }

    #[test]
    fn parts_of_a_disk_take_no_commands() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(is_part(dir.path()), None);
        std::fs::create_dir(dir.path().join("dm")).unwrap();
        std::fs::write(dir.path().join("dm/uuid"), "mpath-3600").unwrap();
        assert_eq!(is_part(dir.path()), None);
        std::fs::write(dir.path().join("dm/uuid"), "LVM-abc").unwrap();
        assert!(is_part(dir.path()).is_some());
        std::fs::write(dir.path().join("partition"), "1").unwrap();
        assert!(is_part(dir.path()).unwrap().contains("partition"));
    }
}
