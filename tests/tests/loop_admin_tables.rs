//! Clients, volumes and permissions from the command line. Root: an administration command keeps a lock file in /run.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;

use ondisk::envelope::Envelope;
use serde_json::Value;
use volctl_tests::control::Control;
use volctl_tests::program::{tool, volctl};
use volctl_tests::studio::hash;

fn find<'a>(list: &'a Value, name: &str) -> &'a Value {
    list.as_array().and_then(|all| all.iter().find(|v| v["name"] == name)).unwrap_or(&Value::Null)
}

fn volumes(control: &Control) -> Value {
    control.run(&["volume", "list", "--json"]).ok().json()["volumes"].take()
}

fn clients(control: &Control) -> Value {
    control.run(&["client", "list", "--json"]).ok().json()["clients"].take()
}

#[test]
fn clients_come_and_go_and_a_slot_is_used_again_without_its_permissions() {
    let control = Control::small();
    let footage = control.ext4("footage.img");
    let _ = control.run(&["volume", "add", "footage", "--device", &footage]).ok();
    let said = control.run(&["client", "add", "alice", "--json"]).ok();
    assert_eq!((said.json()["client"].as_str(), said.json()["slot"].as_u64()), (Some("alice"), Some(0)));
    // The first command of the machine that made the tables need not wait, nor does the next.
    assert_eq!(said.err, "");
    let _ = control.run(&["client", "add", "bob"]).ok();
    let _ = control.run(&["allow", "alice", "footage", "write", "--lockout", "on"]).ok();
    control.run(&["client", "add", "bob"]).is(3).says(&["slot 1 has that name"]);
    let _ = control.run(&["client", "remove", "alice"]).ok();
    let said = control.run(&["client", "remove", "alice"]).is(3);
    said.says(&["no client alice", "bob"]);
    let _ = control.run(&["client", "add", "carol"]).ok();
    let list = clients(&control);
    assert_eq!((find(&list, "carol")["slot"].as_u64(), find(&list, "alice")), (Some(0), &Value::Null));
    assert_eq!(find(&volumes(&control), "footage")["permissions"], serde_json::json!([]));
    let _ = control.look(&["check"]).ok();
}

#[test]
fn the_sixty_fifth_client_is_refused_by_its_rule() {
    let control = Control::made(&["--beat", "250ms", "--lease", "2s", "--dead", "4s"]);
    for number in 0..64 {
        let _ = control.run(&["client", "add", &format!("c{number}")]).ok();
    }
    control.run(&["client", "add", "more"]).is(3).says(&["rule limits", "64 clients", "--max-clients"]);
    let _ = control.run(&["client", "remove", "c17"]).ok();
    let _ = control.run(&["client", "add", "more"]).ok();
    assert_eq!(find(&clients(&control), "more")["slot"], 17);
    let _ = control.look(&["check"]).ok();
}

#[test]
fn names_follow_the_limits_and_nothing_is_changed_by_a_bad_one() {
    let control = Control::small();
    let before = hash(&control.path());
    let long = "x".repeat(64);
    for name in ["", &long, "a/b", "a\nb", "a\u{1b}[2J", "..", ".", ".volctl-hidden"] {
        assert_eq!(control.run(&["client", "add", name]).code, 2, "{name:?}");
        assert_eq!(control.run(&["volume", "add", name, "--device", "x"]).code, 2, "{name:?}");
    }
    let path = control.path().into_os_string();
    let bad = OsString::from_vec(vec![b'a', 0xff]);
    let args: Vec<OsString> = vec!["client".into(), "add".into(), bad, "--control".into(), path];
    let _ = volctl(args).is(2);
    assert_eq!(hash(&control.path()), before);
    let longest = "é".repeat(31) + "x";
    let _ = control.run(&["client", "add", &longest]).ok();
    assert_ne!(find(&clients(&control), &longest), &Value::Null);
}

#[test]
fn a_native_volume_is_never_changed_by_what_the_tables_say_of_it() {
    let control = Control::small();
    let footage = control.ext4("footage.img");
    let before = hash(&control.file("footage.img"));
    let said = control.run(&["volume", "add", "footage", "--device", &footage, "--json"]).ok();
    said.says(&["readers live", "may see old, missing or another file's bytes"]);
    let added = said.json();
    assert_eq!((added["fs"].as_str(), added["readers"].as_str()), (Some("ext4"), Some("live")));
    assert_eq!(added["identity"]["enveloped"], false);
    assert_eq!(added["identity"]["size"], 16 << 20);
    let _ = control.run(&["client", "add", "alice"]).ok();
    let said = control.run(&["allow", "alice", "footage", "write", "--check", "5s", "--auto-update", "off", "--json"]);
    let allowed = said.ok().json();
    assert_eq!((allowed["access"].as_str(), allowed["check_ms"].as_u64()), (Some("write"), Some(5000)));
    assert_eq!(allowed["auto_update"], false);
    // What is not named stays.
    let _ = control.run(&["allow", "alice", "footage", "read"]).ok();
    let permission = find(&volumes(&control), "footage")["permissions"][0].clone();
    assert_eq!((permission["access"].as_str(), permission["check_ms"].as_u64()), (Some("read"), Some(5000)));
    let _ = control.run(&["set", "footage", "write-enabled", "off"]).ok();
    assert_eq!(find(&volumes(&control), "footage")["write_enabled"], false);
    let first = find(&volumes(&control), "footage")["uuid"].clone();
    let _ = control.run(&["volume", "remove", "footage"]).ok();
    let _ = control.run(&["volume", "add", "footage", "--device", &footage, "--readers", "exclusive"]).ok();
    let again = find(&volumes(&control), "footage").clone();
    assert_eq!(again["index"], 0);
    assert_ne!(again["uuid"], first, "a volume that comes again is another one");
    assert_eq!(again["permissions"], serde_json::json!([]));
    assert_eq!(hash(&control.file("footage.img")), before);
}

#[test]
fn unknown_names_are_refused_with_those_that_are_known() {
    let control = Control::small();
    let footage = control.ext4("footage.img");
    let _ = control.run(&["client", "add", "alice"]).ok();
    control.run(&["allow", "alice", "footage", "read"]).is(3).says(&["no volume footage", "no volumes yet"]);
    let _ = control.run(&["volume", "add", "footage", "--device", &footage]).ok();
    control.run(&["allow", "eve", "footage", "read"]).is(3).says(&["no client eve", "alice"]);
    control.run(&["allow", "alice", "tapes", "read"]).is(3).says(&["no volume tapes", "footage"]);
    control.run(&["set", "tapes", "write-enabled", "on"]).is(3).says(&["no volume tapes"]);
    control.run(&["set-client", "eve", "admin", "on"]).is(3).says(&["no client eve"]);
    control.run(&["volume", "remove", "tapes"]).is(3).says(&["no volume tapes"]);
    control.run(&["set-client", "alice", "admin", "idle"]).is(2).says(&["on, off"]);
}

#[test]
fn every_setting_of_a_client_is_set() {
    let control = Control::small();
    let _ = control.run(&["client", "add", "alice"]).ok();
    for (key, value, field, expected) in [
        ("admin", "on", "admin", Value::Bool(true)),
        ("enabled", "off", "enabled", Value::Bool(false)),
        ("locked-out", "on", "locked_out", Value::Bool(true)),
        ("notify", "off", "notify", Value::Bool(false)),
        ("auto-response", "idle", "auto_response", "idle".into()),
        ("auto-response", "always", "auto_response", "always".into()),
    ] {
        let _ = control.run(&["set-client", "alice", key, value]).ok();
        assert_eq!(find(&clients(&control), "alice")[field], expected, "{key}");
    }
    // Saying it once more commits nothing.
    let commit = control.dump()["header"]["commit"].clone();
    let _ = control.run(&["set-client", "alice", "auto-response", "always"]).ok();
    assert_eq!(control.dump()["header"]["commit"], commit);
}

#[test]
fn what_cannot_be_a_volume_is_told_by_name() {
    let control = Control::small();
    let add = |device: &str, more: &[&str]| control.run(&[&["volume", "add", "v", "--device", device], more].concat());
    add(&control.arg("nothing.img"), &[]).is(1).says(&["cannot be"]);
    add("/dev/null", &[]).is(1).says(&["neither a block device nor"]);
    add(&control.image("small.img", 1 << 20), &[]).is(1).says(&["only 1048576 bytes"]);
    add(&control.image("zero.img", 8 << 20), &[]).is(1).says(&["unknown file system", "zeroes"]);
    let odd = control.image("odd.img", 8 << 20);
    File::options().write(true).open(&odd).and_then(|f| f.write_all_at(b"x", 5 << 20)).expect("written");
    add(&odd, &[]).is(1).says(&["unknown file system", "byte 5242880"]);
    add(&control.arg("control.img"), &[]).is(3).says(&["control volume itself"]);
    add(&control.arg("control.img"), &["--mkfs", "ext4", "--force"]).is(3).says(&["control volume itself"]);
    let other = Control::small();
    add(&other.arg("control.img"), &[]).is(1).says(&["the control volume"]);
    let ext4 = control.ext4("ext4.img");
    add(&ext4, &["--readers", "snapshot"]).is(3).says(&["only btrfs"]);
    add(&ext4, &["--envelope"]).is(3).says(&["would destroy it", "--mkfs"]);
    let cut = control.ext4("cut.img");
    File::options().write(true).open(&cut).and_then(|f| f.set_len(12 << 20)).expect("cut");
    add(&cut, &[]).is(1).says(&["claims"]);
    assert_eq!(volumes(&control), serde_json::json!([]));
}

#[test]
fn one_device_is_one_volume_under_one_name() {
    let control = Control::small();
    let footage = control.ext4("footage.img");
    let _ = control.run(&["volume", "add", "footage", "--device", &footage]).ok();
    control
        .run(&["volume", "add", "footage", "--device", &control.ext4("b.img")])
        .is(3)
        .says(&["volume 0 has that name"]);
    control.run(&["volume", "add", "again", "--device", &footage]).is(3).says(&["footage", "one name"]);
    fs::copy(&footage, control.file("copy.img")).expect("copied");
    control.run(&["volume", "add", "copy", "--device", &control.arg("copy.img")]).is(3).says(&["same file system"]);
    for name in ["b", "c", "d"] {
        let image = control.ext4(&format!("{name}.img"));
        let _ = control.run(&["volume", "add", name, "--device", &image]).ok();
    }
    control.run(&["volume", "add", "e", "--device", &control.ext4("e.img")]).is(3).says(&["rule limits", "4 volumes"]);
}

#[test]
fn a_mounted_device_is_refused_as_busy() {
    let control = Control::small();
    let image = control.ext4("mounted.img");
    let target = control.arg("mnt");
    fs::create_dir(&target).expect("a directory");
    tool("mount", ["-o", "loop", &image, &target]);
    let added = control.run(&["volume", "add", "v", "--device", &image]);
    let made = control.run(&["volume", "add", "v", "--device", &image, "--mkfs", "ext4", "--force"]);
    let inited = volctl(["init", &image, "--force"]);
    tool("umount", [&target]);
    for said in [added, made, inited] {
        said.is(5).says(&["in use on this host"]);
    }
    let _ = control.run(&["volume", "add", "v", "--device", &image]).ok();
}

#[test]
fn file_systems_are_made_and_never_over_another_without_force() {
    let control = Control::small();
    let make = |name: &str, more: &[&str]| {
        let image = control.arg(&format!("{name}.img"));
        control.run(&[&["volume", "add", name, "--device", &image, "--json"], more].concat())
    };
    let said = make("shots", &["--mkfs", "btrfs", "--size", "120M"]).ok();
    said.says(&["readers snapshot", "one published state"]);
    assert_eq!(said.json()["readers"], "snapshot");
    let _ = make("plain", &["--mkfs", "ext4", "--size", "16M", "--readers", "exclusive"]).ok();
    make("no", &["--mkfs", "ext4"]).is(2).says(&["--size"]);
    make("no", &["--mkfs", "xfs", "--size", "16M"]).is(1).says(&["no file system was made", "mkfs.xfs"]);
    assert!(!fs::exists(control.file("no.img")).expect("looked"), "an image without a file system is of no use");
    // The name is free again after all that, and what is there is not overwritten.
    let ext4 = control.ext4("is.img");
    let before = hash(&control.file("is.img"));
    make("is", &["--mkfs", "ext4"]).is(3).says(&["not empty", "ext4", "--force"]);
    assert_eq!(hash(&control.file("is.img")), before);
    let first = tool("blkid", ["-p", "-o", "value", "-s", "UUID", &ext4]);
    let _ = make("is", &["--mkfs", "ext4", "--force"]).ok();
    assert_ne!(tool("blkid", ["-p", "-o", "value", "-s", "UUID", &ext4]), first);
    tool("e2fsck", ["-fn", &ext4]);
}

#[test]
fn an_envelope_hides_its_file_system_and_is_adopted_by_its_header() {
    let control = Control::small();
    let image = control.arg("hidden.img");
    let add = |more: &[&str]| control.run(&[&["volume", "add", "hidden", "--device", &image, "--json"], more].concat());
    let made = add(&["--envelope", "--mkfs", "ext4", "--size", "16M"]).ok().json();
    assert_eq!(made["identity"]["enveloped"], true);
    let bytes = fs::read(&image).expect("read");
    for offset in [0, 4096] {
        let block = &bytes[offset..offset + 4096];
        let envelope = Envelope::decode(block, offset as u64).valid().expect("a header");
        assert_eq!((envelope.name.as_str(), envelope.data_first, envelope.data_length), ("hidden", 1 << 20, 15 << 20));
        assert_eq!(envelope.volume.to_string(), made["uuid"].as_str().expect("a UUID"));
    }
    assert!(bytes[8192..1 << 20].iter().all(|b| *b == 0), "the rest of the envelope is zero");
    let blind = std::process::Command::new("blkid").args(["-p", &image]).output().expect("blkid");
    assert_eq!(blind.status.code(), Some(2), "a host without volctl sees no file system");
    // Removed and added again it is the same volume: its header says so. It is not written.
    let _ = control.run(&["volume", "remove", "hidden"]).ok();
    let again = add(&[]).ok().json();
    assert_eq!((&again["uuid"], &again["identity"]), (&made["uuid"], &made["identity"]));
    assert!(fs::read(&image).expect("read") == bytes);
    let other = control.run(&["volume", "add", "other", "--device", &image]).is(3);
    other.says(&["hidden has its envelope"]);
    let _ = control.run(&["volume", "remove", "hidden"]).ok();
    // One copy of the header is enough; none is damage, not an unknown device.
    let file = File::options().write(true).open(&image).expect("the image");
    file.write_all_at(&[0xee; 8], 100).expect("written");
    let _ = add(&["--envelope"]).ok();
    let _ = control.run(&["volume", "remove", "hidden"]).ok();
    file.write_all_at(&[0xee; 8], 4196).expect("written");
    add(&[]).is(6).says(&["envelope", "damaged"]);
}

#[test]
fn a_read_only_device_can_be_looked_at_but_not_changed() {
    let control = Control::small();
    let _ = control.run(&["client", "add", "alice"]).ok();
    let device = tool("losetup", ["--find", "--show", "--read-only", &control.arg("control.img")]);
    let device = device.trim();
    let list = volctl(["client", "list", "--control", device]);
    let check = volctl(["check", device]);
    let add = volctl(["client", "add", "bob", "--control", device]);
    let init = volctl(["init", device, "--force"]);
    tool("losetup", ["--detach", device]);
    assert!(list.ok().out.contains("alice"));
    let _ = check.ok();
    add.is(1).says(&["read-only"]);
    init.is(1).says(&["read-only"]);
}

/// A loop device says 512, but the image under it is written in pages (trace C3).
#[test]
fn slots_on_a_loop_device_keep_a_page_apart() {
    let control = Control::small();
    let image = control.image("second.img", 16 << 20);
    let device = tool("losetup", ["--find", "--show", &image]);
    let device = device.trim();
    let made = volctl(["init", device, "--json"]);
    let check = volctl(["check", device]);
    tool("losetup", ["--detach", device]);
    assert!(made.ok().json()["stride"].as_u64() >= Some(4096));
    let _ = check.ok();
}

#[test]
fn a_relative_path_is_kept_as_an_absolute_one() {
    let control = Control::small();
    control.ext4("footage.img");
    let args = ["volume", "add", "footage", "--device", "footage.img", "--control", "control.img", "--json"];
    let output = volctl_tests::program::command(args).current_dir(control.dir()).output().expect("started");
    let added = volctl_tests::program::Said::of(&output).ok().json();
    let whole = control.file("footage.img").canonicalize().expect("there");
    assert_eq!(added["device"].as_str(), whole.to_str());
}
