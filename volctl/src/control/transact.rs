//! A change of the tables: enter the semaphore, look at everything once more, commit, leave (sections 4 and 5).

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lockdriver::lease::LeaseEnd;
use lockdriver::semaphore::{self, LockError, OfdOp, OfdResult, Semaphore, Step, Tenure, WriteResult};
use lockdriver::transaction::{self, Change, Commit, CommitError, CommitStep, IoResult};
use ondisk::CommitNo;

use super::beater::Written;
use super::open::read;
use super::session::Session;
use super::view::View;
use crate::engine::ops::Actor;
use crate::engine::{OpDone, World};
use crate::wire::outcome::Failure;

/// A client that waits for the semaphore longer than this many death times gives up, and says who holds it.
const PATIENCE: u32 = 20;

/// Sees the world as it is under the semaphore, and gives the change, or None.
pub type Decide<'d> = dyn FnMut(Actor, &World<'_>) -> Result<Option<Change>, Failure> + 'd;

/// What came of a tenure, with the last commit that it made.
type Marked<T> = (Option<CommitNo>, T);

impl Session {
    /// Runs one transaction. `decide` sees the world as it is under the semaphore, and gives the change, or None.
    ///
    /// # Errors
    /// What `decide` refused; a damaged table; a login that is over.
    pub fn transact(&self, decide: &mut Decide<'_>) -> Result<OpDone, Failure> {
        self.transact_unless(&|| false, decide)
    }

    /// As [`Self::transact`]; gives up waiting for the semaphore once `stop` says so.
    ///
    /// # Errors
    /// As for [`Self::transact`], and being told to stop.
    pub fn transact_unless(&self, stop: &dyn Fn() -> bool, decide: &mut Decide<'_>) -> Result<OpDone, Failure> {
        self.in_tenure(stop, |semaphore, tenure| self.inside(semaphore, tenure, decide))
    }

    /// Enters the semaphore, runs `inside`, and leaves with the commit that it made as the mark in the own slot.
    pub(super) fn in_tenure<T>(
        &self,
        stop: &dyn Fn() -> bool,
        inside: impl FnOnce(&mut dyn Semaphore, &Tenure) -> Result<Marked<T>, Inside>,
    ) -> Result<T, Failure> {
        let mut semaphore = self.lock(&self.semaphore);
        let tenure = self.enter(&mut **semaphore, stop)?;
        self.beater.tenure(Some(self.now()));
        let done = inside(&mut **semaphore, &tenure);
        let done = self.undoubted(&mut **semaphore).and(done);
        let ended = done.as_ref().err().is_some_and(|e| e.ends);
        let mark = done.as_ref().ok().and_then(|d| d.0);
        if ended {
            // Nothing is released: the incarnation ends, and others wait for the death time.
            self.end(LeaseEnd::RanOut);
        } else {
            self.leave(&mut **semaphore, mark)?;
        }
        self.beater.tenure(None);
        done.map(|d| d.1).map_err(|e| e.failure)
    }

    fn enter(&self, machine: &mut dyn Semaphore, stop: &dyn Fn() -> bool) -> Result<Tenure, Failure> {
        let patience = self.volume.superblock.timings.dead() * PATIENCE;
        let stopped = || stop() || self.closing.load(Ordering::SeqCst);
        if stopped() {
            return Err(told_to_stop());
        }
        let begun = self.now();
        let give_up = || stopped() || self.now().saturating_sub(begun) > patience;
        self.await_unreadable(&give_up);
        let mut step = machine.begin(self.now());
        loop {
            if !self.is_live() {
                return Err(self.why_ended());
            }
            if let Some(over) = self.tell_of_beats(machine) {
                step = over;
            }
            step = match step {
                Step::Entered(tenure) => return Ok(tenure),
                Step::Failed(why) => return Err(self.lock_failure(&why)),
                Step::Left if stopped() => return Err(told_to_stop()),
                Step::Left => return Err(self.impatient(patience)),
                Step::WaitThenPoll(_) if give_up() => machine.abandon(),
                other => self.carry_out(machine, other, None),
            };
        }
    }

    /// Waits for what would keep this client from drawing a ticket, as far as the last poll showed it, before it announces that
    /// it draws: from then on everybody waits for it.
    fn await_unreadable(&self, give_up: &dyn Fn() -> bool) {
        let me = self.me.slot;
        let stops = |view: &View| {
            let rule = self.volume.rules.lock.unknown_stops_draw;
            rule && semaphore::stops_drawing(view.decoder.poll(), &view.watch, me)
        };
        let mut waits = stops(&self.view());
        while waits && self.is_live() && !give_up() {
            self.volume.machine.sleep(semaphore::WAITING_POLL);
            waits = self.poll_slots(stops);
        }
    }

    /// A write of the own slot whose result is unknown may still land over a later one (trace A5): the semaphore hears of
    /// each, also of those between two acquisitions.
    fn tell_of_beats(&self, machine: &mut dyn Semaphore) -> Option<Step> {
        let failed = self.beater.failed_beats();
        if self.beats_told.swap(failed, Ordering::SeqCst) == failed || !self.volume.rules.beats_are_told {
            return None;
        }
        machine.beat_unknown(self.now())
    }

    /// Inside, doubt about the own slot ends the incarnation: before each commit, and before anything is released.
    fn undoubted(&self, machine: &mut dyn Semaphore) -> Result<(), Inside> {
        match self.tell_of_beats(machine) {
            Some(Step::Failed(why)) => Err(Inside { ends: why.ends_incarnation(), failure: self.lock_failure(&why) }),
            _ => Ok(()),
        }
    }

    fn carry_out(&self, machine: &mut dyn Semaphore, step: Step, mark: Option<CommitNo>) -> Step {
        match step {
            Step::WriteSlot { fields, durable } => {
                let keeps_mark = self.volume.rules.mark;
                let written = self.beater.semaphore_slot(durable, move |s| {
                    fields.put(s);
                    if let Some(mark) = mark.filter(|_| keeps_mark) {
                        s.acknowledged = s.acknowledged.max(mark);
                    }
                });
                machine.slot_written(result_of(written), self.now())
            }
            Step::Poll => self.polled(machine),
            Step::WaitThenPoll(wait) => {
                self.volume.machine.sleep(wait);
                self.polled(machine)
            }
            Step::Ofd(op) => {
                let result = self.ofd(op);
                machine.ofd_done(result, self.now())
            }
            Step::Word(op) => {
                let result = self.exchange(op);
                machine.word_done(result, self.now())
            }
            Step::Key => {
                let result = self.registration();
                machine.ofd_done(result, self.now())
            }
            over @ (Step::Entered(_) | Step::Left | Step::Failed(_)) => over,
        }
    }

    fn polled(&self, machine: &mut dyn Semaphore) -> Step {
        self.poll_slots(|view| machine.polled(view.decoder.poll(), &view.watch, self.now()))
    }

    fn leave(&self, machine: &mut dyn Semaphore, mark: Option<CommitNo>) -> Result<(), Failure> {
        let mut step = machine.release();
        loop {
            step = match step {
                Step::Left => return Ok(()),
                Step::Failed(why) => return Err(self.lock_failure(&why)),
                _ if !self.is_live() => return Err(self.why_ended()),
                other => self.carry_out(machine, other, mark),
            };
        }
    }

    fn inside(
        &self,
        machine: &mut dyn Semaphore,
        tenure: &Tenure,
        decide: &mut Decide<'_>,
    ) -> Result<Marked<OpDone>, Inside> {
        let mut commits = transaction::Tenure::new(tenure.epoch.0, self.me.slot, self.me.incarnation);
        let mut mark = None;
        self.look_again(tenure)?;
        if !tenure.reap.is_empty() {
            let change = Change { reaped: tenure.reap.clone(), ..Change::default() };
            let commit = self.commit(machine, commits, change)?;
            commits = commits.after(commit);
            mark = Some(commit);
            self.look_again(tenure)?;
        }
        let actor = Actor { slot: self.me.slot, incarnation: self.me.incarnation, epoch: tenure.epoch.0 };
        let decided = {
            let view = self.view();
            let world = view.world().ok_or_else(|| self.why_ended())?;
            decide(actor, &world)
        };
        match decided {
            Ok(Some(change)) => {
                let commit = self.commit(machine, commits, change)?;
                Ok((Some(commit), OpDone::Committed { epoch: tenure.epoch.0 }))
            }
            Ok(None) => Ok((mark, OpDone::Nothing)),
            // The reaping stands although the change was refused; its mark is merely carried by a later release.
            Err(failure) => Err(Inside { failure, ends: false }),
        }
    }

    /// The first act inside: the header, and everything that changed since.
    fn look_again(&self, tenure: &Tenure) -> Result<(), Inside> {
        if !self.volume.rules.look_again {
            return Ok(());
        }
        self.admitted(tenure)?;
        let mut view = self.view();
        view.load_tables()?;
        view.read_pages(Some(self.me.slot));
        Ok(())
    }

    /// Whoever finds itself reaped, or overtaken, leaves without writing.
    pub(super) fn admitted(&self, tenure: &Tenure) -> Result<(), Inside> {
        let admitted = self.poll_slots(|view| match view.decoder.poll().header() {
            Some(header) => tenure.admits(&header.content),
            None => Err(LockError::HeaderDamaged),
        });
        admitted.map_err(|why| Inside { ends: why.ends_incarnation(), failure: self.lock_failure(&why) })
    }

    /// Is the semaphore still ours, as far as its kind can tell?
    pub(super) fn retest(&self, machine: &mut dyn Semaphore) -> Result<(), Inside> {
        self.undoubted(machine)?;
        let Some(retest) = machine.before_commit() else { return Ok(()) };
        let result = self.still_ours(retest);
        machine
            .retested(result)
            .map_err(|why| Inside { ends: why.ends_incarnation(), failure: self.lock_failure(&why) })
    }

    fn commit(
        &self,
        machine: &mut dyn Semaphore,
        tenure: transaction::Tenure,
        change: Change,
    ) -> Result<CommitNo, Inside> {
        self.retest(machine)?;
        self.expel(&change.reaped)?;
        let base = self.view().tables().map(|t| (**t).clone()).ok_or_else(|| self.why_ended())?;
        let mut commit = Commit::with_rules(&self.volume.geometry, self.volume.rules.commit, tenure, base, change);
        loop {
            let result = match commit.step() {
                CommitStep::Read { offset, len } => {
                    read(&*self.volume.device, offset, len).map_or(IoResult::Failed, IoResult::Bytes)
                }
                CommitStep::Write { offset, bytes, fua } => self.io(self.beater.block(offset, &bytes, fua))?,
                CommitStep::Flush => self.io(self.beater.flush())?,
                CommitStep::Committed { commit, tables } => {
                    self.view().set_tables(tables);
                    return Ok(commit);
                }
                CommitStep::Failed(why) => return Err(self.commit_failure(&why)),
            };
            commit.done(result);
        }
    }

    fn io(&self, written: Written) -> Result<IoResult, Inside> {
        match written {
            Written::Stable => Ok(IoResult::Done),
            Written::Unknown => Ok(IoResult::Failed),
            Written::NotAllowed => Err(Inside { failure: self.why_ended(), ends: true }),
        }
    }

    pub(super) fn ofd(&self, op: OfdOp) -> OfdResult {
        let mut file = self.lock(&self.ofd);
        if file.is_none() {
            *file = std::fs::OpenOptions::new().read(true).write(true).open(&self.volume.path).ok();
        }
        let Some(file) = file.as_ref() else { return OfdResult::Failed };
        lockdriver::sys::ofd::operate(file.as_fd(), op)
    }

    fn lock_failure(&self, why: &LockError) -> Failure {
        if why.ends_incarnation() {
            let end = match why {
                LockError::Reaped => LeaseEnd::Reaped,
                LockError::AnotherDaemon(_) => LeaseEnd::AnotherDaemon,
                _ => LeaseEnd::RanOut,
            };
            self.end(end);
        }
        let what = "the tables cannot be changed";
        match why {
            LockError::HeaderDamaged | LockError::TicketsExhausted => {
                Failure::damaged(what, why.to_string(), "run `volctl check CONTROL`")
            }
            _ => Failure::failed(what, why.to_string(), "try again; `volctl status` shows the state"),
        }
    }

    fn commit_failure(&self, why: &CommitError) -> Inside {
        let what = "the tables were not changed";
        let failure = match why {
            CommitError::Damaged(_) => Failure::damaged(what, why.to_string(), "run `volctl check CONTROL`"),
            _ => Failure::failed(what, why.to_string(), "try again; look at the control volume's device"),
        };
        Inside { failure, ends: why.ends_incarnation() }
    }

    fn impatient(&self, patience: Duration) -> Failure {
        Failure::timed_out(
            "the tables could not be changed",
            format!("the semaphore was not free within {} s", patience.as_secs()),
            "see `volctl status --json` for its holder",
        )
    }
}

fn told_to_stop() -> Failure {
    Failure::failed("the tables were not changed", "the daemon logs off", "start it again, then try again")
}

/// What went wrong inside the semaphore.
pub(super) struct Inside {
    pub(super) failure: Failure,
    /// Nothing may be released.
    pub(super) ends: bool,
}

impl From<Failure> for Inside {
    fn from(failure: Failure) -> Self {
        Self { failure, ends: false }
    }
}

fn result_of(written: Written) -> WriteResult {
    match written {
        Written::Stable => WriteResult::Stable,
        Written::Unknown => WriteResult::Unknown,
        Written::NotAllowed => WriteResult::Failed,
    }
}
