//! The writer's fence: while its gate is open, the storage lets only this host write the volume, where it can.

use std::fs::File;
use std::os::unix::fs::FileTypeExt;

use lockdriver::reservation::fence::{self, FenceError};
use lockdriver::reservation::node::Node;
use lockdriver::reservation::{Fault, Key};

use super::{Gates, Spec, Workshop, failed};
use crate::wire::outcome::Failure;

/// A fence that was raised.
#[derive(Debug)]
pub(super) struct Fence {
    node: Node,
    key: Key,
}

impl Workshop {
    /// Raises the fence before the gate is opened, throwing out whoever wrote before; nothing on a device without reservations.
    /// `backing` is the descriptor on which the volume's identity was proven.
    pub(super) fn raise_fence(&self, spec: &Spec, backing: &File) -> Result<Option<Fence>, Failure> {
        let kind = backing.metadata().map_err(|e| failed(spec, "its device cannot be looked at", &e))?.file_type();
        if !kind.is_block_device() {
            return Ok(None);
        }
        let node = backing.try_clone().and_then(Node::new);
        let node = node.map_err(|e| failed(spec, "its device cannot be looked at", &e))?;
        let me = self.session.me;
        let table = self.session.volume.superblock.uuid;
        let key = Key::of(table, me.slot, me.incarnation);
        match fence::raise(&node, table, key, &|| self.session.is_live()) {
            Ok(()) => {
                tracing::info!(event = "fence.raised", volume = spec.name, %key, "only this host may write the device");
                Ok(Some(Fence { node, key }))
            }
            Err(FenceError::NotHere(_)) => Ok(None),
            Err(e @ FenceError::Foreign(_)) => {
                let all = fence::describe(&node, table).ok().flatten().unwrap_or_default();
                Err(Failure::refused(
                    format!("{}: it is not opened for writing", spec.name),
                    format!("rule reservation: {e} ({all})"),
                    "end it where it was made (sg_persist, nvme resv-report show it); volctl breaks only what clients of its own tables left",
                ))
            }
            Err(e) => Err(failed(spec, "its device cannot be reserved", &e)),
        }
    }
}

impl Gates {
    /// The gate is closed: whoever is next may write.
    pub(super) fn lower_fence(&mut self, spec: &Spec) {
        let Some(fence) = self.fence.take() else { return };
        match fence::lower(&fence.node, fence.key) {
            // Somebody took it over: then it stands for that one.
            Ok(()) | Err(Fault::Conflict) => {}
            // The next writer takes it away.
            Err(error) => tracing::warn!(event = "fence.stays", volume = spec.name, %error, "the reservation stays"),
        }
    }
}
