//! What the tests share.

pub mod studio;
pub mod tree;
