//! What happened in a round, one line an event.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use lockdriver::sys::clock::boottime;
use volctl_tests::paths::{Line, Seen};

#[derive(Debug, Default)]
pub(crate) struct History {
    lines: Mutex<(u64, Vec<Line>)>,
}

fn now_ms() -> u64 {
    u64::try_from(boottime().as_millis()).unwrap_or(u64::MAX)
}

impl History {
    fn lines(&self) -> std::sync::MutexGuard<'_, (u64, Vec<Line>)> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new round: from here on times are counted, and what was is forgotten.
    pub(crate) fn begin(&self) {
        *self.lines() = (now_ms(), Vec::new());
    }

    pub(crate) fn add(&self, text: impl Into<String>) {
        self.lines().1.push(Line { at_ms: now_ms(), text: text.into() });
    }

    /// Adds what was seen at the disk.
    pub(crate) fn collect(&self, seen: &Seen) {
        self.lines().1.extend(seen.lines.iter().cloned());
    }
}

impl fmt::Display for History {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (begun, mut lines) = self.lines().clone();
        lines.sort_by_key(|line| line.at_ms);
        for line in lines {
            let at = i64::try_from(line.at_ms).unwrap_or(0) - i64::try_from(begun).unwrap_or(0);
            writeln!(out, "{at:>7}  {}", line.text)?;
        }
        Ok(())
    }
}
