//! The beat allocates nothing: memory that is short, or an allocator that waits, never delays it (section 6).
//!
//! One test in this program: the counter belongs to the whole process. A global allocator cannot be written without
//! `unsafe`.
#![expect(unsafe_code, reason = "a counting global allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lockdriver::deadline::SharedDeadline;
use lockdriver::device::{BlockDevice, Durability, MemoryDevice};
use lockdriver::lease::{Lease, LeaseChange};
use lockdriver::sys::clock::boottime;
use ondisk::{Geometry, Incarnation, SlotIndex, SlotSector, Uuid};
use volctl::control::beater::{Beater, BeaterSetup, Written};
use volctl::control::machine::RealMachine;
use volctl::control::rules::Rules;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes on to the system allocator unchanged; the counter is a const-initialised thread local
// without a destructor, so that counting neither allocates nor touches a dead value.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|c| c.set(c.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const FROM: u64 = 20;
const TO: u64 = 120;

/// Notes, at its 20th and its 120th write, how often the writing thread has allocated.
struct Noting {
    under: MemoryDevice,
    writes: AtomicU64,
    at: [AtomicU64; 2],
}

impl BlockDevice for Noting {
    fn len_bytes(&self) -> u64 {
        self.under.len_bytes()
    }
    fn sector_bytes(&self) -> u32 {
        self.under.sector_bytes()
    }
    fn physical_block_bytes(&self) -> u32 {
        self.under.physical_block_bytes()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.under.read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, data: &[u8], durability: Durability) -> io::Result<()> {
        let number = self.writes.fetch_add(1, SeqCst) + 1;
        for (bound, noted) in [FROM, TO].into_iter().zip(&self.at) {
            if number == bound {
                noted.store(COUNT.with(Cell::get), SeqCst);
            }
        }
        let before = COUNT.with(Cell::get);
        let written = self.under.write_at(offset, data, durability);
        // What this stand-in for a disk needs is not the beat's.
        COUNT.with(|c| c.set(before));
        written
    }
    fn flush(&self) -> io::Result<()> {
        self.under.flush()
    }
}

#[test]
fn a_beat_allocates_nothing() {
    let before = COUNT.with(Cell::get);
    let counted = Vec::<u8>::with_capacity(10);
    assert!(COUNT.with(Cell::get) > before && counted.is_empty(), "the counter counts");
    let geometry = Geometry::plan(Uuid::from_u128(7), 4, 3, 512, 64 << 20).expect("a plan");
    let under = MemoryDevice::new(64 << 20, 512);
    let device = Arc::new(Noting { under, writes: AtomicU64::new(0), at: [AtomicU64::new(0), AtomicU64::new(0)] });
    let (deadline, length) = (SharedDeadline::create().expect("shared memory"), Duration::from_secs(60));
    let lease = Arc::new(Mutex::new(Lease::new(length)));
    let beater = Beater::start(BeaterSetup {
        machine: RealMachine::shared(),
        device: device.clone(),
        geometry,
        slot: SlotIndex(1),
        beat: Duration::from_millis(2),
        length,
        deadline: deadline.clone(),
        lease: Arc::clone(&lease),
        doubts: Arc::new(()),
        rules: Rules::default(),
    })
    .expect("a thread");
    let now = boottime();
    let sector = SlotSector { incarnation: Incarnation(1), logged_on: true, ..SlotSector::default() };
    assert_eq!(beater.claim(sector, now + length), Written::Stable);
    match lease.lock().expect("nobody panics").begin(now, boottime()) {
        LeaseChange::ExtendTo(until) => deadline.extend(boottime(), until).expect("it lives"),
        other => panic!("{other:?}"),
    };
    let patience = Instant::now() + Duration::from_secs(30);
    while device.writes.load(SeqCst) < TO {
        assert!(Instant::now() < patience, "it beats");
        std::thread::sleep(Duration::from_millis(5));
    }
    let [from, to] = [0, 1].map(|i| device.at[i].load(SeqCst));
    assert_eq!(to - from, 0, "allocations in {} beats", TO - FROM);
}
