//! The command palette: every command by a few letters.

use eframe::egui::{self, Align2, Id, Key, Modal, Modifiers, RichText, Ui, vec2};

use super::parts;
use crate::command::{Command, Entry, Menu, fits};
use crate::model::Model;
use crate::theme;

/// How many entries are shown.
const SHOWN: usize = 10;

/// The entries that fit what was typed, best first.
#[must_use]
pub fn matching<'a>(entries: &'a [Entry], typed: &str) -> Vec<&'a Entry> {
    let mut found: Vec<(usize, &Entry)> =
        entries.iter().filter_map(|e| fits(&e.label, typed).map(|rank| (rank, e))).collect();
    // What one does with volumes before what one does with the window.
    found.sort_by_key(|(rank, entry)| (entry.refused.is_some(), *rank, entry.menu != Menu::Volume));
    found.into_iter().map(|(_, entry)| entry).collect()
}

/// Draws the palette, if it is open.
pub fn show(ui: &mut Ui, model: &mut Model, entries: &[Entry], out: &mut Vec<Command>) {
    let p = theme::palette(ui);
    let Some((typed, chosen)) = &mut model.drafts.palette else { return };
    let room = ui.ctx().content_rect();
    let width = (room.width() - 32.0).clamp(200.0, 480.0);
    let id = Id::unique("palette");
    let area = Modal::default_area(id).anchor(Align2::CENTER_TOP, vec2(0.0, 24.0_f32.min(room.height() * 0.1)));
    let frame = egui::Frame::popup(ui.style()).inner_margin(10).corner_radius(theme::ROUND);
    let (up, down, enter) = ui.input_mut(|i| {
        let mut pressed = |key| i.consume_key(Modifiers::NONE, key);
        (pressed(Key::ArrowUp), pressed(Key::ArrowDown), pressed(Key::Enter))
    });
    let modal = Modal::new(id).area(area).frame(frame).show(ui.ctx(), |ui| {
        ui.set_width(width);
        let before = typed.clone();
        let field = parts::field(ui, typed, "Command", "Type a command, such as: request", f32::INFINITY);
        field.request_focus();
        if before != *typed {
            *chosen = 0;
        }
        let found = matching(entries, typed);
        let last = found.len().min(SHOWN).saturating_sub(1);
        *chosen = if up { chosen.saturating_sub(1) } else { (*chosen + usize::from(down)).min(last) };
        parts::fitting(room.height() - 110.0).show(ui, |ui| {
            for (at, entry) in found.iter().take(SHOWN).enumerate() {
                let shortcut = entry.shortcut.map(|s| s.text()).unwrap_or_default();
                let enabled = entry.refused.is_none();
                let mut button = egui::Button::selectable(at == *chosen, entry.label.as_str()).truncate();
                if !shortcut.is_empty() {
                    button = button.shortcut_text(shortcut);
                }
                let row = ui.add_enabled(enabled, button.min_size(vec2(width - 24.0, 24.0)));
                parts::named(&row, enabled, &format!("Palette: {}", entry.label), entry.refused.as_deref());
                if enabled && (row.clicked() || (enter && at == *chosen)) {
                    out.push(Command::Close);
                    out.push(entry.command.clone());
                }
                if let Some(why) = &entry.refused {
                    row.on_disabled_hover_text(why);
                }
            }
            if found.is_empty() {
                ui.label(RichText::new("No command has these letters").color(p.weak));
            }
        });
    });
    parts::settle(ui, id, modal.response.rect);
    if modal.should_close() {
        out.push(Command::Close);
    }
}
