//! Every kind of transaction that a daemon makes, made by the code that ships: a claimed slot, a lease, the beating thread,
//! the semaphore; on a disk in memory.

use std::sync::Arc;
use std::time::Duration;

use lockdriver::device::MemoryDevice;
use lockdriver::format::{FormatStep, format};
use lockdriver::logon::{Claimed, Host};
use lockdriver::transaction::Change;
use ondisk::{
    Access, AutoResponse, ClientPage, ClientRecord, CommitNo, FsKind, Generation, Geometry, Grant, GrantState,
    Identity, InFlight, Incarnation, Label, LockFile, LockKind, Message, Name, NextWriter, Permission, ReadersPolicy,
    RequestId, SlotIndex, SlotSector, Timings, Uuid, VolumeEntry, VolumeIndex, VolumeTable,
};
use volctl::control::claim::{Claim, claim};
use volctl::control::machine::RealMachine;
use volctl::control::open::ControlVolume;
use volctl::control::session::{Parts, Session};
use volctl::engine::ops::{self, OpDone, TableOp};
use volctl::engine::{PageView, World};

use super::disk::{Image, Recorder, Recording};
use super::oracle::{next_holder, open};

pub(super) const LIVE: Uuid = Uuid::from_u128(101);
pub(super) const EXCLUSIVE: Uuid = Uuid::from_u128(102);
const REQUEST: RequestId = RequestId(77);

/// Long times: a machine that does many things at once loses no lease here.
const SLOW: Timings = Timings { beat_ms: 15_000, lease_ms: 60_000, dead_ms: 80_000, poll_ms: 250 };
/// The shortest margin that there may be, for the log-on that waits it out.
const SHORT: Timings = Timings { beat_ms: 1000, lease_ms: 8000, dead_ms: 10_000, poll_ms: 250 };

fn host(slot: u16) -> Host {
    Host { machine_id: [1; 16], boot_id: [2; 16], lock_file: LockFile { device: 3, inode: u64::from(slot) + 1 } }
}

pub(super) fn a_client(name: &str) -> ClientRecord {
    ClientRecord {
        name: Name::new(name).unwrap(),
        host: Label::default(),
        uuid: Uuid::from_u128(name.len() as u128),
        enabled: true,
        admin: true,
        locked_out: false,
        notify: true,
        auto_response: AutoResponse::Off,
        logged_on: Incarnation(0),
    }
}

fn a_volume(name: &str, uuid: Uuid, readers: ReadersPolicy, clients: u16) -> VolumeTable {
    let fs_uuid = Uuid::from_u128(uuid.as_u128() + 100);
    VolumeTable {
        name: Name::new(name).unwrap(),
        uuid,
        identity: Identity { fs_uuid, partition: Uuid::nil(), wwid: Label::default(), size: 1 << 30, enveloped: false },
        fs: FsKind::Btrfs,
        readers,
        write_enabled: true,
        device: Message::new("/dev/x").unwrap(),
        writer: None,
        dirty_since: 0,
        next: None,
        last: Generation::NONE,
        modified_ms: 0,
        check_due: false,
        permissions: vec![Permission::new(Access::Write, false, true, 2000); clients.into()],
    }
}

/// A disk with two clients that have left in order, and two volumes; what is done to it is written down.
pub(super) struct Scene {
    device: MemoryDevice,
    recorder: Arc<Recorder>,
    volume: ControlVolume,
    pub(super) recordings: Vec<Recording>,
}

impl Scene {
    pub(super) fn new(timings: Timings) -> Self {
        let geometry = Geometry::plan(Uuid::from_u128(8), 2, 2, 512, 512 << 10).unwrap();
        let superblock = geometry.superblock(LockKind::Bakery, timings, Label::default(), 1);
        let mut image = Image(vec![0; 512 << 10]);
        for step in format(&geometry, &superblock, None) {
            if let FormatStep::Write { offset, bytes } = step {
                image.put(usize::try_from(offset).unwrap(), &bytes);
            }
        }
        let clients = vec![(SlotIndex(0), Some(a_client("ann"))), (SlotIndex(1), Some(a_client("bobby")))];
        let volumes = vec![
            (VolumeIndex(0), Some(a_volume("live", LIVE, ReadersPolicy::Snapshot, 2))),
            (VolumeIndex(1), Some(a_volume("own", EXCLUSIVE, ReadersPolicy::Exclusive, 2))),
        ];
        let opened = open(&image).unwrap();
        next_holder(&mut image, &opened, Change { clients, volumes, ..Change::default() }).unwrap();
        let device = MemoryDevice::from_bytes(image.0, 512);
        let recorder = Recorder::over(Arc::new(device.clone()));
        let volume = ControlVolume {
            path: "memory".into(),
            device: recorder.clone(),
            superblock,
            geometry,
            machine: RealMachine::shared(),
            rules: Default::default(),
        };
        Self { device, recorder, volume, recordings: Vec::new() }
    }

    fn image(&self) -> Image {
        Image(self.device.snapshot())
    }

    /// Runs `f`, and keeps what it did to the disk under this name.
    fn record<T>(&mut self, name: &str, f: impl FnOnce(&ControlVolume) -> T) -> T {
        let base = self.image();
        self.recorder.take();
        let done = f(&self.volume);
        self.recordings.push(Recording { name: name.to_owned(), base, steps: self.recorder.take() });
        done
    }

    /// The slot was left by this very host, whose lock file the claimer holds: the first way.
    fn left_by(&self, slot: SlotIndex, incarnation: u64, logged_on: bool) {
        let Host { machine_id, boot_id, lock_file } = host(slot.0);
        let incarnation = Incarnation(incarnation);
        let sector = SlotSector { incarnation, machine_id, boot_id, lock_file, logged_on, ..SlotSector::default() };
        let place = self.volume.geometry.slot_sector(slot, incarnation.sector());
        let mut block = vec![0; self.volume.geometry.stride()];
        sector.encode(place, &mut block);
        let start = usize::try_from(place.offset).unwrap();
        self.device.with_bytes(|bytes| bytes[start..start + block.len()].copy_from_slice(&block));
    }

    /// Changes a volume as if that had happened long ago.
    fn before(&self, uuid: Uuid, change: impl FnOnce(&mut VolumeTable)) {
        let mut image = self.image();
        let opened = open(&image).unwrap();
        let (index, table) = opened.tables.find_volume_uuid(uuid).unwrap();
        let mut table = table.clone();
        change(&mut table);
        next_holder(&mut image, &opened, Change::volume(index, Some(table))).unwrap();
        self.device.with_bytes(|bytes| bytes.copy_from_slice(&image.0));
    }
}

/// Claims, writes the first page, and commits the log-on, as a daemon does.
fn log_on(volume: &ControlVolume, slot: SlotIndex) -> (Session, Claimed) {
    let mut parts = Parts::new(volume.clone(), slot, Arc::new(())).unwrap();
    parts.view.read_slots();
    parts.view.load_tables().unwrap();
    let tables = parts.view.tables().unwrap().clone();
    let old = volctl::control::view::read_page(&volume.geometry, &*volume.device, slot).unwrap_or_default();
    let asked = Claim {
        slot,
        host: host(slot.0),
        record: tables.client(slot).unwrap().logged_on,
        highest: tables.header.commit,
        page_sequence: old.sequence,
        waiting: &|_, _| (),
        close_gates: &mut |_| true,
        stop: &|| false,
    };
    let claimed = claim(&mut parts, volume, asked).unwrap();
    let session = Session::begin(parts, slot, &claimed).unwrap();
    let volumes = vec![VolumeEntry::default(); usize::from(volume.geometry.max_volumes())];
    let page = ClientPage { incarnation: session.me.incarnation, volumes, ..ClientPage::default() };
    session.write_page(page, 1).unwrap();
    let host = Label::new("host").unwrap();
    transact(&session, &TableOp::LogOn { host, first_way: claimed.first_way }, |_| ());
    (session, claimed)
}

/// One transaction, decided over the world as `see` makes it: what would take minutes of standing still is just said.
fn transact(session: &Session, op: &TableOp, see: impl Fn(&mut Vec<volctl::engine::Peer>)) -> u64 {
    session.poll(|_| ()).unwrap();
    let done = session.transact(&mut |actor, world| {
        let mut peers = world.peers.to_vec();
        see(&mut peers);
        let World { now, begun, wall_ms, tables, page_on_disk, .. } = *world;
        ops::apply(op, actor, &World { now, begun, wall_ms, tables, peers: &peers, page_on_disk })
    });
    match done.unwrap() {
        OpDone::Committed { epoch } => epoch,
        OpDone::Nothing => panic!("{op:?} changes nothing"),
    }
}

fn take(volume: Uuid, request: Option<RequestId>) -> TableOp {
    let inflight = InFlight::ZERO;
    TableOp::TakeGrant { volume, request, clean_only: false, inflight, outwaited: None, next_over: None }
}

fn clean(volume: Uuid) -> TableOp {
    let inflight = InFlight::ZERO;
    TableOp::TakeGrant { volume, request: None, clean_only: true, inflight, outwaited: None, next_over: None }
}

fn release(volume: Uuid, epoch: u64, clean: bool, next: Option<(SlotIndex, RequestId)>) -> TableOp {
    let generation = clean.then_some(Generation { epoch, count: 1 });
    TableOp::Release { volume, epoch, generation, clean, modified_ms: 9, checked: clean, next }
}

fn alone(peers: &mut Vec<volctl::engine::Peer>) {
    for peer in peers {
        if matches!(peer.page, PageView::Unknown) {
            peer.logged_on = false;
        }
    }
}

const ANN: SlotIndex = SlotIndex(0);
const BOB: SlotIndex = SlotIndex(1);

/// Log-on by the first way over an older grant of its own, then all that two clients do with two volumes, to the log-off.
pub(super) fn a_day() -> Vec<Recording> {
    let mut scene = Scene::new(SLOW);
    scene.left_by(ANN, 3, true);
    scene.left_by(BOB, 2, false);
    scene.before(LIVE, |t| {
        t.writer = Some(Grant::new(ANN, Incarnation(1), 1, InFlight::ZERO, GrantState::Held));
    });
    let (ann, claimed) = scene.record("log-on, first way, over an own grant", |v| log_on(v, ANN));
    assert!(claimed.first_way);
    let (bob, _) = scene.record("log-on of the second client", |v| log_on(v, BOB));
    let me = |s: &Session| s.me.incarnation;
    let mut page = ClientPage { incarnation: me(&bob), volumes: vec![VolumeEntry::of(LIVE); 2], ..Default::default() };
    page.requests = vec![ondisk::Request {
        id: REQUEST,
        number: 1,
        volume: LIVE,
        to: ANN,
        created_ms: 1,
        message: Message::new("titles").unwrap(),
    }];
    scene.record("a request in the page", |_| bob.write_page(page.clone(), 2).unwrap());
    let mut of = |name: &str, who: &Session, op: &TableOp| scene.record(name, |_| transact(who, op, alone));
    let epoch = of("take a fresh grant", &ann, &take(LIVE, None));
    of("release to another, published", &ann, &release(LIVE, epoch, true, Some((BOB, REQUEST))));
    let epoch = of("take what was promised", &bob, &take(LIVE, Some(REQUEST)));
    of("release unpublished, to nobody", &bob, &release(LIVE, epoch, false, None));
    let epoch = of("take a dirty volume, to clean it", &bob, &clean(LIVE));
    of("release it clean", &bob, &release(LIVE, epoch, true, None));
    let epoch = of("take a pending grant", &ann, &take(EXCLUSIVE, None));
    of("hold", &ann, &TableOp::Hold { volume: EXCLUSIVE, epoch });
    of("revoke", &bob, &TableOp::Revoke { volume: EXCLUSIVE, epoch, request: REQUEST });
    of("release what was revoked", &ann, &release(EXCLUSIVE, epoch, true, None));
    let epoch = of("take after a revocation", &bob, &take(EXCLUSIVE, Some(REQUEST)));
    of("hold after a revocation", &bob, &TableOp::Hold { volume: EXCLUSIVE, epoch });
    scene.record("raise the generation", |_| bob.raise(LIVE, Generation { epoch, count: 7 }, 11).unwrap());
    scene.record("log-off", |_| bob.log_off().unwrap());
    scene.recordings
}

/// A writer falls silent: it is reaped, its grant is taken, and what it was promised is over.
pub(super) fn a_death() -> Vec<Recording> {
    let mut scene = Scene::new(SLOW);
    scene.left_by(ANN, 3, true);
    scene.left_by(BOB, 1, false);
    let grant = Grant::new(ANN, Incarnation(3), 1, InFlight::ZERO, GrantState::Held);
    let next = NextWriter { slot: ANN, incarnation: Incarnation(3), request: REQUEST };
    scene.before(LIVE, |t| {
        (t.writer, t.dirty_since, t.next) = (Some(grant), 1, Some(next));
    });
    let (bob, _) = scene.record("log-on beside a dead writer", |v| log_on(v, BOB));
    let dead = vec![(ANN, Incarnation(3))];
    scene.record("reap", |_| transact(&bob, &TableOp::Reap { dead }, |peers| peers[0].silent = true));
    let outwaited = Some(grant.epoch);
    let take = |clean_only| TableOp::TakeGrant {
        volume: LIVE,
        request: None,
        clean_only,
        inflight: InFlight::ZERO,
        outwaited,
        next_over: None,
    };
    let epoch = scene.record("take after reaping", |_| transact(&bob, &take(false), |_| ()));
    scene.record("release after reaping", |_| transact(&bob, &release(LIVE, epoch, true, None), |_| ()));
    scene.recordings
}

/// A slot left by another machine: the claim waits the margin out, and ends its own older incarnations.
pub(super) fn a_log_on_from_elsewhere() -> Vec<Recording> {
    let mut scene = Scene::new(SHORT);
    let there = SlotSector { incarnation: Incarnation(4), machine_id: [9; 16], ..SlotSector::default() };
    let place = scene.volume.geometry.slot_sector(ANN, 1);
    let mut block = vec![0; scene.volume.geometry.stride()];
    there.encode(place, &mut block);
    let start = usize::try_from(place.offset).unwrap();
    scene.device.with_bytes(|bytes| bytes[start..start + block.len()].copy_from_slice(&block));
    let (session, claimed) = scene.record("log-on, second way", |v| log_on(v, ANN));
    assert!(!claimed.first_way && claimed.reap_own.is_some());
    assert!(session.look(|w| w.tables.header.commit > CommitNo::default()).unwrap());
    assert!(session.lease_left() > Duration::ZERO);
    scene.recordings
}
