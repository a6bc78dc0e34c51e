//! What comes over a socket, or was written to the event log.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;
use volctl::cli::status::{request_lines, status_text};
use volctl::daemon::event_log::events_of;
use volctl::wire::call::{Call, RequestReply, RequestsReply};
use volctl::wire::event::LogReply;
use volctl::wire::frame::{CallFrame, DEPTH_MAX, FrameStream, ReplyFrame, decode};
use volctl::wire::outcome::{ExitCode, one_line};
use volctl::wire::status::Status;
use volctl::wire::varlink::{call_error, failure_of, failure_reply, service_reply};

pub(super) fn guardian(data: &[u8]) {
    lockdriver::guardian::protocol::understands(data);
}

/// The bytes come in two pieces, and then the peer is gone.
pub(super) fn frame(data: &[u8]) {
    const MOST: usize = 256;
    let (cut, data) = data.split_first().map_or((0, data), |(first, rest)| (usize::from(*first), rest));
    let (ours, mut theirs) = UnixStream::pair().expect("two sockets");
    let mut stream = FrameStream::new(ours, MOST).expect("a socket");
    let (first, second) = data.split_at(cut.min(data.len()));
    theirs.write_all(first).expect("room in the socket");
    let mut frames = Vec::new();
    let mut over = false;
    while !over && (stream.has_buffered() || frames.is_empty()) && first.contains(&0) {
        match stream.read_bytes(Some(Duration::ZERO), Duration::ZERO) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) | Err(_) => over = true,
        }
    }
    theirs.write_all(second).expect("room in the socket");
    drop(theirs);
    while let (false, Ok(Some(frame))) = (over, stream.read_bytes(Some(Duration::from_secs(5)), Duration::from_secs(5)))
    {
        frames.push(frame);
    }
    let whole: Vec<&[u8]> = data.split(|b| *b == 0).collect();
    for (frame, sent) in frames.iter().zip(&whole) {
        assert!(frame.len() <= MOST && frame == sent, "a frame is what was sent between two NULs");
    }
}

pub(super) fn call(data: &[u8]) {
    let Ok(frame) = decode::<CallFrame>(data) else {
        // Parameters alone, for every method.
        let Ok(parameters) = decode::<Value>(data) else { return };
        for name in ["Request", "Answer", "Takeover", "Log", "Release", "Status"] {
            parse(&format!("io.volctl.{name}"), parameters.clone());
        }
        return;
    };
    let again: CallFrame = decode(&serde_json::to_vec(&frame).expect("JSON")).expect("own JSON");
    assert_eq!(again, frame);
    assert!(depth(&frame.parameters) <= DEPTH_MAX);
    let _ = service_reply(&frame.method, &frame.parameters);
    parse(&frame.method, frame.parameters);
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(all) => 1 + all.iter().map(depth).max().unwrap_or(0),
        Value::Object(all) => 1 + all.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn parse(method: &str, parameters: Value) {
    match Call::parse(method, parameters) {
        Ok(call) => {
            assert_eq!(call.method(), method);
            assert_eq!(Call::parse(method, call.parameters()), Ok(call), "a call says the same again");
        }
        Err(error) => {
            let reply = call_error(&error);
            let failure = failure_of(&reply.error.expect("an error"), &reply.parameters);
            assert_ne!(failure.exit, ExitCode::Done);
        }
    }
}

/// What a program does with what a daemon, or something that says it is one, replies.
pub(super) fn reply(data: &[u8]) {
    if let Ok(frame) = decode::<ReplyFrame>(data) {
        let failure = failure_of(frame.error.as_deref().unwrap_or("io.volctl.Refused"), &frame.parameters);
        assert_ne!(failure.exit, ExitCode::Done, "an error is never taken for success");
        let reply = failure_reply(&failure);
        assert_eq!(failure_of(&reply.error.expect("an error"), &reply.parameters), failure);
        let lines = failure.to_lines();
        assert!(lines.lines().count() <= 3, "three lines whatever it says: {lines:?}");
    }
    if let Ok(status) = decode::<Status>(data) {
        let json = serde_json::to_vec(&status).expect("JSON");
        assert_eq!(decode::<Status>(&json).expect("own JSON"), status);
        printable(&status_text(&status));
        printable(&request_lines(&status.requests));
    }
    let _ =
        (decode::<RequestReply>(data).is_ok(), decode::<RequestsReply>(data).is_ok(), decode::<LogReply>(data).is_ok());
    assert!(!one_line(&String::from_utf8_lossy(data)).contains(['\n', '\r', '\u{1b}']));
}

/// Text for a terminal: nothing that moves its cursor.
fn printable(text: &str) {
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
}

pub(super) fn event_log(data: &[u8]) {
    for event in events_of(data) {
        let json = serde_json::to_vec(&event).expect("JSON");
        assert_eq!(events_of(&json).next().as_ref(), Some(&event));
    }
}
