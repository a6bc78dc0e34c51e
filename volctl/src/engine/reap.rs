//! Ending silent clients: reaping ends everything of their incarnations, and clears no grant (section 6).

use std::collections::BTreeMap;
use std::time::Duration;

use ondisk::{Incarnation, SlotIndex};

use super::Engine;
use super::effect::{Effect, Fact, FactKind, OpTag};
use super::ops::{OpDone, TableOp};
use super::world::World;
use crate::wire::outcome::Failure;

/// One living client after the other tries, so that not all of them contend at once.
const TURN: Duration = Duration::from_millis(500);
/// Between two tries of the same client.
const RETRY: Duration = Duration::from_secs(2);

/// What is known of the dead.
#[derive(Debug, Default)]
pub struct Reaper {
    running: bool,
    not_before: Duration,
    silent_since: BTreeMap<(SlotIndex, Incarnation), Duration>,
    died: BTreeMap<(SlotIndex, Incarnation), Duration>,
}

impl Reaper {
    /// When this incarnation was first read as reaped, by the own clock.
    pub fn died_at(&self, slot: SlotIndex, incarnation: Incarnation) -> Option<Duration> {
        self.died.get(&(slot, incarnation)).copied()
    }
}

impl Engine {
    pub(crate) fn reap(&mut self, world: &World<'_>) {
        let mut dead = Vec::new();
        let turn = world.peers.iter().filter(|p| p.is_alive() && p.slot < self.me()).count();
        let wait = TURN * u32::try_from(turn).unwrap_or(u32::MAX);
        let me = self.me();
        for peer in world.peers.iter().filter(|p| p.slot != me) {
            let key = (peer.slot, peer.incarnation);
            if peer.reaped && peer.logged_on && !self.reaper.died.contains_key(&key) {
                self.reaper.died.insert(key, world.now);
                let name = world.name(peer.slot);
                let text = format!("client {name} is dead: its incarnation {} was reaped", peer.incarnation);
                self.fact(Fact::of(FactKind::Reaped, "", text).client(name));
            }
            let to_reap = peer.silent && !peer.reaped && (peer.logged_on || !peer.known);
            if !to_reap {
                self.reaper.silent_since.remove(&key);
                continue;
            }
            let since = *self.reaper.silent_since.entry(key).or_insert(world.now);
            if world.now >= since + wait {
                dead.push(key);
            }
        }
        if !dead.is_empty() && !self.reaper.running && world.now >= self.reaper.not_before && self.leaving.is_none() {
            self.reaper.running = true;
            self.reaper.not_before = world.now + RETRY;
            self.out.push(Effect::Table { tag: OpTag::Reaper, op: TableOp::Reap { dead } });
        }
    }

    pub(crate) fn finish_reap(&mut self, done: &Result<OpDone, Failure>) {
        self.reaper.running = false;
        if let Err(failure) = done {
            self.fact(Fact::of(FactKind::Trouble, "", failure.to_string()));
        }
    }
}
