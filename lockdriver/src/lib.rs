//! The right to write: who holds it, how it is lost, what the operating system may see.

pub mod deadline;
pub mod device;
pub mod gate;
pub mod guardian;
pub mod sys;
