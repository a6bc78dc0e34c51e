//! Starts the daemon: as the service where systemd runs, else by itself, with a configuration written first.

use std::path::Path;
use std::process::{Command, Stdio};

use volctl::wire::outcome::Failure;

use super::{Act, program};
use crate::admin::Means;
use crate::rights::in_path;

pub(super) fn start(act: &Act) -> Result<String, Failure> {
    let form = &act.daemon;
    let config = Path::new(form.config.trim());
    let service = Path::new("/run/systemd/system").exists() && unit_is_there();
    if act.means == Means::Root {
        write_config(act, config)?;
    }
    if service {
        let mut command = match &act.means {
            Means::Pkexec(pkexec) => {
                let mut command = Command::new(pkexec);
                command.arg("systemctl");
                command
            }
            Means::Root | Means::None => Command::new("systemctl"),
        };
        return run(command.args(["start", "volctl"])).map(|()| "The service volctl is started.".into());
    }
    if act.means != Means::Root {
        let why = "without systemd only root can start it from here";
        let next = format!("run as root: volctl daemon --config {}", config.display());
        return Err(Failure::refused("the daemon was not started", why, next));
    }
    let setsid = in_path("setsid").ok_or_else(|| {
        Failure::failed("the daemon was not started", "setsid is not installed", "install util-linux")
    })?;
    std::fs::create_dir_all(form.state_dir.trim()).map_err(|e| not_written(form.state_dir.trim(), &e))?;
    let log = Path::new(form.state_dir.trim()).join("daemon.log");
    let file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(&log)
        .map_err(|e| not_written(&log.display().to_string(), &e))?;
    let other = file.try_clone().map_err(|e| not_written(&log.display().to_string(), &e))?;
    // It outlives the window: a session of its own, and nobody's child.
    let mut command = Command::new(setsid);
    command.arg("--fork").arg(program()?).args(["daemon", "--config"]).arg(config);
    command.stdin(Stdio::null()).stdout(file).stderr(other);
    run(&mut command)?;
    Ok(format!("The daemon is started; it writes its log to {}.", log.display()))
}

fn unit_is_there() -> bool {
    ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"]
        .iter()
        .any(|dir| Path::new(dir).join("volctl.service").exists())
}

/// Writes the configuration; one that is there and says something else is left alone.
fn write_config(act: &Act, config: &Path) -> Result<(), Failure> {
    let fault = |why: String| Failure::failed("the configuration was not written", why, "look at the path");
    let text = act.daemon.text(&act.control).map_err(|error| fault(error.to_string()))?;
    match std::fs::read_to_string(config) {
        Ok(there) if there == text => return Ok(()),
        Ok(there) if !there.starts_with("# Written by volctl-gui") => return Ok(()),
        _ => {}
    }
    if let Some(parent) = config.parent() {
        std::fs::create_dir_all(parent).map_err(|error| fault(error.to_string()))?;
    }
    std::fs::write(config, text).map_err(|error| fault(format!("{}: {error}", config.display())))
}

fn run(command: &mut Command) -> Result<(), Failure> {
    let output = command
        .output()
        .map_err(|error| Failure::failed("the daemon was not started", error.to_string(), "start it by hand"))?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::failed("the daemon was not started", why, "look at its log"))
}

fn not_written(path: &str, error: &std::io::Error) -> Failure {
    Failure::failed("the daemon was not started", format!("{path}: {error}"), "choose another path")
}
