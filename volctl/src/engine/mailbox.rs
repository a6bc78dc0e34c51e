//! Messages both ways: own requests and their answers, others' requests and what is said to them (section 7; 15C).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ondisk::client_page::{ANSWERS, AnswerVerdict, REQUESTS};
use ondisk::{Answer, AutoResponse, Generation, Message, Request, RequestId, SlotIndex, Uuid, VolumeTable};

use super::command::{CommandId, Reply, Waiter, Waiting};
use super::effect::{Effect, Fact, FactKind};
use super::volume::{Release, Volume, Writer, Writing};
use super::world::{Standing, World};
use super::{Engine, rules};
use crate::wire::outcome::Failure;

/// What the mailbox remembers between polls.
#[derive(Debug, Default)]
pub struct Mailbox {
    /// Requests of others that were told to the person.
    told: BTreeSet<RequestId>,
    /// Volumes for which others ask this client.
    asked: BTreeSet<Uuid>,
    /// Own requests: first seen by this daemon.
    since: BTreeMap<RequestId, Duration>,
    /// Own requests: the answers already told.
    heard: BTreeMap<RequestId, (AnswerVerdict, Message)>,
    /// While a writer is being stopped: what it was, to be put back if it is busy.
    pub(crate) stopping: BTreeMap<Uuid, (Option<Generation>, Writing)>,
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

    /// The last answer to an own request.
    pub fn answer_to(&self, request: RequestId) -> Option<&(AnswerVerdict, Message)> {
        self.heard.get(&request)
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
        if let Some(v) = self.volumes.get_mut(&uuid) {
            if matches!(v.writer, Writer::Writing(_)) && v.release.is_none() {
                if v.cleaning {
                    v.cleaning = false;
                }
                self.done(id, name, format!("{name} is yours already"));
                return Ok(());
            }
            v.forget_failure();
        }
        if let (Some(f), None) = (self.unplayable(table), wait) {
            return Err(f);
        }
        let writer_lives = table.writer.is_some_and(|g| g.slot != self.me() && world.writer_lives(&g));
        let request = self.put_request(uuid, message, world)?;
        // With nobody to ask, the answer is the mount itself, and it comes at once.
        let wait_for_mount = wait.is_some() || !writer_lives && !self.must_wait(table, world);
        if wait_for_mount {
            let until = wait.or(Some(Duration::from_secs(60))).map(|w| world.now + w);
            self.wait(id, uuid, name, until, Waiting::Write { request, wait: wait.is_some() });
            if let Some(waiter) = self.waiters.last_mut() {
                waiter.told = None;
            }
            self.step_volume(uuid, world);
        } else {
            self.out.push(Effect::Page);
            let text = match table.writer {
                Some(g) => format!("asked {} for {name}; see `volctl status`", world.name(g.slot)),
                None => format!("asked for {name}; see `volctl status`"),
            };
            self.reply(id, Reply::Done { volume: name.to_owned(), text, asked: true });
        }
        Ok(())
    }

    fn unplayable(&self, _table: &VolumeTable) -> Option<Failure> {
        self.leaving.map(|_| Failure::failed("no request now", "the daemon is logging off", "start it again, then ask"))
    }

    /// Is there a wait that no answer can shorten: a dead writer's, or a promise to another?
    fn must_wait(&self, table: &VolumeTable, world: &World<'_>) -> bool {
        table.writer.is_some_and(|g| !world.holder_left(&g)) || rules::not_promised(world, table).is_err()
    }

    /// Puts a request into the own page (or keeps the one that stands, with the new message) and returns its id.
    pub(crate) fn put_request(
        &mut self,
        volume: Uuid,
        message: Message,
        world: &World<'_>,
    ) -> Result<RequestId, Failure> {
        let to = world.table(volume).and_then(|t| t.writer).map_or(self.me(), |g| g.slot);
        self.page_dirty = true;
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
            number: world.next_number(volume).max(self.own_next_number(volume)),
            volume,
            to,
            created_ms: world.wall_ms,
            message,
        });
        self.mailbox.since.insert(id, world.now);
        Ok(id)
    }

    fn own_next_number(&self, volume: Uuid) -> u64 {
        1 + self.page.request(volume).map_or(0, |r| r.number)
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
        let writes = table.writer.is_some_and(|g| g.slot == self.me() && g.incarnation == self.setup.incarnation);
        if !writes {
            return Err(Failure::refused(
                format!("no answer to {client}"),
                format!("this client does not write {name}, so it has nothing to give"),
                "see `volctl status` for the writer",
            ));
        }
        if verdict == AnswerVerdict::Yes {
            if let Some(volume) = self.volumes.get_mut(&table.uuid) {
                let mut release = Release::to(from.slot, request.id, message);
                release.commands.push(id);
                volume.ask_release(release);
            }
            self.wait(id, table.uuid, name, None, Waiting::Released);
            self.step_volume(table.uuid, world);
        } else {
            self.put_answer(from.slot, request.id, table.uuid, verdict, message);
            self.out.push(Effect::Page);
            self.done(id, name, format!("answered {client}"));
        }
        Ok(())
    }

    /// Puts an answer into the page. A full page takes it without text by pushing out nothing: the oldest `later` goes.
    pub(crate) fn put_answer(
        &mut self,
        to: SlotIndex,
        request: RequestId,
        volume: Uuid,
        verdict: AnswerVerdict,
        message: Message,
    ) {
        self.page.answers.retain(|a| a.request != request);
        if self.page.answers.len() >= ANSWERS {
            match self.page.answers.iter().position(|a| a.verdict == AnswerVerdict::Later) {
                Some(oldest) => drop(self.page.answers.remove(oldest)),
                None => return,
            }
        }
        self.page.answers.push(Answer { request, to, volume, verdict, message });
        self.page_dirty = true;
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
            self.follow_writer(&request, table);
            let answer = world.peers.iter().filter(|p| p.slot != self.me()).find_map(|p| {
                let page = p.current_page()?;
                page.answers.iter().find(|a| a.request == request.id).map(|a| (p.slot, a.clone()))
            });
            if let Some((from, answer)) = answer {
                self.hear(table, &world.name(from), &answer);
            }
            if world.now >= since + self.setup.periods.request_timeout {
                let failure = Failure::timed_out(
                    format!("nobody answered the request for {}", table.name),
                    format!("it stood for {} s", self.setup.periods.request_timeout.as_secs()),
                    "ask again",
                );
                self.drop_request(request.volume, &failure);
            }
        }
    }

    /// `to` follows the volume's writer, the id stays.
    fn follow_writer(&mut self, request: &Request, table: &VolumeTable) {
        let Some(grant) = table.writer else { return };
        if grant.slot != request.to {
            if let Some(own) = self.page.requests.iter_mut().find(|r| r.id == request.id) {
                own.to = grant.slot;
                self.page_dirty = true;
            }
            self.mailbox.heard.remove(&request.id);
        }
    }

    fn hear(&mut self, table: &VolumeTable, from: &str, answer: &Answer) {
        let news = (answer.verdict, answer.message.clone());
        if self.mailbox.heard.get(&answer.request) == Some(&news) {
            return;
        }
        self.mailbox.heard.insert(answer.request, news);
        let word = match answer.verdict {
            AnswerVerdict::Yes => "yes",
            AnswerVerdict::No => "no",
            AnswerVerdict::Later => "later",
        };
        let said = if answer.message.as_str().is_empty() { String::new() } else { format!(": {}", answer.message) };
        let text = format!("{from} says {word} for {}{said}", table.name);
        let fact = Fact::of(FactKind::Answered, table.name.as_str(), text.clone());
        self.fact(fact.client(from).message(answer.message.as_str()));
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
            let mine = table.writer.is_some_and(|g| g.slot == me && g.incarnation == self.setup.incarnation);
            if !mine {
                continue;
            }
            for standing in world.queue(table).into_iter().filter(|s| s.from.slot != me) {
                standing_ids.insert(standing.request.id);
                asked.insert(table.uuid);
                if self.mailbox.told.insert(standing.request.id) {
                    let from = world.name(standing.from.slot);
                    let text = format!("{from} asks for {}: {}", table.name, standing.request.message);
                    let fact = Fact::of(FactKind::Request, table.name.as_str(), text)
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
            volume.ask_release(Release::to(standing.from.slot, standing.request.id, Message::default()));
        }
    }

    /// Commands whose wait is over.
    pub(crate) fn wake_waiters(&mut self, world: &World<'_>) {
        for waiter in std::mem::take(&mut self.waiters) {
            if let Some(waiter) = self.look_at_waiter(waiter, world) {
                self.waiters.push(waiter);
            }
        }
    }

    fn look_at_waiter(&mut self, mut waiter: Waiter, world: &World<'_>) -> Option<Waiter> {
        let name = waiter.name.clone();
        let Some(volume) = self.volumes.get(&waiter.volume) else {
            self.reply(waiter.id, Reply::Failed(gone()));
            return None;
        };
        let done = match &waiter.what {
            Waiting::Write { .. } => {
                matches!(volume.writer, Writer::Writing(_)).then(|| format!("{name} is yours: mounted read-write"))
            }
            Waiting::Released => {
                let over = volume.release.is_none() && volume.writer == Writer::None;
                over.then(|| format!("{name} is released"))
            }
            Waiting::Refreshed(generation) => volume
                .mounted
                .filter(|seen| seen >= generation)
                .map(|seen| format!("{name} is current: generation {seen}")),
            Waiting::Mounted => volume.mounted.map(|seen| format!("{name} is mounted read-only, generation {seen}")),
            Waiting::Unmounted => (volume.mounted.is_none() && volume.announced.is_none() && !volume.busy_job)
                .then(|| format!("{name} is not mounted any more")),
        };
        if let Some(text) = done {
            self.done(waiter.id, &name, text);
            return None;
        }
        let failed = match (&waiter.what, &volume.failure) {
            (Waiting::Mounted | Waiting::Refreshed(_), Some((failure, _, _))) => Some(failure.clone()),
            (Waiting::Mounted, None) if volume.reason.is_some() && volume.announced.is_none() && !volume.busy_job => {
                let why = volume.reason.clone().unwrap_or_default();
                Some(Failure::refused(format!("{name} cannot be mounted now"), why, "see `volctl status`"))
            }
            _ => None,
        };
        if let Some(failure) = failed {
            self.reply(waiter.id, Reply::Failed(failure));
            return None;
        }
        if waiter.until.is_some_and(|t| world.now >= t) {
            let failure = Failure::timed_out(
                format!("{name}: the wait is over"),
                self.why_waiting(&waiter, world),
                "it goes on without this command; see `volctl status`, or take it back: `volctl withdraw`",
            );
            self.reply(waiter.id, Reply::Failed(failure));
            return None;
        }
        self.tell_progress(&mut waiter, world);
        Some(waiter)
    }

    fn tell_progress(&mut self, waiter: &mut Waiter, world: &World<'_>) {
        if !matches!(waiter.what, Waiting::Write { .. }) {
            return;
        }
        let text = self.why_waiting(waiter, world);
        if waiter.told.as_ref() != Some(&text) {
            waiter.told = Some(text.clone());
            self.reply(
                waiter.id,
                Reply::Progress { stage: "asked", text, answer: None, answer_message: String::new() },
            );
        }
    }

    fn why_waiting(&self, waiter: &Waiter, world: &World<'_>) -> String {
        let Some(table) = world.table(waiter.volume) else { return "the volume is gone".into() };
        if let Waiting::Write { .. } = waiter.what {
            let place = world.queue(table).iter().position(|s| s.from.slot == self.me()).map_or(1, |p| p + 1);
            return match table.writer {
                Some(g) if g.slot == self.me() => "granted; mounting".into(),
                Some(g) if world.writer_lives(&g) => {
                    format!("the request stands; {} has write access; place {place} in the queue", world.name(g.slot))
                }
                Some(g) => format!("{} does not answer; its death is being waited out", world.name(g.slot)),
                None => "the request stands; the volume is free".into(),
            };
        }
        "it is not done yet".into()
    }
}

fn gone() -> Failure {
    Failure::refused("the volume is gone", "an administrator removed it from the tables", "see `volctl status`")
}
