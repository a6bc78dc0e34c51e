//! The right to write: who holds it, how it is lost, what the operating system may see.

pub mod check;
pub mod sys;
pub mod tables;
pub mod transaction;
