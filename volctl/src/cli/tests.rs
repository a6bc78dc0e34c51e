//! Tests of the command line: what is understood, what is refused and how, and the verbs against a daemon's socket.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam::channel::bounded;
use serde_json::{Value, json};

use super::*;
use crate::daemon::socket::{Incoming, SocketServer};
use crate::wire::call::{Answer3, Call, LogCall};
use crate::wire::status::Status;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Captured {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no panic").clone()).expect("UTF-8")
    }
}

fn run_os(arguments: Vec<OsString>) -> (u8, String, String) {
    let (out, err) = (Captured::default(), Captured::default());
    let mut ui = Ui::new(Box::new(out.clone()), Box::new(err.clone()));
    let arguments = std::iter::once(OsString::from("volctl")).chain(arguments).collect();
    let code = run(arguments, &mut ui).code();
    (code, out.text(), err.text())
}

fn run_line(line: &str) -> (u8, String, String) {
    run_os(line.split_whitespace().map(OsString::from).collect())
}

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("volctl").chain(line.split_whitespace()))
}

#[test]
fn the_tree_of_commands_is_sound() {
    command().debug_assert();
}

#[test]
fn every_command_line_of_the_contract_is_understood() {
    for line in [
        "init /dev/c",
        "init c.img --label L --max-clients 8 --max-volumes 1024 --lock ofd --beat 250ms --lease 8s --dead 12s --size 16M --force",
        "client add bob --control /c",
        "client remove bob --control /c",
        "client list --control /c",
        "volume add footage --device /d --control /c",
        "volume add footage --device /d --control /c --readers snapshot --envelope --mkfs btrfs --size 1G",
        "volume remove footage --control /c",
        "volume list --control /c --json",
        "allow bob footage write --lockout on --auto-update off --check 2s --control /c",
        "allow bob footage none --control /c",
        "set footage write-enabled off --control /c",
        "set-client bob auto-response idle --control /c",
        "set-client bob admin on --control /c",
        "set-client bob enabled off --control /c",
        "set-client bob locked-out on --control /c",
        "set-client bob notify on --control /c",
        "daemon --config /etc/volctl.toml",
        "status",
        "status --watch",
        "status --json",
        "--json status",
        "log",
        "log -f",
        "request footage",
        "request footage -m hello --wait 30s",
        "withdraw footage",
        "requests",
        "answer footage bob yes",
        "answer footage bob later -m soon",
        "release footage --socket /s",
        "--socket /s refresh footage",
        "mount footage",
        "unmount footage",
        "takeover footage",
        "takeover footage --yes-i-know bob",
        "dump /c",
        "check /c",
        "check /c --repair --accept-loss",
        "demo",
        "demo --keep",
        "bench",
        "bench lock",
        "bench handover --rounds 5 --dir /var/tmp",
        "bench poll",
        "bench refresh",
        "completions bash",
        "man",
        "man /tmp/man",
        "guardian --fd 3",
    ] {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn wrong_command_lines_are_exit_2_with_three_lines() {
    let long = "x".repeat(64);
    for line in [
        "",
        "erase",
        "status --colour",
        "request",
        "request a/b",
        "request ..",
        &format!("request {long}"),
        "request v --wait 30",
        "request v --wait soon",
        "answer v bob maybe",
        "client add bob",
        "client",
        "init c --max-clients 1025",
        "init c --max-clients 0",
        "init c --size 1.5G",
        "init c --lock flock",
        "volume add v --control /c",
        "volume add v --device /d --control /c --size 1G",
        "volume add v --device /d --control /c --mkfs ntfs",
        "allow bob v all --control /c",
        "set v colour on --control /c",
        "set v write-enabled maybe --control /c",
        "set-client bob admin idle --control /c",
        "set-client bob auto-response on --control /c",
        "check /c --accept-loss",
        "daemon",
        "bench everything",
        "completions basic",
    ] {
        let (code, out, err) = run_line(line);
        assert_eq!((code, out.as_str()), (2, ""), "{line}: {err}");
        let lines: Vec<&str> = err.lines().collect();
        assert_eq!(lines.len(), 3, "{line}: {err}");
        assert!(lines[0].starts_with("volctl: ") && lines[0].len() > 10, "{line}: {err}");
        assert!(lines[1].starts_with("  why: ") && lines[2].starts_with("  next: "), "{line}: {err}");
    }
}

#[test]
fn a_wrong_command_line_says_what_and_how() {
    let (_, _, err) = run_line("request a/b");
    assert!(err.starts_with("volctl: invalid value 'a/b' for '<VOLUME>'\n  why: it contains '/'\n"), "{err}");
    let (_, _, err) = run_line("set-client bob admin idle --control /c");
    assert!(err.contains("invalid value 'idle' for admin") && err.contains("on, off"), "{err}");
    let (code, out, err) = run_line("--json request a/b");
    let failure: Value = serde_json::from_str(&err).expect("JSON");
    assert_eq!((code, out.as_str(), &failure["exit"]), (2, "", &json!(2)));
}

#[test]
fn arguments_that_are_not_utf8_or_hold_escapes_are_usage_errors() {
    let bad = OsStr::from_bytes(b"foot\xffage").to_owned();
    for arguments in [
        vec!["request".into(), bad.clone()],
        vec!["request".into(), "v".into(), "-m".into(), bad.clone()],
        vec![bad.clone()],
        vec!["status".into(), bad],
        vec!["request".into(), "\x1b[2J".into()],
    ] {
        let (code, _, err) = run_os(arguments);
        assert_eq!(code, 2);
        assert!(!err.contains('\x1b') && err.lines().count() == 3, "{err:?}");
    }
    let path = OsStr::from_bytes(b"/tmp/\xff.img").to_owned();
    let cli = Cli::try_parse_from(["volctl".into(), "dump".into(), path]).expect("paths are bytes");
    assert!(matches!(cli.command, Command::Dump(_)));
}

#[test]
fn help_names_every_command_but_the_hidden_one_and_is_success() {
    let (code, out, err) = run_line("--help");
    assert_eq!((code, err.as_str()), (0, ""));
    for command in command().get_subcommands() {
        let listed = out.lines().any(|line| line.trim_start().starts_with(&format!("{} ", command.get_name())));
        assert_eq!(listed, !command.is_hide_set(), "{}", command.get_name());
        let about = command.get_about().expect("about").to_string();
        assert!(!about.ends_with('.'), "{about}");
        let (code, long, _) = run_line(&format!("{} --help", command.get_name()));
        let group = matches!(command.get_name(), "client" | "volume" | "guardian");
        assert_eq!((code, long.contains("Example") || group), (0, true), "{}", command.get_name());
    }
    assert_eq!(run_line("--version").1, format!("volctl {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn without_a_daemon_every_daemon_verb_is_exit_7() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("s");
    for verb in [
        "status",
        "status --watch",
        "requests",
        "request v",
        "request v --wait 1s",
        "withdraw v",
        "answer v c yes",
        "release v",
        "refresh v",
        "mount v",
        "unmount v",
        "takeover v",
        "log",
        "log -f",
    ] {
        let (code, out, err) = run_line(&format!("{verb} --socket {}", socket.display()));
        assert_eq!((code, out.as_str()), (7, ""), "{verb}: {err}");
        assert!(err.contains("no daemon answers at"), "{verb}: {err}");
    }
}

/// Runs a command line against a daemon that handles each call so.
fn against(line: &str, handle: impl Fn(Incoming) + Send + 'static) -> (u8, String, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("s");
    let (sender, calls) = bounded(4);
    let server = SocketServer::start(&path, sender).expect("it listens");
    let daemon = std::thread::spawn(move || calls.iter().for_each(handle));
    let result = run_line(&format!("{line} --socket {}", path.display()));
    server.stop();
    // The last sender was the server's; its threads have ended.
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !daemon.is_finished() && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
    daemon.join().expect("no panic");
    result
}

#[test]
fn a_request_that_waits_prints_each_step_and_ends_with_the_daemons_word() {
    let line = "request footage --wait 30s";
    let step = |state: &str, text: &str| json!({"volume": "footage", "state": state, "text": text});
    let (code, out, err) = against(line, move |incoming| {
        assert!(matches!(&incoming.call, Call::Request(call) if call.wait_ms == Some(30_000)));
        incoming.reply.progress(&step("asked", "asked alice, first in the queue")).expect("there");
        incoming.reply.progress(&step("later", "alice: later, 'in ten minutes'")).expect("there");
        incoming.reply.done(&step("mounted", "footage is mounted read-write"));
    });
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out.lines().count(), 3, "{out}");
    let (code, out, err) = against(line, |incoming| {
        incoming.reply.fail(Failure::timed_out("not yet", "alice has not answered", "the request stands"));
    });
    assert_eq!((code, out.as_str()), (4, ""));
    assert_eq!(err, "volctl: not yet\n  why: alice has not answered\n  next: the request stands\n");
    let (code, ..) = against(line, |incoming| incoming.reply.fail(Failure::refused("no", "alice: no", "ask alice")));
    assert_eq!(code, 3);
}

#[test]
fn verbs_send_what_was_typed() {
    let (code, out, _) = against("answer footage bob later -m soon", |incoming| {
        assert!(matches!(&incoming.call, Call::Answer(call)
            if (call.volume.as_str(), call.client.as_str(), call.answer, call.message.as_str())
                == ("footage", "bob", Answer3::Later, "soon")));
        incoming.reply.done(&json!({"volume": "footage", "text": "answered bob: later"}));
    });
    assert_eq!((code, out.as_str()), (0, "answered bob: later\n"));
    let (code, out, _) = against("--json takeover footage --yes-i-know bob", |incoming| {
        assert!(matches!(&incoming.call, Call::Takeover(call) if call.yes_i_know.as_deref() == Some("bob")));
        incoming.reply.progress(&json!({"volume": "footage", "text": "waiting"})).expect("there");
        incoming.reply.done(&json!({"volume": "footage", "text": "taken", "mountpoint": "/v"}));
    });
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect();
    assert_eq!((code, lines.len(), &lines[1]["mountpoint"]), (0, 2, &json!("/v")));
}

#[test]
fn status_and_requests_and_log_print_both_ways() {
    let status = || Arc::new(Status { client: "alice".into(), incarnation: 3, ..Status::default() });
    let (code, out, _) = against("status --json", move |incoming| incoming.reply.done_status(&status()));
    assert_eq!((code, serde_json::from_str::<Status>(&out).expect("status").client), (0, "alice".to_owned()));
    let (_, out, _) = against("status", move |incoming| incoming.reply.done_status(&status()));
    assert!(out.starts_with("alice (slot 0"), "{out}");
    let (_, out, _) = against("requests", |incoming| incoming.reply.done(&json!({"requests": []})));
    assert_eq!(out, "no open requests\n");
    let events =
        json!({"events": [{"time": "t", "seq": 1, "event": "note", "text": "one"}, {"event": "note", "text": "two"}]});
    let (_, out, _) = against("log --json", move |incoming| {
        assert_eq!(incoming.call, Call::Log(LogCall { follow: false }));
        incoming.reply.done(&events);
    });
    assert_eq!(out.lines().count(), 2);
}

#[test]
fn a_watch_ends_with_exit_7_when_the_daemon_ends() {
    let (code, out, err) = against("status --watch --json", |incoming| {
        incoming.reply.latest(&Arc::new(Status { client: "alice".into(), ..Status::default() })).expect("there");
    });
    assert_eq!((code, out.lines().count()), (7, 1), "{err}");
}

#[test]
fn completions_and_manual_pages_come_from_the_same_tree() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = run_line(&format!("completions {shell}"));
        assert!(code == 0 && out.contains("takeover"), "{shell}");
    }
    let (code, out, _) = run_line("man");
    assert!(code == 0 && out.contains(".TH volctl"), "{out}");
    let dir = tempfile::tempdir().expect("a directory");
    let (code, ..) = run_line(&format!("man {}/m", dir.path().display()));
    assert_eq!(code, 0);
    for page in ["volctl.1", "volctl-request.1", "volctl-volume-add.1"] {
        assert!(dir.path().join("m").join(page).exists(), "{page}");
    }
    assert_eq!(run_line("man /proc/nowhere").0, 1);
}

#[test]
fn a_bad_configuration_is_a_usage_error_before_anything_is_started() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("c.toml");
    std::fs::write(&config, "client = 'a'\ncontrol = 'relative'\n").expect("write");
    let (code, _, err) = run_line(&format!("daemon --config {}", config.display()));
    assert_eq!(code, 2);
    assert!(err.contains("not an absolute path"), "{err}");
    assert!(!Path::new("relative").exists());
}
