//! Packets between two processes, with descriptors in them (SOCK_SEQPACKET, SCM_RIGHTS).

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
};

/// Longest packet in bytes.
pub const PACKET_BYTES: usize = 16 * 1024;
/// Most descriptors in one packet.
const FDS_MAX: usize = 4;

/// Two connected sockets that keep packets apart.
///
/// # Errors
/// When descriptors are out.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// Sends one packet. With `wait` false a full socket is `WouldBlock`.
///
/// # Errors
/// `BrokenPipe` when the other side is gone; no signal is raised.
pub fn send(socket: BorrowedFd<'_>, packet: &[u8], fds: &[BorrowedFd<'_>], wait: bool) -> io::Result<()> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    let mut flags = MsgFlags::MSG_NOSIGNAL;
    flags.set(MsgFlags::MSG_DONTWAIT, !wait);
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(packet)], control, flags, None) {
            Ok(_) => return Ok(()),
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits for one packet. `None` when the other side is gone.
///
/// # Errors
/// `InvalidData` for a packet that was cut off.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut packet = vec![0; PACKET_BYTES];
    let mut control = nix::cmsg_space!([RawFd; FDS_MAX]);
    let (length, fds, cut) = loop {
        let mut vectors = [IoSliceMut::new(&mut packet)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = match recvmsg::<()>(socket.as_raw_fd(), &mut vectors, Some(&mut control), flags) {
            Ok(message) => message,
            Err(nix::errno::Errno::EINTR) => continue,
            Err(nix::errno::Errno::ECONNRESET) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut fds = Vec::new();
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = part {
                // SAFETY: the kernel has just installed these descriptors for this process; nobody else owns them.
                fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        let cut = message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC);
        break (message.bytes, fds, cut);
    };
    if cut {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet was cut off"));
    }
    if length == 0 {
        return Ok(None);
    }
    packet.truncate(length);
    Ok(Some((packet, fds)))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_descriptor_arrives_and_means_the_same_file() {
        let (here, there) = pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"the same").unwrap();
        send(here.as_fd(), b"packet", &[file.as_fd()], true).unwrap();
        let (packet, mut fds) = receive(there.as_fd()).unwrap().unwrap();
        assert_eq!(packet, b"packet");
        let mut arrived = std::fs::File::from(fds.remove(0));
        arrived.rewind().unwrap();
        let mut text = String::new();
        arrived.read_to_string(&mut text).unwrap();
        assert_eq!(text, "the same");
        drop(here);
        assert!(receive(there.as_fd()).unwrap().is_none());
    }
}
