//! The daemon from start to end: log on, run, and log on anew when a login is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::calls::not_logged_on;
use super::config::Config;
use super::driver::{Driver, Ended, Told};
use super::login::{Login, Place, Watcher, log_on};
use super::services::Services;
use super::socket::{Incoming, SocketServer};
use crate::volumes::mounting::root::tear_down_mount_root;
use crate::wire::call::Call;
use crate::wire::outcome::{ExitCode, Failure};
use crate::wire::status::{ControlStatus, Status, Warning};

/// Between two tries to log on.
const RETRY: Duration = Duration::from_secs(1);
/// Between two looks whether an old login has let go.
const DRAIN: Duration = Duration::from_millis(5);
/// Calls that wait for the loop.
const CALLS: usize = 256;

/// Runs the daemon until it is told to end.
///
/// # Errors
/// What keeps it from starting, or from leaving in order.
pub fn run(config: &Config) -> Result<(), Failure> {
    let place = Place::find(config)?;
    let services = Services::start(config)?;
    let (calls_in, calls) = bounded(CALLS);
    let socket = SocketServer::start(&config.socket, calls_in)?;
    let told = signals()?;
    services.note("daemon.started", &format!("client {} on {}", config.client, place.volume.path.display()));
    let ended = logins(&place, config, &services, &calls, &told);
    services.note("daemon.stopping", "the daemon ends");
    socket.stop();
    let closed = place.close_old();
    let _ = tear_down_mount_root(place.root);
    services.end();
    ended.and(closed)
}

fn logins(
    place: &Place,
    config: &Config,
    services: &Services,
    calls: &Receiver<Incoming>,
    told: &Receiver<Told>,
) -> Result<(), Failure> {
    loop {
        match wait_for_login(place, config, services, calls, told)? {
            Some((login, told_meanwhile)) => {
                let incarnation = login.session.me.incarnation;
                services.note("client.logged_on", &format!("logged on as incarnation {incarnation}"));
                services.notifier.ready("logged on");
                let session = Arc::downgrade(&login.session);
                let mut driver = Driver::new(login, config, services)?;
                if let Some(word) = told_meanwhile {
                    driver.leave(word);
                }
                let ended = driver.run(calls, told);
                // A write of the old login may still be under way in this very process: the lock file, by which the next
                // login proves the old one gone, is held by both.
                while session.strong_count() > 0 {
                    std::thread::sleep(DRAIN);
                }
                match ended {
                    Ended::LoggedOff => {
                        services.note("client.logged_off", "logged off");
                        return Ok(());
                    }
                    Ended::Lost(failure) => tracing::error!(event = "lease.lost", why = %failure, "logging on anew"),
                }
            }
            None => return Ok(()),
        }
    }
}

/// What callers are told while there is no login.
struct Waiting<'a> {
    services: &'a Services,
    why: std::sync::Mutex<(String, Duration)>,
}

impl Watcher for Waiting<'_> {
    fn waiting(&self, why: &str, at_most: Duration) {
        tracing::info!(event = "logon.wait", at_most_s = at_most.as_secs(), "{why}");
        self.services.notifier.status(why);
        *self.why.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = (why.to_owned(), at_most);
    }
}

/// Logs on, answering callers meanwhile. None: told to end. A word to end that came too late to stop the log-on is
/// handed on with it.
fn wait_for_login(
    place: &Place,
    config: &Config,
    services: &Services,
    calls: &Receiver<Incoming>,
    told: &Receiver<Told>,
) -> Result<Option<(Login, Option<Told>)>, Failure> {
    let stop = AtomicBool::new(false);
    let mut heard = None;
    let watcher = Waiting { services, why: std::sync::Mutex::new(("logging on".into(), Duration::ZERO)) };
    std::thread::scope(|scope| {
        let (done, result) = bounded(1);
        let unmounted = services.memory.recall();
        scope.spawn({
            let (watcher, stop) = (&watcher, &stop);
            move || retry(place, config, &unmounted, watcher, stop, &done)
        });
        loop {
            crossbeam::select! {
                recv(calls) -> call => if let Ok(call) = call { answer(call, place, config, &watcher) },
                recv(told) -> word => {
                    heard = Some(word.unwrap_or(Told::EndNow));
                    stop.store(true, Ordering::SeqCst);
                },
                recv(result) -> login => return login.unwrap_or(Ok(None)).map(|l| l.map(|l| (l, heard))),
            }
        }
    })
}

fn retry(
    place: &Place,
    config: &Config,
    unmounted: &[ondisk::Uuid],
    watcher: &Waiting<'_>,
    stop: &AtomicBool,
    done: &Sender<Result<Option<Login>, Failure>>,
) {
    let outcome = loop {
        match log_on(place, config, unmounted.to_vec(), watcher, stop) {
            Ok(login) => break Ok(Some(login)),
            Err(_) if stop.load(Ordering::SeqCst) => break Ok(None),
            // Damage and refusals do not pass by trying again.
            Err(failure) if matches!(failure.exit, ExitCode::Refused | ExitCode::Damaged | ExitCode::Busy) => {
                break Err(failure);
            }
            Err(failure) => {
                watcher.waiting(&failure.to_string(), RETRY);
                std::thread::sleep(RETRY);
            }
        }
    };
    // The receiver waits in the same scope.
    let _ = done.send(outcome);
}

fn answer(call: Incoming, place: &Place, config: &Config, watcher: &Waiting<'_>) {
    let (why, _) = watcher.why.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    if matches!(call.call, Call::Status) {
        let status = Status {
            client: config.client.clone(),
            slot: u32::from(place.slot.0),
            incarnation: 0,
            control: ControlStatus {
                path: place.volume.path.display().to_string(),
                uuid: place.volume.superblock.uuid.to_string(),
                lock: place.volume.superblock.lock.word().to_owned(),
                ..ControlStatus::default()
            },
            warnings: vec![Warning { code: "logging_on".into(), text: format!("not logged on: {why}"), volume: None }],
            ..Status::default()
        };
        call.reply.done_status(&Arc::new(status));
    } else {
        call.reply.fail(not_logged_on(&why));
    }
}

fn signals() -> Result<Receiver<Told>, Failure> {
    let (told, hear) = bounded(8);
    let failed =
        |e: std::io::Error| Failure::failed("the daemon cannot start", e.to_string(), "see the system's limits");
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT]).map_err(failed)?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let mut word = Told::End;
            for _ in signals.forever() {
                if told.send(word).is_err() {
                    return;
                }
                word = Told::EndNow;
            }
        })
        .map_err(failed)?;
    Ok(hear)
}
