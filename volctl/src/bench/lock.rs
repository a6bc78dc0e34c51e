//! The semaphore when nobody else wants it, a commit, and log-ons to a slot that this machine left.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockdriver::device::Access;
use lockdriver::transaction::Change;

use super::Bench;
use super::counting::{Counting, Counts};
use super::figures::{Figures, Unit, median};
use crate::control::admin_login;
use crate::control::open::ControlVolume;
use crate::control::session::Session;
use crate::demo::fault::Fault;
use crate::demo::loop_over::LoopOver;
use crate::demo::stage::Stage;
use crate::wire::outcome::Failure;

/// Slots of the measured control volume; the administration slots come on top.
const SLOTS: &str = "64";
const WARM_UP: u32 = 10;
/// Two writes in and one out; two reads in, and the header once more inside (section 5).
const WRITES: f64 = 3.0;
const READS: f64 = 3.0;
/// A log-on to a slot that was left cleanly on this machine.
const LOG_ON: Duration = Duration::from_millis(200);
/// The daemon logs on for the first time: it waits out `margin`, and more.
const FIRST: Duration = Duration::from_secs(60);
const LOG_ONS: u32 = 20;

/// What one tenure cost.
#[derive(Default)]
struct Tenures {
    times: Vec<Duration>,
    counts: Vec<Counts>,
}

pub(super) fn measure(bench: &Bench<'_>, stage: &mut Stage, figures: &mut Figures) -> Result<(), Fault> {
    stage.on_control("init", &["--max-clients", SLOTS, "--size", "16M", "--lock", "bakery"], 0)?;
    stage.admin(&["client", "add", "alice"], 0)?;
    let rounds = bench.rounds(1000);
    on_path(bench, &stage.control(), "image", rounds, figures)?;
    let over = LoopOver::new(&stage.control())?;
    on_path(bench, &over.path(), "loop device", rounds, figures)?;
    drop(over);
    log_ons(bench, stage, figures)
}

fn on_path(bench: &Bench<'_>, path: &Path, place: &str, rounds: u32, figures: &mut Figures) -> Result<(), Fault> {
    let mut volume = ControlVolume::open(path, Access::ReadWrite)?;
    let counting = Arc::new(Counting::new(Arc::clone(&volume.device)));
    volume.device = counting.clone();
    let area = volume.geometry.poll_area();
    let (empty, commits) = admin_login::run_on(volume, &mut |_| (), |session, _| {
        let empty =
            tenures(bench, session, &counting, rounds, &mut || session.transact(&mut |_, _| Ok(None)).map(drop))?;
        let mut on = false;
        let commits = tenures(bench, session, &counting, rounds / 4 + 1, &mut || {
            on = !on;
            flip(session, on)
        })?;
        Ok((empty, commits))
    })?;
    let count = |of: fn(&Counts) -> u64| median(&empty.counts.iter().map(of).collect::<Vec<u64>>());
    figures.at_most(format!("{place}: writes for one acquire and release"), count(|c| c.writes), Unit::Count, WRITES);
    figures.at_most(format!("{place}: reads"), count(|c| c.reads), Unit::Count, READS);
    let largest = count(|c| c.largest_read);
    let area = median(&[area.end - area.start]);
    figures.at_most(format!("{place}: largest read (slots and header)"), largest, Unit::Bytes, area);
    figures.times(&format!("{place}: acquire and release"), &empty.times, None);
    figures.times(&format!("{place}: a change of one record, committed"), &commits.times, None);
    let writes = median(&commits.counts.iter().map(|c| c.writes).collect::<Vec<u64>>());
    figures.add(format!("{place}: writes for it"), writes, Unit::Count);
    Ok(())
}

fn tenures(
    bench: &Bench<'_>,
    session: &Session,
    counting: &Counting,
    rounds: u32,
    tenure: &mut dyn FnMut() -> Result<(), Failure>,
) -> Result<Tenures, Failure> {
    let mut found = Tenures::default();
    for round in 0..rounds + WARM_UP {
        if bench.stop.is_set() || !session.is_live() {
            return Err(Failure::failed("no more rounds", "interrupted, or the lease is over", "run it again"));
        }
        counting.take();
        let began = Instant::now();
        tenure()?;
        if round >= WARM_UP {
            found.times.push(began.elapsed());
            found.counts.push(counting.take());
        }
    }
    Ok(found)
}

/// Changes one client record.
fn flip(session: &Session, on: bool) -> Result<(), Failure> {
    let mut decide = |_, world: &crate::engine::World<'_>| {
        Ok(world.tables.find_client("alice").map(|(slot, record)| {
            let mut record = record.clone();
            record.notify = on;
            Change::client(slot, Some(record))
        }))
    };
    session.transact(&mut decide).map(drop)
}

fn log_ons(bench: &Bench<'_>, stage: &mut Stage, figures: &mut Figures) -> Result<(), Fault> {
    let control = stage.control();
    let mut times = Vec::new();
    for _ in 0..LOG_ONS {
        bench.stop.check()?;
        let began = Instant::now();
        let on = admin_login::run(&control, &mut |_| (), |_, _| Ok(began.elapsed()))?;
        times.push(on);
    }
    figures.times("log-on of a command, slot left cleanly here", &times, Some(LOG_ON));
    stage.hire("alice", "")?;
    let mut times = Vec::new();
    for round in 0..=LOG_ONS / 4 {
        stage.start("alice")?;
        let took = stage.until("alice", "the daemon logs on", FIRST, |status| status.incarnation > 0)?;
        stage.end("alice", nix::sys::signal::Signal::SIGTERM)?;
        if round > 0 {
            times.push(took);
        }
    }
    figures.times("log-on of a daemon, process start included", &times, Some(LOG_ON));
    Ok(())
}
