//! Log-on and bakery, driven by whatever the slots may say.

use std::time::Duration;

use lockdriver::logon::{Host, Logon, LogonRequest, LogonStep};
use lockdriver::poll::PollDecoder;
use lockdriver::rules::Rules;
use lockdriver::semaphore::{self, Params, Semaphore, Step, WriteResult};
use lockdriver::watch::Watch;
use ondisk::{
    CellEntry, CommitNo, DaemonId, Geometry, Incarnation, LockFile, LockKind, SlotIndex, SlotSector, TableHeader,
    Ticket, Timings,
};

use super::blocks::small;
use super::feed::Feed;

/// After so many steps a run is over: who waits for others may wait for ever.
const STEPS_MAX: usize = 64;

struct Bench {
    area: Vec<u8>,
    decoder: PollDecoder,
    watch: Watch,
    now: Duration,
}

fn at(g: &Geometry, offset: u64) -> usize {
    usize::try_from(offset - g.poll_area().start).expect("inside the poll area")
}

impl Bench {
    fn new(dead: Duration) -> Self {
        let g = small();
        let area = g.poll_area();
        let mut bench = Self {
            area: vec![0; usize::try_from(area.end - area.start).expect("small")],
            decoder: PollDecoder::new(g.clone()),
            watch: Watch::new(g, dead),
            now: Duration::from_secs(1000),
        };
        for slot in g.slots() {
            for sector in 0..2 {
                bench.put(slot, sector, &SlotSector::default());
            }
        }
        bench.header(CommitNo { epoch: 1, count: 1 }, SlotIndex(0), Incarnation(0));
        bench
    }

    fn put(&mut self, slot: SlotIndex, sector: usize, content: &SlotSector) {
        let place = small().slot_sector(slot, sector);
        let start = at(small(), place.offset);
        content.encode(place, &mut self.area[start..start + small().stride()]);
    }

    fn header(&mut self, commit: CommitNo, slot: SlotIndex, reaped: Incarnation) {
        let g = small();
        let mut all = vec![Incarnation(0); g.slot_count()];
        all[slot.index()] = reaped;
        let cells = vec![CellEntry::new(0, 0, commit); g.cell_count()];
        let header = TableHeader { commit, opened: 0, clients: 0, volumes: 0, reaped: all, cells };
        for copy in 0..2 {
            let place = g.header_copy(copy);
            let start = at(g, place.offset);
            header.encode(place, &mut self.area[start..start + g.header_bytes()]);
        }
    }

    /// Somebody else writes, or a sector rots, or time goes by.
    fn others(&mut self, feed: &mut Feed, me: SlotIndex) {
        let g = small();
        let slot = SlotIndex(u16::try_from(feed.below(g.slot_count())).expect("few"));
        match feed.below(8) {
            0..4 => {
                let sector = SlotSector {
                    incarnation: Incarnation(feed.number()),
                    beat: feed.number(),
                    page_sequence: feed.number(),
                    ticket: Ticket(feed.number()),
                    choosing: feed.flag(),
                    waiting: feed.flag(),
                    logged_on: feed.flag(),
                    acknowledged: CommitNo { epoch: feed.number(), count: feed.number() },
                    daemon_id: DaemonId([feed.byte(); 16]),
                    machine_id: [feed.byte() & 1; 16],
                    boot_id: [feed.byte() & 1; 16],
                    lock_file: LockFile { device: 0, inode: feed.number() },
                    ..SlotSector::default()
                };
                let which = feed.below(2);
                if slot != me || feed.byte() < 32 {
                    self.put(slot, which, &sector);
                }
            }
            4 => {
                let start = at(g, g.slot_sector(slot, feed.below(2)).offset);
                self.area[start + 60] ^= feed.byte();
            }
            5 => self.header(CommitNo { epoch: feed.number(), count: feed.number() }, slot, Incarnation(feed.number())),
            6 => {
                let start = at(g, g.header_copy(feed.below(2)).offset);
                self.area[start + 60] ^= feed.byte();
            }
            _ => self.now = self.now.saturating_add(Duration::from_millis(feed.number() & 0xffff_ffff)),
        }
    }

    fn poll(&mut self, feed: &mut Feed, me: SlotIndex) {
        while feed.flag() {
            self.others(feed, me);
        }
        let range = feed.number()..feed.number();
        let bad: Vec<_> = (feed.byte() == 255).then_some(range).into_iter().collect();
        let begun = self.now;
        self.now = self.now.saturating_add(Duration::from_millis(1));
        self.watch.observe(self.decoder.decode(&self.area, &bad, begun, self.now));
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now.saturating_add(time);
    }
}

fn result(feed: &mut Feed) -> WriteResult {
    match feed.byte() {
        0..200 => WriteResult::Stable,
        200..230 => WriteResult::Unknown,
        _ => WriteResult::Failed,
    }
}

pub(super) fn run(data: &[u8]) {
    let mut feed = Feed::new(data);
    let timings = Timings::default();
    let me = SlotIndex(u16::try_from(feed.below(small().slot_count())).expect("few"));
    let mut bench = Bench::new(timings.dead());
    let Some(sector) = log_on(&mut feed, &mut bench, me, &timings) else { return };
    let params = Params::new(small(), &timings, me, &sector);
    let mut machine = semaphore::open(LockKind::Bakery, params);
    for _ in 0..2 {
        let Some(epoch) = enter(&mut feed, &mut bench, me, &mut *machine, sector) else { return };
        assert!(epoch > sector.ticket, "a ticket is never repeated");
        let mut step = machine.release();
        for _ in 0..STEPS_MAX {
            step = match step {
                Step::Left => break,
                Step::WriteSlot { .. } => machine.slot_written(result(&mut feed), bench.now),
                Step::Poll => {
                    bench.poll(&mut feed, me);
                    machine.polled(bench.decoder.poll(), &bench.watch, bench.now)
                }
                Step::WaitThenPoll(time) => {
                    bench.wait(time);
                    bench.poll(&mut feed, me);
                    machine.polled(bench.decoder.poll(), &bench.watch, bench.now)
                }
                _ => return,
            };
        }
    }
}

fn log_on(feed: &mut Feed, bench: &mut Bench, me: SlotIndex, timings: &Timings) -> Option<SlotSector> {
    let mut machine = Logon::new(LogonRequest {
        slot: me,
        daemon_id: DaemonId([9; 16]),
        host: Host { machine_id: [1; 16], boot_id: [1; 16], lock_file: LockFile { device: 0, inode: 1 } },
        record: Incarnation(feed.number()),
        highest_number: feed.number(),
        unsettled: Duration::from_nanos(feed.number()),
        page_sequence: feed.number(),
        gui: false,
        lease: timings.lease(),
        dead: timings.dead(),
        beat: timings.beat(),
        poll: timings.poll(),
        rules: Rules::ALL,
    });
    let mut step = machine.begin();
    for _ in 0..STEPS_MAX {
        step = match step {
            LogonStep::Poll => {
                bench.poll(feed, me);
                machine.polled(bench.decoder.poll(), &bench.watch, bench.now)
            }
            LogonStep::WaitThenPoll(time) => {
                bench.wait(time);
                bench.poll(feed, me);
                machine.polled(bench.decoder.poll(), &bench.watch, bench.now)
            }
            LogonStep::CloseOldGates(_) => machine.gates_closed(feed.byte() < 250),
            LogonStep::WriteSlot { sector, .. } => {
                let (result, begun) = (result(feed), bench.now);
                if result == WriteResult::Stable {
                    bench.put(me, sector.incarnation.sector(), &sector);
                }
                machine.slot_written(result, begun, bench.now)
            }
            LogonStep::Claimed(claimed) => return Some(claimed.sector),
            LogonStep::Failed(_) => return None,
        };
    }
    None
}

fn enter(
    feed: &mut Feed,
    bench: &mut Bench,
    me: SlotIndex,
    machine: &mut dyn Semaphore,
    sector: SlotSector,
) -> Option<Ticket> {
    let mut step = machine.begin(bench.now);
    for _ in 0..STEPS_MAX {
        step = match step {
            Step::WriteSlot { fields, .. } => {
                let result = result(feed);
                let mut own = sector;
                fields.put(&mut own);
                if result == WriteResult::Stable {
                    bench.put(me, own.incarnation.sector(), &own);
                }
                machine.slot_written(result, bench.now)
            }
            Step::Poll => {
                bench.poll(feed, me);
                machine.polled(bench.decoder.poll(), &bench.watch, bench.now)
            }
            Step::WaitThenPoll(time) => {
                bench.wait(time);
                bench.poll(feed, me);
                machine.polled(bench.decoder.poll(), &bench.watch, bench.now)
            }
            Step::Entered(tenure) => {
                let header = bench.decoder.poll().header().map(|h| tenure.admits(&h.content));
                let _ = header;
                return Some(tenure.epoch);
            }
            Step::Ofd(_) | Step::Word(_) | Step::Key | Step::Left | Step::Failed(_) => return None,
        };
    }
    None
}
