//! The threads against daemons that are none: rubbish, silence, another version, nobody.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use volctl::wire::outcome::ExitCode;
use volctl_gui::backend::Backend;
use volctl_gui::model::{Effect, Event, QUIET};

use crate::sample::{status, volume};

/// A socket at which every caller is served by `serve`.
struct Fake {
    dir: tempfile::TempDir,
}

impl Fake {
    fn new(serve: impl Fn(UnixStream, String) + Clone + Send + 'static) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let listener = UnixListener::bind(dir.path().join("s")).expect("bind");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, serve) = (stream.expect("a caller"), serve.clone());
                std::thread::spawn(move || {
                    let mut call = vec![0; 4096];
                    let n = stream.read(&mut call).unwrap_or(0);
                    serve(stream, String::from_utf8_lossy(&call[..n]).into_owned());
                });
            }
        });
        Self { dir }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    fn backend(&self) -> Backend {
        Backend::start(self.socket(), Arc::new(|| {})).expect("threads")
    }
}

fn wait_for<T>(backend: &Backend, what: &str, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(30) {
        if let Ok(event) = backend.events.recv_timeout(Duration::from_secs(1))
            && let Some(found) = wanted(event)
        {
            return found;
        }
    }
    panic!("it never comes: {what}");
}

fn down(backend: &Backend) -> volctl::wire::outcome::Failure {
    wait_for(backend, "a failure", |event| match event {
        Event::Down(failure) => Some(failure),
        _ => None,
    })
}

fn say(stream: &mut UnixStream, value: &serde_json::Value) {
    // Whoever has hung up hears nothing.
    let _ = stream.write_all(format!("{value}\0").as_bytes());
}

#[test]
fn rubbish_on_the_socket_is_a_failure_in_words() {
    let fake = Fake::new(|mut stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\0");
    });
    let failure = down(&fake.backend());
    assert_eq!(failure.exit, ExitCode::Failed);
    assert!(failure.next.contains("of the same version"), "{failure:?}");
}

#[test]
fn a_status_of_another_version_is_a_failure_in_words() {
    let fake = Fake::new(|mut stream, _| {
        say(&mut stream, &serde_json::json!({"parameters": {"client": 7}, "continues": true}));
    });
    let failure = down(&fake.backend());
    assert!(failure.what.contains("not understood") && failure.next.contains("version"), "{failure:?}");
}

#[test]
fn a_daemon_that_takes_the_call_and_says_nothing_is_noticed() {
    let fake = Fake::new(|stream, _| {
        std::thread::sleep(Duration::from_secs(60));
        drop(stream);
    });
    let backend = fake.backend();
    let time = wait_for(&backend, "a silence", |event| match event {
        Event::Quiet(time) => Some(time),
        _ => None,
    });
    assert!(time >= QUIET);
}

#[test]
fn nobody_at_the_socket_is_told_and_whoever_comes_is_found() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("s");
    let backend = Backend::start(socket.clone(), Arc::new(|| {})).expect("threads");
    assert_eq!(down(&backend).exit, ExitCode::NoDaemon);
    let listener = UnixListener::bind(&socket).expect("bind");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a caller");
            std::thread::spawn(move || {
                let mut call = [0; 4096];
                let n = stream.read(&mut call).unwrap_or(0);
                if String::from_utf8_lossy(&call[..n]).contains("Monitor") {
                    let status = serde_json::to_value(status(vec![volume("footage")])).expect("JSON");
                    say(&mut stream, &serde_json::json!({"parameters": status, "continues": true}));
                }
                std::thread::sleep(Duration::from_secs(60));
            });
        }
    });
    assert!(backend.carry_out(Effect::Reconnect).is_none());
    let found = wait_for(&backend, "a status", |event| match event {
        Event::Status(status) => Some(status),
        _ => None,
    });
    assert_eq!(found.client, "alice");
}

#[test]
fn a_daemon_that_is_not_logged_on_says_who_it_is_and_why() {
    let fake = Fake::new(|mut stream, call| {
        if call.contains("io.volctl.Status") {
            let mut bare = status(vec![]);
            bare.incarnation = 0;
            say(&mut stream, &serde_json::json!({"parameters": bare}));
        } else {
            let why = "the daemon is not logged on: the slot is being proven free";
            let failure = serde_json::json!({"exit": 5, "what": "not now", "why": why, "next": "wait"});
            say(&mut stream, &serde_json::json!({"error": "io.volctl.Busy", "parameters": failure}));
        }
    });
    let backend = fake.backend();
    let mut client = String::new();
    let failure = wait_for(&backend, "both", |event| match event {
        Event::Status(status) => {
            client.clone_from(&status.client);
            None
        }
        Event::Down(failure) if !client.is_empty() => Some(failure),
        _ => None,
    });
    assert_eq!((client.as_str(), failure.exit), ("alice", ExitCode::Busy));
}

#[test]
fn sixty_four_calls_at_once_all_end() {
    let fake = Fake::new(|mut stream, _| {
        say(&mut stream, &serde_json::json!({"parameters": {"volume": "v", "text": "done"}}));
    });
    let backend = fake.backend();
    for i in 0..64 {
        let volume = format!("v{i}");
        let call = volctl::wire::call::Call::Refresh(volctl::wire::call::VolumeCall { volume: volume.clone() });
        assert!(backend.carry_out(Effect::Call(volctl_gui::command::Command::Refresh(volume), call)).is_none());
    }
    let mut ended = 0;
    wait_for(&backend, "all", |event| {
        if let Event::Called { result, .. } = event {
            assert_eq!(result, Ok("done".into()));
            ended += 1;
        }
        (ended == 64).then_some(())
    });
}
