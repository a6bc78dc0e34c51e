//! Other programs that this process runs, hooks and file system tools: in clean surroundings, with bounded output, within
//! a time limit.
//!
//! Nothing of this process goes along: no variable, no descriptor, no terminal, no raised limit (docs/security.md).

use std::ffi::OsStr;
use std::io::{self, PipeReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, bounded};
use lockdriver::sys::process::set_apart;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// The search path of every program, whatever this process's is.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How much of the end of a program's output is kept, in bytes.
const SAID_BYTES: usize = 2_000;
/// How long the end of the output is waited for after the program's own end: what it left running may keep it open.
const LAST_OUTPUT: Duration = Duration::from_millis(100);
/// How long a killed program may take to go; hung storage can hold it for ever.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Longest pause between two looks whether it has ended.
const LOOK_MAX: Duration = Duration::from_millis(25);

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// None: the time was over and it was killed.
    pub status: Option<ExitStatus>,
    /// The end of what it printed, on either stream.
    pub said: String,
}

/// A program to be run: the search path is all of its environment, and it is apart from this process.
#[must_use]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", PATH).stdin(Stdio::null());
    set_apart(&mut command);
    command
}

/// Runs what [`command`] has made to its end; at the limit it is killed with everything that it started.
///
/// # Errors
/// When it cannot be started.
pub fn run(command: &mut Command, limit: Option<Duration>) -> io::Result<Ended> {
    let (output, theirs) = io::pipe()?;
    command.stdout(theirs.try_clone()?).stderr(theirs);
    let spawned = command.spawn();
    // The command would keep its ends open, and the output would never be over.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let child = spawned?;
    // This process is spared when memory is out (it holds gates); what it runs is not.
    let _ = std::fs::write(format!("/proc/{}/oom_score_adj", child.id()), "0");
    let said = Said::listen(output);
    let status = wait(child, limit);
    Ok(Ended { status: status?, said: said.end() })
}

fn wait(mut child: Child, limit: Option<Duration>) -> io::Result<Option<ExitStatus>> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let left = limit.map(|limit| limit.saturating_sub(started.elapsed()));
        if left.is_some_and(|left| left.is_zero()) {
            kill(child);
            return Ok(None);
        }
        thread::sleep(left.map_or(pause, |left| pause.min(left)));
        pause = (pause * 2).min(LOOK_MAX);
    }
}

/// Kills the whole group. A program that hangs on dead storage is waited for by a thread of its own.
fn kill(mut child: Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        // The child is not reaped yet, so its number cannot be another's.
        let _already_gone = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    let since = Instant::now();
    while since.elapsed() < LAST_WORDS {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        thread::sleep(LOOK_MAX);
    }
    thread::spawn(move || child.wait());
}

/// The end of a program's output. Read to its end, however long that is, so that nothing that it left running dies of a
/// closed pipe; kept only in part.
struct Said {
    end: Arc<Mutex<Vec<u8>>>,
    over: Receiver<()>,
}

impl Said {
    fn listen(mut output: PipeReader) -> Self {
        let end = Arc::new(Mutex::new(Vec::new()));
        let (ending, over) = bounded::<()>(0);
        let kept = Arc::clone(&end);
        let body = move || {
            let _ending = ending;
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut piece) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(&piece[..length]);
                let surplus = kept.len().saturating_sub(SAID_BYTES);
                kept.drain(..surplus);
            }
        };
        // Without a thread there is no reader: the program may die of the closed pipe, and that is told as its end.
        let _ = thread::Builder::new().name("said".into()).stack_size(64 * 1024).spawn(body);
        Self { end, over }
    }

    fn end(self) -> String {
        // It ends by being disconnected.
        let _ = self.over.recv_timeout(LAST_OUTPUT);
        let kept = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&kept).trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Ended {
        run(command("sh").args(["-c", script]), Some(Duration::from_secs(20))).expect("it runs")
    }

    #[test]
    fn a_program_beyond_its_limit_is_killed() {
        let started = Instant::now();
        let ended = run(command("sleep").arg("60"), Some(Duration::from_millis(30))).expect("it runs");
        assert!(ended.status.is_none());
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let error = run(&mut command("/nonexistent/e2fsck"), None).expect_err("not there");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    /// A checker that finds a million faults printed them all into memory.
    #[test]
    fn of_endless_output_the_end_is_kept_and_no_more() {
        let ended = shell("yes 0123456789 | head -c 20000000; echo the end >&2");
        assert!(ended.said.ends_with("the end"), "{}", ended.said);
        assert!(ended.said.len() <= SAID_BYTES);
    }

    #[test]
    fn what_a_program_leaves_running_holds_nobody_up_and_lives_on() {
        let started = Instant::now();
        let ended = shell("{ sleep 30; } & echo $!");
        assert!(started.elapsed() < Duration::from_secs(20));
        let left = Pid::from_raw(ended.said.parse().expect("a process number"));
        assert!(nix::sys::signal::kill(left, None).is_ok(), "it was not killed");
        let _ = nix::sys::signal::kill(left, Signal::SIGKILL);
    }

    /// A daemon in the foreground has root's terminal: a hook in its session could have typed into that.
    #[test]
    fn nothing_of_this_process_goes_along() {
        let open = std::fs::File::open("/dev/null").expect("a descriptor");
        // A high number that is not closed at exec: such as a service manager or a shell hands on.
        let number = nix::fcntl::fcntl(&open, nix::fcntl::FcntlArg::F_DUPFD(700)).expect("inheritable").to_string();
        let ended = shell("ls /proc/self/fd; env; cut -d' ' -f5,6,7 /proc/self/stat; cat /proc/self/oom_score_adj");
        assert!(!ended.said.lines().any(|line| line == number), "descriptor {number} went along: {}", ended.said);
        assert!(!ended.said.contains("CARGO") && ended.said.contains(PATH), "{}", ended.said);
        let ids = ended.said.lines().rev().nth(1).expect("process group, session, terminal");
        let ids: Vec<&str> = ids.split(' ').collect();
        let own = nix::unistd::getsid(None).expect("a session").to_string();
        assert!(ids[1] != own && ids[2] == "0", "a session of its own, and no terminal: {ids:?}");
        assert!(ended.said.ends_with("\n0"), "{}", ended.said);
    }
}
