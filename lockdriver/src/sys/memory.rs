//! One page of memory that two processes share through a descriptor, and locking memory against paging.

use std::ffi::CStr;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, MlockAllFlags, ProtFlags, mlockall, mmap, munmap};

/// Length of a [`SharedPage`] in bytes.
const PAGE_BYTES: usize = 4096;
/// How many 64-bit words a [`SharedPage`] has.
pub const PAGE_WORDS: usize = PAGE_BYTES / size_of::<u64>();

/// A page of atomic words in a memfd: whoever maps the same descriptor sees the same words.
#[derive(Debug)]
pub struct SharedPage {
    start: NonNull<AtomicU64>,
    memory: OwnedFd,
}

impl SharedPage {
    /// A new page, all words zero. `name` shows in /proc.
    ///
    /// # Errors
    /// When memory or descriptors are out.
    pub fn create(name: &CStr) -> io::Result<Self> {
        let memory = memfd_create(name, MFdFlags::MFD_CLOEXEC)?;
        nix::unistd::ftruncate(&memory, libc::off_t::try_from(PAGE_BYTES).expect("4096 fits"))?;
        Self::map(memory)
    }

    /// Maps the page behind a descriptor that [`as_fd`](AsFd::as_fd) of another one gave.
    ///
    /// # Errors
    /// `InvalidData` when the descriptor is shorter than a page, else what the kernel said.
    pub fn map(memory: OwnedFd) -> io::Result<Self> {
        let length = nix::sys::stat::fstat(&memory)?.st_size;
        if usize::try_from(length).unwrap_or(0) < PAGE_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "shared memory is shorter than a page"));
        }
        let bytes = NonZeroUsize::new(PAGE_BYTES).expect("4096 is not zero");
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no other memory.
        let start = unsafe {
            mmap(None, bytes, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, &memory, 0)?
        };
        Ok(Self { start: start.cast(), memory })
    }

    /// The word with number `index`.
    ///
    /// # Panics
    /// When `index` is not below [`PAGE_WORDS`]: the caller's bug.
    #[must_use]
    pub fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < PAGE_WORDS, "word outside of the page");
        // SAFETY: the mapping lives as long as `self`, is page-aligned and large enough; words are only touched atomically.
        unsafe { self.start.add(index).as_ref() }
    }
}

impl AsFd for SharedPage {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `map`; no reference into it outlives `self`.
        let _ = unsafe { munmap(self.start.cast(), PAGE_BYTES) };
    }
}

// SAFETY: the page is only reached through atomics.
unsafe impl Send for SharedPage {}
// SAFETY: as above.
unsafe impl Sync for SharedPage {}

/// Keeps all present and future memory of this process from being paged out.
///
/// # Errors
/// When the process may not, or RLIMIT_MEMLOCK is too small.
pub fn lock_all_memory() -> io::Result<()> {
    Ok(mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE)?)
}

/// As [`lock_all_memory`], but a page counts only from its first use: for a process with many threads, whose stacks are
/// mostly never touched.
///
/// # Errors
/// As there.
pub fn lock_used_memory() -> io::Result<()> {
    let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    Ok(mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault)?)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::SeqCst;

    use super::*;

    #[test]
    fn two_mappings_are_one_memory() {
        let first = SharedPage::create(c"test").unwrap();
        let second = SharedPage::map(first.as_fd().try_clone_to_owned().unwrap()).unwrap();
        first.word(3).store(77, SeqCst);
        assert_eq!(second.word(3).load(SeqCst), 77);
    }

    #[test]
    fn a_short_memory_is_refused_before_it_can_fault() {
        let memory = memfd_create(c"short", MFdFlags::MFD_CLOEXEC).unwrap();
        assert_eq!(SharedPage::map(memory).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
