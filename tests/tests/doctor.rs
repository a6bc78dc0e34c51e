//! `volctl doctor` on images: what it says is true, what it proposes works, and it changes nothing.

use std::fs::{self, File};
use std::path::Path;
use std::time::SystemTime;

use serde_json::Value;
use volctl_tests::control::Control;
use volctl_tests::program::{Said, volctl};

fn image(dir: &Path, name: &str, bytes: u64) -> String {
    let path = dir.join(name);
    File::create(&path).and_then(|file| file.set_len(bytes)).expect("an image");
    path.display().to_string()
}

fn doctor(more: &[&str], devices: &[&str]) -> Said {
    volctl(["doctor", "--json", "--seconds", "1"].iter().chain(more).chain(devices))
}

/// The one device that was examined.
fn one(said: Said) -> Value {
    said.ok().json()["devices"][0].clone()
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("{key}: {value}"))
}

fn changed(path: &str) -> SystemTime {
    fs::metadata(path).and_then(|metadata| metadata.modified()).expect("a time")
}

#[test]
fn an_empty_image_is_told_as_what_it_is_and_its_proposal_can_be_pasted() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = image(dir.path(), "it's an image", 16 << 20);
    let before = changed(&path);
    let found = one(doctor(&[], &[&path]));
    assert_eq!(text(&found, "kind"), "file");
    assert_eq!((found["size"].as_u64(), text(&found["contents"], "kind")), (Some(16 << 20), "empty"));
    assert_eq!(found["direct_io"]["works"], true);
    assert_eq!((text(&found["inflight"], "bound"), found["inflight"]["ms"].as_u64()), ("bounded", Some(0)));
    let reads = &found["latency"]["reads"];
    assert!(reads["count"].as_u64() > Some(10), "{reads}");
    assert!(reads["median_us"].as_u64() <= reads["p99_us"].as_u64(), "{reads}");
    assert!(reads["p99_us"].as_u64() <= reads["worst_us"].as_u64(), "{reads}");
    assert!(found["latency"]["notes"].to_string().contains("holes"), "{}", found["latency"]);
    assert!(found["latency"]["writes"].is_null() && text(&found["latency"], "not_written").contains("--write"));
    assert_eq!(found["reservations"]["tried"], false);
    assert!(text(&found["reservations"], "text").starts_with("none"));
    assert!(text(&found["compare_and_write"], "text").starts_with("none"));
    assert!(text(&found, "gate").starts_with("a loop device"), "an image");
    for of in ["lock", "lease", "beat", "dead", "poll"] {
        let reasons = found["proposal"]["reasons"].as_array().expect("reasons");
        assert!(reasons.iter().any(|r| r["of"] == of && !text(r, "why").is_empty()), "no reason for {of}");
    }
    assert_eq!(changed(&path), before, "it only reads");

    // As a shell takes it, quotes and all.
    let command = text(&found, "command");
    let line = command.strip_prefix("volctl ").expect("a command").to_owned();
    let script = format!("exec '{}' {line}", volctl_tests::program::path().display());
    let made = std::process::Command::new("sh").args(["-c", &script]).output().expect("a shell");
    assert!(made.status.success(), "{command}: {}", String::from_utf8_lossy(&made.stderr));
    let again = one(doctor(&[], &[&path]));
    assert_eq!((text(&again["contents"], "kind"), text(&again, "use")), ("control_volume", "already"));
    let (control, proposal) = (&again["contents"]["control"], &found["proposal"]);
    for key in ["beat_ms", "lease_ms", "dead_ms", "poll_ms", "lock"] {
        assert_eq!(control[key], proposal[key], "{key}");
    }
}

#[test]
fn a_living_control_volume_names_who_beats_and_is_not_written() {
    let control = Control::small();
    let _alice = volctl_tests::fake::Fake::log_on(&control, 0, volctl_tests::fake::Manner::Deaf);
    let found = one(doctor(&["--write"], &[&control.arg("control.img")]));
    assert_eq!(found["contents"]["control"]["beating"].as_array().map(Vec::len), Some(1), "{}", found["contents"]);
    assert!(text(&found["latency"], "not_written").contains("not empty"), "{}", found["latency"]);
}

#[test]
fn a_write_test_leaves_every_byte_as_it_was() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = image(dir.path(), "empty", 4 << 20);
    let found = one(doctor(&["--write"], &[&path]));
    for key in ["writes", "stable_writes"] {
        assert!(found["latency"][key]["count"].as_u64() > Some(5), "{}", found["latency"]);
    }
    assert!(fs::read(&path).expect("bytes").iter().all(|byte| *byte == 0));

    let mut bytes = vec![0; 4 << 20];
    bytes[3_000_000] = 1;
    fs::write(&path, &bytes).expect("bytes");
    let before = changed(&path);
    let found = one(doctor(&["--write"], &[&path]));
    assert!(found["latency"]["writes"].is_null());
    assert!(text(&found["latency"], "not_written").contains("not empty"));
    assert_eq!((text(&found, "use"), found["command"].is_null()), ("nothing", true));
    assert!(text(&found["contents"], "text").contains("3000000"), "{}", found["contents"]);
    assert_eq!(changed(&path), before);
}

#[test]
fn what_cannot_be_examined_is_said_and_the_others_are_examined_all_the_same() {
    let dir = tempfile::tempdir().expect("a directory");
    let here = dir.path().display().to_string();
    let good = image(dir.path(), "good", 1 << 20);
    let nothing = image(dir.path(), "nothing", 0);
    let pipe = format!("{here}/pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let missing = format!("{here}/missing");
    let cases = [
        (missing.as_str(), "No such file"),
        (here.as_str(), "a directory"),
        ("/dev/null", "a character device"),
        (pipe.as_str(), "a pipe"),
        (nothing.as_str(), "no bytes"),
    ];
    for (path, why) in cases {
        let said = volctl(["doctor", "--seconds", "0", path]).is(1);
        said.says(&[path, why, "next: "]);
        let said = volctl(["doctor", "--json", "--seconds", "0", path, &good]);
        let devices = said.is(1).json()["devices"].clone();
        assert!(text(&devices[0]["failure"], "why").contains(why), "{devices}");
        assert_eq!(text(&devices[1], "kind"), "file");
    }
    let _ = volctl(["doctor"]).is(2);
    let _ = volctl(["doctor", "--seconds", "x", &good]).is(2);
}

#[test]
fn a_set_of_devices_gets_one_control_volume_and_the_rest_are_volumes() {
    let dir = tempfile::tempdir().expect("a directory");
    let large = image(dir.path(), "large", 64 << 20);
    let small = image(dir.path(), "small", 16 << 20);
    let again = format!("{}/./small", dir.path().display());
    let set = |devices: &[&str]| {
        let said = volctl(["doctor", "--json", "--seconds", "0"].iter().chain(devices)).ok();
        serde_json::from_value::<Vec<String>>(said.json()["set"].clone()).expect("lines")
    };
    let lines = set(&[&large, &small]);
    assert!(lines[0].starts_with(&format!("volctl init {small} --lock bakery ")), "{lines:?}");
    assert_eq!(lines[1], format!("volctl volume add volume1 --device {large} --mkfs btrfs --control {small}"));
    assert!(set(&[&small, &again])[0].contains("the same device"));
    let tiny = image(dir.path(), "tiny", 64 << 10);
    assert!(set(&[&tiny, &tiny]).iter().any(|line| line.contains("none of them")));
    assert!(set(&[&small]).is_empty());
}

#[test]
fn people_get_the_same_in_words() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = image(dir.path(), "image", 16 << 20);
    let said = volctl(["doctor", "--seconds", "0", &path]).ok();
    for words in [
        "image file",
        "direct I/O        works (tried)",
        "late writes       0s",
        "not measured",
        "volctl init",
        "lease 8s",
    ] {
        assert!(said.out.contains(words), "no '{words}' in:\n{}", said.out);
    }
    assert!(!said.out.contains('\r') && !said.out.contains('\x1b'), "no progress without a terminal");
}
