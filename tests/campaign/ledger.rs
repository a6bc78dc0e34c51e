//! Every file of records that must be on the volume.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::scribe::Entry;

/// Files of this many rounds stay on the volume and are read again and again.
const ROUNDS_KEPT: usize = 3;

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Each round's entries, the newest last.
    rounds: Mutex<Vec<Vec<Entry>>>,
    all: AtomicU64,
    last: AtomicU64,
}

impl Ledger {
    fn rounds(&self) -> std::sync::MutexGuard<'_, Vec<Vec<Entry>>> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new round.
    pub(crate) fn begin(&self) {
        self.rounds().push(Vec::new());
    }

    /// A new file.
    pub(crate) fn entry(&self, name: String) -> Entry {
        let entry = Entry { name, stable: Arc::default() };
        let mut rounds = self.rounds();
        if rounds.is_empty() {
            rounds.push(Vec::new());
        }
        rounds.last_mut().expect("just made").push(entry.clone());
        entry
    }

    /// Records that were told to be stable in this round so far.
    pub(crate) fn told(&self) -> u64 {
        let rounds = self.rounds();
        rounds.last().map_or(0, |round| round.iter().map(|e| e.stable.load(Ordering::SeqCst)).sum())
    }

    /// Reads everything that must be in `directory`, and takes away what is old enough.
    ///
    /// # Errors
    /// The first that is missing.
    pub(crate) fn check(&self, directory: &Path) -> Result<(), String> {
        let mut rounds = self.rounds();
        let mut found = 0;
        for (index, round) in rounds.iter().enumerate() {
            for entry in round {
                let records = entry.check(directory).map_err(|lost| format!("LOST: {lost}"))?;
                if index + 1 == rounds.len() {
                    found += records;
                }
            }
        }
        self.last.store(found, Ordering::Relaxed);
        self.all.fetch_add(found, Ordering::Relaxed);
        while rounds.len() > ROUNDS_KEPT {
            for entry in rounds.remove(0) {
                // One that never came to be.
                let _ = std::fs::remove_file(directory.join(entry.name));
            }
        }
        Ok(())
    }

    /// Records found in the last round.
    pub(crate) fn records(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// Records found in all rounds.
    pub(crate) fn total(&self) -> u64 {
        self.all.load(Ordering::Relaxed)
    }
}
