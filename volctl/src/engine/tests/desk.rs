//! One engine at a desk: its world is put together by hand, and every effect is looked at.

use std::sync::Arc;
use std::time::Duration;

use lockdriver::tables::Tables;
use lockdriver::transaction::Change;
use ondisk::{
    ClientPage, CommitNo, Generation, Grant, GrantState, InFlight, Incarnation, Message, MountState, ReadersPolicy,
    Request, RequestId, SlotIndex, Uuid, VolumeEntry, VolumeTable,
};

use super::studio::{periods, tables, volume_table};
use crate::engine::ops::{self, Actor};
use crate::engine::{
    Command, CommandId, Effect, Engine, Job, JobDone, OpDone, OpTag, PageView, Peer, Reply, Setup, TableOp, World,
};
use crate::wire::outcome::Failure;

pub(super) const ALICE: SlotIndex = SlotIndex(0);
pub(super) const BOB: SlotIndex = SlotIndex(1);
pub(super) const CAROL: SlotIndex = SlotIndex(2);
/// The one volume, v0.
pub(super) const V: Uuid = Uuid::from_u128(1);

pub(super) struct Desk {
    pub(super) now: Duration,
    pub(super) tables: Tables,
    pub(super) peers: Vec<Peer>,
    pub(super) engine: Engine,
    pub(super) on_disk: u64,
    /// Effects but pages, as they came.
    pub(super) effects: Vec<Effect>,
    next_command: u64,
}

/// Three clients, all logged on as incarnation 1 with an empty page, and one volume.
pub(super) fn parts(readers: ReadersPolicy) -> (Tables, Vec<Peer>) {
    let mut tables = tables(3, vec![Some(volume_table(1, "v0", readers, 3)), None]);
    for record in tables.clients.iter_mut().flatten() {
        record.logged_on = Incarnation(1);
    }
    let peer = |slot| Peer {
        slot: SlotIndex(slot),
        incarnation: Incarnation(1),
        known: true,
        logged_on: true,
        reaped: false,
        silent: false,
        beat_age: Duration::ZERO,
        page: PageView::Current(Arc::new(page())),
    };
    (tables, (0..3).map(peer).collect())
}

pub(super) fn page() -> ClientPage {
    let entry = VolumeEntry { state: MountState::GateClosed, inflight: InFlight(4000), ..VolumeEntry::of(V) };
    let volumes = vec![entry, VolumeEntry::default()];
    ClientPage { incarnation: Incarnation(1), sequence: 1, volumes, ..ClientPage::default() }
}

pub(super) fn world<'a>(now: Duration, tables: &'a Tables, peers: &'a [Peer]) -> World<'a> {
    World { now, begun: now, wall_ms: 1000, tables, peers, page_on_disk: 0 }
}

pub(super) fn grant(slot: SlotIndex, epoch: u64, state: GrantState) -> Grant {
    Grant::new(slot, Incarnation(1), epoch, InFlight(5000), state)
}

pub(super) fn generation(epoch: u64, count: u64) -> Generation {
    Generation { epoch, count }
}

pub(super) fn put(tables: &mut Tables, change: Change) {
    for (slot, incarnation) in &change.reaped {
        tables.header.reaped[slot.index()] = tables.header.reaped[slot.index()].max(*incarnation);
    }
    for (slot, record) in change.clients {
        tables.clients[slot.index()] = record;
    }
    for (volume, table) in change.volumes {
        tables.volumes[volume.index()] = table;
    }
    tables.header.commit = CommitNo { epoch: tables.header.commit.epoch + 10, count: 1 };
}

pub(super) fn why<T>(done: Result<T, Failure>) -> String {
    done.err().map(|f| f.why).unwrap_or_default()
}

impl Desk {
    /// The engine is bob's.
    pub(super) fn new(readers: ReadersPolicy) -> Self {
        Self::with(readers, |_| {})
    }

    pub(super) fn with(readers: ReadersPolicy, setup: impl FnOnce(&mut Setup)) -> Self {
        let (tables, mut peers) = parts(readers);
        peers[BOB.index()].page = PageView::Unknown;
        let mut all = Setup {
            slot: BOB,
            incarnation: Incarnation(1),
            periods: periods(),
            gateless: false,
            ask_hook: false,
            unmounted: Vec::new(),
            requests: Vec::new(),
            answers: Vec::new(),
            page_sequence: 7,
            seed: 77,
            switches: crate::engine::Switches::ALL,
        };
        setup(&mut all);
        let engine = Engine::new(all, 2);
        let now = Duration::from_secs(1000);
        Self { now, tables, peers, engine, on_disk: 0, effects: Vec::new(), next_command: 0 }
    }

    pub(super) fn table(&mut self) -> &mut VolumeTable {
        self.tables.header.commit.epoch += 10;
        self.tables.volumes[0].as_mut().expect("the volume is there")
    }

    /// A published volume, so that nobody has to bring it in order.
    pub(super) fn published(mut self) -> Self {
        self.table().last = generation(3, 1);
        self
    }

    pub(super) fn held_by(mut self, slot: SlotIndex, epoch: u64) -> Self {
        self.table().writer = Some(grant(slot, epoch, GrantState::Held));
        self.table().dirty_since = epoch;
        self
    }

    pub(super) fn edit_page(&mut self, slot: SlotIndex, edit: impl FnOnce(&mut ClientPage)) {
        let old = self.peers[slot.index()].current_page().cloned();
        let mut page = old.unwrap_or_else(page);
        edit(&mut page);
        self.peers[slot.index()].page = PageView::Current(Arc::new(page));
    }

    pub(super) fn ask_from(&mut self, slot: SlotIndex, id: u64, number: u64) {
        self.edit_page(slot, |p| {
            p.requests.push(Request {
                id: RequestId(id),
                number,
                volume: V,
                to: BOB,
                created_ms: 0,
                message: Message::cut("please"),
            });
        });
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Page => self.on_disk = self.engine.page_version(),
                other => self.effects.push(other),
            }
        }
    }

    fn with_world(&mut self, look: impl FnOnce(&mut Engine, &World<'_>) -> Vec<Effect>) {
        let world = World { page_on_disk: self.on_disk, ..world(self.now, &self.tables, &self.peers) };
        let effects = look(&mut self.engine, &world);
        self.take(effects);
    }

    pub(super) fn step(&mut self) {
        self.now += Duration::from_millis(10);
        self.with_world(|engine, world| engine.step(world));
    }

    pub(super) fn after(&mut self, time: Duration) {
        self.now += time;
        self.step();
    }

    pub(super) fn leave(&mut self, now: bool) {
        self.with_world(|engine, world| engine.leave(now, world));
    }

    /// The grants whose writers the storage may throw out.
    pub(super) fn late_writes(&self) -> Vec<(Uuid, u64)> {
        self.engine.late_writes(&world(self.now, &self.tables, &self.peers))
    }

    /// The storage threw the writer of that grant out.
    pub(super) fn throw_out(&mut self, volume: Uuid, epoch: u64) {
        self.engine.thrown_out(volume, epoch);
    }

    pub(super) fn command(&mut self, command: Command) -> CommandId {
        self.next_command += 1;
        let id = CommandId(self.next_command);
        self.with_world(|engine, world| engine.command(id, command, world));
        id
    }

    pub(super) fn request(&mut self, wait: Option<Duration>) -> CommandId {
        self.command(Command::Request { volume: "v0".into(), message: Message::cut("please"), wait })
    }

    /// The job that runs, which is taken from the list.
    pub(super) fn job(&mut self) -> Option<Job> {
        let at = self.effects.iter().position(|e| matches!(e, Effect::Job { .. }))?;
        let Effect::Job { job, .. } = self.effects.remove(at) else { return None };
        Some(job)
    }

    pub(super) fn op(&mut self) -> Option<(OpTag, TableOp)> {
        let at = self.effects.iter().position(|e| matches!(e, Effect::Table { .. }))?;
        let Effect::Table { tag, op } = self.effects.remove(at) else { return None };
        Some((tag, op))
    }

    pub(super) fn end_job(&mut self, done: JobDone) {
        self.now += Duration::from_millis(10);
        self.with_world(|engine, world| engine.job_done(V, done, world));
    }

    pub(super) fn end_op(&mut self, tag: OpTag, done: Result<OpDone, Failure>) {
        self.now += Duration::from_millis(10);
        self.with_world(|engine, world| engine.table_done(tag, done, world));
    }

    /// Carries the next transaction out, and tells what it was and whether it was refused.
    pub(super) fn run_op(&mut self) -> (TableOp, Result<(), Failure>) {
        let (tag, op) = self.op().expect("a transaction is asked for");
        let epoch = self.tables.header.commit.epoch + 10;
        let actor = Actor { slot: BOB, incarnation: Incarnation(1), epoch };
        let done = ops::apply(&op, actor, &world(self.now, &self.tables, &self.peers));
        let refused = done.as_ref().map(|_| ()).map_err(Clone::clone);
        let done = done.map(|change| {
            change.map_or(OpDone::Nothing, |c| {
                put(&mut self.tables, c);
                OpDone::Committed { epoch }
            })
        });
        self.end_op(tag, done);
        (op, refused)
    }

    /// Carries everything out as a healthy kernel would, until nothing more comes.
    pub(super) fn settle(&mut self) {
        for _ in 0..20 {
            self.step();
            for _ in 0..20 {
                let Some(job) = self.job() else { break };
                self.end_job(healthy(&job));
            }
            if self.effects.iter().any(|e| matches!(e, Effect::Table { .. })) {
                self.run_op().1.expect("nothing is in the way");
            }
        }
    }

    /// Carries jobs out until one comes that is waited for.
    pub(super) fn settle_until(&mut self, wanted: impl Fn(&Effect) -> bool) {
        for _ in 0..20 {
            if self.effects.iter().any(&wanted) {
                return;
            }
            self.step();
            if self.effects.iter().any(&wanted) {
                return;
            }
            if let Some(job) = self.job() {
                self.end_job(healthy(&job));
            }
        }
        panic!("it never comes");
    }

    /// So much later, with everything carried out.
    pub(super) fn wait(&mut self, time: Duration) {
        self.now += time;
        self.settle();
    }

    /// Who has the grant.
    pub(super) fn writer(&self) -> Option<SlotIndex> {
        self.tables.volumes[0].as_ref().and_then(|t| t.writer).map(|g| g.slot)
    }

    /// What a command was told last.
    pub(super) fn told(&self, id: CommandId) -> Option<&Reply> {
        self.effects.iter().rev().find_map(|e| match e {
            Effect::Reply(i, reply) if *i == id => Some(reply),
            _ => None,
        })
    }

    pub(super) fn failure(&self, id: CommandId) -> Failure {
        match self.told(id) {
            Some(Reply::Failed(failure)) => failure.clone(),
            other => panic!("{other:?} is no failure"),
        }
    }

    pub(super) fn own(&self) -> VolumeEntry {
        *self.engine.page().volume(V).expect("the page has room for the volume")
    }

    pub(super) fn status(&self) -> crate::wire::status::VolumeStatus {
        self.status_in(&crate::engine::status::Surroundings { mount_root: "/vol".into(), ..Default::default() })
    }

    pub(super) fn status_in(&self, around: &crate::engine::status::Surroundings) -> crate::wire::status::VolumeStatus {
        let world = World { page_on_disk: self.on_disk, ..world(self.now, &self.tables, &self.peers) };
        self.engine.status(&world, around).volumes.remove(0)
    }
}

pub(super) fn healthy(job: &Job) -> JobDone {
    match job {
        Job::MountReader { generation } => JobDone::ReaderMounted { generation: *generation },
        Job::UnmountReader { .. } => JobDone::ReaderUnmounted { closed: true, busy: Vec::new() },
        Job::Retire => JobDone::Retired { lingering: Vec::new(), busy: Vec::new() },
        Job::MountWriter { .. } => JobDone::WriterMounted { snapshots: Vec::new() },
        Job::Publish { generation, always: true } => {
            JobDone::Published { generation: Some(*generation), modified_ms: 5 }
        }
        Job::Publish { .. } => JobDone::Published { generation: None, modified_ms: 0 },
        Job::Delete { .. } => JobDone::Deleted,
        Job::StopWriter { generation, .. } => {
            JobDone::Stopped { generation: Some(*generation), clean: true, modified_ms: 5, check: None }
        }
        Job::FenceWriter => JobDone::Stopped { generation: None, clean: false, modified_ms: 0, check: None },
        Job::Measure => JobDone::Measured { inflight_ms: 1234 },
        Job::Probe { .. } => JobDone::Probed(crate::engine::effect::Probe {
            capacity: 10,
            open_for_writing: Some(false),
            inflight_ms: 1234,
            ..Default::default()
        }),
    }
}
