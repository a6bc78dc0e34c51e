//! Reads several neighbouring blocks at once; when that fails, one by one, so that one bad sector hides no other.

/// A read of `count` neighbouring blocks.
#[derive(Debug, Clone)]
pub struct Blocks {
    offset: u64,
    size: usize,
    count: usize,
    single: bool,
    got: Vec<Option<Vec<u8>>>,
}

impl Blocks {
    /// `count` blocks of `size` bytes from byte `offset` on.
    pub fn new(offset: u64, size: usize, count: usize) -> Self {
        Self { offset, size, count, single: false, got: Vec::new() }
    }

    /// What to read next: byte offset and length. None: all is read.
    pub fn want(&self) -> Option<(u64, usize)> {
        if self.got.len() == self.count {
            None
        } else if self.single {
            Some((self.offset + (self.got.len() * self.size) as u64, self.size))
        } else {
            Some((self.offset, self.size * self.count))
        }
    }

    /// The outcome of that read; None, or a wrong length, is a failure.
    pub fn done(&mut self, bytes: Option<Vec<u8>>) {
        let Some((_, len)) = self.want() else { return };
        match bytes.filter(|b| b.len() == len) {
            Some(bytes) if self.single => self.got.push(Some(bytes)),
            Some(bytes) => self.got = bytes.chunks_exact(self.size).map(|b| Some(b.to_vec())).collect(),
            None if self.single || self.count == 1 => self.got.push(None),
            None => self.single = true,
        }
    }

    /// A block, if it could be read.
    pub fn block(&self, index: usize) -> Option<&[u8]> {
        self.got.get(index)?.as_deref()
    }
}
