//! Sixty-three other clients, as far as one poll sees them: slots that beat, pages that are theirs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lockdriver::device::{Access, AlignedBuf, BlockDevice, Durability};
use ondisk::{ClientPage, DaemonId, Geometry, Incarnation, SlotIndex, SlotSector};

use crate::control::open::ControlVolume;
use crate::demo::fault::Fault;

/// Between two looks whether to end.
const TICK: Duration = Duration::from_millis(20);

/// Writes others' slots, on tables that are the measurement's own. Dropping it ends that.
pub(super) struct Crowd {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    /// Logs every client slot but `me` on, and keeps them beating.
    ///
    /// # Errors
    /// A control volume that cannot be written to.
    pub(super) fn start(control: &std::path::Path, me: SlotIndex) -> Result<Self, Fault> {
        let volume = ControlVolume::open(control, Access::ReadWrite)?;
        let (device, geometry) = (volume.device, volume.geometry);
        let beat = volume.superblock.timings.beat();
        let others: Vec<SlotIndex> = geometry.slots().filter(|slot| *slot != me && !geometry.is_admin(*slot)).collect();
        let written = others.iter().try_for_each(|slot| settle(&*device, &geometry, *slot));
        written.map_err(Fault::system("writing the other clients' pages"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&stop);
        let work = move || {
            let mut block = AlignedBuf::zeroed(geometry.stride());
            for number in 1.. {
                let began = Instant::now();
                for slot in &others {
                    // A beat that fails is a client that falls silent: the figures then say so.
                    let _ = beat_once(&*device, &geometry, *slot, number, &mut block);
                }
                while began.elapsed() < beat {
                    if end.load(Ordering::SeqCst) {
                        return;
                    }
                    std::thread::sleep(TICK);
                }
            }
        };
        let thread = std::thread::Builder::new().name("crowd".into()).spawn(work).map_err(Fault::system("a thread"))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn settle(device: &dyn BlockDevice, geometry: &Geometry, slot: SlotIndex) -> std::io::Result<()> {
    let page = ClientPage { incarnation: Incarnation(1), sequence: 1, ..ClientPage::default() };
    let mut block = AlignedBuf::zeroed(geometry.page_bytes());
    for copy in [0, 1] {
        let place = geometry.page_copy(slot, copy);
        page.encode(place, &mut block);
        device.write_at(place.offset, &block, Durability::Plain)?;
    }
    let mut block = AlignedBuf::zeroed(geometry.stride());
    beat_once(device, geometry, slot, 0, &mut block)
}

fn beat_once(
    device: &dyn BlockDevice,
    geometry: &Geometry,
    slot: SlotIndex,
    beat: u64,
    block: &mut AlignedBuf,
) -> std::io::Result<()> {
    let sector = SlotSector {
        incarnation: Incarnation(1),
        beat,
        page_sequence: 1,
        daemon_id: DaemonId([u8::try_from(slot.0 % 256).unwrap_or(0); 16]),
        logged_on: true,
        ..SlotSector::default()
    };
    let place = geometry.slot_sector(slot, sector.incarnation.sector());
    sector.encode(place, block);
    device.write_at(place.offset, block, Durability::Plain)
}
