//! What is run: for each trace a small case, and of each model the large ones.

mod locks;
mod studios;

use crate::run::{Limits, Outcome};

/// Runs a case; true: with its rule taken out.
type Run = Box<dyn Fn(bool, Limits) -> Outcome>;

/// One case.
pub(crate) struct Entry {
    /// Which model.
    pub(crate) model: &'static str,
    /// The trace, or what is looked at.
    pub(crate) name: &'static str,
    /// How much may happen in it.
    pub(crate) setting: String,
    /// The rule that a second run takes out, and the harm that must come of it.
    pub(crate) rule: Option<(&'static str, &'static str)>,
    /// Takes longer than a test may.
    pub(crate) large: bool,
    /// Only the run with its rule taken out is short enough for a test.
    pub(crate) slow: bool,
    /// Runs it.
    pub(crate) run: Run,
}

impl Entry {
    /// Its run with all rules takes long.
    fn slow(self) -> Self {
        Self { slow: true, ..self }
    }
}

/// All of them.
pub(crate) fn all() -> Vec<Entry> {
    let mut all = locks::all();
    all.extend(studios::all());
    all
}
