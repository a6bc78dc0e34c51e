//! Tests of the human status: what must never be left unsaid is said.

use super::*;
use crate::wire::call::Answer3;
use crate::wire::status::{ClientState, ControlStatus, Enforcement, WaitingClient, WaitsFor, Warning};

fn status() -> Status {
    Status {
        client: "bob".into(),
        slot: 1,
        incarnation: 3,
        control: ControlStatus {
            path: "/dev/ctl".into(),
            lock: "bakery".into(),
            epoch: 41,
            lease_left_ms: 7_600,
            ..ControlStatus::default()
        },
        volumes: vec![
            VolumeStatus {
                name: "footage".into(),
                state: VolumeState::Ro,
                mountpoint: Some("/mnt/volctl/footage".into()),
                writer: Some("alice".into()),
                write_enabled: true,
                access: Access::Write,
                generation: "41.3".into(),
                seen_generation: "41.2".into(),
                stale: true,
                readers: Readers::Live,
                enforcement: Enforcement::Leased,
                free_bytes: Some(13_260_000_000),
                waiting: vec![WaitingClient { client: "carol".into(), age_ms: 1_200 }],
                ..VolumeStatus::default()
            },
            VolumeStatus {
                name: "music".into(),
                access: Access::Read,
                write_enabled: true,
                generation: "0.0".into(),
                readers: Readers::Snapshot,
                reason: Some("its device is not there".into()),
                waits_for: Some(WaitsFor::Dead),
                wait_ms: Some(11_500),
                ..VolumeStatus::default()
            },
        ],
        clients: vec![ClientStatus {
            name: "alice".into(),
            state: ClientState::On,
            beat_age_ms: Some(210),
            ..ClientStatus::default()
        }],
        requests: vec![RequestStatus {
            volume: "footage".into(),
            from: "carol".into(),
            to: "alice".into(),
            message: "fix the\x1b titles".into(),
            age_ms: 1_200,
            ..RequestStatus::default()
        }],
        warnings: vec![Warning { code: "x".into(), text: "the event log is full".into(), volume: None }],
        ..Status::default()
    }
}

#[test]
fn the_status_for_people_is_this() {
    let expected = "\
bob (slot 1, lease 7.6s left)   control /dev/ctl   lock bakery   epoch 41
warning: the event log is full

VOLUME   STATE   WRITER  GENERATION        ENFORCED  FREE   MOUNTED AT
footage  ro      alice   41.3 (sees 41.2)  leased    12.3G  /mnt/volctl/footage
    live: may be mixed while alice writes
    waiting for write access: carol (1.2s)
music    locked  -       0.0               advisory  -      -
    locked: its device is not there
    waits up to 11s until the silent client counts as dead

CLIENT  SLOT  STATE  LAST BEAT  HOST
alice   0     on     210ms ago  -

carol asks alice for footage: 'fix the\u{fffd} titles' (1.2s ago)
    answer with: volctl answer footage carol yes|no|later
";
    assert_eq!(status_text(&status()), expected);
}

#[test]
fn a_live_volume_with_a_writer_never_goes_without_its_warning() {
    let mut volume = status().volumes.remove(0);
    assert!(details(&volume).contains(&"live: may be mixed while alice writes".to_owned()));
    volume.readers = Readers::Exclusive;
    assert!(!details(&volume).iter().any(|line| line.contains("mixed")));
}

#[test]
fn every_restriction_is_named() {
    let base = VolumeStatus { access: Access::Write, write_enabled: true, ..VolumeStatus::default() };
    assert!(details(&base).is_empty());
    for (volume, named) in [
        (VolumeStatus { access: Access::None, ..base.clone() }, "may not use it"),
        (VolumeStatus { write_enabled: false, ..base.clone() }, "switched off"),
        (VolumeStatus { locked_out: true, ..base.clone() }, "locked out"),
        (VolumeStatus { dirty: true, ..base.clone() }, "without a publish"),
        (VolumeStatus { next: Some("carol".into()), ..base.clone() }, "promised to carol"),
        (
            VolumeStatus { enforcement_note: Some("queue_if_no_path".into()), ..base.clone() },
            "advisory: queue_if_no_path",
        ),
        (VolumeStatus { waits_for: Some(WaitsFor::Inflight), ..base.clone() }, "last writes"),
    ] {
        let lines = details(&volume);
        assert!(lines.len() == 1 && lines[0].contains(named), "{named}: {lines:?}");
    }
}

#[test]
fn answers_are_shown_and_names_quoted_for_a_shell() {
    let mut request = status().requests.remove(0);
    request.from = "carol's mac".into();
    assert!(request_lines(&[request.clone()]).contains("volctl answer footage 'carol'\\''s mac' yes|no|later"));
    request.answer = Some(Answer3::Later);
    request.answer_message = "soon".into();
    assert!(request_lines(&[request]).contains("answer: later, 'soon'"));
}

#[test]
fn a_client_without_volumes_or_lease_is_said_plainly() {
    let text = status_text(&Status { client: "bob".into(), ..Status::default() });
    assert!(text.contains("not logged on") && text.contains("no volumes"), "{text}");
    let text = status_text(&Status { incarnation: 2, ..Status::default() });
    assert!(text.contains("lease ended"), "{text}");
}
