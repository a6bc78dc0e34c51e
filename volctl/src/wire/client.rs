//! A blocking client of the daemon's socket, for the command line and the window.

use std::ffi::OsStr;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::call::Call;
use super::frame::{CallFrame, FRAME_TIME, FrameError, FrameStream, REPLY_BYTES_MAX, ReplyFrame};
use super::outcome::Failure;
use super::status::Status;
use super::varlink;

/// Where the daemon listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/volctl/volctl.sock";
/// The environment variable that names the socket.
pub const SOCKET_VARIABLE: &str = "VOLCTL_SOCKET";

/// How long a busy daemon has to accept the connection.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// How long the daemon has for a call that only looks.
const LOOK_TIME: Duration = Duration::from_secs(10);
/// How long the daemon has for a call that acts: a release unmounts, publishes, and may check a file system.
const ACT_TIME: Duration = Duration::from_mins(3);
/// What is added to the wait that a call names itself.
const WAIT_SLACK: Duration = Duration::from_secs(10);

/// The socket's path: the option, else `$VOLCTL_SOCKET`, else the default (section 9).
#[must_use]
pub fn socket_path(option: Option<&Path>) -> PathBuf {
    choose_socket(option, std::env::var_os(SOCKET_VARIABLE).as_deref())
}

fn choose_socket(option: Option<&Path>, variable: Option<&OsStr>) -> PathBuf {
    option
        .or_else(|| variable.filter(|value| !value.is_empty()).map(Path::new))
        .unwrap_or_else(|| Path::new(DEFAULT_SOCKET))
        .to_owned()
}

/// Connects to a Unix socket without ever hanging in `connect`: a stopped listener with a full queue is an error.
///
/// # Errors
/// As `connect(2)`; `WouldBlock` when the queue stayed full for `limit`.
pub fn connect_socket(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let address = UnixAddr::new(path)?;
    let deadline = Instant::now() + limit;
    loop {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        match connect(fd.as_raw_fd(), &address) {
            Ok(()) => return Ok(fd.into()),
            // Linux has no way to wait for room in the queue of a Unix listener.
            Err(Errno::EAGAIN) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// A connection to the daemon; calls go one after the other.
#[derive(Debug)]
pub struct Client {
    stream: FrameStream,
    path: PathBuf,
}

/// Ends a call from another thread.
#[derive(Debug)]
pub struct HangUp(UnixStream);

impl HangUp {
    /// Closes the connection: a call under way ends with a failure.
    pub fn hang_up(&self) {
        // It may be closed already, and then there is nothing left to do.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl Client {
    /// Connects to the daemon at `path`.
    ///
    /// # Errors
    /// A [`Failure`]: exit 7 when nobody listens there, 5 when it is too busy to answer, 2 for an impossible path.
    pub fn connect(path: &Path) -> Result<Self, Failure> {
        let stream = connect_socket(path, CONNECT_TIME).map_err(|error| connect_failure(path, &error))?;
        let stream = FrameStream::new(stream, REPLY_BYTES_MAX).map_err(|error| frame_failure(path, &error))?;
        Ok(Self { stream, path: path.to_owned() })
    }

    /// A handle with which another thread can end a call of this connection.
    ///
    /// # Errors
    /// A [`Failure`] when no further file descriptor can be had.
    pub fn hang_up_handle(&self) -> Result<HangUp, Failure> {
        let clone = self.stream.socket().try_clone();
        clone.map(HangUp).map_err(|error| frame_failure(&self.path, &FrameError::Io(error)))
    }

    /// Makes a call with one reply and returns its parameters.
    ///
    /// # Errors
    /// The daemon's own [`Failure`]; exit 7 when it went away, 4 when it took too long.
    pub fn call(&mut self, call: &Call) -> Result<Value, Failure> {
        self.send(call, false)?;
        let reply = self.receive(patience(call))?;
        Ok(reply.parameters)
    }

    /// Makes a call with one reply and decodes it.
    ///
    /// # Errors
    /// As [`Client::call`]; exit 1 when the reply has not the expected shape.
    pub fn call_as<T: DeserializeOwned>(&mut self, call: &Call) -> Result<T, Failure> {
        decode_reply(self.call(call)?)
    }

    /// The status, once.
    ///
    /// # Errors
    /// As [`Client::call_as`].
    pub fn status(&mut self) -> Result<Status, Failure> {
        self.call_as(&Call::Status)
    }

    /// Makes a call with `more` and hands each reply but the last to `each`, which returns whether to go on.
    ///
    /// Returns the last reply, or `None` when `each` wanted no more; the connection is then of no further use.
    ///
    /// # Errors
    /// As [`Client::call`], and whatever `each` returns.
    pub fn call_more(
        &mut self,
        call: &Call,
        mut each: impl FnMut(Value) -> Result<bool, Failure>,
    ) -> Result<Option<Value>, Failure> {
        self.send(call, true)?;
        let limit = if call.needs_more() { None } else { patience(call) };
        loop {
            let reply = self.receive(limit)?;
            if !reply.continues {
                return Ok(Some(reply.parameters));
            }
            if !each(reply.parameters)? {
                return Ok(None);
            }
        }
    }

    fn send(&mut self, call: &Call, more: bool) -> Result<(), Failure> {
        let frame =
            CallFrame { method: call.method(), parameters: call.parameters(), more, oneway: false, upgrade: false };
        match self.stream.write(&frame, FRAME_TIME) {
            // A daemon that refuses the connection says why before it closes: read that instead.
            Ok(()) | Err(FrameError::Gone) => Ok(()),
            Err(error) => Err(frame_failure(&self.path, &error)),
        }
    }

    fn receive(&mut self, limit: Option<Duration>) -> Result<ReplyFrame, Failure> {
        let reply = self.stream.read::<ReplyFrame>(limit, FRAME_TIME);
        let reply = reply.map_err(|error| frame_failure(&self.path, &error))?;
        let reply = reply.ok_or_else(|| frame_failure(&self.path, &FrameError::Gone))?;
        match &reply.error {
            Some(error) => Err(varlink::failure_of(error, &reply.parameters)),
            None => Ok(reply),
        }
    }
}

/// How long to wait for each reply of a call.
fn patience(call: &Call) -> Option<Duration> {
    Some(match call {
        Call::Request(request) => {
            request.wait_ms.map_or(ACT_TIME, |wait| Duration::from_millis(wait).saturating_add(WAIT_SLACK))
        }
        // It waits until the writer is dead and its last writes have landed, however long these times are.
        Call::Takeover(_) => return None,
        call if call.acts() => ACT_TIME,
        _ => LOOK_TIME,
    })
}

/// Decodes the parameters of a reply.
///
/// # Errors
/// Exit 1 when they have not the expected shape.
pub fn decode_reply<T: DeserializeOwned>(parameters: Value) -> Result<T, Failure> {
    serde_json::from_value(parameters).map_err(|error| {
        Failure::failed(
            "the daemon's reply is not understood",
            error.to_string(),
            "check that program and daemon are of the same version",
        )
    })
}

fn connect_failure(path: &Path, error: &io::Error) -> Failure {
    let what = format!("no daemon answers at {}", path.display());
    let next = "start it (systemctl start volctl, or volctl daemon --config FILE), or name its socket with --socket";
    match error.kind() {
        io::ErrorKind::NotFound => Failure::no_daemon(what, "there is no such socket", next),
        io::ErrorKind::ConnectionRefused => Failure::no_daemon(
            what,
            "the socket is there, but nobody listens: the daemon ended without tidying up",
            next,
        ),
        io::ErrorKind::WouldBlock => {
            let why = "it listens but takes no connections: it hangs, is stopped, or has too many callers";
            Failure::busy(what, why, "look at the daemon's process, then try again")
        }
        _ if error.raw_os_error() == Some(Errno::ENAMETOOLONG as i32) => {
            Failure::usage(what, "the path is longer than a Unix socket's can be (107 bytes)", "use a shorter path")
        }
        _ => Failure::no_daemon(what, error.to_string(), next),
    }
}

fn frame_failure(path: &Path, error: &FrameError) -> Failure {
    match error {
        FrameError::Gone | FrameError::Cut { .. } => Failure::no_daemon(
            "the daemon went away before it had answered",
            format!("the connection at {} was closed", path.display()),
            "what was asked may have been done: look with 'volctl status' once the daemon runs again",
        ),
        FrameError::TimedOut { .. } => Failure::timed_out(
            "the daemon has not answered in time",
            error.to_string(),
            "what was asked may still be done: look with 'volctl status' and 'volctl log'",
        ),
        _ => Failure::failed(
            "talking to the daemon failed",
            error.to_string(),
            "check that the socket is volctl's and that program and daemon are of the same version",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::wire::call::VolumeCall;
    use crate::wire::outcome::ExitCode;

    fn served_by(reply: &'static [u8]) -> Failure {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).expect("bind");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            let mut buffer = [0; 4096];
            let n = stream.read(&mut buffer).expect("a call");
            assert_eq!(buffer[..n].last(), Some(&0));
            stream.write_all(reply).expect("reply");
        });
        let mut client = Client::connect(&path).expect("connect");
        let result = client.call(&Call::Release(VolumeCall { volume: "v".into() }));
        server.join().expect("server");
        result.expect_err("a failure")
    }

    #[test]
    fn the_option_wins_over_the_variable_over_the_default() {
        let variable = Some(OsStr::new("/v"));
        assert_eq!(choose_socket(Some(Path::new("/o")), variable), Path::new("/o"));
        assert_eq!(choose_socket(None, variable), Path::new("/v"));
        assert_eq!(choose_socket(None, Some(OsStr::new(""))), Path::new(DEFAULT_SOCKET));
        assert_eq!(choose_socket(None, None), Path::new(DEFAULT_SOCKET));
    }

    #[test]
    fn no_daemon_is_exit_7() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s");
        assert_eq!(Client::connect(&path).expect_err("nobody").exit, ExitCode::NoDaemon);
        drop(UnixListener::bind(&path).expect("bind"));
        assert_eq!(Client::connect(&path).expect_err("nobody listens").exit, ExitCode::NoDaemon);
        let long = dir.path().join("x".repeat(200));
        assert_eq!(Client::connect(&long).expect_err("too long").exit, ExitCode::Usage);
    }

    #[test]
    fn a_listener_that_never_accepts_does_not_hang_connect() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s");
        let _listener = UnixListener::bind(&path).expect("bind");
        let limit = Duration::from_millis(60);
        let mut held = Vec::new();
        let error = loop {
            match connect_socket(&path, limit) {
                Ok(stream) => held.push(stream),
                Err(error) => break error,
            }
            assert!(held.len() < 100_000, "the queue has an end");
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(connect_failure(&path, &error).exit, ExitCode::Busy);
    }

    #[test]
    fn the_daemons_failure_arrives_whole() {
        let failure = served_by(
            b"{\"error\":\"io.volctl.Refused\",\"parameters\":{\"exit\":3,\"what\":\"a\",\"why\":\"b\",\"next\":\"c\"}}\0",
        );
        assert_eq!(failure, Failure::refused("a", "b", "c"));
    }

    #[test]
    fn a_daemon_that_dies_in_mid_reply_is_no_daemon_and_rubbish_is_failed() {
        assert_eq!(served_by(b"").exit, ExitCode::NoDaemon);
        assert_eq!(served_by(b"{\"parameters\":").exit, ExitCode::NoDaemon);
        assert_eq!(served_by(b"HTTP/1.1 400 Bad Request\0").exit, ExitCode::Failed);
    }
}
