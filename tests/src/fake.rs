//! A client made of sectors: it beats and says what a test wants it to say, and mounts nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use lockdriver::device::{Access, AlignedBuf, BlockDevice, Durability};
use lockdriver::transaction::Change;
use ondisk::{
    ClientPage, CommitNo, DaemonId, Geometry, Grant, GrantState, InFlight, Incarnation, MountState, SlotIndex,
    SlotSector, Ticket, VolumeEntry,
};
use volctl::control::admin_login;
use volctl::control::open::ControlVolume;
use volctl::control::view::View;

use crate::control::Control;

/// The one log-on of a fake client.
const LOGIN: Incarnation = Incarnation(1);

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Beats, has everything open, and hears nothing.
    Deaf,
    /// Says "gate closed" for a grant that was revoked, and for what it may not mount any more.
    Obedient,
}

/// A client that beats until it is dropped; then its slot stands still as it is, logged on.
#[derive(Debug)]
pub struct Fake {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    /// Logs on to a slot.
    ///
    /// # Panics
    /// When the control volume cannot be opened or written.
    pub fn log_on(control: &Control, slot: u16, manner: Manner) -> Self {
        let volume = ControlVolume::open(&control.path(), Access::ReadWrite).expect("a control volume");
        let mut client = Client { view: view(&volume), volume, slot: SlotIndex(slot), beat: 0, page: 0 };
        client.say(manner);
        client.beat();
        let stop = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !ends.load(Ordering::SeqCst) {
                client.say(manner);
                client.beat();
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // Its panic is the test's failure already.
            let _ = thread.join();
        }
    }
}

struct Client {
    volume: ControlVolume,
    view: View,
    slot: SlotIndex,
    beat: u64,
    page: u64,
}

fn view(volume: &ControlVolume) -> View {
    View::new(volume)
}

impl Client {
    fn beat(&mut self) {
        self.beat += 1;
        let sector = SlotSector {
            incarnation: LOGIN,
            beat: self.beat,
            page_sequence: self.page,
            logged_on: true,
            daemon_id: DaemonId([7; 16]),
            ..SlotSector::default()
        };
        put_slot(&*self.volume.device, &self.volume.geometry, self.slot, &sector);
    }

    /// What its page says of each volume of the tables.
    fn say(&mut self, manner: Manner) {
        self.view.read_slots();
        self.view.load_tables().expect("tables");
        let tables = self.view.tables().expect("loaded").clone();
        let mut page = ClientPage { incarnation: LOGIN, sequence: self.page + 1, ..ClientPage::default() };
        page.volumes = vec![VolumeEntry::default(); tables.volumes.len()];
        for (index, table) in tables.volumes() {
            let mine = table.writer.filter(|g| g.slot == self.slot && g.incarnation == LOGIN);
            let revoked = mine.is_some_and(|g| g.state == GrantState::Revoked);
            let allowed = table.permission(self.slot).access != ondisk::Access::None;
            let state = match (manner, mine) {
                (Manner::Obedient, Some(_)) if revoked => MountState::GateClosed,
                (Manner::Obedient, None) if !allowed => MountState::GateClosed,
                (_, Some(_)) => MountState::ReadWrite,
                (_, None) => MountState::ReadOnly,
            };
            let mut entry = VolumeEntry::of(table.uuid);
            entry.state = state;
            entry.epoch = mine.map_or(0, |g| g.epoch);
            entry.inflight = InFlight::ZERO;
            page.volumes[index.index()] = entry;
        }
        let geometry = &self.volume.geometry;
        let mut block = AlignedBuf::zeroed(geometry.page_bytes());
        for copy in [0, 1] {
            let place = geometry.page_copy(self.slot, copy);
            page.encode(place, &mut block);
            self.volume.device.write_at(place.offset, &block, Durability::Fua).expect("a page");
        }
        self.page += 1;
    }
}

fn put_slot(device: &dyn BlockDevice, geometry: &Geometry, slot: SlotIndex, sector: &SlotSector) {
    let place = geometry.slot_sector(slot, sector.incarnation.sector());
    let mut block = AlignedBuf::zeroed(geometry.stride());
    sector.encode(place, &mut block);
    device.write_at(place.offset, &block, Durability::Fua).expect("a slot");
}

/// Writes a slot that logged off after it had acknowledged a commit which the tables do not have.
///
/// # Panics
/// When the control volume cannot be written.
pub fn acknowledge(control: &Control, slot: u16, epoch: u64) {
    let volume = ControlVolume::open(&control.path(), Access::ReadWrite).expect("a control volume");
    let sector = SlotSector {
        incarnation: LOGIN,
        ticket: Ticket(epoch),
        acknowledged: CommitNo { epoch, count: 1 },
        ..SlotSector::default()
    };
    put_slot(&*volume.device, &volume.geometry, SlotIndex(slot), &sector);
}

/// Gives the write privilege of a volume to a fake client, as its own transaction would.
///
/// # Panics
/// When the transaction is refused.
pub fn give(control: &Control, volume: &str, slot: u16, state: GrantState) {
    let mut notes = |_: &str| ();
    admin_login::run(&control.path(), &mut notes, |session, _| {
        session.transact(&mut |actor, world| {
            let (index, table) = world.tables.find_volume(volume).expect("a volume");
            let mut table = table.clone();
            table.writer = Some(Grant::new(SlotIndex(slot), LOGIN, actor.epoch, InFlight::ZERO, state));
            table.dirty_since = actor.epoch;
            Ok(Some(Change::volume(index, Some(table))))
        })
    })
    .expect("given");
}

/// Holds the semaphore for a while, beating, as a client inside a long transaction does.
///
/// # Panics
/// In its thread, when the control volume cannot be written.
pub fn hold_semaphore(control: &Control, slot: u16, time: Duration) -> JoinHandle<()> {
    let volume = ControlVolume::open(&control.path(), Access::ReadWrite).expect("a control volume");
    let mut sector = SlotSector {
        incarnation: LOGIN,
        logged_on: true,
        waiting: true,
        ticket: Ticket(1),
        daemon_id: DaemonId([8; 16]),
        ..SlotSector::default()
    };
    let slot = SlotIndex(slot);
    put_slot(&*volume.device, &volume.geometry, slot, &sector);
    std::thread::spawn(move || {
        let begun = std::time::Instant::now();
        while sector.waiting {
            sector.beat += 1;
            sector.waiting = begun.elapsed() < time;
            put_slot(&*volume.device, &volume.geometry, slot, &sector);
            std::thread::sleep(Duration::from_millis(50));
        }
    })
}
