//! Offline verification of a whole control volume, and the plan that restores its redundancy (sections 4 and 11).

mod finding;
pub mod semantics;

pub use finding::{BlockId, Finding, Recovered, Severity, Violation, Wrong};
