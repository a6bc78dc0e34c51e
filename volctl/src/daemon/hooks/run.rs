//! Runs one program to its end or to its time limit.

use std::ffi::CString;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, Uid, User};

use crate::wire::outcome::Failure;

/// The search path of hooks, whatever the daemon's is.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Whom a program runs as.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    uid: u32,
    gid: u32,
    name: String,
    home: PathBuf,
    shell: PathBuf,
}

impl Identity {
    /// Looks the user up; `None` when it is the daemon's own user.
    pub(super) fn look_up(name: &str) -> Result<Option<Self>, Failure> {
        let what = format!("hooks cannot run as user '{name}'");
        let next = "correct 'user' in the [hooks] section of the configuration";
        if CString::new(name).is_err() {
            return Err(Failure::usage(what, "the name contains a NUL", next));
        }
        let user = match User::from_name(name) {
            Ok(Some(user)) => user,
            Ok(None) => return Err(Failure::usage(what, "there is no such user", next)),
            Err(errno) => {
                return Err(Failure::failed(what, errno.to_string(), "look at the user database"));
            }
        };
        if user.uid == Uid::effective() {
            return Ok(None);
        }
        if !Uid::effective().is_root() {
            let why = format!("the daemon itself runs as user {}, and only root can become another", Uid::effective());
            return Err(Failure::usage(what, why, next));
        }
        let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
        Ok(Some(Self { uid, gid, name: user.name, home: user.dir, shell: user.shell }))
    }
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Exited(i32),
    Signalled(i32),
    Killed(Duration),
    NotStarted(String),
}

/// Runs a program in a process group of its own and waits; at the limit the whole group is killed.
pub(super) fn run(
    argv: &[String],
    variables: &[(&'static str, String)],
    identity: Option<&Identity>,
    limit: Duration,
) -> Ended {
    let Some((program, arguments)) = argv.split_first() else {
        return Ended::NotStarted("no program is named".to_owned());
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .process_group(0);
    if let Some(identity) = identity {
        // With a uid the standard library also gives up all supplementary groups.
        command.uid(identity.uid).gid(identity.gid);
        command.env("USER", &identity.name).env("LOGNAME", &identity.name);
        command.env("HOME", &identity.home).env("SHELL", &identity.shell);
    }
    match command.spawn() {
        Ok(child) => wait(child, limit),
        Err(error) => Ended::NotStarted(error.to_string()),
    }
}

fn wait(mut child: Child, limit: Duration) -> Ended {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return ended(status),
            Ok(None) if Instant::now() >= deadline => break,
            Ok(None) => {
                thread::sleep(pause.min(deadline.saturating_duration_since(Instant::now())));
                pause = (pause * 2).min(Duration::from_millis(25));
            }
            Err(error) => return Ended::NotStarted(error.to_string()),
        }
    }
    if let Ok(group) = i32::try_from(child.id()) {
        // The child is not reaped yet, so its number cannot be another's.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    // A killed process ends as soon as the kernel lets it; only this thread waits for that.
    let _ = child.wait();
    Ended::Killed(limit)
}

fn ended(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Exited(code),
        (None, signal) => Ended::Signalled(signal.unwrap_or(0)),
    }
}
