//! The volume control process: engine, daemon, wire protocol and command line.

pub mod volumes;
