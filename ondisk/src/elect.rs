//! Which copy counts: total functions over the verdicts of copies (section 4).

use crate::client_page::ClientPage;
use crate::error::Verdict;
use crate::header::{CellEntry, TableHeader};
use crate::ids::{CommitNo, Ticket};
use crate::slot::SlotSector;
use crate::superblock::Superblock;

/// Which of two copies counts, and whether the other needs to be written again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elected<T> {
    /// What counts.
    pub content: T,
    /// The copy it was taken from.
    pub copy: usize,
    /// The other copy is valid and says the same.
    pub whole: bool,
}

/// The superblock: either valid copy. Nothing when the two differ (an `init` was broken off between them, and
/// neither is known to describe the disk) or when a copy is unsupported.
pub fn superblock(copies: &[Verdict<Superblock>; 2]) -> Option<Elected<Superblock>> {
    newest(copies, |_| ())
}

/// A copy of the current version of a cell: valid, and of the commit number and checksum that the header names.
/// Nothing when neither copy is; a copy that is valid but says something else is an old or an unfinished one.
pub fn cell<T: Clone>(copies: &[Verdict<(T, CommitNo, u32)>; 2], entry: &CellEntry) -> Option<Elected<T>> {
    let named = |copy: usize| {
        copies[copy].as_valid().filter(|(_, commit, crc)| (*commit, *crc) == (entry.commit, entry.crc)).map(|c| &c.0)
    };
    let (content, copy) = named(0).map(|t| (t, 0)).or_else(|| named(1).map(|t| (t, 1)))?;
    Some(Elected { content: content.clone(), copy, whole: named(1 - copy).is_some() })
}

/// The newest valid header; None when neither copy is valid.
/// An unsupported copy elects nothing: a newer program was here, and this one must not decide.
/// Two different headers under one commit number elect nothing either: no run of the protocol writes them.
pub fn header(copies: &[Verdict<TableHeader>; 2]) -> Option<Elected<TableHeader>> {
    newest(copies, |h| h.commit)
}

/// The newest valid page copy by (incarnation, sequence): a late write of an earlier incarnation, whatever its
/// sequence, never hides what the later one said. Rules about unsupported and contradicting copies as for the header.
pub fn page(copies: &[Verdict<ClientPage>; 2]) -> Option<Elected<ClientPage>> {
    newest(copies, |p| (p.incarnation, p.sequence))
}

fn newest<T: Clone + PartialEq, K: Ord>(copies: &[Verdict<T>; 2], key: impl Fn(&T) -> K) -> Option<Elected<T>> {
    if copies.iter().any(|c| matches!(c, Verdict::Unsupported(_))) {
        return None;
    }
    let (content, copy) = match (copies[0].as_valid(), copies[1].as_valid()) {
        (Some(a), Some(b)) if key(b) > key(a) => (b, 1),
        (Some(a), Some(b)) if key(b) == key(a) && a != b => return None,
        (Some(a), _) => (a, 0),
        (None, Some(b)) => (b, 1),
        (None, None) => return None,
    };
    let whole = copies[1 - copy].as_valid() == Some(content);
    Some(Elected { content: content.clone(), copy, whole })
}

/// What a client's two sectors say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotView {
    /// Both sectors are valid: the one of the higher incarnation counts.
    Known(SlotSector),
    /// Either sector is bad or unreadable: nobody draws or enters past it. What is still legible is kept for people.
    Unknown(Option<SlotSector>),
}

impl SlotView {
    /// The sector that counts, if the slot is known.
    pub fn known(&self) -> Option<&SlotSector> {
        match self {
            Self::Known(s) => Some(s),
            Self::Unknown(_) => None,
        }
    }

    /// What can be read of it, believed or not.
    pub fn legible(&self) -> Option<&SlotSector> {
        match self {
            Self::Known(s) => Some(s),
            Self::Unknown(s) => s.as_ref(),
        }
    }
}

/// The highest ticket that either sector names: what a client that draws must exceed. (A late write of an earlier
/// incarnation may name a ticket that the later one never saw.)
pub fn highest_ticket(sectors: &[Verdict<SlotSector>; 2]) -> Ticket {
    sectors.iter().filter_map(Verdict::as_valid).map(|s| s.ticket).max().unwrap_or_default()
}

/// The sector of the higher incarnation, if both sectors are valid; a late write of an earlier incarnation hides nothing.
/// Equal incarnations are a freshly formatted slot (0 and 0): the first sector counts.
pub fn slot(sectors: &[Verdict<SlotSector>; 2]) -> SlotView {
    let higher = |a: &SlotSector, b: &SlotSector| if b.incarnation > a.incarnation { *b } else { *a };
    match (sectors[0].as_valid(), sectors[1].as_valid()) {
        (Some(a), Some(b)) => SlotView::Known(higher(a, b)),
        (Some(s), None) | (None, Some(s)) => SlotView::Unknown(Some(*s)),
        (None, None) => SlotView::Unknown(None),
    }
}
