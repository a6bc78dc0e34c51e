//! The window of volctl: an unprivileged client of the daemon's socket.
//!
//! ```text
//!   threads (backend) ── events ──> Model ──> view ──> ui ── commands ──> Model ── effects ──> threads
//! ```
//! The model and the view are pure and tested as text; the drawing is tested by accessible label, without a display.

pub mod admin;
pub mod backend;
pub mod command;
pub mod map;
pub mod model;
pub mod prefs;
pub mod rights;
pub mod shell;
pub mod theme;
pub mod ui;
pub mod view;
pub mod window;
pub mod words;
