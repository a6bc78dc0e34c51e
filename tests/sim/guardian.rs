//! The guardian of a login: a process of its own, which looks at the lease word and closes the gates.
//!
//! The real one (`lockdriver/src/guardian/`) is mostly system calls and runs in the tests on loop devices; this one does what it
//! does, on the same lease word.

use std::time::Duration;

use lockdriver::deadline::{LeaseView, SharedDeadline};

use crate::rng::nanos;
use crate::world::{Event, HostId, ProcId, World};

/// A guardian.
#[derive(Debug)]
pub(crate) struct Guardian {
    /// Whose.
    pub(crate) proc: ProcId,
    /// The lease word.
    pub(crate) deadline: SharedDeadline,
    /// It runs, or is stopped.
    pub(crate) alive: bool,
    /// SIGSTOP.
    pub(crate) stopped: bool,
    /// Its events.
    pub(crate) serial: u64,
    /// It has begun to close, and is done then.
    pub(crate) closes_at: Option<u64>,
    /// It has told the daemon of an orderly stop.
    pub(crate) orderly: bool,
}

/// How long closing takes, at most; the real one needs about 60 ms for a gate.
const CLOSING_MS: u64 = 80;

impl World {
    /// The daemon starts a guardian for its login.
    pub(crate) fn start_guardian(&mut self, proc: ProcId, deadline: SharedDeadline) {
        let host = self.procs[proc].host;
        let serial = self.rng.next();
        let now = self.clock_of(host);
        deadline.tick_guardian(now);
        self.hosts[host].guardian =
            Some(Guardian { proc, deadline, alive: true, stopped: false, serial, closes_at: None, orderly: false });
        self.hosts[host].tender_until = 0;
        self.at(self.now, Event::Guardian { host, serial });
    }

    /// The guardian looks again at once.
    pub(crate) fn nudge_guardian(&mut self, host: HostId) {
        let Some(guardian) = &self.hosts[host].guardian else { return };
        let serial = guardian.serial;
        self.at(self.now, Event::Guardian { host, serial });
    }

    /// Once round its loop.
    pub(crate) fn guardian_looks(&mut self, host: HostId, serial: u64) {
        let now = self.clock_of(host);
        let up = self.hosts[host].up && self.hosts[host].running;
        let lease = self.plan.timings.lease();
        let Some(guardian) = self.hosts[host].guardian.as_mut().filter(|g| g.serial == serial && g.alive) else {
            return;
        };
        if guardian.stopped || !up {
            return;
        }
        guardian.deadline.tick_guardian(now);
        let proc = guardian.proc;
        if self.procs[proc].dead {
            guardian.deadline.end();
        }
        let tick = (lease / 8).min(Duration::from_secs(1));
        let pause = match guardian.deadline.get(now) {
            LeaseView::NotBegun => tick,
            LeaseView::Live { until } => {
                let orderly = until.saturating_sub(lease / 4);
                if now < orderly {
                    tick.min(orderly.saturating_sub(now))
                } else {
                    if !guardian.orderly {
                        guardian.orderly = true;
                        self.stop_in_order(host, proc);
                    }
                    tick.min(until.saturating_sub(now))
                }
            }
            LeaseView::Over => self.guardian_closes(host, tick),
        };
        if self.hosts[host].guardian.as_ref().is_some_and(|g| g.alive) {
            self.at(self.now + nanos(pause).max(1_000_000), Event::Guardian { host, serial });
        }
    }

    fn stop_in_order(&mut self, host: HostId, proc: ProcId) {
        self.note(|w| format!("{}: the guardian begins an orderly stop", w.name(host)));
        for id in self.gates_on(host) {
            self.volumes.gates[id].read_only = true;
        }
        // The loop hears of it by its socket.
        self.progress(proc);
    }

    fn guardian_closes(&mut self, host: HostId, tick: Duration) -> Duration {
        let now = self.now;
        let time = Duration::from_millis(self.rng.between(1, CLOSING_MS));
        let guardian = self.hosts[host].guardian.as_mut().expect("it looks");
        let proc = guardian.proc;
        let closes_at = *guardian.closes_at.get_or_insert(now + nanos(time));
        if now < closes_at {
            return Duration::from_nanos(closes_at - now);
        }
        let mut drained = true;
        for id in self.gates_on(host) {
            let gate = &self.volumes.gates[id];
            let keeps = gate.epoch.is_none() && self.volumes.list[gate.volume].readers == ondisk::ReadersPolicy::Live;
            if gate.proc == proc && (!keeps || self.procs[proc].dead) {
                self.close_gate(id);
                drained &= self.is_drained(&[id]);
            }
        }
        if self.procs[proc].dead && drained {
            self.note(|w| format!("{}: the guardian is done", w.name(host)));
            self.hosts[host].guardian = None;
        }
        tick
    }
}
