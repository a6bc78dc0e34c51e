//! The story itself. Each scene shows one thing, with its time, and fails if it is not so.

mod finale;
mod writer;

use std::fs;
use std::io::Read;
use std::time::{Duration, Instant};

use super::fault::Fault;
use super::stage::{Outcome, Stage, is, volume};
use super::teller::Teller;
use crate::wire::status::VolumeState;

/// Everybody, in the order of their entrance.
pub(super) const CAST: [&str; 3] = ["alice", "bob", "carol"];
const VOLUMES: [&str; 3] = ["footage", "scans", "music"];
/// A wait for something that should take milliseconds.
const SOON: Duration = Duration::from_secs(10);
/// Between two looks at a file.
const GLANCE: Duration = Duration::from_millis(1);

/// Plays it; with `keep` up to the point from which people may go on by themselves.
pub(super) fn play(stage: &mut Stage, teller: &mut Teller<'_>, keep: bool) -> Result<(), Fault> {
    let mut scenes = Scenes { stage, teller };
    scenes.tables()?;
    scenes.log_on()?;
    scenes.first_writer()?;
    scenes.refusal()?;
    scenes.hand_over()?;
    scenes.refresh()?;
    scenes.exclusive()?;
    scenes.locked_out()?;
    scenes.killed_writer()?;
    if keep { Ok(()) } else { scenes.orderly_end() }
}

/// How to go on alone.
pub(super) fn invite(stage: &Stage, teller: &mut Teller<'_>) {
    teller.scene("It goes on running. Now you.", "In another terminal, as root:\n");
    let program = std::env::current_exe().unwrap_or_else(|_| "volctl".into());
    teller.say(&format!("  alias volctl={}", program.display()));
    for actor in stage.actors() {
        let (name, socket) = (&actor.name, actor.socket());
        teller.say(&format!("  alias {name}='volctl --socket {}'", socket.display()));
    }
    let control = stage.control();
    teller.say(&format!(
        "  alice status\n  alice request footage --wait 30s\n  ls {}\n  bob request footage -m 'my turn'\n  \
         alice requests\n  alice answer footage bob yes\n  bob log\n  volctl allow carol footage write --control {}\n  \
         volctl check {}\n",
        stage.actor("alice").mount("footage").display(),
        control.display(),
        control.display()
    ));
    teller.say("Ctrl-C here ends it and cleans up.");
}

/// The stage and who tells of it.
struct Scenes<'s, 't, 'u> {
    stage: &'s mut Stage,
    teller: &'t mut Teller<'u>,
}

impl Scenes<'_, '_, '_> {
    fn admin(&mut self, arguments: &[&str]) -> Result<Outcome, Fault> {
        self.teller.begins();
        let outcome = self.stage.admin(arguments, 0)?;
        self.teller.told("admin", &outcome, 4);
        Ok(outcome)
    }

    /// One that is like the one before: it is done, and told in JSON only.
    fn admin_too(&mut self, arguments: &[&str]) -> Result<(), Fault> {
        self.teller.begins();
        let outcome = self.stage.admin(arguments, 0)?;
        self.teller.told_shortly("admin", &outcome);
        Ok(())
    }

    fn client(&mut self, who: &str, arguments: &[&str], expected: i32, lines: usize) -> Result<Outcome, Fault> {
        self.teller.begins();
        let outcome = self.stage.client(who, arguments, expected)?;
        self.teller.told(who, &outcome, lines);
        Ok(outcome)
    }

    /// A file operation, as if it were typed.
    fn by_hand(
        &mut self,
        who: &str,
        typed: &str,
        does: impl FnOnce(&Stage) -> Result<(i32, String), Fault>,
    ) -> Result<Outcome, Fault> {
        self.teller.begins();
        let began = Instant::now();
        let (exit, output) = does(self.stage)?;
        let outcome = Outcome { typed: typed.to_owned(), exit, took: began.elapsed(), output };
        self.teller.told(who, &outcome, 4);
        Ok(outcome)
    }

    fn reads(&mut self, who: &str, volume: &str, file: &str, expected: &str) -> Result<(), Fault> {
        let text = self.by_hand(who, &format!("cat {volume}/{file}"), |stage| {
            let path = stage.actor(who).mount(volume).join(file);
            fs::read_to_string(path)
                .map(|text| (0, text))
                .map_err(Fault::system(format!("{who} reads {volume}/{file}")))
        })?;
        same(&format!("{volume}/{file} as {who} sees it"), text.output.trim_end(), expected)
    }

    fn writes(&mut self, who: &str, volume: &str, file: &str, text: &str) -> Result<(), Fault> {
        self.by_hand(who, &format!("echo '{text}' > {volume}/{file}"), |stage| {
            let path = stage.actor(who).mount(volume).join(file);
            fs::write(path, format!("{text}\n")).map_err(Fault::system(format!("{who} writes {volume}/{file}")))?;
            Ok((0, String::new()))
        })?;
        Ok(())
    }

    fn tables(&mut self) -> Result<(), Fault> {
        let directory = self.stage.directory().display().to_string();
        self.teller.say(&format!(
            "Three computers, alice, bob and carol, share three disks and a small control volume. There is no server.\n\
             Here they are three daemons on one machine, and the disks are images in {directory}.\n\
             Every command is the real one; only --socket (whose computer) and --control (where the tables are) are left out."
        ));
        self.teller.scene(
            "1. The administrator makes the tables",
            "Times are short here, so that the demo is: a client is dead after 4s, not 12s.",
        );
        self.teller.begins();
        let timing = ["--label", "studio", "--size", "16M", "--beat", "250ms", "--lease", "2s", "--dead", "4s"];
        let outcome = self.stage.on_control("init", &timing, 0)?;
        self.teller.told("admin", &outcome, 4);
        self.admin(&["client", "add", CAST[0]])?;
        for name in &CAST[1..] {
            self.admin_too(&["client", "add", name])?;
        }
        self.teller.say("        ... and so for bob and carol");
        for name in CAST {
            self.stage.hire(name, "publish = \"500ms\"")?;
        }
        for (name, fs, size, readers) in [
            ("footage", "ext4", "64M", "live"),
            ("scans", "xfs", "320M", "exclusive"),
            ("music", "btrfs", "128M", "snapshot"),
        ] {
            let image = self.stage.image(name).display().to_string();
            self.admin(&[
                "volume",
                "add",
                name,
                "--device",
                &image,
                "--mkfs",
                fs,
                "--size",
                size,
                "--readers",
                readers,
            ])?;
        }
        self.admin(&["allow", "alice", "footage", "write", "--check", "250ms"])?;
        let rest = [("alice", &VOLUMES[1..]), ("bob", &VOLUMES[..]), ("carol", &VOLUMES[2..])];
        for (client, volumes) in rest {
            for volume in volumes {
                self.admin_too(&["allow", client, volume, "write", "--check", "250ms"])?;
            }
        }
        self.teller.say("        ... and so alice and bob all three volumes, carol music only");
        Ok(())
    }

    fn log_on(&mut self) -> Result<(), Fault> {
        self.teller.scene(
            "2. Three computers log on",
            "The first time, each proves for 2s that nobody else uses its name. Then every volume is there, read-only.",
        );
        for name in CAST {
            self.teller.begins();
            self.stage.start(name)?;
            self.teller.goes_on(name, "volctl daemon --config volctl.toml &");
        }
        let began = Instant::now();
        for (name, volumes) in [("alice", &VOLUMES[..]), ("bob", &VOLUMES[..]), ("carol", &VOLUMES[2..])] {
            self.stage.until(name, &format!("{name} sees its volumes"), Duration::from_secs(30), |status| {
                volumes.iter().all(|name| is(status, name, VolumeState::Ro))
            })?;
        }
        self.teller.measured("from start to mounted, all three", began.elapsed());
        self.client("alice", &["status"], 0, 20)?;
        Ok(())
    }

    fn refresh(&mut self) -> Result<(), Fault> {
        self.teller.scene(
            "6. A reader follows by itself, and never sees half of anything",
            "music is btrfs: readers see snapshots. alice publishes every 500ms when something changed, carol looks every 250ms.",
        );
        self.client("alice", &["request", "music", "--wait", "20s"], 0, 1)?;
        self.writes("alice", "music", "song.txt", "take 1")?;
        self.wait_for_text("carol", "music", "song.txt", "take 1")?;
        let song = self.stage.actor("carol").mount("music").join("song.txt");
        let mut open = fs::File::open(song).map_err(Fault::system("carol opens music/song.txt"))?;
        self.teller.say("carol plays it, so she has the file open. alice goes on:");
        self.writes("alice", "music", "song.txt", "take 2")?;
        let took = self.wait_for_text("carol", "music", "song.txt", "take 2")?;
        self.teller.measured("from alice's write to carol's eyes, nobody typed anything", took);
        let mut heard = String::new();
        open.read_to_string(&mut heard).map_err(Fault::system("carol reads her open file"))?;
        same("the file that carol has open", heard.trim_end(), "take 1")?;
        self.teller.say("The file that carol has open still says 'take 1': what is open is never pulled away.");
        drop(open);
        self.client("alice", &["release", "music"], 0, 1)?;
        Ok(())
    }

    fn wait_for_text(&mut self, who: &str, volume: &str, file: &str, text: &str) -> Result<Duration, Fault> {
        let path = self.stage.actor(who).mount(volume).join(file);
        let took = self.stage.until_true(&format!("{who} sees '{text}' in {volume}/{file}"), SOON, GLANCE, || {
            fs::read_to_string(&path).is_ok_and(|seen| seen.trim_end() == text)
        })?;
        self.reads(who, volume, file, text)?;
        Ok(took)
    }

    fn locked_out(&mut self) -> Result<(), Fault> {
        self.teller.scene(
            "8. A locked-out client",
            "The administrator takes the right to ask from carol; she goes on reading.",
        );
        self.admin(&["allow", "carol", "music", "write", "--lockout", "on", "--check", "250ms"])?;
        self.stage.until("carol", "carol hears of the lockout", SOON, |status| {
            volume(status, "music").is_some_and(|volume| volume.locked_out)
        })?;
        self.client("carol", &["request", "music"], 3, 4)?;
        self.reads("carol", "music", "song.txt", "take 2")
    }
}

fn same(what: &str, seen: &str, expected: &str) -> Result<(), Fault> {
    if seen == expected {
        return Ok(());
    }
    Err(Fault::Wrong { what: what.to_owned(), seen: format!("'{seen}', not '{expected}'") })
}
