//! What happens to a client from outside: crashes, pauses, log-ons, log-offs; and what administrators change.

use std::sync::Arc;
use std::time::Duration;

use lockdriver::tables::Tables;
use ondisk::{CommitNo, Incarnation, Label, SlotIndex};

use super::studio::{DEAD, Event, Input, LEASE, NAMES, SlotOnDisk, Studio};
use crate::engine::{Engine, OpDone, TableOp};
use crate::wire::outcome::Failure;

impl Studio {
    // ------------------------------------------------------------------------------------------------------- faults

    /// kill -9. The kernel's mounts stay until the guardian closes them. `back`: it is started again after so long.
    pub(super) fn crash(&mut self, c: usize, back: Option<Duration>) {
        if !self.clients[c].up {
            return;
        }
        self.note(|_| format!("{}: CRASH, back after {back:?}", NAMES[c]));
        let left = self.clients[c].lease_until.saturating_sub(self.now);
        self.end_process(c);
        let most = u64::try_from(left.as_millis()).expect("short") + 3900;
        let late = self.rng.ms(0, most);
        let login = self.slots[c].incarnation;
        self.at(late, c, Event::Guardian(login));
        self.clients[c].comes_back = back.is_some();
        if let Some(back) = back {
            self.at(back, c, Event::Restart);
        }
    }

    /// SIGSTOP: the daemon stands still, the guardian does not.
    pub(super) fn pause(&mut self, c: usize, time: Duration) {
        if !self.clients[c].up || self.clients[c].paused {
            return;
        }
        self.note(|_| format!("{}: PAUSE for {time:?}", NAMES[c]));
        self.clients[c].paused = true;
        self.at(time, c, Event::Resume);
    }

    pub(super) fn resume(&mut self, c: usize) {
        if !self.clients[c].paused {
            return;
        }
        self.note(|_| format!("{}: resumes", NAMES[c]));
        self.clients[c].paused = false;
        if !self.is_live(c) {
            self.lost(c, "it stood still for too long");
            return;
        }
        for event in std::mem::take(&mut self.clients[c].deferred) {
            self.at(Duration::ZERO, c, event);
        }
    }

    /// Whatever stood still goes on, and who is gone comes back.
    pub(super) fn calm_client(&mut self, c: usize) {
        self.slots[c].rotten_until = Duration::ZERO;
        self.resume(c);
        let client = &mut self.clients[c];
        client.comes_back = true;
        if !client.up {
            self.at(Duration::from_secs(30), c, Event::Restart);
        }
    }

    /// It never comes back.
    pub(super) fn stays_away(&mut self, c: usize) {
        self.clients[c].away = true;
        self.clients[c].comes_back = false;
    }

    pub(super) fn leave(&mut self, c: usize, now: bool) {
        if self.clients[c].engine.is_some() {
            self.note(|_| format!("{}: told to end, now: {now}", NAMES[c]));
            self.clients[c].comes_back = false;
            self.post(c, Input::Leave(now));
        }
    }

    /// A change of the tables by an administrator's command.
    pub(super) fn administer(&mut self, what: &str, change: impl FnOnce(&mut Tables)) {
        if !self.run_while(Duration::from_secs(25), |s| s.semaphore.is_none()) && self.broken.is_none() {
            // Nobody else wanted the semaphore: the administrator's command passes the dead holder, and reaps it.
            let (holder, _) = self.semaphore.take().expect("somebody holds it");
            if self.is_live(holder) {
                self.fail("a living client holds the semaphore for ever");
            }
            let incarnation = self.slots[holder].incarnation;
            let mut tables = (*self.tables).clone();
            tables.header.reaped[holder] = tables.header.reaped[holder].max(incarnation);
            self.tables = Arc::new(tables);
        }
        self.note(|_| format!("ADMIN: {what}"));
        let mut tables = (*self.tables).clone();
        change(&mut tables);
        let epoch = self.next_epoch(self.clients.len());
        tables.header.commit = CommitNo { epoch, count: 1 };
        self.set_tables(tables);
    }

    pub(super) fn next_epoch(&self, slot: usize) -> u64 {
        let slots = u64::try_from(self.clients.len() + 4).expect("few");
        let slot = u64::try_from(slot).expect("few");
        let now = self.tables.header.commit.epoch;
        (now + 1..).find(|e| e % slots == slot).expect("one of every few numbers")
    }

    pub(super) fn set_tables(&mut self, mut tables: Tables) {
        let (clients, volumes) = tables.counts();
        tables.header.clients = clients;
        tables.header.volumes = volumes;
        for table in tables.volumes.iter().flatten() {
            if table.writer.is_none() {
                self.free_since.entry(table.uuid).or_insert(self.now);
            } else {
                self.free_since.remove(&table.uuid);
            }
        }
        self.tables = Arc::new(tables);
    }

    // ------------------------------------------------------------------------------------------------------- log-on

    /// Starts a daemon: the first way on the same host, the second way on another one.
    pub(super) fn restart(&mut self, c: usize) {
        if self.clients[c].up || self.clients[c].away {
            return;
        }
        let slot = self.slots[c].clone();
        let elsewhere = slot.logged_on && self.rng.one_in(4);
        if elsewhere && self.now < slot.changed + DEAD + Duration::from_secs(4) {
            let after = slot.changed + DEAD + Duration::from_secs(4) - self.now;
            self.at(after, c, Event::Restart);
            return;
        }
        if !elsewhere {
            self.kernel.close_leftovers(c);
        } else {
            // `live` read gates stay open on the other host; they are no concern of this one.
            self.kernel.guardian_closes(c, self.now);
            self.kernel.another_host(c);
        }
        self.end_process(c);
        let highest = slot.incarnation.0.max(self.tables.header.reaped[c].0);
        let record = self.tables.clients[c].as_ref().map_or(0, |r| r.logged_on.0);
        let mut incarnation = highest.max(record) + 1;
        if !elsewhere && slot.incarnation.0 > 0 && incarnation % 2 != slot.incarnation.0 % 2 {
            incarnation += 1;
        }
        self.slots[c] =
            SlotOnDisk { incarnation: Incarnation(incarnation), logged_on: true, rotten_until: Duration::ZERO, ..slot };
        self.touch(c);
        // The new login's slot does not say that it waits: whatever the old one held is free.
        self.semaphore = self.semaphore.filter(|(holder, _)| *holder != c);
        let client = &mut self.clients[c];
        client.up = true;
        client.comes_back = true;
        client.page_version = 0;
        client.lease_until = self.now + LEASE;
        client.ops.push_back((None, TableOp::LogOn { host: Label::default(), first_way: !elsewhere }));
        self.note(|_| format!("{}: logs on as {incarnation}, elsewhere: {elsewhere}", NAMES[c]));
        self.at(Duration::from_secs(1), c, Event::Beat);
        self.at(LEASE, c, Event::LeaseEnd);
        self.at(Duration::ZERO, c, Event::TryOp);
    }

    pub(super) fn logged_on(&mut self, c: usize, done: Result<OpDone, Failure>) {
        if let Err(failure) = done {
            self.note(|_| format!("{}: may not log on: {failure}", NAMES[c]));
            self.slots[c].logged_on = false;
            self.touch(c);
            self.end_process(c);
            self.at(Duration::from_secs(3), c, Event::Restart);
            return;
        }
        let old = self.pages[c].clone();
        let setup = crate::engine::Setup {
            slot: SlotIndex(u16::try_from(c).expect("few")),
            incarnation: self.slots[c].incarnation,
            periods: self.periods,
            gateless: self.gateless,
            ask_hook: false,
            unmounted: self.clients[c].unmounted.clone(),
            requests: old.as_ref().map(|p| p.requests.clone()).unwrap_or_default(),
            answers: old.as_ref().map(|p| p.answers.clone()).unwrap_or_default(),
            page_sequence: old.as_ref().map_or(0, |p| p.sequence),
            seed: self.rng.next(),
            switches: crate::engine::Switches::ALL,
        };
        let volumes = u16::try_from(self.tables.volumes.len()).expect("few");
        self.clients[c].engine = Some(Engine::new(setup, volumes));
        self.clients[c].next_poll = self.now;
        self.drive(c);
    }
}
