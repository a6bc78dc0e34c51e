//! Ending silent clients: reaping ends everything of their incarnations, and clears no grant (section 6).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ondisk::{ClientPage, Generation, Incarnation, SlotIndex, Uuid};

use super::Engine;
use super::effect::{Effect, Fact, OpTag};
use super::ops::{self, OpDone, TableOp};
use super::world::{PageView, World};
use crate::wire::event::EventName;
use crate::wire::outcome::Failure;

/// One living client after the other tries, so that not all of them contend at once.
const TURN: Duration = Duration::from_millis(500);
/// Between two tries of the same client.
const RETRY: Duration = Duration::from_secs(2);

/// What is known of the dead.
#[derive(Debug, Clone, Default, Hash)]
pub struct Reaper {
    running: bool,
    not_before: Duration,
    silent_since: BTreeMap<(SlotIndex, Incarnation), Duration>,
    /// Of each client the login seen last, and the newest page that it showed.
    seen: BTreeMap<SlotIndex, (Incarnation, Option<Arc<ClientPage>>)>,
    died: Vec<Dead>,
}

/// A client that was reaped, and what it held.
#[derive(Debug, Clone, Hash)]
struct Dead {
    slot: SlotIndex,
    incarnation: Incarnation,
    /// First own read of the reaping.
    since: Duration,
    /// None: it cannot be known, so it held everything.
    page: Option<Arc<ClientPage>>,
}

impl Reaper {
    /// Is the generation kept for a reader that died less than `kept` ago, by the own clock?
    pub fn dead_hold(&self, volume: Uuid, generation: Generation, now: Duration, kept: Duration) -> bool {
        self.died
            .iter()
            .filter(|d| now < d.since + kept)
            .any(|d| d.page.as_ref().is_none_or(|page| page.volume(volume).is_some_and(|e| e.holds(generation))))
    }

    /// Takes note of a login that is over by reaping. True if it is news.
    fn note_death(
        &mut self,
        slot: SlotIndex,
        incarnation: Incarnation,
        page: Option<Arc<ClientPage>>,
        now: Duration,
    ) -> bool {
        if self.died.iter().any(|d| d.slot == slot && d.incarnation >= incarnation) {
            return false;
        }
        self.died.push(Dead { slot, incarnation, since: now, page });
        true
    }
}

impl Engine {
    /// Whose login ended by reaping, be it that a newer one is there already.
    fn watch_deaths(&mut self, world: &World<'_>) {
        let me = self.me();
        let kept = self.setup.periods.dead_hold;
        for peer in world.peers.iter().filter(|p| p.slot != me && p.incarnation.0 > 0) {
            let page = match &peer.page {
                PageView::Current(page) => Some(Arc::clone(page)),
                PageView::Unknown => None,
            };
            let before = self.reaper.seen.get(&peer.slot).cloned();
            let over = match before {
                Some((old, held)) if old < peer.incarnation && world.tables.header.is_reaped(peer.slot, old) => {
                    Some((old, held))
                }
                _ if peer.reaped && !peer.is_off() => Some((peer.incarnation, page.clone())),
                _ => None,
            };
            if let Some((incarnation, held)) = over
                && self.reaper.note_death(peer.slot, incarnation, held, world.now)
            {
                let name = world.name(peer.slot);
                let text = format!("client {name} is dead: its incarnation {incarnation} was reaped");
                self.fact(Fact::of(EventName::PeerReaped, "", text).client(name));
            }
            self.reaper.seen.insert(peer.slot, (peer.incarnation, page));
        }
        // The newest death of each client stays, so that it is told only once.
        let newest: BTreeMap<SlotIndex, Incarnation> =
            self.reaper.died.iter().map(|d| (d.slot, d.incarnation)).collect();
        self.reaper.died.retain(|d| world.now < d.since + kept || newest.get(&d.slot) == Some(&d.incarnation));
    }

    pub(crate) fn reap(&mut self, world: &World<'_>) {
        self.watch_deaths(world);
        let me = self.me();
        let turn = world.peers.iter().filter(|p| p.is_alive() && p.slot < me).count();
        let wait = TURN * u32::try_from(turn).unwrap_or(u32::MAX);
        let silent = world.peers.iter().filter(|p| p.slot != me && ops::to_reap(p));
        let mut due: BTreeMap<(SlotIndex, Incarnation), Duration> =
            silent.map(|p| ((p.slot, p.incarnation), wait)).collect();
        // A login that was followed by another one is over. Its log-on ends the older grants; where that was refused, or
        // never came, others do it.
        for grant in world.tables.volumes.iter().flatten().filter_map(|t| t.writer).filter(|g| g.slot != me) {
            if ops::is_followed(world, &grant) {
                due.insert((grant.slot, grant.incarnation), wait + self.setup.periods.dead);
            }
        }
        self.reaper.silent_since.retain(|key, _| due.contains_key(key));
        let since = &mut self.reaper.silent_since;
        due.retain(|key, wait| world.now >= *since.entry(*key).or_insert(world.now) + *wait);
        let dead: Vec<_> = due.into_keys().collect();
        if !dead.is_empty() && !self.reaper.running && world.now >= self.reaper.not_before && self.leaving.is_none() {
            self.reaper.running = true;
            self.reaper.not_before = world.now + RETRY;
            self.out.push(Effect::Table { tag: OpTag::Reaper, op: TableOp::Reap { dead } });
        }
    }

    pub(crate) fn finish_reap(&mut self, done: &Result<OpDone, Failure>) {
        self.reaper.running = false;
        if let Err(failure) = done {
            self.fact(Fact::of(EventName::Note, "", failure.to_string()));
        }
    }
}
