//! A control volume in memory, and clients that are driven one step at a time.

use std::ops::Range;
use std::time::Duration;

use ondisk::{CommitNo, DaemonId, Geometry, Incarnation, LockFile, SlotIndex, SlotSector, TableHeader, Ticket, Uuid};

use crate::logon::{Host, LogonRequest};
use crate::poll::{Me, Poll, PollDecoder};
use crate::rules::Rules;
use crate::semaphore::{Bakery, LockError, Params, Semaphore, SlotFields, Step, WriteResult};
use crate::watch::Watch;

pub(crate) const BEAT: Duration = Duration::from_secs(1);
pub(crate) const LEASE: Duration = Duration::from_secs(8);
pub(crate) const DEAD: Duration = Duration::from_secs(12);
pub(crate) const MARGIN: Duration = Duration::from_secs(4);

/// As unreadable range: nothing can be read.
pub(crate) const EVERYTHING: Range<u64> = 0..u64::MAX;

pub(crate) fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// The bytes of slot area and header.
#[derive(Clone)]
pub(crate) struct Bench {
    pub(crate) geometry: Geometry,
    pub(crate) area: Vec<u8>,
    /// Ranges relative to the area that give an error.
    pub(crate) bad: Vec<Range<u64>>,
    pub(crate) header: TableHeader,
}

impl Bench {
    /// Formatted: incarnation 0 in every slot, commit 0.0 in both header copies.
    pub(crate) fn new(clients: u16) -> Self {
        let geometry = Geometry::plan(Uuid::from_bytes([7; 16]), clients, 1, 512, 1 << 20).unwrap();
        let area = geometry.poll_area();
        let header = TableHeader {
            commit: CommitNo::default(),
            opened: 0,
            clients,
            volumes: 0,
            reaped: vec![Incarnation(0); geometry.slot_count()],
            cells: vec![ondisk::CellEntry::default(); geometry.cell_count()],
        };
        let bytes = vec![0; usize::try_from(area.end - area.start).unwrap()];
        let mut bench = Self { geometry, area: bytes, bad: Vec::new(), header };
        for slot in bench.geometry.slots() {
            for sector in 0..2 {
                let block = bench.sector(slot, sector);
                SlotSector::default().encode(bench.geometry.slot_sector(slot, sector), &mut bench.area[block]);
            }
        }
        bench.write_header();
        bench
    }

    /// Where a slot's sector lies in the area.
    pub(crate) fn sector(&self, slot: SlotIndex, sector: usize) -> Range<usize> {
        let start = self.geometry.slot_sector(slot, sector).offset - self.geometry.poll_area().start;
        let start = usize::try_from(start).unwrap();
        start..start + self.geometry.stride()
    }

    /// Where a header copy lies in the area.
    pub(crate) fn header_copy(&self, copy: usize) -> Range<usize> {
        let start = self.geometry.header_copy(copy).offset - self.geometry.poll_area().start;
        let start = usize::try_from(start).unwrap();
        start..start + self.geometry.header_bytes()
    }

    pub(crate) fn write_slot(&mut self, slot: SlotIndex, sector: &SlotSector) {
        let which = sector.incarnation.sector();
        let block = self.sector(slot, which);
        sector.encode(self.geometry.slot_sector(slot, which), &mut self.area[block]);
    }

    pub(crate) fn write_header(&mut self) {
        for copy in 0..2 {
            let block = self.header_copy(copy);
            self.header.encode(self.geometry.header_copy(copy), &mut self.area[block]);
        }
    }

    /// Commits under `epoch`, reaping these.
    pub(crate) fn commit(&mut self, epoch: Ticket, reap: &[(SlotIndex, Incarnation)]) {
        self.header.commit = CommitNo { epoch: epoch.0, count: 1 };
        for (slot, incarnation) in reap {
            let entry = &mut self.header.reaped[slot.index()];
            *entry = (*entry).max(*incarnation);
        }
        self.write_header();
    }

    /// A range as the decoder takes unreadable ones.
    pub(crate) fn as_bad(range: &Range<usize>) -> Range<u64> {
        range.start as u64..range.end as u64
    }

    /// Half-written bytes: the checksum no longer fits.
    pub(crate) fn tear(&mut self, range: Range<usize>) {
        self.area[range.start + 100] ^= 0xff;
    }
}

/// One client: its slot, its bakery, what it has seen.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) me: Me,
    pub(crate) sector: SlotSector,
    pub(crate) bakery: Bakery,
    pub(crate) decoder: PollDecoder,
    pub(crate) watch: Watch,
    pub(crate) step: Step,
}

impl Client {
    /// Logged on as this incarnation, with nothing to want.
    pub(crate) fn new(bench: &mut Bench, slot: u16, incarnation: u64, rules: Rules) -> Self {
        let daemon = DaemonId([u8::try_from(slot).unwrap() + 1; 16]);
        let sector = SlotSector {
            incarnation: Incarnation(incarnation),
            logged_on: true,
            daemon_id: daemon,
            ..SlotSector::default()
        };
        Self::resume(bench, slot, sector, rules)
    }

    /// Goes on with a sector that a log-on made.
    pub(crate) fn resume(bench: &mut Bench, slot: u16, sector: SlotSector, rules: Rules) -> Self {
        let me = Me { slot: SlotIndex(slot), incarnation: sector.incarnation, daemon: sector.daemon_id };
        bench.write_slot(me.slot, &sector);
        let params = Params {
            me,
            slots: u16::try_from(bench.geometry.slot_count()).unwrap(),
            margin: MARGIN,
            beat: BEAT,
            ticket: sector.ticket,
            rules,
        };
        Self {
            me,
            sector,
            bakery: Bakery::new(params),
            decoder: PollDecoder::new(bench.geometry.clone()).with_rules(rules),
            watch: Watch::new(&bench.geometry, DEAD).with_rules(rules),
            step: Step::Left,
        }
    }

    /// An own poll outside an acquisition.
    pub(crate) fn look(&mut self, bench: &Bench, begun: Duration, ended: Duration) -> Poll {
        let poll = self.decoder.decode(&bench.area, &bench.bad, begun, ended).clone();
        self.watch.observe(&poll);
        poll
    }

    pub(crate) fn begin(&mut self, now: Duration) -> &Step {
        self.step = self.bakery.begin(now);
        &self.step
    }

    /// The sector with the present fields and the next beat number.
    pub(crate) fn next_sector(&mut self) -> SlotSector {
        self.sector.beat += 1;
        self.bakery.fields().put(&mut self.sector);
        self.sector
    }

    pub(crate) fn beat(&mut self, bench: &mut Bench) {
        let sector = self.next_sector();
        bench.write_slot(self.me.slot, &sector);
    }

    /// Does the one thing that the last step asks for, all of it at `now`.
    pub(crate) fn advance(&mut self, bench: &mut Bench, now: Duration) -> &Step {
        self.step = match self.step {
            Step::WriteSlot { .. } => {
                self.beat(bench);
                self.bakery.slot_written(WriteResult::Stable, now)
            }
            Step::Poll | Step::WaitThenPoll(_) => {
                let poll = self.look(bench, now, now);
                self.bakery.polled(&poll, &self.watch, now)
            }
            ref other => panic!("nothing to advance after {other:?}"),
        };
        &self.step
    }

    /// Polls other bytes than those that lie there now: a read samples each sector at its own moment.
    pub(crate) fn advance_with(&mut self, area: &[u8], bad: &[Range<u64>], now: Duration) -> &Step {
        let poll = self.decoder.decode(area, bad, now, now).clone();
        self.watch.observe(&poll);
        self.step = self.bakery.polled(&poll, &self.watch, now);
        &self.step
    }

    /// Advances until it is in, out, or has to wait.
    pub(crate) fn run(&mut self, bench: &mut Bench, now: Duration) -> &Step {
        while matches!(self.step, Step::WriteSlot { .. } | Step::Poll) {
            self.advance(bench, now);
        }
        &self.step
    }

    /// Wants in and goes on until it is in or has to wait.
    pub(crate) fn acquire(&mut self, bench: &mut Bench, now: Duration) -> &Step {
        self.begin(now);
        self.run(bench, now)
    }

    pub(crate) fn release(&mut self, bench: &mut Bench, now: Duration) {
        self.step = self.bakery.release();
        self.run(bench, now);
        assert_eq!(self.step, Step::Left);
    }

    /// Acquires, commits, releases; the epoch.
    pub(crate) fn tenure(&mut self, bench: &mut Bench, now: Duration) -> Ticket {
        let Step::Entered(tenure) = self.acquire(bench, now).clone() else { panic!("{:?}", self.step) };
        bench.commit(tenure.epoch, &tenure.reap);
        self.release(bench, now);
        tenure.epoch
    }

    pub(crate) fn inside(&self) -> bool {
        self.bakery.tenure().is_some()
    }

    pub(crate) fn epoch(&self) -> Option<Ticket> {
        self.bakery.tenure().map(|t| t.epoch)
    }

    pub(crate) fn failed(&self) -> Option<&LockError> {
        match &self.step {
            Step::Failed(why) => Some(why),
            _ => None,
        }
    }

    pub(crate) fn fields(&self) -> SlotFields {
        self.bakery.fields()
    }
}

/// A host; equal numbers are the same lock file on the same boot of the same machine.
pub(crate) fn host(number: u8) -> Host {
    Host {
        machine_id: [number; 16],
        boot_id: [number; 16],
        lock_file: LockFile { device: u64::from(number), inode: 1 },
    }
}

pub(crate) fn request(slot: u16, daemon: u8, host: Host, rules: Rules) -> LogonRequest {
    LogonRequest {
        slot: SlotIndex(slot),
        daemon_id: DaemonId([daemon; 16]),
        host,
        record: Incarnation(0),
        highest_number: 0,
        unsettled: Duration::ZERO,
        page_sequence: 0,
        gui: false,
        lease: LEASE,
        dead: DEAD,
        beat: BEAT,
        poll: Duration::from_millis(250),
        rules,
    }
}
