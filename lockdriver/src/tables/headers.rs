//! The two header copies, read and elected.

use ondisk::elect::{self, Elected};
use ondisk::{CommitNo, Corrupt, Geometry, TableHeader, Verdict};

use super::blocks::Blocks;
use crate::check::{BlockId, Finding, Recovered, Severity, Wrong};

/// What the two header copies say.
#[derive(Debug, Clone)]
pub struct HeaderRead {
    /// What each copy says, or what is wrong with it.
    pub copies: [Result<TableHeader, Wrong>; 2],
    /// The newest valid one; None also when both have one number and differ.
    pub elected: Option<Elected<TableHeader>>,
}

/// The newest valid header from the bytes of both copies as one poll reads them; None when it is torn or damaged.
pub fn elect_header(geometry: &Geometry, bytes: &[u8]) -> Option<TableHeader> {
    let (a, b) = bytes.split_at_checked(geometry.header_bytes())?;
    HeaderRead::new(geometry, [Some(a), Some(b)]).elected.map(|e| e.content)
}

impl HeaderRead {
    /// Decodes both copies; None is a copy that could not be read.
    pub fn new(geometry: &Geometry, bytes: [Option<&[u8]>; 2]) -> Self {
        let verdict = |copy: usize| match bytes[copy] {
            Some(b) => TableHeader::decode(b, geometry.header_copy(copy), geometry),
            None => Verdict::Corrupt(Corrupt::Short(0)),
        };
        let verdicts = [verdict(0), verdict(1)];
        let elected = elect::header(&verdicts);
        let [a, b] = verdicts;
        let wrong = |v, copy: usize| if bytes[copy].is_none() { Err(Wrong::Unreadable) } else { Wrong::of(v) };
        Self { copies: [wrong(a, 0), wrong(b, 1)], elected }
    }

    pub(crate) fn of_blocks(geometry: &Geometry, blocks: &Blocks) -> Self {
        Self::new(geometry, [blocks.block(0), blocks.block(1)])
    }

    pub(crate) fn blocks(geometry: &Geometry) -> Blocks {
        Blocks::new(geometry.header_copy(0).offset, geometry.header_bytes(), 2)
    }

    /// Two valid copies of one number with different content: the number was used twice.
    pub fn twins(&self) -> Option<CommitNo> {
        match &self.copies {
            [Ok(a), Ok(b)] if a.commit == b.commit && a != b => Some(a.commit),
            _ => None,
        }
    }

    /// Everything that is not as it should be; `mark` is the highest commit that any slot acknowledges.
    pub fn findings(&self, geometry: &Geometry, mark: CommitNo) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut add = |severity, copy: u8, wrong, recovered| {
            let offset = geometry.header_copy(usize::from(copy)).offset;
            found.push(Finding { severity, block: BlockId::Header(copy), offset, wrong, recovered });
        };
        if let Some(commit) = self.twins() {
            add(Severity::Damage, 1, Wrong::Twins(commit), Recovered::Nothing);
        }
        for copy in 0..2u8 {
            let other = usize::from(1 - copy);
            match (&self.copies[usize::from(copy)], &self.copies[other]) {
                (Err(wrong), Ok(_)) if self.elected.is_some() => {
                    add(Severity::Redundancy, copy, wrong.clone(), Recovered::FromCopy(1 - copy));
                }
                (Err(wrong), _) => add(Severity::Damage, copy, wrong.clone(), Recovered::Nothing),
                // Both were written before the mark, so an older copy beside an acknowledged one is a late write.
                (Ok(h), Ok(newer)) if h.commit < newer.commit => {
                    let wrong = Wrong::OlderCopy { found: h.commit, newer: newer.commit };
                    if newer.commit <= mark {
                        add(Severity::Redundancy, copy, wrong, Recovered::FromCopy(1 - copy));
                    } else {
                        add(Severity::Note, copy, wrong, Recovered::Unfinished);
                    }
                }
                (Ok(_), _) => {}
            }
        }
        if let Some(elected) = self.elected.as_ref().filter(|e| e.content.commit < mark) {
            let copy = u8::from(elected.copy == 1);
            let wrong = Wrong::BelowMark { header: elected.content.commit, mark };
            add(Severity::Lost, copy, wrong, Recovered::Nothing);
        }
        found
    }
}
