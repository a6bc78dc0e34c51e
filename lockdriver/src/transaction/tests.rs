//! The commit: crash points enumerated, the named counterexamples, and plain behaviour.

mod crash;
mod plain;
mod traces;
