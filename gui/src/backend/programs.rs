//! Which of the person's own programs use a volume: found with the person's own rights, in `/proc`. So the daemon need not
//! tell everybody what everybody has open.

use std::collections::BTreeMap;
use std::fs::File;

use crossbeam::channel::{Receiver, Sender};
use volctl::volumes::busy::{Scope, who_holds};

use crate::model::Event;

pub(super) fn run(wanted: &Receiver<(String, String)>, tell: &Sender<Event>) {
    for (volume, mountpoint) in wanted {
        let found = find(&mountpoint);
        if tell.send(Event::Programs { volume, found }).is_err() {
            return;
        }
    }
}

fn find(mountpoint: &str) -> Result<Vec<String>, String> {
    let scope = File::open(mountpoint).and_then(Scope::of_mount).map_err(|error| error.to_string())?;
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    // One line a program, its first file, and how many more.
    let mut programs: BTreeMap<i32, (String, usize)> = BTreeMap::new();
    for use_ in who_holds(&scope).into_iter().filter(|p| p.pid != own) {
        let path = use_.path.strip_prefix(mountpoint).unwrap_or(&use_.path).display().to_string();
        let path = if path.is_empty() { "the folder itself".to_owned() } else { path };
        let how = if use_.for_writing { " (for writing)" } else { "" };
        let entry = programs.entry(use_.pid).or_insert_with(|| (format!("{}: {path}{how}", use_.program), 0));
        entry.1 += 1;
    }
    let line = |(text, n): (String, usize)| if n > 1 { format!("{text} and {} more", n - 1) } else { text };
    Ok(programs.into_values().map(line).collect())
}
