//! Who is at the other end of a connection, and whether he may act.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use lockdriver::sys::peer::peer_groups;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::{Group, Uid};

/// The group whose members may act.
pub const ACTING_GROUP: &str = "volctl";

/// The process at the other end, as the kernel recorded it when it connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Process id; for messages only, it may have been used again since.
    pub pid: i32,
}

/// The rule for who may act.
pub type PeerCheck = Arc<dyn Fn(&Peer) -> bool + Send + Sync>;

impl Peer {
    /// Asks the kernel (SO_PEERCRED, SO_PEERGROUPS).
    ///
    /// # Errors
    /// As `getsockopt(2)`.
    pub fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = getsockopt(stream, PeerCredentials)?;
        let groups = peer_groups(stream)?;
        Ok(Self { uid: credentials.uid(), gid: credentials.gid(), groups, pid: credentials.pid() })
    }

    fn is_in(&self, group: u32) -> bool {
        self.gid == group || self.groups.contains(&group)
    }
}

/// The rule of the daemon: root, the daemon's own user, and processes that are in the group `volctl` may act.
///
/// What counts is the process that connected, as for a file: one that gave up its groups, or runs in a sandbox without
/// them, may not act, whatever its user could do elsewhere. So whoever was just added to the group logs in anew first.
/// Only the group's number is asked of the group database; while there is no such group, only root and the own user may act.
#[must_use]
pub fn may_act(peer: &Peer) -> bool {
    if peer.uid == 0 || peer.uid == Uid::effective().as_raw() {
        return true;
    }
    Group::from_name(ACTING_GROUP).ok().flatten().is_some_and(|group| peer.is_in(group.gid.as_raw()))
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
        let peer = |uid| Peer { uid, gid: 4_000_000_000, groups: vec![4_000_000_001], pid: 1 };
        assert!(may_act(&peer(0)));
        assert!(may_act(&peer(Uid::effective().as_raw())));
        assert!(!may_act(&peer(4_000_000_000)));
    }

    #[test]
    fn a_group_counts_as_the_effective_one_and_as_a_supplementary_one() {
        let peer = Peer { uid: 7, gid: 10, groups: vec![20, 30], pid: 1 };
        assert!(peer.is_in(10) && peer.is_in(20) && peer.is_in(30));
        assert!(!peer.is_in(7) && !peer.is_in(0));
    }

    #[test]
    fn the_kernel_tells_the_groups_of_this_very_process() {
        let (ours, _theirs) = UnixStream::pair().expect("a pair");
        let mut own: Vec<u32> = nix::unistd::getgroups().expect("groups").iter().map(|g| g.as_raw()).collect();
        let mut told = Peer::of(&ours).expect("credentials").groups;
        own.sort_unstable();
        told.sort_unstable();
        assert_eq!(told, own);
    }
}
