//! The beating thread: the one thread through which all writes to the control volume pass (section 6).
//!
//! A due beat goes first; then one order at a time. Before every single write the shared lease word is asked, last.
//! A holder that hangs cannot hold on by beating: when the engine has not ticked for a lease, or a tenure lasts longer
//! than one, the thread ends the incarnation instead of beating.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use lockdriver::deadline::{LeaseView, SharedDeadline};
use lockdriver::device::{AlignedBuf, BlockDevice, Durability};
use lockdriver::lease::Lease;
use ondisk::{Geometry, SlotIndex, SlotSector};

use super::machine::{Joiner, Machine, receive};
use super::rules::Rules;

/// Hears of every write of the own slot, so that also whoever comes after a killed process knows of one whose result nobody
/// knows: it may land over what the next login writes (trace A5).
pub trait Doubts: Send + Sync {
    /// A write is about to be submitted.
    fn begun(&self, now: Duration);
    /// It returned; `known`: it landed.
    fn ended(&self, known: bool);
    /// When the last write was begun whose result nobody knows; zero: there is none.
    fn unsettled(&self) -> Duration;
}

/// For a slot that nobody else ever claims.
impl Doubts for () {
    fn begun(&self, _now: Duration) {}

    fn ended(&self, _known: bool) {}

    fn unsettled(&self) -> Duration {
        Duration::ZERO
    }
}

/// How a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It returned without an error.
    Stable,
    /// It gave an error: nothing is known of it.
    Unknown,
    /// The lease is over: it was not even begun.
    NotAllowed,
}

type SlotEdit = Box<dyn FnOnce(&mut SlotSector) + Send>;

enum Order {
    /// The claim: the only write before the lease has begun.
    Claim {
        sector: Box<SlotSector>,
        not_after: Duration,
    },
    Slot {
        edit: SlotEdit,
        fua: bool,
        semaphore: bool,
    },
    Block {
        offset: u64,
        bytes: AlignedBuf,
        fua: bool,
    },
    Flush,
    Stop,
}

/// Times that both sides look at, nanoseconds of CLOCK_BOOTTIME; 0: not set.
#[derive(Debug, Default)]
struct Ticks {
    engine: AtomicU64,
    tenure: AtomicU64,
    failed_beats: AtomicU64,
}

/// The handle of a beating thread. Dropping it stops the thread, which then beats no more.
pub struct Beater {
    orders: Sender<(Order, Sender<Written>)>,
    ticks: Arc<Ticks>,
    thread: Option<Joiner>,
    machine: Arc<dyn Machine>,
}

/// What the thread is given.
pub struct BeaterSetup {
    /// The computer.
    pub machine: Arc<dyn Machine>,
    /// The control volume.
    pub device: Arc<dyn BlockDevice>,
    /// Where the slot lies.
    pub geometry: Geometry,
    /// The own slot.
    pub slot: SlotIndex,
    /// Between two beats.
    pub beat: Duration,
    /// The lease's length.
    pub length: Duration,
    /// The arbiter.
    pub deadline: SharedDeadline,
    /// The own lease's arithmetic.
    pub lease: Arc<Mutex<Lease>>,
    /// Hears of slot writes.
    pub doubts: Arc<dyn Doubts>,
    /// All on, except in tests.
    #[doc(hidden)]
    pub rules: Rules,
}

fn nanos(t: Duration) -> u64 {
    u64::try_from(t.as_nanos()).unwrap_or(u64::MAX)
}

impl Beater {
    /// Starts the thread. It beats only after a [`Self::claim`].
    ///
    /// # Errors
    /// When no thread can be made.
    pub fn start(setup: BeaterSetup) -> std::io::Result<Self> {
        let (orders, inbox) = bounded(64);
        let ticks = Arc::new(Ticks::default());
        let stride = setup.geometry.stride();
        let machine = Arc::clone(&setup.machine);
        let run = Run {
            sector: SlotSector::default(),
            buffer: AlignedBuf::zeroed(stride),
            next_beat: None,
            counted: None,
            ticks: Arc::clone(&ticks),
            setup,
        };
        let thread = machine.spawn("beater", true, Box::new(move || run.run(&inbox)))?;
        Ok(Self { orders, ticks, thread: Some(thread), machine })
    }

    fn order(&self, order: Order) -> Written {
        let (done, wait) = bounded(1);
        if self.orders.send((order, done)).is_err() {
            return Written::NotAllowed;
        }
        receive(&*self.machine, &wait, None).unwrap_or(Written::NotAllowed)
    }

    /// Writes the claim, unless it would be submitted later than `not_after`, and begins to beat with it.
    pub fn claim(&self, sector: SlotSector, not_after: Duration) -> Written {
        self.order(Order::Claim { sector: Box::new(sector), not_after })
    }

    /// How many slot writes that the semaphore did not ask for had an unknown result so far: it must hear of each.
    pub fn failed_beats(&self) -> u64 {
        self.ticks.failed_beats.load(Ordering::SeqCst)
    }

    /// Changes the slot's fields and writes it.
    pub fn slot(&self, fua: bool, edit: impl FnOnce(&mut SlotSector) + Send + 'static) -> Written {
        self.order(Order::Slot { edit: Box::new(edit), fua, semaphore: false })
    }

    /// As [`Self::slot`], for the semaphore itself, which hears of the result.
    pub fn semaphore_slot(&self, fua: bool, edit: impl FnOnce(&mut SlotSector) + Send + 'static) -> Written {
        self.order(Order::Slot { edit: Box::new(edit), fua, semaphore: true })
    }

    /// Writes a block.
    pub fn block(&self, offset: u64, bytes: &[u8], fua: bool) -> Written {
        let mut aligned = AlignedBuf::zeroed(bytes.len());
        aligned.copy_from_slice(bytes);
        self.order(Order::Block { offset, bytes: aligned, fua })
    }

    /// Brings everything to stable storage.
    pub fn flush(&self) -> Written {
        self.order(Order::Flush)
    }

    /// The engine lives.
    pub fn engine_ticked(&self, now: Duration) {
        self.ticks.engine.store(nanos(now), Ordering::SeqCst);
    }

    /// A semaphore tenure begins (or, with None, ends).
    pub fn tenure(&self, since: Option<Duration>) {
        self.ticks.tenure.store(since.map_or(0, nanos), Ordering::SeqCst);
    }
}

impl Drop for Beater {
    /// Waits for a write under way, however long that takes: a next login must not overtake it.
    fn drop(&mut self) {
        let (done, _) = bounded(1);
        if self.orders.send((Order::Stop, done)).is_ok()
            && let Some(thread) = self.thread.take()
        {
            thread();
        }
    }
}

struct Run {
    setup: BeaterSetup,
    sector: SlotSector,
    buffer: AlignedBuf,
    next_beat: Option<Duration>,
    /// When the beat counter last grew.
    counted: Option<Duration>,
    ticks: Arc<Ticks>,
}

impl Run {
    fn run(mut self, inbox: &Receiver<(Order, Sender<Written>)>) {
        loop {
            let now = self.now();
            if self.next_beat.is_some_and(|t| now >= t) {
                self.beat();
                continue;
            }
            match receive(&*self.setup.machine, inbox, self.next_beat) {
                Ok((Order::Stop, _)) | Err(RecvTimeoutError::Disconnected) => return,
                Ok((order, done)) => {
                    let written = self.execute(order);
                    // Whoever asked may have gone; the write stands either way.
                    let _ = done.send(written);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn beat(&mut self) {
        let now = self.now();
        if self.setup.rules.hung_ends && self.hangs(now) {
            tracing::error!(
                event = "lease.hung",
                "the engine or a tenure hangs for longer than a lease: this login ends"
            );
            self.setup.deadline.end();
        }
        match self.write_slot(false) {
            Written::Stable => {}
            Written::Unknown => {
                self.ticks.failed_beats.fetch_add(1, Ordering::SeqCst);
            }
            Written::NotAllowed if self.setup.deadline.get(now) == LeaseView::Over => self.next_beat = None,
            Written::NotAllowed => {}
        }
    }

    fn hangs(&self, now: Duration) -> bool {
        let older = |tick: &AtomicU64| match tick.load(Ordering::SeqCst) {
            0 => false,
            t => now.saturating_sub(Duration::from_nanos(t)) > self.setup.length,
        };
        older(&self.ticks.engine) || older(&self.ticks.tenure)
    }

    fn execute(&mut self, order: Order) -> Written {
        match order {
            Order::Claim { sector, not_after } => {
                self.sector = *sector;
                if self.now() > not_after {
                    return Written::NotAllowed;
                }
                let written = self.put_sector(true);
                self.next_beat = Some(self.now() + self.setup.beat);
                written
            }
            Order::Slot { edit, fua, semaphore } => {
                edit(&mut self.sector);
                let written = self.write_slot(fua);
                if written == Written::Unknown && !semaphore {
                    self.ticks.failed_beats.fetch_add(1, Ordering::SeqCst);
                }
                written
            }
            Order::Block { offset, bytes, fua } => {
                if !self.may_write() {
                    return Written::NotAllowed;
                }
                let durability = if fua { Durability::Fua } else { Durability::Plain };
                judge(self.setup.device.write_at(offset, &bytes, durability))
            }
            Order::Flush => judge(self.setup.device.flush()),
            Order::Stop => Written::NotAllowed,
        }
    }

    fn now(&self) -> Duration {
        self.setup.machine.now()
    }

    fn may_write(&self) -> bool {
        !self.setup.rules.lease_before_write || self.setup.deadline.get(self.now()).is_live()
    }

    /// Every write of the own slot is a beat.
    fn write_slot(&mut self, fua: bool) -> Written {
        self.next_beat = Some(self.now() + self.setup.beat);
        let begun = self.now();
        let number = self.lease(|l| l.beat_begun(begun));
        let written = match self.setup.deadline.get(begun) {
            LeaseView::Live { .. } => self.put_sector(fua),
            LeaseView::Over if !self.setup.rules.lease_before_write => self.put_sector(fua),
            // Between the claim and its confirmation nothing is written.
            LeaseView::NotBegun | LeaseView::Over => Written::NotAllowed,
        };
        let ended = self.now();
        self.lease(|l| l.beat_completed(number, ended, written == Written::Stable));
        written
    }

    /// The counter grows at most once a `beat`, however often the slot is written: by that the others tell whether their
    /// own clock stood still (trace C7).
    fn put_sector(&mut self, fua: bool) -> Written {
        let now = self.now();
        if self.counted.is_none_or(|t| now >= t + self.setup.beat) {
            self.sector.beat = self.sector.beat.wrapping_add(1);
            self.counted = Some(now);
        }
        let place = self.setup.geometry.slot_sector(self.setup.slot, self.sector.incarnation.sector());
        self.sector.encode(place, &mut self.buffer);
        let durability = if fua { Durability::Fua } else { Durability::Plain };
        self.setup.doubts.begun(now);
        let written = judge(self.setup.device.write_at(place.offset, &self.buffer, durability));
        self.setup.doubts.ended(written == Written::Stable);
        written
    }

    fn lease<T>(&self, f: impl FnOnce(&mut Lease) -> T) -> T {
        f(&mut self.setup.lease.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn judge(result: std::io::Result<()>) -> Written {
    match result {
        Ok(()) => Written::Stable,
        Err(error) => {
            tracing::warn!(event = "control.write_failed", %error, "a write to the control volume failed");
            Written::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use lockdriver::device::MemoryDevice;
    use ondisk::{Incarnation, Uuid};

    use super::*;
    use crate::control::machine::RealMachine;

    const LENGTH: Duration = Duration::from_millis(200);
    const HOUR: Duration = Duration::from_secs(3600);

    struct Login {
        beater: Beater,
        device: Arc<MemoryDevice>,
        geometry: Geometry,
        deadline: SharedDeadline,
        begun: Duration,
    }

    impl Login {
        /// It beats every 2 ms, under a lease that nothing but a hang ends within the hour.
        fn begin(rules: Rules) -> Self {
            let geometry = Geometry::plan(Uuid::from_u128(7), 4, 3, 512, 64 << 20).expect("a plan");
            let device = Arc::new(MemoryDevice::new(64 << 20, 512));
            let deadline = SharedDeadline::create().expect("shared memory");
            let beater = Beater::start(BeaterSetup {
                machine: RealMachine::shared(),
                device: device.clone(),
                geometry: geometry.clone(),
                slot: SlotIndex(1),
                beat: Duration::from_millis(2),
                length: LENGTH,
                deadline: deadline.clone(),
                lease: Arc::new(Mutex::new(Lease::new(LENGTH))),
                doubts: Arc::new(()),
                rules,
            })
            .expect("a thread");
            let begun = RealMachine.now();
            let sector = SlotSector { incarnation: Incarnation(1), logged_on: true, ..SlotSector::default() };
            assert_eq!(beater.claim(sector, begun + HOUR), Written::Stable);
            deadline.extend(RealMachine.now(), begun + HOUR).expect("it lives");
            Self { beater, device, geometry, deadline, begun }
        }

        fn beats(&self) -> u64 {
            let place = self.geometry.slot_sector(SlotIndex(1), Incarnation(1).sector());
            let mut bytes = AlignedBuf::zeroed(self.geometry.stride());
            self.device.read_at(place.offset, &mut bytes).expect("it is in memory");
            SlotSector::decode(&bytes, place).valid().expect("a slot").beat
        }

        fn is_live(&self) -> bool {
            self.deadline.get(RealMachine.now()).is_live()
        }

        fn wait_until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
            let patience = Instant::now() + Duration::from_secs(30);
            while !condition(self) {
                assert!(Instant::now() < patience, "{what}");
                std::thread::sleep(Duration::from_millis(1));
            }
        }

        /// For how long it lived on by beating, if it does no more.
        fn ends(&self) -> Duration {
            self.wait_until("it hangs, and its login goes on", |login| !login.is_live());
            let beats = self.beats();
            assert!(beats > 1, "it did beat");
            assert_eq!(self.beater.slot(true, |sector| sector.waiting = true), Written::NotAllowed);
            assert_eq!(self.beats(), beats, "not one beat after the end");
            RealMachine.now() - self.begun
        }

        /// It beats for longer than a lease, and lives.
        fn lives(&self) {
            self.wait_until("it beats", |login| login.beats() > 10 && RealMachine.now() > login.begun + LENGTH * 2);
            assert!(self.is_live());
        }
    }

    /// Trace B1: the thread that holds the semaphore hung (in a D state, say), the beats went on, and nobody could ever pass it.
    #[test]
    fn trace_b1_an_engine_or_a_tenure_that_hangs_ends_its_login_though_it_beats() {
        let engine = Login::begin(Rules::default());
        engine.beater.engine_ticked(engine.begun);
        assert!(engine.ends() > LENGTH, "not before a lease is over");

        let tenure = Login::begin(Rules::default());
        tenure.beater.engine_ticked(tenure.begun + HOUR);
        tenure.beater.tenure(Some(tenure.begun));
        assert!(tenure.ends() > LENGTH, "not before a lease is over");

        let healthy = Login::begin(Rules::default());
        healthy.beater.engine_ticked(healthy.begun + HOUR);
        healthy.beater.tenure(Some(healthy.begun));
        healthy.beater.tenure(None);
        healthy.lives();

        let without_the_rule = Login::begin(Rules { hung_ends: false, ..Rules::default() });
        without_the_rule.beater.engine_ticked(without_the_rule.begun);
        without_the_rule.lives();
    }
}
