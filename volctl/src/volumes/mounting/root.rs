//! The mount root: the directory below which every volume of this host appears, `MOUNT_ROOT/VOLUME`.
//!
//! It is a private bind mount of itself. The kernel moves no mount out of a shared parent, and hiding and
//! switching are moves; and what is mounted in a private one shows up nowhere else by itself. The bind mount is
//! read-only: what a program writes to the place of a volume that is not there must not land on the host's own disk.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::{fs::File, sync::Arc};

use lockdriver::sys::mount::{Place, clone_tree, make_private, move_mount, set_read_only};
use lockdriver::trust::{self, Untrusted};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::hidden::{HIDDEN_DIRECTORY, Hidden, SPARE_PLACE};
use super::{DetachedMount, MountError, open_beneath};
use crate::volumes::mountinfo::{self, MountLine, mount_id};
use ondisk::FsKind;

/// The prepared mount root. Cheap to clone; may be used from several threads, for different volumes at once.
#[derive(Debug, Clone)]
pub struct MountRoot {
    path: PathBuf,
    pub(super) directory: Arc<OwnedFd>,
    /// The same directory through a mount that nobody else sees and that can be written to: for mount points.
    pub(in crate::volumes) making: Arc<OwnedFd>,
}

/// A mount in its place. A plain value: dropping it changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// Where it is.
    pub path: PathBuf,
    /// Name of the volume, the last part of the path.
    pub name: String,
    /// Number of the mount, by which its users are found even after it was lazily detached.
    pub mount_id: u64,
    /// The block device under it.
    pub device: PathBuf,
    /// Type of the file system.
    pub kind: FsKind,
}

/// A mount below the mount root that an earlier daemon left there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Where it is; below the hidden directory when a release was cut short.
    pub path: PathBuf,
    /// The block device under it.
    pub device: PathBuf,
    /// Number of the mount.
    pub mount_id: u64,
    /// Whether it can be written to.
    pub writable: bool,
}

/// Makes `path` (absolute, no symbolic link in it) the mount root. Doing it again changes nothing.
///
/// # Errors
/// [`MountError::UnsafeRoot`] for a relative path, a symbolic link, a directory that others may change.
pub fn prepare_mount_root(path: &Path) -> Result<MountRoot, MountError> {
    let directory = open_or_make(path)?;
    check_owner(path, &directory)?;
    let directory = match mount_at(&directory).map_err(MountError::io("looking for the mount of", path))? {
        Some(line) if !line.propagates && !line.writable() => directory,
        _ => bind_private(path, &directory)?,
    };
    let doing = |what| MountError::errno(what, path);
    let making = clone_tree(&directory).map_err(doing("binding"))?;
    set_read_only(&making, false).map_err(doing("making writable"))?;
    match mkdirat(&making, HIDDEN_DIRECTORY, Mode::S_IRWXU) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(doing("making the hidden directory in")(errno)),
    }
    let hidden =
        open_beneath(&making, HIDDEN_DIRECTORY, OFlag::O_RDONLY).map_err(doing("opening the hidden directory in"))?;
    check_owner(path, &hidden)?;
    fchmod(&hidden, Mode::S_IRWXU).map_err(doing("closing the hidden directory to others in"))?;
    let _there_or_no_room = mkdirat(&making, SPARE_PLACE, Mode::S_IRWXU);
    Ok(MountRoot { path: path.to_owned(), directory: Arc::new(directory), making: Arc::new(making) })
}

fn bound_on_itself(lines: &[MountLine], id: u64) -> bool {
    let own = lines.iter().find(|line| line.id == id);
    own.is_some_and(|own| lines.iter().any(|line| line.id == own.parent && line.device == own.device))
}

/// Undoes [`prepare_mount_root`]; a mount that an administrator made there stays.
///
/// # Errors
/// [`MountError::Occupied`] while a volume is mounted in it.
pub fn tear_down_mount_root(root: MountRoot) -> Result<(), MountError> {
    let MountRoot { path, directory, making } = root;
    let looking = || MountError::io("looking for the mount of", &path);
    let lines = mountinfo::own().map_err(looking())?;
    let id = mount_id(&*directory).map_err(looking())?;
    if !lines.iter().any(|line| line.id == id && line.target == path) {
        return Ok(());
    }
    if let Some(child) = lines.iter().find(|line| line.parent == id) {
        return Err(MountError::Occupied { path: child.target.clone() });
    }
    for made in [SPARE_PLACE, HIDDEN_DIRECTORY] {
        let _gone_or_in_use = unlinkat(&*making, made, UnlinkatFlags::RemoveDir);
    }
    if !bound_on_itself(&lines, id) {
        return Ok(());
    }
    detach_top(&*directory).map_err(MountError::errno("unmounting", &path))
}

impl MountRoot {
    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the directory that only root may enter, to lock it: the mount root itself is open to all, and whoever can
    /// open a directory can lock it and so keep every daemon out.
    ///
    /// # Errors
    /// Only what the system says.
    pub fn open_private(&self) -> Result<File, MountError> {
        let opened = open_beneath(&*self.making, HIDDEN_DIRECTORY, OFlag::O_RDONLY);
        Ok(File::from(opened.map_err(MountError::errno("opening the hidden directory in", &self.path))?))
    }

    /// Where the volume appears.
    #[must_use]
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Puts a mount into its place, `MOUNT_ROOT/name`.
    ///
    /// # Errors
    /// [`MountError::Occupied`] when something is mounted there, [`MountError::BadName`].
    pub fn attach(&self, mount: DetachedMount, name: &str) -> Result<Mounted, MountError> {
        let (target, occupied) = self.target(name)?;
        if occupied {
            return Err(MountError::Occupied { path: self.path_of(name) });
        }
        move_mount(&mount, &target, Place::OnTop).map_err(MountError::errno("mounting at", &self.path_of(name)))?;
        Ok(self.mounted(&mount, name))
    }

    /// Puts a mount into the place of the one that is there, at one instant (section 8, refresh).
    ///
    /// Open files and working directories of the old one go on; it goes when the last of them does. Without an
    /// old one this is [`Self::attach`].
    ///
    /// # Errors
    /// As [`Self::attach`]; the old mount stays then.
    pub fn switch_beneath(&self, mount: DetachedMount, name: &str) -> Result<Mounted, MountError> {
        let (old, occupied) = self.target(name)?;
        if !occupied {
            return self.attach(mount, name);
        }
        let path = self.path_of(name);
        match move_mount(&mount, &old, Place::Beneath) {
            Ok(()) => {}
            Err(Errno::EINVAL) => return self.switch_by_moving(mount, name),
            Err(errno) => return Err(MountError::errno("mounting beneath", &path)(errno)),
        }
        detach_top(&old).map_err(MountError::errno("detaching the old mount of", &path))?;
        drop(old);
        let on_top = self.mounted_id(name)?;
        if on_top != Some(mount.mount_id()) {
            return Err(MountError::Overmounted { path });
        }
        Ok(self.mounted(&mount, name))
    }

    /// The switch for kernels before 6.5: the old mount moves out of sight, the new one in. For an instant there is none.
    ///
    /// # Errors
    /// As [`Self::attach`]; the old mount is put back then.
    pub fn switch_by_moving(&self, mount: DetachedMount, name: &str) -> Result<Mounted, MountError> {
        let mut old = self.hide(name)?;
        match self.attach(mount, name) {
            Ok(mounted) => {
                old.let_go()?;
                Ok(mounted)
            }
            Err(error) => {
                old.put_back()?;
                Err(error)
            }
        }
    }

    /// Moves a mount out of sight: no path leads to it any more, what is open stays open.
    ///
    /// # Errors
    /// [`MountError::NotMounted`]; `EBUSY`-like answers do not exist here.
    pub fn hide(&self, name: &str) -> Result<Hidden, MountError> {
        let (target, occupied) = self.target(name)?;
        if !occupied {
            return Err(MountError::NotMounted { path: self.path_of(name) });
        }
        Hidden::hide(self, name, &target)
    }

    /// Detaches a mount lazily: gone at once for everybody who looks, let go when the last open file closes.
    /// Says whether there was one.
    ///
    /// # Errors
    /// Only what the system says.
    pub fn detach(&self, name: &str) -> Result<bool, MountError> {
        let (target, occupied) = self.target(name)?;
        if occupied {
            detach_top(&target).map_err(MountError::errno("detaching", &self.path_of(name)))?;
        }
        Ok(occupied)
    }

    /// Opens the root directory of what is mounted there, for publishing and looking. It keeps the mount busy.
    ///
    /// # Errors
    /// [`MountError::NotMounted`].
    pub fn open(&self, name: &str) -> Result<File, MountError> {
        check_name(name)?;
        let path = self.path_of(name);
        if self.mounted_id(name)?.is_none() {
            return Err(MountError::NotMounted { path });
        }
        let directory = open_beneath(&*self.directory, name, OFlag::O_RDONLY);
        Ok(File::from(directory.map_err(MountError::errno("opening", &path))?))
    }

    /// Number of the mount that is on top there; `None` when there is none.
    ///
    /// # Errors
    /// Only what the system says.
    pub fn mounted_id(&self, name: &str) -> Result<Option<u64>, MountError> {
        let (target, occupied) = self.target(name)?;
        let id = mount_id(&target).map_err(MountError::io("looking at", &self.path_of(name)))?;
        Ok(occupied.then_some(id))
    }

    /// Every mount below the mount root, hidden ones too: what a daemon that died left, deepest first.
    ///
    /// # Errors
    /// When mountinfo cannot be read.
    pub fn leftovers(&self) -> Result<Vec<Leftover>, MountError> {
        let lines = mountinfo::own().map_err(MountError::io("reading the mounts below", &self.path))?;
        let below = lines.into_iter().filter(|line| line.target != self.path && line.target.starts_with(&self.path));
        let mut found: Vec<Leftover> = below
            .map(|line| Leftover {
                writable: line.writable(),
                path: line.target,
                device: line.source,
                mount_id: line.id,
            })
            .collect();
        found.reverse();
        Ok(found)
    }

    /// Detaches a mount that [`Self::leftovers`] named, lazily.
    ///
    /// # Errors
    /// [`MountError::Overmounted`] when another mount is there now.
    pub fn detach_leftover(&self, leftover: &Leftover) -> Result<(), MountError> {
        let path = &leftover.path;
        let below = path.strip_prefix(&self.path).ok().and_then(Path::to_str).unwrap_or_default();
        let target =
            open_beneath(&*self.directory, below, OFlag::O_PATH).map_err(MountError::errno("opening", path))?;
        if mount_id(&target).map_err(MountError::io("looking at", path))? != leftover.mount_id {
            return Err(MountError::Overmounted { path: path.clone() });
        }
        detach_top(&target).map_err(MountError::errno("detaching", path))
    }

    /// Opens (and makes, if need be) the mount point; says whether something is mounted there.
    pub(super) fn target(&self, name: &str) -> Result<(OwnedFd, bool), MountError> {
        check_name(name)?;
        let path = self.path_of(name);
        match mkdirat(&*self.making, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(MountError::errno("making", &path)(errno)),
        }
        let target =
            open_beneath(&*self.directory, name, OFlag::O_PATH).map_err(MountError::errno("opening", &path))?;
        let looking = || MountError::io("looking at", &path);
        let occupied = mount_id(&target).map_err(looking())? != mount_id(&*self.directory).map_err(looking())?;
        Ok((target, occupied))
    }

    fn mounted(&self, mount: &DetachedMount, name: &str) -> Mounted {
        Mounted {
            path: self.path_of(name),
            name: name.to_owned(),
            mount_id: mount.mount_id(),
            device: mount.device().to_owned(),
            kind: mount.kind(),
        }
    }
}

/// Lazily unmounts exactly the mount whose root this descriptor is, whatever lies beneath or has moved meanwhile.
pub(super) fn detach_top(root: impl AsFd) -> nix::Result<()> {
    umount2(format!("/proc/self/fd/{}", root.as_fd().as_raw_fd()).as_str(), MntFlags::MNT_DETACH)
}

fn check_name(name: &str) -> Result<(), MountError> {
    let why = match name {
        "" | "." | ".." => "it names no directory of its own",
        _ if name.contains(['/', '\0']) => "it contains a slash or a NUL",
        _ if name.starts_with(".volctl") => "names that begin with .volctl are kept for volctl",
        _ => return Ok(()),
    };
    Err(MountError::BadName { name: name.to_owned(), why })
}

fn open_no_links(base: impl AsFd, path: &Path) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(base, path, how)
}

/// Opens the directory, making what is missing on the way, never through a symbolic link.
fn open_or_make(path: &Path) -> Result<OwnedFd, MountError> {
    let unsafe_root = |why| MountError::UnsafeRoot { path: path.to_owned(), why };
    if !path.is_absolute() || path.components().any(|part| matches!(part, Component::ParentDir | Component::CurDir)) {
        return Err(unsafe_root("it must be an absolute path without .."));
    }
    let mut directory =
        open_no_links(AT_FDCWD, Path::new("/")).map_err(MountError::errno("opening the root directory for", path))?;
    for part in path.components().skip(1) {
        let part = Path::new(part.as_os_str());
        check_way(path, &directory)?;
        match mkdirat(&directory, part, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST | Errno::EROFS | Errno::EACCES) => {}
            Err(errno) => return Err(MountError::errno("making", path)(errno)),
        }
        directory = match open_no_links(&directory, part) {
            Ok(next) => next,
            Err(Errno::ELOOP) => {
                return Err(unsafe_root("a part of the path is a symbolic link: give the real path"));
            }
            Err(Errno::ENOTDIR) => return Err(unsafe_root("a part of the path is no directory")),
            Err(errno) => return Err(MountError::errno("opening", path)(errno)),
        };
    }
    Ok(directory)
}

/// Whoever may write into the mount root may swap the directories under the volumes.
fn check_owner(path: &Path, directory: &OwnedFd) -> Result<(), MountError> {
    let metadata = metadata_of(path, directory)?;
    let unsafe_root = |why| Err(MountError::UnsafeRoot { path: path.to_owned(), why });
    match trust::check_owner(&metadata) {
        Ok(()) => Ok(()),
        Err(Untrusted::Owner(_)) => unsafe_root("it belongs to another user than the daemon's"),
        Err(_) => unsafe_root("others than its owner may write in it (chmod go-w)"),
    }
}

/// Whoever may write into a directory on the way may put another one in the place of all that is below it.
fn check_way(path: &Path, directory: &OwnedFd) -> Result<(), MountError> {
    let why = "a directory on the way to it can be changed by others than root (chown root, chmod go-w)";
    trust::check_on_the_way(&metadata_of(path, directory)?)
        .map_err(|_| MountError::UnsafeRoot { path: path.to_owned(), why })
}

fn metadata_of(path: &Path, directory: &OwnedFd) -> Result<std::fs::Metadata, MountError> {
    let copy = directory.try_clone().map_err(MountError::io("looking at", path))?;
    File::from(copy).metadata().map_err(MountError::io("looking at", path))
}

/// The mount of which this directory is the root, if it is one.
fn mount_at(directory: &OwnedFd) -> io::Result<Option<MountLine>> {
    let id = mount_id(directory)?;
    let copy = directory.try_clone()?;
    let place = std::fs::read_link(format!("/proc/self/fd/{}", copy.as_raw_fd()))?;
    Ok(mountinfo::own()?.into_iter().find(|line| line.id == id && line.target == place))
}

/// Binds the directory on itself, private before anybody can see it, and opens the new mount.
fn bind_private(path: &Path, directory: &OwnedFd) -> Result<OwnedFd, MountError> {
    let tree = clone_tree(directory).map_err(MountError::errno("binding", path))?;
    // Now, while nobody can reach it: a program that has a file open for writing in it would prevent it.
    set_read_only(&tree, true).map_err(MountError::errno("making read-only", path))?;
    move_mount(&tree, directory, Place::OnTop).map_err(MountError::errno("binding", path))?;
    // A shared parent has just made the new mount shared too.
    make_private(&tree).map_err(MountError::errno("making private", path))?;
    Ok(tree)
}
