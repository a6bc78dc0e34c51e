//! The path of one host to a volume breaks under its writer, and its file system gives up.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use volctl::wire::status::VolumeState;
use volctl_tests::paths::{Mode, Paths};
use volctl_tests::studio::{Client, FAST, Fs, Options, Studio, write_synced};

const SOON: Duration = Duration::from_secs(8);
const IMAGE: &str = "footage.img";
const BROKEN: Mode = Mode { fail_writes: true, ..Mode::PASS };

/// Alice and bob with paths of their own; alice may write, and has a stable file there.
fn hosts(fs: Fs, readers: &str) -> (Paths, Studio, [Client; 2]) {
    let mut studio = Studio::new(FAST);
    studio.volume("footage", fs, &["--readers", readers]);
    let clients = ["alice", "bob"].map(|name| studio.client(name));
    for client in &clients {
        studio.allow(client, "footage", "write");
    }
    let program = Path::new(env!("CARGO_BIN_EXE_campaign"));
    let options = Options::default().set("grace", "1s");
    let paths = Paths::between(program, &mut studio, &clients, "footage", &options);
    for client in &clients {
        client.start();
    }
    for client in &clients {
        client.logged_on();
    }
    clients[0].write_access("footage");
    write_synced(&clients[0].path("footage", "kept"), "stable");
    (paths, studio, clients)
}

/// Writes until the file system says no.
fn write_until_refused(client: &Client) {
    let path = client.path("footage", "more");
    for turn in 0..200 {
        let written = File::create(&path).and_then(|mut file| {
            file.write_all(&vec![1; 100_000])?;
            file.sync_all()
        });
        if let Err(error) = written {
            println!("refused after {turn} turns: {error}");
            return;
        }
    }
    panic!("writes that do not arrive were never refused");
}

/// Once, a btrfs that had made itself read-only after an error could never be released: the release wanted a last snapshot,
/// which such a file system takes never again, and said "in use" for ever. Nobody else got the volume before an
/// administrator took it.
#[test]
fn loop_a_file_system_that_gave_up_is_released_when_it_is_asked_for() {
    let (paths, studio, clients) = hosts(Fs::Btrfs, "snapshot");
    let [alice, bob] = &clients;
    paths.set("alice", IMAGE, BROKEN);
    write_until_refused(alice);
    // Its next commit makes it read-only.
    studio.wait_until("the file system gives up", Duration::from_secs(40), || {
        File::create(alice.path("footage", "x")).is_err_and(|e| e.raw_os_error() == Some(libc::EROFS))
    });
    paths.set("alice", IMAGE, Mode::PASS);
    let _ = alice.cli(&["release", "footage"]).ok();
    bob.write_access("footage");
    assert_eq!(fs::read_to_string(bob.path("footage", "kept")).expect("it was stable"), "stable");
    paths.end(studio, &clients);
}

/// Once, a writer whose disk took no writes any more was released as clean: its unmount says nothing of what it could not
/// write. Readers of an exclusive volume then mounted, past the journal, a state that nobody had published.
fn not_released_as_clean(fs: Fs) {
    let (paths, studio, clients) = hosts(fs, "exclusive");
    let [alice, bob] = &clients;
    paths.set("alice", IMAGE, BROKEN);
    // Only in the page cache: nothing of it has failed yet.
    fs::write(alice.path("footage", "late"), vec![2; 50_000]).expect("into the cache");
    let _ = alice.cli(&["release", "footage"]);
    paths.set("alice", IMAGE, Mode::PASS);
    // Whoever comes first, alice or bob, mounts it, replays its journal and publishes; only then others read.
    let read = bob.until_state("footage", VolumeState::Ro, FAST.dead() * 2 + SOON);
    assert_eq!(fs::read_to_string(bob.path("footage", "kept")).expect("it was stable"), "stable");
    assert!(!read.dirty, "{read:?}");
    let grants = alice.events("grant.taken").len() + bob.events("grant.taken").len();
    assert!(grants > 1, "it was taken for clean: nobody replayed its journal");
    assert!(alice.last_words().contains("its last writes did not reach the disk"), "nobody was told");
    paths.end(studio, &clients);
}

#[test]
fn loop_what_did_not_reach_the_disk_is_not_released_as_clean_on_ext4() {
    not_released_as_clean(Fs::Ext4);
}

#[test]
fn loop_what_did_not_reach_the_disk_is_not_released_as_clean_on_xfs() {
    not_released_as_clean(Fs::Xfs);
}
