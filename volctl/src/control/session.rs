//! One login: a claimed slot, its lease, its beating thread, and what its polls show.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use lockdriver::deadline::{LeaseView, SharedDeadline};
use lockdriver::lease::{Confirmation, GrantsSeen, Lease, LeaseChange, LeaseEnd};
use lockdriver::logon::{Claimed, mend_unused_sector};
use lockdriver::poll::{Me, OwnSlot};
use lockdriver::semaphore::{self, Semaphore};
use ondisk::{ClientPage, CommitNo, GrantState, Incarnation, SlotSector};

use super::beater::{Beater, BeaterSetup, Doubts, Written};
use super::machine;
use super::membership::Membership;
use super::open::ControlVolume;
use super::view::View;
use crate::engine::World;
use crate::wire::outcome::Failure;

/// A login on a control volume. Shared by the daemon's threads.
pub struct Session {
    /// The control volume.
    pub volume: ControlVolume,
    /// Who this is.
    pub me: Me,
    /// The arbiter of the lease, shared with the guardian.
    pub deadline: SharedDeadline,
    /// The one thread that writes.
    pub beater: Beater,
    lease: Arc<Mutex<Lease>>,
    view: Mutex<View>,
    pub(super) semaphore: Mutex<Box<dyn Semaphore>>,
    pub(super) ofd: Mutex<Option<std::fs::File>>,
    page: Mutex<ClientPage>,
    page_version: AtomicU64,
    ended: Mutex<Option<LeaseEnd>>,
    /// Slot writes of unknown result that the semaphore has heard of.
    pub(super) beats_told: AtomicU64,
    /// Logging off: no transaction begins any more.
    pub(super) closing: AtomicBool,
    /// What was read as the semaphore's word last.
    pub(super) word: Mutex<Vec<u8>>,
    /// The host's registration; after the beater, so that a write under way still has it.
    pub(super) membership: Option<Membership>,
}

/// What a login is made of before it has claimed its slot.
pub struct Parts {
    /// The control volume.
    pub volume: ControlVolume,
    /// The lease word.
    pub deadline: SharedDeadline,
    /// The beating thread, which has written the claim.
    pub beater: Beater,
    /// Its lease.
    pub lease: Arc<Mutex<Lease>>,
    /// What was polled so far.
    pub view: View,
    /// Slot writes of this host whose results nobody knows.
    pub doubts: Arc<dyn Doubts>,
    /// The host's registration, and for which login it was made.
    pub membership: Option<(Incarnation, Membership)>,
}

impl Parts {
    /// The parts for a slot.
    ///
    /// # Errors
    /// When there is no memory or thread for them.
    pub fn new(volume: ControlVolume, slot: ondisk::SlotIndex, doubts: Arc<dyn Doubts>) -> std::io::Result<Self> {
        let deadline = SharedDeadline::create()?;
        let timings = volume.superblock.timings;
        let lease = Arc::new(Mutex::new(Lease::new(timings.lease()).with_rules(volume.rules.lock)));
        let beater = Beater::start(BeaterSetup {
            machine: Arc::clone(&volume.machine),
            device: Arc::clone(&volume.device),
            geometry: volume.geometry.clone(),
            slot,
            beat: timings.beat(),
            length: timings.lease(),
            deadline: deadline.clone(),
            lease: Arc::clone(&lease),
            doubts: Arc::clone(&doubts),
            rules: volume.rules,
        })?;
        let view = View::new(&volume);
        Ok(Self { volume, deadline, beater, lease, view, doubts, membership: None })
    }
}

impl Session {
    /// This computer's time.
    pub(super) fn now(&self) -> Duration {
        self.volume.machine.now()
    }

    pub(super) fn lock<'m, T: ?Sized>(&self, mutex: &'m Mutex<T>) -> MutexGuard<'m, T> {
        machine::lock(&*self.volume.machine, mutex)
    }

    /// A login whose claim stands.
    ///
    /// # Errors
    /// When the lease has run out meanwhile.
    pub fn begin(parts: Parts, slot: ondisk::SlotIndex, claimed: &Claimed) -> Result<Self, Failure> {
        let sector: &SlotSector = &claimed.sector;
        let me = Me { slot, incarnation: sector.incarnation, daemon: sector.daemon_id };
        let superblock = &parts.volume.superblock;
        let mut params = semaphore::Params::new(&parts.volume.geometry, &superblock.timings, slot, sector);
        params.rules = parts.volume.rules.lock;
        let semaphore = semaphore::open(superblock.lock, params);
        let now = parts.volume.machine.now();
        match machine::lock(&*parts.volume.machine, &parts.lease).begin(claimed.write_begun, now) {
            LeaseChange::ExtendTo(until) if parts.deadline.extend(now, until).is_ok() => {}
            _ => return Err(lease_over(LeaseEnd::RanOut)),
        }
        let page = ClientPage { sequence: sector.page_sequence, ..ClientPage::default() };
        Ok(Self {
            volume: parts.volume,
            me,
            deadline: parts.deadline,
            beater: parts.beater,
            lease: parts.lease,
            view: Mutex::new(parts.view),
            semaphore: Mutex::new(semaphore),
            ofd: Mutex::new(None),
            page: Mutex::new(page),
            page_version: AtomicU64::new(0),
            ended: Mutex::new(None),
            beats_told: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            word: Mutex::new(Vec::new()),
            membership: parts.membership.map(|(_, membership)| membership),
        })
    }

    /// May this login still act?
    pub fn is_live(&self) -> bool {
        self.deadline.get(self.now()).is_live()
    }

    /// What is left of the lease.
    pub fn lease_left(&self) -> Duration {
        let now = self.now();
        match self.deadline.get(now) {
            LeaseView::Live { until } => until.saturating_sub(now),
            _ => Duration::ZERO,
        }
    }

    /// Why the login ended.
    pub fn why_ended(&self) -> Failure {
        let failure = lease_over(self.lock(&self.ended).unwrap_or(LeaseEnd::RanOut));
        if !self.volume.geometry.is_admin(self.me.slot) {
            return failure;
        }
        Failure {
            next: "look whether it was done, then try again; if it stays so, look at the device".into(),
            ..failure
        }
    }

    /// How the login ended; none: it has not.
    pub fn ended(&self) -> Option<LeaseEnd> {
        *self.lock(&self.ended)
    }

    /// Ends the login for good.
    pub fn end(&self, why: LeaseEnd) {
        self.lock(&self.ended).get_or_insert(why);
        self.lock(&self.lease).end(why);
        self.deadline.end();
    }

    /// Reads slots, header, changed tables and changed pages, extends the lease if they confirm it, and shows the world.
    ///
    /// # Errors
    /// Damaged tables; a login that is over.
    pub fn poll<T>(&self, look: impl FnOnce(&World<'_>) -> T) -> Result<T, Failure> {
        let mut view = self.lock(&self.view);
        self.read(&mut view)?;
        let world = view.world().ok_or_else(|| self.why_ended())?;
        Ok(look(&world))
    }

    /// Grows whenever a poll shows other tables or another page of somebody.
    pub fn changes(&self) -> u64 {
        self.lock(&self.view).changes
    }

    /// The world of the last poll once more.
    ///
    /// # Errors
    /// When nothing was read yet.
    pub fn look<T>(&self, look: impl FnOnce(&World<'_>) -> T) -> Result<T, Failure> {
        let view = self.lock(&self.view);
        let world = view.world().ok_or_else(|| self.why_ended())?;
        Ok(look(&world))
    }

    fn read(&self, view: &mut View) -> Result<(), Failure> {
        view.page_on_disk = self.page_version.load(Ordering::SeqCst);
        view.read_slots();
        let loaded = view.load_tables();
        self.confirm(view);
        self.mend_own_slot(view);
        loaded?;
        view.read_pages(Some(self.me.slot));
        if self.is_live() { Ok(()) } else { Err(self.why_ended()) }
    }

    /// The owner rewrites a bad sector of its own at once: nobody draws or enters past it, and no lease is extended (section 4).
    fn mend_own_slot(&self, view: &View) {
        if !self.volume.rules.mend_own_slot {
            return;
        }
        let Some(reading) = view.decoder.poll().slot(self.me.slot) else { return };
        let Some(own) = reading.sectors[self.me.incarnation.sector()].valid() else { return };
        let Some(mended) = mend_unused_sector(reading, own) else { return };
        let geometry = &self.volume.geometry;
        let place = geometry.slot_sector(self.me.slot, mended.incarnation.sector());
        let mut block = vec![0; geometry.stride()];
        mended.encode(place, &mut block);
        tracing::warn!(event = "table.repaired", "the unused sector of the own slot was bad and is written again");
        // A failure is seen by the next poll, which tries again.
        let _ = self.beater.block(place.offset, &block, true);
    }

    /// Only what the semaphore needs: slots, header, and the lease.
    pub(super) fn poll_slots<T>(&self, look: impl FnOnce(&View) -> T) -> T {
        let mut view = self.lock(&self.view);
        view.read_slots();
        self.confirm(&view);
        // The log-on transaction comes before any other poll: past an own bad sector not even it draws a ticket.
        self.mend_own_slot(&view);
        look(&view)
    }

    /// What keeps an idle login: a poll that confirms the lease, and the own slot whole.
    pub(super) fn keep(&self) {
        let mut view = self.lock(&self.view);
        view.read_slots();
        self.confirm(&view);
        self.mend_own_slot(&view);
    }

    pub(super) fn view(&self) -> MutexGuard<'_, View> {
        self.lock(&self.view)
    }

    /// An administration slot never holds one, and no incarnation does before its log-on is committed: that may have to wait
    /// for the death time of a slot that nobody can read, longer than one lease.
    fn may_hold_grants(&self, view: &View) -> bool {
        let recorded = view.tables().and_then(|t| t.client(self.me.slot)).map(|record| record.logged_on);
        !self.volume.geometry.is_admin(self.me.slot) && recorded.is_some_and(|known| known >= self.me.incarnation)
    }

    fn confirm(&self, view: &View) {
        let poll = view.decoder.poll();
        if self.volume.rules.standstill_ends && view.stood > self.volume.superblock.timings.margin() / 2 {
            self.end(LeaseEnd::StoodStill);
        }
        // Whoever holds no grant needs no word on it: while it waits for the semaphore, others' commits do not end its lease.
        let grants = self.may_hold_grants(view).then(|| match view.tables() {
            Some(tables) => {
                let revoked = tables.volumes.iter().flatten().filter_map(|t| t.writer).any(|g| {
                    g.state == GrantState::Revoked && g.slot == self.me.slot && g.incarnation == self.me.incarnation
                });
                let revoked = revoked && self.volume.rules.revoked_extends_nothing;
                GrantsSeen { at: tables.header.commit, revoked }
            }
            None => GrantsSeen { at: CommitNo::default(), revoked: false },
        });
        let now = self.now();
        let (read_begun, seen) = if self.volume.rules.confirm_beats {
            (poll.begun, Confirmation::of(poll, &self.me, grants))
        } else {
            (now, Confirmation { own: OwnSlot::Ours, reaped: false, header_valid: true, revoked: false })
        };
        let change = self.lock(&self.lease).confirm(read_begun, seen, now);
        match change {
            LeaseChange::None => {}
            LeaseChange::ExtendTo(until) => {
                if self.deadline.extend(now, until).is_err() {
                    self.end(LeaseEnd::RanOut);
                }
            }
            LeaseChange::Ended(why) => self.end(why),
        }
    }

    /// Writes the own page: both copies, then the slot with its sequence, each stable before the next (section 4).
    ///
    /// A publish raises the generation in the page from its own thread while the file system is frozen; so of two
    /// `published` numbers the newer stays. `version` is the engine's own count of its pages.
    ///
    /// # Errors
    /// When the lease is over or the device fails; the page is then not on disk for certain.
    pub fn write_page(&self, mut page: ClientPage, version: u64) -> Result<(), Failure> {
        let mut own = self.lock(&self.page);
        for (new, old) in page.volumes.iter_mut().zip(&own.volumes) {
            if new.volume == old.volume && new.epoch == old.epoch && old.published > new.published {
                new.published = old.published;
                new.modified_ms = old.modified_ms;
            }
        }
        page.sequence = next_sequence(&own)?;
        self.put_page(&mut own, page)?;
        self.page_version.store(version, Ordering::SeqCst);
        Ok(())
    }

    /// Raises the published generation of one volume in the page on disk.
    ///
    /// # Errors
    /// As for [`Self::write_page`].
    pub fn raise(&self, volume: ondisk::Uuid, generation: ondisk::Generation, modified_ms: i64) -> Result<(), Failure> {
        let mut own = self.lock(&self.page);
        let mut page = own.clone();
        if let Some(entry) = page.volumes.iter_mut().find(|e| e.volume == volume) {
            entry.published = generation;
            entry.modified_ms = modified_ms;
        }
        page.sequence = next_sequence(&own)?;
        self.put_page(&mut own, page)
    }

    /// A sequence that was tried is never used again: the write may have landed although it failed, and whoever has read the
    /// page of that sequence does not read it a second time.
    fn put_page(&self, own: &mut ClientPage, page: ClientPage) -> Result<(), Failure> {
        let geometry = &self.volume.geometry;
        let rules = &self.volume.rules;
        if rules.sequence_is_spent {
            own.sequence = page.sequence;
        }
        let sequence = page.sequence;
        if !rules.page_before_slot {
            self.stable(self.beater.slot(true, move |s| s.page_sequence = sequence))?;
        }
        let mut block = vec![0; geometry.page_bytes()];
        let copies: &[usize] = if rules.both_page_copies { &[0, 1] } else { &[0] };
        for copy in copies.iter().copied() {
            let place = geometry.page_copy(self.me.slot, copy);
            page.encode(place, &mut block);
            self.stable(self.beater.block(place.offset, &block, true))?;
        }
        if rules.page_before_slot {
            self.stable(self.beater.slot(true, move |s| s.page_sequence = sequence))?;
        }
        *own = page;
        Ok(())
    }

    /// Who holds the semaphore, or is next to, as the last poll showed it.
    pub fn semaphore_holder(&self) -> Option<(ondisk::SlotIndex, ondisk::Ticket)> {
        semaphore::holder(self.lock(&self.view).decoder.poll())
    }

    /// The sequence of the own page as it is on disk.
    pub fn page_sequence(&self) -> u64 {
        self.lock(&self.page).sequence
    }

    pub(super) fn stable(&self, written: Written) -> Result<(), Failure> {
        match written {
            Written::Stable => Ok(()),
            Written::Unknown => Err(Failure::failed(
                "a write to the control volume failed",
                "the device gave an error; the kernel's log says more",
                "look at the control volume's device and path",
            )),
            Written::NotAllowed => Err(self.why_ended()),
        }
    }

    /// Leaves the slot in order: not logged on. Only after every gate is closed. Nothing is written after it.
    ///
    /// A transaction under way comes to its end first: with the flags cleared under it others would enter beside it.
    ///
    /// # Errors
    /// When it cannot be written; others then wait for the death time.
    pub fn log_off(&self) -> Result<(), Failure> {
        self.closing.store(true, Ordering::SeqCst);
        let _alone = self.volume.rules.log_off_waits.then(|| self.lock(&self.semaphore));
        let written = self.beater.slot(true, |s| {
            s.logged_on = false;
            s.gui = false;
            s.waiting = false;
            s.choosing = false;
        });
        self.deadline.end();
        self.stable(written)
    }
}

/// The sequence goes on over log-ons, from a page that others may have written over.
fn next_sequence(page: &ClientPage) -> Result<u64, Failure> {
    page.sequence.checked_add(1).ok_or_else(|| {
        let why = "its sequence is the last that there is";
        Failure::damaged("the own page cannot be written", why, "run `volctl check CONTROL`")
    })
}

/// The login is over, and why.
pub fn lease_over(why: LeaseEnd) -> Failure {
    Failure::failed(
        "this login is over",
        why.to_string(),
        "the daemon logs on anew by itself; `volctl status` shows when it is back",
    )
}

impl Session {
    /// Has the guardian keep a duplicate of the `ofd` semaphore's descriptor, and unlock through it when this process is
    /// stopped or gone: a stopped holder would keep the lock for ever (section 5).
    ///
    /// # Errors
    /// As the guardian says.
    pub fn share_ofd(&self, guardian: &lockdriver::guardian::Guardian) -> std::io::Result<()> {
        use std::os::fd::AsFd;
        let file = std::fs::OpenOptions::new().read(true).write(true).open(&self.volume.path)?;
        guardian.hold_lock(file.as_fd()).map_err(std::io::Error::other)?;
        *self.lock(&self.ofd) = Some(file);
        Ok(())
    }
}
