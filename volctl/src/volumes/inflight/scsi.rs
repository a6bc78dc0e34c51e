//! SCSI disks: each try of a command has its own time, and a lost transport holds commands back without using that up.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::{Inflight, Look, limit, name, seconds, unknown};

/// `max_retries` of the SCSI disk driver where sysfs does not say.
const RETRIES: u32 = 5;
/// `eh_timeout` where sysfs does not say: how long one step of the error handler may take.
const EH_TIME: Duration = Duration::from_secs(10);
/// Abort, and the resets of unit, target, bus and host, each followed by a look whether the unit answers.
const EH_STEPS: u32 = 6;
/// Drivers that start the time of a command anew when it is over, whatever it is: the hypervisor answers when it likes.
const ENDLESS: [&str; 2] = ["virtio_scsi", "storvsc_host"];

pub(super) fn measure(look: &mut Look<'_>, disk: &Path) -> Inflight {
    let disk_name = name(disk);
    let Ok(address) = fs::canonicalize(disk.join("device")) else {
        return unknown(format!("{disk_name}: its SCSI address cannot be seen"));
    };
    let Some(timeout) =
        look.read(&address, "timeout", "seconds for one try of a command").and_then(|text| seconds(&text))
    else {
        return unknown(format!("{disk_name}: no command timeout in sysfs"));
    };
    if let Some(driver) = host_driver(look, &address).filter(|driver| ENDLESS.contains(&driver.as_str())) {
        return Inflight::Unbounded(format!(
            "{disk_name}: the driver {driver} starts a command's time anew when it is over, for as long as the hypervisor \
             likes, and no setting of this host ends it; attach the storage inside the guest (iSCSI, NVMe over fabrics)"
        ));
    }
    let class = look.sysfs.path("class/scsi_disk").join(name(&address));
    let tries = match look.read(&class, "max_retries", "tries after the first; -1: for ever").map(|text| text.parse()) {
        Some(Ok(-1_i64)) => {
            return Inflight::Unbounded(format!(
                "{disk_name}: max_retries is -1, for ever; echo 1 > /sys/class/scsi_disk/{}/max_retries",
                name(&address)
            ));
        }
        Some(Ok(retries)) => u32::try_from(retries).unwrap_or(RETRIES).saturating_add(1),
        _ => RETRIES + 1,
    };
    let step = look.read(&address, "eh_timeout", "seconds for one step of the error handler");
    let step = step.and_then(|text| seconds(&text)).unwrap_or(EH_TIME);
    // Each try can use up its time, then the error handler's, and be sent again.
    let own = timeout.saturating_add(step.saturating_mul(EH_STEPS)).saturating_mul(tries);
    Inflight::Bounded(own).then(transport(look, &address))
}

fn part(address: &Path, is: impl Fn(&str) -> bool) -> Option<&str> {
    address.components().filter_map(|part| part.as_os_str().to_str()).find(|part| is(part))
}

/// What `host7` is run by.
fn host_driver(look: &mut Look<'_>, address: &Path) -> Option<String> {
    let host = part(address, |part| {
        part.strip_prefix("host").is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()) && !number.is_empty())
    })?;
    let directory = look.sysfs.path("class/scsi_host").join(host);
    look.read(&directory, "proc_name", "the driver")
}

/// How long a transport holds commands back after it was lost; zero for those that do not.
fn transport(look: &mut Look<'_>, address: &Path) -> Inflight {
    if let Some(session) = part(address, |part| part.starts_with("session")) {
        return iscsi(look, address, session);
    }
    if let Some(port) = part(address, |part| part.starts_with("rport-")) {
        return remote_port(look, "fc_remote_ports", port);
    }
    match part(address, |part| part.starts_with("port-")) {
        Some(port) if look.sysfs.path("class/srp_remote_ports").join(port).exists() => {
            remote_port(look, "srp_remote_ports", port)
        }
        _ => Inflight::Bounded(Duration::ZERO),
    }
}

fn iscsi(look: &mut Look<'_>, address: &Path, session: &str) -> Inflight {
    let directory = look.sysfs.path("class/iscsi_session").join(session);
    let meaning = "seconds for which a lost session holds commands back";
    let Some(text) = look.read(&directory, "recovery_tmo", meaning) else {
        return unknown(format!("{session}: sysfs has no recovery_tmo"));
    };
    let Some(mut time) = limit(&text) else {
        return Inflight::Unbounded(format!(
            "{session}: recovery_tmo is {text}, for ever; set node.session.timeo.replacement_timeout = 15 and log in again"
        ));
    };
    for file in ["abort_tmo", "lu_reset_tmo", "tgt_reset_tmo"] {
        let more = look.read(&directory, file, "seconds for a step of the error handler on this session");
        time = time.saturating_add(more.and_then(|text| seconds(&text)).unwrap_or_default());
    }
    if let Some(connection) = part(address, |part| part.starts_with("connection")).map(str::to_owned).or_else(|| {
        let number = session.strip_prefix("session")?;
        Some(format!("connection{number}:0"))
    }) {
        let directory = look.sysfs.path("class/iscsi_connection").join(connection);
        for file in ["recv_tmo", "ping_tmo"] {
            let more = look.read(&directory, file, "seconds until a silent connection is noticed");
            time = time.saturating_add(more.and_then(|text| seconds(&text)).unwrap_or_default());
        }
    }
    Inflight::Bounded(time)
}

/// Fibre Channel and SRP: a lost port fails its commands after `fast_io_fail_tmo`, if that is on, else after `dev_loss_tmo`.
fn remote_port(look: &mut Look<'_>, class: &str, port: &str) -> Inflight {
    let directory = look.sysfs.path("class").join(class).join(port);
    let fast = look.read(&directory, "fast_io_fail_tmo", "seconds until a lost port fails its commands");
    let loss = look.read(&directory, "dev_loss_tmo", "seconds until a lost port is given up");
    let times = [fast.as_deref().and_then(limit), loss.as_deref().and_then(limit)];
    if let Some(time) = times.into_iter().flatten().min() {
        return Inflight::Bounded(time);
    }
    let said = |text: Option<String>| text.unwrap_or_else(|| "not there".to_owned());
    let (fast, is_there) = (said(fast), loss.is_some());
    let loss = said(loss);
    if !is_there {
        return unknown(format!("{port}: sysfs has no dev_loss_tmo"));
    }
    Inflight::Unbounded(format!(
        "{port}: fast_io_fail_tmo is {fast} and dev_loss_tmo {loss}, for ever; set fast_io_fail_tmo 5 in multipath.conf, or \
         echo 5 > /sys/class/{class}/{port}/fast_io_fail_tmo"
    ))
}
