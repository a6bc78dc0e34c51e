//! Claims about registrations, on a target in memory with several hosts.

use lockdriver::device::MemoryDevice;
use lockdriver::reservation::target::{Lies, Target};
use ondisk::{Geometry, Label, LockKind, Timings};
use tempfile::TempDir;

use super::*;
use crate::control::host_key::KeyFiles;
use crate::control::machine::RealMachine;
use crate::control::rules::Rules;
use crate::wire::outcome::ExitCode;

const TABLE: Uuid = Uuid::from_u128(0x1234_5678_9abc_def0_0123_4567_89ab_cdef);

struct Host {
    volume: ControlVolume,
    run: TempDir,
}

impl Host {
    fn of(target: &Target, number: u32) -> Self {
        let geometry = Geometry::plan(TABLE, 4, 2, 512, 1 << 20).and_then(Geometry::with_semaphore).expect("a plan");
        let superblock = geometry.superblock(LockKind::Pr, Timings::default(), Label::default(), 0);
        let volume = ControlVolume {
            path: "/dev/none".into(),
            device: Arc::new(target.path(number)),
            superblock,
            geometry,
            machine: RealMachine::shared(),
            rules: Rules::default(),
        };
        Self { volume, run: tempfile::tempdir().expect("a directory") }
    }

    fn join(&self, slot: u16, incarnation: u64) -> Result<Membership, Failure> {
        let host = Box::new(KeyFiles::open(self.run.path(), TABLE).expect("two files"));
        Membership::join_with(host, &self.volume, SlotIndex(slot), Incarnation(incarnation))
    }

    fn writes(&self) -> bool {
        self.volume.device.write_at(0, &AlignedBuf::zeroed(512), Durability::Plain).is_ok()
    }
}

fn target() -> Target {
    Target::new(MemoryDevice::new(1 << 20, 512))
}

fn keys(target: &Target) -> Vec<u64> {
    target.path(99).keys().expect("keys")
}

fn key(slot: u16, incarnation: u64) -> u64 {
    Key::of(TABLE, SlotIndex(slot), Incarnation(incarnation)).0
}

#[test]
fn whoever_is_not_registered_cannot_write_and_proves_that_before_it_registers() {
    let target = target();
    let (a, b) = (Host::of(&target, 1), Host::of(&target, 2));
    let first = a.join(0, 1).expect("joins");
    assert!(!first.proven, "nobody was there to be kept out for");
    assert!(a.writes() && !b.writes());
    let second = b.join(1, 1).expect("joins");
    assert!(second.proven && b.writes());
    drop(first);
    assert!(!a.writes() && b.writes(), "the reservation outlives whoever took it first");
    drop(second);
    assert_eq!(keys(&target), Vec::<u64>::new());
    assert!(a.writes());
}

#[test]
fn a_device_that_lets_everybody_write_is_refused_at_the_second_log_on() {
    let target = target();
    let (a, b) = (Host::of(&target, 1), Host::of(&target, 2));
    let _first = a.join(0, 1).expect("joins");
    target.lie(Lies { lets_write: true, ..Lies::default() });
    let refused = b.join(1, 1).expect_err("it is worth nothing");
    assert!(refused.why.contains("let this host write"), "{refused:?}");
    assert_eq!(keys(&target), [key(0, 1)]);
}

/// Two hosts ran one command after the other as fast as they could: one registered just when the other left, its test write was
/// let through, and it called the device's reservations worthless.
#[test]
fn a_device_is_not_accused_because_the_last_registrant_left() {
    let target = target();
    let (a, b) = (Host::of(&target, 1), Host::of(&target, 2));
    std::mem::forget(a.join(0, 1).expect("joins"));
    target.lie(Lies { all_leave_before_write: true, ..Lies::default() });
    let second = b.join(1, 1).expect("nobody is there to be kept out for");
    assert!(!second.proven);
}

/// A host was started again while its old key was still registered, so its test writes were let through. Then the others threw that key
/// out, since they had waited for its death, and it registered as if it had never been: so it called the device's reservations worthless,
/// and its daemon ended for good. (Found by the simulator.)
#[test]
fn a_device_is_not_accused_because_the_own_old_key_was_thrown_out_meanwhile() {
    let target = target();
    let (a, b) = (Host::of(&target, 1), Host::of(&target, 2));
    std::mem::forget(a.join(0, 1).expect("joins"));
    let _other = b.join(1, 1).expect("joins");
    target.lie(Lies { preempted_before_register: true, ..Lies::default() });
    let again = Host::of(&target, 1).join(0, 3).expect("nothing is wrong with the device");
    assert!(again.proven, "and it has shown that it keeps out");
    assert_eq!(keys(&target), [key(0, 3), key(1, 1)]);
}

#[test]
fn whoever_was_passed_is_thrown_out_and_knows_it() {
    let target = target();
    let (a, b) = (Host::of(&target, 1), Host::of(&target, 2));
    let (first, second) = (a.join(0, 3).expect("joins"), b.join(1, 1).expect("joins"));
    second.expel(&[(SlotIndex(0), Incarnation(2))]).expect("nobody to throw out");
    assert_eq!(first.stands(), OfdResult::Held, "a later login is not meant");
    second.expel(&[(SlotIndex(0), Incarnation(3))]).expect("thrown out");
    assert_eq!((first.stands(), second.stands()), (OfdResult::NotHeld, OfdResult::Held));
    assert!(!a.writes() && b.writes());
    // It logs on anew, with a fresh key.
    let again = a.join(0, 5).expect("joins");
    assert!(again.proven && a.writes());
}

/// Two hosts ran commands at the same time and claimed the same administration slot: the second was thrown out between its
/// registration and its reservation, and gave up with *the device answers CHECK CONDITION* instead of trying the next slot; the
/// first met the second's key again right after it had thrown it out, and gave up as well.
#[test]
fn two_hosts_that_claim_one_slot_do_not_take_each_other_for_a_broken_device() {
    let target = target();
    let (a, b) = (Host::of(&target, 1), Host::of(&target, 2));
    let first = a.join(4, 3).expect("joins");
    target.lie(Lies { preempted_before_reserve: true, ..Lies::default() });
    let thrown_out = b.join(4, 1).expect_err("it was thrown out");
    assert_eq!(thrown_out.exit, ExitCode::Busy, "another slot may be free: {thrown_out:?}");
    assert_eq!(keys(&target), [key(4, 3)]);
    target.lie(Lies { comes_back: true, ..Lies::default() });
    std::mem::forget(b.join(4, 1).expect("joins"));
    first.expel(&[(SlotIndex(4), Incarnation(2))]).expect("thrown out, and again");
    assert_eq!(keys(&target), [key(4, 3)]);
}

#[test]
fn a_host_reborn_with_its_old_key_gets_a_fresh_one() {
    let target = target();
    let (a, reborn) = (Host::of(&target, 1), Host::of(&target, 1));
    std::mem::forget(a.join(0, 1).expect("joins"));
    let _now = reborn.join(0, 3).expect("joins");
    assert_eq!(keys(&target), [key(0, 3)]);
}

#[test]
fn a_command_shares_the_key_of_its_hosts_daemon_and_leaves_it_there() {
    let target = target();
    let a = Host::of(&target, 1);
    let daemon = a.join(0, 1).expect("joins");
    drop(a.join(4, 1).expect("joins"));
    assert_eq!(keys(&target), [key(0, 1)]);
    let command = a.join(4, 2).expect("joins");
    let later = a.join(0, 3).expect("a daemon brings its own");
    assert_eq!(keys(&target), [key(0, 3)]);
    drop(daemon);
    assert_eq!((command.stands(), later.stands()), (OfdResult::Held, OfdResult::Held));
    command.expel(&[(SlotIndex(0), Incarnation(3))]).expect("the own host is left alone");
    drop((command, later));
    assert_eq!(keys(&target), Vec::<u64>::new());
}

#[test]
fn what_is_somebody_elses_is_shown_and_left_alone() {
    let target = target();
    target.path(7).register(0, 0xabc).expect("registers");
    let refused = Host::of(&target, 1).join(0, 1).expect_err("foreign");
    assert!(refused.exit == ExitCode::Refused && refused.why.contains("0x0000000000000abc"), "{refused:?}");
    target.restart();
    target.path(7).register(0, key(2, 1)).expect("registers");
    target.path(7).reserve(key(2, 1), Kind::WriteRegistrants).expect("reserves");
    let refused = Host::of(&target, 1).join(0, 1).expect_err("another kind");
    assert!(refused.why.contains("registrants only"), "{refused:?}");
    assert_eq!(keys(&target), [key(2, 1)]);
}

#[test]
fn a_target_that_forgot_is_noticed() {
    let target = target();
    let a = Host::of(&target, 1);
    let member = a.join(0, 1).expect("joins");
    target.restart();
    assert_eq!(member.stands(), OfdResult::NotHeld);
}

/// One command without an answer, and a client that was first in the queue left it and drew a new number: two waits of a hundred were in
/// vain in the simulator, where commands fail often.
#[test]
fn a_device_that_does_not_answer_once_is_asked_again() {
    let target = target();
    let a = Host::of(&target, 1);
    let member = a.join(0, 1).expect("joins");
    target.lie(Lies { silent: 2, ..Lies::default() });
    assert_eq!(member.stands(), OfdResult::Held);
    target.lie(Lies { silent: 3, ..Lies::default() });
    assert_eq!(member.stands(), OfdResult::Failed);
}
