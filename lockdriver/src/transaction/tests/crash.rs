//! Crash points enumerated: every cut of every write, torn in every way, with one lost block, with one late write.

use ondisk::{CellId, CommitNo, Geometry, Incarnation, SlotIndex, VolumeIndex};

use crate::check;
use crate::tables::Tables;
use crate::tables::testkit::{Did, Disk, client, commit, drive, formatted, load, tenure, tiny, volume};
use crate::transaction::{Change, Commit, CommitError, CommitStep};

/// What counts of the tables: who is there, what is reaped.
type State = (Vec<Option<String>>, Vec<Option<String>>, Vec<Incarnation>);

fn state(t: &Tables) -> State {
    let clients = t.clients.iter().map(|c| c.as_ref().map(|c| c.name.to_string())).collect();
    let volumes = t.volumes.iter().map(|v| v.as_ref().map(|v| v.name.to_string())).collect();
    (clients, volumes, t.header.reaped.clone())
}

/// Each kind of change: a client, a volume, both in one, a removal, a reaping.
fn changes(g: &Geometry) -> Vec<Change> {
    let both = Change {
        clients: vec![(SlotIndex(1), Some(client("both")))],
        volumes: vec![(VolumeIndex(0), Some(volume(g, "both", None)))],
        ..Change::default()
    };
    vec![
        Change::client(SlotIndex(0), Some(client("new"))),
        Change::volume(VolumeIndex(1), Some(volume(g, "new", None))),
        both,
        Change::client(SlotIndex(0), None),
        Change::reap(SlotIndex(0), Incarnation(5)),
    ]
}

fn next_change() -> Change {
    Change::client(SlotIndex(0), Some(client("next")))
}

fn start() -> (Geometry, Disk, Tables) {
    let g = tiny();
    let mut disk = formatted(&g);
    commit(&g, &mut disk, 2, Change::client(SlotIndex(0), Some(client("old"))));
    let tables = commit(&g, &mut disk, 3, Change::volume(VolumeIndex(0), Some(volume(&g, "old", None))));
    (g, Disk::new(disk.bytes()), tables)
}

/// The steps of a commit that nothing disturbs, and the tables after it.
fn steps(g: &Geometry, disk: &Disk, epoch: u64, change: Change) -> (Vec<Did>, Tables, CommitNo) {
    let mut disk = disk.clone();
    let base = load(g, &disk, CommitNo::default()).unwrap();
    let mut machine = Commit::new(g, tenure(epoch), base, change);
    let (did, end) = drive(&mut machine, &mut disk, |_, _, _| true);
    let (number, tables) = end.unwrap().unwrap();
    (did, tables, number)
}

/// The tables must be the old or the new ones, the new ones once acknowledged; the next holder must go on from there.
fn goes_on(g: &Geometry, disk: &Disk, old: &Tables, new: &Tables, acknowledged: Option<CommitNo>, what: &str) {
    let mark = acknowledged.unwrap_or(old.header.commit);
    let found = load(g, disk, mark).unwrap_or_else(|f| panic!("{what}: {f:?}"));
    let is_new = state(&found) == state(new);
    assert!(is_new || (acknowledged.is_none() && state(&found) == state(old)), "{what}: {:?}", state(&found));
    let mut disk = disk.clone();
    let after = commit(g, &mut disk, 90, next_change());
    let mut expected = state(&found);
    expected.0[0] = Some("next".to_owned());
    assert_eq!(state(&after), expected, "{what}: the next holder goes on");
    assert_eq!(load(g, &disk, after.header.commit).as_ref(), Ok(&after), "{what}: and is believed");
}

/// A write half done: the first `cut` bytes, or all but them.
fn torn(disk: &mut Disk, offset: u64, bytes: &[u8], cut: usize, front: bool) {
    let mut mixed = disk.get(offset, bytes.len()).unwrap_or_else(|| vec![0xff; bytes.len()]);
    let range = if front { 0..cut } else { cut..bytes.len() };
    mixed[range.clone()].copy_from_slice(&bytes[range]);
    disk.put(offset, &mixed);
}

#[test]
fn every_cut_of_every_write_gives_old_or_new_and_never_loses_what_was_acknowledged() {
    let (g, disk, old) = start();
    for (n, change) in changes(&g).into_iter().enumerate() {
        let (did, new, number) = steps(&g, &disk, 10, change);
        let mut at = disk.clone();
        for (k, step) in did.iter().enumerate() {
            let what = format!("change {n}, cut at step {k}");
            goes_on(&g, &at, &old, &new, None, &what);
            let Did::Write { offset, bytes, .. } = step else { continue };
            for cut in [1, 40, 57, 64, 100, 511, 512, 513, 1024, bytes.len() - 512, bytes.len() - 1] {
                for front in [true, false] {
                    let mut torn_disk = at.clone();
                    torn(&mut torn_disk, *offset, bytes, cut, front);
                    goes_on(&g, &torn_disk, &old, &new, None, &format!("{what}, torn at {cut}"));
                }
            }
            at.put(*offset, bytes);
        }
        goes_on(&g, &at, &old, &new, Some(number), &format!("change {n}, whole"));
    }
}

#[test]
fn a_power_cut_may_take_any_of_the_writes_that_were_not_flushed() {
    let (g, disk, old) = start();
    for (n, change) in changes(&g).into_iter().enumerate() {
        let (did, new, _) = steps(&g, &disk, 10, change);
        let mut stable = disk.clone();
        let mut cached: Vec<(u64, &[u8])> = Vec::new();
        for (k, step) in did.iter().enumerate() {
            match step {
                Did::Read => {}
                Did::Flush => cached.drain(..).for_each(|(offset, bytes)| stable.put(offset, bytes)),
                Did::Write { offset, bytes, fua: true } => stable.put(*offset, bytes),
                Did::Write { offset, bytes, fua: false } => cached.push((*offset, bytes)),
            }
            for some in 0..1u32 << cached.len() {
                let mut after = stable.clone();
                for (_, (offset, bytes)) in cached.iter().enumerate().filter(|(i, _)| some & (1 << i) != 0) {
                    after.put(*offset, bytes);
                }
                let what = format!("change {n}, power cut after step {k}, cached {some:b}");
                goes_on(&g, &after, &old, &new, None, &what);
            }
        }
    }
}

/// The blocks that a commit reads or writes.
fn targets(g: &Geometry) -> Vec<(u64, usize)> {
    let cells = g
        .cells()
        .flat_map(|c| [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(v, n)| (g.cell_block(c, v, n).offset, g.cell_bytes(c))));
    let headers = [0, 1].map(|c| (g.header_copy(c).offset, g.header_bytes()));
    headers.into_iter().chain(cells).collect()
}

#[test]
fn one_lost_block_at_any_instant_loses_nothing() {
    let (g, disk, old) = start();
    for (n, change) in changes(&g).into_iter().enumerate() {
        let (did, new, _) = steps(&g, &disk, 10, change.clone());
        for (offset, len) in targets(&g) {
            for when in 0..=did.len() {
                // Lost before step `when`; the holder dies before step `end`, or goes on to its end.
                for end in when..=did.len() + 1 {
                    let what = format!("change {n}, byte {offset} lost before step {when}, holder cut at {end}");
                    let mut run = disk.clone();
                    let mut machine = Commit::new(&g, tenure(10), old.clone(), change.clone());
                    let mut lost = false;
                    let (_, outcome) = drive(&mut machine, &mut run, |k, _, disk| {
                        if k == when && !lost {
                            disk.rot(offset, len);
                            lost = true;
                        }
                        // A lost block makes more reads and writes: the last `end` lets all of them pass.
                        k < end || end > did.len()
                    });
                    if !lost {
                        run.rot(offset, len);
                    }
                    let acknowledged = match outcome {
                        Some(Ok((number, _))) => Some(number),
                        Some(Err(e)) => panic!("{what}: {e}"),
                        None => None,
                    };
                    goes_on(&g, &run, &old, &new, acknowledged, &what);
                }
            }
        }
    }
}

/// A holder dies anywhere, the next one goes on and dies anywhere, and then one block is lost.
#[test]
fn one_lost_block_after_two_crashes_loses_nothing() {
    let (g, disk, old) = start();
    for (n, dead) in changes(&g).into_iter().enumerate().step_by(2) {
        let (did, ..) = steps(&g, &disk, 10, dead);
        let mut at = disk.clone();
        for (k, step) in did.iter().enumerate() {
            if let Did::Write { offset, bytes, .. } = step {
                at.put(*offset, bytes);
            }
            let before = load(&g, &at, old.header.commit).unwrap();
            let (next, after, number) = steps(&g, &at, 20, next_change());
            let mut run = at.clone();
            for (end, step) in next.iter().enumerate() {
                if let Did::Write { offset, bytes, .. } = step {
                    run.put(*offset, bytes);
                }
                let acknowledged = (end + 1 == next.len()).then_some(number);
                for (offset, len) in targets(&g) {
                    let what = format!("change {n} cut after step {k}, next after {end}, byte {offset} lost");
                    let mut lost = run.clone();
                    lost.rot(offset, len);
                    let found =
                        load(&g, &lost, acknowledged.unwrap_or_default()).unwrap_or_else(|f| panic!("{what}: {f:?}"));
                    // A lost newest header may take an unacknowledged commit back, never an acknowledged one.
                    let allowed = [state(&before), state(&after), state(&old)];
                    assert!(allowed.contains(&state(&found)), "{what}: {:?}", state(&found));
                    goes_on(&g, &lost, &found, &after, acknowledged, &what);
                }
            }
        }
    }
}

/// The late write of a holder that died before it, landing at any instant of the next holder's commit.
#[test]
fn one_late_write_at_any_instant_loses_nothing() {
    let (g, disk, _) = start();
    for (n, dead) in changes(&g).into_iter().enumerate() {
        let (dead_did, dead_new, _) = steps(&g, &disk, 10, dead);
        let mut at = disk.clone();
        for (k, step) in dead_did.iter().enumerate() {
            let Did::Write { offset, bytes, .. } = step else { continue };
            // The same cell, several cells, the header alone.
            for (m, change) in changes(&g).into_iter().enumerate().step_by(2) {
                late_write(&g, &at, (*offset, bytes), &dead_new, &change, &format!("{n}.{k} late in {m}"));
            }
            at.put(*offset, bytes);
        }
    }
}

fn late_write(g: &Geometry, at: &Disk, late: (u64, &[u8]), dead_new: &Tables, change: &Change, what: &str) {
    let before = load(g, at, CommitNo::default()).unwrap();
    let (did, mine, _) = steps(g, at, 20, change.clone());
    for when in 0..=did.len() {
        for end in when..=did.len() {
            let what = format!("{what}, before step {when}, cut at {end}");
            let mut run = at.clone();
            let mut machine = Commit::new(g, tenure(20), before.clone(), change.clone());
            let mut landed = false;
            let (_, outcome) = drive(&mut machine, &mut run, |k, _, disk| {
                if k == when && !landed {
                    disk.put(late.0, late.1);
                    landed = true;
                }
                k < end || end == did.len()
            });
            if !landed {
                run.put(late.0, late.1);
            }
            match outcome {
                Some(Ok((number, tables))) => goes_on(g, &run, &tables, &tables, Some(number), &what),
                // The dead one's header landed before this one looked: it loads again, nothing is lost.
                Some(Err(CommitError::Moved { .. })) => goes_on(g, &run, dead_new, dead_new, None, &what),
                Some(Err(e)) => panic!("{what}: {e}"),
                None => {
                    let found = load(g, &run, CommitNo::default()).unwrap_or_else(|f| panic!("{what}: {f:?}"));
                    let allowed = [state(&before), state(dead_new), state(&mine)];
                    assert!(allowed.contains(&state(&found)), "{what}: {:?}", state(&found));
                    goes_on(g, &run, &found, &found, None, &what);
                }
            }
        }
    }
}

#[test]
fn check_tells_an_unfinished_transaction_from_damage() {
    let (g, disk, _) = start();
    for change in changes(&g) {
        let (did, ..) = steps(&g, &disk, 10, change);
        let mut at = disk.clone();
        for step in &did {
            if let Did::Write { offset, bytes, .. } = step {
                at.put(*offset, bytes);
            }
            let worst = check::check(&at).worst();
            assert!(worst.is_none_or(|w| w == check::Severity::Note), "{worst:?}");
        }
        assert!(check::check(&at).clean, "a finished commit leaves nothing to find");
    }
}

#[test]
fn a_step_asked_for_twice_is_the_same() {
    let (g, disk, tables) = start();
    let commit = Commit::new(&g, tenure(10), tables, next_change());
    assert_eq!(commit.step(), commit.step());
    assert!(matches!(commit.step(), CommitStep::Read { .. }));
    assert!(check::check(&disk).clean);
    assert!(matches!(targets(&g).len(), 18), "{:?}", CellId::Client(SlotIndex(0)));
}
