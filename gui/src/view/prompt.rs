//! Somebody asks: the prompt that cannot be missed.

use std::fmt;

use volctl::wire::call::Answer3;

use crate::command::Command;
use crate::model::{Model, key_of};
use crate::words;

/// The most programs that are named.
const PROGRAMS_MAX: usize = 6;

/// A prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// The request's key.
    pub id: String,
    /// The volume, as the daemon knows it.
    pub volume: String,
    /// Who asks, as the daemon knows it.
    pub from: String,
    /// The question.
    pub question: String,
    /// What the asker says.
    pub message: String,
    /// Where and since when.
    pub about: String,
    /// Which of the person's programs are in the way.
    pub programs: Programs,
    /// Why the answer before this one could not be carried out.
    pub refused: Option<String>,
    /// How many more wait behind it.
    pub behind: Option<String>,
}

/// The person's own programs on the volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Programs {
    /// Not known yet.
    Looking,
    /// None.
    None,
    /// These, each in a line.
    Open(Vec<String>),
    /// Nobody can tell.
    Unknown(String),
}

/// The prompt that stands first, if there is one.
#[must_use]
pub fn prompt(model: &Model) -> Option<Prompt> {
    let all = model.prompts();
    let first = *all.first()?;
    let host = model.live()?.clients.iter().find(|c| c.name == first.from).and_then(|c| c.host.clone());
    let host = host.map_or_else(String::new, |host| format!("on {}, ", words::line(&host)));
    let programs = match model.programs.get(&first.volume) {
        None if model.volume(&first.volume).is_some_and(|v| v.mountpoint.is_some()) => Programs::Looking,
        None => Programs::None,
        Some(Ok(found)) if found.is_empty() => Programs::None,
        Some(Ok(found)) => {
            let mut lines: Vec<String> = found.iter().take(PROGRAMS_MAX).map(|p| words::line(p)).collect();
            if found.len() > PROGRAMS_MAX {
                lines.push(format!("and {} more", found.len() - PROGRAMS_MAX));
            }
            Programs::Open(lines)
        }
        Some(Err(why)) => Programs::Unknown(words::line(why)),
    };
    Some(Prompt {
        id: key_of(first),
        volume: first.volume.clone(),
        from: first.from.clone(),
        question: format!("{} asks for {}", words::line(&first.from), words::line(&first.volume)),
        message: words::lines(&first.message),
        about: format!("{host}{} ago", words::elapsed(first.age_ms + model.since_status())),
        programs,
        refused: model
            .refused_answers
            .get(&key_of(first))
            .map(|f| format!("{}: {}. {}", words::line(&f.what), words::line(&f.why), words::line(&f.next))),
        behind: (all.len() > 1).then(|| format!("1 of {}", all.len())),
    })
}

/// A line for requests that the person has put off.
#[must_use]
pub fn put_off(model: &Model) -> Option<(String, Command)> {
    let waiting: Vec<_> = model.unanswered().into_iter().filter(|r| model.put_off.contains(&key_of(r))).collect();
    let first = *waiting.first()?;
    let more = if waiting.len() > 1 { format!(", and {} more", waiting.len() - 1) } else { String::new() };
    let text = format!("{} waits for your answer about {}{more}", words::line(&first.from), words::line(&first.volume));
    Some((text, Command::Reopen(key_of(first))))
}

impl Prompt {
    /// The command of an answer.
    #[must_use]
    pub fn answer(&self, answer: Answer3, message: &str) -> Command {
        Command::Answer {
            id: self.id.clone(),
            volume: self.volume.clone(),
            client: self.from.clone(),
            answer,
            message: message.to_owned(),
        }
    }

    /// What a yes means.
    #[must_use]
    pub fn meaning(&self) -> String {
        match &self.programs {
            Programs::Open(_) => "Save and close these first: with open files the volume cannot be given away.".into(),
            _ => format!("Yes closes {} here and gives it away; you read it on.", words::line(&self.volume)),
        }
    }
}

impl fmt::Display for Prompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let behind = self.behind.as_ref().map_or_else(String::new, |b| format!(" ({b})"));
        writeln!(f, "{}{behind}\n  {}", self.question, self.about)?;
        for line in self.message.lines() {
            writeln!(f, "  “{line}”")?;
        }
        match &self.programs {
            Programs::Looking => writeln!(f, "  looking for open files")?,
            Programs::None => writeln!(f, "  none of your programs uses it")?,
            Programs::Open(lines) => lines.iter().try_for_each(|line| writeln!(f, "  open: {line}"))?,
            Programs::Unknown(why) => writeln!(f, "  open files are not known: {why}")?,
        }
        if let Some(why) = &self.refused {
            writeln!(f, "  not done: {why}")?;
        }
        writeln!(f, "  {}", self.meaning())
    }
}
