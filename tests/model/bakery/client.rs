//! One client: its daemon, whichever is there.

use std::time::Duration;

use lockdriver::logon::{Host, Logon, LogonRequest, LogonStep};
use lockdriver::poll::Me;
use lockdriver::rules::Rules;
use lockdriver::semaphore::{Bakery, Params, Semaphore, Step};
use ondisk::{DaemonId, Incarnation, LockFile, SlotIndex, Ticket};

use super::CLIENTS;
use super::reading::{BEAT, DEAD, Head, LEASE, MARGIN, START, Sample, Sector};

/// A number for a daemon that no other one has.
pub(super) fn daemon(slot: usize, start: u8) -> u8 {
    u8::try_from(slot * 32).expect("three slots") + start
}

pub(super) fn index(slot: usize) -> SlotIndex {
    SlotIndex(u16::try_from(slot).expect("three slots"))
}

#[derive(Debug, Clone, Hash)]
pub(super) struct Client {
    pub(super) slot: usize,
    /// Tenures that it still wants.
    pub(super) wants: u8,
    /// Daemons started so far.
    pub(super) starts: u8,
    pub(super) host: u8,
    pub(super) now: Duration,
    pub(super) life: Life,
}

#[derive(Debug, Clone, Hash)]
pub(super) enum Life {
    /// Its lease is over. `killed`: its daemon is proven gone with its I/O, so that the next one may come the first way.
    Gone {
        killed: bool,
    },
    LoggingOn(Box<LoggingOn>),
    On(Box<On>),
}

#[derive(Debug, Clone, Hash)]
pub(super) struct LoggingOn {
    pub(super) logon: Logon,
    pub(super) step: LogonStep,
    /// The lock file tells of a write of unknown result.
    pub(super) doubts: bool,
}

#[derive(Debug, Clone, Hash)]
pub(super) struct On {
    pub(super) bakery: Bakery,
    pub(super) step: Step,
    /// As it was claimed; the bakery's fields are put into it.
    sector: Sector,
    /// The first commit reaps the own incarnations up to this one.
    pub(super) reap_own: Option<Incarnation>,
    /// What the reading under way has sampled.
    pub(super) samples: [Option<Sample>; CLIENTS],
    pub(super) header: Option<Head>,
    /// It has read the header inside, and may write.
    pub(super) admitted: bool,
    pub(super) committed: bool,
}

impl Client {
    /// Logged on with this sector.
    pub(super) fn on(slot: usize, sector: Sector, wants: u8, rules: Rules) -> Self {
        let life = Life::On(Box::new(On::new(slot, sector, None, rules)));
        Self { slot, wants, starts: 1, host: 0, now: START, life }
    }

    pub(super) fn is_gone(&self) -> bool {
        matches!(self.life, Life::Gone { .. })
    }

    /// It may write tables, or believes so; where living ones are reaped, only after its first act inside (trace A9).
    pub(super) fn is_inside(&self, admitted: bool) -> bool {
        matches!(&self.life, Life::On(on) if on.bakery.tenure().is_some() && (on.admitted || !admitted))
    }

    /// It is there and wants nothing.
    pub(super) fn rests(&self) -> bool {
        self.wants == 0 && matches!(&self.life, Life::On(on) if on.step == Step::Left)
    }

    /// `doubts`: whoever was killed left a write of unknown result, and the lock file tells of it.
    pub(super) fn start_logon(&mut self, killed: bool, doubts: bool, rules: Rules) {
        self.starts += 1;
        if !killed {
            self.host = self.starts;
        }
        let id = self.host;
        let lock_file = LockFile { device: u64::from(id), inode: 1 };
        let request = LogonRequest {
            slot: index(self.slot),
            daemon_id: DaemonId([daemon(self.slot, self.starts); 16]),
            host: Host { machine_id: [id; 16], boot_id: [id; 16], lock_file },
            record: Incarnation(0),
            highest_number: 0,
            unsettled: if doubts { START } else { Duration::ZERO },
            page_sequence: 0,
            gui: false,
            lease: LEASE,
            dead: DEAD,
            beat: BEAT,
            poll: Duration::from_millis(250),
            rules,
        };
        let mut logon = Logon::new(request);
        let step = logon.begin();
        self.now = START;
        self.life = Life::LoggingOn(Box::new(LoggingOn { logon, step, doubts }));
    }
}

impl On {
    pub(super) fn new(slot: usize, sector: Sector, reap_own: Option<Incarnation>, rules: Rules) -> Self {
        let me = Me {
            slot: index(slot),
            incarnation: Incarnation(u64::from(sector.incarnation)),
            daemon: DaemonId([sector.daemon; 16]),
        };
        let slots = u16::try_from(CLIENTS).expect("three");
        let ticket = Ticket(u64::from(sector.ticket));
        let bakery = Bakery::new(Params { me, slots, margin: MARGIN, beat: BEAT, ticket, rules });
        Self {
            bakery,
            step: Step::Left,
            sector,
            reap_own,
            samples: [None; CLIENTS],
            header: None,
            admitted: false,
            committed: false,
        }
    }

    /// The sector that the next write of the slot carries.
    pub(super) fn next_sector(&self) -> Sector {
        self.sector.with(self.bakery.fields())
    }

    /// No reading is half done.
    pub(super) fn reads_nothing(&self) -> bool {
        self.header.is_none() && self.samples.iter().all(Option::is_none)
    }
}
