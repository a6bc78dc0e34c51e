//! Between the threads and the window: hands on what they tell, and wakes the window only when there is something to see.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};
use volctl::wire::outcome::Failure;
use volctl::wire::status::{ClientState, Status};

use super::Wake;
use crate::model::{Event, QUIET};
use crate::words;

/// How often a silence is looked at.
const TICK: Duration = Duration::from_secs(1);

pub(super) fn run(heard: &Receiver<Event>, to_window: &Sender<Event>, wake: &Wake) {
    let mut shown: Option<Status> = None;
    let mut down: Option<Failure> = None;
    let mut programs = BTreeMap::new();
    let mut rights = None;
    // The last that was heard of the daemon, good or bad.
    let mut last = Instant::now();
    loop {
        let event = match heard.recv_timeout(TICK) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) if last.elapsed() >= QUIET => Event::Quiet(last.elapsed()),
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let mut news = true;
        match &event {
            Event::Status(status) => {
                let was_quiet = last.elapsed() >= QUIET;
                let seen = as_seen(status);
                news = was_quiet || shown.as_ref() != Some(&seen);
                // A daemon that is not logged on says both in turn, who it is and why it is not watched.
                down = down.filter(|_| status.incarnation == 0);
                (shown, last) = (Some(seen), Instant::now());
            }
            // It is tried again and again: only what is new is worth a picture.
            Event::Down(failure) => {
                news = down.as_ref() != Some(failure);
                shown = shown.filter(|s| s.incarnation == 0);
                (down, last) = (Some(failure.clone()), Instant::now());
            }
            // They are looked for again and again while somebody is asked.
            Event::Programs { volume, found } => {
                news = programs.insert(volume.clone(), found.clone()).as_ref() != Some(found);
            }
            Event::Rights(now) => news = rights.replace(now.clone()).as_ref() != Some(now),
            _ => {}
        }
        if to_window.send(event).is_err() {
            return;
        }
        if news {
            wake();
        }
    }
}

/// The status as people see it: numbers that nobody is shown, or only coarsely, make no new picture.
#[must_use]
pub(super) fn as_seen(status: &Arc<Status>) -> Status {
    let mut seen = Status::clone(status);
    let coarse = |ms: u64| ms / 60_000 * 60_000;
    seen.control.epoch = 0;
    seen.control.semaphore = None;
    let low = seen.control.timings.is_some_and(|t| seen.control.lease_left_ms < u64::from(t.lease_ms) / 2);
    seen.control.lease_left_ms = if low { seen.control.lease_left_ms / 1000 } else { u64::MAX };
    for volume in &mut seen.volumes {
        volume.writer_age_ms = volume.writer_age_ms.map(coarse);
        volume.wait_ms = volume.wait_ms.map(|_| 0);
        volume.waiting.iter_mut().for_each(|w| w.age_ms = coarse(w.age_ms));
        volume.last_modified = None;
        // What is shown of it has three digits.
        volume.free_bytes = volume.free_bytes.map(|b| b / (1 << 20));
    }
    for client in &mut seen.clients {
        let far = client.state != ClientState::On || client.beat_age_ms.is_some_and(|ms| words::beat(ms) != "now");
        client.beat_age_ms =
            client.beat_age_ms.filter(|_| far).map(|ms| if ms < 60_000 { ms / 1000 * 1000 } else { coarse(ms) });
    }
    // The window counts the seconds of its own and of others' requests itself.
    seen.requests.iter_mut().for_each(|r| r.age_ms = 0);
    seen
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crossbeam::channel::unbounded;
    use volctl::wire::status::{ClientStatus, RequestStatus, TimingsStatus, VolumeStatus, WaitingClient};

    use super::*;
    use crate::admin::Rights;

    fn status(beat: u64, generation: &str) -> Event {
        let client = ClientStatus {
            name: "bob".into(),
            state: ClientState::On,
            beat_age_ms: Some(beat),
            ..ClientStatus::default()
        };
        let volume = VolumeStatus {
            name: "v".into(),
            generation: generation.into(),
            writer_age_ms: Some(beat),
            ..VolumeStatus::default()
        };
        Event::Status(Arc::new(Status { clients: vec![client], volumes: vec![volume], ..Status::default() }))
    }

    /// Lets the pump hand these on: how many came to the window, and how often it was woken.
    fn handed_on(told: impl IntoIterator<Item = Event>) -> (usize, usize) {
        let ((tell, heard), (to_window, events)) = (unbounded(), unbounded());
        told.into_iter().for_each(|event| tell.send(event).expect("the other end is there"));
        drop(tell);
        let woken = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&woken);
        let wake: Wake = Arc::new(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        run(&heard, &to_window, &wake);
        (events.try_iter().count(), woken.load(Ordering::SeqCst))
    }

    #[test]
    fn ages_that_nobody_sees_wake_nobody_and_what_changes_wakes_at_once() {
        let told = [(10, "1.1"), (900, "1.1"), (200, "1.1"), (200, "1.2"), (2000, "1.2")];
        // The window has them all when it looks.
        assert_eq!(handed_on(told.map(|(beat, generation)| status(beat, generation))), (5, 2));
    }

    #[test]
    fn what_is_found_again_and_again_wakes_nobody() {
        let found = |names: &[&str]| Event::Programs {
            volume: "v".into(),
            found: Ok(names.iter().map(|&n| n.to_owned()).collect()),
        };
        let rights = || Event::Rights(Rights::default());
        assert_eq!(handed_on([found(&["a"]), found(&["a"]), found(&[]), rights(), rights()]), (5, 3));
    }

    #[test]
    fn a_minute_of_ages_and_of_beats_is_one_picture_and_a_lease_that_runs_out_is_new_every_second() {
        let at = |seconds: u64, lease_left_ms: u64| {
            let Event::Status(status) = status(seconds * 10, "1.1") else { unreachable!("it makes a status") };
            let mut status = Status::clone(&status);
            status.volumes[0].writer_age_ms = Some(seconds * 1000);
            status.volumes[0].free_bytes = Some(5 << 20 | seconds);
            status.volumes[0].waiting = vec![WaitingClient { client: "bob".into(), age_ms: seconds * 1000 }];
            status.volumes[0].last_modified = Some(seconds.to_string());
            status.requests = vec![RequestStatus { age_ms: seconds * 1000, ..RequestStatus::default() }];
            status.control.epoch = seconds;
            status.control.lease_left_ms = lease_left_ms;
            status.control.timings =
                Some(TimingsStatus { beat_ms: 1000, lease_ms: 8000, dead_ms: 12_000, poll_ms: 500 });
            as_seen(&Arc::new(status))
        };
        assert!((1..60).all(|second| at(second, 8000 - second) == at(0, 7000)));
        assert_ne!(at(60, 8000), at(59, 8000), "a minute is shown");
        assert_ne!(at(1, 3900), at(1, 8000), "that the lease runs out");
        assert_ne!(at(1, 3900), at(1, 2900), "and how long it lasts");
    }

    #[test]
    fn a_daemon_that_falls_silent_is_noticed() {
        let (told, heard) = unbounded();
        let (to_window, events) = unbounded();
        let pump = std::thread::spawn(move || run(&heard, &to_window, &(Arc::new(|| {}) as Wake)));
        told.send(status(1, "1.1")).expect("the pump runs");
        assert!(matches!(events.recv_timeout(Duration::from_secs(5)), Ok(Event::Status(_))));
        assert!(matches!(events.recv_timeout(QUIET * 3), Ok(Event::Quiet(time)) if time >= QUIET));
        drop(told);
        drop(events);
        pump.join().expect("it ends with the window");
    }
}
