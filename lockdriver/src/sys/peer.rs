//! Who is at the other end of a socket, beyond what nix wraps.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// The supplementary groups that the process at the other end had when it connected (SO_PEERGROUPS, Linux 4.13).
///
/// # Errors
/// As `getsockopt(2)`.
pub fn peer_groups(socket: impl AsFd) -> io::Result<Vec<u32>> {
    // The kernel allows 65,536 groups; it says how many bytes it needs.
    let mut groups = vec![0_u32; 64];
    loop {
        let mut bytes = libc::socklen_t::try_from(size_of_val(groups.as_slice())).map_err(io::Error::other)?;
        // SAFETY: the kernel writes at most `bytes` bytes, which `groups` has, and then the length; both outlive the call.
        let answer = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let count = usize::try_from(bytes).map_err(io::Error::other)? / size_of::<u32>();
        if answer == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}
