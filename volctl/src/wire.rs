//! What goes between the daemon and its clients: calls, replies, status, framing, failures, and a blocking client.
//!
//! Plain strings and numbers only, so that any program can speak it (sections 9 and 10).

pub mod call;
pub mod client;
pub mod event;
pub mod frame;
pub mod names;
pub mod outcome;
pub mod status;
pub mod varlink;
