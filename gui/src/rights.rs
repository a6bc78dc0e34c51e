//! What this user may do, found out once at the start.

use std::ffi::CString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use volctl::daemon::socket::ACTING_GROUP;

use crate::admin::{Means, Rights};

/// Looks at user, groups, and whether pkexec is there.
#[must_use]
pub fn rights(socket: &Path) -> Rights {
    let uid = Uid::effective();
    let owner = std::fs::metadata(socket).is_ok_and(|m| m.uid() == uid.as_raw());
    let may_act = uid.is_root() || owner || in_group(uid);
    let no_acting = format!("only root and members of the group {ACTING_GROUP} may act through the daemon");
    let means = if uid.is_root() { Means::Root } else { in_path("pkexec").map_or(Means::None, Means::Pkexec) };
    Rights { no_acting: (!may_act).then_some(no_acting), means }
}

/// As the daemon judges it: by the group database, not by the groups of this login.
fn in_group(uid: Uid) -> bool {
    let Ok(Some(group)) = Group::from_name(ACTING_GROUP) else { return false };
    if Gid::effective() == group.gid {
        return true;
    }
    let Ok(Some(user)) = User::from_uid(uid) else { return false };
    let Ok(name) = CString::new(user.name) else { return false };
    getgrouplist(&name, user.gid).is_ok_and(|groups| groups.contains(&group.gid))
}

/// Where a program lies.
#[must_use]
pub fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from));
    places.map(|dir| dir.join(program)).find(|file| file.is_file())
}
