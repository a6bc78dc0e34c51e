//! Administration: what can be done, and the command line that does it. The window itself has no rights: it runs `volctl`.

use std::path::PathBuf;

use serde::Deserialize;
use volctl::wire::status::{Access, AutoAnswer};

use crate::words::shell_word;

/// One act of administration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminCommand {
    /// Read the clients and volumes of the tables.
    LookAt,
    /// Make the tables.
    Init {
        /// The device or image.
        control: String,
        /// A name for people.
        label: String,
        /// The lock kind.
        lock: String,
        /// Make the image with this size.
        size: String,
        /// Overwrite what is there.
        force: bool,
    },
    /// Add a client.
    AddClient(String),
    /// Remove a client.
    RemoveClient(String),
    /// Change a setting of a client.
    SetClient {
        /// Which client.
        name: String,
        /// Which setting.
        key: &'static str,
        /// Its value.
        value: &'static str,
    },
    /// Add a volume.
    AddVolume(VolumeForm),
    /// Remove a volume from the tables.
    RemoveVolume(String),
    /// Allow or forbid writing to everybody.
    WriteEnabled {
        /// Which volume.
        volume: String,
        /// Whether anybody may write.
        on: bool,
    },
    /// Set what a client may do with a volume.
    Allow(Privilege),
    /// Verify the tables; with true, restore lost copies.
    Check(bool),
    /// List block devices.
    ListDevices,
    /// See what is on a device or image now.
    Probe(String),
    /// Run the daemon: the service where systemd runs, else one of our own with a configuration file written first.
    StartDaemon,
}

/// A client's privileges on a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Privilege {
    /// The client.
    pub client: String,
    /// The volume; the list of a volume leaves it out.
    #[serde(default)]
    pub volume: String,
    /// What it may do.
    pub access: Access,
    /// May not ask for write access.
    pub lockout: bool,
    /// Switches to newer states of itself.
    pub auto_update: bool,
    /// Between two looks, in milliseconds.
    pub check_ms: u64,
}

/// The form of a new volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeForm {
    /// Its name.
    pub name: String,
    /// Block device or image.
    pub device: String,
    /// `snapshot`, `exclusive`, `live`, or nothing for the default.
    pub readers: String,
    /// The file system to make, or nothing.
    pub mkfs: String,
    /// Make the image with this size.
    pub size: String,
    /// Behind a header.
    pub envelope: bool,
    /// What the person typed to confirm that everything on it is destroyed.
    pub confirm: String,
}

impl AdminCommand {
    /// The arguments of `volctl`; none for what another program does.
    #[must_use]
    pub fn argv(&self, control: &str) -> Option<Vec<String>> {
        let on = |value: bool| if value { "on" } else { "off" };
        let mut args: Vec<String> = match self {
            Self::Init { control, label, lock, size, force } => {
                let mut args = vec!["init".to_owned(), control.clone()];
                for (option, value) in [("--label", label), ("--lock", lock), ("--size", size)] {
                    if !value.trim().is_empty() {
                        args.extend([option.to_owned(), value.trim().to_owned()]);
                    }
                }
                args.extend(force.then(|| "--force".to_owned()));
                return Some(args);
            }
            Self::Check(repair) => {
                let mut args = vec!["check".to_owned(), control.to_owned()];
                args.extend(repair.then(|| "--repair".to_owned()));
                return Some(args);
            }
            Self::AddClient(name) => words(&["client", "add", name]),
            Self::RemoveClient(name) => words(&["client", "remove", name]),
            Self::SetClient { name, key, value } => words(&["set-client", name, key, value]),
            Self::AddVolume(form) => form.argv(),
            Self::RemoveVolume(name) => words(&["volume", "remove", name]),
            Self::WriteEnabled { volume, on: value } => words(&["set", volume, "write-enabled", on(*value)]),
            Self::Allow(p) => {
                let access = access_word(p.access);
                let mut args = words(&["allow", &p.client, &p.volume, access]);
                args.extend(words(&["--lockout", on(p.lockout), "--auto-update", on(p.auto_update)]));
                if p.check_ms > 0 {
                    args.extend(["--check".to_owned(), format!("{}ms", p.check_ms)]);
                }
                args
            }
            Self::LookAt | Self::ListDevices | Self::Probe(_) | Self::StartDaemon => return None,
        };
        args.extend(["--control".to_owned(), control.to_owned()]);
        Some(args)
    }

    /// The command line as one types it, to copy it where the window may not run it.
    #[must_use]
    pub fn line(&self, control: &str) -> Option<String> {
        let words: Vec<String> = self.argv(control)?.iter().map(|w| shell_word(w)).collect();
        Some(format!("sudo volctl {}", words.join(" ")))
    }

    /// What is being done, for the line that says so.
    #[must_use]
    pub fn doing(&self) -> String {
        match self {
            Self::LookAt => "reading the tables".into(),
            Self::Init { control, .. } => format!("making tables on {control}"),
            Self::AddClient(name) => format!("adding client {name}"),
            Self::RemoveClient(name) => format!("removing client {name}"),
            Self::SetClient { name, key, value } => format!("setting {key} of {name} to {value}"),
            Self::AddVolume(form) if form.mkfs.is_empty() => format!("adding volume {}", form.name),
            Self::AddVolume(form) => format!("making {} and adding volume {}", form.mkfs, form.name),
            Self::RemoveVolume(name) => format!("removing volume {name}"),
            Self::WriteEnabled { volume, on: true } => format!("allowing writing on {volume}"),
            Self::WriteEnabled { volume, on: false } => format!("forbidding writing on {volume}"),
            Self::Allow(p) => format!("setting the privileges of {} on {}", p.client, p.volume),
            Self::Check(false) => "checking the tables".into(),
            Self::Check(true) => "restoring lost copies".into(),
            Self::ListDevices => "listing devices".into(),
            Self::Probe(path) => format!("looking at {path}"),
            Self::StartDaemon => "starting the daemon".into(),
        }
    }

    /// Whether it changes nothing.
    #[must_use]
    pub const fn only_looks(&self) -> bool {
        matches!(self, Self::LookAt | Self::ListDevices | Self::Probe(_) | Self::Check(false))
    }
}

impl VolumeForm {
    fn argv(&self) -> Vec<String> {
        let mut args = words(&["volume", "add", self.name.trim(), "--device", self.device.trim()]);
        for (option, value) in [("--readers", &self.readers), ("--mkfs", &self.mkfs), ("--size", &self.size)] {
            if !value.trim().is_empty() && (option != "--size" || !self.mkfs.is_empty()) {
                args.extend([option.to_owned(), value.trim().to_owned()]);
            }
        }
        args.extend(self.envelope.then(|| "--envelope".to_owned()));
        // The typed confirmation stands for it.
        args.extend((!self.mkfs.is_empty() && self.confirmed()).then(|| "--force".to_owned()));
        args
    }

    /// The confirmation was typed: the device's own name.
    #[must_use]
    pub fn confirmed(&self) -> bool {
        confirmed(&self.device, &self.confirm)
    }
}

/// Whether somebody typed the last part of a path.
#[must_use]
pub fn confirmed(path: &str, typed: &str) -> bool {
    let name = last_part(path);
    !name.is_empty() && typed.trim() == name
}

/// The last part of a path: what is typed to confirm.
#[must_use]
pub fn last_part(path: &str) -> &str {
    path.trim().trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&w| w.to_owned()).collect()
}

/// The word of an access.
#[must_use]
pub const fn access_word(access: Access) -> &'static str {
    match access {
        Access::None => "none",
        Access::Read => "read",
        Access::Write => "write",
    }
}

/// By what means the tables can be changed from here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Means {
    /// The window runs as root.
    Root,
    /// By asking for the administrator's password.
    Pkexec(PathBuf),
    /// Not at all.
    #[default]
    None,
}

/// What this user may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Why the daemon would not let this user act; None: it does.
    pub no_acting: Option<String>,
    /// How the tables can be changed.
    pub means: Means,
}

impl Rights {
    /// Why administration is not possible from here.
    #[must_use]
    pub fn no_administration(&self) -> Option<&'static str> {
        (self.means == Means::None).then_some(
            "Only root may change the tables, and pkexec, which could ask for the password, is not installed. \
             Copy the command and run it as root.",
        )
    }
}

/// A client of the tables, as `volctl client list --json` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ClientRow {
    /// Its name.
    pub name: String,
    /// Its host at the last log-on.
    #[serde(default)]
    pub host: String,
    /// Whether it is there.
    #[serde(default)]
    pub state: String,
    /// May log on.
    pub enabled: bool,
    /// May take over.
    pub admin: bool,
    /// May ask for nothing.
    pub locked_out: bool,
    /// Is told of requests and refreshes.
    pub notify: bool,
    /// Who answers.
    pub auto_response: AutoAnswer,
}

/// A volume of the tables, as `volctl volume list --json` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct VolumeRow {
    /// Its name.
    pub name: String,
    /// Where it was found.
    pub device: String,
    /// Its file system.
    pub fs: String,
    /// What readers may see.
    pub readers: String,
    /// Whether anybody may write.
    pub write_enabled: bool,
    /// Who writes.
    pub writer: Option<serde_json::Value>,
    /// Who may do what.
    pub permissions: Vec<Privilege>,
}

/// The tables, as they were read last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// The clients.
    pub clients: Vec<ClientRow>,
    /// The volumes.
    pub volumes: Vec<VolumeRow>,
}

impl Tables {
    /// What a client may do with a volume; nothing, with the defaults, where the table says nothing.
    #[must_use]
    pub fn privilege(&self, client: &str, volume: &str) -> Privilege {
        let row = self.volumes.iter().find(|v| v.name == volume);
        let known = row.and_then(|v| v.permissions.iter().find(|p| p.client == client)).cloned();
        let unknown = Privilege { client: client.into(), auto_update: true, check_ms: 2000, ..Privilege::default() };
        Privilege { volume: volume.to_owned(), ..known.unwrap_or(unknown) }
    }
}

/// A block device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its path.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// What is on it: a file system, a partition table, or nothing.
    pub content: String,
    /// Where it is mounted.
    pub mounted: Vec<String>,
    /// Its model.
    pub model: String,
}

/// What is on a device or image now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// Which.
    pub path: String,
    /// The finding, in a sentence.
    pub text: String,
    /// Something is on it.
    pub full: bool,
    /// There is no such file.
    pub absent: bool,
}

/// The form of new tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InitForm {
    /// Device or image.
    pub path: String,
    /// A name for people.
    pub label: String,
    /// The lock kind.
    pub lock: String,
    /// Size of a new image.
    pub size: String,
    /// What was typed.
    pub confirm: String,
}

/// The form of a daemon's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonForm {
    /// The configuration file.
    pub config: String,
    /// Which client this host is.
    pub client: String,
    /// Where it keeps its log.
    pub state_dir: String,
    /// Where volumes are mounted.
    pub mount_root: String,
    /// The socket; that of this window.
    pub socket: String,
}

impl DaemonForm {
    /// As the daemon's own defaults are, with this window's socket.
    #[must_use]
    pub fn new(socket: &str) -> Self {
        Self {
            config: "/etc/volctl.toml".into(),
            client: String::new(),
            state_dir: "/var/lib/volctl".into(),
            mount_root: "/mnt/volctl".into(),
            socket: socket.to_owned(),
        }
    }

    /// The configuration file's text.
    ///
    /// # Errors
    /// When the values cannot be written as TOML.
    pub fn text(&self, control: &str) -> Result<String, toml::ser::Error> {
        let mut table = toml::Table::new();
        let keys = [
            ("client", self.client.trim()),
            ("control", control),
            ("socket", self.socket.trim()),
            ("state_dir", self.state_dir.trim()),
            ("mount_root", self.mount_root.trim()),
        ];
        for (key, value) in keys {
            table.insert(key.to_owned(), toml::Value::String(value.to_owned()));
        }
        Ok(format!("# Written by volctl-gui; dist/volctl.toml shows every key.\n{}", toml::to_string(&table)?))
    }
}

#[cfg(test)]
mod tests;
