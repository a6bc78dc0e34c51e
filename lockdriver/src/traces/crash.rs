//! Seeded histories with beats, leases, stalls, kills, restarts and slow I/O: never two who may act, epochs that grow,
//! nobody wedged. `VOLCTL_SEEDS` asks for more histories than the few that every run tries.

use std::time::Duration;

use ondisk::{CommitNo, Incarnation, SlotIndex, SlotSector};

use super::bench::{BEAT, Bench, DEAD, LEASE, MARGIN, host, request};
use crate::lease::{BeatNo, Confirmation, Lease, LeaseChange, LeaseStage};
use crate::logon::{Claimed, Host, Logon, LogonStep, foreign_daemon, names_lock_of};
use crate::poll::{Me, Poll, PollDecoder};
use crate::rules::Rules;
use crate::semaphore::{Bakery, Params, Semaphore, Step, WriteResult};
use crate::watch::Watch;

const MS: Duration = Duration::from_millis(1);
const CLIENTS: u16 = 2;
/// Stalls and kills happen until here; after it everybody must get in once more.
const TROUBLE: Duration = Duration::from_secs(90);
const END: Duration = Duration::from_secs(180);

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    fn ms(&mut self, below: u64) -> Duration {
        MS * u32::try_from(self.below(below)).unwrap()
    }
    /// Mostly a few milliseconds, now and then long, always well below `margin`.
    fn delay(&mut self) -> Duration {
        if self.below(60) == 0 { self.ms(1800) } else { self.ms(8) + MS }
    }
}

/// What a daemon has under way.
enum Io {
    None,
    /// Lands at the first time; returned at the second.
    Write {
        sector: SlotSector,
        begun: Duration,
        lands: Duration,
        landed: bool,
        beat: Option<BeatNo>,
    },
    /// Samples the disk at two moments.
    Read {
        begun: Duration,
        samples: [Duration; 2],
        first: Option<Vec<u8>>,
    },
    Commit {
        lands: Duration,
        landed: bool,
    },
}

enum Life {
    LoggingOn(Logon, LogonStep),
    On(Box<On>),
    Over,
}

struct On {
    me: Me,
    sector: SlotSector,
    bakery: Bakery,
    lease: Lease,
    step: Step,
    next_beat: Duration,
    next_poll: Duration,
    /// When the semaphore wants its next poll or write.
    next_step: Duration,
    /// Inside: the header was read after entering; committed.
    admitted: bool,
    committed: bool,
    reap_own: Option<Incarnation>,
}

/// One running daemon (or one that others take for dead and that may wake again).
struct Daemon {
    slot: u16,
    home: Host,
    life: Life,
    decoder: PollDecoder,
    watch: Watch,
    io: Io,
    ready: Duration,
}

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

impl Daemon {
    fn new(bench: &Bench, slot: u16, id: u8, home: Host, rules: Rules, now: Duration) -> Self {
        let mut logon = Logon::new(request(slot, id, home, rules));
        let step = logon.begin();
        Self {
            slot,
            home,
            life: Life::LoggingOn(logon, step),
            decoder: PollDecoder::new(bench.geometry.clone()),
            watch: Watch::new(&bench.geometry, DEAD).with_rules(rules),
            io: Io::None,
            ready: now,
        }
    }

    fn may_act(&self, now: Duration) -> Option<&On> {
        match &self.life {
            Life::On(on) if on.lease.stage(now) != LeaseStage::Over => Some(on),
            _ => None,
        }
    }

    fn acts_inside(&self, now: Duration) -> bool {
        self.may_act(now).is_some_and(|on| on.bakery.tenure().is_some())
    }

    fn claimed(&mut self, claimed: &Claimed, rules: Rules, now: Duration) {
        let me = Me {
            slot: SlotIndex(self.slot),
            incarnation: claimed.sector.incarnation,
            daemon: claimed.sector.daemon_id,
        };
        let params =
            Params { me, slots: CLIENTS + 4, margin: MARGIN, beat: BEAT, ticket: claimed.sector.ticket, rules };
        let mut lease = Lease::new(LEASE).with_rules(rules);
        if let LeaseChange::Ended(_) = lease.begin(claimed.write_begun, now) {
            self.life = Life::Over;
            return;
        }
        self.life = Life::On(Box::new(On {
            me,
            sector: claimed.sector,
            bakery: Bakery::new(params),
            lease,
            step: Step::Left,
            next_beat: now,
            next_poll: now,
            next_step: now,
            admitted: false,
            committed: false,
            reap_own: claimed.reap_own,
        }));
    }
}

impl On {
    /// Takes the next step of the semaphore in.
    fn take(&mut self, step: Step, now: Duration) {
        self.next_step = match &step {
            Step::WaitThenPoll(wait) => now + *wait,
            _ => now,
        };
        self.step = step;
    }
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
            Life::LoggingOn(logon, step) => {
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
            Life::LoggingOn(logon, step) => {
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
        let write = |sector, beat, random: &mut Random| Io::Write {
            sector,
            begun: now,
            lands: now + random.delay(),
            landed: false,
            beat,
        };
        let read = |random: &mut Random| {
            let first = now + random.delay();
            Io::Read { begun: now, samples: [first, first + random.delay()], first: None }
        };
        match &mut daemon.life {
            Life::LoggingOn(logon, step) => match step {
                LogonStep::Poll | LogonStep::WaitThenPoll(_) => daemon.io = read(random),
                LogonStep::CloseOldGates(_) => *step = logon.gates_closed(true),
                LogonStep::WriteSlot { sector, not_after } if now <= *not_after => {
                    daemon.io = write(*sector, None, random);
                }
                LogonStep::WriteSlot { .. } => *step = logon.slot_written(WriteResult::Failed, now, now),
                LogonStep::Claimed(claimed) => {
                    let claimed = *claimed;
                    daemon.claimed(&claimed, self.rules, now);
                }
                LogonStep::Failed(_) => daemon.life = Life::Over,
            },
            // The one thread looks at the lease before every write.
            Life::On(on) if self.rules.lease_stays_over && on.lease.stage(now) == LeaseStage::Over => {
                daemon.life = Life::Over;
            }
            Life::On(on) => {
                if on.next_beat <= now {
                    on.next_beat = now + BEAT;
                    on.sector.beat += 1;
                    on.bakery.fields().put(&mut on.sector);
                    let number = on.lease.beat_begun(now);
                    daemon.io = write(on.sector, Some(number), random);
                    return;
                }
                match &on.step {
                    Step::WriteSlot { fields, .. } => {
                        on.sector.beat += 1;
                        fields.put(&mut on.sector);
                        daemon.io = write(on.sector, None, random);
                    }
                    Step::Poll | Step::WaitThenPoll(_) if now >= on.next_step => daemon.io = read(random),
                    Step::Entered(_) if !on.admitted => daemon.io = read(random),
                    Step::Entered(_) if !on.committed => {
                        // Long, so that others have time to pass whoever stalls inside before they are reaped.
                        let long = if random.below(4) == 0 { random.ms(3000) } else { random.delay() };
                        daemon.io = Io::Commit { lands: now + long, landed: false };
                    }
                    Step::Entered(_) => {
                        self.tenures += 1;
                        if now >= TROUBLE + DEAD * 3 {
                            self.tenures_after_trouble[usize::from(daemon.slot)] += 1;
                        }
                        (on.admitted, on.committed, on.reap_own) = (false, false, None);
                        let step = on.bakery.release();
                        on.take(step, now);
                    }
                    _ if on.next_poll <= now => daemon.io = read(random),
                    Step::Left if random.below(8) == 0 => {
                        let step = on.bakery.begin(now);
                        on.take(step, now);
                    }
                    _ => {
                        let wake = on.next_beat.min(on.next_poll).max(now + MS);
                        let step = if matches!(on.step, Step::WaitThenPoll(_)) { on.next_step } else { wake };
                        daemon.ready = wake.min(step.max(now + MS));
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

fn seeds() -> u64 {
    std::env::var("VOLCTL_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(40)
}

#[test]
fn histories_with_stalls_kills_and_restarts_keep_one_inside() {
    for seed in 0..seeds() {
        let mut history = History::new(seed, Rules::ALL);
        assert_eq!(history.run(), Ok(()), "seed {seed}");
        assert!(history.tenures > 50, "seed {seed}: {} tenures try little", history.tenures);
    }
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
