//! What a client does, as a machine without I/O: the poll's world and the people's commands go in, effects come out
//! (sections 7, 8 and 10 of the design).
//!
//! ```text
//!   World (slots, pages, tables) ─┐                   ┌─> Page       write the own page, then the slot
//!   Command (from the socket)    ─┼─> Engine::step ───┼─> Table(op)  a transaction under the semaphore
//!   JobDone / TableDone          ─┘                   ├─> Job        a blocking mount, publish, close ...
//!                                                     └─> Reply, Hook, Log
//! ```
//! Effects are carried out in their order; the page is stable on disk before the next effect begins. Each volume is a
//! reconciler: it looks at the table, the pages and what is mounted here, and asks for the one next thing.
//! No clock is read and no thread started: time comes in with the world.

pub mod command;
pub mod effect;
pub mod hold;
pub mod mailbox;
pub mod ops;
pub mod outcome;
mod presence;
pub mod reader;
pub mod reap;
pub mod rules;
pub mod status;
pub mod switches;
mod tenure;
pub mod volume;
pub mod waiters;
pub mod wish;
pub mod world;
pub mod writer;

use std::collections::BTreeMap;
use std::time::Duration;

use ondisk::{AutoResponse, ClientPage, Incarnation, SlotIndex, Uuid};

pub use command::{Command, CommandId, Reply};
pub use effect::{Effect, Fact, Job, JobDone, OpTag};
pub use ops::{OpDone, TableOp};
pub use switches::Switches;
pub use world::{PageView, Peer, World};

use volume::Volume;

/// What the engine is told once, at log-on.
#[derive(Debug, Clone, Hash)]
pub struct Setup {
    /// The own slot.
    pub slot: SlotIndex,
    /// This login.
    pub incarnation: Incarnation,
    /// Periods that the configuration and the superblock give.
    pub periods: Periods,
    /// `gate = "none"`: coordinate, mount nothing.
    pub gateless: bool,
    /// An `on-request` hook is configured.
    pub ask_hook: bool,
    /// Volumes that the user took away; survives restarts of the daemon.
    pub unmounted: Vec<Uuid>,
    /// Requests that still stand from the page of the incarnation before.
    pub requests: Vec<ondisk::Request>,
    /// Answers that still stand from the page of the incarnation before.
    pub answers: Vec<ondisk::Answer>,
    /// The page sequence goes on over log-ons.
    pub page_sequence: u64,
    /// The first request id; later ones are derived. Random, from the driver.
    pub seed: u64,
    /// All on, except in tests.
    #[doc(hidden)]
    pub switches: Switches,
}

/// How long things take or are waited for.
#[derive(Debug, Clone, Copy, Hash)]
pub struct Periods {
    /// Between two polls of an idle client.
    pub poll: Duration,
    /// Others' death time.
    pub dead: Duration,
    /// Between two publishes of a volume that changes.
    pub publish: Duration,
    /// For readers' open files on an `exclusive` volume.
    pub grace: Duration,
    /// Without a write, before auto response `idle` says yes.
    pub idle: Duration,
    /// Of a request that nobody answers.
    pub request_timeout: Duration,
    /// For which a release keeps the volume for `next`.
    pub next_kept: Duration,
    /// For which a dead reader's generations are kept.
    pub dead_hold: Duration,
}

/// A poll that concerns a wait of the engine comes after this time.
pub const FAST: Duration = Duration::from_millis(10);

/// The machine of one login.
#[derive(Debug, Clone, Hash)]
pub struct Engine {
    pub(crate) setup: Setup,
    pub(crate) page: ClientPage,
    pub(crate) volumes: BTreeMap<Uuid, Volume>,
    pub(crate) out: Vec<Effect>,
    pub(crate) page_dirty: bool,
    pub(crate) page_version: u64,
    pub(crate) waiters: Vec<command::Waiter>,
    pub(crate) mailbox: mailbox::Mailbox,
    pub(crate) reaper: reap::Reaper,
    pub(crate) leaving: Option<Leaving>,
    pub(crate) next_id: u64,
    pub(crate) last_commit: Option<ondisk::CommitNo>,
    pub(crate) auto_response: AutoResponse,
    pub(crate) tenures: tenure::Tenures,
    pub(crate) company: presence::Company,
    /// The world is that of a poll that was just read.
    pub(crate) by_poll: bool,
}

/// The daemon was told to end.
#[derive(Debug, Clone, Copy, Hash)]
pub(crate) struct Leaving {
    pub since: Duration,
    pub now: bool,
}

impl Engine {
    /// A machine for a login that was just committed.
    pub fn new(setup: Setup, max_volumes: u16) -> Self {
        let page = ClientPage {
            incarnation: setup.incarnation,
            sequence: setup.page_sequence,
            requests: setup.requests.clone(),
            answers: setup.answers.clone(),
            volumes: vec![ondisk::VolumeEntry::default(); usize::from(max_volumes)],
            ..ClientPage::default()
        };
        let next_id = setup.seed;
        Self {
            setup,
            page,
            volumes: BTreeMap::new(),
            out: vec![Effect::Page],
            page_dirty: false,
            page_version: 0,
            waiters: Vec::new(),
            mailbox: mailbox::Mailbox::default(),
            reaper: reap::Reaper::default(),
            leaving: None,
            next_id,
            last_commit: None,
            auto_response: AutoResponse::Off,
            tenures: tenure::Tenures::default(),
            company: presence::Company::default(),
            by_poll: false,
        }
    }

    /// The own page as it is to be written. The driver keeps the newer of two `published` generations, since a
    /// publish raises it while the file system is frozen.
    pub fn page(&self) -> &ClientPage {
        &self.page
    }

    /// How often the page was given out to be written: what [`World::page_on_disk`] counts. (The sequence in the page
    /// itself belongs to the driver, which also writes it in the middle of a publish.)
    pub fn page_version(&self) -> u64 {
        self.page_version
    }

    /// One poll's world. Returns what to do, in order.
    pub fn step(&mut self, world: &World<'_>) -> Vec<Effect> {
        self.by_poll = true;
        let effects = self.go_on(world);
        self.by_poll = false;
        effects
    }

    /// Goes on by what is known, which may be tables that are newer than the poll's time.
    fn go_on(&mut self, world: &World<'_>) -> Vec<Effect> {
        self.page.polls += 1;
        self.follow_tables(world);
        self.watch_company(world);
        self.watch_writers(world);
        self.reap(world);
        self.serve_mailbox(world);
        let ids: Vec<Uuid> = self.volumes.keys().copied().collect();
        for id in ids {
            self.step_volume(id, world);
        }
        self.wake_waiters(world);
        self.drain()
    }

    /// A command of a person or a program.
    pub fn command(&mut self, id: CommandId, command: Command, world: &World<'_>) -> Vec<Effect> {
        self.dispatch(id, command, world);
        self.drain()
    }

    /// A blocking job came to its end.
    pub fn job_done(&mut self, volume: Uuid, done: JobDone, world: &World<'_>) -> Vec<Effect> {
        self.finish_job(volume, done, world);
        self.go_on(world)
    }

    /// A transaction came to its end.
    pub fn table_done(
        &mut self,
        tag: OpTag,
        done: Result<OpDone, crate::wire::outcome::Failure>,
        world: &World<'_>,
    ) -> Vec<Effect> {
        self.finish_op(tag, done, world);
        self.go_on(world)
    }

    /// The daemon is to end: in order, or (`now`) without waiting for anybody's open files.
    pub fn leave(&mut self, now: bool, world: &World<'_>) -> Vec<Effect> {
        let (since, already) = self.leaving.map_or((world.now, false), |l| (l.since, l.now));
        self.leaving = Some(Leaving { since, now: now || already });
        self.go_on(world)
    }

    /// Every gate is closed and every grant given back: the log-off may be committed. Told to end now, a client does
    /// not wait for tables that cannot be changed: with its log-off its grants are over, too.
    pub fn has_left(&self) -> bool {
        if !self.setup.switches.closed_before_log_off {
            return self.leaving.is_some();
        }
        let given_up = |v: &Volume| v.gates_closed() && v.op_pause.is_some();
        self.leaving.is_some_and(|l| self.volumes.values().all(|v| v.is_closed() || l.now && given_up(v)))
    }

    /// How soon the next poll should come.
    pub fn next_poll(&self) -> Duration {
        let hurried = self.volumes.values().any(|v| v.hurried(self))
            || !self.waiters.is_empty()
            || !self.page.requests.is_empty()
            || self.leaving.is_some()
            || self.mailbox.hurried();
        if hurried { FAST.min(self.setup.periods.poll) } else { self.setup.periods.poll }
    }

    /// The volumes that the user took away.
    pub fn unmounted(&self) -> Vec<Uuid> {
        self.volumes.values().filter(|v| v.user_unmounted).map(|v| v.uuid).collect()
    }

    /// Which rules hold: all, except in tests.
    #[doc(hidden)]
    pub fn switches(&self) -> Switches {
        self.setup.switches
    }

    /// Takes out what grows for ever and decides nothing, so that a search over all states comes to an end: counters for
    /// people, and the numbers of pages up to `seen`. Those are only compared with numbers of `seen` and above, so
    /// all of them may be 1; `seen` itself is, and the driver's own numbers go down by as much as it does.
    #[doc(hidden)]
    pub fn forget_numbers(&mut self, seen: u64) {
        let shift = seen.saturating_sub(1);
        let lower = |n: &mut u64| *n = if *n == 0 { 0 } else { n.saturating_sub(shift).max(1) };
        (self.page.polls, self.page.refreshes) = (0, 0);
        lower(&mut self.page_version);
        for volume in self.volumes.values_mut() {
            lower(&mut volume.retire_sequence);
            if let Some((_, sequence)) = &mut volume.announced {
                lower(sequence);
            }
        }
    }

    pub(crate) fn me(&self) -> SlotIndex {
        self.setup.slot
    }

    fn drain(&mut self) -> Vec<Effect> {
        let mut effects = std::mem::take(&mut self.out);
        let write = std::mem::take(&mut self.page_dirty) || effects.contains(&Effect::Page);
        if write {
            // What the page says must stand on the disk before anything that relies on it.
            effects.retain(|e| *e != Effect::Page);
            let at = if self.setup.switches.page_first { 0 } else { effects.len() };
            effects.insert(at, Effect::Page);
            self.page_version += 1;
        }
        effects
    }
}

#[cfg(test)]
mod tests;
