//! One client: its configuration, its daemon, and the commands at its socket.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use volctl::wire::client::Client as Wire;
use volctl::wire::status::{Status, VolumeState, VolumeStatus};

use super::cli::{Output, Running};
use super::{Studio, Timings, guardian_pid, locked, volume_of};
use crate::program;

/// How many lines of a daemon's log a failed test shows.
const LAST_WORDS: usize = 40;

/// What a client's configuration has beside the names and places.
#[derive(Debug, Clone, Default)]
pub struct Options {
    keys: Vec<(String, String)>,
    hooks: Vec<(String, String)>,
}

impl Options {
    /// Sets a key with a text for its value, such as `request_timeout` = `2s`.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.keys.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Sets a hook.
    #[must_use]
    pub fn hook(mut self, key: &str, program: &Path) -> Self {
        self.hooks.push((key.to_owned(), program.display().to_string()));
        self
    }

    fn text(&self, client: &Client) -> String {
        use std::fmt::Write as _;
        let at = |path: &str| client.inner.home.join(path).display().to_string();
        let mut keys = vec![
            ("client".to_owned(), client.inner.name.clone()),
            ("control".to_owned(), client.inner.control.display().to_string()),
            ("socket".to_owned(), at("s")),
            ("state_dir".to_owned(), at("state")),
            ("mount_root".to_owned(), at("mnt")),
            ("publish".to_owned(), "500ms".to_owned()),
            ("grace".to_owned(), "2s".to_owned()),
            // What the witness and the sweeping look for; gates of device-mapper are shown by tests/lab.
            ("gate".to_owned(), "loop".to_owned()),
        ];
        keys.retain(|(key, _)| !self.keys.iter().any(|(own, _)| own == key));
        keys.extend(self.keys.clone());
        let mut text = String::new();
        for (key, value) in keys {
            let _ = writeln!(text, "{key} = '{value}'");
        }
        if !self.hooks.is_empty() {
            text.push_str("[hooks]\n");
        }
        for (key, value) in &self.hooks {
            let _ = writeln!(text, "{key} = '{value}'");
        }
        text
    }
}

#[derive(Debug)]
struct Inner {
    name: String,
    slot: u16,
    home: PathBuf,
    control: PathBuf,
    uuid: String,
    timings: Timings,
    daemon: Mutex<Option<Child>>,
}

/// One client. Clones speak of the same one.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

impl Client {
    pub(super) fn new(studio: &Studio, name: &str, slot: u16, options: &Options) -> Self {
        let home = studio.dir().join(name);
        fs::create_dir_all(home.join("state")).expect("a client's directory");
        let inner = Inner {
            name: name.to_owned(),
            slot,
            home,
            control: studio.control.clone(),
            uuid: studio.uuid.clone(),
            timings: studio.timings,
            daemon: Mutex::default(),
        };
        let client = Self { inner: Arc::new(inner) };
        client.configure(options);
        client
    }

    /// Writes the configuration anew; the daemon reads it at its next start.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn configure(&self, options: &Options) {
        fs::write(self.config(), options.text(self)).expect("a configuration");
    }

    /// Its configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.inner.home.join("volctl.toml")
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Its slot.
    #[must_use]
    pub fn slot(&self) -> u16 {
        self.inner.slot
    }

    /// Where its volumes are mounted.
    #[must_use]
    pub fn mount_root(&self) -> PathBuf {
        self.inner.home.join("mnt")
    }

    /// A path on a volume as this client sees it.
    #[must_use]
    pub fn path(&self, volume: &str, file: &str) -> PathBuf {
        self.mount_root().join(volume).join(file)
    }

    /// The socket of its daemon.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.inner.home.join("s")
    }

    /// Starts the daemon.
    ///
    /// # Panics
    /// When it does not start, or one runs already.
    pub fn start(&self) {
        let log = File::options().create(true).append(true).open(self.inner.home.join("log")).expect("a log");
        self.start_telling(log);
    }

    /// As [`Client::start`], with its standard error, and its guardian's, going elsewhere.
    ///
    /// # Panics
    /// As [`Client::start`].
    pub fn start_telling(&self, log: File) {
        let mut daemon = locked(&self.inner.daemon);
        assert!(daemon.is_none(), "{}'s daemon runs already", self.name());
        let mut command = Command::new(program::path());
        command.arg("daemon").arg("--config").arg(self.config());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).env("RUST_LOG", "info");
        *daemon = Some(command.spawn().expect("the daemon starts"));
    }

    /// Waits until it is logged on.
    ///
    /// # Panics
    /// When that takes longer than every wait that the protocol has.
    pub fn logged_on(&self) -> Status {
        let limit = self.inner.timings.dead() * 2 + Duration::from_secs(5);
        self.until("logged on", limit, |status| status.incarnation > 0)
    }

    /// The daemon's process.
    ///
    /// # Panics
    /// When none runs.
    #[must_use]
    pub fn pid(&self) -> Pid {
        let daemon = locked(&self.inner.daemon);
        let id = daemon.as_ref().map(Child::id).unwrap_or_else(|| panic!("{}'s daemon does not run", self.name()));
        Pid::from_raw(i32::try_from(id).expect("a process number"))
    }

    /// Waits until the daemon hears SIGTERM: a process that has not come so far ends by it, and has made nothing.
    ///
    /// # Panics
    /// When it never does.
    pub fn hears_signals(&self) {
        let status = format!("/proc/{}/status", self.pid());
        super::wait_until("the daemon hears signals", Duration::from_secs(10), &mut || {
            let text = fs::read_to_string(&status).unwrap_or_default();
            let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or_default().trim();
            u64::from_str_radix(caught, 16).is_ok_and(|mask| mask >> (Signal::SIGTERM as i32 - 1) & 1 == 1)
        });
    }

    /// Its guardian's process, if one lives.
    #[must_use]
    pub fn try_guardian(&self) -> Option<Pid> {
        guardian_pid(&self.inner.uuid, self.slot())
    }

    /// Its guardian's process.
    ///
    /// # Panics
    /// When none runs.
    #[must_use]
    pub fn guardian(&self) -> Pid {
        self.try_guardian().unwrap_or_else(|| panic!("{} has no guardian", self.name()))
    }

    /// Sends the daemon a signal.
    ///
    /// # Panics
    /// When it is not there.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("the daemon is there");
    }

    /// The daemon's process, if it was started and has not ended.
    #[must_use]
    pub fn try_pid(&self) -> Option<Pid> {
        let mut daemon = locked(&self.inner.daemon);
        if daemon.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|ended| ended.is_some())) {
            *daemon = None;
        }
        daemon.as_ref().and_then(|child| i32::try_from(child.id()).ok()).map(Pid::from_raw)
    }

    /// Sends the daemon a signal if it runs; false if it does not.
    pub fn try_signal(&self, signal: Signal) -> bool {
        self.try_pid().is_some_and(|pid| kill(pid, signal).is_ok())
    }

    /// Lets daemon and guardian go on, if they were stopped.
    pub fn resume(&self) {
        let _ = self.try_signal(Signal::SIGCONT);
        if let Some(guardian) = self.try_guardian() {
            // It may have ended meanwhile.
            let _ = kill(guardian, Signal::SIGCONT);
        }
    }

    /// Whether its daemon was started and has not ended.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.try_pid().is_some()
    }

    /// Tells the daemon to end in order, if it runs.
    pub fn terminate(&self) {
        if locked(&self.inner.daemon).is_some() {
            self.signal(Signal::SIGTERM);
        }
    }

    /// Kills the daemon, if it runs, and waits for its end.
    pub fn kill(&self) {
        if let Some(mut child) = locked(&self.inner.daemon).take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Waits for the daemon's end, however it comes; None for a signal.
    ///
    /// # Panics
    /// When it does not end within `limit`.
    #[must_use]
    pub fn exit_code(&self, limit: Duration) -> Option<i32> {
        let mut child = locked(&self.inner.daemon).take().unwrap_or_else(|| panic!("{} does not run", self.name()));
        let mut code = None;
        super::wait_until("the daemon ends", limit, &mut || {
            code = child.try_wait().ok().flatten();
            code.is_some()
        });
        code.and_then(|status| status.code())
    }

    /// Waits for the daemon's end in order, if it runs.
    ///
    /// # Panics
    /// When it does not end within `limit`, or not with success.
    pub fn ended(&self, limit: Duration) {
        let begun = Instant::now();
        loop {
            let mut daemon = locked(&self.inner.daemon);
            let Some(child) = daemon.as_mut() else { return };
            if let Some(status) = child.try_wait().expect("a child can be asked") {
                *daemon = None;
                assert!(status.success(), "{}'s daemon ended with {status}", self.name());
                return;
            }
            drop(daemon);
            assert!(begun.elapsed() < limit, "{}'s daemon does not end within {limit:?}", self.name());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Tells the daemon to end in order and waits for it.
    ///
    /// # Panics
    /// When it does not end in order.
    pub fn stop(&self) {
        self.terminate();
        self.ended(Duration::from_secs(20));
    }

    /// Runs a command at its socket.
    #[must_use]
    pub fn cli(&self, args: &[&str]) -> Output {
        self.begin(args).wait()
    }

    /// Starts a command at its socket.
    #[must_use]
    pub fn begin(&self, args: &[&str]) -> Running {
        let socket = self.socket().display().to_string();
        let mut all = vec!["--socket", &socket];
        all.extend(args);
        Running::start(&all)
    }

    /// Asks for write access and waits until it is mounted.
    ///
    /// # Panics
    /// When that does not work within 10 s.
    pub fn write_access(&self, volume: &str) -> Output {
        self.cli(&["request", volume, "--wait", "10s"]).ok()
    }

    /// The status, the same that `volctl status --json` prints; None while no daemon answers.
    #[must_use]
    pub fn try_status(&self) -> Option<Status> {
        Wire::connect(&self.socket()).ok()?.status().ok()
    }

    /// The status.
    ///
    /// # Panics
    /// When no daemon answers.
    #[must_use]
    pub fn status(&self) -> Status {
        self.try_status().unwrap_or_else(|| panic!("{}'s daemon does not answer", self.name()))
    }

    /// Waits for a status of which `holds` is true.
    ///
    /// # Panics
    /// When there is none within `limit`.
    pub fn until(&self, what: &str, limit: Duration, holds: impl Fn(&Status) -> bool) -> Status {
        let begun = Instant::now();
        let mut last = None;
        loop {
            if let Some(status) = self.try_status() {
                if holds(&status) {
                    return status;
                }
                last = Some(status);
            }
            assert!(begun.elapsed() < limit, "{}: not within {limit:?}: {what}; last seen: {last:#?}", self.name());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for a status of a volume.
    ///
    /// # Panics
    /// As [`Client::until`].
    pub fn until_volume(&self, volume: &str, limit: Duration, holds: impl Fn(&VolumeStatus) -> bool) -> VolumeStatus {
        let what = format!("the wanted state of {volume}");
        let status = self.until(&what, limit, |s| s.volumes.iter().any(|v| v.name == volume && holds(v)));
        volume_of(&status, volume).clone()
    }

    /// Waits until a volume is in a state.
    ///
    /// # Panics
    /// As [`Client::until`].
    pub fn until_state(&self, volume: &str, state: VolumeState, limit: Duration) -> VolumeStatus {
        let what = format!("{volume} {}", state.word());
        let status = self.until(&what, limit, |s| s.volumes.iter().any(|v| v.name == volume && v.state == state));
        volume_of(&status, volume).clone()
    }

    /// The events of its log with this name, oldest first.
    ///
    /// # Panics
    /// When the log cannot be had.
    #[must_use]
    pub fn events(&self, name: &str) -> Vec<serde_json::Value> {
        let log = self.cli(&["log"]).ok();
        log.lines().into_iter().filter(|event| event["event"] == name).collect()
    }

    /// The end of the daemon's log, for a failed test.
    #[must_use]
    pub fn last_words(&self) -> String {
        let tail = |path: &str| {
            let text = fs::read_to_string(self.inner.home.join(path)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(LAST_WORDS)..].join("\n")
        };
        format!("--- {}'s daemon:\n{}\n{}", self.name(), tail("log"), tail("state/events.jsonl"))
    }
}
