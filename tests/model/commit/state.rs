//! The disk, the holder, the reader, and what may be true.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use lockdriver::tables::{IoResult, Loader};
use lockdriver::transaction::{Commit, Tenure};
use ondisk::CommitNo;

use super::disk::Disk;
use super::{Value, Wish};
use crate::run::World;
use crate::same_by_hash;

/// Who is in the semaphore.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    pub(super) commit: Commit,
    pub(super) tenure: Tenure,
    pub(super) wish: Wish,
    /// What the tables say after it.
    pub(super) value: Value,
    /// There is another commit to come in this tenure.
    pub(super) again: bool,
    told: u64,
}

impl Hash for Holder {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.tenure, self.wish, self.value, self.again, self.told).hash(state);
    }
}

/// Who reads without the semaphore.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    pub(super) loader: Loader,
    /// What was true when it began.
    pub(super) began: Value,
    told: u64,
}

impl Hash for Reader {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.began, self.told).hash(state);
    }
}

fn chain(told: u64, result: &IoResult) -> u64 {
    let mut hasher = DefaultHasher::new();
    told.hash(&mut hasher);
    match result {
        IoResult::Bytes(bytes) => bytes.hash(&mut hasher),
        IoResult::Done => 1.hash(&mut hasher),
        IoResult::Failed => 2.hash(&mut hasher),
    }
    hasher.finish()
}

impl Holder {
    pub(super) fn new(commit: Commit, tenure: Tenure, wish: Wish, value: Value, again: bool) -> Self {
        Self { commit, tenure, wish, value, again, told: 0 }
    }

    pub(super) fn done(&mut self, result: IoResult) {
        self.told = chain(self.told, &result);
        self.commit.done(result);
    }
}

impl Reader {
    pub(super) fn new(loader: Loader, began: Value) -> Self {
        Self { loader, began, told: 0 }
    }

    pub(super) fn done(&mut self, result: IoResult) {
        self.told = chain(self.told, &result);
        self.loader.done(result);
    }
}

/// Everything.
#[derive(Debug, Clone, Hash)]
pub(crate) struct State {
    pub(super) disk: Disk,
    pub(super) holder: Option<Holder>,
    pub(super) reader: Option<Reader>,
    pub(super) late: Option<(u64, Arc<[u8]>)>,
    pub(super) faulted: bool,
    /// Holders that have entered, and commits that were begun.
    pub(super) entered: u8,
    pub(super) commits: u8,
    pub(super) reads: u8,
    /// What was acknowledged last, and its mark.
    pub(super) acknowledged: Value,
    pub(super) mark: CommitNo,
    /// What was formatted; what was tried; from where on in that list nothing newer was acknowledged.
    pub(super) first: Value,
    pub(super) tried: Vec<Value>,
    since: usize,
    /// What the tables say now.
    pub(super) value: Value,
    harm: Option<&'static str>,
}

same_by_hash!(State);

impl World for State {
    fn harm(&self) -> Option<&'static str> {
        self.harm
    }
}

impl State {
    pub(super) fn new(disk: Disk, first: Value) -> Self {
        Self {
            disk,
            holder: None,
            reader: None,
            late: None,
            faulted: false,
            entered: 0,
            commits: 0,
            reads: 0,
            acknowledged: first,
            mark: CommitNo::default(),
            first,
            tried: Vec::new(),
            since: 0,
            value: first,
            harm: None,
        }
    }

    pub(super) fn is_harmed(&self) -> bool {
        self.harm.is_some()
    }

    pub(super) fn harm(&mut self, what: &'static str) {
        self.harm.get_or_insert(what);
    }

    /// The commit is known to its client as done: from now on nothing older may come back.
    pub(super) fn acknowledge(&mut self, commit: CommitNo, value: Value) {
        self.acknowledged = value;
        self.mark = commit;
        self.since = self.tried.len();
    }

    pub(super) fn is_allowed(&self, value: Value) -> bool {
        value == self.acknowledged || self.tried[self.since..].contains(&value)
    }

    /// As [`Self::is_allowed`], for one who began earlier: then also what was true at its beginning, and all since.
    pub(super) fn is_allowed_since(&self, value: Value, reader: &Reader) -> bool {
        let from = self.tried.iter().position(|tried| *tried == reader.began).unwrap_or(0);
        value == reader.began || value == self.acknowledged || self.tried[from..].contains(&value)
    }
}
