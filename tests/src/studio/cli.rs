//! The command line as a program would drive it.

use std::fmt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use volctl::wire::outcome::Failure;

use crate::program;

/// How long a command may take before it counts as hung.
const HUNG: Duration = Duration::from_secs(60);

/// What a command said and how it ended. It ran with `--json`.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command line.
    pub command: String,
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, code, stdout, stderr, took } = self;
        write!(f, "volctl {command}\n  exit {code} after {took:?}\n  stdout: {stdout}\n  stderr: {stderr}")
    }
}

impl Output {
    /// It ended with 0.
    ///
    /// # Panics
    /// When it did not.
    #[must_use]
    pub fn ok(self) -> Self {
        assert!(self.code == 0, "{self}");
        self
    }

    /// It ended with `code`, and why it did.
    ///
    /// # Panics
    /// When it ended otherwise, or said nothing.
    #[must_use]
    pub fn failed(&self, code: i32) -> Failure {
        assert!(self.code == code, "exit {code} was expected:\n{self}");
        let line = self.stderr.lines().rfind(|line| line.starts_with('{'));
        let failure = line.and_then(|line| serde_json::from_str::<Failure>(line).ok());
        failure.unwrap_or_else(|| panic!("no failure in JSON:\n{self}"))
    }

    /// Its last line as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        self.lines().pop().unwrap_or_else(|| panic!("it printed nothing:\n{self}"))
    }

    /// All its lines as JSON.
    ///
    /// # Panics
    /// When one is none.
    #[must_use]
    pub fn lines(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}\n{self}"));
        self.stdout.lines().map(parse).collect()
    }
}

/// A command that still runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    command: String,
    begun: Instant,
}

impl Running {
    pub(super) fn start(args: &[&str]) -> Self {
        Self::start_in(&[], args)
    }

    /// Starts the program with these arguments and variables of the environment.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start_in(variables: &[(&str, &str)], args: &[&str]) -> Self {
        let mut command = Command::new(program::path());
        command.envs(variables.iter().copied());
        command.arg("--json").args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("the program starts");
        Self { child, command: args.join(" "), begun: Instant::now() }
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it hangs for a minute.
    #[must_use]
    pub fn wait(mut self) -> Output {
        while !self.has_ended() {
            if self.begun.elapsed() > HUNG {
                let _ = self.child.kill();
                panic!("volctl {} hangs", self.command);
            }
            std::thread::sleep(Duration::from_millis(3));
        }
        let took = self.begun.elapsed();
        let output = self.child.wait_with_output().expect("its output");
        Output {
            command: self.command,
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            took,
        }
    }
}

/// Runs the program with these arguments.
#[must_use]
pub fn run(args: &[&str]) -> Output {
    Running::start(args).wait()
}
