//! Buffers for direct I/O, and the one check that every device applies to a request.

use std::io;

pub use crate::sys::aligned::{AlignedBuf, BUFFER_ALIGN};

/// Says no to a request that direct I/O on sectors of `sector_bytes` would refuse, so that a test device refuses it too.
pub(super) fn check_request(sector_bytes: u32, len_bytes: u64, offset: u64, memory: &[u8]) -> io::Result<()> {
    let sector = u64::from(sector_bytes);
    let refuse = |why: &'static str| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    let length = u64::try_from(memory.len()).expect("usize fits u64 on every supported machine");
    if !offset.is_multiple_of(sector) {
        return refuse("offset is not a multiple of the sector size");
    }
    if !length.is_multiple_of(sector) {
        return refuse("length is not a multiple of the sector size");
    }
    if !memory.as_ptr().addr().is_multiple_of(usize::try_from(sector_bytes).unwrap_or(BUFFER_ALIGN)) {
        return refuse("memory is not aligned to the sector size (use AlignedBuf)");
    }
    match offset.checked_add(length) {
        Some(end) if end <= len_bytes => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "request reaches beyond the end of the device")),
    }
}
