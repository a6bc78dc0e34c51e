//! What a device can, found out by doing it.

use super::{Commands, Fault, Kind, Swap, refused_by_reservation};
use crate::device::{AlignedBuf, BlockDevice, Durability};

/// The two keys of a proof; foreign to every table.
const ONE: u64 = 0x766f_6c63_746c_0001;
const TWO: u64 = 0x766f_6c63_746c_0002;
/// The proof's reservation.
const KIND: Kind = Kind::WriteAllRegistrants;
/// Somebody may write between a read and its compare-and-write; so often it is begun anew.
const TRIES: u8 = 4;

/// What the proof of reservations came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReservationProof {
    /// Keys are told apart, and a write that a reservation forbids was refused.
    Proven,
    /// Keys are told apart and the reservation stands as asked for; but there was no second path to write over, so no refused
    /// write was seen. It is seen when a second host logs on.
    KeysOnly,
    /// The device does not do it, or does it wrongly.
    No,
    /// Somebody's keys or reservation stand: nothing was tried.
    Foreign,
}

/// What the proof of COMPARE AND WRITE came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Caw {
    /// It writes where the bytes are as expected, and refuses where they are not.
    Proven,
    /// The device does not do it, or does it wrongly.
    No,
}

/// A result, with what was seen on the way, in sentences for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof<T> {
    /// The result.
    pub verdict: T,
    /// What was done and seen; the last one decided.
    pub seen: Vec<String>,
}

impl<T> Proof<T> {
    /// What decided.
    pub fn reason(&self) -> &str {
        self.seen.last().map_or("nothing was tried", String::as_str)
    }
}

type Tried = Result<(), String>;

fn wanted<T>(what: &str, done: Result<T, Fault>) -> Result<T, String> {
    done.map_err(|e| format!("{what}: {e}"))
}

fn refused(what: &str, done: &Result<(), Fault>) -> Tried {
    match done {
        Err(Fault::Conflict) => Ok(()),
        Ok(()) => Err(format!("{what} was not refused: this device does not enforce reservations")),
        Err(other) => Err(format!("{what}: {other}")),
    }
}

/// Proves persistent reservations on a device that nobody uses: while it runs, other hosts' writes are refused. Writes
/// nothing but, over `other`, the bytes that are there already.
///
/// `other` is a second path to the same device that the target takes for another initiator (another port, another
/// session); without one no refused write can be seen. Everything is undone in the end.
pub fn prove_reservations(
    device: &dyn Commands,
    other: Option<(&dyn Commands, &dyn BlockDevice)>,
) -> Proof<ReservationProof> {
    let mut seen = Vec::new();
    match wanted("reading the keys", device.keys()) {
        Err(why) => return Proof { verdict: ReservationProof::No, seen: vec![why] },
        Ok(keys) if !keys.is_empty() => {
            let keys: Vec<String> = keys.iter().map(|key| format!("{key:#x}")).collect();
            let why = format!("keys are registered already ({}); they are nobody's to break", keys.join(", "));
            return Proof { verdict: ReservationProof::Foreign, seen: vec![why] };
        }
        Ok(_) => {}
    }
    if let Ok(Some(held)) = device.reservation() {
        let why = format!("a reservation stands already ({}, key {:#x})", held.kind, held.key);
        return Proof { verdict: ReservationProof::Foreign, seen: vec![why] };
    }
    let mut done = keys_are_told_apart(device, &mut seen);
    if let (Ok(()), Some((commands, path))) = (&done, other) {
        done = a_write_is_refused(device, commands, path, &mut seen);
        let _ = commands.register(TWO, 0);
    }
    let undone = undo(device);
    let verdict = match done.and(undone) {
        Ok(()) if other.is_some() => ReservationProof::Proven,
        Ok(()) => {
            seen.push("keys are told apart; a refused write can be seen only from a second host or path".to_owned());
            ReservationProof::KeysOnly
        }
        Err(why) => {
            seen.push(why);
            ReservationProof::No
        }
    };
    Proof { verdict, seen }
}

fn keys_are_told_apart(device: &dyn Commands, seen: &mut Vec<String>) -> Tried {
    wanted("registering a key", device.register(0, ONE))?;
    let keys = wanted("reading the keys", device.keys())?;
    if keys.is_empty() || keys.iter().any(|key| *key != ONE) {
        return Err(format!("one key was registered, and {keys:x?} are there"));
    }
    refused("a reservation with a key that is not registered", &device.reserve(TWO, KIND))?;
    wanted("reserving", device.reserve(ONE, KIND))?;
    match wanted("reading the reservation", device.reservation())? {
        Some(held) if held.kind == KIND => {}
        Some(held) => return Err(format!("asked for a reservation {KIND}, it made one {}", held.kind)),
        None => return Err("the reservation that it took is not there".to_owned()),
    }
    refused("registering over a wrong key", &device.register(TWO, TWO))?;
    seen.push("a wrong key was refused, and the reservation stands as asked for".to_owned());
    Ok(())
}

fn a_write_is_refused(
    device: &dyn Commands,
    other: &dyn Commands,
    path: &dyn BlockDevice,
    seen: &mut Vec<String>,
) -> Tried {
    let mut block = AlignedBuf::zeroed(usize::try_from(path.sector_bytes()).map_err(|e| e.to_string())?);
    path.read_at(0, &mut block).map_err(|e| format!("a read over the second path: {e}"))?;
    seen.push("the second path, unregistered, reads".to_owned());
    let write = || path.write_at(0, &block, Durability::Plain);
    let must_fail = |when: &str| match write() {
        Ok(()) => {
            Err(format!("{when} the second path's write was let through: this device does not enforce reservations"))
        }
        Err(e) if refused_by_reservation(&e) => Ok(()),
        Err(e) => Err(format!("{when} the second path's write failed otherwise: {e}")),
    };
    must_fail("unregistered,")?;
    wanted("registering the second path", other.register(0, TWO))?;
    write().map_err(|e| format!("the registered second path may not write: {e}"))?;
    wanted("preempting the second path", device.preempt(ONE, TWO, KIND))?;
    must_fail("preempted,")?;
    seen.push("writes were refused as they must be: unregistered, and again after a preemption".to_owned());
    Ok(())
}

/// Takes the proof's own key away; what cannot be undone is said.
fn undo(device: &dyn Commands) -> Tried {
    let _ = device.release(ONE, KIND);
    let _ = device.register(ONE, 0);
    match device.keys() {
        Ok(keys) if keys.iter().any(|key| [ONE, TWO].contains(key)) => {
            Err(format!("the proof's own key {ONE:#x} stays registered: the device does not let it go"))
        }
        _ => Ok(()),
    }
}

/// Proves COMPARE AND WRITE on the block at `offset`, which keeps its bytes.
pub fn prove_caw(device: &dyn Commands, path: &dyn BlockDevice, offset: u64) -> Proof<Caw> {
    let mut seen = Vec::new();
    match caw_compares(device, path, offset, &mut seen) {
        Ok(()) => {
            seen.push("a block was exchanged, and other expectations were refused".to_owned());
            Proof { verdict: Caw::Proven, seen }
        }
        Err(why) => {
            seen.push(why);
            Proof { verdict: Caw::No, seen }
        }
    }
}

fn caw_compares(device: &dyn Commands, path: &dyn BlockDevice, offset: u64, seen: &mut Vec<String>) -> Tried {
    let size = usize::try_from(path.sector_bytes()).map_err(|e| e.to_string())?;
    let read = || {
        let mut block = AlignedBuf::zeroed(size);
        path.read_at(offset, &mut block).map(|()| block).map_err(|e| format!("reading the block: {e}"))
    };
    for _ in 0..TRIES {
        let found = read()?;
        let mut last = found.clone();
        last[size - 1] ^= 1;
        let mut first = found.clone();
        first[0] ^= 0x80;
        // The new bytes are the old ones in every case: also a device that writes blindly changes nothing.
        for wrong in [&first, &last] {
            match wanted(
                "a compare-and-write that expects other bytes",
                device.compare_and_write(offset, wrong, &found),
            )? {
                Swap::Differs => {}
                Swap::Done => return Err("it writes also where the bytes are not as expected".to_owned()),
            }
        }
        match wanted("a compare-and-write", device.compare_and_write(offset, &found, &found))? {
            Swap::Done => return Ok(()),
            Swap::Differs => seen.push("somebody else writes to the block".to_owned()),
        }
    }
    Err("the block never stood still".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::target::{Lies, Target};
    use super::*;
    use crate::device::MemoryDevice;

    fn target() -> Target {
        Target::new(MemoryDevice::from_bytes(vec![7; 8192], 512))
    }

    fn proof(target: &Target, second: bool) -> Proof<ReservationProof> {
        let (one, two) = (target.path(1), target.path(2));
        prove_reservations(&one, second.then_some((&two, &two)))
    }

    #[test]
    fn a_device_that_does_it_is_proven_and_left_as_it_was() {
        let target = target();
        assert_eq!(proof(&target, true).verdict, ReservationProof::Proven);
        assert_eq!(proof(&target, false).verdict, ReservationProof::KeysOnly);
        let path = target.path(1);
        assert!(path.keys().unwrap().is_empty() && path.reservation().unwrap().is_none());
        target.path(3).write_at(0, &AlignedBuf::zeroed(512), Durability::Plain).unwrap();
    }

    #[test]
    fn a_device_that_lets_everybody_write_is_found_out() {
        let target = target();
        target.lie(Lies { lets_write: true, ..Lies::default() });
        let found = proof(&target, true);
        assert_eq!(found.verdict, ReservationProof::No);
        assert!(found.reason().contains("does not enforce"), "{found:?}");
        assert!(target.path(1).keys().unwrap().is_empty());
    }

    #[test]
    fn a_device_that_takes_any_key_is_found_out_on_one_path() {
        let target = target();
        target.lie(Lies { any_key: true, ..Lies::default() });
        assert_eq!(proof(&target, false).verdict, ReservationProof::No);
    }

    #[test]
    fn foreign_keys_are_named_and_left_alone() {
        let target = target();
        target.path(9).register(0, 0xabc).unwrap();
        let found = proof(&target, true);
        assert_eq!(found.verdict, ReservationProof::Foreign);
        assert!(found.reason().contains("0xabc"));
        assert_eq!(target.path(1).keys().unwrap(), vec![0xabc]);
        target.lie(Lies { no_reservations: true, ..Lies::default() });
        assert_eq!(proof(&target, true).verdict, ReservationProof::No);
    }

    #[test]
    fn compare_and_write_is_proven_without_a_trace() {
        let target = target();
        let path = target.path(1);
        assert_eq!(prove_caw(&path, &path, 512).verdict, Caw::Proven);
        target.lie(Lies { writes_blindly: true, ..Lies::default() });
        assert_eq!(prove_caw(&path, &path, 512).verdict, Caw::No);
        target.lie(Lies { no_compare: true, ..Lies::default() });
        assert_eq!(prove_caw(&path, &path, 512).verdict, Caw::No);
        let mut block = AlignedBuf::zeroed(8192);
        path.read_at(0, &mut block).unwrap();
        assert!(block.iter().all(|byte| *byte == 7));
    }
}
