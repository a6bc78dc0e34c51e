//! Many random runs: people ask, answer and administer, clients crash, stand still and come back; then a quiet time in
//! which everything must come right.

use std::time::Duration;

use ondisk::client_page::AnswerVerdict;
use ondisk::{Access, AutoResponse, Message, ReadersPolicy, Uuid};

use super::rng::Rng;
use super::studio::{Faults, NAMES, Studio};
use crate::engine::{Command, Reply};

const POLICIES: [ReadersPolicy; 3] = [ReadersPolicy::Snapshot, ReadersPolicy::Exclusive, ReadersPolicy::Live];

/// What may happen in a run.
#[derive(Debug, Clone, Copy)]
struct Play {
    crashes: bool,
    pauses: bool,
    administration: bool,
    takeovers: bool,
    faults: bool,
}

const PEACE: Play = Play { crashes: false, pauses: false, administration: false, takeovers: false, faults: false };
const WAR: Play = Play { crashes: true, pauses: true, administration: true, takeovers: true, faults: true };

fn studio(seed: u64, play: Play) -> Studio {
    let mut rng = Rng::new(seed ^ 0x5eed);
    let clients = 2 + rng.below(3);
    let policies: Vec<_> = (0..1 + rng.below(2)).map(|_| POLICIES[rng.below(3)]).collect();
    let inflight = if rng.one_in(2) { Duration::ZERO } else { rng.ms(500, 9000) };
    let mut studio = Studio::new(seed, clients, &policies, inflight);
    let auto: Vec<_> =
        (0..clients).map(|_| [AutoResponse::Off, AutoResponse::Idle, AutoResponse::Always][rng.below(3)]).collect();
    studio.administer("auto responses", |t| {
        for (record, auto) in t.clients.iter_mut().flatten().zip(auto) {
            record.auto_response = auto;
            record.admin = play.takeovers;
        }
    });
    if play.faults {
        studio.faults = Faults { jobs: 12, ops: 25, slow: 20 };
    }
    for c in 0..clients {
        studio.restart(c);
    }
    studio
}

fn any_volume(s: &mut Studio) -> (Uuid, String) {
    let tables = s.tables.clone();
    let all: Vec<_> = tables.volumes.iter().flatten().collect();
    let table = all[s.rng.below(all.len())];
    (table.uuid, table.name.to_string())
}

/// One thing that somebody does.
fn act(s: &mut Studio, play: Play) {
    let c = s.rng.below(s.clients.len());
    let (uuid, volume) = any_volume(s);
    match s.rng.below(24) {
        0..=5 => {
            let wait = s.rng.one_in(2).then(|| s.rng.ms(100, 20_000));
            s.command(c, Command::Request { volume, message: Message::cut("please"), wait });
        }
        6 => {
            s.command(c, Command::Withdraw { volume });
        }
        7..=9 => {
            let client = NAMES[s.rng.below(s.clients.len())].to_owned();
            let verdict =
                [AnswerVerdict::Yes, AnswerVerdict::Yes, AnswerVerdict::No, AnswerVerdict::Later][s.rng.below(4)];
            s.command(c, Command::Answer { volume, client, verdict, message: Message::cut("well") });
        }
        10 | 11 => {
            s.command(c, Command::Release { volume });
        }
        12 => {
            s.command(c, Command::Refresh { volume });
        }
        13 => {
            s.command(c, Command::Mount { volume });
        }
        14 => {
            s.command(c, Command::Unmount { volume });
        }
        15 => {
            let until = s.now + s.rng.ms(100, 6000);
            s.kernel.of(c, uuid).busy_until = until;
        }
        16 => {
            let until = s.now + s.rng.ms(100, 9000);
            for gate in &mut s.kernel.of(c, uuid).readers {
                gate.files_until = until;
            }
        }
        17 if play.takeovers => {
            let writer =
                s.tables.find_volume_uuid(uuid).and_then(|(_, t)| t.writer).map(|g| NAMES[g.slot.index()].to_owned());
            let yes_i_know = writer.filter(|_| s.rng.one_in(3));
            s.command(c, Command::Takeover { volume, yes_i_know });
        }
        18 | 19 if play.crashes => {
            let back = if s.rng.one_in(4) { s.rng.ms(20_000, 60_000) } else { s.rng.ms(50, 9000) };
            s.crash(c, Some(back));
        }
        20 if play.pauses => {
            let time = if s.rng.one_in(2) { s.rng.ms(100, 3000) } else { s.rng.ms(4000, 30_000) };
            s.pause(c, time);
        }
        21 if play.crashes => {
            let now = s.rng.one_in(2);
            s.leave(c, now);
        }
        22 if play.administration => administer(s, c, uuid),
        23 if play.faults && s.rng.one_in(2) => {
            let until = s.now + if s.rng.one_in(3) { s.rng.ms(5000, 20_000) } else { s.rng.ms(50, 2000) };
            s.slots[c].rotten_until = until;
        }
        _ => s.kernel.scribble(uuid),
    }
}

fn administer(s: &mut Studio, c: usize, uuid: Uuid) {
    let kinds = if s.rng.one_in(4) { 6 } else { 5 };
    let kind = s.rng.below(kinds);
    let on = s.rng.one_in(2);
    s.administer(&format!("{kind} {on} for {} on {uuid}", NAMES[c]), |t| {
        let Some(table) = t.volumes.iter_mut().flatten().find(|t| t.uuid == uuid) else { return };
        match kind {
            0 => table.write_enabled = on,
            1 => table.permissions[c].access = if on { Access::Write } else { Access::Read },
            2 => table.permissions[c].access = if on { Access::Write } else { Access::None },
            3 => table.permissions[c].lockout = on,
            5 => {
                // Taken away by force, under whoever has it mounted.
                let others = t.volumes.iter().flatten().count() > 1;
                for volume in t.volumes.iter_mut().filter(|v| others && v.as_ref().is_some_and(|v| v.uuid == uuid)) {
                    *volume = None;
                }
            }
            _ => {
                if let Some(record) = t.clients[c].as_mut() {
                    record.enabled = on;
                }
            }
        }
    });
}

/// No more trouble: all are back, all may do everything, all give away what they have.
fn calm(s: &mut Studio, play: Play) {
    s.faults = Faults::default();
    // Sometimes one stays away for good: the others must not miss it.
    let away = s.rng.below(3 * s.clients.len());
    for c in 0..s.clients.len() {
        if c == away && play.crashes {
            s.crash(c, None);
            s.stays_away(c);
        } else {
            s.calm_client(c);
        }
    }
    s.administer("everybody may", |t| {
        for table in t.volumes.iter_mut().flatten() {
            table.write_enabled = true;
            for permission in &mut table.permissions {
                permission.access = Access::Write;
                permission.lockout = false;
            }
        }
        for record in t.clients.iter_mut().flatten() {
            record.enabled = true;
            record.auto_response = AutoResponse::Always;
        }
    });
    for gates in s.kernel.gates.values_mut() {
        gates.busy_until = Duration::ZERO;
        gates.readers.iter_mut().for_each(|g| g.files_until = Duration::ZERO);
    }
}

fn is_settled(s: &Studio) -> bool {
    s.clients.iter().filter(|c| c.comes_back).all(|c| {
        c.open_commands.is_empty()
            && c.engine.as_ref().is_some_and(|e| {
                e.leaving.is_none() && e.page().requests.is_empty() && e.volumes.values().all(|v| !v.cleaning)
            })
    })
}

fn one_run(seed: u64, play: Play, acts: usize, log: bool) -> Studio {
    let mut s = studio(seed, play);
    s.log = log.then(Vec::new);
    s.run(Duration::from_secs(1));
    for _ in 0..acts {
        act(&mut s, play);
        let time = if s.rng.one_in(8) { s.rng.ms(1000, 9000) } else { s.rng.ms(0, 600) };
        s.run(time);
        if s.broken.is_some() {
            return s;
        }
    }
    calm(&mut s, play);
    s.run(Duration::from_secs(10));
    if s.broken.is_none() && !s.run_while(Duration::from_secs(400), is_settled) && s.broken.is_none() {
        let state = s.state();
        s.fail(format!("somebody waits for ever:\n{state}"));
    }
    if s.broken.is_none() {
        everybody_asks(&mut s);
    }
    if s.broken.is_none() {
        all_leave(&mut s);
    }
    // A busy loop would show here: something is always tried again only after a pause.
    let seconds = usize::try_from(s.now.as_secs()).expect("a short run").saturating_sub(90);
    let (jobs, transactions) = (s.jobs_run, s.transactions);
    if s.broken.is_none() && (jobs > 12 * seconds || transactions > 4 * seconds + 4 * acts) {
        s.fail(format!("{jobs} jobs and {transactions} transactions in {seconds} s"));
    }
    s
}

/// From a quiet state everybody who asks gets it, one after the other, though somebody may have died just now.
fn everybody_asks(s: &mut Studio) {
    if s.clients.iter().any(|c| c.away) {
        s.run(Duration::from_secs(40));
    }
    let volumes: Vec<String> = s.tables.volumes.iter().flatten().map(|t| t.name.to_string()).collect();
    let mut asked = Vec::new();
    for c in (0..s.clients.len()).filter(|c| s.clients[*c].engine.is_some()).collect::<Vec<_>>() {
        let volume = volumes[s.rng.below(volumes.len())].clone();
        let wait = Some(Duration::from_secs(150));
        asked.push((c, s.command(c, Command::Request { volume, message: Message::cut("last"), wait })));
    }
    if !s.run_while(Duration::from_secs(200), is_settled) && s.broken.is_none() {
        let state = s.state();
        s.fail(format!("somebody asked in vain:\n{state}"));
    }
    for (c, id) in asked {
        let told = s.clients[c].replies.iter().rev().find(|(i, _)| *i == id).map(|(_, r)| r.clone());
        if s.broken.is_none() && !matches!(told, Some(Reply::Done { .. })) {
            let state = s.state();
            s.fail(format!("{} asked and was told {told:?}\n{state}", NAMES[c]));
        }
    }
}

fn all_leave(s: &mut Studio) {
    s.run(Duration::from_secs(10));
    if s.broken.is_some() {
        return;
    }
    check_readers(s);
    let grants = s.tables.volumes.iter().flatten().filter_map(|t| t.writer);
    let lives = |g: &ondisk::Grant| {
        let c = g.slot.index();
        s.clients[c].engine.is_some() && s.slots[c].incarnation == g.incarnation
    };
    let over: Vec<u64> = grants.filter(|g| !lives(g)).map(|g| g.epoch).collect();
    for c in 0..s.clients.len() {
        s.leave(c, false);
        s.stays_away(c);
    }
    let gone = |s: &Studio| s.clients.iter().all(|c| !c.up);
    if !s.run_while(Duration::from_secs(60), gone) && s.broken.is_none() {
        let state = s.state();
        s.fail(format!("somebody does not leave:\n{state}"));
    }
    for table in s.tables.clone().volumes.iter().flatten() {
        // A writer of a `live` volume that died, or was told to end now, stays named until somebody asks for it.
        let dead = |g: &ondisk::Grant| table.readers == ReadersPolicy::Live && over.contains(&g.epoch);
        if let Some(writer) = table.writer.filter(|g| !dead(g)) {
            s.fail(format!("all have left, and {} still has the writer {writer:?}", table.name));
        }
    }
}

/// In the quiet everybody who may and did not say otherwise has every volume open that is not being written exclusively.
fn check_readers(s: &mut Studio) {
    let tables = s.tables.clone();
    for table in tables.volumes.iter().flatten() {
        for (c, name) in NAMES.iter().enumerate().take(s.clients.len()) {
            let Some(volume) = s.clients[c].engine.as_ref().and_then(|e| e.volumes.get(&table.uuid)) else { continue };
            let locked = table.readers == ReadersPolicy::Exclusive && table.writer.is_some();
            let writes = table.writer.is_some_and(|g| g.slot.index() == c);
            let mut wrong = None;
            if !locked && !writes && !volume.user_unmounted && volume.mounted.is_none() {
                wrong = Some("has it not mounted");
            }
            if locked && !writes && (volume.mounted.is_some() || !volume.lingering.is_empty()) {
                wrong = Some("still has it mounted");
            }
            if let Some(wrong) = wrong {
                let state = s.state();
                s.fail(format!("{name} {wrong}: {}\n{state}", table.name));
                return;
            }
        }
    }
}

/// Runs seeds until one breaks; prints that one's history.
fn play(name: &str, play: Play, acts: usize, seeds: u64) {
    let env = |key: &str| std::env::var(key).ok().and_then(|v| v.parse::<u64>().ok());
    let first = env("VOLCTL_SEED").unwrap_or(1);
    let count = env("VOLCTL_SEEDS").unwrap_or(seeds);
    let begun = std::time::Instant::now();
    let (mut transactions, mut jobs) = (0, 0);
    for seed in first..first + count {
        let s = one_run(seed, play, acts, false);
        transactions += s.transactions;
        jobs += s.jobs_run;
        if s.broken.is_some() {
            let s = one_run(seed, play, acts, true);
            let lines = s.log.unwrap_or_default();
            let from = lines
                .len()
                .saturating_sub(env("VOLCTL_LINES").map_or(160, |n| usize::try_from(n).unwrap_or(usize::MAX)));
            let broken = s.broken.unwrap_or_default();
            panic!("{name}, seed {seed}: {broken}\n{}\nseed {seed}: {broken}", lines[from..].join("\n"));
        }
    }
    println!("{name}: {count} runs, {transactions} transactions, {jobs} jobs, {:?}", begun.elapsed());
}

#[test]
fn people_in_peace_always_get_what_they_ask_for() {
    play("peace", PEACE, 40, 100);
}

#[test]
fn whatever_crashes_or_stands_still_there_is_one_writer_and_no_wedge() {
    play("war", WAR, 40, 300);
}
