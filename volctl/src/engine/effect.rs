//! What comes out of the engine, and what comes back.

use ondisk::{Generation, Uuid};

use super::command::{CommandId, Reply};
use super::ops::TableOp;
use crate::wire::event::EventName;
use crate::wire::outcome::Failure;

/// Something for the driver to carry out.
#[derive(Debug, Clone, PartialEq, Hash)]
pub enum Effect {
    /// Write the own page (both copies) and then the slot with its sequence; later effects wait for it.
    Page,
    /// Run a transaction under the semaphore.
    Table {
        /// Comes back with the outcome.
        tag: OpTag,
        /// What to do.
        op: TableOp,
    },
    /// Run a blocking job of a volume; at most one at a time for each.
    Job {
        /// Of which volume.
        volume: Uuid,
        /// What to do.
        job: Job,
    },
    /// Tell a command how it goes.
    Reply(CommandId, Reply),
    /// Something happened that people, hooks and the log want to know.
    Fact(Box<Fact>),
    /// Ask the user's `on-request` hook; the answer comes back as a command.
    AskHook(Box<Fact>),
}

/// Whose outcome a transaction's end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpTag {
    /// A volume's.
    Volume(Uuid),
    /// The reaper's.
    Reaper,
    /// A takeover's revocation of the grant of this epoch.
    Takeover(Uuid, u64),
}

/// A blocking job, run on a thread of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Job {
    /// Open a read gate, mount, and put it in the place of what is mounted.
    MountReader {
        /// Which published state; 0.0 of a `live` volume means as it is.
        generation: Generation,
    },
    /// Take the reader's mount away. With `force` the gate is closed under open files.
    UnmountReader {
        /// Close under open files.
        force: bool,
    },
    /// Look which older generations are no longer in use, and close their gates.
    Retire,
    /// Open the writer's gate and mount read-write.
    MountWriter {
        /// The grant's epoch.
        epoch: u64,
        /// Check the file system first (configuration `takeover_check = "before"`).
        check: bool,
        /// An administrator takes the volume over: keys and reservations that no client made are broken on its device.
        breaks_foreign: bool,
    },
    /// Publish this generation, if the volume changed.
    Publish {
        /// The next generation.
        generation: Generation,
        /// Even if nothing changed (after a takeover, and the first time).
        always: bool,
    },
    /// Delete snapshots that nobody holds.
    Delete {
        /// Which.
        generations: Vec<Generation>,
    },
    /// Stop writing: publish `generation` if there were changes, unmount, close the gate.
    StopWriter {
        /// The next generation.
        generation: Generation,
        /// Publish even if nothing changed.
        always: bool,
        /// Close under open files.
        force: bool,
        /// The file system is to be checked, unchanged, before it is handed over.
        check: bool,
    },
    /// The grant is lost: close the writer's gate at once under whatever is open; nothing is published any more.
    FenceWriter,
    /// Measure how long this host may hold back writes to the volume.
    Measure,
    /// Look at free space and, with `files`, at open files (every process has to be looked at for that).
    Probe {
        /// Look for open files, too.
        files: bool,
    },
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Hash)]
pub enum JobDone {
    /// The reader sees this generation; `lingering` ones still have open files.
    ReaderMounted {
        /// What is mounted now.
        generation: Generation,
    },
    /// The reader's mount is gone; `closed` says whether its gate is, too; else these programs have files open.
    ReaderUnmounted {
        /// Every read gate of the volume is closed.
        closed: bool,
        /// Who has files open.
        busy: Vec<Busy>,
    },
    /// Generations whose gates are still open because of open files.
    Retired {
        /// Still open.
        lingering: Vec<Generation>,
        /// Who has files open on them.
        busy: Vec<Busy>,
    },
    /// Mounted read-write.
    WriterMounted {
        /// The snapshots of published states that the volume still has.
        snapshots: Vec<Generation>,
    },
    /// The read-write mount failed half way. The gate is closed, but what is on the disk now nobody published.
    HalfMounted(Failure),
    /// What a publish did: the generation if there was a change.
    Published {
        /// Published, or None where nothing changed.
        generation: Option<Generation>,
        /// Milliseconds since 1970.
        modified_ms: i64,
    },
    /// The snapshots are gone.
    Deleted,
    /// The writer's gate is closed.
    Stopped {
        /// The generation of the last published state, None if nothing changed since the last publish.
        generation: Option<Generation>,
        /// Whether the state on disk is one that was published (false: closed under the file system).
        clean: bool,
        /// Milliseconds since 1970.
        modified_ms: i64,
        /// What the check said, if one was due.
        check: Option<String>,
    },
    /// Files are open: the mount was put back and the grant stays.
    StillBusy(Vec<Busy>),
    /// Free space, size, open files.
    Probed(Probe),
    /// How long this host may hold back writes, milliseconds; all ones: no bound.
    Measured {
        /// Of the whole path.
        inflight_ms: u64,
    },
    /// It did not work; nothing changed that the job did not undo.
    Failed(Failure),
    /// A writer could neither be stopped nor put back; the gate was closed under it or the incarnation must end.
    Lost(Failure),
}

/// A program that keeps a volume busy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Busy {
    /// Its name.
    pub program: String,
    /// Its PID.
    pub pid: u32,
    /// Its user.
    pub user: String,
    /// What it has open.
    pub path: String,
}

impl std::fmt::Display for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (PID {}, user {})", self.program, self.pid, self.user)
    }
}

/// Who keeps it busy, in one line; at most three are named.
pub fn busy_words(busy: &[Busy]) -> String {
    let mut words: Vec<String> = busy.iter().take(3).map(Busy::to_string).collect();
    if busy.len() > 3 {
        words.push(format!("and {} more", busy.len() - 3));
    }
    if words.is_empty() { "a program that could not be found".to_owned() } else { words.join(", ") }
}

/// What a look at a mounted volume shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Probe {
    /// Bytes free.
    pub free: u64,
    /// Bytes in all.
    pub capacity: u64,
    /// Files are open for writing; None: not looked for.
    pub open_for_writing: Option<bool>,
    /// Written since the probe before.
    pub written: bool,
    /// How long this host may hold back a write, milliseconds; all ones: no bound.
    pub inflight_ms: u64,
}

/// Something that happened, for hooks and the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fact {
    /// Its stable name.
    pub name: EventName,
    /// The volume's name, empty if none.
    pub volume: String,
    /// The other client, empty if none.
    pub client: String,
    /// The sentence for people.
    pub text: String,
    /// The message that came with it.
    pub message: String,
    /// The generation, if one is meant.
    pub generation: Option<Generation>,
}

impl Fact {
    /// A fact about a volume.
    pub fn of(name: EventName, volume: &str, text: impl Into<String>) -> Self {
        Self {
            name,
            volume: volume.to_owned(),
            client: String::new(),
            text: text.into(),
            message: String::new(),
            generation: None,
        }
    }

    /// With the other client.
    #[must_use]
    pub fn client(mut self, client: impl Into<String>) -> Self {
        self.client = client.into();
        self
    }

    /// With a message.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// With a generation.
    #[must_use]
    pub fn generation(mut self, generation: Generation) -> Self {
        self.generation = Some(generation);
        self
    }
}
