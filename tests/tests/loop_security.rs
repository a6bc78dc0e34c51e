//! Other users of the same machine: what they may ask of the daemon, and what they cannot do to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io::{IoSlice, Read as _, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use volctl::wire::varlink::DESCRIPTION;
use volctl_tests::program;
use volctl_tests::studio::{Client, FAST, Fs, Studio, run};

const SOON: Duration = Duration::from_secs(10);
/// A group that no machine has.
const GROUP: &str = "64321";
/// Tells a copy of this program what to do as another user.
const PART: &str = "VOLCTL_TEST_PART";

/// Every method of the socket: the verb that calls it, and whether everybody may. A method that is not here fails the test.
const METHODS: &[(&str, &[&str], bool)] = &[
    ("Status", &["status"], true),
    ("Monitor", &["status", "--watch"], true),
    ("Requests", &["requests"], true),
    ("Log", &["log"], true),
    ("Request", &["request", "nothing"], false),
    ("Withdraw", &["withdraw", "nothing"], false),
    ("Answer", &["answer", "nothing", "bob", "yes"], false),
    ("Release", &["release", "nothing"], false),
    ("Refresh", &["refresh", "nothing"], false),
    ("Mount", &["mount", "nothing"], false),
    ("Unmount", &["unmount", "nothing"], false),
    ("Takeover", &["takeover", "nothing"], false),
];

/// Who calls, by which groups, and whether he may act.
const CALLERS: &[(&str, &[&str], bool)] = &[
    ("root", &[], true),
    ("group by its effective number", &["--reuid=65534", "--regid", GROUP, "--clear-groups"], true),
    ("group beside others", &["--reuid=65534", "--regid=65534", "--groups", "65533,64321"], true),
    ("another user", &["--reuid=65534", "--regid=65534", "--clear-groups"], false),
    ("another user in other groups", &["--reuid=65534", "--regid=65534", "--groups", "65533,1"], false),
    ("somebody without a name", &["--reuid=4000000", "--regid=4000000", "--clear-groups"], false),
];

/// A process that is killed with this value.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lets others reach a client's socket, and gives them a copy of a program.
fn open_to_others(studio: &Studio, client: &Client, original: &Path, name: &str) -> PathBuf {
    for path in [studio.dir(), client.socket().parent().expect("a directory")] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("others may enter");
    }
    let copy = studio.dir().join(name);
    fs::copy(original, &copy).expect("a copy that others may run");
    copy
}

fn as_caller(caller: &[&str], program: &Path) -> Command {
    if caller.is_empty() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(caller).arg(program);
    command
}

/// The daemon in a mount namespace of its own, where the group database has the group.
fn start_with_group(studio: &Studio, alice: &Client) -> Killed {
    let groups = studio.dir().join("group");
    let own = fs::read_to_string("/etc/group").unwrap_or_default();
    let others: String = own.lines().filter(|l| !l.starts_with("volctl:")).map(|l| format!("{l}\n")).collect();
    fs::write(&groups, format!("{others}volctl:x:{GROUP}:\n")).expect("a group database");
    fs::set_permissions(&groups, Permissions::from_mode(0o644)).expect("all may read it");
    let script = "mount --bind \"$1\" /etc/group && exec \"$2\" daemon --config \"$3\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
    command.arg(&groups).arg(program::path()).arg(alice.config()).stdin(Stdio::null()).stdout(Stdio::null());
    let log = fs::File::create(studio.dir().join("alice/log")).expect("a log");
    Killed(command.stderr(log).spawn().expect("unshare starts"))
}

#[test]
fn loop_every_call_is_done_for_exactly_those_who_may() {
    let described: BTreeSet<&str> =
        DESCRIPTION.lines().filter_map(|l| l.strip_prefix("method ")?.split('(').next()).collect();
    let listed: BTreeSet<&str> = METHODS.iter().map(|m| m.0).collect();
    assert_eq!(described, listed, "a method without a word on who may call it");
    let studio = Studio::new(FAST);
    let alice = studio.client("alice");
    let program = open_to_others(&studio, &alice, program::path(), "volctl");
    let daemon = start_with_group(&studio, &alice);
    alice.logged_on();
    let mut wrong = BTreeMap::new();
    for (who, caller, may_act) in CALLERS {
        for (method, verb, all) in METHODS {
            let mut command = as_caller(caller, &program);
            command.arg("--socket").arg(alice.socket()).arg("--json").args(*verb).stdin(Stdio::null());
            let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
            let mut child = Killed(child);
            let mut said = vec![0; 256];
            // The first words are enough: a monitor never ends.
            let got = child.0.stdout.as_mut().map_or(0, |out| out.read(&mut said).unwrap_or(0));
            let mut complaint = String::new();
            if got == 0 {
                let _ = child.0.stderr.as_mut().map(|err| err.read_to_string(&mut complaint));
            }
            let refused = complaint.contains("is not done for user");
            let looked = got > 0;
            // Whoever may act hears of the volume that is not there.
            let right = if *all { looked } else { !looked && refused != *may_act && complaint.contains("\"exit\":3") };
            if !right {
                wrong.insert((*who, *method), (looked, complaint));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    drop(daemon);
    drop(studio);
}

/// Whoever can open a file can lock it: any user could hold the locks of the mount root, of the socket and of the
/// guardian, and no daemon started any more.
#[test]
fn loop_another_user_cannot_hold_the_locks_that_a_daemon_needs() {
    let studio = Studio::new(FAST);
    let alice = studio.client("alice");
    studio.volume("footage", Fs::Ext4, &["--readers", "live"]);
    studio.allow(&alice, "footage", "write");
    alice.start();
    alice.logged_on();
    open_to_others(&studio, &alice, program::path(), "volctl");
    let run_dir = |name: &str| PathBuf::from(format!("/run/volctl/{}.{}{name}", studio.uuid, alice.slot()));
    let places = [
        alice.mount_root(),
        alice.mount_root().join(".volctl-hidden"),
        alice.socket().with_file_name("s.lock"),
        run_dir(".lock"),
        run_dir(".guardian.lock"),
        studio.control.clone(),
    ];
    // The daemon has them now; whoever waits for one gets it at its end, if he can open it at all.
    let holders: Vec<Killed> = places
        .iter()
        .map(|place| {
            assert!(place.exists(), "{}", place.display());
            let mut command = as_caller(CALLERS[3].1, Path::new("flock"));
            let child = command.arg("-x").arg(place).args(["sleep", "600"]).stdin(Stdio::null()).stderr(Stdio::null());
            Killed(child.spawn().expect("flock starts"))
        })
        .collect();
    alice.stop();
    alice.start();
    alice.logged_on();
    alice.write_access("footage");
    drop(holders);
    studio.end();
}

#[test]
fn loop_a_set_uid_volctl_does_nothing() {
    let studio = Studio::new(FAST);
    let alice = studio.client("alice");
    let program = open_to_others(&studio, &alice, program::path(), "volctl");
    fs::set_permissions(&program, Permissions::from_mode(0o4755)).expect("set-uid");
    let control = studio.control.display().to_string();
    for verb in [&["client", "list", "--control", &control][..], &["--version"], &["daemon", "--config", "/x"]] {
        let output = as_caller(CALLERS[3].1, &program).args(verb).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{verb:?}: {said}");
        assert!(said.contains("set-uid") && output.stdout.is_empty(), "{verb:?}: {said}");
    }
    studio.end();
}

#[test]
fn loop_a_socket_directory_or_a_way_to_the_mount_root_that_others_can_change_is_refused() {
    let studio = Studio::new(FAST);
    let alice = studio.client("alice");
    let (theirs, config) = (studio.dir().join("theirs"), alice.config().display().to_string());
    fs::create_dir(&theirs).expect("a directory");
    fs::set_permissions(&theirs, Permissions::from_mode(0o777)).expect("open to all");
    let refused = |key: &str, path: &str, word: &str| {
        let options = volctl_tests::studio::Options::default();
        alice.configure(&options.set(key, &theirs.join(path).display().to_string()));
        let output = run(&["daemon", "--config", &config]);
        assert!(output.code == 1 && output.stderr.contains(word), "{output}");
    };
    refused("socket", "s", "others than its owner may write");
    refused("mount_root", "deep/mnt", "a directory on the way");
    assert!(!theirs.join("deep").exists() && !theirs.join("s.lock").exists(), "nothing is made there");
    alice.configure(&volctl_tests::studio::Options::default());
    studio.end();
}

/// What another user can do to the socket, in a process of its own; the test below starts it.
#[test]
#[ignore = "a part of the test below"]
fn part_flood_the_socket() {
    let Some(socket) = std::env::var_os(PART) else { return };
    let call = |method: &str, more: bool| format!("{{\"method\":\"io.volctl.{method}\",\"more\":{more}}}\0");
    let junk = fs::File::open("/dev/null").expect("a descriptor");
    let mut held = Vec::new();
    for n in 0_usize.. {
        let Ok(mut stream) = UnixStream::connect(&socket) else { continue };
        let _ = stream.set_nonblocking(true);
        let _ = match n % 5 {
            // Watchers that never read, half a call, descriptors that nobody wants, calls without end, nothing at all.
            0 => stream.write_all(call("Monitor", true).as_bytes()),
            1 => stream.write_all(b"{\"method\":\"io.vol"),
            2 => {
                let fds = [junk.as_raw_fd(); 32];
                let call = call("Status", false);
                let rights = [ControlMessage::ScmRights(&fds)];
                let vectors = [IoSlice::new(call.as_bytes())];
                sendmsg::<()>(stream.as_raw_fd(), &vectors, &rights, MsgFlags::empty(), None)
                    .map(drop)
                    .map_err(Into::into)
            }
            3 => stream.write_all(call("Status", false).repeat(200).as_bytes()),
            _ => Ok(()),
        };
        held.push(stream);
        if held.len() > 300 {
            held.drain(..100);
        }
    }
}

fn count(client: &Client, what: &str) -> usize {
    fs::read_dir(format!("/proc/{}/{what}", client.pid())).expect("a process").count()
}

fn resident_kib(client: &Client) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", client.pid())).expect("a process");
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn loop_a_user_who_floods_the_socket_is_alone_in_that() {
    let studio = Studio::new(FAST);
    let alice = studio.client("alice");
    studio.volume("footage", Fs::Ext4, &["--readers", "live"]);
    studio.allow(&alice, "footage", "write");
    alice.start();
    let incarnation = alice.logged_on().incarnation;
    let itself = std::env::current_exe().expect("this program");
    let part = open_to_others(&studio, &alice, &itself, "part");
    let (descriptors, memory) = (count(&alice, "fd"), resident_kib(&alice));
    let name = "loop_security::part_flood_the_socket";
    let flood: Vec<Killed> = (0..2)
        .map(|_| {
            let mut command = as_caller(CALLERS[3].1, &part);
            command.args([name, "--exact", "--ignored"]).env(PART, alice.socket()).stdin(Stdio::null());
            Killed(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the part starts"))
        })
        .collect();
    studio.wait_until("the flood is there", SOON, || count(&alice, "fd") > descriptors + 12);
    let mut most = 0;
    for _ in 0..20 {
        // Root always gets in, and is answered.
        assert_eq!(alice.status().incarnation, incarnation);
        most = most.max(count(&alice, "fd"));
    }
    alice.write_access("footage");
    let _ = alice.cli(&["release", "footage"]).ok();
    // At most sixteen connections, each with its socket, a clone of it, and the bell of a call; those that are being turned
    // away, and the daemon's own work. Without a bound for each user it would be all sixty-four.
    assert!(most < descriptors + 16 * 3 + 60, "{most} descriptors, {descriptors} before");
    assert!(count(&alice, "task") < 60, "{} threads", count(&alice, "task"));
    drop(flood);
    studio.wait_until("all of it is gone", SOON, || count(&alice, "fd") <= descriptors + 6);
    let grown = resident_kib(&alice).saturating_sub(memory);
    assert!(grown < 48 * 1024, "{grown} KiB more");
    assert_eq!(alice.status().incarnation, incarnation, "no lease was lost");
    studio.end();
}
