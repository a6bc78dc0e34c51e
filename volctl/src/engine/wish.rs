//! The wish for the write privilege: the own request, or a dirty volume that nobody sees to (sections 7 and 8).

use std::collections::BTreeMap;
use std::time::Duration;

use ondisk::{GrantState, InFlight, ReadersPolicy, Uuid, VolumeTable};

use super::effect::Job;
use super::ops::{self, TableOp};
use super::volume::Volume;
use super::world::World;
use super::{Engine, rules};

/// A client that is not the first of the queue leaves a free volume to the first for this long.
const COURTESY: Duration = Duration::from_secs(2);
/// Each client that may write comes this much later than the one before it to bring a dirty volume in order: where the
/// first cannot mount it, the next one tries.
const CLEAN_TURN: Duration = Duration::from_secs(5);

impl Engine {
    /// Counts the waits of section 6 from the end of an own read that was begun when their beginning stood on the disk: what
    /// a transaction of this very client has just committed is newer than the last poll, and so may tables be that were
    /// loaded after the poll's slots. So the poll after the one that shows it counts.
    pub(crate) fn watch_grant(&mut self, volume: &mut Volume, table: &VolumeTable, world: &World<'_>) {
        let ending = table.writer.map(|g| (g.epoch, world.holder_reaped(&g), g.state == GrantState::Revoked));
        let counts = self.by_poll && volume.sighted == ending;
        volume.sighted = ending;
        let since = |old: Option<(u64, Duration)>, epoch: u64, holds: bool| match old {
            _ if !holds => None,
            Some((e, t)) if e == epoch => Some((e, t)),
            _ if counts => Some((epoch, world.now)),
            _ => None,
        };
        if let Some(grant) = table.writer {
            volume.reaped_since = since(volume.reaped_since, grant.epoch, world.holder_reaped(&grant));
            if !self.setup.switches.inflight_from_own_read
                && let (Some((_, since)), Some(peer)) = (&mut volume.reaped_since, world.peer(grant.slot))
            {
                *since = (*since).min(world.now.saturating_sub(peer.beat_age));
            }
            volume.revoked_since = since(volume.revoked_since, grant.epoch, grant.state == GrantState::Revoked);
        } else {
            volume.reaped_since = None;
            volume.revoked_since = None;
            if !ops::is_dirty(table) {
                volume.orphan_since = None;
            }
        }
        // A promise is kept from when it can be made use of: a revoked writer may take long to go.
        volume.next_since = match table.next {
            Some(next) if self.is_free(volume, table, world) => match volume.next_since {
                Some((old, t)) if old == next => Some((old, t)),
                _ => Some((next, world.now)),
            },
            _ => None,
        };
    }

    fn is_free(&self, volume: &Volume, table: &VolumeTable, world: &World<'_>) -> bool {
        let outwaited = self.outwaited(volume, table, world);
        table.writer.is_none_or(|g| rules::is_over(self.setup.switches, world, &g, volume.uuid, outwaited))
    }

    /// The epoch of the grant whose end was waited out.
    fn outwaited(&self, volume: &Volume, table: &VolumeTable, world: &World<'_>) -> Option<u64> {
        self.wait_end(volume, table, world).filter(|end| world.now >= *end)?;
        table.writer.map(|g| g.epoch)
    }

    /// Until when a dead or revoked grant must be waited out; None: never by time alone.
    pub(crate) fn wait_end(&self, volume: &Volume, table: &VolumeTable, world: &World<'_>) -> Option<Duration> {
        let grant = table.writer?;
        let skipped = volume.skip_inflight == Some(grant.epoch);
        let inflight = if skipped { Some(Duration::ZERO) } else { ops::inflight_of(world, &grant, volume.uuid) }?;
        let reaped = volume.reaped_since.map(|(_, t)| t + inflight);
        let after_dead = if self.setup.switches.revocation_waits_inflight { inflight } else { Duration::ZERO };
        let revoked = volume.revoked_since.map(|(_, t)| t + self.setup.periods.dead + after_dead);
        match (reaped, revoked) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// The volumes that this client wants and for which it waits for nothing but a lost writer's last writes, by the epochs of
    /// those grants: a storage that throws that writer out makes the wait needless (section 7).
    pub fn late_writes(&self, world: &World<'_>) -> Vec<(Uuid, u64)> {
        let of = |volume: &Volume| {
            let table = world.table(volume.uuid)?;
            let grant = table.writer.filter(|g| g.slot != self.me() && volume.skip_inflight != Some(g.epoch))?;
            let since = |seen: Option<(u64, Duration)>| seen.filter(|(e, _)| *e == grant.epoch).map(|(_, t)| t);
            let silent = since(volume.revoked_since).is_some_and(|t| world.now >= t + self.setup.periods.dead);
            let over = since(volume.reaped_since).is_some() || silent;
            let wanted = self.page.request(volume.uuid).is_some() || volume.orphan_since.is_some();
            (over && wanted && rules::may_ask(world, self.me(), table).is_ok()).then_some((volume.uuid, grant.epoch))
        };
        self.volumes.values().filter_map(of).collect()
    }

    /// The storage has thrown the writer of this grant out: nothing of it lands any more.
    pub fn thrown_out(&mut self, volume: Uuid, epoch: u64) {
        if let Some(volume) = self.volumes.get_mut(&volume) {
            volume.skip_inflight = Some(epoch);
        }
    }

    /// The volumes on which the storage has just refused a write of this host, by the epoch of the writer's grant: the writer, who
    /// cannot see it, learns it from the page.
    pub fn refused(&mut self, by: &BTreeMap<Uuid, u64>) {
        let volumes: Vec<Uuid> = self.volumes.keys().copied().collect();
        for volume in volumes {
            let epoch = by.get(&volume).copied().unwrap_or(0);
            self.say(volume, |e| e.refused = epoch);
        }
    }

    /// Takes a free volume for the own request, or to bring it in order.
    pub(crate) fn step_wish(&mut self, volume: &mut Volume, table: &VolumeTable, world: &World<'_>) {
        let request = self.page.request(volume.uuid).map(|r| r.id);
        let cleaning = request.is_none() && self.should_clean(volume, table, world);
        if self.leaving.is_some() || request.is_none() && !cleaning {
            return;
        }
        if let Err(failure) = rules::may_ask(world, self.me(), table) {
            if request.is_some() {
                self.drop_request(volume.uuid, &failure);
            }
            return;
        }
        if volume.pauses(world.now) || volume.op_pauses(world.now) {
            return;
        }
        if !self.is_free(volume, table, world) {
            volume.free_since = None;
            return;
        }
        let kept = |since: Duration| world.now < since + self.setup.periods.next_kept;
        let next_over = volume.next_since.filter(|(_, since)| !kept(*since)).map(|(next, _)| next);
        let for_me = table.next.is_some_and(|n| n.slot == self.me() && Some(n.request) == request);
        let promised = next_over.is_none() && rules::not_promised(world, self.me(), table).is_err();
        if !for_me && promised && self.setup.switches.promise_is_kept {
            return;
        }
        if !for_me && self.owes_courtesy(volume, table, world) {
            return;
        }
        if !volume.measured {
            // The grant carries how long this host may hold back writes: without it nobody could ever follow it.
            self.start_job(volume, Job::Measure);
            return;
        }
        volume.cleaning = cleaning;
        let op = TableOp::TakeGrant {
            volume: volume.uuid,
            request,
            clean_only: cleaning,
            inflight: self.page.volume(volume.uuid).map_or(InFlight::UNBOUNDED, |e| e.inflight),
            outwaited: self.outwaited(volume, table, world),
            next_over,
        };
        self.start_op(volume, op);
    }

    /// First come, first served: the first of the queue takes a free volume, the others give it a moment.
    fn owes_courtesy(&self, volume: &mut Volume, table: &VolumeTable, world: &World<'_>) -> bool {
        let others_first = !self.is_first(volume.uuid, table, world);
        if !others_first {
            volume.free_since = None;
            return false;
        }
        let since = *volume.free_since.get_or_insert(world.now);
        world.now < since + COURTESY
    }

    /// Has nobody else asked for the volume before this client did?
    pub(crate) fn is_first(&self, volume: Uuid, table: &VolumeTable, world: &World<'_>) -> bool {
        let queue = world.queue(table);
        let own = self.page.request(volume).map(|r| (r.number, self.me()));
        let first = queue.iter().find(|s| s.from.slot != self.me()).map(|s| (s.request.number, s.from.slot));
        first.is_none_or(|first| own.is_some_and(|own| own < first))
    }

    /// Is it this client's turn to replay, publish and release a dirty volume, or to clear a grant that is over?
    fn should_clean(&self, volume: &mut Volume, table: &VolumeTable, world: &World<'_>) -> bool {
        let orphan = match table.writer {
            None => ops::is_dirty(table),
            Some(grant) => {
                (table.readers != ReadersPolicy::Live || grant.state == GrantState::Pending)
                    && (world.holder_reaped(&grant) || world.holder_left(&grant))
            }
        };
        // Without a gate nothing can be replayed.
        if !orphan || self.setup.gateless {
            return false;
        }
        let since = *volume.orphan_since.get_or_insert(world.now);
        let able = |p: &&super::Peer| p.is_alive() && rules::may_ask(world, p.slot, table).is_ok();
        let before = world.peers.iter().filter(|p| p.slot < self.me()).filter(able).count();
        world.now >= since + CLEAN_TURN * u32::try_from(before).unwrap_or(u32::MAX)
    }
}
