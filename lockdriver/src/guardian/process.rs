//! The guardian's own process: how it makes itself hard to stop, and its one loop.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;

use super::closing::{self, Shared};
use super::orders;
use super::protocol::{Answer, Hello, Order, Refusal, Request, Welcome, Word};
use crate::deadline::{LeaseView, SharedDeadline};
use crate::gate::mounts::detach_empty;
use crate::sys::{clock, fdpass, memory, pidfd::PidFd, process};
use crate::trust::open_lock_file;

/// How long a daemon has to greet.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a guardian that is just ending is waited for.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// Stands in the lock file while gates are being closed.
pub(super) const CLOSING: &str = "closing";
/// Largest pause of the loop, whatever the lease.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Runs the guardian: the hidden command `guardian` of the binary, started by [`super::Guardian::spawn`] with a socket as its
/// standard input. Returns when the daemon is gone, or has said good-bye, and nothing is left open.
#[must_use]
pub fn main() -> ExitCode {
    let prepared = process::ignore_polite_signals()
        .and_then(|()| process::detach())
        .and_then(|()| io::stdin().as_fd().try_clone_to_owned());
    match prepared.and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the guardian could not start");
            ExitCode::FAILURE
        }
    }
}

fn run(socket: OwnedFd) -> io::Result<()> {
    let Some((id, hello, deadline)) = greeting(&socket)? else {
        return Ok(());
    };
    let refuse = |refusal| {
        let word = Word::Reply { id, result: Err(refusal) };
        fdpass::send(socket.as_fd(), &serde_json::to_vec(&word)?, &[], true)
    };
    // Held until this process has ended with all its threads: a thread that hangs in a closing keeps it, and so tells.
    let lock = match take_lock(&hello.lock_path) {
        Ok(Some(lock)) => lock,
        Ok(None) => return refuse(Refusal::LockHeld),
        Err(error) => {
            return refuse(Refusal::LockFile { errno: error.raw_os_error() });
        }
    };
    let daemon = PidFd::open(hello.daemon_pid)?;
    let wake = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    let shared = Shared::new(deadline, Duration::from_nanos(hello.lease_nanos), socket, wake, lock);
    shared.deadline.tick_guardian(clock::boottime());
    shared.reply(id, Ok(Answer::Welcome(harden())));
    let mount_root = hello.mount_root;
    Watch { shared, daemon, ended: false, leaving: false, orphaned: false, swept: false, mount_root }.run()
}

/// Waits for the greeting; `None` when the daemon went away before it.
fn greeting(socket: &OwnedFd) -> io::Result<Option<(u64, Hello, SharedDeadline)>> {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    if ppoll(&mut fds, Some(TimeSpec::from(GREETING_TIMEOUT)), None)? == 0 {
        return Err(io::Error::from(io::ErrorKind::TimedOut));
    }
    let Some((packet, mut fds)) = fdpass::receive(socket.as_fd())? else {
        return Ok(None);
    };
    let request: Request = serde_json::from_slice(&packet)?;
    match (request.order, fds.pop()) {
        (Order::Hello(hello), Some(memory)) => Ok(Some((request.id, hello, SharedDeadline::from_fd(memory)?))),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the first packet is no greeting")),
    }
}

/// Takes the guardian's lock file and writes process number and start time into it. `None` while another guardian has it.
fn take_lock(path: &Path) -> io::Result<Option<File>> {
    let file = open_lock_file(path)?;
    let begun = Instant::now();
    while let Err(error) = file.try_lock() {
        match error {
            std::fs::TryLockError::WouldBlock if begun.elapsed() < LOCK_TIMEOUT => {
                std::thread::sleep(Duration::from_millis(10));
            }
            std::fs::TryLockError::WouldBlock => return Ok(None),
            std::fs::TryLockError::Error(error) => return Err(error),
        }
    }
    write_holder(&file, false)?;
    Ok(Some(file))
}

/// Says who holds the lock file, and whether that process may be killed: not while it closes gates (see [`super::closing`]).
pub(super) fn write_holder(file: &File, closing: bool) -> io::Result<()> {
    let pid = std::process::id();
    // Of one length and in one write, so that nobody reads the half of it.
    let line = format!("{pid} {} {:7}\n", start_time(pid)?, if closing { CLOSING } else { "" });
    file.write_all_at(line.as_bytes(), 0)?;
    file.set_len(u64::try_from(line.len()).unwrap_or(0))
}

/// When the process was started, in clock ticks after boot: with its number this names it for good.
pub(super) fn start_time(pid: u32) -> io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name stands in brackets and may hold anything; the start time is the 20th field after it.
    let field = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19));
    field
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/PID/stat"))
}

/// Makes the process hard to stop, as far as it may, and says how far that was.
fn harden() -> Welcome {
    let _ = std::env::set_current_dir("/");
    Welcome {
        pid: std::process::id(),
        own_cgroup: leave_cgroup().is_ok(),
        spared_by_oom: std::fs::write("/proc/self/oom_score_adj", "-1000").is_ok(),
        real_time: process::become_real_time().is_ok(),
        memory_locked: memory::lock_all_memory().is_ok(),
    }
}

/// Out of the daemon's cgroup, so that what stops or kills that one as a whole leaves this process alone (trace A11).
fn leave_cgroup() -> io::Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    std::fs::metadata(root.join("cgroup.controllers"))?;
    let own = root.join("volctl-guardian");
    match std::fs::create_dir(&own) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    std::fs::write(own.join("cgroup.procs"), "0")
}

/// The one loop.
struct Watch {
    shared: Arc<Shared>,
    daemon: PidFd,
    /// The end of the lease has been acted upon.
    ended: bool,
    /// The daemon is gone or has said good-bye.
    leaving: bool,
    /// The daemon is gone without a good-bye.
    orphaned: bool,
    /// The daemon's mount root.
    mount_root: Option<PathBuf>,
    /// What came back after its cleaning up was looked for once more.
    swept: bool,
}

impl Watch {
    fn run(mut self) -> io::Result<()> {
        loop {
            let now = clock::boottime();
            self.shared.deadline.tick_guardian(now);
            let pause = self.act(now);
            if self.leaving && self.shared.is_idle() {
                if self.swept || self.shared.run(|shared| closing::sweep(shared)).is_err() {
                    if let (true, Some(root)) = (self.orphaned, &self.mount_root) {
                        return detach_empty(root);
                    }
                    return Ok(());
                }
                self.swept = true;
            }
            self.wait(pause);
        }
    }

    /// Does what is due and says how long nothing else will be.
    fn act(&mut self, now: Duration) -> Duration {
        let tick = (self.shared.lease / 8).min(PAUSE_MAX);
        match self.shared.deadline.get(now) {
            LeaseView::NotBegun => tick,
            LeaseView::Live { until } => {
                let orderly = until.saturating_sub(self.shared.lease / 4);
                if now < orderly {
                    return tick.min(orderly - now);
                }
                closing::stop_in_order(&self.shared, until);
                tick.min(until - now)
            }
            LeaseView::Over => {
                self.close();
                tick
            }
        }
    }

    fn close(&mut self) {
        let begun = closing::close_all(&self.shared, self.leaving);
        if !self.ended {
            self.ended = true;
            let unlock = self.shared.run(|shared| shared.release_locks());
            if let Err(job) = unlock {
                job(&self.shared);
            }
            if begun == 0 {
                self.shared.say(&Word::Event(super::Event::GatesClosed));
            }
        }
    }

    fn wait(&mut self, pause: Duration) {
        let flags = PollFlags::POLLIN;
        let mut fds = vec![PollFd::new(self.shared.wake.as_fd(), flags)];
        if !self.leaving {
            fds.push(PollFd::new(self.daemon.as_fd(), flags));
            fds.push(PollFd::new(self.shared.socket.as_fd(), flags));
        }
        let pause = TimeSpec::from(pause.max(Duration::from_millis(1)));
        if ppoll(&mut fds, Some(pause), None).is_err() {
            return;
        }
        let ready = |index: usize| {
            let revents = fds.get(index).and_then(PollFd::revents);
            revents.is_some_and(|events| !events.is_empty())
        };
        let (woken, gone, heard) = (ready(0), ready(1), ready(2));
        if woken {
            let _ = self.shared.wake.read();
        }
        if gone {
            self.orphaned = true;
            self.leave();
        } else if heard {
            self.hear();
        }
    }

    /// The daemon is gone or says good-bye: first the shared word, then everything else.
    fn leave(&mut self) {
        self.shared.deadline.end();
        self.leaving = true;
    }

    fn hear(&mut self) {
        let (packet, fds) = match fdpass::receive(self.shared.socket.as_fd()) {
            Ok(Some(heard)) => heard,
            Ok(None) => {
                self.orphaned = true;
                return self.leave();
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::error!(%error, "a packet of the daemon could not be read");
                return;
            }
            // A daemon that cannot be heard any more is as good as gone.
            Err(error) => {
                tracing::error!(%error, "the daemon cannot be heard");
                return self.leave();
            }
        };
        let Ok(request) = serde_json::from_slice::<Request>(&packet) else {
            tracing::error!("a packet of the daemon could not be understood");
            return;
        };
        match request.order {
            Order::Ping => self.shared.reply(request.id, Ok(Answer::Done)),
            Order::EndLease => {
                self.shared.deadline.end();
                self.shared.reply(request.id, Ok(Answer::Done));
            }
            Order::Bye => {
                self.leave();
                self.shared.reply(request.id, Ok(Answer::Done));
            }
            _ => orders::start(&self.shared, request, fds),
        }
    }
}
