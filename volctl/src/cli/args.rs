//! The tree of commands as typed arguments; help, manual pages and completions are generated from it (section 9).
//!
//! Here: the daemon's verbs and the small ones. `args/tables.rs` has the verbs that work on the tables themselves.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::values;
use crate::wire::call::Answer3;

mod tables;

pub use tables::{
    AllowArgs, CheckArgs, ClientAddArgs, ClientCommand, ControlArgs, DoctorArgs, DumpArgs, InitArgs, RemoveArgs,
    SetArgs, SetClientArgs, VolumeAddArgs, VolumeCommand,
};

/// Share disks between computers: one writer at a time, everyone else reading, no server
#[derive(Debug, Parser)]
#[command(
    name = "volctl",
    version,
    arg_required_else_help = false,
    subcommand_required = true,
    after_long_help = "\
Exit codes: 0 done, 1 failed, 2 usage, 3 refused, 4 timed out, 5 busy, 6 table damaged, 7 no daemon.

Examples:
  volctl status
  volctl request footage -m 'need to fix the titles' --wait 30s
  volctl answer footage bob yes
  volctl release footage"
)]
pub struct Cli {
    /// Print JSON instead of text, and failures as JSON
    #[arg(long, global = true)]
    pub json: bool,

    /// Find the daemon at this socket (else $VOLCTL_SOCKET, else /run/volctl/volctl.sock)
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Every command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show volumes, clients and requests
    #[command(after_long_help = "\
Examples:
  volctl status
  volctl status --watch
  volctl status --json | jq '.volumes[] | {name, state, writer}'")]
    Status(StatusArgs),

    /// Ask for write access to a volume
    #[command(after_long_help = "\
The request stands until it is answered, withdrawn, or times out. --wait ends only the waiting (exit 4).

Examples:
  volctl request footage
  volctl request footage -m 'need to fix the titles' --wait 30s && edit /mnt/volctl/footage/titles")]
    Request(RequestArgs),

    /// Take an own request back
    #[command(after_long_help = "Example:\n  volctl withdraw footage")]
    Withdraw(VolumeArgs),

    /// List open requests for write access
    #[command(after_long_help = "Example:\n  volctl requests --json")]
    Requests,

    /// Answer another client's request
    #[command(after_long_help = "\
After 'yes' the volume is unmounted and published here first, and handed over then.

Examples:
  volctl answer footage bob yes
  volctl answer footage bob later -m 'in ten minutes'")]
    Answer(AnswerArgs),

    /// Give write access back
    #[command(after_long_help = "Example:\n  volctl release footage")]
    Release(VolumeArgs),

    /// Switch to the newest published state of a volume
    #[command(after_long_help = "Files that are open stay as they are.\n\nExample:\n  volctl refresh footage")]
    Refresh(VolumeArgs),

    /// Mount a volume for reading
    #[command(after_long_help = "Example:\n  volctl mount footage")]
    Mount(VolumeArgs),

    /// Take a reader's mount away
    #[command(after_long_help = "\
It stays away until 'volctl mount', also after a restart. A writer releases instead.

Example:
  volctl unmount footage")]
    Unmount(VolumeArgs),

    /// Take write access from its holder, as an administrator
    #[command(after_long_help = "\
A writer that is alive is told to stop, and waited for. --yes-i-know skips only the wait for the last writes of a
writer that is silent: if its host still writes, the volume is destroyed.

Examples:
  volctl takeover footage
  volctl takeover footage --yes-i-know bob")]
    Takeover(TakeoverArgs),

    /// Show what happened
    #[command(after_long_help = "Examples:\n  volctl log\n  volctl log -f --json")]
    Log(LogArgs),

    /// Make a control volume
    #[command(after_long_help = "\
Examples:
  volctl init /dev/disk/by-id/scsi-3600... --label studio
  volctl init control.img --size 16M --lock ofd")]
    Init(InitArgs),

    /// Add, remove or list clients
    #[command(subcommand)]
    Client(ClientCommand),

    /// Add, remove or list volumes
    #[command(subcommand)]
    Volume(VolumeCommand),

    /// Set what a client may do with a volume
    #[command(after_long_help = "\
Examples:
  volctl allow bob footage write --control /dev/ctl
  volctl allow render1 footage read --auto-update on --check 2s --control /dev/ctl")]
    Allow(AllowArgs),

    /// Change a setting of a volume
    #[command(after_long_help = "Example:\n  volctl set footage write-enabled off --control /dev/ctl")]
    Set(SetArgs),

    /// Change a setting of a client
    #[command(after_long_help = "\
Examples:
  volctl set-client bob auto-response idle --control /dev/ctl
  volctl set-client alice admin on --control /dev/ctl")]
    SetClient(SetClientArgs),

    /// Print every field of the tables
    #[command(after_long_help = "Example:\n  volctl dump /dev/ctl --json | jq .header")]
    Dump(DumpArgs),

    /// Verify the tables, and restore lost copies
    #[command(after_long_help = "Examples:\n  volctl check /dev/ctl\n  volctl check /dev/ctl --repair")]
    Check(CheckArgs),

    /// Examine devices: what they are, how they behave, what they are good for
    #[command(after_long_help = "\
It only reads. It says what each device is, how long single sectors take, how late a write of this host can be and which
setting decides that, what it holds and who uses it; then it proposes a lock and timings, each with its reason, as a
command line. Exit 1: one of them could not be examined; the others were.

Examples:
  volctl doctor /dev/disk/by-id/scsi-3600...
  volctl doctor --seconds 60 /dev/mapper/control /dev/mapper/footage
  volctl doctor --json /dev/ctl | jq '.devices[] | {path, inflight, command}'")]
    Doctor(DoctorArgs),

    /// Run the daemon in the foreground
    #[command(after_long_help = "\
SIGTERM logs off in order; a second SIGTERM ends it now.

Example:
  volctl daemon --config /etc/volctl.toml")]
    Daemon(DaemonArgs),

    /// Try everything on this machine, with three clients and loop devices
    #[command(after_long_help = "Example:\n  volctl demo --keep")]
    Demo(DemoArgs),

    /// Measure locks, hand-overs, polls and refreshes
    #[command(after_long_help = "\
Prints each figure beside its target. It works on images of its own, which it removes; it needs root.

Examples:
  volctl bench
  volctl bench handover --rounds 50 --dir /mnt/san/tmp --json")]
    Bench(BenchArgs),

    /// Print a completion script for a shell
    #[command(after_long_help = "Example:\n  volctl completions bash > /etc/bash_completion.d/volctl")]
    Completions(CompletionsArgs),

    /// Print the manual page, or write all of them
    #[command(after_long_help = "Examples:\n  volctl man | man -l -\n  volctl man /usr/local/share/man/man1")]
    Man(ManArgs),

    /// Close the gates when the daemon or its lease is gone (started by the daemon)
    #[command(hide = true)]
    Guardian(GuardianArgs),
}

/// Arguments of the verbs that name a volume and nothing else.
#[derive(Debug, Args)]
pub struct VolumeArgs {
    /// The volume's name
    #[arg(value_parser = values::name)]
    pub volume: String,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Go on and print it anew at every change
    #[arg(long, short)]
    pub watch: bool,
}

/// Arguments of `request`.
#[derive(Debug, Args)]
pub struct RequestArgs {
    /// The volume's name
    #[arg(value_parser = values::name)]
    pub volume: String,

    /// Say this to the writer (at most 255 bytes)
    #[arg(long, short, value_name = "TEXT", value_parser = values::message)]
    pub message: Option<String>,

    /// Wait this long for the mount, such as 30s
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub wait: Option<Duration>,
}

/// Arguments of `answer`.
#[derive(Debug, Args)]
pub struct AnswerArgs {
    /// The volume's name
    #[arg(value_parser = values::name)]
    pub volume: String,

    /// The client that asks
    #[arg(value_parser = values::name)]
    pub client: String,

    /// The answer
    #[arg(value_enum)]
    pub answer: Answer3,

    /// Say this to the asker (at most 255 bytes)
    #[arg(long, short, value_name = "TEXT", value_parser = values::message)]
    pub message: Option<String>,
}

/// Arguments of `takeover`.
#[derive(Debug, Args)]
pub struct TakeoverArgs {
    /// The volume's name
    #[arg(value_parser = values::name)]
    pub volume: String,

    /// Skip the wait for the last writes of this silent writer, and take the risk
    #[arg(long, value_name = "WRITER", value_parser = values::name)]
    pub yes_i_know: Option<String>,
}

/// Arguments of `log`.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// Go on with events as they come
    #[arg(long, short)]
    pub follow: bool,
}

/// Arguments of `daemon`.
#[derive(Debug, Args)]
pub struct DaemonArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Leave everything running at the end, and say how to use it
    #[arg(long)]
    pub keep: bool,
}

/// What `bench` measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchWhat {
    /// The semaphore
    Lock,
    /// From the request to the read-write mount
    Handover,
    /// Polling the tables
    Poll,
    /// From the publish to the readers' new mount
    Refresh,
}

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What to measure; everything if absent
    #[arg(value_enum)]
    pub what: Option<BenchWhat>,

    /// How many rounds (else 1000 locks, 20 hand-overs, 20 refreshes)
    #[arg(long, value_parser = clap::value_parser!(u32).range(3..))]
    pub rounds: Option<u32>,

    /// Where the images are made: on the disk to be measured
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The directory to write one page a command into
    pub dir: Option<PathBuf>,
}

/// Arguments of the hidden `guardian`.
#[derive(Debug, Args)]
pub struct GuardianArgs {
    /// Whatever the daemon that starts it hands over
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub rest: Vec<OsString>,
}
