//! The volume control process: engine, daemon, wire protocol and command line.

pub mod cli;
pub mod daemon;
pub mod units;
pub mod wire;
