//! Events: what happened, for `volctl log`, the window, and `events.jsonl` (one JSON object a line).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

macro_rules! event_names {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// The stable names of events. Names are added, never changed: programs match on them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum EventName { $($(#[$doc])* $variant,)+ }

        impl EventName {
            /// All events, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in JSON.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

event_names! {
    /// The daemon runs (not yet logged on).
    DaemonStarted = "daemon.started",
    /// The daemon ends in order.
    DaemonStopping = "daemon.stopping",
    /// This client is logged on.
    LoggedOn = "client.logged_on",
    /// This client is logged off.
    LoggedOff = "client.logged_off",
    /// Another client came.
    PeerOn = "peer.on",
    /// Another client left in order.
    PeerOff = "peer.off",
    /// Another client fell silent.
    PeerDead = "peer.dead",
    /// A silent client was reaped.
    PeerReaped = "peer.reaped",
    /// Another client got the write privilege of a volume.
    PeerGranted = "peer.granted",
    /// Another client has it no more.
    PeerReleased = "peer.released",
    /// Half of the lease went by without a beat.
    LeaseLow = "lease.low",
    /// The lease ended; this incarnation is over.
    LeaseLost = "lease.lost",
    /// The own incarnation was reaped by another client.
    Reaped = "lease.reaped",
    /// A reader's mount was made.
    Mounted = "volume.mounted",
    /// A mount was taken away.
    Unmounted = "volume.unmounted",
    /// A mount did not work.
    MountFailed = "volume.mount_failed",
    /// A newer generation is mounted.
    Refreshed = "volume.refreshed",
    /// A refresh did not work; the old generation stays.
    RefreshFailed = "volume.refresh_failed",
    /// This client published a generation.
    Published = "volume.published",
    /// A publish did not work; it is tried again.
    PublishFailed = "volume.publish_failed",
    /// The file system check after a takeover found something, or was cut short.
    Checked = "volume.checked",
    /// This client asked for write access.
    RequestMade = "request.made",
    /// Another client asks this one.
    RequestReceived = "request.received",
    /// This client answered.
    RequestAnswered = "request.answered",
    /// An answer came.
    AnswerReceived = "answer.received",
    /// A request was taken back.
    RequestWithdrawn = "request.withdrawn",
    /// A request found no answer in its time.
    RequestTimedOut = "request.timed_out",
    /// This client has the write access.
    GrantTaken = "grant.taken",
    /// This client gave the write access back.
    GrantReleased = "grant.released",
    /// A grant was taken from its holder.
    GrantRevoked = "grant.revoked",
    /// A takeover began.
    TakeoverStarted = "takeover.started",
    /// Gates were closed under file systems.
    Fenced = "gate.fenced",
    /// The guardian was lost or stands still.
    GuardianLost = "guardian.lost",
    /// A table or slot is damaged.
    TableDamaged = "table.damaged",
    /// What was damaged can be read again.
    TableRepaired = "table.repaired",
    /// The control volume cannot be read or written.
    ControlLost = "control.lost",
    /// The control volume works again.
    ControlBack = "control.back",
    /// A hook failed, was killed, or could not be started.
    HookFailed = "hook.failed",
    /// Anything else worth a line.
    Note = "note",
}

/// One event, as printed by `volctl log --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    /// When, RFC 3339 with milliseconds, UTC; set by the log.
    #[serde(default)]
    pub time: String,
    /// A number that grows by one for each event of one run of the daemon; set by the log.
    #[serde(default)]
    pub seq: u64,
    /// The stable name, see [`EventName`]; a string here, so that newer ones can be read.
    pub event: String,
    /// The volume that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// The other client that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The sentence for people.
    #[serde(default)]
    pub text: String,
    /// More facts, by name.
    #[serde(flatten)]
    pub facts: Map<String, Value>,
}

impl EventRecord {
    /// An event with its sentence for people.
    pub fn new(name: EventName, text: impl Into<String>) -> Self {
        Self {
            time: String::new(),
            seq: 0,
            event: name.as_str().to_owned(),
            volume: None,
            client: None,
            text: text.into(),
            facts: Map::new(),
        }
    }

    /// Names the volume.
    #[must_use]
    pub fn volume(mut self, name: impl Into<String>) -> Self {
        self.volume = Some(name.into());
        self
    }

    /// Names the other client.
    #[must_use]
    pub fn client(mut self, name: impl Into<String>) -> Self {
        self.client = Some(name.into());
        self
    }

    /// Adds a fact under a key of its own.
    #[must_use]
    pub fn fact(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(key.to_owned(), value.into());
        self
    }
}

/// The reply of `Log`, and each further one while it follows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogReply {
    /// Events, oldest first.
    pub events: Vec<EventRecord>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_names_are_distinct_and_plain() {
        let mut names: Vec<_> = EventName::ALL.iter().map(|name| name.as_str()).collect();
        assert!(names.iter().all(|name| { name.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'.' | b'_')) }));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), EventName::ALL.len());
    }

    #[test]
    fn an_event_is_one_flat_object_and_reads_back() {
        let event = EventRecord::new(EventName::GrantTaken, "t").volume("footage").client("bob").fact("epoch", 41);
        let json = serde_json::to_string(&event).expect("prints");
        assert!(json.contains(r#""event":"grant.taken""#) && json.contains(r#""epoch":41"#), "{json}");
        assert_eq!(serde_json::from_str::<EventRecord>(&json).expect("own JSON"), event);
    }
}
