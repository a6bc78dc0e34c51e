//! After the trouble: everything is mended, and then it must be as if nothing had happened.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use volctl::wire::status::{ClientState, VolumeState};
use volctl_tests::studio::{Client, check_file_system, run};

use crate::chaos;
use crate::stage::{CONTROL, IMAGE, Stage, VOLUME, volume, writes};
use crate::user::{Crowd, FILLER};

/// What is left for everything that is no wait of the protocol, on a machine that does other things as well.
const SLACK: Duration = Duration::from_secs(4);

/// Mends everything and waits until every client is logged on.
pub(crate) fn heal(stage: &Stage, crowd: &Crowd) {
    stage.history.add("HEAL   everything is mended");
    stage.mend_paths();
    for client in &stage.clients {
        client.resume();
    }
    crowd.calm_down();
    for (client, pid) in stage.told_to_end() {
        // On its way out it still answers: nobody is fooled by that.
        stage
            .studio()
            .wait_until("a daemon that was told to end has ended", SLACK * 5, || client.try_pid() != Some(pid));
    }
    let begun = Instant::now();
    for client in &stage.clients {
        // Standing still in something that ended a login, one may have been ended by that: it comes back by itself, or is
        // started again where it gave up.
        let limit = stage.studio().timings.dead() * 2 + SLACK * 2;
        loop {
            if client.try_status().is_some_and(|s| s.incarnation > 0) {
                break;
            }
            let _ = chaos::start(client);
            let limit = stage.studio().patience(limit);
            assert!(begun.elapsed() < limit, "{} is not logged on after {:?}", client.name(), begun.elapsed());
            std::thread::sleep(Duration::from_millis(20));
        }
        stage.history.add(format!("HEAL   {} is logged on", client.name()));
    }
}

/// Each client in turn gets write access within what the protocol may take, and the last one finds every stable record.
pub(crate) fn everybody_gets_through(stage: &Stage, round: u64) {
    let count = stage.clients.len();
    for turn in 0..count {
        let client = stage.client((turn + usize::try_from(round).unwrap_or(0)) % count);
        let begun = Instant::now();
        let stalled = stage.studio().witness.report().stalled;
        while let Err(why) = gets_through(stage, client, round, turn + 1 == count) {
            // A machine that has no time for a beat costs a login, which comes back: what counts is when all is done.
            stage.history.add(format!("HEAL   {} once more: {}", client.name(), why.replace('\n', " ")));
            let stood = stage.studio().witness.report().stalled.saturating_sub(stalled);
            // Once for a client that was just lost and once for one lost before it; volumes here have no late writes.
            let limit = stage.studio().timings.dead() * 2 + SLACK * 2 + stood;
            assert!(begun.elapsed() < limit, "{} does not get through within {limit:?}: {why}", client.name());
            std::thread::sleep(Duration::from_millis(50));
        }
        stage.history.add(format!("HEAL   {} got through in {} ms", client.name(), begun.elapsed().as_millis()));
    }
}

fn gets_through(stage: &Stage, client: &Client, round: u64, last: bool) -> Result<(), String> {
    let incarnation = || client.try_status().filter(writes).map(|s| s.incarnation);
    let asked = client.cli(&["request", VOLUME, "--wait", "40s"]);
    let login = incarnation().filter(|_| asked.code == 0).ok_or_else(|| format!("it is not given: {asked}"))?;
    // What is wrong under a grant that still stands afterwards is wrong.
    let work = || -> Result<(), String> {
        let _ = std::fs::remove_file(client.path(VOLUME, FILLER));
        let path = client.path(VOLUME, &format!("turn-{}", client.name()));
        let written = write_once_there_is_room(stage, &path, &format!("{round}"));
        written.map_err(|e| format!("{}: {e}", path.display()))?;
        if last { stage.ledger.check(&client.path(VOLUME, "")) } else { Ok(()) }
    };
    if let Err(why) = work() {
        assert!(incarnation() != Some(login), "{}: {why}", client.name());
        return Err(why);
    }
    let released = client.cli(&["release", VOLUME]);
    if released.code == 0 { Ok(()) } else { Err(format!("it is not given back: {released}")) }
}

/// What was removed from a full volume is room only once the readers have gone over to a state without it.
fn write_once_there_is_room(stage: &Stage, path: &Path, text: &str) -> io::Result<()> {
    let until = Instant::now() + stage.studio().timings.dead() + SLACK;
    loop {
        let written = File::create(path).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        match written {
            Err(e) if e.kind() == io::ErrorKind::StorageFull && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(50));
            }
            done => return done,
        }
    }
}

/// Nobody wrote who might not, and everything that can be checked is clean.
pub(crate) fn nothing_is_wrong(stage: &Stage) {
    let studio = stage.studio();
    let limit = studio.timings.dead() * 2 + SLACK;
    for client in &stage.clients {
        // A yes may have been on its way: then it is given back by itself.
        client.until("the volume is at rest", limit, |status| {
            let rests = volume(status).is_some_and(|v| v.writer.is_none() && !v.dirty && v.state != VolumeState::Rw);
            rests && status.clients.iter().all(|c| c.state == ClientState::On)
        });
    }
    let seen = stage.paths().seen();
    stage.history.collect(&seen);
    assert!(seen.violations.is_empty(), "WRITTEN WITHOUT A GRANT: {:#?}", seen.violations);
    let _ = studio.one_writer();
    check_file_system(&stage.volume);
    let control = studio.dir().join(CONTROL).display().to_string();
    let checked = run(&["check", &control]);
    assert!(checked.code == 0, "the tables are not clean: {checked}");
    assert!(studio.dir().join(IMAGE).exists());
}
