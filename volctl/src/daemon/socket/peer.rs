//! Who is at the other end of a connection, and whether he may act.

use std::ffi::CString;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

/// The group whose members may act.
pub const ACTING_GROUP: &str = "volctl";

/// The process at the other end, as the kernel recorded it when it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Process id; for messages only, it may have been used again since.
    pub pid: i32,
}

/// The rule for who may act.
pub type PeerCheck = Arc<dyn Fn(&Peer) -> bool + Send + Sync>;

impl Peer {
    /// Asks the kernel (SO_PEERCRED).
    ///
    /// # Errors
    /// As `getsockopt(2)`.
    pub fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = getsockopt(stream, PeerCredentials)?;
        Ok(Self { uid: credentials.uid(), gid: credentials.gid(), pid: credentials.pid() })
    }
}

/// The rule of the daemon: root, the daemon's own user, and members of group `volctl` may act.
///
/// The group database is asked each time, so a new member need not wait; it may be slow where it is far away, which
/// holds up only the connection's own thread. What cannot be found out counts as no.
#[must_use]
pub fn may_act(peer: &Peer) -> bool {
    if peer.uid == 0 || peer.uid == Uid::effective().as_raw() {
        return true;
    }
    let Ok(Some(group)) = Group::from_name(ACTING_GROUP) else {
        return false;
    };
    if peer.gid == group.gid.as_raw() {
        return true;
    }
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(peer.uid)) else {
        return false;
    };
    let Ok(name) = CString::new(user.name) else {
        return false;
    };
    getgrouplist(&name, Gid::from_raw(peer.gid)).is_ok_and(|groups| groups.contains(&group.gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_names_this_very_process() {
        let (ours, _theirs) = UnixStream::pair().expect("a pair");
        let peer = Peer::of(&ours).expect("credentials");
        assert_eq!(peer.uid, Uid::effective().as_raw());
        assert_eq!(u32::try_from(peer.pid).expect("a pid"), std::process::id());
    }

    #[test]
    fn root_and_the_own_user_may_act_and_a_stranger_may_not() {
        let peer = |uid| Peer { uid, gid: 4_000_000_000, pid: 1 };
        assert!(may_act(&peer(0)));
        assert!(may_act(&peer(Uid::effective().as_raw())));
        assert!(!may_act(&peer(4_000_000_000)));
    }
}
