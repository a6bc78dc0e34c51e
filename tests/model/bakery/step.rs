//! What each event does.

use std::sync::Arc;
use std::time::Duration;

use lockdriver::logon::LogonStep;
use lockdriver::semaphore::{LockError, Semaphore, Step, WAITING_POLL, WriteResult};

use super::act::{Action, Event};
use super::client::{Client, Life, LoggingOn, On};
use super::reading::{Head, MARGIN, Sample, Sector, poll};
use super::ready::{Place, changed};
use super::{Bakeries, CLIENTS, Late, State};

impl Bakeries {
    pub(super) fn act(&self, state: &mut State, action: Action) {
        if let Some(place) = changed(state, action.event) {
            for c in (0..self.clients).filter(|c| action.read_before >> c & 1 == 1) {
                sample(state, c, place);
            }
        }
        match action.event {
            Event::Begin(c) => with(state, c, |client, on| {
                client.wants -= 1;
                on.step = on.bakery.begin(client.now);
            }),
            Event::Write(c) => drop(write(state, c, WriteResult::Stable)),
            Event::WriteUnknown(c) => {
                let sector = write(state, c, WriteResult::Unknown);
                late_slot(state, c, sector, true);
            }
            Event::Beat(c) => beat(state, c),
            Event::BeatUnknown(c) => beat_unknown(state, c),
            Event::SampleBadly(c, slot, sector) => {
                state.left.bad_reads -= 1;
                let sample = Sample { bad: Some(sector), ..Sample::good(state.slots[slot]) };
                with(state, c, |_, on| on.samples[slot] = Some(sample));
            }
            Event::Judge(c, silent) => self.judge(state, c, silent),
            Event::Wait(c) => wait(state, c),
            Event::Admit(c) => admit(state, c, self.rules.entry_check),
            Event::Commit(c) => commit(state, c, None),
            Event::CommitRobbing(c, whom) => {
                state.left.robbed -= 1;
                commit(state, c, Some(whom));
            }
            Event::Release(c) => with(state, c, |_, on| {
                on.admitted = false;
                on.committed = false;
                on.step = on.bakery.release();
            }),
            Event::Lapse(c) => lapse(state, c),
            Event::LapseWriting(c) => {
                let Life::On(on) = &state.clients[c].life else { return };
                let sector = on.next_sector();
                lapse(state, c);
                late_slot(state, c, sector, false);
            }
            Event::LapseCommitting(c) => {
                let header = new_header(state, c, None);
                lapse(state, c);
                state.left.late -= 1;
                state.late = header.map(Late::Header);
            }
            Event::Kill(c) => {
                state.left.kills -= 1;
                gone(state, c, true);
            }
            Event::Land => land(state),
            Event::Start(c) => self.start(state, c),
            Event::LogonRead(c) => self.logon_read(state, c),
            Event::LogonWrite(c) => logon_write(state, c),
        }
        settle(state);
    }

    fn judge(&self, state: &mut State, c: usize, silent: u8) {
        let now: [Sample; CLIENTS] = std::array::from_fn(|s| Sample::good(state.slots[s]));
        let header = state.header;
        let (geometry, rules) = (&self.geometry, self.rules);
        with(state, c, |client, on| {
            let samples: [Sample; CLIENTS] = std::array::from_fn(|s| on.samples[s].unwrap_or(now[s]));
            let head = on.header.unwrap_or(header);
            let (poll, watch) = poll(geometry, rules, &samples, head, silent, client.now);
            on.step = on.bakery.polled(&poll, &watch, client.now);
            on.samples = [None; CLIENTS];
            on.header = None;
        });
    }

    fn start(&self, state: &mut State, c: usize) {
        let Life::Gone { killed } = state.clients[c].life else { return };
        state.left.restarts -= 1;
        let doubts = killed && matches!(state.late, Some(Late::Slot { slot, unknown: true, .. }) if slot == c);
        Arc::make_mut(&mut state.clients[c]).start_logon(killed, doubts, self.rules);
        match &mut state.late {
            // By the second log-on elsewhere it has landed, or never will.
            Some(Late::Slot { slot, logons, .. }) if !killed && *slot == c && *logons > 0 => *logons -= 1,
            Some(Late::Slot { slot, .. }) if !killed && *slot == c => state.late = None,
            _ => {}
        }
    }

    /// All reads of a log-on up to its next write, or to its end.
    fn logon_read(&self, state: &mut State, c: usize) {
        let samples = std::array::from_fn(|s| Sample::good(state.slots[s]));
        let client = Arc::make_mut(&mut state.clients[c]);
        let Life::LoggingOn(on) = &mut client.life else { return };
        let LoggingOn { logon, step, doubts } = &mut **on;
        if let LogonStep::WaitThenPoll(wait) = step {
            client.now += *wait;
            if *doubts && *wait >= MARGIN {
                *doubts = false;
                state.late = None;
            }
        }
        // It has waited for as long as it has to: the own slot stood still for `dead`.
        let (poll, watch) = poll(&self.geometry, self.rules, &samples, state.header, 1 << c, client.now);
        *step = logon.polled(&poll, &watch, client.now);
        if let LogonStep::CloseOldGates(_) = step {
            logon.gates_closed(true);
            *step = logon.polled(&poll, &watch, client.now);
        }
        match step {
            LogonStep::Claimed(claimed) => {
                let on = On::new(c, Sector::of(&claimed.sector), claimed.reap_own, self.rules);
                client.life = Life::On(Box::new(on));
            }
            LogonStep::Failed(_) => client.life = Life::Gone { killed: false },
            _ => {}
        }
    }

    /// Nothing is under way, somebody still wants in, and no reading of things as they are now brings anybody on.
    pub(super) fn is_wedged(&self, state: &State) -> bool {
        let waits = |c: &Client| match &c.life {
            Life::On(on) => {
                c.rests() || on.reads_nothing() && matches!(on.step, Step::WaitThenPoll(wait) if wait <= WAITING_POLL)
            }
            Life::Gone { .. } => c.wants == 0 || state.left.restarts == 0,
            Life::LoggingOn(_) => false,
        };
        let wanting = state.clients.iter().any(|c| !c.is_gone() && !c.rests());
        if !wanting || state.late.is_some() || !state.clients.iter().all(|c| waits(c)) {
            return false;
        }
        let silent = (0..CLIENTS).filter(|s| state.clients[*s].is_gone()).map(|s| 1u8 << s).sum();
        (0..CLIENTS).filter(|c| !state.clients[*c].is_gone() && !state.clients[*c].rests()).all(|c| {
            let mut after = state.clone();
            self.judge(&mut after, c, silent);
            matches!(&after.clients[c].life, Life::On(on) if matches!(on.step, Step::WaitThenPoll(wait) if wait <= WAITING_POLL))
        })
    }
}

/// Changes a client that is logged on.
fn with(state: &mut State, c: usize, change: impl FnOnce(&mut Client, &mut On)) {
    let client = Arc::make_mut(&mut state.clients[c]);
    match std::mem::replace(&mut client.life, Life::Gone { killed: false }) {
        Life::On(mut on) => {
            change(client, &mut on);
            client.life = Life::On(on);
        }
        other => client.life = other,
    }
}

/// Failures are dealt with at once: they end the daemon, or it stays out and tries no more.
fn settle(state: &mut State) {
    for c in 0..CLIENTS {
        let Life::On(on) = &state.clients[c].life else { continue };
        match &on.step {
            Step::Failed(why) if why.ends_incarnation() => gone(state, c, false),
            Step::Failed(_) => with(state, c, |_, on| on.step = Step::Left),
            _ => {}
        }
    }
}

/// The slot's write returns; what it says stands on the disk only if the result is known.
fn write(state: &mut State, c: usize, result: WriteResult) -> Sector {
    let mut sector = Sector::default();
    with(state, c, |client, on| {
        sector = on.next_sector();
        on.step = on.bakery.slot_written(result, client.now);
    });
    if result == WriteResult::Stable {
        state.slots[c][sector.place()] = sector;
    }
    sector
}

/// What every beat does to a slot that does not say what its client wrote last.
fn beat(state: &mut State, c: usize) {
    let Life::On(on) = &state.clients[c].life else { return };
    let sector = on.next_sector();
    state.slots[c][sector.place()] = sector;
}

fn beat_unknown(state: &mut State, c: usize) {
    let mut sector = Sector::default();
    with(state, c, |client, on| {
        sector = on.next_sector();
        if let Some(step) = on.bakery.beat_unknown(client.now) {
            on.step = step;
        }
    });
    late_slot(state, c, sector, true);
}

/// The reading under way takes this as it is.
fn sample(state: &mut State, c: usize, place: Place) {
    match place {
        Place::Slot(slot) => {
            let sample = Sample { gone: state.clients[slot].is_gone(), ..Sample::good(state.slots[slot]) };
            with(state, c, |_, on| on.samples[slot] = Some(sample));
        }
        Place::Header => {
            let header = state.header;
            with(state, c, |_, on| on.header = Some(header));
        }
    }
}

fn wait(state: &mut State, c: usize) {
    with(state, c, |client, on| {
        if let Step::WaitThenPoll(time) = on.step {
            client.now += time;
            on.step = Step::WaitThenPoll(Duration::ZERO);
        }
    });
    // A late write of one that lives lands within `margin`.
    if matches!(state.late, Some(Late::Slot { slot, .. }) if slot == c) {
        state.late = None;
    }
}

/// The first act inside.
fn admit(state: &mut State, c: usize, check: bool) {
    let (header, last) = (state.header.whole(), state.header.epoch);
    let (mut out, mut grows) = (false, true);
    with(state, c, |_, on| {
        on.admitted = true;
        let Some(tenure) = on.bakery.tenure() else { return };
        let admits = tenure.admits(&header);
        // Whoever was reaped while it lived was rightly not waited for, and learns it here (trace A9).
        grows = tenure.epoch.0 > last || admits == Err(LockError::Reaped);
        out = check && admits.is_err();
    });
    if !grows {
        state.harm = Some("an epoch does not grow");
    }
    if out {
        gone(state, c, false);
    }
}

/// The header that this client commits.
fn new_header(state: &State, c: usize, robbed: Option<usize>) -> Option<Head> {
    let Life::On(on) = &state.clients[c].life else { return None };
    let tenure = on.bakery.tenure()?;
    let mut header = Head { epoch: tenure.epoch.0, ..state.header };
    let own = on.reap_own.map(|n| (c, n.0));
    let dead = tenure.reap.iter().map(|(slot, n)| (slot.index(), n.0));
    let living = robbed.map(|s| (s, state.slots[s].iter().map(|x| u64::from(x.incarnation)).max().unwrap_or(0)));
    for (slot, incarnation) in dead.chain(own).chain(living) {
        header.reaped[slot] = header.reaped[slot].max(incarnation);
    }
    Some(header)
}

fn commit(state: &mut State, c: usize, robbed: Option<usize>) {
    let Some(header) = new_header(state, c, robbed) else { return };
    state.header = header;
    with(state, c, |_, on| {
        on.committed = true;
        on.reap_own = None;
    });
}

fn late_slot(state: &mut State, slot: usize, sector: Sector, unknown: bool) {
    state.left.late -= 1;
    state.late = Some(Late::Slot { slot, sector, logons: 1, unknown });
}

fn lapse(state: &mut State, c: usize) {
    state.left.lapses -= 1;
    gone(state, c, false);
}

fn gone(state: &mut State, c: usize, killed: bool) {
    let client = Arc::make_mut(&mut state.clients[c]);
    // What it had begun, it begins again.
    if matches!(&client.life, Life::On(on) if on.step != Step::Left && !on.committed) {
        client.wants += 1;
    }
    client.life = Life::Gone { killed };
}

fn land(state: &mut State) {
    match state.late.take() {
        Some(Late::Slot { slot, sector, .. }) => state.slots[slot][sector.place()] = sector,
        // The newest valid header counts, whenever the others land.
        Some(Late::Header(header)) if header.epoch > state.header.epoch => state.header = header,
        _ => {}
    }
}

fn logon_write(state: &mut State, c: usize) {
    let client = Arc::make_mut(&mut state.clients[c]);
    let Life::LoggingOn(on) = &mut client.life else { return };
    let LogonStep::WriteSlot { sector, .. } = &on.step else { return };
    let sector = Sector::of(sector);
    on.step = on.logon.slot_written(WriteResult::Stable, client.now, client.now);
    state.slots[c][sector.place()] = sector;
}
