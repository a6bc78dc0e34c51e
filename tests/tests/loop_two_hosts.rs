//! One name on two hosts. `VOLCTL_RUN` gives a daemon lock files of its own: by them it takes itself for another host.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;
use volctl::wire::client::Client as Wire;
use volctl::wire::status::{Status, VolumeState};
use volctl_tests::studio::{Client, FAST, Fs, Running, Studio, volume_of, write_synced};

const SOON: Duration = Duration::from_secs(8);

/// The same client on another host: a daemon with its own lock files, socket, state and mount root.
struct Elsewhere {
    daemon: Option<Running>,
    socket: std::path::PathBuf,
    root: std::path::PathBuf,
}

impl Elsewhere {
    fn start(studio: &Studio, client: &Client) -> Self {
        let home = studio.dir().join("elsewhere");
        for directory in ["run", "state"] {
            fs::create_dir_all(home.join(directory)).expect("a directory");
        }
        let text = fs::read_to_string(client.config()).expect("a configuration");
        let own = client.mount_root().parent().expect("a home").display().to_string();
        let config = home.join("volctl.toml");
        fs::write(&config, text.replace(&own, &home.display().to_string())).expect("a configuration");
        let run = home.join("run").display().to_string();
        let daemon = Running::start_in(&[("VOLCTL_RUN", &run)], &["daemon", "--config", &config.display().to_string()]);
        Self { daemon: Some(daemon), socket: home.join("s"), root: home.join("mnt") }
    }

    fn status(&self) -> Option<Status> {
        Wire::connect(&self.socket).ok()?.status().ok()
    }

    fn stop(&mut self) {
        let Some(daemon) = self.daemon.take() else { return };
        let pid = nix::unistd::Pid::from_raw(i32::try_from(daemon.pid()).expect("a pid"));
        nix::sys::signal::kill(pid, Signal::SIGTERM).expect("it runs");
        let _ = daemon.wait().ok();
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        if let Some(daemon) = &self.daemon {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(daemon.pid()).expect("a pid"));
            let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
        }
    }
}

fn one() -> (Studio, Client) {
    let studio = Studio::new(FAST);
    let alice = studio.client("alice");
    studio.volume("footage", Fs::Ext4, &["--readers", "live"]);
    studio.allow(&alice, "footage", "write");
    alice.start();
    alice.logged_on();
    alice.write_access("footage");
    (studio, alice)
}

#[test]
fn loop_while_the_first_host_lives_the_second_is_refused() {
    let (studio, alice) = one();
    let incarnation = alice.status().incarnation;
    let mut second = Elsewhere::start(&studio, &alice);
    let ended = second.daemon.take().expect("it was started").wait();
    assert_eq!(ended.code, 5, "{ended}");
    assert!(ended.stderr.contains("another daemon"), "{ended}");
    write_synced(&alice.path("footage", "file"), "the first goes on");
    assert_eq!(alice.status().incarnation, incarnation);
    assert_eq!(alice.until_state("footage", VolumeState::Rw, SOON).writer.as_deref(), Some("alice"));
    studio.end();
}

#[test]
fn loop_when_the_first_host_stands_still_the_second_takes_over_and_the_first_never_comes_back() {
    let (studio, alice) = one();
    let file = alice.path("footage", "file");
    write_synced(&file, "before");
    alice.signal(Signal::SIGSTOP);
    let mut second = Elsewhere::start(&studio, &alice);
    let limit = FAST.dead() * 2 + Duration::from_secs(10);
    studio.wait_until("the second is logged on", limit, || second.status().is_some_and(|s| s.incarnation > 0));
    // The guardian has closed the first one's gate long since.
    assert!(studio.witness.look_again().moments.last().is_some_and(|m| m.gates.is_empty()), "a gate is still open");
    let socket = second.socket.display().to_string();
    let asked = volctl_tests::studio::run(&["--socket", &socket, "request", "footage", "--wait", "20s"]).ok();
    println!("the second writes {:?} after asking", asked.took);
    write_synced(&second.root.join("footage/file"), "by the second");
    alice.signal(Signal::SIGCONT);
    assert_eq!(alice.exit_code(Duration::from_secs(15)), Some(5));
    let status = second.status().expect("the second answers");
    assert_eq!(
        volume_of(&status, "footage").state,
        VolumeState::Rw,
        "the first one's end took nothing from the second"
    );
    write_synced(&second.root.join("footage/file"), "by the second again");
    second.stop();
    studio.end();
}
