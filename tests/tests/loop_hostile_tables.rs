//! Tables that a broken or hostile host has written: every checksum right, every path, name and message as bad as it can
//! be. The daemon says what is wrong, touches nothing that it should not, and serves the other volumes.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lockdriver::device::AlignedBuf;
use lockdriver::transaction::Change;
use nix::sys::stat::Mode;
use ondisk::{
    Access, CellEntry, CellId, ClientPage, DaemonId, Generation, Identity, Incarnation, Label, Message, Name,
    Permission, ReadersPolicy, Request, RequestId, SlotIndex, SlotSector, TableHeader, Ticket, Uuid, VolumeEntry,
    VolumeIndex, VolumeTable,
};
use volctl::volumes::identify::identify;
use volctl::wire::status::VolumeState;
use volctl_tests::program::tool;
use volctl_tests::studio::{Client, FAST, Fs, LoopDevice, Options, Studio, Surgery, hash, write_synced};

const SOON: Duration = Duration::from_secs(10);
const NOBODY: u32 = 65_534;

/// What a hostile host calls a volume.
#[derive(Clone, Copy)]
struct Hostile<'a> {
    index: u16,
    name: &'a str,
    device: &'a Path,
    readers: ReadersPolicy,
}

/// An image with an ext4 that could be a volume, if only it were one.
fn ext4(path: &Path) {
    File::create(path).and_then(|f| f.set_len(8 << 20)).expect("an image");
    tool("mkfs.ext4", ["-q", "-F", path.to_str().expect("UTF-8")]);
}

/// The table that volctl itself would write for `real`, but for its name, its path, and a last writer that died: a client
/// with write access then mounts it of itself.
fn table(hostile: &Hostile<'_>, real: &Path, clients: usize) -> VolumeTable {
    let found = identify(File::open(real).expect("an image"), 0).expect("an ext4");
    VolumeTable {
        name: Name::new(hostile.name).expect("a name"),
        uuid: Uuid::from_u128(0xbad0_0000 + u128::from(hostile.index)),
        identity: Identity {
            fs_uuid: found.fs_uuid,
            partition: found.partition_uuid.unwrap_or_default(),
            wwid: Label::cut(found.wwid.as_deref().unwrap_or_default()),
            size: found.size_bytes,
            enveloped: false,
        },
        fs: found.kind,
        readers: hostile.readers,
        write_enabled: true,
        device: Message::new(hostile.device.to_str().expect("UTF-8")).expect("a short path"),
        writer: None,
        dirty_since: u64::from(hostile.readers == ReadersPolicy::Exclusive),
        next: None,
        last: Generation { epoch: 1, count: 1 },
        modified_ms: i64::MAX,
        check_due: true,
        permissions: vec![Permission::new(Access::Write, false, true, 0); clients],
    }
}

fn commit(studio: &Studio, index: u16, table: Option<VolumeTable>) {
    let mut notes = |_: &str| {};
    volctl::control::admin_login::run(&studio.control, &mut notes, |session, _| {
        session.transact(&mut |_, _| Ok(Some(Change::volume(VolumeIndex(index), table.clone()))))
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

/// A commit of a volume's table past every rule that a commit looks at.
fn overwrite(studio: &Studio, index: u16, table: &VolumeTable) {
    let surgery = Surgery::open(&studio.control);
    let geometry = &surgery.geometry;
    let cell = CellId::Volume(VolumeIndex(index));
    let block = surgery.read(geometry.header_copy(0).offset, geometry.header_bytes());
    let mut header = TableHeader::decode(&block, geometry.header_copy(0), geometry).valid().expect("a header");
    let version = header.cells[geometry.cell_index(cell)].version;
    header.commit.count += 1;
    for copy in 0..2 {
        let place = geometry.cell_block(cell, version, copy);
        let mut block = AlignedBuf::zeroed(geometry.cell_bytes(cell));
        let crc = VolumeTable::encode(Some(table), place, header.commit, &mut block);
        surgery.write(place.offset, &block);
        header.cells[geometry.cell_index(cell)] = CellEntry::new(version, crc, header.commit);
    }
    for copy in 0..2 {
        let mut block = AlignedBuf::zeroed(geometry.header_bytes());
        header.encode(geometry.header_copy(copy), &mut block);
        surgery.write(geometry.header_copy(copy).offset, &block);
    }
}

fn one() -> (Studio, Client) {
    let studio = Studio::new(FAST);
    let alice = studio.client("alice");
    studio.volume("footage", Fs::Ext4, &["--readers", "live"]);
    studio.allow(&alice, "footage", "write");
    alice.start();
    alice.logged_on();
    alice.until_state("footage", VolumeState::Ro, SOON);
    (studio, alice)
}

fn resident_kib(client: &Client) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", client.pid())).expect("a process");
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// It writes, gives back, and is the same daemon in the same login.
fn serves(alice: &Client, incarnation: u64) {
    alice.write_access("footage");
    write_synced(&alice.path("footage", "file"), "all the same");
    let _ = alice.cli(&["release", "footage"]).ok();
    alice.until_state("footage", VolumeState::Ro, SOON);
    assert_eq!(alice.status().incarnation, incarnation);
}

struct Mount(PathBuf);

impl Mount {
    fn of(device: &Path, point: PathBuf) -> Self {
        fs::create_dir_all(&point).expect("a directory");
        let status = Command::new("mount").arg(device).arg(&point).status();
        assert!(status.is_ok_and(|s| s.success()));
        Self(point)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// A table named a pipe, and the job that looked for a file system in it never came back, nor could the daemon end. A
/// table named the disk that this host had mounted itself, and the daemon mounted it a second time, read-write.
#[test]
fn loop_what_a_hostile_table_names_is_told_and_never_touched() {
    let (studio, alice) = one();
    let incarnation = alice.status().incarnation;
    let before = resident_kib(&alice);
    let at = |name: &str| studio.dir().join(name);
    let real = at("real.img");
    ext4(&real);
    let (pipe, theirs, open) = (at("pipe"), at("theirs.img"), at("open.img"));
    nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).expect("a pipe");
    for decoy in [&theirs, &open] {
        fs::copy(&real, decoy).expect("a copy");
    }
    chown(&theirs, Some(NOBODY), None).expect("somebody else's");
    fs::set_permissions(&open, Permissions::from_mode(0o666)).expect("open to all");
    let own_disk = LoopDevice::attach(&real, 512);
    let by_hand = Mount::of(own_disk.path(), at("by-hand"));
    write_synced(&by_hand.0.join("precious"), "mine");
    let cases: [(&Path, ReadersPolicy, &str); 9] = [
        (&pipe, ReadersPolicy::Exclusive, "it is a pipe"),
        (&theirs, ReadersPolicy::Exclusive, "belongs to user 65534"),
        (&open, ReadersPolicy::Live, "may write to it"),
        (own_disk.path(), ReadersPolicy::Exclusive, "this host uses it already"),
        (own_disk.path(), ReadersPolicy::Live, "this host uses it already"),
        (studio.dir(), ReadersPolicy::Live, "it is a directory"),
        (Path::new("/dev/null"), ReadersPolicy::Live, "it is a character device"),
        (Path::new("/proc/self/fd/2"), ReadersPolicy::Live, "cannot be opened"),
        (Path::new("/dev/\u{1b}[2J\u{202e}../nowhere"), ReadersPolicy::Live, "cannot be opened"),
    ];
    let clients = usize::from(Surgery::open(&studio.control).geometry.max_clients());
    let image_before = hash(&theirs);
    for (index, (device, readers, word)) in (10_u16..).zip(cases) {
        let name = format!("h{index}");
        let hostile = Hostile { index, name: &name, device, readers };
        commit(&studio, index, Some(table(&hostile, &real, clients)));
        let told = alice.until_volume(&name, SOON, |v| v.reason.as_ref().is_some_and(|r| r.contains(word)));
        assert_eq!(told.mountpoint, None, "{name}: {told:?}");
    }
    serves(&alice, incarnation);
    assert_eq!(fs::read_to_string(by_hand.0.join("precious")).expect("it is there"), "mine");
    assert_eq!(hash(&theirs), image_before, "a decoy was written to");
    let loops = fs::read_dir("/sys/block").expect("sysfs").flatten().filter(|entry| {
        let backing = fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
        backing.trim() == own_disk.path().to_string_lossy()
    });
    assert_eq!(loops.count(), 0, "a gate was made over a disk that this host uses");
    let plain = Command::new(volctl_tests::program::path()).arg("--socket").arg(alice.socket()).arg("status").output();
    let plain = String::from_utf8(plain.expect("it runs").stdout).expect("UTF-8");
    assert!(!plain.contains('\u{1b}') && !plain.contains('\u{202e}'), "{plain:?}");
    let grown = resident_kib(&alice).saturating_sub(before);
    assert!(grown < 32 * 1024, "{grown} KiB more");
    // Not one of the jobs hangs: the daemon ends in order.
    alice.stop();
    for index in 10..19 {
        commit(&studio, index, None);
    }
    drop(by_hand);
    drop(own_disk);
    studio.end();
}

/// Two volumes of one name: the second was slipped beneath the first, whose mount was then taken away; what was published
/// and unmounted as the one was the other.
#[test]
fn loop_two_volumes_of_one_name_do_not_come_into_one_place() {
    let (studio, alice) = one();
    let incarnation = alice.status().incarnation;
    let second = studio.dir().join("second.img");
    ext4(&second);
    let clients = usize::from(Surgery::open(&studio.control).geometry.max_clients());
    let hostile = Hostile { index: 10, name: "footage", device: &second, readers: ReadersPolicy::Live };
    let ours = alice.mount_root().join("footage");
    let device = || fs::metadata(&ours).map(|m| std::os::unix::fs::MetadataExt::dev(&m)).expect("it is mounted");
    let before = device();
    let other = Hostile { name: "other", device: Path::new("/dev/null"), ..hostile };
    commit(&studio, 10, Some(table(&other, &second, clients)));
    overwrite(&studio, 10, &table(&hostile, &second, clients));
    alice.until("the second is refused", SOON, |s| {
        let reasons = s.volumes.iter().filter(|v| v.name == "footage").filter_map(|v| v.reason.as_ref());
        reasons.into_iter().any(|r| r.contains("something else is mounted"))
    });
    assert_eq!(device(), before, "the first is still in its place");
    serves(&alice, incarnation);
    alice.stop();
    commit(&studio, 10, None);
    studio.end();
}

/// Whoever owns the root directory of a volume can have a file system of his own mounted over it (FUSE). The daemon looked
/// into that instead of the volume, and at the release it closed the gate under a dirty file system.
#[test]
fn loop_what_lies_over_a_volume_is_told_and_costs_no_data() {
    let (studio, alice) = one();
    alice.write_access("footage");
    let place = alice.mount_root().join("footage");
    write_synced(&place.join("file"), "mine");
    let over = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&place).status();
    assert!(over.is_ok_and(|s| s.success()));
    let refused = alice.cli(&["release", "footage"]);
    assert_ne!(refused.code, 0, "{refused}");
    assert!(refused.stderr.contains("something else is mounted"), "{refused}");
    assert_eq!(alice.status().volumes[0].state, VolumeState::Rw, "write access stays");
    assert!(Command::new("umount").arg(&place).status().is_ok_and(|s| s.success()));
    let _ = alice.cli(&["release", "footage"]).ok();
    assert!(alice.events("gate.fenced").is_empty());
    assert_eq!(fs::read_to_string(place.join("file")).expect("a reader sees it"), "mine");
    studio.end();
}

/// A client whose slot and page are written by hand, as often as a daemon would.
struct Mallory {
    surgery: Arc<Surgery>,
    slot: SlotIndex,
    stop: Arc<AtomicBool>,
    beats: Option<std::thread::JoinHandle<()>>,
}

impl Mallory {
    fn begin(studio: &Studio, slot: u16, ticket: u64, page: &ClientPage) -> Self {
        let (surgery, slot) = (Arc::new(Surgery::open(&studio.control)), SlotIndex(slot));
        let stop = Arc::new(AtomicBool::new(false));
        let mut mallory = Self { surgery: Arc::clone(&surgery), slot, stop: Arc::clone(&stop), beats: None };
        for copy in 0..2 {
            let place = surgery.geometry.page_copy(slot, copy);
            let mut block = AlignedBuf::zeroed(surgery.geometry.page_bytes());
            page.encode(place, &mut block);
            surgery.write(place.offset, &block);
        }
        let sector = SlotSector {
            incarnation: page.incarnation,
            page_sequence: page.sequence,
            ticket: Ticket(ticket),
            logged_on: true,
            daemon_id: DaemonId([0xbd; 16]),
            machine_id: [0xbd; 16],
            ..SlotSector::default()
        };
        mallory.beats = Some(std::thread::spawn(move || {
            for beat in 1.. {
                write_slot(&surgery, slot, &SlotSector { beat, ..sector });
                if stop.load(Ordering::SeqCst) {
                    return write_slot(
                        &surgery,
                        slot,
                        &SlotSector { beat, logged_on: false, ticket: Ticket(0), page_sequence: 0, ..sector },
                    );
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }));
        mallory
    }
}

fn write_slot(surgery: &Surgery, slot: SlotIndex, sector: &SlotSector) {
    let place = surgery.geometry.slot_sector(slot, sector.incarnation.sector());
    let mut block = AlignedBuf::zeroed(surgery.geometry.stride());
    sector.encode(place, &mut block);
    surgery.write(place.offset, &block);
}

impl Drop for Mallory {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(beats) = self.beats.take() {
            let _ = beats.join();
        }
        let empty = lockdriver::format::empty_page(&self.surgery.geometry);
        for copy in 0..2 {
            let place = self.surgery.geometry.page_copy(self.slot, copy);
            let mut block = AlignedBuf::zeroed(self.surgery.geometry.page_bytes());
            empty.encode(place, &mut block);
            self.surgery.write(place.offset, &block);
        }
    }
}

fn volume_uuid(studio: &Studio) -> Uuid {
    let list = studio.admin(&["volume", "list"]).ok().json();
    list["volumes"][0]["uuid"].as_str().expect("a UUID").parse().expect("a UUID")
}

/// A request whose place in the queue was the highest number there is made the next one number 0 or ended the daemon; its
/// message was a line of the log of its own, and commands for the terminal.
#[test]
fn loop_the_page_of_a_hostile_client_speaks_to_no_terminal_and_ends_no_daemon() {
    let studio = Studio::new(FAST);
    let hooked = studio.dir().join("hooked");
    let hook = studio.dir().join("hook");
    fs::write(&hook, format!("#!/bin/sh\nprintf '%s' \"$VOLCTL_MESSAGE\" >> {}\nexit 2\n", hooked.display()))
        .expect("a hook");
    fs::set_permissions(&hook, Permissions::from_mode(0o755)).expect("it runs");
    let alice = studio.client_with("alice", &Options::default().hook("on-request", &hook));
    let (bob, mallory) = (studio.client("bob"), studio.client("mallory"));
    studio.volume("footage", Fs::Ext4, &["--readers", "live"]);
    for client in [&alice, &bob, &mallory] {
        studio.allow(client, "footage", "write");
    }
    for client in [&alice, &bob] {
        client.start();
        client.logged_on();
    }
    alice.write_access("footage");
    let (incarnation, before) = (alice.status().incarnation, resident_kib(&alice));
    let volume = volume_uuid(&studio);
    let message = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}1m\u{202e}\nERROR event=\"lease.lost\" all is lost\u{0}\r";
    let request = |id, volume| Request {
        id: RequestId(id),
        number: u64::MAX,
        volume,
        to: SlotIndex(alice.slot()),
        created_ms: i64::MIN,
        message: Message::new(message).expect("it fits"),
    };
    let mut entry = VolumeEntry::of(volume);
    entry.seen = Generation { epoch: u64::MAX, count: u64::MAX };
    entry.published = entry.seen;
    entry.retired = entry.seen;
    (entry.free, entry.capacity, entry.modified_ms) = (u64::MAX, u64::MAX, i64::MAX);
    let mut page = lockdriver::format::empty_page(&Surgery::open(&studio.control).geometry);
    (page.incarnation, page.sequence, page.polls) = (Incarnation(7), u64::MAX, u64::MAX);
    page.volumes[0] = entry;
    page.requests = (0..32).map(|n| request(n + 1, if n == 0 { volume } else { Uuid::from_u128(n.into()) })).collect();
    let hostile = Mallory::begin(&studio, mallory.slot(), 0, &page);
    alice.until("the request is seen", SOON, |s| s.requests.iter().any(|r| r.from == "mallory"));
    studio.wait_until("the hook has run", SOON, || hooked.exists());
    // A request after the last number there is.
    let asked = bob.cli(&["request", "footage", "-m", "please"]).ok();
    assert_eq!(asked.json()["state"], "asked", "{asked}");
    alice.until("both stand", SOON, |s| s.requests.len() == 2);
    let bad =
        |text: &str| text.chars().filter(|c| (c.is_control() && !"\n\t".contains(*c)) || *c == '\u{202e}').count();
    for verb in [&["status"][..], &["requests"], &["log"], &["--json", "status"], &["--json", "log"]] {
        let mut command = Command::new(volctl_tests::program::path());
        let output = command.arg("--socket").arg(alice.socket()).args(verb).output().expect("it runs");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(text.contains("all is lost") && bad(&text) == 0, "{verb:?}: {text:?}");
        assert!(text.lines().all(|line| !line.starts_with("ERROR")), "{verb:?}: {text}");
    }
    let log = fs::read_to_string(studio.dir().join("alice/log")).expect("a log");
    assert!(log.contains("all is lost") && bad(&log) == 0, "{log:?}");
    assert!(log.lines().all(|line| !line.trim_start().starts_with("ERROR event=\"lease.lost\"")), "{log}");
    assert_eq!(bad(&fs::read_to_string(&hooked).expect("what the hook was told")), 0);
    let _ = bob.cli(&["withdraw", "footage"]).ok();
    assert_eq!(alice.status().incarnation, incarnation);
    let grown = resident_kib(&alice).saturating_sub(before);
    assert!(grown < 32 * 1024, "{grown} KiB more");
    drop(hostile);
    alice.until("it is gone", SOON, |s| s.requests.is_empty());
    let _ = alice.cli(&["release", "footage"]).ok();
    studio.end();
}

/// The last ticket there is: nobody can draw another one. Every table can be spoiled by whoever may write it; but then
/// it is said, and nothing that is mounted is lost.
#[test]
fn loop_the_last_ticket_there_is_is_told_and_ends_no_daemon() {
    let (studio, alice) = one();
    let mallory = studio.client("mallory");
    alice.write_access("footage");
    let mut page = lockdriver::format::empty_page(&Surgery::open(&studio.control).geometry);
    page.incarnation = Incarnation(1);
    let hostile = Mallory::begin(&studio, mallory.slot(), u64::MAX, &page);
    let refused = studio.admin(&["set-client", "alice", "notify", "on"]);
    assert_ne!(refused.code, 0, "{refused}");
    assert!(refused.stderr.contains("why") && !refused.stderr.contains("panicked"), "{refused}");
    write_synced(&alice.path("footage", "file"), "it still writes");
    drop(hostile);
    let _ = studio.admin(&["set-client", "alice", "notify", "on"]).ok();
    let _ = alice.cli(&["release", "footage"]).ok();
    studio.end();
}
