//! The writer's fence: while its gate is open, the storage lets only this host write the volume, where it can.

use std::fs::File;
use std::os::unix::fs::FileTypeExt;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use lockdriver::reservation::fence::{self, FenceError, Raised};
use lockdriver::reservation::node::Node;
use lockdriver::reservation::{Fault, Key};
use lockdriver::sys::clock::boottime;
use ondisk::{Grant, Uuid};

use super::{Gates, Spec, Workshop, failed, lock, open_device, prove_opened};
use crate::wire::outcome::Failure;

/// A fence that was raised.
#[derive(Debug)]
pub(super) struct Fence {
    node: Node,
    key: Key,
    /// Until then it stays also when nobody writes: something that a writer who was thrown out left under way may still arrive.
    stays_until: Duration,
    /// It was taken over from this writer, before this host might write.
    instead_of: Option<Key>,
}

/// What is to be looked at.
#[derive(Debug, Clone)]
pub struct Look {
    /// The volume.
    pub spec: Spec,
    /// Its grant.
    pub writer: Option<Grant>,
    /// The grant is over but for its last writes, and this client wants the volume: the writer is thrown out.
    pub inherit: bool,
}

/// What a look at a volume's fence showed.
#[derive(Debug, Clone, Default)]
pub struct Sight {
    /// The volume.
    pub volume: Uuid,
    /// The device knows reservations; else nothing else was looked at.
    pub possible: bool,
    /// The grant that it had, 0: none.
    pub epoch: u64,
    /// The fence of that grant stands.
    pub stands: bool,
    /// A write of this host was refused by it.
    pub refused: bool,
    /// Its writer was thrown out, and the fence is this host's now.
    pub inherited: bool,
    /// The storage had forgotten this host's own fence, and it was raised again.
    pub renewed: bool,
    /// Keys or a reservation that no client of these tables made.
    pub foreign: Option<String>,
}

impl Workshop {
    /// Raises the fence before the gate is opened, throwing out whoever wrote before; nothing on a device without reservations.
    /// `backing` is the descriptor on which the volume's identity was proven.
    pub(super) fn raise_fence(
        &self,
        spec: &Spec,
        backing: &File,
        breaks_foreign: bool,
        gates: &mut Gates,
    ) -> Result<(), Failure> {
        let inherited = gates.fence.as_ref();
        // After an error what was relied on is still known, and the next try has to raise it.
        let raised = self.raised(spec, backing, breaks_foreign, inherited)?;
        if inherited.is_some_and(|fence| fence.instead_of.is_some()) && raised.is_none() {
            let why = "the writer before was thrown out by the storage, which knows no reservations any more";
            return Err(failed(spec, "it is not opened for writing", &why));
        }
        gates.fence = raised;
        Ok(())
    }

    fn raised(
        &self,
        spec: &Spec,
        backing: &File,
        breaks_foreign: bool,
        inherited: Option<&Fence>,
    ) -> Result<Option<Fence>, Failure> {
        let Some(node) = node(backing).map_err(|e| failed(spec, "its device cannot be looked at", &e))? else {
            return Ok(None);
        };
        let table = self.session.volume.superblock.uuid;
        let key = self.key();
        match fence::raise(&node, table, key, breaks_foreign, &|| self.session.is_live()) {
            Ok(raised) => {
                tracing::info!(event = "fence.raised", volume = spec.name, %key, "only this host may write the device");
                let stays_until = match inherited {
                    Some(inherited) => inherited.stays_until,
                    // What an earlier login of this host left may have been left on purpose.
                    None if raised == Raised::OverOwn => Duration::MAX,
                    None => Duration::ZERO,
                };
                let instead_of = inherited.and_then(|fence| fence.instead_of);
                Ok(Some(Fence { node, key, stays_until, instead_of }))
            }
            Err(FenceError::NotHere(_)) => Ok(None),
            Err(e @ FenceError::Foreign(_)) => {
                let all = fence::describe(&node, table).ok().flatten().unwrap_or_default();
                Err(Failure::refused(
                    format!("{}: it is not opened for writing", spec.name),
                    format!("rule reservation: {e} ({all})"),
                    format!(
                        "end it where it was made (sg_persist, nvme resv-report show it), or, if nobody needs it, break it: `volctl takeover {}`",
                        spec.name
                    ),
                ))
            }
            Err(e) => Err(failed(spec, "its device cannot be reserved", &e)),
        }
    }

    fn key(&self) -> Key {
        let me = self.session.me;
        Key::of(self.session.volume.superblock.uuid, me.slot, me.incarnation)
    }

    /// Looks at the fence of a volume, and throws a writer out whose grant is over; None: it cannot be told. No job waits for it,
    /// since storage may hang.
    pub fn look_at_fence(&self, look: &Look) -> Option<Sight> {
        let spec = &look.spec;
        let epoch = look.writer.map_or(0, |grant| grant.epoch);
        let mut sight = Sight { volume: spec.uuid, epoch, ..Sight::default() };
        let backing = open_device(spec, false).ok()?;
        let Some(node) = node(&backing).ok()? else { return Some(sight) };
        let table = self.session.volume.superblock.uuid;
        sight.foreign = match fence::foreign(&node, table) {
            Err(FenceError::NotHere(_)) => return Some(sight),
            seen => seen.ok()?,
        };
        sight.possible = true;
        prove_opened(spec, &backing).ok()?;
        let Some(grant) = look.writer.filter(|_| sight.foreign.is_none()) else { return Some(sight) };
        let writer = Key::of(table, grant.slot, grant.incarnation);
        let others = writer != self.key();
        sight.refused = others && fence::keeps_out(&node, table, writer).ok()?;
        sight.stands = sight.refused || fence::stands(&node, table, writer).ok()?;
        if others && look.inherit {
            sight.inherited = self.inherit(spec, grant, writer, node);
        } else if !others && !sight.stands {
            sight.renewed = self.renew(spec, &node);
            sight.stands = sight.renewed;
        }
        Some(sight)
    }

    /// Under the gates' lock, so that no job closes or opens the gate meanwhile.
    fn renew(&self, spec: &Spec, node: &Node) -> bool {
        let gates = self.gates_of(spec);
        let Some(gates) = at_once(&gates) else { return false };
        if gates.writer.is_none() || gates.fence.is_none() {
            return false;
        }
        let (table, key) = (self.session.volume.superblock.uuid, self.key());
        match fence::renew(node, table, key, &|| self.session.is_live()) {
            Ok(false) => false,
            Ok(true) => {
                let volume = &spec.name;
                tracing::warn!(event = "fence.renewed", volume, %key, "the storage had forgotten the reservation; it stands again");
                true
            }
            Err(error) => {
                let volume = &spec.name;
                tracing::warn!(event = "fence.lost", volume, %error, "the storage has forgotten the reservation, and does not take it again");
                false
            }
        }
    }

    fn gates_of(&self, spec: &Spec) -> Arc<Mutex<Gates>> {
        Arc::clone(lock(&self.gates).entry(spec.uuid).or_default())
    }

    fn inherit(&self, spec: &Spec, grant: Grant, writer: Key, node: Node) -> bool {
        let gates = self.gates_of(spec);
        let Some(mut gates) = at_once(&gates) else { return false };
        let (table, key) = (self.session.volume.superblock.uuid, self.key());
        if gates.fence.as_ref().is_some_and(|fence| fence.instead_of == Some(writer)) {
            return fence::stands(&node, table, key).unwrap_or(false);
        }
        if !self.session.is_live() || !fence::inherit(&node, table, key, writer).unwrap_or(false) {
            return false;
        }
        let bound = grant.inflight.bound().unwrap_or(Duration::MAX);
        let stays_until = boottime().saturating_add(bound);
        tracing::warn!(event = "fence.inherited", volume = spec.name, victim = %writer, "the storage threw the lost writer out");
        gates.fence = Some(Fence { node, key, stays_until, instead_of: Some(writer) });
        true
    }
}

/// None: a job is under way, and may wait for storage; the next look does it.
fn at_once(gates: &Mutex<Gates>) -> Option<MutexGuard<'_, Gates>> {
    match gates.try_lock() {
        Ok(gates) => Some(gates),
        Err(TryLockError::Poisoned(gates)) => Some(gates.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Commands to a device; None: it is no block device.
fn node(backing: &File) -> std::io::Result<Option<Node>> {
    if !backing.metadata()?.file_type().is_block_device() {
        return Ok(None);
    }
    backing.try_clone().and_then(Node::new).map(Some)
}

impl Gates {
    /// The gate is closed: whoever is next may write.
    pub(super) fn lower_fence(&mut self, spec: &Spec) {
        let Some(fence) = self.fence.take() else { return };
        if boottime() < fence.stays_until {
            tracing::info!(
                event = "fence.stays",
                volume = spec.name,
                "the reservation stays until the next writer takes it"
            );
            self.fence = Some(fence);
            return;
        }
        match fence::lower(&fence.node, fence.key) {
            // Somebody took it over: then it stands for that one.
            Ok(()) | Err(Fault::Conflict) => {}
            // The next writer takes it away.
            Err(error) => tracing::warn!(event = "fence.stays", volume = spec.name, %error, "the reservation stays"),
        }
    }
}
