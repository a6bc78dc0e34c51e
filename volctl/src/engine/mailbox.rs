//! Messages both ways: own requests and their answers, others' requests and what is said to them (section 7; 15C).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ondisk::client_page::{ANSWERS, AnswerVerdict, REQUESTS};
use ondisk::{Answer, AutoResponse, Message, Request, RequestId, SlotIndex, Uuid, VolumeTable};

use super::command::{CommandId, Reply, Waiter, Waiting};
use super::effect::{Effect, Fact};
use super::volume::{Release, Volume};
use super::world::{Standing, World};
use super::{Engine, rules};
use crate::wire::event::EventName;
use crate::wire::outcome::Failure;

/// How long a command without `--wait` waits for the mount of a volume that nobody has.
const SHORT_WAIT: Duration = Duration::from_secs(60);

/// What the mailbox remembers between polls.
#[derive(Debug, Clone, Default, Hash)]
pub struct Mailbox {
    /// Requests of others that were told to the person.
    told: BTreeSet<RequestId>,
    /// Volumes for which others ask this client.
    asked: BTreeSet<Uuid>,
    /// Own requests: first seen by this daemon.
    since: BTreeMap<RequestId, Duration>,
    /// Own requests: the answers already told, and whose they were.
    heard: BTreeMap<RequestId, (SlotIndex, AnswerVerdict, Message)>,
}

impl Mailbox {
    /// Does somebody ask this client for the volume?
    pub fn concerns(&self, volume: Uuid) -> bool {
        self.asked.contains(&volume)
    }

    /// Is anything under way that a quick poll serves?
    pub fn hurried(&self) -> bool {
        !self.asked.is_empty()
    }
}

impl Engine {
    pub(crate) fn cmd_request(
        &mut self,
        id: CommandId,
        name: &str,
        message: Message,
        wait: Option<Duration>,
        world: &World<'_>,
    ) -> Result<(), Failure> {
        let table = self.named(name, world)?;
        let uuid = table.uuid;
        rules::may_ask(world, self.me(), table)?;
        if self.leaving.is_some() {
            return Err(Failure::failed("no request now", "the daemon is logging off", "start it again, then ask"));
        }
        if let Some(volume) = self.volumes.get_mut(&uuid) {
            volume.forget_failure();
            if volume.keeps_writing() {
                self.done(id, name, format!("{name} is yours already"));
                return Ok(());
            }
        }
        let request = self.put_request(uuid, message, world)?;
        let asked = world.writer_to_ask(self.me(), table).is_some();
        if wait.is_none() && asked {
            self.done_asking(id, name, table, world);
            return Ok(());
        }
        // With nobody to ask, the answer is the mount itself.
        let until = Some(world.now + wait.unwrap_or(SHORT_WAIT));
        self.wait(id, uuid, name, until, Waiting::Write { request, wait: wait.is_some() });
        self.step_volume(uuid, world);
        Ok(())
    }

    /// The request stands on the disk: that is all that was wanted.
    pub(crate) fn done_asking(&mut self, id: CommandId, name: &str, table: &VolumeTable, world: &World<'_>) {
        self.out.push(Effect::Page);
        let text = match world.writer_to_ask(self.me(), table) {
            Some(writer) => format!("asked {} for {name}; see `volctl status`", world.name(writer)),
            None => format!("asked for {name}; see `volctl status`"),
        };
        self.reply(id, Reply::Done { volume: name.to_owned(), text, asked: true });
    }

    /// Puts a request into the own page (or keeps the one that stands, with the new message) and returns its id.
    pub(crate) fn put_request(
        &mut self,
        volume: Uuid,
        message: Message,
        world: &World<'_>,
    ) -> Result<RequestId, Failure> {
        let table = world.table(volume);
        let to = table.and_then(|t| t.writer).map_or(self.me(), |g| g.slot);
        self.page_dirty = true;
        if let Some(volume) = self.volumes.get_mut(&volume) {
            volume.breaks_foreign = false;
        }
        if let Some(request) = self.page.requests.iter_mut().find(|r| r.volume == volume) {
            request.message = message;
            request.to = to;
            let id = request.id;
            self.mailbox.heard.remove(&id);
            return Ok(id);
        }
        if self.page.requests.len() >= REQUESTS {
            return Err(Failure::busy(
                "no room for another request",
                format!("{REQUESTS} requests of this client stand already"),
                "withdraw one: `volctl withdraw VOLUME`",
            ));
        }
        let id = RequestId(self.next_id);
        // Any sequence of odd steps visits all 64-bit numbers; the start is random.
        self.next_id = self.next_id.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.page.requests.push(Request {
            id,
            number: world.next_number(volume),
            volume,
            to,
            created_ms: world.wall_ms,
            message: message.clone(),
        });
        self.mailbox.since.insert(id, world.now);
        if let Some(table) = table {
            let name = table.name.as_str();
            let asked = world.writer_to_ask(self.me(), table).map(|writer| world.name(writer));
            let whom = asked.as_ref().map_or_else(String::new, |writer| format!(" {writer}"));
            let fact =
                Fact::of(EventName::RequestMade, name, format!("asked{whom} for {name}{}", after_colon(&message)));
            self.fact(fact.client(asked.unwrap_or_default()).message(message.as_str()));
        }
        Ok(id)
    }

    pub(crate) fn cmd_withdraw(&mut self, id: CommandId, name: &str, world: &World<'_>) -> Result<(), Failure> {
        let uuid = self.named(name, world)?.uuid;
        if self.page.request(uuid).is_none() {
            return Err(Failure::refused(
                format!("no request for {name} to withdraw"),
                "this client does not ask for it",
                "see `volctl status`",
            ));
        }
        let withdrawn = Failure::refused(
            format!("the request for {name} was withdrawn"),
            "somebody here ran `volctl withdraw`",
            "ask again when it is needed",
        );
        self.drop_request(uuid, &withdrawn);
        self.fact(Fact::of(EventName::RequestWithdrawn, name, format!("the request for {name} is withdrawn")));
        self.out.push(Effect::Page);
        self.done(id, name, format!("the request for {name} is withdrawn"));
        Ok(())
    }

    /// The request has come to nothing; whoever waits for it hears why.
    pub(crate) fn drop_request(&mut self, volume: Uuid, why: &Failure) {
        self.take_request_away(volume);
        let (gone, kept): (Vec<Waiter>, Vec<Waiter>) = std::mem::take(&mut self.waiters)
            .into_iter()
            .partition(|w| w.volume == volume && matches!(w.what, Waiting::Write { .. }));
        self.waiters = kept;
        for waiter in gone {
            self.reply(waiter.id, Reply::Failed(why.clone()));
        }
    }

    pub(crate) fn take_request_away(&mut self, volume: Uuid) {
        if let Some(at) = self.page.requests.iter().position(|r| r.volume == volume) {
            let request = self.page.requests.remove(at);
            self.mailbox.since.remove(&request.id);
            self.mailbox.heard.remove(&request.id);
            self.page_dirty = true;
        }
    }

    pub(crate) fn cmd_answer(
        &mut self,
        id: CommandId,
        name: &str,
        client: &str,
        verdict: AnswerVerdict,
        message: Message,
        world: &World<'_>,
    ) -> Result<(), Failure> {
        let table = self.named(name, world)?;
        let standing = world.queue(table).into_iter().find(|s| world.name(s.from.slot) == client);
        let Some(Standing { from, request }) = standing else {
            return Err(Failure::refused(
                format!("{client} does not ask for {name}"),
                "there is no such request, or it was withdrawn",
                "see `volctl requests`",
            ));
        };
        if self.own_grant(table).is_none() {
            return Err(Failure::refused(
                format!("no answer to {client}"),
                format!("this client does not write {name}, so it has nothing to give"),
                "see `volctl status` for the writer",
            ));
        }
        let (uuid, slot, request) = (table.uuid, from.slot, request.id);
        let text = format!("told {client} {} for {name}{}", word(verdict), after_colon(&message));
        let fact = Fact::of(EventName::RequestAnswered, name, text).client(client).message(message.as_str());
        if verdict == AnswerVerdict::Yes {
            if let Some(volume) = self.volumes.get_mut(&uuid) {
                if let Some((other, _)) = volume.release.as_ref().and_then(|r| r.to).filter(|to| to.0 != slot) {
                    return Err(Failure::busy(
                        format!("no yes to {client}"),
                        format!("{name} is just being handed to {}", world.name(other)),
                        "the request stands and has its place in the queue",
                    ));
                }
                let mut release = Release::to(slot, request, message);
                release.commands.push(id);
                volume.ask_release(release);
                volume.release_after = Duration::ZERO;
            }
            self.fact(fact);
            self.wait(id, uuid, name, None, Waiting::Released);
            self.step_volume(uuid, world);
        } else {
            if !self.put_answer(slot, request, uuid, verdict, message) {
                return Err(Failure::busy(
                    format!("no answer to {client}"),
                    format!("{ANSWERS} refusals of this client stand already"),
                    "each goes when its request is taken back; answer again then",
                ));
            }
            self.fact(fact);
            self.out.push(Effect::Page);
            self.done(id, name, format!("answered {client}"));
        }
        Ok(())
    }

    /// Puts an answer into the page. When it is full, the oldest `later` goes, then the oldest `yes`: the table tells
    /// those. False: there is no room.
    pub(crate) fn put_answer(
        &mut self,
        to: SlotIndex,
        request: RequestId,
        volume: Uuid,
        verdict: AnswerVerdict,
        message: Message,
    ) -> bool {
        let answers = &mut self.page.answers;
        let answer = Answer { request, to, volume, verdict, message };
        if answers.contains(&answer) {
            return true;
        }
        answers.retain(|a| a.request != request);
        if answers.len() >= ANSWERS {
            let oldest = |verdict| answers.iter().position(|a| a.verdict == verdict);
            match oldest(AnswerVerdict::Later).or_else(|| oldest(AnswerVerdict::Yes)) {
                Some(oldest) => drop(answers.remove(oldest)),
                None => return false,
            }
        }
        answers.push(answer);
        self.page_dirty = true;
        true
    }

    /// Looks through all pages once a poll.
    pub(crate) fn serve_mailbox(&mut self, world: &World<'_>) {
        self.prune_answers(world);
        self.hear_answers(world);
        self.hear_requests(world);
    }

    /// An answer stays until the request has gone from the asker's page.
    fn prune_answers(&mut self, world: &World<'_>) {
        let before = self.page.answers.len();
        self.page.answers.retain(|a| {
            world
                .peer(a.to)
                .is_some_and(|p| p.current_page().is_none_or(|page| page.requests.iter().any(|r| r.id == a.request)))
        });
        self.page_dirty |= self.page.answers.len() != before;
    }

    fn hear_answers(&mut self, world: &World<'_>) {
        let requests = self.page.requests.clone();
        for request in requests {
            let since = *self.mailbox.since.entry(request.id).or_insert(world.now);
            let Some(table) = world.table(request.volume) else {
                self.drop_request(request.volume, &gone());
                continue;
            };
            if self.own_grant(table).is_some() {
                continue;
            }
            self.follow_writer(&request, table);
            if let Some((from, answer)) = self.answer_in_pages(&request, table, world) {
                self.hear(table, from, &answer, world);
            }
            if world.now >= since + self.setup.periods.request_timeout {
                let failure = Failure::timed_out(
                    format!("nobody answered the request for {}", table.name),
                    format!("it stood for {} s", self.setup.periods.request_timeout.as_secs()),
                    "ask again",
                );
                self.fact(Fact::of(EventName::RequestTimedOut, table.name.as_str(), failure.to_string()));
                self.drop_request(request.volume, &failure);
            }
        }
    }

    /// What the writer says; with no writer, what the one says who was asked last. Older words of others do not count.
    fn answer_in_pages(
        &self,
        request: &Request,
        table: &VolumeTable,
        world: &World<'_>,
    ) -> Option<(SlotIndex, Answer)> {
        let asked = table.writer.map_or(request.to, |g| g.slot);
        let page = world.peer(asked)?.current_page()?;
        let by_volume = |a: &&Answer| a.to == self.me() && a.volume == request.volume;
        let is_to = |a: &&Answer| a.request == request.id || !self.setup.switches.answers_by_id && by_volume(a);
        page.answers.iter().find(is_to).map(|a| (asked, a.clone()))
    }

    /// `to` follows the volume's writer, the id stays.
    fn follow_writer(&mut self, request: &Request, table: &VolumeTable) {
        let Some(grant) = table.writer.filter(|g| g.slot != request.to) else { return };
        if let Some(own) = self.page.requests.iter_mut().find(|r| r.id == request.id) {
            own.to = grant.slot;
            self.page_dirty = true;
        }
    }

    fn hear(&mut self, table: &VolumeTable, slot: SlotIndex, answer: &Answer, world: &World<'_>) {
        let news = (slot, answer.verdict, answer.message.clone());
        if self.mailbox.heard.get(&answer.request) == Some(&news) {
            return;
        }
        self.mailbox.heard.insert(answer.request, news);
        let from = world.name(slot);
        let said = after_colon(&answer.message);
        let text = format!("{from} says {} for {}{said}", word(answer.verdict), table.name);
        let fact = Fact::of(EventName::AnswerReceived, table.name.as_str(), text.clone());
        self.fact(fact.client(from.as_str()).message(answer.message.as_str()));
        let waiting: Vec<CommandId> = self
            .waiters
            .iter()
            .filter(|w| matches!(w.what, Waiting::Write { request, .. } if request == answer.request))
            .map(|w| w.id)
            .collect();
        for id in waiting {
            self.reply(
                id,
                Reply::Progress {
                    stage: "answered",
                    text: text.clone(),
                    answer: Some(answer.verdict),
                    answer_message: answer.message.to_string(),
                },
            );
        }
        if answer.verdict == AnswerVerdict::No {
            let failure = Failure::refused(
                format!("no write access to {}", table.name),
                format!("{from} said no{said}"),
                "ask again later, or talk to each other",
            );
            self.drop_request(table.uuid, &failure);
        }
    }

    /// Requests for volumes that this client writes: told once, answered by itself where that is allowed.
    fn hear_requests(&mut self, world: &World<'_>) {
        let mut asked = BTreeSet::new();
        let mut standing_ids = BTreeSet::new();
        let me = self.me();
        for table in world.tables.volumes.iter().flatten() {
            if self.own_grant(table).is_none() {
                continue;
            }
            for standing in world.queue(table).into_iter().filter(|s| s.from.slot != me) {
                standing_ids.insert(standing.request.id);
                asked.insert(table.uuid);
                if self.mailbox.told.insert(standing.request.id) {
                    let from = world.name(standing.from.slot);
                    let text = format!("{from} asks for {}{}", table.name, after_colon(&standing.request.message));
                    let fact = Fact::of(EventName::RequestReceived, table.name.as_str(), text)
                        .client(from)
                        .message(standing.request.message.as_str());
                    if self.setup.ask_hook && self.auto_response == AutoResponse::Off {
                        self.out.push(Effect::AskHook(Box::new(fact.clone())));
                    }
                    self.out.push(Effect::Fact(Box::new(fact)));
                }
            }
        }
        self.mailbox.told.retain(|id| standing_ids.contains(id));
        self.mailbox.asked = asked;
    }

    /// Auto response: the first in the queue gets it, when the client's record says so (1604).
    pub(crate) fn answer_by_itself(&mut self, volume: &mut Volume, table: &VolumeTable, world: &World<'_>) {
        if volume.release.is_some() || world.now < volume.release_after {
            return;
        }
        let willing = match self.auto_response {
            AutoResponse::Off => false,
            AutoResponse::Always => true,
            AutoResponse::Idle => {
                let closed = volume.probe.is_some_and(|p| p.open_for_writing == Some(false));
                closed && volume.idle_since.is_some_and(|since| world.now >= since + self.setup.periods.idle)
            }
        };
        if !willing {
            return;
        }
        let first = world.queue(table).into_iter().find(|s| {
            let answered_no = |a: &Answer| a.request == s.request.id && a.verdict == AnswerVerdict::No;
            s.from.slot != self.me() && !self.page.answers.iter().any(answered_no)
        });
        if let Some(standing) = first {
            let (client, name) = (world.name(standing.from.slot), table.name.as_str());
            let text = format!("told {client} yes for {name}, by auto response");
            self.fact(Fact::of(EventName::RequestAnswered, name, text).client(client));
            volume.ask_release(Release::to(standing.from.slot, standing.request.id, Message::default()));
        }
    }
}

fn word(verdict: AnswerVerdict) -> &'static str {
    match verdict {
        AnswerVerdict::Yes => "yes",
        AnswerVerdict::No => "no",
        AnswerVerdict::Later => "later",
    }
}

fn after_colon(message: &Message) -> String {
    if message.as_str().is_empty() { String::new() } else { format!(": {message}") }
}

pub(super) fn gone() -> Failure {
    Failure::refused("the volume is gone", "an administrator removed it from the tables", "see `volctl status`")
}
