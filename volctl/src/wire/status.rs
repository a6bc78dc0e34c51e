//! The types of `volctl status --json` (section 9), the contract with every program that watches volctl.
//!
//! Keys are added, never changed or removed; whoever reads ignores keys that he does not know (section 11,
//! "JSON growth"). Added keys are left out where they say nothing.

use serde::{Deserialize, Serialize};

use super::call::Answer3;

/// All that one daemon knows, at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The name of the daemon's own client.
    pub client: String,
    /// Its slot number.
    pub slot: u32,
    /// Its incarnation, 0 while not logged on.
    pub incarnation: u64,
    /// The control volume.
    pub control: ControlStatus,
    /// Every volume of the tables that this client has a record in.
    pub volumes: Vec<VolumeStatus>,
    /// The OTHER clients.
    pub clients: Vec<ClientStatus>,
    /// Open requests and answers not yet taken away, own and others'.
    pub requests: Vec<RequestStatus>,
    /// What the person should know although no command failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
    /// What the tables say of the own client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<ClientSettings>,
}

/// Who answers a request when the person does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AutoAnswer {
    /// Nobody: the person is asked.
    #[default]
    Off,
    /// Yes while nothing writes.
    Idle,
    /// Always yes.
    Always,
}

/// A client's settings in the tables (`volctl set-client`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientSettings {
    /// Who answers a request when the person does not.
    pub auto_response: AutoAnswer,
    /// Whether the person is told of requests and refreshes.
    pub notify: bool,
    /// Whether it may take over from others.
    pub admin: bool,
    /// Whether it may log on.
    pub enabled: bool,
    /// Whether it may ask for no volume at all.
    pub locked_out: bool,
}

/// The control volume as this client sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlStatus {
    /// The path that it was opened by.
    pub path: String,
    /// The table UUID.
    pub uuid: String,
    /// The highest semaphore epoch seen.
    pub epoch: u64,
    /// The lock kind: `bakery`, `pr`, `caw` or `ofd`.
    pub lock: String,
    /// Who is in the semaphore now, if anyone.
    pub semaphore: Option<SemaphoreStatus>,
    /// What is left of the own lease, in milliseconds; 0 when there is none.
    pub lease_left_ms: u64,
    /// The label given at `init`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The periods chosen at `init`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timings: Option<TimingsStatus>,
}

/// The periods of the control volume, in milliseconds (section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimingsStatus {
    /// Between two beats.
    pub beat_ms: u32,
    /// How long a client may act after its last confirmed beat.
    pub lease_ms: u32,
    /// How long a client must be silent to count as dead.
    pub dead_ms: u32,
    /// Between two polls of an idle client.
    pub poll_ms: u32,
}

impl From<ondisk::Timings> for TimingsStatus {
    fn from(timings: ondisk::Timings) -> Self {
        let ondisk::Timings { beat_ms, lease_ms, dead_ms, poll_ms } = timings;
        Self { beat_ms, lease_ms, dead_ms, poll_ms }
    }
}

/// A tenure of the semaphore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SemaphoreStatus {
    /// Who holds it.
    pub client: String,
    /// The tenure's number.
    pub epoch: u64,
}

/// What the own client may and does with a volume (section 7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeState {
    /// Not visible; `reason` says why.
    #[default]
    Locked,
    /// Mounted read-only.
    Ro,
    /// Asked for write access, not granted yet; still mounted read-only where the policy allows.
    Requesting,
    /// The tables name this client (also pending), the read-write mount is not there yet.
    Granted,
    /// Mounted read-write (with gate `none`: the grant is held, nothing is mounted).
    Rw,
    /// Giving the write access back.
    Releasing,
}

impl VolumeState {
    /// The word used in JSON and in tables.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Locked => "locked",
            Self::Ro => "ro",
            Self::Requesting => "requesting",
            Self::Granted => "granted",
            Self::Rw => "rw",
            Self::Releasing => "releasing",
        }
    }
}

/// What the tables allow a client on a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Nothing.
    #[default]
    None,
    /// Reading.
    Read,
    /// Reading, and asking for write access.
    Write,
}

/// What readers may see while someone writes (section 8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Readers {
    /// Only published states, while the writer goes on.
    Snapshot,
    /// Readers and writer never overlap.
    Exclusive,
    /// Possibly a mix until the next refresh.
    #[default]
    Live,
}

/// How strongly one-writer is enforced here (section 7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Enforcement {
    /// By the storage: a reservation proven by a write that was refused.
    Fenced,
    /// By this host, which stops itself when its lease ends.
    Leased,
    /// By agreement only.
    #[default]
    Advisory,
}

impl Enforcement {
    /// The word used in JSON and in tables.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Fenced => "fenced",
            Self::Leased => "leased",
            Self::Advisory => "advisory",
        }
    }
}

/// What a waiting volume waits for (section 11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WaitsFor {
    /// Until a silent client counts as dead.
    Dead,
    /// Until a dead writer's last writes must have landed.
    Inflight,
    /// Until the grace time of readers with open files ends.
    Grace,
    /// Until the own slot is proven to be free.
    Claim,
}

impl WaitsFor {
    /// The reason in words for people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Dead => "until the silent client counts as dead",
            Self::Inflight => "until the dead writer's last writes must have landed",
            Self::Grace => "until readers have closed their files",
            Self::Claim => "until the own slot is proven free",
        }
    }
}

/// One volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeStatus {
    /// Its name.
    pub name: String,
    /// What the own client does with it.
    pub state: VolumeState,
    /// Where it is mounted, if it is.
    pub mountpoint: Option<String>,
    /// The client that has the write access, if any.
    pub writer: Option<String>,
    /// For how long this daemon has seen it have the write access, in milliseconds: at least so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer_age_ms: Option<u64>,
    /// Whether the administrator allows writing at all.
    pub write_enabled: bool,
    /// What the tables allow this client.
    pub access: Access,
    /// Whether this client's requests are locked out.
    pub locked_out: bool,
    /// Whether this client refreshes of itself.
    pub auto_update: bool,
    /// The newest published generation, `epoch.count`; `0.0` for none.
    pub generation: String,
    /// The generation that this client sees.
    pub seen_generation: String,
    /// Whether there is a newer one than this client sees.
    pub stale: bool,
    /// The file system type.
    pub fs: String,
    /// What readers may see while someone writes.
    pub readers: Readers,
    /// How strongly one-writer is enforced here.
    pub enforcement: Enforcement,
    /// Free bytes, as the writer says or as seen here; null while unknown.
    pub free_bytes: Option<u64>,
    /// When it was last modified, RFC 3339; null if never.
    pub last_modified: Option<String>,
    /// Why it is locked, or why the last change did not work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How long the present wait will last at most, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    /// What the present wait is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<WaitsFor>,
    /// The clients that wait for write access, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<WaitingClient>,
    /// To whom it was promised at the last release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Generations that this client has mounted, open files of older ones included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounted_generations: Vec<String>,
    /// What limits the enforcement, and which setting to change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcement_note: Option<String>,
    /// Size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Whether a writer left it without a publish.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dirty: bool,
    /// What each client may do with it and has of it, the own one included; who is not named may and has nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<VolumeClient>,
}

/// What a client has of a volume, as its own page says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientMount {
    /// Nothing.
    #[default]
    None,
    /// It is being mounted.
    Mounting,
    /// Mounted read-only.
    Ro,
    /// Mounted read-write.
    Rw,
    /// It was there, and its gate is closed.
    Closed,
    /// Its page cannot be read now: it counts as mounted.
    Unknown,
}

/// One client of one volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeClient {
    /// Its name.
    pub client: String,
    /// What the tables allow it.
    pub access: Access,
    /// Whether its requests are locked out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub locked_out: bool,
    /// What it has of the volume.
    pub state: ClientMount,
    /// The generation that it sees, while it reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_generation: Option<String>,
    /// Whether there is a newer one than it sees.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

/// A client in the queue of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingClient {
    /// Its name.
    pub client: String,
    /// Since when it waits, in milliseconds.
    pub age_ms: u64,
}

/// Whether a client is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientState {
    /// Logged on and beating.
    On,
    /// Logged off in order, or never there.
    #[default]
    Off,
    /// Silent for longer than `dead`, or reaped.
    Dead,
}

impl ClientState {
    /// The word used in JSON and in tables.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Dead => "dead",
        }
    }
}

/// One other client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientStatus {
    /// Its name.
    pub name: String,
    /// Its slot number.
    pub slot: u32,
    /// Whether it is there.
    pub state: ClientState,
    /// Since when its beat counter stands still, in milliseconds; null if it was never seen.
    pub beat_age_ms: Option<u64>,
    /// Its incarnation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<u64>,
    /// Its host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// One request for write access.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestStatus {
    /// The volume.
    pub volume: String,
    /// Who asks.
    pub from: String,
    /// Who is asked: the volume's writer now.
    pub to: String,
    /// What the asker says.
    pub message: String,
    /// Its age in milliseconds.
    pub age_ms: u64,
    /// The answer, if there is one.
    pub answer: Option<Answer3>,
    /// What the writer says.
    pub answer_message: String,
    /// The request's id, 16 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// Something that the person should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// A stable word for programs, such as `event_log_full`.
    pub code: String,
    /// The sentence for people.
    pub text: String,
    /// The volume that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTRACT: &str = r#"{"client":"alice","slot":0,"incarnation":3,
     "control":{"path":"/dev/c","uuid":"u","epoch":41,"lock":"bakery","semaphore":{"client":"bob","epoch":41},"lease_left_ms":7600},
     "volumes":[{"name":"footage","state":"ro","mountpoint":"/v/footage","writer":"alice",
       "write_enabled":true,"access":"write","locked_out":false,"auto_update":true,"generation":"41.3","seen_generation":"41.3","stale":false,
       "fs":"ext4","readers":"live","enforcement":"leased","free_bytes":1,"last_modified":"2026-11-01T00:00:00Z"}],
     "clients":[{"name":"bob","slot":1,"state":"on","beat_age_ms":210}],
     "requests":[{"volume":"footage","from":"bob","to":"alice","message":"m","age_ms":900,"answer":null,"answer_message":""}]}"#;

    #[test]
    fn status_has_exactly_the_keys_of_the_contract_when_nothing_more_is_known() {
        let status: Status = serde_json::from_str(CONTRACT).expect("the contract's own example");
        let printed = serde_json::to_value(&status).expect("status prints");
        let expected: serde_json::Value = serde_json::from_str(CONTRACT).expect("JSON");
        assert_eq!(printed, expected);
    }

    #[test]
    fn unknown_keys_are_ignored_on_reading() {
        let grown = CONTRACT
            .replace("\"slot\":0", "\"slot\":0,\"colour\":{\"of\":[1]}")
            .replace("\"fs\":", "\"compression\":true,\"fs\":");
        let status: Status = serde_json::from_str(&grown).expect("grown JSON");
        assert_eq!(status, serde_json::from_str(CONTRACT).expect("JSON"));
    }

    #[test]
    fn every_word_is_the_one_of_the_contract() {
        let words = |value: serde_json::Value| value.to_string();
        for state in [
            VolumeState::Locked,
            VolumeState::Ro,
            VolumeState::Requesting,
            VolumeState::Granted,
            VolumeState::Rw,
            VolumeState::Releasing,
        ] {
            assert_eq!(words(serde_json::json!(state)), format!("\"{}\"", state.word()));
        }
        for enforcement in [Enforcement::Fenced, Enforcement::Leased, Enforcement::Advisory] {
            assert_eq!(words(serde_json::json!(enforcement)), format!("\"{}\"", enforcement.word()));
        }
        assert_eq!(
            serde_json::json!([Access::None, Access::Read, Access::Write]).to_string(),
            r#"["none","read","write"]"#
        );
        assert_eq!(
            serde_json::json!([Readers::Snapshot, Readers::Exclusive, Readers::Live]).to_string(),
            r#"["snapshot","exclusive","live"]"#
        );
        assert_eq!(
            serde_json::json!([WaitsFor::Dead, WaitsFor::Inflight, WaitsFor::Grace, WaitsFor::Claim]).to_string(),
            r#"["dead","inflight","grace","claim"]"#
        );
        assert_eq!(
            serde_json::json!([ClientState::On, ClientState::Off, ClientState::Dead]).to_string(),
            r#"["on","off","dead"]"#
        );
    }
}
