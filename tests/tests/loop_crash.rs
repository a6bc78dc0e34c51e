//! Daemons and guardians are killed and stopped at every step: nobody waits for ever, nobody writes too late, and nothing
//! that was stable is lost.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use volctl::wire::status::VolumeState;
use volctl_tests::studio::{
    Client, Fs, Gate, Studio, Timings, guardian_pid, loops_below, mounts_below, volume_of, write_synced,
};

const SOON: Duration = Duration::from_secs(8);
/// What is left for everything but the death time: polls, the log of the file system, a busy machine.
const SLACK: Duration = Duration::from_secs(2);

/// A program that writes a volume until it is refused: one numbered line after the other, each stable.
struct Scribe {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Written>,
}

/// What it got done.
struct Written {
    /// The last line that was acknowledged as stable.
    last: u64,
    /// When, and with what, it was refused.
    refused: Option<(Instant, i32)>,
}

impl Scribe {
    fn start(path: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || {
                let mut file = OpenOptions::new().create(true).append(true).open(&path).expect("it is writable");
                let mut last = 0;
                while !stop.load(Ordering::Relaxed) {
                    let written = writeln!(file, "{}", last + 1).and_then(|()| file.sync_all());
                    if let Err(error) = written {
                        let refused = Some((Instant::now(), error.raw_os_error().unwrap_or(0)));
                        return Written { last, refused };
                    }
                    last += 1;
                    std::thread::sleep(Duration::from_millis(2));
                }
                Written { last, refused: None }
            }
        });
        Self { stop, thread }
    }

    fn is_done(&self) -> bool {
        self.thread.is_finished()
    }

    fn end(self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the scribe")
    }
}

/// Every line that was acknowledged is there, in its order.
fn has_lines(file: PathBuf, last: u64) {
    let text = fs::read_to_string(&file).expect("the scribe's file");
    let lines: Vec<u64> =
        text.lines().take(usize::try_from(last).expect("few")).filter_map(|l| l.parse().ok()).collect();
    assert!(lines.iter().copied().eq(1..=last), "{}: {last} lines were acknowledged:\n{text}", file.display());
}

/// Nothing of a client is left: no mount, no gate, no guardian. (Its tables may still name it.)
fn nothing_left(studio: &Studio, client: &Client) {
    let begun = Instant::now();
    studio.wait_until(&format!("nothing is left of {}", client.name()), Duration::from_secs(5), || {
        mounts_below(&client.mount_root()).is_empty() && guardian_pid(&studio.uuid, client.slot()).is_none()
    });
    println!("nothing left of {} after {:?}", client.name(), begun.elapsed());
}

/// `taker` asks and has it within the death time and a little, counted from `since`.
fn takes_within(studio: &Studio, taker: &Client, since: Instant, limit: Duration) {
    let _ = taker.cli(&["request", "footage", "--wait", "20s"]).ok();
    let took = since.elapsed();
    println!("{} has it after {took:?}", taker.name());
    let limit = studio.patience(limit);
    assert!(took < limit, "{} has it only after {took:?}, not within {limit:?}", taker.name());
    taker.until_state("footage", VolumeState::Rw, SOON);
}

fn killed_writer(fs: Fs, more: &[&str]) {
    let (studio, alice, bob) = Studio::pair(fs, more);
    alice.write_access("footage");
    let scribe = Scribe::start(alice.path("footage", "lines"));
    studio
        .wait_until("a few lines", SOON, || fs::metadata(alice.path("footage", "lines")).is_ok_and(|m| m.len() > 100));
    let killed = Instant::now();
    alice.kill();
    takes_within(&studio, &bob, killed, studio.timings.dead() + SLACK);
    let written = scribe.end();
    assert!(written.refused.is_some(), "the gate was closed under the program");
    has_lines(bob.path("footage", "lines"), written.last);
    nothing_left(&studio, &alice);
    studio.wait_until("bob's gate is left and no other", SOON, || loops_below(studio.dir()).len() == 1);
    alice.start();
    assert!(alice.logged_on().incarnation > 1);
    write_synced(&bob.path("footage", "next"), "by bob");
    let _ = bob.cli(&["release", "footage"]).ok();
    studio.wait_until("alice reads on", SOON, || {
        fs::read_to_string(alice.path("footage", "next")).is_ok_and(|text| text == "by bob")
    });
    studio.end();
}

#[test]
fn loop_a_killed_writer_on_ext4_is_followed_within_the_death_time() {
    killed_writer(Fs::Ext4, &["--readers", "live"]);
}

#[test]
fn loop_a_killed_writer_on_exclusive_xfs_is_followed_within_the_death_time() {
    killed_writer(Fs::Xfs, &["--readers", "exclusive"]);
}

#[test]
fn loop_a_killed_writer_on_btrfs_is_followed_within_the_death_time() {
    killed_writer(Fs::Btrfs, &["--readers", "snapshot"]);
}

/// Sectors that were written through a gate so far; None once its number means another device.
fn sectors(gate: &Gate) -> Option<u64> {
    let read = |what: &str| fs::read_to_string(format!("/sys/block/loop{}/{what}", gate.number)).ok();
    let stat = read("stat")?;
    let ours = read("diskseq")?.trim().parse() == Ok(gate.sequence);
    ours.then(|| stat.split_whitespace().nth(6)?.parse().ok())?
}

#[test]
fn loop_a_stopped_writer_is_shut_out_before_another_gets_in_and_stays_out() {
    let (studio, alice, bob) = Studio::pair(Fs::Ext4, &["--readers", "live"]);
    alice.write_access("footage");
    let image = studio.dir().join("footage.img");
    let gate = loop {
        let report = studio.witness.look_again();
        let writes = |m: &&volctl_tests::studio::Moment| m.gates.iter().any(|g| !g.mounts.is_empty());
        if let Some(moment) = report.moments.iter().rev().find(writes) {
            break moment.gates[0].clone();
        }
    };
    let scribe = Scribe::start(alice.path("footage", "lines"));
    studio
        .wait_until("a few lines", SOON, || fs::metadata(alice.path("footage", "lines")).is_ok_and(|m| m.len() > 100));
    let stopped = Instant::now();
    alice.signal(Signal::SIGSTOP);
    let asking = bob.begin(&["request", "footage", "--wait", "20s"]);
    studio.wait_until("the program is refused", studio.timings.lease() + SLACK, || scribe.is_done());
    let written = scribe.end();
    let (refused, errno) = written.refused.expect("it was refused");
    println!("the gate of the stopped writer closed after {:?}", refused - stopped);
    assert!([libc::EIO, libc::EROFS].contains(&errno), "errno {errno}");
    let closed_at = sectors(&gate);
    let _ = asking.wait().ok();
    println!("bob has it after {:?}", stopped.elapsed());
    assert!(stopped.elapsed() < studio.patience(studio.timings.dead() + SLACK));
    let report = studio.one_writer();
    let opened = report.opened(&image, &bob.mount_root(), stopped).expect("bob's mount was seen");
    assert!(refused < opened, "refused {:?} after bob's mount", refused.duration_since(opened));
    let shut = report.closed(&image, &alice.mount_root(), stopped).expect("alice's gate was seen closing");
    assert!(shut < opened, "the gate closed first");
    has_lines(bob.path("footage", "lines"), written.last);
    // Not one sector more passes through the old gate: the old mount is still there and may want to.
    write_synced(&bob.path("footage", "marker"), "by bob");
    let late =
        File::create(alice.path("footage", "late")).and_then(|mut f| f.write_all(b"x").and_then(|()| f.sync_all()));
    assert!(late.is_err() || !mounts_below(&alice.mount_root()).is_empty());
    if let (Some(before), Some(now)) = (closed_at, sectors(&gate)) {
        assert!(now == before, "{} sectors passed a closed gate", now.abs_diff(before));
    }
    alice.signal(Signal::SIGCONT);
    let back = alice.until("alice is back", SOON, |s| s.incarnation > 1);
    println!("alice is back as incarnation {}", back.incarnation);
    alice.until_state("footage", VolumeState::Ro, SOON);
    let refused = File::create(alice.path("footage", "late")).expect_err("a reader");
    assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    assert_eq!(fs::read_to_string(bob.path("footage", "marker")).expect("still there"), "by bob");
    assert!(!bob.path("footage", "late").exists(), "nothing of the late write arrived");
    studio.end();
}

#[test]
fn loop_an_asker_that_dies_right_after_asking_leaves_no_trap() {
    let (studio, alice, bob) = Studio::pair(Fs::Ext4, &["--readers", "live"]);
    alice.write_access("footage");
    let _ = bob.cli(&["request", "footage", "-m", "quick"]).ok();
    bob.kill();
    nothing_left(&studio, &bob);
    write_synced(&alice.path("footage", "film"), "goes on");
    // What stands is either seen as gone, or handed over to nobody: alice has it back at once or after bob's death.
    let _ = alice.cli(&["release", "footage"]).ok();
    let since = Instant::now();
    takes_within(&studio, &alice, since, studio.timings.dead() + SLACK);
    bob.start();
    bob.logged_on();
    alice.until("the request stands again", SOON, |s| s.requests.iter().any(|r| r.message == "quick"));
    let _ = alice.cli(&["answer", "footage", "bob", "yes"]).ok();
    bob.until_state("footage", VolumeState::Rw, SOON);
    studio.end();
}

#[test]
fn loop_an_asker_that_dies_right_after_the_yes_leaves_no_trap() {
    let (studio, alice, bob) = Studio::pair(Fs::Ext4, &["--readers", "exclusive"]);
    for pause in [0, 30, 60] {
        alice.write_access("footage");
        write_synced(&alice.path("footage", "film"), &format!("take {pause}"));
        let _ = bob.cli(&["request", "footage"]).ok();
        alice.until("the request is there", SOON, |s| s.requests.iter().any(|r| r.from == "bob"));
        let answering = alice.begin(&["answer", "footage", "bob", "yes"]);
        std::thread::sleep(Duration::from_millis(pause));
        bob.kill();
        let since = Instant::now();
        let _ = answering.wait();
        takes_within(&studio, &alice, since, studio.timings.dead() + SLACK);
        assert_eq!(fs::read_to_string(alice.path("footage", "film")).expect("there"), format!("take {pause}"));
        let _ = alice.cli(&["release", "footage"]).ok();
        bob.start();
        bob.logged_on();
        // The request was carried over, unless the grant had come already.
        let _ = bob.cli(&["withdraw", "footage"]);
        bob.until("bob asks no more", SOON, |s| s.requests.is_empty());
        let _ = bob.cli(&["release", "footage"]);
    }
    studio.end();
}

fn writer_dies_after_yes(fs: Fs, more: &[&str], pauses: &[u64]) {
    let (studio, alice, bob) = Studio::pair(fs, more);
    for pause in pauses {
        alice.write_access("footage");
        let text = format!("take {pause}");
        write_synced(&alice.path("footage", "film"), &text);
        let asking = bob.begin(&["request", "footage", "--wait", "20s"]);
        alice.until("the request is there", SOON, |s| s.requests.iter().any(|r| r.from == "bob"));
        let answering = alice.begin(&["answer", "footage", "bob", "yes"]);
        std::thread::sleep(Duration::from_millis(*pause));
        let killed = Instant::now();
        alice.kill();
        let _ = asking.wait().ok();
        println!("killed {pause} ms after the yes: bob has it after {:?}", killed.elapsed());
        assert!(killed.elapsed() < studio.patience(studio.timings.dead() + SLACK));
        let _ = answering.wait();
        bob.until_state("footage", VolumeState::Rw, SOON);
        assert_eq!(fs::read_to_string(bob.path("footage", "film")).expect("nothing stable is lost"), text);
        nothing_left(&studio, &alice);
        alice.start();
        alice.logged_on();
        let _ = bob.cli(&["release", "footage"]).ok();
    }
    studio.end();
}

#[test]
fn loop_a_writer_that_dies_while_it_hands_over_ext4_loses_nothing() {
    writer_dies_after_yes(Fs::Ext4, &["--readers", "live"], &[5, 30, 60]);
}

#[test]
fn loop_a_writer_that_dies_while_it_hands_over_btrfs_loses_nothing() {
    writer_dies_after_yes(Fs::Btrfs, &["--readers", "snapshot"], &[10, 50, 90]);
}

#[test]
fn loop_without_its_guardian_a_daemon_closes_everything_and_logs_on_anew() {
    let (studio, alice, bob) = Studio::pair(Fs::Ext4, &["--readers", "live"]);
    alice.write_access("footage");
    let scribe = Scribe::start(alice.path("footage", "lines"));
    studio
        .wait_until("a few lines", SOON, || fs::metadata(alice.path("footage", "lines")).is_ok_and(|m| m.len() > 100));
    let killed = Instant::now();
    kill(alice.guardian(), Signal::SIGKILL).expect("the guardian is there");
    studio.wait_until("the program is refused", studio.timings.lease() + SLACK, || scribe.is_done());
    println!("without a guardian the gate closed after {:?}", killed.elapsed());
    let written = scribe.end();
    let back = alice.until("alice is back", SOON, |s| s.incarnation > 1);
    println!("back as incarnation {} after {:?}", back.incarnation, killed.elapsed());
    assert!(guardian_pid(&studio.uuid, alice.slot()).is_some(), "with a new guardian");
    takes_within(&studio, &bob, killed, studio.timings.dead() + SLACK * 2);
    has_lines(bob.path("footage", "lines"), written.last);
    studio.end();
}

#[test]
fn loop_both_sides_die_at_once_and_come_back() {
    let (studio, alice, bob) = Studio::pair(Fs::Ext4, &["--readers", "exclusive"]);
    alice.write_access("footage");
    write_synced(&alice.path("footage", "film"), "frames");
    let _ = bob.cli(&["request", "footage", "-m", "still wanted"]).ok();
    alice.signal(Signal::SIGKILL);
    bob.signal(Signal::SIGKILL);
    for client in [&alice, &bob] {
        client.kill();
        nothing_left(&studio, client);
    }
    assert!(loops_below(studio.dir()).is_empty(), "their guardians closed every gate");
    let begun = Instant::now();
    for client in [&alice, &bob] {
        client.start();
    }
    for client in [&alice, &bob] {
        client.logged_on();
    }
    println!("both are back after {:?}", begun.elapsed());
    bob.until_state("footage", VolumeState::Rw, studio.timings.dead() * 2 + SLACK);
    println!("bob has what it asked for after {:?}", begun.elapsed());
    assert_eq!(fs::read_to_string(bob.path("footage", "film")).expect("nothing stable is lost"), "frames");
    studio.end();
}

#[test]
fn loop_a_log_off_in_the_middle_of_a_hand_over_ends_it_in_order() {
    let (studio, alice, bob) = Studio::pair(Fs::Xfs, &["--readers", "live"]);
    let Timings { dead, .. } = studio.timings;
    alice.write_access("footage");
    write_synced(&alice.path("footage", "film"), "frames");
    // The writer leaves instead of answering: that is a yes to whoever waits, at once.
    let asking = bob.begin(&["request", "footage", "--wait", "20s"]);
    alice.until("the request is there", SOON, |s| s.requests.iter().any(|r| r.from == "bob"));
    let begun = Instant::now();
    alice.stop();
    let _ = asking.wait().ok();
    assert!(
        begun.elapsed() < studio.patience(Duration::from_millis(dead)),
        "no death is waited for: {:?}",
        begun.elapsed()
    );
    alice.start();
    alice.logged_on();
    // The asker leaves instead of taking it.
    let _ = alice.cli(&["request", "footage"]).ok();
    bob.until("the request is there", SOON, |s| s.requests.iter().any(|r| r.from == "alice"));
    let answering = bob.begin(&["answer", "footage", "alice", "yes"]);
    alice.stop();
    let _ = answering.wait();
    bob.until("the volume is free or bob's", SOON, |s| {
        volume_of(s, "footage").writer.as_deref().is_none_or(|writer| writer == "bob")
    });
    let begun = Instant::now();
    bob.write_access("footage");
    assert!(begun.elapsed() < studio.patience(Duration::from_millis(dead)), "it left in order: {:?}", begun.elapsed());
    studio.end();
}

#[test]
fn loop_a_stopped_reader_of_an_exclusive_volume_is_shut_out_before_anybody_writes() {
    let (studio, alice, bob) = Studio::pair(Fs::Ext4, &["--readers", "exclusive"]);
    alice.write_access("footage");
    write_synced(&alice.path("footage", "film"), &"frames".repeat(500_000));
    let _ = alice.cli(&["release", "footage"]).ok();
    bob.until_volume("footage", SOON, |v| v.state == VolumeState::Ro && !v.stale);
    let film = File::open(bob.path("footage", "film")).expect("readable");
    let stopped = Instant::now();
    bob.signal(Signal::SIGSTOP);
    takes_within(&studio, &alice, stopped, studio.timings.dead() + SLACK);
    // Nothing of it was read before, so nothing of it is in a cache: its gate has to be asked, and is closed.
    let refused = film.read_exact_at(&mut [0; 4096], 1 << 20).expect_err("never beside a writer");
    assert_eq!(refused.raw_os_error(), Some(libc::EIO));
    drop(film);
    bob.signal(Signal::SIGCONT);
    bob.until("bob is back", SOON, |s| s.incarnation > 1);
    let _ = alice.cli(&["release", "footage"]).ok();
    bob.until_state("footage", VolumeState::Ro, SOON);
    studio.end();
}
