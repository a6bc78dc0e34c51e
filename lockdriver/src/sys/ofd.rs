//! Open-file-description byte-range locks (fcntl(2), F_OFD_SETLK): the mechanism of the `ofd` semaphore.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use crate::semaphore::{OfdOp, OfdResult};

/// The locked range lies far behind every byte of an image, so that it never meets anybody's ordinary lock.
const START: i64 = 1 << 62;

/// Does `op` to the lock on `file`; never waits.
pub fn operate(file: impl AsFd, op: OfdOp) -> OfdResult {
    let kind = match op {
        // Taking a lock that the description holds already succeeds: that is the re-test.
        OfdOp::TryLock | OfdOp::Retest => libc::F_WRLCK,
        OfdOp::Unlock => libc::F_UNLCK,
    };
    let (Ok(l_type), Ok(l_whence)) = (i16::try_from(kind), i16::try_from(libc::SEEK_SET)) else {
        return OfdResult::Failed;
    };
    let lock = libc::flock { l_type, l_whence, l_start: START, l_len: 1, l_pid: 0 };
    match (fcntl(file, FcntlArg::F_OFD_SETLK(&lock)), op) {
        (Ok(_), OfdOp::Unlock) => OfdResult::NotHeld,
        (Ok(_), _) => OfdResult::Held,
        (Err(Errno::EAGAIN | Errno::EACCES), _) => OfdResult::NotHeld,
        (Err(_), _) => OfdResult::Failed,
    }
}
