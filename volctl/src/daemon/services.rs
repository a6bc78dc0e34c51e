//! What runs beside the loop: event log, hooks, service manager, the memory of manual unmounts.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::Sender;
use lockdriver::trust::open_regular;
use ondisk::client_page::AnswerVerdict;
use ondisk::{Message, Uuid};

use super::config::Config;
use super::event_log::EventLog;
use super::hooks::{HookAnswer, HookEvent, HookFacts, Hooks};
use super::notify::Notifier;
use crate::engine::{Command, Fact};
use crate::wire::call::Answer3;
use crate::wire::event::{EventName, EventRecord};
use crate::wire::outcome::Failure;

/// How long hooks under way may take at the end.
const HOOKS_LAST: Duration = Duration::from_secs(5);
/// How long the last word of the user may take to be written at the end.
const MEMORY_LAST: Duration = Duration::from_secs(1);

/// The most bytes of it: a UUID each for as many volumes as there can be.
const MEMORY_BYTES: u64 = 64 << 10;

/// The services of one daemon.
pub struct Services {
    /// Events.
    pub log: Arc<EventLog>,
    /// The user's programs.
    pub hooks: Hooks,
    /// The service manager.
    pub notifier: Notifier,
    /// Manual unmounts.
    pub memory: Memory,
}

impl Services {
    /// Starts them.
    ///
    /// # Errors
    /// A hook user that does not exist, no threads.
    pub fn start(config: &Config) -> Result<Self, Failure> {
        let log = Arc::new(EventLog::start(&config.state_dir)?);
        let noted = Arc::clone(&log);
        let on_problem = Arc::new(move |event: HookEvent, text: String| {
            noted.note(EventRecord::new(EventName::HookFailed, format!("{}: {text}", event.key())));
        });
        let hooks = Hooks::new(&config.hooks, &config.client, on_problem)?;
        let memory = Memory::at(config.state_dir.join("unmounted.json"));
        Ok(Self { log, hooks, notifier: Notifier, memory })
    }

    /// Notes an event.
    pub fn note(&self, event: EventName, text: &str) {
        self.log.note(EventRecord::new(event, text));
    }

    /// Notes a failure.
    pub fn note_trouble(&self, event: EventName, failure: &Failure) {
        self.note(event, &failure.to_string());
    }

    /// Something happened to a volume: the log, and the user's hook.
    pub fn happened(&self, fact: &Fact, config: &Config) {
        let mut event = EventRecord::new(fact.name, fact.text.clone());
        if !fact.volume.is_empty() {
            event = event.volume(fact.volume.clone());
        }
        if !fact.client.is_empty() {
            event = event.client(fact.client.clone());
        }
        if !fact.message.is_empty() {
            event = event.fact("message", fact.message.clone());
        }
        if let Some(generation) = fact.generation {
            event = event.fact("generation", generation.to_string());
        }
        self.log.note(event);
        let hook = match fact.name {
            EventName::GrantTaken => HookEvent::Granted,
            EventName::GrantReleased => HookEvent::Released,
            EventName::Mounted | EventName::Refreshed => HookEvent::Refreshed,
            _ => return,
        };
        self.hooks.run(hook, facts_of(fact, config));
    }

    /// Gates were closed under this client's file systems.
    pub fn fenced(&self, why: &Failure) {
        self.hooks.run(HookEvent::Fenced, HookFacts { message: Some(why.to_string()), ..HookFacts::default() });
    }

    /// Asks the user's `on-request` hook; its answer comes back as a command.
    pub fn ask(&self, fact: &Fact, answers: Sender<Command>) {
        let facts = HookFacts {
            volume: fact.volume.clone(),
            from: Some(fact.client.clone()),
            message: Some(fact.message.clone()),
            ..HookFacts::default()
        };
        let (volume, client) = (fact.volume.clone(), fact.client.clone());
        self.hooks.ask(facts, move |answer| {
            let HookAnswer::Answer(answer) = answer else { return };
            let verdict = verdict_of(answer);
            let message = Message::cut("answered by the on-request hook");
            // The login may have ended: then the question is asked again by the next one.
            let _ = answers.try_send(Command::Answer { volume, client, verdict, message });
        });
    }

    /// Ends them.
    pub fn end(self) {
        self.memory.end();
        self.hooks.finish(HOOKS_LAST);
    }
}

/// The table's word for an answer.
pub fn verdict_of(answer: Answer3) -> AnswerVerdict {
    match answer {
        Answer3::Yes => AnswerVerdict::Yes,
        Answer3::No => AnswerVerdict::No,
        Answer3::Later => AnswerVerdict::Later,
    }
}

fn facts_of(fact: &Fact, config: &Config) -> HookFacts {
    HookFacts {
        volume: fact.volume.clone(),
        message: Some(fact.text.clone()),
        generation: fact.generation.map(|g| g.to_string()),
        mountpoint: Some(config.mount_root.join(&fact.volume).display().to_string()),
        ..HookFacts::default()
    }
}

/// Which volumes the user took away, in `state_dir`; best effort, for a full or hung disk must not stop a daemon: a thread of
/// its own writes.
pub struct Memory {
    path: PathBuf,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    /// None until the first word of this process.
    wanted: Option<Vec<Uuid>>,
    writing: bool,
}

impl Memory {
    fn at(path: PathBuf) -> Self {
        Self { path, kept: Arc::default() }
    }

    /// What was kept; a file that cannot be read or is damaged says nothing.
    pub fn recall(&self) -> Vec<Uuid> {
        if let Some(wanted) = &lock(&self.kept).wanted {
            return wanted.clone();
        }
        let mut text = String::new();
        if let Ok(file) = open_regular(&self.path, File::options().read(true)) {
            // What is too long is cut, and is no list then.
            let _ = file.take(MEMORY_BYTES).read_to_string(&mut text);
        }
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Keeps it, if it changed.
    pub fn keep(&self, volumes: &[Uuid]) {
        let mut kept = lock(&self.kept);
        if kept.wanted.as_deref() == Some(volumes) {
            return;
        }
        kept.wanted = Some(volumes.to_vec());
        if std::mem::replace(&mut kept.writing, true) {
            return;
        }
        let (path, shared) = (self.path.clone(), Arc::clone(&self.kept));
        if std::thread::Builder::new().name("memory".into()).spawn(move || write_newest(&path, &shared)).is_err() {
            kept.writing = false;
        }
    }

    /// Waits until the newest is written, if that does not take long.
    fn end(&self) {
        let begun = Instant::now();
        while lock(&self.kept).writing && begun.elapsed() < MEMORY_LAST {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write_newest(path: &Path, kept: &Mutex<Kept>) {
    let mut done: Option<Vec<Uuid>> = None;
    loop {
        let wanted = {
            let mut kept = lock(kept);
            if kept.wanted == done {
                kept.writing = false;
                return;
            }
            kept.wanted.clone()
        };
        let written = serde_json::to_string(&wanted).map_err(std::io::Error::other).and_then(|text| {
            let fresh = path.with_extension("new");
            let mut options = File::options();
            let mut file = open_regular(&fresh, options.write(true).create(true).truncate(true))?;
            file.write_all(text.as_bytes())?;
            std::fs::rename(&fresh, path)
        });
        if let Err(e) = written {
            tracing::warn!(event = "notice", error = %e, "manual unmounts cannot be kept");
        }
        done = wanted;
    }
}
