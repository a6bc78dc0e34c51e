//! The daemon: what runs beside and around the engine.

pub mod calls;
pub mod config;
pub mod driver;
pub mod event_log;
pub mod fences;
pub mod hooks;
pub mod jobs;
pub mod login;
pub mod notify;
pub mod pace;
pub mod reply;
pub mod run;
pub mod services;
pub mod socket;
