//! A client among hosts that write whatever they like into tables and pages, as long as each block can be decoded.

use std::sync::Arc;
use std::time::Duration;

use lockdriver::tables::Tables;
use ondisk::{
    Access, Answer, AnswerVerdict, AutoResponse, CellEntry, ClientPage, ClientRecord, CommitNo, FsKind, Generation,
    Grant, GrantState, InFlight, Incarnation, Label, Message, MountState, Name, NextWriter, Permission, ReadersPolicy,
    Request, RequestId, SlotIndex, TableHeader, Uuid, VolumeEntry, VolumeTable,
};
use volctl::engine::effect::{Busy, Effect, Job, JobDone, OpTag, Probe};
use volctl::engine::ops::{self, Actor, OpDone, TableOp};
use volctl::engine::status::Surroundings;
use volctl::engine::{Command, CommandId, Engine, PageView, Peer, Periods, Setup, World};
use volctl::wire::outcome::{ExitCode, Failure};

use super::feed::Feed;

const CLIENTS: u16 = 3;
const SLOTS: u16 = CLIENTS + 4;
const VOLUMES: u16 = 2;
/// More than this comes of no step of so small a control volume: nothing that others write makes a step endless.
const EFFECTS_MAX: usize = 400;
const STEPS_MAX: usize = 24;

fn uuid(feed: &mut Feed) -> Uuid {
    Uuid::from_u128(101 + feed.below(3) as u128)
}

fn client(feed: &mut Feed) -> SlotIndex {
    SlotIndex(u16::try_from(feed.below(CLIENTS.into())).expect("few"))
}

fn generation(feed: &mut Feed) -> Generation {
    Generation { epoch: feed.number(), count: feed.number() }
}

fn name(feed: &mut Feed) -> Name {
    let spoken = ["alice", "bob", "carol", "footage", "audio"];
    match feed.byte() {
        known @ 0..240 => Name::new(spoken[usize::from(known) % spoken.len()]).expect("a name"),
        _ => Name::new(feed.text(63).replace(['/', '.'], "-")).unwrap_or_else(|_| Name::new("x").expect("a name")),
    }
}

fn message(feed: &mut Feed) -> Message {
    Message::cut(&feed.text(255))
}

fn inflight(feed: &mut Feed) -> InFlight {
    InFlight(feed.number())
}

fn record(feed: &mut Feed) -> ClientRecord {
    ClientRecord {
        name: name(feed),
        host: Label::default(),
        uuid: Uuid::from_u128(feed.byte().into()),
        enabled: feed.byte() < 200,
        admin: feed.flag(),
        locked_out: feed.byte() > 200,
        notify: feed.flag(),
        auto_response: feed.pick(&[AutoResponse::Off, AutoResponse::Idle, AutoResponse::Always]),
        logged_on: Incarnation(feed.number()),
    }
}

fn volume(feed: &mut Feed) -> VolumeTable {
    let mut table = super::image::a_volume(super::blocks::small(), "footage", 1);
    table.name = name(feed);
    table.uuid = uuid(feed);
    table.fs = feed.pick(&[FsKind::Ext4, FsKind::Xfs, FsKind::Btrfs]);
    table.readers = feed.pick(&[ReadersPolicy::Snapshot, ReadersPolicy::Exclusive, ReadersPolicy::Live]);
    table.write_enabled = feed.byte() < 220;
    let states = [GrantState::Held, GrantState::Pending, GrantState::Revoked];
    table.writer = feed.flag().then(|| {
        Grant::new(client(feed), Incarnation(feed.number()), feed.number(), inflight(feed), feed.pick(&states))
    });
    table.dirty_since = feed.number();
    table.next = feed.flag().then(|| NextWriter {
        slot: client(feed),
        incarnation: Incarnation(feed.number()),
        request: RequestId(feed.number()),
    });
    table.last = generation(feed);
    table.modified_ms = feed.signed();
    table.check_due = feed.flag();
    for permission in &mut table.permissions {
        let access = feed.pick(&[Access::Write, Access::Read, Access::None]);
        let check_ms = u32::try_from(feed.number() & 0xffff_ffff).expect("32 bits");
        *permission = Permission::new(access, feed.byte() > 220, feed.flag(), check_ms);
    }
    table
}

fn entry(feed: &mut Feed) -> VolumeEntry {
    let states =
        [MountState::ReadOnly, MountState::ReadWrite, MountState::GateClosed, MountState::Mounting, MountState::None];
    let mut entry = VolumeEntry::of(uuid(feed));
    entry.state = feed.pick(&states);
    entry.busy = feed.flag();
    entry.epoch = feed.number();
    entry.seen = generation(feed);
    entry.published = generation(feed);
    entry.retired = generation(feed);
    entry.modified_ms = feed.signed();
    (entry.free, entry.capacity) = (feed.number(), feed.number());
    entry.inflight = inflight(feed);
    entry.held[0] = generation(feed);
    entry.refused = feed.number();
    entry
}

fn page(feed: &mut Feed, incarnation: Incarnation) -> ClientPage {
    let requests = (0..feed.below(4)).map(|_| Request {
        id: RequestId(feed.number()),
        number: feed.number(),
        volume: uuid(feed),
        to: client(feed),
        created_ms: feed.signed(),
        message: message(feed),
    });
    let requests = requests.collect();
    let verdicts = [AnswerVerdict::Yes, AnswerVerdict::No, AnswerVerdict::Later];
    let answers = (0..feed.below(4)).map(|_| Answer {
        request: RequestId(feed.number()),
        to: client(feed),
        volume: uuid(feed),
        verdict: feed.pick(&verdicts),
        message: message(feed),
    });
    let answers = answers.collect();
    let volumes = (0..VOLUMES).map(|_| entry(feed)).collect();
    let (polls, refreshes) = (feed.number(), feed.number());
    ClientPage { incarnation, sequence: feed.number(), polls, refreshes, requests, answers, volumes }
}

struct Seen {
    now: Duration,
    wall_ms: i64,
    tables: Tables,
    peers: Vec<Peer>,
    page_on_disk: u64,
}

impl Seen {
    fn new(feed: &mut Feed) -> Self {
        let header = TableHeader {
            commit: CommitNo { epoch: feed.number(), count: feed.number() },
            opened: 0,
            clients: 0,
            volumes: 0,
            reaped: vec![Incarnation(0); SLOTS.into()],
            cells: vec![CellEntry::new(0, 0, CommitNo::default()); (CLIENTS + VOLUMES).into()],
        };
        let clients = (0..CLIENTS).map(|_| (feed.byte() < 230).then(|| record(feed))).collect();
        let volumes = (0..VOLUMES).map(|_| (feed.byte() < 230).then(|| volume(feed))).collect();
        let mut seen = Self {
            now: Duration::from_secs(1000),
            wall_ms: feed.signed(),
            tables: Tables { header, clients, volumes },
            peers: Vec::new(),
            page_on_disk: 0,
        };
        for slot in 0..SLOTS {
            let peer = seen.peer(feed, SlotIndex(slot));
            seen.peers.push(peer);
        }
        seen
    }

    fn peer(&mut self, feed: &mut Feed, slot: SlotIndex) -> Peer {
        let incarnation = Incarnation(feed.number());
        if feed.byte() > 200 {
            self.tables.header.reaped[slot.index()] = Incarnation(feed.number());
        }
        let known = feed.byte() < 220;
        let page = if slot.0 < CLIENTS && known && feed.byte() < 200 {
            PageView::Current(Arc::new(page(feed, incarnation)))
        } else {
            PageView::Unknown
        };
        Peer {
            slot,
            incarnation,
            known,
            logged_on: feed.byte() < 200,
            reaped: self.tables.header.is_reaped(slot, incarnation),
            silent: feed.byte() > 200,
            beat_age: Duration::from_millis(feed.number()),
            page,
        }
    }

    /// Something is otherwise in the next poll.
    fn change(&mut self, feed: &mut Feed) {
        match feed.below(6) {
            0 => {
                let slot = feed.below(SLOTS.into());
                self.peers[slot] = self.peer(feed, SlotIndex(u16::try_from(slot).expect("few")));
            }
            1 => {
                let at = feed.below(VOLUMES.into());
                self.tables.volumes[at] = feed.flag().then(|| volume(feed));
            }
            2 => {
                let at = feed.below(CLIENTS.into());
                self.tables.clients[at] = feed.flag().then(|| record(feed));
            }
            3 => self.tables.header.commit = CommitNo { epoch: feed.number(), count: feed.number() },
            4 => self.page_on_disk = feed.number(),
            // A machine that is up for a century is none.
            _ => self.now += Duration::from_millis(feed.number() & 0x1ff_ffff_ffff),
        }
    }

    fn world(&self) -> World<'_> {
        World {
            now: self.now,
            begun: self.now,
            wall_ms: self.wall_ms,
            tables: &self.tables,
            peers: &self.peers,
            page_on_disk: self.page_on_disk,
        }
    }
}

fn setup(feed: &mut Feed) -> Setup {
    let second = Duration::from_secs(1);
    let own = page(feed, Incarnation(1));
    Setup {
        switches: volctl::engine::Switches::ALL,
        slot: client(feed),
        incarnation: Incarnation(feed.number()),
        periods: Periods {
            poll: second / 4,
            dead: 12 * second,
            publish: 5 * second,
            grace: 10 * second,
            idle: 5 * second,
            request_timeout: 600 * second,
            next_kept: 2 * second,
            dead_hold: 60 * second,
        },
        gateless: feed.byte() > 220,
        ask_hook: feed.flag(),
        unmounted: if feed.flag() { vec![uuid(feed)] } else { Vec::new() },
        requests: own.requests,
        answers: own.answers,
        page_sequence: feed.number(),
        seed: feed.number(),
    }
}

fn command(feed: &mut Feed) -> Command {
    let volume = name(feed).to_string();
    match feed.below(8) {
        0 => Command::Request {
            volume,
            message: message(feed),
            wait: feed.flag().then(|| Duration::from_millis(feed.number())),
        },
        1 => Command::Withdraw { volume },
        2 => Command::Answer {
            volume,
            client: name(feed).to_string(),
            verdict: feed.pick(&[AnswerVerdict::Yes, AnswerVerdict::No, AnswerVerdict::Later]),
            message: message(feed),
        },
        3 => Command::Release { volume },
        4 => Command::Refresh { volume },
        5 => Command::Mount { volume },
        6 => Command::Unmount { volume },
        _ => Command::Takeover { volume, yes_i_know: feed.flag().then(|| name(feed).to_string()) },
    }
}

fn failure(feed: &mut Feed) -> Failure {
    let exits = [ExitCode::Failed, ExitCode::Refused, ExitCode::Busy, ExitCode::Damaged, ExitCode::TimedOut];
    Failure::new(feed.pick(&exits), "what", "why", "next")
}

fn job_done(feed: &mut Feed) -> JobDone {
    let busy = |feed: &mut Feed| {
        let who = Busy { program: "vi".into(), pid: 7, user: "bob".into(), path: "/x".into() };
        vec![who; feed.below(5)]
    };
    let maybe = |feed: &mut Feed| feed.flag().then(|| generation(feed));
    match feed.below(12) {
        0 => JobDone::ReaderMounted { generation: generation(feed) },
        1 => JobDone::ReaderUnmounted { closed: feed.flag(), busy: busy(feed) },
        2 => JobDone::Retired { lingering: maybe(feed).into_iter().collect(), busy: busy(feed) },
        3 => JobDone::WriterMounted { snapshots: maybe(feed).into_iter().collect() },
        4 => JobDone::HalfMounted(failure(feed)),
        5 => JobDone::Published { generation: maybe(feed), modified_ms: feed.signed() },
        6 => JobDone::Deleted,
        7 => JobDone::Stopped {
            generation: maybe(feed),
            clean: feed.flag(),
            modified_ms: feed.signed(),
            check: feed.flag().then(|| "checked".to_owned()),
        },
        8 => JobDone::StillBusy(busy(feed)),
        9 => JobDone::Probed(Probe {
            free: feed.number(),
            capacity: feed.number(),
            open_for_writing: feed.flag().then(|| feed.flag()),
            written: feed.flag(),
            inflight_ms: feed.number(),
        }),
        10 => JobDone::Measured { inflight_ms: feed.number() },
        _ => {
            if feed.flag() {
                JobDone::Failed(failure(feed))
            } else {
                JobDone::Lost(failure(feed))
            }
        }
    }
}

/// What a job that was asked for ends with if all goes well.
fn as_asked(job: &Job, feed: &mut Feed) -> JobDone {
    match job {
        Job::MountReader { generation } => JobDone::ReaderMounted { generation: *generation },
        Job::UnmountReader { .. } => JobDone::ReaderUnmounted { closed: true, busy: Vec::new() },
        Job::Retire => JobDone::Retired { lingering: Vec::new(), busy: Vec::new() },
        Job::MountWriter { .. } => JobDone::WriterMounted { snapshots: vec![generation(feed)] },
        Job::Publish { generation, .. } => JobDone::Published { generation: Some(*generation), modified_ms: 1 },
        Job::Delete { .. } => JobDone::Deleted,
        Job::StopWriter { generation, .. } => {
            JobDone::Stopped { generation: Some(*generation), clean: true, modified_ms: 1, check: None }
        }
        Job::FenceWriter => JobDone::Stopped { generation: None, clean: false, modified_ms: 0, check: None },
        Job::Measure => JobDone::Measured { inflight_ms: feed.number() },
        Job::Probe { .. } => JobDone::Probed(Probe::default()),
    }
}

/// Jobs and transactions that were asked for and have not come to their end.
#[derive(Default)]
struct Open {
    jobs: Vec<(Uuid, Job)>,
    ops: Vec<(OpTag, TableOp)>,
}

impl Open {
    fn take(&mut self, effects: Vec<Effect>) {
        assert!(effects.len() <= EFFECTS_MAX, "{} effects of one step", effects.len());
        for effect in effects {
            match effect {
                Effect::Job { volume, job } => self.jobs.push((volume, job)),
                Effect::Table { tag, op } => self.ops.push((tag, op)),
                _ => {}
            }
        }
    }
}

pub(super) fn run(data: &[u8]) {
    let mut feed = Feed::new(data);
    let mut seen = Seen::new(&mut feed);
    let setup = setup(&mut feed);
    let (slot, incarnation) = (setup.slot, setup.incarnation);
    let mut engine = Engine::new(setup, VOLUMES);
    let mut open = Open::default();
    for id in 0..STEPS_MAX {
        let world = seen.world();
        let effects = match feed.below(8) {
            0 | 1 => engine.step(&world),
            2 => engine.command(CommandId(id as u64), command(&mut feed), &world),
            3 => match open.jobs.pop() {
                Some((volume, job)) => {
                    let done = if feed.flag() { as_asked(&job, &mut feed) } else { job_done(&mut feed) };
                    engine.job_done(volume, done, &world)
                }
                None => engine.job_done(uuid(&mut feed), job_done(&mut feed), &world),
            },
            4 => match open.ops.pop() {
                Some((tag, op)) => {
                    let actor = Actor { slot, incarnation, epoch: feed.number() };
                    let done = decide(&op, actor, &mut seen);
                    engine.table_done(tag, done, &seen.world())
                }
                None => engine.step(&world),
            },
            5 if feed.byte() > 200 => engine.leave(feed.flag(), &world),
            6 => {
                let op = op(&mut feed);
                let actor =
                    Actor { slot: client(&mut feed), incarnation: Incarnation(feed.number()), epoch: feed.number() };
                let _ = decide(&op, actor, &mut seen);
                Vec::new()
            }
            _ => {
                seen.change(&mut feed);
                engine.step(&seen.world())
            }
        };
        open.take(effects);
        let world = seen.world();
        engine.status(&world, &Surroundings::default());
        let _ = (engine.next_poll(), engine.has_left(), engine.unmounted());
        written(engine.page());
        if feed.is_empty() {
            break;
        }
    }
}

/// The own page can always be written, and says what was meant.
fn written(page: &ClientPage) {
    let g = super::blocks::small();
    let place = g.page_copy(SlotIndex(0), 0);
    let mut block = vec![0; g.page_bytes()];
    page.encode(place, &mut block);
    assert_eq!(ClientPage::decode(&block, place, g).as_valid(), Some(page));
}

fn op(feed: &mut Feed) -> TableOp {
    let volume = uuid(feed);
    match feed.below(6) {
        0 => TableOp::LogOn { host: Label::default(), first_way: feed.flag() },
        1 => TableOp::TakeGrant {
            volume,
            request: feed.flag().then(|| RequestId(feed.number())),
            clean_only: feed.flag(),
            inflight: inflight(feed),
            outwaited: feed.flag().then(|| feed.number()),
            next_over: None,
        },
        2 => TableOp::Hold { volume, epoch: feed.number() },
        3 => TableOp::Release {
            volume,
            epoch: feed.number(),
            generation: feed.flag().then(|| generation(feed)),
            clean: feed.flag(),
            modified_ms: feed.signed(),
            checked: feed.flag(),
            next: feed.flag().then(|| (client(feed), RequestId(feed.number()))),
        },
        4 => TableOp::Revoke { volume, epoch: feed.number(), request: RequestId(feed.number()) },
        _ => TableOp::Reap { dead: (0..3).map(|_| (client(feed), Incarnation(feed.number()))).collect() },
    }
}

/// Decides a transaction, and makes its change in what is seen. Whatever the tables say, nobody takes the write privilege from
/// a living client that holds it.
fn decide(op: &TableOp, actor: Actor, seen: &mut Seen) -> Result<OpDone, Failure> {
    let (change, living) = {
        let world = seen.world();
        let living: Vec<(Uuid, Grant)> = world
            .tables
            .volumes
            .iter()
            .flatten()
            .filter_map(|t| Some((t.uuid, t.writer?)))
            .filter(|(_, g)| g.state == GrantState::Held && g.slot != actor.slot && world.writer_lives(g))
            .collect();
        (ops::apply(op, actor, &world)?, living)
    };
    let Some(change) = change else { return Ok(OpDone::Nothing) };
    for (index, table) in &change.volumes {
        let old = seen.tables.volumes[index.index()].as_ref();
        let held = living.iter().find(|(volume, g)| {
            old.is_some_and(|o| o.uuid == *volume && o.writer == Some(*g))
                && !seen.tables.is_reaped(g.slot, g.incarnation)
        });
        if let (Some((_, grant)), Some(table)) = (held, table) {
            let kept = table
                .writer
                .is_some_and(|w| (w.slot, w.incarnation, w.epoch) == (grant.slot, grant.incarnation, grant.epoch));
            assert!(kept, "{op:?} takes the privilege of {grant:?}");
        }
        seen.tables.volumes[index.index()].clone_from(table);
    }
    for (slot, record) in &change.clients {
        seen.tables.clients[slot.index()].clone_from(record);
    }
    for (slot, incarnation) in &change.reaped {
        let reaped = &mut seen.tables.header.reaped[slot.index()];
        *reaped = (*reaped).max(*incarnation);
    }
    for peer in &mut seen.peers {
        peer.reaped = seen.tables.header.is_reaped(peer.slot, peer.incarnation);
    }
    Ok(OpDone::Committed { epoch: actor.epoch })
}
