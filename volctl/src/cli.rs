//! The command line: parses, runs one verb, prints, and ends with one of the published exit codes (section 9).

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use crate::wire::client::{Client, socket_path};
use crate::wire::outcome::{ExitCode, Failure};

pub mod act;
pub mod args;
pub mod dispatch;
pub mod generate;
pub mod log;
pub mod output;
pub mod request;
pub mod status;
pub mod values;

use args::{Cli, Command};
use output::Ui;

/// What every verb is given: where to print, and where the daemon is.
pub struct Context<'a> {
    /// Where to print.
    pub ui: &'a mut Ui,
    /// The option `--socket`.
    pub socket: Option<PathBuf>,
}

impl Context<'_> {
    /// Connects to the daemon.
    ///
    /// # Errors
    /// A [`Failure`], exit 7 when there is none.
    pub fn connect(&self) -> Result<Client, Failure> {
        Client::connect(&socket_path(self.socket.as_deref()))
    }
}

/// Runs the program with the process's own arguments and streams.
#[must_use]
pub fn main() -> std::process::ExitCode {
    if lockdriver::sys::process::has_more_rights_than_its_caller() {
        // Before anything is read or opened, and never only with the caller's rights: it is not made for this.
        let failure = Failure::failed(
            "volctl does not run with rights that its caller does not have",
            "its file is set-uid, set-gid, or has capabilities; volctl is not built to be used so",
            "take them away (chmod u-s,g-s; setcap -r); who may act is decided by the daemon's socket",
        );
        Ui::process().failure(&failure);
        return failure.exit.into();
    }
    run(std::env::args_os().collect(), &mut Ui::process()).into()
}

/// Runs one command line, the program's name included, and returns how it ended; everything is printed.
pub fn run(arguments: Vec<OsString>, ui: &mut Ui) -> ExitCode {
    let wants_json = arguments.iter().take_while(|argument| *argument != "--").any(|argument| argument == "--json");
    ui.set_json(wants_json);
    let result = match Cli::try_parse_from(arguments) {
        Ok(cli) => {
            ui.set_json(cli.json);
            verb(cli, ui)
        }
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                ui.text(&error.render().to_string());
                Ok(())
            }
            _ => Err(usage_failure(&error)),
        },
    };
    match result.and_then(|()| ui.finish()) {
        Ok(()) => ExitCode::Done,
        Err(failure) => {
            ui.failure(&failure);
            failure.exit
        }
    }
}

fn verb(cli: Cli, ui: &mut Ui) -> Result<(), Failure> {
    let mut context = Context { ui, socket: cli.socket };
    match cli.command {
        Command::Status(args) => status::run(&args, &mut context),
        Command::Requests => request::list(&mut context),
        Command::Request(args) => request::run(args, &mut context),
        Command::Withdraw(args) => act::withdraw(args, &mut context),
        Command::Answer(args) => act::answer(args, &mut context),
        Command::Release(args) => act::release(args, &mut context),
        Command::Refresh(args) => act::refresh(args, &mut context),
        Command::Mount(args) => act::mount(args, &mut context),
        Command::Unmount(args) => act::unmount(args, &mut context),
        Command::Takeover(args) => act::takeover(args, &mut context),
        Command::Log(args) => log::run(&args, &mut context),
        Command::Completions(args) => generate::completions(&args, &mut context),
        Command::Man(args) => generate::man(&args, &mut context),
        other => dispatch::run(other, &mut context),
    }
}

/// Turns a parse error into our three lines.
fn usage_failure(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    if matches!(error.kind(), ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand) {
        return Failure::usage(
            "no command is named",
            "volctl does one command at a time",
            "see 'volctl --help' for all of them",
        );
    }
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut what = lines.next().unwrap_or("the command line is wrong").trim_start_matches("error: ").to_owned();
    let rest: Vec<&str> = lines.collect();
    let usage = rest.iter().find_map(|line| line.strip_prefix("Usage: "));
    let mut why: Vec<String> = rest
        .iter()
        .take_while(|line| !line.starts_with("Usage: ") && !line.starts_with("For more information"))
        .map(|line| line.trim_start_matches("tip: ").to_owned())
        .collect();
    // One of our own checks refused a value: its words are the reason.
    if let Some(source) = std::error::Error::source(error) {
        let source = source.to_string();
        if let Some(short) = what.strip_suffix(&format!(": {source}")) {
            what = short.to_owned();
        }
        why.insert(0, source);
    }
    let why = if why.is_empty() { "the command does not take it so".to_owned() } else { why.join("; ") };
    let next =
        usage.map_or_else(|| "see 'volctl --help'".to_owned(), |usage| format!("usage: {usage} (more with --help)"));
    Failure::usage(what, why, next)
}

/// The tree of commands, for help, manual pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests;
