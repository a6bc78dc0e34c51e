//! Values out of the fuzzer's bytes. When the bytes are used up every value is zero, so that each function comes to an end.

use std::collections::VecDeque;

/// The bytes that are left.
#[derive(Debug, Clone)]
pub struct Feed(VecDeque<u8>);

impl Feed {
    /// All of them.
    #[must_use]
    pub fn new(data: &[u8]) -> Self {
        Self(data.iter().copied().collect())
    }

    /// Nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        self.0.pop_front().unwrap_or(0)
    }

    /// Yes or no.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Below `n`, which is not zero.
    pub fn below(&mut self, n: usize) -> usize {
        let value = if n > 256 { usize::from(self.byte()) << 8 | usize::from(self.byte()) } else { self.byte().into() };
        value % n
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// A number: mostly a small one, often one at an edge, any other at times.
    pub fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..192 => (small % 24).into(),
            edge @ 192..240 => {
                const EDGES: [u64; 8] =
                    [u64::MAX, u64::MAX - 1, u64::MAX / 2, 1 << 63, u32::MAX as u64, 1 << 32, 1 << 60, 1_000_000];
                EDGES[usize::from(edge % 8)]
            }
            _ => u64::from_le_bytes(self.bytes()),
        }
    }

    /// As [`Self::number`], signed.
    pub fn signed(&mut self) -> i64 {
        self.number().cast_signed()
    }

    /// An array.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    /// At most so many bytes, a count of its own in front.
    pub fn some(&mut self, most: usize) -> Vec<u8> {
        let count = self.below(most + 1).min(self.0.len());
        self.0.drain(..count).collect()
    }

    /// A text of at most so many bytes.
    pub fn text(&mut self, most: usize) -> String {
        let text = String::from_utf8_lossy(&self.some(most)).into_owned();
        ondisk::Message::cut(&text).as_str().to_owned()
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0).into()
    }
}

/// Inputs like a given one, which follow from its bytes alone.
#[derive(Debug, Clone)]
pub struct Like {
    seed: u64,
    bytes: Vec<u8>,
}

impl Like {
    /// Of these bytes; another `salt` gives others.
    #[must_use]
    pub fn of(data: &[u8], salt: u64) -> Self {
        let hash = |h: u64, b: &u8| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3);
        Self { seed: data.iter().fold(0xcbf2_9ce4_8422_2325 ^ salt, hash), bytes: Vec::new() }
    }

    fn next(&mut self) -> usize {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // Half of the bits are as good as all.
        usize::try_from((z ^ (z >> 31)) >> 32).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.next() & 0xff).unwrap_or(0)
    }

    /// One to four changes of `data`.
    pub fn change(&mut self, data: &[u8]) -> &[u8] {
        let mut like = std::mem::take(&mut self.bytes);
        like.clear();
        like.extend_from_slice(data);
        for _ in 0..1 + self.next() % 4 {
            let at = self.next() % (like.len() + 1);
            match self.next() % 5 {
                0 if at < like.len() => like[at] ^= 1 << (self.next() % 8),
                1 if at < like.len() => drop(like.remove(at)),
                2 => like.insert(at, self.byte()),
                3 => like.truncate(at.max(1)),
                _ if at < like.len() => like[at] = self.byte(),
                _ => like.push(self.byte()),
            }
        }
        self.bytes = like;
        &self.bytes
    }

    /// So many bytes of chance.
    pub fn noise(&mut self, most: usize) -> Vec<u8> {
        let count = self.next() % (most + 1);
        (0..count).map(|_| self.byte()).collect()
    }
}
