//! Sectors and headers in small, and the polls that are made of them.

use std::time::Duration;

use lockdriver::poll::{Poll, SectorReading, SlotReading, Token};
use lockdriver::rules::Rules;
use lockdriver::semaphore::SlotFields;
use lockdriver::watch::Watch;
use ondisk::elect::Elected;
use ondisk::{
    CommitNo, Corrupt, DaemonId, Geometry, Incarnation, LockFile, SlotSector, TableHeader, Ticket, Uuid, Verdict,
};

use super::CLIENTS;

pub(super) const BEAT: Duration = Duration::from_secs(1);
pub(super) const LEASE: Duration = Duration::from_secs(8);
pub(super) const DEAD: Duration = Duration::from_secs(12);
pub(super) const MARGIN: Duration = Duration::from_secs(4);
/// Every client's clock begins here.
pub(super) const START: Duration = Duration::from_secs(100);

pub(super) fn geometry() -> Geometry {
    let clients = u16::try_from(CLIENTS).expect("three");
    Geometry::plan(Uuid::from_bytes([7; 16]), clients, 1, 512, 1 << 20).expect("a small control volume")
}

/// What of a slot's sector differs between two states; the rest of a [`SlotSector`] is the same in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Sector {
    pub(super) incarnation: u8,
    pub(super) ticket: u16,
    pub(super) choosing: bool,
    pub(super) waiting: bool,
    pub(super) logged_on: bool,
    pub(super) daemon: u8,
    pub(super) host: u8,
}

impl Sector {
    pub(super) fn of(sector: &SlotSector) -> Self {
        Self {
            incarnation: u8::try_from(sector.incarnation.0).expect("few log-ons"),
            ticket: u16::try_from(sector.ticket.0).expect("few tenures"),
            choosing: sector.choosing,
            waiting: sector.waiting,
            logged_on: sector.logged_on,
            daemon: sector.daemon_id.0[0],
            host: sector.machine_id[0],
        }
    }

    pub(super) fn with(self, fields: SlotFields) -> Self {
        let ticket = u16::try_from(fields.ticket.0).expect("few tenures");
        Self { ticket, choosing: fields.choosing, waiting: fields.waiting, ..self }
    }

    /// Which of the two sectors it is written to.
    pub(super) fn place(self) -> usize {
        Incarnation(u64::from(self.incarnation)).sector()
    }

    fn whole(self) -> SlotSector {
        SlotSector {
            incarnation: Incarnation(u64::from(self.incarnation)),
            ticket: Ticket(u64::from(self.ticket)),
            choosing: self.choosing,
            waiting: self.waiting,
            logged_on: self.logged_on,
            daemon_id: DaemonId([self.daemon; 16]),
            machine_id: [self.host; 16],
            boot_id: [self.host; 16],
            lock_file: LockFile { device: u64::from(self.host), inode: 1 },
            ..SlotSector::default()
        }
    }
}

/// The header: the epoch of the last commit, and who was reaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Head {
    pub(super) epoch: u64,
    pub(super) reaped: [u64; CLIENTS],
}

impl Head {
    pub(super) fn whole(&self) -> TableHeader {
        TableHeader {
            commit: CommitNo { epoch: self.epoch, count: 1 },
            opened: 0,
            clients: 0,
            volumes: 0,
            reaped: self.reaped.iter().map(|n| Incarnation(*n)).collect(),
            cells: Vec::new(),
        }
    }
}

/// A slot as a reading sampled it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Sample {
    pub(super) sectors: [Sector; 2],
    /// This one read badly.
    pub(super) bad: Option<u8>,
    /// Its client was gone by then, so that it may be judged silent.
    pub(super) gone: bool,
}

impl Sample {
    pub(super) fn good(sectors: [Sector; 2]) -> Self {
        Self { sectors, bad: None, gone: false }
    }

    fn reading(&self, tokens: u64) -> SlotReading {
        let sector = |n: u8| {
            let bad = self.bad == Some(n);
            let whole = || Verdict::Valid(self.sectors[usize::from(n)].whole());
            let content = if bad { Verdict::Corrupt(Corrupt::Short(0)) } else { whole() };
            SectorReading::Read { token: Token(tokens + u64::from(n)), content }
        };
        SlotReading::new([sector(0), sector(1)])
    }
}

/// A poll of these samples that ends at `now`, and a watch that has seen the slots in `silent` so for `dead`.
pub(super) fn poll(
    geometry: &Geometry,
    rules: Rules,
    samples: &[Sample; CLIENTS],
    head: Head,
    silent: u8,
    now: Duration,
) -> (Poll, Watch) {
    let header = head.whole();
    let make = |number: u64, at: Duration, silent: u8| {
        let tokens = |slot: usize| if silent >> slot & 1 == 1 { 10 } else { 20 + number };
        Poll {
            number,
            begun: at,
            ended: at,
            slots: samples.iter().enumerate().map(|(slot, s)| s.reading(tokens(slot))).collect(),
            headers: [Verdict::Valid(header.clone()), Verdict::Valid(header.clone())],
            elected: Some(Elected { content: header.clone(), copy: 0, whole: true }),
            older_mark: None,
        }
    };
    let mut watch = Watch::new(geometry, DEAD).with_rules(rules);
    if silent != 0 {
        watch.observe(&make(0, now.saturating_sub(DEAD), silent));
    }
    let poll = make(10, now, silent);
    watch.observe(&poll);
    (poll, watch)
}
