//! All interleavings of small cases: every sector of every read is sampled at its own moment, in any order.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use ondisk::{CommitNo, DaemonId, Incarnation, SemaphoreWord, SlotIndex, SlotSector, Ticket, Verdict};

use super::bench::Bench;
use crate::poll::{Me, Poll, SectorReading, SlotReading, Token};
use crate::rules::Rules;
use crate::semaphore::{
    Bakery, Caw, LockError, OfdResult, Params, Pr, Semaphore, SlotFields, Step, WordOp, WordResult, WriteResult,
};
use crate::watch::Watch;

const NOW: Duration = Duration::ZERO;
/// Administration slots take part in the arithmetic of tickets only.
const SLOTS: u16 = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    TwoInside,
    EpochDidNotGrow,
    Wedged,
}

/// Which kind is explored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Bakery,
    Pr,
    Caw,
    /// Two answers of compare-and-writes may be lost, whether they were done or not.
    LossyCaw,
}

#[derive(Clone)]
enum Lock {
    Bakery(Bakery),
    Pr(Pr),
    Caw(Caw),
}

impl Lock {
    fn new(which: Which, params: Params) -> Self {
        match which {
            Which::Bakery => Self::Bakery(Bakery::new(params)),
            Which::Pr => Self::Pr(Pr::new(params)),
            Which::Caw | Which::LossyCaw => Self::Caw(Caw::new(params)),
        }
    }

    fn number(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        match self {
            Self::Bakery(lock) => return lock.phase_number(),
            Self::Pr(lock) => lock.hash(&mut hasher),
            Self::Caw(lock) => lock.hash(&mut hasher),
        }
        hasher.finish() / 8
    }
}

impl std::ops::Deref for Lock {
    type Target = dyn Semaphore;
    fn deref(&self) -> &Self::Target {
        match self {
            Self::Bakery(lock) => lock,
            Self::Pr(lock) => lock,
            Self::Caw(lock) => lock,
        }
    }
}

impl std::ops::DerefMut for Lock {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            Self::Bakery(lock) => lock,
            Self::Pr(lock) => lock,
            Self::Caw(lock) => lock,
        }
    }
}

#[derive(Clone)]
struct Machine {
    bakery: Lock,
    step: Step,
    /// What the read under way has sampled: the slots, then the header's epoch.
    slots: Vec<Option<SlotFields>>,
    header: Option<u64>,
    rounds: u64,
    committed: bool,
}

#[derive(Clone)]
struct State {
    slots: Vec<SlotFields>,
    header: u64,
    word: SemaphoreWord,
    losses: u64,
    machines: Vec<Machine>,
}

struct World {
    template: Poll,
    watch: Watch,
}

fn sector(machine: usize, fields: SlotFields) -> SlotSector {
    let daemon = DaemonId([u8::try_from(machine).unwrap(); 16]);
    let mut sector =
        SlotSector { incarnation: Incarnation(1), daemon_id: daemon, logged_on: true, ..SlotSector::default() };
    fields.put(&mut sector);
    sector
}

fn reading(valid: SlotSector) -> SlotReading {
    let read = |s| SectorReading::Read { token: Token(0), content: Verdict::Valid(s) };
    SlotReading::new([read(valid), read(SlotSector::default())])
}

impl World {
    fn new() -> Self {
        let bench = Bench::new(2);
        let mut decoder = crate::poll::PollDecoder::new(bench.geometry.clone());
        let template = decoder.decode(&bench.area, &[], NOW, NOW).clone();
        Self { template, watch: Watch::new(&bench.geometry, Duration::from_secs(12)) }
    }

    fn poll(&self, machine: &Machine) -> Poll {
        let mut poll = self.template.clone();
        for (index, fields) in machine.slots.iter().enumerate() {
            poll.slots[index] = reading(sector(index, fields.expect("all are sampled")));
        }
        let commit = CommitNo { epoch: machine.header.expect("sampled"), count: 1 };
        if let Some(elected) = &mut poll.elected {
            elected.content.commit = commit;
            poll.headers = [Verdict::Valid(elected.content.clone()), Verdict::Valid(elected.content.clone())];
        }
        poll
    }
}

impl State {
    fn new(which: Which, machines: usize, rounds: u64, rules: Rules) -> Self {
        let machine = |index: usize| {
            let me = Me {
                slot: SlotIndex(u16::try_from(index).unwrap()),
                incarnation: Incarnation(1),
                daemon: sector(index, SlotFields::default()).daemon_id,
            };
            let (margin, beat) = (Duration::from_secs(4), Duration::from_secs(1));
            Machine {
                bakery: Lock::new(which, Params { me, slots: SLOTS, margin, beat, ticket: Ticket(0), rules }),
                step: Step::Left,
                slots: vec![None; machines],
                header: None,
                rounds,
                committed: false,
            }
        };
        let slots = vec![SlotFields::default(); machines];
        let word = SemaphoreWord::default();
        let losses = if which == Which::LossyCaw { 2 } else { 0 };
        Self { slots, header: 0, word, losses, machines: (0..machines).map(machine).collect() }
    }

    fn key(&self) -> Vec<u64> {
        let pack = |f: &SlotFields| f.ticket.0 * 4 + u64::from(f.choosing) * 2 + u64::from(f.waiting);
        let mut key: Vec<u64> = self.slots.iter().map(pack).collect();
        key.push(self.header);
        key.push(self.losses);
        key.push(self.word.epoch.0 * 2 + u64::from(self.word.holder.is_some()));
        for m in &self.machines {
            let writing = u64::from(matches!(m.step, Step::WriteSlot { .. } | Step::Word(WordOp::Read)));
            key.extend([
                m.bakery.number() * 4 + u64::from(m.committed) * 2 + writing,
                pack(&m.bakery.fields()),
                m.rounds,
            ]);
            key.extend(m.slots.iter().map(|s| s.as_ref().map_or(u64::MAX, pack)));
            key.push(m.header.unwrap_or(u64::MAX));
        }
        key
    }

    fn done(&self) -> bool {
        self.machines.iter().all(|m| m.rounds == 0 && m.step == Step::Left)
    }

    fn check(&self) -> Result<(), Broken> {
        let inside = self.machines.iter().filter(|m| m.bakery.tenure().is_some()).count();
        if inside > 1 { Err(Broken::TwoInside) } else { Ok(()) }
    }

    /// All states that one action of one machine leads to.
    fn successors(&self, world: &World) -> Result<Vec<Self>, Broken> {
        let mut out = Vec::new();
        for index in 0..self.machines.len() {
            match &self.machines[index].step {
                Step::Left if self.machines[index].rounds == 0 => {}
                Step::Left => out.push(self.with(index, |m| {
                    m.rounds -= 1;
                    m.step = m.bakery.begin(NOW);
                })),
                Step::WriteSlot { fields, .. } => {
                    let mut next = self.with(index, |m| m.step = m.bakery.slot_written(WriteResult::Stable, NOW));
                    next.slots[index] = *fields;
                    out.push(next);
                }
                Step::Poll | Step::WaitThenPoll(_) => self.samples(index, world, &mut out),
                Step::Entered(tenure) if !self.machines[index].committed => {
                    if tenure.epoch.0 <= self.header {
                        if !matches!(self.machines[index].bakery, Lock::Caw(_)) {
                            return Err(Broken::EpochDidNotGrow);
                        }
                        // A queue that is broken on purpose: whoever is overtaken leaves without a commit.
                        out.push(self.with(index, |m| m.step = m.bakery.release()));
                        continue;
                    }
                    let mut next = self.with(index, |m| m.committed = true);
                    next.header = tenure.epoch.0;
                    out.push(next);
                }
                Step::Entered(_) => out.push(self.with(index, |m| {
                    m.committed = false;
                    m.step = m.bakery.release();
                })),
                Step::Key => out.push(self.with(index, |m| m.step = m.bakery.ofd_done(OfdResult::Held, NOW))),
                Step::Word(op) => self.exchanges(index, *op, &mut out),
                // Only beside a broken queue: somebody took the word between its being let go and the reading back.
                Step::Failed(LockError::LockLost) => {}
                other => panic!("{other:?}"),
            }
        }
        Ok(out)
    }

    /// One act of the device on the word; with all that may become of its answer.
    fn exchanges(&self, index: usize, op: WordOp, out: &mut Vec<Self>) {
        let mut answer = |word, result| {
            let mut next = self.with(index, |m| m.step = m.bakery.word_done(result, NOW));
            next.word = word;
            next.losses -= u64::from(result == WordResult::Unknown);
            out.push(next);
        };
        match op {
            WordOp::Read => answer(self.word, WordResult::Is(self.word)),
            WordOp::Swap { expected, new } => {
                let fits = expected == Some(self.word);
                let word = if fits { new } else { self.word };
                answer(word, if fits { WordResult::Swapped } else { WordResult::Differs });
                if self.losses > 0 {
                    answer(word, WordResult::Unknown);
                    answer(self.word, WordResult::Unknown);
                }
            }
        }
    }

    /// One more sector of the read under way; with the last one the read is complete.
    fn samples(&self, index: usize, world: &World, out: &mut Vec<Self>) {
        let missing = |m: &Machine| (0..self.slots.len()).filter(|s| m.slots[*s].is_none()).collect::<Vec<_>>();
        let m = &self.machines[index];
        let mut choices: Vec<Option<usize>> = missing(m).into_iter().map(Some).collect();
        if m.header.is_none() {
            choices.push(None);
        }
        for choice in choices {
            let mut next = self.clone();
            let m = &mut next.machines[index];
            match choice {
                Some(slot) => m.slots[slot] = Some(self.slots[slot]),
                None => m.header = Some(self.header),
            }
            // Nobody but this machine writes its slot: when it is sampled makes no difference.
            m.slots[index] = Some(self.slots[index]);
            if m.header.is_some() && missing(m).is_empty() {
                let poll = world.poll(m);
                m.step = m.bakery.polled(&poll, &world.watch, NOW);
                m.slots.fill(None);
                m.header = None;
            }
            out.push(next);
        }
    }

    fn with(&self, index: usize, act: impl FnOnce(&mut Machine)) -> Self {
        let mut next = self.clone();
        act(&mut next.machines[index]);
        next
    }
}

/// Visits every reachable state; how many there are, or what is broken in one of them.
fn explore(machines: usize, rounds: u64, rules: Rules) -> Result<usize, Broken> {
    search(Which::Bakery, machines, rounds, rules)
}

fn search(which: Which, machines: usize, rounds: u64, rules: Rules) -> Result<usize, Broken> {
    let world = World::new();
    let start = State::new(which, machines, rounds, rules);
    let mut numbers = HashMap::from([(start.key(), 0)]);
    let mut came_from: Vec<Vec<usize>> = vec![Vec::new()];
    let mut good = Vec::new();
    let mut open = vec![(0, start)];
    while let Some((number, state)) = open.pop() {
        if state.done() {
            good.push(number);
        }
        for next in state.successors(&world)? {
            next.check()?;
            let fresh = came_from.len();
            let to = *numbers.entry(next.key()).or_insert(fresh);
            if to == fresh {
                came_from.push(Vec::new());
                open.push((fresh, next));
            }
            came_from[to].push(number);
        }
    }
    // From every state the end must still be reachable: nobody is wedged.
    let mut reaches_end = vec![false; came_from.len()];
    while let Some(number) = good.pop() {
        if !std::mem::replace(&mut reaches_end[number], true) {
            good.extend(&came_from[number]);
        }
    }
    if reaches_end.iter().all(|r| *r) { Ok(came_from.len()) } else { Err(Broken::Wedged) }
}

fn without(take_out: impl Fn(&mut Rules)) -> Rules {
    let mut rules = Rules::ALL;
    take_out(&mut rules);
    rules
}

#[test]
fn two_machines_two_rounds_exclude_each_other_in_every_interleaving() {
    let states = explore(2, 2, Rules::ALL).unwrap();
    assert!(states > 1_000, "{states} states: the search did not search");
}

#[test]
fn three_machines_one_round_exclude_each_other_in_every_interleaving() {
    let states = explore(3, 1, Rules::ALL).unwrap();
    assert!(states > 10_000, "{states} states: the search did not search");
}

#[test]
fn without_choosing_two_get_in() {
    assert_eq!(explore(2, 1, without(|r| r.wait_for_choosing = false)), Err(Broken::TwoInside));
}

#[test]
fn without_own_numbers_or_kept_tickets_an_epoch_does_not_grow() {
    assert_eq!(explore(2, 1, without(|r| r.own_residue = false)), Err(Broken::EpochDidNotGrow));
    assert_eq!(explore(2, 2, without(|r| r.keep_tickets = false)), Err(Broken::EpochDidNotGrow));
}

#[test]
fn pr_and_caw_exclude_each_other_in_every_interleaving_and_nobody_is_wedged() {
    for which in [Which::Pr, Which::Caw, Which::LossyCaw] {
        let states = search(which, 2, 2, Rules::ALL);
        assert!(states.is_ok_and(|n| n > 1_000), "{which:?}: {states:?}");
    }
    let states = search(Which::Caw, 3, 1, Rules::ALL);
    assert!(states.is_ok_and(|n| n > 10_000), "{states:?}");
}

#[test]
fn the_word_keeps_two_apart_even_if_the_queue_does_not() {
    let broken = |which| search(which, 2, 1, without(|r| r.wait_for_choosing = false));
    assert_eq!(broken(Which::Pr), Err(Broken::TwoInside), "the queue is all that `pr` has");
    assert_ne!(broken(Which::Caw), Err(Broken::TwoInside));
    assert_ne!(broken(Which::LossyCaw), Err(Broken::TwoInside));
}
