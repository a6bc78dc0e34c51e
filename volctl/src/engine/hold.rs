//! Which snapshots may be deleted: retired first, and held by nobody who is not reaped (section 8, "Holds").

use ondisk::Generation;

use super::Engine;
use super::volume::{Volume, Writing};
use super::world::{Peer, World};

impl Engine {
    /// The snapshots that nobody needs, once the page that retires them was on disk before this poll's reads began.
    pub(crate) fn deletable(&mut self, volume: &mut Volume, writing: &Writing, world: &World<'_>) -> Vec<Generation> {
        let Some(entry) = self.page.volume(volume.uuid).copied() else { return Vec::new() };
        if volume.retire_sequence == 0 || volume.retire_sequence > world.page_on_disk || entry.retired.is_none() {
            return Vec::new();
        }
        let dead: Vec<Generation> = writing
            .snapshots
            .iter()
            .copied()
            .filter(|g| *g <= entry.retired && !entry.holds(*g) && !self.held_by_another(volume, *g, world))
            .collect();
        if let super::volume::Writer::Writing(w) = &mut volume.writer {
            w.snapshots.retain(|g| !dead.contains(g));
        }
        dead
    }

    fn held_by_another(&self, volume: &Volume, generation: Generation, world: &World<'_>) -> bool {
        world.peers.iter().filter(|p| p.slot != self.me()).any(|p| self.may_hold(p, volume, generation, world))
    }

    fn may_hold(&self, peer: &Peer, volume: &Volume, generation: Generation, world: &World<'_>) -> bool {
        let is_client = world.tables.clients.get(peer.slot.index()).is_some_and(Option::is_some);
        if !is_client || peer.is_off() {
            return false;
        }
        let says = peer.current_page().is_none_or(|page| page.volume(volume.uuid).is_some_and(|e| e.holds(generation)));
        if !peer.reaped {
            return says;
        }
        // A paused machine may still be reading: what a dead reader held is kept for a while, and outlives its next log-on.
        says && self
            .reaper
            .died_at(peer.slot, peer.incarnation)
            .is_none_or(|t| world.now < t + self.setup.periods.dead_hold)
    }
}
