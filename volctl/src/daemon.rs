//! The daemon: what runs beside and around the engine.

pub mod config;
pub mod event_log;
pub mod hooks;
pub mod notify;
pub mod reply;
pub mod socket;
