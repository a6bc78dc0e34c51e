//! The login of a `--control` command: one of the four administration slots, claimed like any other (section 6).
//!
//! No page, no client record, no gates; so nothing has to be closed before a slot that this machine left is taken over.
//! A command that is killed leaves a slot that the next one here takes at once, and others pass after `dead`.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use lockdriver::device::Access;
use lockdriver::guardian::{Guardian, SpawnConfig, end_old};
use lockdriver::logon::{Claimed, claim_wait, names_lock_of};
use lockdriver::poll::SlotReading;
use lockdriver::tables::cells;
use lockdriver::transaction::Change;
use ondisk::geometry::ADMIN_SLOTS;
use ondisk::{CommitNo, Incarnation, LockKind, SlotIndex};

use super::beater::Doubts;
use super::claim::{Claim, claim};
use super::host::{HostLock, guardian_lock};
use super::open::{ControlVolume, read};
use super::session::{Parts, Session};
use super::view::View;
use crate::units::format_duration;
use crate::wire::outcome::{ExitCode, Failure};

/// Between two looks for a slot of this machine that another command still uses.
const LOOK: Duration = Duration::from_millis(20);

/// Told what the command waits for.
pub type Notes<'a> = &'a mut dyn FnMut(&str);

/// Logs on, runs `f`, logs off. The lease is kept confirmed by a thread meanwhile, so `f` may take its time.
///
/// # Errors
/// What `f` says; a control volume that cannot be opened or logged on to.
pub fn run<T>(
    control: &Path,
    notes: Notes<'_>,
    f: impl FnOnce(&Session, Notes<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    run_on(ControlVolume::open(control, Access::ReadWrite)?, notes, f)
}

/// As [`run`], on a control volume that is open already.
///
/// # Errors
/// As for [`run`].
pub fn run_on<T>(
    volume: ControlVolume,
    notes: Notes<'_>,
    f: impl FnOnce(&Session, Notes<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    run_login(&volume, notes, |login, notes| {
        login.reap_own()?;
        f(&login.session, notes)
    })
}

/// A log-on that did not look at the tables yet.
pub struct Login {
    /// The session.
    pub session: Session,
    claimed: Claimed,
}

impl Login {
    /// A slot that was claimed by waiting: its earlier incarnations end in the first transaction (section 6).
    fn reap_own(&self) -> Result<(), Failure> {
        let Some(incarnation) = self.claimed.reap_own else { return Ok(()) };
        let slot = self.session.me.slot;
        self.session.transact(&mut |_, _| Ok(Some(Change::reap(slot, incarnation)))).map(drop)
    }
}

/// As [`run`], for tables that may be damaged: nothing is read or written but the slot.
///
/// # Errors
/// As for [`run`].
pub fn run_damaged<T>(
    control: &Path,
    notes: Notes<'_>,
    f: impl FnOnce(&Login, Notes<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    run_login(&ControlVolume::open(control, Access::ReadWrite)?, notes, f)
}

fn run_login<T>(
    volume: &ControlVolume,
    notes: Notes<'_>,
    f: impl FnOnce(&Login, Notes<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let (lock, parts, claimed) = log_on(volume, notes)?;
    let slot = SlotIndex(lock.1);
    let login = Login { session: Session::begin(parts, slot, &claimed)?, claimed };
    let keeper = lock_keeper(&login.session)?;
    let done = while_kept(&login.session, || f(&login, notes));
    if login.session.is_live()
        && let Err(failure) = login.session.log_off()
    {
        tracing::warn!(event = "admin.log_off", %failure, "the administration slot was not left in order");
    }
    if let Some(Err(e)) = keeper.map(Guardian::bye) {
        tracing::warn!(event = "admin.log_off", error = %e, "the keeper of the lock does not say good-bye");
    }
    drop(login);
    drop(lock);
    done
}

/// With byte-range locks a command that is stopped inside would keep all others out for ever: a guardian without gates lets
/// go of its lock when the lease ends (section 5).
fn lock_keeper(session: &Session) -> Result<Option<Guardian>, Failure> {
    let superblock = &session.volume.superblock;
    if superblock.lock != LockKind::Ofd {
        return Ok(None);
    }
    let failed = |e: &dyn std::fmt::Display| {
        Failure::failed("no log-on", format!("the lock has no keeper: {e}"), "look at this machine's process limits")
    };
    let lock_path = guardian_lock(superblock.uuid, session.me.slot.0);
    let lease = superblock.timings.lease();
    end_old(&lock_path, lease).map_err(|e| failed(&e))?;
    let config = SpawnConfig {
        program: "/proc/self/exe".into(),
        args: vec!["guardian".into()],
        envs: Vec::new(),
        lock_path,
        mount_root: None,
        lease,
        deadline: session.deadline.clone(),
        timeout: lease,
    };
    let keeper = Guardian::spawn(config).map_err(|e| failed(&e))?;
    session.share_ofd(&keeper).map_err(|e| failed(&e))?;
    Ok(Some(keeper))
}

/// Runs `f` while a thread of its own polls slots and header, which extends the lease by the beats of the beating thread.
fn while_kept<T>(session: &Session, f: impl FnOnce() -> T) -> T {
    let poll = session.volume.superblock.timings.poll();
    std::thread::scope(|scope| {
        // Dropped when `f` returns or panics: that ends the thread.
        let (_working, done) = channel::<()>();
        scope.spawn(move || {
            session.keep();
            while matches!(done.recv_timeout(poll), Err(RecvTimeoutError::Timeout)) && session.is_live() {
                session.keep();
            }
        });
        f()
    })
}

/// The lock file of an administration slot, and which.
struct SlotLock(#[allow(dead_code, reason = "held")] HostLock, u16);

/// How soon a slot can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wait {
    /// This machine left it, and holds its lock file.
    None,
    /// As before, but a write to it is in doubt: `margin` from its begin.
    Unsettled,
    /// Left in order by another machine, or never used: `margin`.
    Margin,
    /// `dead`, and only if nobody lives in it.
    Dead,
}

fn log_on(volume: &ControlVolume, notes: Notes<'_>) -> Result<(SlotLock, Parts, Claimed), Failure> {
    let mut tried = Vec::new();
    let notes = RefCell::new(notes);
    loop {
        let (lock, wait) = choose(volume, &tried)?;
        let slot = SlotIndex(lock.1);
        let parts = Parts::new(volume.clone(), slot, Arc::new(lock.0.doubts())).map_err(|e| {
            Failure::failed("no log-on", e.to_string(), "look at this machine's memory and process limits")
        })?;
        match claim_slot(volume, parts, &lock, wait, &notes) {
            Ok((parts, claimed)) => return Ok((lock, parts, claimed)),
            // Somebody else lives there, or came first: another slot may be free.
            Err(failure) if failure.exit == ExitCode::Busy && tried.len() + 1 < usize::from(ADMIN_SLOTS) => {
                tried.push(lock.1);
            }
            Err(failure) => return Err(failure),
        }
    }
}

fn claim_slot(
    volume: &ControlVolume,
    mut parts: Parts,
    lock: &SlotLock,
    wait: Wait,
    notes: &RefCell<Notes<'_>>,
) -> Result<(Parts, Claimed), Failure> {
    let timings = volume.superblock.timings;
    let slot = SlotIndex(lock.1);
    let number = lock.1 - volume.superblock.max_clients;
    let waiting = |_: &str, _: Duration| {
        let (time, why) = match wait {
            Wait::Dead => {
                (timings.dead() + claim_wait(timings.margin()), "a command elsewhere left it without logging off")
            }
            Wait::Unsettled => {
                (timings.margin(), "a command before ended within its write to it, which may still arrive")
            }
            Wait::Margin | Wait::None => (claim_wait(timings.margin()), "this machine has not used it before"),
        };
        let time = format_duration(time);
        notes.borrow_mut()(&format!("waiting up to {time} for administration slot {number}: {why}"));
    };
    let highest = highest_number(volume, slot);
    let claimed = claim(
        &mut parts,
        volume,
        Claim {
            slot,
            host: lock.0.host,
            record: Incarnation(0),
            highest,
            page_sequence: 0,
            waiting: &waiting,
            close_gates: &mut |_| true,
            stop: &|| false,
        },
    )?;
    Ok((parts, claimed))
}

/// The best administration slot whose lock file can be had.
fn choose(volume: &ControlVolume, tried: &[u16]) -> Result<(SlotLock, Wait), Failure> {
    let geometry = &volume.geometry;
    let timings = volume.superblock.timings;
    let mut view = View::new(volume);
    let slots: Vec<u16> = geometry.slots().filter(|s| geometry.is_admin(*s)).map(|s| s.0).collect();
    let mut patience = (timings.margin() / 2).as_millis() / LOOK.as_millis();
    let mut last = None;
    loop {
        view.read_slots();
        let mut best: Option<(SlotLock, Wait)> = None;
        let mut ours_is_busy = false;
        for slot in slots.iter().copied().filter(|s| !tried.contains(s)) {
            let reading = view.decoder.poll().slot(SlotIndex(slot));
            let Some(reading) = reading else { continue };
            match HostLock::take(volume.superblock.uuid, slot, "another command on this control volume") {
                Ok(lock) => {
                    let wait = wait_for(volume, reading, &lock);
                    if best.as_ref().is_none_or(|(_, w)| wait < *w) {
                        best = Some((SlotLock(lock, slot), wait));
                    }
                }
                Err(failure) if failure.exit == ExitCode::Busy => {
                    ours_is_busy = true;
                    last = Some(failure);
                }
                Err(failure) => return Err(failure),
            }
        }
        let good_enough = best.as_ref().is_some_and(|(_, wait)| *wait == Wait::None);
        match best {
            // A command that ends soon leaves a slot without waiting; that is sooner than any other.
            Some(best) if good_enough || !ours_is_busy || patience == 0 => return Ok(best),
            None if patience == 0 => return Err(last.unwrap_or_else(all_taken)),
            _ => {}
        }
        patience -= 1;
        volume.machine.sleep(LOOK);
    }
}

fn wait_for(volume: &ControlVolume, reading: &SlotReading, lock: &HostLock) -> Wait {
    if names_lock_of(reading, &lock.host) {
        let unsettled = lock.doubts().unsettled();
        let settled = unsettled.is_zero() || unsettled + volume.superblock.timings.margin() <= volume.machine.now();
        if settled { Wait::None } else { Wait::Unsettled }
    } else if reading.view.known().is_some_and(|s| !s.logged_on) {
        Wait::Margin
    } else {
        Wait::Dead
    }
}

fn all_taken() -> Failure {
    Failure::busy(
        "no log-on",
        format!("all {ADMIN_SLOTS} administration slots are in use"),
        "wait until the other commands are done, then try again",
    )
}

/// The highest commit in any block of any cell: it counts only when the slot itself cannot be read (section 6).
fn highest_number(volume: &ControlVolume, slot: SlotIndex) -> CommitNo {
    let geometry = &volume.geometry;
    let mut view = View::new(volume);
    view.read_slots();
    if view.decoder.poll().slot(slot).is_some_and(|r| r.view.known().is_some()) {
        return CommitNo::default();
    }
    let blocks = geometry.cells().flat_map(|cell| [(cell, 0, 0), (cell, 0, 1), (cell, 1, 0), (cell, 1, 1)]);
    blocks
        .filter_map(|(cell, version, copy)| {
            let offset = geometry.cell_block(cell, version, copy).offset;
            let bytes = read(&*volume.device, offset, geometry.cell_bytes(cell)).ok()?;
            cells::decode(geometry, cell, (version, copy), Some(&bytes)).ok().map(|b| b.commit)
        })
        .max()
        .unwrap_or_default()
}
