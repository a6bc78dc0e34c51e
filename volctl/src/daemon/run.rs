//! The daemon from start to end: log on, run, and log on anew when a login is lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::calls::not_logged_on;
use super::config::Config;
use super::driver::{Driver, Ended, Told};
use super::login::{Login, Place, Watcher, log_on};
use super::notify::Watchdog;
use super::services::Services;
use super::socket::{Incoming, SocketServer};
use crate::control::session::Session;
use crate::volumes::mounting::root::tear_down_mount_root;
use crate::wire::call::Call;
use crate::wire::event::EventName;
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
    // First of all: a daemon that is told to end takes away what it made, whenever that is.
    let told = signals()?;
    // A beat must not wait for a page to come back from a disk.
    if let Err(error) = lockdriver::sys::memory::lock_used_memory() {
        tracing::warn!(event = "note", %error, "the daemon's memory can be paged out");
    }
    let place = Place::find(config)?;
    let ended = serve(&place, config, &told);
    let closed = place.close_own();
    if let Err(e) = tear_down_mount_root(place.root) {
        tracing::warn!(event = "mount.left", error = %e, "the mount root stays");
    }
    ended.and(closed)
}

fn serve(place: &Place, config: &Config, told: &Receiver<Told>) -> Result<(), Failure> {
    let services = Services::start(config)?;
    let (calls_in, calls) = bounded(CALLS);
    let socket = SocketServer::start(&config.socket, calls_in)?;
    services.note(EventName::DaemonStarted, &format!("client {} on {}", config.client, place.volume.path.display()));
    let ended = logins(place, config, &services, &calls, told);
    services.note(EventName::DaemonStopping, "the daemon ends");
    socket.stop();
    services.end();
    ended
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
                services.note(EventName::LoggedOn, &format!("logged on as incarnation {incarnation}"));
                services.notifier.ready("logged on");
                let session = Arc::downgrade(&login.session);
                let mut driver = Driver::new(login, place, config, services)?;
                if let Some(word) = told_meanwhile {
                    driver.leave(word);
                }
                let ended = driver.run(calls, told);
                let told_to_end = let_go(&session, place, config, services, calls, told);
                match ended {
                    Ended::LoggedOff => {
                        services.note(EventName::LoggedOff, "logged off");
                        return Ok(());
                    }
                    Ended::Lost { why, leaving } if leaving || told_to_end => return Err(why),
                    Ended::Lost { why, .. } => tracing::error!(event = "lease.lost", %why, "logging on anew"),
                }
            }
            None => return Ok(()),
        }
    }
}

/// Waits until nothing of an ended login runs any more, answering callers meanwhile; true when told to end.
///
/// A write of the old login may still be under way in this very process: the lock file, by which the next login proves the
/// old one gone, is held by both. So a call that hangs in the kernel holds the next login up, and for as long as it takes.
fn let_go(
    session: &Weak<Session>,
    place: &Place,
    config: &Config,
    services: &Services,
    calls: &Receiver<Incoming>,
    told: &Receiver<Told>,
) -> bool {
    let patience = place.volume.superblock.timings.lease();
    let mut told_at: Option<Instant> = None;
    let mut watchdog = Watchdog::new(services.notifier);
    let why = "something of the login before hangs in the kernel, most likely on storage that does not answer";
    while session.strong_count() > 0 && told_at.is_none_or(|t| t.elapsed() < patience) {
        watchdog.tick();
        crossbeam::select! {
            recv(calls) -> call => if let Ok(call) = call { answer(call, place, config, why) },
            recv(told) -> _ => { told_at.get_or_insert_with(Instant::now); },
            default(DRAIN) => {}
        }
    }
    told_at.is_some()
}

/// What callers are told while there is no login.
struct Waiting<'a> {
    services: &'a Services,
    why: Mutex<String>,
}

impl Waiting<'_> {
    fn why(&self) -> String {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Watcher for Waiting<'_> {
    fn waiting(&self, why: &str, at_most: Duration) {
        tracing::info!(event = "logon.wait", at_most_s = at_most.as_secs(), "{why}");
        self.services.notifier.status(why);
        why.clone_into(&mut self.why.lock().unwrap_or_else(PoisonError::into_inner));
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
    let watcher = Waiting { services, why: Mutex::new("logging on".into()) };
    std::thread::scope(|scope| {
        let (done, result) = bounded(1);
        let unmounted = services.memory.recall();
        scope.spawn({
            let (watcher, stop) = (&watcher, &stop);
            move || retry(place, config, &unmounted, watcher, stop, &done)
        });
        let mut watchdog = Watchdog::new(services.notifier);
        loop {
            watchdog.tick();
            crossbeam::select! {
                default(watchdog.wait()) => {}
                recv(calls) -> call => if let Ok(call) = call { answer(call, place, config, &watcher.why()) },
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
    let mut tries = 0;
    let outcome = loop {
        let tried = log_on(place, config, unmounted.to_vec(), tries, watcher, stop);
        tries += 1;
        match tried {
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

fn answer(call: Incoming, place: &Place, config: &Config, why: &str) {
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
        call.reply.fail(not_logged_on(why));
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
