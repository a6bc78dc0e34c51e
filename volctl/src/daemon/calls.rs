//! Callers of the socket: calls become commands, replies find their way back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ondisk::Message;
use ondisk::client_page::AnswerVerdict;

use super::config::Config;
use super::event_log::EventLog;
use super::reply::ReplySender;
use super::services::verdict_of;
use super::socket::Incoming;
use crate::engine::{Command, CommandId, Reply};
use crate::wire::call::{ActReply, Call, RequestReply, RequestState, RequestsReply};
use crate::wire::outcome::Failure;
use crate::wire::status::Status;

struct Caller {
    reply: ReplySender,
    volume: String,
    request: bool,
}

/// Everybody who waits for a reply.
#[derive(Default)]
pub struct Callers {
    next: u64,
    open: BTreeMap<CommandId, Caller>,
    monitors: Vec<ReplySender>,
    shown: Option<Arc<Status>>,
}

/// The daemon is not logged on.
pub fn not_logged_on(why: &str) -> Failure {
    Failure::busy(
        "not now",
        format!("the daemon is not logged on: {why}"),
        "wait a moment; `volctl status` shows when it is",
    )
}

/// The daemon ends.
pub fn going_down() -> Failure {
    Failure::failed("the daemon ends", "it was told to", "start it again, then try again")
}

impl Callers {
    /// Answers a call that only looks.
    pub fn look(&mut self, call: Incoming, status: &Arc<Status>, log: &EventLog) {
        let Incoming { call, reply, .. } = call;
        match call {
            Call::Status => reply.done_status(status),
            Call::Requests => reply.done(&RequestsReply { requests: status.requests.clone() }),
            Call::Log(what) => log.serve(what.follow, reply),
            Call::Monitor => {
                if reply.latest(status).is_ok() {
                    self.monitors.push(reply);
                }
            }
            _ => reply.fail(Failure::usage("this call acts", "it is a command", "see the documentation")),
        }
    }

    /// Gives back what the engine has to do for a call that acts.
    pub fn command(&mut self, call: Incoming) -> Option<(CommandId, Command)> {
        let Incoming { call, reply, .. } = call;
        let text = |m: &str| {
            Message::new(m).map_err(|e| Failure::usage("the message cannot be sent", e.to_string(), "make it shorter"))
        };
        let command = (|| {
            Ok(match call {
                Call::Request(c) => Command::Request {
                    volume: c.volume,
                    message: text(&c.message)?,
                    wait: c.wait_ms.map(Duration::from_millis),
                },
                Call::Withdraw(c) => Command::Withdraw { volume: c.volume },
                Call::Answer(c) => Command::Answer {
                    volume: c.volume,
                    client: c.client,
                    verdict: verdict_of(c.answer),
                    message: text(&c.message)?,
                },
                Call::Release(c) => Command::Release { volume: c.volume },
                Call::Refresh(c) => Command::Refresh { volume: c.volume },
                Call::Mount(c) => Command::Mount { volume: c.volume },
                Call::Unmount(c) => Command::Unmount { volume: c.volume },
                Call::Takeover(c) => Command::Takeover { volume: c.volume, yes_i_know: c.yes_i_know },
                Call::Status | Call::Requests | Call::Log(_) | Call::Monitor => {
                    return Err(Failure::usage("this call only looks", "it is no command", "see the documentation"));
                }
            })
        })();
        match command {
            Ok(command) => {
                let id = self.nobody();
                let request = matches!(command, Command::Request { .. });
                let volume = volume_of(&command);
                self.open.insert(id, Caller { reply, volume, request });
                Some((id, command))
            }
            Err(failure) => {
                reply.fail(failure);
                None
            }
        }
    }

    /// A number of a command that nobody waits for.
    pub fn nobody(&mut self) -> CommandId {
        self.next += 1;
        CommandId(self.next)
    }

    /// The engine's word for a caller.
    pub fn reply(&mut self, id: CommandId, reply: Reply, config: &Config) {
        match reply {
            Reply::Progress { stage: _, text, answer, .. } => {
                let Some(caller) = self.open.get(&id) else { return };
                let state = match answer {
                    Some(AnswerVerdict::Yes) => RequestState::Yes,
                    Some(_) => RequestState::Later,
                    None => RequestState::Asked,
                };
                let word = RequestReply { volume: caller.volume.clone(), state, text, ..RequestReply::default() };
                if caller.reply.progress(&word).is_err() {
                    self.open.remove(&id);
                }
            }
            Reply::Done { volume, text, asked } => {
                let Some(caller) = self.open.remove(&id) else { return };
                let mountpoint = Some(config.mount_root.join(&volume).display().to_string());
                if caller.request {
                    let state = if asked { RequestState::Asked } else { RequestState::Mounted };
                    let mountpoint = mountpoint.filter(|_| !asked);
                    caller.reply.done(&RequestReply { volume, state, text, mountpoint, ..RequestReply::default() });
                } else {
                    caller.reply.done(&ActReply { volume, text, ..ActReply::default() });
                }
            }
            Reply::Failed(failure) => self.fail(id, failure),
        }
    }

    /// Not done.
    pub fn fail(&mut self, id: CommandId, failure: Failure) {
        if let Some(caller) = self.open.remove(&id) {
            caller.reply.fail(failure);
        }
    }

    /// Does anybody want to see every change?
    pub fn has_monitors(&self) -> bool {
        !self.monitors.is_empty()
    }

    /// Shows a changed status to those who watch.
    pub fn show(&mut self, status: &Arc<Status>) {
        if self.shown.as_ref() == Some(status) {
            return;
        }
        self.shown = Some(Arc::clone(status));
        self.monitors.retain(|m| m.latest(status).is_ok());
    }

    /// Nobody will be answered any more.
    pub fn end(&mut self, why: &Failure) {
        for (_, caller) in std::mem::take(&mut self.open) {
            caller.reply.fail(why.clone());
        }
        for monitor in std::mem::take(&mut self.monitors) {
            monitor.fail(why.clone());
        }
    }
}

fn volume_of(command: &Command) -> String {
    match command {
        Command::Request { volume, .. }
        | Command::Withdraw { volume }
        | Command::Answer { volume, .. }
        | Command::Release { volume }
        | Command::Refresh { volume }
        | Command::Mount { volume }
        | Command::Unmount { volume }
        | Command::Takeover { volume, .. } => volume.clone(),
    }
}
