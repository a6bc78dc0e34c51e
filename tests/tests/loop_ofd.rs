//! The semaphore of byte-range locks, end to end: for clients of one kernel.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use volctl::wire::status::VolumeState;
use volctl_tests::studio::{Client, FAST, Fs, Running, Studio, write_synced};

const SOON: Duration = Duration::from_secs(8);

/// Is there an open-file-description lock on this file?
fn locked(path: &Path) -> bool {
    let inode = fs::metadata(path).expect("the image").ino().to_string();
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    locks
        .lines()
        .filter(|l| l.contains("OFDLCK"))
        .any(|l| l.split_whitespace().any(|word| word.rsplit(':').next() == Some(&inode) && word.contains(':')))
}

fn studio() -> (Studio, [Client; 3]) {
    let studio = Studio::with_init(FAST, &["--lock", "ofd"]);
    let clients = ["alice", "bob", "carol"].map(|name| studio.client(name));
    studio.volume("footage", Fs::Ext4, &["--readers", "live"]);
    for client in &clients {
        studio.allow(client, "footage", "write");
        client.start();
    }
    for client in &clients {
        assert_eq!(client.logged_on().control.lock, "ofd");
    }
    (studio, clients)
}

#[test]
fn loop_three_daemons_share_the_tables_by_byte_range_locks() {
    let (studio, clients) = studio();
    for (turn, client) in clients.iter().cycle().take(7).enumerate() {
        client.write_access("footage");
        write_synced(&client.path("footage", "turn"), &turn.to_string());
        let _ = client.cli(&["release", "footage"]).ok();
    }
    // All at once: everybody gets it in the end.
    for client in &clients {
        let _ = studio.admin(&["set-client", client.name(), "auto-response", "always"]).ok();
    }
    let asking: Vec<Running> = clients.iter().map(|c| c.begin(&["request", "footage", "--wait", "20s"])).collect();
    for asked in asking {
        let _ = asked.wait().ok();
    }
    studio.end();
}

/// Stops whoever of `pids` is in the lock; true when the lock is held by a process that stands still.
fn stop_inside(control: &Path, pid: Pid) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        if locked(control) {
            kill(pid, Signal::SIGSTOP).expect("it runs");
            // It may have let go, or another may have had it.
            std::thread::sleep(Duration::from_millis(30));
            if locked(control) {
                return true;
            }
            kill(pid, Signal::SIGCONT).expect("it stands");
        }
    }
    false
}

#[test]
fn loop_a_daemon_that_stands_still_in_the_lock_does_not_keep_it() {
    let (studio, [alice, bob, carol]) = studio();
    bob.stop();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = carol.cli(&["request", "footage", "--wait", "2s"]);
                let _ = carol.cli(&["release", "footage"]);
            }
        });
        let inside = stop_inside(&studio.control, carol.pid());
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(inside, "carol was never met inside the lock");
        let begun = Instant::now();
        let asked = alice.cli(&["request", "footage", "--wait", "20s"]);
        println!("alice writes {:?} after carol stood still", begun.elapsed());
        carol.signal(Signal::SIGCONT);
        let _ = asked.ok();
    });
    carol.logged_on();
    alice.until_state("footage", VolumeState::Rw, SOON);
    let _ = alice.cli(&["release", "footage"]).ok();
    carol.write_access("footage");
    studio.end();
}

#[test]
fn loop_a_command_that_stands_still_in_the_lock_does_not_keep_it() {
    let (studio, [alice, _, _]) = studio();
    let control = studio.control.display().to_string();
    let mut met = None;
    for turn in 0..40 {
        let delay = if turn % 2 == 0 { "1s" } else { "2s" };
        let running =
            Running::start_in(&[], &["allow", "bob", "footage", "write", "--check", delay, "--control", &control]);
        let pid = Pid::from_raw(i32::try_from(running.pid()).expect("a pid"));
        if stop_command_inside(&studio.control, pid) {
            met = Some((pid, running));
            break;
        }
        let _ = running.wait();
    }
    let (pid, running) = met.expect("a command was met inside the lock");
    let begun = Instant::now();
    let asked = alice.cli(&["request", "footage", "--wait", "20s"]);
    println!("alice writes {:?} after the command stood still", begun.elapsed());
    kill(pid, Signal::SIGCONT).expect("it stands");
    let _ = asked.ok();
    let ended = running.wait();
    assert_ne!(ended.code, 0, "its login was over: {ended}");
    studio.end();
}

fn stop_command_inside(control: &Path, pid: Pid) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        if locked(control) {
            let _ = kill(pid, Signal::SIGSTOP);
            std::thread::sleep(Duration::from_millis(30));
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if locked(control) && stat.contains(") T ") {
                return true;
            }
            let _ = kill(pid, Signal::SIGCONT);
            return false;
        }
    }
    false
}
