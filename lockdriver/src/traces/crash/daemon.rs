//! A daemon in a seeded history: what it has under way, how far its life has come.

use std::time::Duration;

use ondisk::{Incarnation, SlotIndex, SlotSector};

use super::{CLIENTS, MS};
use crate::lease::{BeatNo, Lease, LeaseChange, LeaseStage};
use crate::logon::{Claimed, Host, Logon, LogonStep};
use crate::poll::{Me, PollDecoder};
use crate::rules::Rules;
use crate::semaphore::{Bakery, Params, Semaphore, Step};
use crate::traces::bench::{BEAT, Bench, DEAD, LEASE, MARGIN, request};
use crate::watch::Watch;

pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    pub(super) fn ms(&mut self, below: u64) -> Duration {
        MS * u32::try_from(self.below(below)).unwrap()
    }
    /// Mostly a few milliseconds, now and then long, always well below `margin`.
    pub(super) fn delay(&mut self) -> Duration {
        if self.below(60) == 0 { self.ms(1800) } else { self.ms(8) + MS }
    }
}

/// What a daemon has under way.
pub(super) enum Io {
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

pub(super) enum Life {
    LoggingOn(Box<(Logon, LogonStep)>),
    On(Box<On>),
    Over,
}

pub(super) struct On {
    pub(super) me: Me,
    pub(super) sector: SlotSector,
    pub(super) bakery: Bakery,
    pub(super) lease: Lease,
    pub(super) step: Step,
    pub(super) next_beat: Duration,
    pub(super) next_poll: Duration,
    /// When the semaphore wants its next poll or write.
    pub(super) next_step: Duration,
    /// Inside: the header was read after entering; committed.
    pub(super) admitted: bool,
    pub(super) committed: bool,
    pub(super) reap_own: Option<Incarnation>,
}

/// One running daemon (or one that others take for dead and that may wake again).
pub(super) struct Daemon {
    pub(super) slot: u16,
    pub(super) home: Host,
    pub(super) life: Life,
    pub(super) decoder: PollDecoder,
    pub(super) watch: Watch,
    pub(super) io: Io,
    pub(super) ready: Duration,
}

impl Daemon {
    pub(super) fn new(bench: &Bench, slot: u16, id: u8, home: Host, rules: Rules, now: Duration) -> Self {
        let mut logon = Logon::new(request(slot, id, home, rules));
        let step = logon.begin();
        Self {
            slot,
            home,
            life: Life::LoggingOn(Box::new((logon, step))),
            decoder: PollDecoder::new(bench.geometry.clone()),
            watch: Watch::new(&bench.geometry, DEAD).with_rules(rules),
            io: Io::None,
            ready: now,
        }
    }

    pub(super) fn may_act(&self, now: Duration) -> Option<&On> {
        match &self.life {
            Life::On(on) if on.lease.stage(now) != LeaseStage::Over => Some(on),
            _ => None,
        }
    }

    pub(super) fn acts_inside(&self, now: Duration) -> bool {
        self.may_act(now).is_some_and(|on| on.bakery.tenure().is_some())
    }

    pub(super) fn claimed(&mut self, claimed: &Claimed, rules: Rules, now: Duration) {
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
    pub(super) fn take(&mut self, step: Step, now: Duration) {
        self.next_step = match &step {
            Step::WaitThenPoll(wait) => now + *wait,
            _ => now,
        };
        self.step = step;
    }
}
