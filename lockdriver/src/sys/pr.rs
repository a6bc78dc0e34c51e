//! The kernel's reservation ioctls (linux/pr.h), for SCSI, NVMe and multipath alike.
//!
//! In a preemption the kernel's `old_key` is the caller's OWN key and `new_key` the VICTIM's, whatever the names say.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Whatever key is registered so far.
const IGNORE_KEY: u32 = 1;
/// Most keys that are read in one go.
const KEYS_MAX: usize = 4096;

#[repr(C)]
struct Registration {
    old_key: u64,
    new_key: u64,
    flags: u32,
    pad: u32,
}

#[repr(C)]
struct Reservation {
    key: u64,
    kind: u32,
    flags: u32,
}

#[repr(C)]
struct Preempt {
    own_key: u64,
    victim_key: u64,
    kind: u32,
    flags: u32,
}

#[repr(C)]
struct Clear {
    key: u64,
    flags: u32,
    pad: u32,
}

#[repr(C)]
struct ReadKeys {
    generation: u32,
    count: u32,
    keys: u64,
}

#[repr(C)]
struct ReadReservation {
    key: u64,
    generation: u32,
    kind: u32,
}

const _: () = assert!(size_of::<Registration>() == 24 && size_of::<Preempt>() == 24);
const _: () = assert!(size_of::<Reservation>() == 16 && size_of::<Clear>() == 16);
const _: () = assert!(size_of::<ReadKeys>() == 16 && size_of::<ReadReservation>() == 16);

const fn number(direction: u64, nr: u64, size: usize) -> u64 {
    direction << 30 | (size as u64) << 16 | (b'p' as u64) << 8 | nr
}

const WRITE: u64 = 1;
const READ: u64 = 2;
const REGISTER: u64 = number(WRITE, 200, 24);
const RESERVE: u64 = number(WRITE, 201, 16);
const RELEASE: u64 = number(WRITE, 202, 16);
const PREEMPT_ABORT: u64 = number(WRITE, 204, 24);
const CLEAR: u64 = number(WRITE, 205, 16);
const READ_KEYS: u64 = number(READ | WRITE, 206, 16);
const READ_RESERVATION: u64 = number(READ, 207, 16);

/// Calls the ioctl: zero, or the positive status of SCSI or NVMe that the kernel hands on.
fn call<T>(node: BorrowedFd<'_>, request: u64, argument: &mut T) -> io::Result<u32> {
    // SAFETY: each request number carries the size of the one structure that this module passes with it; the kernel
    // reads or writes no more, and the structure outlives the call. The descriptor is open.
    let result = unsafe { libc::ioctl(node.as_raw_fd(), request, std::ptr::from_mut(argument)) };
    u32::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Registers `new` in the place of `old`, or of any key.
///
/// # Errors
/// The system call's; a positive number is the device's status.
pub fn register(node: BorrowedFd<'_>, old: u64, new: u64, anyhow: bool) -> io::Result<u32> {
    let flags = if anyhow { IGNORE_KEY } else { 0 };
    call(node, REGISTER, &mut Registration { old_key: old, new_key: new, flags, pad: 0 })
}

/// Takes the reservation.
///
/// # Errors
/// As [`register`].
pub fn reserve(node: BorrowedFd<'_>, key: u64, kind: u32) -> io::Result<u32> {
    call(node, RESERVE, &mut Reservation { key, kind, flags: 0 })
}

/// Gives the reservation back.
///
/// # Errors
/// As [`register`].
pub fn release(node: BorrowedFd<'_>, key: u64, kind: u32) -> io::Result<u32> {
    call(node, RELEASE, &mut Reservation { key, kind, flags: 0 })
}

/// Throws the victim out and aborts its commands.
///
/// # Errors
/// As [`register`].
pub fn preempt_abort(node: BorrowedFd<'_>, own: u64, victim: u64, kind: u32) -> io::Result<u32> {
    call(node, PREEMPT_ABORT, &mut Preempt { own_key: own, victim_key: victim, kind, flags: 0 })
}

/// Ends all registrations.
///
/// # Errors
/// As [`register`].
pub fn clear(node: BorrowedFd<'_>, key: u64) -> io::Result<u32> {
    call(node, CLEAR, &mut Clear { key, flags: 0, pad: 0 })
}

/// All registered keys, where the kernel can tell (7.0 and later).
///
/// # Errors
/// `ENOTTY` or `EOPNOTSUPP` where it cannot; a positive status comes as `InvalidData`.
pub fn read_keys(node: BorrowedFd<'_>) -> io::Result<Vec<u64>> {
    let mut keys = vec![0_u64; KEYS_MAX];
    let count = u32::try_from(KEYS_MAX).unwrap_or(u32::MAX);
    let mut ask = ReadKeys { generation: 0, count, keys: keys.as_mut_ptr().expose_provenance() as u64 };
    good(call(node, READ_KEYS, &mut ask)?)?;
    keys.truncate(usize::try_from(ask.count).unwrap_or(usize::MAX));
    Ok(keys)
}

/// The holder's key and the kind (zero: there is no reservation), where the kernel can tell.
///
/// # Errors
/// As [`read_keys`].
pub fn read_reservation(node: BorrowedFd<'_>) -> io::Result<(u64, u32)> {
    let mut ask = ReadReservation { key: 0, generation: 0, kind: 0 };
    good(call(node, READ_RESERVATION, &mut ask)?)?;
    Ok((ask.key, ask.kind))
}

fn good(status: u32) -> io::Result<()> {
    if status == 0 {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, format!("the device answered with status {status:#x}")))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_numbers_are_the_kernels() {
        assert_eq!((REGISTER, RESERVE, RELEASE), (0x4018_70c8, 0x4010_70c9, 0x4010_70ca));
        assert_eq!((PREEMPT_ABORT, CLEAR), (0x4018_70cc, 0x4010_70cd));
        assert_eq!((READ_KEYS, READ_RESERVATION), (0xc010_70ce, 0x8010_70cf));
    }

    #[test]
    fn a_file_has_no_reservations() {
        let file = tempfile::tempfile().unwrap();
        let error = register(file.as_fd(), 0, 1, false).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
        assert_eq!(read_keys(file.as_fd()).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
    }
}
