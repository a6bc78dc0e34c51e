//! How far an own request has come: asked, seen, answered, releasing, mounting.

use std::fmt;

use volctl::wire::call::Answer3;
use volctl::wire::status::{ClientMount, ClientState, Status, VolumeState, VolumeStatus};

use super::volumes::writers_mount;
use crate::words;

/// A daemon polls at least once in this time; one that has beaten since a request is older than that has seen it.
const POLL_MS: u64 = 500;

/// The steps, in their order.
pub const STEPS: [&str; 5] = ["Asked", "Seen", "Answered", "Releasing", "Mounting"];

/// How far a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Behind us.
    Done,
    /// Under way.
    Now,
    /// To come.
    ToCome,
}

/// A request on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The steps, as [`STEPS`].
    pub steps: [Step; 5],
    /// Since when.
    pub elapsed: String,
    /// The place in the queue, where there is one.
    pub place: Option<String>,
    /// What happens now.
    pub text: String,
    /// The words of the answer.
    pub answer: Option<String>,
}

/// The progress of the own request for a volume, if it has one.
#[must_use]
pub fn progress(model: &crate::model::Model, status: &Status, volume: &VolumeStatus, grown: u64) -> Option<Progress> {
    if !matches!(volume.state, VolumeState::Requesting | VolumeState::Granted) {
        return None;
    }
    let request = model.own_request(&volume.name);
    let place = volume.waiting.iter().position(|w| w.client == status.client);
    let age = request.map(|r| r.age_ms).or_else(|| place.map(|at| volume.waiting[at].age_ms)).unwrap_or(0);
    let writer = volume.writer.as_ref().filter(|w| **w != status.client);
    let answer = request.and_then(|r| r.answer);
    let at = stage(status, volume, writer.map(String::as_str), answer, age);
    let mut steps = [Step::ToCome; 5];
    for (index, step) in steps.iter_mut().enumerate() {
        *step = match index.cmp(&at) {
            std::cmp::Ordering::Less => Step::Done,
            std::cmp::Ordering::Equal => Step::Now,
            std::cmp::Ordering::Greater => Step::ToCome,
        };
    }
    let said = request.filter(|r| r.answer.is_some()).map(|r| {
        let message = words::lines(&r.answer_message);
        let quoted = if message.is_empty() { String::new() } else { format!(": “{message}”") };
        format!("{} said {}{quoted}", words::line(&r.to), r.answer.map_or("", Answer3::word))
    });
    Some(Progress {
        steps,
        elapsed: words::elapsed(age + grown),
        place: place
            .filter(|_| volume.waiting.len() > 1 && volume.state == VolumeState::Requesting)
            .map(|at| format!("{} of {} in the queue", at + 1, volume.waiting.len())),
        text: text(volume, writer.map(String::as_str), answer, at, grown),
        answer: said,
    })
}

/// Which step is under way.
fn stage(status: &Status, volume: &VolumeStatus, writer: Option<&str>, answer: Option<Answer3>, age: u64) -> usize {
    if volume.state == VolumeState::Granted {
        return 4;
    }
    let Some(writer) = writer else {
        // Nobody has to be asked: the next that happens is the mount.
        return 4;
    };
    match answer {
        Some(Answer3::Yes) => 3,
        Some(_) => 2,
        None => {
            let peer = status.clients.iter().find(|c| c.name == writer);
            let beaten = peer
                .is_some_and(|c| c.state == ClientState::On && c.beat_age_ms.is_some_and(|beat| beat + POLL_MS < age));
            if beaten { 2 } else { 1 }
        }
    }
}

fn text(volume: &VolumeStatus, writer: Option<&str>, answer: Option<Answer3>, at: usize, grown: u64) -> String {
    let who = words::line(writer.unwrap_or("the writer"));
    if let Some(waits) = volume.waits_for {
        let wait = volume.wait_ms.map(|ms| format!("up to {} ", words::elapsed(ms.saturating_sub(grown))));
        return format!("Waits {}{}", wait.unwrap_or_default(), waits.words());
    }
    if volume.state == VolumeState::Granted {
        return "Access is granted; the volume is being mounted for writing".into();
    }
    match (answer, at) {
        (Some(Answer3::Yes), _) => match writers_mount(volume) {
            Some(ClientMount::Rw | ClientMount::Mounting) => format!("{who} said yes and closes the volume"),
            _ => format!("{who} has closed the volume and gives it back"),
        },
        (Some(Answer3::Later), _) => format!("{who} said later; the request stands"),
        (_, 1) => format!("On the way to {who}"),
        (_, 4) => "Nobody writes; taking the write privilege".into(),
        _ => format!("{who}’s computer has the request; waiting for the answer"),
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = |step: &Step| match step {
            Step::Done => "x",
            Step::Now => ">",
            Step::ToCome => " ",
        };
        let steps: Vec<String> =
            STEPS.iter().zip(&self.steps).map(|(name, step)| format!("{}{name}", sign(step))).collect();
        writeln!(f, "  {} | {}", steps.join(" "), self.elapsed)?;
        for line in self.place.iter().chain([&self.text]).chain(&self.answer) {
            writeln!(f, "    {line}")?;
        }
        Ok(())
    }
}
