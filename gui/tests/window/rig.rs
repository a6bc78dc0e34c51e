//! A window in a harness, and snapshots of text.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use eframe::egui::{self, Vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use volctl::wire::call::Call;
use volctl::wire::status::Status;
use volctl_gui::admin::{Means, Rights};
use volctl_gui::model::{Effect, Event, Model};
use volctl_gui::prefs::Prefs;
use volctl_gui::theme;
use volctl_gui::window::Window;

/// The time of day of all pictures: 2026-11-20 12:00 UTC.
pub(crate) const NOON: i64 = 1_795_176_000_000;

/// A model with a status, of a user that may act.
pub(crate) fn model(status: Option<Status>) -> Model {
    let mut model = Model::new(PathBuf::from("/run/volctl/volctl.sock"), Prefs::default(), Rights::default());
    if let Some(status) = status {
        model.apply(Event::Status(Arc::new(status)), Duration::ZERO);
    }
    model
}

/// The same, of root.
pub(crate) fn root(status: Option<Status>) -> Model {
    let mut model = model(status);
    model.rights.means = Means::Root;
    model
}

/// A window of a size, in points.
pub(crate) struct Rig {
    /// The harness.
    pub(crate) harness: Harness<'static, Window>,
}

impl Rig {
    /// A window of 1000 x 700.
    pub(crate) fn new(model: Model) -> Self {
        Self::sized(model, 1000.0, 700.0, 1.0)
    }

    /// A window of a size in pixels, at a scale.
    pub(crate) fn sized(model: Model, width: f32, height: f32, scale: f32) -> Self {
        Self::build(model, Vec2::new(width / scale, height / scale), scale, false)
    }

    /// A window where letters that no font has are boxes, as on a system without fonts for them.
    pub(crate) fn tofu(model: Model) -> Self {
        Self::build(model, Vec2::new(1000.0, 700.0), 1.0, true)
    }

    fn build(model: Model, size: Vec2, scale: f32, tofu: bool) -> Self {
        let mut window = Window::new(model);
        if let Some(status) = window.model.status.clone() {
            window.tell(Event::Status(status), Duration::ZERO);
        }
        let mut builder = Harness::builder()
            .with_size(size)
            .with_pixels_per_point(scale)
            .with_max_steps(8)
            .with_context_setup(theme::install);
        if tofu {
            builder = builder.allow_missing_glyphs();
        }
        let harness = builder.build_ui_state(|ui, window| window.ui(ui, Duration::from_secs(1), NOON), window);
        let mut rig = Self { harness };
        rig.run();
        rig
    }

    /// Draws until nothing moves.
    pub(crate) fn run(&mut self) {
        self.harness.run();
    }

    /// A status comes.
    pub(crate) fn status(&mut self, status: Status) {
        self.tell(Event::Status(Arc::new(status)));
    }

    /// A thread tells something.
    pub(crate) fn tell(&mut self, event: Event) {
        self.harness.state_mut().tell(event, Duration::from_secs(1));
        self.run();
    }

    /// Clicks what has this name, the words and nothing else.
    #[track_caller]
    pub(crate) fn click(&mut self, name: &str) {
        self.reach(name);
        self.harness.get_by_label(name).click();
        self.run();
    }

    /// Scrolls to what has this name, as a person would.
    #[track_caller]
    fn reach(&mut self, name: &str) {
        let screen = self.harness.ctx.content_rect();
        if !screen.shrink(12.0).contains_rect(self.harness.get_by_label(name).rect()) {
            self.harness.get_by_label(name).scroll_to_me();
            self.run();
        }
    }

    /// Whether something has this name, or begins with it.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names().iter().any(|n| n.starts_with(name))
    }

    /// Types into the field of this name.
    #[track_caller]
    pub(crate) fn type_into(&mut self, name: &str, text: &str) {
        let field = self.harness.get_by_role_and_label(egui::accesskit::Role::TextInput, name);
        field.focus();
        field.type_text(text);
        self.run();
    }

    /// Every name on the screen.
    pub(crate) fn names(&self) -> Vec<String> {
        let nodes = self.harness.root().children_recursive();
        nodes.filter_map(|n| n.accesskit_node().label().or_else(|| n.accesskit_node().value())).collect()
    }

    /// What the shell is to do; it is taken.
    pub(crate) fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.harness.state_mut().effects)
    }

    /// The one call that the window made.
    #[track_caller]
    pub(crate) fn call(&mut self) -> Call {
        let mut calls = self.effects().into_iter().filter_map(|e| match e {
            Effect::Call(_, call) => Some(call),
            _ => None,
        });
        let call = calls.next().expect("a call is made");
        assert_eq!(calls.next(), None, "one call");
        call
    }
}

/// Compares a text with the one that is kept; `VOLCTL_BLESS=1` keeps the new one.
#[track_caller]
pub(crate) fn snapshot(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/window/snapshots/{name}.txt"));
    if std::env::var_os("VOLCTL_BLESS").is_some() {
        std::fs::write(&path, text).expect("kept");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, kept, "{} is otherwise; VOLCTL_BLESS=1 keeps the new text", path.display());
}
