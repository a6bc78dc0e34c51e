//! The rules of a request, in their order, each with its own refusal (section 7; 15B 1550-1570).

use ondisk::{Access, Grant, GrantState, SlotIndex, Uuid, VolumeTable};

use super::switches::Switches;
use super::world::World;
use crate::wire::outcome::Failure;

/// May this client ask for the write privilege at all? Mount access (1388), lockout (1396), write-enabled (1392).
pub fn may_ask(world: &World<'_>, slot: SlotIndex, table: &VolumeTable) -> Result<(), Failure> {
    let name = &table.name;
    let me = world.name(slot);
    let permission = table.permission(slot);
    let refused = |why: String, next: String| Err(Failure::refused(format!("no write access to {name}"), why, next));
    let Some(record) = world.tables.clients.get(slot.index()).and_then(Option::as_ref) else {
        return refused("rule client: this client is not in the tables".into(), "volctl client add".into());
    };
    if !record.enabled {
        return refused(
            format!("rule enabled: client {me} is disabled"),
            format!("an administrator can run `volctl set-client {me} enabled on`"),
        );
    }
    match permission.access {
        Access::Write => {}
        access => {
            return refused(
                format!("rule mount access: {me} has access {} to {name}", access.word()),
                format!("an administrator can run `volctl allow {me} {name} write`"),
            );
        }
    }
    if permission.lockout {
        return refused(
            format!("rule lockout: {me} may not ask for {name}"),
            format!("an administrator can run `volctl allow {me} {name} write --lockout off`"),
        );
    }
    if record.locked_out {
        return refused(
            format!("rule lockout: {me} may not ask for any volume"),
            format!("an administrator can run `volctl set-client {me} locked-out off`"),
        );
    }
    if !table.write_enabled {
        return refused(
            format!("rule write-enabled: nobody may write {name}"),
            format!("an administrator can run `volctl set {name} write-enabled on`"),
        );
    }
    Ok(())
}

/// May this client administer through its daemon?
pub fn is_admin(world: &World<'_>, slot: SlotIndex) -> Result<(), Failure> {
    let admin = world.tables.clients.get(slot.index()).and_then(Option::as_ref).is_some_and(|r| r.admin);
    if admin {
        return Ok(());
    }
    let me = world.name(slot);
    Err(Failure::refused(
        "no takeover",
        format!("rule admin: {me} is not an administrator"),
        format!("run `volctl set-client {me} admin on --control CONTROL`, or ask one who is"),
    ))
}

/// Has this grant come to its end, so that another may be given? `outwaited` names the grant of which the engine has
/// counted `dead` (a revocation) or `inflight` (a reaping) out, from the end of its own first read of it (section 6).
pub fn grant_is_over(world: &World<'_>, grant: &Grant, volume: Uuid, outwaited: Option<u64>) -> bool {
    is_over(Switches::ALL, world, grant, volume, outwaited)
}

pub(crate) fn is_over(on: Switches, world: &World<'_>, grant: &Grant, volume: Uuid, outwaited: Option<u64>) -> bool {
    let waited = outwaited == Some(grant.epoch);
    let reaped = world.holder_reaped(grant);
    let followed = world.peer(grant.slot).is_some_and(|p| p.incarnation > grant.incarnation);
    world.holder_left(grant)
        || !on.newer_login_proves_nothing && followed
        || match grant.state {
            GrantState::Pending => reaped,
            GrantState::Held => reaped && (waited || !on.inflight_is_waited),
            GrantState::Revoked => waited || world.says_closed(on, grant, volume) || !on.revocation_waits,
        }
}

/// Somebody writes.
pub fn held(world: &World<'_>, grant: &Grant) -> Failure {
    let who = world.name(grant.slot);
    Failure::busy(
        "the write privilege is taken",
        format!("{who} holds it, by grant {}", grant.epoch),
        format!("ask {who}: `volctl request VOLUME -m TEXT --wait 30s`"),
    )
}

/// Others leave a volume with `next` alone while that client lives and its request stands (section 7). A promise to this
/// very client (`me`), be it for another request of its, binds nobody.
pub fn not_promised(world: &World<'_>, me: SlotIndex, table: &VolumeTable) -> Result<(), Failure> {
    let Some(next) = table.next.filter(|n| n.slot != me) else { return Ok(()) };
    let stands = world.peer(next.slot).is_some_and(|p| {
        p.is_alive()
            && p.incarnation == next.incarnation
            && p.current_page().is_none_or(|page| page.request(table.uuid).is_some_and(|r| r.id == next.request))
    });
    if !stands {
        return Ok(());
    }
    let who = world.name(next.slot);
    Err(Failure::busy(
        format!("{} is promised", table.name),
        format!("the last writer handed it to {who}"),
        "the request stands and has its place in the queue",
    ))
}
