//! Claims about the decoder.

use std::time::Duration;

use ondisk::elect::SlotView;
use ondisk::{CommitNo, DaemonId, Incarnation, SlotIndex, SlotSector, TableHeader, Ticket};

use super::*;

const NOW: Duration = Duration::from_secs(1);

struct Area {
    geometry: Geometry,
    bytes: Vec<u8>,
}

impl Area {
    fn new() -> Self {
        let geometry = Geometry::plan(ondisk::Uuid::from_bytes([3; 16]), 2, 2, 512, 1 << 20).unwrap();
        let area = geometry.poll_area();
        let mut new = Self { bytes: vec![0; usize::try_from(area.end - area.start).unwrap()], geometry };
        for slot in new.geometry.slots() {
            new.put(slot, 0, &SlotSector::default());
            new.put(slot, 1, &SlotSector::default());
        }
        new.header(0, 0);
        new.header(1, 0);
        new
    }

    fn at(&self, offset: u64) -> usize {
        usize::try_from(offset - self.geometry.poll_area().start).unwrap()
    }

    fn put(&mut self, slot: SlotIndex, sector: usize, content: &SlotSector) {
        let place = self.geometry.slot_sector(slot, sector);
        let start = self.at(place.offset);
        content.encode(place, &mut self.bytes[start..start + 512]);
    }

    fn header(&mut self, copy: usize, epoch: u64) {
        let place = self.geometry.header_copy(copy);
        let start = self.at(place.offset);
        let length = self.geometry.header_bytes();
        let header = TableHeader {
            commit: CommitNo { epoch, count: 1 },
            opened: 0,
            clients: 0,
            volumes: 0,
            reaped: vec![Incarnation(0); self.geometry.slot_count()],
            cells: vec![ondisk::CellEntry::default(); self.geometry.cell_count()],
        };
        header.encode(place, &mut self.bytes[start..start + length]);
    }

    fn range(&self, slot: u16, sector: usize) -> Range<u64> {
        let start = self.geometry.slot_sector(SlotIndex(slot), sector).offset - self.geometry.poll_area().start;
        start..start + 512
    }
}

fn token(poll: &Poll, slot: u16, sector: usize) -> Option<Token> {
    poll.slot(SlotIndex(slot)).unwrap().sectors[sector].token()
}

#[test]
fn equal_bytes_keep_their_token_and_other_bytes_get_a_new_one() {
    let mut area = Area::new();
    let mut decoder = PollDecoder::new(area.geometry.clone());
    let first = decoder.decode(&area.bytes, &[], NOW, NOW).clone();
    let second = decoder.decode(&area.bytes, &[], NOW, NOW).clone();
    assert_eq!(first.slots, second.slots);
    area.put(SlotIndex(1), 0, &SlotSector { incarnation: Incarnation(1), ..SlotSector::default() });
    let third = decoder.decode(&area.bytes, &[], NOW, NOW).clone();
    assert_ne!(token(&first, 1, 0), token(&third, 1, 0));
    assert_eq!(token(&first, 1, 1), token(&third, 1, 1));
    assert_eq!(third.slots[1].view.known().unwrap().incarnation, Incarnation(1));
}

#[test]
fn bytes_that_came_back_are_not_the_bytes_that_stayed() {
    let mut area = Area::new();
    let mut decoder = PollDecoder::new(area.geometry.clone());
    let before = token(decoder.decode(&area.bytes, &[], NOW, NOW), 0, 0);
    let old = area.bytes.clone();
    area.put(SlotIndex(0), 0, &SlotSector { beat: 9, ..SlotSector::default() });
    decoder.decode(&area.bytes, &[], NOW, NOW);
    assert_ne!(token(decoder.decode(&old, &[], NOW, NOW), 0, 0), before);
}

#[test]
fn an_unreadable_sector_makes_the_slot_unknown_and_leaves_no_trace_in_the_token() {
    let area = Area::new();
    let mut decoder = PollDecoder::new(area.geometry.clone());
    let before = decoder.decode(&area.bytes, &[], NOW, NOW).clone();
    let bad = [area.range(1, 1)];
    let poll = decoder.decode(&area.bytes, &bad, NOW, NOW);
    assert!(matches!(poll.slots[1].view, SlotView::Unknown(Some(_))));
    assert!(matches!(poll.slots[0].view, SlotView::Known(_)), "the neighbour is not touched");
    assert!(!poll.failed());
    assert_eq!(decoder.decode(&area.bytes, &[], NOW, NOW).slots, before.slots);
}

#[test]
fn a_short_buffer_is_unreadable_not_a_panic() {
    let area = Area::new();
    let mut decoder = PollDecoder::new(area.geometry.clone());
    let poll = decoder.decode(&area.bytes[..700], &[], NOW, NOW);
    assert!(matches!(poll.slots[0].view, SlotView::Unknown(Some(_))));
    assert!(matches!(poll.slots[1].view, SlotView::Unknown(None)));
    assert!(poll.header().is_none());
    assert!(decoder.decode(&[], &[], NOW, NOW).failed());
}

#[test]
fn the_newest_header_counts_and_an_unreadable_copy_comes_back() {
    let mut area = Area::new();
    let mut decoder = PollDecoder::new(area.geometry.clone());
    area.header(1, 8);
    assert_eq!(decoder.decode(&area.bytes, &[], NOW, NOW).header().unwrap().copy, 1);
    let start = area.geometry.header_copy(1).offset - area.geometry.poll_area().start;
    let half = start + 512..start + 1024;
    let bad = [half];
    let poll = decoder.decode(&area.bytes, &bad, NOW, NOW);
    assert_eq!(poll.header().unwrap().content.commit.epoch, 0);
    assert_eq!(decoder.decode(&area.bytes, &[], NOW, NOW).header().unwrap().content.commit.epoch, 8);
}

#[test]
fn the_highest_number_is_taken_from_both_sectors_and_both_headers() {
    let mut area = Area::new();
    let mut decoder = PollDecoder::new(area.geometry.clone());
    assert_eq!(decoder.decode(&area.bytes, &[], NOW, NOW).max_ticket_and_epoch(), 0);
    let newer = SlotSector { incarnation: Incarnation(2), ticket: Ticket(3), ..SlotSector::default() };
    area.put(SlotIndex(1), 1, &newer);
    area.put(SlotIndex(1), 0, &SlotSector { incarnation: Incarnation(1), ticket: Ticket(5), ..newer });
    assert_eq!(decoder.decode(&area.bytes, &[], NOW, NOW).max_ticket_and_epoch(), 5);
    area.header(0, 11);
    assert_eq!(decoder.decode(&area.bytes, &[], NOW, NOW).max_ticket_and_epoch(), 11);
}

#[test]
fn the_own_slot_is_ours_foreign_or_unknown() {
    let mut area = Area::new();
    let mut decoder = PollDecoder::new(area.geometry.clone());
    let daemon = DaemonId([4; 16]);
    let me = Me { slot: SlotIndex(0), incarnation: Incarnation(1), daemon };
    let own = SlotSector { incarnation: Incarnation(1), daemon_id: daemon, ..SlotSector::default() };
    area.put(SlotIndex(0), 0, &own);
    assert_eq!(decoder.decode(&area.bytes, &[], NOW, NOW).own(&me), OwnSlot::Ours);
    let bad = [area.range(0, 1)];
    assert_eq!(decoder.decode(&area.bytes, &bad, NOW, NOW).own(&me), OwnSlot::Unknown);
    let other = DaemonId([5; 16]);
    area.put(SlotIndex(0), 1, &SlotSector { incarnation: Incarnation(2), daemon_id: other, ..own });
    assert_eq!(decoder.decode(&area.bytes, &[], NOW, NOW).own(&me), OwnSlot::Foreign(other));
}
