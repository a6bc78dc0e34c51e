//! The clients of the tables.

use eframe::egui::{self, RichText, Ui};
use volctl::wire::names::check_name;
use volctl::wire::status::AutoAnswer;

use super::{act, remove, row, section};
use crate::admin::{AdminCommand, ClientRow};
use crate::command::Command;
use crate::model::Model;
use crate::theme::{self, Palette};
use crate::ui::parts;
use crate::view::{Line, Tone};
use crate::words;

/// Draws the page.
pub fn show(ui: &mut Ui, p: &Palette, model: &mut Model, out: &mut Vec<Command>) {
    section(ui, p, "New client", "One for each computer. Its name is what people see.", |ui| {
        let mut name = model.admin.client.clone();
        row(ui, "Name", "Name of the new client", &mut name, "such as alice");
        let fault = check_name(name.trim()).err().filter(|_| !name.trim().is_empty());
        if let Some(fault) = &fault {
            parts::line(ui, p, &Line::new(Tone::Bad, format!("The name: {fault}")));
        }
        let ready = fault.is_none() && !name.trim().is_empty() && !model.admin.control.trim().is_empty();
        ui.horizontal_wrapped(|ui| {
            let command = AdminCommand::AddClient(name.trim().to_owned());
            act(ui, model, "Add the client", "Add the client", command, ready, out);
        });
        model.admin.client = name;
    });
    let Some(tables) = model.admin.tables.clone() else { return };
    if tables.clients.is_empty() {
        ui.label(RichText::new("The tables have no clients yet.").color(p.weak));
    }
    for client in &tables.clients {
        theme::card(p).show(ui, |ui| {
            ui.set_width(ui.available_width());
            one(ui, p, model, client, out);
        });
    }
}

fn one(ui: &mut Ui, p: &Palette, model: &mut Model, client: &ClientRow, out: &mut Vec<Command>) {
    let name = words::line(&client.name);
    ui.horizontal_wrapped(|ui| {
        ui.label(RichText::new(&name).strong().size(15.0));
        let tone = match client.state.as_str() {
            "on" => Tone::Calm,
            "dead" => Tone::Bad,
            _ => Tone::Quiet,
        };
        parts::badge(ui, p, tone, if client.state.is_empty() { "off" } else { &client.state });
        if !client.host.is_empty() {
            ui.label(RichText::new(format!("on {}", words::line(&client.host))).color(p.weak));
        }
        remove(
            ui,
            model,
            &format!("remove client {name}"),
            "Its privileges go with it.",
            AdminCommand::RemoveClient(client.name.clone()),
            out,
        );
    });
    let refused = model.rights.no_administration();
    let set = |key, value| Command::Admin(AdminCommand::SetClient { name: client.name.clone(), key, value });
    ui.horizontal_wrapped(|ui| {
        let switches = [
            ("enabled", "may log on", client.enabled),
            ("admin", "may take over", client.admin),
            ("locked-out", "may ask for nothing", client.locked_out),
            ("notify", "is told of changes", client.notify),
        ];
        for (key, text, value) in switches {
            let mut on = value;
            let response = ui.add_enabled(refused.is_none(), egui::Checkbox::new(&mut on, text));
            let label = format!("{name} {text}");
            response.widget_info(|| egui::WidgetInfo::selected(egui::Role::CheckBox, refused.is_none(), value, &label));
            if response.changed() {
                out.push(set(key, if on { "on" } else { "off" }));
            }
            if let Some(why) = refused {
                response.on_disabled_hover_text(why);
            }
        }
    });
    ui.horizontal_wrapped(|ui| {
        ui.label("When somebody asks:");
        for (answer, value, text) in [
            (AutoAnswer::Off, "off", "the person"),
            (AutoAnswer::Idle, "idle", "yes while nothing writes"),
            (AutoAnswer::Always, "always", "always yes"),
        ] {
            let radio = ui.add_enabled(refused.is_none(), egui::RadioButton::new(client.auto_response == answer, text));
            let label = format!("{name} answers: {text}");
            let chosen = client.auto_response == answer;
            radio
                .widget_info(|| egui::WidgetInfo::selected(egui::Role::RadioButton, refused.is_none(), chosen, &label));
            if radio.clicked() && !chosen {
                out.push(set("auto-response", value));
            }
        }
    });
}
