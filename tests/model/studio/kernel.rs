//! What the kernels have open of the volume, and what is on it: the oracle.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ondisk::{Generation, ReadersPolicy};
use volctl::engine::effect::{Busy, Probe};
use volctl::engine::{Job, JobDone};

use super::{CLIENTS, INFLIGHT};

/// A reader's gate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ReadGate {
    generation: Generation,
    opening: bool,
    /// It is the one in its place; others are lazily detached.
    current: bool,
}

/// A writer's gate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct WriteGate {
    epoch: u64,
    /// What was on the volume at the last publish, or before the mount.
    sampled: u32,
}

/// What one client has open.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Gates {
    writer: Option<WriteGate>,
    readers: Vec<ReadGate>,
}

/// The volume and its openers.
#[derive(Debug, Clone, Hash)]
pub(super) struct Kernel {
    readers: ReadersPolicy,
    keeps_files: Option<usize>,
    content: u32,
    published: BTreeMap<Generation, u32>,
    snapshots: BTreeSet<Generation>,
    /// (client, grant, until): writes of a closed gate that may still land.
    late: Vec<(usize, u64, Duration)>,
    gates: [Gates; CLIENTS],
    /// Grants under which something was written.
    wrote: BTreeSet<u64>,
    harm: Option<&'static str>,
}

impl Kernel {
    /// One published state, and nothing open.
    pub(super) fn new(readers: ReadersPolicy, keeps_files: Option<usize>, first: Generation, dirty: bool) -> Self {
        let mut published = BTreeMap::from([(first, 0)]);
        if dirty {
            // What the dead writer published last stood in its page only.
            published.insert(Generation { count: first.count + 1, ..first }, 0);
        }
        Self {
            readers,
            keeps_files,
            content: u32::from(dirty),
            published,
            snapshots: BTreeSet::from([first]),
            late: Vec::new(),
            gates: Default::default(),
            wrote: BTreeSet::from([first.epoch]),
            harm: None,
        }
    }

    /// What must never be, at this instant.
    pub(super) fn harm(&self, now: Duration) -> Option<&'static str> {
        let writers: Vec<(usize, u64)> =
            (0..CLIENTS).filter_map(|c| Some((c, self.gates[c].writer.as_ref()?.epoch))).collect();
        if writers.len() > 1 {
            return Some("two write");
        }
        if writers.iter().any(|(_, epoch)| self.late.iter().any(|(_, other, until)| other != epoch && now < *until)) {
            return Some("late writes of a dead writer meet the next one");
        }
        for (c, gates) in self.gates.iter().enumerate().filter(|(_, g)| !g.readers.is_empty()) {
            if self.readers == ReadersPolicy::Exclusive && writers.iter().any(|(w, _)| *w != c) {
                return Some("one reads an exclusive volume while another writes");
            }
            let gone = |g: &ReadGate| !self.snapshots.contains(&g.generation);
            if self.readers == ReadersPolicy::Snapshot && gates.readers.iter().any(gone) {
                return Some("one reads a snapshot that was deleted");
            }
        }
        self.harm
    }

    /// A job begins. Gates open at its beginning and close at its end: the more dangerous order.
    pub(super) fn begin(&mut self, c: usize, job: &Job) {
        match job {
            Job::MountWriter { epoch, .. } => {
                self.gates[c].writer = Some(WriteGate { epoch: *epoch, sampled: self.content });
                // The journal is replayed, and programs write.
                self.scribble();
            }
            Job::MountReader { generation } => {
                self.check_mount(*generation);
                self.gates[c].readers.push(ReadGate { generation: *generation, opening: true, current: false });
            }
            _ => {}
        }
    }

    /// Programs write, wherever a writer has it mounted.
    pub(super) fn scribble(&mut self) {
        let epochs: Vec<u64> = self.gates.iter().filter_map(|g| Some(g.writer.as_ref()?.epoch)).collect();
        if !epochs.is_empty() {
            self.content += 1;
            self.wrote.extend(epochs);
        }
    }

    fn check_mount(&mut self, generation: Generation) {
        let unpublished = self.published.get(&generation) != Some(&self.content);
        if self.readers == ReadersPolicy::Exclusive && unpublished {
            self.harm = Some("one mounts a state that nobody published by that name");
        }
    }

    fn publish(&mut self, generation: Generation) {
        self.snapshots.insert(generation);
        if self.published.insert(generation, self.content).is_some() {
            self.harm = Some("two states are published under one name");
        }
    }

    /// A job ends.
    pub(super) fn end(&mut self, c: usize, job: &Job) -> JobDone {
        match job {
            Job::MountReader { generation } => {
                self.check_mount(*generation);
                for gate in &mut self.gates[c].readers {
                    gate.current = std::mem::replace(&mut gate.opening, false);
                }
                JobDone::ReaderMounted { generation: *generation }
            }
            Job::UnmountReader { force } => self.unmount(c, *force),
            Job::Retire => {
                if self.keeps_files != Some(c) {
                    self.gates[c].readers.retain(|g| g.current);
                }
                let old = self.gates[c].readers.iter().filter(|g| !g.current);
                JobDone::Retired { lingering: old.map(|g| g.generation).collect(), busy: Vec::new() }
            }
            Job::MountWriter { .. } => {
                self.gates[c].readers.iter_mut().for_each(|g| g.current = false);
                JobDone::WriterMounted { snapshots: self.snapshots.iter().copied().collect() }
            }
            Job::Publish { generation, always } => {
                let generation = self.publish_if_changed(c, *generation, *always);
                JobDone::Published { generation, modified_ms: 0 }
            }
            Job::Delete { generations } => {
                self.snapshots.retain(|g| !generations.contains(g));
                JobDone::Deleted
            }
            Job::StopWriter { generation, always, .. } => {
                let clean = self.gates[c].writer.is_some();
                let generation = self.publish_if_changed(c, *generation, *always).filter(|_| clean);
                self.gates[c].writer = None;
                JobDone::Stopped { generation, clean, modified_ms: 0, check: None }
            }
            Job::FenceWriter => {
                self.gates[c].writer = None;
                JobDone::Stopped { generation: None, clean: false, modified_ms: 0, check: None }
            }
            Job::Measure => JobDone::Measured { inflight_ms: inflight_ms() },
            Job::Probe { files } => JobDone::Probed(Probe {
                free: 1,
                capacity: 2,
                open_for_writing: files.then_some(false),
                written: false,
                inflight_ms: inflight_ms(),
            }),
        }
    }

    fn publish_if_changed(&mut self, c: usize, generation: Generation, always: bool) -> Option<Generation> {
        let content = self.content;
        let gate = self.gates[c].writer.as_mut()?;
        let changed = std::mem::replace(&mut gate.sampled, content) != content;
        (changed || always).then(|| {
            self.publish(generation);
            generation
        })
    }

    fn unmount(&mut self, c: usize, force: bool) -> JobDone {
        let gates = &mut self.gates[c];
        gates.readers.iter_mut().for_each(|g| g.current = false);
        if self.keeps_files == Some(c) && !gates.readers.is_empty() && !force {
            let busy = Busy { program: "editor".into(), pid: 7, user: "u".into(), path: "/x".into() };
            return JobDone::ReaderUnmounted { closed: false, busy: vec![busy] };
        }
        gates.readers.clear();
        JobDone::ReaderUnmounted { closed: true, busy: Vec::new() }
    }

    /// A guardian closes everything that the client has open; held-back writes land until `inflight` after `at`.
    pub(super) fn close(&mut self, c: usize, at: Duration) {
        if let Some(writer) = self.gates[c].writer.take() {
            self.late.push((c, writer.epoch, at + INFLIGHT));
        }
        if self.readers != ReadersPolicy::Live {
            self.gates[c].readers.clear();
        }
    }

    /// A new daemon on the same host closes what is left, drained.
    pub(super) fn close_drained(&mut self, c: usize) {
        self.gates[c] = Gates::default();
        self.late.retain(|late| late.0 != c);
    }

    pub(super) fn forget_late(&mut self, now: Duration) {
        self.late.retain(|(_, _, until)| now < *until);
    }

    pub(super) fn has_open(&self, c: usize) -> bool {
        self.gates[c] != Gates::default()
    }

    /// Something may be written under this grant from now on.
    pub(super) fn may_write(&mut self, epoch: u64) {
        self.wrote.insert(epoch);
    }

    /// Something was written under this grant, or may have been.
    pub(super) fn wrote(&self, epoch: u64) -> bool {
        self.wrote.contains(&epoch)
    }
}

fn inflight_ms() -> u64 {
    u64::try_from(INFLIGHT.as_millis()).expect("a short time")
}
