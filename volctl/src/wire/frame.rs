//! Varlink framing: JSON objects that end in a NUL byte, over a Unix socket, with bounded memory and time (section 10).
//!
//! `{"method":"io.volctl.Request","parameters":{..},"more":true}` goes one way, `{"parameters":{..},"continues":true}` or
//! `{"error":"io.volctl.Refused","parameters":{..}}` the other. The peer is never trusted: a frame may be cut, huge,
//! deep, slow, or not JSON at all, and each of these is an error value.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// The most bytes of a call, its NUL not counted.
pub const CALL_BYTES_MAX: usize = 64 * 1024;
/// The most bytes of a reply: the status of 1024 volumes must fit.
pub const REPLY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The most levels of objects and arrays in a frame.
pub const DEPTH_MAX: usize = 24;
/// How long a frame may take from its first byte to its last.
pub const FRAME_TIME: Duration = Duration::from_secs(5);

/// Why a frame was not read or written. After any of these the connection is of no more use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The peer closed in the middle of a frame.
    #[error("the connection was closed in the middle of a message, after {bytes} bytes")]
    Cut {
        /// How many bytes of the frame had come.
        bytes: usize,
    },
    /// More bytes than allowed without a NUL.
    #[error("the message is longer than {max} bytes")]
    TooBig {
        /// How many there may be.
        max: usize,
    },
    /// Too many levels.
    #[error("the message has more than {DEPTH_MAX} levels of objects and arrays")]
    TooDeep,
    /// Not JSON, or not of the expected shape.
    #[error("the message is not understood: {0}")]
    NotUnderstood(#[source] serde_json::Error),
    /// The peer did not send or take the frame in time.
    #[error("the other side was too slow ({})", crate::units::format_duration(*limit))]
    TimedOut {
        /// How long it had.
        limit: Duration,
    },
    /// The peer is gone.
    #[error("the other side is gone")]
    Gone,
    /// The socket failed otherwise.
    #[error("the socket failed: {0}")]
    Io(#[source] io::Error),
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected => Self::Gone,
            _ => Self::Io(error),
        }
    }
}

/// A call as it goes over the wire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallFrame {
    /// The full method name.
    pub method: String,
    /// The parameters, an object or absent.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub parameters: Value,
    /// The caller takes several replies.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// The caller takes no reply.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub oneway: bool,
    /// The caller wants to go on with another protocol; never served.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub upgrade: bool,
}

/// A reply as it goes over the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReplyFrame {
    /// What came out, or the parameters of the error.
    #[serde(default)]
    pub parameters: Value,
    /// Further replies follow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continues: bool,
    /// The full name of the error, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A connected socket that speaks frames. The socket is in non-blocking mode; every wait has an end.
#[derive(Debug)]
pub struct FrameStream {
    stream: UnixStream,
    /// Bytes read and not yet handed out.
    buffer: Vec<u8>,
    /// How far `buffer` was searched for a NUL.
    searched: usize,
    bytes_max: usize,
}

impl FrameStream {
    /// Takes a connected socket; frames read from it may have `bytes_max` bytes.
    ///
    /// # Errors
    /// [`FrameError::Io`] when the socket cannot be made non-blocking.
    pub fn new(stream: UnixStream, bytes_max: usize) -> Result<Self, FrameError> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, buffer: Vec::new(), searched: 0, bytes_max })
    }

    /// The socket itself, to poll it or to shut it down.
    #[must_use]
    pub const fn socket(&self) -> &UnixStream {
        &self.stream
    }

    /// Whether bytes of a next frame have already been read.
    #[must_use]
    pub const fn has_buffered(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Reads one frame without its NUL; `None` when the peer closed between two frames.
    ///
    /// Waits up to `first` for its first byte (`None`: without end), and then up to `whole` for the rest of it.
    ///
    /// # Errors
    /// Any [`FrameError`] but `NotUnderstood`.
    pub fn read_bytes(&mut self, first: Option<Duration>, whole: Duration) -> Result<Option<Vec<u8>>, FrameError> {
        let mut limit = if self.buffer.is_empty() { first } else { Some(whole) };
        let mut deadline = limit.map(|limit| Instant::now() + limit);
        let mut chunk = [0_u8; 8 * 1024];
        loop {
            if let Some(frame) = self.take_frame()? {
                return Ok(Some(frame));
            }
            match self.stream.read(&mut chunk) {
                Ok(0) if self.buffer.is_empty() => return Ok(None),
                Ok(0) => {
                    return Err(FrameError::Cut { bytes: self.buffer.len() });
                }
                Ok(n) => {
                    if self.buffer.is_empty() {
                        limit = Some(whole);
                        deadline = Some(Instant::now() + whole);
                    }
                    self.buffer.extend_from_slice(&chunk[..n]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !wait_for(&self.stream, PollFlags::POLLIN, deadline)? {
                        return Err(FrameError::TimedOut { limit: limit.unwrap_or(whole) });
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads one frame and decodes it; `None` when the peer closed between two frames.
    ///
    /// # Errors
    /// Any [`FrameError`].
    pub fn read<T: DeserializeOwned>(
        &mut self,
        first: Option<Duration>,
        whole: Duration,
    ) -> Result<Option<T>, FrameError> {
        self.read_bytes(first, whole)?.map(|bytes| decode(&bytes)).transpose()
    }

    fn take_frame(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let nul = self.buffer[self.searched..].iter().position(|byte| *byte == 0);
        let length = nul.map_or(self.buffer.len(), |offset| self.searched + offset);
        if length > self.bytes_max {
            return Err(FrameError::TooBig { max: self.bytes_max });
        }
        self.searched = self.buffer.len();
        if nul.is_none() {
            return Ok(None);
        }
        let rest = self.buffer.split_off(length + 1);
        let mut frame = std::mem::replace(&mut self.buffer, rest);
        frame.truncate(length);
        self.searched = 0;
        Ok(Some(frame))
    }

    /// Writes one frame and its NUL within `limit` altogether, however the peer reads.
    ///
    /// # Errors
    /// [`FrameError::TimedOut`] when the peer did not take it in time, `Gone` when it is gone, `Io`, or
    /// `NotUnderstood` when the value cannot be JSON.
    pub fn write<T: Serialize>(&mut self, value: &T, limit: Duration) -> Result<(), FrameError> {
        let mut bytes = serde_json::to_vec(value).map_err(FrameError::NotUnderstood)?;
        bytes.push(0);
        let deadline = Instant::now() + limit;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            // The standard library sends with MSG_NOSIGNAL: a gone peer is an error here, not a signal.
            match self.stream.write(rest) {
                Ok(0) => return Err(FrameError::Gone),
                Ok(n) => rest = &rest[n..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !wait_for(&self.stream, PollFlags::POLLOUT, Some(deadline))? {
                        return Err(FrameError::TimedOut { limit });
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Decodes the bytes of one frame.
///
/// # Errors
/// [`FrameError::TooDeep`] or [`FrameError::NotUnderstood`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FrameError> {
    if depth(bytes) > DEPTH_MAX {
        return Err(FrameError::TooDeep);
    }
    serde_json::from_slice(bytes).map_err(FrameError::NotUnderstood)
}

/// The most brackets open at once outside strings: counted before parsing, so that a deep message costs no stack.
fn depth(bytes: &[u8]) -> usize {
    let (mut open, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in bytes {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => {
                open += 1;
                deepest = deepest.max(open);
            }
            (false, b'}' | b']') => open = open.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Waits until the descriptor is ready (or has failed: the next call tells); false when the deadline has passed.
fn wait_for(socket: &impl AsFd, events: PollFlags, deadline: Option<Instant>) -> Result<bool, FrameError> {
    loop {
        let timeout = poll_timeout(deadline);
        let mut fds = [PollFd::new(socket.as_fd(), events)];
        match nix::poll::poll(&mut fds, timeout) {
            Ok(0) if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                return Ok(false);
            }
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(FrameError::Io(errno.into())),
        }
    }
}

/// The poll timeout up to a deadline, rounded up so that it does not spin in the last millisecond.
#[must_use]
pub fn poll_timeout(deadline: Option<Instant>) -> PollTimeout {
    deadline.map_or(PollTimeout::NONE, |deadline| {
        let left = deadline.saturating_duration_since(Instant::now());
        let millis = if left.is_zero() { 0 } else { left.as_millis() + 1 };
        // A wait longer than the type holds is cut short: every caller looks at the deadline again.
        PollTimeout::from(u16::try_from(millis).unwrap_or(u16::MAX))
    })
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
