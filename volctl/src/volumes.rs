//! How a volume is proven, mounted, switched, published and checked (sections 7, 8 and 11).
//!
//! A library room: blocking functions that worker threads call. No engine, no tables, no clock of its own:
//! who may do what, and when, is decided elsewhere.

pub mod busy;
pub mod describe;
pub mod elsewhere;
pub mod envelope_io;
pub mod fscheck;
pub mod identify;
pub mod inflight;
mod mountinfo;
pub mod mounting;
pub mod opening;
#[doc(hidden)]
pub mod parsers;
pub mod publish;
pub mod snapshot_name;
mod sysfs;
pub mod users;

#[cfg(test)]
mod loop_tests;
