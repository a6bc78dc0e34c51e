//! What is published is what a reader on a loop device of its own sees.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lockdriver::gate::{Kind, LoopGate, Mark, Mode, Opening};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use super::*;
use crate::volumes::mounting::{MountError, mount_reader};
use crate::volumes::publish::snapshots::{
    delete_snapshot, free_deleted, list_snapshots, publish_snapshot, relocation_running, switch_reclaim_off,
};
use crate::volumes::publish::{PublishError, changed_since, publish_freeze, sample, sample_frozen};
use crate::volumes::snapshot_name;
use ondisk::{Generation, Uuid};

const fn generation(epoch: u64, count: u64) -> Generation {
    Generation { epoch, count }
}

#[test]
fn loop_a_freeze_shows_everything_to_a_reader() {
    for kind in [FsKind::Ext4, FsKind::Xfs] {
        let mut bed = Bed::new(kind);
        bed.writer(kind);
        write(&bed.root, "file", "never synced by its writer");
        let mount = bed.root.open("w").unwrap();
        let reader = publish_freeze(&mount, || Ok::<_, ()>(bed.reader(kind, None))).unwrap();
        bed.root.attach(reader, "during").unwrap();
        let reader = bed.reader(kind, None);
        bed.root.attach(reader, "after").unwrap();
        for volume in ["during", "after"] {
            let text = fs::read_to_string(bed.root.path_of(volume).join("file"));
            assert_eq!(text.unwrap(), "never synced by its writer", "{kind} {volume}");
        }
        write(&bed.root, "file", "the writer goes on");
    }
}

#[test]
fn loop_a_failed_or_panicking_raise_leaves_nobody_frozen() {
    let mut bed = Bed::new(FsKind::Ext4);
    bed.writer(FsKind::Ext4);
    let mount = bed.root.open("w").unwrap();
    let failed = publish_freeze(&mount, || Err::<(), _>("lease over"));
    assert!(matches!(failed, Err(PublishError::Raise("lease over"))));
    let panicked =
        catch_unwind(AssertUnwindSafe(|| publish_freeze(&mount, || -> Result<(), ()> { panic!("a bug in raise") })));
    assert!(panicked.is_err());
    // Would hang for ever on a frozen file system.
    write(&bed.root, "file", "written");
    lockdriver::sys::freeze::freeze(&mount).unwrap();
    let foreign = publish_freeze(&mount, || Ok::<_, ()>(()));
    lockdriver::sys::freeze::thaw(&mount).unwrap();
    assert!(matches!(foreign, Err(PublishError::FrozenByOther)));
}

#[test]
fn loop_a_publish_does_not_cause_the_next_and_a_write_does() {
    for kind in KINDS {
        let mut bed = Bed::new(kind);
        bed.writer(kind);
        let mount = bed.root.open("w").unwrap();
        for round in 1..4 {
            write(&bed.root, "file", &format!("round {round}"));
            let after = if kind == FsKind::Btrfs {
                if round > 1 {
                    delete_snapshot(&mount, generation(1, round - 1)).unwrap();
                }
                publish_snapshot(&mount, generation(1, round)).unwrap()
            } else {
                publish_freeze(&mount, || sample_frozen(&mount)).unwrap()
            };
            fs::read_to_string(bed.root.path_of("w").join("file")).unwrap();
            for _ in 0..3 {
                assert!(!changed_since(&mount, &after).unwrap(), "{kind} round {round}");
            }
            write(&bed.root, "other", "x");
            assert!(changed_since(&mount, &after).unwrap(), "{kind} round {round}");
        }
    }
}

/// Between the publish and a sample taken after it somebody wrote: it counted as published, and no reader ever got it.
#[test]
fn loop_what_is_written_at_the_end_of_a_publish_is_not_taken_for_published() {
    for kind in KINDS {
        let mut bed = Bed::new(kind);
        bed.writer(kind);
        let mount = bed.root.open("w").unwrap();
        let root = bed.root.clone();
        let (after, writer) = if kind == FsKind::Btrfs {
            let after = publish_snapshot(&mount, generation(1, 1)).unwrap();
            (after, std::thread::spawn(move || write(&root, "late", "x")))
        } else {
            publish_freeze(&mount, || {
                let after = sample_frozen(&mount)?;
                // It waits for the thaw, and goes on at once.
                Ok::<_, PublishError>((after, std::thread::spawn(move || write(&root, "late", "x"))))
            })
            .unwrap()
        };
        writer.join().unwrap();
        assert!(changed_since(&mount, &after).unwrap(), "{kind}");
    }
}

#[test]
fn loop_a_snapshot_reader_sees_exactly_the_published_state() {
    let kind = FsKind::Btrfs;
    let mut bed = Bed::new(kind);
    bed.writer(kind);
    let mount = bed.root.open("w").unwrap();
    for count in 1..=3 {
        write(&bed.root, "file", &format!("state {count}"));
        write(&bed.root, &format!("only-in-{count}"), "x");
        publish_snapshot(&mount, generation(7, count)).unwrap();
        fs::remove_file(bed.root.path_of("w").join(format!("only-in-{count}"))).unwrap();
        write(&bed.root, "file", "not published");
    }
    for count in 1..=3 {
        let path = snapshot_name::path(generation(7, count));
        let reader = bed.reader(kind, Some(&path));
        let mounted = bed.root.switch_beneath(reader, "r").unwrap();
        assert_eq!(fs::read_to_string(mounted.path.join("file")).unwrap(), format!("state {count}"));
        let there: Vec<bool> = (1..=3).map(|n| mounted.path.join(format!("only-in-{n}")).exists()).collect();
        assert_eq!(there, [count == 1, count == 2, count == 3]);
    }
    let mode = fs::metadata(bed.root.path_of("w").join(".volctl")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

/// The writer publishes and retires as fast as it can while readers come: no mount fails, no state is mixed.
#[test]
fn loop_a_snapshot_can_be_mounted_while_the_writer_commits_on() {
    let kind = FsKind::Btrfs;
    let mut bed = Bed::new(kind);
    bed.writer(kind);
    let mount = bed.root.open("w").unwrap();
    let newest = AtomicU64::new(0);
    let held = AtomicU64::new(u64::MAX);
    let stop = AtomicBool::new(false);
    let publish = |count: u64| {
        for file in ["a", "b", "c"] {
            fs::write(bed.root.path_of("w").join("new"), format!("{count}").repeat(5000)).unwrap();
            fs::rename(bed.root.path_of("w").join("new"), bed.root.path_of("w").join(file)).unwrap();
        }
        publish_snapshot(&mount, generation(1, count)).unwrap();
    };
    publish(1);
    newest.store(1, Ordering::SeqCst);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut count = 1;
            while !stop.load(Ordering::SeqCst) {
                count += 1;
                publish(count);
                newest.store(count, Ordering::SeqCst);
                for old in list_snapshots(&mount).unwrap() {
                    if old.count + 3 < count && old.count < held.load(Ordering::SeqCst) {
                        delete_snapshot(&mount, old).unwrap();
                    }
                }
            }
            count
        });
        let mut failed = Vec::new();
        for _ in 0..25 {
            // Holding everything from here on is what the hold in the page does.
            held.store(newest.load(Ordering::SeqCst), Ordering::SeqCst);
            let count = held.load(Ordering::SeqCst);
            let device = open_loop(&bed.image, true);
            match mount_reader(&device.0, kind, Some(&snapshot_name::path(generation(1, count)))) {
                Ok(reader) => failed.extend(mixed(&reader, count)),
                Err(error) => failed.push(error.to_string()),
            }
        }
        stop.store(true, Ordering::SeqCst);
        let published = writer.join().unwrap();
        assert!(published > 10, "the writer hardly wrote: {published}");
        assert_eq!(failed, Vec::<String>::new());
    });
}

/// What a reader finds that does not belong to this state.
fn mixed(reader: &DetachedMount, count: u64) -> Vec<String> {
    use nix::fcntl::{OFlag, openat};
    let read = |file: &str| {
        let file = openat(reader, file, OFlag::O_RDONLY, nix::sys::stat::Mode::empty()).map_err(|e| e.to_string())?;
        std::io::read_to_string(File::from(file)).map_err(|error| error.to_string())
    };
    let wrong = |file: &&str| match read(file) {
        Ok(text) => text != format!("{count}").repeat(5000),
        Err(_) => true,
    };
    ["a", "b", "c"].iter().filter(|file| wrong(file)).map(|file| format!("{file} of {count} is mixed")).collect()
}

#[test]
#[ignore = "takes two minutes: file systems tidy up of themselves for a while"]
fn loop_an_idle_volume_stays_unchanged_for_two_minutes() {
    let mut beds: Vec<(FsKind, Bed)> = KINDS.iter().map(|kind| (*kind, Bed::new(*kind))).collect();
    let mut samples = Vec::new();
    for (kind, bed) in &mut beds {
        bed.writer(*kind);
        write(&bed.root, "file", "x");
        let mount = bed.root.open("w").unwrap();
        if *kind == FsKind::Btrfs {
            publish_snapshot(&mount, generation(1, 1)).unwrap();
        } else {
            publish_freeze(&mount, || Ok::<_, ()>(())).unwrap();
        }
        samples.push(sample(&mount).unwrap());
    }
    for second in (0..120).step_by(5) {
        std::thread::sleep(Duration::from_secs(5));
        for ((kind, bed), sample) in beds.iter().zip(&samples) {
            assert!(!changed_since(bed.root.open("w").unwrap(), sample).unwrap(), "{kind} after {second} s");
        }
    }
}

#[test]
fn loop_snapshots_are_listed_deleted_and_never_replaced() {
    let mut bed = Bed::new(FsKind::Btrfs);
    bed.writer(FsKind::Btrfs);
    let mount = bed.root.open("w").unwrap();
    assert_eq!(list_snapshots(&mount).unwrap(), []);
    for count in [10, 9, 1] {
        publish_snapshot(&mount, generation(2, count)).unwrap();
    }
    fs::create_dir(bed.root.path_of("w").join(".volctl/gen-5-5")).unwrap();
    assert_eq!(list_snapshots(&mount).unwrap(), [generation(2, 1), generation(2, 9), generation(2, 10)]);
    let twice = publish_snapshot(&mount, generation(2, 9));
    assert!(matches!(twice, Err(PublishError::Exists { .. })));
    assert!(delete_snapshot(&mount, generation(2, 9)).unwrap());
    assert!(!delete_snapshot(&mount, generation(2, 9)).unwrap());
    assert_eq!(list_snapshots(&mount).unwrap(), [generation(2, 1), generation(2, 10)]);
    drop(mount);
    bed.root.hide("w").unwrap().unmount_or_put_back().unwrap();
    let device = bed.open_loop(true);
    let gone = mount_reader(&device, FsKind::Btrfs, Some(".volctl/gen-2-9"));
    assert!(matches!(gone, Err(MountError::NoSnapshot { .. })), "{gone:?}");
    let plain = mount_reader(&device, FsKind::Btrfs, Some(".volctl/gen-5-5"));
    assert!(matches!(plain, Err(MountError::NoSnapshot { .. })), "{plain:?}");
}

/// The campaign filled a volume: what was deleted from it stood in snapshots, and after these were deleted, too, it was room only half a
/// minute later, when the kernel looked at them by itself.
#[test]
fn loop_the_room_of_a_deleted_snapshot_is_there_at_once() {
    let mut bed = Bed::new(FsKind::Btrfs);
    bed.writer(FsKind::Btrfs);
    let mount = bed.root.open("w").unwrap();
    let filler = bed.root.path_of("w").join("filler");
    let file = File::create(&filler).unwrap();
    let (mut at, mut step) = (0, 16 << 20);
    while step >= 4096 {
        match fallocate(&file, FallocateFlags::empty(), at, step) {
            Ok(()) => at += step,
            Err(errno) => {
                assert_eq!(errno, Errno::ENOSPC);
                step /= 2;
            }
        }
    }
    drop(file);
    publish_snapshot(&mount, generation(2, 1)).unwrap();
    fs::remove_file(&filler).unwrap();
    publish_snapshot(&mount, generation(2, 2)).unwrap();
    delete_snapshot(&mount, generation(2, 1)).unwrap();
    let write = || {
        let file = File::create(bed.root.path_of("w").join("new"))?;
        fallocate(&file, FallocateFlags::empty(), 0, 1 << 20)?;
        file.sync_all()
    };
    free_deleted(&mount).unwrap();
    let begun = Instant::now();
    while let Err(e) = write() {
        assert_eq!(e.kind(), ErrorKind::StorageFull);
        assert!(begun.elapsed() < Duration::from_secs(10), "still full");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// An adopted file system may have another default subvolume than its top level.
#[test]
fn loop_a_default_subvolume_is_published_and_read_as_what_it_is() {
    let kind = FsKind::Btrfs;
    let mut bed = Bed::new(kind);
    bed.writer(kind);
    let top = bed.root.path_of("w");
    for arguments in [["subvolume", "create"], ["subvolume", "set-default"]] {
        let done = Command::new("btrfs").args(arguments).arg(top.join("@home")).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    write(&bed.root, "@home/file", "inside");
    bed.root.hide("w").unwrap().unmount_or_put_back().unwrap();
    bed.writer(kind);
    assert_eq!(fs::read_to_string(top.join("file")).unwrap(), "inside");
    publish_snapshot(bed.root.open("w").unwrap(), generation(1, 1)).unwrap();
    let reader = bed.reader(kind, Some(&snapshot_name::path(generation(1, 1))));
    let mounted = bed.root.attach(reader, "r").unwrap();
    assert_eq!(fs::read_to_string(mounted.path.join("file")).unwrap(), "inside");
}

#[test]
fn loop_relocation_is_seen_on_the_right_mount_and_reclaim_is_off() {
    let kind = FsKind::Btrfs;
    let mut bed = Bed::new(kind);
    bed.writer(kind);
    let mount = bed.root.open("w").unwrap();
    publish_snapshot(&mount, generation(1, 1)).unwrap();
    let reader = bed.reader(kind, Some(&snapshot_name::path(generation(1, 1))));
    bed.root.attach(reader, "r").unwrap();
    assert_eq!(relocation_running(&mount).unwrap(), None);
    assert_eq!(relocation_running(bed.root.open("r").unwrap()).unwrap(), None, "under its temporary identifier");
    assert_eq!(switch_reclaim_off(&mount).unwrap(), Vec::<String>::new());
    fs::write(bed.root.path_of("w").join("big"), vec![7; 64 << 20]).unwrap();
    let seen = std::thread::scope(|scope| {
        let path = bed.root.path_of("w");
        let balance = scope.spawn(move || {
            Command::new("btrfs").args(["balance", "start", "--full-balance"]).arg(path).output().unwrap()
        });
        let mut seen = None;
        while seen.is_none() && !balance.is_finished() {
            seen = relocation_running(&mount).unwrap();
        }
        let done = balance.join().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        seen
    });
    assert_eq!(seen.as_deref(), Some("balance"));
}

/// The storage of a writer was held up, its guardian killed and its gate closed while XFS was being frozen for the release:
/// XFS tried to write what it had in memory for ever, the freeze never returned, and the daemon never logged on again.
#[test]
fn loop_a_freeze_ends_although_the_gate_was_closed_under_dirty_metadata() {
    for kind in KINDS {
        let bed = Bed::new(kind);
        let image = OpenOptions::new().read(true).write(true).open(&bed.image).unwrap();
        let mark = Mark {
            control: Uuid::new_v4(),
            volume: Uuid::new_v4(),
            slot: 0,
            incarnation: 1,
            mode: Mode::ReadWrite,
            keep_after_lease: false,
        };
        let opening = Opening { mark, offset: 0, size_limit: 0, block_size: 0, direct_io: true, kind: Kind::Loop };
        let gate = LoopGate::open(image.as_fd(), &opening).unwrap();
        let _goes_with_the_test = Loop(gate.path());
        bed.root.attach(mount_writer(&gate.path(), kind, false).unwrap(), "w").unwrap();
        let mount = bed.root.open("w").unwrap();
        for n in 0..50 {
            fs::write(bed.root.path_of("w").join(format!("file {n}")), "in memory").unwrap();
        }
        // All of it is in the journal, and not yet in its place.
        nix::unistd::syncfs(&mount).unwrap();
        gate.close_under().unwrap();
        let (ended, end) = std::sync::mpsc::channel();
        let freezer = std::thread::spawn(move || {
            let _only_that_it_ends = publish_freeze(&mount, || Ok::<_, ()>(()));
            ended.send(()).unwrap();
        });
        end.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| panic!("{kind}: the freeze does not end"));
        freezer.join().unwrap();
        bed.root.detach("w").unwrap();
        drop(gate);
    }
}
