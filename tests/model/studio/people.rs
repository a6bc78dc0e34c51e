//! Which events a client is ready for, and the commands of people.

use std::sync::Arc;

use volctl::engine::CommandId;

use super::act::Action;
use super::client::{Client, Life};
use super::{State, Studio};

impl Studio {
    pub(super) fn actions_of(&self, state: &State, c: usize, out: &mut Vec<Action>) {
        let client = &state.clients[c];
        match client.life {
            Life::Off => return,
            Life::Gone(killed) => {
                if killed && state.kernel.has_open(c) {
                    out.push(Action::Guardian(c));
                }
                // Elsewhere it waits until the slot was still for `dead`.
                if state.left.restarts > 0 && (killed || state.slots[c].beat < state.now) {
                    out.push(Action::Start(c));
                }
                return;
            }
            Life::LoggingOn(_) => {
                if state.semaphore.is_none() {
                    out.push(Action::LogOn(c));
                }
                return;
            }
            Life::Up => {}
        }
        if state.left.kills > 0 {
            out.push(Action::Kill(c));
        }
        if state.left.lapses > 0 {
            out.push(Action::Lapse(c));
        }
        if let Some(flight) = &client.flight {
            out.push(if flight.landed { Action::SlotWritten(c) } else { Action::PageWritten(c) });
        } else if client.half.is_some() {
            out.push(Action::PollPages(c));
        } else {
            self.actions_free(state, c, client, out);
        }
    }

    fn actions_free(&self, state: &State, c: usize, client: &Client, out: &mut Vec<Action>) {
        if client.engine.as_ref().is_some_and(|e| e.has_left()) && client.job.is_none() && client.running.is_none() {
            out.push(Action::LogOff(c));
            return;
        }
        out.push(Action::Poll(c));
        if state.left.leaves > 0 {
            out.push(Action::Leave(c));
        }
        if client.job.is_some() {
            out.push(Action::JobEnds(c));
        }
        if client.running.is_some() {
            out.push(Action::Commit(c));
        } else if !client.ops.is_empty() && state.semaphore.is_none() {
            out.push(Action::Look(c));
        }
        let next = self.case.people.iter().enumerate().find(|(n, (who, _))| *who == c && state.ran >> n & 1 == 0);
        if let Some((place, _)) = next {
            out.push(Action::Run(c, place));
        }
    }

    pub(super) fn run(&self, state: &mut State, c: usize, place: usize) {
        state.ran |= 1 << place;
        let command = self.case.people[place].1.clone();
        state.see(c);
        let client = Arc::make_mut(&mut state.clients[c]);
        client.view.page_on_disk = client.on_disk;
        client.commands += 1;
        let id = CommandId(client.commands);
        self.tell(state, c, |engine, client| engine.command(id, command, &client.view.world()));
    }
}
