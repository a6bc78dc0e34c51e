//! Claiming a slot: the driver of the log-on machine (section 6, "Log-on is claimed, not assumed").

use std::time::Duration;

use lockdriver::logon::{Claimed, Host, Logon, LogonError, LogonRequest, LogonStep, claim_wait};
use lockdriver::semaphore::WriteResult;
use ondisk::{CommitNo, DaemonId, Incarnation, LockKind, SlotIndex};

use super::beater::Written;
use super::machine::Machine;
use super::membership::Membership;
use super::open::ControlVolume;
use super::session::Parts;
use crate::wire::outcome::Failure;

/// What a claim needs besides the slots.
pub struct Claim<'a> {
    /// The slot.
    pub slot: SlotIndex,
    /// The host, and the lock file that this process holds on it.
    pub host: Host,
    /// The client record's highest incarnation.
    pub record: Incarnation,
    /// The highest commit in any cell.
    pub highest: CommitNo,
    /// The own page's sequence.
    pub page_sequence: u64,
    /// Told what is waited for, and for how long.
    pub waiting: &'a dyn Fn(&str, Duration),
    /// Ends the old guardian and closes every gate that is left; true when every closing call returned well.
    pub close_gates: &'a mut dyn FnMut(Incarnation) -> bool,
    /// Asked between polls; true ends the claim.
    pub stop: &'a dyn Fn() -> bool,
}

/// Claims the slot.
///
/// # Errors
/// Another daemon, damage, a device that fails or is too slow, or being told to stop.
pub fn claim(parts: &mut Parts, volume: &ControlVolume, claim: Claim<'_>) -> Result<Claimed, Failure> {
    let timings = volume.superblock.timings;
    let clock = &*volume.machine;
    let mut machine = Logon::new(LogonRequest {
        slot: claim.slot,
        daemon_id: DaemonId(volume.machine.random()?),
        host: claim.host,
        record: claim.record,
        highest_number: claim.highest.epoch,
        // A time still to come was written before the last boot.
        unsettled: parts.doubts.unsettled().min(clock.now()),
        page_sequence: claim.page_sequence,
        gui: false,
        lease: timings.lease(),
        dead: timings.dead(),
        beat: timings.beat(),
        poll: timings.poll(),
        rules: volume.rules.lock,
    });
    let mut step = machine.begin();
    let mut told = false;
    loop {
        if (claim.stop)() {
            return Err(Failure::failed("no log-on", "told to stop", "start it again"));
        }
        step = match step {
            LogonStep::Poll => polled(parts, clock, &mut machine),
            LogonStep::WaitThenPoll(wait) => {
                if !told && wait >= timings.poll() {
                    told = true;
                    (claim.waiting)("the slot is being proven free", timings.dead() + claim_wait(timings.margin()));
                }
                clock.sleep(wait.min(timings.poll()));
                polled(parts, clock, &mut machine)
            }
            LogonStep::CloseOldGates(incarnation) => machine.gates_closed((claim.close_gates)(incarnation)),
            LogonStep::WriteSlot { sector, not_after } => {
                register(parts, volume, claim.slot, sector.incarnation)?;
                let begun = clock.now();
                let result = match parts.beater.claim(sector, not_after) {
                    Written::Stable => WriteResult::Stable,
                    Written::Unknown => WriteResult::Unknown,
                    Written::NotAllowed => WriteResult::Failed,
                };
                machine.slot_written(result, begun, clock.now())
            }
            LogonStep::Claimed(claimed) => {
                expel_older(parts, claim.slot, claimed.sector.incarnation)?;
                return Ok(claimed);
            }
            LogonStep::Failed(why) => return Err(failure(&why)),
        };
    }
}

/// On a control volume of the kind `pr` nobody writes before it is registered, with a key that is fresh at each login.
fn register(parts: &mut Parts, volume: &ControlVolume, slot: SlotIndex, to: Incarnation) -> Result<(), Failure> {
    let done = parts.membership.as_ref().is_some_and(|(incarnation, _)| *incarnation == to);
    if volume.superblock.lock == LockKind::Pr && !done {
        parts.membership = Some((to, Membership::join(volume, slot, to)?));
    }
    Ok(())
}

/// The claim stands: keys that earlier logins of this slot left elsewhere go.
fn expel_older(parts: &Parts, slot: SlotIndex, than: Incarnation) -> Result<(), Failure> {
    let Some((_, membership)) = &parts.membership else { return Ok(()) };
    membership.expel(&[(slot, Incarnation(than.0 - 1))]).map_err(|e| {
        let why = format!("an earlier login of this client may still write the control volume: {e}");
        Failure::failed("no log-on", why, "try again; see the device's keys")
    })
}

fn polled(parts: &mut Parts, clock: &dyn Machine, machine: &mut Logon) -> LogonStep {
    parts.view.read_slots();
    machine.polled(parts.view.decoder.poll(), &parts.view.watch, clock.now())
}

fn failure(why: &LogonError) -> Failure {
    let what = "no log-on";
    match why {
        LogonError::AnotherDaemon(_) => {
            Failure::busy(what, why.to_string(), "each client runs once; see which host has its name: `volctl dump`")
        }
        LogonError::HeaderDamaged | LogonError::Exhausted => {
            Failure::damaged(what, why.to_string(), "run `volctl check CONTROL`")
        }
        _ => Failure::failed(what, why.to_string(), "try again; look at the control volume's device"),
    }
}
