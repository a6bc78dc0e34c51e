//! `volctl status`: a table for people, or the JSON of section 9, once or at every change.

use super::Context;
use super::args::StatusArgs;
use super::output::table;
use crate::units::{round_duration_ms, round_size};
use crate::wire::call::Call;
use crate::wire::client::decode_reply;
use crate::wire::outcome::{Failure, one_line};
use crate::wire::status::{
    Access, ClientStatus, Enforcement, Readers, RequestStatus, Status, VolumeState, VolumeStatus,
};

/// Cursor home, clear the screen.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Prints the status; with `--watch` until it is interrupted or nobody reads.
///
/// # Errors
/// The daemon's [`Failure`], or exit 7, also when the daemon ends meanwhile.
pub fn run(args: &StatusArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    let mut client = context.connect()?;
    if !args.watch {
        let status = client.status()?;
        context.ui.show(&status, status_text);
        return Ok(());
    }
    let mut first = true;
    let last = client.call_more(&Call::Monitor, |value| {
        let status: Status = decode_reply(value)?;
        if !context.ui.json() && context.ui.is_terminal() {
            context.ui.text(CLEAR);
        } else if !first {
            context.ui.say("");
        }
        first = false;
        context.ui.show(&status, status_text);
        Ok(!context.ui.is_closed())
    })?;
    debug_assert!(last.is_none(), "a monitor has no last reply");
    Ok(())
}

/// The whole status for people.
#[must_use]
pub fn status_text(status: &Status) -> String {
    let mut text = head(status);
    for warning in &status.warnings {
        let volume = warning.volume.as_ref().map_or_else(String::new, |volume| format!("{volume}: "));
        text.push_str(&format!("warning: {}\n", one_line(&format!("{volume}{}", warning.text))));
    }
    text.push('\n');
    text.push_str(&volumes(status));
    if !status.clients.is_empty() {
        text.push('\n');
        text.push_str(&clients(&status.clients));
    }
    if !status.requests.is_empty() {
        text.push('\n');
        text.push_str(&request_lines(&status.requests));
    }
    text
}

fn head(status: &Status) -> String {
    let control = &status.control;
    let state = if status.incarnation == 0 {
        "not logged on".to_owned()
    } else if control.lease_left_ms == 0 {
        "lease ended".to_owned()
    } else {
        format!("lease {} left", round_duration_ms(control.lease_left_ms))
    };
    let holder =
        control.semaphore.as_ref().map_or_else(String::new, |semaphore| format!(", {} is in it", semaphore.client));
    let label = control.label.as_ref().map_or_else(String::new, |label| format!(" ({label})"));
    let line = format!(
        "{} (slot {}, {state})   control {}{label}   lock {}{holder}   epoch {}",
        status.client, status.slot, control.path, control.lock, control.epoch
    );
    one_line(&line) + "\n"
}

fn volumes(status: &Status) -> String {
    if status.volumes.is_empty() {
        return "no volumes\n".to_owned();
    }
    let titles = ["VOLUME", "STATE", "WRITER", "GENERATION", "ENFORCED", "FREE", "MOUNTED AT"];
    let mut rows = vec![titles.map(str::to_owned).to_vec()];
    rows.extend(status.volumes.iter().map(volume_row));
    let laid_out = table(&rows);
    let mut lines = laid_out.lines();
    let mut text = format!("{}\n", lines.next().unwrap_or_default());
    for (volume, line) in status.volumes.iter().zip(lines) {
        text.push_str(line);
        text.push('\n');
        for detail in details(volume) {
            text.push_str(&format!("    {}\n", one_line(&detail)));
        }
    }
    // The limit of a lease is one of the host: once below the table, not with every volume.
    let leased = status.volumes.iter().find(|v| v.enforcement == Enforcement::Leased);
    if let Some(note) = leased.and_then(|v| v.enforcement_note.as_ref()) {
        text.push_str(&format!("leased: {}\n", one_line(note)));
    }
    text
}

fn volume_row(volume: &VolumeStatus) -> Vec<String> {
    let generation = if volume.stale {
        format!("{} (sees {})", volume.generation, volume.seen_generation)
    } else {
        volume.generation.clone()
    };
    vec![
        volume.name.clone(),
        volume.state.word().to_owned(),
        volume.writer.clone().unwrap_or_else(|| "-".to_owned()),
        generation,
        volume.enforcement.word().to_owned(),
        volume.free_bytes.map_or_else(|| "-".to_owned(), round_size),
        volume.mountpoint.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}

/// What a person should know about a volume beyond its row.
fn details(volume: &VolumeStatus) -> Vec<String> {
    let mut lines = Vec::new();
    if let (Readers::Live, Some(writer)) = (volume.readers, &volume.writer) {
        lines.push(format!("live: may be mixed while {writer} writes"));
    }
    if let Some(reason) = &volume.reason {
        let locked = if volume.state == VolumeState::Locked { "locked: " } else { "" };
        lines.push(format!("{locked}{reason}"));
    }
    match (volume.waits_for, volume.wait_ms) {
        (Some(what), Some(wait)) => lines.push(format!("waits up to {} {}", round_duration_ms(wait), what.words())),
        (Some(what), None) => lines.push(format!("waits {}", what.words())),
        (None, Some(wait)) => lines.push(format!("waits up to {}", round_duration_ms(wait))),
        (None, None) => {}
    }
    if !volume.waiting.is_empty() {
        let queue: Vec<String> = volume
            .waiting
            .iter()
            .map(|waiting| format!("{} ({})", waiting.client, round_duration_ms(waiting.age_ms)))
            .collect();
        lines.push(format!("waiting for write access: {}", queue.join(", ")));
    }
    if let Some(next) = &volume.next {
        lines.push(format!("promised to {next}"));
    }
    if volume.dirty {
        lines.push("left without a publish by its last writer".to_owned());
    }
    match (volume.access, volume.write_enabled, volume.locked_out) {
        (Access::None, ..) => lines.push("this client may not use it".to_owned()),
        (_, false, _) => lines.push("writing is switched off by the administrator".to_owned()),
        (Access::Write, true, true) => lines.push("this client is locked out of asking for write access".to_owned()),
        _ => {}
    }
    if let (Some(note), Enforcement::Advisory) = (&volume.enforcement_note, volume.enforcement) {
        lines.push(format!("{}: {note}", volume.enforcement.word()));
    }
    if volume.mounted_generations.len() > 1 {
        lines.push(format!("still open: generations {}", volume.mounted_generations.join(", ")));
    }
    lines
}

fn clients(clients: &[ClientStatus]) -> String {
    let mut rows = vec![["CLIENT", "SLOT", "STATE", "LAST BEAT", "HOST"].map(str::to_owned).to_vec()];
    rows.extend(clients.iter().map(|client| {
        vec![
            client.name.clone(),
            client.slot.to_string(),
            client.state.word().to_owned(),
            client.beat_age_ms.map_or_else(|| "-".to_owned(), |age| format!("{} ago", round_duration_ms(age))),
            client.host.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    }));
    table(&rows)
}

/// Open requests for people: who asks whom for what, since when, and the answer or how to give one.
#[must_use]
pub fn request_lines(requests: &[RequestStatus]) -> String {
    let mut text = String::new();
    for request in requests {
        let to = if request.to.is_empty() { String::new() } else { format!(" {}", request.to) };
        let message = if request.message.is_empty() { String::new() } else { format!(": '{}'", request.message) };
        let line = format!(
            "{} asks{to} for {}{message} ({} ago)",
            request.from,
            request.volume,
            round_duration_ms(request.age_ms)
        );
        text.push_str(&one_line(&line));
        text.push('\n');
        let answer = match request.answer {
            None => {
                format!("answer with: volctl answer {} {} yes|no|later", word(&request.volume), word(&request.from))
            }
            Some(answer) if request.answer_message.is_empty() => {
                format!("answer: {}", answer.word())
            }
            Some(answer) => format!("answer: {}, '{}'", answer.word(), request.answer_message),
        };
        text.push_str(&format!("    {}\n", one_line(&answer)));
    }
    text
}

/// A name as a shell takes it: quoted unless it is plain.
fn word(name: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.chars().all(plain) && !name.starts_with('-') {
        name.to_owned()
    } else {
        format!("'{}'", name.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
