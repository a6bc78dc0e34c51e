//! Which events a client is ready for.

use lockdriver::logon::LogonStep;
use lockdriver::semaphore::{Step, WAITING_POLL};

use super::act::{Action, Event};
use super::client::{Client, Life, On};
use super::{Bakeries, Late, State};

impl Bakeries {
    pub(super) fn actions_of(&self, state: &State, c: usize, out: &mut Vec<Event>) {
        let client = &state.clients[c];
        match &client.life {
            Life::Gone { .. } => {
                if state.left.restarts > 0 && client.wants > 0 {
                    out.push(Event::Start(c));
                }
                return;
            }
            Life::LoggingOn(on) => match on.step {
                LogonStep::WriteSlot { .. } => out.push(Event::LogonWrite(c)),
                _ => out.push(Event::LogonRead(c)),
            },
            Life::On(on) => self.actions_on(state, client, on, out),
        }
        if client.rests() {
            return;
        }
        if state.left.lapses > 0 {
            out.push(Event::Lapse(c));
            if let Life::On(on) = &client.life
                && state.left.late > 0
            {
                out.push(Event::LapseWriting(c));
                if on.admitted && !on.committed {
                    out.push(Event::LapseCommitting(c));
                }
            }
        }
        if state.left.kills > 0 {
            out.push(Event::Kill(c));
        }
    }

    fn actions_on(&self, state: &State, client: &Client, on: &On, out: &mut Vec<Event>) {
        let c = client.slot;
        if state.left.late > 0 && !client.rests() {
            out.push(Event::BeatUnknown(c));
        }
        let sector = on.next_sector();
        if state.slots[c][sector.place()] != sector && !matches!(on.step, Step::WriteSlot { .. }) {
            out.push(Event::Beat(c));
        }
        match &on.step {
            Step::Left if client.wants > 0 => out.push(Event::Begin(c)),
            Step::WriteSlot { .. } => {
                out.push(Event::Write(c));
                if state.left.late > 0 {
                    out.push(Event::WriteUnknown(c));
                }
            }
            Step::WaitThenPoll(wait) if *wait > WAITING_POLL => out.push(Event::Wait(c)),
            Step::Poll | Step::WaitThenPoll(_) => self.actions_reading(state, c, on, out),
            Step::Entered(_) if !on.admitted => out.push(Event::Admit(c)),
            Step::Entered(_) if !on.committed => {
                out.push(Event::Commit(c));
                let lives = |s: &usize| *s != c && matches!(state.clients[*s].life, Life::On(_));
                if state.left.robbed > 0 {
                    out.extend((0..self.clients).filter(lives).map(|s| Event::CommitRobbing(c, s)));
                }
            }
            Step::Entered(_) => out.push(Event::Release(c)),
            _ => {}
        }
    }

    fn actions_reading(&self, state: &State, c: usize, on: &On, out: &mut Vec<Event>) {
        let others: Vec<usize> = (0..self.clients).filter(|s| *s != c).collect();
        if state.left.bad_reads > 0 {
            for slot in others.iter().filter(|s| on.samples[**s].is_none()) {
                out.extend([Event::SampleBadly(c, *slot, 0), Event::SampleBadly(c, *slot, 1)]);
            }
        }
        let is_gone = |s: &usize| on.samples[*s].map_or_else(|| state.clients[*s].is_gone(), |sample| sample.gone);
        let gone: Vec<usize> = others.into_iter().filter(is_gone).collect();
        for chosen in 0..1u8 << gone.len() {
            let silent = gone.iter().enumerate().map(|(bit, slot)| (chosen >> bit & 1) << slot).sum();
            out.push(Event::Judge(c, silent));
        }
    }

    /// The event, once for each set of clients that may have read what it changes just before.
    pub(super) fn with_readers(&self, state: &State, event: Event, out: &mut Vec<Action>) {
        let readers = match changed(state, event) {
            None => 0,
            Some(place) => (0..self.clients).filter(|c| may_read(state, *c, place)).map(|c| 1u8 << c).sum(),
        };
        let mut read_before = readers;
        loop {
            out.push(Action { event, read_before });
            if read_before == 0 {
                break;
            }
            read_before = (read_before - 1) & readers;
        }
    }
}

/// What a reading takes in one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A slot's sectors, and whether its client is gone.
    Slot(usize),
    Header,
}

/// What would read otherwise after the event. That somebody goes is not among it: whoever is gone only *may* be judged silent.
pub(super) fn changed(state: &State, event: Event) -> Option<Place> {
    match event {
        Event::Write(c) | Event::Beat(c) | Event::Start(c) | Event::LogonWrite(c) => Some(Place::Slot(c)),
        Event::Commit(_) | Event::CommitRobbing(..) => Some(Place::Header),
        Event::Land => match state.late.as_ref()? {
            Late::Slot { slot, .. } => Some(Place::Slot(*slot)),
            Late::Header(_) => Some(Place::Header),
        },
        _ => None,
    }
}

/// A reading of this client is under way and has not been there yet.
fn may_read(state: &State, c: usize, place: Place) -> bool {
    let Life::On(on) = &state.clients[c].life else { return false };
    let reads = match on.step {
        Step::Poll => true,
        Step::WaitThenPoll(wait) => wait <= WAITING_POLL,
        _ => false,
    };
    reads
        && match place {
            Place::Slot(slot) => slot != c && on.samples[slot].is_none(),
            Place::Header => on.header.is_none(),
        }
}
