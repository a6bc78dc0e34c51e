//! Everything that is simulated, behind one lock: true time, hosts, processes, the control volume, the volumes, and what
//! watches over them. Nothing here runs code of the product; [`crate::threads`] does.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use lockdriver::deadline::SharedDeadline;
use ondisk::{Incarnation, SlotIndex};
use volctl::engine::{Command, CommandId};

use crate::disk::{Disk, IoId};
use crate::faults::Fault;
use crate::guardian::Guardian;
use crate::host_key::KeyRoom;
use crate::oracle::Oracle;
use crate::plan::Plan;
use crate::rng::Rng;
use crate::threads::{Body, Thread, stretched};
use crate::volumes::{GateId, Volumes};

/// Index of a host.
pub(crate) type HostId = usize;
/// Index of a process; never used again.
pub(crate) type ProcId = usize;
/// Index of a thread; never used again.
pub(crate) type ThreadId = usize;

/// What happens at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A thread's turn, unless it was woken before.
    Wake { thread: ThreadId, token: u64 },
    /// Bytes of a read are sampled, or of a write land.
    Moves { io: IoId, from: usize, to: usize },
    /// The kernel hands an I/O's result over.
    Returns { io: IoId, ok: bool },
    /// The guardian of a host looks.
    Guardian { host: HostId, serial: u64 },
    /// A program writes through a gate.
    Program(GateId),
    /// Its write lands.
    Lands { gate: GateId },
    /// A daemon is started.
    Start(HostId),
    /// Something goes wrong.
    Fault(Fault),
    /// It is over.
    Mends(Fault),
    /// A person does something.
    Person(HostId),
    /// The end of trouble.
    Calm,
    /// Has everything come right?
    Look,
    /// Everything must have come right.
    End,
}

/// A computer.
#[derive(Debug)]
pub(crate) struct Host {
    /// Which client's daemon runs here.
    pub(crate) slot: SlotIndex,
    /// It has power.
    pub(crate) up: bool,
    /// Its kernel runs (not suspended, not paused by a hypervisor).
    pub(crate) running: bool,
    /// The kernel of this boot.
    pub(crate) boot: u64,
    /// How its clock goes: the true time and its own at the last change, and millionths too fast.
    pub(crate) clock: (u64, Duration, i64),
    /// Its clock stands still.
    pub(crate) stands: bool,
    /// Its path to the control volume works again from then on; until then I/O hangs.
    pub(crate) path_until: u64,
    /// Errors at once instead of hanging.
    pub(crate) path_fails: bool,
    /// Its paths to the volumes work again from then on; until then writes are held back.
    pub(crate) volumes_until: u64,
    /// The daemon.
    pub(crate) daemon: Option<ProcId>,
    /// The guardian of the daemon's login.
    pub(crate) guardian: Option<Guardian>,
    /// What its lock file says of slot writes: when the one under way was begun, and the last of unknown result.
    pub(crate) doubts: (Duration, Duration),
    /// A restart is under way.
    pub(crate) starting: bool,
    /// Until then the daemon has to make up for its guardian.
    pub(crate) tender_until: u64,
    /// It may not be paused by its hypervisor before.
    pub(crate) paused_last: u64,
    /// What its run directory says of its registration on the control volume.
    pub(crate) key: KeyRoom,
    /// No daemon is started here any more.
    pub(crate) retired: bool,
    /// The user took these away.
    pub(crate) unmounted: Vec<ondisk::Uuid>,
}

/// A process with threads of the product.
#[derive(Debug)]
pub(crate) struct Proc {
    /// Where.
    pub(crate) host: HostId,
    /// Killed: its threads run out, and nothing that they do reaches the world.
    pub(crate) dead: bool,
    /// Its threads that did not end.
    pub(crate) threads: Vec<ThreadId>,
    /// Some thread of it stalls, or waits for a slow I/O, until then.
    pub(crate) slow_until: u64,
    /// SIGSTOP.
    pub(crate) stopped: bool,
    /// Wakes that came meanwhile.
    pub(crate) deferred: Vec<(ThreadId, u64)>,
    /// The lease word of its present login.
    pub(crate) deadline: Option<SharedDeadline>,
    /// Its present login.
    pub(crate) login: Option<(SlotIndex, Incarnation)>,
    /// It wrote its claim and may not write anything else yet.
    pub(crate) claiming: bool,
    /// What its user typed.
    pub(crate) commands: VecDeque<(CommandId, Command)>,
    /// It was told to end: in order, or now.
    pub(crate) told: Option<bool>,
    /// The clock of a dead process: it must not wait for anything any more.
    pub(crate) limbo: Duration,
    /// Jobs under way, whose threads hold the login.
    pub(crate) jobs: usize,
    /// For which volumes its page has requests.
    pub(crate) requests: Vec<ondisk::Uuid>,
    /// It is logged on and its loop runs.
    pub(crate) logged_on: bool,
}

/// What a command came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// No last word yet.
    Open,
    /// Done.
    Done,
    /// Refused, failed, or its daemon is gone.
    Over,
}

/// One entry of the queue, in order of time and then of coming.
#[derive(Debug, PartialEq, Eq)]
struct Entry(u64, u64, Event);

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The world.
pub(crate) struct World {
    /// True time, nanoseconds.
    pub(crate) now: u64,
    /// What this run is.
    pub(crate) plan: Plan,
    /// The one source of chance.
    pub(crate) rng: Rng,
    queue: BinaryHeap<Reverse<Entry>>,
    entries: u64,
    /// Computers, one per client and then the strangers that bear a client's name too.
    pub(crate) hosts: Vec<Host>,
    /// Processes.
    pub(crate) procs: Vec<Proc>,
    /// Threads.
    pub(crate) threads: Vec<Thread>,
    /// Threads that were made in this turn.
    pub(crate) spawned: Vec<(ThreadId, Body)>,
    /// Whose turn it is.
    pub(crate) running: Option<ThreadId>,
    /// The control volume.
    pub(crate) disk: Disk,
    /// The volumes and what kernels have open of them.
    pub(crate) volumes: Volumes,
    /// Watches.
    pub(crate) oracle: Oracle,
    /// Trouble is over.
    pub(crate) calm: bool,
    /// Processes that died in this turn.
    pub(crate) died: Vec<ProcId>,
    /// By then everything has come right after trouble, and a while later the exam is passed.
    pub(crate) settled_by: u64,
    /// The exam has begun.
    pub(crate) examined: bool,
    /// Commands of the exam.
    pub(crate) exam: Vec<usize>,
    /// Commands and what became of them.
    pub(crate) fates: Vec<(HostId, Command, Fate)>,
    /// What went wrong first.
    pub(crate) broken: Option<String>,
    /// One line an event, if somebody wants to read them.
    pub(crate) trace: Option<Vec<String>>,
    /// How many faults happened, by name.
    pub(crate) counts: std::collections::BTreeMap<&'static str, u64>,
}

impl World {
    /// A world in which nothing happened yet.
    pub(crate) fn new(plan: Plan, disk: Disk, volumes: Volumes, oracle: Oracle, traced: bool) -> Self {
        Self {
            now: 0,
            rng: Rng::new(plan.seed),
            plan,
            queue: BinaryHeap::new(),
            entries: 0,
            hosts: Vec::new(),
            procs: Vec::new(),
            threads: Vec::new(),
            spawned: Vec::new(),
            running: None,
            disk,
            volumes,
            oracle,
            calm: false,
            died: Vec::new(),
            settled_by: 0,
            examined: false,
            exam: Vec::new(),
            fates: Vec::new(),
            broken: None,
            trace: traced.then(Vec::new),
            counts: std::collections::BTreeMap::new(),
        }
    }

    /// Something happens at a true time.
    pub(crate) fn at(&mut self, when: u64, event: Event) {
        self.entries += 1;
        self.queue.push(Reverse(Entry(when.max(self.now), self.entries, event)));
    }

    /// Something happens after a true time.
    pub(crate) fn after(&mut self, time: Duration, event: Event) {
        self.at(self.now + crate::rng::nanos(time), event);
    }

    /// The next event; true time goes on to it.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        let Reverse(Entry(when, _, event)) = self.queue.pop()?;
        self.now = when;
        Some(event)
    }

    /// A line of the trace.
    pub(crate) fn note(&mut self, text: impl FnOnce(&Self) -> String) {
        let Some(mut trace) = self.trace.take() else { return };
        trace.push(format!("{:>12.6} {}", Duration::from_nanos(self.now).as_secs_f64(), text(self)));
        self.trace = Some(trace);
    }

    /// A promise is broken. The first counts.
    pub(crate) fn fail(&mut self, text: impl Into<String>) {
        let text = text.into();
        self.note(|_| format!("BROKEN: {text}"));
        self.broken.get_or_insert(text);
    }

    /// Counts something by its name.
    pub(crate) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// The name of a host in the trace: its client's, with a stroke for a stranger.
    pub(crate) fn name(&self, host: HostId) -> String {
        let stroke = if host >= self.plan.clients { "'" } else { "" };
        format!("{}{stroke}", crate::plan::name(self.hosts[host].slot.index()))
    }

    /// CLOCK_BOOTTIME of a host.
    pub(crate) fn clock_of(&self, host: HostId) -> Duration {
        let Host { clock: (since, base, ppm), stands, .. } = &self.hosts[host];
        if *stands {
            return *base;
        }
        let passed = i128::from(self.now - since) * i128::from(1_000_000 + ppm) / 1_000_000;
        *base + Duration::from_nanos(u64::try_from(passed).expect("time goes on"))
    }

    /// CLOCK_BOOTTIME as a process sees it. To a dead one all times pass at once.
    pub(crate) fn clock_of_process(&mut self, proc: ProcId) -> Duration {
        let own = self.clock_of(self.procs[proc].host);
        let process = &mut self.procs[proc];
        if process.dead {
            process.limbo += Duration::from_millis(50);
        }
        own + process.limbo
    }

    /// How long a time on a process's clock really takes.
    pub(crate) fn true_time(&self, proc: ProcId, time: Duration) -> u64 {
        stretched(time, self.hosts[self.procs[proc].host].clock.2)
    }

    /// A new thread; it runs in a later turn of the same moment.
    pub(crate) fn spawn(&mut self, proc: ProcId, name: &str, body: Body) -> ThreadId {
        let thread = self.threads.len();
        self.threads.push(Thread { proc, name: name.to_owned(), token: 0, gives_way: false, ended: false });
        self.spawned.push((thread, body));
        self.procs[proc].threads.push(thread);
        self.progress(proc);
        self.wake(thread);
        thread
    }

    /// A thread of the process did something: those that wait for its doings look again.
    pub(crate) fn progress(&mut self, proc: ProcId) {
        for i in 0..self.procs[proc].threads.len() {
            let thread = self.procs[proc].threads[i];
            if self.threads[thread].gives_way && self.running != Some(thread) {
                self.threads[thread].gives_way = false;
                self.wake(thread);
            }
        }
    }

    /// A thread gets its turn soon.
    pub(crate) fn wake(&mut self, thread: ThreadId) {
        let token = self.threads[thread].token;
        let late = self.scheduling_delay(self.threads[thread].proc);
        self.at(self.now + late, Event::Wake { thread, token });
    }

    /// Between being woken and running: nearly nothing, sometimes long.
    pub(crate) fn scheduling_delay(&mut self, proc: ProcId) -> u64 {
        let usual = self.rng.between(1_000, 30_000);
        if self.calm || self.is_tender(proc) || !self.rng.one_in(self.plan.stalls) {
            return usual;
        }
        self.count("a thread stalls");
        let longest = 2 * self.plan.timings.lease();
        let stall = crate::rng::nanos(self.rng.time(Duration::from_millis(1), longest));
        self.is_slow_until(proc, self.now + stall);
        stall
    }

    /// A thread of the process does nothing until then.
    pub(crate) fn is_slow_until(&mut self, proc: ProcId, until: u64) {
        let process = &mut self.procs[proc];
        process.slow_until = process.slow_until.max(until);
    }

    /// The host's guardian is not well: by assumption A6 its daemon is, until the guardian was replaced.
    pub(crate) fn is_tender(&self, proc: ProcId) -> bool {
        self.hosts[self.procs[proc].host].tender_until > self.now
    }

    /// May the process's threads run?
    pub(crate) fn may_run(&self, proc: ProcId) -> bool {
        let process = &self.procs[proc];
        !process.stopped && self.hosts[process.host].running
    }

    /// Runs what was held up while a process was stopped.
    pub(crate) fn let_run(&mut self, proc: ProcId) {
        if !self.may_run(proc) {
            return;
        }
        for (thread, token) in std::mem::take(&mut self.procs[proc].deferred) {
            let late = self.scheduling_delay(proc);
            self.at(self.now + late, Event::Wake { thread, token });
        }
    }

    /// A new process on a host.
    pub(crate) fn start_process(&mut self, host: HostId) -> ProcId {
        self.procs.push(Proc {
            host,
            dead: false,
            threads: Vec::new(),
            slow_until: 0,
            stopped: false,
            deferred: Vec::new(),
            deadline: None,
            login: None,
            claiming: false,
            commands: VecDeque::new(),
            told: None,
            limbo: Duration::ZERO,
            jobs: 0,
            requests: Vec::new(),
            logged_on: false,
        });
        self.procs.len() - 1
    }
}
