//! The volumes' disks and every host's gates: what is open where, and the oracle that looks at it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ondisk::{Generation, ReadersPolicy, Uuid};

use super::rng::Rng;
use crate::engine::effect::{Busy, Probe};
use crate::engine::{Job, JobDone};
use crate::wire::outcome::Failure;

/// One volume's disk. What is on it is one number, which each write changes.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) readers: ReadersPolicy,
    pub(super) content: u64,
    /// Each generation ever published, and what was on the disk then.
    pub(super) published: BTreeMap<Generation, u64>,
    pub(super) snapshots: BTreeSet<Generation>,
    /// Closed by a guardian: its last writes may land until then. (client, grant epoch, until)
    pub(super) late: Vec<(usize, u64, Duration)>,
}

/// A reader's gate.
#[derive(Debug, Clone)]
pub(super) struct ReadGate {
    pub(super) generation: Generation,
    /// Programs have files of it open until then.
    pub(super) files_until: Duration,
    opening: bool,
    /// It is the one in its place; others are lazily detached.
    current: bool,
}

/// A writer's gate.
#[derive(Debug, Clone)]
pub(super) struct WriteGate {
    pub(super) epoch: u64,
    published: Option<Generation>,
    sampled: u64,
}

/// What one client's kernel has open of one volume.
#[derive(Debug, Clone, Default)]
pub(super) struct Gates {
    pub(super) writer: Option<WriteGate>,
    pub(super) readers: Vec<ReadGate>,
    /// Programs have files open for writing until then.
    pub(super) busy_until: Duration,
}

#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) disks: BTreeMap<Uuid, Disk>,
    pub(super) gates: BTreeMap<(usize, Uuid), Gates>,
    pub(super) inflight: Duration,
    pub(super) broken: Option<String>,
    next_content: u64,
}

fn failed(what: &str) -> JobDone {
    JobDone::Failed(Failure::failed("the job failed", what, "try again"))
}

fn programs() -> Vec<Busy> {
    vec![Busy { program: "editor".into(), pid: 7, user: "u".into(), path: "/x".into() }]
}

impl Kernel {
    pub(super) fn new(inflight: Duration) -> Self {
        Self { disks: BTreeMap::new(), gates: BTreeMap::new(), inflight, broken: None, next_content: 1 }
    }

    pub(super) fn add(&mut self, volume: Uuid, readers: ReadersPolicy) {
        let disk =
            Disk { readers, content: 0, published: BTreeMap::new(), snapshots: BTreeSet::new(), late: Vec::new() };
        self.disks.insert(volume, disk);
    }

    fn fail(&mut self, text: String) {
        self.broken.get_or_insert(text);
    }

    pub(super) fn of(&mut self, client: usize, volume: Uuid) -> &mut Gates {
        self.gates.entry((client, volume)).or_default()
    }

    fn disk(&mut self, volume: Uuid) -> &mut Disk {
        self.disks.get_mut(&volume).expect("every volume of the studio has a disk")
    }

    /// Programs write, wherever a writer has it mounted.
    pub(super) fn scribble(&mut self, volume: Uuid) {
        if self.gates.iter().any(|((_, v), g)| *v == volume && g.writer.is_some()) {
            self.next_content += 1;
            let content = self.next_content;
            self.disk(volume).content = content;
        }
    }

    /// The job begins: gates open and close at its beginning where that is the more dangerous order.
    pub(super) fn begin(&mut self, client: usize, volume: Uuid, job: &Job, live: bool) {
        match job {
            Job::MountWriter { epoch, .. } if live => {
                let sampled = self.disk(volume).content;
                let gates = self.of(client, volume);
                if gates.writer.is_some() {
                    self.fail(format!("client {client} mounts a volume twice"));
                    return;
                }
                self.of(client, volume).writer = Some(WriteGate { epoch: *epoch, published: None, sampled });
                // The journal is replayed.
                self.scribble(volume);
            }
            Job::MountReader { generation } if live => {
                let files_until = Duration::ZERO;
                self.check_reader(client, volume, *generation);
                let gate = ReadGate { generation: *generation, files_until, opening: true, current: false };
                self.of(client, volume).readers.push(gate);
            }
            Job::Delete { generations } => {
                for generation in generations {
                    self.disk(volume).snapshots.remove(generation);
                }
            }
            _ => {}
        }
        self.look(volume);
    }

    fn check_reader(&mut self, client: usize, volume: Uuid, generation: Generation) {
        let disk = self.disk(volume);
        match disk.readers {
            ReadersPolicy::Snapshot if !disk.snapshots.contains(&generation) => {
                self.fail(format!("client {client} mounts generation {generation}, whose snapshot is gone"));
            }
            ReadersPolicy::Exclusive if disk.published.get(&generation) != Some(&disk.content) => {
                self.fail(format!("client {client} mounts a state that nobody published as {generation}"));
            }
            _ => {}
        }
    }

    /// The oracle: at no instant may two write, or a reader see what it must not.
    pub(super) fn look(&mut self, volume: Uuid) {
        let mut writers = Vec::new();
        let mut trouble = Vec::new();
        let disk = &self.disks[&volume];
        let open = |client: usize| self.gates.get(&(client, volume));
        for ((client, v), gates) in &self.gates {
            if *v == volume && gates.writer.is_some() {
                writers.push(*client);
            }
        }
        if writers.len() > 1 {
            trouble.push(format!("two writers: clients {writers:?}"));
        }
        for writer in &writers {
            let epoch = open(*writer).and_then(|g| g.writer.as_ref()).map_or(0, |w| w.epoch);
            for (client, other, until) in &disk.late {
                if *other != epoch {
                    trouble.push(format!("late writes of client {client} until {until:?} meet the writer {writer}"));
                }
            }
        }
        for ((client, v), gates) in self.gates.iter().filter(|((_, v), g)| *v == volume && !g.readers.is_empty()) {
            if disk.readers == ReadersPolicy::Exclusive && writers.iter().any(|w| w != client) {
                trouble.push(format!("client {client} reads {v} while {writers:?} writes"));
            }
            if disk.readers == ReadersPolicy::Snapshot {
                for gate in gates.readers.iter().filter(|g| !disk.snapshots.contains(&g.generation)) {
                    trouble.push(format!("client {client} reads generation {}, which is deleted", gate.generation));
                }
            }
        }
        for text in trouble {
            self.fail(text);
        }
    }

    /// A guardian closes everything that the client has open; held-back writes may still land for `inflight`.
    pub(super) fn guardian_closes(&mut self, client: usize, now: Duration) {
        let inflight = self.inflight;
        for ((c, volume), gates) in &mut self.gates {
            if *c != client {
                continue;
            }
            let disk = self.disks.get_mut(volume).expect("every volume has a disk");
            if let Some(writer) = gates.writer.take().filter(|_| !inflight.is_zero()) {
                disk.late.push((client, writer.epoch, now + inflight));
            }
            if disk.readers != ReadersPolicy::Live {
                gates.readers.clear();
            }
        }
    }

    /// A daemon that comes back on the same host closes what is left, each call returned and drained.
    pub(super) fn close_leftovers(&mut self, client: usize) {
        for ((c, volume), gates) in &mut self.gates {
            if *c == client {
                *gates = Gates::default();
                self.disks.get_mut(volume).expect("every volume has a disk").late.retain(|l| l.0 != client);
            }
        }
    }

    /// The client goes on on another host, which has nothing open.
    pub(super) fn another_host(&mut self, client: usize) {
        self.gates.retain(|(c, _), _| *c != client);
    }

    /// A human says that no late write of the dead writer comes any more.
    pub(super) fn waive(&mut self, volume: Uuid) {
        self.disk(volume).late.clear();
    }

    pub(super) fn forget_late(&mut self, now: Duration) {
        for disk in self.disks.values_mut() {
            disk.late.retain(|(_, _, until)| now < *until);
        }
    }

    fn raise(&mut self, client: usize, volume: Uuid, wanted: Generation) -> Generation {
        let gate = self.of(client, volume).writer.as_mut().expect("a publish has a writer");
        let generation = match gate.published {
            Some(last) if last >= wanted => Generation { epoch: last.epoch, count: last.count + 1 },
            _ => wanted,
        };
        gate.published = Some(generation);
        let disk = self.disk(volume);
        let content = disk.content;
        if disk.readers == ReadersPolicy::Snapshot {
            disk.snapshots.insert(generation);
        }
        if disk.published.insert(generation, content).is_some() {
            self.fail(format!("generation {generation} was published twice"));
        }
        self.of(client, volume).writer.as_mut().expect("as before").sampled = content;
        generation
    }

    /// The job comes to its end. `live`: the lease still runs, so gates may open.
    pub(super) fn end(
        &mut self,
        client: usize,
        volume: Uuid,
        job: &Job,
        live: bool,
        now: Duration,
        rng: &mut Rng,
    ) -> JobDone {
        let done = self.end_inner(client, volume, job, live, now, rng);
        self.look(volume);
        done
    }

    fn end_inner(
        &mut self,
        client: usize,
        volume: Uuid,
        job: &Job,
        live: bool,
        now: Duration,
        rng: &mut Rng,
    ) -> JobDone {
        match job {
            Job::MountReader { generation } => self.end_reader(client, volume, *generation, live),
            Job::UnmountReader { force } => self.unmount(client, volume, *force, now),
            Job::Retire => {
                let gates = self.of(client, volume);
                gates.readers.retain(|g| g.current || now < g.files_until);
                let lingering = gates.readers.iter().filter(|g| !g.current).map(|g| g.generation).collect();
                JobDone::Retired { lingering, busy: Vec::new() }
            }
            Job::MountWriter { .. } => {
                if !live || self.of(client, volume).writer.is_none() {
                    self.of(client, volume).writer = None;
                    return failed("the lease is over");
                }
                for gate in &mut self.of(client, volume).readers {
                    gate.current = false;
                }
                let snapshots = self.disk(volume).snapshots.iter().copied().collect();
                JobDone::WriterMounted { snapshots }
            }
            Job::Publish { generation, always } => {
                if self.of(client, volume).writer.is_none() {
                    return failed("not mounted");
                }
                let content = self.disk(volume).content;
                let same = self.of(client, volume).writer.as_ref().is_some_and(|w| w.sampled == content);
                if same && !always {
                    return JobDone::Published { generation: None, modified_ms: 0 };
                }
                let generation = self.raise(client, volume, *generation);
                JobDone::Published { generation: Some(generation), modified_ms: 5 }
            }
            Job::Delete { .. } => JobDone::Deleted,
            Job::StopWriter { generation, always, force, .. } => {
                self.stop(client, volume, *generation, *always, *force, now)
            }
            Job::FenceWriter => {
                self.of(client, volume).writer = None;
                JobDone::Stopped { generation: None, clean: false, modified_ms: 0, check: None }
            }
            Job::Measure => JobDone::Measured { inflight_ms: self.inflight_ms() },
            Job::Probe { files } => {
                let busy = now < self.of(client, volume).busy_until;
                JobDone::Probed(Probe {
                    free: 1000 + rng.next() % 100,
                    capacity: 2000,
                    open_for_writing: files.then_some(busy),
                    written: busy,
                    inflight_ms: self.inflight_ms(),
                })
            }
        }
    }

    fn end_reader(&mut self, client: usize, volume: Uuid, generation: Generation, live: bool) -> JobDone {
        let gates = self.of(client, volume);
        if !live || !gates.readers.iter().any(|g| g.opening) {
            gates.readers.retain(|g| !g.opening);
            return failed("the lease is over");
        }
        for gate in &mut gates.readers {
            gate.current = gate.opening;
            gate.opening = false;
        }
        self.check_reader(client, volume, generation);
        JobDone::ReaderMounted { generation }
    }

    fn inflight_ms(&self) -> u64 {
        u64::try_from(self.inflight.as_millis()).expect("a short time")
    }

    /// The job failed, and undid what it had begun.
    pub(super) fn undo(&mut self, client: usize, volume: Uuid, job: &Job, half: bool) -> JobDone {
        let gates = self.of(client, volume);
        let failure = Failure::failed("the job failed", "an error of the device", "try again");
        match job {
            Job::MountWriter { .. } => {
                let before = gates.writer.take().map(|w| w.sampled);
                if half {
                    return JobDone::HalfMounted(failure);
                }
                if let Some(before) = before {
                    self.disk(volume).content = before;
                }
            }
            Job::MountReader { .. } => gates.readers.retain(|g| !g.opening),
            _ => {}
        }
        JobDone::Failed(failure)
    }

    fn unmount(&mut self, client: usize, volume: Uuid, force: bool, now: Duration) -> JobDone {
        let gates = self.of(client, volume);
        gates.readers.retain(|g| now < g.files_until);
        gates.readers.iter_mut().for_each(|g| g.current = false);
        if gates.readers.is_empty() {
            return JobDone::ReaderUnmounted { closed: true, busy: Vec::new() };
        }
        if force {
            gates.readers.clear();
            return JobDone::ReaderUnmounted { closed: true, busy: programs() };
        }
        JobDone::ReaderUnmounted { closed: false, busy: programs() }
    }

    fn stop(
        &mut self,
        client: usize,
        volume: Uuid,
        wanted: Generation,
        always: bool,
        force: bool,
        now: Duration,
    ) -> JobDone {
        if self.of(client, volume).writer.is_none() {
            return JobDone::Stopped { generation: None, clean: false, modified_ms: 0, check: None };
        }
        if now < self.of(client, volume).busy_until && !force {
            return JobDone::StillBusy(programs());
        }
        let content = self.disk(volume).content;
        let same = self.of(client, volume).writer.as_ref().is_some_and(|w| w.sampled == content);
        let generation = (!same || always).then(|| self.raise(client, volume, wanted));
        self.of(client, volume).writer = None;
        JobDone::Stopped { generation, clean: true, modified_ms: 0, check: None }
    }

    /// What the client has open, for the end of a run.
    pub(super) fn is_closed(&self, client: usize) -> bool {
        self.gates.iter().filter(|((c, _), _)| *c == client).all(|(_, g)| g.writer.is_none() && g.readers.is_empty())
    }
}
