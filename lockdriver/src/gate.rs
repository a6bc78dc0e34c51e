//! What the operating system may see of a volume: nothing, a read-only device, or a read-write one (section 8).

pub mod loopdev;
pub mod mark;
pub mod mounts;

pub use loopdev::{GateError, LoopGate, MarkedLoop, Opening, find_marked, settle};
pub use mark::{Mark, Mode};
