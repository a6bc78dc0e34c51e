//! People at the clients: they ask, answer, release, mount and take over; and what is waited for once trouble is over.

use std::time::Duration;

use ondisk::{AnswerVerdict, Message};
use volctl::engine::{Command, CommandId};

use crate::plan::name;
use crate::rng::nanos;
use crate::world::{Event, Fate, HostId, World};

impl World {
    /// A person's command goes to the daemon of a host, if there is one.
    pub(crate) fn command(&mut self, host: HostId, command: Command) -> bool {
        let Some(proc) = self.hosts[host].daemon.filter(|p| self.procs[*p].logged_on && !self.procs[*p].dead) else {
            return false;
        };
        let id = CommandId(self.fates.len() as u64);
        self.note(|w| format!("{}: command {} {command:?}", w.name(host), id.0));
        self.fates.push((host, command.clone(), Fate::Open));
        self.procs[proc].commands.push_back((id, command));
        self.progress(proc);
        true
    }

    /// A person at a host does something.
    pub(crate) fn person(&mut self, host: HostId) {
        if self.calm {
            return self.say_yes(host);
        }
        let wait = self.rng.time(Duration::from_millis(5), self.plan.busy * 2);
        self.after(wait, Event::Person(host));
        let index = self.rng.below(self.volumes.list.len());
        let volume = self.volumes.list[index].name.clone();
        let message = Message::cut("please");
        let command = match self.rng.below(16) {
            0..=5 => {
                let wait = self.rng.one_in(2).then(|| self.rng.ms(100, 10_000));
                Command::Request { volume, message, wait }
            }
            6 => Command::Withdraw { volume },
            7..=9 => {
                let client = name(self.rng.below(self.plan.clients)).to_owned();
                let verdicts = [AnswerVerdict::Yes, AnswerVerdict::Yes, AnswerVerdict::No, AnswerVerdict::Later];
                let verdict = *self.rng.pick(&verdicts);
                Command::Answer { volume, client, verdict, message }
            }
            10 => Command::Release { volume },
            11 => Command::Refresh { volume },
            12 => Command::Mount { volume },
            13 => Command::Unmount { volume },
            14 => Command::Takeover { volume, yes_i_know: None },
            _ => return self.open_files(host, index),
        };
        self.command(host, command);
    }

    /// In quiet times people give away what others ask for.
    fn say_yes(&mut self, host: HostId) {
        self.after(Duration::from_millis(500), Event::Person(host));
        let mine = self.hosts[host].slot;
        let held = |t: &Option<ondisk::VolumeTable>| t.as_ref()?.writer.filter(|g| g.slot == mine);
        for index in 0..self.volumes.list.len() {
            if self.oracle.tables.get(index).and_then(held).is_none() {
                continue;
            }
            let volume = &self.volumes.list[index];
            let (uuid, volume) = (volume.uuid, volume.name.clone());
            let asks = |h: &HostId| self.hosts[*h].daemon.is_some_and(|p| self.procs[p].requests.contains(&uuid));
            let askers: Vec<HostId> = (0..self.plan.clients).filter(|h| *h != host).filter(asks).collect();
            if let Some(asker) = askers.first() {
                let client = name(*asker).to_owned();
                let message = Message::cut("gladly");
                self.command(host, Command::Answer { volume, client, verdict: AnswerVerdict::Yes, message });
            }
        }
    }

    /// Once nothing is stuck any more there is an exam, and once that is passed the run ends.
    pub(crate) fn look_whether_settled(&mut self) {
        let late = self.now > self.settled_by;
        let old = self.disk.flies_since(self.now.saturating_sub(nanos(Duration::from_secs(1))));
        // Who lost a login that trouble had shaken is asked again.
        if !late && self.exam.iter().any(|id| self.fates[*id].2 == Fate::Over) {
            self.exam.clear();
        }
        let stuck = old || !self.what_is_stuck().is_empty();
        match (self.exam.is_empty(), stuck) {
            (_, true) if late => return self.at(self.now, Event::End),
            (true, false) => {
                if !std::mem::replace(&mut self.examined, true) {
                    self.settled_by = self.now + nanos(Duration::from_secs(25));
                }
                self.begin_exam();
            }
            (false, false) => return self.at(self.now, Event::End),
            _ => {}
        }
        self.after(Duration::from_millis(250), Event::Look);
    }

    /// Of every volume somebody asks once more for the write privilege.
    fn begin_exam(&mut self) {
        self.note(|_| "the exam".into());
        for index in 0..self.volumes.list.len() {
            let volume = self.volumes.list[index].name.clone();
            let host = self.rng.below(self.plan.clients);
            let wait = Some(Duration::from_secs(60));
            if self.command(host, Command::Request { volume, message: Message::cut("the exam"), wait }) {
                self.exam.push(self.fates.len() - 1);
            }
        }
    }

    /// Programs have files open for a while.
    fn open_files(&mut self, host: HostId, volume: usize) {
        let until = self.now + nanos(self.rng.ms(100, 5000));
        for id in self.gates_on(host) {
            let gate = &mut self.volumes.gates[id];
            if gate.volume == volume && gate.mounted {
                gate.files_until = until;
            }
        }
    }

    /// Trouble is over: paths work, machines run, daemons are there, nobody holds anything up.
    pub(crate) fn become_calm(&mut self) {
        self.note(|_| "trouble is over".into());
        self.calm = true;
        self.after(self.plan.timings.dead(), Event::Look);
        // What was sent down a path that was away comes back when it would have.
        let hangs = self.hosts.iter().map(|h| h.path_until.saturating_sub(self.now)).max().unwrap_or(0);
        self.settled_by += hangs;
        for host in 0..self.hosts.len() {
            let strange = host >= self.plan.clients;
            let own = &mut self.hosts[host];
            own.path_until = 0;
            own.volumes_until = 0;
            if own.tender_until == u64::MAX {
                // Who stopped the guardian lets it go on.
                if let Some(guardian) = own.guardian.as_mut() {
                    guardian.stopped = false;
                }
                own.tender_until = 0;
            }
            let fault = |kind| crate::faults::Fault { kind, host, proc: None };
            if strange {
                own.retired = true;
                if let Some(proc) = own.daemon {
                    self.kill(proc);
                }
            }
            if !self.hosts[host].up {
                self.mend(fault(crate::faults::Kind::PowerCut));
            }
            if !self.hosts[host].running {
                self.mend(fault(crate::faults::Kind::Suspend));
            }
            self.nudge_guardian(host);
        }
        for proc in 0..self.procs.len() {
            self.procs[proc].stopped = false;
            self.procs[proc].told = None;
            self.let_run(proc);
        }
        for id in self.volumes.alive.clone() {
            self.volumes.gates[id].files_until = 0;
        }
        for host in 0..self.plan.clients {
            if self.hosts[host].daemon.is_none() {
                self.restart_later(host, Duration::from_millis(10));
            }
        }
    }

    /// What is still not as it should be, long after trouble was over.
    pub(crate) fn what_is_stuck(&self) -> Vec<String> {
        let mut stuck = Vec::new();
        for host in (0..self.plan.clients).filter(|host| Some(*host) != self.plan.absent) {
            let who = self.name(host);
            let proc = self.hosts[host].daemon.map(|p| &self.procs[p]);
            if proc.is_none_or(|p| !p.logged_on) {
                stuck.push(format!("{who} is not logged on"));
            }
            if proc.is_some_and(|p| !p.requests.is_empty()) {
                stuck.push(format!("{who} still asks for something"));
            }
        }
        for (id, (host, command, _)) in self.fates.iter().enumerate().filter(|(_, f)| f.2 == Fate::Open) {
            stuck.push(format!("{}: command {id} {command:?} got no last word", self.name(*host)));
        }
        for id in self.exam.iter().filter(|id| self.fates[**id].2 != Fate::Done) {
            let (host, command, _) = &self.fates[*id];
            stuck.push(format!("{}: the exam's {command:?} was not granted", self.name(*host)));
        }
        stuck
    }
}
