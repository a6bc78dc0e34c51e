//! The reader's side of a volume: holds, refreshes, and closing for an `exclusive` writer (section 8).
//!
//! A reader first says what it is about to mount (page, then slot), and only a poll that began after that decides:
//! the table again, and after it the page of the writer that it names now.

use std::time::Duration;

use ondisk::{Access, Generation, Grant, GrantState, MountState, ReadersPolicy, VolumeTable};

use super::Engine;
use super::effect::{Busy, Fact, Job, busy_words};
use super::ops;
use super::volume::{Volume, Writer};
use super::world::{World, WriterPage};
use crate::wire::event::EventName;

/// Between two looks at lingering generations.
const RETIRE_PERIOD: Duration = Duration::from_millis(500);
/// Between two looks at free space and open files of a reader.
const PROBE_PERIOD: Duration = Duration::from_secs(10);

impl Engine {
    /// Why a reader may not have the volume mounted now, in words; None: it may.
    fn locked_because(&self, volume: &Volume, table: &VolumeTable, world: &World<'_>) -> Option<String> {
        if self.leaving.is_some() {
            return Some("the daemon is logging off".into());
        }
        if self.access(table, world) == Access::None {
            return Some("rule mount access: this client has access none".into());
        }
        if volume.user_unmounted {
            return Some("unmounted by the user; `volctl mount` brings it back".into());
        }
        if table.readers == ReadersPolicy::Exclusive {
            let pending = |g: &Grant| g.state == GrantState::Pending && !self.setup.switches.pending_locks_readers;
            if let Some(grant) = table.writer.filter(|g| !pending(g)) {
                return Some(format!("exclusive: {} has the write privilege", world.name(grant.slot)));
            }
            if ops::is_dirty(table) && self.setup.switches.dirty_is_not_shown {
                return Some(
                    "exclusive: never published since it was last written; waiting for a client that may write".into(),
                );
            }
        }
        None
    }

    /// Why a snapshot volume cannot be newly mounted now; what is mounted may stay.
    fn unmountable_because(&self, table: &VolumeTable, world: &World<'_>) -> Option<String> {
        if table.readers != ReadersPolicy::Snapshot {
            return None;
        }
        let hides = self.setup.switches.dirty_is_not_shown;
        if hides
            && table.dirty_since != 0
            && matches!(world.writer_page(table), WriterPage::NoWriter | WriterPage::Gone)
        {
            return Some("its last writer left it unpublished; waiting for a client that may write".into());
        }
        let newest = world.newest_generation(table);
        if newest < self.oldest_safe(table, world) {
            return Some("its last writer left it unpublished; waiting for the first publish of the next".into());
        }
        newest.is_none().then(|| "nothing was published yet; waiting for a client that may write".into())
    }

    pub(crate) fn step_reader(&mut self, volume: &mut Volume, table: &VolumeTable, world: &World<'_>) {
        let locked = self.locked_because(volume, table, world);
        volume.reason.clone_from(&locked);
        if locked.is_some() {
            self.lock_reader(volume, table, world);
            return;
        }
        volume.grace_since = None;
        let unmountable = self.unmountable_because(table, world);
        if volume.mounted.is_none() {
            volume.reason.clone_from(&unmountable);
        }
        if let Some((generation, sequence)) = volume.announced {
            if sequence <= world.page_on_disk || !self.setup.switches.second_look {
                self.decide_announced(volume, table, generation, unmountable.is_none(), world);
            }
            return;
        }
        let wants = unmountable.is_none() && !volume.pauses(world.now) && self.wants_newer(volume, table, world);
        if wants && !self.setup.switches.announced_first {
            self.start_job(volume, Job::MountReader { generation: world.newest_generation(table) });
            return;
        }
        if wants && self.announce(volume, table, world.newest_generation(table)) {
            if !self.setup.switches.second_look {
                self.step_reader(volume, table, world);
            }
            return;
        }
        self.tend_reader(volume, world);
    }

    fn wants_newer(&mut self, volume: &mut Volume, table: &VolumeTable, world: &World<'_>) -> bool {
        let newest = world.newest_generation(table);
        let permission = table.permission(self.me());
        let stale = volume.mounted.is_some_and(|seen| seen < newest);
        self.say(volume.uuid, |e| e.stale = stale);
        match volume.mounted {
            None => true,
            Some(_) if !stale => {
                volume.refresh_now = false;
                false
            }
            Some(_) if volume.refresh_now => true,
            Some(_) => {
                let due = world.now >= volume.looked_at + Duration::from_millis(u64::from(permission.check_ms));
                if due {
                    volume.looked_at = world.now;
                }
                permission.auto_update && due
            }
        }
    }

    /// Says in the page what is about to be mounted and held. False: there is no room to say so.
    fn announce(&mut self, volume: &mut Volume, table: &VolumeTable, generation: Generation) -> bool {
        let mut full = false;
        let holds = self.setup.switches.hold_before_mount;
        self.say(volume.uuid, |e| {
            if holds && !generation.is_none() && !e.holds(generation) {
                match e.held.iter_mut().find(|h| h.is_none()) {
                    Some(room) => *room = generation,
                    None => full = true,
                }
            }
            if e.state != MountState::ReadOnly && !full {
                e.state = MountState::Mounting;
                e.epoch = 0;
            }
        });
        if full {
            volume.reason = Some("eight older generations still have open files here; it stays stale".into());
            return false;
        }
        volume.announced = Some((generation, self.page_version + 1));
        volume.announced_under = table.writer;
        self.page_dirty = true;
        true
    }

    fn decide_announced(
        &mut self,
        volume: &mut Volume,
        table: &VolumeTable,
        generation: Generation,
        mountable: bool,
        world: &World<'_>,
    ) {
        let said = self.page.volume(volume.uuid).is_some_and(|e| {
            let open = matches!(e.state, MountState::Mounting | MountState::ReadOnly);
            open && (generation.is_none() || e.holds(generation) || !self.setup.switches.hold_before_mount)
        });
        if !said {
            // The page was changed since: it is announced anew.
            volume.announced = None;
            return;
        }
        let on = self.setup.switches;
        let snapshot = table.readers == ReadersPolicy::Snapshot;
        let gone =
            generation <= self.retired_by_writer(volume, table, world) || generation < self.oldest_safe(table, world);
        let retired = snapshot && gone && on.retired_is_heeded;
        if snapshot && world.writer_page(table) == WriterPage::Unknown && on.unknown_writer_is_waited_for {
            // It may have retired this very generation.
            return;
        }
        // Without snapshots what is mounted is the disk as it is: it must not be called by an older name.
        let renamed = !snapshot && generation != world.newest_generation(table);
        if !mountable || retired || renamed {
            volume.announced = None;
            self.let_go(volume, generation);
            return;
        }
        volume.announced = None;
        volume.looked_at = world.now;
        self.start_job(volume, Job::MountReader { generation });
    }

    fn oldest_safe(&self, table: &VolumeTable, world: &World<'_>) -> Generation {
        if self.setup.switches.left_dirty_hides_older { world.oldest_safe(table) } else { Generation::NONE }
    }

    /// Up to which generation the writer that the table names now has retired.
    fn retired_by_writer(&self, volume: &Volume, table: &VolumeTable, world: &World<'_>) -> Generation {
        if self.setup.switches.writer_named_now {
            return world.retired(table);
        }
        world.retired(&VolumeTable { writer: volume.announced_under, ..table.clone() })
    }

    /// Gives up a hold that came to nothing.
    pub(crate) fn let_go(&mut self, volume: &mut Volume, generation: Generation) {
        let kept: Vec<Generation> = volume.mounted.iter().chain(&volume.lingering).copied().collect();
        let mounted = volume.mounted.is_some() || !volume.lingering.is_empty();
        self.say(volume.uuid, |e| {
            for held in &mut e.held {
                if *held == generation && !kept.contains(held) {
                    *held = Generation::NONE;
                }
            }
            if !mounted {
                e.state = MountState::GateClosed;
            }
        });
    }

    /// The reader must not have it open: a lazily detached mount with open files is not closed, so after the grace time
    /// of an `exclusive` volume the gate is closed under them.
    fn lock_reader(&mut self, volume: &mut Volume, table: &VolumeTable, world: &World<'_>) {
        if let Some((generation, _)) = volume.announced.take() {
            self.let_go(volume, generation);
        }
        if volume.mounted.is_none() && volume.lingering.is_empty() {
            volume.grace_since = None;
            return;
        }
        let must_close = self.leaving.is_some() || table.readers == ReadersPolicy::Exclusive && table.writer.is_some();
        if must_close {
            self.close_reader(volume, world);
        } else if volume.mounted.is_some() {
            if !volume.pauses_closing(world.now) {
                self.start_job(volume, Job::UnmountReader { force: false });
            }
        } else {
            self.tend_reader(volume, world);
        }
    }

    /// Closes every own read gate of the volume, under open files once the grace time is over.
    pub(crate) fn close_reader(&mut self, volume: &mut Volume, world: &World<'_>) {
        let now = self.leaving.is_some_and(|l| l.now);
        let since = *volume.grace_since.get_or_insert(world.now);
        let force = now || world.now >= since + self.setup.periods.grace;
        if volume.pauses_closing(world.now) {
            return;
        }
        let at_once = volume.mounted.is_some() || force && !volume.forced;
        if at_once || world.now >= volume.retired_at + RETIRE_PERIOD {
            volume.forced = force;
            volume.retired_at = world.now;
            self.start_job(volume, Job::UnmountReader { force });
        }
    }

    fn tend_reader(&mut self, volume: &mut Volume, world: &World<'_>) {
        let linger = !volume.lingering.is_empty() && !volume.pauses_closing(world.now);
        if linger && world.now >= volume.retired_at + RETIRE_PERIOD {
            volume.retired_at = world.now;
            self.start_job(volume, Job::Retire);
        } else if volume.mounted.is_some() && world.now >= volume.probed_at + PROBE_PERIOD {
            volume.probed_at = world.now;
            self.start_job(volume, Job::Probe { files: false });
        }
    }

    pub(crate) fn reader_mounted(&mut self, volume: &mut Volume, generation: Generation) {
        let before = volume.mounted.replace(generation);
        if let Some(before) = before {
            volume.lingering.push(before);
        }
        volume.failure = None;
        volume.forced = false;
        volume.refresh_now = false;
        // The old one is looked at in the very next step: mostly nobody has it open.
        volume.retired_at = Duration::ZERO;
        volume.probed_at = Duration::ZERO;
        self.page.refreshes += 1;
        self.say(volume.uuid, |e| {
            e.state = MountState::ReadOnly;
            e.epoch = 0;
            e.seen = generation;
            e.stale = false;
            // It stands there already, with all rules on.
            if !generation.is_none()
                && !e.holds(generation)
                && let Some(room) = e.held.iter_mut().find(|h| h.is_none())
            {
                *room = generation;
            }
        });
        let (event, text) = match before {
            Some(before) => (EventName::Refreshed, format!("{}: generation {before} is now {generation}", volume.name)),
            None => (EventName::Mounted, format!("{}: mounted read-only, generation {generation}", volume.name)),
        };
        self.fact(Fact::of(event, &volume.name, text).generation(generation));
    }

    pub(crate) fn reader_unmounted(&mut self, volume: &mut Volume, closed: bool, busy: &[Busy]) {
        if let Some(seen) = volume.mounted.take() {
            if !closed {
                volume.lingering.push(seen);
            }
            self.fact(Fact::of(EventName::Unmounted, &volume.name, format!("{}: unmounted", volume.name)));
        }
        if !closed && !self.setup.switches.detached_is_open {
            self.say_closed(volume.uuid, 0);
        }
        if closed {
            volume.lingering.clear();
            self.say_closed(volume.uuid, 0);
            if !busy.is_empty() {
                let text = format!("{}: the gate was closed under {}", volume.name, busy_words(busy));
                self.fact(Fact::of(EventName::Note, &volume.name, text));
            }
        } else if !busy.is_empty() {
            volume.reason = Some(format!("waiting for open files of {}", busy_words(busy)));
        }
    }

    pub(crate) fn retired(&mut self, volume: &mut Volume, lingering: Vec<Generation>, world: &World<'_>) {
        volume.lingering = lingering;
        volume.retired_at = world.now;
        let kept: Vec<Generation> = volume.mounted.iter().chain(&volume.lingering).copied().collect();
        let idle = kept.is_empty() && volume.writer == Writer::None;
        if idle {
            self.say_closed(volume.uuid, 0);
        } else {
            self.say(volume.uuid, |e| {
                for held in &mut e.held {
                    if !kept.contains(held) {
                        *held = Generation::NONE;
                    }
                }
            });
        }
    }
}
