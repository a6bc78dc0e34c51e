//! Who writes each volume, since when this login sees it: for the status, and as events for the time line.
//!
//! The tables name the writer and the epoch of its grant, but no time of day. So the time is the one at which this login
//! saw the grant first: exact for what changes while it looks, a lower bound for what it found.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use ondisk::{GrantState, SlotIndex, Uuid, VolumeTable};

use super::Engine;
use super::effect::Fact;
use super::world::World;
use crate::wire::event::EventName;

/// A grant as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tenure {
    slot: SlotIndex,
    epoch: u64,
    revoked: bool,
    since: Duration,
}

/// The grants that the last poll showed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tenures {
    seen: BTreeMap<Uuid, Option<Tenure>>,
}

/// Nothing that the engine does follows from it, only what it tells: two engines that differ in nothing else are the same.
/// With the times in it the model checker would search each case once for every time at which a grant can be seen first.
impl Hash for Tenures {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Tenures {
    /// For how long the present writer is seen to have the volume.
    pub(crate) fn age(&self, table: &VolumeTable, now: Duration) -> Option<Duration> {
        let grant = table.writer?;
        let tenure = self.seen.get(&table.uuid).copied().flatten()?;
        (tenure.epoch == grant.epoch).then(|| now.saturating_sub(tenure.since))
    }
}

impl Engine {
    /// Notes what changed since the last poll. The own grants have their own events when their mounts are there and gone.
    pub(crate) fn watch_writers(&mut self, world: &World<'_>) {
        self.tenures.seen.retain(|uuid, _| world.table(*uuid).is_some());
        for table in world.tables.volumes.iter().flatten() {
            let before = self.tenures.seen.get(&table.uuid).copied().flatten();
            let same = |t: &Tenure| table.writer.is_some_and(|g| g.epoch == t.epoch);
            let now = table.writer.filter(|g| g.state != GrantState::Pending).map(|g| Tenure {
                slot: g.slot,
                epoch: g.epoch,
                revoked: g.state == GrantState::Revoked,
                since: before.filter(same).map_or(world.now, |t| t.since),
            });
            if before != now || !self.tenures.seen.contains_key(&table.uuid) {
                self.tenures.seen.insert(table.uuid, now);
                self.tell_tenure(table, before, now, world);
            }
        }
    }

    fn tell_tenure(&mut self, table: &VolumeTable, before: Option<Tenure>, now: Option<Tenure>, world: &World<'_>) {
        let name = table.name.as_str();
        let other = |t: &Tenure| t.slot != self.me();
        let same = before.zip(now).is_some_and(|(b, n)| b.epoch == n.epoch);
        let mut facts = Vec::new();
        if let Some(gone) = before.filter(|t| !same && other(t)) {
            let who = world.name(gone.slot);
            let text = format!("{name}: {who} has the write privilege no more");
            facts.push(Fact::of(EventName::PeerReleased, name, text).client(who));
        }
        if let Some(new) = now.filter(|t| !same && other(t)) {
            let who = world.name(new.slot);
            let text = format!("{name}: {who} has the write privilege, by grant {}", new.epoch);
            facts.push(Fact::of(EventName::PeerGranted, name, text).client(who));
        }
        if let Some(taken) = now.filter(|t| t.revoked && !before.is_some_and(|b| same && b.revoked)) {
            let who = world.name(taken.slot);
            let text = format!("{name}: the write privilege is being taken from {who}");
            facts.push(Fact::of(EventName::GrantRevoked, name, text).client(who));
        }
        for fact in facts {
            self.fact(fact);
        }
    }
}
