//! A device that counts what is done to the one under it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lockdriver::device::{BlockDevice, Durability};

/// What was done since the last look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub reads: u64,
    pub writes: u64,
    pub flushes: u64,
    /// Length of the largest read in bytes.
    pub largest_read: u64,
}

/// Counts, and passes everything on.
pub(super) struct Counting {
    under: Arc<dyn BlockDevice>,
    reads: AtomicU64,
    writes: AtomicU64,
    flushes: AtomicU64,
    largest_read: AtomicU64,
}

impl Counting {
    pub(super) fn new(under: Arc<dyn BlockDevice>) -> Self {
        let zero = AtomicU64::default;
        Self { under, reads: zero(), writes: zero(), flushes: zero(), largest_read: zero() }
    }

    /// What was done since the last call.
    pub(super) fn take(&self) -> Counts {
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::SeqCst);
        Counts {
            reads: take(&self.reads),
            writes: take(&self.writes),
            flushes: take(&self.flushes),
            largest_read: take(&self.largest_read),
        }
    }
}

impl BlockDevice for Counting {
    fn len_bytes(&self) -> u64 {
        self.under.len_bytes()
    }

    fn sector_bytes(&self) -> u32 {
        self.under.sector_bytes()
    }

    fn physical_block_bytes(&self) -> u32 {
        self.under.physical_block_bytes()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.largest_read.fetch_max(buf.len() as u64, Ordering::SeqCst);
        self.under.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8], durability: Durability) -> io::Result<()> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.under.write_at(offset, data, durability)
    }

    fn flush(&self) -> io::Result<()> {
        self.flushes.fetch_add(1, Ordering::SeqCst);
        self.under.flush()
    }
}

#[cfg(test)]
mod tests {
    use lockdriver::device::{AlignedBuf, MemoryDevice};

    use super::*;

    #[test]
    fn each_request_is_counted_once_and_passed_on() {
        let counting = Counting::new(Arc::new(MemoryDevice::new(4096, 512)));
        let data = AlignedBuf::zeroed(512);
        counting.write_at(512, &data, Durability::Fua).expect("written");
        counting.flush().expect("flushed");
        let mut back = AlignedBuf::zeroed(1024);
        counting.read_at(0, &mut back).expect("read");
        assert_eq!(counting.take(), Counts { reads: 1, writes: 1, flushes: 1, largest_read: 1024 });
        assert_eq!(counting.take(), Counts::default());
    }
}
