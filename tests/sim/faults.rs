//! What goes wrong with hosts, processes, paths and the medium, and how it mends. I/O by I/O: [`crate::disk`].
//!
//! Each fault keeps to the numbered assumptions of `docs/safety.md`; where one is a bound, the fault goes up to it.

use std::time::Duration;

use crate::disk::Region;
use crate::host_key::KeyRoom;
use crate::rng::nanos;
use crate::world::{Event, HostId, ProcId, World};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// kill -9 of a daemon.
    KillDaemon,
    /// SIGSTOP of a daemon, for any time.
    StopDaemon,
    /// kill -9 of a guardian (A6: while its daemon is well).
    KillGuardian,
    /// SIGSTOP of a guardian (A6: while its daemon is well).
    StopGuardian,
    /// A host loses its power.
    PowerCut,
    /// A host's path to the control volume is away.
    Path,
    /// All hosts' paths to the control volume are away.
    AllPaths,
    /// A host's path to the volumes holds writes back (A7: for `inflight` at most).
    VolumePath,
    /// A host is suspended, after its gates were closed.
    Suspend,
    /// A hypervisor stops a host, and its clock with it (A5: well within `margin`).
    Pause,
    /// A block of the control volume goes bad.
    Rot,
    /// A second daemon of one name starts on another host (A10).
    Stranger,
    /// A daemon is told to end, and comes back.
    Leave,
    /// A daemon leaves, and soon it and a second one of its name want its slot (A10).
    Twins,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 14] = [
        Self::KillDaemon,
        Self::StopDaemon,
        Self::KillGuardian,
        Self::StopGuardian,
        Self::PowerCut,
        Self::Path,
        Self::AllPaths,
        Self::VolumePath,
        Self::Suspend,
        Self::Pause,
        Self::Rot,
        Self::Stranger,
        Self::Leave,
        Self::Twins,
    ];
}

/// A fault at a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    /// What.
    pub(crate) kind: Kind,
    /// Where.
    pub(crate) host: HostId,
    /// Which process it was, if one.
    pub(crate) proc: Option<ProcId>,
}

impl World {
    /// Draws the next fault.
    pub(crate) fn draw_fault(&mut self) {
        if self.calm || self.plan.faults.is_empty() {
            return;
        }
        let kinds = self.plan.faults.clone();
        let kind = *self.rng.pick(&kinds);
        let hosts = self.hosts.len();
        let host = match kind {
            Kind::Stranger | Kind::Twins if hosts > self.plan.clients => {
                self.plan.clients + self.rng.below(hosts - self.plan.clients)
            }
            _ => self.rng.below(hosts),
        };
        let wait = self.rng.time(Duration::from_millis(1), self.plan.every * 2);
        self.after(wait, Event::Fault(Fault { kind, host, proc: None }));
    }

    fn long(&mut self) -> Duration {
        let dead = self.plan.timings.dead();
        match self.rng.below(4) {
            0 => self.rng.time(Duration::from_millis(1), self.plan.timings.beat()),
            1 => self.rng.time(Duration::from_millis(100), self.plan.timings.lease()),
            2 => self.rng.time(self.plan.timings.lease(), dead * 2),
            _ => self.rng.time(dead, dead * 4),
        }
    }

    fn daemon(&self, host: HostId) -> Option<ProcId> {
        self.hosts[host].daemon.filter(|p| !self.procs[*p].dead)
    }

    /// Is the daemon well enough to make up for its guardian (A6)?
    fn is_well(&self, host: HostId) -> bool {
        let Some(proc) = self.daemon(host) else { return false };
        let process = &self.procs[proc];
        let own = &self.hosts[host];
        let slow = self.now < process.slow_until || self.now < own.path_until;
        own.up && own.running && !process.stopped && !slow && process.logged_on
    }

    fn guardian_is_well(&self, host: HostId) -> bool {
        let guardian = self.hosts[host].guardian.as_ref();
        self.hosts[host].tender_until <= self.now && guardian.is_none_or(|g| g.alive && !g.stopped)
    }

    /// Something goes wrong, where it may.
    pub(crate) fn go_wrong(&mut self, fault: Fault) {
        self.draw_fault();
        let host = fault.host;
        if self.calm || !self.hosts[host].up || !self.hosts[host].running {
            return;
        }
        let time = self.long();
        let who = self.name(host);
        let tender = self.hosts[host].tender_until > self.now;
        let daemon = self.daemon(host);
        match fault.kind {
            Kind::KillDaemon if self.guardian_is_well(host) => {
                let Some(proc) = daemon else { return };
                self.count("kill -9 of a daemon");
                self.note(|_| format!("{who}: the daemon is killed"));
                self.kill(proc);
                self.restart_later(host, time);
            }
            Kind::StopDaemon if self.guardian_is_well(host) => {
                let Some(proc) = daemon.filter(|p| !self.procs[*p].stopped) else { return };
                self.count("SIGSTOP of a daemon");
                self.note(|_| format!("{who}: the daemon is stopped for {time:?}"));
                self.procs[proc].stopped = true;
                self.is_slow_until(proc, self.now + nanos(time));
                self.after(time, Event::Mends(Fault { proc: Some(proc), ..fault }));
            }
            Kind::KillGuardian | Kind::StopGuardian if self.is_well(host) && self.guardian_is_well(host) => {
                let kills = fault.kind == Kind::KillGuardian;
                let Some(guardian) = self.hosts[host].guardian.as_mut() else { return };
                let proc = guardian.proc;
                if kills {
                    guardian.alive = false;
                } else {
                    guardian.stopped = true;
                }
                self.count(if kills { "kill -9 of a guardian" } else { "SIGSTOP of a guardian" });
                self.note(|_| format!("{who}: the guardian is {}", if kills { "killed" } else { "stopped" }));
                // Until it is replaced; a stopped one goes on later, if it was not ended.
                self.hosts[host].tender_until = u64::MAX;
                self.progress(proc);
                if !kills {
                    self.after(time, Event::Mends(fault));
                }
            }
            Kind::PowerCut => {
                self.count("a power cut");
                self.note(|_| format!("{who}: loses its power for {time:?}"));
                self.cut_power(host);
                self.after(time, Event::Mends(fault));
            }
            Kind::Path if !tender => self.lose_path(&[host], time),
            Kind::AllPaths if !self.hosts.iter().any(|h| h.tender_until > self.now) => {
                let all: Vec<HostId> = (0..self.hosts.len()).collect();
                let time = time.min(self.plan.timings.dead() * 2);
                self.lose_path(&all, time);
            }
            Kind::VolumePath => {
                self.count("a path to the volumes holds writes back");
                self.hosts[host].volumes_until = self.now + nanos(time);
            }
            Kind::Suspend if self.guardian_is_well(host) => {
                self.count("a suspend");
                self.note(|_| format!("{who}: is suspended for {time:?}, its gates are closed before"));
                if let Some(guardian) = &self.hosts[host].guardian {
                    guardian.deadline.end();
                }
                for id in self.gates_on(host) {
                    self.close_gate(id);
                }
                self.hosts[host].running = false;
                self.after(time, Event::Mends(fault));
            }
            Kind::Pause if self.now >= self.hosts[host].paused_last && !tender => {
                let time = self.rng.time(Duration::from_millis(1), self.plan.margin() * 2 / 5);
                self.count("a pause of a machine");
                self.note(|_| format!("{who}: the machine is paused for {time:?}"));
                self.set_clock(host, true);
                self.hosts[host].running = false;
                self.hosts[host].paused_last = self.now + nanos(time + 2 * self.plan.timings.dead());
                self.after(time, Event::Mends(fault));
            }
            Kind::Rot => self.go_bad(),
            Kind::Stranger => self.bring_stranger(host),
            Kind::Twins => self.bring_twins(host),
            Kind::Leave => {
                let Some(proc) = daemon else { return };
                let now = self.rng.one_in(2);
                self.count("a daemon is told to end");
                self.note(|_| format!("{who}: the daemon is told to end{}", if now { " now" } else { "" }));
                self.procs[proc].told = Some(now);
                self.progress(proc);
            }
            _ => {}
        }
    }

    /// What went wrong is over.
    pub(crate) fn mend(&mut self, fault: Fault) {
        let host = fault.host;
        let who = self.name(host);
        match fault.kind {
            Kind::StopDaemon => {
                let Some(proc) = fault.proc else { return };
                self.note(|_| format!("{who}: the daemon goes on"));
                self.procs[proc].stopped = false;
                self.let_run(proc);
            }
            Kind::StopGuardian => {
                let Some(guardian) = self.hosts[host].guardian.as_mut().filter(|g| g.stopped) else { return };
                guardian.stopped = false;
                self.note(|_| format!("{who}: the guardian goes on"));
                self.hosts[host].tender_until = 0;
                self.nudge_guardian(host);
            }
            Kind::PowerCut => {
                self.hosts[host].up = true;
                self.restart_later(host, Duration::from_millis(10));
            }
            Kind::Suspend | Kind::Pause if self.hosts[host].up && !self.hosts[host].running => {
                self.note(|_| format!("{who}: the machine goes on"));
                self.hosts[host].running = true;
                self.set_clock(host, false);
                self.nudge_guardian(host);
                for proc in 0..self.procs.len() {
                    if self.procs[proc].host == host {
                        self.let_run(proc);
                    }
                }
            }
            _ => {}
        }
    }

    /// The clock of a host stands still from now on, or goes on.
    fn set_clock(&mut self, host: HostId, stands: bool) {
        let own = self.clock_of(host);
        let (_, _, ppm) = self.hosts[host].clock;
        self.hosts[host].clock = (self.now, own, ppm);
        self.hosts[host].stands = stands;
    }

    fn lose_path(&mut self, hosts: &[HostId], time: Duration) {
        self.count(if hosts.len() == 1 { "a path is away" } else { "all paths are away" });
        let fails = self.rng.one_in(2);
        for host in hosts.iter().copied() {
            self.note(|w| format!("{}: the path to the control volume is away for {time:?}", w.name(host)));
            self.hosts[host].path_until = self.now + nanos(time);
            self.hosts[host].path_fails = fails;
        }
    }

    fn go_bad(&mut self) {
        let g = self.disk.geometry.clone();
        let place = |offset: u64| usize::try_from(offset).expect("a small disk");
        let [slots, headers] = [g.poll_area().start, g.header_copy(0).offset].map(place);
        let [tables, end] = [g.poll_area().end, g.free_area().start].map(place);
        let area = match self.rng.below(3) {
            0 => slots..headers,
            1 => headers..tables,
            _ => tables..end,
        };
        let at = area.start + self.rng.below(area.len());
        let (region, block, len) = self.disk.block_at(at);
        if !self.disk.may_harm(region, block) {
            return;
        }
        let unreadable = self.rng.one_in(2);
        self.count(if region == Region::Slot { "a slot goes bad" } else { "a block goes bad" });
        self.note(|_| format!("the {region:?} block at {block} goes bad (unreadable: {unreadable})"));
        if region == Region::Slot {
            self.forget_tickets();
        }
        self.disk.rot(region, block, len, unreadable);
        self.look_at_landing(region);
    }

    /// The process is gone. What it has in the kernel goes on.
    pub(crate) fn kill(&mut self, proc: ProcId) {
        if std::mem::replace(&mut self.procs[proc].dead, true) {
            return;
        }
        self.died.push(proc);
        self.procs[proc].deferred.clear();
        let host = self.procs[proc].host;
        if let Some(deadline) = &self.procs[proc].deadline {
            deadline.end();
        }
        self.end_commands(proc);
        self.hosts[host].key.forget(proc);
        if self.hosts[host].daemon == Some(proc) {
            self.hosts[host].daemon = None;
        }
        self.nudge_guardian(host);
    }

    fn cut_power(&mut self, host: HostId) {
        self.cut_io(host);
        if let Some(proc) = self.daemon(host) {
            self.kill(proc);
        }
        self.hosts[host].guardian = None;
        self.hosts[host].key = KeyRoom::default();
        self.hosts[host].doubts = (Duration::ZERO, Duration::ZERO);
        self.hosts[host].tender_until = 0;
        self.lose_gates(host);
        self.hosts[host].up = false;
        self.hosts[host].running = true;
        self.hosts[host].boot = self.rng.next();
        self.hosts[host].path_until = 0;
    }

    /// A host starts its daemon after a while, as its service manager does.
    pub(crate) fn restart_later(&mut self, host: HostId, time: Duration) {
        if !self.hosts[host].starting && !self.hosts[host].retired {
            self.hosts[host].starting = true;
            self.after(time, Event::Start(host));
        }
    }

    /// A host that bears the client's name too gets a daemon.
    fn bring_stranger(&mut self, host: HostId) {
        if host >= self.plan.clients && self.daemon(host).is_none() {
            self.count("a second daemon of one name");
            self.restart_later(host, Duration::from_millis(1));
        }
    }
    /// The client's own daemon ends; it and the one of a host that bears its name too start again at about one moment.
    fn bring_twins(&mut self, twin: HostId) {
        let slot = self.hosts[twin].slot;
        let own = (0..self.plan.clients).find(|h| self.hosts[*h].slot == slot).expect("every slot has its client");
        let Some(proc) = self.daemon(own).filter(|_| self.guardian_is_well(own)) else { return };
        if twin < self.plan.clients || self.daemon(twin).is_some() {
            return;
        }
        self.count("two daemons of one name at once");
        let wait = self.rng.ms(1, 400);
        let killed = self.rng.one_in(2);
        let who = self.name(own);
        self.note(|_| format!("{who}: is {}, and has a twin", if killed { "killed" } else { "told to end" }));
        self.restart_later(twin, wait);
        if killed {
            self.kill(proc);
            // The twin has waited for the silence by then, or is about to have.
            let jitter = self.rng.ms(0, 600);
            let wait = if self.rng.one_in(2) { wait } else { self.plan.timings.dead() + wait };
            self.restart_later(own, wait + jitter);
        } else {
            self.procs[proc].told = Some(true);
            self.progress(proc);
        }
    }
}
