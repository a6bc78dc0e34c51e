//! The service manager's watchdog hears from a daemon also while nobody is logged on.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use volctl_tests::control::Control;
use volctl_tests::fake::{Fake, Manner};
use volctl_tests::program::command;

/// A daemon that waited for its slot longer than the watchdog's time would have been killed for it, again and again.
#[test]
fn loop_a_daemon_that_waits_for_its_slot_still_tells_the_watchdog() {
    let control = Control::small();
    let _ = control.run(&["client", "add", "alice"]).ok();
    // Somebody else's slot, left as in a crash: it must be silent for `dead` first.
    drop(Fake::log_on(&control, 0, Manner::Deaf));
    let config = control.file("volctl.toml");
    let keys = ["control", "socket", "state_dir", "mount_root"].map(|key| {
        let at = if key == "control" { "control.img" } else { key };
        format!("{key} = '{}'\n", control.arg(at))
    });
    std::fs::write(&config, format!("client = 'alice'\n{}", keys.concat())).expect("a configuration");
    let path = control.file("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
    let mut daemon = command(["daemon", "--config"])
        .arg(&config)
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "1000000")
        .env_remove("WATCHDOG_PID")
        .spawn()
        .expect("it starts");
    let mut buffer = [0; 4096];
    let mut told = 0;
    let ready = loop {
        let Ok(length) = manager.recv(&mut buffer) else { break false };
        let words = String::from_utf8_lossy(&buffer[..length]).into_owned();
        told += usize::from(words.contains("WATCHDOG=1"));
        if words.contains("READY=1") {
            break true;
        }
    };
    let id = Pid::from_raw(i32::try_from(daemon.id()).expect("a process number"));
    let _ = kill(id, Signal::SIGTERM);
    let ended = daemon.wait().expect("it ends");
    assert!(ready && ended.success(), "ready: {ready}, {ended}");
    assert!(told >= 4, "dead is 4 s, and it was told {told} times before the log-on");
}
