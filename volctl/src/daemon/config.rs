//! The daemon's configuration: TOML as in section 9, defaults, and checks that name the key and the line.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use lockdriver::trust::{Untrusted, check_owner};
use serde::Deserialize;

use crate::units::{deserialize_duration, format_duration};
use crate::wire::client::DEFAULT_SOCKET;
use crate::wire::names::check_name;
use crate::wire::outcome::Failure;

/// The most bytes of a configuration file.
const BYTES_MAX: u64 = 1 << 20;

/// When the file system is checked after a takeover from a dead writer (section 7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TakeoverCheck {
    /// At the first release after it, between unmount and hand-over.
    #[default]
    Release,
    /// Before the new writer's mount.
    Before,
}

/// What lets the operating system see a volume (section 8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GateKind {
    /// Device-mapper over a block device where it works, else loop devices.
    #[default]
    Auto,
    /// Loop devices over the image or block device.
    Loop,
    /// Device-mapper over block devices, or no gate at all; loop devices over images.
    Dm,
    /// Nothing: coordinate only, mount nothing.
    None,
}

/// The programs to run when something happens: each an absolute path, or a list of path and arguments; no shell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HooksConfig {
    /// Whom they run as; the daemon's own user if absent.
    #[serde(default)]
    pub user: Option<String>,
    /// Decides about another client's request: exit 0 yes, 1 no, 2 later, anything else: ask the person.
    #[serde(default, alias = "on_request", deserialize_with = "argv")]
    pub on_request: Option<Vec<String>>,
    /// After this client's read-write mount.
    #[serde(default, alias = "on_granted", deserialize_with = "argv")]
    pub on_granted: Option<Vec<String>>,
    /// After this client gave the write access back.
    #[serde(default, alias = "on_released", deserialize_with = "argv")]
    pub on_released: Option<Vec<String>>,
    /// After this client switched to a newer generation.
    #[serde(default, alias = "on_refreshed", deserialize_with = "argv")]
    pub on_refreshed: Option<Vec<String>>,
    /// After gates were closed under this client's file systems.
    #[serde(default, alias = "on_fenced", deserialize_with = "argv")]
    pub on_fenced: Option<Vec<String>>,
}

/// The configuration of one daemon, checked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The name of this client in the tables.
    pub client: String,
    /// Paths of the same control volume, tried in order; at least one.
    #[serde(deserialize_with = "paths")]
    pub control: Vec<PathBuf>,
    /// Where the daemon listens.
    #[serde(default = "default_socket")]
    pub socket: PathBuf,
    /// Where the event log and the memory of manual mounts lie. Never a lock file.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// The directory that volumes are mounted below, each under its name.
    #[serde(default = "default_mount_root")]
    pub mount_root: PathBuf,
    /// Volumes whose device is looked for at this path, whatever else there is.
    #[serde(default)]
    pub devices: BTreeMap<String, PathBuf>,
    /// Programs to run when something happens.
    #[serde(default)]
    pub hooks: HooksConfig,
    /// The least time between two publishes of a changed volume.
    #[serde(default = "default_publish", deserialize_with = "deserialize_duration")]
    pub publish: Duration,
    /// How long readers of an `exclusive` volume keep open files after a writer was granted.
    #[serde(default = "default_grace", deserialize_with = "deserialize_duration")]
    pub grace: Duration,
    /// How long a volume must be without writes to count as idle.
    #[serde(default = "default_idle", deserialize_with = "deserialize_duration")]
    pub idle: Duration,
    /// How long an own request waits for an answer before it is taken back.
    #[serde(default = "default_request_timeout", deserialize_with = "deserialize_duration")]
    pub request_timeout: Duration,
    /// When the file system is checked after a takeover.
    #[serde(default)]
    pub takeover_check: TakeoverCheck,
    /// What lets the operating system see a volume.
    #[serde(default)]
    pub gate: GateKind,
}

fn default_socket() -> PathBuf {
    DEFAULT_SOCKET.into()
}

fn default_state_dir() -> PathBuf {
    "/var/lib/volctl".into()
}

fn default_mount_root() -> PathBuf {
    "/mnt/volctl".into()
}

const fn default_publish() -> Duration {
    Duration::from_secs(5)
}

const fn default_grace() -> Duration {
    Duration::from_secs(10)
}

const fn default_idle() -> Duration {
    Duration::from_secs(5)
}

const fn default_request_timeout() -> Duration {
    Duration::from_mins(10)
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::More(texts) => texts,
        }
    }
}

fn paths<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Vec<PathBuf>, D::Error> {
    Ok(OneOrMore::deserialize(input)?.into_vec().into_iter().map(PathBuf::from).collect())
}

fn argv<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Option<Vec<String>>, D::Error> {
    OneOrMore::deserialize(input).map(|argv| Some(argv.into_vec()))
}

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// A [`Failure`]: exit 2 for anything wrong in it (with key and line), 1 when it cannot be read.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let text = read_trusted(path).map_err(|error| {
            Failure::failed(
                format!("cannot read the configuration {}", path.display()),
                error.to_string(),
                "name the file with --config, and check who may read and who may write it",
            )
        })?;
        Self::parse(&text, path)
    }

    /// Checks the text of a configuration; `origin` is the file's name for messages.
    ///
    /// # Errors
    /// A [`Failure`] with exit 2: what is wrong, in which line or key.
    pub fn parse(text: &str, origin: &Path) -> Result<Self, Failure> {
        let wrong = |why: String| {
            Failure::usage(
                format!("the configuration {} is not right", origin.display()),
                why,
                "correct it and start the daemon again; the manual (volctl-daemon) lists every key",
            )
        };
        let config: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            let place = line.map_or_else(String::new, |line| format!("line {line}: "));
            let key = line.and_then(|line| text.lines().nth(line - 1)?.split_once('='));
            let key = key.map_or_else(String::new, |(key, _)| format!(" (key {})", key.trim()));
            wrong(format!("{place}{}{key}", error.message().trim().replace('\n', "; ")))
        })?;
        config.check().map_err(wrong)?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        check_name(&self.client).map_err(|why| format!("client: {why}"))?;
        if self.control.is_empty() {
            return Err("control: at least one path is needed".to_owned());
        }
        for path in &self.control {
            check_path("control", path)?;
        }
        check_path("socket", &self.socket)?;
        if self.socket.as_os_str().len() > 107 {
            return Err("socket: a Unix socket's path has at most 107 bytes".to_owned());
        }
        check_path("state_dir", &self.state_dir)?;
        check_path("mount_root", &self.mount_root)?;
        if self.mount_root.parent().is_none() {
            return Err("mount_root: '/' would hide the system's own directories; name one of its own".to_owned());
        }
        if self.mount_root == self.state_dir {
            return Err("mount_root and state_dir: they must be two directories".to_owned());
        }
        for (name, path) in &self.devices {
            check_name(name).map_err(|why| format!("devices: '{}': {why}", name.escape_debug()))?;
            check_path(&format!("devices.{name}"), path)?;
        }
        self.check_durations()?;
        self.hooks.check()
    }

    fn check_durations(&self) -> Result<(), String> {
        let hour = Duration::from_hours(1);
        let millis = Duration::from_millis;
        for (key, value, least, most) in [
            ("publish", self.publish, millis(50), hour),
            ("grace", self.grace, Duration::ZERO, hour),
            ("idle", self.idle, Duration::ZERO, hour),
            ("request_timeout", self.request_timeout, millis(100), hour * 24 * 7),
        ] {
            if value < least || value > most {
                let (least, most) = (format_duration(least), format_duration(most));
                return Err(format!("{key}: {} is not between {least} and {most}", format_duration(value)));
            }
        }
        Ok(())
    }
}

impl HooksConfig {
    fn check(&self) -> Result<(), String> {
        for (key, argv) in [
            ("on-request", &self.on_request),
            ("on-granted", &self.on_granted),
            ("on-released", &self.on_released),
            ("on-refreshed", &self.on_refreshed),
            ("on-fenced", &self.on_fenced),
        ] {
            let Some(argv) = argv else { continue };
            let Some(program) = argv.first() else {
                return Err(format!("hooks.{key}: the list is empty"));
            };
            check_path(&format!("hooks.{key}"), Path::new(program))?;
            if argv.iter().any(|argument| argument.contains('\0')) {
                return Err(format!("hooks.{key}: an argument contains a NUL"));
            }
        }
        if self.user.as_deref().is_some_and(str::is_empty) {
            return Err("hooks.user: it is empty".to_owned());
        }
        Ok(())
    }
}

/// The configuration names programs that run as the daemon's user: nobody else may have written it.
fn read_trusted(path: &Path) -> io::Result<String> {
    let mut file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, Untrusted::NotAFile));
    }
    check_owner(&metadata).map_err(|why| io::Error::new(io::ErrorKind::PermissionDenied, why))?;
    let mut text = String::new();
    (&mut file).take(BYTES_MAX).read_to_string(&mut text)?;
    if file.read(&mut [0])? > 0 {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {BYTES_MAX} bytes")));
    }
    Ok(text)
}

fn check_path(key: &str, path: &Path) -> Result<(), String> {
    if !path.is_absolute() {
        return Err(format!("{key}: '{}' is not an absolute path", path.display()));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(format!("{key}: '{}' contains '..'", path.display()));
    }
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(format!("{key}: it contains a NUL"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::outcome::ExitCode;

    const LEAST: &str = "client = 'alice'\ncontrol = '/dev/c'\n";

    fn parse(text: &str) -> Result<Config, Failure> {
        Config::parse(text, Path::new("volctl.toml"))
    }

    #[test]
    fn two_keys_are_enough_and_the_rest_are_the_published_defaults() {
        let config = parse(LEAST).expect("enough");
        assert_eq!(config.control, [PathBuf::from("/dev/c")]);
        assert_eq!(config.socket, Path::new("/run/volctl/volctl.sock"));
        assert_eq!((config.publish.as_secs(), config.grace.as_secs(), config.idle.as_secs()), (5, 10, 5));
        assert_eq!(config.request_timeout.as_secs(), 600);
        assert_eq!((config.takeover_check, config.gate), (TakeoverCheck::Release, GateKind::Auto));
        assert_eq!(config.hooks, HooksConfig::default());
    }

    #[test]
    fn every_key_is_understood() {
        let config = parse(
            "client = 'büro 3'\ncontrol = ['/dev/a', '/dev/b']\nsocket = '/run/x.sock'\nstate_dir = '/s'\nmount_root = '/v'\n\
             publish = '250ms'\ngrace = '0s'\nidle = '1m'\nrequest_timeout = '1h'\ntakeover_check = 'before'\ngate = 'none'\n\
             [devices]\nfootage = '/dev/disk/by-id/x'\n\
             [hooks]\nuser = 'nobody'\non-request = '/bin/true'\non_granted = ['/bin/echo', 'a b', '$HOME']\n\
             on-released = '/r'\non-refreshed = '/f'\non-fenced = '/g'\n",
        )
        .expect("every key");
        assert_eq!(config.control.len(), 2);
        assert_eq!(config.devices["footage"], Path::new("/dev/disk/by-id/x"));
        assert_eq!(config.hooks.on_request, Some(vec!["/bin/true".to_owned()]));
        assert_eq!(config.hooks.on_granted.map(|argv| argv.len()), Some(3));
        assert_eq!((config.takeover_check, config.gate), (TakeoverCheck::Before, GateKind::None));
        assert_eq!(config.publish, Duration::from_millis(250));
    }

    #[test]
    fn every_mistake_is_named_with_its_key() {
        for (added, named) in [
            ("colour = 1", "colour"),
            ("publish = 5", "line 3"),
            ("publish = '5'", "no unit"),
            ("publish = '1ms'", "publish: 1ms is not between 50ms and 1h"),
            ("grace = '2h'", "grace"),
            ("request_timeout = '0s'", "request_timeout"),
            ("mount_root = '/'", "mount_root"),
            ("mount_root = '/var/lib/volctl'", "mount_root and state_dir"),
            ("mount_root = 'v'", "not an absolute path"),
            ("mount_root = '/v/../..'", "'..'"),
            ("state_dir = ''", "state_dir"),
            ("gate = 'door'", "door"),
            ("gate = 'DM'", "DM"),
            ("gate = ['dm', 'loop']", "line 3"),
            ("takeover_check = true", "line 3"),
            ("[hooks]\non-request = 'true'", "hooks.on-request"),
            ("[hooks]\non-request = []", "the list is empty"),
            ("[hooks]\non-request = 5", "line 4: expected a text or a list"),
            ("[hooks]\non-reqest = '/x'", "on-reqest"),
            ("[hooks]\nuser = ''", "hooks.user"),
            ("[devices]\n'a/b' = '/x'", "devices"),
            ("[devices]\nfootage = 'x'", "devices.footage"),
            ("client = 'twice'", "duplicate"),
            (
                "socket = '/a/very/long/path/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'",
                "107",
            ),
        ] {
            let failure = parse(&format!("{LEAST}{added}\n")).expect_err(added);
            assert_eq!(failure.exit, ExitCode::Usage, "{added}");
            assert!(failure.why.contains(named), "{added}: {}", failure.why);
            assert!(!failure.why.contains('\n'), "one line: {}", failure.why);
        }
    }

    #[test]
    fn a_missing_or_empty_essential_is_named() {
        for (text, named) in [
            ("", "client"),
            ("client = 'a'", "control"),
            ("client = ''\ncontrol = '/c'", "client: it is empty"),
            ("client = 'a'\ncontrol = []", "control"),
            ("client = 'a'\ncontrol = 'c'", "control"),
            ("client = \"a\\u0007\"\ncontrol = '/c'", "control character"),
            ("client = ", "line 1"),
        ] {
            let failure = parse(text).expect_err(text);
            assert!(failure.why.contains(named), "{text}: {}", failure.why);
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let failure = Config::load(Path::new("/no/such/volctl.toml")).expect_err("not there");
        assert!(failure.what.contains("/no/such/volctl.toml"));
        assert_eq!(failure.exit, ExitCode::Failed);
    }

    /// Somebody else's file would name the programs that run as root; a pipe would be waited for without end.
    #[test]
    fn a_file_that_others_may_write_is_not_believed_and_a_pipe_not_waited_for() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a directory");
        let (file, pipe) = (dir.path().join("volctl.toml"), dir.path().join("pipe"));
        std::fs::write(&file, LEAST).expect("a file");
        let with = |mode| {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("a mode");
            Config::load(&file)
        };
        assert!(with(0o640).is_ok());
        let failure = with(0o662).expect_err("not believed");
        assert!(failure.why.contains("chmod go-w"), "{failure:?}");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        assert!(Config::load(&pipe).expect_err("a pipe").why.contains("no regular file"));
        with(0o600).expect("again");
        std::fs::write(&file, format!("{LEAST}#{}", "x".repeat(2 << 20))).expect("a file");
        assert!(Config::load(&file).expect_err("too long").why.contains("longer than"));
    }
}
