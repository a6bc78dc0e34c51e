//! For tests: a disk in memory that can be cut, torn, robbed of blocks; and a small control volume in use.

use std::collections::BTreeMap;
use std::sync::Arc;

use ondisk::{
    Access, AutoResponse, ClientPage, ClientRecord, CommitNo, FsKind, Generation, Geometry, Grant, GrantState,
    Identity, InFlight, Incarnation, Label, LockKind, Message, MountState, Name, Permission, ReadersPolicy, SlotIndex,
    SlotSector, Ticket, Timings, Uuid, VolumeEntry, VolumeIndex, VolumeTable,
};

use crate::check::{Finding, ReadAt};
use crate::format::{self, FormatStep};
use crate::tables::{IoResult, LoadStep, Loader, Tables};
use crate::transaction::{Change, Commit, CommitError, CommitStep, Rules, Tenure};

const SECTOR: usize = 512;

/// A disk in memory; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    base: Arc<Vec<u8>>,
    over: BTreeMap<usize, [u8; SECTOR]>,
    /// Sectors that give an error on reading, until they are written again.
    pub(crate) unreadable: std::collections::BTreeSet<usize>,
}

impl Disk {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { base: Arc::new(bytes), over: BTreeMap::new(), unreadable: Default::default() }
    }

    pub(crate) fn get(&self, offset: u64, len: usize) -> Option<Vec<u8>> {
        let start = usize::try_from(offset).ok()?;
        let mut bytes = self.base.get(start..start.checked_add(len)?)?.to_vec();
        for (i, sector) in bytes.chunks_mut(SECTOR).enumerate() {
            let at = start / SECTOR + i;
            if self.unreadable.contains(&at) {
                return None;
            }
            if let Some(over) = self.over.get(&at) {
                sector.copy_from_slice(over);
            }
        }
        Some(bytes)
    }

    pub(crate) fn put(&mut self, offset: u64, bytes: &[u8]) {
        let start = usize::try_from(offset).unwrap();
        assert!(start.is_multiple_of(SECTOR) && bytes.len().is_multiple_of(SECTOR));
        for (i, sector) in bytes.chunks(SECTOR).enumerate() {
            let at = start / SECTOR + i;
            self.unreadable.remove(&at);
            self.over.insert(at, sector.try_into().unwrap());
        }
    }

    /// The block gives an error from now on.
    pub(crate) fn rot(&mut self, offset: u64, len: usize) {
        let start = usize::try_from(offset).unwrap() / SECTOR;
        self.unreadable.extend(start..start + len / SECTOR);
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.get(0, self.base.len()).unwrap()
    }
}

impl ReadAt for Disk {
    fn read(&self, offset: u64, len: usize) -> std::io::Result<Vec<u8>> {
        self.get(offset, len).ok_or_else(|| std::io::Error::other("no such bytes"))
    }

    fn size(&self) -> std::io::Result<u64> {
        Ok(self.base.len() as u64)
    }
}

pub(crate) fn geometry() -> Geometry {
    Geometry::plan(Uuid::from_u128(7), 4, 3, 512, 1 << 20).unwrap()
}

/// A small geometry for tests that run a great many commits.
pub(crate) fn tiny() -> Geometry {
    Geometry::plan(Uuid::from_u128(8), 2, 2, 512, 1 << 20).unwrap()
}

pub(crate) fn formatted(g: &Geometry) -> Disk {
    let sb = g.superblock(LockKind::Bakery, Timings::default(), Label::new("test").unwrap(), 1);
    let mut bytes = vec![0; usize::try_from(g.total()).unwrap()];
    for step in format::format(g, &sb, None) {
        if let FormatStep::Write { offset, bytes: new } = step {
            let at = usize::try_from(offset).unwrap();
            bytes[at..at + new.len()].copy_from_slice(&new);
        }
    }
    Disk::new(bytes)
}

pub(crate) fn client(name: &str) -> ClientRecord {
    ClientRecord {
        name: Name::new(name).unwrap(),
        host: Label::new("host").unwrap(),
        uuid: Uuid::new_v4(),
        enabled: true,
        admin: false,
        locked_out: false,
        notify: true,
        auto_response: AutoResponse::Off,
        logged_on: Incarnation(0),
    }
}

pub(crate) fn volume(g: &Geometry, name: &str, writer: Option<Grant>) -> VolumeTable {
    VolumeTable {
        name: Name::new(name).unwrap(),
        uuid: Uuid::new_v4(),
        identity: Identity {
            fs_uuid: Uuid::from_u128(3),
            partition: Uuid::nil(),
            wwid: Label::default(),
            size: 1 << 30,
            enveloped: false,
        },
        fs: FsKind::Btrfs,
        readers: ReadersPolicy::Snapshot,
        write_enabled: true,
        device: Message::new("/dev/x").unwrap(),
        writer,
        dirty_since: 0,
        next: None,
        last: Generation::NONE,
        modified_ms: 0,
        check_due: false,
        permissions: vec![Permission::new(Access::Write, false, true, 2000); usize::from(g.max_clients())],
    }
}

/// Loads the tables; `mark` as a reader that has read all slots before.
pub(crate) fn load(g: &Geometry, disk: &Disk, mark: CommitNo) -> Result<Tables, Vec<Finding>> {
    drive_load(Loader::new(g, mark), disk)
}

pub(crate) fn drive_load(mut loader: Loader, disk: &Disk) -> Result<Tables, Vec<Finding>> {
    loop {
        match loader.step() {
            LoadStep::Read { offset, len } => {
                loader.done(disk.get(offset, len).map_or(IoResult::Failed, IoResult::Bytes));
            }
            LoadStep::Done(tables) => return Ok(tables),
            LoadStep::Damaged(findings) => return Err(findings),
            // Nothing else runs: what is torn now stays torn.
            LoadStep::Retry => return Err(loader.give_up()),
        }
    }
}

/// One executed step of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Did {
    Read,
    Write { offset: u64, bytes: Vec<u8>, fua: bool },
    Flush,
}

/// How a commit ended.
pub(crate) type End = Result<(CommitNo, Tables), CommitError>;

/// Runs a commit to its end; `before` sees the disk before each step and may end the run (false).
pub(crate) fn drive(
    commit: &mut Commit,
    disk: &mut Disk,
    mut before: impl FnMut(usize, &CommitStep, &mut Disk) -> bool,
) -> (Vec<Did>, Option<End>) {
    let mut did = Vec::new();
    loop {
        let step = commit.step();
        match &step {
            CommitStep::Committed { commit, tables } => return (did, Some(Ok((*commit, tables.clone())))),
            CommitStep::Failed(e) => return (did, Some(Err(e.clone()))),
            _ => {}
        }
        if !before(did.len(), &step, disk) {
            return (did, None);
        }
        match step {
            CommitStep::Read { offset, len } => {
                did.push(Did::Read);
                commit.done(disk.get(offset, len).map_or(IoResult::Failed, IoResult::Bytes));
            }
            CommitStep::Write { offset, bytes, fua } => {
                disk.put(offset, &bytes);
                did.push(Did::Write { offset, bytes, fua });
                commit.done(IoResult::Done);
            }
            CommitStep::Flush => {
                did.push(Did::Flush);
                commit.done(IoResult::Done);
            }
            CommitStep::Committed { .. } | CommitStep::Failed(_) => unreachable!("handled above"),
        }
    }
}

pub(crate) fn tenure(epoch: u64) -> Tenure {
    Tenure::new(epoch, SlotIndex(1), Incarnation(99))
}

/// Commits a change under a new epoch, or panics.
pub(crate) fn commit(g: &Geometry, disk: &mut Disk, epoch: u64, change: Change) -> Tables {
    try_commit(g, Rules::default(), disk, epoch, change).unwrap()
}

pub(crate) fn try_commit(
    g: &Geometry,
    rules: Rules,
    disk: &mut Disk,
    epoch: u64,
    change: Change,
) -> Result<Tables, String> {
    let base = load(g, disk, CommitNo::default()).map_err(|f| format!("{f:?}"))?;
    let mut machine = Commit::with_rules(g, rules, tenure(epoch), base, change);
    let (_, end) = drive(&mut machine, disk, |_, _, _| true);
    end.unwrap().map(|(_, tables)| tables).map_err(|e| e.to_string())
}

/// A control volume in use: clients that are logged on, left, reaped and never there; volumes with and without writer.
pub(crate) fn used() -> (Geometry, Disk) {
    let g = geometry();
    let mut disk = formatted(&g);
    commit(&g, &mut disk, 10, Change::client(SlotIndex(0), Some(client("alice"))));
    commit(&g, &mut disk, 11, Change::client(SlotIndex(1), Some(client("bob"))));
    let grant = Grant::new(SlotIndex(0), Incarnation(1), 12, InFlight::ZERO, GrantState::Held);
    let change = Change {
        volumes: vec![
            (VolumeIndex(0), Some(volume(&g, "footage", Some(grant)))),
            (VolumeIndex(2), Some(volume(&g, "audio", None))),
        ],
        ..Change::default()
    };
    commit(&g, &mut disk, 12, change);
    let tables = commit(&g, &mut disk, 13, Change::reap(SlotIndex(0), Incarnation(1)));
    for (slot, incarnation, ticket) in [(0u16, 1u64, 12u64), (1, 2, 13), (4, 1, 4)] {
        let sector = SlotSector {
            incarnation: Incarnation(incarnation),
            beat: 100,
            page_sequence: if slot < 4 { 2 } else { 0 },
            ticket: Ticket(ticket),
            logged_on: slot == 0,
            acknowledged: CommitNo { epoch: ticket, count: 1 },
            machine_id: [7; 16],
            ..SlotSector::default()
        };
        let place = g.slot_sector(SlotIndex(slot), sector.incarnation.sector());
        let mut block = vec![0; g.stride()];
        sector.encode(place, &mut block);
        disk.put(place.offset, &block);
        if slot < 4 {
            let mut entry = VolumeEntry::of(tables.volume(VolumeIndex(0)).unwrap().uuid);
            entry.state = MountState::ReadOnly;
            let volumes = vec![entry, VolumeEntry::default(), VolumeEntry::default()];
            let page =
                ClientPage { incarnation: Incarnation(incarnation), sequence: 2, volumes, ..ClientPage::default() };
            for copy in 0..2 {
                let place = g.page_copy(SlotIndex(slot), copy);
                let mut block = vec![0; g.page_bytes()];
                page.encode(place, &mut block);
                disk.put(place.offset, &block);
            }
        }
    }
    (g, Disk::new(disk.bytes()))
}
