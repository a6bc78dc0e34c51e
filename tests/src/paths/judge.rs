//! The outside witness at the disk itself: who may write which volume, told by the tables as they land on the control
//! volume, and who does write it.
//!
//! Every write of every host to every image passes here, one at a time. A write to the control volume that makes a newer
//! version of a volume control table names the writer from then on, or that there is none; a write to the volume from any
//! other host after it is a violation. No clock is needed for that: it is the order in which bytes land. It is stricter than
//! the promise, which begins only when the table's header is stable as well.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use lockdriver::sys::clock::boottime;
use ondisk::{CellId, CommitNo, Geometry, VolumeTable};
use serde::{Deserialize, Serialize};

/// Something that happened, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When, in milliseconds of CLOCK_BOOTTIME.
    pub at_ms: u64,
    /// What.
    pub text: String,
}

/// What was seen since the last report; violations since the beginning.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Writes by hosts that had no grant.
    pub violations: Vec<Line>,
    /// Grants and bursts of writes, oldest first.
    pub lines: Vec<Line>,
    /// Who has the write privilege now, by image.
    pub writers: BTreeMap<String, String>,
    /// Writes to volumes that landed.
    pub writes: u64,
    /// Grants that landed.
    pub grants: u64,
}

/// The first violations are enough to read.
const VIOLATIONS_MAX: usize = 20;

#[derive(Debug, Default, Clone, Copy)]
struct Right {
    commit: CommitNo,
    /// Slot and epoch of the writer.
    writer: Option<(u16, u64)>,
}

#[derive(Debug, Clone)]
struct Burst {
    host: String,
    image: String,
    first_ms: u64,
    last_ms: u64,
    writes: u64,
    bytes: u64,
}

pub(super) struct Judge {
    /// Hosts by their slots.
    hosts: BTreeMap<u16, String>,
    cells: Vec<(Range<u64>, ondisk::Place)>,
    clients: usize,
    rights: BTreeMap<String, Right>,
    burst: Option<Burst>,
    seen: Seen,
}

fn now_ms() -> u64 {
    u64::try_from(boottime().as_millis()).unwrap_or(u64::MAX)
}

impl Judge {
    pub(super) fn new(geometry: &Geometry, hosts: BTreeMap<u16, String>) -> Self {
        let mut cells = Vec::new();
        for volume in geometry.volumes() {
            for (version, copy) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let cell = CellId::Volume(volume);
                let place = geometry.cell_block(cell, version, copy);
                cells.push((place.offset..place.offset + geometry.cell_bytes(cell) as u64, place));
            }
        }
        let clients = usize::from(geometry.max_clients());
        Self { hosts, cells, clients, rights: BTreeMap::new(), burst: None, seen: Seen::default() }
    }

    /// Bytes of the control volume have landed: what do they say of the volumes?
    pub(super) fn tables_written(&mut self, control: &File, range: &Range<u64>) {
        let touched = self.cells.iter().filter(|(cell, _)| cell.start < range.end && range.start < cell.end);
        for (cell, place) in touched.cloned().collect::<Vec<_>>() {
            let mut block = vec![0; usize::try_from(cell.end - cell.start).unwrap_or(0)];
            if control.read_exact_at(&mut block, cell.start).is_err() {
                continue;
            }
            if let Some((Some(table), commit, _)) = VolumeTable::decode(&block, place, self.clients).valid() {
                let writer = table.writer.map(|grant| (grant.slot.0, grant.epoch));
                self.table(&format!("{}.img", table.name), commit, writer);
            }
        }
    }

    fn table(&mut self, image: &str, commit: CommitNo, writer: Option<(u16, u64)>) {
        let right = self.rights.entry(image.to_owned()).or_default();
        // The other copy of it, or one that was written anew.
        if commit <= right.commit {
            return;
        }
        let before = std::mem::replace(right, Right { commit, writer }).writer;
        if before == writer {
            return;
        }
        self.end_burst();
        let text = match writer {
            Some((slot, epoch)) => {
                self.seen.grants += 1;
                format!("TABLE  {image}: {} is the writer, grant {epoch}", self.name(slot))
            }
            None => format!("TABLE  {image}: no writer"),
        };
        self.seen.lines.push(Line { at_ms: now_ms(), text });
    }

    fn name(&self, slot: u16) -> String {
        self.hosts.get(&slot).cloned().unwrap_or_else(|| format!("slot {slot}"))
    }

    /// Bytes of a volume are landing.
    pub(super) fn volume_write(&mut self, host: &str, image: &str, range: &Range<u64>) {
        let at_ms = now_ms();
        self.seen.writes += 1;
        let writer = self.rights.get(image).and_then(|right| right.writer);
        let may = writer.is_some_and(|(slot, _)| self.hosts.get(&slot).is_some_and(|name| name == host));
        if !may && self.seen.violations.len() < VIOLATIONS_MAX {
            let whose =
                writer.map_or("nobody's".to_owned(), |(slot, epoch)| format!("{}'s, grant {epoch}", self.name(slot)));
            let text =
                format!("VIOLATION  {host} wrote bytes {}..{} of {image}, which is {whose}", range.start, range.end);
            self.seen.violations.push(Line { at_ms, text: text.clone() });
            self.end_burst();
            self.seen.lines.push(Line { at_ms, text });
        }
        let bytes = range.end - range.start;
        match self.burst.as_mut().filter(|b| b.host == host && b.image == image && at_ms < b.last_ms + 200) {
            Some(burst) => {
                burst.last_ms = at_ms;
                burst.writes += 1;
                burst.bytes += bytes;
            }
            None => {
                self.end_burst();
                let (host, image) = (host.to_owned(), image.to_owned());
                self.burst = Some(Burst { host, image, first_ms: at_ms, last_ms: at_ms, writes: 1, bytes });
            }
        }
    }

    fn end_burst(&mut self) {
        let Some(Burst { host, image, first_ms, last_ms, writes, bytes }) = self.burst.take() else { return };
        let lasted = last_ms - first_ms;
        let text = format!("DISK   {image}: {writes} writes by {host} in {lasted} ms, {} KiB", bytes >> 10);
        self.seen.lines.push(Line { at_ms: first_ms, text });
    }

    pub(super) fn report(&mut self) -> Seen {
        self.end_burst();
        let lines = std::mem::take(&mut self.seen.lines);
        let writer = |(image, right): (&String, &Right)| Some((image.clone(), self.name(right.writer?.0)));
        Seen { lines, writers: self.rights.iter().filter_map(writer).collect(), ..self.seen.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: &str = "footage.img";

    fn judge() -> Judge {
        let hosts = [(0, "alice".to_owned()), (1, "bob".to_owned())].into();
        Judge { hosts, cells: Vec::new(), clients: 4, rights: BTreeMap::new(), burst: None, seen: Seen::default() }
    }

    fn commit(epoch: u64) -> CommitNo {
        CommitNo { epoch, count: 1 }
    }

    #[test]
    fn only_the_writer_of_the_newest_table_may_write() {
        let mut judge = judge();
        judge.volume_write("alice", IMAGE, &(0..512));
        assert_eq!(judge.report().violations.len(), 1, "nobody had it");
        judge.table(IMAGE, commit(5), Some((0, 5)));
        judge.volume_write("alice", IMAGE, &(0..512));
        assert_eq!(judge.report().violations.len(), 1);
        judge.table(IMAGE, commit(6), None);
        judge.volume_write("alice", IMAGE, &(0..512));
        assert_eq!(judge.report().violations.len(), 2, "she gave it back");
        judge.table(IMAGE, commit(7), Some((1, 7)));
        // An old version that is written anew changes nothing.
        judge.table(IMAGE, commit(5), Some((0, 5)));
        judge.volume_write("bob", IMAGE, &(0..512));
        assert_eq!(judge.report().violations.len(), 2);
        judge.volume_write("alice", IMAGE, &(512..1024));
        let seen = judge.report();
        assert_eq!(seen.violations.len(), 3, "a late write");
        assert!(seen.violations[2].text.contains("alice wrote bytes 512..1024"), "{:?}", seen.violations);
    }
}
