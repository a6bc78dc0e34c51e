//! Where everything is on the screen, by its accessible name: for programs that drive the window, such as its own tests.
//!
//! With `VOLCTL_WINDOW_MAP=FILE` in the environment the file is written anew whenever the picture changes: a line for each
//! named thing, left, top, right, bottom in pixels of the window, then a tab and the name, and for a field another tab and what is
//! in it.

use std::fmt::Write as _;
use std::path::PathBuf;

use eframe::egui::{self, FullOutput};

/// The environment variable that names the file.
pub const VARIABLE: &str = "VOLCTL_WINDOW_MAP";

/// Writes the map.
#[derive(Debug)]
pub struct Map {
    path: PathBuf,
    last: String,
}

impl Map {
    /// A map, if the environment asks for one.
    #[must_use]
    pub fn wanted() -> Option<Self> {
        let path = std::env::var_os(VARIABLE).filter(|path| !path.is_empty())?;
        Some(Self { path: path.into(), last: String::new() })
    }
}

impl egui::Plugin for Map {
    fn debug_name(&self) -> &'static str {
        "map"
    }

    fn output_hook(&mut self, ctx: &egui::Context, output: &mut FullOutput) {
        let Some(update) = &output.platform_output.accesskit_update else {
            ctx.enable_accesskit();
            return;
        };
        let mut text = String::new();
        // The tree has points; a mouse has pixels.
        let scale = f64::from(ctx.pixels_per_point());
        for (_, node) in &update.nodes {
            let name = node.label().or_else(|| node.value());
            let (Some(name), Some(b)) = (name, node.bounds()) else { continue };
            let plain = |text: &str| text.replace(['\n', '\t'], " ");
            let value = node.label().and(node.value()).map_or_else(String::new, |v| format!("\t{}", plain(v)));
            let _ = writeln!(
                text,
                "{:.0} {:.0} {:.0} {:.0}\t{}{value}",
                b.x0 * scale,
                b.y0 * scale,
                b.x1 * scale,
                b.y1 * scale,
                plain(name)
            );
        }
        if text != self.last && write(&self.path, &text).is_ok() {
            self.last = text;
        }
    }
}

fn write(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, text)?;
    std::fs::rename(&fresh, path)
}
