//! What can go wrong in the demo and the measurements, and the wish to end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::units::format_duration;
use crate::wire::outcome::Failure;

/// Why a step did not go as it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Ctrl-C, SIGTERM, or the terminal is gone.
    #[error("it was interrupted")]
    Interrupted,
    /// A command ended otherwise than it should.
    #[error("'{typed}' ended with exit code {exit}, not {expected}: {said}")]
    Ended {
        /// The command line.
        typed: String,
        /// Its exit code; -1 for a signal.
        exit: i32,
        /// The one that was right.
        expected: i32,
        /// What it printed, in one line.
        said: String,
    },
    /// Something took too long.
    #[error("{what}: not within {}", format_duration(*limit))]
    TooLong {
        /// What was waited for.
        what: String,
        /// For how long.
        limit: Duration,
    },
    /// Something was seen that must not be.
    #[error("{what}: {seen}")]
    Wrong {
        /// What was looked at.
        what: String,
        /// What was seen.
        seen: String,
    },
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A part of volctl failed.
    #[error(transparent)]
    Volctl(#[from] Failure),
}

impl Fault {
    /// For `map_err`: names what was tried.
    pub fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }
}

/// Set when the process is told to end.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Hears SIGINT, SIGTERM and SIGHUP from now on; none of them ends the process any more.
    ///
    /// # Errors
    /// When the system refuses a handler.
    pub fn listen() -> Result<Self, Fault> {
        let stop = Self::default();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&stop.0)).map_err(Fault::system("hearing signals"))?;
        }
        Ok(stop)
    }

    /// Whether it is time to end.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// For `?` at every place that waits.
    ///
    /// # Errors
    /// [`Fault::Interrupted`].
    pub fn check(&self) -> Result<(), Fault> {
        if self.is_set() { Err(Fault::Interrupted) } else { Ok(()) }
    }
}
