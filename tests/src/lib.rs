//! What the tests share.

pub mod control;
pub mod program;
pub mod studio;
pub mod tree;
