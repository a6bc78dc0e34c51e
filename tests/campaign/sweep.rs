//! x
use crate::stage::Stage;
use std::time::Duration;
pub(crate) fn all(_stage: &Stage, _step: Duration, _rounds: u64) {}
