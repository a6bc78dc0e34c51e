//! A loop device of the measurements' own.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use lockdriver::gate::{Kind, LoopGate, Mark, Mode, Opening};

use super::fault::Fault;

/// A loop device over an image, past every daemon. Dropping it clears the device.
#[derive(Debug)]
pub struct LoopOver {
    gate: LoopGate,
}

impl LoopOver {
    /// For reading and writing.
    ///
    /// # Errors
    /// The system's.
    pub fn new(image: &Path) -> Result<Self, Fault> {
        Self::of_mode(image, Mode::ReadWrite)
    }

    /// For reading only, or not.
    ///
    /// # Errors
    /// The system's.
    pub fn of_mode(image: &Path, mode: Mode) -> Result<Self, Fault> {
        let failed = || Fault::system(format!("a loop device over {}", image.display()));
        let backing = File::options().read(true).write(mode == Mode::ReadWrite).open(image).map_err(failed())?;
        let nobody = ondisk::Uuid::nil();
        let mark = Mark { control: nobody, volume: nobody, slot: 0, incarnation: 0, mode, keep_after_lease: false };
        let opening = Opening { mark, offset: 0, size_limit: 0, block_size: 0, direct_io: true, kind: Kind::Loop };
        let gate = LoopGate::open(backing.as_fd(), &opening).map_err(io::Error::other).map_err(failed())?;
        Ok(Self { gate })
    }

    /// Its node.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.gate.path()
    }
}

impl Drop for LoopOver {
    fn drop(&mut self) {
        if let Err(error) = self.gate.clear() {
            tracing::error!(event = "demo.left", %error, "a loop device stays");
        }
    }
}
