//! Statuses as a daemon would send them.

use volctl::wire::call::Answer3;
use volctl::wire::event::EventRecord;
use volctl::wire::status::{
    Access, AutoAnswer, ClientMount, ClientSettings, ClientState, ClientStatus, ControlStatus, Enforcement, Readers,
    RequestStatus, Status, TimingsStatus, VolumeClient, VolumeState, VolumeStatus, WaitingClient,
};

/// A volume that alice reads and nobody writes.
pub(crate) fn volume(name: &str) -> VolumeStatus {
    VolumeStatus {
        name: name.into(),
        state: VolumeState::Ro,
        mountpoint: Some(format!("/mnt/volctl/{name}")),
        write_enabled: true,
        access: Access::Write,
        auto_update: true,
        generation: "41.3".into(),
        seen_generation: "41.3".into(),
        fs: "ext4".into(),
        readers: Readers::Live,
        enforcement: Enforcement::Leased,
        enforcement_note: Some("not against the loss of both processes".into()),
        free_bytes: Some(300 << 30),
        size_bytes: Some(1 << 40),
        clients: vec![mount("alice", Access::Write, ClientMount::Ro), mount("bob", Access::Write, ClientMount::Ro)],
        ..VolumeStatus::default()
    }
}

/// A volume that somebody writes.
pub(crate) fn written(name: &str, writer: &str) -> VolumeStatus {
    let mut volume = volume(name);
    volume.writer = Some(writer.into());
    volume.writer_age_ms = Some(12 * 60_000);
    if writer == "alice" {
        volume.state = VolumeState::Rw;
    }
    for client in &mut volume.clients {
        if client.client == writer {
            client.state = ClientMount::Rw;
        }
    }
    volume
}

/// What a client has of a volume.
pub(crate) fn mount(client: &str, access: Access, state: ClientMount) -> VolumeClient {
    let seen = (state == ClientMount::Ro).then(|| "41.3".to_owned());
    VolumeClient { client: client.into(), access, state, seen_generation: seen, ..VolumeClient::default() }
}

/// Another client.
pub(crate) fn client(name: &str, slot: u32, state: ClientState, beat_age_ms: u64) -> ClientStatus {
    let host = Some(format!("{name}-desk"));
    ClientStatus { name: name.into(), slot, state, beat_age_ms: Some(beat_age_ms), incarnation: Some(1), host }
}

/// alice's daemon, logged on, with these volumes.
pub(crate) fn status(volumes: Vec<VolumeStatus>) -> Status {
    let timings = TimingsStatus { beat_ms: 1000, lease_ms: 8000, dead_ms: 12_000, poll_ms: 250 };
    let control = ControlStatus {
        path: "/dev/disk/by-id/control".into(),
        uuid: "u".into(),
        epoch: 41,
        lock: "bakery".into(),
        lease_left_ms: 7600,
        timings: Some(timings),
        ..ControlStatus::default()
    };
    let settings =
        ClientSettings { auto_response: AutoAnswer::Off, notify: true, admin: false, enabled: true, locked_out: false };
    Status {
        client: "alice".into(),
        slot: 0,
        incarnation: 3,
        control,
        volumes,
        clients: vec![client("bob", 1, ClientState::On, 210), client("carol", 2, ClientState::Off, 90_000)],
        settings: Some(settings),
        ..Status::default()
    }
}

/// A request, with its place in the queue.
pub(crate) fn ask(status: &mut Status, volume: &str, from: &str, message: &str, age_ms: u64) {
    let to = status.volumes.iter().find(|v| v.name == volume).and_then(|v| v.writer.clone()).unwrap_or_default();
    let id = Some(format!("{from}-{volume}"));
    let request = RequestStatus {
        volume: volume.into(),
        from: from.into(),
        to,
        message: message.into(),
        age_ms,
        id,
        ..RequestStatus::default()
    };
    status.requests.push(request);
    let own = from == status.client;
    if let Some(found) = status.volumes.iter_mut().find(|v| v.name == volume) {
        found.waiting.push(WaitingClient { client: from.into(), age_ms });
        if own {
            found.state = VolumeState::Requesting;
        }
    }
}

/// The answer to the own request for a volume.
pub(crate) fn answered(status: &mut Status, volume: &str, answer: Answer3, text: &str) {
    let own = status.client.clone();
    for request in status.requests.iter_mut().filter(|r| r.volume == volume && r.from == own) {
        request.answer = Some(answer);
        request.answer_message = text.into();
    }
}

/// An event.
pub(crate) fn event(time: &str, name: &str, volume: &str, client: &str, text: &str) -> EventRecord {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    EventRecord {
        time: format!("2026-11-20T{time}.000Z"),
        seq: 1,
        event: name.into(),
        volume: some(volume),
        client: some(client),
        text: text.into(),
        facts: serde_json::Map::new(),
    }
}
