//! Between the window and eframe: events in, effects out, title, theme, size.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eframe::egui::{self, ThemePreference, UserAttentionType, ViewportCommand};

use crate::backend::Backend;
use crate::map::Map;
use crate::model::{Effect, Model};
use crate::prefs::{Prefs, Theme};
use crate::window::Window;
use crate::{rights, theme, view};

/// While something counts seconds.
const COUNTING: Duration = Duration::from_secs(1);
/// Otherwise: ages in minutes grow.
const RESTING: Duration = Duration::from_secs(30);

/// The window with its threads.
pub struct Shell {
    window: Window,
    backend: Backend,
    begun: Instant,
    title: String,
    zoom: f32,
    theme: Option<Theme>,
    /// The desktop was asked for attention, and has not been told since that the person has seen to it.
    called: bool,
}

impl Shell {
    /// Starts everything.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn new(cc: &eframe::CreationContext<'_>, socket: PathBuf, prefs: Prefs) -> std::io::Result<Self> {
        theme::install(&cc.egui_ctx);
        if let Some(map) = Map::wanted() {
            cc.egui_ctx.add_plugin(map);
        }
        let context = cc.egui_ctx.clone();
        let backend = Backend::start(socket.clone(), Arc::new(move || context.request_repaint()))?;
        let rights = rights::rights(&socket);
        let window = Window::new(Model::new(socket, prefs, rights));
        let (begun, title) = (Instant::now(), String::new());
        let mut shell = Self { window, backend, begun, title, zoom: 0.0, theme: None, called: false };
        // Before the first picture: it would be one of other colours.
        shell.dress(&cc.egui_ctx);
        Ok(shell)
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    fn take_in(&mut self) {
        while let Ok(event) = self.backend.events.try_recv() {
            let now = self.now();
            self.window.tell(event, now);
        }
    }

    fn carry_out(&mut self, ctx: &egui::Context) {
        for effect in std::mem::take(&mut self.window.effects) {
            match self.backend.carry_out(effect) {
                Some(Effect::Copy(text)) => ctx.copy_text(text),
                Some(Effect::Attention) => {
                    self.called = true;
                    ctx.send_viewport_cmd(ViewportCommand::RequestUserAttention(UserAttentionType::Critical));
                }
                Some(Effect::Quit) => ctx.send_viewport_cmd(ViewportCommand::Close),
                _ => {}
            }
        }
    }

    fn dress(&mut self, ctx: &egui::Context) {
        let title = view::title(&self.window.model);
        if title != self.title {
            ctx.send_viewport_cmd(ViewportCommand::Title(title.clone()));
            self.title = title;
        }
        // No desktop takes the hint back of itself: the entry would blink for ever.
        if self.called && self.window.model.prompts().is_empty() {
            self.called = false;
            ctx.send_viewport_cmd(ViewportCommand::RequestUserAttention(UserAttentionType::Reset));
        }
        let prefs = &self.window.model.prefs;
        let zoom = prefs.text_size.zoom();
        if (zoom - self.zoom).abs() > f32::EPSILON {
            ctx.set_zoom_factor(zoom);
            self.zoom = zoom;
        }
        if self.theme != Some(prefs.theme) {
            ctx.set_theme(match prefs.theme {
                Theme::Light => ThemePreference::Light,
                Theme::Dark => ThemePreference::Dark,
                Theme::System | Theme::Other => ThemePreference::System,
            });
            self.theme = Some(prefs.theme);
        }
    }
}

impl eframe::App for Shell {
    // Also called while the window is hidden: attention and notifications must not wait until somebody looks.
    fn logic(&mut self, ctx: &egui::Context, _frame: &mut eframe::Frame) {
        self.take_in();
        self.dress(ctx);
        self.carry_out(ctx);
    }

    fn ui(&mut self, ui: &mut egui::Ui, _frame: &mut eframe::Frame) {
        let now = self.now();
        self.window.ui(ui, now, chrono::Utc::now().timestamp_millis());
        let ctx = ui.ctx().clone();
        self.dress(&ctx);
        self.carry_out(&ctx);
        ctx.request_repaint_after(if self.window.model.counts() { COUNTING } else { RESTING });
    }
}
