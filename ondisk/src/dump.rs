//! A whole control volume as text and JSON: every field of every block, and the verdict on every copy.
//!
//! `volctl dump` prints it. The keys are those of section 9, with `cells` and `damage` beside them; `docs/ondisk.md`
//! describes the JSON. Bytes come through a read function, so that this crate stays without I/O.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::block::Place;
use crate::elect::{self, Elected};
use crate::error::{Corrupt, Verdict};
use crate::geometry::{CellId, Geometry};
use crate::header::{CellEntry, TableHeader};
use crate::ids::{CommitNo, SlotIndex};
use crate::superblock::{SUPERBLOCK_BYTES, Superblock};
use crate::volume_table::VolumeTable;
use crate::{ClientPage, ClientRecord, SlotSector};

mod text;
pub mod view;

pub use text::to_text;
use view::{ClientView, HeaderView, PageView, SlotView, SuperblockView, VolumeView};

/// Reads `len` bytes from byte `offset` of the control volume; an error in words.
pub type Read<'a> = &'a dyn Fn(u64, usize) -> Result<Vec<u8>, String>;

/// How often a dump is begun anew when a commit passed under it.
const ATTEMPTS: usize = 3;

/// One copy of a block and what it was found to be.
#[derive(Debug, Clone, Serialize)]
pub struct CopyDump<V> {
    /// First byte on the control volume.
    pub offset: u64,
    /// valid, absent, corrupt, unsupported or unreadable.
    pub verdict: &'static str,
    /// Why it is not valid, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it says, where it is valid and not what counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<V>,
}

/// A block with two copies: what counts, taken from one of them.
#[derive(Debug, Clone, Serialize)]
pub struct Pair<V> {
    /// What counts, nothing when no copy was elected.
    #[serde(flatten)]
    pub content: Option<V>,
    /// The copy that counts.
    pub elected: Option<usize>,
    /// The other copy is valid and says the same.
    pub whole: bool,
    /// Both copies.
    pub copies: Vec<CopyDump<V>>,
}

/// One slot: the sector that counts, and both.
#[derive(Debug, Clone, Serialize)]
pub struct SlotDump {
    /// Its number.
    pub slot: SlotIndex,
    /// An administration slot.
    pub admin: bool,
    /// Both sectors are valid.
    pub known: bool,
    /// What the slot says (of an unknown slot: what is legible of it).
    #[serde(flatten)]
    pub content: Option<SlotView>,
    /// The first sector, of odd incarnations, and the second.
    pub sectors: Vec<CopyDump<SlotView>>,
}

/// One client page.
#[derive(Debug, Clone, Serialize)]
pub struct PageDump {
    /// Whose.
    pub slot: SlotIndex,
    /// Its content and copies.
    #[serde(flatten)]
    pub page: Pair<PageView>,
}

/// One block of a cell.
#[derive(Debug, Clone, Serialize)]
pub struct CellBlock {
    /// 0 or 1.
    pub version: u8,
    /// 0 or 1.
    pub copy: usize,
    /// The commit that wrote it.
    pub commit: Option<String>,
    /// The checksum by which the header would name it.
    pub crc: Option<String>,
    /// Place, verdict, and what it says if that is not what counts.
    #[serde(flatten)]
    pub block: CopyDump<view::CellView>,
}

/// One cell: all four blocks of it.
#[derive(Debug, Clone, Serialize)]
pub struct CellDump {
    /// Which.
    #[serde(flatten)]
    pub cell: CellId,
    /// Both copies of the current version are valid and are what the header names.
    pub whole: bool,
    /// Both versions, each in two copies.
    pub blocks: Vec<CellBlock>,
}

/// A whole control volume.
#[derive(Debug, Clone, Serialize)]
pub struct Dump {
    /// The superblock.
    pub superblock: Pair<SuperblockView>,
    /// The table header.
    pub header: Option<Pair<HeaderView>>,
    /// All slots, administration slots last.
    pub slots: Vec<SlotDump>,
    /// All client pages.
    pub pages: Vec<PageDump>,
    /// What the tables say of each client.
    pub clients: Vec<ClientView>,
    /// What the tables say of each volume.
    pub volumes: Vec<VolumeView>,
    /// Where that was read from.
    pub cells: Vec<CellDump>,
    /// Everything that is not as it should be, one sentence each.
    pub damage: Vec<String>,
}

impl Dump {
    /// Reads a control volume of `size` bytes (of the device; it may be larger than the control volume).
    /// Never fails: what cannot be read or believed is named in `damage`.
    pub fn read(size: u64, read: Read<'_>) -> Self {
        let mut last = Self::attempt(size, read);
        for _ in 1..ATTEMPTS {
            match last {
                (dump, true) => return dump,
                (_, false) => last = Self::attempt(size, read),
            }
        }
        last.0
    }

    /// The second value is false when a commit passed while the dump read the tables.
    fn attempt(size: u64, read: Read<'_>) -> (Self, bool) {
        let mut work = Work { read, damage: Vec::new() };
        let (superblock, geometry) = work.superblock(size);
        let mut dump = Self {
            superblock,
            header: None,
            slots: Vec::new(),
            pages: Vec::new(),
            clients: Vec::new(),
            volumes: Vec::new(),
            cells: Vec::new(),
            damage: Vec::new(),
        };
        let mut still = true;
        if let Some(g) = &geometry {
            // Slots before the header: a mark is compared only with a header read after its slot (section 4).
            let (slots, mark) = work.slots(g);
            dump.slots = slots;
            let (pair, header) = work.header(g);
            dump.header = Some(pair);
            work.check_mark(mark, header.as_ref());
            dump.pages = g.clients().map(|slot| work.page(g, slot)).collect();
            for cell in g.cells() {
                work.cell(g, cell, header.as_ref(), &mut dump);
            }
            let again = Work { read, damage: Vec::new() }.header(g).1;
            still = again.map(|h| h.commit) == header.map(|h| h.commit);
        }
        dump.damage = work.damage;
        (dump, still)
    }

    /// The dump as JSON, indented.
    ///
    /// # Errors
    /// None that this type can give; serde_json's signature has one.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    /// The dump for people: the JSON's keys and values without its punctuation.
    pub fn to_text(&self) -> String {
        to_text(self)
    }
}

/// A block as read: a verdict, or the device's error.
type Found<T> = Result<Verdict<T>, String>;

/// What a block of a cell says: its content (None: not in use), commit and content checksum.
type Said<T> = (Option<T>, CommitNo, u32);

struct Work<'a> {
    read: Read<'a>,
    damage: Vec<String>,
}

impl Work<'_> {
    fn fetch<T>(&self, offset: u64, len: usize, decode: impl FnOnce(&[u8]) -> Verdict<T>) -> Found<T> {
        let bytes = (self.read)(offset, len)?;
        if bytes.len() != len {
            return Err(format!("{} of {len} bytes could be read", bytes.len()));
        }
        Ok(decode(&bytes))
    }

    /// Records what is wrong with a copy; `what` names it.
    fn note<T>(&mut self, found: &Found<T>, what: &str, offset: u64) {
        let (verdict, reason) = words(found);
        if verdict != "valid" {
            let reason = reason.map_or(String::new(), |r| format!(": {r}"));
            self.damage.push(format!("{what} at byte {offset} is {verdict}{reason}"));
        }
    }

    fn pair<T, V>(
        &mut self,
        what: &str,
        found: [Found<T>; 2],
        offsets: [u64; 2],
        elect: impl FnOnce(&[Verdict<T>; 2]) -> Option<Elected<T>>,
        view: impl Fn(&T) -> V,
    ) -> (Pair<V>, Option<T>)
    where
        T: Clone + PartialEq,
    {
        for (copy, f) in found.iter().enumerate() {
            self.note(f, &format!("{what}, copy {copy},"), offsets[copy]);
        }
        let verdicts = [verdict(&found[0]), verdict(&found[1])];
        let both_valid = verdicts.iter().all(|v| matches!(v, Verdict::Valid(_)));
        let elected = elect(&verdicts);
        match &elected {
            None => self.damage.push(format!("{what}: no copy can be believed")),
            Some(e) if both_valid && !e.whole => {
                self.damage.push(format!("{what}: the copies differ, copy {} is newer", e.copy));
            }
            Some(_) => {}
        }
        let counts = elected.as_ref().map(|e| &e.content);
        let copies = (0..2).map(|i| copy_dump(&found[i], offsets[i], |t| (Some(t) != counts).then(|| view(t))));
        let pair = Pair {
            copies: copies.collect(),
            elected: elected.as_ref().map(|e| e.copy),
            whole: elected.as_ref().is_some_and(|e| e.whole),
            content: counts.map(&view),
        };
        (pair, elected.map(|e| e.content))
    }

    fn superblock(&mut self, size: u64) -> (Pair<SuperblockView>, Option<Geometry>) {
        let bytes = u64::from(SUPERBLOCK_BYTES);
        let len = usize::try_from(SUPERBLOCK_BYTES).expect("4096");
        let first = self.fetch(0, len, |b| Superblock::decode(b, 0));
        // The trailing copy lies where the first one says, or at the end of the device.
        let said = first.as_ref().ok().and_then(Verdict::as_valid).map(|sb| sb.total);
        let tail = said.unwrap_or(size / bytes * bytes).saturating_sub(bytes) / bytes * bytes;
        let second = self.fetch(tail, len, |b| Superblock::decode(b, tail));
        let (pair, elected) =
            self.pair("superblock", [first, second], [0, tail], elect::superblock, SuperblockView::of);
        let geometry = elected.and_then(|sb| match Geometry::of(&sb) {
            Ok(g) => Some(g),
            Err(e) => {
                self.damage.push(format!("superblock: {e}"));
                None
            }
        });
        (pair, geometry)
    }

    fn slots(&mut self, g: &Geometry) -> (Vec<SlotDump>, CommitNo) {
        let mut mark = CommitNo::default();
        let slots = g.slots().map(|slot| self.slot(g, slot, &mut mark)).collect();
        (slots, mark)
    }

    fn slot(&mut self, g: &Geometry, slot: SlotIndex, mark: &mut CommitNo) -> SlotDump {
        let places = [g.slot_sector(slot, 0), g.slot_sector(slot, 1)];
        let found = places.map(|p| self.fetch(p.offset, g.stride(), |b| SlotSector::decode(b, p)));
        for (i, f) in found.iter().enumerate() {
            self.note(f, &format!("slot {slot}, sector {i},"), places[i].offset);
        }
        let verdicts = [verdict(&found[0]), verdict(&found[1])];
        for s in verdicts.iter().filter_map(Verdict::as_valid) {
            *mark = (*mark).max(s.acknowledged);
        }
        let view = elect::slot(&verdicts);
        let counts = view.legible();
        let sectors = (0..2)
            .map(|i| copy_dump(&found[i], places[i].offset, |s| (Some(s) != counts).then(|| SlotView::of(s))))
            .collect();
        let known = view.known().is_some();
        SlotDump { slot, admin: g.is_admin(slot), known, content: counts.map(SlotView::of), sectors }
    }

    fn header(&mut self, g: &Geometry) -> (Pair<HeaderView>, Option<TableHeader>) {
        let places = [g.header_copy(0), g.header_copy(1)];
        let found = places.map(|p| self.fetch(p.offset, g.header_bytes(), |b| TableHeader::decode(b, p, g)));
        self.pair("table header", found, places.map(|p| p.offset), elect::header, HeaderView::of)
    }

    fn check_mark(&mut self, mark: CommitNo, header: Option<&TableHeader>) {
        if let Some(h) = header.filter(|h| h.commit < mark) {
            self.damage.push(format!(
                "table header: commit {} is older than commit {mark}, which a client acknowledged: a commit was lost",
                h.commit
            ));
        }
    }

    fn page(&mut self, g: &Geometry, slot: SlotIndex) -> PageDump {
        let places = [g.page_copy(slot, 0), g.page_copy(slot, 1)];
        let found = places.map(|p| self.fetch(p.offset, g.page_bytes(), |b| ClientPage::decode(b, p, g)));
        let what = format!("page of slot {slot}");
        let (page, _) = self.pair(&what, found, places.map(|p| p.offset), elect::page, PageView::of);
        PageDump { slot, page }
    }

    fn cell(&mut self, g: &Geometry, cell: CellId, header: Option<&TableHeader>, dump: &mut Dump) {
        let entry = header.and_then(|h| h.cells.get(g.cell_index(cell)));
        match cell {
            CellId::Client(slot) => {
                let content =
                    self.cell_blocks(g, cell, entry, dump, ClientRecord::decode, |r| ClientView::of(slot, r).into());
                if let Some(Some(r)) = content {
                    dump.clients.push(ClientView::of(slot, &r));
                }
            }
            CellId::Volume(volume) => {
                let clients = usize::from(g.max_clients());
                let decode = |b: &[u8], p: Place| VolumeTable::decode(b, p, clients);
                let content = self.cell_blocks(g, cell, entry, dump, decode, |t| VolumeView::of(volume, t).into());
                if let Some(Some(t)) = content {
                    dump.volumes.push(VolumeView::of(volume, &t));
                }
            }
        }
    }

    /// Looks at the four blocks of a cell; what counts is the version that the header names.
    fn cell_blocks<T: Clone + PartialEq>(
        &mut self,
        g: &Geometry,
        cell: CellId,
        entry: Option<&CellEntry>,
        dump: &mut Dump,
        decode: impl Fn(&[u8], Place) -> Verdict<Said<T>>,
        view: impl Fn(&T) -> view::CellView,
    ) -> Option<Option<T>> {
        let mut found: BTreeMap<(u8, usize), Found<Said<T>>> = BTreeMap::new();
        for (version, copy) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let place = g.cell_block(cell, version, copy);
            found.insert((version, copy), self.fetch(place.offset, g.cell_bytes(cell), |b| decode(b, place)));
        }
        let elected = entry.and_then(|e| {
            let copies = [0, 1].map(|copy| verdict(&found[&(e.version, copy)]));
            elect::cell(&copies, e)
        });
        let name = match cell {
            CellId::Client(s) => format!("client record {s}"),
            CellId::Volume(v) => format!("volume control table {v}"),
        };
        self.judge_cell(&name, entry, elected.as_ref(), |copy| {
            entry.map_or(("valid", None), |e| words(&found[&(e.version, copy)]))
        });
        let blocks = found.iter().map(|((version, copy), f)| {
            let offset = g.cell_block(cell, *version, *copy).offset;
            let current = entry.is_some_and(|e| e.version == *version && elected.is_some());
            let said = f.as_ref().ok().and_then(Verdict::as_valid);
            CellBlock {
                version: *version,
                copy: *copy,
                commit: said.map(|(_, commit, _)| commit.to_string()),
                crc: said.map(|(_, _, crc)| format!("{crc:08x}")),
                block: copy_dump(f, offset, |(t, _, _)| if current { None } else { t.as_ref().map(&view) }),
            }
        });
        let blocks = blocks.collect();
        dump.cells.push(CellDump { cell, whole: elected.as_ref().is_some_and(|e| e.whole), blocks });
        elected.map(|e| e.content)
    }

    /// A bad block of the version that does not count is an unfinished transaction, not damage.
    fn judge_cell<T>(
        &mut self,
        name: &str,
        entry: Option<&CellEntry>,
        elected: Option<&Elected<T>>,
        copy_words: impl Fn(usize) -> (&'static str, Option<String>),
    ) {
        let Some(entry) = entry else { return };
        let say = |copy: usize| match copy_words(copy) {
            ("valid", _) => format!("copy {copy} is not of commit {}", entry.commit),
            (verdict, reason) => format!("copy {copy} is {verdict} ({})", reason.unwrap_or_default()),
        };
        match elected {
            None => self.damage.push(format!(
                "{name}: lost; the header names version {} of commit {}, {} and {}",
                entry.version,
                entry.commit,
                say(0),
                say(1)
            )),
            Some(e) if !e.whole => self.damage.push(format!(
                "{name}, version {}: {}; the other copy is good",
                entry.version,
                say(1 - e.copy)
            )),
            Some(_) => {}
        }
    }
}

fn words<T>(found: &Found<T>) -> (&'static str, Option<String>) {
    match found {
        Err(e) => ("unreadable", Some(e.clone())),
        Ok(v) => {
            let reason = match v {
                Verdict::Corrupt(c) => Some(c.to_string()),
                Verdict::Unsupported(version) => Some(format!("format version {version}")),
                Verdict::Absent => Some("nothing of volctl was ever written here".to_owned()),
                Verdict::Valid(_) => None,
            };
            (v.word(), reason)
        }
    }
}

/// For an election a block that cannot be read is as good as a torn one.
fn verdict<T: Clone>(found: &Found<T>) -> Verdict<T> {
    found.clone().unwrap_or(Verdict::Corrupt(Corrupt::Short(0)))
}

fn copy_dump<T, V>(found: &Found<T>, offset: u64, content: impl FnOnce(&T) -> Option<V>) -> CopyDump<V> {
    let (verdict, reason) = words(found);
    let content = found.as_ref().ok().and_then(Verdict::as_valid).and_then(content);
    CopyDump { offset, verdict, reason, content }
}
