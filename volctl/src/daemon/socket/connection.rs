//! One connection: reads a call, checks it, hands it to the daemon's loop, writes the replies; then the next.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::SendTimeoutError;
use nix::poll::{PollFd, PollFlags};
use serde_json::Value;

use super::{ACTING_GROUP, Incoming, LOOKERS_MAX, Peer, Registered, Shared};
use crate::daemon::reply::{Mailbox, Outgoing};
use crate::wire::call::{Call, INTERFACE};
use crate::wire::frame::{CALL_BYTES_MAX, CallFrame, FrameError, FrameStream, ReplyFrame, poll_timeout};
use crate::wire::outcome::Failure;
use crate::wire::varlink;

/// The least time between two statuses of one subscription.
const STATUS_PACE: Duration = Duration::from_millis(50);
/// How long the daemon's loop may leave its queue full before a caller is told that it is busy.
const QUEUE_TIME: Duration = Duration::from_secs(2);
/// How long a peer that is refused has to take the refusal; the listener waits for it.
const REFUSAL_TIME: Duration = Duration::from_millis(20);

/// Starts the thread of a new connection, or refuses it politely when there are too many. Runs in the listener.
pub(super) fn start(stream: UnixStream, shared: &Arc<Shared>) {
    let Ok(peer) = Peer::of(&stream) else { return };
    let registered = match Registered::new(shared, &stream, peer.uid) {
        Ok(registered) => registered,
        Err(why) => return refuse(stream, &too_many(why)),
    };
    let spawned = thread::Builder::new().name("connection".into()).stack_size(512 * 1024).spawn(move || {
        if let Err(error) = run(stream, peer, registered) {
            tracing::debug!(%error, "a connection ended");
        }
    });
    if let Err(error) = spawned {
        tracing::warn!(%error, "no thread for a connection; it is closed");
    }
}

fn too_many(why: String) -> Failure {
    Failure::busy(
        "the daemon takes no more connections now",
        why,
        "close a window or a 'status --watch', then try again",
    )
}

fn refuse(stream: UnixStream, failure: &Failure) {
    // An answer in passing: whoever does not take it at once is closed without one.
    let _ = FrameStream::new(stream, CALL_BYTES_MAX)
        .and_then(|mut frames| frames.write(&varlink::failure_reply(failure), REFUSAL_TIME));
}

fn run(stream: UnixStream, peer: Peer, mut registered: Registered) -> Result<(), FrameError> {
    let may_act = (registered.shared.may_act)(&peer);
    if !may_act && !registered.count_looker() {
        refuse(stream, &too_many(format!("{LOOKERS_MAX} are open already to those who may only look")));
        return Ok(());
    }
    let frames = FrameStream::new(stream, CALL_BYTES_MAX)?;
    Connection { frames, peer, may_act, shared: &registered.shared }.serve()
}

struct Connection<'a> {
    frames: FrameStream,
    peer: Peer,
    may_act: bool,
    shared: &'a Shared,
}

impl Connection<'_> {
    fn serve(&mut self) -> Result<(), FrameError> {
        let limits = self.shared.limits;
        loop {
            match self.frames.read::<CallFrame>(Some(limits.idle), limits.frame) {
                Ok(Some(frame)) => self.answer(frame)?,
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.complain(&error);
                    return Err(error);
                }
            }
        }
    }

    /// Tells the peer what was wrong with what it sent, if it is still there to hear it.
    fn complain(&mut self, error: &FrameError) {
        let next = "send JSON objects that end in a NUL byte, as Varlink describes";
        match error {
            // Idle for too long: it has not said anything wrong, and expects no reply.
            FrameError::TimedOut { .. } if !self.frames.has_buffered() => {}
            FrameError::TooBig { .. }
            | FrameError::TooDeep
            | FrameError::NotUnderstood(_)
            | FrameError::TimedOut { .. } => {
                let failure = Failure::usage("the connection is closed", error.to_string(), next);
                // The connection ends anyway.
                let _ = self.frames.write(&varlink::failure_reply(&failure), Duration::from_millis(200));
            }
            FrameError::Cut { .. } | FrameError::Gone | FrameError::Io(_) => {}
        }
    }

    fn write(&mut self, reply: &ReplyFrame, oneway: bool) -> Result<(), FrameError> {
        if oneway { Ok(()) } else { self.frames.write(reply, self.shared.limits.frame) }
    }

    fn answer(&mut self, frame: CallFrame) -> Result<(), FrameError> {
        let CallFrame { method, parameters, more, oneway, upgrade } = frame;
        if upgrade {
            let why = "no other protocol is spoken on this socket";
            let failure = Failure::usage("the connection is not upgraded", why, "call without 'upgrade'");
            return self.write(&varlink::failure_reply(&failure), oneway);
        }
        if let Some(reply) = varlink::service_reply(&method, &parameters) {
            return self.write(&reply, oneway);
        }
        let call = match Call::parse(&method, parameters) {
            Ok(call) => call,
            Err(error) => return self.write(&varlink::call_error(&error), oneway),
        };
        if call.needs_more() && (!more || oneway) {
            return self.write(&varlink::expected_more(), oneway);
        }
        if call.acts() && !self.may_act {
            let failure = self.may_not_act(&call);
            return self.write(&varlink::failure_reply(&failure), oneway);
        }
        match self.hand_on(call, more && !oneway) {
            Ok(mailbox) => {
                let result = self.forward(&mailbox, oneway);
                mailbox.peer_gone();
                result
            }
            Err(failure) => self.write(&varlink::failure_reply(&failure), oneway),
        }
    }

    fn may_not_act(&self, call: &Call) -> Failure {
        Failure::refused(
            format!("'{}.{}' is not done for user {}", INTERFACE, call.name(), self.peer.uid),
            format!("only root and members of the group {ACTING_GROUP} may act; others may look"),
            format!("have the administrator add you: usermod -aG {ACTING_GROUP} USER, then log in again"),
        )
    }

    fn hand_on(&self, call: Call, more: bool) -> Result<Arc<Mailbox>, Failure> {
        let (mailbox, reply) = Mailbox::new(more).map_err(|error| {
            Failure::busy("the daemon cannot take the call now", error.to_string(), "try again in a moment")
        })?;
        let incoming = Incoming { call, peer: self.peer.clone(), reply };
        match self.shared.calls.send_timeout(incoming, QUEUE_TIME) {
            Ok(()) => Ok(mailbox),
            Err(SendTimeoutError::Timeout(_)) => Err(Failure::busy(
                "the daemon does not get round to the call",
                "its queue of calls has been full for two seconds",
                "try again in a moment; if it stays so, look at the daemon's log",
            )),
            Err(SendTimeoutError::Disconnected(_)) => Err(stopping()),
        }
    }

    /// Writes the replies of one call until the last, or until the peer is gone.
    fn forward(&mut self, mailbox: &Mailbox, oneway: bool) -> Result<(), FrameError> {
        let mut next_status = Instant::now();
        loop {
            let reply = match mailbox.take(Instant::now() >= next_status) {
                Ok(Some(Outgoing::Progress(value))) => in_between(value),
                Ok(Some(Outgoing::Latest(status))) => {
                    next_status = Instant::now() + STATUS_PACE;
                    in_between(to_value(status.as_ref())?)
                }
                Ok(Some(Outgoing::Last(Ok(value)))) => {
                    return self.write(&varlink::done(value), oneway);
                }
                Ok(Some(Outgoing::Last(Err(failure)))) => {
                    return self.write(&varlink::failure_reply(&failure), oneway);
                }
                Ok(Some(Outgoing::LastStatus(status))) => {
                    let reply = varlink::done(to_value(status.as_ref())?);
                    return self.write(&reply, oneway);
                }
                Ok(None) => {
                    self.wait(mailbox, mailbox.has_latest().then_some(next_status))?;
                    continue;
                }
                Err(_) => return self.write(&varlink::failure_reply(&stopping()), oneway),
            };
            self.write(&reply, oneway)?;
        }
    }

    /// Waits until there is something to write, the deadline, or the end of the peer.
    fn wait(&self, mailbox: &Mailbox, deadline: Option<Instant>) -> Result<(), FrameError> {
        // No event is asked of the socket: its hang-up is told anyway. A peer that has only finished sending
        // (half-closed) still gets its replies.
        let mut fds = [
            PollFd::new(mailbox.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.frames.socket().as_fd(), PollFlags::empty()),
        ];
        match nix::poll::poll(&mut fds, poll_timeout(deadline)) {
            Ok(_) if fds[1].any().unwrap_or(true) => Err(FrameError::Gone),
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(FrameError::Io(errno.into())),
        }
    }
}

fn stopping() -> Failure {
    Failure::no_daemon(
        "the daemon gave up on the call",
        "it is stopping or starting anew",
        "look with 'volctl status' once it runs again",
    )
}

fn to_value(value: &impl serde::Serialize) -> Result<Value, FrameError> {
    serde_json::to_value(value).map_err(FrameError::NotUnderstood)
}

const fn in_between(parameters: Value) -> ReplyFrame {
    ReplyFrame { parameters, continues: true, error: None }
}
