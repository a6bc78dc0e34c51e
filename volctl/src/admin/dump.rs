//! `volctl dump`: every field of every block, and the verdict on every copy (section 9). Reads only.

use std::sync::Arc;

use lockdriver::check::ReadAt;
use lockdriver::device::{Access, BlockDevice};
use ondisk::dump::Dump;

use crate::cli::args::DumpArgs;
use crate::cli::output::Ui;
use crate::control::open::{ControlVolume, open_device};
use crate::control::source::Source;
use crate::wire::outcome::{ExitCode, Failure};

/// Runs `volctl dump`.
///
/// # Errors
/// When there is no control volume; damage (6) when no superblock can be believed, after what could be read is printed.
pub fn run(args: &DumpArgs, ui: &mut Ui) -> Result<(), Failure> {
    let opened = ControlVolume::open(&args.control, Access::Read).map(drop);
    if opened.as_ref().is_err_and(|failure| failure.exit != ExitCode::Damaged) {
        return opened;
    }
    let device = Arc::new(open_device(&args.control, Access::Read)?);
    let source = Source(&*device);
    let dump = Dump::read(device.len_bytes(), &|offset, len| source.read(offset, len).map_err(|e| e.to_string()));
    ui.show(&dump, Dump::to_text);
    opened
}
