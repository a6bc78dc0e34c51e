//! The decoders of single blocks, past their checksums.

use std::sync::OnceLock;

use ondisk::block::{self, HEAD_BYTES, Kind};
use ondisk::envelope::{COPIES, COPY_BYTES, Envelope};
use ondisk::superblock::{Region, SUPERBLOCK_BYTES};
use ondisk::{
    CellId, ClientPage, ClientRecord, Geometry, LockKind, Place, SlotIndex, SlotSector, Stamp, Superblock, TableHeader,
    Timings, Uuid, Verdict, VolumeIndex, VolumeTable,
};

use super::feed::Feed;

/// A small geometry: 3 clients, 2 volumes.
pub(super) fn small() -> &'static Geometry {
    static SMALL: OnceLock<Geometry> = OnceLock::new();
    SMALL.get_or_init(|| Geometry::plan(Uuid::from_u128(7), 3, 2, 512, 1 << 20).expect("a good geometry"))
}

/// Makes the checksum of a block right. False: too short for one.
pub(super) fn seal_again(block: &mut [u8]) -> bool {
    if block.len() < HEAD_BYTES {
        return false;
    }
    block[56..60].fill(0);
    let crc = crc32c::crc32c(block);
    block[56..60].copy_from_slice(&crc.to_le_bytes());
    true
}

/// Overwrites bytes here and there.
pub(super) fn patch(feed: &mut Feed, bytes: &mut [u8]) {
    while !feed.is_empty() && !bytes.is_empty() {
        let at = feed.below(bytes.len());
        let new = feed.some(64);
        let end = bytes.len().min(at + new.len());
        bytes[at..end].copy_from_slice(&new[..end - at]);
    }
}

/// A block of this kind and place: a body out of the feed, or `sample` with bytes of it changed; mostly with a good head.
fn block_of(feed: &mut Feed, kind: Kind, place: Place, sample: &[u8]) -> Vec<u8> {
    let how = feed.byte();
    let mut block = vec![0; sample.len()];
    if how & 1 == 0 {
        let stamp = Stamp { major: feed.number(), minor: feed.number() };
        let mut body = feed.rest();
        body.truncate(block.len() - HEAD_BYTES);
        block::seal(&mut block, kind, place, stamp, &body);
    } else {
        block.copy_from_slice(sample);
        // A version, kind or length of its own is wanted seldom; the body always.
        let from = if how & 2 == 0 { HEAD_BYTES } else { 0 };
        patch(feed, &mut block[from..]);
    }
    if how & 0x1c != 0x1c {
        seal_again(&mut block);
    }
    block
}

/// What was decoded says the same once it is written and read again.
fn same<T: PartialEq + std::fmt::Debug>(
    block: &[u8],
    decode: impl Fn(&[u8]) -> Verdict<T>,
    encode: impl Fn(&T, &mut [u8]),
) {
    let Verdict::Valid(first) = decode(block) else { return };
    let mut again = vec![0; block.len()];
    encode(&first, &mut again);
    assert_eq!(decode(&again), Verdict::Valid(first));
}

pub(super) fn superblock(data: &[u8]) {
    static SAMPLE: OnceLock<Vec<u8>> = OnceLock::new();
    let sample = SAMPLE.get_or_init(|| {
        let mut sample = vec![0; SUPERBLOCK_BYTES as usize];
        let timings = Timings::default();
        small().superblock(LockKind::Bakery, timings, Default::default(), 1).encode(0, &mut sample);
        sample
    });
    let mut feed = Feed::new(data);
    let place = Place { table: small().table(), offset: 0 };
    let block = block_of(&mut feed, Kind::Superblock, place, sample);
    same(&block, |b| Superblock::decode(b, 0), |s, b| s.encode(0, b));
    if let Verdict::Valid(sb) = Superblock::decode(&block, 0)
        && let Ok(geometry) = Geometry::of(&sb)
    {
        consistent(&geometry);
    }
}

pub(super) fn slot(data: &[u8]) {
    let place = small().slot_sector(SlotIndex(1), 0);
    let block =
        block_of(&mut Feed::new(data), Kind::Slot, place, &sealed(512, |b| SlotSector::default().encode(place, b)));
    same(&block, |b| SlotSector::decode(b, place), |s, b| s.encode(place, b));
}

fn sealed(len: usize, encode: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut block = vec![0; len];
    encode(&mut block);
    block
}

pub(super) fn header(data: &[u8]) {
    let g = small();
    let place = g.header_copy(1);
    let entry = ondisk::CellEntry::new(0, 0, ondisk::CommitNo::default());
    let plain = TableHeader {
        commit: ondisk::CommitNo::default(),
        opened: 0,
        clients: 0,
        volumes: 0,
        reaped: vec![ondisk::Incarnation(0); g.slot_count()],
        cells: vec![entry; g.cell_count()],
    };
    let sample = sealed(g.header_bytes(), |b| plain.encode(place, b));
    let block = block_of(&mut Feed::new(data), Kind::Header, place, &sample);
    same(&block, |b| TableHeader::decode(b, place, g), |h, b| h.encode(place, b));
}

pub(super) fn client_page(data: &[u8]) {
    let g = small();
    let place = g.page_copy(SlotIndex(2), 1);
    static SAMPLE: OnceLock<Vec<u8>> = OnceLock::new();
    let sample = SAMPLE.get_or_init(|| {
        let page = super::image::a_page(g, 1);
        sealed(g.page_bytes(), |b| page.encode(place, b))
    });
    let block = block_of(&mut Feed::new(data), Kind::ClientPage, place, sample);
    same(&block, |b| ClientPage::decode(b, place, g), |p, b| p.encode(place, b));
}

pub(super) fn client_record(data: &[u8]) {
    let g = small();
    let cell = CellId::Client(SlotIndex(0));
    let place = g.cell_block(cell, 1, 0);
    let record = super::image::a_client("alice");
    let sample = sealed(g.cell_bytes(cell), |b| {
        ClientRecord::encode(Some(&record), place, ondisk::CommitNo::default(), b);
    });
    let block = block_of(&mut Feed::new(data), Kind::ClientRecord, place, &sample);
    let encode = |(record, commit, _): &(Option<ClientRecord>, _, _), b: &mut [u8]| {
        ClientRecord::encode(record.as_ref(), place, *commit, b);
    };
    said_again(&block, |b| ClientRecord::decode(b, place), encode);
}

pub(super) fn volume_table(data: &[u8]) {
    let g = small();
    let cell = CellId::Volume(VolumeIndex(1));
    let place = g.cell_block(cell, 0, 1);
    let table = super::image::a_volume(g, "footage", 1);
    let sample = sealed(g.cell_bytes(cell), |b| {
        VolumeTable::encode(Some(&table), place, ondisk::CommitNo::default(), b);
    });
    let block = block_of(&mut Feed::new(data), Kind::VolumeTable, place, &sample);
    let clients = usize::from(g.max_clients());
    let encode = |(table, commit, _): &(Option<VolumeTable>, _, _), b: &mut [u8]| {
        VolumeTable::encode(table.as_ref(), place, *commit, b);
    };
    said_again(&block, |b| VolumeTable::decode(b, place, clients), encode);
}

/// As [`same`], of a cell, whose checksum also covers bytes behind the record.
fn said_again<T: PartialEq + std::fmt::Debug>(
    block: &[u8],
    decode: impl Fn(&[u8]) -> Verdict<(Option<T>, ondisk::CommitNo, u32)>,
    encode: impl Fn(&(Option<T>, ondisk::CommitNo, u32), &mut [u8]),
) {
    let Verdict::Valid(first) = decode(block) else { return };
    let mut again = vec![0; block.len()];
    encode(&first, &mut again);
    let Verdict::Valid(second) = decode(&again) else { panic!("what was encoded is valid") };
    assert_eq!((second.0, second.1), (first.0, first.1));
    assert_eq!(second.2, block::content_crc(&again));
}

pub(super) fn envelope(data: &[u8]) {
    let sample = Envelope {
        volume: Uuid::from_u128(9),
        name: ondisk::Name::new("footage").expect("a name"),
        created: 5,
        fs: ondisk::FsKind::Ext4,
        data_first: 1 << 20,
        data_length: 1 << 30,
    };
    let offset = COPIES[1];
    let place = Place { table: sample.volume, offset };
    let block =
        block_of(&mut Feed::new(data), Kind::Envelope, place, &sealed(COPY_BYTES, |b| sample.encode(offset, b)));
    same(&block, |b| Envelope::decode(b, offset), |e, b| e.encode(offset, b));
}

pub(super) fn geometry(data: &[u8]) {
    let mut feed = Feed::new(data);
    let short = |feed: &mut Feed| u16::try_from(feed.number() & 0xffff).expect("16 bits");
    let long = |feed: &mut Feed| u32::try_from(feed.number() & 0xffff_ffff).expect("32 bits");
    let (clients, volumes) = (short(&mut feed), short(&mut feed));
    let stride = if feed.flag() { 512 << feed.below(9) } else { long(&mut feed) };
    let total = if feed.flag() { 1 << (16 + feed.below(48)) } else { feed.number() };
    let planned = Geometry::plan(Uuid::from_u128(1), clients, volumes, stride, total);
    if let Ok(geometry) = &planned {
        consistent(geometry);
    }
    let mut sb =
        planned.as_ref().unwrap_or(small()).superblock(LockKind::Ofd, Timings::default(), Default::default(), 0);
    while !feed.is_empty() {
        match feed.below(8) {
            0 => sb.max_clients = short(&mut feed),
            1 => sb.max_volumes = short(&mut feed),
            2 => sb.stride = long(&mut feed),
            3 => sb.total = feed.number(),
            4 => sb.timings.beat_ms = long(&mut feed),
            5 => sb.incompatible = long(&mut feed),
            6 => {
                let at = feed.below(sb.regions.len().max(1));
                if let Some(region) = sb.regions.get_mut(at) {
                    let up = |n: u64| n.wrapping_mul(4096);
                    match feed.below(3) {
                        0 => region.first = up(feed.number()),
                        1 => region.length = up(feed.number()),
                        _ => region.first = feed.number(),
                    }
                }
            }
            _ => {
                let region = Region {
                    kind: long(&mut feed),
                    ..Region::new(ondisk::superblock::RegionKind::Slots, feed.number(), feed.number())
                };
                sb.regions.push(region);
                sb.regions.truncate(16);
            }
        }
    }
    if let Ok(geometry) = Geometry::of(&sb) {
        consistent(&geometry);
    }
}

/// Every place that a geometry gives lies on the device, and no two overlap.
fn consistent(geometry: &Geometry) {
    // Only the first and the last of each kind: there can be 20,000 blocks.
    let slots: Vec<_> = geometry.slots().collect();
    let ends = |of: &[SlotIndex]| [of[0], of[of.len() - 1]];
    let clients = ends(&geometry.clients().collect::<Vec<_>>());
    let mut spans: Vec<(u64, u64)> = geometry.superblock_offsets().map(|o| (o, u64::from(SUPERBLOCK_BYTES))).to_vec();
    let len = |bytes: usize| bytes as u64;
    for slot in ends(&slots) {
        spans.extend([0, 1].map(|s| (geometry.slot_sector(slot, s).offset, len(geometry.stride()))));
    }
    spans.extend([0, 1].map(|c| (geometry.header_copy(c).offset, len(geometry.header_bytes()))));
    let volumes = [VolumeIndex(0), VolumeIndex(geometry.max_volumes() - 1)];
    let cells = clients.map(CellId::Client).into_iter().chain(volumes.map(CellId::Volume));
    for (cell, version, copy) in cells.flat_map(|c| [(c, 0, 0), (c, 1, 1)]) {
        spans.push((geometry.cell_block(cell, version, copy).offset, len(geometry.cell_bytes(cell))));
    }
    for slot in clients {
        spans.extend([0, 1].map(|c| (geometry.page_copy(slot, c).offset, len(geometry.page_bytes()))));
    }
    spans.sort_unstable();
    spans.dedup();
    for pair in spans.windows(2) {
        assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:?} of {geometry:?}");
    }
    assert!(spans.iter().all(|s| s.0.is_multiple_of(512) && s.0 + s.1 <= geometry.total()));
    // A poll reads it in one piece: 64 KiB strides of 1028 slots are the most.
    let area = geometry.poll_area();
    assert!(area.end - area.start <= 160 << 20, "{area:?}");
    // Room for every record.
    assert!(len(geometry.header_bytes()) >= TableHeader::bytes(len(slots.len()), len(geometry.cell_count())));
    assert!(len(geometry.page_bytes()) >= ClientPage::bytes(geometry.max_volumes().into()));
}
