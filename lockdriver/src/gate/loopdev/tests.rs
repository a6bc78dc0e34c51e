//! Real loop devices (root).

use std::os::unix::fs::FileExt;

use uuid::Uuid;

use super::*;
use crate::gate::{Gate, MarkedGate, find_marked, settle};

/// Clears what a test left, even when it failed.
struct Leftovers(Uuid);

impl Drop for Leftovers {
    fn drop(&mut self) {
        for found in find_marked(self.0, None).unwrap_or_default() {
            let _ = crate::gate::mounts::detach_all(found.node);
            if let Ok(Some(gate)) = Gate::find(found.node, &found.mark) {
                let _ = gate.clear();
            }
        }
    }
}

fn image(bytes: u64) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(bytes).unwrap();
    file
}

fn opening(control: Uuid, mode: Mode) -> Opening {
    let mark = Mark { control, volume: Uuid::new_v4(), slot: 3, incarnation: 9, mode, keep_after_lease: false };
    Opening { mark, offset: 0, size_limit: 0, block_size: 0, direct_io: true, kind: Kind::Loop }
}

#[test]
fn loop_a_gate_is_found_by_its_mark_until_it_is_cleared() {
    let control = Uuid::new_v4();
    let _leftovers = Leftovers(control);
    let wanted = opening(control, Mode::ReadWrite);
    let gate = LoopGate::open(image(1 << 20).as_fd(), &wanted).unwrap();
    let found = find_marked(control, Some(3)).unwrap();
    assert_eq!(found, [MarkedGate { node: gate.node(), mark: wanted.mark.clone() }]);
    assert!(find_marked(control, Some(4)).unwrap().is_empty());
    assert!(find_marked(Uuid::new_v4(), None).unwrap().is_empty());
    assert!(gate.clear_if_unused().unwrap());
    let node = gate.node();
    drop(gate);
    settle(node, &wanted.mark).unwrap();
    assert!(find_marked(control, None).unwrap().is_empty());
}

#[test]
fn loop_a_read_gate_refuses_writes_and_shows_the_part_behind_the_envelope() {
    let control = Uuid::new_v4();
    let _leftovers = Leftovers(control);
    let backing = image(2 << 20);
    backing.write_all_at(b"behind the envelope", 1 << 20).unwrap();
    let wanted = Opening { offset: 1 << 20, ..opening(control, Mode::ReadOnly) };
    let gate = LoopGate::open(backing.as_fd(), &wanted).unwrap();
    let mut seen = [0; 19];
    File::open(gate.path()).unwrap().read_exact_at(&mut seen, 0).unwrap();
    assert_eq!(&seen, b"behind the envelope");
    let node = File::options().write(true).open(gate.path());
    let refused = node.and_then(|node| node.write_all_at(&[1; 512], 0)).unwrap_err();
    assert!(matches!(refused.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::EROFS)));
}

#[test]
fn loop_a_closed_gate_passes_no_write_not_even_to_sector_zero() {
    let control = Uuid::new_v4();
    let _leftovers = Leftovers(control);
    let backing = image(1 << 20);
    let gate = LoopGate::open(backing.as_fd(), &opening(control, Mode::ReadWrite)).unwrap();
    let node = File::options().write(true).open(gate.path()).unwrap();
    gate.close_under().unwrap();
    for offset in [0, 512, 4096, 1 << 19] {
        let wrote = node.write_at(&[7; 512], offset).and_then(|_| node.sync_all());
        wrote.unwrap_err();
    }
    let mut after = vec![1; 1 << 20];
    backing.read_exact_at(&mut after, 0).unwrap();
    assert!(after.iter().all(|byte| *byte == 0));
    assert_eq!(backing.metadata().unwrap().len(), 1 << 20);
}

#[test]
fn loop_a_cleared_gate_that_a_program_still_has_open_takes_no_more_writes() {
    let control = Uuid::new_v4();
    let _leftovers = Leftovers(control);
    let backing = image(1 << 20);
    let wanted = opening(control, Mode::ReadWrite);
    let gate = LoopGate::open(backing.as_fd(), &wanted).unwrap();
    let prober = File::options().read(true).write(true).open(gate.path()).unwrap();
    assert!(gate.clear_if_unused().unwrap());
    let node = gate.node();
    drop(gate);
    settle(node, &wanted.mark).unwrap();
    prober.write_at(&[7; 512], 0).and_then(|_| prober.sync_all()).unwrap_err();
    drop(prober);
    assert!(find_marked(control, None).unwrap().is_empty());
}

#[test]
fn loop_a_writers_gate_over_a_read_only_descriptor_is_refused_and_leaves_nothing() {
    let control = Uuid::new_v4();
    let _leftovers = Leftovers(control);
    let named = tempfile::NamedTempFile::new().unwrap();
    named.as_file().set_len(1 << 20).unwrap();
    let read_only = File::open(named.path()).unwrap();
    let refused = LoopGate::open(read_only.as_fd(), &opening(control, Mode::ReadWrite));
    assert!(matches!(refused, Err(GateError::BackingReadOnly)));
    assert!(find_marked(control, None).unwrap().is_empty());
}
