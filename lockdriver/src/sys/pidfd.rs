//! Handles of processes that cannot come to mean another process.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// A handle of one process.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Opens the process that has `pid` now. Whether it is the one that was meant is for the caller to look at, after opening.
    ///
    /// # Errors
    /// ESRCH when there is none.
    pub fn open(pid: u32) -> io::Result<Self> {
        // SAFETY: two integers go in, a descriptor or -1 comes out.
        let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_ulong::from(pid), 0) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        let raw = i32::try_from(raw).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        // SAFETY: the kernel has just made this descriptor for us (close-on-exec is its default).
        Ok(Self(unsafe { OwnedFd::from_raw_fd(raw) }))
    }

    /// Kills it (SIGKILL); one that is gone already is no error.
    ///
    /// # Errors
    /// When this process may not.
    pub fn kill(&self) -> io::Result<()> {
        let (fd, signal) = (self.0.as_raw_fd(), libc::SIGKILL);
        let info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: integers and a null pointer, which the call allows.
        let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, info, 0) };
        match io::Error::last_os_error() {
            error if result < 0 && error.raw_os_error() != Some(libc::ESRCH) => Err(error),
            _ => Ok(()),
        }
    }

    /// Waits until it has ended, all its threads included: true when it has.
    ///
    /// # Errors
    /// When poll fails.
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(ready) => Ok(ready > 0),
            Err(nix::errno::Errno::EINTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_child_is_seen_to_end() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let handle = PidFd::open(child.id()).unwrap();
        assert!(!handle.wait(Duration::ZERO).unwrap());
        handle.kill().unwrap();
        assert!(handle.wait(Duration::from_secs(5)).unwrap());
        child.wait().unwrap();
        handle.kill().unwrap(); // gone: no error
    }
}
