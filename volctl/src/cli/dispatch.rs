//! Hands the verbs that are more than a call to the daemon to the part of the program that does them.

use std::io::{self, Write};

use super::Context;
use super::args::{BenchArgs, Command, DemoArgs};
use super::output::Ui;
use crate::admin;
use crate::daemon::config::Config;
use crate::wire::outcome::{Failure, one_line};

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
        Command::Doctor(args) => admin::doctor::run(&args, ui),
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
        .with_writer(|| OneLine(io::stderr()))
        // A line that cannot be written (a full disk, a closed pipe) is lost. By default that is told on stderr, which cannot
        // be written, which is a panic: just when something went wrong, daemon or guardian would end instead of closing gates.
        .log_internal_errors(false)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .try_init();
}

/// Each event is one line, whatever stands in it: a message of another host must not look like the next event, nor speak to
/// the terminal. The subscriber writes an event in one piece.
struct OneLine<W>(W);

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = one_line(&String::from_utf8_lossy(event));
        self.0.write_all(format!("{line}\n").as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("a lock").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A message of two lines wrote a second line into the log, which could say anything.
    #[test]
    fn an_event_is_one_line_of_the_log_whatever_another_host_says() {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).without_time().with_target(false);
        let subscriber = subscriber.with_writer(move || OneLine(writer.clone())).finish();
        tracing::subscriber::with_default(subscriber, || {
            let said = "please\nERROR event=\"lease.lost\" all is lost\x1b[2J\u{9b}m\u{202e}";
            tracing::info!(event = "request.received", "bob asks: {said}");
            tracing::warn!(event = "note", why = %said, volume = said, "{said}");
        });
        let log = String::from_utf8(kept.0.lock().expect("a lock").clone()).expect("UTF-8");
        assert_eq!(log.lines().count(), 2, "{log}");
        assert!(log.lines().all(|line| line.contains("INFO") || line.contains("WARN")), "{log}");
        assert!(!log.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{log:?}");
    }
}
