//! The write privilege: taken, asked for, refused, handed over, kept exclusive.

use std::fs;
use std::time::{Duration, Instant};

use super::{SOON, Scenes, same};
use crate::demo::fault::Fault;
use crate::demo::stage::{is, volume};
use crate::wire::status::{Status, VolumeState};

impl Scenes<'_, '_, '_> {
    pub(super) fn first_writer(&mut self) -> Result<(), Fault> {
        self.teller.scene("3. alice takes the write access to footage", "Nobody has it, so there is nobody to ask.");
        let outcome = self.client("alice", &["request", "footage", "--wait", "20s"], 0, 4)?;
        self.teller.measured("from the request to the read-write mount", outcome.took);
        self.writes("alice", "footage", "titles.txt", "The Erth is round")?;
        self.teller.say("Everybody else can only read; the block device under bob's mount refuses writes:");
        self.by_hand("bob", "touch footage/mine", |stage| {
            match fs::write(stage.actor("bob").mount("footage").join("mine"), "") {
                Err(e) if e.raw_os_error() == Some(libc::EROFS) => Ok((1, format!("touch: {e}"))),
                Err(e) => Err(Fault::System { what: "bob is told that he may only read".into(), source: e }),
                Ok(()) => Err(Fault::Wrong { what: "bob writes to footage".into(), seen: "nobody stopped him".into() }),
            }
        })?;
        Ok(())
    }

    /// Waits until a request is to be seen at its writer's.
    fn asked(&self, writer: &str, from: &str, volume: &str) -> Result<(), Fault> {
        let what = format!("{writer} sees {from}'s request");
        let open = |status: &Status| {
            let mut requests = status.requests.iter().filter(|request| request.answer.is_none());
            requests.any(|request| request.from == from && request.volume == volume)
        };
        self.stage.until(writer, &what, SOON, open).map(drop)
    }

    pub(super) fn refusal(&mut self) -> Result<(), Fault> {
        self.teller.scene(
            "4. bob asks, alice says no",
            "He waits for the answer; she sees his question in her window, or so:",
        );
        self.teller.begins();
        let words = ["request", "footage", "-m", "need to fix the titles", "--wait", "20s"];
        let bob = self.stage.client_begins("bob", &words)?;
        self.teller.goes_on("bob", bob.typed());
        self.asked("alice", "bob", "footage")?;
        self.client("alice", &["requests"], 0, 2)?;
        let began = Instant::now();
        self.client("alice", &["answer", "footage", "bob", "no", "-m", "rendering, ask me later"], 0, 1)?;
        let outcome = self.stage.finish(bob, 3)?;
        let took = began.elapsed();
        self.teller.told("bob", &outcome, 5);
        self.teller.measured("from alice's no to bob's screen", took);
        Ok(())
    }

    pub(super) fn hand_over(&mut self) -> Result<(), Fault> {
        self.teller.scene(
            "5. bob asks again, alice says yes",
            "Her daemon unmounts, publishes and lets go; only then does his daemon take the access and mount.",
        );
        self.teller.begins();
        let bob = self.stage.client_begins("bob", &["request", "footage", "-m", "and now?", "--wait", "20s"])?;
        self.teller.goes_on("bob", bob.typed());
        self.asked("alice", "bob", "footage")?;
        let began = Instant::now();
        self.client("alice", &["answer", "footage", "bob", "yes", "-m", "all yours"], 0, 1)?;
        let outcome = self.stage.finish(bob, 0)?;
        let took = began.elapsed();
        self.teller.told("bob", &outcome, 5);
        self.teller.measured("from alice's yes to bob's read-write mount", took);
        self.reads("bob", "footage", "titles.txt", "The Erth is round")?;
        self.writes("bob", "footage", "titles.txt", "The Earth is round")
    }

    pub(super) fn exclusive(&mut self) -> Result<(), Fault> {
        self.teller.scene(
            "7. Readers and writer never overlap, and nobody needs to be at the desk",
            "scans is XFS with --readers exclusive. alice lets her computer say yes by itself.",
        );
        self.admin(&["set-client", "alice", "auto-response", "always"])?;
        self.client("alice", &["request", "scans", "--wait", "20s"], 0, 1)?;
        self.writes("alice", "scans", "page1.txt", "once upon a time")?;
        let waited = self
            .stage
            .until("bob", "bob's view of scans is closed", SOON, |status| is(status, "scans", VolumeState::Locked))?;
        debug_assert!(waited < SOON);
        let hidden = self.stage.actor("bob").mount("scans").join("page1.txt");
        if hidden.exists() {
            return Err(Fault::Wrong {
                what: "bob's view of scans".into(),
                seen: "it is open beside the writer's".into(),
            });
        }
        self.teller.say("While she writes, bob sees nothing of it. He asks, and her computer answers:");
        let outcome = self.client("bob", &["request", "scans", "-m", "two pages more", "--wait", "20s"], 0, 6)?;
        self.teller.measured("from bob's request to his read-write mount, nobody at alice's desk", outcome.took);
        self.reads("bob", "scans", "page1.txt", "once upon a time")?;
        self.client("bob", &["release", "scans"], 0, 1)?;
        let back = self.stage.until("alice", "alice reads scans again", SOON, |status| {
            is(status, "scans", VolumeState::Ro) && volume(status, "scans").is_some_and(|v| !v.stale)
        })?;
        self.teller.measured("until alice reads scans again", back);
        Ok(())
    }

    pub(super) fn killed_writer(&mut self) -> Result<(), Fault> {
        self.teller.scene(
            "9. A writer dies",
            "bob appends to footage as fast as he can, each line on stable storage before the next. Then his daemon is killed.",
        );
        let log = self.stage.actor("bob").mount("footage").join("log.txt");
        let mut bob = Appender::start(log)?;
        self.stage
            .until_true("bob has written 50 lines", SOON, super::GLANCE, || bob.written() >= 50 || bob.has_ended())?;
        let pid = self.stage.actor("bob").pid().unwrap_or(0);
        self.teller.begins();
        self.teller.goes_on("root", &format!("kill -9 {pid}    # bob's daemon"));
        let killed = Instant::now();
        self.stage.end("bob", nix::sys::signal::Signal::SIGKILL)?;
        self.stage.until_true("bob's writes are stopped", SOON, super::GLANCE, || bob.has_ended())?;
        self.teller.measured("until his guardian has stopped his writes", killed.elapsed());
        let (lines, error) = bob.join();
        self.teller.say(&format!("bob has {lines} lines on stable storage; then: {error}"));
        self.client("alice", &["request", "footage", "--wait", "25s"], 0, 5)?;
        self.teller.measured("from the kill to alice's read-write mount, nobody helped", killed.elapsed());
        let text = fs::read_to_string(self.stage.actor("alice").mount("footage").join("log.txt"))
            .map_err(Fault::system("alice reads bob's log"))?;
        let whole = text.lines().zip(1_u32..).take_while(|(line, number)| *line == format!("line {number}")).count();
        if u32::try_from(whole).unwrap_or(0) < lines {
            return Err(Fault::Wrong {
                what: format!("bob's log of {lines} lines"),
                seen: format!("{whole} lines are there"),
            });
        }
        self.teller.say(&format!("alice finds all {lines} of them. At her first release the file system is checked:"));
        self.client("alice", &["release", "footage"], 0, 1)?;
        let log = self.stage.client("alice", &["log"], 0)?;
        let checked = log.output.lines().rev().find(|line| line.contains("file system check after the takeover"));
        same("the check", checked.and_then(|line| line.rsplit(' ').next()).unwrap_or("not done"), "clean")?;
        self.teller.say(&format!("        {}", checked.unwrap_or_default()));
        self.teller.begins();
        self.stage.start("bob")?;
        self.teller.goes_on("bob", "volctl daemon --config volctl.toml &");
        let back = self
            .stage
            .until("bob", "bob is back", Duration::from_secs(30), |status| is(status, "footage", VolumeState::Ro))?;
        self.teller.measured("until bob is back and reads", back);
        self.reads("bob", "footage", "titles.txt", "The Earth is round")
    }
}

/// Somebody who appends numbered lines to a file, each synced, until it fails.
struct Appender {
    thread: Option<std::thread::JoinHandle<std::io::Error>>,
    written: std::sync::Arc<std::sync::atomic::AtomicU32>,
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl Appender {
    fn start(path: std::path::PathBuf) -> Result<Self, Fault> {
        use std::io::Write;
        use std::sync::Arc;
        use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
        let written = Arc::new(AtomicU32::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let mut file = fs::File::create(path).map_err(Fault::system("bob makes his log"))?;
        let (count, end) = (Arc::clone(&written), Arc::clone(&stop));
        let work = move || {
            for number in 1.. {
                if end.load(Ordering::SeqCst) {
                    break;
                }
                if let Err(e) = writeln!(file, "line {number}").and_then(|()| file.sync_data()) {
                    return e;
                }
                count.store(number, Ordering::SeqCst);
            }
            std::io::Error::other("told to end")
        };
        let thread =
            std::thread::Builder::new().name("bob".into()).spawn(work).map_err(Fault::system("bob's shell"))?;
        Ok(Self { thread: Some(thread), written, stop })
    }

    fn written(&self) -> u32 {
        self.written.load(std::sync::atomic::Ordering::SeqCst)
    }

    fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(std::thread::JoinHandle::is_finished)
    }

    /// How many lines were synced, and what ended it.
    fn join(&mut self) -> (u32, String) {
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        let error = match ended {
            Some(Ok(error)) => error.to_string(),
            _ => "it ended before".to_owned(),
        };
        (self.written(), error)
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::SeqCst);
        let _ = self.join();
    }
}
