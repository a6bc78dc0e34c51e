//! Single blocks of a control volume in use are spoiled under living daemons: they go on, `check` reports, `--repair`
//! restores, and nothing waits for longer than the death time.

use std::time::Duration;

use ondisk::geometry::CellId;
use ondisk::{SlotIndex, VolumeIndex};
use volctl::wire::status::VolumeState;
use volctl_tests::studio::{Client, FAST, Fs, Studio, Surgery, run};

const SOON: Duration = Duration::from_secs(8);

struct Used {
    studio: Studio,
    alice: Client,
    bob: Client,
    carol: SlotIndex,
    dave: SlotIndex,
    surgery: Surgery,
}

/// Tables that have seen some use: two daemons live, one client never logged on, one is off.
fn used() -> Used {
    let (studio, alice, bob) = Studio::pair(Fs::Ext4, &["--readers", "live"]);
    let carol = SlotIndex(studio.client("carol").slot());
    let off = studio.client("dave");
    off.start();
    off.logged_on();
    off.stop();
    alice.write_access("footage");
    let surgery = Surgery::open(&studio.control);
    Used { studio, alice, bob, carol, dave: SlotIndex(off.slot()), surgery }
}

impl Used {
    fn incarnations(&self) -> [u64; 2] {
        [&self.alice, &self.bob].map(|c| c.status().incarnation)
    }

    fn check(&self, more: &[&str]) -> volctl_tests::studio::Output {
        let control = self.studio.control.display().to_string();
        let mut args = vec!["check", control.as_str()];
        args.extend(more);
        run(&args)
    }

    /// One block is spoiled; everything goes on; in the end nothing is wrong.
    fn survives(&self, what: &str, offset: u64, len: usize) {
        let before = self.incarnations();
        self.surgery.spoil(offset, len);
        let found = self.check(&[]);
        assert!(found.code == 0 || found.code == 6, "{what}: {found}");
        let changed = self.studio.admin(&["set-client", "bob", "notify", "on"]).ok().took;
        // Its own daemon mends what is its own with the next change of its page.
        let _ = self.bob.cli(&["unmount", "footage"]).ok();
        let _ = self.bob.cli(&["mount", "footage"]).ok();
        self.bob.until_state("footage", VolumeState::Ro, SOON);
        let repaired = self.check(&["--repair"]);
        assert_eq!(repaired.code, 0, "{what}: {repaired}");
        assert_eq!(self.incarnations(), before, "{what}: a login was lost");
        assert!(changed < FAST.dead() + Duration::from_secs(4), "{what}: a change took {changed:?}");
        println!("{what}: check said {}, a change took {changed:?}", found.code);
    }

    fn end(self) {
        self.alice.until_state("footage", VolumeState::Rw, SOON);
        self.studio.end();
    }
}

#[test]
fn loop_a_spoiled_slot_sector_of_the_living_is_mended_by_its_owner() {
    let used = used();
    let geometry = &used.surgery.geometry;
    for (whose, slot) in [("alice's", SlotIndex(used.alice.slot())), ("bob's", SlotIndex(used.bob.slot()))] {
        for sector in 0..2 {
            let place = geometry.slot_sector(slot, sector);
            let before = used.surgery.spoil(place.offset, geometry.stride());
            used.studio.wait_until("the owner writes it again", FAST.lease(), || {
                used.surgery.read(place.offset, geometry.stride())[..16] == before[..16] && used.check(&[]).code == 0
            });
            used.survives(&format!("{whose} sector {sector}"), place.offset, geometry.stride());
        }
    }
    used.end();
}

#[test]
fn loop_a_spoiled_slot_sector_of_somebody_away_delays_a_change_by_no_more_than_the_death_time() {
    let used = used();
    let geometry = &used.surgery.geometry;
    let admin = geometry.slots().find(|s| geometry.is_admin(*s)).expect("administration slots");
    let slots = [("carol's, who never was there,", used.carol, 0), ("dave's", used.dave, 1), ("/admin/0's", admin, 0)];
    for (whose, slot, sector) in slots {
        let place = geometry.slot_sector(slot, sector);
        used.survives(&format!("{whose} sector {sector}"), place.offset, geometry.stride());
    }
    used.end();
}

#[test]
fn loop_a_spoiled_copy_of_a_page_ends_no_login() {
    let used = used();
    let geometry = &used.surgery.geometry;
    for (whose, slot) in [("bob's", SlotIndex(used.bob.slot())), ("dave's", used.dave), ("carol's", used.carol)] {
        for copy in 0..2 {
            let place = geometry.page_copy(slot, copy);
            used.survives(&format!("{whose} page, copy {copy}"), place.offset, geometry.page_bytes());
        }
    }
    used.end();
}

#[test]
fn loop_a_spoiled_copy_of_header_or_superblock_ends_no_login() {
    let used = used();
    let geometry = &used.surgery.geometry;
    for copy in 0..2 {
        let place = geometry.header_copy(copy);
        used.survives(&format!("header copy {copy}"), place.offset, geometry.header_bytes());
    }
    for (copy, offset) in geometry.superblock_offsets().into_iter().enumerate() {
        used.survives(&format!("superblock copy {copy}"), offset, 4096);
    }
    used.end();
}

#[test]
fn loop_a_spoiled_block_of_a_cell_ends_no_login_and_loses_nothing() {
    let used = used();
    let geometry = &used.surgery.geometry;
    let cells = [
        ("alice's record", CellId::Client(SlotIndex(used.alice.slot()))),
        ("the volume's table", CellId::Volume(VolumeIndex(0))),
    ];
    for (what, cell) in cells {
        for version in 0..2 {
            for copy in 0..2 {
                let place = geometry.cell_block(cell, version, copy);
                let len = geometry.cell_bytes(cell);
                used.survives(&format!("{what}, version {version}, copy {copy}"), place.offset, len);
            }
        }
    }
    used.end();
}

#[test]
fn loop_a_header_torn_for_an_instant_ends_nothing_and_for_long_is_told_as_damage() {
    let used = used();
    let (surgery, geometry) = (&used.surgery, &used.surgery.geometry);
    let before = used.incarnations();
    let spoil = || [0, 1].map(|copy| surgery.spoil(geometry.header_copy(copy).offset, geometry.header_bytes()));
    let restore = |blocks: &[lockdriver::device::AlignedBuf; 2]| {
        for (copy, block) in blocks.iter().enumerate() {
            surgery.write(geometry.header_copy(copy).offset, block);
        }
    };
    let blocks = spoil();
    std::thread::sleep(Duration::from_millis(FAST.beat));
    restore(&blocks);
    std::thread::sleep(FAST.lease() * 2);
    assert_eq!(used.incarnations(), before, "an instant cost a login");
    let blocks = spoil();
    let found = used.check(&["--repair"]);
    assert_eq!(found.code, 6, "nothing is invented: {found}");
    for client in [&used.alice, &used.bob] {
        assert_eq!(client.exit_code(FAST.lease() * 3), Some(6), "{}", client.last_words());
    }
    restore(&blocks);
    for client in [&used.alice, &used.bob] {
        client.start();
        client.logged_on();
    }
    used.studio.end();
}
