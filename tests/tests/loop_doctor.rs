//! `volctl doctor` on block devices: loop devices, mounted and not, that fail, and images without direct I/O.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use volctl_tests::program::{command, tool, volctl};
use volctl_tests::studio::LoopDevice;

struct Bench {
    dir: tempfile::TempDir,
    image: PathBuf,
}

impl Bench {
    fn new(bytes: u64) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let image = dir.path().join("image");
        File::create(&image).and_then(|file| file.set_len(bytes)).expect("an image");
        Self { dir, image }
    }
}

/// Mounted as long as this value lives.
struct Mount(PathBuf);

impl Mount {
    fn of(args: &[&str], at: &Path) -> Self {
        fs::create_dir_all(at).expect("a place");
        let at_text = at.display().to_string();
        tool("mount", args.iter().copied().chain([at_text.as_str()]));
        Self(at.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn one(device: &Path, more: &[&str]) -> Value {
    let device = device.display().to_string();
    let said = volctl(["doctor", "--json", "--seconds", "1", &device].iter().chain(more)).ok();
    said.json()["devices"][0].clone()
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("{key}: {value}"))
}

#[test]
fn loop_a_loop_device_says_over_what_and_with_which_sectors() {
    let bench = Bench::new(32 << 20);
    for sector in [512, 4096] {
        let device = LoopDevice::attach(&bench.image, sector);
        let found = one(device.path(), &[]);
        assert_eq!(text(&found, "kind"), "loop");
        let layers = found["layers"].to_string();
        assert!(
            layers.contains("loop device loop") && layers.contains(bench.image.to_str().expect("UTF-8")),
            "{layers}"
        );
        assert!(!layers.contains("page cache"), "it is attached with direct I/O: {layers}");
        assert_eq!(found["logical_sector"].as_u64(), Some(sector.into()));
        assert_eq!(found["latency"]["reads"]["bytes"].as_u64(), Some(sector.into()));
        assert!(found["physical_block"].as_u64() >= Some(4096), "a file system writes whole blocks under it");
        assert_eq!((text(&found["inflight"], "bound"), found["inflight"]["ms"].as_u64()), ("bounded", Some(0)));
        assert!(text(&found["reservations"], "text").contains("loop device"), "{found}");
        assert_eq!(text(&found, "use"), "control");
        // The image under it is in use by it.
        let image = one(&bench.image, &["--write"]);
        assert!(image["used_by"].to_string().contains("under the loop device"), "{image}");
        assert!(text(&image["latency"], "not_written").contains("this host uses it"), "{image}");
    }
}

#[test]
fn loop_a_mounted_file_system_is_named_never_written_and_then_proposed_as_a_volume() {
    let bench = Bench::new(64 << 20);
    let device = LoopDevice::attach(&bench.image, 512);
    let node = device.path().display().to_string();
    tool("mkfs.ext4", ["-q", "-L", "reel", &node]);
    let place = bench.dir.path().join("mnt");
    {
        let _mount = Mount::of(&[&node], &place);
        let found = one(device.path(), &["--write"]);
        assert!(text(&found["contents"], "text").contains("reel"), "{}", found["contents"]);
        assert!(
            found["used_by"].to_string().contains(&format!("mounted at {}, read-write", place.display())),
            "{found}"
        );
        assert!(found["latency"]["writes"].is_null() && found["latency"]["not_written"].is_string());
        assert_eq!((text(&found, "use"), found["command"].is_null()), ("nothing", true));
    }
    let before = fs::read(&bench.image).expect("bytes");
    let found = one(device.path(), &["--write"]);
    assert_eq!((text(&found["contents"], "kind"), text(&found, "use")), ("file_system", "volume"));
    assert!(text(&found, "command").starts_with("volctl volume add NAME --device "), "{found}");
    assert!(text(&found["latency"], "not_written").contains("not empty"), "another host may have it mounted");
    assert!(fs::read(&bench.image).expect("bytes") == before, "not one byte has changed");
}

#[test]
fn loop_a_write_test_claims_the_device_and_changes_nothing() {
    let bench = Bench::new(32 << 20);
    let device = LoopDevice::attach(&bench.image, 512);
    let found = one(device.path(), &["--write"]);
    assert!(found["latency"]["writes"]["count"].as_u64() > Some(5), "{}", found["latency"]);
    assert!(found["latency"]["stable_writes"]["count"].as_u64() > Some(5));
    assert!(fs::read(&bench.image).expect("bytes").iter().all(|byte| *byte == 0));
    // While somebody else holds it exclusively, nothing is written.
    use std::os::unix::fs::OpenOptionsExt;
    let held = File::options().read(true).custom_flags(libc::O_EXCL).open(device.path()).expect("claimed");
    let found = one(device.path(), &["--write"]);
    assert!(text(&found["latency"], "not_written").contains("uses it already"), "{}", found["latency"]);
    drop(held);
}

#[test]
fn loop_a_device_that_fails_reading_is_told_with_what_it_is() {
    let bench = Bench::new(16 << 20);
    let device = LoopDevice::attach(&bench.image, 512);
    // Reads of a loop device beyond the end of its file are errors.
    File::options().write(true).open(&bench.image).and_then(|file| file.set_len(0)).expect("cut");
    let path = device.path().display().to_string();
    let said = volctl(["doctor", "--json", "--seconds", "1", &path]).is(1);
    let found = said.json()["devices"][0].clone();
    assert_eq!((text(&found, "kind"), text(&found, "use")), ("loop", "nothing"));
    assert!(text(&found["failure"], "why").contains("Input/output error"), "{found}");
    said.says(&["cannot be read"]);
}

#[test]
fn loop_a_device_without_bytes_is_no_device() {
    let bench = Bench::new(0);
    let device = LoopDevice::attach(&bench.image, 512);
    let path = device.path().display().to_string();
    volctl(["doctor", "--seconds", "0", &path]).is(1).says(&["no bytes", "set the loop device up"]);
}

#[test]
fn loop_a_read_only_device_is_no_place_for_tables() {
    let bench = Bench::new(16 << 20);
    let said = tool("losetup", ["--find", "--show", "-r", "--direct-io=on", bench.image.to_str().expect("UTF-8")]);
    let path = said.trim().to_owned();
    let found = one(Path::new(&path), &["--write"]);
    tool("losetup", ["-d", &path]);
    assert_eq!((found["read_only"].as_bool(), text(&found, "use")), (Some(true), "nothing"), "{found}");
    assert!(found["latency"]["writes"].is_null());
}

#[test]
fn loop_an_image_without_direct_io_is_told_so_and_not_proposed() {
    let bench = Bench::new(1 << 20);
    let place = bench.dir.path().join("ram");
    let _mount = Mount::of(&["-t", "ramfs", "ramfs"], &place);
    let image = place.join("image");
    fs::write(&image, vec![0; 1 << 20]).expect("an image");
    let found = one(&image, &["--write"]);
    assert_eq!(found["direct_io"]["works"], false, "{found}");
    assert!(text(&found["direct_io"], "why").contains("no direct I/O"));
    assert!(found["latency"]["reads"].is_null(), "the page cache is no storage");
    assert_eq!(text(&found, "use"), "nothing");
}

#[test]
fn loop_without_rights_it_says_who_has_them() {
    let bench = Bench::new(1 << 20);
    let device = LoopDevice::attach(&bench.image, 512);
    // The program may lie where others cannot come.
    let program = bench.dir.path().join("volctl");
    fs::copy(volctl_tests::program::path(), &program).expect("a copy");
    tool("chmod", ["755", &bench.dir.path().display().to_string(), &program.display().to_string()]);
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["doctor", "--seconds", "0"])
        .arg(device.path())
        .output()
        .expect("setpriv");
    let said = volctl_tests::program::Said::of(&output).is(1);
    said.says(&["permission denied", "run it as root"]);
}

/// The first measurement is as long as it was asked for, and whoever closes the pipe is not waited for.
#[test]
fn loop_it_measures_as_long_as_it_is_told() {
    let bench = Bench::new(16 << 20);
    let begun = std::time::Instant::now();
    let _ = one(&bench.image, &[]);
    assert!(begun.elapsed() >= std::time::Duration::from_secs(1));
    let output = command(["doctor", "--seconds", "0"]).arg(&bench.image).output().expect("it runs");
    assert!(output.status.success());
}
