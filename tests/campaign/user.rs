//! The people: at each client one who asks for the volume, writes while it may, answers the others, and gives it back.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::fcntl::{FallocateFlags, fallocate};
use volctl::wire::call::{Answer3, AnswerCall, Call, RequestCall, TakeoverCall, VolumeCall};
use volctl::wire::client::{Client as Wire, HangUp};
use volctl::wire::outcome::Failure;
use volctl::wire::status::Status;
use volctl_tests::studio::Client;

use crate::rng::Rng;
use crate::scribe::{Entry, Scribe};
use crate::stage::{Stage, VOLUME, writes};

/// How long a program has to come to the end of its record before the volume is given back under it.
const LAST_RECORD: Duration = Duration::from_millis(300);
/// The name of what fills a volume.
pub(crate) const FILLER: &str = "filler";

/// The people of a round, until this is dropped.
pub(crate) struct Crowd {
    shared: Vec<Arc<Shared>>,
    threads: Vec<JoinHandle<()>>,
    others: Mutex<Vec<(HangUp, JoinHandle<()>)>>,
}

/// What others may do to a person.
#[derive(Default)]
struct Shared {
    /// Nobody asks or writes any more; what was asked is answered.
    calm: AtomicBool,
    /// What was asked before is withdrawn; others may ask in this client's name now.
    settled: AtomicBool,
    over: AtomicBool,
    scribe: Mutex<Option<Scribe>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Crowd {
    pub(crate) fn start(stage: &Stage, seed: u64, round: u64) -> Self {
        stage.ledger.begin();
        let mut crowd = Self { shared: Vec::new(), threads: Vec::new(), others: Mutex::default() };
        for (index, client) in stage.clients.iter().enumerate() {
            let shared: Arc<Shared> = Arc::default();
            // Enough names for a round; one is a file that may never come to be.
            let name = |n: usize| format!("r{round}-{}-{n}", client.name());
            let entries = (0..40).map(|n| stage.ledger.entry(name(n))).collect();
            let rng = Rng::new(seed ^ 0x5eed, round * 16 + index as u64);
            let person = Person { client: client.clone(), shared: Arc::clone(&shared), entries, rng };
            crowd.shared.push(shared);
            crowd.threads.push(std::thread::spawn(move || person.live()));
        }
        crowd
    }

    /// Ends every program and every wish.
    pub(crate) fn calm_down(&self) {
        for shared in &self.shared {
            shared.calm.store(true, Ordering::SeqCst);
        }
        for shared in &self.shared {
            if let Some(scribe) = locked(&shared.scribe).as_mut() {
                scribe.kill();
            }
        }
    }

    /// Waits until nothing of what was asked in the trouble stands any more.
    ///
    /// # Panics
    /// When it stands for longer than everything may take.
    pub(crate) fn settle(&self, stage: &Stage) {
        let limit = stage.studio().patience(stage.studio().timings.dead() * 2 + LAST_RECORD * 10);
        for client in &stage.clients {
            client.until("what was is over", limit, |status| !asks(client, status) && !writes(status));
        }
        for shared in &self.shared {
            shared.settled.store(true, Ordering::SeqCst);
        }
    }

    pub(crate) fn kill_programs(&self, index: usize) -> bool {
        let mut scribe = locked(&self.shared[index].scribe);
        scribe.as_mut().map(Scribe::kill).is_some()
    }

    /// An administrator's takeover, which may take a while.
    pub(crate) fn take_over(&self, client: &Client) -> bool {
        let Ok(mut wire) = Wire::connect(&client.socket()) else { return false };
        let Ok(hang_up) = wire.hang_up_handle() else { return false };
        let thread = std::thread::spawn(move || {
            let call = Call::Takeover(TakeoverCall { volume: VOLUME.into(), yes_i_know: None });
            // Refused, done, or hung up on: all of it is right.
            let _ = wire.call_more(&call, |_| Ok(true));
        });
        locked(&self.others).push((hang_up, thread));
        true
    }

    /// Fills whatever is free on the volume.
    pub(crate) fn fill(&self, client: &Client) -> bool {
        let path = client.path(VOLUME, FILLER);
        let Ok(file) = File::create(&path) else { return false };
        // Once guardian and mount root are gone, root writes into the plain directory, and would fill the host's own disk.
        let on = |metadata: std::io::Result<std::fs::Metadata>| metadata.ok().map(|m| m.dev());
        if on(file.metadata()) == on(std::fs::metadata(client.config())) {
            let _ = std::fs::remove_file(&path);
            return false;
        }
        let (mut at, mut step) = (0, 16 << 20);
        while step >= 4096 {
            match fallocate(&file, FallocateFlags::empty(), at, step) {
                Ok(()) => at += step,
                Err(_) => step /= 2,
            }
        }
        at > 0
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.calm_down();
        for shared in &self.shared {
            shared.over.store(true, Ordering::SeqCst);
        }
        for (hang_up, thread) in std::mem::take(&mut *locked(&self.others)) {
            hang_up.hang_up();
            let _ = thread.join();
        }
        for thread in std::mem::take(&mut self.threads) {
            // Its panic would be the round's.
            assert!(thread.join().is_ok() || std::thread::panicking(), "a person panicked");
        }
    }
}

fn asks(client: &Client, status: &Status) -> bool {
    status.requests.iter().any(|r| r.from == client.name())
}

struct Person {
    client: Client,
    shared: Arc<Shared>,
    entries: Vec<Entry>,
    rng: Rng,
}

impl Person {
    fn live(mut self) {
        while !self.shared.over.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(self.rng.range(40, 160)));
            let Some(status) = self.client.try_status() else { continue };
            if writes(&status) {
                self.as_writer(&status);
            } else if self.is_calm() {
                self.wish_nothing(&status);
            } else if self.rng.chance(35) {
                let _ = self.call(&Call::Request(RequestCall {
                    volume: VOLUME.into(),
                    message: String::new(),
                    wait_ms: None,
                }));
            }
        }
    }

    fn is_calm(&self) -> bool {
        self.shared.calm.load(Ordering::SeqCst)
    }

    fn call(&self, call: &Call) -> Result<(), Failure> {
        Wire::connect(&self.client.socket())?.call(call).map(drop)
    }

    fn volume() -> VolumeCall {
        VolumeCall { volume: VOLUME.into() }
    }

    fn wish_nothing(&mut self, status: &Status) {
        if asks(&self.client, status) && !self.shared.settled.load(Ordering::SeqCst) {
            let _ = self.call(&Call::Withdraw(Self::volume()));
        }
    }

    fn as_writer(&mut self, status: &Status) {
        let asked = status.requests.iter().find(|r| r.from != self.client.name() && r.answer.is_none());
        match (self.is_calm(), asked) {
            (true, Some(request)) => return self.answer(&request.from.clone(), Answer3::Yes),
            // A file system that had errors is given back and mounted anew, as a person would do it.
            (true, None) if !self.shared.settled.load(Ordering::SeqCst) => {
                let _ = self.call(&Call::Release(Self::volume()));
                return;
            }
            (true, None) => return,
            (false, _) => {}
        }
        self.keep_writing();
        match asked.map(|r| r.from.clone()) {
            Some(from) if self.rng.chance(30) => {
                // Sometimes the program still writes: then it is named, and the grant stays.
                if self.rng.chance(80) {
                    self.stop_writing();
                }
                let answer = if self.rng.chance(85) { Answer3::Yes } else { Answer3::Later };
                self.answer(&from, answer);
            }
            None if self.rng.chance(10) => {
                self.stop_writing();
                let _ = self.call(&Call::Release(Self::volume()));
            }
            _ => {}
        }
    }

    fn answer(&self, to: &str, answer: Answer3) {
        let (volume, client, message) = (VOLUME.into(), to.to_owned(), String::new());
        let _ = self.call(&Call::Answer(AnswerCall { volume, client, answer, message }));
    }

    /// A program writes, unless one does.
    fn keep_writing(&mut self) {
        let mut scribe = locked(&self.shared.scribe);
        if scribe.as_mut().is_some_and(|s| !s.has_ended()) || self.is_calm() {
            return;
        }
        let directory: PathBuf = self.client.path(VOLUME, "");
        *scribe = self.entries.pop().and_then(|entry| Scribe::start(&directory, &entry).ok());
    }

    fn stop_writing(&mut self) {
        let mut scribe = locked(&self.shared.scribe);
        let ended = scribe.as_mut().is_none_or(|s| s.end(LAST_RECORD));
        if ended {
            *scribe = None;
        }
    }
}
