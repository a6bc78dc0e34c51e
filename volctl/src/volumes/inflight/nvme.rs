//! NVMe: a local controller resets after the time-out of a command; a fabrics one waits for its link up to `ctrl_loss_tmo`.
//!
//! With the driver's own multipathing the namespace has no queue of its own: what counts are its paths.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::sysfs::{attribute, entries};
use super::{Inflight, Look, limit, name, seconds, unknown};

/// `max_retries` of the driver where sysfs does not say.
const RETRIES: u32 = 5;
/// One try to connect again takes no longer: one SYN and its repetition, or the connection manager's own time.
const CONNECT: Duration = Duration::from_secs(3);
/// Between two of them where sysfs does not say.
const RECONNECT: Duration = Duration::from_secs(10);

pub(super) fn measure(look: &mut Look<'_>, disk: &Path) -> Inflight {
    let disk_name = name(disk);
    let Ok(device) = fs::canonicalize(disk.join("device")) else {
        return unknown(format!("{disk_name}: its controller cannot be seen"));
    };
    let controllers: Vec<PathBuf> = if device.join("transport").exists() {
        vec![device]
    } else {
        // A link to each controller of the subsystem.
        entries(&device)
            .into_iter()
            .filter(|entry| entry.join("transport").exists())
            .map(|entry| fs::canonicalize(&entry).unwrap_or(entry))
            .collect()
    };
    if controllers.is_empty() {
        return unknown(format!("{disk_name}: no controller in sysfs"));
    }
    let module = look.sysfs.path("module/nvme_core/parameters");
    let retries = look.read(&module, "max_retries", "tries of a command after the first");
    let tries = retries.and_then(|text| text.parse().ok()).unwrap_or(RETRIES).saturating_add(1);
    let mut own = Inflight::Bounded(Duration::ZERO);
    let mut link = Inflight::Bounded(Duration::ZERO);
    for controller in &controllers {
        // What failed on one path is sent on the next; losses of links are waited for at the same time.
        own = own.then(commands(look, disk, controller, tries));
        link = link.worse(loss(look, controller));
    }
    own.then(link).then(delayed_removal(look, disk))
}

/// The tries of a command on one path.
fn commands(look: &mut Look<'_>, disk: &Path, controller: &Path, tries: u32) -> Inflight {
    let disk_name = name(disk);
    let meaning = "milliseconds for one try of a command";
    let mut places = vec![disk.to_owned()];
    places.extend(entries(controller).into_iter().filter(|entry| is_path_of(name(entry), disk_name)));
    let time = places.iter().find_map(|place| look.read(place, "queue/io_timeout", meaning));
    match time.and_then(|text| text.parse().ok()).map(Duration::from_millis) {
        Some(time) => Inflight::Bounded(time.saturating_mul(tries)),
        None => unknown(format!("{disk_name}: no io_timeout in sysfs")),
    }
}

/// Whether `nvme0c1n2` is a path of `nvme0n2`.
fn is_path_of(path: &str, head: &str) -> bool {
    let Some((subsystem, namespace)) = head.rsplit_once('n') else { return false };
    let middle = path.strip_prefix(subsystem).and_then(|rest| rest.strip_suffix(&format!("n{namespace}")));
    middle.and_then(|c| c.strip_prefix('c')).is_some_and(|c| !c.is_empty() && c.bytes().all(|b| b.is_ascii_digit()))
}

/// How long commands are held back for a lost link.
fn loss(look: &mut Look<'_>, controller: &Path) -> Inflight {
    if look.read(controller, "transport", "how the controller is reached").as_deref() == Some("pcie") {
        return Inflight::Bounded(Duration::ZERO);
    }
    let fast = look.read(controller, "fast_io_fail_tmo", "seconds until a lost link fails its commands");
    if let Some(time) = fast.as_deref().and_then(limit) {
        return Inflight::Bounded(time);
    }
    let Some(text) = look.read(controller, "ctrl_loss_tmo", "seconds of tries to connect again") else {
        return unknown(format!("{}: no ctrl_loss_tmo in sysfs", name(controller)));
    };
    let Some(time) = limit(&text) else {
        return Inflight::Unbounded(format!(
            "{0}: ctrl_loss_tmo is {text}, for ever; echo 30 > /sys/class/nvme/{0}/ctrl_loss_tmo, or connect with \
             --ctrl-loss-tmo=30 (or --fast_io_fail_tmo=15)",
            name(controller)
        ));
    };
    // The kernel counts tries, not time: each has its pause and its own length.
    let pause = look.read(controller, "reconnect_delay", "seconds between two tries to connect again");
    let pause = pause.and_then(|text| seconds(&text)).filter(|pause| !pause.is_zero()).unwrap_or(RECONNECT);
    let tries = u32::try_from(time.as_secs().div_ceil(pause.as_secs().max(1))).unwrap_or(u32::MAX);
    Inflight::Bounded(time.saturating_add(CONNECT.saturating_mul(tries)))
}

/// Newer kernels can keep a namespace, and what waits for it, after its last path has gone.
fn delayed_removal(look: &mut Look<'_>, disk: &Path) -> Inflight {
    if attribute(disk, "delayed_removal_secs").is_none() {
        return Inflight::Bounded(Duration::ZERO);
    }
    let text = look.read(disk, "delayed_removal_secs", "seconds for which writes wait after the last path has gone");
    match text.as_deref().and_then(limit) {
        Some(time) => Inflight::Bounded(time),
        None => Inflight::Unbounded(format!("{0}: echo 0 > /sys/block/{0}/delayed_removal_secs", name(disk))),
    }
}

#[cfg(test)]
mod tests {
    use super::is_path_of;

    #[test]
    fn paths_are_told_from_other_namespaces() {
        assert!(is_path_of("nvme0c1n2", "nvme0n2"));
        for other in ["nvme0n2", "nvme0c1n1", "nvme1c1n2", "nvme0c1n22", "nvme0cn2", "nvme0c1n2p1"] {
            assert!(!is_path_of(other, "nvme0n2"), "{other}");
        }
    }
}
