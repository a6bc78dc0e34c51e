//! A studio in a temporary directory: a control volume, volumes on image files, and clients that are real daemons.
//!
//! ```text
//!   DIR/control.img   DIR/footage.img ...      what all clients share
//!   DIR/alice/        volctl.toml, s (socket), state/, mnt/ (mount root), log (stderr)
//! ```
//! Two loop devices on one image are a fair stand-in for two hosts: the kernel keeps a page cache for each. A studio that
//! is dropped takes everything away, however the test ended; one that is [ended](Studio::end) first shows that volctl
//! itself left nothing. With `VOLCTL_TEST_KEEP=1` a failed test's directory stays.

mod cli;
mod client;
mod disk;
mod files;
mod leftovers;
mod witness;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub use cli::{Output, Running, run};
pub use client::{Client, Options};
pub use disk::{LoopDevice, Surgery};
pub use files::{Hold, check as check_file_system, hash, write_synced};
pub use leftovers::{guardian_pid, loops_below, mounts_below};
pub use witness::{Gate, Moment, Report, Witness};

use volctl::wire::status::Status;

/// The lease's periods, as `volctl init` takes them.
#[derive(Debug, Clone, Copy)]
pub struct Timings {
    /// Between two beats, in milliseconds.
    pub beat: u64,
    /// The lease, in milliseconds.
    pub lease: u64,
    /// Others' death time, in milliseconds.
    pub dead: u64,
}

/// The shortest that `init` allows.
pub const FAST: Timings = Timings { beat: 250, lease: 2_000, dead: 4_000 };

impl Timings {
    /// The death time.
    #[must_use]
    pub const fn dead(&self) -> Duration {
        Duration::from_millis(self.dead)
    }

    /// The lease.
    #[must_use]
    pub const fn lease(&self) -> Duration {
        Duration::from_millis(self.lease)
    }
}

/// A file system to make, with the least size that its tools like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fs {
    /// ext4.
    Ext4,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
}

impl Fs {
    /// Its name on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    const fn size(self) -> &'static str {
        match self {
            Self::Ext4 => "48M",
            Self::Xfs => "304M",
            Self::Btrfs => "128M",
        }
    }
}

/// A volume of the studio.
#[derive(Debug, Clone)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// The image.
    pub image: PathBuf,
    /// What is on it.
    pub fs: Fs,
    /// It lies behind an envelope.
    pub enveloped: bool,
}

/// A control volume, volumes, clients, and a witness that looks on all the time.
pub struct Studio {
    dir: TempDir,
    /// The control volume.
    pub control: PathBuf,
    /// The tables' UUID.
    pub uuid: String,
    /// The lease's periods.
    pub timings: Timings,
    /// Looks on all the time.
    pub witness: Witness,
    clients: Mutex<Vec<Client>>,
    volumes: Mutex<Vec<Volume>>,
}

impl Studio {
    /// Makes the control volume.
    ///
    /// # Panics
    /// When it cannot be made, or this is not root.
    #[must_use]
    pub fn new(timings: Timings) -> Self {
        Self::with_init(timings, &[])
    }

    /// As [`Studio::new`], with further arguments for `init`.
    ///
    /// # Panics
    /// As [`Studio::new`].
    #[must_use]
    pub fn with_init(timings: Timings, more: &[&str]) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "tests named loop_ need root (loop devices and mounts)");
        let dir = leftovers::directory();
        let control = dir.path().join("control.img");
        let periods = [timings.beat, timings.lease, timings.dead].map(|ms| format!("{ms}ms"));
        let path = control.display().to_string();
        let mut args = vec!["init", &path, "--size", "16M"];
        args.extend(["--beat", &periods[0], "--lease", &periods[1], "--dead", &periods[2]]);
        args.extend(more);
        let made = run(&args).ok();
        let uuid = made.json()["uuid"].as_str().expect("init names the UUID").to_owned();
        // For whoever has to take it all away if this run is killed.
        std::fs::write(dir.path().join(leftovers::UUID_FILE), &uuid).expect("a small file");
        let witness = Witness::start(dir.path());
        Self { dir, control, uuid, timings, witness, clients: Mutex::default(), volumes: Mutex::default() }
    }

    /// Where everything lies.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Runs a command on the tables: the arguments, then `--control` with the path.
    #[must_use]
    pub fn admin(&self, args: &[&str]) -> Output {
        let control = self.control.display().to_string();
        let mut all = args.to_vec();
        all.extend(["--control", &control]);
        run(&all)
    }

    /// Adds a client to the tables and writes its configuration; its daemon does not run yet.
    ///
    /// # Panics
    /// When it cannot be added.
    pub fn client(&self, name: &str) -> Client {
        self.client_with(name, &Options::default())
    }

    /// As [`Studio::client`], with a configuration of its own.
    ///
    /// # Panics
    /// As [`Studio::client`].
    pub fn client_with(&self, name: &str, options: &Options) -> Client {
        let added = self.admin(&["client", "add", name]).ok();
        let slot = u16::try_from(added.json()["slot"].as_u64().expect("a slot")).expect("a small number");
        let client = Client::new(self, name, slot, options);
        locked(&self.clients).push(client.clone());
        client
    }

    /// Makes a volume on a new image; `more` are further arguments of `volume add` (`--readers`, `--envelope`).
    /// Nobody may use it yet.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn volume(&self, name: &str, fs: Fs, more: &[&str]) -> Volume {
        let image = self.dir().join(format!("{name}.img"));
        let path = image.display().to_string();
        let mut args = vec!["volume", "add", name, "--device", &path, "--mkfs", fs.word(), "--size", fs.size()];
        args.extend(more);
        let _ = self.admin(&args).ok();
        let volume = Volume { name: name.to_owned(), image, fs, enveloped: more.contains(&"--envelope") };
        locked(&self.volumes).push(volume.clone());
        volume
    }

    /// Lets a client use a volume; `access` is `none`, `read` or `write`.
    ///
    /// # Panics
    /// When the command fails.
    pub fn allow(&self, client: &Client, volume: &str, access: &str) {
        let _ = self.admin(&["allow", client.name(), volume, access]).ok();
    }

    /// Two running clients, alice and bob, that may write one volume.
    ///
    /// # Panics
    /// When something of it fails.
    #[must_use]
    pub fn pair(fs: Fs, more: &[&str]) -> (Self, Client, Client) {
        let studio = Self::new(FAST);
        let (alice, bob) = (studio.client("alice"), studio.client("bob"));
        studio.volume("footage", fs, more);
        for client in [&alice, &bob] {
            studio.allow(client, "footage", "write");
        }
        for client in [&alice, &bob] {
            client.start();
        }
        for client in [&alice, &bob] {
            client.logged_on();
        }
        (studio, alice, bob)
    }

    /// Waits until `holds`, looking every 10 ms.
    ///
    /// # Panics
    /// When it does not hold within `limit`.
    pub fn wait_until(&self, what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Duration {
        wait_until(what, limit, &mut holds)
    }

    /// Ends every daemon in order and shows that nothing is left and everything is in order: no process, mount or loop
    /// device; every file system clean by its own checker; the tables clean; and the witness never saw two writers.
    ///
    /// # Panics
    /// When any of that is not so.
    pub fn end(self) {
        let clients = locked(&self.clients).clone();
        for client in &clients {
            client.terminate();
        }
        for client in &clients {
            client.ended(Duration::from_secs(20));
        }
        self.wait_until("every guardian is gone", Duration::from_secs(10), || {
            clients.iter().all(|c| guardian_pid(&self.uuid, c.slot()).is_none())
        });
        let mounts = mounts_below(self.dir());
        assert!(mounts.is_empty(), "mounts were left: {mounts:?}");
        let loops = loops_below(self.dir());
        assert!(loops.is_empty(), "loop devices were left: {loops:?}");
        self.one_writer();
        for volume in locked(&self.volumes).iter() {
            files::check(volume);
        }
        let path = self.control.display().to_string();
        let _ = run(&["check", &path]).ok();
    }

    /// A limit, and on top of it the time for which the machine stood still for everybody.
    #[must_use]
    pub fn patience(&self, limit: Duration) -> Duration {
        limit + self.witness.report().stalled
    }

    /// What the witness saw so far has no two writers in it.
    ///
    /// # Panics
    /// When it has, or the witness did not look.
    pub fn one_writer(&self) -> Report {
        let report = self.witness.look_again();
        assert!(report.samples > 0, "the witness was asleep");
        assert!(report.violations.is_empty(), "TWO WRITERS:\n{}", report.violations.join("\n"));
        report
    }
}

impl Drop for Studio {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        let clients = std::mem::take(&mut *locked(&self.clients));
        for client in clients {
            if failed {
                eprintln!("{}", client.last_words());
            }
            client.kill();
        }
        if failed && std::env::var_os("VOLCTL_TEST_KEEP").is_some() {
            self.dir.disable_cleanup(true);
            eprintln!("kept: {}", self.dir().display());
            return;
        }
        leftovers::take_away(self.dir(), Some(&self.uuid));
    }
}

/// Waits until `holds`, looking every 10 ms; returns how long it took.
///
/// # Panics
/// When it does not hold within `limit`.
pub fn wait_until(what: &str, limit: Duration, holds: &mut dyn FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    loop {
        if holds() {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The volume of a status.
///
/// # Panics
/// When it has none of that name.
#[must_use]
pub fn volume_of<'a>(status: &'a Status, name: &str) -> &'a volctl::wire::status::VolumeStatus {
    let found = status.volumes.iter().find(|v| v.name == name);
    found.unwrap_or_else(|| panic!("{} does not show {name}: {status:#?}", status.client))
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
