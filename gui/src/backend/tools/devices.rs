//! The block devices of this host, and what is on them, as `lsblk` and `blkid` tell.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;
use volctl::wire::outcome::Failure;

use crate::admin::{Device, Means, Probe};
use crate::rights::in_path;
use crate::words;

#[derive(Deserialize)]
struct Listing {
    blockdevices: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    path: String,
    size: Option<u64>,
    #[serde(rename = "type")]
    kind: Option<String>,
    /// A word of its own in each version of lsblk: true, "1", 1.
    #[serde(default)]
    ro: serde_json::Value,
    fstype: Option<String>,
    pttype: Option<String>,
    label: Option<String>,
    model: Option<String>,
    #[serde(default)]
    mountpoints: Vec<Option<String>>,
    #[serde(default)]
    children: Vec<Node>,
}

/// The most images that are looked at.
const IMAGES_MAX: usize = 64;

/// All devices that could hold tables or a volume, and the images that lie beside the control volume.
pub(super) fn list(control: &str) -> Result<Vec<Device>, Failure> {
    let mut found = disks()?;
    found.extend(images(Path::new(control.trim())));
    Ok(found)
}

/// Images are where the control volume's is: nobody wants a search of all files.
fn images(control: &Path) -> Vec<Device> {
    let folder = control.parent().filter(|_| control.is_absolute() && !control.starts_with("/dev"));
    let entries = folder.and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "img" || e == "raw"));
    paths.sort();
    let image = |path: &std::path::PathBuf| {
        let size = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?.len();
        let path = path.to_str()?.to_owned();
        let content = content(&path, &Means::None).unwrap_or_else(|_| Some("unknown".into())).unwrap_or_default();
        Some(Device { path, size, content, model: "image".into(), ..Device::default() })
    };
    paths.iter().take(IMAGES_MAX).filter_map(image).collect()
}

fn disks() -> Result<Vec<Device>, Failure> {
    let failed = |why: String| Failure::failed("the devices cannot be listed", why, "type the path instead");
    let program = in_path("lsblk").ok_or_else(|| failed("lsblk is not installed".into()))?;
    let columns = "PATH,SIZE,TYPE,RO,FSTYPE,PTTYPE,LABEL,MODEL,MOUNTPOINTS";
    let output = Command::new(program).args(["--json", "--bytes", "--output", columns]).stdin(Stdio::null()).output();
    let output = output.map_err(|error| failed(error.to_string()))?;
    parse(&String::from_utf8_lossy(&output.stdout)).map_err(|error| failed(error.to_string()))
}

fn parse(text: &str) -> Result<Vec<Device>, serde_json::Error> {
    let listing: Listing = serde_json::from_str(text)?;
    let mut found = Vec::new();
    for node in listing.blockdevices {
        take(node, &mut found);
    }
    Ok(found)
}

fn take(node: Node, found: &mut Vec<Device>) {
    let kind = node.kind.unwrap_or_default();
    let size = node.size.unwrap_or(0);
    let read_only = node.ro == true || node.ro == 1 || node.ro == "1";
    // Read-only loop devices are gates of readers and packages of programs; an optical drive is nobody's disk.
    let usable = size > 0 && kind != "rom" && !(kind == "loop" && read_only) && !node.path.starts_with("/dev/zram");
    if usable {
        let label = node.label.filter(|l| !l.is_empty()).map_or_else(String::new, |l| format!(" “{l}”"));
        let content = match (node.fstype, node.pttype, node.children.is_empty()) {
            (Some(fs), ..) => format!("{fs}{label}"),
            (None, Some(_), _) | (None, None, false) => "partitions".to_owned(),
            _ => String::new(),
        };
        found.push(Device {
            path: node.path,
            size,
            content: if kind == "part" && content == "partitions" { String::new() } else { content },
            mounted: node.mountpoints.into_iter().flatten().collect(),
            model: node.model.unwrap_or_default(),
        });
    }
    for child in node.children {
        take(child, found);
    }
}

/// What is on a device or image now.
pub(super) fn probe(path: &str, means: &Means) -> Probe {
    let path = path.trim();
    let say = |text: String, full, absent| Probe { path: path.to_owned(), text, full, absent };
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return say("There is no such file: an image is made there.".into(), false, true);
        }
        Err(error) => return say(format!("It cannot be looked at: {error}"), true, false),
    };
    let block = metadata.file_type().is_block_device();
    if !block && !metadata.is_file() {
        return say("It is neither a block device nor a file.".into(), true, false);
    }
    let size = if block { String::new() } else { format!("an image of {}, ", words::size(metadata.len())) };
    match content(path, means) {
        Ok(Some(what)) => say(format!("On it now: {size}{what}. It would be destroyed."), true, false),
        Ok(None) => say(format!("On it now: {size}nothing that is known."), false, false),
        Err(why) => say(format!("What is on it is not known: {why}. It may be destroyed."), true, false),
    }
}

fn content(path: &str, means: &Means) -> Result<Option<String>, String> {
    let magic = first_bytes(path);
    if magic.as_deref().is_some_and(|bytes| bytes.windows(6).any(|w| w == b"VOLCTL")) {
        return Ok(Some("tables or an envelope of volctl".into()));
    }
    let blkid = in_path("blkid").ok_or("blkid is not installed")?;
    let mut command = match means {
        Means::Pkexec(pkexec) if magic.is_none() => {
            let mut command = Command::new(pkexec);
            command.arg(blkid);
            command
        }
        _ => Command::new(blkid),
    };
    let output = command.args(["-p", "-o", "export"]).arg(Path::new(path)).stdin(Stdio::null()).output();
    let output = output.map_err(|error| error.to_string())?;
    match output.status.code() {
        Some(0) => Ok(Some(export(&String::from_utf8_lossy(&output.stdout)))),
        // It found nothing; but who may not read finds nothing either.
        Some(2) if magic.is_some() => Ok(None),
        Some(2) => Err("it may not be read by this user".into()),
        _ => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

fn first_bytes(path: &str) -> Option<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(4096).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn export(text: &str) -> String {
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned);
    let label = value("LABEL").map_or_else(String::new, |label| format!(" “{label}”"));
    match (value("TYPE"), value("PTTYPE")) {
        (Some(fs), _) => format!("{fs}{label}"),
        (None, Some(table)) => format!("a partition table ({table})"),
        (None, None) => "something that is known".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_and_partitions_are_listed_with_what_is_on_them() {
        let text = r#"{"blockdevices":[
          {"path":"/dev/vda","size":100,"type":"disk","fstype":null,"pttype":"gpt","label":null,"model":"Disk","mountpoints":[null],
           "children":[{"path":"/dev/vda1","size":50,"type":"part","fstype":"ext4","pttype":"gpt","label":"root","model":null,"mountpoints":["/"]}]},
          {"path":"/dev/vdb","size":200,"type":"disk","fstype":null,"pttype":null,"label":null,"model":null,"mountpoints":[null]},
          {"path":"/dev/loop1","size":9,"type":"loop","ro":false,"fstype":null,"pttype":null,"label":null,"model":null,"mountpoints":[null]},
          {"path":"/dev/loop0","size":5,"type":"loop","ro":true,"fstype":"squashfs","pttype":null,"label":null,"model":null,"mountpoints":[null]}]}"#;
        let found = parse(text).expect("a listing");
        let lines: Vec<String> =
            found.iter().map(|d| format!("{} {} [{}] {:?}", d.path, d.size, d.content, d.mounted)).collect();
        let expected = [
            "/dev/vda 100 [partitions] []",
            "/dev/vda1 50 [ext4 “root”] [\"/\"]",
            "/dev/vdb 200 [] []",
            "/dev/loop1 9 [] []",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn images_beside_the_control_volume_are_listed_with_what_is_on_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).expect("written");
        file("control.img", b"....VOLCTL....");
        file("footage.img", &[0; 8192]);
        file("notes.txt", b"no image");
        let found = images(&dir.path().join("control.img"));
        let lines: Vec<_> =
            found.iter().map(|d| (d.path.rsplit('/').next().unwrap_or_default(), d.size, d.content.as_str())).collect();
        assert_eq!(lines, [("control.img", 14, "tables or an envelope of volctl"), ("footage.img", 8192, "")]);
        assert!(images(Path::new("/dev/vda")).is_empty() && images(Path::new("")).is_empty());
    }

    #[test]
    fn a_file_that_is_not_there_is_absent_and_an_empty_one_has_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.img").display().to_string();
        let absent = probe(&path, &Means::None);
        assert!(absent.absent && !absent.full);
        std::fs::write(&path, vec![0; 8192]).expect("written");
        assert!(!probe(&path, &Means::None).absent);
        std::fs::write(&path, b"....VOLCTL....").expect("written");
        assert!(probe(&path, &Means::None).full);
    }
}
