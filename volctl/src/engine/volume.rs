//! One volume on this client: what is mounted, what is wanted, and the one next thing to do.

use std::time::Duration;

use ondisk::{Access, Generation, GrantState, InFlight, MountState, Uuid, VolumeEntry, VolumeTable};

use super::command::CommandId;
use super::effect::{Effect, Fact, FactKind, Job, JobDone, OpTag, Probe, busy_words};
use super::ops::{self, OpDone, TableOp};
use super::world::World;
use super::{Engine, rules};
use crate::wire::outcome::{ExitCode, Failure};

/// First pause after something failed; doubled each time up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A client that is not the first of the queue leaves a free volume to the first for this long.
const COURTESY: Duration = Duration::from_secs(2);

/// The writer's side.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Writer {
    /// Not writing.
    #[default]
    None,
    /// The read-write mount is being made.
    Mounting {
        /// The grant.
        epoch: u64,
    },
    /// Mounted read-write.
    Writing(Writing),
    /// Being stopped.
    Stopping {
        /// The grant.
        epoch: u64,
    },
    /// The gate is closed; the table still names this client.
    Stopped(Stopped),
}

/// A volume that is mounted read-write here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writing {
    /// The grant.
    pub epoch: u64,
    /// Publishes so far under this grant.
    pub count: u64,
    /// When the last publish ended (or the mount).
    pub published_at: Duration,
    /// The next publish is due at once, changed or not.
    pub owed: bool,
    /// Snapshots of published states on the volume.
    pub snapshots: Vec<Generation>,
}

/// What is left to say to the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// The grant.
    pub epoch: u64,
    /// Published under it.
    pub generation: Option<Generation>,
    /// The disk holds a published state.
    pub clean: bool,
    /// Milliseconds since 1970.
    pub modified_ms: i64,
    /// The due check was made.
    pub checked: bool,
}

/// Why the write privilege is given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Commands to be told.
    pub commands: Vec<CommandId>,
    /// For this request, if it is handed over.
    pub to: Option<(ondisk::SlotIndex, ondisk::RequestId)>,
    /// To the asker, with the yes.
    pub message: ondisk::Message,
    /// Close under open files: revoked, or told to end now.
    pub force: bool,
}

impl Release {
    /// By the person here.
    pub fn by_user(id: CommandId) -> Self {
        Self { commands: vec![id], to: None, message: ondisk::Message::default(), force: false }
    }
    /// Because an asker is to have it.
    pub fn to(slot: ondisk::SlotIndex, request: ondisk::RequestId, message: ondisk::Message) -> Self {
        Self { commands: Vec::new(), to: Some((slot, request)), message, force: false }
    }
    /// Of itself: in order to leave, or since a dirty volume is in order again.
    pub fn of_itself(force: bool) -> Self {
        Self { commands: Vec::new(), to: None, message: ondisk::Message::default(), force }
    }
}

/// A volume.
#[derive(Debug)]
pub struct Volume {
    /// In the tables.
    pub uuid: Uuid,
    /// Its name.
    pub name: String,
    /// Its place in the page.
    pub index: usize,
    /// Mounted read-only here.
    pub mounted: Option<Generation>,
    /// Older generations whose files are still open.
    pub lingering: Vec<Generation>,
    /// The generation said in the page and not yet mounted, and the page sequence that says it.
    pub announced: Option<(Generation, u64)>,
    /// The writer's side.
    pub writer: Writer,
    /// A job runs.
    pub busy_job: bool,
    /// A transaction runs.
    pub busy_op: bool,
    /// To be released.
    pub release: Option<Release>,
    /// Not before.
    pub release_after: Duration,
    /// Taken only to bring a dirty volume in order.
    pub cleaning: bool,
    /// The user took it away.
    pub user_unmounted: bool,
    /// The user wants the newest generation now.
    pub refresh_now: bool,
    /// An administrator knows that this writer is gone.
    pub skip_inflight: Option<String>,
    /// The newest look at it.
    pub probe: Option<Probe>,
    /// When it was.
    pub probed_at: Duration,
    /// Since when nothing is open for writing and nothing was written.
    pub idle_since: Option<Duration>,
    /// What did not work, until when to leave it alone, and the pause after that.
    pub failure: Option<(Failure, Duration, Duration)>,
    /// When a grant's holder was first seen reaped: (epoch, since).
    pub reaped_since: Option<(u64, Duration)>,
    /// When a grant was first seen revoked.
    pub revoked_since: Option<(u64, Duration)>,
    /// When `next` was first seen.
    pub next_since: Option<(ondisk::NextWriter, Duration)>,
    /// Since when it is free while another is first in the queue.
    pub free_since: Option<Duration>,
    /// Since when readers' open files keep an `exclusive` gate open.
    pub grace_since: Option<Duration>,
    /// When the last generation was looked for.
    pub looked_at: Duration,
    /// When old generations were last tried.
    pub retired_at: Duration,
    /// The page sequence that retires snapshots.
    pub retire_sequence: u64,
    /// Why it is locked, in words.
    pub reason: Option<String>,
}

impl Volume {
    fn new(uuid: Uuid, name: &str, index: usize, user_unmounted: bool) -> Self {
        Self {
            uuid,
            name: name.to_owned(),
            index,
            mounted: None,
            lingering: Vec::new(),
            announced: None,
            writer: Writer::None,
            busy_job: false,
            busy_op: false,
            release: None,
            release_after: Duration::ZERO,
            cleaning: false,
            user_unmounted,
            refresh_now: false,
            skip_inflight: None,
            probe: None,
            probed_at: Duration::ZERO,
            idle_since: None,
            failure: None,
            reaped_since: None,
            revoked_since: None,
            next_since: None,
            free_since: None,
            grace_since: None,
            looked_at: Duration::ZERO,
            retired_at: Duration::ZERO,
            retire_sequence: 0,
            reason: None,
        }
    }

    /// The generation a reader here sees.
    pub fn seen(&self) -> Option<Generation> {
        self.mounted
    }

    /// Nothing of it is open here and no transaction is under way.
    pub fn is_closed(&self) -> bool {
        self.mounted.is_none()
            && self.lingering.is_empty()
            && self.announced.is_none()
            && self.writer == Writer::None
            && !self.busy_job
            && !self.busy_op
    }

    /// A new release; the commands of an earlier one are kept.
    pub fn ask_release(&mut self, mut release: Release) {
        if let Some(old) = self.release.take() {
            release.commands.extend(old.commands);
            release.force |= old.force;
            release.to = release.to.or(old.to);
        }
        self.release = Some(release);
        self.release_after = Duration::ZERO;
    }

    /// Tries again at once.
    pub fn forget_failure(&mut self) {
        self.failure = None;
    }

    /// Keeps the failure for people, and pauses.
    pub fn fail(&mut self, failure: Failure, now: Duration) {
        let pause = self.failure.as_ref().map_or(PAUSE, |(_, _, p)| (*p * 2).min(PAUSE_MAX));
        self.failure = Some((failure, now + pause, pause));
    }

    /// Is it to be left alone for now?
    pub fn pauses(&self, now: Duration) -> bool {
        self.failure.as_ref().is_some_and(|(_, until, _)| now < *until)
    }

    /// Is something under way that the next poll may decide?
    pub fn hurried(&self, engine: &Engine) -> bool {
        self.announced.is_some()
            || self.busy_op
            || (self.release.is_some() && self.release_after.is_zero())
            || self.grace_since.is_some()
            || self.cleaning
            || !matches!(self.writer, Writer::None | Writer::Writing(_))
            || engine.mailbox.concerns(self.uuid)
    }
}

impl Engine {
    /// The volumes of the tables come and go; each keeps its place in the page.
    pub(crate) fn follow_tables(&mut self, world: &World<'_>) {
        let commit = world.tables.header.commit;
        if self.last_commit == Some(commit) {
            return;
        }
        let first = self.last_commit.replace(commit).is_none();
        for (index, table) in world.tables.volumes.iter().enumerate() {
            let Some(table) = table else { continue };
            let gone = self.setup.unmounted.contains(&table.uuid);
            let volume = self
                .volumes
                .entry(table.uuid)
                .or_insert_with(|| Volume::new(table.uuid, table.name.as_str(), index, gone));
            volume.index = index;
            table.name.as_str().clone_into(&mut volume.name);
            if let Some(entry) = self.page.volumes.get_mut(index) {
                if entry.volume != table.uuid {
                    *entry = VolumeEntry::of(table.uuid);
                    self.page_dirty = true;
                }
            }
        }
        let gone = |v: &Volume| world.table(v.uuid).is_none() && v.is_closed();
        self.volumes.retain(|_, v| !gone(v));
        let record = world.tables.clients.get(self.me().index()).and_then(Option::as_ref);
        self.auto_response = record.map_or(ondisk::AutoResponse::Off, |r| r.auto_response);
        if !first && record.is_some_and(|r| r.notify) {
            let text = format!("the tables changed: commit {commit}");
            self.out.push(Effect::Fact(Box::new(Fact::of(FactKind::TablesChanged, "", text))));
        }
    }

    /// Changes the page's entry of a volume; the page is written if that changed anything.
    pub(crate) fn say(&mut self, index: usize, change: impl FnOnce(&mut VolumeEntry)) {
        if let Some(entry) = self.page.volumes.get_mut(index) {
            let before = *entry;
            change(entry);
            if *entry != before {
                self.page_dirty = true;
            }
        }
    }

    pub(crate) fn fact(&mut self, fact: Fact) {
        self.out.push(Effect::Fact(Box::new(fact)));
    }

    pub(crate) fn start_job(&mut self, volume: &mut Volume, job: Job) {
        volume.busy_job = true;
        self.out.push(Effect::Job { volume: volume.uuid, job });
    }

    pub(crate) fn start_op(&mut self, volume: &mut Volume, op: TableOp) {
        volume.busy_op = true;
        self.out.push(Effect::Table { tag: OpTag::Volume(volume.uuid), op });
    }

    pub(crate) fn step_volume(&mut self, uuid: Uuid, world: &World<'_>) {
        let Some(mut volume) = self.volumes.remove(&uuid) else { return };
        match world.table(uuid) {
            Some(table) => {
                self.watch_grant(&mut volume, table, world);
                if !volume.busy_job && !volume.busy_op {
                    self.next_thing(&mut volume, table, world);
                }
            }
            None if !volume.busy_job => self.close_removed(&mut volume, world),
            None => {}
        }
        self.volumes.insert(uuid, volume);
    }

    fn next_thing(&mut self, volume: &mut Volume, table: &VolumeTable, world: &World<'_>) {
        let mine = table.writer.filter(|g| g.slot == self.me() && g.incarnation == self.setup.incarnation);
        if let Some(grant) = mine {
            self.step_writer(volume, table, grant, world);
        } else if volume.writer != Writer::None {
            self.lost_grant(volume, world);
        } else {
            self.step_wish(volume, table, world);
            if !volume.busy_op {
                self.step_reader(volume, table, world);
            }
        }
    }

    /// The table does not name this client any more. After a closed gate that is as it should be.
    fn lost_grant(&mut self, volume: &mut Volume, world: &World<'_>) {
        match &volume.writer {
            Writer::Stopped(_) | Writer::None => {
                volume.writer = Writer::None;
                self.after_release(volume, world, false);
            }
            Writer::Mounting { epoch } | Writer::Stopping { epoch } | Writer::Writing(Writing { epoch, .. }) => {
                let epoch = *epoch;
                volume.writer = Writer::Stopping { epoch };
                let generation = Generation { epoch, count: u64::MAX };
                self.start_job(volume, Job::StopWriter { generation, always: false, force: true, check: false });
            }
        }
    }

    fn close_removed(&mut self, volume: &mut Volume, world: &World<'_>) {
        if volume.writer != Writer::None {
            self.lost_grant(volume, world);
        } else if volume.mounted.is_some() || !volume.lingering.is_empty() {
            self.start_job(volume, Job::UnmountReader { force: true });
        }
    }

    /// Counts the waits of section 6 from the end of the own first read that shows their beginning.
    fn watch_grant(&mut self, volume: &mut Volume, table: &VolumeTable, world: &World<'_>) {
        let since = |old: Option<(u64, Duration)>, epoch: u64, holds: bool| match old {
            _ if !holds => None,
            Some((e, t)) if e == epoch => Some((e, t)),
            _ => Some((epoch, world.now)),
        };
        if let Some(grant) = table.writer {
            volume.reaped_since = since(volume.reaped_since, grant.epoch, world.holder_reaped(&grant));
            volume.revoked_since = since(volume.revoked_since, grant.epoch, grant.state == GrantState::Revoked);
        } else {
            volume.reaped_since = None;
            volume.revoked_since = None;
        }
        volume.next_since = match (table.next, volume.next_since) {
            (Some(next), Some((old, t))) if next == old => Some((old, t)),
            (Some(next), _) => Some((next, world.now)),
            (None, _) => None,
        };
    }

    /// Until when a dead or revoked grant must be waited out; None: never by time alone.
    pub(crate) fn wait_end(&self, volume: &Volume, table: &VolumeTable, world: &World<'_>) -> Option<Duration> {
        let grant = table.writer?;
        let skipped = volume.skip_inflight.as_deref() == Some(world.name(grant.slot).as_str());
        let inflight = if skipped { Some(Duration::ZERO) } else { ops::inflight_of(world, &grant, volume.uuid) }?;
        let reaped = volume.reaped_since.map(|(_, t)| t + inflight);
        let revoked = volume.revoked_since.map(|(_, t)| t + self.setup.periods.dead + inflight);
        match (reaped, revoked) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// A standing wish for the write privilege: the own request, or a dirty volume that nobody sees to.
    fn step_wish(&mut self, volume: &mut Volume, table: &VolumeTable, world: &World<'_>) {
        if self.leaving.is_some() || volume.pauses(world.now) {
            return;
        }
        let request = self.page.request(volume.uuid).map(|r| r.id);
        let cleaning = request.is_none() && self.should_clean(volume, table, world);
        if request.is_none() && !cleaning {
            return;
        }
        if let Err(failure) = rules::may_ask(world, self.me(), table) {
            if request.is_some() {
                self.drop_request(volume.uuid, &failure);
            }
            return;
        }
        let outwaited = self.wait_end(volume, table, world).filter(|end| world.now >= *end);
        let outwaited = outwaited.and_then(|_| table.writer.map(|g| g.epoch));
        let next_over = volume.next_since.is_some_and(|(_, since)| world.now >= since + self.setup.periods.next_kept);
        if let Some(grant) = table.writer {
            if rules::grant_is_over(world, &grant, volume.uuid, outwaited).is_err() {
                volume.free_since = None;
                return;
            }
        }
        let for_me = table.next.is_some_and(|n| n.slot == self.me() && Some(n.request) == request);
        if !for_me && !next_over && rules::not_promised(world, table).is_err() {
            return;
        }
        if !for_me && self.owes_courtesy(volume, table, world) {
            return;
        }
        volume.cleaning = cleaning;
        let inflight = self.page.volume(volume.uuid).map_or(InFlight::UNBOUNDED, |e| e.inflight);
        let op =
            TableOp::TakeGrant { volume: volume.uuid, request, clean_only: cleaning, inflight, outwaited, next_over };
        self.start_op(volume, op);
    }

    /// First come, first served: the first of the queue takes a free volume, the others give it a moment.
    fn owes_courtesy(&self, volume: &mut Volume, table: &VolumeTable, world: &World<'_>) -> bool {
        let first = world.queue(table).first().map(|s| s.from.slot);
        let others_first = first.is_some_and(|slot| slot != self.me());
        if !others_first {
            volume.free_since = None;
            return false;
        }
        let since = *volume.free_since.get_or_insert(world.now);
        world.now < since + COURTESY
    }

    /// Is it this client's turn to replay, publish and release a dirty volume? The first living client that may write.
    fn should_clean(&self, volume: &Volume, table: &VolumeTable, world: &World<'_>) -> bool {
        let orphan = match table.writer {
            None => ops::is_dirty(table),
            Some(grant) => {
                (table.readers != ondisk::ReadersPolicy::Live || grant.state == GrantState::Pending)
                    && (world.holder_reaped(&grant) || world.holder_left(&grant))
            }
        };
        let able = |p: &&super::Peer| {
            p.is_alive()
                && !world.tables.clients.get(p.slot.index()).is_none_or(Option::is_none)
                && ops::may_write(table, p.slot)
        };
        orphan && !volume.pauses(world.now) && world.peers.iter().find(able).is_some_and(|p| p.slot == self.me())
    }

    pub(crate) fn finish_op(&mut self, tag: OpTag, done: Result<OpDone, Failure>, world: &World<'_>) {
        match tag {
            OpTag::Reaper => self.finish_reap(&done),
            OpTag::Takeover(_) => {
                if let Err(failure) = done {
                    self.fact(Fact::of(FactKind::Trouble, "", failure.to_string()));
                }
            }
            OpTag::Volume(uuid) => {
                let Some(mut volume) = self.volumes.remove(&uuid) else { return };
                volume.busy_op = false;
                if let Err(failure) = done {
                    self.op_failed(&mut volume, failure, world);
                }
                self.volumes.insert(uuid, volume);
            }
        }
    }

    fn op_failed(&mut self, volume: &mut Volume, failure: Failure, world: &World<'_>) {
        volume.cleaning = false;
        match failure.exit {
            // Somebody was first: the request stands.
            ExitCode::Busy => volume.free_since = None,
            ExitCode::Refused if self.page.request(volume.uuid).is_some() && volume.writer == Writer::None => {
                self.drop_request(volume.uuid, &failure);
            }
            _ => {
                self.fact(Fact::of(FactKind::Trouble, &volume.name, failure.to_string()));
                volume.fail(failure, world.now);
            }
        }
    }

    pub(crate) fn finish_job(&mut self, uuid: Uuid, done: JobDone, world: &World<'_>) {
        let Some(mut volume) = self.volumes.remove(&uuid) else { return };
        volume.busy_job = false;
        match done {
            JobDone::ReaderMounted { generation } => self.reader_mounted(&mut volume, generation, world),
            JobDone::ReaderUnmounted { closed, busy } => self.reader_unmounted(&mut volume, closed, &busy, world),
            JobDone::Retired { lingering, .. } => self.retired(&mut volume, lingering, world),
            JobDone::WriterMounted { snapshots } => self.writer_mounted(&mut volume, snapshots, world),
            JobDone::Published { generation, modified_ms } => {
                self.published(&mut volume, generation, modified_ms, world);
            }
            JobDone::Deleted => {}
            JobDone::Stopped { generation, clean, modified_ms, check } => {
                self.stopped(&mut volume, generation, clean, modified_ms, check, world);
            }
            JobDone::StillBusy(busy) => self.still_busy(&mut volume, &busy_words(&busy), world),
            JobDone::Probed(probe) => self.probed(&mut volume, probe, world),
            JobDone::Failed(failure) => self.job_failed(&mut volume, failure, world),
            JobDone::Lost(failure) => {
                self.fact(Fact::of(FactKind::Trouble, &volume.name, failure.to_string()));
                volume.fail(failure, world.now);
            }
        }
        self.volumes.insert(uuid, volume);
    }

    fn job_failed(&mut self, volume: &mut Volume, failure: Failure, world: &World<'_>) {
        self.fact(Fact::of(FactKind::Trouble, &volume.name, failure.to_string()));
        match volume.writer.clone() {
            Writer::Mounting { epoch } => self.mount_failed(volume, epoch, &failure, world),
            Writer::Stopping { epoch } => self.stop_failed(volume, epoch, &failure, world),
            Writer::Writing(mut writing) => {
                writing.published_at = world.now;
                volume.writer = Writer::Writing(writing);
            }
            Writer::None | Writer::Stopped(_) => {
                if let Some((generation, _)) = volume.announced.take() {
                    self.let_go(volume, generation);
                }
            }
        }
        volume.fail(failure, world.now);
    }

    /// What the own access to the volume is; none when this client is not in the tables or disabled.
    pub(crate) fn access(&self, table: &VolumeTable, world: &World<'_>) -> Access {
        let record = world.tables.clients.get(self.me().index()).and_then(Option::as_ref);
        if record.is_some_and(|r| r.enabled) { table.permission(self.me()).access } else { Access::None }
    }

    /// Nothing of the volume is open here: the page says so, and of which grant it speaks.
    pub(crate) fn say_closed(&mut self, index: usize, epoch: u64) {
        self.say(index, |e| {
            e.state = MountState::GateClosed;
            e.epoch = epoch;
            e.seen = Generation::NONE;
            e.held = Default::default();
            e.busy = false;
        });
    }
}
