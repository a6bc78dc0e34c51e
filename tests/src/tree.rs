//! The project's own files, for the tests that look after the house.

use std::fs;
use std::path::{Path, PathBuf};

/// A text file of the project.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its path from the project's root, with `/` between the parts.
    pub path: String,
    /// What is in it.
    pub text: String,
}

/// The project's root.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// The text of one file.
///
/// # Panics
/// When it is not there: a test names only what must be.
#[must_use]
pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every text file of the project, built things and the history left out, in the order of the paths.
#[must_use]
pub fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    walk(&root(), "", &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn walk(directory: &Path, prefix: &str, found: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            if name != "target" && name != ".git" {
                walk(&entry.path(), &path, found);
            }
        } else if kind.is_file() && path != ".git" {
            // Golden blocks are no text.
            if let Ok(text) = fs::read_to_string(entry.path()) {
                found.push(Source { path, text });
            }
        }
    }
}

/// Every crate of the workspace: its name and its manifest.
#[must_use]
pub fn crates() -> Vec<(String, String)> {
    let manifests = sources().into_iter().filter(|s| s.path.ends_with("/Cargo.toml"));
    manifests
        .filter_map(|s| {
            let name = s.text.lines().find_map(|line| line.strip_prefix("name = "))?;
            Some((name.trim_matches('"').to_owned(), s.text))
        })
        .collect()
}
