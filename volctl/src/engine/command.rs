//! What people ask of the engine, and how they hear of it.

use std::time::Duration;

use ondisk::{AnswerVerdict, Message, RequestId, Uuid, VolumeTable};

use super::effect::{Effect, Fact};
use super::ops::TableOp;
use super::volume::{Release, Writer};
use super::world::World;
use super::{Engine, OpTag, rules};
use crate::wire::event::EventName;
use crate::wire::outcome::Failure;

/// A command's number, by which its replies find the asker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// A command.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Command {
    /// Ask for write access; with `wait` the replies go on until it is there.
    Request {
        /// The volume's name.
        volume: String,
        /// To the writer.
        message: Message,
        /// For how long to wait.
        wait: Option<Duration>,
    },
    /// Take the own request back.
    Withdraw {
        /// The volume's name.
        volume: String,
    },
    /// Answer another's request; from the person, or from the `on-request` hook.
    Answer {
        /// The volume's name.
        volume: String,
        /// The asker's name.
        client: String,
        /// The verdict.
        verdict: AnswerVerdict,
        /// To the asker.
        message: Message,
    },
    /// Give write access back.
    Release {
        /// The volume's name.
        volume: String,
    },
    /// Switch to the newest generation.
    Refresh {
        /// The volume's name.
        volume: String,
    },
    /// Mount for reading.
    Mount {
        /// The volume's name.
        volume: String,
    },
    /// Take the reader's mount away.
    Unmount {
        /// The volume's name.
        volume: String,
    },
    /// Take the privilege from a writer, as an administrator.
    Takeover {
        /// The volume's name.
        volume: String,
        /// The silent writer whose in-flight wait is skipped.
        yes_i_know: Option<String>,
    },
}

/// How a command goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reply {
    /// Something on the way; more comes.
    Progress {
        /// One word: asked, answered, granted.
        stage: &'static str,
        /// The sentence for people.
        text: String,
        /// The answer, if one came.
        answer: Option<AnswerVerdict>,
        /// Its text.
        answer_message: String,
    },
    /// Done.
    Done {
        /// The volume.
        volume: String,
        /// The sentence for people.
        text: String,
        /// The request stands on the disk and is not yet granted.
        asked: bool,
    },
    /// Not done.
    Failed(Failure),
}

/// A command that waits.
#[derive(Debug, Clone, Hash)]
pub(crate) struct Waiter {
    pub id: CommandId,
    pub volume: Uuid,
    pub name: String,
    pub until: Option<Duration>,
    pub what: Waiting,
    pub told: Option<String>,
}

/// For what.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Waiting {
    /// The request: on disk, then mounted.
    Write { request: RequestId, wait: bool },
    /// Read-only again (or locked) after a release.
    Released,
    /// This generation or a newer one.
    Refreshed(ondisk::Generation),
    /// Mounted read-only.
    Mounted,
    /// No longer mounted.
    Unmounted,
}

impl Engine {
    pub(crate) fn dispatch(&mut self, id: CommandId, command: Command, world: &World<'_>) {
        let done = match command {
            Command::Request { volume, message, wait } => self.cmd_request(id, &volume, message, wait, world),
            Command::Withdraw { volume } => self.cmd_withdraw(id, &volume, world),
            Command::Answer { volume, client, verdict, message } => {
                self.cmd_answer(id, &volume, &client, verdict, message, world)
            }
            Command::Release { volume } => self.cmd_release(id, &volume, world),
            Command::Refresh { volume } => self.cmd_refresh(id, &volume, world),
            Command::Mount { volume } => self.cmd_mount(id, &volume, world),
            Command::Unmount { volume } => self.cmd_unmount(id, &volume, world),
            Command::Takeover { volume, yes_i_know } => self.cmd_takeover(id, &volume, yes_i_know, world),
        };
        if let Err(failure) = done {
            self.reply(id, Reply::Failed(failure));
        }
    }

    pub(crate) fn reply(&mut self, id: CommandId, reply: Reply) {
        self.out.push(Effect::Reply(id, reply));
    }

    pub(crate) fn done(&mut self, id: CommandId, volume: &str, text: impl Into<String>) {
        self.reply(id, Reply::Done { volume: volume.to_owned(), text: text.into(), asked: false });
    }

    /// The volume of a name, and its table.
    pub(crate) fn named<'w>(&self, name: &str, world: &World<'w>) -> Result<&'w VolumeTable, Failure> {
        world.tables.volumes.iter().flatten().find(|t| t.name.as_str() == name).ok_or_else(|| {
            let mut names: Vec<&str> = world.tables.volumes.iter().flatten().map(|t| t.name.as_str()).collect();
            names.sort_unstable();
            let known = if names.is_empty() { "there are none".to_owned() } else { names.join(", ") };
            Failure::refused(
                format!("no volume {name}"),
                format!("the tables do not have it; the volumes are: {known}"),
                "see `volctl status`",
            )
        })
    }

    fn cmd_release(&mut self, id: CommandId, name: &str, world: &World<'_>) -> Result<(), Failure> {
        let table = self.named(name, world)?;
        if self.own_grant(table).is_none() {
            return Err(Failure::refused(
                format!("{name} cannot be released"),
                "this client does not have the write privilege",
                "see `volctl status`",
            ));
        }
        let uuid = table.uuid;
        let released = Failure::refused(
            format!("the request for {name} is over"),
            "somebody here ran `volctl release`",
            "ask again when it is needed",
        );
        let writing =
            self.volumes.get(&uuid).is_some_and(|v| matches!(v.writer, Writer::Writing(_) | Writer::Stopping(_)));
        if !writing {
            // Granted, and not yet mounted: who releases it does not want it any more.
            self.drop_request(uuid, &released);
        }
        if let Some(volume) = self.volumes.get_mut(&uuid) {
            volume.ask_release(Release::by_user(id));
            volume.release_after = Duration::ZERO;
        }
        self.wait(id, uuid, name, None, Waiting::Released);
        self.step_volume(uuid, world);
        Ok(())
    }

    fn cmd_refresh(&mut self, id: CommandId, name: &str, world: &World<'_>) -> Result<(), Failure> {
        let table = self.named(name, world)?;
        let uuid = table.uuid;
        let newest = world.newest_generation(table);
        let seen = self.volumes.get(&uuid).and_then(super::volume::Volume::seen);
        match seen {
            None => Err(Failure::refused(
                format!("{name} cannot be refreshed"),
                "it is not mounted read-only here",
                "see `volctl status` for the reason",
            )),
            Some(seen) if seen >= newest => {
                self.done(id, name, format!("{name} is current: generation {seen}"));
                Ok(())
            }
            Some(_) => {
                if let Some(volume) = self.volumes.get_mut(&uuid) {
                    volume.refresh_now = true;
                    volume.forget_failure();
                }
                self.wait(id, uuid, name, Some(world.now + Duration::from_secs(60)), Waiting::Refreshed(newest));
                self.step_volume(uuid, world);
                Ok(())
            }
        }
    }

    fn cmd_mount(&mut self, id: CommandId, name: &str, world: &World<'_>) -> Result<(), Failure> {
        let table = self.named(name, world)?;
        if table.permission(self.me()).access == ondisk::Access::None {
            let me = world.name(self.me());
            return Err(Failure::refused(
                format!("{name} cannot be mounted"),
                format!("rule mount access: {me} has access none to {name}"),
                format!("an administrator can run `volctl allow {me} {name} read`"),
            ));
        }
        let uuid = table.uuid;
        if self.own_grant(table).is_some() {
            return Err(Failure::refused(
                format!("{name} is not mounted read-only"),
                "this client has the write privilege",
                format!("release it first: `volctl release {name}`"),
            ));
        }
        if let Some(volume) = self.volumes.get_mut(&uuid) {
            volume.user_unmounted = false;
            volume.forget_failure();
        }
        self.wait(id, uuid, name, Some(world.now + Duration::from_secs(60)), Waiting::Mounted);
        self.step_volume(uuid, world);
        Ok(())
    }

    fn cmd_unmount(&mut self, id: CommandId, name: &str, world: &World<'_>) -> Result<(), Failure> {
        let table = self.named(name, world)?;
        if self.own_grant(table).is_some() {
            return Err(Failure::refused(
                format!("{name} cannot be unmounted"),
                "this client has the write privilege",
                format!("release it first: `volctl release {name}`"),
            ));
        }
        let uuid = table.uuid;
        if let Some(volume) = self.volumes.get_mut(&uuid) {
            volume.user_unmounted = true;
            volume.forget_failure();
        }
        self.wait(id, uuid, name, Some(world.now + Duration::from_secs(60)), Waiting::Unmounted);
        self.step_volume(uuid, world);
        Ok(())
    }

    fn cmd_takeover(
        &mut self,
        id: CommandId,
        name: &str,
        yes_i_know: Option<String>,
        world: &World<'_>,
    ) -> Result<(), Failure> {
        let table = self.named(name, world)?;
        rules::may_ask(world, self.me(), table)?;
        rules::is_admin(world, self.me())?;
        let uuid = table.uuid;
        if let Some(writer) = &yes_i_know {
            let grant = table.writer.filter(|g| world.name(g.slot) == *writer);
            let Some(grant) = grant else {
                return Err(Failure::usage(
                    format!("{writer} does not write {name}"),
                    "the name after --yes-i-know must be the writer's",
                    "see `volctl status`",
                ));
            };
            if world.writer_lives(&grant) {
                return Err(Failure::refused(
                    format!("{writer} is not silent"),
                    "--yes-i-know skips only the in-flight wait of a writer that is silent",
                    format!("run `volctl takeover {name}` without it: {writer} is made to stop first"),
                ));
            }
        }
        if self.own_grant(table).is_some() {
            self.done(id, name, format!("{name} is yours already"));
            return Ok(());
        }
        if self.leaving.is_some() {
            return Err(Failure::failed("no takeover now", "the daemon is logging off", "start it again"));
        }
        // It is an ordinary wish for the grant; the rules for dead and revoked grants do the rest.
        let request = self.put_request(uuid, Message::cut("takeover by an administrator"), world)?;
        if let Some(volume) = self.volumes.get_mut(&uuid) {
            volume.skip_inflight = table.writer.filter(|_| yes_i_know.is_some()).map(|g| g.epoch);
            volume.breaks_foreign = true;
            volume.forget_failure();
        }
        let from = table.writer.map(|g| world.name(g.slot)).unwrap_or_default();
        let whom = if from.is_empty() { String::new() } else { format!(" from {from}") };
        self.fact(Fact::of(EventName::TakeoverStarted, name, format!("{name} is being taken over{whom}")).client(from));
        if let Some(g) = table.writer.filter(|g| world.writer_lives(g)) {
            let op = TableOp::Revoke { volume: uuid, epoch: g.epoch, request };
            self.out.push(Effect::Table { tag: OpTag::Takeover(uuid, g.epoch), op });
        }
        self.wait(id, uuid, name, None, Waiting::Write { request, wait: true });
        Ok(())
    }

    pub(crate) fn wait(&mut self, id: CommandId, volume: Uuid, name: &str, until: Option<Duration>, what: Waiting) {
        self.waiters.push(Waiter { id, volume, name: name.to_owned(), until, what, told: None });
    }
}
