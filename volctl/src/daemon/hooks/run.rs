//! Runs one program to its end or to its time limit.

use std::ffi::CString;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use nix::unistd::{Uid, User};

use crate::program;
use crate::wire::outcome::{Failure, one_line};

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

/// Runs a program in a session of its own and waits; at the limit it is killed with everything that it started. What it
/// prints goes to the daemon's log, its end at least.
pub(super) fn run(
    argv: &[String],
    variables: &[(&'static str, String)],
    identity: Option<&Identity>,
    limit: Duration,
) -> Ended {
    let Some((path, arguments)) = argv.split_first() else {
        return Ended::NotStarted("no program is named".to_owned());
    };
    let mut command = program::command(path);
    command.args(arguments).envs(variables.iter().map(|(name, value)| (name, value))).current_dir("/");
    if let Some(identity) = identity {
        // With a uid the standard library also gives up all supplementary groups.
        command.uid(identity.uid).gid(identity.gid);
        command.env("USER", &identity.name).env("LOGNAME", &identity.name);
        command.env("HOME", &identity.home).env("SHELL", &identity.shell);
    }
    match program::run(&mut command, Some(limit)) {
        Ok(done) => {
            if !done.said.is_empty() {
                tracing::info!(event = "hook.output", program = path, "{}", one_line(&done.said));
            }
            done.status.map_or(Ended::Killed(limit), ended)
        }
        Err(error) => Ended::NotStarted(error.to_string()),
    }
}

fn ended(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Exited(code),
        (None, signal) => Ended::Signalled(signal.unwrap_or(0)),
    }
}
