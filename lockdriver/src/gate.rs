//! What the operating system may see of a volume: nothing, a read-only device, or a read-write one (section 8).
//!
//! A gate is a loop device, or over a block device one of device-mapper. What both do is [`Gate`]; everything outside this room
//! knows no more of them than their [`Node`].

use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileTypeExt;

use uuid::Uuid;

pub mod dm;
mod error;
pub mod loopdev;
pub mod mark;
pub mod mounts;
mod node;

pub use dm::{DmGate, claimed_by_gates};
pub use error::GateError;
pub use loopdev::{LoopGate, Opening};
pub use mark::{Mark, Mode};
pub use node::Node;

/// Which kind of device a gate is to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Kind {
    /// Device-mapper over a block device where it works, else a loop device.
    #[default]
    Auto,
    /// A loop device.
    Loop,
    /// Device-mapper over a block device, or none; an image has a loop device all the same.
    Mapped,
}

/// An open gate. Holding it keeps its node from coming to mean another device; dropping it closes nothing.
#[derive(Debug)]
pub enum Gate {
    /// Over an image or a block device.
    Loop(LoopGate),
    /// Over a block device.
    Mapped(DmGate),
}

impl Gate {
    /// Makes a gate over `backing`, the very descriptor on which the volume's identity was proven. With it comes why it is a loop device
    /// although device-mapper is preferred, if it is so.
    ///
    /// # Errors
    /// A [`GateError`]; nothing is left behind then, or it is [`GateError::Close`].
    pub fn open(backing: BorrowedFd<'_>, opening: &Opening) -> Result<(Self, Option<GateError>), GateError> {
        let open_loop = || LoopGate::open(backing, opening).map(Self::Loop);
        if opening.kind == Kind::Loop || !is_block_device(backing)? {
            return Ok((open_loop()?, None));
        }
        match DmGate::open(backing, opening) {
            Ok(gate) => Ok((Self::Mapped(gate), None)),
            // What is left of the other one may pass writes: no second one beside it.
            Err(error @ GateError::Close { .. }) => Err(error),
            Err(error) if opening.kind == Kind::Mapped => Err(error),
            Err(error) => Ok((open_loop()?, Some(error))),
        }
    }

    /// Takes hold of the device `node` as it stands; `None` when it is gone or bears another mark.
    ///
    /// # Errors
    /// [`GateError::Node`].
    pub fn find(node: Node, mark: &Mark) -> Result<Option<Self>, GateError> {
        match node {
            Node::Loop(number) => Ok(LoopGate::find(number, mark)?.map(Self::Loop)),
            Node::Mapped(minor) => Ok(DmGate::find(minor, mark)?.map(Self::Mapped)),
        }
    }

    /// Its device.
    #[must_use]
    pub fn node(&self) -> Node {
        match self {
            Self::Loop(gate) => gate.node(),
            Self::Mapped(gate) => gate.node(),
        }
    }

    /// What it says about itself.
    #[must_use]
    pub fn mark(&self) -> &Mark {
        match self {
            Self::Loop(gate) => gate.mark(),
            Self::Mapped(gate) => gate.mark(),
        }
    }

    /// Whether nothing is cached under it: else readers may see stale or torn blocks, which has to be said.
    #[must_use]
    pub fn direct_io(&self) -> bool {
        match self {
            Self::Loop(gate) => gate.direct_io(),
            Self::Mapped(_) => true,
        }
    }

    /// Closes the gate under whatever stands on it: when this returns, no write passes any more and none is in flight in it.
    /// Waits for I/O in flight first, and so hangs with hung storage. May be called again, and by several at once.
    ///
    /// # Errors
    /// [`GateError::Close`]: writes may still pass. Calling again is right.
    pub fn close_under(&self) -> Result<(), GateError> {
        match self {
            Self::Loop(gate) => gate.close_under(),
            Self::Mapped(gate) => gate.close_under(),
        }
    }

    /// Has the kernel take the device away when its last user lets go.
    ///
    /// # Errors
    /// [`GateError::Node`].
    pub fn clear(&self) -> Result<(), GateError> {
        match self {
            Self::Loop(gate) => gate.clear(),
            Self::Mapped(gate) => gate.clear(),
        }
    }

    /// As [`clear`](Self::clear) if nothing has it mounted any more (an exclusive open succeeds); else false, and nothing has changed.
    /// After dropping the gate, [`settle`] makes sure.
    ///
    /// # Errors
    /// [`GateError::Node`], [`GateError::Close`].
    pub fn clear_if_unused(&self) -> Result<bool, GateError> {
        match self {
            Self::Loop(gate) => gate.clear_if_unused(),
            Self::Mapped(gate) => gate.clear_if_unused(),
        }
    }
}

/// Whether this kernel has device-mapper, found out by asking it.
///
/// # Errors
/// [`GateError::NoMapper`]: why gates are loop devices here.
pub fn mapper_works() -> Result<(), GateError> {
    crate::sys::dm::Control::open().map(drop).map_err(GateError::NoMapper)
}

/// Looks whether a cleared gate is really gone. Where another program still has the bare node open (a prober, say), the device stays
/// until that program lets go: a writer's gate is closed under it, so that nothing can be written through it.
///
/// # Errors
/// [`GateError::Close`] when writes may still pass.
pub fn settle(node: Node, mark: &Mark) -> Result<(), GateError> {
    match Gate::find(node, mark) {
        Ok(Some(Gate::Mapped(left))) => left.settle(),
        Ok(Some(left)) if mark.mode == Mode::ReadWrite => left.close_under(),
        Ok(_) => Ok(()),
        Err(GateError::Node { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// A gate that was found by its mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkedGate {
    /// Its device.
    pub node: Node,
    /// What it says about itself.
    pub mark: Mark,
}

/// All gates in this kernel that `control` made, of one slot or of all, writers' gates first.
///
/// # Errors
/// When /sys cannot be read, or a device cannot be asked: a gate may be hidden then.
pub fn find_marked(control: Uuid, slot: Option<u16>) -> Result<Vec<MarkedGate>, GateError> {
    let loops = loopdev::all_marked()?.into_iter().map(|(number, mark)| (Node::Loop(number), mark));
    let mapped = dm::all_marked().map_err(GateError::NoMapper)?;
    let all = loops.chain(mapped.into_iter().map(|(minor, mark)| (Node::Mapped(minor), mark)));
    let mut found: Vec<MarkedGate> = all
        .filter(|(_, mark)| mark.control == control && slot.is_none_or(|slot| slot == mark.slot))
        .map(|(node, mark)| MarkedGate { node, mark })
        .collect();
    found.sort_by_key(|gate| (gate.mark.mode == Mode::ReadOnly, gate.node));
    Ok(found)
}

fn is_block_device(backing: BorrowedFd<'_>) -> Result<bool, GateError> {
    let file = backing.try_clone_to_owned().map_err(GateError::Configure)?;
    let metadata = std::fs::File::from(file).metadata().map_err(GateError::Configure)?;
    Ok(metadata.file_type().is_block_device())
}

#[cfg(test)]
mod tests;
