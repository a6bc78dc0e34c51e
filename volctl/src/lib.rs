//! The volume control process: engine, daemon, wire protocol and command line.

pub mod admin;
pub mod bench;
pub mod cli;
pub mod control;
pub mod daemon;
pub mod demo;
pub mod engine;
pub mod program;
pub mod units;
pub mod volumes;
pub mod wire;
