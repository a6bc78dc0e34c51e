//! Which events a client is ready for.

use lockdriver::logon::LogonStep;
use lockdriver::semaphore::{Step, WAITING_POLL};

use super::act::Action;
use super::client::{Client, Life, On};
use super::{Bakeries, CLIENTS, Late, State};

impl Bakeries {
    pub(super) fn actions_of(&self, state: &State, c: usize, out: &mut Vec<Action>) {
        let client = &state.clients[c];
        match &client.life {
            Life::Gone { .. } => {
                if state.left.restarts > 0 && client.wants > 0 {
                    out.push(Action::Start(c));
                }
                return;
            }
            Life::LoggingOn(on) => match on.step {
                LogonStep::WriteSlot { .. } => out.push(Action::LogonWrite(c)),
                _ => out.push(Action::LogonRead(c)),
            },
            Life::On(on) => self.actions_on(state, client, on, out),
        }
        if client.rests() {
            return;
        }
        if state.left.lapses > 0 {
            out.push(Action::Lapse(c));
            if let Life::On(on) = &client.life
                && state.left.late > 0
            {
                out.push(Action::LapseWriting(c));
                if on.admitted && !on.committed {
                    out.push(Action::LapseCommitting(c));
                }
            }
        }
        let doubted = matches!(state.late, Some(Late::Slot { slot, unknown: true, .. }) if slot == c);
        if state.left.kills > 0 && !doubted {
            out.push(Action::Kill(c));
        }
    }

    fn actions_on(&self, state: &State, client: &Client, on: &On, out: &mut Vec<Action>) {
        let c = client.slot;
        if state.left.late > 0 && !client.rests() {
            out.push(Action::BeatUnknown(c));
        }
        let sector = on.next_sector();
        if state.slots[c][sector.place()] != sector && !matches!(on.step, Step::WriteSlot { .. }) {
            out.push(Action::Beat(c));
        }
        match &on.step {
            Step::Left if client.wants > 0 => out.push(Action::Begin(c)),
            Step::WriteSlot { .. } => {
                out.push(Action::Write(c));
                if state.left.late > 0 {
                    out.push(Action::WriteUnknown(c));
                }
            }
            Step::WaitThenPoll(wait) if *wait > WAITING_POLL => out.push(Action::Wait(c)),
            Step::Poll | Step::WaitThenPoll(_) => self.actions_reading(state, c, on, out),
            Step::Entered(_) if !on.admitted => out.push(Action::Admit(c)),
            Step::Entered(_) if !on.committed => {
                out.push(Action::Commit(c));
                let lives = |s: &usize| *s != c && matches!(state.clients[*s].life, Life::On(_));
                if state.left.robbed > 0 {
                    out.extend((0..self.clients).filter(lives).map(|s| Action::CommitRobbing(c, s)));
                }
            }
            Step::Entered(_) => out.push(Action::Release(c)),
            _ => {}
        }
    }

    fn actions_reading(&self, state: &State, c: usize, on: &On, out: &mut Vec<Action>) {
        let missing: Vec<usize> = (0..self.clients).filter(|s| *s != c && on.samples[*s].is_none()).collect();
        for slot in &missing {
            out.push(Action::Sample(c, *slot));
            if state.left.bad_reads > 0 {
                out.extend([Action::SampleBadly(c, *slot, 0), Action::SampleBadly(c, *slot, 1)]);
            }
        }
        if on.header.is_none() {
            out.push(Action::SampleHeader(c));
        } else if missing.is_empty() {
            let gone: Vec<usize> = (0..CLIENTS).filter(|s| on.samples[*s].is_some_and(|x| x.gone)).collect();
            for chosen in 0..1u8 << gone.len() {
                let silent = gone.iter().enumerate().map(|(bit, slot)| (chosen >> bit & 1) << slot).sum();
                out.push(Action::Judge(c, silent));
            }
        }
    }
}
