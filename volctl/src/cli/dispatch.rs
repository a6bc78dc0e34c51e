//! Hands the verbs that are more than a call to the daemon to the part of the program that does them.

use super::Context;
use super::args::{BenchArgs, Command, DemoArgs};
use super::output::Ui;
use crate::admin;
use crate::daemon::config::Config;
use crate::wire::outcome::Failure;

/// Runs one of these verbs.
///
/// # Errors
/// The verb's own [`Failure`].
pub fn run(command: Command, context: &mut Context<'_>) -> Result<(), Failure> {
    let ui = &mut *context.ui;
    match command {
        Command::Init(args) => admin::init::run(&args, ui),
        Command::Client(command) => admin::clients::run(&command, ui),
        Command::Volume(command) => admin::volumes::run(&command, ui),
        Command::Allow(args) => admin::permissions::allow(&args, ui),
        Command::Set(args) => admin::permissions::set(&args, ui),
        Command::SetClient(args) => admin::clients::set(&args, args.setting()?, ui),
        Command::Dump(args) => admin::dump::run(&args, ui),
        Command::Check(args) => admin::check::run(&args, ui),
        Command::Daemon(args) => {
            let mut config = Config::load(&args.config)?;
            if let Some(socket) = context.socket.take() {
                config.socket = socket;
            }
            log_to_stderr();
            daemon(config)
        }
        Command::Demo(args) => demo(&args, ui),
        Command::Bench(args) => bench(&args, ui),
        Command::Guardian(_) => {
            log_to_stderr();
            guardian()
        }
        other => Err(not_built(&format!("{other:?}"))),
    }
}

/// What the daemon and the guardian say goes to stderr, which the service manager keeps; `$VOLCTL_LOG` filters it.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("VOLCTL_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // A second call in one process changes nothing, and nothing is lost by that.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A line that cannot be written (a full disk, a closed pipe) is lost. By default that is told on stderr, which cannot
        // be written, which is a panic: just when something went wrong, daemon or guardian would end instead of closing gates.
        .log_internal_errors(false)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .try_init();
}

fn not_built(what: &str) -> Failure {
    Failure::failed(format!("'{what}' does nothing yet"), "it is not built yet", "wait for a later version")
}

fn daemon(config: Config) -> Result<(), Failure> {
    crate::daemon::run::run(&config)
}

fn demo(args: &DemoArgs, ui: &mut Ui) -> Result<(), Failure> {
    crate::demo::run(args, ui)
}

fn bench(args: &BenchArgs, ui: &mut Ui) -> Result<(), Failure> {
    crate::bench::run(args, ui)
}

/// It has said on stderr what went wrong; the daemon that started it sees its socket close.
fn guardian() -> Result<(), Failure> {
    if lockdriver::guardian::process::main() == std::process::ExitCode::SUCCESS {
        return Ok(());
    }
    Err(Failure::failed("the guardian could not start", "see the line above", "it is started by the daemon only"))
}
