//! The storage's fences, looked at again and again (section 7): what a login may call fenced is what it has just seen refused.
//!
//! On a thread of its own, since storage may hang; one look at all volumes at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, unbounded};
use ondisk::{Uuid, VolumeTable};

use super::config::Config;
use super::jobs::{Look, Sight, Spec, Workshop};
use super::login::Login;
use crate::wire::status::Warning;

/// Between two looks. A path that was lost, or a target that was started anew, is noticed by the next.
const EVERY: Duration = Duration::from_secs(5);
/// Between two looks at a device that knows no reservations.
const SELDOM: Duration = Duration::from_secs(60);
/// What was seen counts for so long: three looks may be late.
const COUNTS: Duration = Duration::from_secs(15);

/// What one login has seen.
#[derive(Debug)]
pub struct Fences {
    sender: Sender<Vec<(Uuid, Option<Sight>)>>,
    seen: Receiver<Vec<(Uuid, Option<Sight>)>>,
    looking: bool,
    next: Instant,
    began: Instant,
    sights: BTreeMap<Uuid, (Sight, Instant)>,
    /// Volumes whose storage refused a write of this host in this login, and was not lost sight of since.
    proven: BTreeSet<Uuid>,
}

impl Default for Fences {
    fn default() -> Self {
        let (sender, seen) = unbounded();
        let now = Instant::now();
        let (sights, proven) = (BTreeMap::new(), BTreeSet::new());
        Self { sender, seen, looking: false, next: now, began: now, sights, proven }
    }
}

impl Fences {
    /// Tells the engine what was seen, and begins the next look when it is time. A lost writer that the storage throws out need not
    /// be waited for.
    pub fn go_on(&mut self, login: &mut Login, config: &Config) {
        for (volume, epoch) in self.collect() {
            login.engine.thrown_out(volume, epoch);
        }
        login.engine.refused(&self.refused());
        let engine = &login.engine;
        let awaited = login.session.look(|world| engine.late_writes(world)).unwrap_or_default();
        if login.shop.guardian.is_none() || !self.is_due(!awaited.is_empty()) {
            return;
        }
        let worth = |volume: Uuid| self.is_worth_a_look(volume);
        let looks = login.session.look(|world| {
            let look = |table: &VolumeTable| {
                let writer = table.writer;
                let inherit = writer.is_some_and(|grant| awaited.contains(&(table.uuid, grant.epoch)));
                Look { spec: Spec::of(table, &config.devices), writer, inherit }
            };
            world.tables.volumes.iter().flatten().filter(|t| worth(t.uuid)).map(look).collect::<Vec<_>>()
        });
        if let Ok(looks) = looks {
            self.begin(&login.shop, looks);
        }
    }

    /// `urgent`: somebody waits for what a look does.
    fn is_due(&self, urgent: bool) -> bool {
        let now = Instant::now();
        !self.looking && (now >= self.next || urgent && now >= self.began + EVERY / 5)
    }

    fn is_worth_a_look(&self, volume: Uuid) -> bool {
        self.sights.get(&volume).is_none_or(|(sight, at)| sight.possible || at.elapsed() >= SELDOM)
    }

    fn begin(&mut self, shop: &Arc<Workshop>, looks: Vec<Look>) {
        self.began = Instant::now();
        self.next = self.began + EVERY;
        if looks.is_empty() {
            return;
        }
        let (shop, sender) = (Arc::clone(shop), self.sender.clone());
        let run = move || {
            let seen = looks.iter().map(|look| (look.spec.uuid, shop.look_at_fence(look))).collect();
            drop(shop);
            // The loop may have ended; then nobody needs to know.
            let _ = sender.send(seen);
        };
        self.looking = std::thread::Builder::new().name("fences".into()).spawn(run).is_ok();
    }

    /// The volumes whose lost writers were thrown out, by the epochs of their grants.
    fn collect(&mut self) -> Vec<(Uuid, u64)> {
        let mut inherited = Vec::new();
        while let Ok(seen) = self.seen.try_recv() {
            self.looking = false;
            for (volume, sight) in seen {
                let Some(sight) = sight else {
                    self.proven.remove(&volume);
                    continue;
                };
                if sight.refused {
                    self.proven.insert(volume);
                } else if sight.renewed || sight.epoch != 0 && !sight.stands && !sight.inherited {
                    self.proven.remove(&volume);
                }
                if sight.inherited {
                    inherited.push((volume, sight.epoch));
                }
                self.sights.insert(volume, (sight, self.began));
            }
        }
        inherited
    }

    fn fresh(&self) -> impl Iterator<Item = &Sight> {
        self.sights.values().filter(|(_, at)| at.elapsed() < COUNTS).map(|(sight, _)| sight)
    }

    /// The volumes that the storage guards, by the epoch of the grant that it guards: its fence stands, and this host has seen it
    /// refuse a write.
    pub fn fenced(&self) -> BTreeMap<Uuid, u64> {
        let guarded = self.fresh().filter(|s| s.stands && self.proven.contains(&s.volume));
        guarded.map(|s| (s.volume, s.epoch)).collect()
    }

    /// The volumes on which a write of this host has just been refused, by the epoch of the grant.
    fn refused(&self) -> BTreeMap<Uuid, u64> {
        self.fresh().filter(|s| s.refused).map(|s| (s.volume, s.epoch)).collect()
    }

    /// What people should know: somebody else's keys and reservations.
    pub fn warnings(&self, name: impl Fn(Uuid) -> Option<String>) -> Vec<Warning> {
        let foreign = self.fresh().filter_map(|s| s.foreign.as_ref().map(|what| (s.volume, what)));
        foreign
            .map(|(volume, what)| Warning {
                code: "foreign_reservation".into(),
                text: format!("somebody else's reservation stands on its device: {what}"),
                volume: name(volume),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V: Uuid = Uuid::from_u128(7);

    fn sight(epoch: u64, stands: bool, refused: bool) -> Sight {
        Sight { volume: V, possible: true, epoch, stands, refused, ..Sight::default() }
    }

    fn seeing(fences: &mut Fences, sight: Option<Sight>) -> Option<u64> {
        fences.began = Instant::now();
        fences.sender.send(vec![(V, sight)]).expect("a receiver");
        fences.collect();
        fences.fenced().get(&V).copied()
    }

    #[test]
    fn only_what_this_host_has_seen_refused_is_fenced() {
        let mut fences = Fences::default();
        assert_eq!(seeing(&mut fences, Some(sight(4, true, false))), None, "it stands, and nobody has tried it");
        assert_eq!(seeing(&mut fences, Some(sight(4, true, true))), Some(4));
        assert_eq!(
            seeing(&mut fences, Some(sight(5, true, false))),
            Some(5),
            "the own one, on a device that was seen to refuse"
        );
        assert_eq!(seeing(&mut fences, Some(sight(5, false, false))), None, "a target that forgot");
        assert_eq!(seeing(&mut fences, Some(sight(5, true, false))), None, "to be seen again");
        assert_eq!(seeing(&mut fences, Some(sight(6, true, true))), Some(6));
        let renewed = Sight { renewed: true, ..sight(7, true, false) };
        assert_eq!(seeing(&mut fences, Some(renewed)), None, "one that had forgotten, and was told again");
    }

    /// A loop device was opened every five seconds, by every client, for nothing.
    #[test]
    fn a_device_without_reservations_is_seldom_looked_at() {
        let mut fences = Fences::default();
        assert!(fences.is_worth_a_look(V), "nobody knows yet");
        seeing(&mut fences, Some(Sight { possible: false, ..sight(4, false, false) }));
        assert!(!fences.is_worth_a_look(V));
        fences.sights.values_mut().for_each(|(_, at)| *at -= SELDOM);
        assert!(fences.is_worth_a_look(V), "the path may be another one now");
        seeing(&mut fences, Some(sight(4, false, false)));
        assert!(fences.is_worth_a_look(V));
    }

    #[test]
    fn a_device_that_was_lost_sight_of_is_proven_anew() {
        let mut fences = Fences::default();
        assert_eq!(seeing(&mut fences, Some(sight(4, true, true))), Some(4));
        seeing(&mut fences, None);
        assert_eq!(seeing(&mut fences, Some(sight(4, true, false))), None);
        assert_eq!(seeing(&mut fences, Some(sight(4, true, true))), Some(4));
        fences.sights.values_mut().for_each(|(_, at)| *at -= COUNTS);
        assert!(fences.fenced().is_empty(), "what hangs proves nothing");
    }
}
