//! Tests of the calls: every call survives the wire; bad ones are named, never believed.

use serde_json::json;

use super::*;

fn every_call() -> Vec<Call> {
    let volume = VolumeCall { volume: "footage".into() };
    vec![
        Call::Status,
        Call::Monitor,
        Call::Requests,
        Call::Request(RequestCall { volume: "footage".into(), message: "titles".into(), wait_ms: Some(30_000) }),
        Call::Withdraw(volume.clone()),
        Call::Answer(AnswerCall {
            volume: "footage".into(),
            client: "bob".into(),
            answer: Answer3::Later,
            message: String::new(),
        }),
        Call::Release(volume.clone()),
        Call::Refresh(volume.clone()),
        Call::Mount(volume.clone()),
        Call::Unmount(volume),
        Call::Takeover(TakeoverCall { volume: "footage".into(), yes_i_know: Some("bob".into()) }),
        Call::Log(LogCall { follow: true }),
    ]
}

#[test]
fn every_call_survives_the_wire() {
    for call in every_call() {
        assert_eq!(Call::parse(&call.method(), call.parameters()), Ok(call));
    }
}

#[test]
fn only_status_monitor_requests_and_log_merely_look() {
    let looks: Vec<_> = every_call().iter().filter(|call| !call.acts()).map(Call::name).collect();
    assert_eq!(looks, ["Status", "Monitor", "Requests", "Log"]);
}

#[test]
fn absent_and_null_optional_parameters_are_the_same() {
    let expected = Call::Request(RequestCall { volume: "v".into(), message: String::new(), wait_ms: None });
    for parameters in [json!({"volume": "v"}), json!({"volume": "v", "message": null, "wait_ms": null})] {
        assert_eq!(Call::parse("io.volctl.Request", parameters), Ok(expected.clone()));
    }
    assert_eq!(Call::parse("io.volctl.Status", Value::Null), Ok(Call::Status));
    assert_eq!(Call::parse("io.volctl.Log", json!({})), Ok(Call::Log(LogCall { follow: false })));
}

#[test]
fn bad_calls_are_named() {
    let parse = |method: &str, parameters| Call::parse(method, parameters).expect_err("a bad call");
    assert_eq!(parse("io.other.Status", json!({})), CallError::InterfaceNotFound("io.other".into()));
    assert_eq!(parse("", json!({})), CallError::InterfaceNotFound(String::new()));
    assert_eq!(parse("io.volctl.Erase", json!({})), CallError::MethodNotFound("io.volctl.Erase".into()));
    for (method, parameters) in [
        ("io.volctl.Status", json!({"x": 1})),
        ("io.volctl.Status", json!([])),
        ("io.volctl.Release", json!({})),
        ("io.volctl.Release", json!({"volume": 5})),
        ("io.volctl.Release", json!({"volume": "v", "force": true})),
        ("io.volctl.Answer", json!({"volume": "v", "client": "c", "answer": "maybe"})),
        ("io.volctl.Request", json!({"volume": "v", "wait_ms": -1})),
    ] {
        assert!(matches!(parse(method, parameters), CallError::InvalidParameters { .. }), "{method}");
    }
    for parameters in [json!({"volume": "../etc"}), json!({"volume": ""}), json!({"volume": "a\u{0}"})] {
        assert!(matches!(parse("io.volctl.Mount", parameters), CallError::InvalidName { parameter: "volume", .. }));
    }
    let long = json!({"volume": "v", "message": "x".repeat(256)});
    assert!(matches!(parse("io.volctl.Request", long), CallError::InvalidName { parameter: "message", .. }));
}
