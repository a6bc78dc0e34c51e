//! The window as a whole: one frame of it, from the model to wishes and back. It knows no eframe, so that tests drive it.

use std::time::Duration;

use eframe::egui::{self, CentralPanel, Margin, Panel, Ui};

use crate::command::{Command, Entry, View, catalogue};
use crate::model::{Effect, Event, Model};
use crate::theme;
use crate::ui;
use crate::view::matrix::Matrix;
use crate::view::{self, volumes};

/// The window.
pub struct Window {
    /// Its state.
    pub model: Model,
    /// What the shell has still to do.
    pub effects: Vec<Effect>,
    matrix: Matrix,
}

impl Window {
    /// A window that shows a model.
    #[must_use]
    pub fn new(model: Model) -> Self {
        Self { model, effects: Vec::new(), matrix: Matrix::default() }
    }

    /// Takes in what a thread tells.
    pub fn tell(&mut self, event: Event, now: Duration) {
        let fresh = matches!(event, Event::Status(_));
        let effects = self.model.apply(event, now);
        self.effects.extend(effects);
        if fresh {
            self.matrix = self.model.status.as_deref().map(Matrix::of).unwrap_or_default();
        }
    }

    /// Does what the person wants.
    pub fn wish(&mut self, command: Command, now: Duration) {
        let effects = self.model.perform(command, now);
        self.effects.extend(effects);
    }

    /// Draws one frame and does what the person wants in it. `wall` is the time of day, in milliseconds since 1970.
    pub fn ui(&mut self, ui: &mut Ui, now: Duration, wall: i64) {
        self.model.now = now;
        self.model.dark = ui.visuals().dark_mode;
        let cards = volumes::cards(&self.model);
        let entries = catalogue(volumes::commands(&cards));
        let mut out = Vec::new();
        shortcuts(ui, &entries, &mut out);
        let p = theme::palette(ui);
        let bar = egui::Frame::new().fill(p.card).inner_margin(Margin::symmetric(8, 3));
        Panel::top("menu").frame(bar).show(ui, |ui| ui::bars::menu(ui, &self.model, &entries, &mut out));
        if ui.available_width() >= theme::NARROW {
            let frame = egui::Frame::new().fill(p.card).inner_margin(Margin::symmetric(8, 4));
            Panel::left("rail")
                .exact_size(theme::RAIL)
                .resizable(false)
                .frame(frame)
                .show(ui, |ui| ui::bars::rail(ui, &self.model, &mut out));
        }
        let ground = egui::Frame::new().fill(p.ground).inner_margin(Margin::same(10));
        CentralPanel::default().frame(ground).show(ui, |ui| {
            ui::bars::banners(ui, &self.model, &mut out);
            let model = &mut self.model;
            match model.view {
                View::Volumes => ui::volumes::show(ui, model, &cards, &mut out),
                View::Matrix => ui::matrix::show(ui, model, &self.matrix, &mut out),
                View::Activity => ui::activity::show(ui, model, wall, &mut out),
                View::Administration => ui::admin::show(ui, model, &mut out),
                View::Preferences => ui::preferences::show(ui, model, &mut out),
            }
        });
        self.on_top(ui, &entries, &mut out);
        for command in out {
            self.wish(command, now);
        }
    }

    /// What lies over the view: a prompt before everything else.
    fn on_top(&mut self, ui: &mut Ui, entries: &[Entry], out: &mut Vec<Command>) {
        if let Some(prompt) = view::prompt::prompt(&self.model) {
            return ui::prompt::show(ui, &mut self.model, &prompt, out);
        }
        ui::request::composer(ui, &mut self.model, out);
        ui::request::takeover(ui, &mut self.model, out);
        ui::palette::show(ui, &mut self.model, entries, out);
    }
}

fn shortcuts(ui: &Ui, entries: &[Entry], out: &mut Vec<Command>) {
    for entry in entries {
        let Some(shortcut) = entry.shortcut else { continue };
        if ui.input_mut(|i| i.consume_shortcut(&shortcut.keyboard())) {
            out.push(entry.command.clone());
        }
    }
}
