//! A disk of sectors, cheap to clone, to compare and to hash; and the loading of tables from it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use lockdriver::format::{FormatStep, format};
use lockdriver::tables::{IoResult, LoadStep, Loader, Tables};
use ondisk::{CommitNo, Geometry, Label, LockKind, Timings};

/// A run of bytes that was written as one, known by its hash.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    hash: u64,
    bytes: Option<Arc<Vec<u8>>>,
}

impl PartialEq for Piece {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Hash for Piece {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

/// The disk: what was formatted, and over it what was written since, piece by piece. Pieces never overlap: every write of
/// a table block is of a whole header or a whole cell block.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    base: Arc<Vec<u8>>,
    over: BTreeMap<u64, Piece>,
}

impl PartialEq for Disk {
    fn eq(&self, other: &Self) -> bool {
        self.over == other.over
    }
}

impl Hash for Disk {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.over.hash(state);
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

impl Disk {
    pub(super) fn formatted(geometry: &Geometry) -> Self {
        let label = Label::new("model").expect("a label");
        let superblock = geometry.superblock(LockKind::Bakery, Timings::default(), label, 1);
        let mut bytes = vec![0; usize::try_from(geometry.total()).expect("it is small")];
        for step in format(geometry, &superblock, None) {
            if let FormatStep::Write { offset, bytes: new } = step {
                let at = usize::try_from(offset).expect("it is small");
                bytes[at..at + new.len()].copy_from_slice(&new);
            }
        }
        Self { base: Arc::new(bytes), over: BTreeMap::new() }
    }

    /// None: a block of it is lost.
    pub(super) fn get(&self, offset: u64, len: usize) -> Option<Vec<u8>> {
        let start = usize::try_from(offset).ok()?;
        let mut bytes = self.base.get(start..start + len)?.to_vec();
        for (at, piece) in self.over.range(..offset + len as u64) {
            let at = usize::try_from(*at).ok()?;
            let length = piece.bytes.as_ref().map_or(1, |b| b.len());
            if at + length <= start {
                continue;
            }
            let new = piece.bytes.as_ref()?;
            bytes[at - start..at - start + length].copy_from_slice(new);
        }
        Some(bytes)
    }

    pub(super) fn put(&mut self, offset: u64, bytes: &[u8]) {
        self.over.insert(offset, Piece { hash: hash(bytes), bytes: Some(Arc::new(bytes.to_vec())) });
    }

    /// The first half is the new one, the second the old one.
    pub(super) fn tear(&mut self, offset: u64, bytes: &[u8]) {
        let Some(mut torn) = self.get(offset, bytes.len()) else { return };
        let half = bytes.len() / 2;
        torn[..half].copy_from_slice(&bytes[..half]);
        // A small record leaves the second half as it is: the checksum at the end is what shows the tear.
        self.put(offset, &torn);
    }

    /// The piece at `offset` gives an error until it is written again.
    pub(super) fn lose(&mut self, offset: u64) {
        self.over.insert(offset, Piece { hash: u64::MAX, bytes: None });
    }

    pub(super) fn read(&self, offset: u64, len: usize) -> IoResult {
        self.get(offset, len).map_or(IoResult::Failed, IoResult::Bytes)
    }
}

/// Loads the tables at one instant; `mark` is the highest that stood in a slot. None: damage.
pub(super) fn load(geometry: &Geometry, disk: &Disk, mark: CommitNo) -> Option<Tables> {
    let mut loader = Loader::new(geometry, mark);
    loop {
        match loader.step() {
            LoadStep::Read { offset, len } => loader.done(disk.read(offset, len)),
            LoadStep::Done(tables) => return Some(tables),
            LoadStep::Retry | LoadStep::Damaged(_) => return None,
        }
    }
}
