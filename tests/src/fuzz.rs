//! What is fuzzed: one function of bytes for each thing that reads what others wrote.
//!
//! A target panics when something is wrong: the code under it did, or it broke a rule that the target knows. `make fuzz`
//! runs the targets under libFuzzer (`tests/fuzz/`); `tests/tests/fuzz.rs` runs each for a moment, without it.

mod blocks;
mod engine;
pub mod feed;
mod image;
mod machines;
mod text;
mod wire;

/// One target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its folder in `fixtures/fuzz/`.
    pub name: &'static str,
    /// Longer inputs find nothing more.
    pub bytes_max: usize,
    /// Panics when something is wrong.
    pub run: fn(&[u8]),
}

const fn target(name: &'static str, bytes_max: usize, run: fn(&[u8])) -> Target {
    Target { name, bytes_max, run }
}

/// All targets.
pub const TARGETS: &[Target] = &[
    target("superblock", 512, blocks::superblock),
    target("slot", 256, blocks::slot),
    target("header", 512, blocks::header),
    target("client_page", 1024, blocks::client_page),
    target("client_record", 320, blocks::client_record),
    target("volume_table", 768, blocks::volume_table),
    target("envelope", 512, blocks::envelope),
    target("geometry", 256, blocks::geometry),
    target("poll", 1024, image::poll),
    target("loader", 1024, image::loader),
    target("commit", 1024, image::commit),
    target("check_repair", 1024, image::check_repair),
    target("dump", 1024, image::dump),
    target("machines", 512, machines::run),
    target("engine", 2048, engine::run),
    target("file_system", 512, text::file_system),
    target("kernel_text", 512, text::kernel),
    target("gate_mark", 96, text::gate_mark),
    target("names", 300, text::names),
    target("units", 64, text::units),
    target("config", 1024, text::config),
    target("guardian", 512, wire::guardian),
    target("frame", 512, wire::frame),
    target("call", 512, wire::call),
    target("reply", 1024, wire::reply),
    target("event_log", 1024, wire::event_log),
];

/// The target of that name.
#[must_use]
pub fn find(name: &str) -> Option<Target> {
    TARGETS.iter().find(|t| t.name == name).copied()
}
