//! What a device is good for, the command for that, and which of several devices for what.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use lockdriver::device::{BlockDevice, DirectDevice};
use ondisk::{Geometry, Uuid};

use super::propose::Proposal;
use super::report::{Device, Found, Use};
use crate::admin::init;
use crate::admin::storage::Content;
use crate::units::format_duration;

/// Tables of this many clients and volumes must fit.
const USUAL: u16 = 64;

/// What it is good for, and the command for that.
pub(super) fn judge(
    path: &Path,
    device: Option<&DirectDevice>,
    content: Option<&Content>,
    failed: bool,
    found: &mut Found,
) {
    let nothing = |why: String| (Use::Nothing, None, why);
    let word = shell_word(&stable_path(path));
    let (good_for, command, because) = match (device, content) {
        _ if failed => nothing("it cannot be read".to_owned()),
        (None, _) => {
            nothing("without direct I/O the writes of other hosts stay unseen; put the image elsewhere".to_owned())
        }
        (_, Some(Content::Control(_) | Content::ControlUnknown)) => {
            (Use::Already, Some(format!("volctl check {word}")), "it is a control volume already".to_owned())
        }
        (_, Some(Content::Envelope)) => {
            let command = format!("volctl volume add NAME --device {word} --control CONTROL");
            (Use::Already, Some(command), "it is an enveloped volume already".to_owned())
        }
        _ if found.read_only => nothing("it is read-only here; make it writable for this host".to_owned()),
        _ if !found.used_by.is_empty() => nothing(format!("this host uses it: {}", found.used_by.join("; "))),
        (_, Some(Content::FileSystem(_))) => {
            let command = format!("volctl volume add NAME --device {word} --control CONTROL");
            (Use::Volume, Some(command), "its file system can be adopted as it is".to_owned())
        }
        (_, Some(Content::Partitions(_))) => {
            nothing("it has partitions: give one of them, or a disk of its own".to_owned())
        }
        (_, Some(other)) => nothing(format!("it is not empty: {other}")),
        (Some(device), None) => {
            let plan = Geometry::plan(Uuid::nil(), USUAL, USUAL, init::stride(device, path), device.len_bytes());
            match plan {
                Err(why) => nothing(format!("for {USUAL} clients and {USUAL} volumes: {why}")),
                Ok(_) => (
                    Use::Control,
                    Some(init_command(&word, &found.proposal)),
                    "it is empty and large enough".to_owned(),
                ),
            }
        }
    };
    (found.good_for, found.command, found.because) = (good_for, command, because);
}

fn init_command(word: &str, proposal: &Proposal) -> String {
    let [beat, lease, dead] =
        [proposal.timings.beat(), proposal.timings.lease(), proposal.timings.dead()].map(format_duration);
    format!("volctl init {word} --lock {} --beat {beat} --lease {lease} --dead {dead}", proposal.lock.word())
}

/// A name of a block device that other hosts, and this one tomorrow, have too.
fn stable_path(path: &Path) -> PathBuf {
    let keep = path.to_owned();
    let Ok(metadata) = fs::metadata(path) else { return keep };
    let stable = ["/dev/disk", "/dev/mapper"].iter().any(|folder| path.starts_with(folder));
    if !metadata.file_type().is_block_device() || stable {
        return keep;
    }
    let Ok(links) = fs::read_dir("/dev/disk/by-id") else { return keep };
    let mut same: Vec<PathBuf> = links
        .flatten()
        .map(|link| link.path())
        .filter(|link| fs::metadata(link).is_ok_and(|m| m.rdev() == metadata.rdev()))
        .collect();
    // The disk's own number first, then whatever is shortest.
    let is_number = |link: &PathBuf| {
        let name = link.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        ["wwn-", "scsi-3", "nvme-uuid", "nvme-eui", "dm-uuid"].iter().any(|prefix| name.starts_with(prefix))
    };
    same.sort_by_key(|link| (!is_number(link), link.as_os_str().len(), link.clone()));
    same.into_iter().next().unwrap_or(keep)
}

/// A path as a shell takes it.
fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%=".contains(c);
    if text.chars().all(plain) && !text.is_empty() { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Which of several devices for what.
pub(super) fn set(devices: &[Device]) -> Vec<String> {
    let found: Vec<(&str, &Found)> =
        devices.iter().filter_map(|d| Some((d.path.as_str(), d.found.as_deref()?))).collect();
    let mut lines = Vec::new();
    for (index, (path, one)) in found.iter().enumerate() {
        for (other, two) in &found[..index] {
            if one.same == two.same {
                lines.push(format!("# {path} and {other} are the same device"));
            } else if one.description.wwid.is_some() && one.description.wwid == two.description.wwid {
                lines.push(format!("# {path} and {other} are two paths to one disk: use a multipath map over both"));
            }
        }
    }
    let control = found
        .iter()
        .find(|(_, f)| f.contents.kind == "control_volume")
        .or_else(|| found.iter().filter(|(_, f)| f.good_for == Use::Control).min_by_key(|(_, f)| f.size));
    let Some((control_path, control)) = control else {
        lines.push("# none of them can hold the control volume: give an empty device of 16M or more".to_owned());
        return lines;
    };
    let word = shell_word(&stable_path(Path::new(control_path)));
    match &control.command {
        Some(command) if control.good_for == Use::Control => lines.push(command.clone()),
        _ => lines.push(format!("# the control volume is {word}")),
    }
    let mut number = 0_u32;
    for (path, volume) in found.iter().filter(|(_, f)| f.same != control.same) {
        let mkfs = match volume.good_for {
            Use::Control => " --mkfs btrfs",
            Use::Volume => "",
            Use::Already | Use::Nothing => continue,
        };
        number += 1;
        let device = shell_word(&stable_path(Path::new(path)));
        lines.push(format!("volctl volume add volume{number} --device {device}{mkfs} --control {word}"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_quoted_only_where_a_shell_needs_it() {
        assert_eq!(shell_word(Path::new("/dev/disk/by-id/scsi-3600_x")), "/dev/disk/by-id/scsi-3600_x");
        assert_eq!(shell_word(Path::new("/a b/it's")), r"'/a b/it'\''s'");
        assert_eq!(shell_word(Path::new("/a;reboot")), "'/a;reboot'");
    }
}
