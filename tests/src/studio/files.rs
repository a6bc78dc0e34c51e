//! Files on volumes, programs that hold them, and the file systems' own checkers.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{Fs, Volume};

/// Writes a file and has it stable.
///
/// # Panics
/// When that does not work.
pub fn write_synced(path: &Path, text: &str) {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// A number that differs when a file's bytes differ.
///
/// # Panics
/// When it cannot be read.
#[must_use]
pub fn hash(path: &Path) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut hasher = DefaultHasher::new();
    hasher.write(&bytes);
    hasher.finish()
}

/// Another program that uses a volume, until it is dropped.
#[derive(Debug)]
pub struct Hold {
    child: Child,
}

impl Hold {
    /// A program that has a file open for reading.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn file(path: &Path) -> Self {
        let file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        // An own standard input that nobody writes to would end it; sleep looks at none.
        Self::start(Command::new("sleep").arg("600").stdin(file))
    }

    /// A program that works in a directory.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn directory(path: &Path) -> Self {
        Self::start(Command::new("sleep").arg("600").current_dir(path).stdin(Stdio::null()))
    }

    fn start(command: &mut Command) -> Self {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("sleep starts");
        Self { child }
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where an enveloped volume's file system begins, in bytes.
const ENVELOPE: u64 = 1 << 20;

/// The file system's own checker finds nothing, and changes nothing.
///
/// # Panics
/// When it finds something.
pub fn check(volume: &Volume) {
    let image = volume.image.display().to_string();
    let device = match (volume.enveloped, volume.fs) {
        (false, _) => image,
        (true, Fs::Ext4) => format!("{image}?offset={ENVELOPE}"),
        // Their tools know no offset: what is behind the envelope is copied out.
        (true, _) => {
            let copy = format!("{image}.inner");
            let bytes = fs::read(&volume.image).expect("an image");
            fs::write(&copy, &bytes[usize::try_from(ENVELOPE).expect("small")..]).expect("a copy");
            copy
        }
    };
    let mut command = match volume.fs {
        Fs::Ext4 => Command::new("e2fsck"),
        Fs::Xfs => Command::new("xfs_repair"),
        Fs::Btrfs => Command::new("btrfs"),
    };
    match volume.fs {
        Fs::Ext4 => command.args(["-f", "-n", &device]),
        Fs::Xfs => command.args(["-n", "-f", &device]),
        Fs::Btrfs => command.args(["check", "--readonly", &device]),
    };
    let output = command.stdin(Stdio::null()).output().expect("a file system checker");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let name = &volume.name;
    assert!(output.status.success(), "{name} is damaged:\n{}{}", said(&output.stdout), said(&output.stderr));
}
