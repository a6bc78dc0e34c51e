//! The preferences.

use eframe::egui::{RichText, Ui};
use volctl::wire::status::AutoAnswer;

use super::parts;
use crate::admin::AdminCommand;
use crate::command::{Command, catalogue};
use crate::model::Model;
use crate::prefs::{TextSize, Theme};
use crate::theme::{self, Palette};
use crate::words;

/// Draws the view.
pub fn show(ui: &mut Ui, model: &Model, out: &mut Vec<Command>) {
    let p = theme::palette(ui);
    parts::scrolled(ui, "preferences", |ui| {
        parts::heading(ui, &p, "Preferences", "");
        section(ui, &p, "This window", |ui| window(ui, model, out));
        section(ui, &p, "This client in the tables", |ui| client(ui, &p, model, out));
        section(ui, &p, "Timing", |ui| timing(ui, &p, model));
        section(ui, &p, "Keys", |ui| keys(ui, &p));
    });
}

fn section(ui: &mut Ui, p: &Palette, title: &str, body: impl FnOnce(&mut Ui)) {
    theme::card(p).show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.label(RichText::new(title).strong().size(15.0));
        body(ui);
    });
    ui.add_space(4.0);
}

fn choice<T: PartialEq + Copy>(ui: &mut Ui, what: &str, now: T, all: &[(T, &str)], mut chosen: impl FnMut(T)) {
    ui.horizontal_wrapped(|ui| {
        ui.label(what);
        for (value, word) in all {
            if ui.radio(now == *value, *word).clicked() {
                chosen(*value);
            }
        }
    });
}

fn window(ui: &mut Ui, model: &Model, out: &mut Vec<Command>) {
    let themes = [(Theme::System, "as the system"), (Theme::Light, "light"), (Theme::Dark, "dark")];
    choice(ui, "Colours:", model.prefs.theme, &themes, |theme| out.push(Command::Theme(theme)));
    let sizes = TextSize::ALL.map(|size| (size, size.word()));
    choice(ui, "Size:", model.prefs.text_size, &sizes, |size| out.push(Command::TextSize(size)));
    let mut notify = model.prefs.notify;
    if ui.checkbox(&mut notify, "Desktop notifications when somebody asks or answers").changed() {
        out.push(Command::Notify(notify));
    }
}

fn client(ui: &mut Ui, p: &Palette, model: &Model, out: &mut Vec<Command>) {
    let Some((status, settings)) = model.live().and_then(|s| s.settings.map(|settings| (s, settings))) else {
        parts::sentence(ui, RichText::new("Known once the daemon is logged on.").color(p.weak));
        return;
    };
    let refused = model.rights.no_administration();
    ui.add_enabled_ui(refused.is_none(), |ui| {
        let answers = [
            (AutoAnswer::Off, "ask me"),
            (AutoAnswer::Idle, "yes by itself while nothing here writes"),
            (AutoAnswer::Always, "always yes by itself"),
        ];
        let set = |key, value| Command::Admin(AdminCommand::SetClient { name: status.client.clone(), key, value });
        choice(ui, "When somebody asks:", settings.auto_response, &answers, |answer| {
            let value = match answer {
                AutoAnswer::Off => "off",
                AutoAnswer::Idle => "idle",
                AutoAnswer::Always => "always",
            };
            out.push(set("auto-response", value));
        });
        let mut notify = settings.notify;
        if ui.checkbox(&mut notify, "Tell me of changes and refreshes in the event log").changed() {
            out.push(set("notify", if notify { "on" } else { "off" }));
        }
    });
    if let Some(why) = refused {
        parts::sentence(ui, RichText::new(format!("{why} For example:")).small().color(p.weak));
        let example = AdminCommand::SetClient { name: status.client.clone(), key: "auto-response", value: "idle" };
        if let Some(line) = example.line(&status.control.path) {
            parts::command_line(ui, p, &line, out);
        }
    }
}

fn timing(ui: &mut Ui, p: &Palette, model: &Model) {
    let Some(timings) = model.status.as_ref().and_then(|s| s.control.timings) else {
        parts::sentence(ui, RichText::new("Known once the daemon is logged on.").color(p.weak));
        return;
    };
    let time = |ms: u32| volctl::units::round_duration_ms(u64::from(ms));
    let text = format!(
        "The daemon looks at the control volume every {} (faster while something moves), beats every {}, and may act for {} \
         after its last beat; others count it as dead after {}. Chosen when the tables were made, the same for all.",
        time(timings.poll_ms),
        time(timings.beat_ms),
        time(timings.lease_ms),
        time(timings.dead_ms)
    );
    parts::sentence(ui, text);
    let socket = format!("The window listens at {}.", words::line(&model.socket.display().to_string()));
    parts::sentence(ui, RichText::new(socket).color(p.weak));
}

fn keys(ui: &mut Ui, p: &Palette) {
    eframe::egui::Grid::new("keys").num_columns(2).spacing([16.0, 2.0]).show(ui, |ui| {
        for entry in catalogue([]) {
            if let Some(shortcut) = entry.shortcut {
                ui.label(RichText::new(shortcut.text()).monospace());
                ui.label(RichText::new(entry.label).color(p.weak));
                ui.end_row();
            }
        }
        for (keys, what) in [
            ("Alt+Y / Alt+N / Alt+L", "Answer a request: yes, no, later"),
            ("Ctrl+Enter", "Send a request"),
            ("Esc", "Close what lies on top"),
        ] {
            ui.label(RichText::new(keys).monospace());
            ui.label(RichText::new(what).color(p.weak));
            ui.end_row();
        }
    });
}
