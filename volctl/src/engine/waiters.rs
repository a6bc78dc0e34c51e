//! Commands that wait, and what they are told in the end: every one of them is answered.

use super::Engine;
use super::command::{CommandId, Reply, Waiter, Waiting};
use super::mailbox::gone;
use super::volume::{Volume, Writer};
use super::world::World;
use crate::wire::outcome::Failure;

impl Engine {
    /// Commands whose wait is over.
    pub(crate) fn wake_waiters(&mut self, world: &World<'_>) {
        for waiter in std::mem::take(&mut self.waiters) {
            if let Some(waiter) = self.look_at_waiter(waiter, world) {
                self.waiters.push(waiter);
            }
        }
    }

    fn look_at_waiter(&mut self, mut waiter: Waiter, world: &World<'_>) -> Option<Waiter> {
        let name = waiter.name.clone();
        let Some(volume) = self.volumes.get(&waiter.volume) else {
            self.reply(waiter.id, Reply::Failed(gone()));
            return None;
        };
        let done = match &waiter.what {
            Waiting::Write { .. } => None,
            Waiting::Released => {
                let over = volume.release.is_none() && volume.writer == Writer::None;
                over.then(|| format!("{name} is released"))
            }
            Waiting::Refreshed(generation) => volume
                .mounted
                .filter(|seen| seen >= generation)
                .map(|seen| format!("{name} is current: generation {seen}")),
            Waiting::Mounted => volume.mounted.map(|seen| format!("{name} is mounted read-only, generation {seen}")),
            Waiting::Unmounted => {
                let gone = volume.mounted.is_none() && volume.announced.is_none() && volume.job.is_none();
                (gone && volume.writer == Writer::None).then(|| format!("{name} is not mounted any more"))
            }
        };
        if let Some(text) = done {
            self.done(waiter.id, &name, text);
            return None;
        }
        let failed = match (&waiter.what, &volume.failure) {
            (Waiting::Unmounted, _) if matches!(volume.writer, Writer::Writing(_)) => Some(Failure::refused(
                format!("{name} is not unmounted"),
                "it was asked for before, and this client has the write privilege by now",
                format!("release it: `volctl release {name}`"),
            )),
            (Waiting::Unmounted, _) if !volume.user_unmounted => Some(Failure::refused(
                format!("{name} is not unmounted"),
                "somebody here ran `volctl mount` meanwhile",
                format!("run `volctl unmount {name}` again if it is to go all the same"),
            )),
            (Waiting::Mounted | Waiting::Unmounted | Waiting::Refreshed(_), Some(f)) => Some(f.failure.clone()),
            (Waiting::Mounted | Waiting::Refreshed(_), None)
                if volume.reason.is_some() && volume.announced.is_none() && volume.job.is_none() =>
            {
                let why = volume.reason.clone().unwrap_or_default();
                Some(Failure::refused(format!("{name} cannot be mounted now"), why, "see `volctl status`"))
            }
            _ => None,
        };
        if let Some(failure) = failed {
            self.reply(waiter.id, Reply::Failed(failure));
            return None;
        }
        if waiter.what == Waiting::Released && volume.release.is_none() && matches!(volume.writer, Writer::Writing(_)) {
            let again = "write access was asked for again before it was given back";
            self.reply(
                waiter.id,
                Reply::Failed(Failure::busy(format!("{name} is not released"), again, "release it again")),
            );
            return None;
        }
        if self.is_request_over(&waiter, world) {
            return None;
        }
        if waiter.until.is_some_and(|t| world.now >= t) {
            let failure = Failure::timed_out(
                format!("{name}: the wait is over"),
                self.why_waiting(&waiter, world),
                "it goes on without this command; see `volctl status`, or take it back: `volctl withdraw`",
            );
            self.reply(waiter.id, Reply::Failed(failure));
            return None;
        }
        self.tell_progress(&mut waiter, world);
        Some(waiter)
    }

    /// Has a command that asks for write access got its answer: the request is gone, or stands and that was all?
    fn is_request_over(&mut self, waiter: &Waiter, world: &World<'_>) -> bool {
        let Waiting::Write { request, wait } = waiter.what else { return false };
        if self.page.request(waiter.volume).is_none_or(|r| r.id != request) {
            self.reply(waiter.id, Reply::Failed(gone_request(&waiter.name)));
            return true;
        }
        let table = world.table(waiter.volume).filter(|_| !wait);
        let asked = table.filter(|t| world.writer_to_ask(self.me(), t).is_some());
        let over = table.filter(|_| waiter.until.is_some_and(|t| world.now >= t));
        let Some(table) = asked.or(over) else { return false };
        self.done_asking(waiter.id, &waiter.name, table, world);
        true
    }

    fn tell_progress(&mut self, waiter: &mut Waiter, world: &World<'_>) {
        if !matches!(waiter.what, Waiting::Write { .. }) {
            return;
        }
        let text = self.why_waiting(waiter, world);
        if waiter.told.as_ref() != Some(&text) {
            waiter.told = Some(text.clone());
            self.reply(
                waiter.id,
                Reply::Progress { stage: "asked", text, answer: None, answer_message: String::new() },
            );
        }
    }

    fn why_waiting(&self, waiter: &Waiter, world: &World<'_>) -> String {
        let Some(table) = world.table(waiter.volume) else { return "the volume is gone".into() };
        if let Waiting::Write { .. } = waiter.what {
            let own = self.page.request(table.uuid).map(|r| (r.number, self.me()));
            let before = |s: &super::world::Standing<'_>| Some((s.request.number, s.from.slot)) < own;
            let place = 1 + world.queue(table).iter().filter(|s| before(s)).count();
            return match table.writer {
                Some(g) if g.slot == self.me() => "granted; mounting".into(),
                Some(g) if world.writer_lives(&g) => {
                    format!("the request stands; {} has write access; place {place} in the queue", world.name(g.slot))
                }
                Some(g) => format!("{} does not answer; its death is being waited out", world.name(g.slot)),
                None => "the request stands; the volume is free".into(),
            };
        }
        "it is not done yet".into()
    }

    /// The write privilege has come: whoever waits for it, or for less, hears so at once, whatever happens to it next.
    pub(crate) fn tell_granted(&mut self, volume: &Volume) {
        let served = |what: &Waiting| matches!(what, Waiting::Write { .. } | Waiting::Mounted | Waiting::Refreshed(_));
        let waits = |w: &Waiter| w.volume == volume.uuid && served(&w.what);
        let ids: Vec<CommandId> = self.waiters.iter().filter(|w| waits(w)).map(|w| w.id).collect();
        self.waiters.retain(|w| !waits(w));
        for id in ids {
            self.done(id, &volume.name, format!("{} is yours: mounted read-write", volume.name));
        }
    }
}

fn gone_request(name: &str) -> Failure {
    Failure::refused(
        format!("the request for {name} is gone"),
        "it was taken back, or another one stands in its place",
        "see `volctl status`, then ask again",
    )
}
