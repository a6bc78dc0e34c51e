//! What polls show: slots, header, tables and pages, each read again only when it changed.

use std::sync::Arc;
use std::time::Duration;

use lockdriver::device::{AlignedBuf, BlockDevice};
use lockdriver::pace::Pace;
use lockdriver::poll::PollDecoder;
use lockdriver::tables::{IoResult, LoadStep, Loader, Tables};
use lockdriver::watch::Watch;
use ondisk::elect::{self, SlotView};
use ondisk::{ClientPage, CommitNo, Geometry, Incarnation, SlotIndex, Timings, Verdict};

use super::machine::Machine;
use super::open::{ControlVolume, read};
use super::rules::Rules;
use crate::engine::ops::unreadable_up_to;
use crate::engine::{PageView, Peer, World};
use crate::wire::outcome::Failure;

/// The newest page of one client, and the slot's words that it was read for.
#[derive(Debug, Clone, Default)]
struct CachedPage {
    asked: Option<(Incarnation, u64)>,
    page: Option<Arc<ClientPage>>,
}

/// Everything that was read from the control volume.
pub struct View {
    geometry: Geometry,
    timings: Timings,
    device: Arc<dyn BlockDevice>,
    machine: Arc<dyn Machine>,
    rules: Rules,
    area: AlignedBuf,
    /// Slots and header.
    pub decoder: PollDecoder,
    /// Who lives.
    pub watch: Watch,
    pace: Pace,
    /// For how long, at least, this machine stood still before the last poll.
    pub stood: Duration,
    tables: Option<Arc<Tables>>,
    pages: Vec<CachedPage>,
    peers: Vec<Peer>,
    torn_since: Option<Duration>,
    /// Which of the engine's pages was on disk before the last poll began.
    pub page_on_disk: u64,
    /// How often a poll showed other tables, or another page of somebody, than the one before.
    pub changes: u64,
    begun: Duration,
    ended: Duration,
}

impl View {
    /// Nothing read yet.
    pub fn new(volume: &ControlVolume) -> Self {
        let geometry = &volume.geometry;
        let timings = volume.superblock.timings;
        let area = geometry.poll_area();
        let len = usize::try_from(area.end - area.start).expect("a checked geometry's poll area fits memory");
        Self {
            area: AlignedBuf::zeroed(len),
            decoder: PollDecoder::new(geometry.clone()).with_rules(volume.rules.lock),
            watch: Watch::new(geometry, timings.dead()).with_rules(volume.rules.lock),
            pace: Pace::new(geometry.slot_count(), timings.beat()),
            stood: Duration::ZERO,
            tables: None,
            pages: vec![CachedPage::default(); geometry.slot_count()],
            peers: Vec::with_capacity(geometry.slot_count()),
            torn_since: None,
            page_on_disk: 0,
            changes: 0,
            begun: Duration::ZERO,
            ended: Duration::ZERO,
            geometry: geometry.clone(),
            timings,
            device: Arc::clone(&volume.device),
            machine: Arc::clone(&volume.machine),
            rules: volume.rules,
        }
    }

    /// Reads slots and header in one go; a read that fails is repeated sector by sector.
    pub fn read_slots(&mut self) {
        let start = self.geometry.poll_area().start;
        let begun = self.machine.now();
        let mut unreadable = Vec::new();
        if self.device.read_at(start, &mut self.area).is_err() {
            let step = self.geometry.stride().min(ondisk::superblock::SUPERBLOCK_BYTES as usize);
            let mut small = AlignedBuf::zeroed(step);
            for at in (0..self.area.len()).step_by(step) {
                let end = (at + step).min(self.area.len());
                if self.device.read_at(start + at as u64, &mut small[..end - at]).is_ok() {
                    self.area[at..end].copy_from_slice(&small[..end - at]);
                } else {
                    unreadable.push(at as u64..end as u64);
                }
            }
        }
        self.begun = begun;
        self.ended = self.machine.now();
        let poll = self.decoder.decode(&self.area, &unreadable, begun, self.ended);
        self.watch.observe(poll);
        self.stood = self.pace.observe(poll);
    }

    /// The commit that the tables in memory are of.
    pub fn tables_commit(&self) -> Option<CommitNo> {
        self.tables.as_ref().map(|t| t.header.commit)
    }

    /// The tables in memory.
    pub fn tables(&self) -> Option<&Arc<Tables>> {
        self.tables.as_ref()
    }

    /// The own transaction has just made these.
    pub fn set_tables(&mut self, tables: Tables) {
        self.tables = Some(Arc::new(tables));
    }

    /// Loads what changed in the tables. A header seen half-written is retried for a beat before it is called damage.
    ///
    /// # Errors
    /// Damage, with every finding named.
    pub fn load_tables(&mut self) -> Result<(), Failure> {
        let poll = self.decoder.poll();
        let commit = poll.header().map(|h| h.content.commit);
        if commit.is_some() && commit == self.tables_commit() {
            self.torn_since = None;
            return Ok(());
        }
        if poll.failed() {
            return Err(Failure::failed(
                "the control volume cannot be read",
                "the device gives errors; the kernel's log says more",
                "look at the control volume's device and path; it is tried again",
            ));
        }
        if let Some((slot, mark)) = poll.damage_below_mark() {
            return Err(Failure::damaged(
                "an acknowledged change of the tables is lost",
                format!("slot {slot} acknowledged commit {mark}, the header is older"),
                "run `volctl check CONTROL`",
            ));
        }
        let mark = poll.older_mark.map(|(_, m)| m).unwrap_or_default();
        let mut loader = match &self.tables {
            Some(old) => Loader::incremental(&self.geometry, mark, Tables::clone(old)),
            None => Loader::new(&self.geometry, mark),
        };
        loop {
            match loader.step() {
                LoadStep::Read { offset, len } => {
                    let result = read(&*self.device, offset, len);
                    loader.done(result.map_or(IoResult::Failed, IoResult::Bytes));
                }
                LoadStep::Done(tables) => {
                    self.torn_since = None;
                    self.changes += 1;
                    self.tables = Some(Arc::new(tables));
                    return Ok(());
                }
                LoadStep::Retry => {
                    let now = self.machine.now();
                    let since = *self.torn_since.get_or_insert(now);
                    if now.saturating_sub(since) > self.timings.beat() {
                        let findings = loader.give_up();
                        if !findings.is_empty() {
                            return Err(damaged(&findings));
                        }
                    }
                    self.machine.sleep(Duration::from_millis(2));
                }
                LoadStep::Damaged(findings) => return Err(damaged(&findings)),
            }
        }
    }

    /// Reads the pages whose slots name a newer one, and judges every client.
    pub fn read_pages(&mut self, me: Option<SlotIndex>) {
        self.peers.clear();
        for slot in self.geometry.slots() {
            let Some(reading) = self.decoder.poll().slot(slot) else { continue };
            let view = reading.view;
            let legible = view.legible().copied().unwrap_or_default();
            let known = matches!(view, SlotView::Known(_));
            let page = if known && Some(slot) != me && legible.incarnation.0 > 0 && !self.geometry.is_admin(slot) {
                self.page(slot, legible.incarnation, legible.page_sequence)
            } else {
                PageView::Unknown
            };
            let reaped = self.tables.as_ref().is_some_and(|t| {
                let highest = if known { legible.incarnation } else { unreadable_up_to(t, slot, legible.incarnation) };
                highest.0 > 0 && t.header.is_reaped(slot, highest)
            });
            self.peers.push(Peer {
                slot,
                incarnation: legible.incarnation,
                known,
                logged_on: legible.logged_on,
                reaped,
                silent: Some(slot) != me && self.watch.is_silent(slot),
                beat_age: self.watch.beat_age(slot, self.ended).unwrap_or_default(),
                page,
            });
        }
    }

    fn page(&mut self, slot: SlotIndex, incarnation: Incarnation, sequence: u64) -> PageView {
        let older_page_is_unknown = self.rules.older_page_is_unknown;
        let current = |cached: &CachedPage| {
            let page = cached.page.as_ref()?;
            let newer = page.sequence >= sequence || !older_page_is_unknown;
            (page.incarnation == incarnation && newer).then(|| PageView::Current(Arc::clone(page)))
        };
        let cached = &self.pages[slot.index()];
        if cached.asked == Some((incarnation, sequence))
            && let Some(view) = current(cached)
        {
            return view;
        }
        let page = read_named_page(&self.geometry, &*self.device, slot, (incarnation, sequence)).map(Arc::new);
        if cached.asked != Some((incarnation, sequence)) || cached.page != page {
            self.changes += 1;
        }
        let cached = CachedPage { asked: Some((incarnation, sequence)), page };
        let view = current(&cached).unwrap_or(PageView::Unknown);
        self.pages[slot.index()] = cached;
        view
    }

    /// The world of the last poll; None before the tables were ever read.
    pub fn world(&self) -> Option<World<'_>> {
        let wall = self.machine.wall();
        Some(World {
            now: self.ended,
            begun: self.begun,
            wall_ms: i64::try_from(wall.as_millis()).unwrap_or(i64::MAX),
            tables: self.tables.as_deref()?,
            peers: &self.peers,
            page_on_disk: self.page_on_disk,
        })
    }
}

/// The newer good copy of a client's page.
pub fn read_page(geometry: &Geometry, device: &dyn BlockDevice, slot: SlotIndex) -> Option<ClientPage> {
    let copies = [0, 1].map(|copy| read_page_copy(geometry, device, slot, copy));
    elect::page(&copies).map(|e| e.content)
}

/// The page that a slot names: the first copy, if that is it; both were on disk before the slot named it.
fn read_named_page(
    geometry: &Geometry,
    device: &dyn BlockDevice,
    slot: SlotIndex,
    named: (Incarnation, u64),
) -> Option<ClientPage> {
    let first = read_page_copy(geometry, device, slot, 0);
    match first {
        Verdict::Valid(page) if (page.incarnation, page.sequence) == named => Some(page),
        first => elect::page(&[first, read_page_copy(geometry, device, slot, 1)]).map(|e| e.content),
    }
}

fn read_page_copy(geometry: &Geometry, device: &dyn BlockDevice, slot: SlotIndex, copy: usize) -> Verdict<ClientPage> {
    let place = geometry.page_copy(slot, copy);
    let mut bytes = AlignedBuf::zeroed(geometry.page_bytes());
    match device.read_at(place.offset, &mut bytes) {
        Ok(()) => ClientPage::decode(&bytes, place, geometry),
        Err(_) => Verdict::Absent,
    }
}

fn damaged(findings: &[lockdriver::check::Finding]) -> Failure {
    let why = findings.first().map_or_else(|| "the header is damaged".to_owned(), ToString::to_string);
    Failure::damaged("the tables are damaged", why, "run `volctl check CONTROL`")
}
