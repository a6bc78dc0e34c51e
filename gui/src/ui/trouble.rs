//! What is wrong with the whole.

use eframe::egui::{RichText, Ui};

use super::parts;
use crate::command::Command;
use crate::theme::{self, Palette};
use crate::view::Line;
use crate::view::trouble::Trouble;

/// Draws one trouble.
pub fn show(ui: &mut Ui, p: &Palette, trouble: &Trouble, out: &mut Vec<Command>) {
    theme::banner(p, trouble.tone).show(ui, |ui| {
        ui.set_width(ui.available_width());
        parts::line(ui, p, &Line::new(trouble.tone, &trouble.what)).on_hover_text(&trouble.why);
        parts::sentence(ui, RichText::new(&trouble.why).small().color(p.weak));
        parts::sentence(ui, &trouble.next);
        if let Some(line) = &trouble.line {
            parts::command_line(ui, p, line, out);
        }
        if !trouble.buttons.is_empty() {
            ui.horizontal_wrapped(|ui| {
                for (label, command) in &trouble.buttons {
                    if ui.button(*label).clicked() {
                        out.push(command.clone());
                    }
                }
            });
        }
    });
}
