//! The pictures of docs/gui.md, from a real run: `make pictures`.

use std::path::Path;
use std::time::Duration;

use volctl::wire::status::VolumeState;
use volctl_tests::desk::{Desk, Look};
use volctl_tests::studio::{FAST, Fs, Hold, Studio, write_synced};
use volctl_tests::tree::root;

const SOON: Duration = Duration::from_secs(15);

/// What is drawn is on the screen a moment after the window knows it; no program can see when.
fn shown(desk: &Desk) {
    desk.step_back();
    std::thread::sleep(Duration::from_millis(500));
}

fn keep(picture: &Path, name: &str) {
    let folder = root().join("docs/gui");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::copy(picture, folder.join(format!("{name}.png"))).expect("a picture");
}

/// Three people, four volumes, and something of everything going on.
#[test]
#[ignore = "writes docs/gui; 'make pictures' runs it"]
fn loop_the_pictures_of_the_document_are_made() {
    let studio = Studio::new(FAST);
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| studio.client(name));
    studio.volume("footage", Fs::Btrfs, &[]);
    studio.volume("audio", Fs::Ext4, &[]);
    studio.volume("archive", Fs::Ext4, &["--readers", "exclusive"]);
    for volume in ["footage", "audio", "archive"] {
        for client in [&alice, &bob] {
            studio.allow(client, volume, "write");
        }
        studio.allow(&carol, volume, if volume == "archive" { "none" } else { "read" });
    }
    let _ = studio.admin(&["set-client", "alice", "admin", "on"]).ok();
    for client in [&alice, &bob, &carol] {
        client.start();
    }
    for client in [&alice, &bob, &carol] {
        client.logged_on();
        client.until_state("audio", VolumeState::Ro, SOON);
    }
    bob.write_access("archive");
    bob.write_access("audio");
    let _ = bob.cli(&["release", "audio"]).ok();
    alice.write_access("audio");
    let _ = alice.cli(&["release", "audio"]).ok();
    bob.write_access("audio");
    alice.write_access("footage");
    write_synced(&alice.path("footage", "cut"), "by alice");
    let asking = alice.begin(&["request", "audio", "-m", "the mix is wrong"]);
    let _ = asking.wait().ok();

    for (name, size, theme, scale) in [
        ("volumes-dark", (1000, 680), "dark", 100),
        ("volumes-light-800x600", (800, 600), "light", 100),
        ("volumes-dark-800x600", (800, 600), "dark", 100),
        ("volumes-light-1600x1000", (1600, 1000), "light", 100),
        ("volumes-dark-1600x1000", (1600, 1000), "dark", 100),
        ("volumes-dark-200", (1600, 1000), "dark", 200),
        ("volumes-light-800x600-200", (800, 600), "light", 200),
    ] {
        let look = Look { size, theme, scale, ..Look::USUAL };
        let desk = Desk::open(&studio.dir().join(name), &alice.socket(), look);
        desk.see("footage is Read-write");
        shown(&desk);
        let picture = desk.picture(name);
        if name == "volumes-dark" {
            keep(&picture, "volumes");
        }
        for (key, view) in
            [("ctrl+2", "matrix"), ("ctrl+3", "activity"), ("ctrl+4", "administration"), ("ctrl+5", "preferences")]
        {
            desk.keys(key);
            desk.see(match view {
                "matrix" => "Status matrix",
                "activity" => "Filter events",
                "administration" => "Control volume",
                _ => "Keys",
            });
            shown(&desk);
            let picture = desk.picture(&format!("{view}-{}", name.trim_start_matches("volumes-")));
            if name == "volumes-dark" {
                keep(&picture, view);
            }
            if view == "administration" {
                desk.see("Page Privileges");
                for page in ["Clients", "Volumes of the tables", "Privileges"] {
                    desk.click(&format!("Page {page}"));
                    shown(&desk);
                    let word = page.split(' ').next().unwrap_or_default().to_lowercase();
                    let picture = desk.picture(&format!("admin-{word}-{}", name.trim_start_matches("volumes-")));
                    if name == "volumes-dark" && page == "Privileges" {
                        keep(&picture, "privileges");
                    }
                }
            }
        }
    }

    let look = Look { theme: "light", ..Look::USUAL };
    let desk = Desk::open(&studio.dir().join("prompt"), &alice.socket(), look);
    let _hold = Hold::file(&alice.path("footage", "cut"));
    let _ = bob.begin(&["request", "footage", "-m", "need to fix the titles, ten minutes"]).wait().ok();
    desk.see("sleep: cut");
    shown(&desk);
    keep(&desk.picture("prompt-light"), "prompt");
    desk.keys("Escape");
    desk.keys("ctrl+k");
    desk.see("Command");
    shown(&desk);
    keep(&desk.picture("palette-light"), "palette");
}
