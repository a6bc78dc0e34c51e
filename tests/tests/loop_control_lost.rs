//! The control volume goes away under living daemons, and comes back.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use lockdriver::device::AlignedBuf;
use nix::sys::signal::{Signal, kill};
use ondisk::{SlotIndex, SlotSector};
use volctl::wire::status::VolumeState;
use volctl_tests::studio::{Client, FAST, Fs, LoopDevice, Options, Studio, Surgery, Timings, run, write_synced};

const SOON: Duration = Duration::from_secs(8);
/// A lease long enough that what happens before its end can be told from its end.
const LONG: Timings = Timings { beat: 1_000, lease: 8_000, dead: 12_000 };

/// A studio whose control volume is a loop device that can be cut off.
fn cuttable(timings: Timings) -> (Studio, LoopDevice) {
    let mut studio = Studio::new(timings);
    let image = studio.dir().join("cut.img");
    File::create(&image).and_then(|f| f.set_len(16 << 20)).expect("an image");
    let cable = LoopDevice::attach(&image, 512);
    let path = cable.path().display().to_string();
    let periods = [timings.beat, timings.lease, timings.dead].map(|ms| format!("{ms}ms"));
    let made = run(&["init", &path, "--beat", &periods[0], "--lease", &periods[1], "--dead", &periods[2]]).ok();
    studio.uuid = made.json()["uuid"].as_str().expect("a UUID").to_owned();
    studio.control = cable.path().to_owned();
    (studio, cable)
}

fn writing(studio: &Studio) -> (Client, Client) {
    let (alice, bob) = (studio.client("alice"), studio.client("bob"));
    studio.volume("footage", Fs::Ext4, &["--readers", "live"]);
    for client in [&alice, &bob] {
        studio.allow(client, "footage", "write");
        client.start();
    }
    for client in [&alice, &bob] {
        client.logged_on();
    }
    alice.write_access("footage");
    write_synced(&alice.path("footage", "file"), "before");
    (alice, bob)
}

fn gate_closes(studio: &Studio, limit: Duration) -> Duration {
    let image = studio.dir().join("footage.img");
    studio.wait_until("the writer's gate is closed", limit, || {
        studio.witness.look_again().moments.iter().rfind(|m| m.image == image).is_some_and(|m| m.gates.is_empty())
    })
}

/// Ends both, and the studio with the image in place of the cable.
fn end(mut studio: Studio, cable: LoopDevice, clients: &[&Client]) {
    for client in clients {
        client.stop();
    }
    drop(cable);
    studio.control = studio.dir().join("cut.img");
    studio.end();
}

#[test]
fn loop_a_cable_out_ends_the_writer_within_its_lease_and_all_log_on_again_when_it_is_in() {
    let (studio, cable) = cuttable(FAST);
    let (alice, bob) = writing(&studio);
    cable.cut();
    let took = gate_closes(&studio, FAST.lease() + Duration::from_secs(1));
    println!("the gate was closed {took:?} after the cut; the lease is {:?}", FAST.lease());
    let refused = File::create(alice.path("footage", "more")).expect_err("nothing is written any more");
    println!("a program gets: {refused}");
    for client in [&alice, &bob] {
        let status = client.until("it says that it is not logged on", SOON, |s| s.incarnation == 0);
        assert!(!status.warnings.is_empty(), "no reason is given");
        let asked = client.cli(&["request", "footage"]);
        assert_eq!(asked.code, 5, "{asked}");
    }
    cable.mend();
    for client in [&alice, &bob] {
        assert!(client.logged_on().incarnation > 1);
    }
    bob.write_access("footage");
    assert_eq!(fs::read_to_string(bob.path("footage", "file")).expect("it was synced"), "before");
    end(studio, cable, &[&alice, &bob]);
}

#[test]
fn loop_a_hiccup_shorter_than_the_lease_ends_nothing() {
    let (studio, cable) = cuttable(FAST);
    let (alice, bob) = writing(&studio);
    let before = [&alice, &bob].map(|c| c.status().incarnation);
    for _ in 0..3 {
        cable.cut();
        std::thread::sleep(FAST.lease() / 4);
        cable.mend();
        std::thread::sleep(FAST.lease());
    }
    assert_eq!([&alice, &bob].map(|c| c.status().incarnation), before);
    write_synced(&alice.path("footage", "file"), "after");
    bob.until("no trouble any more", SOON, |s| s.warnings.is_empty());
    end(studio, cable, &[&alice, &bob]);
}

#[test]
fn loop_told_to_end_without_its_control_volume_a_daemon_ends() {
    let (studio, cable) = cuttable(FAST);
    let (alice, bob) = writing(&studio);
    cable.cut();
    alice.terminate();
    let begun = Instant::now();
    let code = alice.exit_code(FAST.lease() * 3);
    println!("alice ended {:?} after the word, with {code:?}", begun.elapsed());
    assert_eq!(code, Some(1), "it could not log off, and says so");
    // Without a login it ends as well.
    bob.until("it is not logged on", SOON, |s| s.incarnation == 0);
    bob.terminate();
    let _ = bob.exit_code(SOON);
    cable.mend();
    for client in [&alice, &bob] {
        client.start();
        client.logged_on();
    }
    end(studio, cable, &[&alice, &bob]);
}

#[test]
fn loop_guardian_and_control_volume_lost_at_once_the_gate_closes_at_once() {
    let (studio, cable) = cuttable(LONG);
    let (alice, bob) = writing(&studio);
    cable.cut();
    kill(alice.guardian(), Signal::SIGKILL).expect("a guardian");
    let took = gate_closes(&studio, LONG.lease() / 3);
    println!("the gate was closed {took:?} after the guardian's death; the lease is {:?}", LONG.lease());
    cable.mend();
    alice.until("it is logged on again", LONG.dead() * 2, |s| s.incarnation > 1);
    end(studio, cable, &[&alice, &bob]);
}

#[test]
fn loop_a_guardian_that_stands_still_costs_the_login_long_before_the_lease_is_over() {
    let (studio, cable) = cuttable(LONG);
    let (alice, bob) = writing(&studio);
    cable.cut();
    kill(alice.guardian(), Signal::SIGSTOP).expect("a guardian");
    let took = gate_closes(&studio, LONG.lease() / 2);
    println!("the gate was closed {took:?} after the guardian stood still; the lease is {:?}", LONG.lease());
    cable.mend();
    alice.until("it is logged on again", LONG.dead() * 2, |s| s.incarnation > 1);
    end(studio, cable, &[&alice, &bob]);
}

#[test]
fn loop_when_one_path_is_gone_the_daemon_comes_back_on_the_other() {
    let studio = Studio::new(FAST);
    let cable = LoopDevice::attach(&studio.control, 512);
    let paths = [cable.path(), studio.control.as_path()];
    let alice = studio.client("alice");
    let text = fs::read_to_string(alice.config()).expect("a configuration");
    let list: Vec<String> = paths.iter().map(|p| format!("'{}'", p.display())).collect();
    let line = format!("control = '{}'", studio.control.display());
    fs::write(alice.config(), text.replace(&line, &format!("control = [{}]", list.join(", ")))).expect("written");
    alice.start();
    let first = alice.logged_on();
    assert_eq!(Path::new(&first.control.path), paths[0]);
    cable.cut();
    let second = alice.until("it is on the other path", SOON * 2, |s| s.incarnation > first.incarnation);
    assert_eq!(Path::new(&second.control.path), paths[1]);
    alice.stop();
    alice.configure(&Options::default());
    drop(cable);
    studio.end();
}

#[test]
fn loop_a_control_image_cut_short_is_damage_that_is_told_and_goes_with_its_copy() {
    let studio = Studio::new(FAST);
    let alice = studio.client("alice");
    studio.volume("footage", Fs::Ext4, &["--readers", "live"]);
    studio.allow(&alice, "footage", "write");
    alice.start();
    alice.logged_on();
    alice.write_access("footage");
    let kept = fs::read(&studio.control).expect("a copy");
    File::options().write(true).open(&studio.control).and_then(|f| f.set_len(8192)).expect("cut short");
    let code = alice.exit_code(FAST.lease() * 4);
    assert_eq!(code, Some(6), "it is damage, and trying again does not help");
    assert!(alice.last_words().contains("cut short"), "{}", alice.last_words());
    gate_closes(&studio, Duration::from_secs(1));
    fs::write(&studio.control, kept).expect("restored");
    alice.start();
    alice.logged_on();
    alice.until_state("footage", VolumeState::Ro, SOON);
    studio.end();
}

#[test]
fn loop_a_cable_out_in_the_middle_of_publishes_leaves_nobody_frozen() {
    let (studio, cable) = cuttable(FAST);
    let alice = studio.client_with("alice", &Options::default().set("publish", "50ms"));
    studio.volume("footage", Fs::Ext4, &["--readers", "live"]);
    studio.allow(&alice, "footage", "write");
    alice.start();
    for turn in 0..5 {
        alice.logged_on();
        alice.write_access("footage");
        let directory = alice.path("footage", "");
        // A program that always has something under way: frozen, it would not come back.
        let program = std::thread::spawn(move || {
            let begun = Instant::now();
            let mut longest = Duration::ZERO;
            for count in 0_u64.. {
                let before = Instant::now();
                let written = fs::write(directory.join(format!("f{}", count % 20)), vec![1; 64 << 10]);
                longest = longest.max(before.elapsed());
                if written.is_err() || begun.elapsed() > Duration::from_secs(15) {
                    break;
                }
            }
            longest
        });
        std::thread::sleep(Duration::from_millis(300 + turn * 13));
        cable.cut();
        gate_closes(&studio, FAST.lease() + Duration::from_secs(1));
        studio.wait_until("the program gets its error", Duration::from_secs(3), || program.is_finished());
        println!("turn {turn}: the longest write took {:?}", program.join().expect("the program"));
        cable.mend();
        alice.logged_on();
    }
    // Replays what the last one left.
    alice.write_access("footage");
    end(studio, cable, &[&alice]);
}

#[test]
fn loop_beats_that_its_own_clock_cannot_explain_end_a_login() {
    let (studio, alice, bob) = Studio::pair(Fs::Ext4, &["--readers", "live"]);
    alice.write_access("footage");
    bob.stop();
    let before = alice.status().incarnation;
    let surgery = Surgery::open(&studio.control);
    let slot = SlotIndex(bob.slot());
    let places = [0, 1].map(|sector| surgery.geometry.slot_sector(slot, sector));
    let counts = places.into_iter().filter_map(|place| {
        let bytes = surgery.read(place.offset, surgery.geometry.stride());
        SlotSector::decode(&bytes, place).valid().map(|sector| (place, sector))
    });
    let (place, mut sector) = counts.max_by_key(|(_, sector)| sector.incarnation).expect("bob's slot");
    let mut forge = |beats: u64| {
        sector.beat += beats;
        let mut block = AlignedBuf::zeroed(surgery.geometry.stride());
        sector.encode(place, &mut block);
        surgery.write(place.offset, &block);
    };
    // A beat that came late, and the next one with it: that happens.
    forge(2);
    std::thread::sleep(FAST.lease());
    assert_eq!(alice.status().incarnation, before);
    // Ten seconds of beats at once: it is this machine that stood still.
    forge(40);
    alice.until("it has logged on anew", FAST.dead(), |s| s.incarnation > before);
    assert!(alice.events("lease.lost").iter().any(|e| e["text"].to_string().contains("stood still")));
    alice.write_access("footage");
    studio.end();
}
