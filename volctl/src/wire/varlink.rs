//! The Varlink side of the protocol: the service's own interface, its description, and errors by name.

use serde_json::{Value, json};

use super::call::{CallError, INTERFACE};
use super::frame::ReplyFrame;
use super::outcome::{ExitCode, Failure};

/// The interface that every Varlink service has.
pub const SERVICE: &str = "org.varlink.service";

/// The description of `io.volctl`, as `GetInterfaceDescription` hands it out.
pub const DESCRIPTION: &str = include_str!("io.volctl.varlink");

const SERVICE_DESCRIPTION: &str = include_str!("org.varlink.service.varlink");

/// Answers a method of `org.varlink.service`; `None` when the method is of another interface.
#[must_use]
pub fn service_reply(method: &str, parameters: &Value) -> Option<ReplyFrame> {
    let name = method.strip_prefix(SERVICE)?.strip_prefix('.')?;
    Some(match name {
        "GetInfo" => done(json!({
            "vendor": "volctl",
            "product": "volctl",
            "version": env!("CARGO_PKG_VERSION"),
            "url": "",
            "interfaces": [SERVICE, INTERFACE],
        })),
        "GetInterfaceDescription" => match parameters.get("interface").and_then(Value::as_str) {
            Some(INTERFACE) => done(json!({"description": DESCRIPTION})),
            Some(SERVICE) => done(json!({"description": SERVICE_DESCRIPTION})),
            Some(other) => service_error("InterfaceNotFound", &json!({"interface": other})),
            None => service_error("InvalidParameter", &json!({"parameter": "interface"})),
        },
        _ => service_error("MethodNotFound", &json!({"method": method})),
    })
}

/// A last reply that carries what came out.
#[must_use]
pub const fn done(parameters: Value) -> ReplyFrame {
    ReplyFrame { parameters, continues: false, error: None }
}

/// The reply to a call without `more` that needs it.
#[must_use]
pub fn expected_more() -> ReplyFrame {
    service_error("ExpectedMore", &json!({}))
}

/// The reply to a call that was not understood.
#[must_use]
pub fn call_error(error: &CallError) -> ReplyFrame {
    let why = error.to_string();
    match error {
        CallError::InterfaceNotFound(interface) => {
            service_error("InterfaceNotFound", &json!({"interface": interface, "why": why}))
        }
        CallError::MethodNotFound(method) => service_error("MethodNotFound", &json!({"method": method, "why": why})),
        CallError::InvalidParameters { method, .. } => {
            service_error("InvalidParameter", &json!({"parameter": method, "why": why}))
        }
        CallError::InvalidName { parameter, .. } => {
            service_error("InvalidParameter", &json!({"parameter": parameter, "why": why}))
        }
    }
}

fn service_error(name: &str, parameters: &Value) -> ReplyFrame {
    ReplyFrame { parameters: parameters.clone(), continues: false, error: Some(format!("{SERVICE}.{name}")) }
}

/// A failure as an error reply, such as `io.volctl.Refused`.
#[must_use]
pub fn failure_reply(failure: &Failure) -> ReplyFrame {
    ReplyFrame {
        parameters: json!({
            "exit": failure.exit.code(),
            "what": failure.what,
            "why": failure.why,
            "next": failure.next,
        }),
        continues: false,
        error: Some(format!("{INTERFACE}.{}", failure.exit.word())),
    }
}

/// The failure that an error reply carries, whoever sent it.
#[must_use]
pub fn failure_of(error: &str, parameters: &Value) -> Failure {
    if error.starts_with(INTERFACE)
        && let Ok(failure) = serde_json::from_value::<Failure>(parameters.clone())
        && failure.exit != ExitCode::Done
    {
        return failure;
    }
    let why = parameters.get("why").and_then(Value::as_str).map_or_else(|| parameters.to_string(), str::to_owned);
    let why = format!("{error}: {why}");
    if error.starts_with(SERVICE) {
        Failure::usage(
            "the daemon did not understand the call",
            why,
            "check that program and daemon are of the same version",
        )
    } else {
        Failure::failed("the daemon reported an error", why, "see 'volctl log' for what happened before")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::call::Call;

    #[test]
    fn the_service_describes_itself_and_every_call() {
        let info = service_reply("org.varlink.service.GetInfo", &Value::Null).expect("its own interface");
        assert_eq!(info.parameters["interfaces"][1], INTERFACE);
        let asked = json!({"interface": INTERFACE});
        let reply = service_reply("org.varlink.service.GetInterfaceDescription", &asked).expect("its own interface");
        let description = reply.parameters["description"].as_str().expect("text").to_owned();
        for name in [
            "Status", "Monitor", "Requests", "Request", "Withdraw", "Answer", "Release", "Refresh", "Mount", "Unmount",
            "Takeover", "Log",
        ] {
            assert!(description.contains(&format!("method {name}(")), "{name}");
            let parsed = Call::parse(&format!("{INTERFACE}.{name}"), json!({"no such": 1}));
            assert!(matches!(parsed, Err(CallError::InvalidParameters { .. })), "{name}");
        }
        for code in ExitCode::ALL.into_iter().filter(|code| *code != ExitCode::Done) {
            assert!(description.contains(&format!("error {} (", code.word())), "{}", code.word());
        }
    }

    #[test]
    fn unknown_service_methods_and_interfaces_are_named() {
        let error = |method: &str, parameters| service_reply(method, &parameters).expect("own interface").error;
        assert_eq!(error("org.varlink.service.Nope", json!({})), Some("org.varlink.service.MethodNotFound".into()));
        let method = "org.varlink.service.GetInterfaceDescription";
        assert_eq!(error(method, json!({})), Some("org.varlink.service.InvalidParameter".into()));
        assert_eq!(error(method, json!({"interface": "x.y"})), Some("org.varlink.service.InterfaceNotFound".into()));
        assert!(service_reply("org.varlink.servicex.GetInfo", &json!({})).is_none());
    }

    #[test]
    fn failures_cross_the_wire_unchanged() {
        for exit in ExitCode::ALL.into_iter().filter(|code| *code != ExitCode::Done) {
            let failure = Failure::new(exit, "what", "why", "next");
            let reply = failure_reply(&failure);
            assert_eq!(failure_of(&reply.error.expect("an error"), &reply.parameters), failure);
        }
    }

    #[test]
    fn a_strange_error_is_still_a_failure_and_never_success() {
        let strange = failure_of("com.example.Oops", &json!({"a": 1}));
        assert_eq!(strange.exit, ExitCode::Failed);
        let lying = failure_of("io.volctl.Done", &json!({"exit": 0, "what": "", "why": "", "next": ""}));
        assert_ne!(lying.exit, ExitCode::Done);
        assert_eq!(failure_of("org.varlink.service.MethodNotFound", &json!({})).exit, ExitCode::Usage);
    }
}
