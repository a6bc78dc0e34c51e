//! One SCSI command straight to the device (SG_IO), and the NVMe reservation report.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use crate::device::AlignedBuf;
use crate::scsi::{Completion, Sense};

const SG_IO: u64 = 0x2285;
const NVME_ID: u64 = 0x4e40;
const NVME_IO_CMD: u64 = 0xc048_4e43;
const NVME_FLUSH: u8 = 0x00;
const NVME_RESERVATION_REGISTER: u8 = 0x0d;
const NVME_RESERVATION_REPORT: u8 = 0x0e;
/// Reservation Register Action: unregister.
const NVME_UNREGISTER: u32 = 1;
/// Bytes of an answer that are asked for.
const ANSWER_BYTES: usize = 4096;

#[repr(C)]
struct SgIoHdr {
    interface_id: libc::c_int,
    direction: libc::c_int,
    cmd_len: u8,
    max_sense: u8,
    iovec_count: u16,
    data_len: u32,
    data: *mut libc::c_void,
    cmd: *const u8,
    sense: *mut u8,
    timeout_ms: u32,
    flags: u32,
    pack_id: libc::c_int,
    usr: *mut libc::c_void,
    status: u8,
    masked_status: u8,
    msg_status: u8,
    sense_written: u8,
    host_status: u16,
    driver_status: u16,
    resid: libc::c_int,
    duration: u32,
    info: u32,
}

#[repr(C)]
struct NvmePassthru {
    opcode: u8,
    flags: u8,
    rsvd1: u16,
    nsid: u32,
    cdw2: u32,
    cdw3: u32,
    metadata: u64,
    addr: u64,
    metadata_len: u32,
    data_len: u32,
    cdw10: u32,
    cdw11: u32,
    cdw12: u32,
    cdw13: u32,
    cdw14: u32,
    cdw15: u32,
    timeout_ms: u32,
    result: u32,
}

const _: () = assert!(size_of::<NvmePassthru>() == 72);
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<SgIoHdr>() == 88);

/// Where the data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the device.
    Out,
    /// From the device.
    In,
}

/// Sends one command with its data.
///
/// # Errors
/// The system call's: then the command was not sent, as far as is known. How the device took it is in the completion.
pub fn command(
    node: BorrowedFd<'_>,
    cdb: &[u8],
    direction: Direction,
    data: &mut AlignedBuf,
    timeout: Duration,
) -> io::Result<Completion> {
    let mut sense = [0_u8; 64];
    let short = |e| io::Error::new(io::ErrorKind::InvalidInput, e);
    let mut header = SgIoHdr {
        interface_id: libc::c_int::from(b'S'),
        direction: if direction == Direction::Out { -2 } else { -3 },
        cmd_len: u8::try_from(cdb.len()).map_err(short)?,
        max_sense: 64,
        iovec_count: 0,
        data_len: u32::try_from(data.len()).map_err(short)?,
        data: data.as_mut_ptr().cast(),
        cmd: cdb.as_ptr(),
        sense: sense.as_mut_ptr(),
        timeout_ms: u32::try_from(timeout.as_millis()).map_err(short)?,
        flags: 0,
        pack_id: 0,
        usr: std::ptr::null_mut(),
        status: 0,
        masked_status: 0,
        msg_status: 0,
        sense_written: 0,
        host_status: 0,
        driver_status: 0,
        resid: 0,
        duration: 0,
        info: 0,
    };
    // SAFETY: the structure is the kernel's sg_io_hdr (size asserted above); command, data and sense buffers live here and
    // have the lengths that it names. The call returns when the kernel is done with all of them.
    let result = unsafe { libc::ioctl(node.as_raw_fd(), SG_IO, &raw mut header) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let written = usize::from(header.sense_written).min(sense.len());
    let left = usize::try_from(header.resid).unwrap_or(0);
    Ok(Completion {
        status: header.status,
        host: header.host_status,
        driver: header.driver_status,
        sense: Sense::decode(&sense[..written]),
        moved: data.len().saturating_sub(left),
    })
}

/// The extended NVMe reservation report of this namespace; None: it is no NVMe device.
///
/// # Errors
/// The system call's; an NVMe status comes as `InvalidData`.
pub fn nvme_reservation_report(node: BorrowedFd<'_>) -> io::Result<Option<Vec<u8>>> {
    let mut report = AlignedBuf::zeroed(ANSWER_BYTES);
    // Extended: 64-bit host identifiers are refused by some hosts.
    match nvme(node, NVME_RESERVATION_REPORT, &mut report, [4096 / 4 - 1, 1])? {
        None => Ok(None),
        Some(0) => Ok(Some(report.to_vec())),
        Some(status) => Err(io::Error::new(io::ErrorKind::InvalidData, format!("NVMe status {status:#x}"))),
    }
}

/// Takes the registration with `key` away; the status, or None: it is no NVMe device. The kernel's ioctl would register the key
/// zero in its place instead.
///
/// # Errors
/// The system call's.
pub fn nvme_unregister(node: BorrowedFd<'_>, key: u64) -> io::Result<Option<u32>> {
    let mut keys = AlignedBuf::zeroed(16);
    keys[..8].copy_from_slice(&key.to_le_bytes());
    nvme(node, NVME_RESERVATION_REGISTER, &mut keys, [NVME_UNREGISTER, 0])
}

/// Asks that what was written be stable; the status, or None: it is no NVMe device. It changes no byte, and reservations refuse it
/// as they refuse a write. (The kernel's own flush is left out where there is no volatile cache.)
///
/// # Errors
/// The system call's.
pub fn nvme_flush(node: BorrowedFd<'_>) -> io::Result<Option<u32>> {
    nvme(node, NVME_FLUSH, &mut AlignedBuf::zeroed(0), [0, 0])
}

/// One command with its data; its status, or None: it is no NVMe device.
fn nvme(node: BorrowedFd<'_>, opcode: u8, data: &mut AlignedBuf, [cdw10, cdw11]: [u32; 2]) -> io::Result<Option<u32>> {
    // SAFETY: the request takes no argument.
    let id = unsafe { libc::ioctl(node.as_raw_fd(), NVME_ID) };
    let Ok(nsid @ 1..) = u32::try_from(id) else { return Ok(None) };
    let mut ask = NvmePassthru {
        opcode,
        flags: 0,
        rsvd1: 0,
        nsid,
        cdw2: 0,
        cdw3: 0,
        metadata: 0,
        addr: data.as_mut_ptr().expose_provenance() as u64,
        metadata_len: 0,
        data_len: u32::try_from(data.len()).map_err(io::Error::other)?,
        cdw10,
        cdw11,
        cdw12: 0,
        cdw13: 0,
        cdw14: 0,
        cdw15: 0,
        timeout_ms: 10_000,
        result: 0,
    };
    // SAFETY: the structure is the kernel's nvme_passthru_cmd (size asserted above); the buffer has the length that it names.
    let status = unsafe { libc::ioctl(node.as_raw_fd(), NVME_IO_CMD, &raw mut ask) };
    u32::try_from(status).map(Some).map_err(|_| io::Error::last_os_error())
}
