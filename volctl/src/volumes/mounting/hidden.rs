//! A mount out of sight: the way a writer's volume goes at a release (section 7).
//!
//! Unmounting in place would race with whoever opens the next file. So the mount moves to a directory that only
//! root can enter; then either it unmounts, or those who still use it are named and it is put back.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use lockdriver::sys::mount::{Place, move_mount, set_read_only};
use nix::errno::Errno;
use nix::fcntl::{OFlag, renameat};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::error::{Busy, MountError, UnmountError};
use super::root::{MountRoot, detach_top};
use super::{device_in_use, open_beneath};
use crate::volumes::busy::{Scope, who_holds};
use crate::volumes::elsewhere;
use crate::volumes::mountinfo::{self, mount_id};

/// Name of the directory below the mount root that hides mounts.
pub(super) const HIDDEN_DIRECTORY: &str = ".volctl-hidden";
/// A hidden place made in advance, for when there is no room to make one.
pub(super) const SPARE_PLACE: &str = ".volctl-hidden/spare";
/// How often a busy answer is doubted when nobody can be found: a process may just be ending.
const TRIES: u32 = 10;
/// Time between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// A mount out of sight. Dropping it without a decision puts it back.
#[derive(Debug)]
pub struct Hidden {
    root: MountRoot,
    name: String,
    place: String,
    mount_id: u64,
    decided: bool,
    /// Nothing can be written through it.
    ended: bool,
}

impl Hidden {
    pub(super) fn hide(root: &MountRoot, name: &str, target: &OwnedFd) -> Result<Self, MountError> {
        let path = root.path_of(name);
        let mount_id = mount_id(target).map_err(MountError::io("looking at", &path))?;
        let place = format!("{HIDDEN_DIRECTORY}/{name}.{mount_id}");
        match mkdirat(&*root.making, place.as_str(), Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            // The privilege can be given back although the host's own disk is full.
            Err(Errno::ENOSPC | Errno::EDQUOT) => {
                renameat(&*root.making, SPARE_PLACE, &*root.making, place.as_str())
                    .map_err(MountError::errno("taking the spare hidden place for", &path))?;
            }
            Err(errno) => return Err(MountError::errno("making a hidden place for", &path)(errno)),
        }
        let to = open_beneath(&*root.directory, &place, OFlag::O_PATH)
            .map_err(MountError::errno("opening the hidden place of", &path))?;
        move_mount(target, &to, Place::OnTop).map_err(MountError::errno("hiding", &path))?;
        Ok(Self { root: root.clone(), name: name.to_owned(), place, mount_id, decided: false, ended: false })
    }

    /// Number of the mount.
    #[must_use]
    pub const fn mount_id(&self) -> u64 {
        self.mount_id
    }

    /// Where it would come back.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.root.path_of(&self.name)
    }

    /// Opens its root directory. It keeps the mount busy.
    ///
    /// # Errors
    /// Only what the system says.
    pub fn open(&self) -> Result<File, MountError> {
        let directory = open_beneath(&*self.root.directory, &self.place, OFlag::O_RDONLY);
        Ok(File::from(directory.map_err(MountError::errno("opening the hidden place of", &self.path()))?))
    }

    /// From here on nothing can be written through this mount: until it is put back.
    ///
    /// # Errors
    /// [`UnmountError::Busy`] names who has files open for writing.
    pub fn end_writing(&mut self) -> Result<(), UnmountError> {
        let path = self.path();
        for _ in 0..TRIES {
            match set_read_only(self.handle()?, true) {
                Ok(()) => {
                    self.ended = true;
                    return Ok(());
                }
                Err(Errno::EBUSY) => {}
                Err(errno) => return Err(MountError::errno("ending the writing to", &path)(errno).into()),
            }
            let busy = self.busy(&self.line()?)?;
            if !busy.is_empty() {
                return Err(UnmountError::Busy(busy));
            }
            std::thread::sleep(PAUSE);
        }
        Err(UnmountError::Busy(Busy::default()))
    }

    /// Puts it back where it was.
    ///
    /// # Errors
    /// [`MountError::Occupied`] when something else is mounted there now; it stays hidden then.
    pub fn put_back(mut self) -> Result<(), MountError> {
        self.decided = true;
        self.put_back_now()
    }

    fn put_back_now(&self) -> Result<(), MountError> {
        let path = self.path();
        let (target, occupied) = self.root.target(&self.name)?;
        if occupied {
            return Err(MountError::Occupied { path });
        }
        let from = self.handle()?;
        if self.ended {
            set_read_only(&from, false).map_err(MountError::errno("making writable again", &path))?;
        }
        move_mount(&from, &target, Place::OnTop).map_err(MountError::errno("putting back", &path))?;
        drop(from);
        self.remove_place();
        Ok(())
    }

    /// Unmounts it for good: everything is on the disk, and no file system holds the device any more.
    ///
    /// # Errors
    /// [`UnmountError::Busy`] naming who uses it: it is still mounted, hidden, and can be put back or tried again.
    /// [`UnmountError::StillOpen`]: it left this place, but a namespace that cannot be seen keeps it alive.
    pub fn unmount(&mut self) -> Result<(), UnmountError> {
        let path = self.path();
        let line = self.line()?;
        let copies = elsewhere::let_go_of_idle(&line);
        if !copies.is_empty() {
            let processes = who_holds(&Scope::of_line(&line));
            return Err(UnmountError::Busy(Busy { processes, elsewhere: copies, submounts: Vec::new() }));
        }
        for tried in 1..=TRIES {
            match umount2(self.place_now().as_str(), MntFlags::UMOUNT_NOFOLLOW) {
                Ok(()) => break,
                Err(Errno::EBUSY) => {}
                Err(errno) => return Err(MountError::errno("unmounting", &path)(errno).into()),
            }
            let busy = self.busy(&line)?;
            if !busy.is_empty() || tried == TRIES {
                return Err(UnmountError::Busy(busy));
            }
            std::thread::sleep(PAUSE);
        }
        self.decided = true;
        self.remove_place();
        for _ in 0..TRIES {
            if !device_in_use(&line.source).map_err(MountError::io("opening", &line.source))? {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
        Err(UnmountError::StillOpen { device: line.source })
    }

    /// Unmounts it, or puts it back and says who uses it.
    ///
    /// # Errors
    /// As [`Self::unmount`]; after [`UnmountError::Busy`] it is back in its place.
    pub fn unmount_or_put_back(mut self) -> Result<(), UnmountError> {
        match self.unmount() {
            Err(UnmountError::Busy(busy)) => {
                self.put_back()?;
                Err(UnmountError::Busy(busy))
            }
            other => other,
        }
    }

    /// Detaches it lazily: it goes when its last open file closes.
    ///
    /// # Errors
    /// Only what the system says.
    pub fn let_go(&mut self) -> Result<(), MountError> {
        let from = self.handle()?;
        detach_top(&from).map_err(MountError::errno("detaching", &self.path()))?;
        drop(from);
        self.decided = true;
        self.remove_place();
        Ok(())
    }

    /// The hidden place, counted from the directory itself and not from a path that may lead elsewhere by now.
    fn place_now(&self) -> String {
        format!("/proc/self/fd/{}/{}", self.root.directory.as_raw_fd(), self.place)
    }

    fn handle(&self) -> Result<OwnedFd, MountError> {
        open_beneath(&*self.root.directory, &self.place, OFlag::O_PATH)
            .map_err(MountError::errno("opening the hidden mount of", &self.path()))
    }

    fn line(&self) -> Result<mountinfo::MountLine, MountError> {
        let lines = mountinfo::own().map_err(MountError::io("looking for the hidden mount of", &self.path()))?;
        let line = lines.into_iter().find(|line| line.id == self.mount_id);
        line.ok_or_else(|| MountError::NotMounted { path: self.path() })
    }

    fn busy(&self, line: &mountinfo::MountLine) -> Result<Busy, MountError> {
        let lines = mountinfo::own().map_err(MountError::io("looking for mounts in", &self.path()))?;
        let hidden = self.root.path().join(&self.place);
        let submounts = lines
            .into_iter()
            .filter(|other| other.parent == self.mount_id)
            .map(|other| {
                other.target.strip_prefix(&hidden).map(|below| self.path().join(below)).unwrap_or(other.target)
            })
            .collect();
        let mut processes = who_holds(&Scope::of_line(line));
        for process in &mut processes {
            // People know the volume by its place, not by where it hides at the moment.
            if let Ok(below) = process.path.strip_prefix(&hidden) {
                process.path = self.path().join(below);
            }
        }
        Ok(Busy { processes, submounts, elsewhere: Vec::new() })
    }

    fn remove_place(&self) {
        let _left_for_the_next_time = unlinkat(&*self.root.making, self.place.as_str(), UnlinkatFlags::RemoveDir);
        let _there_or_no_room = mkdirat(&*self.root.making, SPARE_PLACE, Mode::S_IRWXU);
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if self.decided {
            return;
        }
        if let Err(error) = self.put_back_now() {
            tracing::error!(event = "mount.hidden", volume = %self.name, %error, "a hidden mount could not be put back");
        }
    }
}
