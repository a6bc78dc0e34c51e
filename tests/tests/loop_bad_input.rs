//! What people, programs and disks should not do to a daemon: it says what is wrong, and goes on.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use volctl::wire::status::VolumeState;
use volctl_tests::studio::{Client, FAST, Fs, Options, Studio, run, write_synced};

const SOON: Duration = Duration::from_secs(8);

fn one(options: &Options) -> (Studio, Client) {
    let studio = Studio::new(FAST);
    let alice = studio.client_with("alice", options);
    studio.volume("footage", Fs::Ext4, &["--readers", "live"]);
    studio.allow(&alice, "footage", "write");
    (studio, alice)
}

fn say(socket: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(3))).expect("a timeout");
    // A daemon that has heard enough closes, also in the middle.
    let _ = stream.write_all(bytes);
    let mut answer = vec![0; 4096];
    let got = stream.read(&mut answer).unwrap_or(0);
    String::from_utf8_lossy(&answer[..got]).into_owned()
}

#[test]
fn loop_nonsense_at_the_socket_breaks_nothing() {
    let (studio, alice) = one(&Options::default());
    alice.start();
    let incarnation = alice.logged_on().incarnation;
    let socket = alice.socket();
    let huge = [vec![b'['; 8 << 20], vec![0]].concat();
    let long = format!("{{\"method\":\"{}\"}}\0", "x".repeat(100_000));
    let deep = format!("{}\0", "[".repeat(20_000));
    let nonsense: [&[u8]; 10] = [
        b"",
        b"\0",
        b"hello\0",
        b"{\"method\":",
        b"{}\0",
        b"{\"method\":\"org.example.No\"}\0",
        b"{\"method\":7,\"parameters\":[]}\0\0\0\0",
        &[0xff, 0xfe, 0, 1, 2, 3, 0],
        long.as_bytes(),
        deep.as_bytes(),
    ];
    for bytes in nonsense.into_iter().chain([huge.as_slice()]) {
        if bytes.contains(&0) {
            say(&socket, bytes);
        } else {
            // Cut off: the peer is gone before its message ends.
            let mut stream = UnixStream::connect(&socket).expect("a connection");
            stream.write_all(bytes).expect("it is sent");
        }
    }
    let crowd: Vec<_> = (0..200).filter_map(|_| UnixStream::connect(&socket).ok()).collect();
    drop(crowd);
    let status = alice.until("it answers again", SOON, |_| true);
    assert_eq!(status.incarnation, incarnation);
    alice.write_access("footage");
    studio.end();
}

#[test]
fn loop_a_user_without_rights_may_look_and_not_act() {
    let (studio, alice) = one(&Options::default());
    alice.start();
    alice.logged_on();
    alice.write_access("footage");
    for path in [studio.dir().to_owned(), studio.dir().join("alice")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("others may enter");
    }
    let program = studio.dir().join("volctl");
    fs::copy(volctl_tests::program::path(), &program).expect("a copy that nobody may run");
    let as_nobody = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]).arg(&program);
        command.arg("--socket").arg(alice.socket()).args(args).output().expect("setpriv")
    };
    let looked = as_nobody(&["--json", "status"]);
    assert!(looked.status.success(), "{}", String::from_utf8_lossy(&looked.stderr));
    for act in [&["release", "footage"][..], &["request", "footage"], &["unmount", "footage"], &["takeover", "footage"]]
    {
        let refused = as_nobody(act);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(3), "{act:?}: {said}");
        assert_eq!(said.lines().count(), 3, "what, why, what next: {said}");
    }
    assert_eq!(alice.until_state("footage", VolumeState::Rw, SOON).writer.as_deref(), Some("alice"));
    studio.end();
}

#[test]
fn loop_a_full_state_directory_stops_nothing() {
    let (studio, alice) = one(&Options::default());
    let state = studio.dir().join("alice/state");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "none"]).arg(&state).status();
    assert!(mounted.is_ok_and(|s| s.success()));
    let mut filler = File::create(state.join("filler")).expect("a file");
    while filler.write_all(&[1; 512]).is_ok() {}
    drop(filler);
    alice.start();
    alice.logged_on();
    alice.until("it says that events are not kept", SOON, |s| s.warnings.iter().any(|w| w.code == "event_log"));
    alice.write_access("footage");
    write_synced(&alice.path("footage", "file"), "all the same");
    let _ = alice.cli(&["release", "footage"]).ok();
    alice.until_state("footage", VolumeState::Ro, SOON);
    let _ = alice.cli(&["unmount", "footage"]).ok();
    alice.until_state("footage", VolumeState::Locked, SOON);
    alice.stop();
    assert!(Command::new("umount").arg(&state).status().is_ok_and(|s| s.success()));
    studio.end();
}

#[test]
fn loop_a_state_directory_that_cannot_be_and_a_socket_directory_that_is_missing_stop_nothing() {
    let studio = Studio::new(FAST);
    let file = studio.dir().join("file");
    fs::write(&file, "no directory").expect("a file");
    let socket = studio.dir().join("not/yet/there/s");
    let options = Options::default().set("state_dir", &file.join("state").display().to_string());
    let alice = studio.client_with("alice", &options.set("socket", &socket.display().to_string()));
    alice.start();
    studio.wait_until("a status at the new socket", Duration::from_secs(15), || {
        let status = run(&["--socket", &socket.display().to_string(), "status"]);
        status.code == 0 && status.json()["incarnation"].as_u64() > Some(0)
    });
    studio.end();
    assert!(!socket.exists(), "the socket is taken away");
}

#[test]
fn loop_a_wrong_configuration_is_a_usage_error_that_names_the_key() {
    let (studio, alice) = one(&Options::default());
    let (config, second) = (alice.config().display().to_string(), studio.dir().join("second.img"));
    let other = second.display().to_string();
    let _ = run(&["init", &other, "--size", "16M"]).ok();
    let good = fs::read_to_string(alice.config()).expect("a configuration");
    let two = format!("control = ['{}', '{other}']", studio.control.display());
    let without = |key: &str| good.lines().filter(|l| !l.starts_with(key)).collect::<Vec<_>>().join("\n");
    let cases = [
        (without("client"), "client"),
        (format!("{good}\nspeed = 9"), "speed"),
        (without("publish") + "\npublish = 'soon'", "publish"),
        (without("mount_root") + "\nmount_root = 'relative/path'", "mount_root"),
        (without("client") + "\nclient = 'a/b'", "client"),
        (good.replace('=', ""), "line 1"),
        (without("control") + "\n" + &two, "UUID"),
    ];
    for (text, word) in cases {
        fs::write(alice.config(), &text).expect("a configuration");
        let output = run(&["daemon", "--config", &config]);
        assert_eq!(output.code, 2, "{text}\n{output}");
        assert!(output.stderr.contains(word), "{word} is not named:\n{output}");
    }
    let nowhere = studio.dir().join("nowhere.toml").display().to_string();
    assert_eq!(run(&["daemon", "--config", &nowhere]).code, 1);
    fs::write(alice.config(), without("control") + "\ncontrol = '/dev/volctl-is-not-here'").expect("a configuration");
    let missing = run(&["daemon", "--config", &config]);
    assert!(missing.code == 1 && missing.stderr.contains("/dev/volctl-is-not-here"), "{missing}");
    fs::write(alice.config(), without("client") + "\nclient = 'mallory'").expect("a configuration");
    let unknown = run(&["daemon", "--config", &config]);
    assert!(unknown.code == 3 && unknown.stderr.contains("mallory is unknown"), "{unknown}");
    fs::write(alice.config(), good).expect("a configuration");
    studio.end();
}

#[test]
fn loop_a_mount_root_that_others_could_change_is_refused() {
    let (studio, alice) = one(&Options::default());
    let (real, link) = (studio.dir().join("real"), studio.dir().join("link"));
    fs::create_dir(&real).expect("a directory");
    std::os::unix::fs::symlink(&real, &link).expect("a link");
    let config = alice.config().display().to_string();
    let refused = |root: &Path, why: &str| {
        alice.configure(&Options::default().set("mount_root", &root.display().to_string()));
        let output = run(&["daemon", "--config", &config]);
        assert_eq!(output.code, 1, "{output}");
        assert!(output.stderr.contains(why), "{output}");
    };
    refused(&link, "symbolic link");
    refused(&link.join("below"), "symbolic link");
    assert!(!real.join("below").exists(), "nothing is made through a link");
    fs::set_permissions(&real, fs::Permissions::from_mode(0o777)).expect("open to all");
    refused(&real, "may write in it");
    let dir = studio.dir().to_owned();
    assert!(volctl_tests::studio::mounts_below(&dir).is_empty());
    alice.configure(&Options::default());
    studio.end();
}

#[test]
fn loop_a_mount_of_somebody_else_below_the_mount_root_stays() {
    let (studio, alice) = one(&Options::default());
    let foreign = alice.mount_root().join("theirs");
    fs::create_dir_all(&foreign).expect("a directory");
    alice.start();
    alice.logged_on();
    alice.until_state("footage", VolumeState::Ro, SOON);
    let mount =
        |words: &[&str]| Command::new(words[0]).args(&words[1..]).arg(&foreign).status().is_ok_and(|s| s.success());
    assert!(mount(&["mount", "-t", "tmpfs", "none"]));
    fs::write(foreign.join("file"), "theirs").expect("a file");
    alice.kill();
    studio.wait_until("the guardian is gone", SOON, || {
        volctl_tests::studio::guardian_pid(&studio.uuid, alice.slot()).is_none()
    });
    alice.start();
    alice.logged_on();
    alice.until_state("footage", VolumeState::Ro, SOON);
    assert_eq!(fs::read_to_string(foreign.join("file")).expect("it is still there"), "theirs");
    assert!(mount(&["umount"]));
    studio.end();
}
