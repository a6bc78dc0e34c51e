//! The window, from outside: real daemons on loop devices, real windows, a real mouse; the kernel's mount table has the word.

mod pictures;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use volctl::wire::status::VolumeState;
use volctl_tests::desk::{Desk, Look};
use volctl_tests::studio::{Client, FAST, Fs, Studio, wait_until, write_synced};

const SOON: Duration = Duration::from_secs(10);

/// How the kernel has a directory mounted: `rw`, `ro`, or nothing.
fn mounted(place: &Path) -> Option<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("the mount table");
    let mut lines = table.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        (fields.nth(4)? == place.to_str()?).then(|| fields.next().map(|options| options.chars().take(2).collect()))?
    });
    lines.next_back()
}

fn desk(studio: &Studio, client: &Client, look: Look) -> Desk {
    Desk::open(&studio.dir().join(format!("desk-{}", client.name())), &client.socket(), look)
}

/// The story of the whole project, with two people at two desks.
#[test]
fn loop_one_asks_the_other_says_yes_and_the_kernel_shows_the_hand_over() {
    let (studio, alice, bob) = Studio::pair(Fs::Ext4, &[]);
    for client in [&alice, &bob] {
        client.until_state("footage", VolumeState::Ro, SOON);
    }
    let (hers, his) = (desk(&studio, &alice, Look::USUAL), desk(&studio, &bob, Look { theme: "light", ..Look::USUAL }));
    let place = |client: &Client| client.mount_root().join("footage");

    // Nobody writes: alice has it in a moment.
    hers.click("Request write access to footage");
    hers.click("Ask for footage");
    wait_until("alice writes", SOON, &mut || mounted(&place(&alice)).as_deref() == Some("rw"));
    hers.see("footage is Read-write");
    write_synced(&alice.path("footage", "cut"), "by alice");

    // Bob asks, by keyboard.
    his.see("alice writes");
    his.keys("ctrl+k");
    his.see("Command");
    his.type_into("Command", "request");
    his.keys("Return");
    his.type_into("Message to the writer", "need to fix the titles");
    his.keys("ctrl+Return");
    his.see("The request for footage is at step");
    hers.see("bob asks for footage");
    hers.see("None of your programs has files open there");
    wait_until("the title counts", SOON, &mut || hers.title() == "(1) volctl – alice");
    wait_until("the taskbar's entry blinks", SOON, &mut || hers.urgent());
    hers.picture("prompt-dark");
    his.picture("asked-light");

    // Alice says yes with the mouse. From the click on, two seconds.
    let begun = hers.click("Yes: answer bob");
    wait_until("the kernel shows the hand-over", studio.patience(Duration::from_secs(2)), &mut || {
        mounted(&place(&bob)).as_deref() == Some("rw") && mounted(&place(&alice)).as_deref() != Some("rw")
    });
    println!("from the click on Yes to the mount: {:?}", begun.elapsed());
    his.see("You have write access");
    hers.see("bob writes");
    wait_until("the title counts no more", SOON, &mut || hers.title() == "volctl – alice");
    wait_until("nothing blinks any more", SOON, &mut || !hers.urgent());
    his.click("Open the folder of footage");
    wait_until("the file manager", SOON, &mut || his.opened() == place(&bob).display().to_string());
    assert_eq!(fs::read_to_string(bob.path("footage", "cut")).expect("handed over"), "by alice");
    hers.picture("handed-over-dark");
    his.picture("handed-over-light");

    // And back, with a no first.
    hers.click("Request write access to footage");
    hers.click("Ask for footage");
    his.see("alice asks for footage");
    his.type_into("What to say with the answer", "rendering until five");
    his.click("No: answer alice");
    hers.see("Bob says no for footage: rendering until five");
    assert_eq!(mounted(&place(&bob)).as_deref(), Some("rw"), "he keeps it");
    his.click("Release footage");
    wait_until("bob reads", SOON, &mut || mounted(&place(&bob)).as_deref() == Some("ro"));
    drop((hers, his));
    studio.end();
}

/// Who has put the window away learns of it all the same: the toolkit draws nothing then, but what it draws is not all.
#[test]
fn loop_a_request_is_not_missed_while_the_window_is_hidden() {
    let (studio, alice, bob) = Studio::pair(Fs::Ext4, &[]);
    alice.write_access("footage");
    let desk = desk(&studio, &alice, Look::USUAL);
    desk.see("footage is Read-write");
    assert!(!desk.urgent(), "nobody asks yet");
    desk.hide();
    let _ = bob.begin(&["request", "footage", "-m", "titles"]).wait().ok();
    wait_until("the taskbar's entry blinks", SOON, &mut || desk.urgent());
    wait_until("the title counts", SOON, &mut || desk.title() == "(1) volctl – alice");
    drop(desk);
    studio.end();
}

/// The daemon is stopped, starts anew, hangs, comes back: the window says so and goes on.
#[test]
fn loop_the_window_outlives_the_daemon() {
    let (studio, alice, bob) = Studio::pair(Fs::Ext4, &[]);
    alice.until_state("footage", VolumeState::Ro, SOON);
    let mut desk = desk(&studio, &alice, Look { dead_bus: true, ..Look::USUAL });
    desk.see("footage is Read-only");
    alice.stop();
    desk.see("No volctl daemon answers here");
    desk.see("Request write access to footage (not now: The daemon does not answer.)");
    alice.start();
    desk.see("connected");
    desk.see("Request write access to footage");
    alice.signal(Signal::SIGSTOP);
    desk.see("The daemon has said nothing for");
    alice.signal(Signal::SIGCONT);
    alice.logged_on();
    desk.see_within("connected", Duration::from_secs(30));
    assert!(desk.is_open());

    // Nobody answers at the session bus: the prompt is there all the same, and one sentence about it.
    alice.write_access("footage");
    let _ = bob.begin(&["request", "footage", "-m", "titles"]).wait().ok();
    desk.see("bob asks for footage");
    desk.see("desktop notifications do not work here");
    desk.keys("alt+n");
    wait_until("the no is given", SOON, &mut || !desk.names().iter().any(|name| name == "bob asks for footage"));
    desk.see("footage is Read-write");

    // The display goes away: a sentence and an end, no panic.
    desk.lose_display();
    let code = desk.exit_code();
    let log = desk.log();
    println!("without a display, {code:?}: {log}");
    assert!(code == Some(1) && !log.contains("panicked"), "{code:?}: {log}");
    assert!(log.contains("lost its display") || log.contains("X connection"), "{log}");
    drop(bob);
    studio.end();
}

/// Idle it costs next to nothing, with all pixels drawn by the processor.
#[test]
fn loop_an_idle_window_takes_less_than_a_hundredth_of_a_core() {
    let (studio, alice, _bob) = Studio::pair(Fs::Ext4, &[]);
    alice.until_state("footage", VolumeState::Ro, SOON);
    let desk = desk(&studio, &alice, Look { size: (1600, 1000), ..Look::USUAL });
    desk.see("footage is Read-only");
    // What begins with the first picture is over: fonts, shaders, the first statuses.
    let settled = desk.idle_share(Duration::from_secs(3));
    let share = desk.idle_share(Duration::from_secs(20));
    println!("the first seconds: {:.2} % of a core; then {:.2} %", settled * 100.0, share * 100.0);
    assert!(share < 0.01, "{:.2} % of a core", share * 100.0);
    drop(desk);
    studio.end();
}

/// From nothing to the first read-write mount, with the window alone.
#[test]
fn loop_a_newcomer_gets_from_an_empty_image_to_the_first_write_with_the_window_alone() {
    // The studio's own tables are not used: it is here for its directory, and takes away whatever is left in it.
    let studio = Studio::new(FAST);
    let dir = studio.dir().join("new");
    fs::create_dir_all(&dir).expect("a directory");
    let file = |name: &str| dir.join(name).display().to_string();
    fs::File::create(file("control.img")).and_then(|f| f.set_len(16 << 20)).expect("an empty image");
    let socket = dir.join("s");
    let _ender = Ender(dir.clone());
    let desk = Desk::open(&dir.join("desk"), &socket, Look::USUAL);

    desk.see("No volctl daemon answers here");
    desk.click("Set up this computer");
    desk.type_into("Device or image for the tables", &file("control.img"));
    desk.type_into("Label of the tables", "studio");
    desk.click("Look at what is on it");
    desk.type_into("Confirm by typing the name", "control.img");
    desk.picture("newcomer-1-tables");
    desk.click("Make the tables");
    desk.see("The tables are made on");
    desk.see("The tables have 0 clients and 0 volumes");

    desk.click("Page Clients");
    desk.type_into("Name of the new client", "alice");
    desk.click("Add the client");
    desk.see("Client alice is added");
    desk.see("alice may take over");

    desk.click("Page Volumes of the tables");
    desk.type_into("Device or image of the volume", &file("footage.img"));
    desk.type_into("Name of the new volume", "footage");
    desk.click("make ext4");
    desk.type_into("Size of a new volume image", "48M");
    desk.click("Look at what is on the volume");
    desk.type_into("Confirm the volume by typing the name", "footage.img");
    desk.click("Add the volume");
    desk.see("Volume footage is added: ext4, readers live");
    desk.picture("newcomer-2-volume");

    desk.click("Page Privileges");
    desk.click("alice on footage: write");
    desk.see("alice may write on footage");
    desk.picture("newcomer-3-privileges");

    desk.click("Page Tables");
    desk.click("This computer is alice");
    desk.click("Paths");
    desk.type_into("Configuration file", &file("volctl.toml"));
    desk.type_into("Mount root", &file("mnt"));
    desk.type_into("State directory", &file("state"));
    desk.click("Start the daemon");
    desk.see_within("connected", Duration::from_secs(30));

    desk.click("View Volumes");
    desk.see_within("footage is Read-only", Duration::from_secs(30));
    desk.click("Request write access to footage");
    desk.click("Ask for footage");
    let place = dir.join("mnt/footage");
    wait_until("the first read-write mount", Duration::from_secs(20), &mut || mounted(&place).as_deref() == Some("rw"));
    desk.see("You have write access");
    desk.picture("newcomer-4-writing");
    write_synced(&place.join("first"), "by the window alone");

    // The daemon is nobody's child: it is ended as an administrator would, and with it its guardian.
    let status = volctl::wire::client::Client::connect(&socket).and_then(|mut c| c.status()).expect("a status");
    drop(desk);
    let pid = daemon_of(&dir).expect("the daemon runs");
    kill(pid, Signal::SIGTERM).expect("it is there");
    wait_until("the daemon ends", Duration::from_secs(30), &mut || daemon_of(&dir).is_none());
    assert!(volctl_tests::studio::mounts_below(&dir).is_empty());
    for lock in fs::read_dir("/run/volctl").expect("lock files").flatten() {
        if lock.file_name().to_string_lossy().starts_with(&status.control.uuid) {
            let _ = fs::remove_file(lock.path());
        }
    }
    studio.end();
}

/// The daemon that was started with the configuration in `dir`.
fn daemon_of(dir: &Path) -> Option<Pid> {
    let config = dir.join("volctl.toml").display().to_string();
    fs::read_dir("/proc").expect("processes").flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read_to_string(entry.path().join("cmdline")).ok()?;
        let mut words = line.split('\0').skip(1);
        (words.next() == Some("daemon") && words.any(|word| word == config)).then(|| Pid::from_raw(pid))
    })
}

/// Ends that daemon also when the test fails; what it leaves the studio takes away.
struct Ender(PathBuf);

impl Drop for Ender {
    fn drop(&mut self) {
        if let Some(pid) = daemon_of(&self.0) {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}
