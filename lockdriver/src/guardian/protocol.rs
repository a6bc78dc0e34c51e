//! What daemon and guardian say to each other: one JSON value a packet, descriptors beside it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::gate::{GateError, Node, Opening};

/// One order of the daemon.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// Comes back in the reply.
    pub(super) id: u64,
    pub(super) order: Order,
}

/// What the daemon can order.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// First of all; with the descriptor of the shared deadline.
    Hello(Hello),
    /// Make a gate; with the backing descriptor whose identity was proven.
    OpenGate(Opening),
    /// Clear the gate if nothing has it mounted any more.
    Retire { node: Node },
    /// The writer's orderly close after its unmount: as `Retire`, but in use is an error.
    Close { node: Node },
    /// Close it under whatever stands on it, detach its mounts, clear it.
    CloseNow { node: Node },
    /// Frozen for a publish; with a descriptor of the mount's root to thaw it by.
    Frozen { node: Node },
    /// Thawed again.
    Thawed { node: Node },
    /// Unlock this open file description when the lease ends or the daemon is gone; with the descriptor.
    HoldLock,
    /// End the lease at once.
    EndLease,
    /// Nothing but an answer.
    Ping,
    /// End the lease, close what is left, exit.
    Bye,
}

/// What the guardian has to know.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    /// Process to watch.
    pub(super) daemon_pid: u32,
    /// Length of the lease in nanoseconds.
    pub(super) lease_nanos: u64,
    /// The guardian's own lock file.
    pub(super) lock_path: PathBuf,
    /// Taken away last, when the daemon is gone.
    pub(super) mount_root: Option<PathBuf>,
}

/// What the guardian says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Word {
    Reply { id: u64, result: Result<Answer, Refusal> },
    Event(Event),
}

/// Answer to an order that was carried out.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Done,
    /// `instead`: why it is a loop device although another kind is preferred.
    Gate {
        node: Node,
        direct_io: bool,
        instead: Option<String>,
    },
    Cleared(bool),
    Welcome(Welcome),
}

/// How well the guardian could protect itself; status shows what is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Its process number.
    pub pid: u32,
    /// Its memory cannot be paged out.
    pub memory_locked: bool,
    /// It runs at real-time priority.
    pub real_time: bool,
    /// It is the last that the kernel kills when memory is out.
    pub spared_by_oom: bool,
    /// It has a cgroup of its own.
    pub own_cgroup: bool,
}

/// What the guardian tells unasked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// 75 % of the lease are over: it writes out and remounts read-only what these gates carry.
    OrderlyStop {
        /// The writers' devices.
        gates: Vec<Node>,
    },
    /// The closing call of this gate has returned. With an error the gate may still pass writes, and it is tried again.
    GateClosed {
        /// Its device.
        node: Node,
        /// What the kernel said, if it failed.
        errno: Option<i32>,
    },
    /// The lease is over and every gate that ends with it is closed.
    GatesClosed,
    /// The guardian is gone: nothing closes the gates any more but this daemon, at once (`close_leftovers`).
    Gone,
}

/// Which step of a gate's life failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GateStep {
    /// Finding a free loop device.
    Find,
    /// Having device-mapper make a device.
    Mapper,
    /// Binding it.
    Configure,
    /// Binding it read-write: the backing is read-only.
    ConfigureWritable,
    /// Closing it: writes may still pass.
    Close,
    /// Opening or asking its node.
    Ask,
}

/// Why the guardian did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No gate is opened after the end.
    #[error("the lease is over: the client must log on anew before a gate is opened")]
    LeaseOver,
    /// No gate is opened before the first confirmed beat.
    #[error("the lease has not begun: no beat is confirmed yet")]
    LeaseNotBegun,
    /// No such gate, or no longer.
    #[error("{node} is not a gate of this guardian")]
    UnknownGate {
        /// What was asked for.
        node: Node,
    },
    /// Still mounted or held exclusively.
    #[error("{node} is still in use; unmount it, or see who uses it with fuser -m")]
    Busy {
        /// Its device.
        node: Node,
    },
    /// The kernel refused a step.
    #[error("the gate failed at {step:?}: {}", describe(*errno))]
    Gate {
        /// Which step.
        step: GateStep,
        /// Its device, where there is one.
        node: Option<Node>,
        /// What the kernel said.
        errno: Option<i32>,
    },
    /// The guardian's lock file is held: another guardian lives.
    #[error("another guardian holds the lock file; end it first")]
    LockHeld,
    /// The lock file cannot be made.
    #[error("the guardian's lock file cannot be made: {}", describe(*errno))]
    LockFile {
        /// What the kernel said.
        errno: Option<i32>,
    },
    /// The order made no sense: without its descriptor, too many locks, or a second greeting.
    #[error("the guardian did not understand the order (daemon and guardian of different versions?)")]
    Misunderstood,
}

/// For the fuzzer, which cannot reach the orders themselves: is the packet understood, as one side or as the other?
///
/// # Panics
/// When what was understood is understood otherwise once it is written and read again.
#[doc(hidden)]
pub fn understands(packet: &[u8]) -> bool {
    fn again<T: Serialize + serde::de::DeserializeOwned>(packet: &[u8]) -> bool {
        let Ok(first) = serde_json::from_slice::<T>(packet) else { return false };
        let written = serde_json::to_vec(&first).expect("what was read can be written");
        let second: T = serde_json::from_slice(&written).expect("what was written can be read");
        assert_eq!(written, serde_json::to_vec(&second).expect("as before"));
        true
    }
    again::<Request>(packet) | again::<Word>(packet)
}

fn describe(errno: Option<i32>) -> String {
    errno.map_or_else(|| "unknown error".into(), |errno| std::io::Error::from_raw_os_error(errno).to_string())
}

impl From<GateError> for Refusal {
    fn from(error: GateError) -> Self {
        let gate = |step, node, errno| Self::Gate { step, node, errno };
        match error {
            GateError::NoneFree(source) => gate(GateStep::Find, None, source.raw_os_error()),
            GateError::NoMapper(source) => gate(GateStep::Mapper, None, source.raw_os_error()),
            GateError::Configure(source) => gate(GateStep::Configure, None, source.raw_os_error()),
            GateError::BackingReadOnly => gate(GateStep::ConfigureWritable, None, Some(libc::EROFS)),
            GateError::Close { node, source } => gate(GateStep::Close, Some(node), source.raw_os_error()),
            GateError::Node { node, source } => gate(GateStep::Ask, Some(node), source.raw_os_error()),
        }
    }
}
