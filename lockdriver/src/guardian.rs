//! The second, tiny process: it makes every gate, and closes them when the lease is over or the daemon is gone (section 6).
//!
//! The daemon may hang, be stopped or be killed at any instant; its mounts would go on writing. So the gates belong to a process
//! of their own that does nothing else: it looks at one shared word ([`crate::deadline`]) and at a handle of the daemon. No call that
//! storage could delay is ever made in its main thread: each order and each closing has a thread, so one hung gate holds up no other.
//!
//! [`client`] is the daemon's side, [`process`] the guardian's, [`leftovers`] what a new daemon does about an old guardian.

pub mod client;
mod closing;
pub mod leftovers;
mod orders;
pub mod process;
pub mod protocol;

#[cfg(test)]
mod tests;

pub use client::{Guardian, GuardianError, OpenedGate, SpawnConfig};
pub use leftovers::{LeftoverError, close_leftovers, close_leftovers_up_to, end_old};
pub use protocol::{Event, Refusal, Welcome};
