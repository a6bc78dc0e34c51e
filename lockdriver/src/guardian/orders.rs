//! Carrying out the daemon's orders, each in a thread of its own.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::closing::{Guarded, Shared, clean_up, fence, lock};
use super::protocol::{Answer, Order, Refusal, Request};
use crate::gate::{Gate, Node, Opening};

/// How often a gate that another thread closes is looked at.
const CLOSED_POLL: Duration = Duration::from_millis(5);

/// Starts to carry out `request`; the reply comes from its own thread.
pub(super) fn start(shared: &Arc<Shared>, request: Request, fds: Vec<OwnedFd>) {
    let Request { id, order } = request;
    let refused = shared.run(move |shared| {
        let mut answered = false;
        let result = carry_out(shared, order, fds, |refusal| {
            answered = true;
            shared.reply(id, Err(refusal));
        });
        if !answered {
            shared.reply(id, result);
        }
    });
    if refused.is_err() {
        // No thread for it: the daemon hears a refusal, and may ask again.
        shared.reply(id, Err(Refusal::Misunderstood));
    }
}

/// `early` is for an answer that cannot wait for the end: that a gate does not close.
fn carry_out(
    shared: &Arc<Shared>,
    order: Order,
    mut fds: Vec<OwnedFd>,
    early: impl FnMut(Refusal),
) -> Result<Answer, Refusal> {
    match order {
        Order::OpenGate(opening) => open_gate(shared, &opening, &fds.pop().ok_or(Refusal::Misunderstood)?),
        Order::Retire { node } => retire(shared, node).map(Answer::Cleared),
        Order::Close { node } => match retire(shared, node)? {
            true => Ok(Answer::Done),
            false => Err(Refusal::Busy { node }),
        },
        Order::CloseNow { node } => close_now(shared, node, early),
        Order::Frozen { node } => {
            let root = fds.pop().ok_or(Refusal::Misunderstood)?;
            let gate = shared.gate(node)?;
            drop(lock(&gate.frozen).replace(root));
            // The closing may have looked for it just before.
            if gate.is_closed() {
                clean_up(shared, gate);
                return Err(Refusal::LeaseOver);
            }
            Ok(Answer::Done)
        }
        Order::Thawed { node } => {
            let root = lock(&shared.gate(node)?.frozen).take();
            drop(root);
            Ok(Answer::Done)
        }
        Order::HoldLock => shared.hold_lock(fds.pop().ok_or(Refusal::Misunderstood)?),
        Order::Hello(_) | Order::EndLease | Order::Ping | Order::Bye => Err(Refusal::Misunderstood),
    }
}

/// Looks at the lease, makes the gate, registers it, looks again. Registered first: an end of the lease after the second look finds
/// it among the gates, and one before the second look is seen by it, so that no gate escapes between the two.
fn open_gate(shared: &Arc<Shared>, opening: &Opening, backing: &OwnedFd) -> Result<Answer, Refusal> {
    shared.require_live()?;
    let (device, instead) = Gate::open(backing.as_fd(), opening)?;
    let gate = Guarded::new(device);
    shared.register(&gate);
    if let Err(refusal) = shared.require_live() {
        if gate.claim_closing() {
            fence(shared, &gate, |_| ());
            clean_up(shared, gate);
        }
        return Err(refusal);
    }
    let instead = instead.map(|why| why.to_string());
    Ok(Answer::Gate { node: gate.device.node(), direct_io: gate.device.direct_io(), instead })
}

fn retire(shared: &Shared, node: Node) -> Result<bool, Refusal> {
    let gate = shared.gate(node)?;
    if !gate.device.clear_if_unused()? {
        return Ok(false);
    }
    shared.forget(gate)?;
    Ok(true)
}

fn close_now(shared: &Arc<Shared>, node: Node, mut early: impl FnMut(Refusal)) -> Result<Answer, Refusal> {
    let gate = shared.gate(node)?;
    if gate.claim_closing() {
        fence(shared, &gate, |error| early(error.into()));
        clean_up(shared, gate);
        return Ok(Answer::Done);
    }
    // Another thread is at it; the answer is the same once that one's call has returned.
    while !gate.is_closed() {
        thread::sleep(CLOSED_POLL);
    }
    Ok(Answer::Done)
}
