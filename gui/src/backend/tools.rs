//! Administration: runs `volctl` and looks at devices, one act after the other.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crossbeam::channel::{Receiver, Sender};
use serde::Deserialize;
use serde_json::Value;
use volctl::wire::outcome::Failure;

use crate::admin::{AdminCommand, ClientRow, DaemonForm, Means, Tables, VolumeRow};
use crate::model::{Administered, Event};
use crate::rights::in_path;
use crate::words;

mod devices;
mod start;

/// One act, with all that it needs.
#[derive(Debug)]
pub(super) struct Act {
    pub command: AdminCommand,
    pub control: String,
    pub means: Means,
    pub daemon: DaemonForm,
}

pub(super) fn run(acts: &Receiver<Act>, tell: &Sender<Event>) {
    for act in acts {
        let result = carry_out(&act);
        if tell.send(Event::Administered { command: act.command, result }).is_err() {
            return;
        }
    }
}

fn carry_out(act: &Act) -> Result<Administered, Failure> {
    match &act.command {
        AdminCommand::LookAt => look_at(act).map(Administered::Tables),
        AdminCommand::ListDevices => devices::list(&act.control).map(Administered::Devices),
        AdminCommand::Probe(path) => Ok(Administered::Probe(devices::probe(path, &act.means))),
        AdminCommand::StartDaemon => start::start(act).map(Administered::Text),
        command => {
            let args = command.argv(&act.control).unwrap_or_default();
            let said = volctl(&act.means, &args)?;
            Ok(Administered::Text(sentence(command, &said)))
        }
    }
}

/// The program: beside the window, else in PATH.
fn program() -> Result<PathBuf, Failure> {
    let beside =
        std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("volctl"))).filter(|p| p.is_file());
    beside.or_else(|| in_path("volctl")).ok_or_else(|| {
        let why = "it lies neither beside the window's program nor in PATH";
        Failure::failed("volctl was not found", why, "install it, or start the window from where it lies")
    })
}

/// Runs `volctl --json` and gives back what it printed.
fn volctl(means: &Means, args: &[String]) -> Result<Vec<Value>, Failure> {
    let program = program()?;
    let mut command = match means {
        Means::Pkexec(pkexec) => {
            let mut command = Command::new(pkexec);
            command.arg(&program);
            command
        }
        Means::Root | Means::None => Command::new(&program),
    };
    command.arg("--json").args(args).stdin(Stdio::null());
    let output = command.output().map_err(|error| no_start(&program, &error))?;
    read(&output)
}

fn no_start(program: &Path, error: &std::io::Error) -> Failure {
    let what = format!("{} does not start", program.display());
    Failure::failed(what, error.to_string(), "look at the installation")
}

fn read(output: &Output) -> Result<Vec<Value>, Failure> {
    let out = String::from_utf8_lossy(&output.stdout);
    let values: Vec<Value> = out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    // A check that finds something prints what it found and ends with 6: both are wanted.
    if output.status.success() || (output.status.code() == Some(6) && !values.is_empty()) {
        return Ok(values);
    }
    let err = String::from_utf8_lossy(&output.stderr);
    let told = err.lines().rev().find_map(|line| serde_json::from_str::<Failure>(line).ok());
    Err(told.unwrap_or_else(|| match output.status.code() {
        Some(126 | 127) => {
            Failure::refused("it was not done", "the password was not given", "try again, or run the command as root")
        }
        _ => {
            let why = err.lines().last().unwrap_or("it said nothing").to_owned();
            Failure::failed("volctl failed", why, "run the command in a terminal to see all of it")
        }
    }))
}

fn look_at(act: &Act) -> Result<Tables, Failure> {
    #[derive(Deserialize)]
    struct Clients {
        clients: Vec<ClientRow>,
    }
    #[derive(Deserialize)]
    struct Volumes {
        volumes: Vec<VolumeRow>,
    }
    let list = |what: &str| {
        let args = [what, "list", "--control", &act.control].map(str::to_owned);
        volctl(&act.means, &args).map(|values| values.into_iter().next().unwrap_or_default())
    };
    let other = |error: serde_json::Error| {
        Failure::failed(
            "what volctl printed is not understood",
            error.to_string(),
            "window and volctl must be of one version",
        )
    };
    let clients: Clients = serde_json::from_value(list("client")?).map_err(other)?;
    let volumes: Volumes = serde_json::from_value(list("volume")?).map_err(other)?;
    Ok(Tables { clients: clients.clients, volumes: volumes.volumes })
}

/// What an act did, in a sentence.
fn sentence(command: &AdminCommand, said: &[Value]) -> String {
    let said = said.last();
    let text = |key: &str| said.and_then(|v| v[key].as_str()).unwrap_or_default().to_owned();
    match command {
        AdminCommand::Init { control, .. } => format!("The tables are made on {control}, lock kind {}.", text("lock")),
        AdminCommand::AddClient(name) => format!("Client {name} is added."),
        AdminCommand::RemoveClient(name) => format!("Client {name} is removed."),
        AdminCommand::SetClient { name, key, value } => format!("{key} of {name} is {value}."),
        AdminCommand::AddVolume(form) => {
            format!("Volume {} is added: {}, readers {}.", form.name.trim(), text("fs"), text("readers"))
        }
        AdminCommand::RemoveVolume(name) => format!("Volume {name} is removed; what is on the disk stays."),
        AdminCommand::WriteEnabled { volume, on: true } => format!("Writing on {volume} is allowed."),
        AdminCommand::WriteEnabled { volume, on: false } => format!("Writing on {volume} is forbidden."),
        AdminCommand::Allow(p) => format!("{} may {} on {}.", p.client, crate::admin::access_word(p.access), p.volume),
        AdminCommand::Check(_) => check(said),
        _ => "Done.".into(),
    }
}

fn check(said: Option<&Value>) -> String {
    let list = |key: &str| said.and_then(|v| v[key].as_array()).cloned().unwrap_or_default();
    let line = |value: &Value| value["text"].as_str().map_or_else(|| value.to_string(), str::to_owned);
    let (findings, repaired) = (list("findings"), list("repaired"));
    let mut lines = Vec::new();
    if said.is_some_and(|v| v["clean"] == Value::Bool(true)) {
        lines.push("The tables are clean.".to_owned());
    }
    if !repaired.is_empty() {
        lines.push(format!("Restored: {}.", words::count(repaired.len(), "copy", "copies")));
    }
    lines.extend(findings.iter().take(10).map(line));
    if findings.len() > 10 {
        lines.push(format!("and {} more; 'volctl check' shows all.", findings.len() - 10));
    }
    lines.join("\n")
}
