//! The privilege matrix: who may do what with which volume.

use eframe::egui::{self, RichText, Ui};
use volctl::wire::status::Access;

use super::section;
use crate::admin::{AdminCommand, Privilege, access_word};
use crate::command::Command;
use crate::model::Model;
use crate::theme::Palette;
use crate::ui::parts;
use crate::words;

/// Draws the page.
pub fn show(ui: &mut Ui, p: &Palette, model: &mut Model, out: &mut Vec<Command>) {
    let Some(tables) = model.admin.tables.clone() else {
        ui.label(RichText::new("Read the tables first.").color(p.weak));
        return;
    };
    if tables.clients.is_empty() || tables.volumes.is_empty() {
        ui.label(RichText::new("Add clients and volumes first.").color(p.weak));
        return;
    }
    let refused = model.rights.no_administration();
    if let Some(why) = refused {
        let example = tables.privilege(&tables.clients[0].name, &tables.volumes[0].name);
        let example = AdminCommand::Allow(Privilege { access: Access::Write, ..example });
        parts::sentence(ui, RichText::new(format!("{why} For example:")).small().color(p.weak));
        if let Some(line) = example.line(model.admin.control.trim()) {
            parts::command_line(ui, p, &line, out);
        }
    }
    for volume in &tables.volumes {
        section(ui, p, &words::line(&volume.name), "", |ui| {
            for client in &tables.clients {
                one(ui, p, &tables.privilege(&client.name, &volume.name), refused, out);
            }
        });
    }
}

fn one(ui: &mut Ui, p: &Palette, now: &Privilege, refused: Option<&str>, out: &mut Vec<Command>) {
    let enabled = refused.is_none();
    let (client, volume) = (words::line(&now.client), words::line(&now.volume));
    ui.horizontal_wrapped(|ui| {
        ui.allocate_ui_with_layout(egui::vec2(84.0, 22.0), egui::Layout::left_to_right(egui::Align::Center), |ui| {
            ui.set_min_width(84.0);
            parts::short(ui, RichText::new(&client).strong());
        });
        for access in [Access::None, Access::Read, Access::Write] {
            let chosen = now.access == access;
            let word = access_word(access);
            let radio = ui.add_enabled(enabled, egui::RadioButton::new(chosen, word));
            let label = format!("{client} on {volume}: {word}");
            radio.widget_info(|| egui::WidgetInfo::selected(egui::Role::RadioButton, enabled, chosen, &label));
            if radio.clicked() && !chosen {
                out.push(allow(Privilege { access, ..now.clone() }));
            }
        }
        if now.access == Access::None {
            return;
        }
        let mut lockout = now.lockout;
        let locked =
            check(ui, enabled, &mut lockout, "locked out", &format!("{client} on {volume}: locked out of asking"));
        if locked {
            out.push(allow(Privilege { lockout, ..now.clone() }));
        }
        let mut auto_update = now.auto_update;
        let auto = check(ui, enabled, &mut auto_update, "auto update", &format!("{client} on {volume}: auto update"));
        if auto {
            out.push(allow(Privilege { auto_update, ..now.clone() }));
        }
        every(ui, p, now, enabled, out);
    });
}

fn check(ui: &mut Ui, enabled: bool, value: &mut bool, text: &str, label: &str) -> bool {
    let before = *value;
    let response = ui.add_enabled(enabled, egui::Checkbox::new(value, text));
    response.widget_info(|| egui::WidgetInfo::selected(egui::Role::CheckBox, enabled, before, label));
    response.changed()
}

/// How often it looks for newer states.
fn every(ui: &mut Ui, p: &Palette, now: &Privilege, enabled: bool, out: &mut Vec<Command>) {
    ui.label(RichText::new("every").color(p.weak));
    let text = |ms: u64| volctl::units::round_duration_ms(ms);
    let label = format!("{} on {}: check interval", words::line(&now.client), words::line(&now.volume));
    ui.add_enabled_ui(enabled, |ui| {
        let combo = egui::ComboBox::from_id_salt(&label).selected_text(text(now.check_ms)).width(64.0);
        let response = combo.show_ui(ui, |ui| {
            for ms in [500, 1000, 2000, 5000, 10_000, 30_000, 60_000] {
                if ui.selectable_label(now.check_ms == ms, text(ms)).clicked() && now.check_ms != ms {
                    out.push(allow(Privilege { check_ms: ms, ..now.clone() }));
                }
            }
        });
        response.response.widget_info(|| {
            let mut info = egui::WidgetInfo::labeled(egui::Role::ComboBox, enabled, &label);
            info.current_text_value = Some(text(now.check_ms));
            info
        });
    });
}

fn allow(privilege: Privilege) -> Command {
    Command::Admin(AdminCommand::Allow(privilege))
}
