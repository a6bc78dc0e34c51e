//! What is wrong with the whole, and what to do about it.

use std::fmt;

use volctl::wire::event::EventName;
use volctl::wire::outcome::ExitCode;

use super::Tone;
use crate::command::{AdminPage, Command};
use crate::model::{Link, Model};
use crate::words;

/// Something that is wrong with the whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Trouble {
    /// How bad.
    pub tone: Tone,
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
    /// What next.
    pub next: String,
    /// A command line that helps, to copy it.
    pub line: Option<String>,
    /// Buttons that help.
    pub buttons: Vec<(&'static str, Command)>,
}

impl Trouble {
    fn new(tone: Tone, what: impl Into<String>, why: impl Into<String>, next: impl Into<String>) -> Self {
        Self { tone, what: what.into(), why: why.into(), next: next.into(), line: None, buttons: Vec::new() }
    }

    fn line(mut self, line: impl Into<String>) -> Self {
        self.line = Some(line.into());
        self
    }

    fn button(mut self, label: &'static str, command: Command) -> Self {
        self.buttons.push((label, command));
        self
    }
}

/// Everything that is wrong with the whole, gravest first.
#[must_use]
pub fn troubles(model: &Model) -> Vec<Trouble> {
    let mut found = Vec::new();
    found.extend(ended_by_damage(model));
    found.extend(link(model));
    if let Some(status) = model.live() {
        let control = words::line(&status.control.path);
        if status.incarnation == 0 {
            let why = status.warnings.iter().map(|w| words::line(&w.text)).collect::<Vec<_>>().join("; ");
            found.push(not_logged_on(&why, &control));
        } else if let Some(timings) = status.control.timings
            && status.control.lease_left_ms < u64::from(timings.lease_ms) / 2
        {
            let left = words::elapsed(status.control.lease_left_ms);
            let what = format!("This computer’s lease ends in {left}");
            let why =
                "it cannot confirm its beats on the control volume; at the end of the lease its volumes are closed";
            found.push(Trouble::new(
                Tone::Bad,
                what,
                why,
                "Save your work now. Look at the path to the control volume.",
            ));
        }
        for warning in status.warnings.iter().filter(|_| status.incarnation > 0) {
            let about = warning.volume.as_ref().map_or_else(String::new, |v| format!("{}: ", words::line(v)));
            let text = format!("{about}{}", words::line(&warning.text));
            let next = "The event log in Activity has more.";
            let mut trouble = Trouble::new(Tone::Waiting, text, "the daemon warns of it", next);
            if warning.text.contains("damage") {
                trouble = damaged(&trouble.what, &control);
            }
            found.push(trouble);
        }
    }
    if let Some(why) = &model.rights.no_acting {
        let next = "Have the administrator add you, then log in again. Until then you can look.";
        let line = "sudo usermod -aG volctl \"$USER\"";
        found.push(Trouble::new(Tone::Waiting, "You may look, but not ask, answer or release", why, next).line(line));
    }
    found.extend(fenced(model));
    found
}

fn link(model: &Model) -> Option<Trouble> {
    let socket = model.socket.display().to_string();
    if let Some(time) = model.quiet {
        let what = format!("The daemon has said nothing for {} s", time.as_secs());
        let why = "its process hangs or is stopped, or the storage of the control volume does";
        let next =
            "What is shown may be old. Volumes are closed by the guardian when the lease ends. Look at the daemon:";
        return Some(
            Trouble::new(Tone::Bad, what, why, next)
                .line("systemctl status volctl")
                .button("Connect anew", Command::Reconnect),
        );
    }
    let Link::Down(failure) = &model.link else { return None };
    let (what, why) = (words::line(&failure.what), words::line(&failure.why));
    let control = control(model);
    Some(match failure.exit {
        ExitCode::NoDaemon => {
            let next = format!(
                "Start it, or give this window another socket with --socket (now {socket}). This window connects by itself. If the \
                 daemon ends again, 'journalctl -u volctl -e' says why."
            );
            Trouble::new(Tone::Bad, "No volctl daemon answers here", format!("{what}: {why}"), next)
                .line("sudo systemctl start volctl")
                .button("Set up this computer", Command::ShowAdmin(AdminPage::Tables))
                .button("Try again", Command::Reconnect)
        }
        ExitCode::Busy => not_logged_on(&why, &control),
        ExitCode::Damaged => damaged(&format!("{what}: {why}"), &control),
        _ => {
            let next = format!("{} The socket is {socket}.", sentence(&failure.next));
            Trouble::new(Tone::Bad, sentence(&what), why, next).button("Try again", Command::Reconnect)
        }
    })
}

/// A daemon that finds the tables damaged beyond what it can restore ends: its last words are why nobody answers.
fn ended_by_damage(model: &Model) -> Option<Trouble> {
    use EventName::{ControlBack, ControlLost, LoggedOn, TableDamaged};
    matches!(&model.link, Link::Down(failure) if failure.exit == ExitCode::NoDaemon).then_some(())?;
    let is = |name: &str, all: &[EventName]| all.iter().any(|known| known.as_str() == name);
    let all_news = || model.events.iter().rev().take_while(|e| !is(&e.event, &[ControlBack, LoggedOn]));
    let said = all_news().find(|e| is(&e.event, &[ControlLost, TableDamaged]) && e.text.contains("damage"))?;
    Some(damaged(&words::line(&said.text), &control(model)))
}

/// The control volume as a command line names it: also a daemon that is not logged on says which it is on.
fn control(model: &Model) -> String {
    let known = model.status.as_ref().map(|s| s.control.path.as_str()).filter(|path| !path.is_empty());
    words::line(known.unwrap_or("CONTROL"))
}

fn not_logged_on(why: &str, control: &str) -> Trouble {
    if why.contains("damage") {
        return damaged(why, control);
    }
    let next = if why.contains("proven free") {
        "Wait: the place of this client is being proven free. It goes on by itself."
    } else {
        "It tries again by itself. If it stays so, the daemon’s log says more:"
    };
    Trouble::new(Tone::Bad, "This computer is not logged on: no volume is open here", why, next)
        .line("journalctl -u volctl -e")
}

fn damaged(why: &str, control: &str) -> Trouble {
    let next =
        "Check the tables: it says what is wrong, and lost copies can be restored; nothing is forgotten by that.";
    Trouble::new(Tone::Bad, "The tables of the control volume are damaged", why, next)
        .line(format!("sudo volctl check {}", words::shell_word(control)))
        .button("Check the tables", Command::ShowAdmin(AdminPage::Tables))
}

/// This client lost its lease, and its gates were closed under its programs: until it is dealt with, it is said.
fn fenced(model: &Model) -> Option<Trouble> {
    let lost = model.events.iter().rev().find(|e| e.event == "lease.lost" || e.event == "gate.fenced")?;
    let since = super::activity::millis(&lost.time)?;
    let last = model.events.iter().rev().filter_map(|e| super::activity::millis(&e.time)).next()?;
    let logged_on = model.live().is_some_and(|s| s.incarnation > 0);
    // An hour after it, with a new login, it is history.
    if logged_on && last - since > 60 * 60 * 1000 {
        return None;
    }
    let next = if logged_on {
        "It is logged on again. Programs that had files open for writing got errors: save elsewhere, close them, and look at your last changes."
    } else {
        "Programs with open files get errors now: save elsewhere. A daemon that runs logs on again by itself."
    };
    Some(Trouble::new(Tone::Bad, "This computer was stopped from writing", words::line(&lost.text), next))
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_uppercase().collect::<String>()).unwrap_or_default();
    let rest = letters.as_str();
    if rest.ends_with(['.', '!', '?']) { first + rest } else { format!("{first}{rest}.") }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}\n  why: {}\n  next: {}", self.tone, self.what, self.why, self.next)?;
        if let Some(line) = &self.line {
            writeln!(f, "  $ {line}")?;
        }
        for (label, _) in &self.buttons {
            writeln!(f, "  ({label})")?;
        }
        Ok(())
    }
}
