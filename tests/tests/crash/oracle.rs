//! What must be true of every disk that a crash leaves: opened again by the code that ships.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use lockdriver::check::{self, BlockId, Finding, RepairOptions, Severity, blocks, repair};
use lockdriver::poll::PollDecoder;
use lockdriver::tables::{IoResult, LoadStep, Loader, Tables};
use lockdriver::transaction::{Change, Commit, CommitStep, Tenure};
use ondisk::{ClientRecord, CommitNo, Geometry, Incarnation, SlotIndex, Superblock, VolumeTable};

use super::disk::{Crash, Image, Recording};

/// What counts of the tables: clients, volumes with all that they say, and who is reaped.
type State = (Vec<Option<ClientRecord>>, Vec<Option<VolumeTable>>, Vec<Incarnation>);

fn state(tables: &Tables) -> State {
    (tables.clients.clone(), tables.volumes.clone(), tables.header.reaped.clone())
}

/// A control volume opened as every daemon and command opens it.
pub(super) struct Opened {
    pub(super) geometry: Geometry,
    pub(super) tables: Tables,
    /// The next ticket must be greater.
    pub(super) newest: u64,
    /// The highest commit that anybody has acknowledged.
    pub(super) mark: CommitNo,
}

/// Superblock, slots, header, tables.
///
/// # Errors
/// What cannot be believed.
pub(super) fn open(image: &Image) -> Result<Opened, String> {
    let last = image.0.len() as u64 - 4096;
    let found = [0, last].into_iter().find_map(|at| Superblock::decode(image.get(at, 4096)?, at).valid());
    let geometry = Geometry::of(&found.ok_or("no superblock")?).map_err(|e| e.to_string())?;
    let area = geometry.poll_area();
    let bytes = image.get(area.start, usize::try_from(area.end - area.start).unwrap()).ok_or("no slots")?;
    let mut decoder = PollDecoder::new(geometry.clone());
    // The second poll knows the marks of the first.
    decoder.decode(bytes, &[], Duration::ZERO, Duration::ZERO);
    let poll = decoder.decode(bytes, &[], Duration::ZERO, Duration::ZERO);
    if let Some((slot, mark)) = poll.damage_below_mark() {
        return Err(format!("slot {slot} acknowledged {mark}, which is lost"));
    }
    let (mark, newest) = (poll.older_mark.map(|(_, mark)| mark).unwrap_or_default(), poll.max_ticket_and_epoch());
    let tables = load(&geometry, image, mark).map_err(|found| format!("{found:?}"))?;
    Ok(Opened { geometry, tables, newest, mark })
}

fn load(geometry: &Geometry, image: &Image, mark: CommitNo) -> Result<Tables, Vec<Finding>> {
    let mut loader = Loader::new(geometry, mark);
    loop {
        match loader.step() {
            LoadStep::Read { offset, len } => {
                loader.done(image.get(offset, len).map_or(IoResult::Failed, |b| IoResult::Bytes(b.to_vec())));
            }
            LoadStep::Done(tables) => return Ok(tables),
            LoadStep::Damaged(found) => return Err(found),
            LoadStep::Retry => return Err(loader.give_up()),
        }
    }
}

/// Commits a change as the next holder of the semaphore does, from an administration slot.
pub(super) fn next_holder(image: &mut Image, opened: &Opened, change: Change) -> Result<Tables, String> {
    let slot = SlotIndex(opened.geometry.max_clients() + 3);
    let tenure = Tenure::new(opened.newest + 1, slot, Incarnation(u64::MAX - 1));
    let mut commit = Commit::new(&opened.geometry, tenure, opened.tables.clone(), change);
    loop {
        let result = match commit.step() {
            CommitStep::Read { offset, len } => {
                image.get(offset, len).map_or(IoResult::Failed, |b| IoResult::Bytes(b.to_vec()))
            }
            CommitStep::Write { offset, bytes, .. } => {
                image.put(usize::try_from(offset).unwrap(), &bytes);
                IoResult::Done
            }
            CommitStep::Flush => IoResult::Done,
            CommitStep::Committed { tables, .. } => return Ok(tables),
            CommitStep::Failed(why) => return Err(why.to_string()),
        };
        commit.done(result);
    }
}

/// A change that touches every cell, and alters nothing: the next holder meets whatever was left anywhere.
fn touch_all(tables: &Tables) -> Change {
    let change = Change::default();
    let clients = (0..).map(SlotIndex).zip(tables.clients.iter().cloned()).collect();
    let volumes = (0..).map(ondisk::VolumeIndex).zip(tables.volumes.iter().cloned()).collect();
    Change { clients, volumes, ..change }
}

/// What is known of a recording before its crashes are looked at.
struct Before {
    /// What the tables say after each number of steps.
    states: Vec<State>,
    /// The blocks by their places.
    blocks: HashMap<u64, BlockId>,
    /// Blocks that were damaged before it all began: a repair was recorded.
    damaged: BTreeSet<BlockId>,
}

/// How many crashes of a recording were looked at.
pub(super) fn survives_every_crash(recording: &Recording) -> usize {
    assert!(!recording.steps.is_empty(), "{}: something was written", recording.name);
    let open = |image: &Image| open(image).unwrap_or_else(|e| panic!("{}: {e}", recording.name));
    let before = Before {
        states: recording.prefixes().iter().map(|image| state(&open(image).tables)).collect(),
        blocks: blocks(&open(&recording.base).geometry).map(|(id, offset, _)| (offset, id)).collect(),
        damaged: check::check(&recording.base).findings.into_iter().map(|f| f.block).collect(),
    };
    recording.crashes(|crash| one_crash(&crash, &before))
}

fn one_crash(crash: &Crash, before: &Before) {
    let what = &crash.what;
    let opened = open(&crash.image).unwrap_or_else(|e| panic!("{what}: {e}"));
    // Old or new, never a third; after the last step, and whatever an unflushed write was, the new.
    let found = state(&opened.tables);
    let after = crash.steps + usize::from(crash.torn.is_some());
    let (old, new) = (&before.states[crash.steps], &before.states[after]);
    assert!(found == *old || found == *new, "{what}: {found:?}\nold {old:?}\nnew {new:?}");
    assert!(opened.tables.header.commit >= opened.mark, "{what}");
    if crash.again {
        return;
    }
    let report = check::check(&crash.image);
    let torn = crash.torn.and_then(|offset| before.blocks.get(&(offset as u64)).copied());
    for finding in &report.findings {
        let unfinished = finding.severity == Severity::Note;
        let half = torn == Some(finding.block) || before.damaged.contains(&finding.block);
        let expected = unfinished || half && finding.severity == Severity::Redundancy;
        assert!(expected, "{what}: {finding} ({:?})", finding.severity);
    }
    the_next_one_goes_on(crash, &opened, before, torn);
    // What is clean needs no repair: that it gets none is shown where repair is tested.
    if !report.clean {
        repair_ends_it(crash, &opened, &report, what);
    }
}

/// The next transaction succeeds, alters only what it is to alter, and leaves nothing unfinished behind.
fn the_next_one_goes_on(crash: &Crash, opened: &Opened, before: &Before, torn: Option<BlockId>) {
    let what = &crash.what;
    let mut image = crash.image.clone();
    let change = touch_all(&opened.tables);
    let after = next_holder(&mut image, opened, change).unwrap_or_else(|e| panic!("{what}: the next holder: {e}"));
    assert_eq!(state(&after), state(&opened.tables), "{what}: the next holder changes nothing else");
    let again = open(&image).unwrap_or_else(|e| panic!("{what}: after the next holder: {e}"));
    assert_eq!(again.tables, after, "{what}: and is believed");
    for finding in check::check(&image).findings {
        // Slots and pages are their owner's: it writes them anew with its next beat, or its next log-on. A superblock is written
        // by repair alone.
        let others = !matches!(finding.block, BlockId::Header(_) | BlockId::Cell(..));
        let known = torn == Some(finding.block) || before.damaged.contains(&finding.block);
        assert!(others && (finding.severity == Severity::Note || known), "{what}: then {finding}");
    }
}

/// Repair makes it clean, once everybody has stopped and is reaped, and forgets no client and no volume.
fn repair_ends_it(crash: &Crash, opened: &Opened, report: &check::Report, what: &str) {
    let mut image = crash.image.clone();
    let slots: Vec<_> = opened.geometry.slots().collect();
    let over = |slot: SlotIndex| (slot, Incarnation(1 << 40));
    let options = RepairOptions {
        commit: CommitNo { epoch: opened.newest + 1, count: 1 },
        accept_loss: false,
        still: slots.clone(),
        passed: Vec::new(),
    };
    let mut plan = repair(report, &options).unwrap_or_else(|e| panic!("{what}: repair: {e}"));
    if plan.left.iter().any(|f| f.severity > Severity::Note) {
        // What is left is a living client's. It dies: the next tenure passes it.
        let mut reaped = crash.image.clone();
        let change = Change { reaped: slots.into_iter().map(over).collect(), ..Change::default() };
        next_holder(&mut reaped, opened, change).unwrap_or_else(|e| panic!("{what}: reaping: {e}"));
        let commit = CommitNo { epoch: opened.newest + 2, count: 1 };
        plan = repair(&check::check(&reaped), &RepairOptions { commit, ..options })
            .unwrap_or_else(|e| panic!("{what}: repair of the dead: {e}"));
        image = reaped;
    }
    for write in &plan.writes {
        image.put(usize::try_from(write.offset).unwrap(), &write.bytes);
    }
    let after = check::check(&image);
    assert!(after.worst() <= Some(Severity::Note), "{what}: repaired, and then {:?}", after.findings);
    let tables = after.tables.unwrap_or_else(|| panic!("{what}: no tables after repair"));
    let (clients, volumes, _) = state(&tables);
    let (old_clients, old_volumes, _) = state(&opened.tables);
    assert_eq!((clients, volumes), (old_clients, old_volumes), "{what}: repair forgets nothing");
}
