//! Shell completions and manual pages, generated from the same tree as the help.

use super::Context;
use super::args::{CompletionsArgs, ManArgs};
use crate::wire::outcome::Failure;

/// `volctl completions SHELL`: prints the script.
///
/// # Errors
/// None of its own; output errors are told at the end.
pub fn completions(args: &CompletionsArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "volctl", &mut script);
    context.ui.bytes(&script);
    Ok(())
}

/// `volctl man [DIR]`: prints the main page, or writes one page a command into a directory.
///
/// # Errors
/// A [`Failure`] (exit 1) when the directory cannot be written.
pub fn man(args: &ManArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    let failed = |place: String| {
        move |error: std::io::Error| {
            Failure::failed(
                format!("the manual cannot be written to {place}"),
                error.to_string(),
                "name another directory",
            )
        }
    };
    if let Some(dir) = &args.dir {
        let place = dir.display().to_string();
        std::fs::create_dir_all(dir).map_err(failed(place.clone()))?;
        clap_mangen::generate_to(super::command(), dir).map_err(failed(place))?;
        context.ui.say(&format!("manual pages written to {}", dir.display()));
    } else {
        let mut page = Vec::new();
        clap_mangen::Man::new(super::command()).render(&mut page).map_err(failed("memory".to_owned()))?;
        context.ui.bytes(&page);
    }
    Ok(())
}
