//! The control volume as something to read from in any unit: for dump and check, which know nothing of sectors.

use std::io;

use lockdriver::check::ReadAt;
use lockdriver::device::BlockDevice;

use super::open::read;

/// Reads whole sectors around what is asked for.
pub struct Source<'a>(pub &'a dyn BlockDevice);

impl ReadAt for Source<'_> {
    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let sector = u64::from(self.0.sector_bytes());
        let start = offset / sector * sector;
        let end = offset
            .checked_add(len as u64)
            .and_then(|end| end.checked_next_multiple_of(sector))
            .filter(|end| *end <= self.0.len_bytes())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut bytes = read(self.0, start, usize::try_from(end - start).map_err(io::Error::other)?)?;
        bytes.drain(..usize::try_from(offset - start).map_err(io::Error::other)?);
        bytes.truncate(len);
        Ok(bytes)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.len_bytes())
    }
}
