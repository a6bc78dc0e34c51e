//! Damage is seen: flipped bits, torn writes, blocks from elsewhere, bytes that mean nothing.
#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is wrong")]

use ondisk::block::{self, Kind, Stamp};
use ondisk::envelope::Envelope;
use ondisk::*;
use proptest::prelude::*;

#[path = "../examples/golden/samples.rs"]
mod samples;
use samples::*;

/// A decoder that answers with what it found as text, and with the bytes that this would be encoded to.
type Decode = Box<dyn Fn(&[u8], Place) -> Verdict<(String, Vec<u8>)>>;

struct Case {
    name: &'static str,
    kind: Kind,
    place: Place,
    /// Bytes that mean something; behind them is padding.
    used: usize,
    old: Vec<u8>,
    new: Vec<u8>,
    decode: Decode,
}

fn decoder<T: std::fmt::Debug + 'static>(
    decode: impl Fn(&[u8], Place) -> Verdict<T> + 'static,
    encode: impl Fn(&T, Place, &mut [u8]) + 'static,
) -> Decode {
    Box::new(move |bytes, place| {
        decode(bytes, place).and_then(|t| {
            let mut again = vec![0; bytes.len()];
            encode(&t, place, &mut again);
            Ok((format!("{t:?}"), again))
        })
    })
}

fn case(name: &'static str, kind: Kind, place: Place, used: usize, blocks: [Vec<u8>; 2], decode: Decode) -> Case {
    let [old, new] = blocks;
    Case { name, kind, place, used, old, new, decode }
}

fn two<T>(len: usize, old: &T, new: &T, encode: impl Fn(&T, &mut [u8])) -> [Vec<u8>; 2] {
    [old, new].map(|t| {
        let mut b = vec![0; len];
        encode(t, &mut b);
        b
    })
}

fn owned(g: &Geometry) -> Vec<Case> {
    let mut out = Vec::new();
    let place = g.slot_sector(SlotIndex(1), 0);
    let (old, new) = (slot(), SlotSector { beat: slot().beat + 1, choosing: true, ..slot() });
    let blocks = two(g.stride(), &old, &new, |s, b| s.encode(place, b));
    let decode = decoder(SlotSector::decode, |s, p, b| s.encode(p, b));
    out.push(case("slot", Kind::Slot, place, 168, blocks, decode));
    let place = g.page_copy(SlotIndex(0), 1);
    let mut newer = page();
    newer.sequence += 1;
    newer.requests.push(Request { to: SlotIndex(3), number: 8, ..request() });
    newer.answers.clear();
    newer.volumes[2] = entry();
    let blocks = two(g.page_bytes(), &page(), &newer, |p, b| p.encode(place, b));
    let geometry = g.clone();
    let decode = decoder(move |b, p| ClientPage::decode(b, p, &geometry), |t, p, b| t.encode(p, b));
    out.push(case("page", Kind::ClientPage, place, 20608 + 3 * 256, blocks, decode));
    out
}

fn shared(g: &Geometry) -> Vec<Case> {
    let mut out = Vec::new();
    let place = g.header_copy(1);
    let newer = TableHeader { commit: CommitNo { epoch: 41, count: 3 }, opened: 18, ..header(g) };
    let blocks = two(g.header_bytes(), &header(g), &newer, |h, b| h.encode(place, b));
    let geometry = g.clone();
    let decode = decoder(move |b, p| TableHeader::decode(b, p, &geometry), |h, p, b| h.encode(p, b));
    out.push(case("header", Kind::Header, place, 80 + 8 * 8 + 24 * 7, blocks, decode));

    type Client = (Option<ClientRecord>, CommitNo, u32);
    let encode = |(c, commit, crc): &Client, p: Place, b: &mut [u8]| {
        let made = ClientRecord::encode(c.as_ref(), p, *commit, b);
        assert!(*crc == 0 || *crc == made || b[248..].iter().all(|x| *x == 0));
    };
    let next = CommitNo { epoch: 42, count: 1 };
    let place = g.cell_block(CellId::Client(SlotIndex(0)), 1, 0);
    for (name, new) in [("record", Some(ClientRecord { admin: true, ..client() })), ("record removed", None)] {
        let (old, new) = ((Some(client()), COMMIT, 0), (new, next, 0));
        let blocks = two(4096, &old, &new, |c, b| encode(c, place, b));
        let decode = decoder(ClientRecord::decode, encode);
        out.push(case(name, Kind::ClientRecord, place, 248, blocks, decode));
    }

    type Volume = (Option<VolumeTable>, CommitNo, u32);
    let encode = |(t, commit, _): &Volume, p: Place, b: &mut [u8]| {
        VolumeTable::encode(t.as_ref(), p, *commit, b);
    };
    let place = g.cell_block(CellId::Volume(VolumeIndex(2)), 0, 1);
    for (name, new) in [("table", Some(VolumeTable { writer: None, next: None, ..volume() })), ("table removed", None)]
    {
        let (old, new) = ((Some(volume()), COMMIT, 0), (new, next, 0));
        let blocks = two(4096, &old, &new, |t, b| encode(t, place, b));
        let decode = decoder(|b, p| VolumeTable::decode(b, p, 4), encode);
        out.push(case(name, Kind::VolumeTable, place, 640 + 8 * 4, blocks, decode));
    }
    out
}

fn ends(g: &Geometry) -> Vec<Case> {
    let place = Place { table: TABLE, offset: g.total() - 4096 };
    let newer = Superblock { label: Label::new("other label").unwrap(), ..superblock() };
    let blocks = two(4096, &superblock(), &newer, |s, b| s.encode(place.offset, b));
    let decode = decoder(|b, p| Superblock::decode(b, p.offset), |s, p, b| s.encode(p.offset, b));
    let superblock = case("superblock", Kind::Superblock, place, 192 + 384, blocks, decode);
    let place = Place { table: FOOTAGE, offset: 4096 };
    let newer = Envelope { name: Name::new("rushes").unwrap(), ..envelope() };
    let blocks = two(4096, &envelope(), &newer, |e, b| e.encode(place.offset, b));
    let decode = decoder(|b, p| Envelope::decode(b, p.offset), |e, p, b| e.encode(p.offset, b));
    vec![superblock, case("envelope", Kind::Envelope, place, 144 + 96, blocks, decode)]
}

fn cases() -> Vec<Case> {
    let g = geometry(512);
    let mut all = owned(&g);
    all.extend(shared(&g));
    all.extend(ends(&g));
    all
}

impl Case {
    fn look(&self, bytes: &[u8]) -> Verdict<(String, Vec<u8>)> {
        (self.decode)(bytes, self.place)
    }

    /// The same head around another body, whole again.
    fn resealed(&self, body: &[u8]) -> Vec<u8> {
        let (_, stamp, _) = block::peek(&self.old).unwrap();
        let mut b = vec![0; self.old.len()];
        block::seal(&mut b, self.kind, self.place, stamp, &body.to_vec());
        b
    }
}

#[test]
fn both_versions_are_valid_and_differ() {
    for c in cases() {
        let (old, new) = (c.look(&c.old).valid().unwrap(), c.look(&c.new).valid().unwrap());
        assert_ne!(old.0, new.0, "{}", c.name);
        assert!(old.1 == c.old && new.1 == c.new, "{}: encoded again it is the same", c.name);
    }
}

#[test]
fn any_single_flipped_bit_is_seen() {
    for c in cases() {
        let mut b = c.old.clone();
        // Every bit of the smaller blocks and of every head; of a page every 13th bit.
        let step = if b.len() > 4096 { 13 } else { 1 };
        for bit in (0..512).chain((512..b.len() * 8).step_by(step)) {
            b[bit / 8] ^= 1 << (bit % 8);
            let found = c.look(&b);
            assert!(matches!(found, Verdict::Corrupt(_)), "{}, bit {bit}: {}", c.name, found.word());
            b[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn a_torn_write_gives_old_or_new_or_corrupt_and_never_a_third() {
    for c in cases() {
        let absent = vec![0; c.old.len()];
        for (before, after) in [(&c.old, &c.new), (&c.new, &c.old), (&absent, &c.new)] {
            let (was, is) = (c.look(before), c.look(after));
            let mut front = before.clone();
            let mut back = after.clone();
            // Where both say the same a tear one byte later is the same block.
            for at in (0..c.old.len()).filter(|at| before[*at] != after[*at]) {
                // The first `at + 1` bytes are there; or all but those.
                front[at] = after[at];
                back[at] = before[at];
                for torn in [&front, &back] {
                    let v = c.look(torn);
                    assert!(matches!(v, Verdict::Corrupt(_)) || v == was || v == is, "{} torn at {at}", c.name);
                }
            }
        }
    }
}

#[test]
fn blocks_from_elsewhere_are_recognised() {
    for c in cases() {
        let elsewhere = Place { offset: c.place.offset + 8192, ..c.place };
        let found = (c.decode)(&c.old, elsewhere);
        assert!(matches!(found, Verdict::Corrupt(Corrupt::Place { .. })), "{}", c.name);
        if !matches!(c.kind, Kind::Superblock | Kind::Envelope) {
            let foreign = Place { table: Uuid::from_u128(99), ..c.place };
            let found = (c.decode)(&c.old, foreign);
            assert_eq!(found, Verdict::Corrupt(Corrupt::ForeignTable(TABLE)), "{}", c.name);
            let junk = vec![0x5a; c.old.len()];
            assert_eq!(c.look(&junk), Verdict::Corrupt(Corrupt::Magic), "{}: init had put a block there", c.name);
        } else {
            assert_eq!(c.look(&vec![0x5a; c.old.len()]), Verdict::Absent, "{}: a device never ours", c.name);
        }
        for other in cases().iter().filter(|o| o.kind != c.kind) {
            let mut b = vec![0; c.old.len()];
            block::seal(&mut b, other.kind, c.place, Stamp::default(), &());
            let found = c.look(&b);
            assert!(matches!(found, Verdict::Corrupt(Corrupt::Kind { .. })), "{} for {}", other.name, c.name);
        }
        let (short, long) = (c.look(&c.old[..40]), c.look(&[&c.old[..], &[0; 512]].concat()));
        assert_eq!(short, Verdict::Corrupt(Corrupt::Short(40)));
        assert!(matches!(long, Verdict::Corrupt(_)));
        assert_eq!(c.look(&vec![0; c.old.len()]), Verdict::Absent);
    }
}

#[test]
fn a_newer_format_version_is_told_from_damage() {
    for c in cases() {
        let mut b = c.old.clone();
        b[10..12].copy_from_slice(&2u16.to_le_bytes());
        assert!(matches!(c.look(&b), Verdict::Corrupt(_)), "{}: without its checksum", c.name);
        b[56..60].fill(0);
        let crc = crc32c::crc32c(&b);
        b[56..60].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(c.look(&b), Verdict::Unsupported(2), "{}", c.name);
    }
}

#[test]
fn the_head_refuses_a_reserved_field_and_a_wrong_length() {
    for c in cases() {
        for (range, want) in [(60..64, "head reserved"), (12..16, "length")] {
            let mut b = c.old.clone();
            b[range].copy_from_slice(&[9, 0, 0, 0]);
            b[56..60].fill(0);
            let crc = crc32c::crc32c(&b);
            b[56..60].copy_from_slice(&crc.to_le_bytes());
            match c.look(&b) {
                Verdict::Corrupt(Corrupt::Field(f)) => assert_eq!(f, want, "{}", c.name),
                Verdict::Corrupt(Corrupt::Length { found: 9, .. }) => assert_eq!(want, "length", "{}", c.name),
                other => panic!("{}: {}", c.name, other.word()),
            }
        }
    }
}

/// With the checksum made right again, each byte of the body is still either kept or refused: nothing that is on the
/// disk is passed over, so nothing is lost by decoding and encoding, and reserved fields are zero or refused.
#[test]
fn no_byte_of_a_body_is_passed_over() {
    for c in cases() {
        let mut refused = 0;
        let values: &[u8] = if c.used > 4096 { &[0, 1, 0xff] } else { &[0, 1, 2, 7, 0x41, 0x80, 0xff] };
        // Of a page's many equal rooms the first two and one in the middle are enough.
        let room = |at: &usize| c.used < 4096 || *at < 768 || (10368..10688).contains(at) || *at >= 20608;
        let sources = if c.used > 4096 { vec![&c.new] } else { vec![&c.old, &c.new] };
        for source in sources {
            for at in (64..c.used).filter(room) {
                for &value in values {
                    let mut body = source[64..].to_vec();
                    body[at - 64] = value;
                    let b = c.resealed(&body);
                    match c.look(&b) {
                        Verdict::Valid((_, again)) => assert!(again[64..] == b[64..], "{}, byte {at}", c.name),
                        Verdict::Corrupt(Corrupt::Field(_)) => refused += 1,
                        other => panic!("{}, byte {at} = {value}: {}", c.name, other.word()),
                    }
                }
            }
        }
        assert!(refused > 0, "{}: some values are impossible", c.name);
    }
}

#[test]
fn a_page_whose_rooms_have_a_gap_is_refused() {
    let cases = cases();
    let page = cases.iter().find(|c| c.kind == Kind::ClientPage).unwrap();
    const ROOM: usize = 320;
    for first in [128, 10368] {
        let full = [&page.old, &page.new].into_iter().find(|b| b[first] == 1).expect("a page that uses its first room");
        let mut body = full[64..].to_vec();
        let (first, second) = (first - 64, first - 64 + ROOM);
        body.copy_within(first..second, second);
        body[first..second].fill(0);
        assert!(matches!(page.look(&page.resealed(&body)), Verdict::Corrupt(Corrupt::Field(_))));
    }
}

#[test]
fn slots_of_clients_that_do_not_exist_are_refused() {
    let g = geometry(512);
    let place = g.page_copy(SlotIndex(0), 0);
    let mut b = vec![0; g.page_bytes()];
    let mut p = page();
    p.requests[0].to = SlotIndex(4);
    p.encode(place, &mut b);
    assert_eq!(ClientPage::decode(&b, place, &g), Verdict::Corrupt(Corrupt::Field("request")));
    p = page();
    p.answers[0].to = SlotIndex(u16::MAX);
    p.encode(place, &mut b);
    assert_eq!(ClientPage::decode(&b, place, &g), Verdict::Corrupt(Corrupt::Field("answer")));
    let place = g.cell_block(CellId::Volume(VolumeIndex(0)), 0, 0);
    let mut b = vec![0; 4096];
    let mut t = volume();
    t.writer.as_mut().unwrap().slot = SlotIndex(4);
    VolumeTable::encode(Some(&t), place, COMMIT, &mut b);
    assert_eq!(VolumeTable::decode(&b, place, 4), Verdict::Corrupt(Corrupt::Field("writer slot")));
    t = volume();
    t.next.as_mut().unwrap().slot = SlotIndex(4);
    VolumeTable::encode(Some(&t), place, COMMIT, &mut b);
    assert_eq!(VolumeTable::decode(&b, place, 4), Verdict::Corrupt(Corrupt::Field("next slot")));
    let place = g.header_copy(0);
    let mut b = vec![0; g.header_bytes()];
    TableHeader { clients: 5, ..header(&g) }.encode(place, &mut b);
    assert_eq!(TableHeader::decode(&b, place, &g), Verdict::Corrupt(Corrupt::Field("counts of cells in use")));
}

#[test]
fn the_content_checksum_leaves_out_the_place_and_nothing_else() {
    let g = geometry(512);
    let cell = CellId::Volume(VolumeIndex(1));
    let block = |copy: usize, version: u8, commit, table: &VolumeTable| {
        let mut b = vec![0; 4096];
        VolumeTable::encode(Some(table), g.cell_block(cell, version, copy), commit, &mut b)
    };
    assert_eq!(block(0, 0, COMMIT, &volume()), block(1, 0, COMMIT, &volume()));
    assert_ne!(block(0, 0, COMMIT, &volume()), block(0, 0, CommitNo { epoch: 41, count: 3 }, &volume()));
    let other = VolumeTable { check_due: false, ..volume() };
    assert_ne!(block(0, 0, COMMIT, &volume()), block(0, 0, COMMIT, &other));
    for short in [0, 1, 31, 32, 39, 55, 59, 60] {
        block::content_crc(&vec![1; short]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_an_answer_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..6000)) {
        let ours = [&block::MAGIC[..], &bytes].concat();
        for c in cases() {
            prop_assert!(!matches!(c.look(&bytes), Verdict::Valid(_)));
            prop_assert!(!matches!(c.look(&ours), Verdict::Valid(_)));
            // A whole block with a right checksum around any body.
            let room = c.old.len() - 64;
            let body = &bytes[..bytes.len().min(room)];
            match c.look(&c.resealed(body)) {
                Verdict::Valid(_) | Verdict::Corrupt(Corrupt::Field(_)) => {}
                other => prop_assert!(false, "{}: {}", c.name, other.word()),
            }
        }
        block::peek(&bytes);
        block::content_crc(&bytes);
    }
}
