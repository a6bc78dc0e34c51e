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
    for sandbox in ["PrivateTmp", "ProtectSystem", "PrivateMounts", "ProtectHome", "MountFlags", "ReadOnlyPaths"] {
        assert!(!unit.lines().any(|line| line.starts_with(sandbox)), "{sandbox} hides the mounts");
    }
}

#[test]
fn the_group_is_the_one_that_the_socket_asks_for() {
    let group = volctl::daemon::socket::ACTING_GROUP;
    let sysusers = read("dist/volctl.sysusers.conf");
    assert!(sysusers.lines().any(|line| line.split_whitespace().take(2).eq(["g", group])));
}
