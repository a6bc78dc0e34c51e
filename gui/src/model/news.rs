//! What the threads tell, and what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use volctl::wire::event::{EventName, EventRecord};
use volctl::wire::outcome::{ExitCode, Failure};
use volctl::wire::status::{RequestStatus, Status, VolumeState};

use super::{Administered, EVENTS_MAX, Effect, Ending, Event, LOOK, Link, Model, key_of};
use crate::admin::AdminCommand;
use crate::command::Command;
use crate::view::activity::says_no;
use crate::words;

impl Model {
    /// Takes in what a thread tells.
    pub fn apply(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        self.now = now;
        match event {
            Event::Status(status) => return self.status(status),
            Event::Down(failure) => {
                self.link = Link::Down(failure);
                self.quiet = None;
                self.answering.clear();
            }
            Event::Quiet(time) => self.quiet = Some(time),
            Event::Log(events) => {
                self.events.clear();
                self.keep(events);
            }
            Event::News(events) => return self.news(events),
            Event::Called { command, result } => self.called(&command, result),
            Event::Administered { command, result } => return self.administered(command, result),
            Event::Programs { volume, found } => {
                if let Some((_, waits)) = self.looks.get_mut(&volume) {
                    *waits = false;
                }
                self.programs.insert(volume, found);
            }
            Event::Rights(rights) => self.rights = rights,
            Event::Trouble(text) => {
                let next = "nothing is lost by it";
                self.notice(Err(Failure::failed(text, "the desktop did not do it", next)));
            }
        }
        Vec::new()
    }

    fn status(&mut self, status: Arc<Status>) -> Vec<Effect> {
        let before = self.status.replace(Arc::clone(&status));
        self.status_at = self.now;
        self.link = Link::Live;
        self.quiet = None;
        if let Some(before) = before.filter(|b| b.client == status.client) {
            self.compare(&before, &status);
        }
        let standing: Vec<String> = status.requests.iter().map(key_of).collect();
        self.reopened.retain(|id| standing.contains(id));
        self.put_off.retain(|id| standing.contains(id));
        self.drafts.answers.retain(|id, _| standing.contains(id));
        // The daemon has it now.
        let heard = |id: &String| status.requests.iter().any(|r| key_of(r) == *id && r.answer.is_none());
        self.answering.retain(heard);
        self.refused_answers.retain(|id, _| standing.contains(id));
        let mut effects = self.announce(&standing);
        effects.extend(self.look_again());
        effects
    }

    /// Looks for the person's programs anew while the prompt that names them stands.
    fn look_again(&mut self) -> Option<Effect> {
        let volume = self.prompts().first()?.volume.clone();
        let due = |&(at, waits): &(Duration, bool)| !waits && self.now.saturating_sub(at) >= LOOK;
        self.looks.get(&volume).is_none_or(due).then_some(())?;
        self.look(&volume)
    }

    fn look(&mut self, volume: &str) -> Option<Effect> {
        let mountpoint = self.volume(volume)?.mountpoint.clone()?;
        self.looks.insert(volume.to_owned(), (self.now, true));
        Some(Effect::FindPrograms { volume: volume.to_owned(), mountpoint })
    }

    /// Own requests that are gone have ended somehow.
    fn compare(&mut self, before: &Status, now: &Status) {
        for volume in &now.volumes {
            let old = before.volumes.iter().find(|v| v.name == volume.name);
            let asked = old.is_some_and(|v| matches!(v.state, VolumeState::Requesting | VolumeState::Granted));
            let was_writing = old.is_some_and(|v| v.state == VolumeState::Rw);
            if volume.state == VolumeState::Rw && !was_writing {
                let place = volume.mountpoint.as_ref().map_or_else(String::new, |m| format!(", at {}", words::line(m)));
                let text = format!("You have write access{place}.");
                self.endings.insert(volume.name.clone(), Ending { good: true, text });
            } else if was_writing && volume.state != VolumeState::Rw {
                self.endings.remove(&volume.name);
            } else if asked && matches!(volume.state, VolumeState::Ro | VolumeState::Locked) {
                let text = match last_answer(before, &volume.name) {
                    Some(text) => text,
                    None => "The request stands no more: it was withdrawn, or nobody answered in time.".to_owned(),
                };
                self.endings.entry(volume.name.clone()).or_insert(Ending { good: false, text });
            }
        }
    }

    /// New requests: the window calls for attention once for each.
    fn announce(&mut self, standing: &[String]) -> Vec<Effect> {
        self.announced.retain(|id| standing.contains(id));
        let asked = self.unanswered();
        let mut fresh = Vec::new();
        for request in asked {
            if !self.announced.contains(&key_of(request)) {
                fresh.push(RequestStatus::clone(request));
            }
        }
        let mut effects = Vec::new();
        for request in fresh {
            self.announced.insert(key_of(&request));
            effects.push(Effect::Attention);
            if self.prefs.notify {
                let title = format!("{} asks for {}", words::line(&request.from), words::line(&request.volume));
                effects.push(Effect::Notify { title, body: words::lines(&request.message) });
            }
            if let Some(look) = self.look(&request.volume) {
                self.programs.remove(&request.volume);
                effects.push(look);
            }
        }
        effects
    }

    fn keep(&mut self, events: Vec<EventRecord>) {
        self.events.extend(events);
        let over = self.events.len().saturating_sub(EVENTS_MAX);
        self.events.drain(..over);
    }

    fn news(&mut self, events: Vec<EventRecord>) -> Vec<Effect> {
        let mut effects = Vec::new();
        for event in &events {
            if event.event != EventName::AnswerReceived.as_str() {
                continue;
            }
            let text = words::line(&event.text);
            if let Some(volume) = event.volume.as_ref().filter(|_| says_no(event)) {
                self.endings.insert(volume.clone(), Ending { good: false, text: capital(&text) });
            }
            if self.prefs.notify {
                effects.push(Effect::Notify { title: "An answer came".into(), body: text });
            }
        }
        self.keep(events);
        effects
    }

    fn called(&mut self, command: &Command, result: Result<String, Failure>) {
        if let (Command::Answer { id, .. }, Err(failure)) = (command, &result) {
            self.answering.remove(id);
            self.refused_answers.insert(id.clone(), failure.clone());
        }
        if let Some(volume) = volume_of(command) {
            self.calling.remove(volume);
        }
        if let (Command::Withdraw(volume), Ok(_)) = (command, &result) {
            let text = "You took the request back.".to_owned();
            self.endings.insert(volume.clone(), Ending { good: false, text });
        }
        // What goes well is seen in the status.
        let said_elsewhere = matches!(command, Command::Ask { .. } | Command::Answer { .. } | Command::Withdraw(_));
        if result.is_err() || !said_elsewhere {
            self.notice(result.map(|text| words::line(&text)));
        }
    }

    fn administered(&mut self, command: AdminCommand, result: Result<Administered, Failure>) -> Vec<Effect> {
        let doing = command.doing();
        if let Some(at) = self.admin.busy.iter().position(|b| *b == doing) {
            self.admin.busy.remove(at);
        }
        let root = self.rights.means != crate::admin::Means::None;
        match result {
            Ok(Administered::Tables(tables)) => {
                self.admin.unreadable = None;
                if self.admin.daemon.client.is_empty() {
                    self.admin.daemon.client = tables.clients.first().map(|c| c.name.clone()).unwrap_or_default();
                }
                self.admin.tables = Some(tables);
                if self.prefs.control != self.admin.control {
                    self.prefs.control = self.admin.control.clone();
                    return vec![Effect::Save(self.prefs.clone())];
                }
            }
            Ok(Administered::Devices(devices)) => self.admin.devices = Some(devices),
            Ok(Administered::Probe(probe)) => self.admin.probe = Some(probe),
            Ok(Administered::Text(text)) => {
                self.admin.last = Some(Ok(text));
                self.admin.last_line = None;
                self.clear_form(&command);
                if !command.only_looks() && root && command != AdminCommand::StartDaemon {
                    return self.perform(Command::Admin(AdminCommand::LookAt), self.now);
                }
            }
            Err(failure) if command == AdminCommand::LookAt => {
                self.admin.tables = None;
                self.admin.unreadable = Some(failure);
            }
            Err(failure) => {
                self.admin.last_line = command.line(&self.admin.control);
                // A failed change may have left the tables otherwise than they are shown.
                let damaged = failure.exit == ExitCode::Damaged;
                self.admin.last = Some(Err(failure));
                if !command.only_looks() && root && !damaged && self.admin.tables.is_some() {
                    return self.perform(Command::Admin(AdminCommand::LookAt), self.now);
                }
            }
        }
        Vec::new()
    }

    fn clear_form(&mut self, command: &AdminCommand) {
        match command {
            AdminCommand::AddClient(_) => self.admin.client.clear(),
            AdminCommand::AddVolume(_) => {
                self.admin.volume = crate::admin::VolumeForm { size: "1G".into(), ..Default::default() };
                self.admin.probe = None;
            }
            AdminCommand::Init { .. } => {
                self.admin.init.confirm.clear();
                self.admin.probe = None;
            }
            _ => {}
        }
    }
}

/// The volume that a call is about.
fn volume_of(command: &Command) -> Option<&str> {
    match command {
        Command::Ask { volume, .. } | Command::Takeover { volume, .. } | Command::Answer { volume, .. } => Some(volume),
        Command::Withdraw(v) | Command::Release(v) | Command::Refresh(v) | Command::Mount(v) | Command::Unmount(v) => {
            Some(v)
        }
        _ => None,
    }
}

fn last_answer(before: &Status, volume: &str) -> Option<String> {
    let request = before.requests.iter().find(|r| r.volume == volume && r.from == before.client)?;
    let answer = request.answer?;
    let said = words::line(&request.answer_message);
    let said = if said.is_empty() { String::new() } else { format!(": “{said}”") };
    Some(format!("{} said {}{said}", words::line(&request.to), answer.word()))
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + letters.as_str())
}
