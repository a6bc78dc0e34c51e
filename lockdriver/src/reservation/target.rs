//! A target in memory that knows reservations and COMPARE AND WRITE, for tests: as the standards have it, with the ways
//! in which real ones fall short as switches.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Commands, Fault, Held, Kind, Swap};
use crate::device::{BlockDevice, Durability, MemoryDevice};

/// How a target falls short.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lies {
    /// It lets hosts write that a reservation should keep out.
    pub lets_write: bool,
    /// It takes any key for a registered one.
    pub any_key: bool,
    /// It writes without comparing.
    pub writes_blindly: bool,
    /// The next compare-and-write is done, and its answer is lost.
    pub answer_lost: bool,
    /// It knows no reservations at all.
    pub no_reservations: bool,
    /// It knows no compare-and-write.
    pub no_compare: bool,
    /// Another host throws out whoever reserves next, just before that.
    pub preempted_before_reserve: bool,
    /// Another host throws out whoever registers next, just before that.
    pub preempted_before_register: bool,
    /// So many times it does not tell its keys.
    pub silent: u8,
    /// All registrants leave just before the next write.
    pub all_leave_before_write: bool,
    /// Whoever is thrown out next registers anew at once.
    pub comes_back: bool,
}

#[derive(Debug, Default)]
struct State {
    /// By host.
    registered: BTreeMap<u32, u64>,
    held: Option<(u32, Kind)>,
    lies: Lies,
}

/// The disk, and who may write it.
#[derive(Debug, Clone)]
pub struct Target {
    disk: MemoryDevice,
    state: Arc<Mutex<State>>,
}

/// One host's path to it.
#[derive(Debug, Clone)]
pub struct Path {
    target: Target,
    host: u32,
}

impl Target {
    /// A target over a disk.
    pub fn new(disk: MemoryDevice) -> Self {
        Self { disk, state: Arc::default() }
    }

    /// A host's path to it.
    pub fn path(&self, host: u32) -> Path {
        Path { target: self.clone(), host }
    }

    /// From now on it falls short so.
    pub fn lie(&self, lies: Lies) {
        self.state().lies = lies;
    }

    /// It forgets everything, as one without persistence does when its power is cut.
    pub fn restart(&self) {
        *self.state() = State::default();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn may_write(&self, host: u32) -> bool {
        self.lies.lets_write || self.held.is_none() || self.registered.contains_key(&host)
    }

    fn is(&self, host: u32, key: u64) -> bool {
        self.registered.get(&host).is_some_and(|k| *k == key || self.lies.any_key)
    }

    fn gone(&mut self, host: u32) {
        self.registered.remove(&host);
        match self.held {
            Some((holder, Kind::WriteAllRegistrants)) if holder == host => {
                self.held = self.registered.keys().next().map(|next| (*next, Kind::WriteAllRegistrants));
            }
            Some((holder, _)) if holder == host => self.held = None,
            _ => {}
        }
    }
}

impl Path {
    fn known(&self) -> Result<MutexGuard<'_, State>, Fault> {
        let state = self.target.state();
        if state.lies.no_reservations {
            return Err(Fault::Unsupported("no reservations".to_owned()));
        }
        Ok(state)
    }
}

impl Commands for Path {
    fn register(&self, old: u64, new: u64) -> Result<(), Fault> {
        let mut state = self.known()?;
        if std::mem::take(&mut state.lies.preempted_before_register) {
            state.gone(self.host);
        }
        if state.registered.get(&self.host).copied().unwrap_or(0) != old {
            return Err(Fault::Conflict);
        }
        if new == 0 {
            state.gone(self.host);
        } else {
            state.registered.insert(self.host, new);
        }
        Ok(())
    }

    fn register_anyhow(&self, new: u64) -> Result<(), Fault> {
        self.known()?.registered.insert(self.host, new);
        Ok(())
    }

    fn reserve(&self, key: u64, kind: Kind) -> Result<(), Fault> {
        let mut state = self.known()?;
        if std::mem::take(&mut state.lies.preempted_before_reserve) {
            state.gone(self.host);
        }
        match state.held {
            _ if !state.is(self.host, key) => Err(Fault::Conflict),
            Some(held) if held != (self.host, kind) => Err(Fault::Conflict),
            _ => {
                state.held = Some((self.host, kind));
                Ok(())
            }
        }
    }

    fn release(&self, key: u64, kind: Kind) -> Result<(), Fault> {
        let mut state = self.known()?;
        if !state.is(self.host, key) {
            return Err(Fault::Conflict);
        }
        let all = kind == Kind::WriteAllRegistrants;
        if state.held.is_some_and(|(holder, k)| k == kind && (holder == self.host || all)) {
            state.held = None;
        }
        Ok(())
    }

    fn preempt(&self, own: u64, victim: u64, kind: Kind) -> Result<(), Fault> {
        let mut state = self.known()?;
        let victims: Vec<u32> = state.registered.iter().filter(|(_, k)| **k == victim).map(|(h, _)| *h).collect();
        if !state.is(self.host, own) || victims.is_empty() {
            return Err(Fault::Conflict);
        }
        let held = state.held.is_some_and(|(holder, _)| victims.contains(&holder));
        let first = victims[0];
        for host in victims.into_iter().filter(|host| *host != self.host) {
            state.gone(host);
        }
        if held {
            state.held = Some((self.host, kind));
        }
        if std::mem::take(&mut state.lies.comes_back) {
            state.registered.insert(first, victim);
        }
        Ok(())
    }

    fn clear(&self, own: u64) -> Result<(), Fault> {
        let mut state = self.known()?;
        if !state.is(self.host, own) {
            return Err(Fault::Conflict);
        }
        state.registered.clear();
        state.held = None;
        Ok(())
    }

    fn keys(&self) -> Result<Vec<u64>, Fault> {
        let mut state = self.known()?;
        if let Some(less) = state.lies.silent.checked_sub(1) {
            state.lies.silent = less;
            return Err(Fault::Unknown("no answer".to_owned()));
        }
        Ok(state.registered.values().copied().collect())
    }

    fn reservation(&self) -> Result<Option<Held>, Fault> {
        let state = self.known()?;
        Ok(state.held.map(|(holder, kind)| Held { key: state.registered.get(&holder).copied().unwrap_or(0), kind }))
    }

    fn write_nothing(&self) -> Result<(), Fault> {
        if self.target.state().may_write(self.host) { Ok(()) } else { Err(Fault::Conflict) }
    }

    fn compare_and_write(&self, offset: u64, expected: &[u8], new: &[u8]) -> Result<Swap, Fault> {
        let mut state = self.target.state();
        if state.lies.no_compare {
            return Err(Fault::Unsupported("no compare".to_owned()));
        }
        if !state.may_write(self.host) {
            return Err(Fault::Conflict);
        }
        let start = usize::try_from(offset).map_err(|e| Fault::Unknown(e.to_string()))?;
        let blind = state.lies.writes_blindly;
        let swap = self.target.disk.with_bytes(|bytes| {
            let block = &mut bytes[start..start + expected.len()];
            if block != expected && !blind {
                return Swap::Differs;
            }
            block.copy_from_slice(new);
            Swap::Done
        });
        if std::mem::take(&mut state.lies.answer_lost) {
            return Err(Fault::Unknown("the answer was lost".to_owned()));
        }
        Ok(swap)
    }
}

impl BlockDevice for Path {
    fn len_bytes(&self) -> u64 {
        self.target.disk.len_bytes()
    }

    fn sector_bytes(&self) -> u32 {
        self.target.disk.sector_bytes()
    }

    fn physical_block_bytes(&self) -> u32 {
        self.target.disk.physical_block_bytes()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.target.disk.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8], durability: Durability) -> io::Result<()> {
        let mut state = self.target.state();
        if std::mem::take(&mut state.lies.all_leave_before_write) {
            state.registered.clear();
            state.held = None;
        }
        if !state.may_write(self.host) {
            return Err(io::Error::from_raw_os_error(libc::EBADE));
        }
        drop(state);
        self.target.disk.write_at(offset, data, durability)
    }

    fn flush(&self) -> io::Result<()> {
        self.target.disk.flush()
    }

    fn commands(&self) -> Option<&dyn Commands> {
        Some(self)
    }
}
