//! How long one sector takes: single reads, and writes only where they can harm nobody.
//!
//! Sectors are spread over the part that a control volume uses. A write puts back what was just read there, and only on a
//! device whose beginning and end are zeroes: so a sector that somebody else has begun to use is never put back.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use lockdriver::device::{Access, AlignedBuf, BlockDevice, DirectDevice, Durability};
use lockdriver::sys::clock::boottime;
use serde::Serialize;

use crate::control::open::open_device;

/// Between two requests: enough of them for a 99th percentile, and no load to speak of.
const PAUSE: Duration = Duration::from_millis(5);
/// Reads are spread over so much.
const SPREAD: u64 = 16 << 20;
/// The part of the beginning that was looked through for zeroes.
pub(super) const KNOWN_ZERO: u64 = 64 << 20;
/// After so many errors it is enough.
const ERRORS_MAX: u32 = 3;

/// What was measured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Latency {
    pub(super) reads: Option<Tail>,
    /// As beats are written.
    pub(super) writes: Option<Tail>,
    /// As tickets are written: stable when they return.
    pub(super) stable_writes: Option<Tail>,
    /// Why there are no writes.
    pub(super) not_written: Option<String>,
    /// What must be known to believe the figures.
    pub(super) notes: Vec<String>,
}

impl Latency {
    /// The longest of all.
    pub(super) fn worst(&self) -> Option<Duration> {
        let tails = [&self.reads, &self.writes, &self.stable_writes];
        tails.into_iter().flatten().map(|tail| Duration::from_micros(tail.worst_us)).max()
    }
}

/// A distribution in three numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Tail {
    pub(super) count: usize,
    pub(super) bytes: u32,
    pub(super) median_us: u64,
    pub(super) p99_us: u64,
    pub(super) worst_us: u64,
}

impl Tail {
    /// None of nothing.
    pub(super) fn of(mut times: Vec<Duration>, bytes: u32) -> Option<Self> {
        times.sort_unstable();
        let at = |percent: usize| {
            let rank = (times.len() * percent).div_ceil(100).max(1) - 1;
            times.get(rank).map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
        };
        Some(Self { count: times.len(), bytes, median_us: at(50)?, p99_us: at(99)?, worst_us: at(100)? })
    }
}

/// Which sector comes next: all over the first megabytes, none twice in a row.
fn place(round: u64, sector: u64, len: u64) -> u64 {
    let sectors = (len.min(SPREAD) / sector).max(1);
    // An odd step that is far from any power of two comes by all of them.
    round.wrapping_mul(10_007) % sectors * sector
}

/// Reads single sectors for `time`.
///
/// # Errors
/// The device's, if it fails again and again.
pub(super) fn reads(
    device: &dyn BlockDevice,
    time: Duration,
    tick: &mut dyn FnMut(Duration),
) -> io::Result<Option<Tail>> {
    let sector = device.sector_bytes();
    let mut buffer = AlignedBuf::zeroed(usize::try_from(sector).unwrap_or(512));
    let (mut times, mut errors) = (Vec::new(), 0);
    rounds(time, tick, |round| {
        let at = place(round, u64::from(sector), device.len_bytes());
        let begun = boottime();
        match device.read_at(at, &mut buffer) {
            Ok(()) => times.push(boottime().saturating_sub(begun)),
            Err(error) => {
                errors += 1;
                if errors >= ERRORS_MAX {
                    return Err(error);
                }
            }
        }
        Ok(())
    })?;
    Ok(Tail::of(times, sector))
}

/// Both kinds of writes, in turn. The device must have been found empty.
///
/// # Errors
/// The device's, and when the sector is not zeroes any more.
pub(super) fn writes(
    device: &dyn BlockDevice,
    time: Duration,
    tick: &mut dyn FnMut(Duration),
) -> io::Result<(Option<Tail>, Option<Tail>)> {
    let sector = device.sector_bytes();
    let block = u64::from(device.physical_block_bytes());
    let at = device.len_bytes().min(KNOWN_ZERO) / 2 / block * block;
    let mut buffer = AlignedBuf::zeroed(usize::try_from(sector).unwrap_or(512));
    let mut times = [Vec::new(), Vec::new()];
    rounds(time, tick, |round| {
        device.read_at(at, &mut buffer)?;
        if buffer.iter().any(|byte| *byte != 0) {
            return Err(io::Error::other("somebody else has begun to write to it"));
        }
        let (kind, durability) = if round % 2 == 0 { (0, Durability::Plain) } else { (1, Durability::Fua) };
        let begun = boottime();
        device.write_at(at, &buffer, durability)?;
        times[kind].push(boottime().saturating_sub(begun));
        Ok(())
    })?;
    let [plain, stable] = times;
    Ok((Tail::of(plain, sector), Tail::of(stable, sector)))
}

fn rounds(
    time: Duration,
    tick: &mut dyn FnMut(Duration),
    mut one: impl FnMut(u64) -> io::Result<()>,
) -> io::Result<()> {
    let begun = boottime();
    for round in 0.. {
        let gone = boottime().saturating_sub(begun);
        if gone >= time {
            break;
        }
        tick(gone);
        one(round)?;
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Claims a device for writing, so that nothing of this host can begin to use it meanwhile; why not, in words.
pub(super) fn claim(path: &Path, is_device: bool) -> Result<(DirectDevice, Option<File>), String> {
    let claim = if is_device {
        let opened = File::options().read(true).write(true).custom_flags(libc::O_EXCL | libc::O_NONBLOCK).open(path);
        Some(opened.map_err(|e| match e.raw_os_error() {
            Some(libc::EBUSY) => "this host uses it already".to_owned(),
            _ => e.to_string(),
        })?)
    } else {
        None
    };
    let device = open_device(path, Access::ReadWrite).map_err(|failure| failure.why)?;
    device.lock_exclusive().map_err(|e| e.to_string())?;
    Ok((device, claim))
}

#[cfg(test)]
mod tests {
    use lockdriver::device::MemoryDevice;

    use super::*;

    #[test]
    fn a_tail_is_counted_by_nearest_rank() {
        assert_eq!(Tail::of(Vec::new(), 512), None);
        let one = Tail::of(vec![Duration::from_micros(7)], 512).expect("one");
        assert_eq!((one.median_us, one.p99_us, one.worst_us), (7, 7, 7));
        let times = (1..=1000).rev().map(Duration::from_micros).collect();
        let tail = Tail::of(times, 512).expect("many");
        assert_eq!((tail.count, tail.median_us, tail.p99_us, tail.worst_us), (1000, 500, 990, 1000));
    }

    #[test]
    fn places_are_whole_sectors_within_the_device() {
        for (sector, len) in [(512, 512), (4096, 8192), (512, 1 << 40)] {
            let places: std::collections::BTreeSet<u64> = (0..200).map(|round| place(round, sector, len)).collect();
            assert!(places.iter().all(|at| at % sector == 0 && at + sector <= len), "{places:?}");
            assert_eq!(places.len() as u64, (len / sector).min(200));
        }
    }

    /// Between the look and the write another host may have begun to use it: what it wrote is not put back.
    #[test]
    fn a_sector_that_is_not_zero_any_more_is_never_written() {
        let device = MemoryDevice::new(1 << 20, 512);
        let mut mark = AlignedBuf::zeroed(512);
        mark.fill(7);
        device.write_at(512 << 10, &mark, Durability::Plain).expect("written");
        let error = writes(&device, Duration::from_millis(50), &mut |_| {}).expect_err("not zero");
        assert!(error.to_string().contains("somebody else"), "{error}");
    }

    #[test]
    fn a_device_that_fails_reading_is_given_up_soon() {
        struct Dead;
        impl BlockDevice for Dead {
            fn len_bytes(&self) -> u64 {
                1 << 20
            }
            fn sector_bytes(&self) -> u32 {
                512
            }
            fn physical_block_bytes(&self) -> u32 {
                512
            }
            fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
                Err(io::Error::from_raw_os_error(libc::EIO))
            }
            fn write_at(&self, _: u64, _: &[u8], _: Durability) -> io::Result<()> {
                unreachable!("it is only read")
            }
            fn flush(&self) -> io::Result<()> {
                unreachable!("it is only read")
            }
        }
        let begun = std::time::Instant::now();
        assert!(reads(&Dead, Duration::from_mins(1), &mut |_| {}).is_err());
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
