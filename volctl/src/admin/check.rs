//! `volctl check`.
use crate::cli::args::CheckArgs;
use crate::cli::output::Ui;
use crate::wire::outcome::Failure;
/// Runs it.
pub fn run(_args: &CheckArgs, _ui: &mut Ui) -> Result<(), Failure> {
    Err(Failure::failed("a", "b", "c"))
}
