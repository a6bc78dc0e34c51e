//! Why a gate could not be made, closed or cleared.

use std::io;

use super::Node;

/// Why a gate could not be made, closed or cleared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// No loop device could be had.
    #[error("no loop device can be had: {0}; load the loop module or free one (losetup -l)")]
    NoneFree(#[source] io::Error),
    /// Device-mapper could not be asked, or made no device.
    #[error("device-mapper cannot be used: {0}; load the module dm_mod, or set gate = \"loop\"")]
    NoMapper(#[source] io::Error),
    /// The kernel did not bind the backing to the gate's device.
    #[error(
        "the kernel refused to make the gate: {0}; check that the disk is attached and not in use by something else"
    )]
    Configure(#[source] io::Error),
    /// A writer's gate came out read-only.
    #[error("the volume can be opened for reading only, so there is no writer's gate; check the export of the disk")]
    BackingReadOnly,
    /// The device could not be closed: writes may still pass.
    #[error("the gate {node} does not close ({source}); writes may still pass through it")]
    Close {
        /// Its device.
        node: Node,
        /// What the kernel said.
        source: io::Error,
    },
    /// A node could not be opened or asked.
    #[error("{node}: {source}")]
    Node {
        /// The device.
        node: Node,
        /// What the kernel said.
        source: io::Error,
    },
}
