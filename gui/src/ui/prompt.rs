//! Somebody asks.

use eframe::egui::{self, Id, Key, Modal, Modifiers, RichText, Ui};
use volctl::wire::call::Answer3;

use super::parts;
use crate::command::Command;
use crate::model::Model;
use crate::theme;
use crate::view::prompt::{Programs, Prompt};
use crate::view::{Line, Tone};

/// The answers, with the key that gives each while Alt is held: no letter typed elsewhere can give one.
const ANSWERS: [(Answer3, &str, Key); 3] =
    [(Answer3::Yes, "Yes", Key::Y), (Answer3::No, "No", Key::N), (Answer3::Later, "Later", Key::L)];

/// From this width on the answers stand in one row.
const ONE_ROW: f32 = 450.0;

/// Draws the prompt over everything else.
pub fn show(ui: &mut Ui, model: &mut Model, prompt: &Prompt, out: &mut Vec<Command>) {
    let p = theme::palette(ui);
    let room = ui.ctx().content_rect();
    let width = (room.width() - 48.0).clamp(200.0, 460.0);
    let frame = egui::Frame::popup(ui.style()).inner_margin(16).stroke((2.0, p.amber)).corner_radius(theme::ROUND);
    let modal = Modal::new(Id::unique("prompt")).frame(frame).show(ui.ctx(), |ui| {
        ui.set_width(width);
        // However long the message is, the answers are in sight.
        let answers = if width < ONE_ROW { 70.0 } else { 38.0 };
        parts::fitting(room.height() - 72.0 - answers).show(ui, |ui| {
            body(ui, &p, model, prompt);
            parts::follow_keyboard(ui);
        });
        ui.add_space(4.0);
        buttons(ui, &p, model, prompt, out);
    });
    parts::settle(ui, Id::unique("prompt"), modal.response.rect);
    if modal.should_close() && !modal.backdrop_response.clicked() {
        out.push(Command::PutOff(prompt.id.clone()));
    }
}

fn body(ui: &mut Ui, p: &theme::Palette, model: &mut Model, prompt: &Prompt) {
    ui.horizontal_wrapped(|ui| {
        ui.label(RichText::new(&prompt.question).heading().strong());
        if let Some(behind) = &prompt.behind {
            parts::badge(ui, p, Tone::Waiting, behind);
        }
    });
    parts::sentence(ui, RichText::new(&prompt.about).small().color(p.weak));
    if !prompt.message.is_empty() {
        theme::banner(p, Tone::Quiet).show(ui, |ui| {
            ui.set_width(ui.available_width());
            egui::ScrollArea::vertical().id_salt("message").max_height(110.0).show(ui, |ui| {
                parts::sentence(ui, RichText::new(format!("“{}”", prompt.message)).size(15.0));
            });
        });
    }
    match &prompt.programs {
        Programs::Looking => {
            drop(parts::line(ui, p, &Line::new(Tone::Quiet, "Looking for files that your programs have open")))
        }
        Programs::None => {
            drop(parts::line(ui, p, &Line::new(Tone::Calm, "None of your programs has files open there")))
        }
        Programs::Unknown(why) => {
            drop(parts::line(ui, p, &Line::new(Tone::Quiet, format!("Open files are not known: {why}"))))
        }
        Programs::Open(lines) => {
            parts::line(ui, p, &Line::new(Tone::Bad, "Your programs have files open there:"));
            for line in lines {
                ui.indent(line, |ui| parts::sentence(ui, RichText::new(line)));
            }
        }
    }
    if let Some(why) = &prompt.refused {
        parts::line(ui, p, &Line::new(Tone::Bad, why));
    }
    parts::sentence(ui, RichText::new(prompt.meaning()).color(p.weak));
    let text = model.drafts.answers.entry(prompt.id.clone()).or_default();
    parts::field(ui, text, "What to say with the answer", "Say something with it (optional)", f32::INFINITY);
}

fn buttons(ui: &mut Ui, p: &theme::Palette, model: &Model, prompt: &Prompt, out: &mut Vec<Command>) {
    let message = model.drafts.answers.get(&prompt.id).map_or("", String::as_str);
    ui.horizontal_wrapped(|ui| {
        for (answer, word, key) in ANSWERS {
            let label = format!("{word}  (Alt+{})", key.symbol_or_name());
            let button = if answer == Answer3::Yes { parts::main_button(p, &label) } else { egui::Button::new(label) };
            let response = ui.add(button);
            parts::named(&response, true, &format!("{word}: answer {}", prompt.from), None);
            let pressed = ui.input_mut(|i| i.consume_key(Modifiers::ALT, key));
            if response.clicked() || pressed {
                out.push(prompt.answer(answer, message));
            }
        }
        let hide = ui.button("Decide in a moment");
        if hide.on_hover_text("Closes this; the request stands, and a line at the top says so (Esc)").clicked() {
            out.push(Command::PutOff(prompt.id.clone()));
        }
    });
}
