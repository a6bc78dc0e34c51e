//! What is shipped beside the program: the example configuration, the units, the rule.

use std::collections::BTreeSet;
use std::path::Path;

use volctl::daemon::config::Config;
use volctl_tests::tree::read;

const ORIGIN: &str = "dist/volctl.toml";

fn parse(text: &str) -> Config {
    Config::parse(text, Path::new(ORIGIN)).unwrap_or_else(|failure| panic!("{}", failure.to_lines()))
}

/// The example with every key that it shows commented out brought in, but not the second `control`.
fn uncommented() -> String {
    let mut seen = BTreeSet::new();
    let mut lines = Vec::new();
    for line in read(ORIGIN).lines() {
        let shown = line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
        let key = shown.unwrap_or(line).split([' ', '=']).next().unwrap_or_default().to_owned();
        let is_key = shown.unwrap_or(line).split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
        if is_key && !seen.insert(key) {
            continue;
        }
        lines.push(if is_key { shown.unwrap_or(line) } else { line }.to_owned());
    }
    lines.join("\n")
}

/// The keys that the parser knows in a table, in its own words.
fn known_keys(table: &str) -> Vec<String> {
    let text = format!("client = 'a'\ncontrol = '/c'\n{table}\nno-such-key = 1\n");
    let failure = Config::parse(&text, Path::new("x")).expect_err("an unknown key");
    let (_, list) = failure.why.split_once("expected").expect("serde lists what it knows");
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_example_configuration_is_a_configuration() {
    let config = parse(&read(ORIGIN));
    let least = parse("client = 'alice'\ncontrol = '/dev/disk/by-id/scsi-3600a098038304437415d4b6a59684a52'\n");
    assert_eq!(config, least, "uncommented are only the two keys that are needed");
}

#[test]
fn the_example_shows_the_true_defaults() {
    let mut shown = parse(&uncommented());
    let least = parse(&read(ORIGIN));
    assert!(!shown.devices.is_empty() && shown.hooks.on_fenced.is_some(), "they were brought in");
    shown.devices.clear();
    shown.hooks = least.hooks.clone();
    assert_eq!(shown, least);
}

#[test]
fn the_example_shows_every_key() {
    let text = uncommented();
    let has = |key: &str| text.lines().any(|line| line.starts_with(&format!("{key} = ")) || line == format!("[{key}]"));
    let mut keys = known_keys("");
    assert!(keys.contains(&"takeover_check".to_owned()), "{keys:?}");
    keys.extend(known_keys("[hooks]"));
    for key in keys {
        // Aliases are for people who mistype, not for the example.
        assert!(has(&key) || has(&key.replace('_', "-")), "{ORIGIN} does not show {key}");
    }
}

/// Trace A11: what stops the daemon must never stop the guardian with it.
#[test]
fn the_unit_signals_the_daemon_alone_and_keeps_its_lock_files() {
    let unit = read("dist/volctl.service");
    for line in ["KillMode=process", "RuntimeDirectoryPreserve=yes", "Type=notify"] {
        assert!(unit.lines().any(|have| have == line), "dist/volctl.service: {line}");
    }
    for sandbox in NO_SANDBOX {
        assert!(!unit.lines().any(|line| line.starts_with(sandbox)), "{sandbox} hides the mounts, or the disks");
    }
}

/// Each of them makes a mount namespace, or a list of allowed devices that has no disks.
const NO_SANDBOX: &[&str] = &[
    "PrivateTmp",
    "PrivateMounts",
    "PrivateDevices",
    "PrivateNetwork",
    "PrivateUsers",
    "PrivateIPC",
    "ProtectSystem",
    "ProtectHome",
    "ProtectKernel",
    "ProtectControlGroups",
    "ProtectClock",
    "ProtectProc",
    "ProcSubset",
    "MountFlags",
    "MountAPIVFS",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "InaccessiblePaths",
    "ExecPaths",
    "NoExecPaths",
    "TemporaryFileSystem",
    "BindPaths",
    "BindReadOnlyPaths",
    "RootDirectory",
    "RootImage",
    "DynamicUser",
    "DevicePolicy",
    "DeviceAllow",
];

/// What the daemon cannot do without; each was missed once when it was left out.
#[test]
fn the_unit_leaves_the_daemon_what_it_needs() {
    let unit = read("dist/volctl.service");
    let line = |key: &str| unit.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{key}"));
    let may = line("CapabilityBoundingSet=");
    for needed in
        ["SYS_ADMIN", "SYS_CHROOT", "SYS_PTRACE", "SYS_NICE", "SYS_RESOURCE", "IPC_LOCK", "KILL", "SETUID", "SETGID"]
    {
        assert!(may.split(['=', ' ']).any(|word| word == format!("CAP_{needed}")), "{needed}");
    }
    assert!(line("SystemCallFilter=").starts_with("SystemCallFilter=~"), "a list of what is forbidden");
    assert!(!line("SystemCallFilter=").contains("@mount"));
    assert_eq!(line("RestrictNamespaces="), "RestrictNamespaces=mnt", "copies of mounts elsewhere are detached there");
    assert!(unit.contains("\nWatchdogSec="));
}

/// A rule is `KEY op "value"`, separated by commas; what it jumps to is there, and the lines to fill in are rules, too.
#[test]
fn the_udev_rules_are_rules() {
    let text = read("dist/60-volctl.rules");
    let mut rules = 0;
    let (mut from, mut to) = (BTreeSet::new(), BTreeSet::new());
    for line in text.lines().map(|line| line.strip_prefix('#').filter(|l| !l.starts_with(' ')).unwrap_or(line)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        rules += 1;
        for part in line.split(", ") {
            let operator = ["==", "!=", "+=", ":=", "="].into_iter().find_map(|op| part.split_once(op));
            let (key, value) = operator.unwrap_or_else(|| panic!("{part}"));
            let name = key.split('{').next().unwrap_or_default();
            assert!(["ACTION", "SUBSYSTEM", "KERNEL", "ENV", "GOTO", "LABEL"].contains(&name), "{part}");
            assert_eq!(name == "ENV", key.ends_with('}'), "{part}");
            let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or_else(|| panic!("{part}"));
            match name {
                "GOTO" => drop(from.insert(value.to_owned())),
                "LABEL" => drop(to.insert(value.to_owned())),
                _ => {}
            }
        }
    }
    assert!(rules >= 5, "{rules}");
    assert_eq!(from, to);
    assert!(text.contains("UDISKS_IGNORE"));
}

/// The service manager's own opinion, where it is installed.
#[test]
fn the_units_are_units() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = std::process::Command::new("systemd-analyze");
    command.args(["verify", "--man=no"]);
    for name in ["volctl.service", "volctl-sleep.service"] {
        // The program need not be installed here.
        let text = read(&format!("dist/{name}")).replace("/usr/local/bin/volctl", "/bin/true");
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("a unit");
        command.arg(path);
    }
    // Not installed, or without the rights to try: nothing is shown by that.
    let Ok(output) = command.output() else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("volctl")).collect();
    assert!(ours.is_empty(), "{ours:?}");
}

#[test]
fn the_group_is_the_one_that_the_socket_asks_for() {
    let group = volctl::daemon::socket::ACTING_GROUP;
    let sysusers = read("dist/volctl.sysusers.conf");
    assert!(sysusers.lines().any(|line| line.split_whitespace().take(2).eq(["g", group])));
}
