//! The program as people run it: found beside the test, run with arguments, and what it said.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// What a run of the program said.
#[derive(Debug)]
pub struct Said {
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// Of a process that has ended.
    pub fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// It ended with 0.
    ///
    /// # Panics
    /// When it did not, with all it said.
    #[must_use]
    #[track_caller]
    pub fn ok(self) -> Self {
        self.is(0)
    }

    /// It ended with this code.
    ///
    /// # Panics
    /// When it did not, with all it said.
    #[must_use]
    #[track_caller]
    pub fn is(self, code: i32) -> Self {
        assert_eq!(self.code, code, "out: {}\nerr: {}", self.out, self.err);
        self
    }

    /// Each of these stands somewhere in what it said on stderr.
    ///
    /// # Panics
    /// When one does not.
    #[track_caller]
    pub fn says(&self, words: &[&str]) {
        for word in words {
            assert!(self.err.contains(word), "nothing of '{word}' in: {}", self.err);
        }
    }

    /// Its standard output as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }
}

/// The path of the program, built from the same sources as the test.
///
/// # Panics
/// When it cannot be built.
pub fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| built("volctl"))
}

/// The path of the window, as [`path`]; the program lies beside it.
///
/// # Panics
/// When one of them cannot be built.
pub fn window() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    let _ = path();
    PATH.get_or_init(|| built("volctl-gui"))
}

fn built(program_name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a program knows where it is");
    // target/PROFILE/deps/test, or target/PROFILE/campaign.
    let profile = own.ancestors().skip(1).find(|path| !path.ends_with("deps")).expect("target/PROFILE").to_owned();
    let program = profile.join(program_name);
    if own.parent() == Some(&profile) {
        // This is no test but a program: whoever built it built both, or has asked for this path before.
        assert!(program.exists(), "{} is not there: build it", program.display());
        return program;
    }
    let target = profile.parent().expect("target/PROFILE");
    // Cargo builds the library for this test but not the program: an old one may lie there.
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // With the features that the whole workspace asks for, as 'make test' has built it already: nothing is built twice.
    cargo.args(["build", "--quiet", "--workspace", "--bin", program_name, "--target-dir"]).arg(target);
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    match profile.file_name().and_then(OsStr::to_str) {
        Some("debug") | None => {}
        Some(name) => {
            cargo.args(["--profile", name]);
        }
    }
    let built = cargo.status().is_ok_and(|status| status.success());
    // And an old one would prove nothing.
    assert!(built && program.exists(), "{} could not be built", program.display());
    program
}

/// A command that is not started yet; its output is caught.
pub fn command<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(path());
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end.
///
/// # Panics
/// When it cannot be started.
pub fn volctl<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Said {
    Said::of(&command(args).output().expect("the program starts"))
}

/// Runs a tool that must succeed.
///
/// # Panics
/// When it does not.
#[track_caller]
pub fn tool<S: AsRef<OsStr>>(name: &str, args: impl IntoIterator<Item = S>) -> String {
    let output = Command::new(name).args(args).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
