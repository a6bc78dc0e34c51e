//! The view-model: what is to be seen, made from the model and nothing else. Tests read it as text.

use std::fmt;

pub mod activity;
pub mod matrix;
pub mod progress;
pub mod prompt;
pub mod trouble;
pub mod volumes;

use volctl::wire::outcome::ExitCode;

use crate::command::Command;
use crate::model::Model;

/// How a thing is meant; the theme has a colour for each, and no meaning is carried by colour alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Nothing to look at.
    #[default]
    Quiet,
    /// As it should be.
    Calm,
    /// Write access.
    Writing,
    /// Something is under way, or wants a look.
    Waiting,
    /// Not as it should be.
    Bad,
}

impl fmt::Display for Tone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quiet => "·",
            Self::Calm => "o",
            Self::Writing => "+",
            Self::Waiting => "~",
            Self::Bad => "!",
        })
    }
}

/// The shape that stands for a state, so that it is known without its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Locked.
    Padlock,
    /// Read-only.
    Eye,
    /// Read-write.
    Pencil,
    /// Under way.
    Clock,
    /// Not in order.
    Warning,
}

/// A state: by shape, colour and word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The shape.
    pub shape: Shape,
    /// The colour.
    pub tone: Tone,
    /// The word.
    pub word: &'static str,
}

/// A line of text with its meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Its meaning.
    pub tone: Tone,
    /// The sentence.
    pub text: String,
}

impl Line {
    /// A line.
    pub fn new(tone: Tone, text: impl Into<String>) -> Self {
        Self { tone, text: text.into() }
    }
}

/// A button: what it says, what it does, and why it cannot be pressed.
#[derive(Clone, Debug, PartialEq)]
pub struct Button {
    /// What stands on it.
    pub label: &'static str,
    /// Its name for screen readers, menus and the palette: with the volume.
    pub name: String,
    /// What it does.
    pub command: Command,
    /// Why it cannot be pressed now.
    pub refused: Option<String>,
    /// The one that one wants most often.
    pub main: bool,
}

/// The window's title: a badge for what waits, the program, and who one is.
#[must_use]
pub fn title(model: &Model) -> String {
    let waiting = model.unanswered().len();
    let badge = if waiting == 0 { String::new() } else { format!("({waiting}) ") };
    let me = model.me();
    let who = if me.is_empty() { String::new() } else { format!(" – {}", crate::words::line(me)) };
    format!("{badge}volctl{who}")
}

/// The line at the top: who one is, and how things stand with the daemon and the control volume.
#[must_use]
pub fn head(model: &Model) -> Line {
    use crate::model::Link;
    let Some(status) = &model.status else {
        return match &model.link {
            Link::Down(_) => Line::new(Tone::Bad, "no daemon"),
            _ => Line::new(Tone::Waiting, "connecting"),
        };
    };
    match (&model.link, model.quiet) {
        (Link::Down(failure), _) if failure.exit == ExitCode::Busy => Line::new(Tone::Bad, "not logged on"),
        (Link::Down(_), _) => Line::new(Tone::Bad, "no daemon: what is shown is old"),
        (_, Some(time)) => Line::new(Tone::Bad, format!("silent for {} s", time.as_secs())),
        (Link::Connecting, _) => Line::new(Tone::Waiting, "connecting"),
        (Link::Live, None) if status.incarnation == 0 => Line::new(Tone::Bad, "not logged on"),
        (Link::Live, None) => {
            let lease = status.control.timings.map_or(u64::MAX, |t| u64::from(t.lease_ms));
            if lease != u64::MAX && status.control.lease_left_ms < lease / 2 {
                Line::new(Tone::Bad, "the lease runs out")
            } else {
                Line::new(Tone::Calm, "connected")
            }
        }
    }
}
