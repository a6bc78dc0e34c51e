//! The window's whole state, pure: events of the threads and commands of the person in, effects out. No clock, no socket.
//!
//! It holds nothing that the daemon does not have, but what the person has typed and not yet sent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use volctl::wire::call::Call;
use volctl::wire::event::EventRecord;
use volctl::wire::outcome::Failure;
use volctl::wire::status::{RequestStatus, Status, VolumeStatus};

use crate::admin::{AdminCommand, DaemonForm, Device, InitForm, Means, Probe, Rights, Tables, VolumeForm};
use crate::command::{AdminPage, Command, View};
use crate::prefs::{Prefs, Theme};

mod act;
mod news;

/// The most events that are kept; the daemon has as many.
pub const EVENTS_MAX: usize = 1024;
/// How long a status may be in coming before the window says so: the daemon sends one a second.
pub const QUIET: Duration = Duration::from_secs(4);
/// How often the person's programs are looked for while a prompt stands: whoever closes one sees it go.
pub const LOOK: Duration = Duration::from_secs(2);
/// The most notices that stand at once.
const NOTICES_MAX: usize = 4;

/// How things stand with the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// Not connected yet.
    #[default]
    Connecting,
    /// Statuses come.
    Live,
    /// It does not answer, or in a way that is not understood.
    Down(Failure),
}

/// What the threads tell.
#[derive(Clone, Debug)]
pub enum Event {
    /// A status came.
    Status(Arc<Status>),
    /// The subscription ended, or could not be had.
    Down(Failure),
    /// The connection stands, but nothing has come for so long.
    Quiet(Duration),
    /// The whole log, oldest first; what was there before is forgotten.
    Log(Vec<EventRecord>),
    /// Further events.
    News(Vec<EventRecord>),
    /// A call to the daemon ended.
    Called {
        /// What was wanted.
        command: Command,
        /// The sentence, or why not.
        result: Result<String, Failure>,
    },
    /// An act of administration ended.
    Administered {
        /// What was wanted.
        command: AdminCommand,
        /// What came of it.
        result: Result<Administered, Failure>,
    },
    /// Which of the person's own programs have files open on a volume.
    Programs {
        /// The volume.
        volume: String,
        /// The programs, or why nobody can tell.
        found: Result<Vec<String>, String>,
    },
    /// What this user may do, as it is now.
    Rights(Rights),
    /// Something of the desktop did not work.
    Trouble(String),
}

/// What an act of administration brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Administered {
    /// The tables.
    Tables(Tables),
    /// The devices.
    Devices(Vec<Device>),
    /// What is on a device.
    Probe(Probe),
    /// A sentence.
    Text(String),
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Call the daemon.
    Call(Command, Call),
    /// Do an act of administration.
    Administer {
        /// Which.
        command: AdminCommand,
        /// On which tables.
        control: String,
        /// By what means.
        means: Means,
        /// For the start of the daemon.
        daemon: DaemonForm,
    },
    /// Find out which own programs use a volume.
    FindPrograms {
        /// The volume.
        volume: String,
        /// Where it is mounted.
        mountpoint: String,
    },
    /// Open a directory in the file manager.
    OpenFolder(String),
    /// Put a text on the clipboard.
    Copy(String),
    /// Show a desktop notification.
    Notify {
        /// The head.
        title: String,
        /// The text.
        body: String,
    },
    /// Make the window's entry blink, or whatever the desktop has for it.
    Attention,
    /// Keep the preferences.
    Save(Prefs),
    /// Connect anew.
    Reconnect,
    /// End.
    Quit,
}

/// A sentence that stands until it is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Its number.
    pub id: u64,
    /// What went well, or what did not.
    pub result: Result<String, Failure>,
}

/// How an own request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Whether it ended with write access.
    pub good: bool,
    /// The sentence.
    pub text: String,
}

/// What the person has typed and not sent yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drafts {
    /// The volume that the composer of a request is open for, and the message.
    pub request: Option<(String, String)>,
    /// The dialogue of a takeover: volume, whether to skip the wait, what was typed.
    pub takeover: Option<(String, bool, String)>,
    /// Texts of answers, by request.
    pub answers: BTreeMap<String, String>,
    /// What was typed into the palette, and which line is chosen; None: it is closed.
    pub palette: Option<(String, usize)>,
    /// The filters of the matrix: volumes, clients, only what is not in order.
    pub matrix: (String, String, bool),
    /// The filter of the event log.
    pub events: String,
}

/// What the administration view knows and was told.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminState {
    /// The page.
    pub page: AdminPage,
    /// The control volume that is worked on.
    pub control: String,
    /// Its tables, as read last.
    pub tables: Option<Tables>,
    /// Which control volume they are of.
    pub read_from: String,
    /// Why they cannot be read.
    pub unreadable: Option<Failure>,
    /// The block devices of this host.
    pub devices: Option<Vec<Device>>,
    /// What is on a device.
    pub probe: Option<Probe>,
    /// What is under way.
    pub busy: Vec<String>,
    /// What the last act said.
    pub last: Option<Result<String, Failure>>,
    /// The command line of the last act that failed, to copy it.
    pub last_line: Option<String>,
    /// The form of new tables.
    pub init: InitForm,
    /// The name of a new client.
    pub client: String,
    /// The form of a new volume.
    pub volume: VolumeForm,
    /// The form of the daemon's configuration.
    pub daemon: DaemonForm,
    /// What was asked to be removed, and waits for the second click.
    pub removing: Option<String>,
}

/// The window's state.
#[derive(Clone, Debug)]
pub struct Model {
    /// How things stand with the daemon.
    pub link: Link,
    /// The last status.
    pub status: Option<Arc<Status>>,
    /// When it came, in the window's own time.
    pub status_at: Duration,
    /// The window's own time, set before anything else happens.
    pub now: Duration,
    /// For how long nothing came although the connection stands.
    pub quiet: Option<Duration>,
    /// What is shown.
    pub view: View,
    /// The person's choices.
    pub prefs: Prefs,
    /// What this user may do.
    pub rights: Rights,
    /// Where the daemon is looked for.
    pub socket: PathBuf,
    /// Events, oldest first.
    pub events: VecDeque<EventRecord>,
    /// Sentences that stand.
    pub notices: Vec<Notice>,
    /// How own requests ended, by volume.
    pub endings: BTreeMap<String, Ending>,
    /// Prompts that the person has put off, by request.
    pub put_off: BTreeSet<String>,
    /// Prompts that the person wants to see again although they are answered with later.
    pub reopened: BTreeSet<String>,
    /// Answers that are on their way, by request.
    pub answering: BTreeSet<String>,
    /// Why an answer could not be carried out, by request: it is said where the person answers again.
    pub refused_answers: BTreeMap<String, Failure>,
    /// Volumes with a call under way.
    pub calling: BTreeSet<String>,
    /// The person's programs on a volume.
    pub programs: BTreeMap<String, Result<Vec<String>, String>>,
    /// What was typed.
    pub drafts: Drafts,
    /// Administration.
    pub admin: AdminState,
    /// Whether the window shows itself dark now; the shell says so.
    pub dark: bool,
    next_notice: u64,
    announced: BTreeSet<String>,
    /// When the person's programs on a volume were looked for last, and whether the answer is still to come.
    looks: BTreeMap<String, (Duration, bool)>,
}

impl Model {
    /// A window that knows nothing yet.
    #[must_use]
    pub fn new(socket: PathBuf, prefs: Prefs, rights: Rights) -> Self {
        let admin = AdminState {
            page: AdminPage::Tables,
            control: prefs.control.clone(),
            tables: None,
            read_from: String::new(),
            unreadable: None,
            devices: None,
            probe: None,
            busy: Vec::new(),
            last: None,
            last_line: None,
            init: InitForm { size: "16M".into(), ..InitForm::default() },
            client: String::new(),
            volume: VolumeForm { size: "1G".into(), ..VolumeForm::default() },
            daemon: DaemonForm::new(&socket.display().to_string()),
            removing: None,
        };
        Self {
            link: Link::Connecting,
            status: None,
            status_at: Duration::ZERO,
            now: Duration::ZERO,
            quiet: None,
            view: View::Volumes,
            prefs,
            rights,
            socket,
            events: VecDeque::new(),
            notices: Vec::new(),
            endings: BTreeMap::new(),
            put_off: BTreeSet::new(),
            reopened: BTreeSet::new(),
            answering: BTreeSet::new(),
            refused_answers: BTreeMap::new(),
            calling: BTreeSet::new(),
            programs: BTreeMap::new(),
            drafts: Drafts::default(),
            admin,
            dark: true,
            next_notice: 0,
            announced: BTreeSet::new(),
            looks: BTreeMap::new(),
        }
    }

    /// The name of the own client, once it is known.
    #[must_use]
    pub fn me(&self) -> &str {
        self.status.as_ref().map_or("", |s| &s.client)
    }

    /// The status while it can be believed.
    #[must_use]
    pub fn live(&self) -> Option<&Status> {
        self.status.as_deref().filter(|_| self.link == Link::Live)
    }

    /// A volume of the last status.
    #[must_use]
    pub fn volume(&self, name: &str) -> Option<&VolumeStatus> {
        self.status.as_ref()?.volumes.iter().find(|v| v.name == name)
    }

    /// What has passed since the last status, in milliseconds: ages in it have grown by so much.
    #[must_use]
    pub fn since_status(&self) -> u64 {
        u64::try_from(self.now.saturating_sub(self.status_at).as_millis()).unwrap_or(0)
    }

    /// Requests that wait for this person's answer, in the order in which they came.
    #[must_use]
    pub fn asked_of_me(&self) -> Vec<&RequestStatus> {
        let Some(status) = self.live() else { return Vec::new() };
        let mine = |r: &&RequestStatus| {
            let writes = status.volumes.iter().any(|v| v.name == r.volume && v.writer.as_ref() == Some(&status.client));
            writes && r.to == status.client && r.from != status.client
        };
        let mut found: Vec<&RequestStatus> = status.requests.iter().filter(mine).collect();
        found.sort_by_key(|r| std::cmp::Reverse(r.age_ms));
        found
    }

    /// Of those, the ones that the person has said nothing to.
    #[must_use]
    pub fn unanswered(&self) -> Vec<&RequestStatus> {
        self.asked_of_me().into_iter().filter(|r| r.answer.is_none() && !self.answering.contains(&key_of(r))).collect()
    }

    /// Of those, the ones that stand before everything else.
    #[must_use]
    pub fn prompts(&self) -> Vec<&RequestStatus> {
        let wanted = |r: &&RequestStatus| {
            let key = key_of(r);
            let asks = r.answer.is_none() && !self.put_off.contains(&key);
            (asks || self.reopened.contains(&key)) && !self.answering.contains(&key)
        };
        self.asked_of_me().into_iter().filter(wanted).collect()
    }

    /// The own request for a volume.
    #[must_use]
    pub fn own_request(&self, volume: &str) -> Option<&RequestStatus> {
        let status = self.status.as_deref()?;
        status.requests.iter().find(|r| r.volume == volume && r.from == status.client)
    }

    /// Whether something on the screen counts seconds.
    #[must_use]
    pub fn counts(&self) -> bool {
        let waits =
            |s: &Status| s.requests.iter().any(|r| r.from == s.client) || s.volumes.iter().any(|v| v.wait_ms.is_some());
        self.live().is_some_and(waits)
            || !self.prompts().is_empty()
            || self.link == Link::Connecting
            || self.quiet.is_some()
            || !self.admin.busy.is_empty()
    }

    /// Whether the window is to be dark.
    #[must_use]
    pub fn wants_dark(&self) -> Option<bool> {
        match self.prefs.theme {
            Theme::Dark => Some(true),
            Theme::Light => Some(false),
            Theme::System | Theme::Other => None,
        }
    }

    fn notice(&mut self, result: Result<String, Failure>) {
        self.next_notice += 1;
        self.notices.retain(|n| n.result != result);
        self.notices.push(Notice { id: self.next_notice, result });
        if self.notices.len() > NOTICES_MAX {
            self.notices.remove(0);
        }
    }
}

/// What a request is known by here: its id, and without one who asks for what.
#[must_use]
pub fn key_of(request: &RequestStatus) -> String {
    request.id.clone().unwrap_or_else(|| format!("{}/{}", request.volume, request.from))
}
