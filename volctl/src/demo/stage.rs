//! The stage: a directory of its own, a control image, clients with their daemons, and the commands that people type.
//!
//! Everything is done by the real program as child processes; whatever waits, waits for a limited time and hears Ctrl-C.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::fault::{Fault, Stop};
use super::sweep::{self, Traces};
use crate::wire::client::Client;
use crate::wire::outcome::one_line;
use crate::wire::status::{Status, VolumeState, VolumeStatus};

/// Between two looks at a child or a file.
const TICK: Duration = Duration::from_micros(500);
/// Between two looks at a daemon's status.
const LOOK: Duration = Duration::from_millis(4);
/// A command that does not say otherwise ends within this.
pub const COMMAND: Duration = Duration::from_secs(30);
/// A daemon that is told to end in order does so within this.
const ORDERLY: Duration = Duration::from_secs(15);

/// What a command came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// As a person would type it.
    pub typed: String,
    /// Its exit code; -1 for a signal.
    pub exit: i32,
    /// From its start to its end.
    pub took: Duration,
    /// Everything that it printed.
    pub output: String,
}

/// A command under way.
#[derive(Debug)]
pub struct Running {
    typed: String,
    child: Child,
    began: Instant,
    paper: PathBuf,
}

impl Running {
    /// As a person would type it.
    #[must_use]
    pub fn typed(&self) -> &str {
        &self.typed
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has the daemon's answer, or nobody wants it any more; nothing depends on how it ends.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client: its directory and its daemon.
#[derive(Debug)]
pub struct Actor {
    /// Its name in the tables.
    pub name: String,
    home: PathBuf,
    daemon: Option<Child>,
}

impl Actor {
    /// Where its daemon listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.home.join("sock")
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.home.join("volctl.toml")
    }

    /// Where a volume appears.
    #[must_use]
    pub fn mount(&self, volume: &str) -> PathBuf {
        self.home.join("mnt").join(volume)
    }

    /// Its daemon's process.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(Child::id)
    }
}

/// The directory and everybody in it. Dropping it strikes the stage.
#[derive(Debug)]
pub struct Stage {
    /// Set when it is time to end.
    pub stop: Stop,
    program: PathBuf,
    directory: PathBuf,
    actors: Vec<Actor>,
    papers: u32,
    struck: bool,
}

impl Stage {
    /// Makes the directory below `home`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn set_up(home: &Path, stop: Stop) -> Result<Self, Fault> {
        let program = std::env::current_exe().map_err(Fault::system("finding this program's own file"))?;
        let directory = new_directory(home)?;
        Ok(Self { stop, program, directory, actors: Vec::new(), papers: 0, struck: false })
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The control image.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.directory.join("control.img")
    }

    /// A volume's image.
    #[must_use]
    pub fn image(&self, volume: &str) -> PathBuf {
        self.directory.join(format!("{volume}.img"))
    }

    /// A client that [`Self::hire`] made.
    #[must_use]
    pub fn actor(&self, name: &str) -> &Actor {
        self.actors.iter().find(|actor| actor.name == name).expect("every scene's clients are hired in the first one")
    }

    /// Everybody, in the order of their hiring.
    pub fn actors(&self) -> impl Iterator<Item = &Actor> {
        self.actors.iter()
    }

    /// Makes a client's directories and configuration; `more` are further lines of it.
    ///
    /// # Errors
    /// The system's.
    pub fn hire(&mut self, name: &str, more: &str) -> Result<(), Fault> {
        let home = self.directory.join(name);
        let made = || -> io::Result<()> {
            fs::create_dir_all(home.join("state"))?;
            fs::create_dir_all(home.join("mnt"))?;
            let [control, socket, state, mnt] =
                [self.control(), home.join("sock"), home.join("state"), home.join("mnt")].map(|p| quoted(&p));
            let text = format!(
                "client = \"{name}\"\ncontrol = {control}\nsocket = {socket}\nstate_dir = {state}\nmount_root = {mnt}\n{more}\n"
            );
            fs::write(home.join("volctl.toml"), text)
        };
        made().map_err(Fault::system(format!("making {name}'s directory")))?;
        self.actors.push(Actor { name: name.to_owned(), home, daemon: None });
        Ok(())
    }

    /// Starts a client's daemon. It is in a process group of its own: Ctrl-C reaches this program only.
    ///
    /// # Errors
    /// The system's.
    pub fn start(&mut self, name: &str) -> Result<(), Fault> {
        let program = self.program.clone();
        let failed = || Fault::system(format!("starting {name}'s daemon"));
        let actor = self.actor_mut(name);
        let log = File::options().append(true).create(true).open(actor.home.join("log")).map_err(failed())?;
        let child = Command::new(program)
            .arg("daemon")
            .arg("--config")
            .arg(actor.config())
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed())?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(failed())?;
        actor.daemon = Some(child);
        Ok(())
    }

    fn actor_mut(&mut self, name: &str) -> &mut Actor {
        self.actors.iter_mut().find(|actor| actor.name == name).expect("as in `actor`")
    }

    /// Ends a client's daemon and waits for it; the time that it took.
    ///
    /// # Errors
    /// [`Fault::TooLong`]; an end that was not in order, when `signal` asked for one.
    pub fn end(&mut self, name: &str, signal: Signal) -> Result<Duration, Fault> {
        let stop = self.stop.clone();
        let actor = self.actor_mut(name);
        let Some(mut child) = actor.daemon.take() else { return Ok(Duration::ZERO) };
        let began = Instant::now();
        let told = tell(&child, signal);
        let ended = wait_child(&mut child, ORDERLY, &stop);
        if !matches!(ended, Ok(Some(_))) {
            actor.daemon = Some(child);
        }
        told.map_err(Fault::system(format!("ending {name}'s daemon")))?;
        match ended? {
            Some(status) if signal == Signal::SIGKILL || status.success() => Ok(began.elapsed()),
            Some(status) => {
                Err(Fault::Wrong { what: format!("{name}'s daemon"), seen: format!("it ended with {status}") })
            }
            None => Err(Fault::TooLong { what: format!("{name}'s daemon ends"), limit: ORDERLY }),
        }
    }

    /// What a client types.
    ///
    /// # Errors
    /// [`Fault::Ended`] for another exit code than `expected`.
    pub fn client(&mut self, name: &str, arguments: &[&str], expected: i32) -> Result<Outcome, Fault> {
        let running = self.client_begins(name, arguments)?;
        self.finish(running, expected)
    }

    /// What a client types, and goes on.
    ///
    /// # Errors
    /// The system's.
    pub fn client_begins(&mut self, name: &str, arguments: &[&str]) -> Result<Running, Fault> {
        let mut command = Command::new(&self.program);
        command.arg("--socket").arg(self.actor(name).socket()).args(arguments);
        self.begin(command, arguments)
    }

    /// What the administrator types: the same with `--control`.
    ///
    /// # Errors
    /// As [`Self::client`].
    pub fn admin(&mut self, arguments: &[&str], expected: i32) -> Result<Outcome, Fault> {
        let mut command = Command::new(&self.program);
        command.args(arguments).arg("--control").arg(self.control());
        let running = self.begin(command, arguments)?;
        self.finish(running, expected)
    }

    /// A command on the control volume that names it as its operand.
    ///
    /// # Errors
    /// As [`Self::client`].
    pub fn on_control(&mut self, verb: &str, arguments: &[&str], expected: i32) -> Result<Outcome, Fault> {
        let mut command = Command::new(&self.program);
        command.arg(verb).arg(self.control()).args(arguments);
        let typed: Vec<&str> = [verb, "control.img"].iter().chain(arguments).copied().collect();
        let running = self.begin(command, &typed)?;
        self.finish(running, expected)
    }

    fn begin(&mut self, mut command: Command, arguments: &[&str]) -> Result<Running, Fault> {
        self.stop.check()?;
        self.papers += 1;
        let paper = self.directory.join(format!("said.{}", self.papers));
        let typed = self.as_typed(arguments);
        let failed = || Fault::system(typed.clone());
        let out = File::options().append(true).create_new(true).open(&paper).map_err(failed())?;
        command.stdin(Stdio::null()).stdout(out.try_clone().map_err(failed())?).stderr(out).process_group(0);
        let began = Instant::now();
        let child = command.spawn().map_err(failed())?;
        Ok(Running { typed, child, began, paper })
    }

    /// Waits for the end of a command.
    ///
    /// # Errors
    /// As [`Self::client`].
    pub fn finish(&mut self, mut running: Running, expected: i32) -> Result<Outcome, Fault> {
        let ended = wait_child(&mut running.child, COMMAND, &self.stop);
        let took = running.began.elapsed();
        let output = self.shortened(&fs::read_to_string(&running.paper).unwrap_or_default());
        let _ = fs::remove_file(&running.paper);
        let typed = std::mem::take(&mut running.typed);
        let Some(status) = ended? else {
            return Err(Fault::TooLong { what: typed, limit: COMMAND });
        };
        let exit = status.code().unwrap_or(-1);
        let outcome = Outcome { typed, exit, took, output };
        if exit == expected {
            Ok(outcome)
        } else {
            let said = one_line(&outcome.output.replace('\n', " "));
            Err(Fault::Ended { typed: outcome.typed, exit, expected, said })
        }
    }

    /// The words of a command line as a shell would take them.
    fn as_typed(&self, arguments: &[&str]) -> String {
        let plain = |c: char| c.is_alphanumeric() || "._-/=:,+".contains(c);
        let word = |text: &&str| if text.chars().all(plain) { (*text).to_owned() } else { format!("'{text}'") };
        let words: Vec<String> = arguments.iter().map(word).collect();
        self.shortened(&format!("volctl {}", words.join(" ")))
    }

    /// Paths of the own directory without it: they would hide what a line says.
    fn shortened(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.directory.display()), "")
    }

    /// Waits until a client's status is as it should be.
    ///
    /// # Errors
    /// [`Fault::TooLong`] naming `what`.
    pub fn until(
        &self,
        name: &str,
        what: &str,
        limit: Duration,
        is_so: impl Fn(&Status) -> bool,
    ) -> Result<Duration, Fault> {
        let socket = self.actor(name).socket();
        self.until_true(what, limit, LOOK, || {
            let status = Client::connect(&socket).and_then(|mut client| client.status());
            status.is_ok_and(|status| is_so(&status))
        })
    }

    /// Waits until something is so.
    ///
    /// # Errors
    /// [`Fault::TooLong`] naming `what`.
    pub fn until_true(
        &self,
        what: &str,
        limit: Duration,
        tick: Duration,
        mut is_so: impl FnMut() -> bool,
    ) -> Result<Duration, Fault> {
        let began = Instant::now();
        while !is_so() {
            self.stop.check()?;
            if began.elapsed() > limit {
                return Err(Fault::TooLong { what: what.to_owned(), limit });
            }
            std::thread::sleep(tick);
        }
        Ok(began.elapsed())
    }

    /// Every daemon and guardian that is there.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        let traces = Traces { directory: self.directory.clone(), program: self.program.clone() };
        sweep::running(&traces).into_iter().filter_map(|pid| u32::try_from(pid).ok()).collect()
    }

    /// The last lines of every daemon's log.
    #[must_use]
    pub fn last_words(&self) -> Vec<String> {
        let mut words = Vec::new();
        for actor in &self.actors {
            let log = fs::read_to_string(actor.home.join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            words.extend(lines.iter().rev().take(4).rev().map(|line| format!("{}: {line}", actor.name)));
        }
        words
    }

    /// Ends every daemon, in order and then not; takes everything away; names what could not be.
    pub fn strike(&mut self) -> Vec<String> {
        if std::mem::replace(&mut self.struck, true) {
            return Vec::new();
        }
        let traces = Traces { directory: self.directory.clone(), program: self.program.clone() };
        let mut children: Vec<Child> = self.actors.iter_mut().filter_map(|actor| actor.daemon.take()).collect();
        for child in &children {
            // One that has ended already is no loss.
            let _ = tell(child, Signal::SIGTERM);
        }
        // A second Ctrl-C must not cut this short: it has its own limit.
        let patient = Stop::default();
        for child in &mut children {
            if !matches!(wait_child(child, ORDERLY, &patient), Ok(Some(_))) {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        sweep::clear(&traces)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for line in self.strike() {
            tracing::error!(event = "demo.left", "{line}");
        }
    }
}

/// A volume in a status.
#[must_use]
pub fn volume<'a>(status: &'a Status, name: &str) -> Option<&'a VolumeStatus> {
    status.volumes.iter().find(|volume| volume.name == name)
}

/// Whether a volume is in this state.
#[must_use]
pub fn is(status: &Status, name: &str, state: VolumeState) -> bool {
    volume(status, name).is_some_and(|volume| volume.state == state)
}

fn tell(child: &Child, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    kill(Pid::from_raw(pid), signal).map_err(Into::into)
}

/// The end of a child; None when it goes on after `limit`.
fn wait_child(child: &mut Child, limit: Duration, stop: &Stop) -> Result<Option<ExitStatus>, Fault> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(Fault::system("waiting for a process"))? {
            return Ok(Some(status));
        }
        stop.check()?;
        if began.elapsed() > limit {
            return Ok(None);
        }
        std::thread::sleep(TICK);
    }
}

fn new_directory(home: &Path) -> Result<PathBuf, Fault> {
    let mut number = 0_u32;
    loop {
        let path = home.join(format!("volctl-demo.{}.{number}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && number < 100 => number += 1,
            Err(e) => return Err(Fault::System { what: format!("making {}", path.display()), source: e }),
        }
    }
}

/// A path as TOML takes it.
fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}
