//! Persistent reservations of the control volume: who may write it, by host, and commands that change that.
//!
//! A registration belongs to a host's path (an initiator port): it outlives processes and boots, and reads need none. A command
//! takes its time, and fails, like a write. A write is judged when its first byte moves.

use std::collections::BTreeMap;

use lockdriver::reservation::{Commands, Fault, Held, Key, Kind, Swap};
use ondisk::{Incarnation, SlotIndex};

use crate::disk::{Act, Io, IoId, SimDevice, Taken};
use crate::world::{HostId, World};

/// A command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Register { old: u64, new: u64 },
    RegisterAnyhow { new: u64 },
    Reserve { key: u64, kind: Kind },
    Release { key: u64, kind: Kind },
    Preempt { own: u64, victim: u64, kind: Kind },
    Clear { own: u64 },
    Keys,
    Held,
    WriteNothing,
}

/// What the device answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    Conflict,
    Keys(Vec<u64>),
    Held(Option<Held>),
}

/// A host's registration, and when it was made.
#[derive(Debug, Clone, Copy)]
struct Registration {
    key: u64,
    since: u64,
}

/// Who is registered, and what is reserved.
#[derive(Debug, Default)]
pub(crate) struct Reservations {
    registered: BTreeMap<HostId, Registration>,
    /// Who took it; all registrants hold one of their kind together.
    held: Option<(HostId, Kind)>,
    /// When each host last read the keys.
    looked: BTreeMap<HostId, u64>,
}

impl Reservations {
    /// May it write?
    pub(crate) fn may_write(&self, host: HostId) -> bool {
        self.held.is_none() || self.registered.contains_key(&host)
    }

    fn has(&self, host: HostId, key: u64) -> bool {
        self.registered.get(&host).is_some_and(|r| r.key == key)
    }

    fn holds(&self, host: HostId) -> bool {
        match self.held {
            Some((_, Kind::WriteAllRegistrants)) => self.registered.contains_key(&host),
            Some((holder, _)) => holder == host,
            None => false,
        }
    }

    /// With its last holder a reservation ends.
    fn remove(&mut self, host: HostId) {
        self.registered.remove(&host);
        self.held = match self.held {
            Some((_, Kind::WriteAllRegistrants)) => {
                self.registered.keys().next().map(|next| (*next, Kind::WriteAllRegistrants))
            }
            Some((holder, _)) if holder == host => None,
            other => other,
        };
    }

    fn register(&mut self, host: HostId, key: u64, now: u64) {
        match key {
            0 => self.remove(host),
            key => drop(self.registered.insert(host, Registration { key, since: now })),
        }
    }

    /// Does it, and says whose commands are ended by it.
    fn carry_out(&mut self, host: HostId, command: Command, now: u64) -> (Answer, Vec<HostId>) {
        let mut ended = Vec::new();
        let own = self.registered.get(&host).map_or(0, |r| r.key);
        let done = match command {
            Command::Register { old, new } if old == own => {
                self.register(host, new, now);
                true
            }
            Command::RegisterAnyhow { new } => {
                self.register(host, new, now);
                true
            }
            Command::Reserve { key, kind } if self.has(host, key) => match self.held {
                None => {
                    self.held = Some((host, kind));
                    true
                }
                Some((_, standing)) => standing == kind && self.holds(host),
            },
            Command::Release { key, kind } if self.has(host, key) => {
                if self.holds(host) && self.held.is_some_and(|(_, standing)| standing == kind) {
                    self.held = None;
                }
                true
            }
            Command::Preempt { own, victim, kind } if self.has(host, own) => {
                ended = self.preempt(host, victim, kind);
                !ended.is_empty()
            }
            Command::Clear { own } if self.has(host, own) => {
                *self = Self { looked: std::mem::take(&mut self.looked), ..Self::default() };
                true
            }
            Command::Keys => {
                self.looked.insert(host, now);
                return (Answer::Keys(self.registered.values().map(|r| r.key).collect()), ended);
            }
            Command::Held => {
                let key = |holder| self.registered.get(&holder).map_or(0, |r| r.key);
                return (Answer::Held(self.held.map(|(holder, kind)| Held { key: key(holder), kind })), ended);
            }
            Command::WriteNothing => self.may_write(host),
            _ => false,
        };
        (if done { Answer::Done } else { Answer::Conflict }, ended)
    }

    /// Throws out whoever is registered with `victim`, and takes over what one holder held alone.
    fn preempt(&mut self, host: HostId, victim: u64, kind: Kind) -> Vec<HostId> {
        let victims: Vec<HostId> =
            self.registered.iter().filter(|(_, r)| r.key == victim).map(|(victim, _)| *victim).collect();
        let alone = self.held.filter(|(_, kind)| *kind != Kind::WriteAllRegistrants);
        let takes = alone.is_some_and(|(holder, _)| victims.contains(&holder));
        victims.iter().filter(|victim| **victim != host).for_each(|victim| self.remove(*victim));
        if takes {
            self.held = Some((host, kind));
        }
        victims
    }
}

impl World {
    /// A command reaches the device.
    pub(crate) fn carry_out(&mut self, id: IoId, host: HostId, command: Command) {
        let now = self.now;
        let (answer, ended) = self.disk.reservations.carry_out(host, command, now);
        if !matches!(command, Command::Keys | Command::Held) {
            self.note(|w| format!("{}: {command:?}: {answer:?}", w.name(host)));
        }
        for victim in ended.into_iter().filter(|victim| *victim != host) {
            self.count("a host is thrown out");
            self.end_io_of(victim, id);
        }
        self.disk.answer(id, answer);
    }

    /// A host was preempted, by the command `by`: what of its I/O has reached the storage is ended before the answer, or has landed. The
    /// rest comes when it comes, and is judged then.
    fn end_io_of(&mut self, host: HostId, by: IoId) {
        let theirs = |(id, io): &(&IoId, &Io)| io.host == host && io.write && !io.left.is_empty() && **id != by;
        let ids: Vec<IoId> = self.disk.flying.iter().filter(theirs).map(|(id, _)| *id).collect();
        for id in ids {
            let ends = self.rng.one_in(2);
            let io = &self.disk.flying[&id];
            let (region, block, _) = self.disk.block_at(io.offset);
            if !io.judged {
                self.disk.flying.get_mut(&id).expect("it flies").ended = ends;
            } else if ends && self.disk.may_harm(region, block) {
                self.count("a torn write");
                self.note(|w| format!("{}: its write at {block} ({region:?}) is ended half way", w.name(host)));
                self.disk.flying.get_mut(&id).expect("it flies").ended = true;
                self.disk.harmed.insert((region, block));
            } else {
                for (from, to) in io.left.clone() {
                    self.move_bytes(id, from, to);
                }
            }
        }
    }

    /// Somebody was recorded as reaped by a header that a host wrote.
    pub(crate) fn look_at_expulsion(&mut self, slot: SlotIndex, upto: Incarnation) {
        if let Some(by) = self.oracle.writer {
            self.look_at_keys(by, slot, upto, "is recorded as reaped");
        }
    }

    /// A host relies on it that no login of a slot writes any more: then no key of one stands that the host could have seen.
    pub(crate) fn look_at_keys(&mut self, by: HostId, slot: SlotIndex, upto: Incarnation, what: &str) {
        if self.plan.lock != ondisk::LockKind::Pr {
            return;
        }
        let table = self.disk.geometry.table();
        let seen = self.disk.reservations.looked.get(&by).copied().unwrap_or(0);
        let stands =
            |host: &HostId, r: &Registration| *host != by && r.since < seen && Key(r.key).is_up_to(table, slot, upto);
        let left = self.disk.reservations.registered.iter().find(|(host, r)| stands(host, r));
        if let Some(host) = left.map(|(host, _)| *host) {
            let (by, who) = (self.name(by), self.name(host));
            self.fail(format!("{slot} up to {upto} {what} by {by}, and {who} may still write"));
        }
    }
}

impl SimDevice {
    fn command(&self, command: Command) -> Result<Answer, Fault> {
        match self.run(Act::Command(command), 0)? {
            Taken { answer: Some(Answer::Conflict), .. } => Err(Fault::Conflict),
            Taken { answer: Some(answer), .. } => Ok(answer),
            Taken { answer: None, .. } => Err(Fault::Unknown("no answer".to_owned())),
        }
    }
}

impl Commands for SimDevice {
    fn register(&self, old: u64, new: u64) -> Result<(), Fault> {
        self.command(Command::Register { old, new }).map(drop)
    }

    fn register_anyhow(&self, new: u64) -> Result<(), Fault> {
        self.command(Command::RegisterAnyhow { new }).map(drop)
    }

    fn reserve(&self, key: u64, kind: Kind) -> Result<(), Fault> {
        self.command(Command::Reserve { key, kind }).map(drop)
    }

    fn release(&self, key: u64, kind: Kind) -> Result<(), Fault> {
        self.command(Command::Release { key, kind }).map(drop)
    }

    fn preempt(&self, own: u64, victim: u64, kind: Kind) -> Result<(), Fault> {
        self.command(Command::Preempt { own, victim, kind }).map(drop)
    }

    fn clear(&self, own: u64) -> Result<(), Fault> {
        self.command(Command::Clear { own }).map(drop)
    }

    fn keys(&self) -> Result<Vec<u64>, Fault> {
        match self.command(Command::Keys)? {
            Answer::Keys(keys) => Ok(keys),
            other => Err(Fault::Unknown(format!("{other:?}"))),
        }
    }

    fn reservation(&self) -> Result<Option<Held>, Fault> {
        match self.command(Command::Held)? {
            Answer::Held(held) => Ok(held),
            other => Err(Fault::Unknown(format!("{other:?}"))),
        }
    }

    fn write_nothing(&self) -> Result<(), Fault> {
        self.command(Command::WriteNothing).map(drop)
    }

    fn compare_and_write(&self, offset: u64, expected: &[u8], new: &[u8]) -> Result<Swap, Fault> {
        let act = Act::Exchange { expected: expected.to_vec(), data: new.to_vec() };
        let taken = self.run(act, offset)?;
        Ok(if taken.differs { Swap::Differs } else { Swap::Done })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Kind = Kind::WriteAllRegistrants;
    const ONE: Kind = Kind::WriteRegistrants;

    fn after(commands: &[(HostId, Command)]) -> Reservations {
        let mut device = Reservations::default();
        for (host, command) in commands {
            assert_eq!(device.carry_out(*host, *command, 0).0, Answer::Done, "{host} {command:?}");
        }
        device
    }

    fn two(kind: Kind) -> Reservations {
        after(&[
            (0, Command::Register { old: 0, new: 10 }),
            (0, Command::Reserve { key: 10, kind }),
            (1, Command::Register { old: 0, new: 11 }),
        ])
    }

    fn answer(device: &mut Reservations, host: HostId, command: Command) -> Answer {
        device.carry_out(host, command, 0).0
    }

    #[test]
    fn what_all_registrants_hold_lasts_as_long_as_one_of_them() {
        let mut device = two(ALL);
        assert_eq!(
            answer(&mut device, 1, Command::Reserve { key: 11, kind: ALL }),
            Answer::Done,
            "it holds it already"
        );
        assert_eq!(answer(&mut device, 0, Command::Register { old: 10, new: 0 }), Answer::Done);
        assert!(!device.may_write(0) && device.may_write(1));
        assert_eq!(answer(&mut device, 1, Command::Register { old: 11, new: 0 }), Answer::Done);
        assert!(device.may_write(0), "nobody is kept out any more");
        let mut device = two(ONE);
        assert_eq!(answer(&mut device, 1, Command::Reserve { key: 11, kind: ONE }), Answer::Conflict);
        assert_eq!(answer(&mut device, 0, Command::Register { old: 10, new: 0 }), Answer::Done);
        assert_eq!(answer(&mut device, 1, Command::Held), Answer::Held(None), "its one holder has left");
    }

    #[test]
    fn whoever_is_preempted_may_not_write_and_its_commands_are_ended() {
        for kind in [ALL, ONE] {
            let mut device = two(kind);
            let preempt = Command::Preempt { own: 11, victim: 10, kind };
            assert_eq!(device.carry_out(1, preempt, 0), (Answer::Done, vec![0]));
            assert!(!device.may_write(0) && device.may_write(1));
            assert_eq!(answer(&mut device, 1, preempt), Answer::Conflict, "it is there no more");
            assert_eq!(answer(&mut device, 0, Command::Register { old: 10, new: 12 }), Answer::Conflict);
            assert_eq!(answer(&mut device, 0, Command::Register { old: 0, new: 12 }), Answer::Done);
            assert!(device.may_write(0));
        }
    }

    #[test]
    fn a_key_that_is_not_the_own_one_does_nothing() {
        let mut device = two(ALL);
        for command in [
            Command::Register { old: 10, new: 0 },
            Command::Preempt { own: 10, victim: 11, kind: ALL },
            Command::Release { key: 10, kind: ALL },
            Command::Clear { own: 10 },
            Command::Reserve { key: 10, kind: ALL },
        ] {
            assert_eq!(answer(&mut device, 1, command), Answer::Conflict, "{command:?}");
        }
        assert_eq!(answer(&mut device, 2, Command::Keys), Answer::Keys(vec![10, 11]));
        assert_eq!(answer(&mut device, 2, Command::WriteNothing), Answer::Conflict);
    }
}
