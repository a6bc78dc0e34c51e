//! The composer of a request, and the dialogue of a takeover.

use eframe::egui::{self, Id, Modal, RichText, Ui};
use volctl::wire::names::{MESSAGE_BYTES_MAX, check_message};
use volctl::wire::status::ClientState;

use super::parts;
use crate::command::Command;
use crate::model::Model;
use crate::theme::{self, Palette};
use crate::view::{Line, Tone};
use crate::words;

/// Messages that one click writes.
pub const PHRASES: [&str; 5] = [
    "Only a small fix, a few minutes.",
    "I need it for about an hour.",
    "When you are done, please.",
    "It is urgent: today’s delivery.",
    "The render needs to write tonight.",
];

/// A dialogue in the middle; true when it is to be closed.
fn dialogue(ui: &Ui, name: &'static str, body: impl FnOnce(&mut Ui)) -> bool {
    let room = ui.ctx().content_rect();
    let width = (room.width() - 48.0).clamp(200.0, 460.0);
    let frame = egui::Frame::popup(ui.style()).inner_margin(16).corner_radius(theme::ROUND);
    let modal = Modal::new(Id::unique(name)).frame(frame).show(ui.ctx(), |ui| {
        ui.set_width(width);
        parts::fitting(room.height() - 72.0).show(ui, |ui| {
            body(ui);
            parts::follow_keyboard(ui);
        });
    });
    parts::settle(ui, Id::unique(name), modal.response.rect);
    modal.should_close()
}

/// Draws the composer, if it is open.
pub fn composer(ui: &mut Ui, model: &mut Model, out: &mut Vec<Command>) {
    let p = theme::palette(ui);
    let Some((volume, message)) = model.drafts.request.clone() else { return };
    let writer = model.volume(&volume).and_then(|v| v.writer.clone());
    let mut text = message;
    let closed = dialogue(ui, "request", |ui| {
        let name = words::line(&volume);
        parts::heading(ui, &p, &format!("Request write access to {name}"), &to_whom(writer.as_deref()));
        ui.horizontal_wrapped(|ui| {
            for phrase in PHRASES {
                if ui.button(phrase).clicked() {
                    phrase.clone_into(&mut text);
                }
            }
        });
        // By the event's own modifiers: Control may be up again before a slow window looks.
        let send = ui.input_mut(|i| i.consume_key(egui::Modifiers::COMMAND, egui::Key::Enter));
        let field = egui::TextEdit::multiline(&mut text)
            .hint_text("Say why, in a sentence")
            .desired_rows(3)
            .desired_width(f32::INFINITY)
            .char_limit(12_000);
        let response = ui.add(field);
        parts::label_field(&response, "Message to the writer", &text);
        if ui.memory(|m| m.focused().is_none()) {
            response.request_focus();
        }
        let fault = check_message(&text).err();
        length(ui, &p, &text, fault.map(|e| e.to_string()));
        ui.horizontal_wrapped(|ui| {
            let ask = ui.add_enabled(fault.is_none(), parts::main_button(&p, "Ask"));
            parts::named(&ask, fault.is_none(), &format!("Ask for {name}"), None);
            if ask.on_hover_text("Ctrl+Enter").clicked() || (send && fault.is_none()) {
                out.push(Command::Ask { volume: volume.clone(), message: text.trim().to_owned() });
            }
            if ui.button("Cancel").clicked() {
                out.push(Command::Close);
            }
        });
    });
    if let Some((_, message)) = &mut model.drafts.request {
        *message = text;
    }
    if closed {
        out.push(Command::Close);
    }
}

fn to_whom(writer: Option<&str>) -> String {
    match writer {
        Some(writer) => format!("{} writes now and is asked. You see here how far it is.", words::line(writer)),
        None => "Nobody writes now: you have it in a moment.".into(),
    }
}

fn length(ui: &mut Ui, p: &Palette, text: &str, fault: Option<String>) {
    match fault {
        Some(fault) => drop(parts::line(ui, p, &Line::new(Tone::Bad, format!("The message cannot be sent: {fault}")))),
        None => {
            let left = format!("{} of {MESSAGE_BYTES_MAX} bytes", text.len());
            ui.label(RichText::new(left).small().color(p.weak));
        }
    }
}

/// Draws the dialogue of a takeover, if it is open.
pub fn takeover(ui: &mut Ui, model: &mut Model, out: &mut Vec<Command>) {
    let p = theme::palette(ui);
    let Some((volume, mut skip, mut typed)) = model.drafts.takeover.clone() else { return };
    let writer = model.volume(&volume).and_then(|v| v.writer.clone()).unwrap_or_default();
    let silent = model
        .live()
        .and_then(|s| s.clients.iter().find(|c| c.name == writer))
        .is_some_and(|c| c.state == ClientState::Dead || c.beat_age_ms.is_some_and(|age| age > 3000));
    let closed = dialogue(ui, "takeover", |ui| {
        let (name, who) = (words::line(&volume), words::line(&writer));
        parts::heading(ui, &p, &format!("Take {name} over from {who}"), "");
        let alive = if silent {
            format!(
                "{who} is silent. An ordinary request is granted by itself once it counts as dead and its last writes must have landed; a takeover waits for the same."
            )
        } else {
            format!(
                "{who} is there. It is told to stop, and waited for: programs there get errors, and lose what they had not saved. Ask first."
            )
        };
        parts::sentence(ui, alive);
        if silent {
            ui.checkbox(&mut skip, "Do not wait for its last writes");
        } else {
            skip = false;
        }
        if skip {
            theme::banner(&p, Tone::Bad).show(ui, |ui| {
                let risk = format!(
                    "If {who} still runs, or comes back with writes in its queue, they land in a file system that you are writing: \
                     everything on {name} can be destroyed. Do it only when you know that the computer is off. \
                     Type its name to say that you know: {who}"
                );
                parts::sentence(ui, RichText::new(risk).color(p.text));
                parts::field(ui, &mut typed, "The name of the silent writer", &who, 220.0);
            });
        }
        let ready = !skip || typed.trim() == writer;
        ui.horizontal_wrapped(|ui| {
            let button = egui::Button::new(RichText::new("Take over").color(p.red).strong());
            let go = ui.add_enabled(ready, button);
            parts::named(&go, ready, &format!("Take over {name} now"), None);
            if go.clicked() {
                let yes_i_know = skip.then(|| writer.clone());
                out.push(Command::Takeover { volume: volume.clone(), yes_i_know });
            }
            if ui.button("Cancel").clicked() {
                out.push(Command::Close);
            }
        });
    });
    if let Some(draft) = &mut model.drafts.takeover {
        (draft.1, draft.2) = (skip, typed);
    }
    if closed {
        out.push(Command::Close);
    }
}
