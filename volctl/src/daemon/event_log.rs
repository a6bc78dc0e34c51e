//! The event log: a ring in memory for `volctl log` and those who follow it, and `events.jsonl` in the state directory.
//!
//! [`EventLog::note`] never waits and never fails: a thread of its own serves the followers, another one the file, and
//! a full or hung disk is a warning in status and nothing more.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use crossbeam::channel::{Receiver, Sender, bounded};

use super::reply::ReplySender;
use crate::wire::event::{EventRecord, LogReply};
use crate::wire::outcome::Failure;
use crate::wire::status::Warning;

mod file;
#[doc(hidden)]
pub use file::events_of;

use file::EventFile;

/// How many events the ring keeps.
const RING_MAX: usize = 1_024;
/// How many events may wait for the followers' thread, and for the file's.
const QUEUE_MAX: usize = 1_024;
/// How many callers may follow at once (each holds a connection as well, of which there are fewer).
const FOLLOWERS_MAX: usize = 64;
/// How long the end of the daemon waits for the last events to be written.
const STOP_TIME: Duration = Duration::from_secs(1);

/// The name of the file in the state directory; the one before it has `.1` added.
pub const FILE_NAME: &str = "events.jsonl";
/// The size at which the file is put aside, in bytes; so the two files together have at most twice this.
pub const FILE_BYTES_MAX: u64 = 4 << 20;

type Shared<T> = Arc<Mutex<T>>;

enum Job {
    Event(u64, Arc<EventRecord>),
    Serve { follow: bool, reply: ReplySender },
}

#[derive(Default)]
struct Ring {
    /// Numbered by this run; those read from the file have number 0.
    events: VecDeque<(u64, Arc<EventRecord>)>,
    last: u64,
}

impl Ring {
    fn push(&mut self, number: u64, event: Arc<EventRecord>) {
        if self.events.len() >= RING_MAX {
            self.events.pop_front();
        }
        self.events.push_back((number, event));
    }
}

#[derive(Debug, Default)]
struct Trouble {
    /// Why the file cannot be written, since the last event that could.
    file: Option<String>,
    /// Events that were never given to the file, because it hangs.
    skipped: u64,
}

/// The event log of a daemon; shared behind an `Arc` by all who have something to note.
pub struct EventLog {
    path: PathBuf,
    ring: Shared<Ring>,
    trouble: Shared<Trouble>,
    jobs: Option<Sender<Job>>,
    /// Disconnected when both threads are done.
    ended: Receiver<()>,
}

fn with<T, R>(shared: &Shared<T>, change: impl FnOnce(&mut T) -> R) -> R {
    // Each change is complete in itself, so a panic elsewhere leaves nothing half done.
    change(&mut shared.lock().unwrap_or_else(PoisonError::into_inner))
}

impl EventLog {
    /// Opens the log in `state_dir` and fills the ring with the last events of earlier runs.
    ///
    /// A directory that cannot be written is a [warning](EventLog::warning), not an error.
    ///
    /// # Errors
    /// A [`Failure`] (exit 1) when no thread can be had.
    pub fn start(state_dir: &Path) -> Result<Self, Failure> {
        Self::start_limited(state_dir, FILE_BYTES_MAX)
    }

    fn start_limited(state_dir: &Path, bytes_max: u64) -> Result<Self, Failure> {
        let mut file = EventFile::new(state_dir, bytes_max);
        let mut ring = Ring::default();
        for event in file.recent(RING_MAX) {
            ring.push(0, Arc::new(event));
        }
        let ring: Shared<Ring> = Arc::new(Mutex::new(ring));
        let trouble: Shared<Trouble> = Arc::default();
        let (jobs, jobs_out) = bounded(QUEUE_MAX);
        let (lines, lines_out) = bounded::<Arc<EventRecord>>(QUEUE_MAX);
        let (ending, ended) = bounded(0);
        if let Err(error) = file.open() {
            with(&trouble, |trouble| trouble.file = Some(error.to_string()));
        }
        let writer = {
            let (trouble, ending) = (Arc::clone(&trouble), ending.clone());
            move || write_all(file, &lines_out, &trouble, &ending)
        };
        let hub = {
            let (ring, trouble) = (Arc::clone(&ring), Arc::clone(&trouble));
            move || serve_all(&jobs_out, &ring, &lines, &trouble, &ending)
        };
        let failed = |error: std::io::Error| {
            Failure::failed("the event log cannot be started", error.to_string(), "look at the limits of the service")
        };
        thread::Builder::new().name("event-file".into()).spawn(writer).map_err(failed)?;
        thread::Builder::new().name("event-log".into()).spawn(hub).map_err(failed)?;
        Ok(Self { path: state_dir.join(FILE_NAME), ring, trouble, jobs: Some(jobs), ended })
    }

    /// Notes an event: stamps it with time and number, keeps it, hands it on. Never waits.
    pub fn note(&self, mut event: EventRecord) {
        event.time = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        tracing::info!(
            event = event.event,
            volume = event.volume.as_deref(),
            client = event.client.as_deref(),
            "{}",
            event.text
        );
        // The job is queued under the lock, so that numbers leave in order.
        with(&self.ring, |ring| {
            ring.last += 1;
            event.seq = ring.last;
            let event = Arc::new(event);
            ring.push(ring.last, Arc::clone(&event));
            if let Some(jobs) = &self.jobs
                && jobs.try_send(Job::Event(ring.last, event)).is_err()
            {
                with(&self.trouble, |trouble| trouble.skipped += 1);
            }
        });
    }

    /// Answers a `Log` call: the events of the ring, and with `follow` each further one. Never waits.
    pub fn serve(&self, follow: bool, reply: ReplySender) {
        let Some(jobs) = &self.jobs else { return };
        if let Err(refused) = jobs.try_send(Job::Serve { follow, reply })
            && let Job::Serve { reply, .. } = refused.into_inner()
        {
            let why = "too many events wait to be handed out";
            reply.fail(Failure::busy("the log is not shown now", why, "try again in a moment"));
        }
    }

    /// The newest events of the ring, oldest first.
    #[must_use]
    pub fn recent(&self, count: usize) -> Vec<Arc<EventRecord>> {
        with(&self.ring, |ring| {
            let skip = ring.events.len().saturating_sub(count);
            ring.events.iter().skip(skip).map(|(_, event)| Arc::clone(event)).collect()
        })
    }

    /// What status should say about the log, while there is something to say.
    #[must_use]
    pub fn warning(&self) -> Option<Warning> {
        with(&self.trouble, |trouble| {
            let path = self.path.display();
            let text = match (&trouble.file, trouble.skipped) {
                (Some(why), _) => {
                    format!("events are not written to {path}: {why}; make room, or check who may write there")
                }
                (None, 0) => return None,
                (None, n) => {
                    format!("{n} events were not written to {path}: its disk was too slow")
                }
            };
            Some(Warning { code: "event_log".to_owned(), text, volume: None })
        })
    }
}

impl Drop for EventLog {
    fn drop(&mut self) {
        self.jobs = None;
        // It ends by being disconnected; a hung disk must not hold up the end of the daemon.
        let _ = self.ended.recv_timeout(STOP_TIME);
    }
}

/// The followers' thread: keeps the order, so that nobody sees an event twice or misses one in between.
fn serve_all(
    jobs: &Receiver<Job>,
    ring: &Shared<Ring>,
    lines: &Sender<Arc<EventRecord>>,
    trouble: &Shared<Trouble>,
    _ending: &Sender<()>,
) {
    let mut followers: Vec<ReplySender> = Vec::new();
    let mut handed_out = 0;
    for job in jobs {
        match job {
            Job::Event(number, event) => {
                handed_out = number;
                let reply = LogReply { events: vec![event.as_ref().clone()] };
                followers.retain(|follower| follower.progress(&reply).is_ok());
                if lines.try_send(event).is_err() {
                    with(trouble, |trouble| trouble.skipped += 1);
                }
            }
            Job::Serve { follow, reply } => {
                let events = with(ring, |ring| {
                    let known = ring.events.iter().filter(|(number, _)| *number <= handed_out);
                    known.map(|(_, event)| event.as_ref().clone()).collect()
                });
                let events = LogReply { events };
                followers.retain(|follower| !follower.is_gone());
                if !follow {
                    reply.done(&events);
                } else if followers.len() >= FOLLOWERS_MAX {
                    let why = format!("{FOLLOWERS_MAX} others follow it already");
                    reply.fail(Failure::busy("the log is not followed", why, "close one of them"));
                } else if reply.progress(&events).is_ok() {
                    followers.push(reply);
                }
            }
        }
    }
}

/// The file's thread.
fn write_all(mut file: EventFile, lines: &Receiver<Arc<EventRecord>>, trouble: &Shared<Trouble>, _ending: &Sender<()>) {
    for event in lines {
        let result = file.append(&event);
        let was_bad = with(trouble, |trouble| {
            let now = result.as_ref().err().map(ToString::to_string);
            std::mem::replace(&mut trouble.file, now).is_some()
        });
        match result {
            Err(error) if !was_bad => tracing::warn!(%error, "the event log cannot be written"),
            Ok(()) if was_bad => tracing::info!("the event log can be written again"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
