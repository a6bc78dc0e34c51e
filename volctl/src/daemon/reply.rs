//! Replies on their way from the daemon's loop to one connection: never blocking, bounded, newest status only.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::eventfd::{EfdFlags, EventFd};
use serde::Serialize;
use serde_json::Value;

use crate::wire::outcome::Failure;
use crate::wire::status::Status;

/// How many replies may wait for a peer that does not read; one more, and the peer counts as gone.
const WAITING_MAX: usize = 256;

/// The peer of a reply is gone, or reads too slowly to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the caller is gone")]
pub struct Gone;

/// What came out of a call, last.
pub type Outcome = Result<Value, Failure>;

/// One thing for the connection to write.
#[derive(Debug)]
pub enum Outgoing {
    /// A further reply comes after this one.
    Progress(Value),
    /// A status that replaces an older one not yet written; further replies come.
    Latest(Arc<Status>),
    /// The last reply.
    Last(Outcome),
    /// The last reply: a status.
    LastStatus(Arc<Status>),
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Outgoing>,
    latest: Option<Arc<Status>>,
    /// Nothing is put in any more: the last reply is in, or the sender is gone.
    finished: bool,
    gone: bool,
}

/// The queue between a [`ReplySender`] and its connection.
#[derive(Debug)]
pub struct Mailbox {
    queue: Mutex<Queue>,
    /// Readable while there is something to look at.
    bell: EventFd,
}

impl Mailbox {
    /// A mailbox and its sender. With `more` false progress and statuses in between are dropped silently.
    ///
    /// # Errors
    /// When no event descriptor can be had.
    pub fn new(more: bool) -> Result<(Arc<Self>, ReplySender), nix::Error> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let mailbox = Arc::new(Self { queue: Mutex::default(), bell });
        let sender = ReplySender { mailbox: Arc::clone(&mailbox), more };
        Ok((mailbox, sender))
    }

    fn with<T>(&self, change: impl FnOnce(&mut Queue) -> T) -> T {
        // A panic elsewhere cannot leave the queue in a bad state: each change is one assignment or push.
        change(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn ring(&self) {
        // It fails only when the counter is full, and then it is readable anyway.
        let _ = self.bell.write(1);
    }

    /// Takes the next thing to write. A status in between counts only where `latest_may_go` (the pace is kept by the
    /// caller) and comes after what waits. `Err` when the sender is gone without a last reply.
    ///
    /// # Errors
    /// [`Gone`], see above.
    pub fn take(&self, latest_may_go: bool) -> Result<Option<Outgoing>, Gone> {
        // Emptied first: what is put in after this rings again.
        let _ = self.bell.read();
        self.with(|queue| {
            if let Some(first) = queue.waiting.front() {
                // A status that waits was true before the last reply: write it first, whatever the pace.
                if matches!(first, Outgoing::Last(_) | Outgoing::LastStatus(_))
                    && let Some(status) = queue.latest.take()
                {
                    return Ok(Some(Outgoing::Latest(status)));
                }
                return Ok(queue.waiting.pop_front());
            }
            if latest_may_go && let Some(status) = queue.latest.take() {
                return Ok(Some(Outgoing::Latest(status)));
            }
            if queue.finished && queue.latest.is_none() { Err(Gone) } else { Ok(None) }
        })
    }

    /// Whether a status waits for its turn.
    #[must_use]
    pub fn has_latest(&self) -> bool {
        self.with(|queue| queue.latest.is_some())
    }

    /// Says that the peer is gone: the sender notices at its next use.
    pub fn peer_gone(&self) {
        self.with(|queue| {
            queue.gone = true;
            queue.waiting.clear();
            queue.latest = None;
        });
    }
}

impl AsFd for Mailbox {
    /// Readable while there may be something to take.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

/// Sends the replies of one call. No method ever blocks. Dropped without a last reply, the caller is told that the
/// daemon gave up on the call.
#[derive(Debug)]
pub struct ReplySender {
    mailbox: Arc<Mailbox>,
    more: bool,
}

impl ReplySender {
    /// Whether the caller takes replies before the last one.
    #[must_use]
    pub const fn wants_more(&self) -> bool {
        self.more
    }

    /// Whether the caller is gone (or was cut off for reading too slowly): nothing that is sent arrives.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.mailbox.with(|queue| queue.gone)
    }

    /// Sends a reply in between; silently nothing when the caller takes only one.
    ///
    /// # Errors
    /// [`Gone`] when the caller is gone or has let too many replies wait.
    pub fn progress(&self, value: &impl Serialize) -> Result<(), Gone> {
        if !self.more {
            return if self.is_gone() { Err(Gone) } else { Ok(()) };
        }
        self.put(Outgoing::Progress(to_value(value)))
    }

    /// Sends a status in between, replacing one not yet written. The connection keeps the pace (at most one every
    /// 50 ms) and makes the JSON, so this may be called at every change.
    ///
    /// # Errors
    /// [`Gone`] when the caller is gone.
    pub fn latest(&self, status: &Arc<Status>) -> Result<(), Gone> {
        let sent = self.mailbox.with(|queue| {
            if queue.gone {
                return Err(Gone);
            }
            if self.more {
                queue.latest = Some(Arc::clone(status));
            }
            Ok(())
        });
        self.mailbox.ring();
        sent
    }

    /// Sends the last reply.
    pub fn finish(self, outcome: Outcome) {
        // The caller may be gone; then nobody is left to tell.
        let _ = self.put(Outgoing::Last(outcome));
    }

    /// Sends the last reply: what was done.
    pub fn done(self, value: &impl Serialize) {
        self.finish(Ok(to_value(value)));
    }

    /// Sends the last reply: why it was not done.
    pub fn fail(self, failure: Failure) {
        self.finish(Err(failure));
    }

    /// Sends the last reply: a status.
    pub fn done_status(self, status: &Arc<Status>) {
        // As in `finish`.
        let _ = self.put(Outgoing::LastStatus(Arc::clone(status)));
    }

    fn put(&self, outgoing: Outgoing) -> Result<(), Gone> {
        let last = matches!(outgoing, Outgoing::Last(_) | Outgoing::LastStatus(_));
        let put = self.mailbox.with(|queue| {
            if queue.waiting.len() >= WAITING_MAX && !last {
                queue.gone = true;
            }
            if queue.gone {
                return Err(Gone);
            }
            queue.waiting.push_back(outgoing);
            queue.finished |= last;
            Ok(())
        });
        self.mailbox.ring();
        put
    }
}

impl Drop for ReplySender {
    fn drop(&mut self) {
        self.mailbox.with(|queue| queue.finished = true);
        self.mailbox.ring();
    }
}

fn to_value(value: &impl Serialize) -> Value {
    // Only maps with keys that are not text fail here, and no reply has one; an empty object is still a reply.
    serde_json::to_value(value).unwrap_or_else(|error| serde_json::json!({"text": error.to_string()}))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(incarnation: u64) -> Arc<Status> {
        Arc::new(Status { incarnation, ..Status::default() })
    }

    #[test]
    fn only_the_newest_status_waits_and_comes_before_the_last_reply() {
        let (mailbox, sender) = Mailbox::new(true).expect("a mailbox");
        for incarnation in 1..=1_000 {
            sender.latest(&status(incarnation)).expect("there");
        }
        assert!(matches!(mailbox.take(false), Ok(None)), "the pace is kept");
        assert!(matches!(mailbox.take(true), Ok(Some(Outgoing::Latest(s))) if s.incarnation == 1_000));
        sender.latest(&status(1_001)).expect("there");
        sender.done(&json!({}));
        assert!(matches!(mailbox.take(false), Ok(Some(Outgoing::Latest(s))) if s.incarnation == 1_001));
        assert!(matches!(mailbox.take(false), Ok(Some(Outgoing::Last(Ok(_))))));
    }

    #[test]
    fn a_caller_that_lets_too_many_replies_wait_counts_as_gone() {
        let (_mailbox, sender) = Mailbox::new(true).expect("a mailbox");
        for _ in 0..WAITING_MAX {
            sender.progress(&json!({})).expect("room");
        }
        assert_eq!(sender.progress(&json!({})), Err(Gone));
        assert!(sender.is_gone());
    }

    #[test]
    fn a_caller_of_one_reply_gets_only_the_last() {
        let (mailbox, sender) = Mailbox::new(false).expect("a mailbox");
        sender.progress(&json!({"step": 1})).expect("dropped silently");
        sender.latest(&status(1)).expect("dropped silently");
        sender.done(&json!({"step": 2}));
        assert!(matches!(mailbox.take(true), Ok(Some(Outgoing::Last(Ok(value)))) if value["step"] == 2));
    }

    #[test]
    fn a_dropped_sender_and_a_gone_peer_are_noticed() {
        let (mailbox, sender) = Mailbox::new(true).expect("a mailbox");
        assert!(matches!(mailbox.take(true), Ok(None)));
        mailbox.peer_gone();
        assert_eq!(sender.latest(&status(1)), Err(Gone));
        drop(sender);
        assert!(matches!(mailbox.take(true), Err(Gone)));
    }
}
