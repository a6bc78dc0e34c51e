//! The daemon killed, the daemon stopped, both lost: what the guardian, or the next daemon, does about it.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use uuid::Uuid;

use super::rig::{self, Rig, hash, spawn_config, wait_until};
use crate::gate::{LoopGate, Mode, find_marked};
use crate::guardian::{Guardian, LeftoverError, close_leftovers, end_old, process};
use crate::sys::clock::boottime;

const DAEMON_ENV: &str = "VOLCTL_TEST_DAEMON";
const LEASE: Duration = Duration::from_secs(2);
const SLOT: u16 = 1;

/// Not a test: a daemon that opens a writer's gate, mounts it, and beats until something happens to it.
#[test]
fn daemon_child_entry() {
    let Some(words) = std::env::var_os(DAEMON_ENV) else {
        return;
    };
    let words = words.into_string().unwrap();
    let [dir, fs, control, busy] = words.split('|').collect::<Vec<_>>().try_into().unwrap();
    let dir = Path::new(dir);
    let config = spawn_config(dir.join("guardian.lock"), LEASE);
    let deadline = config.deadline.clone();
    let guardian = Guardian::spawn(config).unwrap();
    deadline.extend(boottime(), boottime() + LEASE).unwrap();
    let image = File::options().read(true).write(true).open(dir.join("volume.img")).unwrap();
    let opening = rig::opening(control.parse().unwrap(), SLOT, Mode::ReadWrite);
    let gate = guardian.open_gate(image.as_fd(), &opening).unwrap();
    rig::mount(&gate.path(), &dir.join("mnt"), fs, "rw");
    for number in 0_u64.. {
        if number < 100 || busy == "busy" {
            let name = format!("mnt/file-{}", number % 500);
            let _ = std::fs::write(dir.join(name), number.to_string().repeat(900));
        }
        if number == 100 {
            std::fs::write(dir.join("ready"), guardian.welcome().pid.to_string()).unwrap();
        }
        let now = boottime();
        if deadline.extend(now, now + LEASE).is_err() {
            std::thread::sleep(Duration::from_mins(1));
        }
        if busy != "busy" {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A daemon in a process of its own.
struct Daemon {
    child: Child,
    guardian: Pid,
    mount: PathBuf,
}

impl Daemon {
    fn start(rig: &Rig, fs: &str, busy: &str) -> Self {
        let dir = rig.path("");
        let mount = rig.path("mnt");
        std::fs::create_dir(&mount).unwrap();
        let words = format!("{}|{fs}|{}|{busy}", dir.display(), rig.control);
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "guardian::tests::lost::daemon_child_entry", "--test-threads=1"])
            .env(DAEMON_ENV, words)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut daemon = Self { child, guardian: Pid::from_raw(0), mount };
        wait_until("the daemon writes", || rig.path("ready").exists());
        wait_until("its guardian is named", || {
            let text = std::fs::read_to_string(rig.path("ready")).unwrap();
            text.parse().is_ok_and(|pid| {
                daemon.guardian = Pid::from_raw(pid);
                true
            })
        });
        daemon
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn guardian_is_gone(rig: &Rig) -> bool {
    File::open(rig.lock_path()).unwrap().try_lock().is_ok()
}

fn killed_daemon(fs: &str) {
    let rig = Rig::new();
    let image = rig.image("volume.img", fs);
    let mut daemon = Daemon::start(&rig, fs, "busy");
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    wait_until("the guardian has gone", || guardian_is_gone(&rig));
    let closed = hash(&image);
    assert!(!rig::is_mounted(&daemon.mount));
    rig.wait_until_nothing_is_left();
    assert_eq!(hash(&image), closed);
    rig.next_writer_finds_it_sound(&image, fs);
}

#[test]
fn loop_a_killed_daemons_guardian_closes_ext4_and_leaves_nothing() {
    killed_daemon("ext4");
}

#[test]
fn loop_a_killed_daemons_guardian_closes_xfs_and_leaves_nothing() {
    killed_daemon("xfs");
}

#[test]
fn loop_a_killed_daemons_guardian_closes_btrfs_and_leaves_nothing() {
    killed_daemon("btrfs");
}

#[test]
fn loop_a_stopped_daemon_is_stopped_in_order_and_its_gate_closed() {
    let rig = Rig::new();
    let image = rig.image("volume.img", "ext4");
    let mut daemon = Daemon::start(&rig, "ext4", "calm");
    daemon.signal(Signal::SIGSTOP);
    let options = || {
        let list = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = list.lines().find(|line| line.split(' ').nth(4) == daemon.mount.to_str())?;
        line.rsplit(' ').next().map(|options| options.starts_with("ro"))
    };
    assert_eq!(options(), Some(false));
    let mut was_read_only = false;
    wait_until("its mount is gone", || {
        let seen = options();
        was_read_only |= seen == Some(true);
        seen.is_none()
    });
    assert!(was_read_only, "the gate was closed without the orderly stop before it");
    rig.wait_until_nothing_is_left();
    // Written out in order: every file is there.
    rig.next_writer_finds_it_sound(&image, "ext4");
    let gate = LoopGate::open(image.as_fd(), &rig.opening_of(9, Mode::ReadOnly)).unwrap();
    let mount = rig.mount(&gate.path(), "ext4", "ro,noload");
    assert_eq!(std::fs::read_to_string(mount.join("file-99")).unwrap(), "99".repeat(900));
    nix::mount::umount(&mount).unwrap();
    assert!(gate.clear_if_unused().unwrap());
    drop(gate);
    assert!(!guardian_is_gone(&rig), "the guardian stays while the daemon exists");
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    wait_until("the guardian has gone", || guardian_is_gone(&rig));
}

#[test]
fn loop_a_new_daemon_ends_a_stopped_guardian_and_closes_what_it_left() {
    let rig = Rig::new();
    let image = rig.image("volume.img", "ext4");
    let mut daemon = Daemon::start(&rig, "ext4", "busy");
    // Both lost at once: nobody closes anything.
    kill(daemon.guardian, Signal::SIGSTOP).unwrap();
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    assert!(rig::is_mounted(&daemon.mount));
    let open = File::create(daemon.mount.join("of-some-application")).unwrap();
    let pid = u32::try_from(daemon.guardian.as_raw()).unwrap();
    assert_eq!(end_old(&rig.lock_path(), Duration::from_secs(20)).unwrap(), Some(pid));
    assert_eq!(end_old(&rig.lock_path(), Duration::from_secs(20)).unwrap(), None);
    // Another client's, on the same host: not to be touched.
    let other = LoopGate::open(rig.image("other.img", "none").as_fd(), &rig.opening_of(2, Mode::ReadWrite)).unwrap();
    let closed = close_leftovers(rig.control, SLOT, Duration::from_secs(20)).unwrap();
    assert_eq!(closed.len(), 1);
    let before = hash(&image);
    std::os::unix::fs::FileExt::write_at(&open, &[1; 4096], 0).and_then(|_| open.sync_all()).unwrap_err();
    drop(open);
    assert_eq!(hash(&image), before);
    assert!(!rig::is_mounted(&daemon.mount));
    let left = find_marked(rig.control, None).unwrap();
    assert_eq!(left.iter().map(|gate| gate.mark.slot).collect::<Vec<_>>(), [2]);
    other.clear().unwrap();
    drop(other);
    rig.next_writer_finds_it_sound(&image, "ext4");
}

#[test]
fn an_absent_guardian_needs_no_ending() {
    let rig = Rig::new();
    assert_eq!(end_old(&rig.lock_path(), Duration::ZERO).unwrap(), None);
    assert!(close_leftovers(Uuid::new_v4(), SLOT, Duration::ZERO).unwrap().is_empty());
}

#[test]
fn a_stopped_guardian_is_seen_not_to_tick() {
    let rig = Rig::new();
    let guardian = rig.guardian(LEASE);
    assert!(guardian.is_ticking(boottime(), LEASE));
    let pid = Pid::from_raw(i32::try_from(guardian.welcome().pid).unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    wait_until("its silence is noticed", || !guardian.is_ticking(boottime(), LEASE));
    kill(pid, Signal::SIGCONT).unwrap();
    wait_until("it ticks again", || guardian.is_ticking(boottime(), LEASE));
    kill(pid, Signal::SIGTERM).unwrap();
    guardian.ping().unwrap();
    assert!(guardian.bye().unwrap());
}

/// A guardian waited in the closing of a gate of device-mapper over hung storage, and the new daemon killed it: that broke the
/// waiting off, and what the kernel had held back went on to the disk, long after the lease had ended.
#[test]
fn a_guardian_that_is_closing_gates_is_not_killed_but_waited_for() {
    let rig = Rig::new();
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let started = process::start_time(child.id()).unwrap();
    let held = File::create(rig.lock_path()).unwrap();
    held.lock().unwrap();
    let pid = child.id();
    let killed_by = |last_word: &str| {
        std::fs::write(rig.lock_path(), format!("{pid} {started} {last_word:7}\n")).unwrap();
        let refused = end_old(&rig.lock_path(), Duration::from_millis(300)).unwrap_err();
        assert!(matches!(refused, LeftoverError::StillHeld { pid: Some(named), .. } if named == pid), "{refused}");
        // Killed, it has not been waited for yet.
        std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") Z ")
    };
    assert!(!killed_by("closing"));
    assert!(killed_by(""));
    child.kill().unwrap();
    child.wait().unwrap();
}
