//! What each event does: the driver, the transactions' thread, and what goes wrong.

use std::sync::Arc;

use ondisk::{CommitNo, Incarnation};
use volctl::engine::ops::{self, Actor};
use volctl::engine::{Effect, Engine, Job, JobDone, OpDone, OpTag, Reply, TableOp};
use volctl::wire::outcome::Failure;

use super::act::Action;
use super::client::{Client, Flight, HashedChange, Life, Running, index};
use super::engines::VOLUME;
use super::{CLIENTS, State, Studio};

impl Studio {
    pub(super) fn act(&self, state: &mut State, action: Action) {
        match action {
            Action::Poll(c) => self.poll(state, c),
            Action::PollPages(c) => self.poll_pages(state, c),
            Action::PageWritten(c) => {
                state.page_written(c);
                if !self.case.fine {
                    self.slot_written(state, c);
                }
            }
            Action::SlotWritten(c) => self.slot_written(state, c),
            Action::JobEnds(c) => self.job_ends(state, c),
            Action::Look(c) => self.look_inside(state, c),
            Action::Commit(c) => self.commit(state, c),
            Action::Run(c, place) => self.run(state, c, place),
            Action::Leave(c) => {
                state.left.leaves -= 1;
                self.tell(state, c, |engine, client| engine.leave(false, &client.view.world()));
            }
            Action::LogOff(c) => state.log_off(c),
            Action::Kill(c) => {
                state.left.kills -= 1;
                state.end(c, true);
            }
            Action::Guardian(c) => state.kernel.close(c, state.now),
            Action::Lapse(c) => {
                state.left.lapses -= 1;
                state.end(c, false);
                state.kernel.close(c, state.now);
            }
            Action::Start(c) => state.start(c),
            Action::LogOn(c) => self.log_on(state, c),
            Action::Jump => state.jump(),
        }
    }

    /// Gives the engine something, and carries out what it says up to the next page.
    pub(super) fn tell(&self, state: &mut State, c: usize, tell: impl FnOnce(&mut Engine, &Client) -> Vec<Effect>) {
        let client = Arc::make_mut(&mut state.clients[c]);
        let Some(mut engine) = client.engine.take() else { return };
        let effects = tell(&mut engine, client);
        client.engine = Some(engine);
        // However many wait for one request, they are told of one no.
        let told = |e: &Effect| matches!(e, Effect::Reply(_, Reply::Failed(f)) if f.why.contains(" said no"));
        let said =
            |e: &Effect| matches!(e, Effect::Reply(_, Reply::Done { text, .. }) if text.starts_with("answered "));
        state.noes += i8::from(effects.iter().any(told)) - i8::from(effects.iter().any(said));
        client.waiting.extend(effects);
        state.look_at_noes();
        self.carry_out(state, c);
    }

    fn carry_out(&self, state: &mut State, c: usize) {
        loop {
            let client = Arc::make_mut(&mut state.clients[c]);
            if client.flight.is_some() {
                return;
            }
            let Some(effect) = client.waiting.pop_front() else { return };
            match effect {
                Effect::Page => {
                    let Some(engine) = &client.engine else { return };
                    let mut page = engine.page().clone();
                    (page.polls, page.refreshes) = (0, 0);
                    let flight = Flight { page: Arc::new(page), version: engine.page_version(), landed: false };
                    client.flight = Some(flight);
                }
                Effect::Table { tag, op } => client.ops.push_back((tag, op)),
                Effect::Job { job, .. } => self.begin_job(state, c, job),
                Effect::Reply(..) | Effect::Fact(_) | Effect::AskHook(_) => {}
            }
        }
    }

    fn begin_job(&self, state: &mut State, c: usize, job: Job) {
        state.kernel.begin(c, &job);
        let at_once =
            matches!(job, Job::Measure | Job::Probe { .. } | Job::Retire | Job::Publish { .. } | Job::Delete { .. });
        if at_once {
            let done = state.kernel.end(c, &job);
            self.job_done(state, c, done);
        } else {
            Arc::make_mut(&mut state.clients[c]).job = Some(job);
        }
    }

    fn job_ends(&self, state: &mut State, c: usize) {
        let Some(job) = Arc::make_mut(&mut state.clients[c]).job.take() else { return };
        let done = state.kernel.end(c, &job);
        self.job_done(state, c, done);
    }

    fn job_done(&self, state: &mut State, c: usize, done: JobDone) {
        self.tell(state, c, |engine, client| engine.job_done(VOLUME, done, &client.view.world()));
    }

    fn slot_written(&self, state: &mut State, c: usize) {
        let Some((number, _)) = state.pages[c] else { return };
        state.slots[c].page = number;
        state.slots[c].beat = state.now;
        let client = Arc::make_mut(&mut state.clients[c]);
        if let Some(flight) = client.flight.take() {
            client.on_disk = flight.version;
        }
        self.carry_out(state, c);
    }

    /// The semaphore is free: in, a look at everything, and a decision.
    fn look_inside(&self, state: &mut State, c: usize) {
        state.see(c);
        let epoch = state.tables.header.commit.epoch + 1;
        let incarnation = state.slots[c].incarnation;
        let client = Arc::make_mut(&mut state.clients[c]);
        let Some((tag, op)) = client.ops.pop_front() else { return };
        let actor = Actor { slot: index(c), incarnation, epoch };
        match ops::apply_with(self.switches, &op, actor, &client.view.world()) {
            Ok(Some(change)) => {
                client.running = Some(Running { tag, op, change: HashedChange(change) });
                state.semaphore = Some(c);
            }
            Ok(None) => self.op_done(state, c, tag, Ok(OpDone::Nothing)),
            Err(failure) => self.op_done(state, c, tag, Err(failure)),
        }
    }

    fn commit(&self, state: &mut State, c: usize) {
        let Some(running) = Arc::make_mut(&mut state.clients[c]).running.take() else { return };
        let Running { tag, op, change } = running;
        state.look_at_grant(c, &op);
        state.look_at_reaping(&change.0);
        if let TableOp::Hold { epoch, .. } = &op {
            state.kernel.may_write(*epoch);
        }
        let epoch = state.put(change.0);
        state.look_at_table();
        state.semaphore = None;
        Arc::make_mut(&mut state.clients[c]).view.tables = Arc::clone(&state.tables);
        self.op_done(state, c, tag, Ok(OpDone::Committed { epoch }));
    }

    fn op_done(&self, state: &mut State, c: usize, tag: OpTag, done: Result<OpDone, Failure>) {
        self.tell(state, c, |engine, client| engine.table_done(tag, done, &client.view.world()));
    }

    fn log_on(&self, state: &mut State, c: usize) {
        let Life::LoggingOn(first_way) = state.clients[c].life else { return };
        state.see(c);
        let op = TableOp::LogOn { host: ondisk::Label::default(), first_way };
        let epoch = state.tables.header.commit.epoch + 1;
        let actor = Actor { slot: index(c), incarnation: state.slots[c].incarnation, epoch };
        let decided = ops::apply_with(self.switches, &op, actor, &state.clients[c].view.world());
        let Ok(Some(change)) = decided else { return };
        state.put(change);
        state.look_at_table();
        self.start_engine(state, c);
    }
}

impl State {
    fn page_written(&mut self, c: usize) {
        let number = 1 + self.pages[c].as_ref().map_or(0, |p| p.0);
        let client = Arc::make_mut(&mut self.clients[c]);
        if let Some(flight) = &mut client.flight {
            flight.landed = true;
            self.pages[c] = Some((number, Arc::clone(&flight.page)));
        }
    }

    /// Puts a change into the tables, as the next commit.
    fn put(&mut self, change: lockdriver::transaction::Change) -> u64 {
        let tables = Arc::make_mut(&mut self.tables);
        let epoch = tables.header.commit.epoch + 1;
        for (slot, incarnation) in &change.reaped {
            let old = &mut tables.header.reaped[slot.index()];
            *old = (*old).max(*incarnation);
        }
        for (slot, record) in change.clients {
            tables.clients[slot.index()] = record;
        }
        for (volume, table) in change.volumes {
            tables.volumes[volume.index()] = table;
        }
        tables.header.commit = CommitNo { epoch, count: 1 };
        epoch
    }

    fn log_off(&mut self, c: usize) {
        if self.kernel.has_open(c) {
            self.harm = Some("one logs off with open gates");
        }
        self.slots[c].logged_on = false;
        self.slots[c].beat = self.now;
        Arc::make_mut(&mut self.clients[c]).forget(Life::Off);
    }

    /// Its daemon is gone. The semaphore is passed by whoever wants in next.
    pub(super) fn end(&mut self, c: usize, killed: bool) {
        Arc::make_mut(&mut self.clients[c]).forget(Life::Gone(killed));
        if self.semaphore == Some(c) {
            self.semaphore = None;
        }
    }

    /// A new daemon has claimed the slot: on the same host, where it closes what is left; or elsewhere.
    fn start(&mut self, c: usize) {
        self.left.restarts -= 1;
        let first_way = self.clients[c].life == Life::Gone(true);
        if first_way {
            self.kernel.close_drained(c);
        }
        let slot = &mut self.slots[c];
        slot.incarnation = Incarnation(slot.incarnation.0 + if first_way { 2 } else { 1 });
        slot.logged_on = true;
        slot.beat = self.now;
        Arc::make_mut(&mut self.clients[c]).life = Life::LoggingOn(first_way);
    }

    /// Every clock moves on. Whoever lives has beaten; whose beats extend nothing, or who is gone, has its gates closed.
    fn jump(&mut self) {
        self.left.jumps -= 1;
        let closed_by = self.now + super::DEAD;
        self.now += super::JUMP;
        for c in 0..CLIENTS {
            // A tenure that is longer than the lease ends the login, as does a reaping or a revocation.
            if self.clients[c].is_up() && (self.semaphore == Some(c) || self.is_unconfirmed(c)) {
                self.end(c, false);
            }
            match self.clients[c].life {
                Life::Up | Life::LoggingOn(_) => self.slots[c].beat = self.now,
                Life::Gone(_) => self.kernel.close(c, closed_by),
                Life::Off => {}
            }
        }
        self.kernel.scribble();
        self.kernel.forget_late(self.now);
    }
}
