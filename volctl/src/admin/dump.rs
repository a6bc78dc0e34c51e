//! `volctl dump`.
use crate::cli::args::DumpArgs;
use crate::cli::output::Ui;
use crate::wire::outcome::Failure;
/// Runs it.
pub fn run(_args: &DumpArgs, _ui: &mut Ui) -> Result<(), Failure> {
    Err(Failure::failed("a", "b", "c"))
}
