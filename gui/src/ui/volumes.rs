//! The volumes, a card for each.

use eframe::egui::{Button, RichText, Role, Sense, Ui, WidgetInfo, vec2};

use super::parts;
use crate::command::Command;
use crate::model::Model;
use crate::theme::{self, Palette};
use crate::view::progress::{Progress, STEPS, Step};
use crate::view::volumes::Card;
use crate::view::{Line, Tone};
use crate::words;

/// From this width on a card has two columns.
const TWO_COLUMNS: f32 = 520.0;

/// Draws the view.
pub fn show(ui: &mut Ui, model: &Model, cards: &[Card], out: &mut Vec<Command>) {
    let p = theme::palette(ui);
    if cards.is_empty() {
        match model.live() {
            Some(_) => {
                parts::empty(ui, &p, "There are no volumes yet", "Add one in Administration, Volumes of the tables.")
            }
            None => parts::empty(ui, &p, "No volumes to show", "They appear as soon as the daemon answers."),
        }
        return;
    }
    parts::scrolled(ui, "volumes", |ui| {
        for one in cards {
            card(ui, &p, one, out);
            ui.add_space(theme::GAP - ui.spacing().item_spacing.y);
        }
    });
}

fn card(ui: &mut Ui, p: &Palette, card: &Card, out: &mut Vec<Command>) {
    theme::card(p).show(ui, |ui| {
        ui.set_width(ui.available_width());
        head(ui, p, card);
        ui.add_space(2.0);
        if ui.available_width() >= TWO_COLUMNS {
            ui.columns_const(|[left, right]| {
                facts(left, p, card);
                places(right, p, card, out);
            });
        } else {
            facts(ui, p, card);
            places(ui, p, card, out);
        }
        for (who, id) in &card.asked {
            asked(ui, p, card, who, id, out);
        }
        if let Some(progress) = &card.progress {
            steps(ui, p, card, progress);
        }
        if let Some(ending) = &card.ending {
            let name = format!("Close the news about {}", words::line(&card.name));
            if parts::banner(ui, p, ending, Button::new("OK"), &name) {
                out.push(Command::Forget(card.name.clone()));
            }
        }
        ui.add_space(2.0);
        ui.horizontal_wrapped(|ui| {
            for button in &card.buttons {
                parts::button(ui, p, button, out);
            }
        });
        // Why the main button cannot be pressed is said openly: many never move the pointer onto it.
        if let Some(why) = card.buttons.iter().find(|b| b.main).and_then(|b| b.refused.as_ref()) {
            parts::sentence(ui, RichText::new(why).small().color(p.weak));
        }
    });
}

fn head(ui: &mut Ui, p: &Palette, card: &Card) {
    ui.horizontal(|ui| {
        let (rect, icon) = ui.allocate_exact_size(vec2(34.0, 34.0), Sense::hover());
        parts::shape(ui, rect, p, &card.mark);
        icon.widget_info(|| WidgetInfo::labeled(Role::Image, true, card.mark.word));
        let room = (ui.available_width() - 130.0).max(60.0);
        ui.allocate_ui(vec2(room, 36.0), |ui| {
            ui.vertical(|ui| {
                ui.spacing_mut().item_spacing.y = 0.0;
                parts::short(ui, RichText::new(words::line(&card.name)).size(17.0).strong());
                parts::short(ui, RichText::new(&card.kind).small().color(p.weak));
            });
        });
        ui.with_layout(eframe::egui::Layout::right_to_left(eframe::egui::Align::Center), |ui| {
            let word = parts::badge(ui, p, card.mark.tone, card.mark.word);
            let name = format!("{} is {}", words::line(&card.name), card.mark.word);
            word.widget_info(|| WidgetInfo::labeled(Role::Label, true, name.clone()));
        });
    });
}

fn facts(ui: &mut Ui, p: &Palette, card: &Card) {
    parts::line(ui, p, &card.writer);
    if let Some(waiting) = &card.waiting {
        parts::line(ui, p, &Line::new(Tone::Waiting, waiting));
    }
    let text = format!("{} · generation {}", capital(&card.freshness.text), card.generation);
    parts::line(ui, p, &Line::new(card.freshness.tone, text));
    for remark in &card.remarks {
        parts::line(ui, p, remark);
    }
}

fn places(ui: &mut Ui, p: &Palette, card: &Card, out: &mut Vec<Command>) {
    if let Some((used, text)) = &card.space {
        parts::bar(ui, p, *used, text);
    }
    ui.horizontal_wrapped(|ui| {
        if let Some((_, text)) = &card.space {
            ui.label(RichText::new(text).small().color(p.weak));
        }
        let (line, note) = &card.enforcement;
        parts::badge(ui, p, line.tone, &line.text).on_hover_text(note);
    });
    if let Some(place) = &card.mountpoint {
        let link = ui.link(words::middle(&words::line(place), letters(ui)));
        parts::named(&link, true, &format!("Open the folder of {}", words::line(&card.name)), None);
        if link.on_hover_text(format!("{} – open in the file manager", words::line(place))).clicked() {
            out.push(Command::OpenFolder(place.clone()));
        }
    }
}

/// How many letters of a path have room in a line.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a line of some hundred pixels")]
fn letters(ui: &Ui) -> usize {
    (ui.available_width() / 8.0).max(8.0) as usize
}

fn asked(ui: &mut Ui, p: &Palette, card: &Card, who: &str, id: &str, out: &mut Vec<Command>) {
    let text = Line::new(Tone::Waiting, format!("{who} asks for it"));
    let name = format!("Answer {who} about {}", words::line(&card.name));
    if parts::banner(ui, p, &text, Button::new("Answer…"), &name) {
        out.push(Command::Reopen(id.to_owned()));
    }
}

/// The steps of a request, as a row of dots with words.
fn steps(ui: &mut Ui, p: &Palette, card: &Card, progress: &Progress) {
    theme::banner(p, Tone::Waiting).show(ui, |ui| {
        ui.set_width(ui.available_width());
        let width = ui.available_width().min(520.0);
        let (rect, response) = ui.allocate_exact_size(vec2(width, 34.0), Sense::hover());
        let pace = width / 5.0;
        let place = |i: f32| eframe::egui::pos2(rect.left() + pace * (i + 0.5), rect.top() + 9.0);
        for (i, (name, step)) in (0_u8..).zip(STEPS.iter().zip(&progress.steps)) {
            let (at, i) = (place(f32::from(i)), f32::from(i));
            let colour = if *step == Step::ToCome { p.weak.gamma_multiply(0.6) } else { p.amber };
            if i > 0.0 {
                let from = place(i - 1.0);
                ui.painter().line_segment([from + vec2(8.0, 0.0), at - vec2(8.0, 0.0)], (2.0, colour));
            }
            match step {
                Step::Done => {
                    ui.painter().circle_filled(at, 6.0, colour);
                }
                Step::Now => {
                    ui.painter().circle_stroke(at, 6.0, (2.0, colour));
                    ui.painter().circle_filled(at, 2.5, colour);
                }
                Step::ToCome => {
                    ui.painter().circle_stroke(at, 6.0, (2.0, colour));
                }
            }
            let ink = if *step == Step::ToCome { p.weak } else { p.text };
            let font = eframe::egui::FontId::proportional(11.5);
            ui.painter().text(at + vec2(0.0, 10.0), eframe::egui::Align2::CENTER_TOP, *name, font, ink);
        }
        let now = STEPS.iter().zip(&progress.steps).find(|(_, s)| **s == Step::Now).map_or("Done", |(name, _)| name);
        let name = format!("The request for {} is at step {now}", words::line(&card.name));
        response.widget_info(|| WidgetInfo::labeled(Role::ProgressIndicator, true, name.clone()));
        let place = progress.place.as_ref().map_or_else(String::new, |place| format!(" · {place}"));
        parts::sentence(ui, RichText::new(format!("{} · {}{place}", progress.text, progress.elapsed)).color(p.text));
        if let Some(answer) = &progress.answer {
            parts::sentence(ui, RichText::new(answer).strong());
        }
    });
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + letters.as_str())
}
