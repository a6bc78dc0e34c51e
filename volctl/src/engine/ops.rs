//! The transactions: what a client may change in the tables, looked at once more under the semaphore (sections 4 and 7).
//!
//! Pure: tables and fresh slots in, a change or a refusal out. `TakeGrant` here is the one place in the program where a
//! write privilege comes into being.

use std::time::Duration;

use lockdriver::tables::Tables;
use lockdriver::transaction::Change;
use ondisk::{
    Generation, Grant, GrantState, InFlight, Incarnation, Label, NextWriter, ReadersPolicy, RequestId, SlotIndex, Uuid,
    VolumeIndex, VolumeTable,
};

use super::rules;
use super::switches::Switches;
use super::world::{Peer, World};
use crate::wire::outcome::Failure;

/// A change of the tables.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TableOp {
    /// The log-on transaction: ends the own older grants, the first way, or reaps the own older incarnations (section 6).
    LogOn {
        /// The host's name, for people.
        host: Label,
        /// Old gates were closed and drained in this very kernel.
        first_way: bool,
    },
    /// Take the write privilege.
    TakeGrant {
        /// Of which volume.
        volume: Uuid,
        /// For which request of the own page, if it stands there.
        request: Option<RequestId>,
        /// Only to replay, publish and release a dirty volume.
        clean_only: bool,
        /// How long this host may hold back writes.
        inflight: InFlight,
        /// The grant whose holder's death the engine has waited out (its epoch), if any.
        outwaited: Option<u64>,
        /// The promise that was kept long enough, if any; a newer one is not over by that.
        next_over: Option<NextWriter>,
    },
    /// Pending to held: every other gate is closed.
    Hold {
        /// Of which volume.
        volume: Uuid,
        /// The grant's epoch.
        epoch: u64,
    },
    /// Give the write privilege back.
    Release {
        /// Of which volume.
        volume: Uuid,
        /// The grant's epoch.
        epoch: u64,
        /// The last published generation, if one was published under the grant.
        generation: Option<Generation>,
        /// The state on disk is a published one.
        clean: bool,
        /// Milliseconds since 1970 of the publish.
        modified_ms: i64,
        /// The check that was due was done.
        checked: bool,
        /// To whom it is promised.
        next: Option<(SlotIndex, RequestId)>,
    },
    /// Take the grant back from a living writer (takeover); the volume is promised to the own request.
    Revoke {
        /// Of which volume.
        volume: Uuid,
        /// Which grant.
        epoch: u64,
        /// The administrator's request.
        request: RequestId,
    },
    /// End silent incarnations.
    Reap {
        /// Slots and the judged incarnations.
        dead: Vec<(SlotIndex, Incarnation)>,
    },
}

/// What a transaction did.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum OpDone {
    /// Committed, under this epoch.
    Committed {
        /// The tenure's epoch.
        epoch: u64,
    },
    /// There was nothing to change.
    Nothing,
}

/// Who acts, under which epoch.
#[derive(Debug, Clone, Copy)]
pub struct Actor {
    /// The own slot.
    pub slot: SlotIndex,
    /// The own login.
    pub incarnation: Incarnation,
    /// The tenure.
    pub epoch: u64,
}

/// The change that `op` makes now, or why it may not be. None: nothing to change.
pub fn apply(op: &TableOp, actor: Actor, world: &World<'_>) -> Result<Option<Change>, Failure> {
    apply_with(Switches::ALL, op, actor, world)
}

/// As [`apply`], with some rules taken out: for tests that show what each is there for.
#[doc(hidden)]
pub fn apply_with(on: Switches, op: &TableOp, actor: Actor, world: &World<'_>) -> Result<Option<Change>, Failure> {
    match op {
        TableOp::LogOn { host, first_way } => {
            log_on(actor, world, host, *first_way || !on.second_way_keeps_grants).map(Some)
        }
        TableOp::TakeGrant { volume, request, clean_only, inflight, outwaited, next_over } => {
            let take = Take {
                request: *request,
                clean_only: *clean_only,
                inflight: *inflight,
                outwaited: *outwaited,
                next_over: *next_over,
            };
            take_grant(on, actor, world, *volume, take).map(Some)
        }
        TableOp::Hold { volume, epoch } => hold(on, actor, world, *volume, *epoch).map(Some),
        TableOp::Release { volume, epoch, generation, clean, modified_ms, checked, next } => {
            let (index, mut table) = own_grant(actor, world, *volume, *epoch)?;
            let revoked = table.writer.take().is_some_and(|g| g.state == GrantState::Revoked);
            if let Some(generation) = generation {
                table.last = (*generation).max(table.last);
                table.modified_ms = *modified_ms;
            }
            if *clean || !on.dirty_until_published {
                table.dirty_since = 0;
            }
            if *checked {
                table.check_due = false;
            }
            // Who had the grant revoked was promised the volume by that.
            if !(revoked && table.next.is_some()) {
                table.next = next.and_then(|(slot, request)| {
                    let peer = world.peer(slot)?;
                    Some(NextWriter { slot, incarnation: peer.incarnation, request })
                });
            }
            Ok(Some(volume_change(index, table)))
        }
        TableOp::Revoke { volume, epoch, request } => revoke(actor, world, *volume, *epoch, *request),
        TableOp::Reap { dead } => Ok(reap(on, world, dead)),
    }
}

fn volume_change(index: VolumeIndex, table: VolumeTable) -> Change {
    Change { volumes: vec![(index, Some(table))], ..Change::default() }
}

/// A volume's table and place, as the tables have it now.
pub fn find(world: &World<'_>, volume: Uuid) -> Result<(VolumeIndex, VolumeTable), Failure> {
    world
        .tables
        .volumes
        .iter()
        .enumerate()
        .find_map(|(i, t)| {
            let table = t.as_ref().filter(|t| t.uuid == volume)?;
            Some((VolumeIndex(u16::try_from(i).ok()?), table.clone()))
        })
        .ok_or_else(|| {
            Failure::refused(
                "the volume is gone",
                "an administrator removed it from the tables",
                "see `volctl volume list --control CONTROL`",
            )
        })
}

fn lost_grant() -> Failure {
    Failure::refused(
        "the write privilege is not here any more",
        "the tables name another writer, or none",
        "see `volctl status`; ask for it again",
    )
}

fn own_grant(actor: Actor, world: &World<'_>, volume: Uuid, epoch: u64) -> Result<(VolumeIndex, VolumeTable), Failure> {
    let (index, table) = find(world, volume)?;
    let own =
        table.writer.is_some_and(|g| g.slot == actor.slot && g.incarnation == actor.incarnation && g.epoch == epoch);
    if own { Ok((index, table)) } else { Err(lost_grant()) }
}

fn log_on(actor: Actor, world: &World<'_>, host: &Label, first_way: bool) -> Result<Change, Failure> {
    let record = world.tables.clients.get(actor.slot.index()).cloned().flatten();
    let Some(mut record) = record.filter(|r| r.enabled) else {
        return Err(Failure::refused(
            format!("client {} may not log on", world.name(actor.slot)),
            "the tables do not have it, or it is disabled",
            "an administrator can add or enable it: `volctl set-client NAME enabled on --control CONTROL`",
        ));
    };
    record.logged_on = actor.incarnation;
    record.host = host.clone();
    let mut change = Change { clients: vec![(actor.slot, Some(record))], ..Change::default() };
    if first_way {
        for (i, table) in world.tables.volumes.iter().enumerate() {
            let Some(table) = table else { continue };
            let Some(grant) = table.writer else { continue };
            if grant.slot == actor.slot && grant.incarnation < actor.incarnation {
                let mut table = table.clone();
                table.check_due |= grant.state != GrantState::Pending;
                table.writer = None;
                change.volumes.push((VolumeIndex(u16::try_from(i).unwrap_or(u16::MAX)), Some(table)));
            }
        }
    } else if actor.incarnation.0 > 1 {
        change.reaped.push((actor.slot, Incarnation(actor.incarnation.0 - 1)));
    }
    Ok(change)
}

struct Take {
    request: Option<RequestId>,
    clean_only: bool,
    inflight: InFlight,
    outwaited: Option<u64>,
    next_over: Option<NextWriter>,
}

fn take_grant(on: Switches, actor: Actor, world: &World<'_>, volume: Uuid, take: Take) -> Result<Change, Failure> {
    let (index, mut table) = find(world, volume)?;
    rules::may_ask(world, actor.slot, &table)?;
    if let Some(grant) = table.writer {
        if on.grant_looks_again && !rules::is_over(on, world, &grant, volume, take.outwaited) {
            return Err(rules::held(world, &grant));
        }
        if grant.state != GrantState::Pending && !world.holder_left(&grant) {
            table.check_due = true;
        }
    }
    let for_me = table.next.is_some_and(|n| n.slot == actor.slot && Some(n.request) == take.request);
    if on.promise_is_kept && !for_me && (take.next_over.is_none() || take.next_over != table.next) {
        rules::not_promised(world, actor.slot, &table)?;
    }
    if take.clean_only && !is_dirty(&table) {
        // Nothing was written under a pending grant: it goes with its holder (trace C15).
        return match table.writer.take() {
            Some(_) => Ok(volume_change(index, table)),
            None => Err(Failure::busy("it is clean", "somebody else has seen to it", "nothing to do")),
        };
    }
    let exclusive = table.readers == ReadersPolicy::Exclusive;
    if exclusive && !on.pending_first && world.others_open(on, actor.slot, volume) {
        return Err(not_free(&table));
    }
    let pending = exclusive && on.pending_first;
    let state = if pending { GrantState::Pending } else { GrantState::Held };
    table.writer = Some(Grant::new(actor.slot, actor.incarnation, actor.epoch, take.inflight, state));
    table.next = None;
    if !pending || !on.pending_dirties_nothing {
        mark_dirty(on, &mut table, actor.epoch);
    }
    Ok(volume_change(index, table))
}

/// An older mark stays: the state before it was not published either.
fn mark_dirty(on: Switches, table: &mut VolumeTable, epoch: u64) {
    if table.dirty_since == 0 && on.dirty_is_set {
        table.dirty_since = epoch;
    }
}

/// Would a reader of an `exclusive` or `snapshot` volume have to wait for a writer to bring it in order?
/// A volume that was never published counts as dirty, with every policy but `live` (section 8).
pub fn is_dirty(table: &VolumeTable) -> bool {
    table.readers != ReadersPolicy::Live && (table.dirty_since != 0 || table.last.is_none())
}

/// Pending becomes held once every other gate is closed. The pages are those read after the pending grant was
/// committed: a reader that announced itself before that is seen here, a later one sees the grant (trace A7).
fn hold(on: Switches, actor: Actor, world: &World<'_>, volume: Uuid, epoch: u64) -> Result<Change, Failure> {
    let (index, mut table) = own_grant(actor, world, volume, epoch)?;
    let mut grant = table.writer.filter(|g| g.state == GrantState::Pending).ok_or_else(lost_grant)?;
    if on.pending_waits_for_gates && world.others_open(on, actor.slot, volume) {
        return Err(not_free(&table));
    }
    grant.state = GrantState::Held;
    table.writer = Some(grant);
    mark_dirty(on, &mut table, epoch);
    Ok(volume_change(index, table))
}

fn not_free(table: &VolumeTable) -> Failure {
    Failure::busy(
        format!("{} is not free of readers yet", table.name),
        "another client may still have its gate open",
        "its files are being closed; it goes on by itself",
    )
}

fn revoke(
    actor: Actor,
    world: &World<'_>,
    volume: Uuid,
    epoch: u64,
    request: RequestId,
) -> Result<Option<Change>, Failure> {
    let (index, mut table) = find(world, volume)?;
    rules::may_ask(world, actor.slot, &table)?;
    rules::is_admin(world, actor.slot)?;
    let Some(mut grant) = table.writer.filter(|g| g.epoch == epoch) else {
        return Err(lost_grant());
    };
    if grant.state == GrantState::Revoked {
        return Ok(None);
    }
    grant.state = GrantState::Revoked;
    table.writer = Some(grant);
    table.next = Some(NextWriter { slot: actor.slot, incarnation: actor.incarnation, request });
    Ok(Some(volume_change(index, table)))
}

/// Is the client silent, and its end not yet written down?
pub fn to_reap(peer: &Peer) -> bool {
    peer.silent && !peer.reaped && (peer.logged_on || !peer.known)
}

/// Has the grant's holder logged on anew, and its login of the grant was not ended?
pub fn is_followed(world: &World<'_>, grant: &Grant) -> bool {
    let newer = world.peer(grant.slot).is_some_and(|p| p.known && p.incarnation > grant.incarnation);
    newer && !world.holder_reaped(grant)
}

/// An unreadable slot may be any login up to one above the highest known (section 5).
fn reap(on: Switches, world: &World<'_>, dead: &[(SlotIndex, Incarnation)]) -> Option<Change> {
    let header = &world.tables.header;
    let judged = |(slot, incarnation): &(SlotIndex, Incarnation)| {
        if !on.reaped_as_judged {
            return world.peer(*slot).map(|p| (*slot, p.incarnation));
        }
        let followed = |g: &Grant| g.slot == *slot && g.incarnation == *incarnation && is_followed(world, g);
        if world.tables.volumes.iter().flatten().filter_map(|t| t.writer.as_ref()).any(followed) {
            return Some((*slot, *incarnation));
        }
        let peer = world.peer(*slot).filter(|p| to_reap(p))?;
        if peer.known {
            return (peer.incarnation == *incarnation).then_some((*slot, *incarnation));
        }
        let highest = unreadable_up_to(world.tables, *slot, peer.incarnation);
        (!header.is_reaped(*slot, highest)).then_some((*slot, highest))
    };
    let still: Vec<_> = dead.iter().filter_map(judged).collect();
    let mut change = Change { reaped: still, ..Change::default() };
    if !on.reaping_clears_no_grant {
        clear_grants(world, &mut change);
    }
    (!change.reaped.is_empty()).then_some(change)
}

/// What a reaping must not do: only a test asks for it.
fn clear_grants(world: &World<'_>, change: &mut Change) {
    for (index, table) in world.tables.volumes() {
        let of_dead = |g: &Grant| change.reaped.iter().any(|(slot, n)| g.slot == *slot && g.incarnation <= *n);
        if table.writer.as_ref().is_some_and(of_dead) {
            change.volumes.push((index, Some(VolumeTable { writer: None, ..table.clone() })));
        }
    }
}

/// The highest login that an unreadable slot may be of: one above the highest that its legible sector or its client
/// record names. A log-on takes a higher one, and says so in the record before anything is opened.
pub fn unreadable_up_to(tables: &Tables, slot: SlotIndex, legible: Incarnation) -> Incarnation {
    let record = tables.client(slot).map_or(Incarnation(0), |r| r.logged_on);
    Incarnation(legible.max(record).0.saturating_add(1))
}

/// How long a grant's holder may hold back writes: the larger of what the table and its page say.
pub fn inflight_of(world: &World<'_>, grant: &Grant, volume: Uuid) -> Option<Duration> {
    let page = world
        .peer(grant.slot)
        .filter(|p| p.incarnation == grant.incarnation)
        .and_then(|p| p.current_page()?.volume(volume).map(|e| e.inflight));
    page.map_or(grant.inflight, |p| p.max(grant.inflight)).bound()
}
