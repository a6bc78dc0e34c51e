//! Calls to the daemon and the shapes of their replies (section 10).

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::names::{NameError, check_message, check_name};

/// The Varlink interface of the daemon.
pub const INTERFACE: &str = "io.volctl";

/// An answer to a request for write access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Answer3 {
    /// Give the write access back and let the asker have it.
    Yes,
    /// Refuse.
    No,
    /// Not now; the request stands.
    Later,
}

impl Answer3 {
    /// The word used in JSON, in hooks and by people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Later => "later",
        }
    }
}

/// What a program asks of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// The status, once. Reply: `Status`.
    Status,
    /// The status, now and at every change, at most every 50 ms. Needs `more`.
    Monitor,
    /// Ask for write access. Reply: [`RequestReply`], the last one when the wait is over.
    Request(RequestCall),
    /// Take an own request back. Reply: [`ActReply`].
    Withdraw(VolumeCall),
    /// Open requests, once. Reply: [`RequestsReply`].
    Requests,
    /// Answer another client's request. Reply: [`ActReply`].
    Answer(AnswerCall),
    /// Give the write access back. Reply: [`ActReply`].
    Release(VolumeCall),
    /// Switch to the newest generation. Reply: [`ActReply`].
    Refresh(VolumeCall),
    /// Mount for reading. Reply: [`ActReply`].
    Mount(VolumeCall),
    /// Take a reader's mount away. Reply: [`ActReply`].
    Unmount(VolumeCall),
    /// Take the write access from a writer, as an administrator. Reply: [`ActReply`], the last one when it is done.
    Takeover(TakeoverCall),
    /// Events. Reply: `LogReply`; with `follow` (needs `more`) again and again.
    Log(LogCall),
}

/// Parameters of the calls that name a volume and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeCall {
    /// The volume's name.
    pub volume: String,
}

/// Parameters of `Request`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestCall {
    /// The volume's name.
    pub volume: String,
    /// What to say to the writer, at most 255 bytes.
    #[serde(default, deserialize_with = "null_is_default")]
    pub message: String,
    /// How long to wait for the mount, in milliseconds; null: return once the request is on disk.
    #[serde(default)]
    pub wait_ms: Option<u64>,
}

/// Parameters of `Answer`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerCall {
    /// The volume's name.
    pub volume: String,
    /// Whose request is answered.
    pub client: String,
    /// The answer.
    pub answer: Answer3,
    /// What to say to the asker, at most 255 bytes.
    #[serde(default, deserialize_with = "null_is_default")]
    pub message: String,
}

/// Parameters of `Takeover`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TakeoverCall {
    /// The volume's name.
    pub volume: String,
    /// The name of a silent writer whose in-flight wait is to be skipped.
    #[serde(default)]
    pub yes_i_know: Option<String>,
}

/// Parameters of `Log`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogCall {
    /// Go on with events as they come.
    #[serde(default, deserialize_with = "null_is_default")]
    pub follow: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoParameters {}

// Varlink writes an absent optional field as null or leaves it out.
fn null_is_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(input: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(input)?.unwrap_or_default())
}

/// Why a call was not understood; the connection goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// An interface that is not served here.
    #[error("no interface '{0}' here")]
    InterfaceNotFound(String),
    /// A method that the interface does not have.
    #[error("no method '{0}' here")]
    MethodNotFound(String),
    /// A parameter is missing, unknown, or of the wrong kind.
    #[error("bad parameters of '{method}': {why}")]
    InvalidParameters {
        /// The method, in full.
        method: String,
        /// What is wrong.
        why: String,
    },
    /// A name breaks the rules.
    #[error("bad {parameter}: {why}")]
    InvalidName {
        /// Which parameter.
        parameter: &'static str,
        /// Which rule.
        why: NameError,
    },
}

impl Call {
    /// Whether the call changes anything; the others only look, and everybody may look.
    #[must_use]
    pub const fn acts(&self) -> bool {
        match self {
            Self::Status | Self::Monitor | Self::Requests | Self::Log(_) => false,
            Self::Request(_)
            | Self::Withdraw(_)
            | Self::Answer(_)
            | Self::Release(_)
            | Self::Refresh(_)
            | Self::Mount(_)
            | Self::Unmount(_)
            | Self::Takeover(_) => true,
        }
    }

    /// Whether it makes sense only with several replies (Varlink `more`).
    #[must_use]
    pub const fn needs_more(&self) -> bool {
        matches!(self, Self::Monitor | Self::Log(LogCall { follow: true }))
    }

    /// The method's name without the interface.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Status => "Status",
            Self::Monitor => "Monitor",
            Self::Request(_) => "Request",
            Self::Withdraw(_) => "Withdraw",
            Self::Requests => "Requests",
            Self::Answer(_) => "Answer",
            Self::Release(_) => "Release",
            Self::Refresh(_) => "Refresh",
            Self::Mount(_) => "Mount",
            Self::Unmount(_) => "Unmount",
            Self::Takeover(_) => "Takeover",
            Self::Log(_) => "Log",
        }
    }

    /// The method's full name, such as `io.volctl.Request`.
    #[must_use]
    pub fn method(&self) -> String {
        format!("{INTERFACE}.{}", self.name())
    }

    /// The parameters as they go over the wire.
    #[must_use]
    pub fn parameters(&self) -> Value {
        match self {
            Self::Status | Self::Monitor | Self::Requests => json!({}),
            Self::Request(call) => json!(call),
            Self::Withdraw(call)
            | Self::Release(call)
            | Self::Refresh(call)
            | Self::Mount(call)
            | Self::Unmount(call) => {
                json!(call)
            }
            Self::Answer(call) => json!(call),
            Self::Takeover(call) => json!(call),
            Self::Log(call) => json!(call),
        }
    }

    /// Reads a call and checks its names.
    ///
    /// An unknown parameter is refused, not ignored: whoever sends it would believe that it had worked.
    ///
    /// # Errors
    /// [`CallError`] for an unknown interface or method and for bad parameters.
    pub fn parse(method: &str, parameters: Value) -> Result<Self, CallError> {
        let (interface, name) = method.rsplit_once('.').unwrap_or(("", method));
        if interface != INTERFACE {
            return Err(CallError::InterfaceNotFound(interface.to_owned()));
        }
        let call = match name {
            "Status" => nothing(method, parameters, Self::Status)?,
            "Monitor" => nothing(method, parameters, Self::Monitor)?,
            "Requests" => nothing(method, parameters, Self::Requests)?,
            "Request" => Self::Request(read(method, parameters)?),
            "Withdraw" => Self::Withdraw(read(method, parameters)?),
            "Answer" => Self::Answer(read(method, parameters)?),
            "Release" => Self::Release(read(method, parameters)?),
            "Refresh" => Self::Refresh(read(method, parameters)?),
            "Mount" => Self::Mount(read(method, parameters)?),
            "Unmount" => Self::Unmount(read(method, parameters)?),
            "Takeover" => Self::Takeover(read(method, parameters)?),
            "Log" => Self::Log(read(method, parameters)?),
            _ => return Err(CallError::MethodNotFound(method.to_owned())),
        };
        call.check_names().map(|()| call)
    }

    fn check_names(&self) -> Result<(), CallError> {
        let named =
            |parameter, result: Result<(), NameError>| result.map_err(|why| CallError::InvalidName { parameter, why });
        match self {
            Self::Status | Self::Monitor | Self::Requests | Self::Log(_) => Ok(()),
            Self::Withdraw(call)
            | Self::Release(call)
            | Self::Refresh(call)
            | Self::Mount(call)
            | Self::Unmount(call) => named("volume", check_name(&call.volume)),
            Self::Request(call) => {
                named("volume", check_name(&call.volume))?;
                named("message", check_message(&call.message))
            }
            Self::Answer(call) => {
                named("volume", check_name(&call.volume))?;
                named("client", check_name(&call.client))?;
                named("message", check_message(&call.message))
            }
            Self::Takeover(call) => {
                named("volume", check_name(&call.volume))?;
                call.yes_i_know.as_deref().map_or(Ok(()), |name| named("yes_i_know", check_name(name)))
            }
        }
    }
}

fn read<T: DeserializeOwned>(method: &str, parameters: Value) -> Result<T, CallError> {
    let invalid = |why: String| CallError::InvalidParameters { method: method.to_owned(), why };
    let parameters = if parameters.is_null() { json!({}) } else { parameters };
    // Serde would take an array for a struct, field by field.
    if !parameters.is_object() {
        return Err(invalid("they are not an object".to_owned()));
    }
    serde_json::from_value(parameters).map_err(|error| invalid(error.to_string()))
}

fn nothing(method: &str, parameters: Value, call: Call) -> Result<Call, CallError> {
    read::<NoParameters>(method, parameters).map(|NoParameters {}| call)
}

/// How far a request for write access has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestState {
    /// The request is on disk; the writer has not answered.
    #[default]
    Asked,
    /// Something else is waited for: `waits_for` in status.
    Waiting,
    /// The writer said later; the request stands.
    Later,
    /// The writer said yes and gives the write access back.
    Yes,
    /// The tables name this client.
    Granted,
    /// Mounted read-write: done.
    Mounted,
}

/// A reply of `Request`: one for each step while it waits, and the last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestReply {
    /// The volume.
    pub volume: String,
    /// How far it has come.
    pub state: RequestState,
    /// The sentence for people.
    pub text: String,
    /// Who is asked, if there is a writer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The place in the queue, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u32>,
    /// How long the present wait will last at most, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    /// Where it is mounted, once it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mountpoint: Option<String>,
}

/// The reply of the calls that act and are then done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActReply {
    /// The volume.
    pub volume: String,
    /// The sentence for people.
    pub text: String,
    /// Where it is mounted now, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mountpoint: Option<String>,
    /// The generation that is seen or published now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<String>,
}

/// The reply of `Requests`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestsReply {
    /// As in status.
    pub requests: Vec<super::status::RequestStatus>,
}

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;
