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
