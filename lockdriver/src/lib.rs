//! The right to write: who holds it, how it is lost, what the operating system may see.

pub mod check;
pub mod deadline;
pub mod device;
pub mod format;
pub mod gate;
pub mod guardian;
pub mod lease;
pub mod logon;
pub mod pace;
pub mod poll;
pub mod reservation;
pub mod rules;
pub mod scsi;
pub mod semaphore;
pub mod sys;
pub mod tables;
#[cfg(test)]
mod traces;
pub mod transaction;
pub mod trust;
pub mod watch;
