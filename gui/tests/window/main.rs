//! The window without a display: its view-model as text, and every flow by accessible label.

mod admin;
mod bad;
mod flows;
mod layout;
mod link;
mod model;
mod prompts;
mod rig;
mod sample;
mod views;
