//! What must hold at every moment (section 2 of the design), judged from outside: from the bytes on the medium and from
//! what kernels do, never from what a client believes.

use ondisk::{
    CellId, CommitNo, Generation, GrantState, LockKind, ReadersPolicy, SlotIndex, TableHeader, VolumeTable, elect,
};

use lockdriver::tables::cells;

use crate::disk::Region;
use crate::volumes::{GateId, kind};
use crate::world::{HostId, ProcId, World};

/// What the oracle remembers.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// The tables as a fresh reader would find them now.
    pub(crate) header: Option<TableHeader>,
    /// The volumes' tables under that header.
    pub(crate) tables: Vec<Option<VolumeTable>>,
    /// The highest commit that could be elected at any time.
    top: CommitNo,
    /// What lands just now, its writer does not count on: it has heard of an error, or is gone.
    pub(crate) late: bool,
    /// The elected header landed late.
    came_late: bool,
    /// The highest commit that was acknowledged.
    pub(crate) acknowledged: CommitNo,
    /// The highest epoch under which somebody was inside.
    pub(crate) inside: u64,
    /// How many commits there were.
    pub(crate) commits: u64,
    /// How many grants came into being.
    pub(crate) grants: u64,
    /// Whose write lands just now.
    pub(crate) writer: Option<HostId>,
    /// How long clients waited before the semaphore.
    pub(crate) waits: Waits,
    /// The epoch of the newest grant of each volume.
    last_grant: Vec<u64>,
}

/// How many turns others had between the begin of a client's wait and its own turn.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Waits {
    /// Turns.
    pub(crate) turns: u64,
    /// Turns of others before them, all together.
    before: u64,
    /// The longest wait.
    pub(crate) longest: u64,
    /// The longest after trouble was over.
    calm: u64,
    /// Waits that ended without a turn, though the login went on.
    vain: u64,
}

impl Waits {
    /// A turn came.
    fn turn(&mut self, before: u64, calm: bool) {
        self.turns += 1;
        self.before += before;
        self.longest = self.longest.max(before);
        self.calm = self.calm.max(if calm { before } else { 0 });
    }

    /// A wait was in vain.
    pub(crate) fn vain(&mut self) {
        self.vain += 1;
    }

    /// Together with another run's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.turns += other.turns;
        self.before += other.before;
        self.longest = self.longest.max(other.longest);
        self.calm = self.calm.max(other.calm);
        self.vain += other.vain;
    }
}

impl std::fmt::Display for Waits {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mean = self.before as f64 / self.turns.max(1) as f64;
        let Self { turns, longest, calm, vain, .. } = self;
        write!(out, "{mean:.2} of {turns}, at most {longest}, {calm} after trouble; {vain} waited in vain")
    }
}

impl World {
    /// A process hands a write to the kernel. Only under a live lease, but for the claim; and only what is its own.
    pub(crate) fn look_at_submission(&mut self, proc: ProcId, region: Region, at: usize, data: &[u8]) {
        let process = &self.procs[proc];
        let now = self.clock_of(process.host);
        let live = process.deadline.as_ref().is_some_and(|d| d.get(now).is_live());
        let who = self.name(process.host);
        if process.claiming {
            // Before it registers, a client tries whether it may write.
            let tries = region == Region::Word && self.plan.lock == LockKind::Pr;
            if region != Region::Slot && !tries {
                self.fail(format!("{who} writes {region:?} before its claim stands"));
            }
            return;
        }
        if !live {
            self.fail(format!("{who} writes {region:?} at {at} though its lease is over"));
        }
        if region == Region::Other {
            self.fail(format!("{who} writes {} bytes at {at}, which belongs to nobody", data.len()));
        }
    }

    /// Bytes of a region landed: what would a fresh reader see?
    pub(crate) fn look_at_landing(&mut self, region: Region) {
        if !matches!(region, Region::Header | Region::Cell) {
            return;
        }
        let Some(header) = self.elected_header() else {
            if self.oracle.acknowledged > CommitNo::default() {
                self.fail("no header can be elected any more");
            }
            return;
        };
        if header.commit < self.oracle.acknowledged {
            let acknowledged = self.oracle.acknowledged;
            self.fail(format!("the header goes back to {} though {acknowledged} was acknowledged", header.commit));
            return;
        }
        let mut tables = Vec::new();
        for cell in self.disk.geometry.clone().cells() {
            match self.read_cell(&header, cell) {
                Some(cells::Content::Volume(table)) => tables.push(table),
                Some(_) => {}
                None => {
                    self.fail(format!("{cell:?} as commit {} names it can be read from no copy", header.commit));
                    return;
                }
            }
        }
        self.look_at_advance(&header);
        self.look_at_grants(&tables);
        self.oracle.tables = tables;
        self.oracle.header = Some(header);
    }

    fn elected_header(&self) -> Option<TableHeader> {
        let g = &self.disk.geometry;
        let copies = [0, 1].map(|copy| {
            let place = g.header_copy(copy);
            let at = usize::try_from(place.offset).expect("a small disk");
            match lockdriver::check::ReadAt::read(&self.disk, place.offset, g.header_bytes()) {
                Ok(_) => TableHeader::decode(&self.disk.bytes[at..at + g.header_bytes()], place, g),
                Err(_) => ondisk::Verdict::Absent,
            }
        });
        elect::header(&copies).map(|e| e.content)
    }

    fn read_cell(&self, header: &TableHeader, cell: CellId) -> Option<cells::Content> {
        let g = &self.disk.geometry;
        let entry = header.cells[g.cell_index(cell)];
        let read = |copy| {
            let offset = g.cell_block(cell, entry.version, copy).offset;
            lockdriver::check::ReadAt::read(&self.disk, offset, g.cell_bytes(cell)).ok()
        };
        let copies = [read(0), read(1)];
        cells::named(g, cell, &entry, [copies[0].as_deref(), copies[1].as_deref()]).content
    }

    /// A newer commit: nothing that stood is lost by it, and nobody who lives is reaped.
    fn look_at_advance(&mut self, header: &TableHeader) {
        let Some(before) = self.oracle.header.take() else { return };
        if header.commit == before.commit {
            return;
        }
        self.oracle.commits += 1;
        self.note(|_| format!("the tables are at commit {}", header.commit));
        let top = self.oracle.top;
        self.oracle.top = top.max(header.commit);
        // A late header of somebody whose commit was never acknowledged may come between the two copies of a commit, or be there
        // from when the next holder has read the tables until it has written them.
        let came_late = std::mem::replace(&mut self.oracle.came_late, self.oracle.late);
        let came_between = (came_late || header.commit <= top) && before.commit > self.oracle.acknowledged;
        if header.commit > before.commit && !came_between {
            for (i, (new, old)) in header.cells.iter().zip(&before.cells).enumerate() {
                if new != old && new.commit.epoch != header.commit.epoch {
                    self.fail(format!("commit {} takes cell {i} back to {}", header.commit, new.commit));
                }
            }
            for (slot, (new, old)) in (0..).map(SlotIndex).zip(header.reaped.iter().zip(&before.reaped)) {
                if new < old {
                    self.fail(format!("commit {} forgets that {slot} was reaped up to {old}", header.commit));
                }
                if new > old {
                    self.look_at_reaping(slot, *new);
                }
            }
        }
    }

    fn look_at_reaping(&mut self, slot: SlotIndex, upto: ondisk::Incarnation) {
        self.note(|_| format!("{slot} is reaped up to incarnation {upto}"));
        self.look_at_expulsion(slot, upto);
        for proc in 0..self.procs.len() {
            let process = &self.procs[proc];
            let Some((own, incarnation)) = process.login else { continue };
            if own != slot || incarnation > upto || process.dead {
                continue;
            }
            let now = self.clock_of(process.host);
            if process.deadline.as_ref().is_some_and(|d| d.get(now).is_live()) {
                let who = self.name(process.host);
                self.fail(format!("{who}'s login {incarnation} is reaped though its lease still runs"));
            }
        }
    }

    fn look_at_grants(&mut self, tables: &[Option<VolumeTable>]) {
        self.oracle.last_grant.resize(tables.len(), 0);
        for (i, table) in tables.iter().enumerate() {
            let Some(grant) = table.as_ref().and_then(|t| t.writer) else { continue };
            if grant.epoch > self.oracle.last_grant[i] {
                self.oracle.last_grant[i] = grant.epoch;
                self.oracle.grants += 1;
                self.note(|w| format!("{} is granted to {} as {}", w.volumes.list[i].name, grant.slot, grant.epoch));
                self.look_at_volume(i);
            } else if grant.epoch < self.oracle.last_grant[i] {
                let last = self.oracle.last_grant[i];
                self.fail(format!("grant {} of volume {i} is back, though {last} came after it", grant.epoch));
            }
        }
    }

    /// Somebody is inside the semaphore, who began to wait after so many turns of all. A lease that is over stays over: whoever enters
    /// without one (an older login's thread, say, while its daemon has a new login) can write nothing, so its number matters to nobody.
    pub(crate) fn look_at_entry(&mut self, proc: ProcId, epoch: u64, since: u64, live: bool) {
        let (before, calm) = (self.oracle.waits.turns - since, self.calm);
        self.oracle.waits.turn(before, calm);
        let who = self.name(self.procs[proc].host);
        self.note(|_| format!("{who}: inside with epoch {epoch}"));
        let last = self.oracle.inside;
        if epoch == last {
            self.fail(format!("{who} is inside with epoch {epoch}, which was used before"));
        }
        if epoch < last && live {
            self.fail(format!("{who} is inside with epoch {epoch} after {last} was"));
        }
        if live {
            self.oracle.inside = last.max(epoch);
        }
    }

    /// A slot went bad, and with it, perhaps, the only place where the epoch of a tenure stood that has committed nothing: then the next
    /// one may be lower. It takes a late header of that tenure as well to do harm by that.
    pub(crate) fn forget_tickets(&mut self) {
        self.oracle.inside = self.oracle.header.as_ref().map_or(0, |h| h.commit.epoch);
    }

    /// A change was acknowledged.
    pub(crate) fn look_at_acknowledged(&mut self, commit: CommitNo) {
        self.oracle.acknowledged = self.oracle.acknowledged.max(commit);
        self.look_at_landing(Region::Header);
    }

    /// The gates of a volume: one writer, and readers only as promised.
    pub(crate) fn look_at_volume(&mut self, volume: usize) {
        let open: Vec<GateId> =
            self.volumes.alive.iter().filter(|id| self.volumes.gates[**id].volume == volume).copied().collect();
        let writers: Vec<GateId> = open.iter().filter(|id| self.volumes.gates[**id].epoch.is_some()).copied().collect();
        let name = self.volumes.list[volume].name.clone();
        if writers.len() > 1 {
            let who: Vec<String> = writers.iter().map(|id| self.name(self.volumes.gates[*id].host)).collect();
            self.fail(format!("{name} has two writers: {}", who.join(" and ")));
        }
        let readers = self.volumes.list[volume].readers;
        for id in open {
            let gate = &self.volumes.gates[id];
            if gate.epoch.is_some() || !gate.open {
                continue;
            }
            let (who, generation) = (self.name(gate.host), gate.generation);
            let other = writers.iter().any(|w| self.volumes.gates[*w].proc != gate.proc);
            if readers == ReadersPolicy::Exclusive && other {
                self.fail(format!("{who} has {name} open for reading while another writes"));
            }
            if readers == ReadersPolicy::Snapshot && !self.volumes.list[volume].snapshots.contains(&generation) {
                self.fail(format!("{who} reads {name} at {generation}, whose snapshot is deleted"));
            }
        }
    }

    /// A write lands: the tables must name its writer, and no other.
    pub(crate) fn look_at_write(&mut self, id: GateId) {
        let gate = &self.volumes.gates[id];
        let (volume, who) = (gate.volume, self.name(gate.host));
        let name = self.volumes.list[volume].name.clone();
        let writer = self.oracle.tables.get(volume).and_then(|t| t.as_ref()?.writer);
        let epoch = gate.epoch;
        let what = match writer {
            Some(grant) if Some(grant.epoch) == epoch && grant.state != GrantState::Pending => return,
            Some(grant) if Some(grant.epoch) == epoch => "its grant is still pending".to_owned(),
            Some(grant) => format!("grant {} is {}'s", grant.epoch, grant.slot),
            None => "the tables name no writer".to_owned(),
        };
        self.fail(format!("a write of {who} ({}) lands on {name} while {what}", kind(epoch, Generation::NONE)));
    }

    /// A reader's gate opens: what it shows must have been published as what it is said to be.
    pub(crate) fn look_at_reader(&mut self, id: GateId) {
        let gate = &self.volumes.gates[id];
        let volume = &self.volumes.list[gate.volume];
        let who = self.name(gate.host);
        let generation = gate.generation;
        let shown = volume.published.get(&generation);
        if volume.readers == ReadersPolicy::Exclusive && shown != Some(&volume.content) {
            let name = &volume.name;
            let text = format!(
                "{who} mounts {name} as {generation}, which is not what was published ({shown:?}, on disk {})",
                volume.content
            );
            self.fail(text);
        }
    }
}
