//! Tells the story: what each person types, what comes back, and how long it took; or the same as lines of JSON.

use std::time::Duration;

use serde::Serialize;

use super::fault::Fault;
use super::stage::Outcome;
use crate::cli::output::Ui;

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";
/// How wide the part before a time is.
const WIDTH: usize = 78;

/// One thing that somebody did.
#[derive(Debug, Serialize)]
struct Step<'a> {
    step: u32,
    who: &'a str,
    typed: &'a str,
    exit: i32,
    ms: f64,
    output: Vec<&'a str>,
}

#[derive(Debug, Serialize)]
struct End<'a> {
    ended: &'a str,
    steps: u32,
    ms: f64,
    left: &'a [String],
}

#[derive(Debug, Serialize)]
struct Measured<'a> {
    measured: &'a str,
    ms: f64,
}

/// The storyteller.
pub(super) struct Teller<'a> {
    ui: &'a mut Ui,
    colour: bool,
    steps: u32,
}

impl<'a> Teller<'a> {
    pub(super) fn new(ui: &'a mut Ui) -> Self {
        let colour = ui.is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { ui, colour, steps: 0 }
    }

    fn painted(&self, paint: &str, text: &str) -> String {
        if self.colour { format!("{paint}{text}{PLAIN}") } else { text.to_owned() }
    }

    /// The step that is being done, or was the last.
    pub(super) fn steps(&self) -> u32 {
        self.steps
    }

    /// Nobody reads any more.
    pub(super) fn is_closed(&self) -> bool {
        self.ui.is_closed()
    }

    /// A headline, and what is to be seen.
    pub(super) fn scene(&mut self, title: &str, about: &str) {
        let title = self.painted(BOLD, title);
        self.ui.say(&format!("\n{title}"));
        self.say(about);
    }

    /// A sentence.
    pub(super) fn say(&mut self, text: &str) {
        if !text.is_empty() {
            self.ui.say(text);
        }
    }

    /// What somebody typed, before it is done: if it fails, this is what failed.
    pub(super) fn begins(&mut self) {
        self.steps += 1;
    }

    /// What somebody typed and got.
    pub(super) fn told(&mut self, who: &str, outcome: &Outcome, lines: usize) {
        let output: Vec<&str> = outcome.output.lines().collect();
        if self.ui.json() {
            let Outcome { typed, exit, took, .. } = outcome;
            let step = Step { step: self.steps, who, typed, exit: *exit, ms: millis(*took), output };
            self.ui.show(&step, |_| String::new());
            return;
        }
        self.typed(who, &outcome.typed, Some((outcome.exit, outcome.took)));
        let more = output.len().saturating_sub(lines);
        for line in output.into_iter().take(lines) {
            self.ui.say(&format!("        {line}"));
        }
        if more > 0 {
            self.ui.say(&format!("        ... and {more} more lines"));
        }
    }

    /// The same, for programs only.
    pub(super) fn told_shortly(&mut self, who: &str, outcome: &Outcome) {
        if self.ui.json() {
            self.told(who, outcome, 0);
        }
    }

    /// What somebody typed; it goes on while others act.
    pub(super) fn goes_on(&mut self, who: &str, typed: &str) {
        self.typed(who, typed, None);
    }

    fn typed(&mut self, who: &str, typed: &str, end: Option<(i32, Duration)>) {
        let prompt = format!("{who}$");
        let text = format!("{prompt:<7} {typed}");
        let time = match end {
            None => "...".to_owned(),
            Some((0, took)) => time_words(took),
            Some((exit, took)) => format!("exit {exit}, {}", time_words(took)),
        };
        let gap = WIDTH.saturating_sub(text.chars().count()).max(2);
        let line = format!("{}{}{}", self.painted(BOLD, &text), " ".repeat(gap), self.painted(DIM, &time));
        self.ui.say(&line);
    }

    /// A figure that the story is about.
    pub(super) fn measured(&mut self, what: &str, took: Duration) {
        if self.ui.json() {
            self.ui.show(&Measured { measured: what, ms: millis(took) }, |_| String::new());
        } else {
            let line = self.painted(GREEN, &format!("    ==> {what}: {}", time_words(took)));
            self.ui.say(&line);
        }
    }

    /// On stderr.
    pub(super) fn remark(&mut self, text: &str) {
        self.ui.remark(text);
    }

    /// The last lines.
    pub(super) fn end(&mut self, played: &Result<(), Fault>, left: &[String], took: Duration) {
        let ended = match played {
            Ok(()) => "done",
            Err(Fault::Interrupted) => "interrupted",
            Err(_) => "failed",
        };
        if self.ui.json() {
            self.ui.show(&End { ended, steps: self.steps, ms: millis(took), left }, |_| String::new());
            return;
        }
        self.ui.say("");
        for line in left {
            let line = self.painted(RED, &format!("still there: {line}"));
            self.ui.say(&line);
        }
        if left.is_empty() {
            self.ui.say("cleaned up: no process, no mount, no loop device and no file is left");
        }
        if played.is_ok() {
            let steps = self.steps;
            let line =
                self.painted(GREEN, &format!("the demo went as it should: {steps} steps in {}", time_words(took)));
            self.ui.say(&line);
        }
    }
}

/// Milliseconds with their fraction, for programs.
pub(super) fn millis(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e6).round() / 1e3
}

/// A time for people.
pub(super) fn time_words(took: Duration) -> String {
    let ms = took.as_secs_f64() * 1e3;
    match ms {
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.2} s", ms / 1e3),
    }
}
