//! What comes back of transactions and jobs, and what to make of it.

use std::mem::discriminant;

use ondisk::Uuid;

use super::Engine;
use super::effect::{Fact, Job, JobDone, OpTag, busy_words};
use super::ops::OpDone;
use super::volume::{Volume, Writer};
use super::world::World;
use crate::wire::event::EventName;
use crate::wire::outcome::{ExitCode, Failure};

impl Engine {
    pub(crate) fn finish_op(&mut self, tag: OpTag, done: Result<OpDone, Failure>, world: &World<'_>) {
        match tag {
            OpTag::Reaper => self.finish_reap(&done),
            OpTag::Takeover(uuid, epoch) => {
                if let Err(failure) = done {
                    self.revocation_failed(uuid, epoch, &failure, world);
                }
            }
            OpTag::Volume(uuid) => {
                let Some(mut volume) = self.volumes.remove(&uuid) else { return };
                volume.busy_op = false;
                // A grant that is over was cleared, or somebody else was first: nothing is to be brought in order here.
                volume.cleaning &= world.table(uuid).is_some_and(|t| self.own_grant(t).is_some());
                match done {
                    Ok(_) => volume.op_pause = None,
                    Err(failure) => self.op_failed(&mut volume, &failure, world),
                }
                self.volumes.insert(uuid, volume);
            }
        }
    }

    fn op_failed(&mut self, volume: &mut Volume, failure: &Failure, world: &World<'_>) {
        match failure.exit {
            // Somebody was first: the request stands.
            ExitCode::Busy => {
                volume.free_since = None;
                volume.yield_op(world.now);
            }
            ExitCode::Refused if self.page.request(volume.uuid).is_some() && volume.writer == Writer::None => {
                self.drop_request(volume.uuid, failure);
            }
            _ => {
                self.trouble(volume, EventName::Note, failure);
                volume.fail_op(world.now);
            }
        }
    }

    /// The writer that was to be robbed is gone meanwhile: then the request does the rest. Else whoever waits hears why.
    fn revocation_failed(&mut self, uuid: Uuid, epoch: u64, failure: &Failure, world: &World<'_>) {
        self.fact(Fact::of(EventName::Note, "", failure.to_string()));
        let others = world
            .table(uuid)
            .and_then(|t| t.writer)
            .is_some_and(|g| g.epoch == epoch || g.slot != self.me() && world.writer_lives(&g));
        if others {
            self.drop_request(uuid, failure);
        }
    }

    /// Tells people, once for each thing that does not work.
    pub(crate) fn trouble(&mut self, volume: &mut Volume, event: EventName, failure: &Failure) {
        let text = failure.to_string();
        if volume.troubled.as_ref() != Some(&text) {
            self.fact(Fact::of(event, &volume.name, text.clone()));
            volume.troubled = Some(text);
        }
    }

    pub(crate) fn finish_job(&mut self, uuid: Uuid, done: JobDone, world: &World<'_>) {
        let Some(mut volume) = self.volumes.remove(&uuid) else { return };
        let job = volume.job.take();
        let failed =
            matches!(done, JobDone::Failed(_) | JobDone::HalfMounted(_) | JobDone::Lost(_) | JobDone::StillBusy(_));
        if !failed {
            volume.troubled = None;
            let same = |j: &Job| job.as_ref().is_some_and(|job| discriminant(j) == discriminant(job));
            volume.failure.take_if(|f| f.job.as_ref().is_none_or(same));
        }
        match done {
            JobDone::ReaderMounted { generation } => self.reader_mounted(&mut volume, generation),
            JobDone::ReaderUnmounted { closed, busy } => self.reader_unmounted(&mut volume, closed, &busy),
            JobDone::Retired { lingering, .. } => self.retired(&mut volume, lingering, world),
            JobDone::WriterMounted { snapshots } => self.writer_mounted(&mut volume, snapshots, world),
            JobDone::HalfMounted(failure) => {
                self.trouble(&mut volume, EventName::MountFailed, &failure);
                self.mount_failed(&mut volume, false, &failure, world);
                volume.fail(failure, job, world.now);
            }
            JobDone::Published { generation, modified_ms } => {
                self.published(&mut volume, generation, modified_ms, world);
            }
            JobDone::Deleted => {}
            JobDone::Stopped { generation, clean, modified_ms, check } => {
                self.stopped(&mut volume, (generation, clean, modified_ms), check, world);
            }
            JobDone::StillBusy(busy) => self.still_busy(&mut volume, &busy_words(&busy), world),
            JobDone::Probed(probe) => self.probed(&mut volume, probe, world),
            JobDone::Measured { inflight_ms } => self.inflight_measured(&mut volume, inflight_ms),
            JobDone::Failed(failure) => self.job_failed(&mut volume, job, failure, world),
            JobDone::Lost(failure) => {
                self.trouble(&mut volume, EventName::Note, &failure);
                volume.fail(failure, job, world.now);
            }
        }
        self.volumes.insert(uuid, volume);
    }

    fn job_failed(&mut self, volume: &mut Volume, job: Option<Job>, failure: Failure, world: &World<'_>) {
        let event = match &job {
            Some(Job::MountReader { .. }) if volume.mounted.is_some() => EventName::RefreshFailed,
            Some(Job::MountReader { .. } | Job::MountWriter { .. }) => EventName::MountFailed,
            Some(Job::Publish { .. }) => EventName::PublishFailed,
            _ => EventName::Note,
        };
        self.trouble(volume, event, &failure);
        match &job {
            Some(Job::MountReader { generation }) => self.let_go(volume, *generation),
            Some(Job::MountWriter { .. }) => self.mount_failed(volume, true, &failure, world),
            Some(Job::StopWriter { .. }) => self.still_busy(volume, &failure.why, world),
            Some(Job::Publish { .. }) => {
                if let Writer::Writing(writing) = &mut volume.writer {
                    writing.published_at = world.now;
                }
            }
            Some(Job::Delete { generations }) => {
                if let Writer::Writing(writing) = &mut volume.writer {
                    writing.snapshots.extend(generations);
                }
            }
            // The next look comes in its turn.
            Some(Job::Probe { .. }) => return,
            Some(Job::UnmountReader { .. } | Job::Retire | Job::FenceWriter | Job::Measure) | None => {}
        }
        volume.fail(failure, job, world.now);
    }
}
