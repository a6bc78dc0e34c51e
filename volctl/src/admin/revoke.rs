//! Administration under a live grant, hold or log-on: refused as busy, or with --force carried out as a revocation
//! (section 7). A live writer is never simply robbed: it is told, and its gate is closed, or its time is over, first.

use std::time::Duration;

use lockdriver::sys::clock::boottime;
use lockdriver::transaction::Change;
use ondisk::{Grant, GrantState, SlotIndex, Uuid, VolumeIndex, VolumeTable};

use crate::control::session::Session;
use crate::engine::ops::inflight_of;
use crate::engine::rules::grant_is_over;
use crate::engine::{Peer, World};
use crate::units::format_duration;
use crate::wire::outcome::Failure;

/// After `dead`, a writer whose host has no bound on late writes is waited for a little longer before it is named.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which grants a verb takes away.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scope {
    /// All of a client's.
    Client(SlotIndex),
    /// Whoever writes the volume.
    Volume(Uuid),
    /// This client's on this volume.
    Of(SlotIndex, Uuid),
}

impl Scope {
    fn covers(self, table: &VolumeTable) -> Option<Grant> {
        table.writer.filter(|grant| match self {
            Self::Client(slot) => grant.slot == slot,
            Self::Volume(volume) => table.uuid == volume,
            Self::Of(slot, volume) => grant.slot == slot && table.uuid == volume,
        })
    }
}

/// A grant that was revoked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Revoked {
    volume: Uuid,
    grant: Grant,
}

/// Grants whose holders have stopped, by volume and epoch, for [`clear_grants`].
pub(super) type Ended = Vec<(Uuid, u64)>;

/// Commits what `restrict` adds to the change together with the revocation of every grant in `scope`, and waits until
/// each is over: given back, its gate said to be closed, or `dead` and then `inflight` waited out.
///
/// # Errors
/// What `restrict` refuses; busy (5) naming a writer that did not stop.
pub(super) fn revoke(
    session: &Session,
    notes: &mut dyn FnMut(&str),
    scope: &Scope,
    restrict: &dyn Fn(&World<'_>, &mut Change) -> Result<(), Failure>,
) -> Result<Ended, Failure> {
    let revoked = super::commit(session, |_, world| {
        let mut change = Change::default();
        restrict(world, &mut change)?;
        let mut revoked = Vec::new();
        for (index, table) in world.tables.volumes() {
            let Some(grant) = scope.covers(table) else { continue };
            revoked.push(Revoked { volume: table.uuid, grant });
            if grant.state != GrantState::Revoked {
                let table = entry(&mut change, index, table);
                table.writer = Some(Grant { state: GrantState::Revoked, ..grant });
            }
        }
        Ok((Some(change), revoked))
    })?;
    let committed = boottime();
    let mut ended = Vec::new();
    for revoked in revoked {
        wait_for(session, notes, revoked, committed)?;
        ended.push((revoked.volume, revoked.grant.epoch));
    }
    Ok(ended)
}

/// The volume's table in a change, put there as it is if it was not yet.
pub(super) fn entry<'c>(change: &'c mut Change, index: VolumeIndex, table: &VolumeTable) -> &'c mut VolumeTable {
    let at = change.volumes.iter().position(|(i, t)| *i == index && t.is_some()).unwrap_or_else(|| {
        change.volumes.push((index, Some(table.clone())));
        change.volumes.len() - 1
    });
    change.volumes[at].1.as_mut().expect("just found or made with a table")
}

fn wait_for(
    session: &Session,
    notes: &mut dyn FnMut(&str),
    revoked: Revoked,
    committed: Duration,
) -> Result<(), Failure> {
    let timings = session.volume.superblock.timings;
    let Revoked { volume, grant } = revoked;
    let mut told = false;
    loop {
        let (over, who, name, inflight) = session.poll(|world| {
            let table = world.table(volume);
            let gone = table.is_none_or(|t| t.writer.is_none_or(|g| g.epoch != grant.epoch));
            let closed = world.holder_left(&grant) || world.holder_closed(&grant, volume);
            let name = table.map_or_else(String::new, |t| t.name.to_string());
            (gone || closed, world.name(grant.slot), name, inflight_of(world, &grant, volume))
        })?;
        let waited = boottime().saturating_sub(committed);
        if over || inflight.is_some_and(|late| waited > timings.dead() + late) {
            return Ok(());
        }
        if inflight.is_none() && waited > timings.dead() + PATIENCE {
            return Err(Failure::busy(
                format!("{who} has not stopped writing {name}"),
                format!("grant {} is revoked, but its host sets no bound on late writes", grant.epoch),
                format!("switch that host off, then `volctl takeover {name} --yes-i-know {who}` on another client"),
            ));
        }
        if !told {
            told = true;
            let most = inflight
                .map_or_else(String::new, |late| format!(", at most {}", format_duration(timings.dead() + late)));
            notes(&format!("waiting for {who} to stop writing {name}{most}"));
        }
        std::thread::sleep(timings.poll());
    }
}

/// Adds to the change that these grants are gone. Looked at once more: each must be over.
///
/// # Errors
/// Busy (5), naming who holds what.
pub(super) fn clear_grants(
    world: &World<'_>,
    scope: &Scope,
    ended: &[(Uuid, u64)],
    change: &mut Change,
) -> Result<(), Failure> {
    for (index, table) in world.tables.volumes() {
        let grant = scope.covers(table);
        if let Some(grant) = grant {
            refuse_live(world, table, &grant, ended)?;
            let crashed = grant.state != GrantState::Pending && !world.holder_left(&grant);
            let table = entry(change, index, table);
            table.writer = None;
            table.check_due |= crashed;
        }
        let promised = table.next.filter(|next| match scope {
            Scope::Client(slot) => next.slot == *slot,
            Scope::Volume(volume) => table.uuid == *volume,
            Scope::Of(slot, volume) => next.slot == *slot && table.uuid == *volume,
        });
        if promised.is_some() {
            entry(change, index, table).next = None;
        }
    }
    Ok(())
}

/// Refuses while a grant in `scope` is not over.
///
/// # Errors
/// Busy (5), naming who holds what.
pub(super) fn refuse_grants(world: &World<'_>, scope: &Scope) -> Result<(), Failure> {
    for (_, table) in world.tables.volumes() {
        if let Some(grant) = scope.covers(table) {
            refuse_live(world, table, &grant, &[])?;
        }
    }
    Ok(())
}

fn refuse_live(world: &World<'_>, table: &VolumeTable, grant: &Grant, ended: &[(Uuid, u64)]) -> Result<(), Failure> {
    let waited = ended.iter().find(|(volume, _)| *volume == table.uuid).map(|(_, epoch)| *epoch);
    if grant_is_over(world, grant, table.uuid, waited) {
        return Ok(());
    }
    let who = world.name(grant.slot);
    Err(Failure::busy(
        "nothing was changed",
        format!("rule live grant: {who} holds the write privilege of {}, by grant {}", table.name, grant.epoch),
        format!("ask {who} to release it, or use --force, which revokes it"),
    ))
}

/// Clients that may have the volume's gate open; administration slots have none.
pub(super) fn openers<'w>(world: &World<'w>, volume: Uuid) -> Vec<&'w Peer> {
    let clients = world.tables.clients.len();
    world.peers.iter().filter(|p| p.slot.index() < clients && p.may_have_open(volume)).collect()
}

/// Refuses while clients (all, or the one in `only`) may have the volume mounted.
///
/// # Errors
/// Busy (5), naming them.
pub(super) fn refuse_openers(world: &World<'_>, table: &VolumeTable, only: Option<SlotIndex>) -> Result<(), Failure> {
    let names: Vec<String> = openers(world, table.uuid)
        .into_iter()
        .filter(|p| only.is_none_or(|slot| p.slot == slot))
        .map(|p| world.name(p.slot))
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(Failure::busy(
        "nothing was changed",
        format!("rule live hold: {} may have {} mounted", names.join(", "), table.name),
        "stop using it there (`volctl unmount`), or use --force, which takes it away",
    ))
}

/// Waits until no client that lives has the volume's gate open; a silent one counts as gone after `dead`.
///
/// # Errors
/// Busy (5), naming who still has it.
pub(super) fn wait_until_closed(session: &Session, notes: &mut dyn FnMut(&str), volume: Uuid) -> Result<(), Failure> {
    wait(session, notes, |world| {
        let open = openers(world, volume).into_iter().filter(|p| !p.silent);
        let names: Vec<String> = open.map(|p| world.name(p.slot)).collect();
        let name = world.table(volume).map_or_else(String::new, |t| t.name.to_string());
        (!names.is_empty()).then(|| {
            let names = names.join(", ");
            (
                format!("waiting for {names} to close {name}"),
                Failure::busy(
                    format!("{name} is still in use"),
                    format!("rule live hold: {names} may have it mounted; it is taken away from now on"),
                    "close the programs that use it there, then try again",
                ),
            )
        })
    })
}

/// Waits until the client is logged off, reaped, or silent for `dead`.
///
/// # Errors
/// Busy (5): its daemon goes on.
pub(super) fn wait_until_off(session: &Session, notes: &mut dyn FnMut(&str), slot: SlotIndex) -> Result<(), Failure> {
    wait(session, notes, |world| {
        let peer = world.peer(slot)?;
        let name = world.name(slot);
        (!peer.is_off() && !peer.reaped && !peer.silent).then(|| {
            (
                format!("waiting for {name} to log off, or to be silent for the death time"),
                Failure::busy(
                    format!("client {name} is not removed"),
                    format!("rule live log-on: {name} is disabled now and holds nothing, but its daemon still beats"),
                    "stop its daemon, then try again",
                ),
            )
        })
    })
}

/// Polls until `blocks` sees nothing more, for a little more than the death time.
fn wait(
    session: &Session,
    notes: &mut dyn FnMut(&str),
    blocks: impl Fn(&World<'_>) -> Option<(String, Failure)>,
) -> Result<(), Failure> {
    let timings = session.volume.superblock.timings;
    let begun = boottime();
    let mut told = false;
    loop {
        let Some((note, failure)) = session.poll(&blocks)? else { return Ok(()) };
        if boottime().saturating_sub(begun) > timings.dead() + timings.margin() {
            return Err(failure);
        }
        if !told {
            told = true;
            notes(&note);
        }
        std::thread::sleep(timings.poll());
    }
}
