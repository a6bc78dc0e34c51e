//! A daemon on a simulated host: the shipping login, transactions and engine, under a loop that does what the real one
//! (`volctl/src/daemon/driver.rs`) does. Sockets, hooks and mounts of a real kernel have no part in it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, unbounded};
use lockdriver::lease::LeaseEnd;
use ondisk::{Incarnation, Uuid};
use volctl::control::claim::{Claim, claim};
use volctl::control::machine::receive;
use volctl::control::session::{Parts, Session};
use volctl::control::view::read_page;
use volctl::daemon::pace::Pace;
use volctl::engine::{CommandId, Effect, Engine, JobDone, OpDone, OpTag, Periods, Reply, Setup, TableOp};
use volctl::wire::outcome::{ExitCode, Failure};

use crate::jobs;
use crate::place::{Place, keep_books, transact};
use crate::world::{Fate, ProcId};

type OpOutcome = (OpTag, Result<OpDone, Failure>);
type Finished = (Uuid, JobDone);

/// A login at work.
struct Driver {
    place: Place,
    session: Arc<Session>,
    engine: Engine,
    waiting: VecDeque<Effect>,
    jobs: (Sender<Finished>, Receiver<Finished>),
    jobs_running: usize,
    ops: Sender<(OpTag, TableOp)>,
    ops_done: Receiver<OpOutcome>,
    next_poll: Duration,
    pace: Pace,
    acted: bool,
    ends_at: Option<Duration>,
    leaving: bool,
    leaves_by: Option<Duration>,
    clerk_stops: Arc<AtomicBool>,
}

/// The daemon's main thread.
pub(crate) fn run(place: &Place) {
    while !place.is_dead() {
        match log_on(place) {
            Ok(driver) => {
                if !driver.run() {
                    break;
                }
            }
            // Damage and refusals do not pass by trying again; a service manager tries all the same, later.
            Err(failure) => {
                let who = {
                    let world = place.shared.world();
                    world.name(place.host)
                };
                let mut world = place.shared.world();
                world.note(|_| format!("{who}: no log-on: {failure}"));
                if failure.exit == ExitCode::Refused && world.plan.lock == ondisk::LockKind::Pr {
                    // Its reservations are as they should be.
                    world.fail(format!("{who} accuses the device: {}", failure.why));
                }
                drop(world);
                if matches!(failure.exit, ExitCode::Refused | ExitCode::Damaged | ExitCode::Busy) {
                    break;
                }
                place.volume.machine.sleep(Duration::from_secs(1));
            }
        }
        // Whatever of the login before hangs in a job: there is no new login beside it.
        while place.shared.world().procs[place.proc].jobs > 0 && !place.is_dead() {
            place.volume.machine.sleep(Duration::from_millis(5));
        }
    }
    let mut world = place.shared.world();
    let strange = place.host >= world.plan.clients;
    world.procs[place.proc].logged_on = false;
    if !world.procs[place.proc].dead {
        // The process exits; its guardian has no more to do.
        world.kill(place.proc);
        let later = world.rng.ms(50, 3000);
        if !strange {
            world.restart_later(place.host, later);
        }
    }
}

fn log_on(place: &Place) -> Result<Driver, Failure> {
    let volume = &place.volume;
    {
        let mut world = place.shared.world();
        let process = &mut world.procs[place.proc];
        process.login = None;
        process.claiming = true;
    }
    let no_means = |e: std::io::Error| Failure::failed("no log-on", e.to_string(), "try again");
    let mut parts = Parts::new(volume.clone(), place.slot, Arc::new(place.clone())).map_err(no_means)?;
    place.shared.world().procs[place.proc].deadline = Some(parts.deadline.clone());
    parts.view.read_slots();
    parts.view.load_tables()?;
    let tables = parts.view.tables().cloned().ok_or_else(|| Failure::damaged("no tables", "", ""))?;
    let record = tables.client(place.slot).map_or(Incarnation(0), |r| r.logged_on);
    let old_page = read_page(&volume.geometry, &*volume.device, place.slot).unwrap_or_default();
    let claimed = claim(
        &mut parts,
        volume,
        Claim {
            slot: place.slot,
            host: place.host_identity(),
            record,
            highest: tables.header.commit,
            page_sequence: old_page.sequence,
            waiting: &|_, _| {},
            close_gates: &mut |_| place.close_old(),
            stop: &|| place.is_dead(),
        },
    )?;
    {
        let mut world = place.shared.world();
        let process = &mut world.procs[place.proc];
        process.login = Some((place.slot, claimed.sector.incarnation));
        process.claiming = false;
        let way = if claimed.first_way { "first" } else { "second" };
        world.note(|w| {
            format!("{}: claimed as incarnation {} the {way} way", w.name(place.host), claimed.sector.incarnation)
        });
        if !world.procs[place.proc].dead {
            let before = Incarnation(claimed.sector.incarnation.0 - 1);
            world.look_at_keys(place.host, place.slot, before, "is followed");
        }
    }
    let session = Arc::new(Session::begin(parts, place.slot, &claimed)?);
    let made = furnish(place, &session, claimed.first_way);
    if let Err(failure) = made {
        let _ = session.log_off();
        return Err(failure);
    }
    let (unmounted, publish, switches) = {
        let world = place.shared.world();
        (world.hosts[place.host].unmounted.clone(), world.plan.publish, world.plan.switches)
    };
    let seed = volume.machine.random()?;
    let timings = volume.superblock.timings;
    let setup = Setup {
        slot: place.slot,
        incarnation: session.me.incarnation,
        periods: Periods {
            poll: timings.poll(),
            dead: timings.dead(),
            publish,
            grace: Duration::from_secs(2),
            idle: Duration::from_secs(1),
            request_timeout: Duration::from_secs(60),
            next_kept: Duration::from_secs(30),
            dead_hold: Duration::from_secs(600),
        },
        gateless: false,
        ask_hook: false,
        unmounted,
        requests: old_page.requests,
        answers: old_page.answers,
        page_sequence: old_page.sequence,
        switches,
        seed: u64::from_le_bytes(seed[..8].try_into().expect("eight bytes")),
    };
    let engine = Engine::new(setup, volume.geometry.max_volumes());
    Ok(Driver::new(place, session, engine))
}

/// Old gates, the guardian, the log-on transaction.
fn furnish(place: &Place, session: &Arc<Session>, first_way: bool) -> Result<(), Failure> {
    if !place.close_old() {
        return Err(Failure::failed("what an earlier daemon left does not close", "a write hangs", "try again"));
    }
    place.shared.world().start_guardian(place.proc, session.deadline.clone());
    let op = TableOp::LogOn { host: ondisk::Label::cut("host"), first_way };
    transact(place, session, &op).map(drop)
}

impl Driver {
    fn new(place: &Place, session: Arc<Session>, engine: Engine) -> Self {
        let (ops, inbox) = unbounded::<(OpTag, TableOp)>();
        let (report, ops_done) = unbounded();
        let worker = {
            let (place, session) = (place.clone(), Arc::clone(&session));
            move || {
                while let Ok((tag, op)) = receive(&*place.volume.machine, &inbox, None) {
                    let done = transact(&place, &session, &op);
                    if report.send((tag, done)).is_err() {
                        return;
                    }
                }
            }
        };
        let _joiner = place.volume.machine.spawn("tables", false, Box::new(worker));
        let session_machine = Arc::clone(&place.volume.machine);
        let stop = Arc::new(AtomicBool::new(false));
        let clerks = place.shared.world().plan.clerks;
        if !clerks.is_zero() {
            place.shared.world().procs[place.proc].jobs += 1;
            let (place, session, stop) = (place.clone(), Arc::clone(&session), Arc::clone(&stop));
            let clerk = move || {
                keep_books(&place, &session, &stop);
                drop(session);
                place.shared.world().procs[place.proc].jobs -= 1;
            };
            let machine = Arc::clone(&session_machine);
            let _joiner = machine.spawn("clerk", false, Box::new(clerk));
        }
        let now = place.volume.machine.now();
        let poll = place.volume.superblock.timings.poll();
        place.shared.world().procs[place.proc].logged_on = true;
        Self {
            place: place.clone(),
            session,
            engine,
            waiting: VecDeque::new(),
            jobs: unbounded(),
            jobs_running: 0,
            ops,
            ops_done,
            next_poll: now,
            pace: Pace::new(poll),
            acted: false,
            ends_at: None,
            leaving: false,
            leaves_by: None,
            clerk_stops: stop,
        }
    }

    fn now(&self) -> Duration {
        self.place.volume.machine.now()
    }

    /// True: log on anew.
    fn run(mut self) -> bool {
        let again = self.go_round();
        self.clerk_stops.store(true, Ordering::SeqCst);
        let mut world = self.place.shared.world();
        world.procs[self.place.proc].logged_on = false;
        world.hosts[self.place.host].unmounted = self.engine.unmounted();
        world.end_commands(self.place.proc);
        again
    }

    fn go_round(&mut self) -> bool {
        let mut again = false;
        loop {
            if !self.session.is_live() {
                self.session.deadline.end();
                self.lost();
                return !self.leaving;
            }
            if self.leaves_by.is_some_and(|t| self.now() >= t) {
                self.session.end(LeaseEnd::RanOut);
                continue;
            }
            if self.engine.has_left() && self.waiting.is_empty() && self.jobs_running == 0 {
                let off = self.session.log_off();
                self.place.shared.world().note(|w| format!("{}: logs off: {off:?}", w.name(self.place.host)));
                return false;
            }
            if self.now() >= self.next_poll {
                self.poll();
            } else if let Ok((volume, done)) = self.jobs.1.try_recv() {
                self.job_done(volume, done);
            } else if let Ok((tag, done)) = self.ops_done.try_recv() {
                let engine = &mut self.engine;
                self.waiting.extend(self.session.look(|world| engine.table_done(tag, done, world)).unwrap_or_default());
                self.next_poll = self.now();
            } else if let Some((id, command)) = self.next_command() {
                let engine = &mut self.engine;
                match self.session.poll(|world| engine.command(id, command, world)) {
                    Ok(effects) => self.waiting.extend(effects),
                    Err(_) => self.place.shared.world().over(id, Fate::Over),
                }
                self.next_poll = self.now();
            } else if let Some(now) = self.told() {
                self.leave(now);
            } else {
                self.place.volume.machine.give_way(Some(self.next_poll), again);
                again = true;
                continue;
            }
            again = false;
            self.carry_out();
        }
    }

    fn next_command(&mut self) -> Option<(CommandId, volctl::engine::Command)> {
        self.place.shared.world().procs[self.place.proc].commands.pop_front()
    }

    fn told(&mut self) -> Option<bool> {
        self.place.shared.world().procs[self.place.proc].told.take()
    }

    fn leave(&mut self, now: bool) {
        self.leaving = true;
        if now {
            let by = self.now() + self.place.volume.superblock.timings.margin();
            self.leaves_by.get_or_insert(by);
        }
        let engine = &mut self.engine;
        self.waiting.extend(self.session.look(|world| engine.leave(now, world)).unwrap_or_default());
        self.next_poll = self.now();
    }

    fn poll(&mut self) {
        let now = self.now();
        self.session.beater.engine_ticked(now);
        let idle = self.waiting.is_empty();
        let engine = &mut self.engine;
        let polled = self.session.poll(|world| if idle { engine.step(world) } else { Vec::new() });
        self.waiting.extend(polled.unwrap_or_default());
        self.look_at_guardian();
        let wanted = self.engine.next_poll();
        let acted = std::mem::take(&mut self.acted);
        let now = self.now();
        self.next_poll = now + self.pace.next(wanted, self.session.changes(), acted, now);
        let requests = self.engine.page().requests.iter().map(|r| r.volume).collect();
        self.place.shared.world().procs[self.place.proc].requests = requests;
    }

    fn look_at_guardian(&mut self) {
        let now = self.now();
        if self.ends_at.is_some_and(|t| now >= t) {
            self.session.end(LeaseEnd::RanOut);
        }
        let lease = self.place.volume.superblock.timings.lease();
        self.session.deadline.tick_daemon(now);
        let (gone, orderly) = {
            let world = self.place.shared.world();
            let guardian = world.hosts[self.place.host].guardian.as_ref();
            (guardian.is_none_or(|g| !g.alive), guardian.is_some_and(|g| g.orderly))
        };
        let ticks = now.saturating_sub(self.session.deadline.guardian_tick()) < lease / 4;
        if gone || !ticks {
            self.session.end(LeaseEnd::RanOut);
        }
        if orderly {
            self.ends_at.get_or_insert(now + lease / 5);
        }
    }

    /// Without a guardian nothing would close the gates.
    fn lost(&mut self) {
        let mut world = self.place.shared.world();
        let host = self.place.host;
        world.note(|w| format!("{}: the login is lost", w.name(host)));
        let guardian_is_well = world.hosts[host].guardian.as_ref().is_some_and(|g| g.alive && !g.stopped);
        if !guardian_is_well && !world.procs[self.place.proc].dead {
            for id in world.gates_on(host) {
                world.close_gate(id);
            }
        }
    }

    fn job_done(&mut self, volume: Uuid, done: JobDone) {
        self.jobs_running -= 1;
        if let JobDone::Lost(_) = &done {
            self.session.end(LeaseEnd::RanOut);
        }
        let engine = &mut self.engine;
        self.waiting.extend(self.session.look(|world| engine.job_done(volume, done, world)).unwrap_or_default());
        self.next_poll = self.now();
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.waiting.pop_front() {
            self.acted |= acts(&effect);
            match effect {
                Effect::Page => {
                    let (page, version) = (self.engine.page().clone(), self.engine.page_version());
                    if self.session.write_page(page, version).is_err() {
                        self.waiting.push_front(Effect::Page);
                        return;
                    }
                }
                // The worker ends only with this driver.
                Effect::Table { tag, op } => drop(self.ops.send((tag, op))),
                Effect::Job { volume, job } => {
                    self.jobs_running += 1;
                    jobs::start(&self.place, &self.session, volume, job, self.jobs.0.clone());
                }
                Effect::Reply(id, reply) => self.reply(id, &reply),
                Effect::Fact(_) | Effect::AskHook(_) => {}
            }
        }
    }

    fn reply(&mut self, id: CommandId, reply: &Reply) {
        let mut world = self.place.shared.world();
        let fate = match reply {
            Reply::Done { .. } => Fate::Done,
            Reply::Failed(_) => Fate::Over,
            Reply::Progress { .. } => Fate::Open,
        };
        if fate != Fate::Open {
            world.over(id, fate);
            world.note(|w| format!("{}: command {}: {reply:?}", w.name(self.place.host), id.0));
        }
    }
}

/// As the real driver: what a volume needs now and then is not what somebody waits for.
fn acts(effect: &Effect) -> bool {
    use volctl::engine::Job;
    match effect {
        Effect::Fact(_) => false,
        Effect::Job { job, .. } => {
            !matches!(job, Job::Probe { .. } | Job::Retire | Job::Publish { .. } | Job::Delete { .. })
        }
        _ => true,
    }
}

impl crate::world::World {
    /// A command had its last word.
    pub(crate) fn over(&mut self, id: CommandId, fate: Fate) {
        let at = usize::try_from(id.0).expect("few commands");
        self.fates[at].2 = fate;
    }

    /// The commands of a daemon end with its login.
    pub(crate) fn end_commands(&mut self, proc: ProcId) {
        let host = self.procs[proc].host;
        self.procs[proc].commands.clear();
        for fate in self.fates.iter_mut().filter(|f| f.0 == host && f.2 == Fate::Open) {
            fate.2 = Fate::Over;
        }
    }
}
