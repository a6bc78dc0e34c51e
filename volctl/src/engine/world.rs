//! What one poll shows: the tables, and of each client its slot and its page.

use std::sync::Arc;
use std::time::Duration;

use lockdriver::tables::Tables;
use ondisk::{
    Access, ClientPage, Grant, GrantState, Incarnation, MountState, Request, SlotIndex, Uuid, VolumeEntry, VolumeTable,
};

use super::switches::Switches;

/// What is known of a client's page.
#[derive(Debug, Clone, Hash)]
pub enum PageView {
    /// It is of the slot's incarnation and not older than the slot's page sequence.
    Current(Arc<ClientPage>),
    /// Older than its slot, of another incarnation, or unreadable: counts as mounted and as holding everything.
    Unknown,
}

/// One client, as the own polls show it.
#[derive(Debug, Clone, Hash)]
pub struct Peer {
    /// Its slot.
    pub slot: SlotIndex,
    /// Its newest legible incarnation; 0: never logged on.
    pub incarnation: Incarnation,
    /// Both sectors are good.
    pub known: bool,
    /// Its slot says so.
    pub logged_on: bool,
    /// Its incarnation was reaped.
    pub reaped: bool,
    /// Its slot stood still for the death time.
    pub silent: bool,
    /// For how long the own reads saw these bytes.
    pub beat_age: Duration,
    /// Its page.
    pub page: PageView,
}

impl Peer {
    /// Logged on, not reaped, not silent.
    pub fn is_alive(&self) -> bool {
        self.known && self.logged_on && !self.reaped && !self.silent
    }

    /// Logged off in order (or never there): its gates are closed. A slot that cannot be read proves nothing.
    pub fn is_off(&self) -> bool {
        self.known && !self.logged_on
    }

    /// The page, if it may be acted upon.
    pub fn current_page(&self) -> Option<&ClientPage> {
        match &self.page {
            PageView::Current(page) => Some(page),
            PageView::Unknown => None,
        }
    }

    /// May this client still have the volume's gate open? Unknown counts as yes.
    pub fn may_have_open(&self, volume: Uuid) -> bool {
        self.may_open(Switches::ALL, volume)
    }

    fn may_open(&self, on: Switches, volume: Uuid) -> bool {
        if self.is_off() || self.reaped {
            return false;
        }
        match self.current_page() {
            None => on.unknown_counts_as_open,
            Some(page) => {
                page.volume(volume).is_some_and(|e| !matches!(e.state, MountState::None | MountState::GateClosed))
            }
        }
    }
}

/// What the writer that a table names says of the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriterPage<'a> {
    /// The table names no writer.
    NoWriter,
    /// Its page, of the login that has the grant.
    Known(&'a VolumeEntry),
    /// Its page does not speak of the volume.
    Silent,
    /// Its page cannot be had now: nobody acts on it.
    Unknown,
    /// It was reaped, and its page is another login's.
    Gone,
}

/// Everything one poll shows.
#[derive(Debug)]
pub struct World<'a> {
    /// CLOCK_BOOTTIME at the end of the poll's reads.
    pub now: Duration,
    /// CLOCK_BOOTTIME at the start of the poll's reads.
    pub begun: Duration,
    /// Milliseconds since 1970, for people.
    pub wall_ms: i64,
    /// The tables.
    pub tables: &'a Tables,
    /// One per slot, administration slots included.
    pub peers: &'a [Peer],
    /// Which of the engine's pages ([`super::Engine::page_version`]) was on disk before this poll's reads began.
    pub page_on_disk: u64,
}

/// A request as it stands in somebody's page.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// Who asks.
    pub from: &'a Peer,
    /// What it asks.
    pub request: &'a Request,
}

impl<'a> World<'a> {
    /// The client of a slot.
    pub fn peer(&self, slot: SlotIndex) -> Option<&'a Peer> {
        self.peers.get(slot.index())
    }

    /// The name of a slot's client; administration slots are `/admin/N`.
    pub fn name(&self, slot: SlotIndex) -> String {
        match self.tables.clients.get(slot.index()) {
            Some(Some(record)) => record.name.to_string(),
            Some(None) => format!("/slot/{slot}"),
            None => format!("/admin/{}", slot.index() - self.tables.clients.len()),
        }
    }

    /// A volume's control table.
    pub fn table(&self, volume: Uuid) -> Option<&'a VolumeTable> {
        self.tables.volumes.iter().flatten().find(|t| t.uuid == volume)
    }

    /// The requests for a volume by living clients, in their order: by number, ties by slot (section 11).
    pub fn queue(&self, table: &VolumeTable) -> Vec<Standing<'a>> {
        let mut queue: Vec<Standing<'a>> = self
            .peers
            .iter()
            .filter(|p| p.is_alive() && table.permission(p.slot).access == Access::Write)
            .filter_map(|p| p.current_page()?.request(table.uuid).map(|request| Standing { from: p, request }))
            .collect();
        queue.sort_by_key(|s| (s.request.number, s.from.slot));
        queue
    }

    /// The next free number in a volume's queue: one higher than any in any page. (A page may hold the highest that there is;
    /// then ties go by slot.)
    pub fn next_number(&self, volume: Uuid) -> u64 {
        let numbers = self.peers.iter().filter_map(|p| p.current_page()?.request(volume).map(|r| r.number));
        numbers.max().unwrap_or(0).saturating_add(1)
    }

    /// Does the writer of this grant live, so that it can be asked?
    pub fn writer_lives(&self, grant: &Grant) -> bool {
        self.peer(grant.slot).is_some_and(|p| p.is_alive() && p.incarnation == grant.incarnation)
    }

    /// The living client, other than `me`, that can be asked for the volume.
    pub fn writer_to_ask(&self, me: SlotIndex, table: &VolumeTable) -> Option<SlotIndex> {
        table.writer.filter(|g| g.slot != me && self.writer_lives(g)).map(|g| g.slot)
    }

    /// Has the grant's holder logged off in order? Its flag goes only after every gate is closed.
    pub fn holder_left(&self, grant: &Grant) -> bool {
        self.peer(grant.slot).is_some_and(|p| p.is_off() && p.incarnation == grant.incarnation)
    }

    /// Was the grant's holder reaped?
    pub fn holder_reaped(&self, grant: &Grant) -> bool {
        self.tables.header.is_reaped(grant.slot, grant.incarnation)
    }

    /// Does the holder's page say that the gate is closed, and speak of this very grant?
    pub fn holder_closed(&self, grant: &Grant, volume: Uuid) -> bool {
        self.says_closed(Switches::ALL, grant, volume)
    }

    pub(crate) fn says_closed(&self, on: Switches, grant: &Grant, volume: Uuid) -> bool {
        let of_it = |epoch: u64| epoch == grant.epoch || !on.closed_names_its_grant;
        self.peer(grant.slot).is_some_and(|p| {
            p.incarnation == grant.incarnation
                && p.current_page()
                    .and_then(|page| page.volume(volume))
                    .is_some_and(|e| e.state == MountState::GateClosed && of_it(e.epoch))
        })
    }

    /// The generation that readers may take now: the living writer's newest, else the table's last.
    pub fn newest_generation(&self, table: &VolumeTable) -> ondisk::Generation {
        let by_writer = table
            .writer
            .filter(|g| g.state != GrantState::Pending)
            .and_then(|g| self.peer(g.slot).filter(|p| p.incarnation == g.incarnation))
            .and_then(|p| p.current_page()?.volume(table.uuid).map(|e| e.published));
        by_writer.unwrap_or_default().max(table.last)
    }

    /// Up to which generation the writer that the table names has retired.
    pub fn retired(&self, table: &VolumeTable) -> ondisk::Generation {
        match self.writer_page(table) {
            WriterPage::Known(entry) => entry.retired,
            _ => ondisk::Generation::NONE,
        }
    }

    /// Snapshots of generations below this one may be deleted already, whatever any page says: those that a release has
    /// retired, and where a writer died unpublished, all that were there before the present writer's first publish.
    pub fn oldest_safe(&self, table: &VolumeTable) -> ondisk::Generation {
        let left_dirty = table.writer.filter(|g| table.dirty_since != 0 && table.dirty_since < g.epoch);
        let first = left_dirty.map_or(ondisk::Generation::NONE, |g| ondisk::Generation { epoch: g.epoch, count: 1 });
        first.max(table.last)
    }

    /// What the writer that the table names now says of the volume, in the very login that has the grant.
    pub fn writer_page(&self, table: &VolumeTable) -> WriterPage<'a> {
        let Some(grant) = table.writer else { return WriterPage::NoWriter };
        let page = self.peer(grant.slot).filter(|p| p.incarnation == grant.incarnation).and_then(Peer::current_page);
        match page {
            // A page that does not name the volume retires nothing.
            Some(page) => page.volume(table.uuid).map_or(WriterPage::Silent, WriterPage::Known),
            None if self.holder_reaped(&grant) => WriterPage::Gone,
            None => WriterPage::Unknown,
        }
    }

    /// May any other client still have the volume's gate open?
    pub fn others_have_open(&self, me: SlotIndex, volume: Uuid) -> bool {
        self.others_open(Switches::ALL, me, volume)
    }

    pub(crate) fn others_open(&self, on: Switches, me: SlotIndex, volume: Uuid) -> bool {
        let clients = self.tables.clients.len();
        self.peers.iter().any(|p| p.slot != me && p.slot.index() < clients && p.may_open(on, volume))
    }
}
