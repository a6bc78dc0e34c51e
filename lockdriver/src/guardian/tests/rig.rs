//! Images, mounts and processes of the tests, and that nothing of them stays.

use std::ffi::OsStr;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::deadline::SharedDeadline;
use crate::gate::{Gate, Kind, LoopGate, Mark, Mode, Node, Opening, find_marked, mounts};
use crate::guardian::{Event, Guardian, SpawnConfig, end_old, process};

const GUARDIAN_ENV: &str = "VOLCTL_TEST_GUARDIAN";
/// Generous: two slow processors run many tests at once.
const PATIENCE: Duration = Duration::from_secs(30);

/// Not a test: where the guardian's process starts in tests.
#[test]
fn guardian_child_entry() {
    if std::env::var_os(GUARDIAN_ENV).is_some() {
        let code = process::main();
        std::process::exit(i32::from(code != std::process::ExitCode::SUCCESS));
    }
}

/// One test's directory, control volume and leftovers.
pub(super) struct Rig {
    dir: tempfile::TempDir,
    pub(super) control: Uuid,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), control: Uuid::new_v4() }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn lock_path(&self) -> PathBuf {
        self.path("guardian.lock")
    }

    pub(super) fn config(&self, lease: Duration) -> SpawnConfig {
        spawn_config(self.lock_path(), lease)
    }

    pub(super) fn guardian(&self, lease: Duration) -> Guardian {
        Guardian::spawn(self.config(lease)).unwrap()
    }

    pub(super) fn opening(&self, mode: Mode) -> Opening {
        self.opening_of(1, mode)
    }

    pub(super) fn opening_of(&self, slot: u16, mode: Mode) -> Opening {
        opening(self.control, slot, mode)
    }

    /// A file with a fresh file system in it ("none": zeros).
    pub(super) fn image(&self, name: &str, fs: &str) -> File {
        let path = self.path(name);
        let file = blank(&path, if fs == "none" { 4 << 20 } else { 320 << 20 });
        if let Some(arguments) = format(fs) {
            let mut all: Vec<&OsStr> = arguments[1..].iter().map(OsStr::new).collect();
            all.push(path.as_os_str());
            command(arguments[0], &all);
        }
        file
    }

    pub(super) fn mount(&self, node: &Path, fs: &str, options: &str) -> PathBuf {
        let point = self.path(&format!("mnt-{}", node.file_name().unwrap().display()));
        std::fs::create_dir_all(&point).unwrap();
        mount(node, &point, fs, options);
        point
    }

    /// Puts a file onto the image, as an earlier writer would have.
    pub(super) fn put_file(&self, image: &File, fs: &str, name: &str, content: &[u8]) {
        use std::os::fd::AsFd;
        let gate = LoopGate::open(image.as_fd(), &self.opening_of(9, Mode::ReadWrite)).unwrap();
        let mount = self.mount(&gate.path(), fs, "rw");
        std::fs::write(mount.join(name), content).unwrap();
        nix::mount::umount(&mount).unwrap();
        assert!(gate.clear_if_unused().unwrap());
    }

    /// The next writer's mount replays the journal; after its unmount the file system's own checker finds nothing wrong.
    pub(super) fn next_writer_finds_it_sound(&self, image: &File, fs: &str) {
        use std::os::fd::AsFd;
        let gate = LoopGate::open(image.as_fd(), &self.opening_of(9, Mode::ReadWrite)).unwrap();
        let mount = self.mount(&gate.path(), fs, "rw");
        nix::mount::umount(&mount).unwrap();
        let node = gate.path();
        let (program, arguments): (_, &[&str]) = match fs {
            "ext4" => ("e2fsck", &["-fn"]),
            "xfs" => ("xfs_repair", &["-n"]),
            _ => ("btrfs", &["check", "--readonly"]),
        };
        let mut all: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
        all.push(node.as_os_str());
        command(program, &all);
        assert!(gate.clear_if_unused().unwrap());
    }

    pub(super) fn wait_for(&self, guardian: &Guardian, wanted: &Event) {
        let begun = Instant::now();
        let mut seen = Vec::new();
        while begun.elapsed() < PATIENCE {
            let Ok(event) = guardian.events().recv_timeout(PATIENCE) else {
                break;
            };
            if event == *wanted {
                return;
            }
            seen.push(event);
        }
        panic!("waited for {wanted:?}, saw {seen:?}");
    }

    pub(super) fn wait_until_nothing_is_left(&self) {
        wait_until("no gate and no mount is left", || {
            let list = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
            let mounted = list.contains(self.dir.path().to_str().unwrap());
            !mounted && find_marked(self.control, None).unwrap().is_empty()
        });
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = end_old(&self.lock_path(), PATIENCE);
        // Twice: a device may lie on another one's mount.
        for _ in 0..2 {
            for found in find_marked(self.control, None).unwrap_or_default() {
                let _ = mounts::detach_all(found.node);
                if let Ok(Some(gate)) = Gate::find(found.node, &found.mark) {
                    let _ = gate.clear();
                }
            }
        }
    }
}

/// Thaws when it goes, even from a test that failed.
pub(super) struct Frozen(PathBuf);

impl Frozen {
    pub(super) fn freeze(mount: &Path) -> Self {
        command("fsfreeze", &["-f".as_ref(), mount.as_os_str()]);
        Self(mount.to_path_buf())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.0).status();
    }
}

pub(super) fn spawn_config(lock_path: PathBuf, lease: Duration) -> SpawnConfig {
    let arguments = ["--exact", "guardian::tests::rig::guardian_child_entry", "--nocapture", "--test-threads=1"];
    SpawnConfig {
        mount_root: None,
        program: std::env::current_exe().unwrap(),
        args: arguments.map(Into::into).into(),
        envs: vec![(GUARDIAN_ENV.into(), "1".into())],
        lock_path,
        lease,
        deadline: SharedDeadline::create().unwrap(),
        timeout: Duration::from_secs(20),
    }
}

pub(super) fn opening(control: Uuid, slot: u16, mode: Mode) -> Opening {
    let volume = Uuid::new_v4();
    let mark = Mark { control, volume, slot, incarnation: 5, mode, keep_after_lease: false };
    Opening { mark, offset: 0, size_limit: 0, block_size: 0, direct_io: true, kind: Kind::Auto }
}

pub(super) fn format(fs: &str) -> Option<&'static [&'static str]> {
    match fs {
        "ext4" => Some(&["mkfs.ext4", "-q"]),
        "xfs" => Some(&["mkfs.xfs", "-q"]),
        "btrfs" => Some(&["mkfs.btrfs", "-q"]),
        _ => None,
    }
}

pub(super) fn blank(path: &Path, bytes: u64) -> File {
    let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
    file.set_len(bytes).unwrap();
    file
}

pub(super) fn mount(node: &Path, point: &Path, fs: &str, options: &str) {
    let arguments = ["-t".as_ref(), fs.as_ref(), "-o".as_ref(), options.as_ref(), node.as_os_str(), point.as_os_str()];
    command("mount", &arguments);
}

pub(super) fn command(program: &str, arguments: &[&OsStr]) {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}

pub(super) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(super) fn is_mounted(point: &Path) -> bool {
    let list = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    list.lines().any(|line| line.split(' ').nth(4) == point.to_str())
}

/// Requests in the queue of a gate's device.
pub(super) fn in_flight(node: Node) -> u32 {
    let counts = std::fs::read_to_string(format!("/sys/block/{}/inflight", node.name())).unwrap();
    counts.split_whitespace().map(|count| count.parse::<u32>().unwrap()).sum()
}

/// A hash of every byte of the image, read through the file that the loop device writes to.
pub(super) fn hash(image: &File) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut piece = vec![0; 1 << 20];
    let mut offset = 0;
    loop {
        let read = image.read_at(&mut piece, offset).unwrap();
        if read == 0 {
            return hasher.finish();
        }
        hasher.write(&piece[..read]);
        offset += u64::try_from(read).unwrap();
    }
}
