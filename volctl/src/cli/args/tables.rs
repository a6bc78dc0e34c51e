//! Arguments of the verbs that work on the tables themselves, with or without a daemon.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::cli::values::{
    self, AccessChoice, AutoResponse, ClientKey, ClientSetting, FsChoice, LockChoice, OnOff, ReadersChoice, VolumeKey,
};
use crate::wire::outcome::Failure;

/// Where the tables are.
#[derive(Debug, Args)]
pub struct ControlArgs {
    /// The control volume: a device or an image
    #[arg(long, value_name = "CONTROL")]
    pub control: PathBuf,
}

/// Arguments of `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The device or image to make the tables on
    pub control: PathBuf,

    /// A name for people
    #[arg(long, value_parser = values::name)]
    pub label: Option<String>,

    /// How many clients there can be
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub max_clients: u16,

    /// How many volumes there can be
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub max_volumes: u16,

    /// The lock kind
    #[arg(long, value_enum, default_value_t = LockChoice::Auto)]
    pub lock: LockChoice,

    /// How often a client says that it lives
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = values::duration)]
    pub beat: Duration,

    /// How long a client may act after its last beat
    #[arg(long, value_name = "DURATION", default_value = "8s", value_parser = values::duration)]
    pub lease: Duration,

    /// How long a client must be silent to count as dead
    #[arg(long, value_name = "DURATION", default_value = "12s", value_parser = values::duration)]
    pub dead: Duration,

    /// Make the image with this size if it is not there
    #[arg(long, value_parser = values::size)]
    pub size: Option<u64>,

    /// Overwrite tables or a file system that are there already
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The devices or images to examine
    #[arg(required = true, value_name = "DEVICE")]
    pub devices: Vec<PathBuf>,

    /// Measure each of them for so long; 0 measures nothing
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(0..=3600))]
    pub seconds: u16,

    /// Measure writes, too: zeroes over zeroes, only on a device that is empty and not in use
    #[arg(long)]
    pub write: bool,
}

/// The verbs of `client`.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Add a client
    #[command(after_long_help = "Example:\n  volctl client add bob --control /dev/ctl")]
    Add(ClientAddArgs),
    /// Remove a client
    #[command(after_long_help = "Example:\n  volctl client remove bob --control /dev/ctl")]
    Remove(RemoveArgs),
    /// List the clients
    #[command(after_long_help = "Example:\n  volctl client list --control /dev/ctl --json")]
    List(ControlArgs),
}

/// Arguments of `client add`.
#[derive(Debug, Args)]
pub struct ClientAddArgs {
    /// The new client's name
    #[arg(value_parser = values::name)]
    pub name: String,

    /// Where the tables are.
    #[command(flatten)]
    pub tables: ControlArgs,
}

/// Arguments of `client remove` and `volume remove`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// The name
    #[arg(value_parser = values::name)]
    pub name: String,

    /// Remove it although it is in use: revoke what it holds
    #[arg(long)]
    pub force: bool,

    /// Where the tables are.
    #[command(flatten)]
    pub tables: ControlArgs,
}

/// The verbs of `volume`.
#[derive(Debug, Subcommand)]
pub enum VolumeCommand {
    /// Add a volume
    #[command(after_long_help = "\
Without --readers: snapshot on btrfs, live elsewhere.

Examples:
  volctl volume add footage --device /dev/disk/by-id/... --control /dev/ctl
  volctl volume add scratch --device scratch.img --mkfs btrfs --size 1G --control control.img")]
    Add(VolumeAddArgs),
    /// Remove a volume from the tables; what is on it stays
    #[command(after_long_help = "Example:\n  volctl volume remove footage --control /dev/ctl")]
    Remove(RemoveArgs),
    /// List the volumes
    #[command(after_long_help = "Example:\n  volctl volume list --control /dev/ctl --json")]
    List(ControlArgs),
}

/// Arguments of `volume add`.
#[derive(Debug, Args)]
pub struct VolumeAddArgs {
    /// The new volume's name
    #[arg(value_parser = values::name)]
    pub name: String,

    /// The block device or image
    #[arg(long, value_name = "PATH")]
    pub device: PathBuf,

    /// What readers may see while someone writes
    #[arg(long, value_enum)]
    pub readers: Option<ReadersChoice>,

    /// Keep the file system behind a header, invisible to hosts without volctl (made with --mkfs, or there already)
    #[arg(long)]
    pub envelope: bool,

    /// Make this file system first; what is on the device is destroyed
    #[arg(long, value_enum)]
    pub mkfs: Option<FsChoice>,

    /// Make the image with this size if it is not there (needs --mkfs)
    #[arg(long, value_parser = values::size, requires = "mkfs")]
    pub size: Option<u64>,

    /// Overwrite a file system that is there already
    #[arg(long)]
    pub force: bool,

    /// Where the tables are.
    #[command(flatten)]
    pub tables: ControlArgs,
}

/// Arguments of `allow`.
#[derive(Debug, Args)]
pub struct AllowArgs {
    /// The client's name
    #[arg(value_parser = values::name)]
    pub client: String,

    /// The volume's name
    #[arg(value_parser = values::name)]
    pub volume: String,

    /// What it may do
    #[arg(value_enum)]
    pub access: AccessChoice,

    /// Lock it out of asking for write access
    #[arg(long, value_enum, value_name = "SWITCH")]
    pub lockout: Option<OnOff>,

    /// Switch to newer states by itself
    #[arg(long, value_enum, value_name = "SWITCH")]
    pub auto_update: Option<OnOff>,

    /// How often it looks for newer states
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub check: Option<Duration>,

    /// Take away what it holds now
    #[arg(long)]
    pub force: bool,

    /// Where the tables are.
    #[command(flatten)]
    pub tables: ControlArgs,
}

/// Arguments of `set`.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// The volume's name
    #[arg(value_parser = values::name)]
    pub volume: String,

    /// The setting
    #[arg(value_enum)]
    pub key: VolumeKey,

    /// Its value
    #[arg(value_enum)]
    pub value: OnOff,

    /// Take away what someone holds now
    #[arg(long)]
    pub force: bool,

    /// Where the tables are.
    #[command(flatten)]
    pub tables: ControlArgs,
}

/// Arguments of `set-client`.
#[derive(Debug, Args)]
pub struct SetClientArgs {
    /// The client's name
    #[arg(value_parser = values::name)]
    pub name: String,

    /// The setting
    #[arg(value_enum)]
    pub key: ClientKey,

    /// Its value: off, idle or always for auto-response, on or off for the others
    pub value: String,

    /// Take away what it holds now
    #[arg(long)]
    pub force: bool,

    /// Where the tables are.
    #[command(flatten)]
    pub tables: ControlArgs,
}

impl SetClientArgs {
    /// The setting, its value checked against the key.
    ///
    /// # Errors
    /// A [`Failure`] (exit 2) for a value that the key does not have.
    pub fn setting(&self) -> Result<ClientSetting, Failure> {
        Ok(match self.key {
            ClientKey::AutoResponse => ClientSetting::AutoResponse(self.value_as::<AutoResponse>()?),
            ClientKey::Admin => ClientSetting::Admin(self.value_as::<OnOff>()?.is_on()),
            ClientKey::Enabled => ClientSetting::Enabled(self.value_as::<OnOff>()?.is_on()),
            ClientKey::LockedOut => ClientSetting::LockedOut(self.value_as::<OnOff>()?.is_on()),
            ClientKey::Notify => ClientSetting::Notify(self.value_as::<OnOff>()?.is_on()),
        })
    }

    fn value_as<T: ValueEnum>(&self) -> Result<T, Failure> {
        let word = |value: &T| value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        T::from_str(&self.value, false).map_err(|_| {
            let known: Vec<String> = T::value_variants().iter().map(word).collect();
            let key = self.key.to_possible_value();
            let key = key.as_ref().map_or("it", |key| key.get_name());
            Failure::usage(
                format!("invalid value '{}' for {key}", self.value),
                format!("{key} is one of: {}", known.join(", ")),
                "see 'volctl set-client --help'",
            )
        })
    }
}

/// Arguments of `dump`.
#[derive(Debug, Args)]
pub struct DumpArgs {
    /// The control volume: a device or an image
    pub control: PathBuf,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The control volume: a device or an image
    pub control: PathBuf,

    /// Restore lost copies; nothing is forgotten
    #[arg(long)]
    pub repair: bool,

    /// With --repair: go on from what is left although acknowledged changes are lost
    #[arg(long, requires = "repair")]
    pub accept_loss: bool,
}
