//! A disk in memory, for tests and the simulator: as strict as direct I/O about what it takes.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::aligned::check_request;
use super::{BlockDevice, Durability};

/// A disk in memory. Clones share the same bytes, as two hosts share one disk.
#[derive(Debug, Clone)]
pub struct MemoryDevice {
    bytes: Arc<Mutex<Vec<u8>>>,
    sector_bytes: u32,
    physical_block_bytes: u32,
}

impl MemoryDevice {
    /// A disk of `len_bytes` zeros with sectors of `sector_bytes` (512 or 4096), which are its physical blocks too.
    ///
    /// # Panics
    /// When the sector size is not 512 or 4096, or the length is no multiple of it: the caller's bug.
    #[must_use]
    pub fn new(len_bytes: usize, sector_bytes: u32) -> Self {
        Self::from_bytes(vec![0; len_bytes], sector_bytes)
    }

    /// A disk with the given content.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>, sector_bytes: u32) -> Self {
        assert!(matches!(sector_bytes, 512 | 4096), "sectors have 512 or 4096 bytes");
        let whole = bytes.len().is_multiple_of(usize::try_from(sector_bytes).expect("at most 4096"));
        assert!(whole, "a disk is a whole number of sectors");
        Self { bytes: Arc::new(Mutex::new(bytes)), sector_bytes, physical_block_bytes: sector_bytes }
    }

    /// The same disk, said to write physical blocks of `physical_block_bytes` (512e media: 4096 over sectors of 512).
    #[must_use]
    pub fn with_physical_block(mut self, physical_block_bytes: u32) -> Self {
        self.physical_block_bytes = physical_block_bytes.max(self.sector_bytes);
        self
    }

    /// A copy of all bytes as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        self.lock().clone()
    }

    /// Runs `change` on the raw bytes: how tests do damage.
    pub fn with_bytes<T>(&self, change: impl FnOnce(&mut [u8]) -> T) -> T {
        change(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        // Bytes have no invariant that a panicking test could have broken.
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlockDevice for MemoryDevice {
    fn len_bytes(&self) -> u64 {
        u64::try_from(self.lock().len()).expect("usize fits u64 on every supported machine")
    }

    fn sector_bytes(&self) -> u32 {
        self.sector_bytes
    }

    fn physical_block_bytes(&self) -> u32 {
        self.physical_block_bytes
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        check_request(self.sector_bytes, self.len_bytes(), offset, buf)?;
        let start = usize::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        buf.copy_from_slice(&self.lock()[start..start + buf.len()]);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8], _durability: Durability) -> io::Result<()> {
        check_request(self.sector_bytes, self.len_bytes(), offset, data)?;
        let start = usize::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        self.lock()[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::AlignedBuf;

    #[test]
    fn a_clone_sees_what_the_other_wrote() {
        let first = MemoryDevice::new(8192, 512);
        let second = first.clone();
        first.write_at(512, &AlignedBuf::copy_of(&[5; 512]), Durability::Fua).unwrap();
        let mut back = AlignedBuf::zeroed(512);
        second.read_at(512, &mut back).unwrap();
        assert_eq!(&back[..], &[5; 512]);
    }

    #[test]
    fn what_direct_io_refuses_is_refused() {
        let device = MemoryDevice::new(16384, 4096);
        let mut buffer = AlignedBuf::zeroed(8192);
        let kind = |result: io::Result<()>| result.unwrap_err().kind();
        assert_eq!(kind(device.read_at(512, &mut buffer[..4096])), io::ErrorKind::InvalidInput);
        assert_eq!(kind(device.read_at(0, &mut buffer[..512])), io::ErrorKind::InvalidInput);
        assert_eq!(kind(device.read_at(0, &mut buffer[1..4097])), io::ErrorKind::InvalidInput);
        assert_eq!(kind(device.read_at(12288, &mut buffer)), io::ErrorKind::UnexpectedEof);
        assert_eq!(kind(device.write_at(u64::MAX - 4095, &buffer, Durability::Plain)), io::ErrorKind::UnexpectedEof);
    }
}
