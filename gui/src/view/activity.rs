//! Who held the write privilege when, and what else happened.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Local, Utc};
use volctl::wire::event::{EventName, EventRecord};

use super::Tone;
use crate::model::Model;
use crate::words;

/// A time for which somebody held the write privilege.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Who.
    pub who: String,
    /// From when, milliseconds since 1970.
    pub from: i64,
    /// Until when; None: still.
    pub to: Option<i64>,
}

/// Something on the time line that takes no time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// When, milliseconds since 1970.
    pub at: i64,
    /// Its meaning.
    pub tone: Tone,
    /// The letter that stands for it.
    pub letter: char,
    /// The sentence.
    pub text: String,
}

/// The time line of one volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lane {
    /// The volume.
    pub volume: String,
    /// Who wrote when.
    pub spans: Vec<Span>,
    /// What else happened.
    pub points: Vec<Point>,
}

/// A line of the event log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The time of day here.
    pub time: String,
    /// Its meaning.
    pub tone: Tone,
    /// The event's stable name.
    pub event: String,
    /// The volume, or nothing.
    pub volume: String,
    /// The sentence.
    pub text: String,
}

/// Milliseconds since 1970.
#[must_use]
pub fn millis(time: &str) -> Option<i64> {
    DateTime::parse_from_rfc3339(time).ok().map(|t| t.timestamp_millis())
}

fn tone_of(event: &str) -> Tone {
    let is = |names: &[EventName]| names.iter().any(|n| n.as_str() == event);
    use EventName as E;
    if is(&[E::LeaseLost, E::Fenced, E::GuardianLost, E::TableDamaged, E::ControlLost, E::PeerReaped, E::PeerDead]) {
        Tone::Bad
    } else if is(&[E::LeaseLow, E::GrantRevoked, E::TakeoverStarted, E::RequestReceived, E::HookFailed, E::MountFailed])
    {
        Tone::Waiting
    } else if is(&[E::GrantTaken]) {
        Tone::Writing
    } else if is(&[E::Mounted, E::Refreshed, E::Published, E::LoggedOn, E::ControlBack, E::AnswerReceived]) {
        Tone::Calm
    } else {
        Tone::Quiet
    }
}

/// The time lines of all volumes that the status or the log names.
#[must_use]
pub fn lanes(model: &Model) -> Vec<Lane> {
    let mut lanes: BTreeMap<String, Lane> = BTreeMap::new();
    for volume in model.status.iter().flat_map(|s| &s.volumes) {
        lanes.insert(volume.name.clone(), Lane { volume: volume.name.clone(), ..Lane::default() });
    }
    let me = model.me();
    for event in &model.events {
        let Some(at) = millis(&event.time) else { continue };
        let Some(volume) = event.volume.as_ref().filter(|v| !v.is_empty()) else {
            // With the login its own grants end; what others do is not seen until the next one.
            if [EventName::LeaseLost, EventName::LoggedOff, EventName::DaemonStarted]
                .iter()
                .any(|n| n.as_str() == event.event)
            {
                lanes.values_mut().for_each(|lane| lane.end_all(at));
            }
            continue;
        };
        let lane = lanes.entry(volume.clone()).or_insert_with(|| Lane { volume: volume.clone(), ..Lane::default() });
        lane.take(event, me, at);
    }
    lanes.into_values().collect()
}

impl Lane {
    fn end_all(&mut self, at: i64) {
        self.spans.iter_mut().filter(|s| s.to.is_none()).for_each(|s| s.to = Some(at));
    }

    fn begin(&mut self, who: &str, at: i64) {
        if !self.spans.last().is_some_and(|s| s.to.is_none() && s.who == who) {
            self.end_all(at);
            self.spans.push(Span { who: who.to_owned(), from: at, to: None });
        }
    }

    fn take(&mut self, event: &EventRecord, me: &str, at: i64) {
        let known = EventName::ALL.iter().find(|n| n.as_str() == event.event);
        let other = event.client.as_deref().unwrap_or("another client");
        let letter = match known {
            Some(EventName::GrantTaken) => return self.begin(me, at),
            Some(EventName::PeerGranted) => return self.begin(other, at),
            Some(EventName::GrantReleased | EventName::PeerReleased) => return self.end_all(at),
            Some(EventName::GrantRevoked | EventName::TakeoverStarted) => 'T',
            Some(EventName::Mounted | EventName::Refreshed) => 'R',
            Some(EventName::Published) => 'P',
            Some(EventName::AnswerReceived) if says_no(event) => 'N',
            Some(EventName::AnswerReceived) => 'A',
            Some(EventName::RequestReceived) => '?',
            Some(EventName::Checked) => 'C',
            _ => return,
        };
        let tone = if letter == 'N' { Tone::Waiting } else { tone_of(&event.event) };
        self.points.push(Point { at, tone, letter, text: words::line(&event.text) });
    }
}

/// From when to when the time lines go: at least two minutes, and what the log has, up to a day.
#[must_use]
pub fn window(lanes: &[Lane], now: i64) -> (i64, i64) {
    const LEAST: i64 = 2 * 60 * 1000;
    const DAY: i64 = 24 * 60 * 60 * 1000;
    let first = lanes.iter().flat_map(|l| l.spans.iter().map(|s| s.from).chain(l.points.iter().map(|p| p.at))).min();
    (first.unwrap_or(now).clamp(now - DAY, now - LEAST), now)
}

/// The event log, newest first, as far as it has all the words that were typed.
#[must_use]
pub fn rows(model: &Model, filter: &str) -> Vec<Row> {
    let wanted: Vec<String> = filter.to_lowercase().split_whitespace().map(str::to_owned).collect();
    let has = |event: &&EventRecord| {
        let text = format!(
            "{} {} {} {}",
            event.event,
            event.volume.as_deref().unwrap_or_default(),
            event.client.as_deref().unwrap_or_default(),
            event.text
        );
        let text = text.to_lowercase();
        wanted.iter().all(|word| text.contains(word))
    };
    model.events.iter().rev().filter(has).map(row).collect()
}

fn row(event: &EventRecord) -> Row {
    let volume = event.volume.as_deref().unwrap_or_default();
    // The volume has a column of its own.
    let text = event.text.strip_prefix(volume).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&event.text);
    let time = DateTime::parse_from_rfc3339(&event.time).map(|t| t.with_timezone(&Utc));
    Row {
        time: time
            .map_or_else(|_| event.time.clone(), |t| t.with_timezone(&Local).format("%d %b %H:%M:%S").to_string()),
        tone: tone_of(&event.event),
        event: words::line(&event.event),
        volume: words::line(volume),
        text: words::line(text),
    }
}

/// The log as text, for the clipboard.
#[must_use]
pub fn copy(rows: &[Row]) -> String {
    rows.iter().map(|r| format!("{}\t{}\t{}\t{}\n", r.time, r.event, r.volume, r.text)).collect()
}

/// Whether an answer is a no.
pub(crate) fn says_no(event: &EventRecord) -> bool {
    let who = event.client.as_deref().unwrap_or_default();
    event.text.strip_prefix(who).is_some_and(|rest| rest.starts_with(" says no "))
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.volume)?;
        for span in &self.spans {
            let to = span.to.map_or_else(|| "now".to_owned(), |t| t.to_string());
            writeln!(f, "  {} {}..{to}", span.who, span.from)?;
        }
        for point in &self.points {
            writeln!(f, "  {} {} {} {}", point.letter, point.tone, point.at, point.text)?;
        }
        Ok(())
    }
}
