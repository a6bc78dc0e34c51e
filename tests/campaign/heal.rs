//! After the trouble: everything is mended, and then it must be as if nothing had happened.

use std::time::{Duration, Instant};

use volctl::wire::status::{ClientState, VolumeState};
use volctl_tests::studio::{check_file_system, run, write_synced};

use crate::chaos;
use crate::stage::{CONTROL, IMAGE, Stage, VOLUME, volume};
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
    for client in &stage.clients {
        let _ = chaos::start(client);
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
    let timings = stage.studio().timings;
    let count = stage.clients.len();
    for turn in 0..count {
        let client = stage.client((turn + usize::try_from(round).unwrap_or(0)) % count);
        let stalled = stage.studio().witness.report().stalled;
        let asked = client.cli(&["request", VOLUME, "--wait", "40s"]);
        assert!(asked.code == 0, "{} does not get it: {asked}", client.name());
        // Once for a client that was just lost and once for one that was lost before it; volumes here have no late writes.
        let stood = stage.studio().witness.report().stalled.saturating_sub(stalled);
        let limit = timings.dead() * 2 + SLACK + stood;
        assert!(asked.took < limit, "{} has it only after {:?}, not within {limit:?}", client.name(), asked.took);
        stage.history.add(format!("HEAL   {} has it after {} ms", client.name(), asked.took.as_millis()));
        client.until_state(VOLUME, VolumeState::Rw, SLACK);
        let _ = std::fs::remove_file(client.path(VOLUME, FILLER));
        write_synced(&client.path(VOLUME, &format!("turn-{}", client.name())), &format!("{round}"));
        if turn + 1 == count {
            stage.ledger.check(&client.path(VOLUME, ""));
        }
        let released = client.cli(&["release", VOLUME]);
        assert!(released.code == 0, "{} does not give it back: {released}", client.name());
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
