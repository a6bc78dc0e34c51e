//! One volume on this client: what is mounted, what is wanted, and the one next thing to do.

use std::time::Duration;

use ondisk::{Access, Generation, Grant, MountState, Uuid, VolumeEntry, VolumeTable};

use super::Engine;
use super::command::CommandId;
use super::effect::{Effect, Fact, Job, OpTag, Probe};
use super::ops::TableOp;
use super::world::World;
use crate::wire::event::EventName;
use crate::wire::outcome::Failure;

/// First pause after something failed; doubled each time up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// After a transaction that somebody else's was before.
const YIELD: Duration = Duration::from_millis(100);

/// The writer's side.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
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
    /// Being stopped; what it was, to be put back if open files keep it.
    Stopping(Writing),
    /// Being closed at once, under whatever is open: the tables name another writer, or none.
    Fencing {
        /// The grant that is lost.
        epoch: u64,
    },
    /// The gate is closed; the table still names this client.
    Stopped(Stopped),
}

/// A volume that is mounted read-write here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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

/// Something that did not work, and is left alone for a while.
#[derive(Debug, Clone, Hash)]
pub struct Failed {
    /// What, for people.
    pub failure: Failure,
    /// The job.
    pub job: Option<Job>,
    until: Duration,
    pause: Duration,
}

/// A volume.
#[derive(Debug, Clone, Hash)]
pub struct Volume {
    /// In the tables.
    pub uuid: Uuid,
    /// Its name.
    pub name: String,
    /// Mounted read-only here.
    pub mounted: Option<Generation>,
    /// Older generations whose files are still open.
    pub lingering: Vec<Generation>,
    /// The generation said in the page and not yet mounted, and the page sequence that says it.
    pub announced: Option<(Generation, u64)>,
    /// Only for the test that takes out "the writer that the table names now".
    pub(crate) announced_under: Option<Grant>,
    /// The writer's side.
    pub writer: Writer,
    /// The job that runs.
    pub job: Option<Job>,
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
    /// An administrator knows that the writer of this grant is gone.
    pub skip_inflight: Option<u64>,
    /// An administrator takes it over: what is somebody else's on its device goes.
    pub breaks_foreign: bool,
    /// The newest look at it.
    pub probe: Option<Probe>,
    /// When it was.
    pub probed_at: Duration,
    /// Since when nothing is open for writing and nothing was written.
    pub idle_since: Option<Duration>,
    /// What did not work.
    pub failure: Option<Failed>,
    /// The last trouble that people were told of.
    pub troubled: Option<String>,
    /// When a grant's holder was first seen reaped: (epoch, since).
    pub reaped_since: Option<(u64, Duration)>,
    /// When a grant was first seen revoked.
    pub revoked_since: Option<(u64, Duration)>,
    /// The ending of a grant that was seen last: its epoch, reaped, revoked.
    pub(crate) sighted: Option<(u64, bool, bool)>,
    /// Since when the volume is free and promised to this one.
    pub next_since: Option<(ondisk::NextWriter, Duration)>,
    /// Since when it is free while another is first in the queue.
    pub free_since: Option<Duration>,
    /// Since when it is dirty and nobody writes it, whatever was tried in between.
    pub orphan_since: Option<Duration>,
    /// How long this host may hold back writes to it was measured in this login.
    pub measured: bool,
    /// A transaction failed: not again before this, and the pause after that.
    pub op_pause: Option<(Duration, Duration)>,
    /// Since when readers' open files keep an `exclusive` gate open.
    pub grace_since: Option<Duration>,
    /// Closing under open files was tried.
    pub forced: bool,
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
    fn new(uuid: Uuid, name: &str, user_unmounted: bool) -> Self {
        Self {
            uuid,
            name: name.to_owned(),
            mounted: None,
            lingering: Vec::new(),
            announced: None,
            announced_under: None,
            writer: Writer::None,
            job: None,
            busy_op: false,
            release: None,
            release_after: Duration::ZERO,
            cleaning: false,
            user_unmounted,
            refresh_now: false,
            skip_inflight: None,
            breaks_foreign: false,
            probe: None,
            probed_at: Duration::ZERO,
            idle_since: None,
            failure: None,
            troubled: None,
            reaped_since: None,
            revoked_since: None,
            sighted: None,
            next_since: None,
            free_since: None,
            orphan_since: None,
            measured: false,
            op_pause: None,
            grace_since: None,
            forced: false,
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
            && self.job.is_none()
            && !self.busy_op
    }

    /// Every gate of it is closed here, whatever the tables still say of it.
    pub fn gates_closed(&self) -> bool {
        let writer = matches!(self.writer, Writer::None | Writer::Stopped(_));
        writer && self.mounted.is_none() && self.lingering.is_empty() && self.announced.is_none() && self.job.is_none()
    }

    /// A new release; the commands of an earlier one are kept.
    pub fn ask_release(&mut self, mut release: Release) {
        if let Some(old) = self.release.take() {
            release.commands.extend(old.commands);
            release.force |= old.force;
            release.to = release.to.or(old.to);
        }
        self.release = Some(release);
    }

    /// Is it being written, with no end in sight? One that was only to be brought in order is kept then.
    pub fn keeps_writing(&mut self) -> bool {
        if !matches!(self.writer, Writer::Writing(_)) {
            return false;
        }
        let of_itself = |r: &Release| r.to.is_none() && !r.force && r.commands.is_empty();
        if self.cleaning && self.release.as_ref().is_none_or(of_itself) {
            self.cleaning = false;
            self.release = None;
        }
        self.release.is_none()
    }

    /// Tries again at once.
    pub fn forget_failure(&mut self) {
        self.failure = None;
    }

    /// Keeps the failure for people, and pauses.
    pub fn fail(&mut self, failure: Failure, job: Option<Job>, now: Duration) {
        let pause = self.failure.as_ref().map_or(PAUSE, |f| (f.pause * 2).min(PAUSE_MAX));
        self.failure = Some(Failed { failure, job, until: now + pause, pause });
    }

    /// Is it to be left alone for now?
    pub fn pauses(&self, now: Duration) -> bool {
        self.failure.as_ref().is_some_and(|f| now < f.until)
    }

    /// Did closing a gate just fail? Only that may keep it from being tried at once.
    pub fn pauses_closing(&self, now: Duration) -> bool {
        let closing =
            |job: &Option<Job>| matches!(job, Some(Job::UnmountReader { .. } | Job::FenceWriter | Job::Retire));
        self.failure.as_ref().is_some_and(|f| now < f.until && closing(&f.job))
    }

    /// The tables were another's just now: they are not asked again in the very next poll.
    pub fn yield_op(&mut self, now: Duration) {
        self.op_pause = Some((now + YIELD, PAUSE / 2));
    }

    /// A transaction did not work: the next waits a little longer each time.
    pub fn fail_op(&mut self, now: Duration) {
        let pause = self.op_pause.map_or(PAUSE, |(_, p)| (p * 2).min(PAUSE_MAX));
        self.op_pause = Some((now + pause, pause));
    }

    /// Are transactions of it to be left alone for now?
    pub fn op_pauses(&self, now: Duration) -> bool {
        self.op_pause.is_some_and(|(until, _)| now < until)
    }

    /// Is something under way that the next poll may decide?
    pub fn hurried(&self, engine: &Engine) -> bool {
        self.announced.is_some()
            || self.busy_op
            || (self.release.is_some() && self.release_after.is_zero())
            || self.job.is_some()
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
        let left_over = self.volumes.len() != usize::from(world.tables.header.volumes);
        if self.last_commit == Some(commit) && !left_over {
            return;
        }
        let before = self.last_commit.replace(commit);
        self.volumes.retain(|_, v| world.table(v.uuid).is_some() || !v.is_closed());
        for (index, table) in world.tables.volumes.iter().enumerate() {
            let Some(table) = table else { continue };
            let gone = self.setup.unmounted.contains(&table.uuid);
            let volume =
                self.volumes.entry(table.uuid).or_insert_with(|| Volume::new(table.uuid, table.name.as_str(), gone));
            table.name.as_str().clone_into(&mut volume.name);
            self.take_room(index, table.uuid);
        }
        let record = world.tables.clients.get(self.me().index()).and_then(Option::as_ref);
        self.auto_response = record.map_or(ondisk::AutoResponse::Off, |r| r.auto_response);
        let new = before.is_some_and(|before| before != commit);
        if new && record.is_some_and(|r| r.notify) {
            let text = format!("the tables changed: commit {commit}");
            self.fact(Fact::of(EventName::Note, "", text));
        }
    }

    /// The volume's room in the page. While one that was removed from the tables is still open here, the room stays its.
    fn take_room(&mut self, index: usize, uuid: Uuid) {
        let Some(entry) = self.page.volumes.get_mut(index) else { return };
        if entry.volume != uuid && !self.volumes.contains_key(&entry.volume) {
            *entry = VolumeEntry::of(uuid);
            self.page_dirty = true;
        }
    }

    /// Changes the page's entry of a volume; the page is written if that changed anything.
    pub(crate) fn say(&mut self, volume: Uuid, change: impl FnOnce(&mut VolumeEntry)) {
        if let Some(entry) = self.page.volumes.iter_mut().find(|e| e.volume == volume) {
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
        volume.job = Some(job.clone());
        self.out.push(Effect::Job { volume: volume.uuid, job });
    }

    pub(crate) fn start_op(&mut self, volume: &mut Volume, op: TableOp) {
        volume.busy_op = true;
        self.out.push(Effect::Table { tag: OpTag::Volume(volume.uuid), op });
    }

    pub(crate) fn step_volume(&mut self, uuid: Uuid, world: &World<'_>) {
        let Some(mut volume) = self.volumes.remove(&uuid) else { return };
        // What cannot be said in the page cannot be mounted.
        let table = world.table(uuid).filter(|_| self.page.volume(uuid).is_some());
        match table {
            Some(table) => {
                self.watch_grant(&mut volume, table, world);
                if volume.job.is_none() && !volume.busy_op {
                    self.next_thing(&mut volume, table, world);
                }
            }
            None if volume.job.is_none() && !volume.busy_op => self.close_removed(&mut volume, world),
            None => {}
        }
        self.volumes.insert(uuid, volume);
    }

    fn next_thing(&mut self, volume: &mut Volume, table: &VolumeTable, world: &World<'_>) {
        if let Some(grant) = self.own_grant(table) {
            volume.reason = None;
            self.step_writer(volume, table, grant, world);
        } else if volume.writer != Writer::None {
            self.lost_grant(volume, world);
        } else {
            self.step_wish(volume, table, world);
            if !volume.busy_op && volume.job.is_none() {
                self.step_reader(volume, table, world);
            }
        }
    }

    /// The grant by which this very login may write the volume.
    pub(crate) fn own_grant(&self, table: &VolumeTable) -> Option<Grant> {
        table.writer.filter(|g| g.slot == self.me() && g.incarnation == self.setup.incarnation)
    }

    /// The table does not name this client any more. After a closed gate that is as it should be; else the gate is
    /// closed at once, and nothing more is published: the volume may be another's already.
    fn lost_grant(&mut self, volume: &mut Volume, world: &World<'_>) {
        match &volume.writer {
            Writer::Stopped(_) | Writer::None => {
                volume.writer = Writer::None;
                self.after_release(volume, world);
            }
            Writer::Mounting { epoch }
            | Writer::Fencing { epoch }
            | Writer::Stopping(Writing { epoch, .. })
            | Writer::Writing(Writing { epoch, .. }) => {
                if volume.pauses_closing(world.now) || !self.setup.switches.lost_grant_closes {
                    return;
                }
                volume.writer = Writer::Fencing { epoch: *epoch };
                self.start_job(volume, Job::FenceWriter);
            }
        }
    }

    /// The volume is gone from the tables: whatever is open of it here is closed.
    fn close_removed(&mut self, volume: &mut Volume, world: &World<'_>) {
        volume.announced = None;
        if volume.writer != Writer::None {
            self.lost_grant(volume, world);
        } else if !volume.gates_closed() && !volume.pauses_closing(world.now) {
            self.start_job(volume, Job::UnmountReader { force: true });
        }
    }

    /// What the own access to the volume is; none when this client is not in the tables or disabled.
    pub(crate) fn access(&self, table: &VolumeTable, world: &World<'_>) -> Access {
        let record = world.tables.clients.get(self.me().index()).and_then(Option::as_ref);
        if record.is_some_and(|r| r.enabled) { table.permission(self.me()).access } else { Access::None }
    }

    /// Nothing of the volume is open here: the page says so, and of which grant it speaks.
    pub(crate) fn say_closed(&mut self, volume: Uuid, epoch: u64) {
        self.say(volume, |e| {
            e.state = MountState::GateClosed;
            e.epoch = epoch;
            e.seen = Generation::NONE;
            e.held = Default::default();
            e.busy = false;
        });
    }
}
