//! The write gate: mount, publish, stop (sections 7 and 8).

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::SystemTime;

use lockdriver::gate::{Mode, Node};
use ondisk::{Generation, ReadersPolicy};

use super::{CHECK_BUDGET, Gates, Spec, Workshop, WriteGate, failed, to_busy};
use crate::engine::JobDone;
use crate::engine::effect::Busy;
use crate::volumes::busy::{Scope, who_holds};
use crate::volumes::fscheck::{CheckOutcome, check_unchanged};
use crate::volumes::mounting::{error::UnmountError, mount_writer};
use crate::volumes::publish::snapshots::{
    delete_snapshot, free_deleted, list_snapshots, publish_snapshot, relocation_running, switch_reclaim_off,
};
use crate::volumes::publish::{
    PublishError, Sample, changed_since, has_given_up, publish_freeze, sample, sample_frozen,
};
use crate::wire::outcome::Failure;
use ondisk::FsKind;

/// Milliseconds since 1970, for people.
fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Sectors written through a gate so far.
pub(super) fn sectors_written(node: Node) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/sys/block/{}/stat", node.name())).ok()?;
    stat.split_ascii_whitespace().nth(6)?.parse().ok()
}

fn check_words(outcome: &CheckOutcome) -> String {
    match outcome {
        CheckOutcome::Clean => "clean".into(),
        CheckOutcome::NotChecked(why) => format!("not checked: {why}"),
        CheckOutcome::Damaged(text) => format!("damaged: {text}"),
    }
}

impl Workshop {
    pub(super) fn mount_writer(
        &self,
        spec: &Spec,
        check: bool,
        breaks_foreign: bool,
        gates: &mut Gates,
    ) -> Result<JobDone, Failure> {
        let backing = self.prove(spec, true)?;
        self.raise_fence(spec, &backing, breaks_foreign, gates)?;
        let gate = self.open_gate(spec, &backing, Mode::ReadWrite).inspect_err(|_| gates.lower_fence(spec))?;
        drop(backing);
        let node = gate.node;
        let put = self.put_writer(spec, &gate.path(), check, gates);
        let (snapshots, sample, mount_id) = match put {
            Ok(put) => put,
            Err(failure) => {
                if let Err(e) = self.guardian()?.close_now(node) {
                    return Ok(JobDone::Lost(failed(spec, "its gate does not close", &e)));
                }
                self.forget(spec, node);
                gates.lower_fence(spec);
                return Ok(JobDone::HalfMounted(failure));
            }
        };
        if let Some(reader) = gates.reader.take() {
            gates.old.push(reader);
        }
        gates.writer = Some(WriteGate {
            node,
            mount_id,
            sample,
            written: sectors_written(node),
            published: None,
            owed: false,
            doomed: Vec::new(),
        });
        self.measure_inflight(spec, gates);
        Ok(JobDone::WriterMounted { snapshots })
    }

    /// Mounts it and puts it in its place. What was written up to then is sampled before anybody can write more.
    fn put_writer(
        &self,
        spec: &Spec,
        device: &Path,
        check: bool,
        gates: &Gates,
    ) -> Result<(Vec<Generation>, Option<Sample>, u64), Failure> {
        if check
            && self.check_before
            && let CheckOutcome::Damaged(text) = check_unchanged(device, spec.kind, CHECK_BUDGET)
        {
            return Err(failed(spec, "its file system is damaged and is not mounted read-write", &text));
        }
        let snapshot = spec.readers == ReadersPolicy::Snapshot;
        let mount = mount_writer(device, spec.kind, snapshot)
            .map_err(|e| failed(spec, "it cannot be mounted read-write", &e))?;
        let mut snapshots = Vec::new();
        if snapshot {
            let found =
                list_snapshots(mount.directory()).map_err(|e| failed(spec, "its snapshots cannot be listed", &e))?;
            snapshots = found.into_iter().collect();
        }
        let sample = sample(mount.directory()).ok();
        let mount_id = self.put_in_place(spec, gates, mount)?;
        if spec.kind == FsKind::Btrfs {
            let off = self.root.open(&spec.name).map(|directory| switch_reclaim_off(&directory));
            if let Ok(Err(e)) = off {
                tracing::warn!(event = "volume.reclaim", volume = spec.name, error = %e, "automatic reclaim stays on");
            }
        }
        Ok((snapshots, sample, mount_id))
    }

    /// Never a number twice, even if an earlier job raised it and then could not go on.
    fn next(writer: &WriteGate, wanted: Generation) -> Generation {
        match writer.published {
            Some(last) if last.epoch == wanted.epoch && last.count >= wanted.count => {
                Generation { epoch: last.epoch, count: last.count + 1 }
            }
            _ => wanted,
        }
    }

    pub(super) fn publish(
        &self,
        spec: &Spec,
        wanted: Generation,
        always: bool,
        gates: &mut Gates,
    ) -> Result<JobDone, Failure> {
        self.own_place(spec, gates)?;
        let Some(writer) = gates.writer.as_mut() else {
            return Err(failed(spec, "nothing to publish", &"not mounted"));
        };
        let directory = self.root.open(&spec.name).map_err(|e| failed(spec, "it cannot be published", &e))?;
        let changed = always || writer.owed || changed(&directory, writer);
        if !changed {
            return Ok(JobDone::Published { generation: None, modified_ms: 0 });
        }
        let generation = Self::next(writer, wanted);
        let modified_ms = wall_ms();
        // A publish that fails half-way may have been seen: its number is spent.
        writer.published = Some(generation);
        writer.owed = true;
        writer.delete_doomed(spec, &directory);
        writer.sample = self.make_public(spec, &directory, generation, modified_ms, writer)?;
        writer.owed = false;
        if spec.readers == ReadersPolicy::Snapshot
            && let Err(e) = free_deleted(&directory)
        {
            tracing::warn!(event = "volume.freed_later", volume = spec.name, error = %e, "deleted snapshots are freed later");
        }
        Ok(JobDone::Published { generation: Some(generation), modified_ms })
    }

    fn make_public(
        &self,
        spec: &Spec,
        directory: &File,
        generation: Generation,
        modified_ms: i64,
        writer: &WriteGate,
    ) -> Result<Option<Sample>, Failure> {
        if spec.readers == ReadersPolicy::Snapshot {
            let sample = self.take_snapshot(spec, directory, generation)?;
            self.session.raise(spec.uuid, generation, modified_ms)?;
            return Ok(Some(sample));
        }
        // Frozen, it would say yes to everything.
        if has_given_up(directory) {
            return Err(gave_up(spec));
        }
        let guardian = self.guardian()?;
        guardian.frozen(writer.node, directory.as_fd()).map_err(|e| failed(spec, "it cannot be published", &e))?;
        let published = publish_freeze(directory, || {
            let sample = sample_frozen(directory).ok();
            self.session.raise(spec.uuid, generation, modified_ms).map(|()| sample)
        });
        let told = guardian.thawed(writer.node);
        let sample = published.map_err(|e| failed(spec, "it cannot be published", &e))?;
        told.map_err(|e| failed(spec, "the guardian does not know of the thaw", &e))?;
        Ok(sample)
    }

    fn take_snapshot(&self, spec: &Spec, directory: &File, generation: Generation) -> Result<Sample, Failure> {
        match relocation_running(directory) {
            Ok(None) => {}
            Ok(Some(what)) => {
                return Err(Failure::failed(
                    format!("{}: publishing stopped", spec.name),
                    format!("{what} moves blocks under the readers"),
                    "wait until it is done, or cancel it",
                ));
            }
            Err(e) => return Err(failed(spec, "publishing stopped", &e)),
        }
        publish_snapshot(directory, generation).map_err(|e| failed(spec, "the snapshot cannot be taken", &e))
    }

    /// A deletion changes the volume, too. Right after a publish it could not be told from what people write at that
    /// moment; right before the next one it is a part of what is published. So it waits for that.
    pub(super) fn delete(&self, generations: &[Generation], gates: &mut Gates) -> JobDone {
        if let Some(writer) = gates.writer.as_mut() {
            writer
                .doomed
                .extend(generations.iter().copied().filter(|g| !writer.doomed.contains(g)).collect::<Vec<_>>());
        }
        JobDone::Deleted
    }

    pub(super) fn stop_writer(
        &self,
        spec: &Spec,
        wanted: Generation,
        (always, force, check): (bool, bool, bool),
        gates: &mut Gates,
    ) -> JobDone {
        let covered = self.own_place(spec, gates);
        let Some(writer) = gates.writer.as_mut() else {
            return JobDone::Stopped { generation: None, clean: false, modified_ms: 0, check: None };
        };
        match covered {
            // Looking into what lies over it may wait for whoever mounted that.
            Err(failure) if force => return self.close_under(spec, gates, &failure),
            Err(failure) => return JobDone::Failed(failure),
            Ok(()) => {}
        }
        let node = writer.node;
        if let Err(e) = self.root.open(&spec.name) {
            return self.close_under(spec, gates, &failed(spec, "its mount is gone", &e));
        }
        let last = match self.stop_in_order(spec, wanted, always, writer) {
            Ok(last) => last,
            Err(Stop::Busy(busy)) if !force => return JobDone::StillBusy(busy),
            Err(Stop::Failed(failure)) if !force => return JobDone::Failed(failure),
            Err(Stop::Broken(failure)) => return self.close_under(spec, gates, &failure),
            Err(Stop::Busy(_) | Stop::Failed(_)) => return self.stop_by_force(spec, wanted, always, gates),
        };
        let outcome = check.then(|| check_unchanged(&node.path(), spec.kind, CHECK_BUDGET));
        let closed =
            self.guardian().and_then(|g| g.close(node).map_err(|e| failed(spec, "its gate does not close", &e)));
        if let Err(failure) = closed {
            return self.close_under(spec, gates, &failure);
        }
        self.forget(spec, node);
        gates.writer = None;
        gates.lower_fence(spec);
        let check = outcome.as_ref().map(check_words);
        let (generation, modified_ms) = last.map_or((None, 0), |last| (Some(last.generation), last.modified_ms));
        JobDone::Stopped { generation, clean: true, modified_ms, check }
    }

    /// Out of sight, last published state, unmount; whoever keeps it busy is named, and it comes back.
    fn stop_in_order(
        &self,
        spec: &Spec,
        wanted: Generation,
        always: bool,
        writer: &mut WriteGate,
    ) -> Result<Option<Last>, Stop> {
        let mut hidden = self.root.hide(&spec.name).map_err(|e| failed(spec, "it cannot be moved out of sight", &e))?;
        let unseen = |e| failed(spec, "it cannot be published", &e);
        if has_given_up(&hidden.open().map_err(unseen)?) {
            return Err(Stop::Broken(gave_up(spec)));
        }
        let last = if spec.readers == ReadersPolicy::Snapshot {
            // Whoever has a file open could write between the last snapshot and the unmount.
            let busy = who_holds(&Scope::of_ids([hidden.mount_id()]));
            if !busy.is_empty() {
                hidden.put_back().map_err(|e| failed(spec, "it cannot be put back", &e))?;
                return Err(Stop::Busy(to_busy(busy)));
            }
            self.last_snapshot(spec, &hidden.open().map_err(unseen)?, wanted, always, writer)?
        } else {
            // Looking through every process takes longer than all the rest of a hand-over: the kernel counts who writes.
            if let Err(e) = hidden.end_writing() {
                hidden.put_back().map_err(|e| failed(spec, "it cannot be put back", &e))?;
                return Err(in_use(spec, e));
            }
            self.last_state(spec, &hidden.open().map_err(unseen)?, wanted, always, writer)?
        };
        hidden.unmount_or_put_back().map_err(|e| in_use(spec, e))?;
        Ok(last)
    }

    /// Whether anything changed is decided where nobody can write any more: decided before, what was written in the last
    /// moment would be released without a generation, and no reader would see it until the next one.
    fn last(wanted: Generation, always: bool, directory: &File, writer: &WriteGate) -> Option<Last> {
        let changed = always || writer.owed || changed(directory, writer);
        changed.then(|| Last { generation: Self::next(writer, wanted), modified_ms: wall_ms() })
    }

    fn last_snapshot(
        &self,
        spec: &Spec,
        directory: &File,
        wanted: Generation,
        always: bool,
        writer: &mut WriteGate,
    ) -> Result<Option<Last>, Stop> {
        let last = Self::last(wanted, always, directory, writer);
        writer.delete_doomed(spec, directory);
        if let Some(last) = last {
            writer.published = Some(last.generation);
            writer.owed = true;
            let sample = self.take_snapshot(spec, directory, last.generation);
            // A file system that had errors takes no snapshot ever again: nobody need wait for one.
            let sample = sample.map_err(|why| if has_given_up(directory) { Stop::Broken(why) } else { why.into() })?;
            self.session.raise(spec.uuid, last.generation, last.modified_ms)?;
            writer.sample = Some(sample);
            writer.owed = false;
        }
        Ok(last)
    }

    /// The unmount itself is the publish, but it says nothing of a disk that did not take the last writes. A freeze does.
    fn last_state(
        &self,
        spec: &Spec,
        directory: &File,
        wanted: Generation,
        always: bool,
        writer: &WriteGate,
    ) -> Result<Option<Last>, Stop> {
        let last = Self::last(wanted, always, directory, writer);
        if last.is_some() {
            let told = self.guardian()?.frozen(writer.node, directory.as_fd());
            told.map_err(|e| failed(spec, "it cannot be frozen", &e))?;
            let frozen = publish_freeze(directory, || Ok::<_, std::convert::Infallible>(()));
            let told = self.guardian()?.thawed(writer.node);
            frozen.map_err(|e| match e {
                PublishError::FrozenByOther => Stop::Failed(failed(spec, "it cannot be frozen", &e)),
                e => Stop::Broken(failed(spec, "its last writes did not reach the disk", &e)),
            })?;
            told.map_err(|e| failed(spec, "the guardian does not know of the thaw", &e))?;
        }
        Ok(last)
    }

    /// Open files or not: a last published state, and the gate is closed under them.
    fn stop_by_force(&self, spec: &Spec, wanted: Generation, always: bool, gates: &mut Gates) -> JobDone {
        let Some(writer) = gates.writer.as_mut() else {
            return JobDone::Stopped { generation: None, clean: false, modified_ms: 0, check: None };
        };
        let node = writer.node;
        let closed = (|| {
            let guardian = self.guardian()?;
            let close = || guardian.close_now(node).map_err(|e| failed(spec, "its gate does not close", &e));
            let directory = self.root.open(&spec.name).map_err(|e| failed(spec, "its mount is gone", &e))?;
            if has_given_up(&directory) {
                return Err(gave_up(spec));
            }
            // Whatever was published while it was tried in order has its number already.
            let last = Self::last(wanted, always, &directory, writer);
            match last {
                Some(Last { generation, modified_ms }) if spec.readers == ReadersPolicy::Snapshot => {
                    self.take_snapshot(spec, &directory, generation)?;
                    self.session.raise(spec.uuid, generation, modified_ms)?;
                    close()?;
                }
                _ => {
                    guardian.frozen(node, directory.as_fd()).map_err(|e| failed(spec, "it cannot be frozen", &e))?;
                    // The state on disk is clean while it is frozen, and nothing comes after it.
                    publish_freeze(&directory, close).map_err(|e| failed(spec, "it cannot be frozen", &e))?;
                }
            }
            Ok(last)
        })();
        match closed {
            Ok(last) => {
                self.forget(spec, node);
                gates.writer = None;
                gates.lower_fence(spec);
                let (generation, modified_ms) = last.map_or((None, 0), |l| (Some(l.generation), l.modified_ms));
                JobDone::Stopped { generation, clean: true, modified_ms, check: None }
            }
            Err(failure) => self.close_under(spec, gates, &failure),
        }
    }

    /// The last resort: the gate is closed under the file system as it is. It is left dirty, and the tables say so.
    pub(super) fn close_under(&self, spec: &Spec, gates: &mut Gates, why: &Failure) -> JobDone {
        let Some(writer) = gates.writer.as_ref() else {
            return JobDone::Stopped { generation: None, clean: false, modified_ms: 0, check: None };
        };
        tracing::error!(event = "gate.fenced", volume = spec.name, why = %why, "the gate is closed under the file system");
        let node = writer.node;
        match self.guardian().and_then(|g| g.close_now(node).map_err(|e| failed(spec, "its gate does not close", &e))) {
            Ok(()) => {
                self.forget(spec, node);
                gates.writer = None;
                gates.lower_fence(spec);
                JobDone::Stopped { generation: None, clean: false, modified_ms: 0, check: None }
            }
            Err(failure) => JobDone::Lost(failure),
        }
    }
}

impl WriteGate {
    /// Deletes the snapshots that nobody holds any more. One that stays is found again by the next writer.
    fn delete_doomed(&mut self, spec: &Spec, directory: &File) {
        for generation in std::mem::take(&mut self.doomed) {
            if let Err(e) = delete_snapshot(directory, generation) {
                tracing::warn!(event = "volume.snapshot_stays", volume = spec.name, %generation, error = %e, "a snapshot stays");
            }
        }
    }
}

/// The state that is published last.
#[derive(Clone, Copy)]
struct Last {
    generation: Generation,
    modified_ms: i64,
}

enum Stop {
    /// In use, and back in its place.
    Busy(Vec<Busy>),
    /// Nothing but the closing of its gate stops it any more, or is worth waiting for.
    Broken(Failure),
    Failed(Failure),
}

fn in_use(spec: &Spec, error: UnmountError) -> Stop {
    match error {
        UnmountError::Busy(busy) => Stop::Busy(to_busy(busy.processes)),
        e @ UnmountError::StillOpen { .. } => Stop::Broken(failed(spec, "a mount namespace keeps it", &e)),
        UnmountError::Mount(e) => Stop::Failed(failed(spec, "it cannot be unmounted", &e)),
    }
}

fn gave_up(spec: &Spec) -> Failure {
    failed(spec, "nothing of it can be published any more", &"its file system has made itself read-only after errors")
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

fn changed(directory: &File, writer: &WriteGate) -> bool {
    // What cannot be told counts as a change.
    writer.sample.as_ref().is_none_or(|before| changed_since(directory, before).unwrap_or(true))
}
