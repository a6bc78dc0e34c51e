//! What the tables must never say.

use lockdriver::transaction::Change;
use ondisk::GrantState;
use volctl::engine::TableOp;

use super::client::Life;
use super::engines::VOLUME;
use super::{CLIENTS, State};

impl State {
    /// A grant is about to be committed: is it one that was promised to another, who lives and still asks?
    pub(super) fn look_at_grant(&mut self, c: usize, op: &TableOp) {
        let TableOp::TakeGrant { next_over: None, .. } = op else { return };
        let Some((_, table)) = self.tables.find_volume_uuid(VOLUME) else { return };
        let Some(next) = table.next.filter(|n| n.slot.index() != c) else { return };
        let n = next.slot.index();
        let stands = self.pages[n].as_ref().is_some_and(|p| p.1.request(VOLUME).is_some_and(|r| r.id == next.request));
        let asks = self.clients[n]
            .engine
            .as_ref()
            .is_some_and(|e| e.page().request(VOLUME).is_some_and(|r| r.id == next.request));
        let lives = self.clients[n].life == Life::Up && self.slots[n].incarnation == next.incarnation;
        if stands && asks && lives {
            self.harm = Some("one takes what was promised to another");
        }
    }

    /// A volume that nobody wrote must not be called dirty.
    pub(super) fn look_at_table(&mut self) {
        let Some((_, table)) = self.tables.find_volume_uuid(VOLUME) else { return };
        if table.writer.is_none() && table.dirty_since != 0 && !self.kernel.wrote(table.dirty_since) {
            self.harm = Some("a volume is dirty that nobody wrote");
        }
    }

    /// Whoever is reaped must be gone.
    pub(super) fn look_at_reaping(&mut self, change: &Change) {
        let lives = |c: usize| matches!(self.clients[c].life, Life::Up | Life::LoggingOn(_));
        let wrong = |(slot, n): &(ondisk::SlotIndex, ondisk::Incarnation)| {
            slot.index() < CLIENTS && lives(slot.index()) && self.slots[slot.index()].incarnation <= *n
        };
        if change.reaped.iter().any(wrong) {
            self.harm = Some("one is reaped that lives");
        }
    }

    /// Its beats confirm nothing: it was reaped, or a grant of it was revoked.
    pub(super) fn is_unconfirmed(&self, c: usize) -> bool {
        let (slot, incarnation) = (super::client::index(c), self.slots[c].incarnation);
        let revoked =
            |g: ondisk::Grant| g.state == GrantState::Revoked && g.slot == slot && g.incarnation == incarnation;
        let mut grants = self.tables.volumes.iter().flatten().filter_map(|t| t.writer);
        self.tables.is_reaped(slot, incarnation) || grants.any(revoked)
    }

    /// Somebody was told no more often than somebody said no.
    pub(super) fn look_at_noes(&mut self) {
        if self.noes > 0 {
            self.harm = Some("an old no answers a new request");
        }
    }

    pub(super) fn everybody(&self) -> std::ops::Range<usize> {
        0..CLIENTS
    }
}
