//! The loop of one login: polls, commands, finished jobs and transactions in; the engine's effects out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded, never, unbounded};
use crossbeam::select;
use lockdriver::guardian::Event;
use lockdriver::lease::LeaseEnd;
use lockdriver::sys::clock::boottime;

use super::calls::{self, Callers};
use super::config::Config;
use super::fences::Fences;
use super::jobs::{Finished, Spec};
use super::login::{Login, Place};
use super::notify::Watchdog;
use super::pace::Pace;
use super::services::Services;
use super::socket::Incoming;
use crate::engine::status::Surroundings;
use crate::engine::{Command, Effect, Job, JobDone, OpDone, OpTag, TableOp, World, ops};
use crate::wire::event::EventName;
use crate::wire::outcome::{ExitCode, Failure};
use crate::wire::status::{ControlStatus, SemaphoreStatus, Status, Warning};

/// What the process is told from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// End in order.
    End,
    /// End now.
    EndNow,
}

/// How a login ended.
#[derive(Debug)]
pub enum Ended {
    /// In order; the slot is left.
    LoggedOff,
    /// The lease is over, or something that only a new login mends.
    Lost {
        /// Why.
        why: Failure,
        /// It was told to end: there is to be no new login.
        leaving: bool,
    },
}

/// Between two statuses for those who watch, while nothing changes but ages. The status of many clients and volumes is
/// large: whoever keeps a window open all day pays for each one.
const SHOW: Duration = Duration::from_secs(1);

type OpOutcome = (OpTag, Result<OpDone, Failure>);

/// One login at work.
pub struct Driver<'a> {
    login: Login,
    place: &'a Place,
    config: &'a Config,
    services: &'a Services,
    callers: Callers,
    waiting: VecDeque<Effect>,
    jobs: Sender<Finished>,
    jobs_done: Receiver<Finished>,
    jobs_running: usize,
    specs: BTreeMap<ondisk::Uuid, Spec>,
    ops: Sender<(OpTag, TableOp)>,
    ops_done: Receiver<OpOutcome>,
    hook_answers: (Sender<Command>, Receiver<Command>),
    next_poll: Instant,
    pace: Pace,
    /// Something was done since the last poll.
    acted: bool,
    next_show: Instant,
    /// Of what the last shown status knew.
    shown_changes: u64,
    warned: bool,
    control_trouble: Option<Failure>,
    /// Half of the lease has run, and people were told.
    lease_low: bool,
    watchdog: Watchdog,
    /// An orderly stop has begun in the guardian: even if the lease comes back, the writers are read-only now.
    ends_at: Option<Duration>,
    leaving: bool,
    /// Told to end now: by then it does, in order or not.
    leaves_by: Option<Instant>,
    guardian_gone: bool,
    fences: Fences,
}

impl<'a> Driver<'a> {
    /// Takes a login over.
    ///
    /// # Errors
    /// When no thread can be made.
    pub fn new(login: Login, place: &'a Place, config: &'a Config, services: &'a Services) -> Result<Self, Failure> {
        let (jobs, jobs_done) = unbounded();
        let (ops, inbox) = bounded::<(OpTag, TableOp)>(1024);
        let (report, ops_done) = unbounded();
        let session = Arc::clone(&login.session);
        let pace = Pace::new(session.volume.superblock.timings.poll());
        let switches = login.engine.switches();
        let work = move || {
            for (tag, op) in inbox {
                let done = session.transact(&mut |actor, world| ops::apply_with(switches, &op, actor, world));
                if report.send((tag, done)).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("tables".into())
            .spawn(work)
            .map_err(|e| Failure::failed("the daemon cannot start", e.to_string(), "look at the system's limits"))?;
        Ok(Self {
            login,
            place,
            config,
            services,
            callers: Callers::default(),
            waiting: VecDeque::new(),
            jobs,
            jobs_done,
            jobs_running: 0,
            specs: BTreeMap::new(),
            ops,
            ops_done,
            hook_answers: bounded(64),
            next_poll: Instant::now(),
            pace,
            acted: false,
            next_show: Instant::now(),
            shown_changes: 0,
            warned: false,
            control_trouble: None,
            lease_low: false,
            watchdog: Watchdog::new(services.notifier),
            ends_at: None,
            leaving: false,
            leaves_by: None,
            guardian_gone: false,
            fences: Fences::default(),
        })
    }

    /// Runs until the login is over.
    pub fn run(mut self, calls: &Receiver<Incoming>, told: &Receiver<Told>) -> Ended {
        let events = self.login.shop.guardian.as_ref().map_or_else(never, |g| g.events().clone());
        let jobs_done = self.jobs_done.clone();
        let ops_done = self.ops_done.clone();
        let answers = self.hook_answers.1.clone();
        let mut polled = false;
        loop {
            if !self.login.session.is_live() {
                let why = self.login.session.why_ended();
                return self.lost(why);
            }
            if self.leaves_by.is_some_and(|t| Instant::now() >= t) {
                self.login.session.end(LeaseEnd::RanOut);
                continue;
            }
            if self.login.engine.has_left() && self.waiting.is_empty() && self.jobs_running == 0 {
                return self.log_off();
            }
            let wait = self.next_poll.saturating_duration_since(Instant::now());
            // Callers without end must not hold up the polls, by which the lease lives; nor slow polls the callers.
            if wait.is_zero() && !std::mem::replace(&mut polled, true) {
                self.poll();
                self.carry_out();
                continue;
            }
            polled = false;
            select! {
                recv(calls) -> call => if let Ok(call) = call { self.call(call) },
                recv(told) -> word => self.leave(word.unwrap_or(Told::EndNow)),
                recv(jobs_done) -> done => if let Ok(done) = done { self.job_done(done) },
                recv(ops_done) -> done => if let Ok((tag, done)) = done { self.op_done(tag, done) },
                recv(answers) -> command => if let Ok(command) = command { self.hook_answered(command) },
                recv(events) -> event => self.guardian_says(&event.unwrap_or(Event::Gone)),
                default(wait) => self.poll(),
            }
            self.carry_out();
        }
    }

    fn poll(&mut self) {
        let session = Arc::clone(&self.login.session);
        let engine = &mut self.login.engine;
        session.beater.engine_ticked(boottime());
        let idle = self.waiting.is_empty();
        let polled = session.poll(|world| if idle { engine.step(world) } else { Vec::new() });
        match polled {
            Ok(effects) => {
                self.waiting.extend(effects);
                // While a page cannot be written, reads that work are no reason to say that all is well.
                if idle {
                    self.control_back();
                }
            }
            Err(failure) => self.control_failed(failure),
        }
        self.look_at_guardian();
        self.look_at_lease();
        self.fences.go_on(&mut self.login, self.config);
        let wanted = self.login.engine.next_poll();
        let acted = std::mem::take(&mut self.acted);
        let changes = self.login.session.changes();
        let changed = std::mem::replace(&mut self.shown_changes, changes) != changes;
        let next = self.pace.next(wanted, changes, acted, boottime());
        self.next_poll = Instant::now() + next;
        self.show(acted || changed);
    }

    /// Whoever watches sees what moves at once, and ages that grow now and then.
    fn show(&mut self, moved: bool) {
        let due = moved || Instant::now() >= self.next_show;
        if self.callers.has_monitors()
            && due
            && let Ok(status) = self.status()
        {
            self.next_show = Instant::now() + SHOW;
            self.callers.show(&status);
        }
    }

    fn control_failed(&mut self, failure: Failure) {
        if self.control_trouble.is_none() {
            let event =
                if failure.exit == ExitCode::Damaged { EventName::TableDamaged } else { EventName::ControlLost };
            tracing::error!(event = event.as_str(), why = %failure, "the control volume gives trouble");
            self.services.note_trouble(event, &failure);
        }
        self.control_trouble = Some(failure);
    }

    fn control_back(&mut self) {
        match self.control_trouble.take() {
            None => {}
            Some(f) if f.exit == ExitCode::Damaged => {
                self.services.note(EventName::TableRepaired, "what was damaged can be read again");
            }
            Some(_) => self.services.note(EventName::ControlBack, "the control volume works again"),
        }
    }

    /// At half of the lease people are warned (section 6); the service manager hears that the loop goes round.
    fn look_at_lease(&mut self) {
        let low = self.login.session.lease_left() < self.login.session.volume.superblock.timings.lease() / 2;
        if low && !self.lease_low {
            self.services.note(EventName::LeaseLow, "half of the lease went by without a confirmed beat");
        }
        self.lease_low = low;
        self.watchdog.tick();
    }

    fn look_at_guardian(&mut self) {
        if self.ends_at.is_some_and(|t| boottime() >= t) {
            self.leave_then_return();
        }
        let Some(guardian) = self.login.shop.guardian.as_ref() else { return };
        let lease = self.login.session.volume.superblock.timings.lease();
        guardian.deadline().tick_daemon(boottime());
        if !guardian.is_ticking(boottime(), lease) && !self.warned {
            self.warned = true;
            self.services.note(EventName::GuardianLost, "the guardian stands still: this client stops in order");
            self.leave_then_return();
        }
    }

    /// Without a guardian nothing may be open: the login ends, and a new one brings a new guardian.
    fn leave_then_return(&mut self) {
        self.login.session.end(LeaseEnd::RanOut);
    }

    fn guardian_says(&mut self, event: &Event) {
        match event {
            Event::OrderlyStop { .. } => {
                self.services
                    .note(EventName::LeaseLow, "three quarters of the lease are over: writers are being stopped");
                let lease = self.login.session.volume.superblock.timings.lease();
                self.ends_at.get_or_insert(boottime() + lease / 5);
            }
            Event::GateClosed { node, errno: None } => {
                self.services.note(EventName::Fenced, &format!("the gate {node} was closed"));
            }
            Event::GateClosed { node, errno: Some(errno) } => {
                self.services.note(EventName::Fenced, &format!("the gate {node} does not close: error {errno}"));
            }
            Event::GatesClosed => {}
            Event::Gone => {
                self.guardian_gone = true;
                self.leave_then_return();
                self.services.note(EventName::GuardianLost, "the guardian is gone: every gate is closed at once");
            }
        }
    }

    fn call(&mut self, call: Incoming) {
        if !call.call.acts() {
            return match self.status() {
                Ok(status) => self.callers.look(call, &status, &self.services.log),
                Err(failure) => call.reply.fail(failure),
            };
        }
        let session = Arc::clone(&self.login.session);
        let engine = &mut self.login.engine;
        if let Some((id, command)) = self.callers.command(call) {
            // The world must be fresh: what stood in the tables a poll ago may not be so any more.
            match session.poll(|world| engine.command(id, command, world)) {
                Ok(effects) => self.waiting.extend(effects),
                Err(failure) => self.callers.fail(id, failure),
            }
            self.remember();
            self.next_poll = Instant::now();
        }
    }

    fn hook_answered(&mut self, command: Command) {
        let id = self.callers.nobody();
        let session = Arc::clone(&self.login.session);
        let engine = &mut self.login.engine;
        if let Ok(effects) = session.poll(|world| engine.command(id, command, world)) {
            self.waiting.extend(effects);
        }
    }

    /// Begins to leave.
    pub fn leave(&mut self, word: Told) {
        self.services.notifier.stopping("logging off");
        self.leaving = true;
        if word == Told::EndNow {
            let margin = self.login.session.volume.superblock.timings.margin();
            self.leaves_by.get_or_insert_with(|| Instant::now() + margin);
        }
        let session = Arc::clone(&self.login.session);
        let engine = &mut self.login.engine;
        if let Ok(effects) = session.look(|world| engine.leave(word == Told::EndNow, world)) {
            self.waiting.extend(effects);
        }
        self.next_poll = Instant::now();
    }

    fn job_done(&mut self, finished: Finished) {
        self.jobs_running -= 1;
        if let JobDone::Lost(failure) = &finished.done {
            self.services.note_trouble(EventName::Fenced, failure);
            self.login.session.end(LeaseEnd::RanOut);
        }
        let session = Arc::clone(&self.login.session);
        let engine = &mut self.login.engine;
        if let Ok(effects) = session.look(|world| engine.job_done(finished.volume, finished.done, world)) {
            self.waiting.extend(effects);
        }
        self.next_poll = Instant::now();
    }

    fn op_done(&mut self, tag: OpTag, done: Result<OpDone, Failure>) {
        let session = Arc::clone(&self.login.session);
        let engine = &mut self.login.engine;
        if let Ok(effects) = session.look(|world| engine.table_done(tag, done, world)) {
            self.waiting.extend(effects);
        }
        self.next_poll = Instant::now();
    }

    /// Carries the effects out in their order. A page that cannot be written holds up everything behind it.
    fn carry_out(&mut self) {
        while let Some(effect) = self.waiting.pop_front() {
            self.acted |= acts(&effect);
            match effect {
                Effect::Page => {
                    let page = self.login.engine.page().clone();
                    let version = self.login.engine.page_version();
                    if let Err(failure) = self.login.session.write_page(page, version) {
                        self.control_failed(failure);
                        self.waiting.push_front(Effect::Page);
                        return;
                    }
                }
                Effect::Table { tag, op } => {
                    // The worker ends only with this driver.
                    let _ = self.ops.send((tag, op));
                }
                Effect::Job { volume, job } => self.start_job(volume, job),
                Effect::Reply(id, reply) => self.callers.reply(id, reply, self.config),
                Effect::Fact(fact) => self.services.happened(&fact, self.config),
                Effect::AskHook(fact) => self.services.ask(&fact, self.hook_answers.0.clone()),
            }
        }
    }

    fn start_job(&mut self, volume: ondisk::Uuid, job: Job) {
        let spec = self.login.session.look(|world| Self::spec(world, volume, self.config));
        if let Ok(Some(spec)) = spec {
            self.specs.insert(volume, spec);
        }
        self.jobs_running += 1;
        // A volume that was removed from the tables while it was mounted here still has to be closed.
        match self.specs.get(&volume).cloned() {
            Some(spec) => self.login.shop.start(spec, job, self.jobs.clone()),
            None => {
                let failure = Failure::failed("the volume is gone", "it was removed from the tables", "see status");
                let _ = self.jobs.send(Finished { volume, done: JobDone::Failed(failure) });
            }
        }
    }

    fn spec(world: &World<'_>, volume: ondisk::Uuid, config: &Config) -> Option<Spec> {
        world.table(volume).map(|t| Spec::of(t, &config.devices))
    }

    fn status(&self) -> Result<Arc<Status>, Failure> {
        let session = &self.login.session;
        let semaphore = session.semaphore_holder();
        session.look(|world| {
            let header = &world.tables.header;
            let superblock = &session.volume.superblock;
            let around = Surroundings {
                control: ControlStatus {
                    path: session.volume.path.display().to_string(),
                    uuid: superblock.uuid.to_string(),
                    epoch: header.commit.epoch,
                    lock: superblock.lock.word().to_owned(),
                    semaphore: semaphore
                        .map(|(slot, ticket)| SemaphoreStatus { client: world.name(slot), epoch: ticket.0 }),
                    lease_left_ms: u64::try_from(session.lease_left().as_millis()).unwrap_or(0),
                    label: Some(superblock.label.to_string()).filter(|l| !l.is_empty()),
                    timings: Some(superblock.timings.into()),
                },
                mount_root: self.config.mount_root.display().to_string(),
                warnings: self.warnings(world),
                advisory: self.login.shop.guardian.is_none().then(|| "gate = \"none\": nothing is gated here".into()),
                unbounded: self.login.shop.unbounded(),
                fenced: self.fences.fenced(),
            };
            Arc::new(self.login.engine.status(world, &around))
        })
    }

    fn warnings(&self, world: &World<'_>) -> Vec<Warning> {
        let control =
            self.control_trouble.iter().map(|f| Warning { code: "control".into(), text: f.to_string(), volume: None });
        let foreign = self.fences.warnings(|volume| world.table(volume).map(|t| t.name.to_string()));
        control.chain(self.services.log.warning()).chain(foreign).collect()
    }

    fn log_off(mut self) -> Ended {
        let off = self.login.session.log_off();
        self.callers.end(&calls::going_down());
        match off {
            Ok(()) => Ended::LoggedOff,
            Err(why) => Ended::Lost { why, leaving: true },
        }
    }

    fn lost(mut self, why: Failure) -> Ended {
        self.login.session.deadline.end();
        // The guardian closes every gate now. One that is gone or stands still does not, and no later moment would do: the
        // next login may be long in coming. Before anything else, which could hang or fail.
        let closed = if self.guardian_gone || self.warned { self.place.close_own() } else { Ok(()) };
        if self.login.session.ended() == Some(LeaseEnd::Reaped) {
            self.services.note(EventName::Reaped, "other clients judged this one dead");
        }
        self.services.note_trouble(EventName::LeaseLost, &why);
        self.services.fenced(&why);
        self.callers.end(&why);
        if let Err(failure) = closed {
            self.services.note_trouble(EventName::Fenced, &failure);
        }
        // A job under way holds the workshop for as long as it has gates and mounts in hand.
        Ended::Lost { why, leaving: self.leaving }
    }

    /// What the user took away stays away over a restart.
    fn remember(&self) {
        self.services.memory.keep(&self.login.engine.unmounted());
    }
}

/// What a volume needs now and then, or people are told, is not what somebody waits for.
fn acts(effect: &Effect) -> bool {
    match effect {
        Effect::Fact(_) => false,
        Effect::Job { job, .. } => {
            !matches!(job, Job::Probe { .. } | Job::Retire | Job::Publish { .. } | Job::Delete { .. })
        }
        _ => true,
    }
}
