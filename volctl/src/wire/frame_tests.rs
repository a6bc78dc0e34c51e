//! Tests of the framing with peers that cut, flood, stall and lie.

use std::thread;

use serde_json::json;

use super::*;

const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(20);

fn pair() -> (FrameStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    (FrameStream::new(ours, CALL_BYTES_MAX).expect("non-blocking"), theirs)
}

#[test]
fn frames_are_split_at_nul_however_they_arrive() {
    let (mut ours, mut theirs) = pair();
    theirs.write_all(b"{\"method\":\"a.b\"}\0{\"method\"").expect("write");
    let first: CallFrame = ours.read(Some(LONG), LONG).expect("first").expect("a frame");
    assert_eq!((first.method.as_str(), first.more, first.parameters), ("a.b", false, Value::Null));
    theirs.write_all(b":\"c.d\",\"more\":true,\"new key\":1}\0").expect("write");
    drop(theirs);
    let second: CallFrame = ours.read(Some(LONG), LONG).expect("second").expect("a frame");
    assert_eq!((second.method.as_str(), second.more), ("c.d", true));
    assert!(ours.read_bytes(Some(LONG), LONG).expect("clean end").is_none());
}

#[test]
fn a_cut_frame_is_an_error_and_not_an_end() {
    let (mut ours, mut theirs) = pair();
    theirs.write_all(b"{\"method\":").expect("write");
    drop(theirs);
    assert!(matches!(ours.read_bytes(Some(LONG), LONG), Err(FrameError::Cut { bytes: 10 })));
}

#[test]
fn a_huge_frame_is_refused_with_bounded_memory() {
    let (mut ours, mut theirs) = pair();
    let flood = thread::spawn(move || {
        let chunk = vec![b'x'; 1 << 16];
        (0..64).take_while(|_| theirs.write_all(&chunk).is_ok()).count()
    });
    assert!(matches!(ours.read_bytes(Some(LONG), LONG), Err(FrameError::TooBig { max: CALL_BYTES_MAX })));
    assert!(ours.buffer.capacity() < 4 * CALL_BYTES_MAX);
    drop(ours);
    assert!(flood.join().expect("the flood ends") < 64, "nobody takes the rest");
}

#[test]
fn the_longest_allowed_frame_passes_and_one_byte_more_does_not() {
    for (extra, fits) in [(0, true), (1, false)] {
        let (mut ours, mut theirs) = pair();
        let mut bytes = vec![b'x'; CALL_BYTES_MAX + extra];
        bytes.push(0);
        let writer = thread::spawn(move || theirs.write_all(&bytes).is_ok());
        assert_eq!(ours.read_bytes(Some(LONG), LONG).is_ok(), fits);
        drop(ours);
        let _ = writer.join();
    }
}

#[test]
fn what_is_not_json_is_named() {
    for bytes in [&b""[..], b"hello", b"{", b"[1]", b"{\"method\":7}", b"\xff\xfe", b"{\"method\":\"a\"} x"] {
        assert!(matches!(decode::<CallFrame>(bytes), Err(FrameError::NotUnderstood(_))), "{bytes:?}");
    }
}

#[test]
fn deep_json_costs_no_stack() {
    let deep = [b"{\"method\":\"a\",\"parameters\":".to_vec(), vec![b'['; 60_000]].concat();
    assert!(matches!(decode::<CallFrame>(&deep), Err(FrameError::TooDeep)));
    let brackets_in_a_string = json!({"method": "[".repeat(1_000) + "\\\"{{{"});
    assert!(decode::<CallFrame>(brackets_in_a_string.to_string().as_bytes()).is_ok());
}

#[test]
fn a_peer_that_trickles_is_cut_off_by_the_time_for_the_whole_frame() {
    let (mut ours, mut theirs) = pair();
    let trickle = thread::spawn(move || {
        while theirs.write_all(b" ").is_ok() {
            thread::sleep(Duration::from_millis(10));
        }
    });
    assert!(matches!(ours.read_bytes(None, SHORT), Err(FrameError::TimedOut { limit: SHORT })));
    drop(ours);
    trickle.join().expect("the trickle ends");
}

#[test]
fn a_silent_peer_is_left_after_the_idle_time() {
    let (mut ours, _theirs) = pair();
    assert!(matches!(ours.read_bytes(Some(SHORT), LONG), Err(FrameError::TimedOut { limit: SHORT })));
}

#[test]
fn a_peer_that_does_not_read_cannot_hold_the_writer() {
    let (mut ours, _theirs) = pair();
    let big = json!({"parameters": "x".repeat(4 << 20)});
    assert!(matches!(ours.write(&big, SHORT), Err(FrameError::TimedOut { .. })));
}

#[test]
fn a_gone_peer_is_an_error_and_no_signal() {
    let (mut ours, theirs) = pair();
    drop(theirs);
    assert!(matches!(ours.write(&json!({}), LONG), Err(FrameError::Gone)));
}

#[test]
fn any_bytes_at_all_never_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let alphabet = b"{}[]\",:\\0123methodprats\xff\0 \n";
    for _ in 0..5_000 {
        let mut bytes = Vec::new();
        for _ in 0..40 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let index = usize::try_from(state >> 33).expect("64 bits") % alphabet.len();
            bytes.push(alphabet[index]);
        }
        let _ = decode::<CallFrame>(&bytes);
        let _ = decode::<ReplyFrame>(&bytes);
    }
}
