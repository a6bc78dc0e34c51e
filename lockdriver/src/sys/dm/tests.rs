//! Packets as the kernel wants and gives them; no device-mapper is needed.

use proptest::prelude::*;

use super::*;

/// A packet as the kernel would give it back, with `data` behind the head.
fn answer(count: u32, data: &[u8]) -> Packet {
    let mut packet = Packet::new(HEAD, 0);
    packet.put_u32(TARGET_COUNT_AT, count);
    packet.0.extend_from_slice(data);
    packet
}

fn row(next: u32, length: u64, kind: &str, parameters: &str) -> Vec<u8> {
    let target = Target { sectors: length, kind: kind.into(), parameters: parameters.into() };
    let mut packet = table_packet(&target, 0).unwrap();
    packet.put_u32(HEAD + SPEC_NEXT_AT, next);
    packet.0[HEAD..].to_vec()
}

#[test]
fn commands_are_the_numbers_of_the_kernels_header() {
    assert_eq!(DM_VERSION, 0xc138_fd00);
    assert_eq!(DM_DEV_CREATE, 0xc138_fd03);
    assert_eq!(DM_DEV_SUSPEND, 0xc138_fd06);
    assert_eq!(DM_TABLE_STATUS, 0xc138_fd0c);
}

#[test]
fn a_table_lies_where_the_kernel_reads_it() {
    let target = Target { sectors: 8190, kind: "linear".into(), parameters: "8:16 2048".into() };
    let packet = table_packet(&target, READ_ONLY).unwrap();
    let bytes = &packet.0;
    assert_eq!(bytes.len(), 312 + 56, "40 of the row, 9 of parameters, a NUL, up to a multiple of eight");
    assert_eq!(packet.u32_at(12).unwrap(), 368, "data_size");
    assert_eq!(packet.u32_at(16).unwrap(), 312, "data_start");
    assert_eq!(packet.u32_at(20).unwrap(), 1, "target_count");
    assert_eq!(packet.u32_at(28).unwrap(), 1, "DM_READONLY_FLAG");
    assert_eq!(packet.u64_at(312).unwrap(), 0, "sector_start");
    assert_eq!(packet.u64_at(320).unwrap(), 8190, "length");
    assert_eq!(packet.u32_at(332).unwrap(), 56, "next");
    assert_eq!(&bytes[336..352], b"linear\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(&bytes[352..], b"8:16 2048\0\0\0\0\0\0\0");
}

#[test]
fn names_that_do_not_fit_are_refused_and_not_cut() {
    let mut packet = Packet::new(HEAD, 0);
    assert!(packet.put_text(NAME_AT, NAME_BYTES, &"n".repeat(127)).is_ok());
    for wrong in ["", "a\0b", &"n".repeat(128)] {
        assert!(packet.put_text(NAME_AT, NAME_BYTES, wrong).is_err());
    }
    assert!(packet.put_text(UUID_AT, UUID_BYTES, &"u".repeat(128)).is_ok());
    assert_eq!(packet.status().unwrap().uuid.len(), 128);
}

#[test]
fn a_status_says_which_device_and_whether_it_stands() {
    let mut packet = Packet::new(HEAD, SUSPEND);
    // 253:300, as the kernel packs it.
    packet.put_u64(DEVICE_AT, 0x0010_fd2c);
    packet.put_text(UUID_AT, UUID_BYTES, "VOLCTL-x").unwrap();
    let status = packet.status().unwrap();
    assert_eq!((status.uuid.as_str(), status.minor), ("VOLCTL-x", 300));
    assert!(status.suspended && !status.active);
}

#[test]
fn rows_of_an_answer_are_found_by_their_distance_from_the_first() {
    let mut data = row(56, 100, "linear", "8:16 2048");
    data.extend(row(96, 50, "error", ""));
    let found = answer(2, &data).targets().unwrap();
    assert_eq!(found[0], Target { sectors: 100, kind: "linear".into(), parameters: "8:16 2048".into() });
    assert_eq!(found[1], Target { sectors: 50, kind: "error".into(), parameters: String::new() });
    assert!(answer(0, &[]).targets().unwrap().is_empty());
    // A row that points back would be read for ever.
    let mut data = row(0, 100, "linear", "8:16 2048");
    data.extend(row(96, 50, "error", ""));
    assert!(answer(u32::MAX, &data).targets().is_err());
}

#[test]
fn the_list_of_names_ends_where_it_says() {
    let entry = |device: u64, next: u32, name: &str| {
        let mut packet = Packet(vec![0; 12 + 12]);
        packet.put_u64(0, device);
        packet.put_u32(8, next);
        packet.0[12..12 + name.len()].copy_from_slice(name.as_bytes());
        packet.0
    };
    let mut data = entry(0xfd00, 24, "root");
    data.extend(entry(0xfd05, 0, "volctl-x"));
    let found = answer(0, &data).names().unwrap();
    let named = |name: &str, minor| Named { name: name.into(), minor };
    assert_eq!(found, [named("root", 0), named("volctl-x", 5)]);
    assert!(answer(0, &entry(0, 0, "")).names().unwrap().is_empty(), "a kernel without devices");
    assert!(answer(0, &entry(0xfd00, 4, "root")).names().is_err(), "into itself");
    assert!(answer(0, &entry(0xfd00, 400, "root")).names().is_err(), "beyond the end");
}

proptest! {
    #[test]
    fn no_answer_makes_it_panic_or_read_for_ever(
        count: u32, data in proptest::collection::vec(prop_oneof![Just(0_u8), Just(40_u8), any::<u8>()], 0..600),
    ) {
        let packet = answer(count, &data);
        let _ = (packet.targets(), packet.names(), packet.status());
    }
}
