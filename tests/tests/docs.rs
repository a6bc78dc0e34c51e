//! The documents against the tree: links lead somewhere, files and tests that are named exist, no event is left out.

use std::collections::BTreeSet;

use volctl::wire::event::EventName;
use volctl::wire::outcome::ExitCode;
use volctl_tests::tree::{Source, read, root, sources};

fn documents() -> Vec<Source> {
    sources().into_iter().filter(|s| s.path.ends_with(".md")).collect()
}

/// What stands between backticks, code blocks left out.
fn quoted(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_block = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

/// A heading's anchor, as the common viewers make it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
            _ => None,
        })
        .collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    let mut in_block = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        }
        if !in_block && line.starts_with('#') {
            found.insert(anchor(line.trim_start_matches('#')));
        }
    }
    found
}

#[test]
fn every_document_is_in_the_reading_order() {
    let order = read("docs/README.md");
    for document in documents() {
        let Some(name) = document.path.strip_prefix("docs/").filter(|name| *name != "README.md") else { continue };
        assert!(order.contains(&format!("]({name})")), "docs/README.md does not link {name}");
    }
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    for document in documents() {
        let folder = document.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for link in document.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { root().join(&document.path) } else { root().join(folder).join(file) };
            if !target.exists() {
                broken.push(format!("{}: {link}", document.path));
            } else if !fragment.is_empty() {
                let text = std::fs::read_to_string(&target).unwrap_or_default();
                if !anchors(&text).contains(fragment) {
                    broken.push(format!("{}: {link}: no such heading", document.path));
                }
            }
        }
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
}

#[test]
fn every_file_that_is_named_exists() {
    let all: BTreeSet<String> = sources().into_iter().map(|s| s.path).collect();
    let mut missing = Vec::new();
    for document in documents() {
        for word in quoted(&document.text) {
            let path = word.split(':').next().unwrap_or_default();
            let is_file = path.ends_with(".rs") && path.contains('/') && !path.contains([' ', '*', '{', '<']);
            let known = |path: &str| all.contains(path) || all.iter().any(|have| have.ends_with(&format!("/{path}")));
            if is_file && !known(path) {
                missing.push(format!("{}: {path}", document.path));
            }
        }
    }
    assert!(missing.is_empty(), "named in a document, not in the tree:\n{}", missing.join("\n"));
}

/// A test's name has words enough to be told from a field.
#[test]
fn every_test_that_is_named_as_evidence_exists() {
    let mut tests = BTreeSet::new();
    for source in sources().iter().filter(|s| s.path.ends_with(".rs")) {
        for line in source.text.lines() {
            if let Some(name) = line.trim_start().strip_prefix("fn ") {
                tests.insert(name.split(['(', '<']).next().unwrap_or_default().to_owned());
            }
        }
    }
    let is_name = |word: &str| {
        word.matches('_').count() >= 3
            && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    let mut missing = Vec::new();
    for document in ["docs/safety.md", "docs/seed-map.md", "docs/protocol.md", "docs/consistency.md", "docs/traces.md"]
    {
        for word in quoted(&read(document)) {
            if is_name(&word) && !tests.contains(&word) {
                missing.push(format!("{document}: {word}"));
            }
        }
    }
    assert!(missing.is_empty(), "named as evidence, not in the tree:\n{}", missing.join("\n"));
}

#[test]
fn every_event_is_explained_to_operators() {
    let operations = read("docs/operations.md");
    for name in EventName::ALL {
        assert!(
            operations.contains(&format!("| `{}` |", name.as_str())),
            "{} has no row in docs/operations.md",
            name.as_str()
        );
    }
}

/// A name that nothing writes is a promise that programs wait for in vain.
#[test]
fn every_event_is_written_by_the_daemon_or_its_engine() {
    let of_the_daemon = |path: &str| {
        let found = path.strip_prefix("volctl/src/").unwrap_or_default();
        (found.starts_with("daemon/") || found.starts_with("engine/")) && !found.contains("tests")
    };
    let daemon: Vec<Source> = sources().into_iter().filter(|s| of_the_daemon(&s.path)).collect();
    for name in EventName::ALL {
        let variant = format!("EventName::{name:?}");
        let by_variant = |text: &str| text.split(&variant).skip(1).any(|rest| !rest.starts_with(char::is_alphanumeric));
        assert!(daemon.iter().any(|s| by_variant(&s.text)), "nothing writes {}", name.as_str());
    }
}

#[test]
fn every_exit_code_is_explained_to_operators() {
    let operations = read("docs/operations.md");
    for code in ExitCode::ALL {
        assert!(operations.contains(&format!("| {} |", code.code())), "exit code {} has no row", code.code());
    }
}

#[test]
fn the_version_of_rust_is_the_same_everywhere() {
    let version = read("rust-toolchain.toml");
    let version = version.split('"').nth(1).expect("a channel").to_owned();
    let short = version.rsplit_once('.').map_or(version.as_str(), |(short, _)| short);
    for file in ["README.md", "Cargo.toml", "Makefile"] {
        assert!(read(file).contains(short), "{file} does not name Rust {short}");
    }
}
