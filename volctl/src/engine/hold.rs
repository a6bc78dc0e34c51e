//! Which snapshots may be deleted: retired first, and held by nobody who is not reaped (section 8, "Holds").

use ondisk::Generation;

use super::Engine;
use super::volume::{Volume, Writing};
use super::world::{Peer, World};

impl Engine {
    /// The snapshots that nobody needs, once the page that retires them was on disk before this poll's reads began.
    pub(crate) fn deletable(&self, volume: &Volume, writing: &Writing, world: &World<'_>) -> Vec<Generation> {
        let Some(entry) = self.page.volume(volume.uuid).copied() else { return Vec::new() };
        let on = self.setup.switches;
        let said = volume.retire_sequence != 0 && volume.retire_sequence <= world.page_on_disk;
        if on.retired_before_delete && !said || entry.retired.is_none() {
            return Vec::new();
        }
        let unused =
            |g: &&Generation| **g <= entry.retired && !entry.holds(**g) && !self.held_by_another(volume, **g, world);
        writing.snapshots.iter().filter(unused).copied().collect()
    }

    fn held_by_another(&self, volume: &Volume, generation: Generation, world: &World<'_>) -> bool {
        // A paused machine may still be reading: what a dead reader held is kept for a while, over its next log-on.
        let on = self.setup.switches;
        on.dead_readers_hold && self.reaper.dead_hold(volume.uuid, generation, world.now, self.setup.periods.dead_hold)
            || world.peers.iter().filter(|p| p.slot != self.me()).any(|p| self.holds(p, volume, generation, world))
    }

    fn holds(&self, peer: &Peer, volume: &Volume, generation: Generation, world: &World<'_>) -> bool {
        let client = peer.slot.index() < world.tables.clients.len();
        client
            && !peer.reaped
            && !peer.is_off()
            && match peer.current_page() {
                None => self.setup.switches.unknown_counts_as_open,
                Some(page) => page.volume(volume.uuid).is_some_and(|e| e.holds(generation)),
            }
    }
}
