//! Repairing a control volume from inside: `check --repair` under the semaphore (section 11).

use std::time::Duration;

use lockdriver::check::{RepairError, RepairOptions, RepairPlan, Report, Write, check, repair};
use lockdriver::poll::{Poll, Token};
use lockdriver::semaphore::{Semaphore, Tenure};
use ondisk::{CommitNo, SlotIndex};

use super::beater::Written;
use super::open::{ControlVolume, read};
use super::session::Session;
use super::source::Source;
use super::transact::Inside;
use crate::wire::outcome::Failure;

type Tokens = Vec<[Option<Token>; 2]>;

/// Slots whose sectors all own reads saw unchanged, or unreadable, for the death time.
#[derive(Debug, Default)]
pub struct Stillness {
    tokens: Tokens,
    moved: Vec<bool>,
}

impl Stillness {
    fn observe(&mut self, poll: &Poll) {
        if poll.failed() {
            // Such a poll proves nothing: nobody counts as still.
            self.moved.fill(true);
            return;
        }
        let seen: Tokens = poll.slots.iter().map(|r| [r.sectors[0].token(), r.sectors[1].token()]).collect();
        if self.tokens.is_empty() {
            self.moved = vec![false; seen.len()];
            self.tokens = seen;
            return;
        }
        for ((was, is), moved) in self.tokens.iter().zip(&seen).zip(&mut self.moved) {
            *moved |= was != is;
        }
    }

    fn slots(&self) -> Vec<SlotIndex> {
        (0..).map(SlotIndex).zip(&self.moved).filter(|(_, moved)| !**moved).map(|(slot, _)| slot).collect()
    }
}

impl Session {
    /// Watches all slots for the death time.
    ///
    /// # Errors
    /// When the login is over before.
    pub fn watch_still(&self) -> Result<Stillness, Failure> {
        let timings = self.volume.superblock.timings;
        let mut still = Stillness::default();
        let mut first = None;
        loop {
            let done = self.poll_slots(|view| {
                let poll = view.decoder.poll();
                still.observe(poll);
                let first: &mut Duration = first.get_or_insert(poll.ended);
                poll.begun.saturating_sub(*first) >= timings.dead()
            });
            if !self.is_live() {
                return Err(self.why_ended());
            }
            if done {
                return Ok(still);
            }
            self.volume.machine.sleep(timings.poll());
        }
    }

    /// Checks and repairs inside one tenure of the semaphore. `still` names the slots that may be written.
    ///
    /// # Errors
    /// When nothing may be written at all, the device fails, or the login is over.
    pub fn repair(&self, mut still: Stillness, accept_loss: bool) -> Result<(Report, RepairPlan), Failure> {
        self.in_tenure(&|| false, |semaphore, tenure| {
            self.admitted(tenure)?;
            self.poll_slots(|view| still.observe(view.decoder.poll()));
            let report = check(&Source(&*self.volume.device));
            // Reading a large volume takes its time; nothing hangs.
            self.beater.tenure(Some(self.now()));
            let options = RepairOptions {
                commit: CommitNo { epoch: tenure.epoch.0, count: 1 },
                accept_loss,
                still: still.slots(),
                passed: tenure.reap.clone(),
            };
            let plan = repair(&report, &options).map_err(|why| refused(&self.volume, &why))?;
            self.carry_out_plan(semaphore, tenure, &plan.writes)?;
            Ok((plan.commit, (report, plan)))
        })
    }

    fn carry_out_plan(&self, semaphore: &mut dyn Semaphore, tenure: &Tenure, writes: &[Write]) -> Result<(), Inside> {
        if !writes.is_empty() {
            // The lock may be of a kind that can be lost; and others may have judged this login dead meanwhile.
            self.retest(semaphore)?;
            self.admitted(tenure)?;
            self.expel(&tenure.reap)?;
        }
        for write in writes {
            let known = match self.beater.block(write.offset, &write.bytes, true) {
                Written::Stable => true,
                Written::NotAllowed => return Err(Inside { failure: self.why_ended(), ends: true }),
                Written::Unknown => {
                    read(&*self.volume.device, write.offset, write.bytes.len()).is_ok_and(|b| b == write.bytes)
                }
            };
            if !known {
                let failure = Failure::failed(
                    format!("{} was not repaired", write.block),
                    "writing it gave an error, and reading it back did not show it",
                    "look at the control volume's device; what was repaired before stands",
                );
                return Err(Inside { failure, ends: true });
            }
        }
        Ok(())
    }
}

fn refused(volume: &ControlVolume, why: &RepairError) -> Failure {
    let what = format!("{} was not repaired", volume.path.display());
    match why {
        RepairError::ReadOnly => Failure::failed(what, why.to_string(), "use that version"),
        _ => {
            Failure::damaged(what, why.to_string(), "see `volctl dump CONTROL`; `volctl init --force` makes new tables")
        }
    }
}
