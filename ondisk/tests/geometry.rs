//! Where everything lies: no two blocks touch, whatever the numbers.
#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is wrong")]

use ondisk::geometry::GeometryError;
use ondisk::superblock::{KNOWN_READ_ONLY, Region, RegionKind};
use ondisk::*;

const PAIRS: [(u16, u16); 9] =
    [(1, 1), (1, 1024), (1024, 1), (2, 3), (4, 3), (64, 64), (65, 63), (300, 7), (1024, 1024)];
const STRIDES: [u32; 5] = [512, 1024, 4096, 8192, 65536];

fn plan(c: u16, v: u16, stride: u32, total: u64) -> Result<Geometry, GeometryError> {
    Geometry::plan(Uuid::from_u128(7), c, v, stride, total)
}

fn needed(c: u16, v: u16, stride: u32) -> u64 {
    match plan(c, v, stride, 4096) {
        Err(GeometryError::TooSmall { needed, .. }) => needed,
        other => panic!("4096 bytes are too few: {other:?}"),
    }
}

fn sb(g: &Geometry) -> Superblock {
    g.superblock(LockKind::Bakery, Timings::default(), Label::default(), 0)
}

/// Every block that can be written alone: offset and length.
fn blocks(g: &Geometry) -> Vec<(u64, u64)> {
    let len = |n: usize| u64::try_from(n).unwrap();
    let mut out: Vec<(u64, u64)> = g.superblock_offsets().map(|o| (o, 4096)).to_vec();
    for slot in g.slots() {
        out.extend([0, 1].map(|i| (g.slot_sector(slot, i).offset, len(g.stride()))));
    }
    out.extend([0, 1].map(|i| (g.header_copy(i).offset, len(g.header_bytes()))));
    for slot in g.clients() {
        out.extend([0, 1].map(|i| (g.page_copy(slot, i).offset, len(g.page_bytes()))));
    }
    for cell in g.cells() {
        for (version, copy) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            out.push((g.cell_block(cell, version, copy).offset, len(g.cell_bytes(cell))));
        }
    }
    out.sort_unstable();
    out
}

#[test]
fn no_two_blocks_overlap_or_share_a_physical_block() {
    for (c, v) in PAIRS {
        for stride in STRIDES {
            for extra in [0, 4096, 1 << 20] {
                let g = plan(c, v, stride, needed(c, v, stride) + extra).unwrap();
                let blocks = blocks(&g);
                let physical = u64::from(stride);
                for w in blocks.windows(2) {
                    let (end, next) = (w[0].0 + w[0].1, w[1].0);
                    assert!(end <= next, "{c} {v} {stride}: {w:?}");
                    assert!((end - 1) / physical < next / physical, "{c} {v} {stride}: {w:?} share a physical block");
                }
                let (first, last) = (blocks[0], blocks[blocks.len() - 1]);
                assert_eq!((first.0, last.0 + last.1), (0, g.total()));
                assert!(g.poll_area().end - g.poll_area().start < 1 << 29);
                assert_eq!(Geometry::of(&sb(&g)).unwrap(), g);
            }
        }
    }
}

#[test]
fn every_record_fits_its_block() {
    for (c, v) in PAIRS {
        for stride in STRIDES {
            let g = plan(c, v, stride, needed(c, v, stride)).unwrap();
            let fits = |room: usize, bytes: u64| assert!(u64::try_from(room).unwrap() >= bytes, "{c} {v} {stride}");
            let (cells, slots) = (u64::from(c) + u64::from(v), u64::from(c) + 4);
            fits(g.header_bytes(), TableHeader::bytes(slots, cells));
            fits(g.page_bytes(), ClientPage::bytes(u64::from(v)));
            fits(g.cell_bytes(CellId::Client(SlotIndex(0))), ClientRecord::BYTES);
            fits(g.cell_bytes(CellId::Volume(VolumeIndex(0))), VolumeTable::FIXED_BYTES + 8 * u64::from(c));
        }
    }
}

/// The table of worked sizes in the document, one line each.
fn line(c: u16, v: u16, stride: u32) -> String {
    let n = needed(c, v, stride);
    let g = plan(c, v, stride, n).unwrap();
    let length = |kind: RegionKind| {
        let sb = sb(&g);
        sb.regions.iter().find(|r| RegionKind::of(r.kind) == Some(kind)).unwrap().length
    };
    let [s, h, p, cc, vc] =
        [RegionKind::Slots, RegionKind::Header, RegionKind::Pages, RegionKind::ClientCells, RegionKind::VolumeCells]
            .map(length);
    format!("| {c} | {v} | {stride} | {s} | {h} | {p} | {cc} | {vc} | {n} |")
}

#[test]
fn the_document_has_the_sizes_worked_out_right() {
    let doc = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ondisk.md");
    let doc = std::fs::read_to_string(doc).unwrap();
    for (c, v, stride) in [(64, 64, 512), (64, 64, 4096), (64, 64, 65536), (4, 3, 512), (1024, 1024, 512)] {
        let line = line(c, v, stride);
        assert!(doc.contains(&line), "docs/ondisk.md lacks the line\n{line}");
    }
    assert_eq!(line(64, 64, 512), "| 64 | 64 | 512 | 69632 | 8192 | 5242880 | 1048576 | 1048576 | 7426048 |");
    assert_eq!(line(64, 64, 4096), "| 64 | 64 | 4096 | 557056 | 8192 | 5242880 | 1048576 | 1048576 | 7913472 |");
}

#[test]
fn one_byte_too_few_is_too_small_and_names_what_is_needed() {
    for (c, v) in PAIRS {
        for stride in STRIDES {
            let n = needed(c, v, stride);
            assert_eq!(n % 4096, 0);
            let found = n - 4096;
            let small = GeometryError::TooSmall { found, needed: n, clients: c, volumes: v };
            assert_eq!(plan(c, v, stride, n - 1), Err(small));
            assert_eq!(plan(c, v, stride, n + 4095).unwrap().total(), n);
        }
    }
    assert!(plan(64, 64, 512, 0).is_err());
    plan(64, 64, 512, u64::MAX).unwrap();
}

#[test]
fn numbers_outside_the_limits_are_refused() {
    for n in [0, 1025, u16::MAX] {
        assert_eq!(plan(n, 1, 512, 1 << 40), Err(GeometryError::Clients(n)));
        assert_eq!(plan(1, n, 512, 1 << 40), Err(GeometryError::Volumes(n)));
    }
    for stride in [0, 1, 256, 513, 3 * 512, 131_072, u32::MAX] {
        assert_eq!(plan(1, 1, stride, 1 << 40), Err(GeometryError::Stride(stride)));
    }
}

/// What happens to the superblock's claims when one of them is a lie.
fn lie(change: impl FnOnce(&mut Superblock)) -> GeometryError {
    let mut sb = sb(&plan(4, 3, 4096, 2 << 20).unwrap());
    change(&mut sb);
    Geometry::of(&sb).unwrap_err()
}

#[test]
fn a_superblock_that_lies_about_its_regions_is_refused() {
    let regions = |e: GeometryError| matches!(e, GeometryError::Regions(_));
    let total = 2 << 20;
    assert!(regions(lie(|s| s.regions.truncate(4))));
    assert!(regions(lie(|s| s.regions[2].length += 4096)));
    assert!(regions(lie(|s| s.regions[2].first += 512)));
    assert!(regions(lie(|s| s.regions[2].first = 0)));
    assert!(regions(lie(|s| s.regions[2].first = s.regions[3].first)));
    assert!(regions(lie(|s| s.regions[4].first = total)), "behind the end");
    assert!(regions(lie(|s| s.regions[4].first = total + (1 << 30))), "far behind the end");
    assert!(regions(lie(|s| s.regions[4].first = total - s.regions[4].length)), "over the trailing superblock");
    assert!(regions(lie(|s| s.regions[4].first = u64::MAX / 4096 * 4096)), "no end");
    assert!(regions(lie(|s| s.regions[0].first += 1 << 20)), "slots away from the header");
    assert!(regions(lie(|s| s.regions.push(s.regions[1]))), "named twice");
    assert!(regions(lie(|s| s.regions.push(Region { kind: 99, first: 8192, length: 4096 }))), "unknown, over slots");
    assert!(regions(lie(|s| s.total += 512)));
    assert!(matches!(lie(|s| s.total = 8192), GeometryError::TooSmall { .. }));
}

#[test]
fn an_unknown_region_is_skipped_and_counts_as_used() {
    let g = plan(4, 3, 4096, 2 << 20).unwrap();
    let mut sb = sb(&g);
    let first = g.free_area().start;
    sb.regions.push(Region { kind: 99, first, length: 12_288 });
    let with = Geometry::of(&sb).unwrap();
    assert_eq!(with.free_area(), first + 12_288..g.free_area().end);
    assert_eq!(with.header_copy(1), g.header_copy(1));
}

#[test]
fn unknown_flags_refuse_or_forbid_writing_as_they_say() {
    assert_eq!(lie(|s| s.incompatible = 4), GeometryError::Incompatible(4));
    let mut sb = sb(&plan(4, 3, 512, 2 << 20).unwrap());
    assert!(Geometry::of(&sb).unwrap().writable());
    sb.compatible = u32::MAX;
    assert!(Geometry::of(&sb).unwrap().writable());
    sb.read_only = !KNOWN_READ_ONLY & 1;
    assert!(!Geometry::of(&sb).unwrap().writable());
}

#[test]
fn timings_that_break_a_rule_are_refused() {
    let broken = |t: Timings| lie(|s| s.timings = t);
    let good = Timings::default();
    for t in [
        Timings { beat_ms: 0, ..good },
        Timings { poll_ms: 0, ..good },
        Timings { beat_ms: 2001, ..good },
        Timings { dead_ms: 9999, ..good },
        Timings { lease_ms: 20_000, dead_ms: 24_999, ..good },
        Timings { dead_ms: 0, ..good },
        Timings { poll_ms: 1001, ..good },
        Timings { dead_ms: u32::MAX, ..good },
        // Found by the fuzzer: two and a half times such a lease is no 32-bit number.
        Timings { lease_ms: 3_000_000_000, dead_ms: 3_900_000_000, ..good },
    ] {
        assert!(matches!(broken(t), GeometryError::Timings(_)), "{t:?}");
    }
}

#[test]
fn places_outside_a_region_are_a_bug_and_panic() {
    let g = plan(4, 3, 512, 2 << 20).unwrap();
    let panics = |f: &(dyn Fn(&Geometry) -> Place + std::panic::RefUnwindSafe)| {
        let g = g.clone();
        std::panic::catch_unwind(move || f(&g)).is_err()
    };
    assert!(panics(&|g| g.slot_sector(SlotIndex(8), 0)));
    assert!(panics(&|g| g.page_copy(SlotIndex(4), 0)));
    assert!(panics(&|g| g.cell_block(CellId::Client(SlotIndex(4)), 0, 0)));
    assert!(panics(&|g| g.cell_block(CellId::Volume(VolumeIndex(3)), 0, 0)));
}
