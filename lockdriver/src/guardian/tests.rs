//! The guardian as a process of its own, on real loop devices and file systems (root).

mod lost;
mod rig;

use std::io::Write;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use rig::{Rig, format, hash, wait_until};

use super::{Event, GuardianError, Refusal};
use crate::deadline::LeaseView;
use crate::gate::{Mode, find_marked};
use crate::sys::clock::boottime;

const LEASE: Duration = Duration::from_millis(1600);

/// Dirty data at the end of the lease stays unwritten, and the next writer's mount finds a sound file system.
fn lease_end_closes_the_gate(fs: &str) {
    let rig = Rig::new();
    let image = rig.image("volume.img", fs);
    let guardian = rig.guardian(LEASE);
    guardian.deadline().extend(boottime(), boottime() + LEASE).unwrap();
    let gate = guardian.open_gate(image.as_fd(), &rig.opening(Mode::ReadWrite)).unwrap();
    let mount = rig.mount(&gate.path(), fs, "rw");
    // Open for writing, so that the orderly stop cannot make it read-only: the harder case.
    let mut file = std::fs::File::create(mount.join("open")).unwrap();
    let mut refused = None;
    for number in 0_u64.. {
        let wrote = std::fs::write(mount.join(format!("file-{}", number % 500)), number.to_string().repeat(900));
        let flushed = if number % 50 == 0 { file.write_all(&[1; 8192]).and_then(|()| file.sync_all()) } else { Ok(()) };
        refused = wrote.and(flushed).err();
        let over = guardian.deadline().get(boottime()) == LeaseView::Over;
        if refused.is_some() || over {
            break;
        }
    }
    rig.wait_for(&guardian, &Event::GatesClosed);
    let closed = hash(&image);
    let late = file.write_all(&[2; 8192]).and_then(|()| file.sync_all());
    assert!(late.is_err(), "a write passed a closed gate ({refused:?} before)");
    drop(file);
    assert!(guardian.bye().unwrap());
    assert_eq!(hash(&image), closed, "bytes changed behind a closed gate");
    rig.wait_until_nothing_is_left();
    rig.next_writer_finds_it_sound(&image, fs);
}

#[test]
fn loop_lease_end_closes_the_gate_under_a_dirty_ext4() {
    lease_end_closes_the_gate("ext4");
}

#[test]
fn loop_lease_end_closes_the_gate_under_a_dirty_xfs() {
    lease_end_closes_the_gate("xfs");
}

#[test]
fn loop_lease_end_closes_the_gate_under_a_dirty_btrfs() {
    lease_end_closes_the_gate("btrfs");
}

#[test]
fn loop_no_gate_is_opened_before_the_lease_begins_or_after_it_has_ended() {
    let rig = Rig::new();
    let image = rig.image("volume.img", "none");
    let guardian = rig.guardian(LEASE);
    let refusal = |result| match result {
        Err(GuardianError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    let early = guardian.open_gate(image.as_fd(), &rig.opening(Mode::ReadWrite));
    assert_eq!(refusal(early), Refusal::LeaseNotBegun);
    guardian.deadline().extend(boottime(), boottime() + LEASE).unwrap();
    guardian.end_lease().unwrap();
    rig.wait_for(&guardian, &Event::GatesClosed);
    let late = guardian.open_gate(image.as_fd(), &rig.opening(Mode::ReadWrite));
    assert_eq!(refusal(late), Refusal::LeaseOver);
    guardian.deadline().extend(boottime(), boottime() + LEASE).unwrap_err();
    assert!(find_marked(rig.control, None).unwrap().is_empty());
}

#[test]
fn loop_close_waits_for_the_unmount_and_leaves_nothing() {
    let rig = Rig::new();
    let image = rig.image("volume.img", "ext4");
    let guardian = rig.guardian(Duration::from_secs(60));
    guardian.deadline().extend(boottime(), boottime() + Duration::from_secs(60)).unwrap();
    let gate = guardian.open_gate(image.as_fd(), &rig.opening(Mode::ReadWrite)).unwrap();
    assert!(gate.direct_io);
    let mount = rig.mount(&gate.path(), "ext4", "rw");
    let busy = guardian.close(gate.node);
    assert!(matches!(busy, Err(GuardianError::Refused(Refusal::Busy { .. }))));
    assert!(!guardian.retire(gate.node).unwrap());
    nix::mount::umount(&mount).unwrap();
    guardian.close(gate.node).unwrap();
    assert!(find_marked(rig.control, None).unwrap().is_empty());
    let unknown = guardian.close(gate.node);
    assert!(matches!(unknown, Err(GuardianError::Refused(Refusal::UnknownGate { .. }))));
    let again = guardian.open_gate(image.as_fd(), &rig.opening(Mode::ReadWrite)).unwrap();
    rig.mount(&again.path(), "ext4", "rw");
    guardian.close_now(again.node).unwrap();
    rig.wait_until_nothing_is_left();
    assert!(guardian.deadline().get(boottime()).is_live());
}

#[test]
fn loop_a_live_readers_gate_outlives_the_lease_and_its_open_file_the_guardian() {
    let rig = Rig::new();
    let image = rig.image("volume.img", "ext4");
    rig.put_file(&image, "ext4", "text", b"still here");
    let guardian = rig.guardian(LEASE);
    guardian.deadline().extend(boottime(), boottime() + LEASE).unwrap();
    let mut live = rig.opening(Mode::ReadOnly);
    live.mark.keep_after_lease = true;
    let kept = guardian.open_gate(image.as_fd(), &live).unwrap();
    let strict = guardian.open_gate(image.as_fd(), &rig.opening(Mode::ReadOnly)).unwrap();
    let mount = rig.mount(&kept.path(), "ext4", "ro,noload");
    let strict_mount = rig.mount(&strict.path(), "ext4", "ro,noload");
    let open = std::fs::File::open(mount.join("text")).unwrap();
    rig.wait_for(&guardian, &Event::GatesClosed);
    assert_eq!(std::fs::read(mount.join("text")).unwrap(), b"still here");
    wait_until("the strict reader's mount is gone", || !rig::is_mounted(&strict_mount));
    assert!(guardian.bye().unwrap());
    assert!(!rig::is_mounted(&mount));
    nix::fcntl::posix_fadvise(&open, 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
    assert_eq!(std::io::read_to_string(&open).unwrap(), "still here");
    drop(open);
    rig.wait_until_nothing_is_left();
}

#[test]
fn loop_a_frozen_file_system_is_thawed_after_its_gate_is_closed() {
    let rig = Rig::new();
    let image = rig.image("volume.img", "ext4");
    let guardian = rig.guardian(LEASE);
    guardian.deadline().extend(boottime(), boottime() + LEASE).unwrap();
    let gate = guardian.open_gate(image.as_fd(), &rig.opening(Mode::ReadWrite)).unwrap();
    let mount = rig.mount(&gate.path(), "ext4", "rw");
    let root = std::fs::File::open(&mount).unwrap();
    guardian.frozen(gate.node, root.as_fd()).unwrap();
    drop(root);
    rig::command("fsfreeze", &["-f".as_ref(), mount.as_os_str()]);
    let writer = std::thread::spawn(move || std::fs::write(mount.join("hangs"), [1; 4096]));
    rig.wait_for(&guardian, &Event::GatesClosed);
    // Hangs for ever unless it is thawed; whether it then fails at once or at its next flush is the file system's affair.
    let _ = writer.join().unwrap();
    assert!(guardian.bye().unwrap());
    rig.wait_until_nothing_is_left();
}

#[test]
fn loop_one_hung_gate_holds_up_no_other() {
    let rig = Rig::new();
    // Its backing lies on a file system that is frozen: writes in flight stay there, and so does the closing call.
    let outer = rig.image("outer.img", "ext4");
    let guardian = rig.guardian(LEASE);
    guardian.deadline().extend(boottime(), boottime() + Duration::from_secs(30)).unwrap();
    let under = crate::gate::LoopGate::open(outer.as_fd(), &rig.opening_of(7, Mode::ReadWrite)).unwrap();
    let outer_mount = rig.mount(&under.path(), "ext4", "rw");
    let hung_image = rig::blank(&outer_mount.join("hung.img"), 16 << 20);
    let other_image = rig.image("other.img", "none");
    let hung = guardian.open_gate(hung_image.as_fd(), &rig.opening(Mode::ReadWrite)).unwrap();
    let other = guardian.open_gate(other_image.as_fd(), &rig.opening(Mode::ReadWrite)).unwrap();
    let thaw = rig::Frozen::freeze(&outer_mount);
    let node = hung.path();
    let writer = std::thread::spawn(move || {
        std::fs::File::options().write(true).open(node).and_then(|mut node| {
            node.write_all(&[9; 1 << 20])?;
            node.sync_all()
        })
    });
    wait_until("a write is in flight", || rig::in_flight(hung.node) > 0);
    guardian.end_lease().unwrap();
    rig.wait_for(&guardian, &Event::GateClosed { node: other.node, errno: None });
    guardian.ping().unwrap();
    assert!(guardian.is_ticking(boottime(), LEASE));
    assert!(guardian.events().try_iter().all(|event| event != Event::GatesClosed));
    let closing = || std::fs::read_to_string(rig.lock_path()).unwrap().contains("closing");
    assert!(closing(), "who ends old guardians has to know");
    drop(thaw);
    rig.wait_for(&guardian, &Event::GatesClosed);
    assert!(!closing());
    let _ = writer.join().unwrap();
    assert!(guardian.bye().unwrap());
    drop(hung_image);
    nix::mount::umount(&outer_mount).unwrap();
}

#[test]
fn a_lock_of_a_stopped_holder_is_given_back_at_the_end_of_the_lease() {
    let rig = Rig::new();
    let guardian = rig.guardian(LEASE);
    guardian.deadline().extend(boottime(), boottime() + LEASE).unwrap();
    let path = rig.path("locked");
    let ours = rig::blank(&path, 4096);
    let theirs = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    let range = |kind: i32| libc::flock {
        l_type: libc::c_short::try_from(kind).unwrap(),
        l_whence: 0,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&ours, FcntlArg::F_OFD_SETLK(&range(libc::F_WRLCK))).unwrap();
    guardian.hold_lock(ours.as_fd()).unwrap();
    fcntl(&theirs, FcntlArg::F_OFD_SETLK(&range(libc::F_WRLCK))).unwrap_err();
    rig.wait_for(&guardian, &Event::GatesClosed);
    wait_until("the lock is free", || fcntl(&theirs, FcntlArg::F_OFD_SETLK(&range(libc::F_WRLCK))).is_ok());
    let late = guardian.hold_lock(ours.as_fd());
    assert!(matches!(late, Err(GuardianError::Refused(Refusal::LeaseOver))));
}

#[test]
fn a_second_guardian_on_one_lock_file_is_refused() {
    let rig = Rig::new();
    let first = rig.guardian(LEASE);
    let second = super::Guardian::spawn(rig.config(LEASE));
    assert!(matches!(second, Err(GuardianError::Refused(Refusal::LockHeld))));
    assert!(first.bye().unwrap());
    assert!(super::Guardian::spawn(rig.config(LEASE)).unwrap().bye().unwrap());
}

#[test]
fn formats_are_known() {
    // Fails where a tool that the other tests need is missing, by name.
    for fs in ["ext4", "xfs", "btrfs"] {
        assert!(format(fs).is_some(), "{fs}");
    }
}
