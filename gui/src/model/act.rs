//! What the person's commands do.

use std::time::Duration;

use volctl::wire::call::{AnswerCall, Call, RequestCall, TakeoverCall, VolumeCall};
use volctl::wire::names::check_message;
use volctl::wire::outcome::Failure;

use super::{Effect, Link, Model};
use crate::admin::AdminCommand;
use crate::command::{Command, View};
use crate::prefs::{TextSize, Theme};

impl Model {
    /// Does what the person wants, as far as that is the window's own affair; the rest is for the shell.
    pub fn perform(&mut self, command: Command, now: Duration) -> Vec<Effect> {
        self.now = now;
        match command {
            Command::Show(view) => return self.show(view),
            Command::ShowAdmin(page) => {
                self.admin.page = page;
                return self.show(View::Administration);
            }
            Command::Palette => {
                let open = self.drafts.palette.is_some();
                self.drafts.palette = (!open).then(Default::default);
            }
            Command::Close => self.close_top(),
            Command::Compose(volume) => {
                self.drafts.palette = None;
                self.drafts.request = Some((volume, String::new()));
            }
            Command::ComposeTakeover(volume) => {
                self.drafts.palette = None;
                self.drafts.takeover = Some((volume, false, String::new()));
            }
            Command::PutOff(id) => {
                self.reopened.remove(&id);
                self.put_off.insert(id);
            }
            Command::Reopen(id) => {
                self.put_off.remove(&id);
                self.reopened.insert(id);
            }
            Command::Dismiss(id) => self.notices.retain(|n| n.id != id),
            Command::Forget(volume) => {
                self.endings.remove(&volume);
            }
            Command::OpenFolder(path) => return vec![Effect::OpenFolder(path)],
            Command::Copy(text) => return vec![Effect::Copy(text)],
            Command::Theme(_) | Command::TextSize(_) | Command::Step(_) | Command::Notify(_) => {
                return self.prefer(&command);
            }
            Command::Reconnect => {
                // While statuses come there is nothing to wait for.
                if self.link != Link::Live {
                    self.link = Link::Connecting;
                }
                return vec![Effect::Reconnect];
            }
            Command::Quit => return vec![Effect::Quit],
            Command::Admin(act) => return self.administer(act),
            Command::Ask { .. }
            | Command::Withdraw(_)
            | Command::Release(_)
            | Command::Refresh(_)
            | Command::Mount(_)
            | Command::Unmount(_)
            | Command::Takeover { .. }
            | Command::Answer { .. } => return self.call(command),
        }
        Vec::new()
    }

    fn show(&mut self, view: View) -> Vec<Effect> {
        self.view = view;
        self.drafts.palette = None;
        if view != View::Administration {
            return Vec::new();
        }
        self.name_control();
        let mut effects = Vec::new();
        if self.admin.devices.is_none() {
            effects.extend(self.administer(AdminCommand::ListDevices));
        }
        // With pkexec even a look asks for a password: then only when the person wants it.
        if self.admin.tables.is_none()
            && self.rights.means == crate::admin::Means::Root
            && !self.admin.control.is_empty()
        {
            effects.extend(self.administer(AdminCommand::LookAt));
        }
        effects
    }

    /// Without another word the tables are those of the daemon.
    fn name_control(&mut self) {
        if self.admin.control.trim().is_empty() {
            self.admin.control = self.status.as_ref().map(|s| s.control.path.clone()).unwrap_or_default();
        }
    }

    fn close_top(&mut self) {
        let drafts = &mut self.drafts;
        if drafts.palette.take().is_none() && drafts.takeover.take().is_none() {
            drafts.request = None;
        }
    }

    fn prefer(&mut self, command: &Command) -> Vec<Effect> {
        let prefs = &mut self.prefs;
        match *command {
            Command::Theme(Theme::Other) => prefs.theme = if self.dark { Theme::Light } else { Theme::Dark },
            Command::Theme(theme) => prefs.theme = theme,
            Command::TextSize(size) => prefs.text_size = size,
            Command::Step(larger) => prefs.text_size = TextSize::step(prefs.text_size, larger),
            Command::Notify(on) => prefs.notify = on,
            _ => {}
        }
        vec![Effect::Save(self.prefs.clone())]
    }

    fn call(&mut self, command: Command) -> Vec<Effect> {
        let volume_call = |volume: &String| VolumeCall { volume: volume.clone() };
        let (volume, call) = match &command {
            Command::Ask { volume, message } => {
                if let Err(why) = check_message(message) {
                    let next = "make it shorter; letters with accents and emoji take several bytes";
                    self.notice(Err(Failure::usage("the request was not sent", format!("the message: {why}"), next)));
                    return Vec::new();
                }
                self.drafts.request = None;
                self.endings.remove(volume);
                let call = RequestCall { volume: volume.clone(), message: message.clone(), wait_ms: None };
                (volume, Call::Request(call))
            }
            Command::Withdraw(volume) => (volume, Call::Withdraw(volume_call(volume))),
            Command::Release(volume) => (volume, Call::Release(volume_call(volume))),
            Command::Refresh(volume) => (volume, Call::Refresh(volume_call(volume))),
            Command::Mount(volume) => (volume, Call::Mount(volume_call(volume))),
            Command::Unmount(volume) => (volume, Call::Unmount(volume_call(volume))),
            Command::Takeover { volume, yes_i_know } => {
                self.drafts.takeover = None;
                let call = TakeoverCall { volume: volume.clone(), yes_i_know: yes_i_know.clone() };
                (volume, Call::Takeover(call))
            }
            Command::Answer { id, volume, client, answer, message } => {
                if let Err(why) = check_message(message) {
                    let next = "make it shorter, then answer again";
                    self.notice(Err(Failure::usage("the answer was not sent", format!("the text: {why}"), next)));
                    return Vec::new();
                }
                self.drafts.answers.remove(id);
                self.reopened.remove(id);
                self.refused_answers.remove(id);
                self.answering.insert(id.clone());
                let (volume_name, client) = (volume.clone(), client.clone());
                let call = AnswerCall { volume: volume_name, client, answer: *answer, message: message.clone() };
                (volume, Call::Answer(call))
            }
            _ => return Vec::new(),
        };
        self.calling.insert(volume.clone());
        vec![Effect::Call(command, call)]
    }

    fn administer(&mut self, command: AdminCommand) -> Vec<Effect> {
        self.name_control();
        let admin = &mut self.admin;
        admin.removing = None;
        if !command.only_looks() {
            admin.last = None;
        }
        if let AdminCommand::Init { control, .. } = &command {
            admin.control = control.trim().to_owned();
        }
        if command == AdminCommand::LookAt {
            admin.unreadable = None;
            // Those of the same control volume stay in sight until the new ones are there.
            if admin.read_from != admin.control.trim() {
                admin.tables = None;
                admin.control.trim().clone_into(&mut admin.read_from);
            }
        }
        admin.busy.push(command.doing());
        vec![Effect::Administer {
            control: admin.control.trim().to_owned(),
            means: self.rights.means.clone(),
            daemon: admin.daemon.clone(),
            command,
        }]
    }
}
