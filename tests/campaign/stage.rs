//! The world of a campaign: a studio whose clients each have a path of their own to the same disks.

use std::sync::{Mutex, PoisonError};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use volctl::wire::status::{Status, VolumeState, VolumeStatus};
pub(crate) use volctl_tests::paths::CONTROL;
use volctl_tests::paths::{Mode, Paths};
use volctl_tests::studio::{Client, FAST, Fs, Options, Studio, Volume};

use crate::history::History;
use crate::ledger::Ledger;

pub(crate) const VOLUME: &str = "footage";
pub(crate) const IMAGE: &str = "footage.img";
const NAMES: [&str; 3] = ["alice", "bob", "carol"];

pub(crate) struct Stage {
    /// Goes first: whatever still waits in a path must come back before anything else can be taken away.
    paths: Option<Paths>,
    studio: Option<Studio>,
    pub(crate) clients: Vec<Client>,
    pub(crate) volume: Volume,
    pub(crate) fs: Fs,
    pub(crate) readers: String,
    pub(crate) history: History,
    pub(crate) ledger: Ledger,
    /// Daemons that were told to end: client and process.
    told_to_end: Mutex<Vec<(usize, Pid)>>,
}

impl Stage {
    pub(crate) fn new(fs: Fs, readers: &str) -> Self {
        let mut studio = Studio::new(FAST);
        let volume = studio.volume(VOLUME, fs, &["--readers", readers]);
        let clients: Vec<Client> = NAMES.iter().map(|name| studio.client(name)).collect();
        for client in &clients {
            studio.allow(client, VOLUME, "write");
            // So that anybody can take it over.
            let _ = studio.admin(&["set-client", client.name(), "admin", "on"]).ok();
        }
        let program = std::env::current_exe().expect("a program knows where it is");
        let options = Options::default().set("publish", "300ms").set("grace", "1s");
        let paths = Paths::between(&program, &mut studio, &clients, VOLUME, &options);
        for client in &clients {
            client.start();
        }
        for client in &clients {
            client.logged_on();
        }
        let (history, ledger) = (History::default(), Ledger::default());
        history.begin();
        let (paths, studio) = (Some(paths), Some(studio));
        Self {
            paths,
            studio,
            clients,
            volume,
            fs,
            readers: readers.to_owned(),
            history,
            ledger,
            told_to_end: Mutex::default(),
        }
    }

    pub(crate) fn paths(&self) -> &Paths {
        self.paths.as_ref().expect("until the end")
    }

    pub(crate) fn studio(&self) -> &Studio {
        self.studio.as_ref().expect("until the end")
    }

    pub(crate) fn client(&self, index: usize) -> &Client {
        &self.clients[index]
    }

    /// Tells a daemon to end in order.
    pub(crate) fn tell_to_end(&self, index: usize) -> bool {
        let client = self.client(index);
        let Some(pid) = client.try_pid() else { return false };
        self.told_to_end.lock().unwrap_or_else(PoisonError::into_inner).push((index, pid));
        client.try_signal(Signal::SIGTERM)
    }

    /// Who was told to end since this was asked last.
    pub(crate) fn told_to_end(&self) -> Vec<(&Client, Pid)> {
        let told = std::mem::take(&mut *self.told_to_end.lock().unwrap_or_else(PoisonError::into_inner));
        told.into_iter().map(|(index, pid)| (self.client(index), pid)).collect()
    }

    /// Every path passes everything again.
    pub(crate) fn mend_paths(&self) {
        for client in &self.clients {
            for image in [CONTROL, IMAGE] {
                self.paths().set(client.name(), image, Mode::PASS);
            }
        }
    }

    pub(crate) fn last_words(&self) {
        for client in &self.clients {
            println!("{}", client.last_words());
        }
    }

    pub(crate) fn totals(&self) -> String {
        let seen = self.paths().seen();
        let records = self.ledger.total();
        let report = self.studio().one_writer();
        format!(
            "{} grants, {} writes at the disk, {} by nobody with a grant; {records} stable records, none lost; the kernel's \
             lists looked at {} times",
            seen.grants,
            seen.writes,
            seen.violations.len(),
            report.samples
        )
    }

    /// Ends everything and shows that nothing is left.
    pub(crate) fn end(mut self) {
        if let (Some(paths), Some(studio)) = (self.paths.take(), self.studio.take()) {
            paths.end(studio, &self.clients);
        }
    }
}

/// The campaign's volume in a status.
pub(crate) fn volume(status: &Status) -> Option<&VolumeStatus> {
    status.volumes.iter().find(|v| v.name == VOLUME)
}

/// Whether this client may write now.
pub(crate) fn writes(status: &Status) -> bool {
    volume(status).is_some_and(|v| v.state == VolumeState::Rw)
}
