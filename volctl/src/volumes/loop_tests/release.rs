//! The way a writer's volume goes: hidden, unmounted or put back, checked.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::mount::{MsFlags, mount};

use super::*;
use crate::volumes::busy::{Scope, open_for_writing, who_holds};
use crate::volumes::fscheck::{CheckOutcome, WhyNot, check_unchanged, space};
use crate::volumes::mounting::{UnmountError, device_in_use};

#[test]
fn loop_a_busy_volume_names_the_pid_and_is_put_back() {
    for kind in KINDS {
        let mut bed = Bed::new(kind);
        let device = bed.writer(kind);
        write(&bed.root, "file", "text");
        let path = bed.root.path_of("w").join("file");
        let victim = Victim::holding(&path, ">>");
        let hidden = bed.root.hide("w").unwrap();
        assert!(!path.exists(), "hidden from everybody who looks");
        let Err(UnmountError::Busy(busy)) = hidden.unmount_or_put_back() else { panic!("{kind}: must be busy") };
        let user = busy.processes.iter().find(|process| process.pid == victim.pid()).expect("the PID is named");
        assert_eq!(user.path, path);
        assert!(user.for_writing);
        assert_eq!(fs::read_to_string(&path).unwrap(), "text", "put back");
        drop(victim);
        bed.root.hide("w").unwrap().unmount_or_put_back().unwrap();
        assert!(!device_in_use(&device).unwrap(), "nothing holds the device after a release");
        assert_eq!(check_unchanged(&device, kind, Duration::from_secs(60)), CheckOutcome::Clean, "{kind}");
    }
}

#[test]
fn loop_working_directories_and_mapped_files_are_found() {
    let mut bed = Bed::new(FsKind::Ext4);
    bed.writer(FsKind::Ext4);
    fs::copy("/bin/sleep", bed.root.path_of("w").join("sleep")).unwrap();
    let in_it = Victim(Command::new("sleep").arg("1000").current_dir(bed.root.path_of("w")).spawn().unwrap());
    let mapped = Victim(Command::new(bed.root.path_of("w").join("sleep")).arg("1000").spawn().unwrap());
    let mount = bed.root.open("w").unwrap();
    let held = who_holds(&Scope::of_mount(&mount).unwrap());
    for victim in [&in_it, &mapped] {
        assert!(held.iter().any(|process| process.pid == victim.pid() && !process.for_writing), "{held:?}");
    }
    assert!(open_for_writing(&mount).unwrap().is_empty(), "nobody writes: the volume is idle");
    let writer = Victim::holding(&bed.root.path_of("w").join("x"), ">");
    assert_eq!(open_for_writing(&mount).unwrap()[0].pid, writer.pid());
}

#[test]
fn loop_a_lazily_detached_mount_still_names_its_users() {
    let mut bed = Bed::new(FsKind::Btrfs);
    bed.writer(FsKind::Btrfs);
    write(&bed.root, "file", "text");
    let victim = Victim::holding(&bed.root.path_of("w").join("file"), "<");
    let id = bed.root.mounted_id("w").unwrap().unwrap();
    bed.root.detach("w").unwrap();
    let held = who_holds(&Scope::of_ids([id]));
    assert!(held.iter().any(|process| process.pid == victim.pid()));
}

#[test]
fn loop_open_files_survive_hiding_and_coming_back() {
    let mut bed = Bed::new(FsKind::Ext4);
    bed.writer(FsKind::Ext4);
    let path = bed.root.path_of("w").join("file");
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path).unwrap();
    let hidden = bed.root.hide("w").unwrap();
    file.write_all(b"written while hidden").unwrap();
    hidden.put_back().unwrap();
    file.rewind().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    drop(bed.root.hide("w").unwrap());
    assert!(path.exists(), "a hidden mount that is dropped comes back");
}

/// A copy of the mount in the namespace of a service would keep the file system writing after the release.
#[test]
fn loop_idle_copies_in_other_namespaces_are_let_go_and_used_ones_named() {
    let mut bed = Bed::new(FsKind::Ext4);
    let device = bed.writer(FsKind::Ext4);
    let mut child = Command::new("unshare")
        .args(["--mount", "--propagation", "unchanged", "sh", "-c"])
        .arg("echo ready; read line; exec 9>\"$0\"; echo ready; read line")
        .arg(bed.root.path_of("w").join("x"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = child.stdout.take().unwrap();
    let victim = Victim(child);
    output.read_exact(&mut [0; 6]).unwrap();
    bed.root.hide("w").unwrap().unmount_or_put_back().unwrap();
    assert!(!device_in_use(&device).unwrap(), "the idle copy was let go");

    let device = bed.writer(FsKind::Ext4);
    drop(victim);
    let mut child = Command::new("unshare")
        .args(["--mount", "--propagation", "unchanged", "sh", "-c", "exec 9>\"$0\"; echo ready; read line"])
        .arg(bed.root.path_of("w").join("x"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let _input = child.stdin.take().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    let victim = Victim(child);
    let Err(UnmountError::Busy(busy)) = bed.root.hide("w").unwrap().unmount_or_put_back() else {
        panic!("must be busy")
    };
    assert!(busy.processes.iter().any(|process| process.pid == victim.pid()), "{busy}");
    assert!(device_in_use(&device).unwrap());
    let _closed_pipe = input.write_all(b"\n");
}

#[test]
fn loop_damage_is_told_from_no_time() {
    for kind in KINDS {
        let bed = Bed::new(kind);
        let budget = Duration::from_secs(60);
        assert_eq!(check_unchanged(&bed.image, kind, budget), CheckOutcome::Clean);
        let no_time = check_unchanged(&bed.image, kind, Duration::ZERO);
        assert_eq!(no_time, CheckOutcome::NotChecked(WhyNot::OutOfTime(Duration::ZERO)));
        let image = File::options().write(true).open(&bed.image).unwrap();
        // The second block on ext4 and XFS (group descriptors, free space), a part of the first superblock on btrfs.
        let at = if kind == FsKind::Btrfs { 65536 + 0x48 } else { 4096 };
        image.write_all_at(&[0xA5; 4096], at).unwrap();
        let before = bed.hash();
        let damaged = check_unchanged(&bed.image, kind, budget);
        assert!(matches!(damaged, CheckOutcome::Damaged(_)), "{kind}: {damaged:?}");
        assert_eq!(bed.hash(), before, "a check changes nothing");
    }
}

#[test]
fn loop_space_is_what_the_file_system_says() {
    let mut bed = Bed::new(FsKind::Ext4);
    bed.writer(FsKind::Ext4);
    let found = space(bed.root.open("w").unwrap()).unwrap();
    assert!(found.free_bytes > 200 << 20 && found.free_bytes < found.total_bytes);
    assert!(found.total_bytes <= 320 << 20);
}

/// A person whose host has a full disk can still give the write privilege back.
#[test]
fn loop_a_mount_is_hidden_although_no_directory_can_be_made() {
    let dir = tempfile::tempdir().unwrap();
    mount(Some("small"), dir.path(), Some("tmpfs"), MsFlags::empty(), Some("size=1m,nr_inodes=20")).unwrap();
    let _small = Detached(dir.path().to_owned());
    let mut bed = Bed::new(FsKind::Ext4);
    let small = prepare_mount_root(&dir.path().join("volumes")).unwrap();
    tear_down_mount_root(std::mem::replace(&mut bed.root, small)).unwrap();
    for turn in 0..2 {
        let device = bed.writer(FsKind::Ext4);
        let full = (0..).find_map(|n| fs::create_dir(dir.path().join(format!("{turn}-{n}"))).err()).unwrap();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        bed.root.hide("w").unwrap().unmount_or_put_back().unwrap();
        assert!(!device_in_use(&device).unwrap());
    }
    tear_down_mount_root(bed.root.clone()).unwrap();
    assert_eq!(fs::read_dir(dir.path().join("volumes")).unwrap().flatten().filter(|e| e.file_name() != "w").count(), 0);
}
