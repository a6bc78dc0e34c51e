//! Which kind of device a gate becomes (root, real loop devices as block devices).

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use super::*;
use crate::sys::dm::Control;

/// A block device that goes with the test.
struct BlockDevice(String);

impl BlockDevice {
    fn over(image: &Path) -> Self {
        let output = Command::new("losetup").args(["--show", "-f"]).arg(image).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        Self(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }
}

impl Drop for BlockDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).status();
    }
}

/// Closes and clears what a test left, even when it failed.
struct Leftovers(Uuid);

impl Drop for Leftovers {
    fn drop(&mut self) {
        for found in find_marked(self.0, None).unwrap_or_default() {
            if let Ok(Some(gate)) = Gate::find(found.node, &found.mark) {
                let _ = gate.clear();
            }
        }
    }
}

fn opening(control: Uuid, kind: Kind) -> Opening {
    let mode = Mode::ReadWrite;
    let mark = Mark { control, volume: Uuid::new_v4(), slot: 3, incarnation: 9, mode, keep_after_lease: false };
    Opening { mark, offset: 0, size_limit: 0, block_size: 0, direct_io: true, kind }
}

/// `kind` over `backing`: is it a loop device, and was it said why?
fn opened(backing: &File, kind: Kind) -> Result<(bool, bool), GateError> {
    let control = Uuid::new_v4();
    let _leftovers = Leftovers(control);
    let (gate, instead) = Gate::open(backing.as_fd(), &opening(control, kind))?;
    assert_eq!(find_marked(control, Some(3)).unwrap(), [MarkedGate { node: gate.node(), mark: gate.mark().clone() }]);
    assert!(gate.clear_if_unused().unwrap());
    let (node, mark) = (gate.node(), gate.mark().clone());
    drop(gate);
    settle(node, &mark).unwrap();
    assert!(find_marked(control, None).unwrap().is_empty());
    Ok((matches!(node, Node::Loop(_)), instead.is_some()))
}

#[test]
fn loop_an_image_has_a_loop_device_whatever_is_preferred() {
    let image = tempfile::tempfile().unwrap();
    image.set_len(1 << 20).unwrap();
    for kind in [Kind::Auto, Kind::Loop, Kind::Mapped] {
        assert_eq!(opened(&image, kind).unwrap(), (true, false), "{kind:?}");
    }
}

#[test]
fn loop_a_block_device_has_device_mapper_where_it_works_and_else_it_is_said_why_not() {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(1 << 20).unwrap();
    let device = BlockDevice::over(image.path());
    let backing = File::options().read(true).write(true).open(&device.0).unwrap();
    assert_eq!(opened(&backing, Kind::Loop).unwrap(), (true, false));
    let works = Control::open().is_ok();
    assert_eq!(opened(&backing, Kind::Auto).unwrap(), (!works, !works));
    match opened(&backing, Kind::Mapped) {
        Ok(seen) => assert!(works && seen == (false, false)),
        Err(error) => assert!(!works && matches!(error, GateError::NoMapper(_)), "{error}"),
    }
}

#[test]
fn loop_a_writers_gate_over_a_read_only_descriptor_is_refused_whatever_its_kind() {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(1 << 20).unwrap();
    let device = BlockDevice::over(image.path());
    let backing = File::open(&device.0).unwrap();
    for kind in [Kind::Auto, Kind::Loop] {
        assert!(matches!(opened(&backing, kind), Err(GateError::BackingReadOnly)), "{kind:?}");
    }
}
