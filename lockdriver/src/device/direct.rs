//! The real disk or image, past the page cache.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::aligned::check_request;
use super::{BlockDevice, Durability, OpenError};
use crate::reservation::Commands;
use crate::reservation::node::Node;
use crate::sys::blockdev;

/// What a device is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing.
    ReadWrite,
}

/// Images are written by the file system under them in units of its block, so neighbours within 4 KiB can be torn together
/// whatever the sector size.
const IMAGE_PHYSICAL_BLOCK: u32 = 4096;

/// A block device or an image file, read and written with O_DIRECT.
#[derive(Debug)]
pub struct DirectDevice {
    file: File,
    path: PathBuf,
    len_bytes: u64,
    sector_bytes: u32,
    physical_block_bytes: u32,
    /// None for an image.
    node: Option<Node>,
}

impl DirectDevice {
    /// Opens `path`, which is a block device or a regular file, for direct I/O.
    ///
    /// # Errors
    /// An [`OpenError`] that says which of the known reasons it was.
    pub fn open(path: &Path, access: Access) -> Result<Self, OpenError> {
        let here = || path.to_path_buf();
        let kind = std::fs::metadata(path).map_err(|error| classify(path, error))?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(OpenError::NotABlockDeviceOrFile { path: here() });
        }
        let file = OpenOptions::new()
            .read(true)
            .write(access == Access::ReadWrite)
            .custom_flags(libc::O_DIRECT | libc::O_NONBLOCK)
            .open(path)
            .map_err(|error| match error.raw_os_error() {
                Some(libc::EINVAL) => OpenError::NoDirectIo { path: here() },
                _ => classify(path, error),
            })?;
        Self::from_file(file, path, access)
    }

    fn from_file(file: File, path: &Path, access: Access) -> Result<Self, OpenError> {
        let here = || path.to_path_buf();
        // The path may have changed hands between the look and the opening: what counts is what was opened.
        let metadata = file.metadata().map_err(|error| classify(path, error))?;
        let mut node = None;
        let (len_bytes, sector_bytes, physical_block_bytes) = if metadata.file_type().is_block_device() {
            let sizes = blockdev::block_sizes(file.as_fd()).map_err(|error| classify(path, error))?;
            if sizes.read_only && access == Access::ReadWrite {
                return Err(OpenError::ReadOnly { path: here() });
            }
            node = Some(file.try_clone().and_then(Node::new).map_err(|error| classify(path, error))?);
            (sizes.length, sizes.logical, sizes.physical)
        } else if metadata.is_file() {
            let sector = match blockdev::direct_io_unit(file.as_fd()) {
                Some(0) => return Err(OpenError::NoDirectIo { path: here() }),
                Some(unit) => unit.max(512),
                None => 512,
            };
            (metadata.len(), sector, IMAGE_PHYSICAL_BLOCK.max(sector))
        } else {
            return Err(OpenError::NotABlockDeviceOrFile { path: here() });
        };
        Ok(Self { file, path: here(), len_bytes, sector_bytes, physical_block_bytes, node })
    }

    /// Takes flock(LOCK_EX) on the node without waiting, which keeps udev and automounters away while tables are written.
    /// It lasts until the last duplicate of this descriptor is closed.
    ///
    /// # Errors
    /// `HeldBySomeone` when another process has it, `Io` otherwise.
    pub fn lock_exclusive(&self) -> Result<(), OpenError> {
        self.file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::HeldBySomeone { path: self.path.clone() },
            TryLockError::Error(source) => OpenError::Io { path: self.path.clone(), source },
        })
    }

    /// The path that it was opened by: for messages; identity is proven on the descriptor.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for DirectDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl BlockDevice for DirectDevice {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn sector_bytes(&self) -> u32 {
        self.sector_bytes
    }

    fn physical_block_bytes(&self) -> u32 {
        self.physical_block_bytes
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        check_request(self.sector_bytes, self.len_bytes, offset, buf)?;
        let read = retry_interrupted(|| self.file.read_at(buf, offset))?;
        if read == buf.len() {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the device returned fewer bytes than asked for"))
    }

    fn write_at(&self, offset: u64, data: &[u8], durability: Durability) -> io::Result<()> {
        check_request(self.sector_bytes, self.len_bytes, offset, data)?;
        let written = retry_interrupted(|| match durability {
            Durability::Plain => self.file.write_at(data, offset),
            Durability::Fua => blockdev::write_stable(&self.file, data, offset),
        })?;
        if written == data.len() {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::WriteZero, "the device took fewer bytes than were written"))
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn commands(&self) -> Option<&dyn Commands> {
        self.node.as_ref().map(|node| node as &dyn Commands)
    }
}

/// Runs `call` again while a signal interrupts it before any byte moved.
fn retry_interrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn classify(path: &Path, source: io::Error) -> OpenError {
    let path = path.to_path_buf();
    match source.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR | libc::ENXIO | libc::ENODEV | libc::ENOMEDIUM) => {
            OpenError::Missing { path }
        }
        Some(libc::EISDIR) => OpenError::NotABlockDeviceOrFile { path },
        Some(libc::EROFS) => OpenError::ReadOnly { path },
        Some(libc::EACCES | libc::EPERM) => OpenError::Permission { path },
        Some(libc::EBUSY) => OpenError::HeldBySomeone { path },
        _ => OpenError::Io { path, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::AlignedBuf;

    fn image(len: u64) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.img");
        File::create(&path).unwrap().set_len(len).unwrap();
        (dir, path)
    }

    #[test]
    fn what_was_written_is_read_back() {
        let (_dir, path) = image(1 << 20);
        let device = DirectDevice::open(&path, Access::ReadWrite).unwrap();
        let sector = usize::try_from(device.sector_bytes()).unwrap();
        for durability in [Durability::Plain, Durability::Fua] {
            let mut data = AlignedBuf::zeroed(sector * 2);
            data.fill(if durability == Durability::Fua { 7 } else { 8 });
            device.write_at(4096, &data, durability).unwrap();
            device.flush().unwrap();
            let mut back = AlignedBuf::zeroed(sector * 2);
            device.read_at(4096, &mut back).unwrap();
            assert_eq!(&back[..], &data[..]);
        }
        assert_eq!(device.len_bytes(), 1 << 20);
        assert!(device.physical_block_bytes() >= 4096);
    }

    #[test]
    fn each_reason_has_its_own_error() {
        let (dir, path) = image(4096);
        let missing = DirectDevice::open(&dir.path().join("nowhere"), Access::Read);
        assert!(matches!(missing, Err(OpenError::Missing { .. })));
        assert!(matches!(DirectDevice::open(dir.path(), Access::Read), Err(OpenError::NotABlockDeviceOrFile { .. })));
        assert!(matches!(
            DirectDevice::open(Path::new("/dev/null"), Access::Read),
            Err(OpenError::NotABlockDeviceOrFile { .. })
        ));
        let first = DirectDevice::open(&path, Access::Read).unwrap();
        let second = DirectDevice::open(&path, Access::Read).unwrap();
        first.lock_exclusive().unwrap();
        assert!(matches!(second.lock_exclusive(), Err(OpenError::HeldBySomeone { .. })));
    }

    #[test]
    fn nothing_is_read_or_written_beyond_the_end() {
        let (_dir, path) = image(8192);
        let device = DirectDevice::open(&path, Access::ReadWrite).unwrap();
        let mut buffer = AlignedBuf::zeroed(4096);
        let read = device.read_at(8192, &mut buffer).unwrap_err();
        assert_eq!(read.kind(), io::ErrorKind::UnexpectedEof);
        let write = device.write_at(8192, &buffer, Durability::Plain).unwrap_err();
        assert_eq!(write.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 8192);
    }

    #[test]
    fn an_image_that_shrank_under_us_gives_an_error_not_zeros() {
        let (_dir, path) = image(8192);
        let device = DirectDevice::open(&path, Access::ReadWrite).unwrap();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(4096).unwrap();
        let mut buffer = AlignedBuf::zeroed(8192);
        assert_eq!(device.read_at(0, &mut buffer).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
