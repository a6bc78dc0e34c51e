//! A disk that writes down what is done to it, and every disk that a power cut or a dying host can leave of that.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use lockdriver::check::ReadAt;
use lockdriver::device::{BlockDevice, Durability};

const SECTOR: usize = 512;
/// With at most so many writes in the cache every subset of them is lost; with more, each alone, and all.
const SUBSETS_OF: usize = 5;

/// One thing that was done to the disk.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Write { offset: usize, bytes: Vec<u8>, fua: bool },
    Flush,
}

/// Bytes of a whole disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image(pub(crate) Vec<u8>);

impl Image {
    pub(super) fn get(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let start = usize::try_from(offset).ok()?;
        self.0.get(start..start.checked_add(len)?)
    }

    pub(super) fn put(&mut self, offset: usize, bytes: &[u8]) {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
}

impl ReadAt for Image {
    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.get(offset, len).map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }
}

/// Passes everything on, and writes it down once it is done.
pub(super) struct Recorder {
    under: Arc<dyn BlockDevice>,
    steps: Mutex<Vec<Step>>,
}

impl Recorder {
    pub(super) fn over(under: Arc<dyn BlockDevice>) -> Arc<Self> {
        Arc::new(Self { under, steps: Mutex::default() })
    }

    /// What was done since the last call.
    pub(super) fn take(&self) -> Vec<Step> {
        std::mem::take(&mut *self.steps.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, step: Step) {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).push(step);
    }
}

impl BlockDevice for Recorder {
    fn len_bytes(&self) -> u64 {
        self.under.len_bytes()
    }

    fn sector_bytes(&self) -> u32 {
        self.under.sector_bytes()
    }

    fn physical_block_bytes(&self) -> u32 {
        self.under.physical_block_bytes()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.under.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8], durability: Durability) -> io::Result<()> {
        self.under.write_at(offset, data, durability)?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        self.note(Step::Write { offset, bytes: data.to_vec(), fua: durability == Durability::Fua });
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.under.flush()?;
        self.note(Step::Flush);
        Ok(())
    }
}

/// What one transaction did to a disk.
#[derive(Debug, Clone)]
pub(super) struct Recording {
    pub(super) name: String,
    /// The disk before it.
    pub(super) base: Image,
    pub(super) steps: Vec<Step>,
}

/// A disk as a crash leaves it.
#[derive(Debug)]
pub(super) struct Crash {
    /// Which write was the last, and what came of it.
    pub(super) what: String,
    pub(super) image: Image,
    /// All of the first so many steps are there, but for the one that is torn or what a cache has lost.
    pub(super) steps: usize,
    /// The write at this place is there in part.
    pub(super) torn: Option<usize>,
    /// The very same disk was seen after another number of steps.
    pub(super) again: bool,
}

impl Recording {
    /// The disk after each number of steps.
    pub(super) fn prefixes(&self) -> Vec<Image> {
        let mut at = self.base.clone();
        let mut all = vec![at.clone()];
        for step in &self.steps {
            if let Step::Write { offset, bytes, .. } = step {
                at.put(*offset, bytes);
            }
            all.push(at.clone());
        }
        all
    }

    /// Every crash: each number of steps whole; the last write torn; unflushed writes lost.
    pub(super) fn crashes(&self, mut visit: impl FnMut(Crash)) -> usize {
        let mut seen = HashSet::new();
        let mut count = 0;
        let mut visit = |crash: Crash| {
            let hash = |steps: usize| {
                let mut hasher = DefaultHasher::new();
                (&crash.image.0, steps, crash.torn.is_some()).hash(&mut hasher);
                hasher.finish()
            };
            if seen.insert(hash(crash.steps)) {
                count += 1;
                let again = !seen.insert(hash(usize::MAX));
                visit(Crash { again, ..crash });
            }
        };
        let mut stable = self.base.clone();
        let mut cached: Vec<(usize, &[u8])> = Vec::new();
        let mut at = self.base.clone();
        for (k, step) in self.steps.iter().enumerate() {
            let what = format!("{}, cut after {k} of {} steps", self.name, self.steps.len());
            visit(Crash { what: what.clone(), image: at.clone(), steps: k, torn: None, again: false });
            if let Step::Write { offset, bytes, .. } = step {
                for (cut, front) in cuts(bytes.len()) {
                    let range = if front { 0..cut } else { cut..bytes.len() };
                    let mut image = at.clone();
                    image.put(offset + range.start, &bytes[range]);
                    if image == at {
                        continue;
                    }
                    let part = if front { "up to" } else { "from" };
                    let what = format!("{what}, and of the write at {offset} only {part} byte {cut}");
                    visit(Crash { what, image, steps: k, torn: Some(*offset), again: false });
                }
                at.put(*offset, bytes);
            }
            match step {
                Step::Flush => cached.drain(..).for_each(|(offset, bytes)| stable.put(offset, bytes)),
                Step::Write { offset, bytes, fua: false } => cached.push((*offset, bytes)),
                // A write that must be stable is so; what was written before it need not be.
                Step::Write { offset, bytes, fua: true } => {
                    cached.retain(|(o, b)| (*o, b.len()) != (*offset, bytes.len()));
                    stable.put(*offset, bytes);
                }
            }
            for lost in losses(cached.len()) {
                let mut image = stable.clone();
                for (_, (offset, bytes)) in cached.iter().enumerate().filter(|(i, _)| !lost.contains(i)) {
                    image.put(*offset, bytes);
                }
                let what = format!("{}, power cut after step {}, unflushed {lost:?} lost", self.name, k + 1);
                visit(Crash { what, image, steps: k + 1, torn: None, again: false });
            }
        }
        let what = format!("{}, all of it", self.name);
        visit(Crash { what, image: at, steps: self.steps.len(), torn: None, again: false });
        count
    }
}

/// Where a write is torn: at each sector, and at some bytes inside of sectors; the front of it landed, or the rest.
/// `VOLCTL_CRASH=all` tears at more bytes.
fn cuts(len: usize) -> impl Iterator<Item = (usize, bool)> {
    const ODD: [usize; 12] = [58, 100, 1, 9, 40, 57, 64, 65, 131, 511, 513, 700];
    let odd = if everything() { &ODD[..] } else { &ODD[..2] };
    let odd = odd.iter().copied().chain([len - 1]).filter(move |cut| *cut < len);
    (SECTOR..len).step_by(SECTOR).chain(odd).flat_map(|cut| [(cut, true), (cut, false)])
}

/// More than there is time for with every change.
pub(super) fn everything() -> bool {
    std::env::var_os("VOLCTL_CRASH").is_some_and(|value| value == "all")
}

/// Which of so many cached writes are lost.
fn losses(cached: usize) -> Vec<Vec<usize>> {
    if cached <= SUBSETS_OF {
        let of = |mask: u32| (0..cached).filter(|i| mask >> i & 1 == 1).collect();
        return (1..1u32 << cached).map(of).collect();
    }
    (0..cached).map(|i| vec![i]).chain([(0..cached).collect()]).collect()
}
