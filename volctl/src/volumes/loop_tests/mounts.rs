//! Readers change nothing; a switch misses nobody; identity tells volumes apart.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};

use super::*;
use crate::volumes::envelope_io::{ENVELOPE_BYTES, mkfs_at};
use crate::volumes::identify::{IdentityError, Part, find_fs, identify, prove};
use crate::volumes::inflight::{Inflight, measure};
use crate::volumes::mounting::{MountError, device_in_use, mount_reader};

#[test]
fn loop_readers_never_change_a_byte_even_of_a_dirty_volume() {
    for kind in KINDS {
        let mut bed = Bed::new(kind);
        bed.writer(kind);
        write(&bed.root, "old", "published");
        nix::unistd::syncfs(bed.root.open("w").unwrap()).unwrap();
        write(&bed.root, "new", "in the journal only");
        File::open(bed.root.path_of("w").join("new")).unwrap().sync_all().unwrap();
        // A copy of the image in mid-flight is what a crashed writer leaves: its journal wants to be replayed.
        let copy = bed.dir().join("copy");
        fs::copy(&bed.image, &copy).unwrap();
        bed.image = copy;
        let found = find_fs(File::open(&bed.image).unwrap(), 0).unwrap();
        assert!(found.ext4.is_none_or(|features| features.needs_recovery()), "the copy must be dirty");
        let before = bed.hash();
        let mount = bed.reader(kind, None);
        bed.root.attach(mount, "r").unwrap();
        let seen = fs::read_dir(bed.root.path_of("r")).unwrap().flatten().count();
        assert!(kind != FsKind::Ext4 || seen > 0);
        for entry in fs::read_dir(bed.root.path_of("r")).unwrap().flatten() {
            let _may_be_torn = fs::read(entry.path());
        }
        fs::write(bed.root.path_of("r").join("x"), "x").unwrap_err();
        assert!(bed.root.detach("r").unwrap());
        assert_eq!(bed.hash(), before, "{kind}");
    }
}

#[test]
fn loop_a_reader_is_refused_on_a_writable_device_and_a_writer_on_a_read_only_one() {
    let mut bed = Bed::new(FsKind::Ext4);
    let writable = bed.open_loop(false);
    assert!(matches!(mount_reader(&writable, FsKind::Ext4, None), Err(MountError::DeviceWritable { .. })));
    let read_only = bed.open_loop(true);
    assert!(matches!(mount_writer(&read_only, FsKind::Ext4, false), Err(MountError::DeviceReadOnly { .. })));
}

#[test]
fn loop_a_refused_mount_says_what_the_kernel_said() {
    let mut bed = Bed::new(FsKind::Ext4);
    let device = bed.open_loop(true);
    let error = mount_reader(&device, FsKind::Xfs, None).unwrap_err();
    assert!(matches!(error, MountError::Refused { kind: FsKind::Xfs, .. }), "{error}");
    let device = bed.open_loop(false);
    let _mounted = mount_writer(&device, FsKind::Ext4, false).unwrap();
    assert!(matches!(mount_writer(&device, FsKind::Ext4, false), Err(MountError::AlreadyOpen { .. })));
}

/// Opens and reads a file as fast as it can until told to stop; counts, and panics at the first miss.
fn hammer(path: &Path, stop: &AtomicBool, opened: &AtomicU64) {
    while !stop.load(Ordering::Relaxed) {
        let text = fs::read_to_string(path).expect("the file was missing for an instant");
        assert!(text.starts_with("version "), "{text:?}");
        opened.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn loop_a_switch_misses_no_open_and_open_files_keep_their_version() {
    for kind in KINDS {
        let mut bed = Bed::new(kind);
        bed.writer(kind);
        write(&bed.root, "file", "version 0");
        bed.root.hide("w").unwrap().unmount_or_put_back().unwrap();
        let mount = bed.reader(kind, None);
        bed.root.attach(mount, "r").unwrap();
        let path = bed.root.path_of("r").join("file");
        let mut old = File::open(&path).unwrap();
        let cwd = nix::fcntl::open(&bed.root.path_of("r"), nix::fcntl::OFlag::O_RDONLY, nix::sys::stat::Mode::empty())
            .unwrap();

        bed.writer(kind);
        write(&bed.root, "file", "version 1");
        bed.root.hide("w").unwrap().unmount_or_put_back().unwrap();

        let (stop, opened) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| hammer(&path, &stop, &opened));
            for _ in 0..12 {
                let seen = opened.load(Ordering::Relaxed);
                let next = bed.reader(kind, None);
                let id = next.mount_id();
                assert_eq!(bed.root.switch_beneath(next, "r").unwrap().mount_id, id);
                while opened.load(Ordering::Relaxed) < seen + 100 && !worker.is_finished() {
                    std::thread::yield_now();
                }
            }
            stop.store(true, Ordering::Relaxed);
            worker.join().expect("no open may be missed");
        });
        assert!(opened.load(Ordering::Relaxed) > 1000);
        assert_eq!(fs::read_to_string(&path).unwrap(), "version 1");
        let mut text = String::new();
        old.rewind().unwrap();
        old.read_to_string(&mut text).unwrap();
        assert_eq!(text, "version 0", "{kind}: an open file keeps its version");
        let by_cwd =
            nix::fcntl::openat(&cwd, "file", nix::fcntl::OFlag::O_RDONLY, nix::sys::stat::Mode::empty()).unwrap();
        assert_eq!(std::io::read_to_string(File::from(by_cwd)).unwrap(), "version 0");
    }
}

#[test]
fn loop_the_switch_of_older_kernels_keeps_open_files_too() {
    let kind = FsKind::Ext4;
    let mut bed = Bed::new(kind);
    bed.writer(kind);
    write(&bed.root, "file", "version 0");
    bed.root.hide("w").unwrap().unmount_or_put_back().unwrap();
    let mount = bed.reader(kind, None);
    let first = bed.root.attach(mount, "r").unwrap();
    let mut old = File::open(first.path.join("file")).unwrap();
    let next = bed.reader(kind, None);
    let second = bed.root.switch_by_moving(next, "r").unwrap();
    assert_eq!(bed.root.mounted_id("r").unwrap(), Some(second.mount_id));
    let mut text = String::new();
    old.read_to_string(&mut text).unwrap();
    assert_eq!(text, "version 0");
    assert!(device_in_use(&first.device).unwrap(), "an open file keeps the old mount");
    drop(old);
    let since = Instant::now();
    while device_in_use(&first.device).unwrap() {
        assert!(since.elapsed() < Duration::from_secs(10), "the old mount did not go with its last file");
        std::thread::yield_now();
    }
}

#[test]
fn loop_the_mount_root_is_private_idempotent_and_follows_no_link() {
    let bed = Bed::empty(1);
    let again = prepare_mount_root(bed.root.path()).unwrap();
    let binds = || {
        let info = fs::read_to_string("/proc/self/mountinfo").unwrap();
        info.lines().filter(|line| line.contains(bed.root.path().to_str().unwrap())).count()
    };
    assert_eq!(binds(), 1);
    for name in ["a/b", "..", "", ".volctl-hidden"] {
        assert!(matches!(again.hide(name), Err(MountError::BadName { .. })), "{name}");
    }
    nix::unistd::symlinkat("/tmp", &*bed.root.making, "link").unwrap();
    assert!(again.hide("link").is_err());
    let link = bed.dir().join("link");
    symlink(bed.root.path(), &link).unwrap();
    assert!(matches!(prepare_mount_root(&link), Err(MountError::UnsafeRoot { .. })));
    drop(bed.root.clone());
    tear_down_mount_root(again).unwrap();
    assert_eq!(binds(), 0);
}

/// A mount root that an administrator had made a private mount was taken as it was, and stayed writable: what a program of root wrote
/// to the place of a volume that was gone landed there, and `fsync` said that it was well.
#[test]
fn loop_nothing_lands_in_a_mount_root_that_is_a_mount_already() {
    let dir = tempfile::tempdir().unwrap();
    let none: Option<&str> = None;
    mount(Some("tmpfs"), dir.path(), Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
    let _mount = Detached(dir.path().to_owned());
    mount(none, dir.path(), none, MsFlags::MS_PRIVATE, none).unwrap();
    let binds = || {
        let info = fs::read_to_string("/proc/self/mountinfo").unwrap();
        info.lines().filter(|line| line.contains(dir.path().to_str().unwrap())).count()
    };
    let root = prepare_mount_root(dir.path()).unwrap();
    let written = fs::write(dir.path().join("lost"), "text");
    assert_eq!(written.unwrap_err().raw_os_error(), Some(libc::EROFS));
    let again = prepare_mount_root(dir.path()).unwrap();
    assert_eq!(binds(), 2, "once is enough");
    drop(root);
    tear_down_mount_root(again).unwrap();
    assert_eq!(binds(), 1, "what the administrator made stays");
}

/// On most systems the root directory is a shared mount, out of which and beneath which the kernel moves nothing.
#[test]
fn loop_hiding_and_switching_work_below_a_shared_mount() {
    let dir = tempfile::tempdir().unwrap();
    let none: Option<&str> = None;
    mount(Some(dir.path()), dir.path(), none, MsFlags::MS_BIND, none).unwrap();
    let _shared = Detached(dir.path().to_owned());
    mount(none, dir.path(), none, MsFlags::MS_SHARED, none).unwrap();
    let mut bed = Bed::new(FsKind::Ext4);
    let shared = prepare_mount_root(&dir.path().join("a/b")).unwrap();
    tear_down_mount_root(std::mem::replace(&mut bed.root, shared)).unwrap();
    bed.writer(FsKind::Ext4);
    write(&bed.root, "file", "text");
    bed.root.hide("w").unwrap().unmount_or_put_back().unwrap();
    for _ in 0..2 {
        let reader = bed.reader(FsKind::Ext4, None);
        bed.root.switch_beneath(reader, "r").unwrap();
    }
    assert_eq!(fs::read_to_string(bed.root.path_of("r").join("file")).unwrap(), "text");
    bed.root.detach("r").unwrap();
    tear_down_mount_root(bed.root.clone()).unwrap();
    let info = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(info.lines().filter(|line| line.contains(dir.path().to_str().unwrap())).count(), 1);
}

#[test]
fn loop_identity_refuses_another_file_system_of_the_same_size() {
    for kind in KINDS {
        let mut first = Bed::new(kind);
        let mut second = Bed::new(kind);
        let device = File::open(first.open_loop(true)).unwrap();
        let identity = identify(&device, 0).unwrap();
        assert_eq!((identity.kind, identity.size_bytes), (kind, 320 << 20));
        prove(&device, &identity).unwrap();
        let other = File::open(second.open_loop(true)).unwrap();
        let error = prove(&other, &identity).unwrap_err();
        assert!(matches!(error, IdentityError::Differs { what: Part::FsUuid, .. }), "{error}");
        File::options().write(true).open(&first.image).unwrap().set_len(321 << 20).unwrap();
        let grown = File::open(&first.image).unwrap();
        let error = prove(&grown, &identity).unwrap_err();
        assert!(matches!(error, IdentityError::Differs { what: Part::Size, .. }), "{error}");
    }
    let empty = Bed::empty(1);
    let error = identify(File::open(&empty.image).unwrap(), 0).unwrap_err();
    assert!(matches!(error, IdentityError::UnknownFileSystem { .. }));
}

#[test]
fn loop_a_direct_descriptor_can_be_proven() {
    use std::os::unix::fs::OpenOptionsExt;
    let mut bed = Bed::new(FsKind::Xfs);
    let path = bed.open_loop(true);
    let direct = File::options().read(true).custom_flags(libc::O_DIRECT).open(path).unwrap();
    assert_eq!(identify(&direct, 0).unwrap().kind, FsKind::Xfs);
}

#[test]
fn loop_an_enveloped_volume_shows_no_file_system_at_its_start() {
    for kind in KINDS {
        let bed = Bed::empty(321);
        mkfs_at(&bed.image, ENVELOPE_BYTES, kind, "inside").unwrap();
        let file = File::open(&bed.image).unwrap();
        assert!(matches!(identify(&file, 0), Err(IdentityError::UnknownFileSystem { .. })));
        let identity = identify(&file, ENVELOPE_BYTES).unwrap();
        assert_eq!((identity.kind, identity.offset_bytes), (kind, ENVELOPE_BYTES));
        assert!(mkfs_at(&bed.image, ENVELOPE_BYTES, kind, "again").is_err(), "nothing is overwritten");
        prove(&file, &identity).unwrap();
    }
}

#[test]
fn loop_inflight_looks_through_loop_devices() {
    let mut bed = Bed::empty(1);
    let device = bed.open_loop(false);
    assert_eq!(measure(&device), measure(&bed.image));
    assert_eq!(measure(&device), Inflight::Bounded(Duration::ZERO));
}

#[test]
fn loop_nothing_is_written_to_the_host_where_a_volume_is_not_mounted() {
    let mut bed = Bed::new(FsKind::Ext4);
    bed.writer(FsKind::Ext4);
    write(&bed.root, "file", "on the volume");
    assert!(bed.root.detach("w").unwrap());
    let refused = fs::write(bed.root.path_of("w").join("file"), "beside it").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    // The daemon itself can still make mount points, in this life and the next.
    let again = prepare_mount_root(bed.root.path()).unwrap();
    assert!(!again.detach("another").unwrap());
    assert!(bed.root.path_of("another").is_dir());
}
