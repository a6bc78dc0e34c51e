//! The part of the studio that does what the daemon's driver, its transaction thread and its job threads do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ondisk::{ClientPage, CommitNo, Incarnation, SlotIndex, Uuid};

use super::studio::{DEAD, Event, Input, NAMES, NEXT_KEPT, Running, Studio};
use crate::engine::ops::{self, Actor, unreadable_up_to};
use crate::engine::{Command, CommandId, Effect, FAST, Job, JobDone, OpDone, OpTag, PageView, Peer, Reply, TableOp};
use crate::wire::outcome::Failure;

fn slot_of(c: usize) -> SlotIndex {
    SlotIndex(u16::try_from(c).expect("few clients"))
}

impl Studio {
    pub(super) fn post(&mut self, c: usize, input: Input) {
        self.clients[c].inbox.push_back(input);
        self.at(Duration::ZERO, c, Event::Drive);
    }

    /// Somebody runs a command.
    pub(super) fn command(&mut self, c: usize, command: Command) -> CommandId {
        self.next_command += 1;
        let id = CommandId(self.next_command);
        if self.clients[c].engine.is_some() {
            self.note(|_| format!("{}: command {} {command:?}", NAMES[c], id.0));
            self.clients[c].open_commands.insert(id);
            self.post(c, Input::Command(id, command));
        }
        id
    }

    pub(super) fn drive(&mut self, c: usize) {
        loop {
            let client = &self.clients[c];
            if client.paused {
                self.at(Duration::ZERO, c, Event::Drive);
                return;
            }
            if client.engine.is_none() || client.blocked {
                return;
            }
            if !self.is_live(c) {
                self.lost(c, "found out by the driver");
                return;
            }
            if let Some(effect) = self.clients[c].waiting.pop_front() {
                self.carry_out(c, effect);
                continue;
            }
            let left = self.clients[c].engine.as_ref().is_some_and(crate::engine::Engine::has_left);
            if left && self.clients[c].jobs == 0 {
                self.log_off(c);
                return;
            }
            if let Some(input) = self.clients[c].inbox.pop_front() {
                self.take_in(c, input);
                continue;
            }
            let (now, next, wake) = (self.now, self.clients[c].next_poll, self.clients[c].wake);
            if now >= next {
                self.poll_slots(c);
                return;
            }
            if wake != next {
                self.clients[c].wake = next;
                self.at(next - now, c, Event::Drive);
            }
            return;
        }
    }

    fn take_in(&mut self, c: usize, input: Input) {
        let client = &mut self.clients[c];
        let engine = client.engine.as_mut().expect("looked at before");
        let world = client.view.world();
        let effects = match input {
            Input::Job(volume, done) => {
                client.jobs -= 1;
                engine.job_done(volume, done, &world)
            }
            Input::Op(tag, done) => engine.table_done(tag, done, &world),
            Input::Leave(now) => engine.leave(now, &world),
            Input::Command(id, command) => {
                client.poll_for = Some((id, command));
                self.poll_slots(c);
                return;
            }
        };
        client.next_poll = self.now;
        client.waiting.extend(effects);
    }

    fn log_off(&mut self, c: usize) {
        self.note(|_| format!("{}: logs off", NAMES[c]));
        if !self.kernel.is_closed(c) {
            self.fail(format!("{} logs off with open gates", NAMES[c]));
        }
        self.slots[c].logged_on = false;
        self.touch(c);
        self.end_process(c);
        if self.clients[c].comes_back {
            self.at(Duration::from_secs(1), c, Event::Restart);
        }
    }

    fn carry_out(&mut self, c: usize, effect: Effect) {
        match effect {
            Effect::Page => {
                let engine = self.clients[c].engine.as_ref().expect("it gave the effect");
                let (page, version) = (Arc::new(engine.page().clone()), engine.page_version());
                self.clients[c].blocked = true;
                let time = self.takes(1, 15);
                self.at(time, c, Event::PageDone(page, version));
            }
            Effect::Table { tag, op } => {
                self.clients[c].ops.push_back((Some(tag), op));
                self.at(Duration::ZERO, c, Event::TryOp);
            }
            Effect::Job { volume, job } => {
                self.note(|_| format!("{}: job {job:?} of {volume}", NAMES[c]));
                self.jobs_run += 1;
                let live = self.is_live(c);
                self.kernel.begin(c, volume, &job, live);
                self.clients[c].jobs += 1;
                let time = self.takes(1, 40);
                self.at(time, c, Event::JobEnd(volume, job));
            }
            Effect::Reply(id, reply) => {
                self.note(|_| format!("{}: reply {} {reply:?}", NAMES[c], id.0));
                let over = !matches!(reply, Reply::Progress { .. });
                if !self.clients[c].open_commands.contains(&id) {
                    self.fail(format!("command {} is told {reply:?} after its end", id.0));
                }
                if over {
                    self.clients[c].open_commands.remove(&id);
                }
                self.clients[c].replies.push((id, reply));
            }
            Effect::Fact(fact) => {
                self.note(|_| format!("{}: fact {:?} {}", NAMES[c], fact.name, fact.text));
                self.clients[c].facts.push(*fact);
            }
            Effect::AskHook(_) => {}
        }
    }

    // -------------------------------------------------------------------------------------------------------- pages

    /// Page first, slot second; a publish meanwhile raised the generation: the newer one stays.
    pub(super) fn put_page(&mut self, c: usize, page: Arc<ClientPage>) {
        let mut page = (*page).clone();
        if let Some(old) = self.pages[c].as_ref() {
            for (new, old) in page.volumes.iter_mut().zip(&old.volumes) {
                if new.volume == old.volume && new.epoch == old.epoch && old.published > new.published {
                    new.published = old.published;
                }
            }
            page.sequence = old.sequence + 1;
        }
        self.slots[c].page_sequence = page.sequence;
        self.pages[c] = Some(Arc::new(page));
        self.touch(c);
    }

    fn raise(&mut self, c: usize, volume: Uuid, generation: ondisk::Generation) {
        let Some(page) = self.pages[c].as_ref() else { return };
        let mut page = (**page).clone();
        if let Some(entry) = page.volumes.iter_mut().find(|e| e.volume == volume) {
            entry.published = generation;
        }
        self.put_page(c, Arc::new(page));
    }

    // -------------------------------------------------------------------------------------------------------- polls

    fn poll_slots(&mut self, c: usize) {
        let begun = self.now;
        self.see_slots(c);
        let client = &mut self.clients[c];
        client.view.begun = begun;
        client.view.page_on_disk = client.page_version;
        client.blocked = true;
        let time = self.takes(0, 5);
        self.at(time, c, Event::PollPages);
    }

    /// The tokens of all slots; what stands still is noticed.
    fn see_slots(&mut self, c: usize) {
        let now = self.now;
        // Between two readings that both failed for a slot, good ones could have lain: only a dense row counts.
        let gap = now.saturating_sub(self.clients[c].last_read) > DEAD / 4;
        self.clients[c].last_read = now;
        for (slot, sight) in self.slots.iter().zip(&mut self.clients[c].sights) {
            let rotten = now < slot.rotten_until;
            let token = if rotten { u64::MAX - 1 } else { slot.token };
            if sight.0 != token || rotten && gap {
                sight.0 = token;
                sight.1 = now;
            }
        }
        self.clients[c].view.peers = self
            .slots
            .iter()
            .enumerate()
            .map(|(i, slot)| {
                let since = self.clients[c].sights[i].1;
                let known = now >= slot.rotten_until;
                Peer {
                    slot: slot_of(i),
                    incarnation: if known { slot.incarnation } else { Incarnation(0) },
                    known,
                    logged_on: known && slot.logged_on,
                    reaped: false,
                    silent: i != c && now >= since + DEAD,
                    beat_age: now.saturating_sub(since),
                    page: PageView::Unknown,
                }
            })
            .collect();
        self.clients[c].sights.iter_mut().zip(&self.slots).for_each(|(sight, slot)| {
            if sight.2 != (slot.incarnation, slot.page_sequence) {
                sight.2 = (slot.incarnation, slot.page_sequence);
                sight.3 = PageView::Unknown;
            }
        });
    }

    /// Tables, then the pages that the slots named.
    fn see_pages(&mut self, c: usize) {
        let tables = Arc::clone(&self.tables);
        let client = &mut self.clients[c];
        for (i, (peer, sight)) in client.view.peers.iter_mut().zip(&mut client.sights).enumerate() {
            let highest =
                if peer.known { peer.incarnation } else { unreadable_up_to(&tables, peer.slot, peer.incarnation) };
            peer.reaped = highest.0 > 0 && tables.is_reaped(peer.slot, highest);
            if i == c || !peer.known || peer.incarnation == Incarnation(0) {
                continue;
            }
            let fits = |page: &&Arc<ClientPage>| page.incarnation == sight.2.0 && page.sequence >= sight.2.1;
            let newer = self.pages[i].as_ref().filter(|_| matches!(sight.3, PageView::Unknown)).filter(fits);
            if let Some(page) = newer {
                sight.3 = PageView::Current(Arc::clone(page));
            }
            peer.page = sight.3.clone();
        }
        client.view.tables = tables;
        client.view.now = self.now;
    }

    pub(super) fn poll_pages(&mut self, c: usize) {
        self.see_pages(c);
        let client = &mut self.clients[c];
        client.blocked = false;
        let Some(engine) = client.engine.as_mut() else { return };
        let world = client.view.world();
        let asked = client.poll_for.take();
        let effects = match asked {
            Some((id, command)) => engine.command(id, command, &world),
            None => engine.step(&world),
        };
        client.waiting.extend(effects);
        let next = engine.next_poll();
        let next = if next == FAST { self.rng.ms(10, 150) } else { next + self.rng.ms(0, 100) };
        self.clients[c].next_poll = self.now + next;
        self.drive(c);
    }

    // ------------------------------------------------------------------------------------------------- transactions

    pub(super) fn try_op(&mut self, c: usize) {
        if self.clients[c].running.is_some() || self.clients[c].ops.is_empty() || !self.is_live(c) {
            return;
        }
        let blocked = self.clients[c].blocked;
        let held = self.semaphore.filter(|(holder, life)| (*holder, *life) != (c, self.clients[c].life));
        if blocked {
            self.at(Duration::from_millis(1), c, Event::TryOp);
            return;
        }
        self.see_slots(c);
        let begun = self.now;
        self.see_pages(c);
        self.clients[c].view.begun = begun;
        if let Some((holder, _)) = held {
            if !self.clients[c].view.peers[holder].silent {
                let after = self.rng.ms(5, 30);
                self.at(after, c, Event::TryOp);
                return;
            }
            // The semaphore is passed to the next, which reaps the silent holder first.
            let incarnation = self.clients[c].view.peers[holder].incarnation;
            self.note(|_| format!("{}: passes the silent holder {}", NAMES[c], NAMES[holder]));
            self.commit(c, |t| t.header.reaped[holder] = t.header.reaped[holder].max(incarnation));
            self.see_pages(c);
        }
        if self.tables.is_reaped(slot_of(c), self.slots[c].incarnation) {
            self.lost(c, "it was reaped");
            return;
        }
        self.semaphore = Some((c, self.clients[c].life));
        let (tag, op) = self.clients[c].ops.pop_front().expect("looked at before");
        self.decide(c, tag, op);
    }

    fn decide(&mut self, c: usize, tag: Option<OpTag>, op: TableOp) {
        self.transactions += 1;
        let epoch = self.next_epoch(c);
        let actor = Actor { slot: slot_of(c), incarnation: self.slots[c].incarnation, epoch };
        let faulty = self.faults.ops > 0 && tag.is_some() && self.rng.one_in(self.faults.ops);
        let decided = if faulty {
            Err(Failure::failed("the tables cannot be changed", "an error of the device", "try again"))
        } else {
            ops::apply(&op, actor, &self.clients[c].view.world())
        };
        self.note(|_| {
            let outcome = decided.as_ref().map(Option::is_some).map_err(ToString::to_string);
            format!("{}: transaction {epoch} {op:?}: {outcome:?}", NAMES[c])
        });
        match decided {
            Ok(Some(change)) => {
                self.check_grant(c, &op);
                self.clients[c].running = Some(Running { tag, op, change, epoch });
                let time = self.takes(1, 20);
                self.at(time, c, Event::CommitOp);
            }
            Ok(None) => self.op_over(c, tag, Ok(OpDone::Nothing)),
            Err(failure) => self.op_over(c, tag, Err(failure)),
        }
    }

    pub(super) fn commit_op(&mut self, c: usize) {
        let Some(running) = self.clients[c].running.take() else { return };
        let mine = self.semaphore == Some((c, self.clients[c].life));
        let reaped = self.tables.is_reaped(slot_of(c), self.slots[c].incarnation);
        if !mine || reaped || !self.is_live(c) {
            self.lost(c, "it lost the semaphore");
            return;
        }
        let Running { tag, op, change, epoch } = running;
        self.note_grant(c, &op);
        self.commit(c, |t| {
            for (slot, incarnation) in &change.reaped {
                let old = &mut t.header.reaped[slot.index()];
                *old = (*old).max(*incarnation);
            }
            for (slot, record) in change.clients {
                t.clients[slot.index()] = record;
            }
            for (volume, table) in change.volumes {
                t.volumes[volume.index()] = table;
            }
        });
        self.op_over(c, tag, Ok(OpDone::Committed { epoch }));
    }

    fn commit(&mut self, c: usize, change: impl FnOnce(&mut lockdriver::tables::Tables)) {
        let epoch = self.next_epoch(c);
        let mut tables = (*self.tables).clone();
        change(&mut tables);
        tables.header.commit = CommitNo { epoch, count: 1 };
        self.set_tables(tables);
        self.clients[c].view.tables = Arc::clone(&self.tables);
    }

    fn op_over(&mut self, c: usize, tag: Option<OpTag>, done: Result<OpDone, Failure>) {
        self.semaphore = None;
        match tag {
            Some(tag) => self.post(c, Input::Op(tag, done)),
            None => self.logged_on(c, done),
        }
        if !self.clients[c].ops.is_empty() {
            self.at(Duration::ZERO, c, Event::TryOp);
        }
    }

    /// Oracle: who may take a grant by what it has just read under the semaphore, and for which request.
    fn check_grant(&mut self, c: usize, op: &TableOp) {
        let TableOp::TakeGrant { volume, request, .. } = op else { return };
        let tables = Arc::clone(&self.tables);
        let Some((_, table)) = tables.find_volume_uuid(*volume) else { return };
        if let Some(next) = table.next.filter(|n| n.slot.index() != c) {
            let n = next.slot.index();
            let stands =
                self.pages[n].as_ref().is_some_and(|p| p.request(*volume).is_some_and(|r| r.id == next.request));
            let there = self.clients[n].engine.is_some()
                && !self.clients[n].paused
                && self.slots[n].incarnation == next.incarnation
                && self.now >= self.slots[n].rotten_until
                && self.clients[n].engine.as_ref().is_some_and(|e| e.page().request(*volume).is_some());
            let free = self.free_since.get(volume).copied().unwrap_or(self.now);
            let seen_alive = self.clients[c].view.peers[n].is_alive();
            if stands && there && seen_alive && self.now < free + NEXT_KEPT {
                self.fail(format!("{} takes what was promised to {}", NAMES[c], NAMES[n]));
            }
        }
        if let Some(id) = request {
            // One that crashed right after its mount finds its request in its page, and asks again.
            if self.mounted_for.get(id) == Some(&self.clients[c].life) {
                self.fail(format!("{} is granted its request twice", NAMES[c]));
            }
        }
    }

    fn note_grant(&mut self, c: usize, op: &TableOp) {
        let TableOp::TakeGrant { volume, clean_only, .. } = op else { return };
        let tables = Arc::clone(&self.tables);
        let Some((_, table)) = tables.find_volume_uuid(*volume) else { return };
        let skips = self.clients[c].engine.as_ref().and_then(|e| e.volumes.get(volume)?.skip_inflight);
        if skips.is_some() && skips == table.writer.map(|g| g.epoch) {
            // `--yes-i-know`: a human took that risk.
            self.kernel.waive(*volume);
        }
        if !clean_only {
            self.grants.push((*volume, slot_of(c)));
        }
    }

    // --------------------------------------------------------------------------------------------------------- jobs

    pub(super) fn job_end(&mut self, c: usize, volume: Uuid, job: &Job) {
        let live = self.is_live(c);
        let may_fail = !matches!(job, Job::FenceWriter | Job::Measure);
        let faulty = may_fail && self.faults.jobs > 0 && self.rng.one_in(self.faults.jobs);
        let done = if faulty {
            let half = self.rng.one_in(2);
            self.kernel.undo(c, volume, job, half)
        } else {
            let (now, mut rng) = (self.now, self.rng.clone());
            let done = self.kernel.end(c, volume, job, live, now, &mut rng);
            self.rng = rng;
            done
        };
        self.note(|_| format!("{}: job of {volume} ended: {done:?}", NAMES[c]));
        match (&done, job) {
            (JobDone::Published { generation: Some(generation), .. }, _)
            | (JobDone::Stopped { generation: Some(generation), .. }, Job::StopWriter { .. })
                if live =>
            {
                self.raise(c, volume, *generation);
            }
            (JobDone::WriterMounted { .. }, Job::MountWriter { .. }) => {
                // What is mounted only to be brought in order may have to go back before the own request is served.
                let engine = self.clients[c].engine.as_ref();
                let engine = engine.filter(|e| e.volumes.get(&volume).is_some_and(|v| !v.cleaning));
                if let Some(request) = engine.and_then(|e| e.page().request(volume).map(|r| r.id)) {
                    self.mounted_for.insert(request, self.clients[c].life);
                }
            }
            _ => {}
        }
        self.post(c, Input::Job(volume, done));
    }

    /// What everybody waits for, for a message.
    pub(super) fn state(&self) -> String {
        let mut lines = Vec::new();
        for table in self.tables.volumes.iter().flatten() {
            let state: BTreeMap<&str, String> = BTreeMap::from([
                ("writer", format!("{:?}", table.writer)),
                ("next", format!("{:?}", table.next)),
                ("dirty", format!("{} last {}", table.dirty_since, table.last)),
            ]);
            lines.push(format!("{} {:?}: {state:?}", table.name, table.readers));
        }
        for (client, name) in self.clients.iter().zip(NAMES) {
            lines.push(format!(
                "{name}: up {} paused {} open commands {:?} jobs {} ops {}",
                client.up,
                client.paused,
                client.open_commands,
                client.jobs,
                client.ops.len()
            ));
            let Some(engine) = client.engine.as_ref() else { continue };
            for volume in engine.volumes.values() {
                lines.push(format!(
                    "   {}: {:?} mounted {:?} lingering {:?} announced {:?} job {:?} op {} release {:?} failure {:?} reason {:?} request {:?}",
                    volume.name, volume.writer, volume.mounted, volume.lingering, volume.announced, volume.job,
                    volume.busy_op, volume.release, volume.failure.as_ref().map(|f| &f.failure.why), volume.reason,
                    engine.page().request(volume.uuid).map(|r| (r.id, r.number, r.to)),
                ));
            }
        }
        lines.join("\n")
    }
}
