//! What the tests share.

pub mod control;
pub mod desk;
pub mod fake;
pub mod program;
pub mod studio;
pub mod tree;
