//! The views as they are drawn. They show the view-model and collect what the person wants; they decide nothing.

pub mod activity;
pub mod admin;
pub mod bars;
pub mod matrix;
pub mod palette;
pub mod parts;
pub mod preferences;
pub mod prompt;
pub mod request;
pub mod trouble;
pub mod volumes;
