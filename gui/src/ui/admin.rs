//! Administration: the pages, and what they have in common.

pub mod clients;
pub mod privileges;
pub mod tables;
pub mod volumes;

use eframe::egui::{self, Response, RichText, Ui};

use super::parts;
use crate::admin::AdminCommand;
use crate::command::{AdminPage, Command};
use crate::model::Model;
use crate::theme::{self, Palette};
use crate::view::{Line, Tone};
use crate::words;

/// Draws the view.
pub fn show(ui: &mut Ui, model: &mut Model, out: &mut Vec<Command>) {
    let p = theme::palette(ui);
    ui.horizontal_wrapped(|ui| {
        for page in AdminPage::ALL {
            let chosen = model.admin.page == page;
            let tab = ui.add(egui::Button::selectable(chosen, page.title()));
            tab.widget_info(|| {
                egui::WidgetInfo::selected(egui::Role::Tab, true, chosen, format!("Page {}", page.title()))
            });
            if tab.clicked() {
                out.push(Command::ShowAdmin(page));
            }
        }
    });
    news(ui, &p, model, out);
    parts::scrolled(ui, model.admin.page.title(), |ui| {
        control(ui, &p, model, out);
        match model.admin.page {
            AdminPage::Tables => tables::show(ui, &p, model, out),
            AdminPage::Clients => clients::show(ui, &p, model, out),
            AdminPage::Volumes => volumes::show(ui, &p, model, out),
            AdminPage::Privileges => privileges::show(ui, &p, model, out),
        }
    });
}

/// What came of the last act, else what is under way; it stands above what scrolls, wherever on the page the button is. Its line
/// is there also when there is nothing to say: what lies below must not move while somebody aims at it.
fn news(ui: &mut Ui, p: &Palette, model: &Model, out: &mut Vec<Command>) {
    let all: Vec<String> = model.admin.busy.iter().map(|busy| words::line(busy)).collect();
    if model.admin.last.is_none() {
        let text = if all.is_empty() { String::new() } else { format!("Under way: {}", all.join(", ")) };
        parts::short_line(ui, p, &Line::new(Tone::Waiting, text));
        return;
    }
    let room = ui.ctx().content_rect().height() * 0.3;
    egui::ScrollArea::vertical().id_salt("news").max_height(room).auto_shrink([false, true]).show(ui, |ui| {
        said(ui, p, model, out);
    });
}

/// Which tables are worked on.
fn control(ui: &mut Ui, p: &Palette, model: &mut Model, out: &mut Vec<Command>) {
    ui.horizontal_wrapped(|ui| {
        ui.label("Control volume:");
        let width = (ui.available_width() - 150.0).clamp(140.0, 360.0);
        let field =
            parts::field(ui, &mut model.admin.control, "Control volume", "device or image with the tables", width);
        let ready = !model.admin.control.trim().is_empty();
        let enter = field.lost_focus() && ui.input(|i| i.key_pressed(egui::Key::Enter));
        let read = act(ui, model, "Read the tables", "Read the tables", AdminCommand::LookAt, ready, out);
        if enter && ready && !read.clicked() && model.rights.no_administration().is_none() {
            out.push(Command::Admin(AdminCommand::LookAt));
        }
    });
    if let Some(why) = model.rights.no_administration() {
        theme::banner(p, Tone::Waiting).show(ui, |ui| {
            ui.set_width(ui.available_width());
            parts::line(ui, p, &Line::new(Tone::Waiting, why));
        });
    }
    if let Some(failure) = &model.admin.unreadable {
        let text =
            format!("{}: {}. {}", words::line(&failure.what), words::line(&failure.why), words::line(&failure.next));
        parts::line(ui, p, &Line::new(Tone::Bad, text));
    }
}

/// What the last act said.
fn said(ui: &mut Ui, p: &Palette, model: &Model, out: &mut Vec<Command>) {
    match &model.admin.last {
        Some(Ok(text)) => drop(parts::line(ui, p, &Line::new(Tone::Writing, words::lines(text)))),
        Some(Err(failure)) => {
            parts::line(
                ui,
                p,
                &Line::new(Tone::Bad, format!("{}: {}", words::line(&failure.what), words::line(&failure.why))),
            );
            parts::line(ui, p, &Line::new(Tone::Quiet, words::line(&failure.next)));
            if let Some(line) = &model.admin.last_line {
                parts::command_line(ui, p, line, out);
            }
        }
        None => {}
    }
}

/// A button of administration: enabled where the window may do it, else with the reason and the command to copy.
pub fn act(
    ui: &mut Ui,
    model: &Model,
    label: &str,
    name: &str,
    command: AdminCommand,
    ready: bool,
    out: &mut Vec<Command>,
) -> Response {
    let refused = model.rights.no_administration();
    // Looking at devices needs no rights.
    let looks = matches!(command, AdminCommand::ListDevices | AdminCommand::Probe(_));
    let refused = refused.filter(|_| !looks);
    let busy = model.admin.busy.contains(&command.doing());
    let enabled = ready && refused.is_none() && !busy;
    let response = ui.add_enabled(enabled, egui::Button::new(label));
    parts::named(&response, enabled, name, refused);
    if let (Some(_), Some(line)) = (refused, command.line(model.admin.control.trim()).filter(|_| ready)) {
        let copy = ui.button("Copy command");
        parts::named(&copy, true, &format!("Copy the command for: {name}"), None);
        if copy.on_hover_text(&line).clicked() {
            out.push(Command::Copy(line));
        }
    }
    if response.clicked() {
        out.push(Command::Admin(command));
    }
    match refused {
        Some(why) => response.on_disabled_hover_text(why),
        None => response,
    }
}

/// A button whose act takes something away: it asks a second time.
pub fn remove(ui: &mut Ui, model: &mut Model, name: &str, what: &str, command: AdminCommand, out: &mut Vec<Command>) {
    if model.admin.removing.as_deref() == Some(name) {
        parts::sentence(ui, what);
        act(ui, model, "Yes, remove", &format!("Yes, {name}"), command, true, out);
        let no = ui.button("Keep");
        parts::named(&no, true, &format!("Do not {name}"), None);
        if no.clicked() {
            model.admin.removing = None;
        }
        return;
    }
    let response = ui.button("Remove…");
    parts::named(&response, true, name, None);
    if response.clicked() {
        model.admin.removing = Some(name.to_owned());
    }
}

/// A titled card.
pub fn section(ui: &mut Ui, p: &Palette, title: &str, about: &str, body: impl FnOnce(&mut Ui)) {
    theme::card(p).show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.label(RichText::new(title).strong().size(15.0));
        if !about.is_empty() {
            parts::sentence(ui, RichText::new(about).small().color(p.weak));
        }
        body(ui);
    });
    ui.add_space(4.0);
}

/// A labelled text field in a form.
pub fn row(ui: &mut Ui, label: &str, name: &str, text: &mut String, hint: &str) {
    ui.horizontal_wrapped(|ui| {
        label_of_row(ui, label);
        let width = ui.available_width().min(320.0);
        parts::field(ui, text, name, hint, width);
    });
}

/// What is before a field or a choice: where there is room, all in one column.
fn label_of_row(ui: &mut Ui, label: &str) {
    const WIDTH: f32 = 120.0;
    if ui.available_width() <= 420.0 {
        ui.label(label);
        return;
    }
    ui.allocate_ui_with_layout(egui::vec2(WIDTH, 22.0), egui::Layout::left_to_right(egui::Align::Center), |ui| {
        ui.set_min_width(WIDTH);
        ui.label(label);
    });
}

/// A row of choices.
pub fn pick(ui: &mut Ui, label: &str, value: &mut String, all: &[(&str, &str)]) {
    ui.horizontal_wrapped(|ui| {
        label_of_row(ui, label);
        for (word, text) in all {
            if ui.radio(value == word, *text).clicked() {
                (*word).clone_into(value);
            }
        }
    });
}

/// What is on a path now, if it was looked at.
pub fn probe(ui: &mut Ui, p: &Palette, model: &Model, path: &str) -> Option<crate::admin::Probe> {
    let probe = model.admin.probe.clone().filter(|probe| probe.path == path.trim())?;
    let tone = if probe.full { Tone::Bad } else { Tone::Calm };
    parts::line(ui, p, &Line::new(tone, &probe.text));
    Some(probe)
}

/// The devices of this host, to pick one.
pub fn devices(ui: &mut Ui, p: &Palette, model: &Model, salt: &str, out: &mut Vec<Command>) -> Option<String> {
    let mut picked = None;
    egui::CollapsingHeader::new("Devices and images of this computer").id_salt(salt).show(ui, |ui| {
        act(ui, model, "List anew", &format!("List devices anew for {salt}"), AdminCommand::ListDevices, true, out);
        let Some(devices) = &model.admin.devices else { return };
        if devices.is_empty() {
            ui.label(RichText::new("No block devices that could be used.").color(p.weak));
        }
        for device in devices {
            let used = device.mounted.first().map(|m| format!(", mounted at {}", words::line(m))).unwrap_or_default();
            let content = if device.content.is_empty() { "empty" } else { &device.content };
            let text = format!("{}  {}  {content}{used}  {}", device.path, words::size(device.size), device.model);
            let free = device.mounted.is_empty();
            let row = ui.add_enabled(free, egui::Button::new(words::line(&text)).truncate());
            parts::named(&row, free, &format!("Use {}", device.path), (!free).then_some("it is mounted"));
            if row.clicked() {
                picked = Some(device.path.clone());
            }
        }
    });
    picked
}
