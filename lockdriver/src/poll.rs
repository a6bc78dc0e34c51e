//! What one read of slot area and header showed, and the decoder that makes it from bytes (section 6).
//!
//! An idle poll costs one comparison per sector: only what changed is decoded, and buffers are re-used.

use std::ops::Range;
use std::time::Duration;

use ondisk::elect::{self, Elected, SlotView};
use ondisk::{CommitNo, Corrupt, DaemonId, Geometry, Incarnation, SlotIndex, SlotSector, TableHeader, Verdict};

use crate::rules::Rules;

/// Who this client is, for as long as its incarnation lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Me {
    /// The own slot.
    pub slot: SlotIndex,
    /// The own incarnation.
    pub incarnation: Incarnation,
    /// The random id of this daemon.
    pub daemon: DaemonId,
}

/// Stands for the bytes of one sector: two readings of one decoder have equal tokens exactly when no successful
/// reading from the first to the second saw other bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// One sector of a slot as one poll saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SectorReading {
    /// The device gave an error.
    Unreadable,
    /// The device gave bytes.
    Read {
        /// Stands for the bytes.
        token: Token,
        /// What they say.
        content: Verdict<SlotSector>,
    },
}

impl SectorReading {
    /// The sector, if it is a whole one.
    pub fn valid(&self) -> Option<&SlotSector> {
        match self {
            Self::Unreadable => None,
            Self::Read { content, .. } => content.as_valid(),
        }
    }

    /// The token, if the sector could be read.
    pub fn token(&self) -> Option<Token> {
        match self {
            Self::Unreadable => None,
            Self::Read { token, .. } => Some(*token),
        }
    }

    fn verdict(&self) -> Verdict<SlotSector> {
        match self {
            Self::Unreadable => Verdict::Corrupt(Corrupt::Short(0)),
            Self::Read { content, .. } => content.clone(),
        }
    }
}

/// One slot as one poll saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotReading {
    /// What both sectors say together.
    pub view: SlotView,
    /// The sectors.
    pub sectors: [SectorReading; 2],
}

impl SlotReading {
    /// From the two sectors.
    pub fn new(sectors: [SectorReading; 2]) -> Self {
        let view = elect::slot(&[sectors[0].verdict(), sectors[1].verdict()]);
        Self { view, sectors }
    }

    /// The valid sectors, at most two.
    pub fn valid(&self) -> impl Iterator<Item = &SlotSector> {
        self.sectors.iter().filter_map(SectorReading::valid)
    }
}

/// What a poll shows of the own slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnSlot {
    /// The own daemon id and incarnation count.
    Ours,
    /// Another daemon's sector counts: two daemons under one name (section 6).
    Foreign(DaemonId),
    /// A sector cannot be read: proves nothing.
    Unknown,
}

/// Slot area and header as one read showed them. The sectors are not of one instant: only those of one sector are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poll {
    /// Grows by one with each poll of a decoder.
    pub number: u64,
    /// CLOCK_BOOTTIME when the read was submitted.
    pub begun: Duration,
    /// CLOCK_BOOTTIME when the read had returned.
    pub ended: Duration,
    /// All slots, administration slots included, in order.
    pub slots: Vec<SlotReading>,
    /// Both header copies; one that cannot be read is corrupt.
    pub headers: [Verdict<TableHeader>; 2],
    /// The header that counts.
    pub elected: Option<Elected<TableHeader>>,
    /// The highest acknowledged mark in any poll before this one, and whose it was.
    pub older_mark: Option<(SlotIndex, CommitNo)>,
}

impl Poll {
    /// The newest valid header with the copy it came from; None while neither copy is valid.
    pub fn header(&self) -> Option<&Elected<TableHeader>> {
        self.elected.as_ref()
    }

    /// A slot's reading; None for a number beyond the last slot.
    pub fn slot(&self, slot: SlotIndex) -> Option<&SlotReading> {
        self.slots.get(slot.index())
    }

    /// The largest of every ticket in every slot (both sectors, reaped or not) and both headers' epochs (section 5).
    pub fn max_ticket_and_epoch(&self) -> u64 {
        let tickets = self.slots.iter().flat_map(SlotReading::valid).map(|s| s.ticket.0);
        let epochs = self.headers.iter().filter_map(Verdict::as_valid).map(|h| h.commit.epoch);
        tickets.chain(epochs).max().unwrap_or(0)
    }

    /// Is the own incarnation reaped in the header? None without a valid header.
    pub fn reaped(&self, me: &Me) -> Option<bool> {
        self.elected.as_ref().map(|h| h.content.is_reaped(me.slot, me.incarnation))
    }

    /// What the poll shows of the own slot.
    pub fn own(&self, me: &Me) -> OwnSlot {
        match self.slot(me.slot).map(|s| &s.view) {
            Some(SlotView::Known(s)) if s.daemon_id == me.daemon && s.incarnation == me.incarnation => OwnSlot::Ours,
            Some(SlotView::Known(s)) => OwnSlot::Foreign(s.daemon_id),
            Some(SlotView::Unknown(_)) | None => OwnSlot::Unknown,
        }
    }

    /// An elected header below a mark that was read before it: an acknowledged change is lost (sections 4 and 11).
    /// Names whose mark, and the commit it acknowledged.
    pub fn damage_below_mark(&self) -> Option<(SlotIndex, CommitNo)> {
        let header = self.header()?;
        self.older_mark.filter(|(_, mark)| header.content.commit < *mark)
    }

    /// True when not one sector could be read: such a poll proves nothing about anybody.
    pub fn failed(&self) -> bool {
        self.slots.iter().all(|s| s.sectors.iter().all(|x| *x == SectorReading::Unreadable))
    }

    /// The highest acknowledged mark in this poll's slots, and whose it is.
    pub(crate) fn mark(&self) -> Option<(SlotIndex, CommitNo)> {
        let marks = self
            .slots
            .iter()
            .zip(0..)
            .flat_map(|(reading, slot)| reading.valid().map(move |s| (SlotIndex(slot), s.acknowledged)));
        marks.max_by_key(|(_, mark)| *mark).filter(|(_, mark)| *mark != CommitNo::default())
    }
}

/// Makes polls from bytes; remembers the last ones so that what did not change costs nothing.
#[derive(Debug, Clone)]
pub struct PollDecoder {
    geometry: Geometry,
    rules: Rules,
    /// The bytes of the last successful reading of each sector and header copy.
    last: Vec<u8>,
    slot_tokens: Vec<[Option<Token>; 2]>,
    header_seen: [bool; 2],
    header_unreadable: [bool; 2],
    next_token: u64,
    mark: Option<(SlotIndex, CommitNo)>,
    poll: Poll,
}

impl PollDecoder {
    /// A decoder for one control volume.
    pub fn new(geometry: Geometry) -> Self {
        let area = geometry.poll_area();
        let bytes = usize::try_from(area.end - area.start).expect("the poll area of a checked geometry fits memory");
        let unread = SlotReading::new([SectorReading::Unreadable, SectorReading::Unreadable]);
        let nothing = || Verdict::Corrupt(Corrupt::Short(0));
        let slots = geometry.slot_count();
        Self {
            rules: Rules::ALL,
            last: vec![0; bytes],
            slot_tokens: vec![[None; 2]; slots],
            header_seen: [false; 2],
            header_unreadable: [true; 2],
            next_token: 0,
            mark: None,
            poll: Poll {
                number: 0,
                begun: Duration::ZERO,
                ended: Duration::ZERO,
                slots: vec![unread; slots],
                headers: [nothing(), nothing()],
                elected: None,
                older_mark: None,
            },
            geometry,
        }
    }

    /// For tests that take a rule out.
    #[doc(hidden)]
    pub fn with_rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// The last poll.
    pub fn poll(&self) -> &Poll {
        &self.poll
    }

    /// Decodes one reading of [`Geometry::poll_area`]. `unreadable` names the byte ranges, relative to the area's
    /// start, for which the device gave an error also when asked sector by sector. `begun` and `ended` are
    /// CLOCK_BOOTTIME just before the (first) read was submitted and just after the (last) one returned.
    pub fn decode(&mut self, area: &[u8], unreadable: &[Range<u64>], begun: Duration, ended: Duration) -> &Poll {
        self.poll.number += 1;
        self.poll.begun = begun;
        self.poll.ended = ended;
        self.poll.older_mark = self.mark;
        let mut marks_moved = false;
        for slot in 0..self.slot_tokens.len() {
            marks_moved |= self.slot(slot, area, unreadable);
        }
        let headers_moved = [self.header(0, area, unreadable), self.header(1, area, unreadable)];
        if headers_moved != [false; 2] {
            self.poll.elected = elect::header(&self.poll.headers);
        }
        if marks_moved {
            self.mark = self.poll.mark().into_iter().chain(self.mark).max_by_key(|(_, mark)| *mark);
        }
        if !self.rules.marks_of_earlier_reads {
            self.poll.older_mark = self.mark;
        }
        &self.poll
    }

    /// Looks at one slot; true if it reads otherwise than in the last poll.
    fn slot(&mut self, slot: usize, area: &[u8], unreadable: &[Range<u64>]) -> bool {
        let index = SlotIndex(u16::try_from(slot).expect("at most 1028 slots"));
        let mut moved = false;
        for sector in 0..2 {
            let place = self.geometry.slot_sector(index, sector);
            let range = self.range(place.offset, self.geometry.stride());
            let Some(bytes) = readable(area, &range, unreadable) else {
                moved |= self.poll.slots[slot].sectors[sector] != SectorReading::Unreadable;
                self.poll.slots[slot].sectors[sector] = SectorReading::Unreadable;
                continue;
            };
            let seen = self.slot_tokens[slot][sector];
            let same = self.last[range.clone()] == *bytes;
            if seen.is_some() && same && self.poll.slots[slot].sectors[sector].token() == seen {
                continue;
            }
            moved = true;
            let token = seen.filter(|_| same).unwrap_or_else(|| {
                self.next_token += 1;
                Token(self.next_token)
            });
            self.last[range].copy_from_slice(bytes);
            self.slot_tokens[slot][sector] = Some(token);
            let content = SlotSector::decode(bytes, place);
            self.poll.slots[slot].sectors[sector] = SectorReading::Read { token, content };
        }
        if moved {
            let [a, b] = &self.poll.slots[slot].sectors;
            self.poll.slots[slot].view = elect::slot(&[a.verdict(), b.verdict()]);
        }
        moved
    }

    /// Looks at one header copy; true if it reads otherwise than in the last poll.
    fn header(&mut self, copy: usize, area: &[u8], unreadable: &[Range<u64>]) -> bool {
        let place = self.geometry.header_copy(copy);
        let range = self.range(place.offset, self.geometry.header_bytes());
        let Some(bytes) = readable(area, &range, unreadable) else {
            let moved = !self.header_unreadable[copy];
            self.header_unreadable[copy] = true;
            self.poll.headers[copy] = Verdict::Corrupt(Corrupt::Short(0));
            return moved;
        };
        if self.header_seen[copy] && !self.header_unreadable[copy] && self.last[range.clone()] == *bytes {
            return false;
        }
        self.last[range].copy_from_slice(bytes);
        self.header_seen[copy] = true;
        self.header_unreadable[copy] = false;
        self.poll.headers[copy] = TableHeader::decode(bytes, place, &self.geometry);
        true
    }

    fn range(&self, offset: u64, length: usize) -> Range<usize> {
        let start = usize::try_from(offset - self.geometry.poll_area().start).expect("inside the poll area");
        start..start + length
    }
}

/// The bytes of a range, unless the buffer ends before it or the device gave an error somewhere in it.
fn readable<'a>(area: &'a [u8], range: &Range<usize>, unreadable: &[Range<u64>]) -> Option<&'a [u8]> {
    let (start, end) = (range.start as u64, range.end as u64);
    if unreadable.iter().any(|bad| bad.start < end && start < bad.end) {
        return None;
    }
    area.get(range.clone())
}

#[cfg(test)]
mod tests;
