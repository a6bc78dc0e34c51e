//! A control volume in a directory of its own, with short times, and images beside it.

use std::fs::File;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::program::{Said, tool, volctl};

/// Small tables with the shortest times that are safe.
pub const SMALL: &[&str] =
    &["--max-clients", "4", "--max-volumes", "4", "--beat", "250ms", "--lease", "2s", "--dead", "4s"];

/// A control volume that goes with this value, its lock files too.
#[derive(Debug)]
pub struct Control {
    dir: TempDir,
    uuid: String,
}

impl Control {
    /// A small one.
    pub fn small() -> Self {
        Self::made(SMALL)
    }

    /// One made by `init` with these options.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn made(options: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("control.img");
        let mut args = vec!["init", path.to_str().expect("UTF-8"), "--json"];
        args.extend(options);
        let uuid = volctl(args).ok().json()["uuid"].as_str().expect("a UUID").to_owned();
        Self { dir, uuid }
    }

    /// Its path.
    pub fn path(&self) -> PathBuf {
        self.file("control.img")
    }

    /// Its UUID.
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A path beside it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A path beside it, as an argument.
    ///
    /// # Panics
    /// When the temporary directory has no UTF-8 name.
    pub fn arg(&self, name: &str) -> String {
        self.file(name).to_str().expect("UTF-8").to_owned()
    }

    /// A sparse image beside it.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn image(&self, name: &str, bytes: u64) -> String {
        File::create(self.file(name)).and_then(|f| f.set_len(bytes)).expect("an image");
        self.arg(name)
    }

    /// An image with an ext4.
    pub fn ext4(&self, name: &str) -> String {
        let image = self.image(name, 16 << 20);
        tool("mkfs.ext4", ["-q", "-F", &image]);
        image
    }

    /// Runs a verb with `--control` and this control volume.
    pub fn run(&self, args: &[&str]) -> Said {
        let control = self.arg("control.img");
        volctl(args.iter().copied().chain(["--control", &control]))
    }

    /// Runs `dump` or `check`, which name the control volume as it is.
    pub fn look(&self, args: &[&str]) -> Said {
        let control = self.arg("control.img");
        let (verb, rest) = args.split_first().expect("a verb");
        volctl([*verb, &control].into_iter().chain(rest.iter().copied()))
    }

    /// `dump --json`.
    pub fn dump(&self) -> serde_json::Value {
        self.look(&["dump", "--json"]).ok().json()
    }

    /// Overwrites some bytes.
    ///
    /// # Panics
    /// When the image cannot be written.
    pub fn ruin(&self, offset: u64) {
        use std::os::unix::fs::FileExt;
        let file = File::options().write(true).open(self.path()).expect("the image");
        file.write_all_at(&[0xee; 8], offset + 100).expect("written");
        file.sync_all().expect("synced");
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let Ok(list) = std::fs::read_dir("/run/volctl") else { return };
        for entry in list.flatten().filter(|e| e.file_name().to_string_lossy().starts_with(&self.uuid)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
