//! The rules of the house that no linter knows.

use std::collections::{BTreeMap, BTreeSet};

use volctl_tests::tree::{Source, crates, read, sources};

/// Files have at most this many lines.
const LINES_MAX: usize = 500;

/// Files that may be longer, each with its reason. A file that has become short enough must leave the list.
const LONGER: &[(&str, &str)] = &[];

/// Words and paths of the machines that the project is built on; in halves, so that this file does not contain them.
const FOREIGN: &[(&str, &str)] = &[
    ("/wo", "rk/"),
    ("/fa", "rm/"),
    ("/ro", "ot/"),
    (".libr", "ary"),
    ("counter", "examples.md"),
    ("sub", "agent"),
    ("helper", " session"),
];

fn rust(sources: &[Source]) -> impl Iterator<Item = &Source> {
    sources.iter().filter(|source| source.path.ends_with(".rs"))
}

/// The text up to a `//`, which is good enough for what is looked for here.
fn without_comment(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

#[test]
fn a_file_is_read_in_one_sitting() {
    let all = sources();
    let reasons: BTreeMap<&str, &str> = LONGER.iter().copied().collect();
    let mut wrong = Vec::new();
    for source in rust(&all) {
        let lines = source.text.lines().count();
        match reasons.get(source.path.as_str()) {
            None if lines > LINES_MAX => wrong.push(format!("{}: {lines} lines", source.path)),
            Some(_) if lines <= LINES_MAX => {
                wrong.push(format!("{}: {lines} lines, take it off the list", source.path))
            }
            _ => {}
        }
    }
    for (path, _) in LONGER {
        if !all.iter().any(|source| source.path == *path) {
            wrong.push(format!("{path}: gone, take it off the list"));
        }
    }
    assert!(wrong.is_empty(), "longer than {LINES_MAX} lines:\n{}", wrong.join("\n"));
}

#[test]
fn modules_are_named_after_their_room() {
    let all = sources();
    let found: Vec<&str> = rust(&all).map(|s| s.path.as_str()).filter(|path| path.ends_with("/mod.rs")).collect();
    assert!(found.is_empty(), "foo.rs and foo/, not foo/mod.rs: {found:?}");
}

#[test]
fn imports_run_downhill_only() {
    // Whoever stands further right may use whoever stands further left.
    let order = ["ondisk", "lockdriver", "volctl", "volctl-gui", "volctl-tests", "volctl-fuzz"];
    let height = |name: &str| order.iter().position(|known| *known == name);
    let mut seen = BTreeSet::new();
    for (name, manifest) in crates() {
        let own = height(&name).unwrap_or_else(|| panic!("{name}: a new crate; give it its place in this test"));
        seen.insert(name.clone());
        let mut in_dependencies = false;
        for line in manifest.lines().map(str::trim) {
            if line.starts_with('[') {
                in_dependencies = line.contains("dependencies");
                continue;
            }
            let used = line.split(['.', '=', ' ']).next().unwrap_or_default();
            if let (true, Some(other)) = (in_dependencies, height(used)) {
                assert!(other < own, "{name} uses {used}: imports run {} only", order.join(" <- "));
            }
        }
    }
    assert!(seen.contains("ondisk") && seen.contains("volctl"), "the crates were found: {seen:?}");
}

#[test]
fn the_layouts_need_no_operating_system() {
    let all = sources();
    for source in rust(&all).filter(|s| s.path.starts_with("ondisk/src/")) {
        for (number, line) in source.text.lines().enumerate() {
            let code = without_comment(line);
            for forbidden in ["std::fs", "std::net", "std::thread", "Instant", "SystemTime", "nix::", "libc::"] {
                assert!(!code.contains(forbidden), "{}:{}: {forbidden}", source.path, number + 1);
            }
        }
    }
}

#[test]
fn the_engine_knows_no_clock_no_thread_and_no_file() {
    let all = sources();
    for source in rust(&all).filter(|s| s.path.starts_with("volctl/src/engine") && !s.path.contains("test")) {
        for (number, line) in source.text.lines().enumerate() {
            let code = without_comment(line);
            for forbidden in ["Instant::now", "SystemTime", "std::fs", "std::thread", "std::net", "boottime()"] {
                assert!(!code.contains(forbidden), "{}:{}: {forbidden}", source.path, number + 1);
            }
        }
    }
}

#[test]
fn unsafe_lines_live_in_one_folder() {
    let may = |path: &str| {
        path.starts_with("lockdriver/src/sys")
            || ["ondisk/tests/no_alloc.rs", "volctl/tests/no_alloc.rs"].contains(&path)
    };
    let all = sources();
    let mut found = Vec::new();
    for source in rust(&all).filter(|s| !may(&s.path) && s.path != "tests/tests/tidy.rs") {
        for (number, line) in source.text.lines().enumerate() {
            let code = without_comment(line);
            let begins = ["{", "fn", "impl", "extern"].iter().any(|what| code.contains(&format!("unsafe {what}")));
            if begins || code.contains("allow(unsafe_code") || code.contains("expect(unsafe_code") {
                found.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "unsafe belongs into lockdriver/src/sys:\n{}", found.join("\n"));
}

#[test]
fn nothing_names_the_machines_it_was_built_on() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|s| s.path != "Cargo.lock") {
        for (number, line) in source.text.lines().enumerate() {
            for (one, two) in FOREIGN {
                if line.contains(&format!("{one}{two}")) {
                    found.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
                }
            }
        }
    }
    assert!(found.is_empty(), "words or paths that mean nothing elsewhere:\n{}", found.join("\n"));
}

#[test]
fn no_test_file_is_forgotten() {
    let main = read("tests/tests/main.rs");
    for source in sources() {
        let Some(name) = source.path.strip_prefix("tests/tests/").and_then(|rest| rest.strip_suffix(".rs")) else {
            continue;
        };
        if name == "main" || name.contains('/') {
            continue;
        }
        assert!(
            main.lines().any(|line| line == format!("mod {name};")),
            "tests/tests/main.rs does not have 'mod {name};'"
        );
    }
}

#[test]
fn tests_that_make_devices_say_so_in_their_names() {
    let makes = ["LoopGate::open", "LOOP_CTL_GET_FREE", "\"losetup\"", "mkfs."];
    let mut found = Vec::new();
    for source in rust(&sources()).filter(|s| s.path.starts_with("tests/tests/") && s.path != "tests/tests/tidy.rs") {
        let in_module = source.path.split('/').any(|part| part.starts_with("loop_"));
        let mut named = false;
        for (number, line) in source.text.lines().enumerate() {
            if let Some(name) = line.trim_start().strip_prefix("fn ") {
                named = name.starts_with("loop_")
                    || !source.text.lines().nth(number.saturating_sub(1)).is_some_and(|l| l.contains("#[test]"));
            }
            if makes.iter().any(|what| line.contains(what)) && !named && !in_module {
                found.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "they need root, so their names begin with loop_:\n{}", found.join("\n"));
}
