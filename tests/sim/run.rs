//! One run: makes the world of a plan, gives turns until it ends, and says what came of it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use generator::{Generator, Gn};
use lockdriver::format::{FormatStep, format};
use lockdriver::tables::{IoResult, LoadStep, Loader};
use lockdriver::transaction::{self, Change, Commit, CommitStep};
use ondisk::{
    Access, AutoResponse, ClientRecord, CommitNo, FsKind, Generation, Geometry, Identity, Incarnation, Label, LockKind,
    Message, Name, Permission, ReadersPolicy, SlotIndex, Uuid, VolumeIndex, VolumeTable,
};

use crate::daemon;
use crate::disk::{Disk, Region};
use crate::host_key::KeyRoom;
use crate::oracle::{Oracle, Waits};
use crate::place::Place;
use crate::plan::{Plan, name};
use crate::rng::Rng;
use crate::threads::{Body, Shared};
use crate::volumes::{Volume, Volumes};
use crate::world::{Event, Host, ProcId, ThreadId, World};

/// Words of eight bytes: shipping code needs some hundred KiB in a build without optimisation.
const STACK_WORDS: usize = 0x10000;
/// A dead process's threads run out within so many rounds, or they hang.
const ROUNDS: usize = 5_000;
/// More events than this are a loop without an end.
const EVENTS: u64 = 40_000_000;

type Turns = Generator<'static, (), ()>;

/// What came of a run.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// The first broken promise.
    pub(crate) broken: Option<String>,
    /// The trace, if it was asked for.
    pub(crate) trace: Vec<String>,
    /// What happened, by name.
    pub(crate) counts: BTreeMap<&'static str, u64>,
    /// Commits of the tables.
    pub(crate) commits: u64,
    /// Grants.
    pub(crate) grants: u64,
    /// How long clients waited before the semaphore.
    pub(crate) waits: Waits,
    /// Simulated time.
    pub(crate) time: Duration,
}

/// Runs a plan.
pub(crate) fn run(plan: Plan, traced: bool) -> Outcome {
    let shared = Shared(Arc::new(Mutex::new(make_world(plan, traced))));
    let mut sim = Sim { shared: shared.clone(), threads: Vec::new() };
    sim.go();
    sim.end();
    let mut world = shared.world();
    Outcome {
        broken: world.broken.take(),
        trace: world.trace.take().unwrap_or_default(),
        counts: std::mem::take(&mut world.counts),
        commits: world.oracle.commits,
        grants: world.oracle.grants,
        waits: world.oracle.waits,
        time: Duration::from_nanos(world.now),
    }
}

struct Sim {
    shared: Shared,
    threads: Vec<Option<Turns>>,
}

impl Sim {
    fn go(&mut self) {
        let mut events = 0;
        loop {
            let event = {
                let mut world = self.shared.world();
                if world.broken.is_some() {
                    return;
                }
                events += 1;
                if events > EVENTS {
                    world.fail("events without end");
                }
                let Some(event) = world.next_event() else { return };
                event
            };
            match event {
                Event::Wake { thread, token } => self.wake(thread, token),
                Event::Start(host) => self.start(host),
                Event::End => return self.shared.world().look_at_end(),
                other => self.shared.world().happen(other),
            }
            self.take_in();
        }
    }

    /// Threads that were made get their stacks, dead processes run out.
    fn take_in(&mut self) {
        loop {
            let (spawned, died) = {
                let mut world = self.shared.world();
                (std::mem::take(&mut world.spawned), std::mem::take(&mut world.died))
            };
            if spawned.is_empty() && died.is_empty() {
                return;
            }
            for (thread, body) in spawned {
                self.adopt(thread, body);
            }
            for proc in died {
                self.run_out(proc);
            }
        }
    }

    fn adopt(&mut self, thread: ThreadId, body: Body) {
        self.threads.resize_with(thread + 1, || None);
        self.threads[thread] = Some(Gn::new_opt(STACK_WORDS, body));
    }

    fn wake(&mut self, thread: ThreadId, token: u64) {
        {
            let mut world = self.shared.world();
            let known = &world.threads[thread];
            if known.ended || known.token != token {
                return;
            }
            let proc = known.proc;
            if !world.may_run(proc) {
                world.procs[proc].deferred.push((thread, token));
                return;
            }
        }
        self.turn(thread);
    }

    fn turn(&mut self, thread: ThreadId) {
        {
            let mut world = self.shared.world();
            world.running = Some(thread);
            let known = &mut world.threads[thread];
            known.token += 1;
            known.gives_way = false;
        }
        let turns = self.threads[thread].as_mut().expect("it did not end");
        let went = catch_unwind(AssertUnwindSafe(|| turns.resume()));
        let ended = went.is_err() || turns.is_done();
        let mut world = self.shared.world();
        world.running = None;
        if let Err(panic) = went {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default();
            let who = world.threads[thread].name.clone();
            world.fail(format!("thread {who} panics: {text}"));
        }
        if ended {
            let proc = world.threads[thread].proc;
            world.threads[thread].ended = true;
            world.procs[proc].threads.retain(|t| *t != thread);
            world.progress(proc);
            drop(world);
            self.threads[thread] = None;
        }
    }

    /// Nothing that a dead process does reaches the world; its threads come to their ends.
    fn run_out(&mut self, proc: ProcId) {
        for round in 0..=ROUNDS {
            let (threads, spawned) = {
                let mut world = self.shared.world();
                (world.procs[proc].threads.clone(), std::mem::take(&mut world.spawned))
            };
            for (thread, body) in spawned {
                self.adopt(thread, body);
            }
            if threads.is_empty() {
                return;
            }
            if round == ROUNDS {
                let mut world = self.shared.world();
                let names: Vec<_> = threads.iter().map(|t| world.threads[*t].name.clone()).collect();
                world.fail(format!("threads of a killed process hang: {names:?}"));
                drop(world);
                // They hang in the middle of something: to unwind them would wait for what never comes.
                threads.into_iter().for_each(|thread| std::mem::forget(self.threads[thread].take()));
                return;
            }
            for thread in threads {
                if self.threads[thread].is_some() {
                    self.turn(thread);
                }
            }
        }
    }

    fn start(&mut self, host: usize) {
        let proc = {
            let mut world = self.shared.world();
            world.hosts[host].starting = false;
            if world.hosts[host].retired || world.hosts[host].daemon.is_some() {
                return;
            }
            let own = &world.hosts[host];
            if !own.up
                || !own.running
                || (0..world.procs.len()).any(|p| world.procs[p].host == host && world.disk.flies_for(p))
            {
                // The lock file is still locked by what the old process has in the kernel.
                world.restart_later(host, Duration::from_millis(100));
                return;
            }
            let proc = world.start_process(host);
            world.hosts[host].daemon = Some(proc);
            world.note(|w| format!("{}: a daemon starts", w.name(host)));
            proc
        };
        let place = Place::new(&self.shared, proc);
        let mut world = self.shared.world();
        world.spawn(proc, "loop", Box::new(move || daemon::run(&place)));
    }

    /// Everybody dies, so that no thread is left in the middle of something.
    fn end(&mut self) {
        let procs = self.shared.world().procs.len();
        for proc in 0..procs {
            self.shared.world().kill(proc);
        }
        let broken = self.shared.world().broken.clone();
        self.take_in();
        if broken.is_some() {
            self.shared.world().broken = broken;
        }
    }
}

impl World {
    fn happen(&mut self, event: Event) {
        match event {
            Event::Moves { io, from, to } => self.move_bytes(io, from, to),
            Event::Returns { io, ok } => self.return_io(io, ok),
            Event::Guardian { host, serial } => self.guardian_looks(host, serial),
            Event::Program(gate) => self.program(gate),
            Event::Lands { gate } => self.land(gate),
            Event::Fault(fault) => self.go_wrong(fault),
            Event::Mends(fault) => self.mend(fault),
            Event::Person(host) => self.person(host),
            Event::Calm => self.become_calm(),
            Event::Look => self.look_whether_settled(),
            Event::Wake { .. } | Event::Start(_) | Event::End => {}
        }
    }

    fn look_at_end(&mut self) {
        for stuck in self.what_is_stuck() {
            self.fail(stuck);
        }
        let report = lockdriver::check::check(&self.disk);
        if report.tables.is_none() {
            let findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
            self.fail(format!("the tables cannot be recovered: {}", findings.join("; ")));
        }
    }
}

fn make_world(plan: Plan, traced: bool) -> World {
    let mut rng = Rng::new(plan.seed ^ 0x0064_6973_6b73);
    let clients = u16::try_from(plan.clients).expect("few clients");
    let count = u16::try_from(plan.volumes.len()).expect("few volumes");
    let geometry = Geometry::plan(Uuid::from_u128(7), clients, count, 512, 1 << 20).expect("a small plan");
    let word = matches!(plan.lock, LockKind::Caw | LockKind::Pr);
    let geometry = if word { geometry.with_semaphore().expect("a small plan") } else { geometry };
    let superblock = geometry.superblock(plan.lock, plan.timings, Label::default(), 0);
    let mut bytes = vec![0; usize::try_from(geometry.total()).expect("a small disk")];
    for step in format(&geometry, &superblock, None) {
        if let FormatStep::Write { offset, bytes: new } = step {
            let at = usize::try_from(offset).expect("a small disk");
            bytes[at..at + new.len()].copy_from_slice(&new);
        }
    }
    let mut disk = Disk::new(geometry, bytes);
    let mut volumes = Volumes::default();
    let mut change = Change::default();
    for client in 0..clients {
        change.clients.push((SlotIndex(client), Some(record(usize::from(client), &mut rng))));
    }
    for (number, readers) in (0..).zip(plan.volumes.iter().copied()) {
        let table = volume_table(number, readers, plan.clients);
        volumes.list.push(Volume {
            uuid: table.uuid,
            name: table.name.to_string(),
            readers,
            content: 0,
            published: [(Generation::NONE, 0)].into(),
            snapshots: Default::default(),
        });
        change.volumes.push((VolumeIndex(number), Some(table)));
    }
    commit(&mut disk, change);
    let mut world = World::new(plan, disk, volumes, Oracle::default(), traced);
    world.look_at_landing(Region::Header);
    populate(&mut world);
    world
}

fn populate(world: &mut World) {
    let drawn = world.rng.below(3);
    let strangers = world.plan.strangers.unwrap_or(drawn);
    for host in 0..world.plan.clients + strangers {
        let of = if host < world.plan.clients { host } else { world.rng.below(world.plan.clients) };
        let drift = world.plan.drift;
        let ppm = i64::try_from(world.rng.between(0, 2 * drift.unsigned_abs())).expect("small") - drift;
        let begun = world.rng.time(Duration::from_secs(100), Duration::from_secs(100_000));
        let boot = world.rng.next();
        world.hosts.push(Host {
            slot: SlotIndex(u16::try_from(of).expect("few clients")),
            up: true,
            running: true,
            boot,
            clock: (0, begun, ppm),
            stands: false,
            path_until: 0,
            path_fails: false,
            volumes_until: 0,
            daemon: None,
            guardian: None,
            doubts: (Duration::ZERO, Duration::ZERO),
            starting: false,
            tender_until: 0,
            paused_last: 0,
            key: KeyRoom::default(),
            retired: false,
            unmounted: Vec::new(),
        });
        let absent = world.plan.absent;
        if host < world.plan.clients {
            let later = if absent.is_some() && host > 0 { 2 * world.plan.timings.dead() } else { Duration::ZERO };
            let wait = later + world.rng.ms(0, 3000);
            if absent != Some(host) {
                world.restart_later(host, wait);
            }
        }
        let wait = world.rng.ms(500, 4000);
        world.after(wait, Event::Person(host));
    }
    if let Some(client) = world.plan.absent {
        let place = world.disk.geometry.slot_sector(SlotIndex(u16::try_from(client).expect("few clients")), 0);
        let (region, block, len) = world.disk.block_at(usize::try_from(place.offset).expect("a small disk"));
        world.disk.rot(region, block, len, true);
    }
    world.draw_fault();
    let t = world.plan.timings;
    let calm = world.plan.trouble;
    // Whoever was silent is reaped, and his grants are waited for; then a queue of hand-overs.
    let settled = calm + 3 * t.dead() + 2 * t.margin() + world.plan.inflight + Duration::from_secs(6);
    world.settled_by = crate::rng::nanos(settled);
    world.after(calm, Event::Calm);
}

fn record(client: usize, rng: &mut Rng) -> ClientRecord {
    let auto = [AutoResponse::Off, AutoResponse::Idle, AutoResponse::Always];
    ClientRecord {
        name: Name::new(name(client)).expect("a name"),
        host: Label::new("host").expect("a label"),
        uuid: Uuid::from_u128(client as u128 + 1),
        enabled: true,
        admin: rng.one_in(2),
        locked_out: false,
        notify: false,
        auto_response: *rng.pick(&auto),
        logged_on: Incarnation(0),
    }
}

fn volume_table(number: u16, readers: ReadersPolicy, clients: usize) -> VolumeTable {
    VolumeTable {
        name: Name::new(format!("v{number}")).expect("a name"),
        uuid: Uuid::from_u128(u128::from(number) + 100),
        identity: Identity {
            fs_uuid: Uuid::from_u128(u128::from(number) + 1000),
            partition: Uuid::nil(),
            wwid: Label::default(),
            size: 1 << 30,
            enveloped: false,
        },
        fs: if readers == ReadersPolicy::Snapshot { FsKind::Btrfs } else { FsKind::Ext4 },
        readers,
        write_enabled: true,
        device: Message::new("/dev/x").expect("a path"),
        writer: None,
        dirty_since: 0,
        next: None,
        last: Generation::NONE,
        modified_ms: 0,
        check_due: false,
        permissions: vec![Permission::new(Access::Write, false, true, 500); clients],
    }
}

/// The administrator's first change, before anybody is there.
fn commit(disk: &mut Disk, change: Change) {
    let geometry = disk.geometry.clone();
    let read = |disk: &Disk, offset: u64, len: usize| lockdriver::check::ReadAt::read(disk, offset, len);
    let mut loader = Loader::new(&geometry, CommitNo::default());
    let base = loop {
        match loader.step() {
            LoadStep::Read { offset, len } => {
                loader.done(read(disk, offset, len).map_or(IoResult::Failed, IoResult::Bytes));
            }
            LoadStep::Done(tables) => break tables,
            other => panic!("a fresh control volume is whole: {other:?}"),
        }
    };
    let tenure = transaction::Tenure::new(1, SlotIndex(geometry.max_clients()), Incarnation(1));
    let mut commit = Commit::new(&geometry, tenure, base, change);
    loop {
        match commit.step() {
            CommitStep::Read { offset, len } => {
                commit.done(read(disk, offset, len).map_or(IoResult::Failed, IoResult::Bytes));
            }
            CommitStep::Write { offset, bytes, .. } => {
                let at = usize::try_from(offset).expect("a small disk");
                disk.bytes[at..at + bytes.len()].copy_from_slice(&bytes);
                commit.done(IoResult::Done);
            }
            CommitStep::Flush => commit.done(IoResult::Done),
            CommitStep::Committed { .. } => return,
            CommitStep::Failed(why) => panic!("the first commit fails: {why}"),
        }
    }
}
