//! What is always there: menu, rail, banners, notices.

use eframe::egui::{self, Align, Layout, MenuBar, RichText, Ui, vec2};

use super::{parts, trouble};
use crate::command::{Command, Entry, Menu, View};
use crate::model::Model;
use crate::theme;
use crate::view::{self, Line, Tone};
use crate::words;

/// Draws the menu bar.
pub fn menu(ui: &mut Ui, model: &Model, entries: &[Entry], out: &mut Vec<Command>) {
    let p = theme::palette(ui);
    MenuBar::new().ui(ui, |ui| {
        for menu in Menu::ALL {
            ui.menu_button(menu.title(), |ui| {
                ui.set_max_width(340.0);
                egui::ScrollArea::vertical().max_height(ui.ctx().content_rect().height() - 60.0).show(ui, |ui| {
                    for entry in entries.iter().filter(|e| e.menu == menu) {
                        item(ui, entry, out);
                    }
                });
            });
        }
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            let head = view::head(model);
            let badge = parts::badge(ui, &p, head.tone, &head.text);
            if let Some(status) = &model.status {
                let text = format!(
                    "Control volume {} ({}), socket {}",
                    words::line(&status.control.path),
                    status.control.lock,
                    model.socket.display()
                );
                badge.on_hover_text(text);
            }
            if !model.me().is_empty() {
                parts::short(ui, RichText::new(words::cut(&words::line(model.me()), 24)).strong());
            }
        });
    });
}

fn item(ui: &mut Ui, entry: &Entry, out: &mut Vec<Command>) {
    let mut button = egui::Button::new(entry.label.as_str());
    if let Some(shortcut) = entry.shortcut {
        button = button.shortcut_text(shortcut.text());
    }
    let enabled = entry.refused.is_none();
    let response = ui.add_enabled(enabled, button);
    parts::named(&response, enabled, &entry.label, entry.refused.as_deref());
    if response.clicked() {
        out.push(entry.command.clone());
        ui.close();
    }
    if let Some(why) = &entry.refused {
        response.on_disabled_hover_text(why);
    }
}

/// Draws the rail with the views.
pub fn rail(ui: &mut Ui, model: &Model, out: &mut Vec<Command>) {
    ui.add_space(6.0);
    ui.spacing_mut().item_spacing.y = 4.0;
    for view in View::ALL {
        let waiting = model.unanswered().len();
        let text = match view {
            View::Volumes if waiting > 0 => format!("{} ({waiting})", view.title()),
            _ => view.title().to_owned(),
        };
        let chosen = model.view == view;
        let text = if chosen { RichText::new(text).strong() } else { RichText::new(text) };
        let button = egui::Button::selectable(chosen, text).min_size(vec2(ui.available_width(), 32.0));
        let response = ui.add(button);
        response.widget_info(|| {
            egui::WidgetInfo::selected(egui::Role::Button, true, chosen, format!("View {}", view.title()))
        });
        if response.clicked() {
            out.push(Command::Show(view));
        }
    }
}

/// Draws what is wrong with the whole, requests that were put off, and notices.
pub fn banners(ui: &mut Ui, model: &Model, out: &mut Vec<Command>) {
    let p = theme::palette(ui);
    let room = ui.ctx().content_rect().height() * 0.45;
    egui::ScrollArea::vertical().id_salt("banners").max_height(room).auto_shrink([false, true]).show(ui, |ui| {
        for one in view::trouble::troubles(model) {
            trouble::show(ui, &p, &one, out);
        }
        if let Some((text, command)) = view::prompt::put_off(model) {
            let text = Line::new(Tone::Waiting, text);
            if parts::banner(ui, &p, &text, parts::main_button(&p, "Answer"), "Answer the waiting request") {
                out.push(command);
            }
        }
        for notice in &model.notices {
            let tone = if notice.result.is_ok() { Tone::Writing } else { Tone::Bad };
            theme::banner(&p, tone).show(ui, |ui| {
                ui.set_width(ui.available_width());
                ui.with_layout(Layout::right_to_left(Align::Min), |ui| {
                    let close = ui.button("OK");
                    parts::named(&close, true, &format!("Close notice {}", notice.id), None);
                    if close.clicked() {
                        out.push(Command::Dismiss(notice.id));
                    }
                    ui.with_layout(Layout::top_down(Align::Min), |ui| match &notice.result {
                        Ok(text) => drop(parts::sentence(ui, text)),
                        Err(failure) => {
                            parts::sentence(ui, RichText::new(words::line(&failure.what)).strong());
                            parts::sentence(ui, words::line(&failure.why));
                            parts::sentence(ui, RichText::new(words::line(&failure.next)).color(p.weak));
                        }
                    });
                });
            });
        }
    });
}
