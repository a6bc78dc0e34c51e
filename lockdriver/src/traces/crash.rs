//! Seeded histories with beats, leases, stalls, kills, restarts and slow I/O: never two who may act, epochs that grow,
//! nobody wedged. `VOLCTL_SEEDS` asks for more histories than the few that every run tries.

use std::time::Duration;

use ondisk::{CommitNo, SlotIndex, SlotSector};

use super::bench::{BEAT, Bench, DEAD, host};
use crate::lease::{BeatNo, Confirmation, LeaseChange, LeaseStage};
use crate::logon::{Host, LogonStep, foreign_daemon, names_lock_of};
use crate::poll::Poll;
use crate::rules::Rules;
use crate::semaphore::{Semaphore, Step, WriteResult};

mod daemon;

use daemon::{Daemon, Io, Life, On, Random};

const MS: Duration = Duration::from_millis(1);
const CLIENTS: u16 = 2;
/// Stalls and kills happen until here; after it everybody must get in once more.
const TROUBLE: Duration = Duration::from_secs(90);
const END: Duration = Duration::from_secs(180);

struct History {
    random: Random,
    bench: Bench,
    daemons: Vec<Daemon>,
    now: Duration,
    last_entered: u64,
    tenures: u32,
    tenures_after_trouble: [u32; CLIENTS as usize],
    ids: u8,
    rules: Rules,
}

#[derive(Debug, PartialEq, Eq)]
enum Broken {
    TwoMayAct,
    EpochDidNotGrow,
    Wedged,
}

impl History {
    fn new(seed: u64, rules: Rules) -> Self {
        let bench = Bench::new(CLIENTS);
        let daemons = (0..CLIENTS)
            .map(|slot| {
                let number = u8::try_from(slot).unwrap() + 1;
                Daemon::new(&bench, slot, number, host(number), rules, Duration::ZERO)
            })
            .collect();
        Self {
            random: Random(seed),
            bench,
            daemons,
            now: Duration::ZERO,
            last_entered: 0,
            tenures: 0,
            tenures_after_trouble: [0; CLIENTS as usize],
            ids: 100,
            rules,
        }
    }

    fn run(&mut self) -> Result<(), Broken> {
        while self.now < END {
            let next = (0..self.daemons.len()).min_by_key(|i| self.due(*i)).expect("there are daemons");
            self.now = self.now.max(self.due(next));
            self.act(next)?;
            if self.daemons.iter().filter(|d| d.acts_inside(self.now)).count() > 1 {
                return Err(Broken::TwoMayAct);
            }
            if self.now < TROUBLE {
                self.trouble(next);
            }
            self.replace_the_dead();
        }
        if self.tenures_after_trouble.contains(&0) { Err(Broken::Wedged) } else { Ok(()) }
    }

    /// When a daemon's next event is due. What is under way at the disk happens also while the daemon stalls.
    fn due(&self, index: usize) -> Duration {
        let daemon = &self.daemons[index];
        match &daemon.io {
            Io::Write { lands, landed: false, .. } | Io::Commit { lands, landed: false } => *lands,
            Io::Read { samples, first: None, .. } => samples[0],
            Io::Read { samples, .. } => samples[1].max(daemon.ready),
            _ if matches!(daemon.life, Life::Over) => Duration::MAX,
            _ => daemon.ready,
        }
    }

    fn act(&mut self, index: usize) -> Result<(), Broken> {
        let now = self.now;
        let daemon = &mut self.daemons[index];
        match &mut daemon.io {
            Io::Write { sector, landed: landed @ false, .. } => {
                *landed = true;
                let (slot, sector) = (SlotIndex(daemon.slot), *sector);
                self.bench.write_slot(slot, &sector);
                daemon.ready = daemon.ready.max(now + self.random.delay());
            }
            Io::Commit { landed: landed @ false, .. } => {
                *landed = true;
                daemon.ready = daemon.ready.max(now + self.random.delay());
                self.commit(index)?;
            }
            Io::Read { first: first @ None, .. } => *first = Some(self.bench.area.clone()),
            Io::Read { .. } => self.read_done(index)?,
            Io::Write { .. } => self.write_done(index),
            Io::Commit { .. } => {
                daemon.io = Io::None;
                if let Life::On(on) = &mut daemon.life {
                    on.committed = true;
                }
            }
            Io::None => self.submit(index),
        }
        Ok(())
    }

    /// A header write lands. The newest counts, whenever it lands.
    fn commit(&mut self, index: usize) -> Result<(), Broken> {
        let Life::On(on) = &self.daemons[index].life else { return Ok(()) };
        let Some(tenure) = on.bakery.tenure() else { return Ok(()) };
        let commit = CommitNo { epoch: tenure.epoch.0, count: 1 };
        if commit == self.bench.header.commit {
            return Err(Broken::EpochDidNotGrow);
        }
        let own = on.reap_own.map(|n| (on.me.slot, n));
        let reap: Vec<_> = tenure.reap.iter().copied().chain(own).collect();
        if commit > self.bench.header.commit {
            let epoch = tenure.epoch;
            self.bench.commit(epoch, &reap);
        }
        Ok(())
    }

    fn read_done(&mut self, index: usize) -> Result<(), Broken> {
        let now = self.now;
        let daemon = &mut self.daemons[index];
        let Io::Read { begun, first: Some(first), .. } = std::mem::replace(&mut daemon.io, Io::None) else {
            return Ok(());
        };
        let mut area = self.bench.area.clone();
        let mut coin = self.random.next();
        for block in (0..area.len()).step_by(512) {
            if coin & 1 == 0 && block + 512 <= area.len() {
                area[block..block + 512].copy_from_slice(&first[block..block + 512]);
            }
            coin = coin.rotate_right(1);
        }
        let poll = daemon.decoder.decode(&area, &[], begun, now).clone();
        daemon.watch.observe(&poll);
        daemon.ready = now + self.random.ms(3);
        match &mut daemon.life {
            Life::LoggingOn(on) => {
                let (logon, step) = &mut **on;
                *step = logon.polled(&poll, &daemon.watch, now);
                if let LogonStep::WaitThenPoll(wait) = step {
                    daemon.ready = now + *wait;
                }
            }
            Life::On(_) => return self.polled_on(index, &poll, begun),
            Life::Over => {}
        }
        Ok(())
    }

    fn polled_on(&mut self, index: usize, poll: &Poll, begun: Duration) -> Result<(), Broken> {
        let now = self.now;
        let daemon = &mut self.daemons[index];
        let Life::On(on) = &mut daemon.life else { return Ok(()) };
        on.next_poll = now + MS * 250;
        let confirmed = on.lease.confirm(begun, Confirmation::of(poll, &on.me, None), now);
        if matches!(confirmed, LeaseChange::Ended(_)) || foreign_daemon(poll, &on.me).is_some() {
            daemon.life = Life::Over;
            return Ok(());
        }
        match on.step {
            Step::Poll | Step::WaitThenPoll(_) if now >= on.next_step => {
                let step = on.bakery.polled(poll, &daemon.watch, now);
                on.take(step, now);
            }
            Step::Entered(ref tenure) if !on.admitted => match poll.header() {
                Some(h) if tenure.admits(&h.content).is_ok() => on.admitted = true,
                Some(_) => daemon.life = Life::Over,
                None => {}
            },
            _ => {}
        }
        let Life::On(on) = &mut self.daemons[index].life else { return Ok(()) };
        if let Step::Failed(why) = &on.step {
            if why.ends_incarnation() {
                self.daemons[index].life = Life::Over;
            } else {
                on.step = Step::Left;
            }
        } else if let (Step::Entered(tenure), false) = (&on.step, on.admitted) {
            if on.lease.stage(now) != LeaseStage::Over && tenure.epoch.0 < self.last_entered {
                return Err(Broken::EpochDidNotGrow);
            }
            self.last_entered = self.last_entered.max(tenure.epoch.0);
        }
        Ok(())
    }

    fn write_done(&mut self, index: usize) {
        let now = self.now;
        let daemon = &mut self.daemons[index];
        let Io::Write { begun, beat, .. } = std::mem::replace(&mut daemon.io, Io::None) else { return };
        // Now and then the result is lost although the write landed.
        let lost = self.now < TROUBLE && self.random.below(300) == 0;
        let result = if lost { WriteResult::Unknown } else { WriteResult::Stable };
        match &mut daemon.life {
            Life::LoggingOn(on) => {
                let (logon, step) = &mut **on;
                *step = logon.slot_written(result, begun, now);
                if let LogonStep::WaitThenPoll(wait) = step {
                    daemon.ready = now + *wait;
                }
            }
            Life::On(on) => {
                let step = match beat {
                    Some(number) => {
                        on.lease.beat_completed(number, now, !lost);
                        if lost { on.bakery.beat_unknown(now) } else { None }
                    }
                    None => Some(on.bakery.slot_written(result, now)),
                };
                match step {
                    Some(Step::Failed(why)) if why.ends_incarnation() => daemon.life = Life::Over,
                    Some(Step::Failed(_)) => on.step = Step::Left,
                    Some(step) => on.take(step, now),
                    None => {}
                }
            }
            Life::Over => {}
        }
    }

    fn submit(&mut self, index: usize) {
        let now = self.now;
        let random = &mut self.random;
        let daemon = &mut self.daemons[index];
        match &mut daemon.life {
            Life::LoggingOn(on) => {
                let (logon, step) = &mut **on;
                match step {
                    LogonStep::Poll | LogonStep::WaitThenPoll(_) => daemon.io = read(now, random),
                    LogonStep::CloseOldGates(_) => *step = logon.gates_closed(true),
                    LogonStep::WriteSlot { sector, not_after } if now <= *not_after => {
                        daemon.io = write(*sector, None, now, random);
                    }
                    LogonStep::WriteSlot { .. } => *step = logon.slot_written(WriteResult::Failed, now, now),
                    LogonStep::Claimed(claimed) => {
                        let claimed = *claimed;
                        daemon.claimed(&claimed, self.rules, now);
                    }
                    LogonStep::Failed(_) => daemon.life = Life::Over,
                }
            }
            // The one thread looks at the lease before every write.
            Life::On(on) if self.rules.lease_stays_over && on.lease.stage(now) == LeaseStage::Over => {
                daemon.life = Life::Over;
            }
            Life::On(on) => {
                let leaves = matches!(on.step, Step::Entered(_)) && on.admitted && on.committed;
                match submit_on(on, now, random) {
                    Ok(io) => daemon.io = io,
                    Err(ready) => daemon.ready = ready,
                }
                if leaves && matches!(daemon.io, Io::None) {
                    self.tenures += 1;
                    if now >= TROUBLE + DEAD * 3 {
                        self.tenures_after_trouble[usize::from(daemon.slot)] += 1;
                    }
                }
            }
            Life::Over => {}
        }
    }

    /// Stalls (of any length) and kills.
    fn trouble(&mut self, index: usize) {
        let now = self.now;
        match self.random.below(4000) {
            0..10 => {
                let stall = self.random.ms(25_000);
                let daemon = &mut self.daemons[index];
                daemon.ready = daemon.ready.max(now + stall);
            }
            // A daemon that is killed with a write under way is gone only when the write is.
            10..14 if !matches!(self.daemons[index].io, Io::Write { .. } | Io::Commit { .. }) => {
                let daemon = &self.daemons[index];
                let (slot, home) = (daemon.slot, daemon.home);
                self.daemons[index].life = Life::Over;
                self.start(slot, home);
            }
            // The same client is started on another host while this one stalls.
            14..16 => {
                let stall = DEAD + self.random.ms(20_000);
                let daemon = &mut self.daemons[index];
                daemon.ready = daemon.ready.max(now + stall);
                let (slot, number) = (daemon.slot, self.ids);
                self.start(slot, host(number));
            }
            _ => {}
        }
    }

    fn start(&mut self, slot: u16, home: Host) {
        self.ids = self.ids.checked_add(1).unwrap_or(50);
        let mut daemon = Daemon::new(&self.bench, slot, self.ids, home, self.rules, self.now);
        daemon.ready = self.now + self.random.ms(200);
        self.daemons.push(daemon);
    }

    /// A slot whose daemons are all over gets a new one, on the host of one of them; what still lands, lands.
    fn replace_the_dead(&mut self) {
        for slot in 0..CLIENTS {
            let lives = |d: &Daemon| d.slot == slot && !matches!(d.life, Life::Over);
            let busy = |d: &Daemon| {
                d.slot == slot && matches!(d.io, Io::Write { landed: false, .. } | Io::Commit { landed: false, .. })
            };
            if self.daemons.iter().any(|d| lives(d) || busy(d)) {
                continue;
            }
            let home = self.daemons.iter().rfind(|d| d.slot == slot).expect("one was there").home;
            self.daemons.retain(|d| d.slot != slot);
            self.start(slot, home);
        }
    }
}

fn write(sector: SlotSector, beat: Option<BeatNo>, now: Duration, random: &mut Random) -> Io {
    Io::Write { sector, begun: now, lands: now + random.delay(), landed: false, beat }
}

fn read(now: Duration, random: &mut Random) -> Io {
    let first = now + random.delay();
    Io::Read { begun: now, samples: [first, first + random.delay()], first: None }
}

/// What a daemon that is logged on does next: an I/O, or nothing until then. A due beat goes first.
fn submit_on(on: &mut On, now: Duration, random: &mut Random) -> Result<Io, Duration> {
    if on.next_beat <= now {
        on.next_beat = now + BEAT;
        on.sector.beat += 1;
        on.bakery.fields().put(&mut on.sector);
        let number = on.lease.beat_begun(now);
        return Ok(write(on.sector, Some(number), now, random));
    }
    match &on.step {
        Step::WriteSlot { fields, .. } => {
            on.sector.beat += 1;
            fields.put(&mut on.sector);
            Ok(write(on.sector, None, now, random))
        }
        Step::Poll | Step::WaitThenPoll(_) if now >= on.next_step => Ok(read(now, random)),
        Step::Entered(_) if !on.admitted => Ok(read(now, random)),
        Step::Entered(_) if !on.committed => {
            // Long, so that others have time to pass whoever stalls inside before they are reaped.
            let long = if random.below(4) == 0 { random.ms(3000) } else { random.delay() };
            Ok(Io::Commit { lands: now + long, landed: false })
        }
        Step::Entered(_) => {
            (on.admitted, on.committed, on.reap_own) = (false, false, None);
            let step = on.bakery.release();
            on.take(step, now);
            Err(now)
        }
        _ if on.next_poll <= now => Ok(read(now, random)),
        Step::Left if random.below(8) == 0 => {
            let step = on.bakery.begin(now);
            on.take(step, now);
            Err(now)
        }
        step => {
            let wake = on.next_beat.min(on.next_poll);
            let wake = if matches!(step, Step::WaitThenPoll(_)) { wake.min(on.next_step) } else { wake };
            Err(wake.max(now + MS))
        }
    }
}

fn seeds() -> u64 {
    std::env::var("VOLCTL_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(40)
}

#[test]
fn histories_with_stalls_kills_and_restarts_keep_one_inside() {
    let mut tenures = 0;
    for seed in 0..seeds() {
        let mut history = History::new(seed, Rules::ALL);
        assert_eq!(history.run(), Ok(()), "seed {seed}");
        tenures += u64::from(history.tenures);
    }
    assert!(tenures > 50 * seeds(), "{tenures} tenures try little");
}

#[test]
fn histories_find_what_a_missing_rule_lets_happen() {
    type TakeOut = fn(&mut Rules);
    let rules: [(&str, TakeOut); 2] = [
        ("a late beat revives a lease", |r| r.lease_stays_over = false),
        ("nobody waits for the choosing", |r| r.wait_for_choosing = false),
    ];
    for (name, take_out) in rules {
        let mut without = Rules::ALL;
        take_out(&mut without);
        let found = (0..400).any(|seed| History::new(seed, without).run().is_err());
        assert!(found, "no history shows why: {name}");
    }
}

#[test]
fn a_killed_daemon_comes_back_the_first_way() {
    let mut history = History::new(1, Rules::ALL);
    while !matches!(history.daemons[0].life, Life::On(_)) {
        let next = (0..history.daemons.len()).min_by_key(|i| history.due(*i)).unwrap();
        history.now = history.now.max(history.due(next));
        history.act(next).unwrap();
    }
    let poll = history.daemons[0].decoder.poll().clone();
    assert!(names_lock_of(poll.slot(SlotIndex(0)).unwrap(), &host(1)));
    assert!(!names_lock_of(poll.slot(SlotIndex(0)).unwrap(), &host(2)));
}
