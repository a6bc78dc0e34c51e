//! The volumes: of each a card.

use std::fmt;

use volctl::wire::status::{Access, ClientMount, Enforcement, Readers, Status, VolumeState, VolumeStatus};

use super::progress::Progress;
use super::{Button, Line, Mark, Shape, Tone};
use crate::command::Command;
use crate::model::Model;
use crate::words;

/// One volume.
#[derive(Clone, Debug, PartialEq)]
pub struct Card {
    /// Its name, as the daemon knows it.
    pub name: String,
    /// Its state.
    pub mark: Mark,
    /// File system and readers' policy.
    pub kind: String,
    /// Who writes, since when.
    pub writer: Line,
    /// Who waits.
    pub waiting: Option<String>,
    /// How fresh it is, and the generation.
    pub freshness: Line,
    /// The generation's number.
    pub generation: String,
    /// Free space: the used part of it all, and the sentence.
    pub space: Option<(f32, String)>,
    /// Where it is mounted.
    pub mountpoint: Option<String>,
    /// How strongly one-writer is enforced, and what limits it.
    pub enforcement: (Line, String),
    /// What one should know.
    pub remarks: Vec<Line>,
    /// The buttons; one is the main one.
    pub buttons: Vec<Button>,
    /// How far the own request has come.
    pub progress: Option<Progress>,
    /// How the last own request ended.
    pub ending: Option<Line>,
    /// Requests that wait for this person's answer: who, and the request's key.
    pub asked: Vec<(String, String)>,
}

/// All cards, in the order of the tables.
#[must_use]
pub fn cards(model: &Model) -> Vec<Card> {
    let Some(status) = model.status.as_deref() else { return Vec::new() };
    status.volumes.iter().map(|volume| card(model, status, volume)).collect()
}

/// The mark of a state.
#[must_use]
pub const fn mark(state: VolumeState) -> Mark {
    let (shape, tone, word) = match state {
        VolumeState::Locked => (Shape::Padlock, Tone::Quiet, "Locked"),
        VolumeState::Ro => (Shape::Eye, Tone::Calm, "Read-only"),
        VolumeState::Requesting => (Shape::Clock, Tone::Waiting, "Asked"),
        VolumeState::Granted => (Shape::Clock, Tone::Waiting, "Getting access"),
        VolumeState::Rw => (Shape::Pencil, Tone::Writing, "Read-write"),
        VolumeState::Releasing => (Shape::Clock, Tone::Waiting, "Giving back"),
    };
    Mark { shape, tone, word }
}

fn card(model: &Model, status: &Status, volume: &VolumeStatus) -> Card {
    let me = status.client.as_str();
    let grown = model.since_status();
    let asked = model.asked_of_me().into_iter().filter(|r| r.volume == volume.name);
    Card {
        name: volume.name.clone(),
        mark: mark(volume.state),
        kind: format!("{}, {}", if volume.fs.is_empty() { "unknown" } else { &volume.fs }, readers(volume.readers)),
        writer: writer(volume, me),
        waiting: waiting(volume, me),
        freshness: freshness(volume, me),
        generation: volume.generation.clone(),
        space: space(volume),
        mountpoint: volume.mountpoint.clone(),
        enforcement: enforcement(volume),
        remarks: remarks(volume),
        buttons: buttons(model, status, volume),
        progress: super::progress::progress(model, status, volume, grown),
        ending: model
            .endings
            .get(&volume.name)
            .map(|e| Line::new(if e.good { Tone::Writing } else { Tone::Waiting }, &e.text)),
        asked: asked
            .filter(|r| r.answer != Some(volctl::wire::call::Answer3::Yes))
            .map(|r| (words::line(&r.from), crate::model::key_of(r)))
            .collect(),
    }
}

const fn readers(readers: Readers) -> &'static str {
    match readers {
        Readers::Snapshot => "readers see published states",
        Readers::Exclusive => "readers wait while somebody writes",
        Readers::Live => "readers see it live",
    }
}

fn writer(volume: &VolumeStatus, me: &str) -> Line {
    let Some(writer) = &volume.writer else {
        let text = if volume.dirty { "Nobody writes; the last writer left it unfinished" } else { "Nobody writes" };
        return Line::new(if volume.dirty { Tone::Bad } else { Tone::Quiet }, text);
    };
    let since = volume.writer_age_ms.map_or_else(String::new, |ms| format!(", for {}", words::roughly(ms)));
    if writer == me {
        let verb = if volume.state == VolumeState::Rw { "You write" } else { "You have the write privilege" };
        Line::new(Tone::Writing, format!("{verb}{since}"))
    } else {
        Line::new(Tone::Waiting, format!("{} writes{since}", words::line(writer)))
    }
}

fn waiting(volume: &VolumeStatus, me: &str) -> Option<String> {
    let names = volume.waiting.iter().map(|w| {
        let who = if w.client == me { "you".to_owned() } else { words::line(&w.client) };
        format!("{who} ({})", words::roughly(w.age_ms))
    });
    let names: Vec<String> = names.collect();
    (!names.is_empty()).then(|| format!("Waiting: {}", names.join(", then ")))
}

fn freshness(volume: &VolumeStatus, me: &str) -> Line {
    let other_writes = volume.writer.as_ref().filter(|w| *w != me);
    if volume.generation == "0.0" && volume.writer.is_none() {
        return Line::new(Tone::Waiting, "never published");
    }
    if volume.stale {
        return Line::new(Tone::Waiting, format!("newer exists: you see {}", volume.seen_generation));
    }
    match (volume.readers, other_writes) {
        (Readers::Live, Some(writer)) => {
            Line::new(Tone::Waiting, format!("live: may be mixed while {} writes", words::line(writer)))
        }
        _ if volume.state == VolumeState::Locked => Line::new(Tone::Quiet, "not mounted here"),
        _ => Line::new(Tone::Calm, "current"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a bar of some hundred pixels")]
fn space(volume: &VolumeStatus) -> Option<(f32, String)> {
    let (free, size) = (volume.free_bytes?, volume.size_bytes?);
    if size == 0 {
        return None;
    }
    let used = 1.0 - (free.min(size) as f32 / size as f32);
    Some((used, format!("{} free of {}", words::size(free), words::size(size))))
}

fn enforcement(volume: &VolumeStatus) -> (Line, String) {
    let note = volume.enforcement_note.clone().unwrap_or_default();
    match volume.enforcement {
        Enforcement::Fenced => {
            (Line::new(Tone::Calm, "fenced"), "The storage itself refuses every other writer.".into())
        }
        Enforcement::Leased => {
            let text = "This computer stops writing by itself when its lease ends";
            (
                Line::new(Tone::Calm, "leased"),
                if note.is_empty() { format!("{text}.") } else { format!("{text}; {note}.") },
            )
        }
        Enforcement::Advisory => {
            let text = "One writer is by agreement only here";
            (
                Line::new(Tone::Waiting, "advisory"),
                if note.is_empty() { format!("{text}.") } else { format!("{text}: {note}.") },
            )
        }
    }
}

fn remarks(volume: &VolumeStatus) -> Vec<Line> {
    let mut lines = Vec::new();
    if let Some(reason) = &volume.reason {
        let locked = volume.state == VolumeState::Locked;
        // The head of the card says already that readers wait for the writer.
        let why = reason.strip_prefix("exclusive: ").unwrap_or(reason);
        let text = if locked { format!("Locked: {why}") } else { reason.clone() };
        lines.push(Line::new(if locked { Tone::Quiet } else { Tone::Bad }, words::line(&text)));
    }
    if let Some(next) = &volume.next {
        lines.push(Line::new(Tone::Waiting, format!("Promised to {}", words::line(next))));
    }
    if !volume.write_enabled {
        lines.push(Line::new(Tone::Quiet, "Writing is switched off by the administrator"));
    }
    if volume.mounted_generations.len() > 1 {
        let older = volume.mounted_generations.len() - 1;
        let text = format!("{} still open in programs here", words::count(older, "older state is", "older states are"));
        lines.push(Line::new(Tone::Quiet, text));
    }
    lines
}

/// Why a request would be refused, as far as the status tells.
fn no_request(model: &Model, volume: &VolumeStatus) -> Option<String> {
    if let Some(why) = &model.rights.no_acting {
        return Some(why.clone());
    }
    match (volume.access, volume.write_enabled, volume.locked_out) {
        (Access::None, ..) => Some("The administrator gave this client no access to the volume.".into()),
        (Access::Read, ..) => Some("The administrator allows this client to read only.".into()),
        (_, false, _) => Some("Writing is switched off for this volume by the administrator.".into()),
        (_, _, true) => Some("The administrator has locked this client out of asking.".into()),
        _ => None,
    }
}

fn buttons(model: &Model, status: &Status, volume: &VolumeStatus) -> Vec<Button> {
    let name = words::line(&volume.name);
    let volume_name = || volume.name.clone();
    let busy = model.calling.contains(&volume.name).then(|| "The daemon is at it.".to_owned());
    let offline = model.live().is_none().then(|| "The daemon does not answer.".to_owned());
    let acting = offline.or_else(|| model.rights.no_acting.clone()).or(busy);
    let button = |label: &'static str, words: String, command, refused: Option<String>| Button {
        label,
        name: words,
        command,
        refused: acting.clone().or(refused),
        main: false,
    };
    let request = || {
        let what = format!("Request write access to {name}");
        button("Request write access", what, Command::Compose(volume_name()), no_request(model, volume))
    };
    let refresh = || button("Refresh now", format!("Refresh {name} now"), Command::Refresh(volume_name()), None);
    let mount = || {
        let no = (volume.access == Access::None).then(|| "This client has no access to the volume.".to_owned());
        button("Mount for reading", format!("Mount {name} for reading"), Command::Mount(volume_name()), no)
    };
    let unmount = || button("Unmount", format!("Unmount {name}"), Command::Unmount(volume_name()), None);
    let withdraw =
        || button("Withdraw", format!("Withdraw the request for {name}"), Command::Withdraw(volume_name()), None);
    let release = |no| button("Release", format!("Release {name}"), Command::Release(volume_name()), no);
    let mut all = match volume.state {
        VolumeState::Ro => vec![request(), refresh(), unmount()],
        VolumeState::Locked => vec![request(), mount()],
        VolumeState::Requesting | VolumeState::Granted => vec![withdraw()],
        VolumeState::Rw => vec![release(None)],
        VolumeState::Releasing => vec![release(Some("It is being given back.".into()))],
    };
    // Another one stands out while a newer state exists, but none changes its place: a daemon refreshes of itself at any time,
    // also while somebody aims.
    let main = usize::from(volume.state == VolumeState::Ro && volume.stale);
    if let Some(button) = all.get_mut(main) {
        button.main = true;
    }
    let other = volume.writer.as_ref().is_some_and(|w| *w != status.client);
    if other {
        let admin = status.settings.is_some_and(|s| s.admin);
        let no = (!admin).then(|| "Only a client that the tables call an administrator may take over.".to_owned());
        let what = format!("Take {name} over");
        let command = Command::ComposeTakeover(volume_name());
        all.push(button("Take over…", what, command, no.or_else(|| no_request(model, volume))));
    }
    all
}

/// The commands of all volumes, for menu and palette.
#[must_use]
pub fn commands(cards: &[Card]) -> Vec<(String, Command, Option<String>)> {
    let mut all = Vec::new();
    for card in cards {
        all.extend(card.buttons.iter().map(|b| (b.name.clone(), b.command.clone(), b.refused.clone())));
        if let Some(place) = &card.mountpoint {
            let name = words::line(&card.name);
            all.push((format!("Open the folder of {name}"), Command::OpenFolder(place.clone()), None));
        }
        all.extend(card.asked.iter().map(|(who, id)| {
            (format!("Answer {who} about {}", words::line(&card.name)), Command::Reopen(id.clone()), None)
        }));
    }
    all
}

/// What the writer's own page says that it has of the volume.
#[must_use]
pub fn writers_mount(volume: &VolumeStatus) -> Option<ClientMount> {
    let writer = volume.writer.as_ref()?;
    volume.clients.iter().find(|c| c.client == *writer).map(|c| c.state)
}

impl fmt::Display for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} [{:?} {} {}] {}",
            words::line(&self.name),
            self.mark.shape,
            self.mark.tone,
            self.mark.word,
            self.kind
        )?;
        writeln!(f, "  {} {}", self.writer.tone, self.writer.text)?;
        if let Some(line) = &self.waiting {
            writeln!(f, "  {line}")?;
        }
        writeln!(f, "  {} {} (generation {})", self.freshness.tone, self.freshness.text, self.generation)?;
        if let Some((used, text)) = &self.space {
            writeln!(f, "  {text} [{:.0} % used]", used * 100.0)?;
        }
        if let Some(place) = &self.mountpoint {
            writeln!(f, "  at {place}")?;
        }
        writeln!(f, "  {} {}: {}", self.enforcement.0.tone, self.enforcement.0.text, self.enforcement.1)?;
        for line in &self.remarks {
            writeln!(f, "  {} {}", line.tone, line.text)?;
        }
        if let Some(progress) = &self.progress {
            write!(f, "{progress}")?;
        }
        if let Some(ending) = &self.ending {
            writeln!(f, "  = {}", ending.text)?;
        }
        for (who, _) in &self.asked {
            writeln!(f, "  {who} waits for an answer")?;
        }
        for button in &self.buttons {
            let (open, close) = if button.main { ('[', ']') } else { ('(', ')') };
            let refused = button.refused.as_ref().map_or_else(String::new, |why| format!(" -- {why}"));
            writeln!(f, "  {open}{}{close}{refused}", button.label)?;
        }
        Ok(())
    }
}
