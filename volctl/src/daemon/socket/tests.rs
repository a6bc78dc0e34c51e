//! Tests of the socket with real peers: honest, silent, slow, cut, flooding, unauthorised, and many.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam::channel::{Receiver, bounded};
use serde_json::{Value, json};

use super::*;
use crate::wire::call::{LogCall, RequestCall, VolumeCall};
use crate::wire::client::Client;
use crate::wire::frame::{CALL_BYTES_MAX, REPLY_BYTES_MAX};
use crate::wire::outcome::ExitCode;
use crate::wire::status::Status;

const PATIENCE: Duration = Duration::from_secs(20);

struct Daemon {
    _dir: tempfile::TempDir,
    path: PathBuf,
    server: SocketServer,
    calls: Receiver<Incoming>,
}

impl Daemon {
    fn with(may_act: bool, limits: Limits) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("run/s");
        let (sender, calls) = bounded(4);
        let server =
            SocketServer::start_limited(&path, sender, Arc::new(move |_: &Peer| may_act), limits).expect("it listens");
        Self { _dir: dir, path, server, calls }
    }

    fn new(may_act: bool) -> Self {
        Self::with(may_act, Limits { idle: PATIENCE, frame: PATIENCE })
    }

    fn raw(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream
    }

    fn next(&self) -> Incoming {
        self.calls.recv_timeout(PATIENCE).expect("a call")
    }

    /// Sends bytes, reads until the daemon closes.
    fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.raw();
        // The daemon may close before it has taken all.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        String::from_utf8(reply).expect("UTF-8")
    }
}

fn release() -> Call {
    Call::Release(VolumeCall { volume: "footage".into() })
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_call_arrives_with_its_caller_and_the_reply_comes_back() {
    let daemon = Daemon::new(true);
    let path = daemon.path.clone();
    let caller = thread::spawn(move || {
        let mut client = Client::connect(&path).expect("connect");
        (client.call(&release()), client.call(&Call::Status))
    });
    let first = daemon.next();
    assert_eq!(first.call, release());
    assert_eq!(u32::try_from(first.peer.pid).expect("a pid"), std::process::id());
    first.reply.fail(Failure::refused("a", "b", "c"));
    let status = Arc::new(Status { client: "alice".into(), ..Status::default() });
    daemon.next().reply.done_status(&status);
    let (refused, status) = caller.join().expect("caller");
    assert_eq!(refused, Err(Failure::refused("a", "b", "c")));
    assert_eq!(status.expect("status")["client"], "alice");
}

#[test]
fn those_who_may_only_look_can_look_and_nothing_else() {
    let daemon = Daemon::new(false);
    let mut client = Client::connect(&daemon.path).expect("connect");
    let refused = client.call(&release()).expect_err("refused");
    assert_eq!(refused.exit, ExitCode::Refused);
    assert!(refused.next.contains("volctl"), "{refused:?}");
    assert!(daemon.calls.is_empty(), "the loop never hears of it");
    let caller = thread::spawn(move || client.call(&Call::Log(LogCall { follow: false })));
    daemon.next().reply.done(&json!({"events": []}));
    assert!(caller.join().expect("caller").is_ok());
}

#[test]
fn bad_bytes_are_answered_with_what_is_wrong_and_never_reach_the_loop() {
    let daemon = Daemon::new(true);
    assert!(daemon.exchange(b"hello\0").contains("not understood"));
    assert!(daemon.exchange(&vec![b'x'; CALL_BYTES_MAX + 2]).contains("longer than"));
    let deep = [b"{\"method\":".to_vec(), vec![b'['; 30_000], vec![0]].concat();
    assert!(daemon.exchange(&deep).contains("levels"));
    assert_eq!(daemon.exchange(b"{\"method\":\"io.volctl.Sta"), "", "a cut call has nobody to answer to");
    assert!(daemon.exchange(b"{\"method\":\"io.volctl.Erase\"}\0").contains("org.varlink.service.MethodNotFound"));
    assert!(
        daemon
            .exchange(b"{\"method\":\"io.volctl.Mount\",\"parameters\":{\"volume\":\"a/b\"}}\0")
            .contains("InvalidParameter")
    );
    assert!(daemon.exchange(b"{\"method\":\"io.volctl.Monitor\"}\0").contains("ExpectedMore"));
    assert!(daemon.exchange(b"{\"method\":\"org.varlink.service.GetInfo\"}\0").contains("\"io.volctl\""));
    assert!(daemon.exchange(b"{\"method\":\"io.volctl.Status\",\"upgrade\":true}\0").contains("io.volctl.Usage"));
    assert!(daemon.calls.is_empty());
    until("all connections end", || daemon.server.connections() == 0);
}

#[test]
fn a_half_closed_caller_still_gets_its_reply() {
    let daemon = Daemon::new(true);
    let mut stream = daemon.raw();
    stream.write_all(b"{\"method\":\"io.volctl.Requests\"}\0").expect("write");
    stream.shutdown(Shutdown::Write).expect("half close");
    let incoming = daemon.next();
    thread::sleep(Duration::from_millis(20));
    assert!(!incoming.reply.is_gone());
    incoming.reply.done(&json!({"requests": []}));
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("read");
    assert_eq!(reply, "{\"parameters\":{\"requests\":[]}}\0");
}

#[test]
fn a_hundred_connections_are_served_or_refused_politely_and_room_comes_back() {
    let daemon = Daemon::new(true);
    let held: Vec<_> = (0..100).map(|_| daemon.raw()).collect();
    until("64 are open", || daemon.server.connections() == CONNECTIONS_MAX);
    let refused: usize = held[CONNECTIONS_MAX..]
        .iter()
        .map(|mut stream| {
            let mut reply = String::new();
            stream.read_to_string(&mut reply).expect("an answer and the end");
            usize::from(reply.contains("io.volctl.Busy") && reply.contains("64 are open"))
        })
        .sum();
    assert_eq!(refused, 36);
    let busy = Client::connect(&daemon.path).expect("connect").call(&Call::Status).expect_err("no room");
    assert_eq!(busy.exit, ExitCode::Busy);
    drop(held);
    until("all ended", || daemon.server.connections() == 0);
    let path = daemon.path.clone();
    let caller = thread::spawn(move || Client::connect(&path).expect("connect").status());
    daemon.next().reply.done_status(&Arc::default());
    assert!(caller.join().expect("caller").is_ok());
}

#[test]
fn lookers_cannot_lock_out_those_who_may_act() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("s");
    let (sender, calls) = bounded(4);
    let actors_from = Arc::new(AtomicUsize::new(usize::MAX));
    let seen = Arc::new(AtomicUsize::new(0));
    let rule: PeerCheck = {
        let (actors_from, seen) = (Arc::clone(&actors_from), Arc::clone(&seen));
        Arc::new(move |_: &Peer| seen.fetch_add(1, Ordering::SeqCst) >= actors_from.load(Ordering::SeqCst))
    };
    let server = SocketServer::start_with(&path, sender, rule).expect("it listens");
    let held: Vec<_> = (0..CONNECTIONS_MAX).map(|_| UnixStream::connect(&path).expect("connect")).collect();
    until("all have been looked at", || seen.load(Ordering::SeqCst) == CONNECTIONS_MAX);
    until("the lookers' share is full", || server.connections() == LOOKERS_MAX);
    actors_from.store(0, Ordering::SeqCst);
    let caller = thread::spawn(move || Client::connect(&path).expect("connect").call(&release()));
    calls.recv_timeout(PATIENCE).expect("an actor comes through").reply.done(&json!({}));
    assert!(caller.join().expect("caller").is_ok());
    drop(held);
}

#[test]
fn a_monitor_gets_the_newest_status_at_its_own_pace_and_its_end_is_noticed() {
    let daemon = Daemon::new(true);
    let path = daemon.path.clone();
    let watcher = thread::spawn(move || {
        let mut client = Client::connect(&path).expect("connect");
        let mut seen = Vec::new();
        let end = client.call_more(&Call::Monitor, |value| {
            seen.push((Instant::now(), value["incarnation"].as_u64().expect("a number")));
            Ok(seen.last().expect("one").1 < 500)
        });
        (seen, end)
    });
    let reply = daemon.next().reply;
    for incarnation in 1..=500 {
        reply.latest(&Arc::new(Status { incarnation, ..Status::default() })).expect("there");
        thread::sleep(Duration::from_micros(200));
    }
    let (seen, end) = watcher.join().expect("watcher");
    assert_eq!(end, Ok(None));
    let time = seen.last().expect("one").0.duration_since(seen[0].0);
    let paced = 3 + time.as_millis() / 40;
    assert!(u128::try_from(seen.len()).expect("few") <= paced, "{} in {time:?}", seen.len());
    assert!(seen.windows(2).all(|pair| pair[0].1 < pair[1].1), "never backwards");
    until("the watcher's end is noticed", || reply.is_gone());
    assert!(reply.latest(&Arc::default()).is_err());
}

#[test]
fn a_peer_that_does_not_read_loses_its_connection_and_nobody_waits_for_it() {
    let daemon = Daemon::with(true, Limits { idle: PATIENCE, frame: Duration::from_millis(150) });
    let mut slow = daemon.raw();
    slow.write_all(b"{\"method\":\"io.volctl.Monitor\",\"more\":true}\0").expect("write");
    let reply = daemon.next().reply;
    let big = json!({"text": "x".repeat(4 << 20)});
    let before = Instant::now();
    reply.progress(&big).expect("queued");
    assert!(before.elapsed() < Duration::from_secs(1), "the loop never waits for a peer");
    until("it is cut off", || reply.is_gone());
    until("its thread has ended", || daemon.server.connections() == 0);
}

#[test]
fn a_silent_peer_is_let_go_and_a_trickling_one_told_why() {
    let daemon = Daemon::with(true, Limits { idle: Duration::from_millis(100), frame: Duration::from_millis(100) });
    let mut silent = daemon.raw();
    let mut reply = String::new();
    silent.read_to_string(&mut reply).expect("the end");
    assert_eq!(reply, "");
    let mut trickling = daemon.raw();
    trickling.write_all(b"{").expect("write");
    trickling.read_to_string(&mut reply).expect("the end");
    assert!(reply.contains("too slow"), "{reply}");
}

#[test]
fn a_loop_that_does_not_take_calls_makes_callers_busy_not_stuck() {
    let daemon = Daemon::new(true);
    let callers: Vec<_> = (0..5)
        .map(|_| {
            let path = daemon.path.clone();
            thread::spawn(move || Client::connect(&path).expect("connect").call(&Call::Status))
        })
        .collect();
    until("one has been told", || callers.iter().any(JoinHandle::is_finished));
    drop(daemon);
    let results: Vec<_> = callers.into_iter().map(|caller| caller.join().expect("caller").expect_err("none")).collect();
    assert!(results.iter().any(|failure| failure.exit == ExitCode::Busy));
}

#[test]
fn a_second_daemon_is_refused_and_a_stale_socket_is_replaced() {
    let daemon = Daemon::new(true);
    let again = SocketServer::start(&daemon.path, bounded(1).0).err().expect("refused");
    assert_eq!(again.exit, ExitCode::Busy);
    let path = daemon.path.clone();
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o666);
    assert_eq!(fs::metadata(path.parent().expect("a parent")).expect("there").permissions().mode() & 0o777, 0o755);
    daemon.server.stop();
    assert!(!path.exists(), "removed at an orderly end");
    drop(UnixListener::bind(&path).expect("a stale one"));
    assert!(path.exists());
    SocketServer::start(&path, bounded(1).0).expect("the stale one is replaced").stop();
}

#[test]
fn what_is_not_a_stale_socket_is_never_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    fs::write(&file, "precious").expect("write");
    assert_eq!(SocketServer::start(&file, bounded(1).0).err().expect("refused").exit, ExitCode::Failed);
    assert_eq!(fs::read(&file).expect("read"), b"precious");
    let foreign = dir.path().join("foreign");
    let _listener = UnixListener::bind(&foreign).expect("bind");
    assert_eq!(SocketServer::start(&foreign, bounded(1).0).err().expect("refused").exit, ExitCode::Busy);
    assert!(foreign.exists());
}

#[test]
fn a_socket_that_is_no_longer_ours_survives_our_end() {
    let daemon = Daemon::new(true);
    fs::remove_file(&daemon.path).expect("remove");
    let _other = UnixListener::bind(&daemon.path).expect("another's");
    let path = daemon.path.clone();
    daemon.server.stop();
    assert!(path.exists());
}

#[test]
fn at_the_end_callers_are_told_and_no_thread_stays() {
    let daemon = Daemon::new(true);
    let path = daemon.path.clone();
    let caller = thread::spawn(move || {
        let wait = RequestCall { volume: "v".into(), message: String::new(), wait_ms: Some(60_000) };
        Client::connect(&path).expect("connect").call_more(&Call::Request(wait), |_| Ok(true))
    });
    let idle = daemon.raw();
    drop(daemon.next());
    daemon.server.stop();
    let failure = caller.join().expect("caller").expect_err("told");
    assert_eq!(failure.exit, ExitCode::NoDaemon);
    drop(idle);
}

#[test]
fn several_calls_may_be_sent_at_once_and_are_answered_in_order() {
    let daemon = Daemon::new(true);
    let mut stream = daemon.raw();
    stream.write_all(b"{\"method\":\"io.volctl.Status\"}\0{\"method\":\"io.volctl.Requests\"}\0").expect("write");
    let first = daemon.next();
    assert_eq!(first.call, Call::Status);
    assert!(daemon.calls.is_empty(), "one after the other");
    first.reply.done(&json!({"n": 1}));
    daemon.next().reply.done(&json!({"n": 2}));
    let mut frames = crate::wire::frame::FrameStream::new(stream, REPLY_BYTES_MAX).expect("frames");
    for n in [1, 2] {
        let reply: Value = frames.read(Some(PATIENCE), PATIENCE).expect("read").expect("a reply");
        assert_eq!(reply["parameters"]["n"], n);
    }
}
