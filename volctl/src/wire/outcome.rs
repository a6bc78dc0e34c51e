//! How a command ends: the exit codes and the one error type for people (section 9).
//!
//! Every exit code of every command comes from [`ExitCode`]; every error that a person sees is a [`Failure`]:
//! one line of what, one of why, one of what next.

use serde::{Deserialize, Serialize};

/// Exit codes of every command. Stable: other programs drive them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
#[repr(u8)]
pub enum ExitCode {
    /// It was done.
    Done = 0,
    /// It failed for a reason that no other code names.
    Failed = 1,
    /// The command line or the call was wrong.
    Usage = 2,
    /// A rule or the writer refused it.
    Refused = 3,
    /// The time ran out; a request may still stand.
    TimedOut = 4,
    /// Someone holds what is needed; later may do.
    Busy = 5,
    /// A table is damaged.
    Damaged = 6,
    /// No daemon answers.
    NoDaemon = 7,
}

impl ExitCode {
    /// All codes, in order.
    pub const ALL: [Self; 8] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::Refused,
        Self::TimedOut,
        Self::Busy,
        Self::Damaged,
        Self::NoDaemon,
    ];

    /// The number that the process exits with.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The word for it: the last part of the Varlink error's name (`io.volctl.Refused`).
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Done => "Done",
            Self::Failed => "Failed",
            Self::Usage => "Usage",
            Self::Refused => "Refused",
            Self::TimedOut => "TimedOut",
            Self::Busy => "Busy",
            Self::Damaged => "Damaged",
            Self::NoDaemon => "NoDaemon",
        }
    }
}

impl From<ExitCode> for u8 {
    fn from(code: ExitCode) -> Self {
        code.code()
    }
}

/// A number that is no exit code of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not an exit code of volctl (0 to 7)")]
pub struct UnknownExitCode(u8);

impl TryFrom<u8> for ExitCode {
    type Error = UnknownExitCode;

    fn try_from(code: u8) -> Result<Self, UnknownExitCode> {
        Self::ALL.into_iter().find(|known| known.code() == code).ok_or(UnknownExitCode(code))
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.code())
    }
}

/// Why a command did not do what it was asked, for people: what, why, and what to do next (guarantee G6).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[error("{what}: {why}")]
pub struct Failure {
    /// The exit code of the command.
    pub exit: ExitCode,
    /// What did not happen, in one line.
    pub what: String,
    /// Which rule or fact stopped it, and who holds what, in one line.
    pub why: String,
    /// What to do next, in one line.
    pub next: String,
}

impl Failure {
    /// A failure of the given kind.
    pub fn new(exit: ExitCode, what: impl Into<String>, why: impl Into<String>, next: impl Into<String>) -> Self {
        Self { exit, what: what.into(), why: why.into(), next: next.into() }
    }

    /// Exit 1: failed for a reason that no other code names.
    pub fn failed(what: impl Into<String>, why: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(ExitCode::Failed, what, why, next)
    }

    /// Exit 2: the command line or the call was wrong.
    pub fn usage(what: impl Into<String>, why: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(ExitCode::Usage, what, why, next)
    }

    /// Exit 3: refused by a rule or by the writer.
    pub fn refused(what: impl Into<String>, why: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(ExitCode::Refused, what, why, next)
    }

    /// Exit 4: the time ran out.
    pub fn timed_out(what: impl Into<String>, why: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(ExitCode::TimedOut, what, why, next)
    }

    /// Exit 5: someone holds what is needed.
    pub fn busy(what: impl Into<String>, why: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(ExitCode::Busy, what, why, next)
    }

    /// Exit 6: a table is damaged.
    pub fn damaged(what: impl Into<String>, why: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(ExitCode::Damaged, what, why, next)
    }

    /// Exit 7: no daemon answers.
    pub fn no_daemon(what: impl Into<String>, why: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(ExitCode::NoDaemon, what, why, next)
    }

    /// The three lines for stderr, each ending in a line break.
    #[must_use]
    pub fn to_lines(&self) -> String {
        format!("volctl: {}\n  why: {}\n  next: {}\n", one_line(&self.what), one_line(&self.why), one_line(&self.next))
    }

    /// One line of JSON: `{"exit":3,"what":"…","why":"…","next":"…"}`, without a line break.
    #[must_use]
    pub fn to_json(&self) -> String {
        safe_json(&serde_json::to_string(self).expect("three texts and a number are always JSON"))
    }
}

/// Makes any text safe for one line of a terminal: control characters (a message comes from another host) become
/// U+FFFD, line breaks and tabs a space.
#[must_use]
pub fn one_line(text: &str) -> String {
    text.trim_end()
        .chars()
        .map(|c| match c {
            '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => ' ',
            c => harmless(c),
        })
        .collect()
}

/// As [`one_line`], but line breaks and tabs stay.
#[must_use]
pub fn safe_lines(text: &str) -> String {
    text.chars().map(|c| if matches!(c, '\n' | '\t') { c } else { harmless(c) }).collect()
}

/// JSON that is safe to be shown on a terminal: what [`safe_lines`] would take away is written as an escape, and reads
/// back the same. (JSON itself escapes only what is below a blank.)
#[must_use]
pub fn safe_json(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '\n' || harmless(c) == c {
            safe.push(c);
        } else {
            safe.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    safe
}

fn harmless(c: char) -> char {
    if c.is_control() || is_direction_mark(c) { '\u{fffd}' } else { c }
}

/// Characters that turn the direction of text around them, or break a line: they could make a line read as another one.
const fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_published_numbers() {
        let numbers: Vec<u8> = ExitCode::ALL.iter().map(|code| code.code()).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(ExitCode::try_from(8), Err(UnknownExitCode(8)));
        assert_eq!(ExitCode::Damaged.code(), 6);
    }

    #[test]
    fn a_failure_is_always_exactly_three_lines() {
        let failure = Failure::refused("no write access\nto footage", "bob\x1b[2J said no", "ask again later\n");
        assert_eq!(
            failure.to_lines(),
            "volctl: no write access to footage\n  why: bob\u{fffd}[2J said no\n  next: ask again later\n"
        );
    }

    #[test]
    fn a_failure_survives_json() {
        let failure = Failure::busy("a", "b\n\"c\"", "d");
        let json = failure.to_json();
        assert!(json.starts_with("{\"exit\":5,\"what\""), "{json}");
        assert_eq!(serde_json::from_str::<Failure>(&json).expect("own JSON"), failure);
        assert!(serde_json::from_str::<Failure>(&json.replace('5', "9")).is_err());
    }

    #[test]
    fn no_text_of_another_host_reaches_a_terminal_as_a_command() {
        let hostile = "a\x1b]0;owned\x07\u{9b}2J\u{7f}\u{202e}b\u{2028}c\r\nd\te\0";
        let bad = |text: &str| text.chars().any(|c| (c.is_control() && c != '\n' && c != '\t') || is_direction_mark(c));
        assert!(bad(hostile));
        assert!(!bad(&one_line(hostile)) && !one_line(hostile).contains(['\n', '\t']));
        assert!(!bad(&safe_lines(hostile)) && safe_lines(hostile).contains("\nd\te"));
        let json = safe_json(&serde_json::to_string(hostile).expect("JSON"));
        assert!(!bad(&json), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), hostile, "nothing is lost");
    }
}
