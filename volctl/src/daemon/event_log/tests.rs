//! Tests of the event log: rotation, followers, earlier runs, and disks that are full.

use std::fs;
use std::time::Instant;

use super::*;
use crate::daemon::reply::{Mailbox, Outgoing};
use crate::wire::event::EventName;

fn event(n: u64) -> EventRecord {
    EventRecord::new(EventName::Note, format!("number {n}")).fact("n", n)
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn next(mailbox: &Mailbox) -> Outgoing {
    let mut taken = None;
    until("a reply", || {
        taken = mailbox.take(true).expect("the sender is there");
        taken.is_some()
    });
    taken.expect("a reply")
}

fn numbers(value: &serde_json::Value) -> Vec<u64> {
    let events = value["events"].as_array().expect("events");
    events.iter().filter_map(|event| event["n"].as_u64()).collect()
}

#[test]
fn events_are_lines_in_order_and_come_back_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = dir.path().join("state");
    let log = EventLog::start(&state).expect("start");
    for n in 0..20 {
        log.note(event(n));
    }
    assert_eq!(log.warning(), None);
    drop(log);
    let text = fs::read_to_string(state.join(FILE_NAME)).expect("read");
    let read: Vec<EventRecord> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(read.iter().map(|event| event.seq).collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
    assert!(read[0].time.ends_with('Z'));
    let again = EventLog::start(&state).expect("start");
    assert_eq!(
        again.recent(3).iter().map(|event| event.text.as_str()).collect::<Vec<_>>(),
        ["number 17", "number 18", "number 19"]
    );
}

#[test]
fn a_line_cut_by_a_crash_spoils_neither_the_next_nor_the_start() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join(FILE_NAME), "{\"event\":\"note\",\"text\":\"whole\"}\n{\"event\":\"no").expect("write");
    let log = EventLog::start(dir.path()).expect("start");
    log.note(event(1));
    drop(log);
    let log = EventLog::start(dir.path()).expect("start");
    assert_eq!(log.recent(9).iter().map(|event| event.text.clone()).collect::<Vec<_>>(), ["whole", "number 1"]);
}

#[test]
fn the_file_never_grows_past_its_limit_and_one_older_is_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = EventLog::start_limited(dir.path(), 2_000).expect("start");
    for n in 0..200 {
        log.note(event(n));
    }
    drop(log);
    let mut names: Vec<_> =
        fs::read_dir(dir.path()).expect("list").map(|entry| entry.expect("entry").file_name()).collect();
    names.sort();
    assert_eq!(names, [FILE_NAME, "events.jsonl.1"]);
    for name in names {
        assert!(fs::metadata(dir.path().join(name)).expect("there").len() <= 2_000);
    }
    let log = EventLog::start(dir.path()).expect("start");
    assert_eq!(log.recent(1)[0].text, "number 199");
}

/// It was followed: events went to the end of any file that somebody in the state directory made the log a link to.
/// (A full disk goes the same way, and has its test with the daemon.)
#[test]
fn a_log_that_cannot_be_written_is_one_warning_and_stops_nothing_and_a_link_is_not_followed() {
    let dir = tempfile::tempdir().expect("a directory");
    let victim = dir.path().join("victim");
    fs::write(&victim, "its own").expect("a file");
    std::os::unix::fs::symlink(&victim, dir.path().join(FILE_NAME)).expect("a link");
    let log = EventLog::start(dir.path()).expect("start");
    let before = Instant::now();
    for n in 0..500 {
        log.note(event(n));
    }
    assert!(before.elapsed() < Duration::from_secs(2));
    until("the warning", || log.warning().is_some_and(|warning| warning.text.contains("symbolic links")));
    assert_eq!(fs::read_to_string(&victim).expect("there"), "its own");
    assert_eq!(log.recent(500).len(), 500, "the ring has them all");
    fs::remove_file(dir.path().join(FILE_NAME)).expect("room again");
    log.note(event(501));
    until("the warning is gone", || log.warning().is_none());
}

#[test]
fn a_state_directory_that_cannot_be_is_a_warning() {
    let log = EventLog::start(Path::new("/proc/no/such/directory")).expect("start");
    assert!(log.warning().is_some());
    log.note(event(1));
    assert_eq!(log.recent(9).len(), 1);
}

#[test]
fn a_follower_sees_every_event_once_and_in_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = Arc::new(EventLog::start(dir.path()).expect("start"));
    let noting = thread::spawn({
        let log = Arc::clone(&log);
        move || (0..200).for_each(|n| log.note(event(n)))
    });
    until("some are there", || log.recent(50).len() == 50);
    let (mailbox, reply) = Mailbox::new(true).expect("a mailbox");
    log.serve(true, reply);
    let mut seen = Vec::new();
    while seen.len() < 200 {
        match next(&mailbox) {
            Outgoing::Progress(value) => seen.extend(numbers(&value)),
            other => panic!("not in between: {other:?}"),
        }
    }
    noting.join().expect("noting");
    assert_eq!(seen, (0..200).collect::<Vec<_>>());
}

#[test]
fn a_single_look_gets_one_last_reply_and_a_gone_follower_is_dropped() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = EventLog::start(dir.path()).expect("start");
    log.note(event(7));
    let (mailbox, reply) = Mailbox::new(false).expect("a mailbox");
    log.serve(false, reply);
    assert!(matches!(next(&mailbox), Outgoing::Last(Ok(value)) if numbers(&value) == [7]));
    let (mailbox, reply) = Mailbox::new(true).expect("a mailbox");
    log.serve(true, reply);
    assert!(matches!(next(&mailbox), Outgoing::Progress(_)));
    mailbox.peer_gone();
    log.note(event(8));
    until("its sender is dropped", || mailbox.take(true).is_err());
}
