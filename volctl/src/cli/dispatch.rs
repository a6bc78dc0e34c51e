//! Hands the verbs that are more than a call to the daemon to the part of the program that does them.

use super::Context;
use super::args::{
    AllowArgs, BenchArgs, CheckArgs, ClientCommand, Command, DemoArgs, DumpArgs, GuardianArgs, InitArgs, SetArgs,
    SetClientArgs, VolumeCommand,
};
use super::output::Ui;
use super::values::ClientSetting;
use crate::daemon::config::Config;
use crate::wire::outcome::Failure;

/// Runs one of these verbs.
///
/// # Errors
/// The verb's own [`Failure`].
pub fn run(command: Command, context: &mut Context<'_>) -> Result<(), Failure> {
    let ui = &mut *context.ui;
    match command {
        Command::Init(args) => init(&args, ui),
        Command::Client(command) => client(&command, ui),
        Command::Volume(command) => volume(&command, ui),
        Command::Allow(args) => allow(&args, ui),
        Command::Set(args) => set(&args, ui),
        Command::SetClient(args) => set_client(&args, args.setting()?, ui),
        Command::Dump(args) => dump(&args, ui),
        Command::Check(args) => check(&args, ui),
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
        Command::Guardian(args) => {
            log_to_stderr();
            guardian(&args)
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
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .try_init();
}

fn not_built(what: &str) -> Failure {
    Failure::failed(format!("'{what}' does nothing yet"), "it is not built yet", "wait for a later version")
}

fn init(_args: &InitArgs, _ui: &mut Ui) -> Result<(), Failure> {
    Err(not_built("init"))
}

fn client(_command: &ClientCommand, _ui: &mut Ui) -> Result<(), Failure> {
    Err(not_built("client"))
}

fn volume(_command: &VolumeCommand, _ui: &mut Ui) -> Result<(), Failure> {
    Err(not_built("volume"))
}

fn allow(_args: &AllowArgs, _ui: &mut Ui) -> Result<(), Failure> {
    Err(not_built("allow"))
}

fn set(_args: &SetArgs, _ui: &mut Ui) -> Result<(), Failure> {
    Err(not_built("set"))
}

fn set_client(_args: &SetClientArgs, _setting: ClientSetting, _ui: &mut Ui) -> Result<(), Failure> {
    Err(not_built("set-client"))
}

fn dump(_args: &DumpArgs, _ui: &mut Ui) -> Result<(), Failure> {
    Err(not_built("dump"))
}

fn check(_args: &CheckArgs, _ui: &mut Ui) -> Result<(), Failure> {
    Err(not_built("check"))
}

fn daemon(config: Config) -> Result<(), Failure> {
    crate::daemon::run::run(&config)
}

fn demo(_args: &DemoArgs, _ui: &mut Ui) -> Result<(), Failure> {
    Err(not_built("demo"))
}

fn bench(_args: &BenchArgs, _ui: &mut Ui) -> Result<(), Failure> {
    Err(not_built("bench"))
}

fn guardian(_args: &GuardianArgs) -> Result<(), Failure> {
    // Its exit code tells nobody anything: the daemon that started it watches the process itself.
    let _ = lockdriver::guardian::process::main();
    Ok(())
}
