//! What a path does with what is sent through it, and whoever waits for it.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use fuser::Errno;
use serde::{Deserialize, Serialize};

/// What one host's path to one image does at the moment. All false and zero: it passes everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mode {
    /// Each read, write and flush takes this much longer, in milliseconds.
    pub delay_ms: u64,
    /// Reads give EIO.
    pub fail_reads: bool,
    /// Writes give EIO, and nothing of them arrives.
    pub fail_writes: bool,
    /// Flushes give EIO.
    pub fail_flushes: bool,
    /// Writes give ENOSPC: a thin-provisioned device without room.
    pub full: bool,
    /// The cable is out: everything gives EIO, and what was held is lost.
    pub cut: bool,
    /// Writes wait in the host's queue until this is false; then they land, whoever the writer is by then.
    pub hold: bool,
}

impl Mode {
    /// Everything passes.
    pub const PASS: Self = Self {
        delay_ms: 0,
        fail_reads: false,
        fail_writes: false,
        fail_flushes: false,
        full: false,
        cut: false,
        hold: false,
    };
}

/// What is sent through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Read,
    Write,
    Flush,
}

/// A path's mode, and those who wait in it.
#[derive(Debug, Default)]
pub(super) struct Valve {
    mode: Mutex<Mode>,
    changed: Condvar,
}

impl Valve {
    fn mode(&self) -> std::sync::MutexGuard<'_, Mode> {
        self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, mode: Mode) {
        *self.mode() = mode;
        self.changed.notify_all();
    }

    /// Whether nothing would wait or fail in it now.
    pub(super) fn is_open(&self) -> bool {
        *self.mode() == Mode::PASS
    }

    /// Waits as long as the mode says, and then fails as it says.
    pub(super) fn pass(&self, op: Op) -> Result<(), Errno> {
        let mut mode = self.mode();
        let delay = Duration::from_millis(mode.delay_ms);
        if !delay.is_zero() && !mode.cut {
            // A cut ends the delay: what is on the way is lost.
            let cut = |mode: &mut Mode| !mode.cut;
            mode = self.changed.wait_timeout_while(mode, delay, cut).unwrap_or_else(PoisonError::into_inner).0;
        }
        while mode.hold && op == Op::Write && !mode.cut {
            mode = self.changed.wait(mode).unwrap_or_else(PoisonError::into_inner);
        }
        let fails = mode.cut
            || match op {
                Op::Read => mode.fail_reads,
                Op::Write => mode.fail_writes,
                Op::Flush => mode.fail_flushes,
            };
        match (fails, op) {
            (true, _) => Err(Errno::EIO),
            (false, Op::Write) if mode.full => Err(Errno::ENOSPC),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_is_held_lands_at_the_release_and_is_lost_at_a_cut() {
        for (end, lands) in [(Mode::PASS, true), (Mode { cut: true, hold: true, ..Mode::PASS }, false)] {
            let valve = Arc::new(Valve::default());
            valve.set(Mode { hold: true, ..Mode::PASS });
            assert!(valve.pass(Op::Read).is_ok(), "only writes are held");
            let held = std::thread::spawn({
                let valve = valve.clone();
                move || valve.pass(Op::Write).is_ok()
            });
            valve.set(end);
            assert_eq!(held.join().expect("it ends"), lands);
        }
    }
}
