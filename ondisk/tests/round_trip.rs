//! What is encoded is what is decoded, for every layout and any values.
#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is wrong")]

use ondisk::client_page::{ANSWERS, AnswerVerdict, HELD, REQUESTS};
use ondisk::envelope::{ENVELOPE_BYTES, Envelope};
use ondisk::superblock::Region;
use ondisk::*;
use proptest::prelude::*;
use proptest::sample::select;

#[path = "../examples/golden/samples.rs"]
mod samples;
use samples::{geometry, page, superblock};

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn text<const N: usize>() -> impl Strategy<Value = text::Text<N>> {
    any::<String>().prop_map(|s| text::Text::cut(&s))
}

fn name() -> impl Strategy<Value = Name> {
    "[^/\\pC]{1,12}".prop_filter_map("a name", |s| Name::new(s).ok())
}

fn commit() -> impl Strategy<Value = CommitNo> {
    any::<(u64, u64)>().prop_map(|(epoch, count)| CommitNo { epoch, count })
}

fn generation() -> impl Strategy<Value = Generation> {
    any::<(u64, u64)>().prop_map(|(epoch, count)| Generation { epoch, count })
}

fn client_slot() -> impl Strategy<Value = SlotIndex> {
    (0u16..4).prop_map(SlotIndex)
}

fn request() -> impl Strategy<Value = Request> {
    (any::<(u64, u64, i64)>(), uuid(), client_slot(), text()).prop_map(
        |((id, number, created_ms), volume, to, message)| Request {
            id: RequestId(id),
            number,
            volume,
            to,
            created_ms,
            message,
        },
    )
}

fn answer() -> impl Strategy<Value = Answer> {
    let verdict = select(vec![AnswerVerdict::Yes, AnswerVerdict::No, AnswerVerdict::Later]);
    (any::<u64>(), uuid(), client_slot(), verdict, text()).prop_map(|(request, volume, to, verdict, message)| Answer {
        request: RequestId(request),
        to,
        volume,
        verdict,
        message,
    })
}

fn entry() -> impl Strategy<Value = VolumeEntry> {
    use MountState::*;
    let state = select(vec![None, Mounting, ReadOnly, ReadWrite, GateClosed]);
    let generations = prop::array::uniform3(generation());
    let held = prop::collection::vec(generation(), HELD);
    (uuid(), state, any::<[bool; 3]>(), any::<[u64; 5]>(), any::<i64>(), generations, held).prop_map(
        |(volume, state, [busy, stale, advisory], [epoch, free, capacity, inflight, refused], modified_ms, g, held)| {
            VolumeEntry {
                volume,
                state,
                busy,
                stale,
                advisory,
                epoch,
                seen: g[0],
                published: g[1],
                retired: g[2],
                modified_ms,
                free,
                capacity,
                inflight: InFlight(inflight),
                held: held.try_into().unwrap(),
                refused,
            }
        },
    )
}

fn record() -> impl Strategy<Value = ClientRecord> {
    let auto = select(vec![AutoResponse::Off, AutoResponse::Idle, AutoResponse::Always]);
    (name(), text(), uuid(), any::<[bool; 4]>(), auto, any::<u64>()).prop_map(|(name, host, uuid, f, auto, n)| {
        ClientRecord {
            name,
            host,
            uuid,
            enabled: f[0],
            admin: f[1],
            locked_out: f[2],
            notify: f[3],
            auto_response: auto,
            logged_on: Incarnation(n),
        }
    })
}

fn permission() -> impl Strategy<Value = Permission> {
    (select(vec![Access::None, Access::Read, Access::Write]), any::<(bool, bool, u32)>())
        .prop_map(|(access, (lockout, auto, check))| Permission::new(access, lockout, auto, check))
}

fn table() -> impl Strategy<Value = VolumeTable> {
    let identity =
        (uuid(), uuid(), text(), any::<(u64, bool)>()).prop_map(|(fs_uuid, partition, wwid, (size, env))| Identity {
            fs_uuid,
            partition,
            wwid,
            size,
            enveloped: env,
        });
    let state = select(vec![GrantState::Pending, GrantState::Held, GrantState::Revoked]);
    let grant = (client_slot(), any::<[u64; 3]>(), state)
        .prop_map(|(slot, [i, epoch, f], state)| Grant::new(slot, Incarnation(i), epoch, InFlight(f), state));
    let next = (client_slot(), any::<[u64; 2]>()).prop_map(|(slot, [i, r])| NextWriter {
        slot,
        incarnation: Incarnation(i),
        request: RequestId(r),
    });
    let kinds = (
        select(vec![FsKind::Ext4, FsKind::Xfs, FsKind::Btrfs]),
        select(vec![ReadersPolicy::Snapshot, ReadersPolicy::Exclusive, ReadersPolicy::Live]),
        any::<(bool, bool, u64, i64)>(),
    );
    let who = (prop::option::of(grant), prop::option::of(next), generation());
    let permissions = prop::collection::vec(permission(), 4);
    (name(), uuid(), identity, kinds, text(), who, permissions).prop_map(
        |(
            name,
            uuid,
            identity,
            (fs, readers, (write_enabled, check_due, dirty, at)),
            device,
            (writer, next, last),
            p,
        )| {
            VolumeTable {
                name,
                uuid,
                identity,
                fs,
                readers,
                write_enabled,
                device,
                writer,
                dirty_since: dirty,
                next,
                last,
                modified_ms: at,
                check_due,
                permissions: p,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn superblocks_come_back(
        n in any::<([u32; 8], [u16; 2], u64, i64)>(), uuid in uuid(), label in text(),
        lock in select(LockKind::ALL.map(|k| k.0).to_vec()), at in any::<u32>(),
        regions in prop::collection::vec((1u32.., any::<u64>(), any::<u64>()), 0..=16),
    ) {
        let ([compatible, read_only, incompatible, stride, beat_ms, lease_ms, dead_ms, poll_ms], m, total, created) = n;
        let regions = regions.into_iter().map(|(kind, first, length)| Region { kind, first, length }).collect();
        let timings = Timings { beat_ms, lease_ms, dead_ms, poll_ms };
        let (max_clients, max_volumes) = (m[0], m[1]);
        let sb = Superblock {
            uuid, compatible, read_only, incompatible, lock, max_clients, max_volumes, stride, total, created,
            timings, label, regions,
        };
        let (mut b, offset) = (vec![1; 4096], u64::from(at) * 512);
        sb.encode(offset, &mut b);
        prop_assert_eq!(Superblock::decode(&b, offset), Verdict::Valid(sb.clone()));
        // Whatever it claims, a geometry or an error comes out, and no panic.
        let _ = Geometry::of(&sb);
    }

    #[test]
    fn lies_about_regions_never_panic(which in 0usize..5, first in any::<u64>(), length in any::<u64>(), total in any::<u64>()) {
        let mut sb = superblock();
        sb.regions[which].first = first & !0xfff;
        let _ = Geometry::of(&sb);
        sb.regions[which].length = length;
        let _ = Geometry::of(&sb);
        sb.total = total & !0xfff;
        let _ = Geometry::of(&sb);
    }

    #[test]
    fn slots_come_back(n in any::<[u64; 8]>(), f in any::<[bool; 4]>(), ids in any::<[[u8; 16]; 3]>(), stride in select(vec![512u32, 4096, 65536])) {
        let s = SlotSector {
            incarnation: Incarnation(n[0]), beat: n[1], page_sequence: n[2], ticket: Ticket(n[3]),
            choosing: f[0], waiting: f[1], logged_on: f[2], gui: f[3],
            acknowledged: CommitNo { epoch: n[4], count: n[5] },
            daemon_id: DaemonId(ids[0]), machine_id: ids[1], boot_id: ids[2],
            lock_file: LockFile { device: n[6], inode: n[7] },
        };
        let g = Geometry::plan(samples::TABLE, 4, 3, stride, 16 << 20).unwrap();
        for slot in g.slots() {
            let (place, mut b) = (g.slot_sector(slot, 1), vec![1; g.stride()]);
            s.encode(place, &mut b);
            prop_assert_eq!(SlotSector::decode(&b, place), Verdict::Valid(s));
        }
    }

    #[test]
    fn headers_come_back(
        commit in commit(), opened in any::<u64>(), clients in 0u16..=4, volumes in 0u16..=3,
        reaped in prop::collection::vec(any::<u64>().prop_map(Incarnation), 8),
        cells in prop::collection::vec((0u8..2, any::<u32>(), commit()), 7),
    ) {
        let g = geometry(512);
        let cells = cells.into_iter().map(|(v, crc, c)| CellEntry::new(v, crc, c)).collect();
        let h = TableHeader { commit, opened, clients, volumes, reaped, cells };
        let (place, mut b) = (g.header_copy(0), vec![1; g.header_bytes()]);
        h.encode(place, &mut b);
        prop_assert_eq!(TableHeader::decode(&b, place, &g), Verdict::Valid(h));
    }

    #[test]
    fn pages_come_back(
        n in any::<[u64; 4]>(), requests in prop::collection::vec(request(), 0..=REQUESTS),
        answers in prop::collection::vec(answer(), 0..=ANSWERS), volumes in prop::collection::vec(entry(), 3),
    ) {
        let g = geometry(512);
        let p = ClientPage {
            incarnation: Incarnation(n[0]), sequence: n[1], polls: n[2], refreshes: n[3], requests, answers, volumes,
        };
        let (place, mut b) = (g.page_copy(SlotIndex(3), 1), vec![1; g.page_bytes()]);
        p.encode(place, &mut b);
        prop_assert_eq!(ClientPage::decode(&b, place, &g), Verdict::Valid(p));
    }

    #[test]
    fn client_records_come_back(record in prop::option::of(record()), commit in commit()) {
        let (place, mut b) = (geometry(512).cell_block(CellId::Client(SlotIndex(1)), 1, 1), vec![1; 4096]);
        let crc = ClientRecord::encode(record.as_ref(), place, commit, &mut b);
        prop_assert_eq!(ClientRecord::decode(&b, place), Verdict::Valid((record, commit, crc)));
    }

    #[test]
    fn volume_tables_come_back(table in prop::option::of(table()), commit in commit()) {
        let (place, mut b) = (geometry(512).cell_block(CellId::Volume(VolumeIndex(1)), 1, 1), vec![1; 4096]);
        let crc = VolumeTable::encode(table.as_ref(), place, commit, &mut b);
        prop_assert_eq!(VolumeTable::decode(&b, place, 4), Verdict::Valid((table, commit, crc)));
    }

    #[test]
    fn envelopes_come_back(volume in uuid(), name in name(), created in any::<i64>(), first in ENVELOPE_BYTES..u64::MAX / 2, length in 0..u64::MAX / 2) {
        let e = Envelope { volume, name, created, fs: FsKind::Xfs, data_first: first, data_length: length };
        let mut b = vec![1; 4096];
        e.encode(4096, &mut b);
        prop_assert_eq!(Envelope::decode(&b, 4096), Verdict::Valid(e));
    }

    #[test]
    fn texts_are_cut_at_whole_characters(s in any::<String>()) {
        let t = Label::cut(&s);
        prop_assert!(s.starts_with(t.as_str()) && t.as_str().len() <= 63);
        prop_assert!(t.as_str() == s || t.as_str().len() > 59);
    }
}

#[test]
fn what_does_not_fit_is_never_dropped_without_a_word() {
    let g = geometry(512);
    let panics = |p: ClientPage| {
        let (place, mut b) = (g.page_copy(SlotIndex(0), 0), vec![0; g.page_bytes()]);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| p.encode(place, &mut b))).is_err()
    };
    assert!(!panics(page()));
    assert!(panics(ClientPage { requests: vec![samples::request(); REQUESTS + 1], ..page() }));
    assert!(panics(ClientPage { answers: vec![samples::answer(); ANSWERS + 1], ..page() }));
    assert!(panics(ClientPage { volumes: vec![samples::entry(); 40], ..page() }));
    let mut sb = superblock();
    sb.regions = vec![sb.regions[0]; 17];
    assert!(std::panic::catch_unwind(move || sb.encode(0, &mut [0; 4096])).is_err());
}

#[test]
fn names_keep_the_rules() {
    for bad in ["", ".", "..", "a/b", ".volctl-hidden", "a\nb", "a\u{7f}", "a\u{85}", &"x".repeat(64)] {
        assert!(Name::new(bad).is_err(), "{bad:?}");
    }
    for good in ["a", "...", "Größe 1", &"x".repeat(63)] {
        assert_eq!(Name::new(good).unwrap().as_str(), good);
    }
}
