//! The writer's side of a volume: pending, mount, publish, stop, release (sections 7 and 8).

use std::time::Duration;

use ondisk::{Access, Generation, Grant, GrantState, InFlight, MountState, ReadersPolicy, VolumeTable};

use super::Engine;
use super::command::Reply;
use super::effect::{Fact, Job, Probe};
use super::ops::TableOp;
use super::volume::{Release, Stopped, Volume, Writer, Writing};
use super::world::World;
use crate::wire::event::EventName;
use crate::wire::outcome::Failure;

/// Between two tries of a release that open files prevented.
const RETRY: Duration = Duration::from_secs(2);
/// After a yes of itself that open files prevented.
const AUTO_RETRY: Duration = Duration::from_secs(10);
/// Between two looks at free space and open files of a writer.
const PROBE_PERIOD: Duration = Duration::from_secs(2);

impl Engine {
    pub(crate) fn step_writer(&mut self, volume: &mut Volume, table: &VolumeTable, grant: Grant, world: &World<'_>) {
        // What was announced for reading is over: the page will speak of the grant, and no longer of that.
        if let Some((generation, _)) = volume.announced.take() {
            self.let_go(volume, generation);
        }
        match (grant.state, volume.writer.clone()) {
            (_, Writer::Stopped(stopped)) => self.tell_released(volume, &stopped, world),
            (GrantState::Pending, _) => self.step_pending(volume, table, grant, world),
            (GrantState::Revoked, Writer::None) => self.give_up_grant(volume, table, grant.epoch),
            (GrantState::Revoked, Writer::Writing(_)) => {
                if volume.release.as_ref().is_none_or(|r| !r.force) {
                    volume.ask_release(Release::of_itself(true));
                    volume.release_after = Duration::ZERO;
                }
                if world.now >= volume.release_after {
                    self.stop_writing(volume, table, world);
                }
            }
            (GrantState::Held, Writer::None) => self.start_writing(volume, table, grant),
            (GrantState::Held, Writer::Writing(writing)) => self.step_writing(volume, table, &writing, world),
            // A job that was lost: the driver ends this login.
            (_, Writer::Mounting { .. } | Writer::Stopping(_) | Writer::Fencing { .. }) => {}
        }
    }

    /// Does anybody here still want the grant that has come?
    fn is_wished(&self, volume: &Volume) -> bool {
        let asked = volume.cleaning || self.page.request(volume.uuid).is_some();
        asked && self.leaving.is_none() && volume.release.is_none()
    }

    /// `exclusive`: waits until no other client, and no reader here, has its gate open (section 8).
    fn step_pending(&mut self, volume: &mut Volume, table: &VolumeTable, grant: Grant, world: &World<'_>) {
        if !self.is_wished(volume) {
            self.give_up_grant(volume, table, grant.epoch);
            return;
        }
        if volume.mounted.is_some() || !volume.lingering.is_empty() {
            self.close_reader(volume, world);
            return;
        }
        let on = self.setup.switches;
        if on.pending_waits_for_gates && world.others_open(on, self.me(), volume.uuid) {
            volume.grace_since.get_or_insert(world.now);
        } else if !volume.op_pauses(world.now) {
            volume.grace_since = None;
            self.start_op(volume, TableOp::Hold { volume: volume.uuid, epoch: grant.epoch });
        }
    }

    /// Clears a grant under which nothing was mounted.
    fn give_up_grant(&mut self, volume: &mut Volume, table: &VolumeTable, epoch: u64) {
        let clean = table.dirty_since == epoch;
        // A reader's gate may still be open here: then the page must not say otherwise.
        if volume.mounted.is_none() && volume.lingering.is_empty() {
            self.say_closed(volume.uuid, epoch);
        }
        volume.writer = Writer::Stopped(Stopped { epoch, generation: None, clean, modified_ms: 0, checked: false });
    }

    fn start_writing(&mut self, volume: &mut Volume, table: &VolumeTable, grant: Grant) {
        if !self.is_wished(volume) {
            self.give_up_grant(volume, table, grant.epoch);
            return;
        }
        volume.writer = Writer::Mounting { epoch: grant.epoch };
        volume.grace_since = None;
        self.say(volume.uuid, |e| {
            e.state = MountState::ReadWrite;
            e.epoch = grant.epoch;
            e.published = Generation::NONE;
            e.retired = Generation::NONE;
            e.stale = false;
        });
        let breaks_foreign = volume.breaks_foreign;
        self.start_job(volume, Job::MountWriter { epoch: grant.epoch, check: table.check_due, breaks_foreign });
    }

    pub(crate) fn writer_mounted(&mut self, volume: &mut Volume, snapshots: Vec<Generation>, world: &World<'_>) {
        let Writer::Mounting { epoch } = volume.writer else { return };
        let table = world.table(volume.uuid);
        let owed = table.is_some_and(|t| {
            t.dirty_since != 0 && t.dirty_since < epoch || t.last.is_none() && t.readers != ReadersPolicy::Live
        });
        volume.writer = Writer::Writing(Writing { epoch, count: 0, published_at: world.now, owed, snapshots });
        volume.failure = None;
        volume.skip_inflight = None;
        volume.breaks_foreign = false;
        volume.idle_since = None;
        volume.release_after = Duration::ZERO;
        volume.probed_at = Duration::ZERO;
        if let Some(seen) = volume.mounted.take() {
            volume.lingering.push(seen);
            volume.retired_at = Duration::ZERO;
        }
        self.say(volume.uuid, |e| e.seen = Generation::NONE);
        let asked = self.page.request(volume.uuid).is_some();
        // Asked for while it was being brought in order: then it need not go back and forth, unless others were first.
        let turn = !volume.cleaning || table.is_some_and(|t| self.is_first(volume.uuid, t, world));
        if asked && turn {
            volume.cleaning = false;
            self.take_request_away(volume.uuid);
            self.tell_granted(volume);
        } else if volume.release.is_none() {
            // To bring it in order only, or withdrawn while it was being mounted.
            volume.ask_release(Release::of_itself(false));
        }
        let text = format!("{}: write access, by grant {epoch}", volume.name);
        self.fact(Fact::of(EventName::GrantTaken, &volume.name, text));
    }

    /// `untouched`: not one byte of the volume was written under this grant.
    pub(crate) fn mount_failed(&mut self, volume: &mut Volume, untouched: bool, failure: &Failure, world: &World<'_>) {
        let Writer::Mounting { epoch } = volume.writer else { return };
        let clean = untouched && world.table(volume.uuid).is_some_and(|t| t.dirty_since == epoch);
        volume.cleaning = false;
        self.drop_request(volume.uuid, failure);
        let kept: Vec<Generation> = volume.lingering.clone();
        let mounted = volume.mounted;
        self.say(volume.uuid, |e| {
            e.state = if mounted.is_some() || !kept.is_empty() { MountState::ReadOnly } else { MountState::GateClosed };
            e.epoch = epoch;
        });
        volume.writer = Writer::Stopped(Stopped { epoch, generation: None, clean, modified_ms: 0, checked: false });
    }

    fn step_writing(&mut self, volume: &mut Volume, table: &VolumeTable, writing: &Writing, world: &World<'_>) {
        if let Some(leaving) = self.leaving {
            let force = leaving.now || world.now >= leaving.since + self.setup.periods.grace;
            if volume.release.as_ref().is_none_or(|r| force && !r.force) {
                volume.ask_release(Release::of_itself(force));
                volume.release_after = Duration::ZERO;
            }
        }
        if self.access(table, world) != Access::Write && volume.release.is_none() {
            volume.ask_release(Release::of_itself(false));
        }
        self.answer_by_itself(volume, table, world);
        if volume.release.is_none() && self.page.request(volume.uuid).is_some() {
            // Asked again while it was being given back, which open files prevented.
            self.take_request_away(volume.uuid);
            self.tell_granted(volume);
        }
        if volume.release.is_some() && world.now >= volume.release_after {
            self.stop_writing(volume, table, world);
            return;
        }
        self.tend_writer(volume, table, writing, world);
    }

    /// Publishes, deletes what nobody needs, looks for open files.
    fn tend_writer(&mut self, volume: &mut Volume, table: &VolumeTable, writing: &Writing, world: &World<'_>) {
        let due = world.now >= writing.published_at + self.setup.periods.publish;
        if table.readers != ReadersPolicy::Exclusive && (writing.owed || due) {
            let generation = self.next_generation(table, writing);
            self.start_job(volume, Job::Publish { generation, always: writing.owed });
            return;
        }
        let dead = self.deletable(volume, writing, world);
        if !dead.is_empty() && !volume.pauses(world.now) {
            if let Writer::Writing(writing) = &mut volume.writer {
                writing.snapshots.retain(|g| !dead.contains(g));
            }
            self.start_job(volume, Job::Delete { generations: dead });
            return;
        }
        if !volume.lingering.is_empty() && world.now >= volume.retired_at + RETRY / 4 {
            volume.retired_at = world.now;
            self.start_job(volume, Job::Retire);
        } else if world.now >= volume.probed_at + self.probe_period(volume) {
            volume.probed_at = world.now;
            let files = self.asked_idle(volume);
            self.start_job(volume, Job::Probe { files });
        }
    }

    fn probe_period(&self, volume: &Volume) -> Duration {
        if self.asked_idle(volume) { PROBE_PERIOD / 8 } else { PROBE_PERIOD }
    }

    fn asked_idle(&self, volume: &Volume) -> bool {
        self.mailbox.concerns(volume.uuid) && self.auto_response == ondisk::AutoResponse::Idle
    }

    fn stop_writing(&mut self, volume: &mut Volume, table: &VolumeTable, world: &World<'_>) {
        let Writer::Writing(writing) = &volume.writer else { return };
        let job = Job::StopWriter {
            generation: self.next_generation(table, writing),
            always: writing.owed || table.last.is_none() && writing.count == 0,
            force: volume.release.as_ref().is_some_and(|r| r.force),
            check: table.check_due,
        };
        let epoch = writing.epoch;
        volume.writer = Writer::Stopping(writing.clone());
        self.start_job(volume, job);
        if !self.setup.switches.close_before_release {
            self.release_open(volume, epoch, world);
        }
    }

    /// What the source text does: the table is cleared and yes is said while the gate is still open. Only a test asks for it.
    fn release_open(&mut self, volume: &mut Volume, epoch: u64, world: &World<'_>) {
        self.say_yes(volume);
        let stopped = Stopped { epoch, generation: None, clean: true, modified_ms: 0, checked: false };
        self.tell_released(volume, &stopped, world);
    }

    /// The name of what is published next.
    fn next_generation(&self, table: &VolumeTable, writing: &Writing) -> Generation {
        let count = writing.count + 1;
        if self.setup.switches.generation_names_its_grant {
            return Generation { epoch: writing.epoch, count };
        }
        Generation { epoch: 1, count: count.max(table.last.count + 1) }
    }

    /// Open files, or something that failed, kept the mount: it was put back, and the grant stays.
    pub(crate) fn still_busy(&mut self, volume: &mut Volume, words: &str, world: &World<'_>) {
        if let Writer::Stopping(writing) = &volume.writer {
            volume.writer = Writer::Writing(writing.clone());
        }
        let Some(mut release) = volume.release.take() else { return };
        let failure = Failure::busy(
            format!("{} cannot be released", volume.name),
            format!("it is in use: {words}"),
            "close what is open, or end the program, and release again; write access stays here",
        );
        for id in std::mem::take(&mut release.commands) {
            self.waiters.retain(|w| w.id != id);
            self.reply(id, Reply::Failed(failure.clone()));
        }
        if let Some((slot, request)) = release.to.take() {
            let message = ondisk::Message::cut(&format!("in use: {words}"));
            self.put_answer(slot, request, volume.uuid, ondisk::AnswerVerdict::Later, message);
        }
        let insists = self.leaving.is_some() || volume.cleaning || release.force;
        volume.release_after = world.now + if insists { RETRY } else { AUTO_RETRY };
        if insists {
            volume.release = Some(release);
        }
        self.trouble(volume, EventName::Note, &failure);
    }

    pub(crate) fn stopped(
        &mut self,
        volume: &mut Volume,
        (generation, clean, modified_ms): (Option<Generation>, bool, i64),
        check: Option<String>,
        world: &World<'_>,
    ) {
        let (epoch, count) = match &volume.writer {
            Writer::Stopping(writing) => (writing.epoch, writing.count),
            Writer::Fencing { epoch } => (*epoch, 0),
            _ => return,
        };
        let generation = generation.or((count > 0).then_some(Generation { epoch, count }));
        let modified_ms = if modified_ms == 0 { world.wall_ms } else { modified_ms };
        if let Some(text) = &check {
            let text = format!("{}: file system check after the takeover: {text}", volume.name);
            self.fact(Fact::of(EventName::Checked, &volume.name, text));
        }
        // The closing call has returned: only now may the page say so, for this very grant.
        self.say(volume.uuid, |e| {
            e.state = MountState::GateClosed;
            e.epoch = epoch;
            e.busy = false;
            if let Some(generation) = generation {
                e.published = generation.max(e.published);
                e.modified_ms = modified_ms;
            }
        });
        volume.writer = Writer::Stopped(Stopped { epoch, generation, clean, modified_ms, checked: check.is_some() });
        // The table decides; but once it names the asker next, the asker is quick, and its request gone with the answer.
        self.say_yes(volume);
    }

    fn say_yes(&mut self, volume: &Volume) {
        let Some(release) = volume.release.as_ref() else { return };
        if let Some((slot, request)) = release.to {
            self.put_answer(slot, request, volume.uuid, ondisk::AnswerVerdict::Yes, release.message.clone());
        }
    }

    fn tell_released(&mut self, volume: &mut Volume, stopped: &Stopped, world: &World<'_>) {
        if volume.op_pauses(world.now) {
            return;
        }
        let next = volume.release.as_ref().and_then(|r| r.to).or_else(|| self.first_in_queue(volume, world));
        let op = TableOp::Release {
            volume: volume.uuid,
            epoch: stopped.epoch,
            generation: stopped.generation,
            clean: stopped.clean,
            modified_ms: stopped.modified_ms,
            checked: stopped.checked,
            next,
        };
        self.start_op(volume, op);
    }

    fn first_in_queue(&self, volume: &Volume, world: &World<'_>) -> Option<(ondisk::SlotIndex, ondisk::RequestId)> {
        let table = world.table(volume.uuid)?;
        let queue = world.queue(table);
        queue.iter().find(|s| s.from.slot != self.me()).map(|s| (s.from.slot, s.request.id))
    }

    /// The tables no longer name this client: the yes goes out, and the volume is a reader's again.
    pub(crate) fn after_release(&mut self, volume: &mut Volume, world: &World<'_>) {
        self.say_yes(volume);
        volume.release = None;
        let was_cleaning = std::mem::take(&mut volume.cleaning);
        volume.free_since = None;
        volume.grace_since = None;
        volume.release_after = Duration::ZERO;
        volume.looked_at = Duration::ZERO;
        volume.probe = None;
        volume.idle_since = None;
        let text = if was_cleaning {
            format!("{}: replayed, published and released of itself", volume.name)
        } else {
            format!("{}: write access given back", volume.name)
        };
        let newest = world.table(volume.uuid).map(|t| t.last).unwrap_or_default();
        self.fact(Fact::of(EventName::GrantReleased, &volume.name, text).generation(newest));
    }

    pub(crate) fn published(
        &mut self,
        volume: &mut Volume,
        generation: Option<Generation>,
        modified_ms: i64,
        world: &World<'_>,
    ) {
        let Writer::Writing(mut writing) = volume.writer.clone() else { return };
        writing.published_at = world.now;
        writing.owed = false;
        if let Some(generation) = generation {
            writing.count = generation.count;
            let snapshot = world.table(volume.uuid).is_some_and(|t| t.readers == ReadersPolicy::Snapshot);
            // Whatever was there before is of no use to anybody new.
            let older = writing.snapshots.iter().max().copied().unwrap_or_default();
            let older = world.table(volume.uuid).map_or(older, |t| older.max(t.last));
            if snapshot {
                writing.snapshots.push(generation);
            }
            self.say(volume.uuid, |e| {
                e.published = generation.max(e.published);
                e.modified_ms = modified_ms;
                if snapshot {
                    e.retired = older.max(e.retired);
                }
            });
            if snapshot {
                volume.retire_sequence = self.page_version + 1;
                self.page_dirty = true;
            }
            let text = format!("{}: published generation {generation}", volume.name);
            self.fact(Fact::of(EventName::Published, &volume.name, text).generation(generation));
        }
        volume.writer = Writer::Writing(writing);
    }

    pub(crate) fn inflight_measured(&mut self, volume: &mut Volume, inflight_ms: u64) {
        volume.measured = true;
        self.say(volume.uuid, |e| e.inflight = InFlight(inflight_ms));
    }

    pub(crate) fn probed(&mut self, volume: &mut Volume, probe: Probe, world: &World<'_>) {
        let active = probe.open_for_writing == Some(true) || probe.written;
        volume.idle_since = if active { None } else { volume.idle_since.or(Some(world.now)) };
        volume.probe = Some(probe);
        volume.measured = true;
        // Free space alone changes with every write: it is told with the next thing, or when it changed by a hundredth.
        self.say(volume.uuid, |e| {
            let step = (probe.capacity / 100).max(1);
            if e.capacity != probe.capacity || e.free.abs_diff(probe.free) >= step {
                e.capacity = probe.capacity;
                e.free = probe.free;
            }
            if let Some(open) = probe.open_for_writing {
                e.busy = open;
            }
            e.inflight = InFlight(probe.inflight_ms);
        });
    }
}
