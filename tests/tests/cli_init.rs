//! `init`, and what the verbs that only look say to things that are no control volume. No privileges needed.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::Command;

use ondisk::Superblock;
use volctl_tests::control::{Control, SMALL};
use volctl_tests::program::{Said, volctl};

fn looks(path: &str) -> [(&'static str, Said); 4] {
    [
        ("client list", volctl(["client", "list", "--control", path])),
        ("volume list", volctl(["volume", "list", "--control", path])),
        ("dump", volctl(["dump", path])),
        ("check", volctl(["check", path])),
    ]
}

/// All four verbs end with this code and say these words, in three lines.
#[track_caller]
fn all_say(path: &str, code: i32, words: &[&str]) {
    for (verb, said) in looks(path) {
        let said = said.is(code);
        said.says(words);
        assert_eq!(said.err.lines().count(), 3, "{verb}: {}", said.err);
    }
}

fn init(path: &str, more: &[&str]) -> Said {
    volctl(["init", path].into_iter().chain(more.iter().copied()))
}

#[test]
fn init_makes_a_clean_control_volume_and_says_what_it_made() {
    let control = Control::small();
    let image = control.arg("second.img");
    let made = init(&image, &["--label", "studio", "--json"]).ok().json();
    for (key, value) in [("label", "studio"), ("lock", "bakery")] {
        assert_eq!(made[key], value);
    }
    assert_eq!((made["max_clients"].as_u64(), made["size"].as_u64()), (Some(64), Some(16 << 20)));
    assert!(made["used"].as_u64() < made["size"].as_u64());
    // The unit of an image is the page: two slots in one could be torn together (trace C3).
    assert!(made["stride"].as_u64() >= Some(4096));
    let said = volctl(["check", &image]).ok();
    assert!(said.out.contains("clean"), "{}", said.out);
    let dump = volctl(["dump", &image, "--json"]).ok().json();
    for key in ["superblock", "header", "slots", "pages", "clients", "volumes"] {
        assert!(!dump[key].is_null(), "{key}");
    }
    assert_eq!(dump["slots"].as_array().map(Vec::len), Some(68));
    assert_eq!(dump["superblock"]["uuid"], made["uuid"]);
}

#[test]
fn a_large_geometry_gets_an_image_that_holds_it() {
    let control = Control::made(&["--max-clients", "200", "--max-volumes", "40"]);
    let bytes = fs::metadata(control.path()).expect("made").len();
    assert!(bytes > 16 << 20, "{bytes}");
    let _ = control.look(&["check"]).ok();
}

#[test]
fn init_overwrites_nothing_without_force() {
    let control = Control::small();
    let ext4 = control.ext4("ext4.img");
    let odd = control.image("odd.img", 16 << 20);
    File::options().write(true).open(&odd).and_then(|f| f.write_all_at(b"x", 9 << 20)).expect("written");
    let parted = control.image("parted.img", 16 << 20);
    File::options().write(true).open(&parted).and_then(|f| f.write_all_at(&[0x55, 0xaa], 510)).expect("written");
    for (path, words) in [
        (control.arg("control.img"), "control volume"),
        (ext4, "ext4"),
        (odd, "byte 9437184 is not zero"),
        (parted, "partition table"),
    ] {
        let before = fs::read(&path).expect("read");
        init(&path, &[]).is(3).says(&["not empty", words, "--force"]);
        assert!(fs::read(&path).expect("read") == before, "{path} was changed");
    }
}

#[test]
fn init_with_force_makes_new_tables_over_anything_that_nobody_uses() {
    let control = Control::small();
    let again = init(&control.arg("control.img"), &["--force", "--json"]).ok().json();
    assert_ne!(again["uuid"], control.uuid());
    let ext4 = control.ext4("ext4.img");
    let _ = init(&ext4, &["--force", "--max-clients", "4", "--max-volumes", "4"]).ok();
    let _ = volctl(["check", &ext4]).ok();
    // It is no ext4 any more.
    let found = Command::new("blkid").args(["-p", &ext4]).output().expect("blkid");
    assert_eq!(found.status.code(), Some(2), "{}", String::from_utf8_lossy(&found.stdout));
}

#[test]
fn bad_timings_name_their_rule_and_make_nothing() {
    let control = Control::small();
    let path = control.arg("new.img");
    for (options, rule) in [
        (&["--beat", "3s"][..], "quarter of the lease"),
        (&["--dead", "9s"], "2 s longer"),
        (&["--lease", "16s", "--dead", "19s", "--beat", "1s"], "quarter of the lease"),
        (&["--beat", "0s"], "zero"),
        (&["--lease", "1200h"], "too long"),
    ] {
        init(&path, options).is(2).says(&[rule]);
        assert!(!fs::exists(&path).expect("looked"), "{options:?} left an image");
    }
    init(&path, &["--beat", "3"]).is(2).says(&["no unit"]);
}

#[test]
fn lock_kinds_that_an_image_cannot_have_are_refused_and_auto_says_what_it_found() {
    let control = Control::small();
    let path = control.arg("new.img");
    for kind in ["pr", "caw"] {
        init(&path, &["--lock", kind]).is(1).says(&[kind, "it was tried", "an image has no", "--lock auto"]);
        assert!(!fs::exists(&path).expect("looked"));
    }
    init(&path, &["--lock", "ofd"]).ok().says(&["one kernel"]);
    let auto = control.arg("auto.img");
    init(&auto, &[]).ok().says(&[
        "reservations: an image has no reservations",
        "COMPARE AND WRITE: an image",
        "lock bakery",
    ]);
}

#[test]
fn an_image_that_cannot_be_is_not_left_behind() {
    let control = Control::small();
    let path = control.arg("new.img");
    init(&path, &["--size", "64K"]).is(1).says(&["65536 bytes", "are needed"]);
    assert!(!fs::exists(&path).expect("looked"));
    let nowhere = control.arg("no/such/dir.img");
    init(&nowhere, &[]).is(1).says(&["cannot be made"]);
    init("/dev/volctl-no-such-device", &[]).is(1).says(&["not there"]);
    init(&control.dir().display().to_string(), &[]).is(1).says(&["neither a block device nor"]);
}

#[test]
fn a_file_is_never_cut_or_stretched_but_an_empty_one_is_filled() {
    let control = Control::small();
    let path = control.image("is.img", 8 << 20);
    init(&path, &["--size", "16M"]).is(2).says(&["never cut"]);
    assert_eq!(fs::metadata(&path).expect("there").len(), 8 << 20);
    let empty = control.image("empty.img", 0);
    let _ = init(&empty, SMALL).ok();
    assert_eq!(fs::metadata(&empty).expect("there").len(), 16 << 20);
}

#[test]
fn what_is_no_control_volume_is_told_by_name() {
    let control = Control::small();
    all_say(&control.arg("nothing.img"), 1, &["nothing at this path"]);
    all_say(&control.image("tiny.img", 4096), 1, &["no control volume", "only 4096 bytes"]);
    all_say(&control.image("void.img", 0), 1, &["no control volume"]);
    all_say(&control.image("zero.img", 1 << 20), 1, &["no control volume", "zeroes"]);
    all_say(&control.ext4("ext4.img"), 1, &["no control volume", "ext4"]);
    all_say(&control.dir().display().to_string(), 1, &["neither a block device nor"]);
    all_say("/dev/null", 1, &["neither a block device nor"]);
}

/// A file system was made over an old control volume, whose last superblock still stands at the end.
#[test]
fn a_superblock_left_behind_a_file_system_is_no_control_volume() {
    let control = Control::small();
    let path = control.arg("control.img");
    let last = fs::read(&path).expect("read")[(16 << 20) - 4096..].to_vec();
    fs::copy(control.ext4("ext4.img"), &path).expect("copied");
    let file = File::options().write(true).open(&path).expect("the image");
    file.write_all_at(&last, (16 << 20) - 4096).expect("written");
    all_say(&path, 1, &["no control volume", "ext4"]);
}

#[test]
fn either_superblock_is_enough_and_none_is_damage() {
    let control = Control::small();
    control.ruin(0);
    let _ = control.run(&["client", "list"]).ok();
    control.look(&["check"]).is(6).says(&["superblock copy 0"]);
    control.ruin((16 << 20) - 4096);
    for (verb, said) in looks(&control.arg("control.img")) {
        assert_eq!(said.code, 6, "{verb}: {}", said.err);
    }
}

fn with_superblock(control: &Control, change: impl Fn(&mut Superblock)) {
    let bytes = fs::read(control.path()).expect("read");
    let mut superblock = Superblock::decode(&bytes[..4096], 0).valid().expect("valid");
    change(&mut superblock);
    let file = File::options().write(true).open(control.path()).expect("the image");
    for offset in [0, (16 << 20) - 4096] {
        let mut block = vec![0; 4096];
        superblock.encode(offset, &mut block);
        file.write_all_at(&block, offset).expect("written");
    }
}

#[test]
fn a_newer_format_or_an_unknown_feature_is_refused_by_name() {
    let control = Control::small();
    let path = control.arg("control.img");
    with_superblock(&control, |sb| sb.incompatible = 1);
    all_say(&path, 1, &["newer", "flags 0x1"]);
    with_superblock(&control, |sb| sb.incompatible = 0);
    let _ = control.look(&["check"]).ok();
    let mut block = fs::read(control.path()).expect("read")[..4096].to_vec();
    block[10..12].copy_from_slice(&2u16.to_le_bytes());
    block[56..60].fill(0);
    let crc = crc32c(&block);
    block[56..60].copy_from_slice(&crc.to_le_bytes());
    let file = File::options().write(true).open(control.path()).expect("the image");
    file.write_all_at(&block, 0).expect("written");
    all_say(&path, 1, &["newer format", "version 2"]);
    init(&path, &[]).is(3).says(&["control volume"]);
}

fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { (c >> 1) ^ 0x82f6_3b78 } else { c >> 1 })
    };
    !bytes.iter().fold(u32::MAX, step)
}
