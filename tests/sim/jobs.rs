//! The blocking work on volumes, each job on a thread of its own: what `volctl/src/daemon/jobs/` does to a kernel, done to
//! the simulated one. Pages that a publish writes go through the shipping session.

use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Sender;
use ondisk::{Generation, ReadersPolicy, Uuid};
use volctl::control::session::Session;
use volctl::engine::effect::{Busy, Probe};
use volctl::engine::{Job, JobDone};
use volctl::wire::outcome::Failure;

use crate::place::Place;
use crate::rng::nanos;
use crate::volumes::GateId;
use crate::world::World;

/// Starts a job.
pub(crate) fn start(place: &Place, session: &Arc<Session>, volume: Uuid, job: Job, ended: Sender<(Uuid, JobDone)>) {
    let index = place.shared.world().volumes.index(volume);
    place.shared.world().procs[place.proc].jobs += 1;
    let shop = Shop { place: place.clone(), session: Arc::clone(session), volume: index };
    let run = move || {
        let done = shop.run(&job);
        let place = shop.place.clone();
        place
            .shared
            .world()
            .note(|w| format!("{}: {job:?} of {}: {done:?}", w.name(place.host), w.volumes.list[index].name));
        // The login ends with the last of its threads.
        drop(shop);
        place.shared.world().procs[place.proc].jobs -= 1;
        // The loop may have ended; then nobody needs to know.
        let _ = ended.send((volume, done));
    };
    let _joiner = place.volume.machine.spawn("job", false, Box::new(run));
}

struct Shop {
    place: Place,
    session: Arc<Session>,
    volume: usize,
}

fn failed(why: &str) -> JobDone {
    JobDone::Failed(Failure::failed("the job failed", why, "try again"))
}

fn programs() -> Vec<Busy> {
    vec![Busy { program: "editor".into(), pid: 7, user: "u".into(), path: "/x".into() }]
}

impl Shop {
    fn takes(&self, from_ms: u64, to_ms: u64) {
        let time = self.world(|w| w.rng.ms(from_ms, to_ms));
        self.place.volume.machine.sleep(time);
    }

    fn world<T>(&self, f: impl FnOnce(&mut World) -> T) -> T {
        f(&mut self.place.shared.world())
    }

    fn fails(&self) -> bool {
        self.world(|w| !w.calm && w.rng.one_in(w.plan.odds.jobs))
    }

    fn run(&self, job: &Job) -> JobDone {
        match job {
            Job::MountReader { generation } => self.mount_reader(*generation),
            Job::UnmountReader { force } => self.unmount_reader(*force),
            Job::Retire => self.retire(),
            Job::MountWriter { epoch, .. } => self.mount_writer(*epoch),
            Job::Publish { generation, always } => self.publish(*generation, *always),
            Job::Delete { generations } => self.delete(generations),
            Job::StopWriter { generation, always, force, .. } => self.stop_writer(*generation, *always, *force),
            Job::FenceWriter => {
                if let Some(id) = self.writer() {
                    self.close(&[id]);
                }
                JobDone::Stopped { generation: None, clean: false, modified_ms: 0, check: None }
            }
            Job::Measure => JobDone::Measured { inflight_ms: self.inflight_ms() },
            Job::Probe { files } => self.probe(*files),
        }
    }

    fn writer(&self) -> Option<GateId> {
        self.world(|w| w.volumes.writer_of(self.place.proc, self.volume))
    }

    /// Closes gates, and waits until nothing is on its way: the closing call returns only then.
    fn close(&self, ids: &[GateId]) {
        self.world(|w| ids.iter().for_each(|id| w.close_gate(*id)));
        while self.world(|w| !w.is_drained(ids) && !w.procs[self.place.proc].dead) {
            self.place.volume.machine.sleep(Duration::from_millis(1));
        }
    }

    /// The guardian makes a gate; one that stands still is waited for, for a while.
    fn open(&self, epoch: Option<u64>, generation: Generation) -> Result<GateId, &'static str> {
        let mut tries = 0;
        loop {
            let opened = self.world(|w| match w.procs[self.place.proc].dead {
                true => Err("the process is dead"),
                false => w.open_gate(self.place.proc, self.volume, epoch, generation),
            });
            if tries == 100 || opened != Err("the guardian does not answer") {
                return opened;
            }
            tries += 1;
            self.place.volume.machine.sleep(Duration::from_millis(50));
        }
    }

    fn mount_reader(&self, generation: Generation) -> JobDone {
        self.takes(1, 8);
        let id = match self.open(None, generation) {
            Ok(id) => id,
            Err(why) => return failed(why),
        };
        self.takes(1, 30);
        if self.fails() {
            self.close(&[id]);
            return failed("the mount fails");
        }
        self.world(|w| {
            if w.procs[self.place.proc].dead || !w.volumes.gates[id].open {
                return failed("the lease is over");
            }
            w.look_at_reader(id);
            for other in w.volumes.readers_of(self.place.proc, self.volume) {
                let files = w.rng.one_in(3).then(|| w.rng.ms(0, 3000));
                let gate = &mut w.volumes.gates[other];
                if gate.current {
                    gate.files_until = w.now + files.map_or(0, nanos);
                }
                gate.current = false;
            }
            let gate = &mut w.volumes.gates[id];
            (gate.current, gate.mounted) = (true, true);
            JobDone::ReaderMounted { generation }
        })
    }

    /// Readers' gates that no file is open on, but for the one in its place.
    fn unused(&self, current_too: bool) -> Vec<GateId> {
        self.world(|w| {
            let now = w.now;
            let mut ids = w.volumes.readers_of(self.place.proc, self.volume);
            ids.retain(|id| {
                let gate = &w.volumes.gates[*id];
                gate.mounted && now >= gate.files_until && (current_too || !gate.current)
            });
            ids
        })
    }

    fn unmount_reader(&self, force: bool) -> JobDone {
        self.takes(1, 10);
        self.close(&self.unused(true));
        let left = self.world(|w| w.volumes.readers_of(self.place.proc, self.volume));
        self.world(|w| left.iter().for_each(|id| w.volumes.gates[*id].current = false));
        if force {
            self.close(&left);
        }
        let busy = if left.is_empty() { Vec::new() } else { programs() };
        JobDone::ReaderUnmounted { closed: left.is_empty() || force, busy }
    }

    fn retire(&self) -> JobDone {
        self.takes(0, 3);
        self.close(&self.unused(false));
        let lingering = self.world(|w| {
            let ids = w.volumes.readers_of(self.place.proc, self.volume);
            let old = ids.into_iter().filter(|id| !w.volumes.gates[*id].current);
            old.map(|id| w.volumes.gates[id].generation).collect()
        });
        JobDone::Retired { lingering, busy: Vec::new() }
    }

    fn mount_writer(&self, epoch: u64) -> JobDone {
        self.takes(1, 10);
        let id = match self.open(Some(epoch), Generation::NONE) {
            Ok(id) => id,
            Err(why) => return failed(why),
        };
        self.takes(2, 60);
        if self.fails() {
            self.close(&[id]);
            return JobDone::HalfMounted(Failure::failed("the mount fails", "an error of the device", "try again"));
        }
        self.world(|w| {
            if w.procs[self.place.proc].dead || !w.volumes.gates[id].open {
                return failed("the lease is over");
            }
            for other in w.volumes.readers_of(self.place.proc, self.volume) {
                w.volumes.gates[other].current = false;
            }
            let gate = &mut w.volumes.gates[id];
            (gate.current, gate.mounted) = (true, true);
            JobDone::WriterMounted { snapshots: w.volumes.list[self.volume].snapshots.iter().copied().collect() }
        })
    }

    fn frozen(&self, id: GateId, frozen: bool) {
        self.world(|w| w.volumes.gates[id].frozen = frozen);
        while frozen && self.world(|w| !w.is_drained(&[id]) && !w.procs[self.place.proc].dead) {
            self.place.volume.machine.sleep(Duration::from_millis(1));
        }
    }

    /// Makes the state on disk clean, and says so in the page; programs wait on.
    fn raise(&self, id: GateId, wanted: Generation) -> Result<Generation, Failure> {
        self.frozen(id, true);
        let published = self.world(|w| {
            let open = w.volumes.gates[id].open && !w.procs[self.place.proc].dead;
            if !open {
                return None;
            }
            let generation = match w.volumes.gates[id].published {
                Some(last) if last >= wanted => Generation { epoch: last.epoch, count: last.count + 1 },
                _ => wanted,
            };
            let volume = &mut w.volumes.list[self.volume];
            let content = volume.content;
            if volume.readers == ReadersPolicy::Snapshot {
                volume.snapshots.insert(generation);
            }
            // It is spent, also where its page does not get to the disk.
            let twice = volume.published.insert(generation, content).is_some_and(|c| c != content);
            w.volumes.gates[id].published = Some(generation);
            if twice {
                w.fail(format!("generation {generation} is published twice, with different content"));
            }
            Some((generation, content))
        });
        let Some((generation, content)) = published else {
            return Err(Failure::failed("nothing is published", "the gate is closed", "see the log"));
        };
        let uuid = self.world(|w| w.volumes.list[self.volume].uuid);
        self.session.raise(uuid, generation, 5)?;
        // Until the page says so it is owed, as in the daemon's own jobs.
        self.world(|w| w.volumes.gates[id].sampled = content);
        Ok(generation)
    }

    fn publish(&self, wanted: Generation, always: bool) -> JobDone {
        self.takes(1, 10);
        let Some(id) = self.writer() else { return failed("not mounted") };
        let same = self.world(|w| w.volumes.gates[id].sampled == w.volumes.list[self.volume].content);
        if same && !always {
            return JobDone::Published { generation: None, modified_ms: 0 };
        }
        if self.fails() {
            return failed("the snapshot fails");
        }
        let raised = self.raise(id, wanted);
        self.frozen(id, false);
        match raised {
            Ok(generation) => JobDone::Published { generation: Some(generation), modified_ms: 5 },
            Err(failure) => JobDone::Failed(failure),
        }
    }

    fn delete(&self, generations: &[Generation]) -> JobDone {
        self.takes(1, 20);
        let Some(id) = self.writer() else { return failed("not mounted") };
        self.world(|w| {
            if w.volumes.gates[id].open && !w.procs[self.place.proc].dead {
                for generation in generations {
                    w.volumes.list[self.volume].snapshots.remove(generation);
                }
                w.look_at_volume(self.volume);
            }
        });
        JobDone::Deleted
    }

    fn stop_writer(&self, wanted: Generation, always: bool, force: bool) -> JobDone {
        self.takes(1, 10);
        let Some(id) = self.writer() else {
            return JobDone::Stopped { generation: None, clean: false, modified_ms: 0, check: None };
        };
        let busy = self.world(|w| w.now < w.volumes.gates[id].files_until);
        if busy && !force {
            return JobDone::StillBusy(programs());
        }
        if self.fails() {
            return failed("the unmount fails");
        }
        // Out of sight: no program writes any more.
        self.frozen(id, true);
        let same = self.world(|w| w.volumes.gates[id].sampled == w.volumes.list[self.volume].content);
        let mut generation = None;
        let mut clean = true;
        if !same || always {
            match self.raise(id, wanted) {
                Ok(raised) => generation = Some(raised),
                Err(failure) if !force => {
                    self.frozen(id, false);
                    return JobDone::Failed(failure);
                }
                Err(_) => clean = false,
            }
        }
        clean &= self.world(|w| w.volumes.gates[id].open);
        self.close(&[id]);
        JobDone::Stopped { generation, clean, modified_ms: 5, check: None }
    }

    fn inflight_ms(&self) -> u64 {
        let inflight = self.world(|w| w.plan.inflight);
        u64::try_from(inflight.as_millis()).expect("a short time") + u64::from(!inflight.is_zero())
    }

    fn probe(&self, files: bool) -> JobDone {
        self.takes(0, 3);
        let open = self.writer().is_some_and(|id| self.world(|w| w.now < w.volumes.gates[id].files_until));
        JobDone::Probed(Probe {
            free: self.world(|w| 1000 + w.rng.next() % 100),
            capacity: 2000,
            open_for_writing: files.then_some(open),
            written: true,
            inflight_ms: self.inflight_ms(),
        })
    }
}
