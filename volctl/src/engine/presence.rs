//! Which other clients are there: as events, when one comes, leaves or falls silent.

use std::hash::{Hash, Hasher};

use ondisk::Incarnation;

use super::Engine;
use super::effect::Fact;
use super::world::{Peer, World};
use crate::wire::event::EventName;

/// How another client stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// Logged off in order, never there, or reaped (which is an event of its own).
    Off,
    On(Incarnation),
    Silent(Incarnation),
}

impl Presence {
    /// None: its slot cannot be read well enough to say.
    fn of(peer: &Peer) -> Option<Self> {
        let off = !peer.logged_on || peer.reaped;
        let here = if peer.silent { Self::Silent(peer.incarnation) } else { Self::On(peer.incarnation) };
        peer.known.then_some(if off { Self::Off } else { here })
    }
}

/// How each client was seen last, by slot; none before the first look at it, so that those who were found are no news.
#[derive(Debug, Clone, Default)]
pub(crate) struct Company {
    seen: Vec<Option<Presence>>,
}

/// Nothing that the engine does follows from it, as with the tenures.
impl Hash for Company {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Engine {
    /// Notes who came, left or fell silent since the last poll.
    pub(crate) fn watch_company(&mut self, world: &World<'_>) {
        let before = std::mem::take(&mut self.company.seen);
        let seen = |peer: &Peer| before.get(peer.slot.index()).copied().flatten();
        for peer in world.peers.iter().take(world.tables.clients.len()) {
            let now = Presence::of(peer).or_else(|| seen(peer));
            self.company.seen.push(now);
            if let (Some(before), Some(now)) = (seen(peer), now)
                && before != now
                && peer.slot != self.me()
            {
                self.tell_presence(peer, before, now, world);
            }
        }
    }

    fn tell_presence(&mut self, peer: &Peer, before: Presence, now: Presence, world: &World<'_>) {
        let name = world.name(peer.slot);
        let (event, text) = match (before, now) {
            (_, Presence::Off) if peer.reaped => return,
            (_, Presence::Off) => (EventName::PeerOff, format!("{name} has logged off")),
            (_, Presence::Silent(_)) => (EventName::PeerDead, format!("{name} is silent: it beats no more")),
            (Presence::Silent(old), Presence::On(new)) if old == new => {
                (EventName::PeerOn, format!("{name} beats again"))
            }
            (_, Presence::On(_)) => (EventName::PeerOn, format!("{name} has logged on")),
        };
        self.fact(Fact::of(event, "", text).client(name));
    }
}
