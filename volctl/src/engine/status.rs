//! The engine's state as the status that people and programs see (section 9).

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat};
use ondisk::client_page::AnswerVerdict;
use ondisk::{
    Access, AutoResponse, ClientRecord, Grant, GrantState, MountState, ReadersPolicy, Uuid, VolumeEntry, VolumeTable,
};

use super::volume::{Volume, Writer};
use super::world::{Peer, World};
use super::{Engine, ops};
use crate::wire::call::Answer3;
use crate::wire::status as wire;

/// What the driver adds to the engine's state.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Path, label, lock, semaphore, lease.
    pub control: wire::ControlStatus,
    /// From the configuration.
    pub mount_root: String,
    /// Warnings of the driver.
    pub warnings: Vec<wire::Warning>,
    /// What limits the enforcement on this host, in words; None: this host stops itself.
    pub advisory: Option<String>,
    /// The volumes to which this host's late writes have no bound: why, and which setting would give one.
    pub unbounded: BTreeMap<Uuid, String>,
    /// The volumes that the storage guards, seen by a write that it refused: the epoch of the grant that it guards.
    pub fenced: BTreeMap<Uuid, u64>,
}

/// Was another host's write seen to be refused under this grant, here or by one who lives?
fn guarded(grant: &Grant, volume: Uuid, world: &World<'_>, around: &Surroundings) -> bool {
    let says =
        |peer: &Peer| peer.current_page().and_then(|p| p.volume(volume)).is_some_and(|e| e.refused == grant.epoch);
    around.fenced.get(&volume) == Some(&grant.epoch)
        || world.peers.iter().any(|p| p.slot != grant.slot && p.is_alive() && says(p))
}

fn millis(t: Duration) -> u64 {
    u64::try_from(t.as_millis()).unwrap_or(u64::MAX)
}

impl Engine {
    /// The whole status.
    pub fn status(&self, world: &World<'_>, around: &Surroundings) -> wire::Status {
        let clients = world.tables.clients.iter().enumerate().filter(|(i, r)| r.is_some() && *i != self.me().index());
        wire::Status {
            client: world.name(self.me()),
            slot: u32::from(self.me().0),
            incarnation: self.setup.incarnation.0,
            control: around.control.clone(),
            volumes: world.tables.volumes.iter().flatten().map(|t| self.volume_status(t, world, around)).collect(),
            clients: clients.filter_map(|(i, _)| world.peers.get(i)).map(|p| client_status(p, world)).collect(),
            requests: self.request_status(world),
            warnings: around.warnings.clone(),
            settings: world.tables.clients.get(self.me().index()).and_then(Option::as_ref).map(settings),
        }
    }

    fn volume_status(&self, table: &VolumeTable, world: &World<'_>, around: &Surroundings) -> wire::VolumeStatus {
        let volume = self.volumes.get(&table.uuid);
        let permission = table.permission(self.me());
        let record = world.tables.clients.get(self.me().index()).and_then(Option::as_ref);
        let newest = world.newest_generation(table);
        let state = volume.map_or(wire::VolumeState::Locked, |v| self.state_of(v, table));
        let shown = matches!(state, wire::VolumeState::Rw) || volume.is_some_and(|v| v.mounted.is_some());
        let mountpoint = (shown && !self.setup.gateless).then(|| format!("{}/{}", around.mount_root, table.name));
        let seen = volume.and_then(|v| v.mounted);
        let writes = matches!(state, wire::VolumeState::Rw | wire::VolumeState::Releasing);
        let said = table.writer.and_then(|g| entry(world.peer(g.slot), table.uuid));
        let own = self.page.volume(table.uuid);
        let space = own.filter(|e| e.capacity > 0).or(said.filter(|e| e.capacity > 0)).copied();
        let modified_ms = said.map_or(table.modified_ms, |e| e.modified_ms.max(table.modified_ms));
        let modified_ms = own.map_or(modified_ms, |e| e.modified_ms.max(modified_ms));
        let wait = volume.and_then(|v| self.wait_of(v, table, world));
        let fenced = table.writer.is_some_and(|g| guarded(&g, table.uuid, world, around)) && around.advisory.is_none();
        let advisory = self.advisory(table, world, around).filter(|_| !fenced);
        wire::VolumeStatus {
            name: table.name.to_string(),
            state,
            mountpoint,
            writer: table.writer.map(|g| world.name(g.slot)),
            writer_age_ms: self.tenures.age(table, world.now).map(millis),
            write_enabled: table.write_enabled,
            access: access_word(permission.access),
            locked_out: permission.lockout || record.is_some_and(|r| r.locked_out),
            auto_update: permission.auto_update,
            generation: newest.max(own.filter(|_| writes).map(|e| e.published).unwrap_or_default()).to_string(),
            seen_generation: seen.unwrap_or_default().to_string(),
            stale: seen.is_some_and(|s| s < newest),
            fs: table.fs.word().to_owned(),
            readers: readers_word(table.readers),
            enforcement: match () {
                () if fenced => wire::Enforcement::Fenced,
                () if advisory.is_some() => wire::Enforcement::Advisory,
                () => wire::Enforcement::Leased,
            },
            free_bytes: space.map(|e| e.free),
            last_modified: (modified_ms > 0).then(|| rfc3339(modified_ms)).flatten(),
            reason: volume.and_then(|v| reason_of(v, state)),
            wait_ms: wait.as_ref().and_then(|w| w.1).map(millis),
            waits_for: wait.map(|w| w.0),
            waiting: self.waiting(table, world),
            next: table.next.map(|n| world.name(n.slot)),
            mounted_generations: volume.map(mounted_generations).unwrap_or_default(),
            enforcement_note: match advisory {
                None if fenced => Some("the storage was seen to refuse a write of another host".to_owned()),
                None => Some("not against the loss of both processes".to_owned()),
                some => some,
            },
            size_bytes: space.map(|e| e.capacity).or(Some(table.identity.size)),
            dirty: table.dirty_since != 0 && table.writer.is_none(),
            clients: self.volume_clients(table, world),
        }
    }

    /// What each client may do with the volume, and has of it. Those that may do nothing and have nothing are left out.
    fn volume_clients(&self, table: &VolumeTable, world: &World<'_>) -> Vec<wire::VolumeClient> {
        let newest = world.newest_generation(table);
        let records = world.tables.clients.iter().zip(world.peers).filter_map(|(r, p)| r.as_ref().map(|r| (r, p)));
        let shown = records.map(|(record, peer)| {
            let permission = table.permission(peer.slot);
            let page = if peer.slot == self.me() { Some(&self.page) } else { peer.current_page() };
            let entry = page.and_then(|p| p.volume(table.uuid));
            let state = match (entry.map(|e| e.state), page) {
                _ if peer.is_off() && peer.slot != self.me() => wire::ClientMount::None,
                (_, None) => wire::ClientMount::Unknown,
                (None | Some(MountState::None), _) => wire::ClientMount::None,
                (Some(MountState::Mounting), _) => wire::ClientMount::Mounting,
                (Some(MountState::ReadOnly), _) => wire::ClientMount::Ro,
                (Some(MountState::ReadWrite), _) => wire::ClientMount::Rw,
                (Some(MountState::GateClosed), _) => wire::ClientMount::Closed,
            };
            let seen = entry.filter(|_| state == wire::ClientMount::Ro).map(|e| e.seen);
            wire::VolumeClient {
                client: record.name.to_string(),
                access: access_word(permission.access),
                locked_out: permission.lockout || record.locked_out,
                state,
                seen_generation: seen.map(|s| s.to_string()),
                stale: seen.is_some_and(|s| s < newest),
            }
        });
        let open = |c: &wire::VolumeClient| !matches!(c.state, wire::ClientMount::None | wire::ClientMount::Closed);
        shown.filter(|c| c.access != wire::Access::None || open(c)).collect()
    }

    fn state_of(&self, volume: &Volume, table: &VolumeTable) -> wire::VolumeState {
        let mine = self.own_grant(table);
        match (&volume.writer, mine) {
            (Writer::Writing(_), _) if volume.cleaning => wire::VolumeState::Releasing,
            (Writer::Writing(_), _) => wire::VolumeState::Rw,
            (Writer::Stopping(_) | Writer::Fencing { .. } | Writer::Stopped(_), _) => wire::VolumeState::Releasing,
            (Writer::Mounting { .. }, _) => wire::VolumeState::Granted,
            (Writer::None, Some(grant)) if grant.state != GrantState::Revoked => wire::VolumeState::Granted,
            (Writer::None, _) if self.page.request(volume.uuid).is_some() => wire::VolumeState::Requesting,
            (Writer::None, _) if volume.mounted.is_some() => wire::VolumeState::Ro,
            (Writer::None, _) => wire::VolumeState::Locked,
        }
    }

    fn wait_of(
        &self,
        volume: &Volume,
        table: &VolumeTable,
        world: &World<'_>,
    ) -> Option<(wire::WaitsFor, Option<Duration>)> {
        let grant = table.writer?;
        if grant.slot == self.me() && grant.state == GrantState::Pending {
            let since = volume.grace_since?;
            let end = since + self.setup.periods.grace;
            return Some((wire::WaitsFor::Grace, Some(end.saturating_sub(world.now))));
        }
        self.page.request(volume.uuid)?;
        let peer = world.peer(grant.slot)?;
        if let Some(end) = self.wait_end(volume, table, world) {
            return Some((wire::WaitsFor::Inflight, Some(end.saturating_sub(world.now))));
        }
        if volume.reaped_since.is_some() {
            return Some((wire::WaitsFor::Inflight, None));
        }
        let silent = peer.logged_on && peer.beat_age > self.setup.periods.dead / 4;
        silent.then(|| (wire::WaitsFor::Dead, Some(self.setup.periods.dead.saturating_sub(peer.beat_age))))
    }

    fn advisory(&self, table: &VolumeTable, world: &World<'_>, around: &Surroundings) -> Option<String> {
        if let Some(why) = &around.advisory {
            return Some(why.clone());
        }
        let unbounded = |e: &VolumeEntry| e.inflight.bound().is_none() && e.capacity > 0;
        let own = self.page.volume(table.uuid).is_some_and(unbounded);
        let unbounded_writer = |g: &Grant| g.slot != self.me() && ops::inflight_of(world, g, table.uuid).is_none();
        let writers = table.writer.as_ref().is_some_and(unbounded_writer);
        let known = "no bound is known on how long";
        if own {
            let why =
                around.unbounded.get(&table.uuid).map_or("see docs/operations.md for the setting", String::as_str);
            return Some(format!("{known} this path may hold back a write: {why}"));
        }
        let writer = writers.then(|| table.writer.as_ref().map_or_else(String::new, |g| world.name(g.slot)))?;
        Some(format!(
            "{known} the host of {writer} may hold back a write: `volctl doctor DEVICE` there names the setting"
        ))
    }

    /// The queue as every client sees it: this one's own request has its place in it, too.
    fn waiting(&self, table: &VolumeTable, world: &World<'_>) -> Vec<wire::WaitingClient> {
        let others = world.queue(table).into_iter().map(|s| (s.request.number, s.from.slot, s.request.created_ms));
        let own = self.page.request(table.uuid).map(|r| (r.number, self.me(), r.created_ms));
        let mut all: Vec<_> = others.filter(|(_, slot, _)| *slot != self.me()).chain(own).collect();
        all.sort_unstable();
        let age = |created: i64| u64::try_from(world.wall_ms.saturating_sub(created)).unwrap_or(0);
        let shown = |(_, slot, created)| wire::WaitingClient { client: world.name(slot), age_ms: age(created) };
        all.into_iter().map(shown).collect()
    }

    fn request_status(&self, world: &World<'_>) -> Vec<wire::RequestStatus> {
        let mut found = Vec::new();
        for table in world.tables.volumes.iter().flatten() {
            let own = self.page.request(table.uuid).map(|r| (self.me(), r));
            let others = world.queue(table).into_iter().map(|s| (s.from.slot, s.request));
            let all: Vec<_> = own.into_iter().chain(others.filter(|(slot, _)| *slot != self.me())).collect();
            for (from, request) in all {
                let answer = self
                    .page
                    .answers
                    .iter()
                    .chain(world.peers.iter().filter_map(Peer::current_page).flat_map(|p| &p.answers))
                    .find(|a| a.request == request.id);
                let to = table.writer.map_or(request.to, |g| g.slot);
                found.push(wire::RequestStatus {
                    volume: table.name.to_string(),
                    from: world.name(from),
                    to: world.name(to),
                    message: request.message.to_string(),
                    age_ms: u64::try_from(world.wall_ms.saturating_sub(request.created_ms)).unwrap_or(0),
                    answer: answer.map(|a| match a.verdict {
                        AnswerVerdict::Yes => Answer3::Yes,
                        AnswerVerdict::No => Answer3::No,
                        AnswerVerdict::Later => Answer3::Later,
                    }),
                    answer_message: answer.map(|a| a.message.to_string()).unwrap_or_default(),
                    id: Some(format!("{:016x}", request.id.0)),
                });
            }
        }
        found
    }
}

fn entry(peer: Option<&Peer>, volume: Uuid) -> Option<&VolumeEntry> {
    peer.and_then(Peer::current_page).and_then(|p| p.volume(volume))
}

fn reason_of(volume: &Volume, state: wire::VolumeState) -> Option<String> {
    let failure = volume.failure.as_ref().map(|f| f.failure.to_string());
    match state {
        wire::VolumeState::Locked => {
            failure.or_else(|| volume.reason.clone()).or_else(|| Some("not mounted yet".into()))
        }
        _ => failure.or_else(|| volume.reason.clone()),
    }
}

fn mounted_generations(volume: &Volume) -> Vec<String> {
    volume.mounted.iter().chain(&volume.lingering).map(ToString::to_string).collect()
}

fn client_status(peer: &Peer, world: &World<'_>) -> wire::ClientStatus {
    let dead = peer.reaped || peer.silent;
    let state = if peer.is_off() {
        wire::ClientState::Off
    } else if dead {
        wire::ClientState::Dead
    } else {
        wire::ClientState::On
    };
    let host = world.tables.clients.get(peer.slot.index()).and_then(Option::as_ref).map(|r| r.host.to_string());
    wire::ClientStatus {
        name: world.name(peer.slot),
        slot: u32::from(peer.slot.0),
        state,
        beat_age_ms: (peer.incarnation.0 > 0).then(|| millis(peer.beat_age)),
        incarnation: Some(peer.incarnation.0),
        host: host.filter(|h| !h.is_empty()),
    }
}

fn settings(record: &ClientRecord) -> wire::ClientSettings {
    wire::ClientSettings {
        auto_response: match record.auto_response {
            AutoResponse::Off => wire::AutoAnswer::Off,
            AutoResponse::Idle => wire::AutoAnswer::Idle,
            AutoResponse::Always => wire::AutoAnswer::Always,
        },
        notify: record.notify,
        admin: record.admin,
        enabled: record.enabled,
        locked_out: record.locked_out,
    }
}

fn access_word(access: Access) -> wire::Access {
    match access {
        Access::None => wire::Access::None,
        Access::Read => wire::Access::Read,
        Access::Write => wire::Access::Write,
    }
}

fn readers_word(policy: ReadersPolicy) -> wire::Readers {
    match policy {
        ReadersPolicy::Snapshot => wire::Readers::Snapshot,
        ReadersPolicy::Exclusive => wire::Readers::Exclusive,
        ReadersPolicy::Live => wire::Readers::Live,
    }
}

fn rfc3339(ms: i64) -> Option<String> {
    DateTime::from_timestamp_millis(ms).map(|t| t.to_rfc3339_opts(SecondsFormat::Millis, true))
}
