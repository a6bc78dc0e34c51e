//! The world of a campaign: a studio whose clients each have a path of their own to the same disks.

use volctl::wire::status::{Status, VolumeState, VolumeStatus};
use volctl_tests::paths::{Mode, Paths, program};
use volctl_tests::studio::{Client, FAST, Fs, Options, Studio, Volume};

use crate::history::History;
use crate::ledger::Ledger;

pub(crate) const VOLUME: &str = "footage";
pub(crate) const IMAGE: &str = "footage.img";
pub(crate) const CONTROL: &str = "control.img";
/// Where the administrator's commands come from.
const DESK: &str = "desk";
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
        let program = program().display().to_string();
        let mut hosts: Vec<(&str, Option<u16>)> = clients.iter().map(|c| (c.name(), Some(c.slot()))).collect();
        hosts.push((DESK, None));
        studio.witness.hosts_have_disks();
        let paths = Paths::serve(&[&program, "paths"], studio.dir(), CONTROL, &[IMAGE], &hosts);
        studio.control = paths.disk(DESK, CONTROL).to_owned();
        for client in &clients {
            let disk = |image: &str| paths.disk(client.name(), image).display().to_string();
            let options = Options::default()
                .set("control", &disk(CONTROL))
                .set("devices.footage", &disk(IMAGE))
                .set("publish", "300ms")
                .set("grace", "1s");
            client.configure(&options);
            client.start();
        }
        for client in &clients {
            client.logged_on();
        }
        let (history, ledger) = (History::default(), Ledger::default());
        history.begin();
        let (paths, studio) = (Some(paths), Some(studio));
        Self { paths, studio, clients, volume, fs, readers: readers.to_owned(), history, ledger }
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
        for client in &self.clients {
            client.stop();
        }
        let seen = self.paths().seen();
        assert!(seen.violations.is_empty(), "{:?}", seen.violations);
        drop(self.paths.take());
        if let Some(mut studio) = self.studio.take() {
            studio.control = studio.dir().join(CONTROL);
            studio.end();
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
