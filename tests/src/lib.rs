//! What the tests share.

pub mod control;
pub mod desk;
pub mod fake;
pub mod fuzz;
pub mod paths;
pub mod program;
pub mod studio;
pub mod tree;
