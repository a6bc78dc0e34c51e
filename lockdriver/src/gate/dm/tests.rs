//! What can be tried without device-mapper; the rest is in tests/lab.

use proptest::prelude::*;

use super::*;
use crate::gate::Kind;
use crate::sys::dm::{NAME_BYTES, UUID_BYTES};

fn mark(mode: Mode) -> Mark {
    Mark { control: Uuid::from_u128(1), volume: Uuid::new_v4(), slot: 3, incarnation: 9, mode, keep_after_lease: false }
}

fn opening(offset: u64, size_limit: u64) -> Opening {
    let mark = mark(Mode::ReadWrite);
    Opening { mark, offset, size_limit, block_size: 0, direct_io: true, kind: Kind::Mapped }
}

#[test]
fn gates_of_one_mark_have_names_of_their_own_that_fit_and_tell_the_mark() {
    let mark = mark(Mode::ReadWrite);
    let (first, second) = (fresh_names(&mark), fresh_names(&mark));
    assert!(first.0 != second.0 && first.1 != second.1, "the kernel has each but once");
    for (name, uuid) in [first, second] {
        assert!(name.len() <= NAME_BYTES && uuid.len() <= UUID_BYTES);
        // What udev's rules and dmsetup write out as it is.
        assert!(
            uuid.bytes().chain(name.bytes()).all(|b| b.is_ascii_alphanumeric() || b"#+-.:=@_".contains(&b)),
            "{uuid}"
        );
        assert_eq!(mark_of(&uuid), Some(mark.clone()));
    }
}

#[test]
fn devices_of_others_are_not_gates() {
    let (_, uuid) = fresh_names(&mark(Mode::ReadWrite));
    for foreign in ["", "LVM-abc", "VOLCTL-", "VOLCTL-.", "VOLCTL-vc1:x.0", &uuid[1..], &uuid.replace('.', "-")] {
        assert_eq!(mark_of(foreign), None, "{foreign}");
    }
}

proptest! {
    #[test]
    fn a_gate_never_shows_what_lies_beyond_the_volume(length: u64, offset: u64, limit: u64) {
        let sectors = table_sectors(length, &opening(offset, limit));
        if sectors > 0 {
            prop_assert!(offset % 512 == 0 && limit % 512 == 0);
            prop_assert!(offset + sectors * 512 <= length);
            prop_assert!(limit == 0 || sectors * 512 <= limit);
        }
    }
}

#[test]
fn an_enveloped_volume_begins_behind_its_envelope() {
    assert_eq!(table_sectors(10 << 20, &opening(1 << 20, 0)), 9 << 11);
    assert_eq!(table_sectors(10 << 20, &opening(0, 4096)), 8);
    assert_eq!(table_sectors(1 << 20, &opening(1 << 20, 0)), 0);
    assert_eq!(table_sectors(1 << 20, &opening(100, 0)), 0);
}

#[test]
fn a_claim_is_the_gates_own_only_if_nothing_else_is_made_of_the_device() {
    assert!(!claimed_by_gates(u64::MAX), "no such device");
    let holders = tempfile::tempdir().unwrap();
    let put = |name: &str, uuid: &str| {
        let dm = holders.path().join(name).join("dm");
        std::fs::create_dir_all(&dm).unwrap();
        std::fs::write(dm.join("uuid"), uuid).unwrap();
    };
    assert!(!only_gates(holders.path()), "nothing holds it, so a claim is a mount's or a swap's");
    put("dm-0", &format!("{}\n", fresh_names(&mark(Mode::ReadOnly)).1));
    put("dm-1", &format!("{}\n", fresh_names(&mark(Mode::ReadWrite)).1));
    assert!(only_gates(holders.path()));
    std::fs::create_dir(holders.path().join("md0")).unwrap();
    assert!(!only_gates(holders.path()), "an array beside them");
    std::fs::remove_dir(holders.path().join("md0")).unwrap();
    put("dm-2", "LVM-x\n");
    assert!(!only_gates(holders.path()), "a volume group beside them");
}
