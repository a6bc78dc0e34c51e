//! The odd-looking rules of the commit, each with a switch: a test takes one out and shows what breaks.

/// Which rules of section 4 hold. Everything that ships uses [`Rules::default`]: all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rules {
    /// Both copies of a version are written (trace b3c: with one, a lost block loses the cell).
    pub each_version_twice: bool,
    /// A header that may be in flight is outnumbered before its cells are overwritten (trace b4c).
    pub renew_header: bool,
    /// An interrupted commit is finished before a new one begins (trace q9).
    pub finish_found: bool,
    /// Acknowledged only after both header copies (traces q7, q7b).
    pub both_headers: bool,
    /// Every commit has its own number, also two of one tenure (traces b8, b9b).
    pub own_number: bool,
    /// Cells are stable before a header names them.
    pub flush_cells: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            each_version_twice: true,
            renew_header: true,
            finish_found: true,
            both_headers: true,
            own_number: true,
            flush_cells: true,
        }
    }
}
