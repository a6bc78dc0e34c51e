//! `volctl demo` as a newcomer runs it: it ends well, and whatever happens it leaves nothing behind.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use volctl_tests::program;

/// A demo under way in a directory of its own.
struct Demo {
    child: Child,
    home: tempfile::TempDir,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let home = tempfile::Builder::new().prefix("volctl-demo-test").tempdir_in("/var/tmp").expect("a directory");
        let mut command = Command::new(program::path());
        command.arg("demo").args(arguments).env("TMPDIR", home.path());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        Self { child, home }
    }

    /// Reads on until a line has these words, then sends the signal, and reads to the end.
    fn told_at(mut self, words: &str, signal: Signal) -> (ExitStatus, String, String, Vec<String>) {
        let mut lines = BufReader::new(self.child.stdout.take().expect("piped"));
        let mut text = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(lines.read_line(&mut line).expect("text"), 0, "'{words}' was never said:\n{text}");
            text.push_str(&line);
            if line.contains(words) {
                break;
            }
        }
        kill(Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")), signal).expect("it lives");
        lines.read_to_string(&mut text).expect("text");
        self.ends(text)
    }

    fn end(mut self) -> (ExitStatus, String, String, Vec<String>) {
        let mut text = String::new();
        self.child.stdout.take().expect("piped").read_to_string(&mut text).expect("text");
        self.ends(text)
    }

    fn ends(mut self, out: String) -> (ExitStatus, String, String, Vec<String>) {
        let mut errors = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut errors).expect("text");
        let status = self.child.wait().expect("it ends");
        (status, out, errors, left(self.home.path()))
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // When a test fails in the middle: it cleans up after itself on this signal.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(0)), Signal::SIGTERM);
            let _ = self.child.wait();
        }
    }
}

/// Files, mounts, loop devices and processes that have to do with the directory.
fn left(home: &Path) -> Vec<String> {
    let mut left: Vec<String> = Vec::new();
    let name = home.display().to_string();
    left.extend(fs::read_dir(home).expect("it is there").flatten().map(|entry| format!("{:?}", entry.path())));
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    left.extend(mounts.lines().filter(|line| line.contains(&name)).map(str::to_owned));
    for entry in fs::read_dir("/sys/block").expect("sysfs").flatten() {
        let backing = fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
        left.extend(Some(backing).filter(|backing| backing.contains(&name)));
    }
    for entry in fs::read_dir("/proc").expect("proc").flatten() {
        let text = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        left.extend(Some(text).filter(|text| text.contains(&name)));
        let open: Vec<PathBuf> = fs::read_dir(entry.path().join("fd"))
            .map(|links| links.flatten().filter_map(|link| fs::read_link(link.path()).ok()).collect())
            .unwrap_or_default();
        left.extend(open.into_iter().filter(|path| path.starts_with(home)).map(|path| format!("open: {path:?}")));
    }
    left
}

#[test]
fn loop_the_demo_goes_as_it_should_and_leaves_nothing() {
    let (status, out, errors, left) = Demo::start(&[]).end();
    assert_eq!(status.code(), Some(0), "{out}\n{errors}");
    let last: Vec<&str> = out.lines().rev().take(2).collect();
    assert!(last[0].starts_with("the demo went as it should: "), "{last:?}");
    assert_eq!(last[1], "cleaned up: no process, no mount, no loop device and no file is left");
    assert!(out.contains("alice says no for footage: rendering, ask me later"), "the refusal is shown");
    assert!(out.contains("rule lockout: carol may not ask for music"), "the lockout is shown");
    assert_eq!(left, Vec::<String>::new());
    assert!(!out.contains('\u{1b}'), "no colours where there is no terminal");
}

#[test]
fn loop_an_interrupted_demo_leaves_nothing() {
    // In the middle of the death of a writer: one daemon is gone, a request waits, a volume is dirty.
    let (status, out, errors, left) = Demo::start(&[]).told_at("until his guardian has stopped", Signal::SIGINT);
    assert_eq!(status.code(), Some(1), "{out}\n{errors}");
    assert!(errors.contains("the demo was interrupted"), "{errors}");
    assert!(out.ends_with("cleaned up: no process, no mount, no loop device and no file is left\n"), "{out}");
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn loop_a_demo_that_is_told_to_end_while_it_begins_leaves_nothing() {
    let (status, out, errors, left) = Demo::start(&[]).told_at("volctl daemon --config", Signal::SIGTERM);
    assert_eq!(status.code(), Some(1), "{out}\n{errors}");
    assert_eq!(left, Vec::<String>::new(), "{out}\n{errors}");
}

#[test]
fn loop_a_kept_demo_goes_on_until_it_is_told_to_end() {
    let (status, out, errors, left) = Demo::start(&["--keep"]).told_at("Ctrl-C here ends it", Signal::SIGINT);
    assert_eq!(status.code(), Some(0), "{out}\n{errors}");
    assert_eq!(left, Vec::<String>::new());
}
