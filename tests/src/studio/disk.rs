//! Block devices of the test's own, and blocks of a control volume that are damaged on purpose.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use lockdriver::device::{Access, AlignedBuf, BlockDevice, DirectDevice, Durability};
use lockdriver::sys::loopdev;
use ondisk::Geometry;
use volctl::control::open::ControlVolume;

/// A loop device over an image, until it is dropped.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
}

impl LoopDevice {
    /// Attaches `image` with logical sectors of `sector` bytes.
    ///
    /// # Panics
    /// When that does not work.
    #[must_use]
    pub fn attach(image: &Path, sector: u32) -> Self {
        let sector = sector.to_string();
        let mut command = Command::new("losetup");
        command.args(["--find", "--show", "--direct-io=on", "--sector-size", &sector]).arg(image);
        let output = command.output().expect("losetup");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self { path: String::from_utf8_lossy(&output.stdout).trim().into() }
    }

    /// Its node.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// From now on every read and write beyond the first sector gives an error, as when a cable is out.
    ///
    /// # Panics
    /// When the kernel does not do it.
    pub fn cut(&self) {
        self.limit(512);
    }

    /// The cable is in again.
    ///
    /// # Panics
    /// As [`LoopDevice::cut`].
    pub fn mend(&self) {
        self.limit(0);
    }

    fn limit(&self, bytes: u64) {
        let node = File::options().read(true).write(true).open(&self.path).expect("the node");
        let mut setup = loopdev::status(node.as_fd()).expect("a status").expect("it is bound");
        setup.size_limit = bytes;
        loopdev::set_status(node.as_fd(), &setup).expect("a new size");
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("-d").arg(&self.path).status();
    }
}

/// A control volume whose blocks are read and written past every lock.
pub struct Surgery {
    device: DirectDevice,
    /// Where everything lies.
    pub geometry: Geometry,
}

impl Surgery {
    /// Opens it.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn open(control: &Path) -> Self {
        let volume = ControlVolume::open(control, Access::Read).unwrap_or_else(|e| panic!("{e}"));
        let device = DirectDevice::open(control, Access::ReadWrite).expect("the control volume");
        Self { device, geometry: volume.geometry }
    }

    /// Reads.
    ///
    /// # Panics
    /// When that does not work.
    #[must_use]
    pub fn read(&self, offset: u64, len: usize) -> AlignedBuf {
        let mut buffer = AlignedBuf::zeroed(len);
        self.device.read_at(offset, &mut buffer).expect("a block");
        buffer
    }

    /// Writes.
    ///
    /// # Panics
    /// When that does not work.
    pub fn write(&self, offset: u64, bytes: &AlignedBuf) {
        self.device.write_at(offset, bytes, Durability::Fua).expect("a block");
    }

    /// Spoils some bytes of a block, as a bad sector would; returns what was there.
    ///
    /// # Panics
    /// As [`Surgery::write`].
    pub fn spoil(&self, offset: u64, len: usize) -> AlignedBuf {
        let before = self.read(offset, len);
        let mut bad = self.read(offset, len);
        for byte in bad.iter_mut().skip(64).take(64) {
            *byte ^= 0x5a;
        }
        self.write(offset, &bad);
        before
    }
}
