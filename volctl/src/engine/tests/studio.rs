//! Some engines over one world in memory: slots, pages and tables, a kernel under each, and virtual time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use lockdriver::tables::Tables;
use lockdriver::transaction::Change;
use ondisk::{
    Access, AutoResponse, ClientPage, ClientRecord, CommitNo, FsKind, Generation, Identity, Incarnation, Label,
    Message, Name, Permission, ReadersPolicy, RequestId, SlotIndex, TableHeader, Uuid, VolumeTable,
};

use super::kernel::Kernel;
use super::rng::Rng;
use crate::engine::{
    Command, CommandId, Effect, Engine, Job, JobDone, OpDone, OpTag, PageView, Peer, Periods, Reply, TableOp, World,
};
use crate::wire::outcome::Failure;

pub(super) const LEASE: Duration = Duration::from_secs(8);
pub(super) const DEAD: Duration = Duration::from_secs(12);
pub(super) const NEXT_KEPT: Duration = Duration::from_secs(30);

/// A slot as it stands on the disk.
#[derive(Debug, Clone, Default)]
pub(super) struct SlotOnDisk {
    pub(super) incarnation: Incarnation,
    pub(super) logged_on: bool,
    pub(super) page_sequence: u64,
    /// Another one after each write: what others compare.
    pub(super) token: u64,
    pub(super) changed: Duration,
    /// Nobody can read it until then.
    pub(super) rotten_until: Duration,
}

/// What one client read last.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) now: Duration,
    pub(super) begun: Duration,
    pub(super) tables: Arc<Tables>,
    pub(super) peers: Vec<Peer>,
    pub(super) page_on_disk: u64,
}

impl View {
    pub(super) fn world(&self) -> World<'_> {
        World {
            now: self.now,
            begun: self.begun,
            wall_ms: 1_000_000 + i64::try_from(self.now.as_millis()).expect("a short run"),
            tables: &self.tables,
            peers: &self.peers,
            page_on_disk: self.page_on_disk,
        }
    }
}

#[derive(Debug)]
pub(super) enum Input {
    Job(Uuid, JobDone),
    Op(OpTag, Result<OpDone, Failure>),
    Command(CommandId, Command),
    Leave(bool),
}

/// A transaction between its look and its commit.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) tag: Option<OpTag>,
    pub(super) op: TableOp,
    pub(super) change: Change,
    pub(super) epoch: u64,
}

/// What a client has read of another's slot: its token, since when, and the page that it stood for.
pub(super) type Sight = (u64, Duration, (Incarnation, u64), PageView);

#[derive(Debug)]
pub(super) struct Client {
    pub(super) engine: Option<Engine>,
    pub(super) up: bool,
    pub(super) paused: bool,
    pub(super) lease_until: Duration,
    pub(super) view: View,
    /// Everything that commands were told.
    pub(super) replies: Vec<(CommandId, Reply)>,
    /// Commands with no end yet.
    pub(super) open_commands: BTreeSet<CommandId>,
    pub(super) facts: Vec<crate::engine::Fact>,
    pub(super) life: u64,
    pub(super) sights: Vec<Sight>,
    pub(super) page_version: u64,
    pub(super) waiting: VecDeque<Effect>,
    pub(super) inbox: VecDeque<Input>,
    pub(super) blocked: bool,
    pub(super) poll_for: Option<(CommandId, Command)>,
    pub(super) next_poll: Duration,
    pub(super) wake: Duration,
    pub(super) jobs: usize,
    pub(super) ops: VecDeque<(Option<OpTag>, TableOp)>,
    pub(super) running: Option<Running>,
    pub(super) deferred: Vec<Event>,
    pub(super) comes_back: bool,
    pub(super) away: bool,
    pub(super) last_read: Duration,
    pub(super) unmounted: Vec<Uuid>,
}

#[derive(Debug, Clone)]
pub(super) enum Event {
    Drive,
    Beat,
    LeaseEnd,
    /// Of which login.
    Guardian(Incarnation),
    PollPages,
    PageDone(Arc<ClientPage>, u64),
    JobEnd(Uuid, Job),
    TryOp,
    CommitOp,
    Restart,
    Resume,
}

/// How often things go wrong.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    /// One job in so many fails; 0: none.
    pub(super) jobs: usize,
    /// One transaction in so many fails; 0: none.
    pub(super) ops: usize,
    /// One thing in so many takes long; 0: none.
    pub(super) slow: usize,
}

pub(super) struct Studio {
    pub(super) now: Duration,
    pub(super) rng: Rng,
    pub(super) tables: Arc<Tables>,
    pub(super) slots: Vec<SlotOnDisk>,
    pub(super) pages: Vec<Option<Arc<ClientPage>>>,
    pub(super) clients: Vec<Client>,
    pub(super) kernel: Kernel,
    pub(super) faults: Faults,
    pub(super) broken: Option<String>,
    pub(super) periods: Periods,
    pub(super) gateless: bool,
    /// (volume, slot) in the order in which grants were committed.
    pub(super) grants: Vec<(Uuid, SlotIndex)>,
    pub(super) log: Option<Vec<String>>,
    /// How many transactions were run: what a busy loop would show in.
    pub(super) transactions: usize,
    pub(super) jobs_run: usize,
    pub(super) free_since: BTreeMap<Uuid, Duration>,
    pub(super) mounted_for: BTreeMap<RequestId, u64>,
    pub(super) semaphore: Option<(usize, u64)>,
    pub(super) events: BinaryHeap<Reverse<(Duration, u64, usize)>>,
    pub(super) bodies: BTreeMap<u64, (u64, Event)>,
    pub(super) next_event: u64,
    pub(super) next_command: u64,
}

pub(super) fn record(name: &str) -> ClientRecord {
    ClientRecord {
        name: Name::new(name).expect("a name"),
        host: Label::new("host").expect("a label"),
        uuid: Uuid::from_u128(u128::from(name.as_bytes()[0])),
        enabled: true,
        admin: false,
        locked_out: false,
        notify: false,
        auto_response: AutoResponse::Off,
        logged_on: Incarnation(0),
    }
}

pub(super) fn volume_table(number: u128, name: &str, readers: ReadersPolicy, clients: usize) -> VolumeTable {
    VolumeTable {
        name: Name::new(name).expect("a name"),
        uuid: Uuid::from_u128(number),
        identity: Identity {
            fs_uuid: Uuid::from_u128(number + 1000),
            partition: Uuid::nil(),
            wwid: Label::default(),
            size: 1 << 30,
            enveloped: false,
        },
        fs: if readers == ReadersPolicy::Snapshot { FsKind::Btrfs } else { FsKind::Ext4 },
        readers,
        write_enabled: true,
        device: Message::new("/dev/x").expect("a path"),
        writer: None,
        dirty_since: 0,
        next: None,
        last: Generation::NONE,
        modified_ms: 0,
        check_due: false,
        permissions: vec![Permission::new(Access::Write, false, true, 500); clients],
    }
}

pub(super) const NAMES: [&str; 4] = ["alice", "bob", "carol", "dave"];

pub(super) fn tables(clients: usize, volumes: Vec<Option<VolumeTable>>) -> Tables {
    let count = u16::try_from(volumes.iter().flatten().count()).expect("few");
    Tables {
        header: TableHeader {
            commit: CommitNo { epoch: 1, count: 1 },
            opened: 1,
            clients: u16::try_from(clients).expect("few"),
            volumes: count,
            reaped: vec![Incarnation(0); clients + 4],
            cells: Vec::new(),
        },
        clients: NAMES[..clients].iter().map(|n| Some(record(n))).collect(),
        volumes,
    }
}

pub(super) fn periods() -> Periods {
    Periods {
        poll: Duration::from_millis(250),
        dead: DEAD,
        publish: Duration::from_secs(2),
        grace: Duration::from_secs(3),
        idle: Duration::from_secs(2),
        request_timeout: Duration::from_secs(600),
        next_kept: NEXT_KEPT,
        dead_hold: Duration::from_secs(600),
    }
}

impl Studio {
    /// Clients that are not yet logged on, and volumes with their policies, named v0, v1 ...
    pub(super) fn new(seed: u64, clients: usize, policies: &[ReadersPolicy], inflight: Duration) -> Self {
        let mut kernel = Kernel::new(inflight);
        let mut volumes = Vec::new();
        for (number, policy) in (1u128..).zip(policies) {
            let table = volume_table(number, &format!("v{}", number - 1), *policy, clients);
            kernel.add(table.uuid, *policy);
            volumes.push(Some(table));
        }
        volumes.push(None);
        let tables = Arc::new(tables(clients, volumes));
        let now = Duration::from_secs(100);
        let view = View { now, begun: now, tables: Arc::clone(&tables), peers: Vec::new(), page_on_disk: 0 };
        let client = |_| Client {
            engine: None,
            up: false,
            paused: false,
            lease_until: Duration::ZERO,
            view: view.clone(),
            replies: Vec::new(),
            open_commands: BTreeSet::new(),
            facts: Vec::new(),
            life: 0,
            sights: vec![(u64::MAX, now, (Incarnation(0), 0), PageView::Unknown); clients],
            page_version: 0,
            waiting: VecDeque::new(),
            inbox: VecDeque::new(),
            blocked: false,
            poll_for: None,
            next_poll: Duration::ZERO,
            wake: Duration::ZERO,
            jobs: 0,
            ops: VecDeque::new(),
            running: None,
            deferred: Vec::new(),
            comes_back: true,
            away: false,
            last_read: now,
            unmounted: Vec::new(),
        };
        Self {
            now,
            rng: Rng::new(seed),
            slots: vec![SlotOnDisk::default(); clients],
            pages: vec![None; clients],
            clients: (0..clients).map(client).collect(),
            tables,
            kernel,
            faults: Faults::default(),
            broken: None,
            periods: periods(),
            gateless: false,
            grants: Vec::new(),
            log: None,
            transactions: 0,
            jobs_run: 0,
            free_since: BTreeMap::new(),
            mounted_for: BTreeMap::new(),
            semaphore: None,
            events: BinaryHeap::new(),
            bodies: BTreeMap::new(),
            next_event: 0,
            next_command: 0,
        }
    }

    pub(super) fn note(&mut self, text: impl FnOnce(&Self) -> String) {
        let Some(mut log) = self.log.take() else { return };
        log.push(format!("{:>9.3} {}", self.now.as_secs_f64(), text(self)));
        self.log = Some(log);
    }

    pub(super) fn fail(&mut self, text: impl Into<String>) {
        let text = text.into();
        self.note(|_| format!("BROKEN: {text}"));
        self.broken.get_or_insert(text);
    }

    pub(super) fn at(&mut self, after: Duration, client: usize, event: Event) {
        self.next_event += 1;
        let life = self.clients[client].life;
        self.bodies.insert(self.next_event, (life, event));
        self.events.push(Reverse((self.now + after, self.next_event, client)));
    }

    pub(super) fn takes(&mut self, from: u64, to: u64) -> Duration {
        if self.faults.slow > 0 && self.rng.one_in(self.faults.slow) {
            return self.rng.ms(500, 4000);
        }
        self.rng.ms(from, to)
    }

    /// Runs for so long, or until something is broken.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.run_until(end, |_| false);
        if self.broken.is_none() {
            self.now = end;
        }
    }

    /// Runs until `done` holds; false if it does not by then.
    pub(super) fn run_while(&mut self, time: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + time;
        self.run_until(end, &done);
        done(self)
    }

    fn run_until(&mut self, end: Duration, done: impl Fn(&Self) -> bool) {
        while self.broken.is_none() && !done(self) {
            let Some(Reverse((time, number, client))) = self.events.peek().copied() else { return };
            if time > end {
                return;
            }
            self.events.pop();
            self.now = self.now.max(time);
            let (life, event) = self.bodies.remove(&number).expect("each event has a body");
            let of_now = life == self.clients[client].life || matches!(event, Event::Guardian(_) | Event::Restart);
            if !of_now {
                continue;
            }
            self.kernel.forget_late(self.now);
            self.handle(client, event);
            if let Some(text) = self.kernel.broken.take() {
                self.fail(text);
            }
        }
    }

    fn handle(&mut self, c: usize, event: Event) {
        let outside = matches!(event, Event::LeaseEnd | Event::Guardian(_) | Event::Restart | Event::Resume);
        if self.clients[c].paused && !outside {
            self.clients[c].deferred.push(event);
            return;
        }
        match event {
            Event::Drive => self.drive(c),
            Event::Beat => self.beat(c),
            Event::LeaseEnd => self.lease_end(c),
            // A new daemon on the same host ends the guardian of the old one first.
            Event::Guardian(login) if login != self.slots[c].incarnation => {}
            Event::Guardian(_) => {
                self.note(|_| format!("{}: the guardian closes its gates", NAMES[c]));
                self.kernel.guardian_closes(c, self.now);
            }
            Event::PollPages => self.poll_pages(c),
            Event::PageDone(page, version) => {
                self.put_page(c, page);
                let client = &mut self.clients[c];
                client.page_version = version;
                client.blocked = false;
                self.drive(c);
            }
            Event::JobEnd(volume, job) => self.job_end(c, volume, &job),
            Event::TryOp => self.try_op(c),
            Event::CommitOp => self.commit_op(c),
            Event::Restart => self.restart(c),
            Event::Resume => self.resume(c),
        }
    }

    pub(super) fn is_live(&self, c: usize) -> bool {
        self.clients[c].up && self.now < self.clients[c].lease_until
    }

    // ---------------------------------------------------------------------------------------------- slots and lease

    pub(super) fn touch(&mut self, c: usize) {
        let slot = &mut self.slots[c];
        slot.token += 1;
        slot.changed = self.now;
    }

    fn beat(&mut self, c: usize) {
        if !self.is_live(c) {
            return;
        }
        self.touch(c);
        let me = SlotIndex(u16::try_from(c).expect("few"));
        let incarnation = self.slots[c].incarnation;
        let revoked = self
            .tables
            .volumes
            .iter()
            .flatten()
            .filter_map(|t| t.writer)
            .any(|g| g.state == ondisk::GrantState::Revoked && g.slot == me && g.incarnation == incarnation);
        if !revoked && !self.tables.is_reaped(me, incarnation) && self.now >= self.slots[c].rotten_until {
            self.clients[c].lease_until = self.now + LEASE;
        }
        self.at(Duration::from_secs(1), c, Event::Beat);
    }

    /// The lease is over, or was extended meanwhile. The guardian closes the gates within the margin.
    fn lease_end(&mut self, c: usize) {
        let until = self.clients[c].lease_until;
        if self.now < until {
            self.at(until - self.now, c, Event::LeaseEnd);
            return;
        }
        let late = self.rng.ms(0, 3900);
        let login = self.slots[c].incarnation;
        self.at(late, c, Event::Guardian(login));
        if !self.clients[c].paused {
            self.lost(c, "its lease is over");
        }
    }

    /// The daemon notices that its login is over, closes what is left, and logs on anew.
    pub(super) fn lost(&mut self, c: usize, why: &str) {
        self.note(|_| format!("{}: the login ends: {why}", NAMES[c]));
        self.end_process(c);
        let after = self.rng.ms(10, 3000);
        self.at(after, c, Event::Restart);
    }

    pub(super) fn end_process(&mut self, c: usize) {
        let client = &mut self.clients[c];
        client.life += 1;
        client.up = false;
        client.paused = false;
        if let Some(engine) = client.engine.take() {
            client.unmounted = engine.unmounted();
        }
        client.waiting.clear();
        client.inbox.clear();
        client.open_commands.clear();
        client.blocked = false;
        client.poll_for = None;
        client.jobs = 0;
        client.ops.clear();
        client.running = None;
        client.deferred.clear();
    }
}
