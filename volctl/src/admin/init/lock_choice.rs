//! Which lock kind a control volume gets: what was asked for, proven by doing it.

use std::path::{Path, PathBuf};

use lockdriver::device::{Access, BlockDevice, DirectDevice};
use lockdriver::reservation::{Caw, Proof, ReservationProof, prove_caw, prove_reservations};
use ondisk::LockKind;

use crate::cli::values::LockChoice;
use crate::wire::outcome::Failure;

/// The kind, and what was found on the way to it.
#[derive(Debug)]
pub(in crate::admin) struct Chosen {
    pub(in crate::admin) kind: LockKind,
    /// For people: what was tried, what was seen, why this kind.
    pub(in crate::admin) reasons: Vec<String>,
    /// How trying reservations ended, if it was tried.
    pub(in crate::admin) reservations: Option<String>,
    /// How trying COMPARE AND WRITE ended, if it was tried.
    pub(in crate::admin) compare: Option<String>,
}

impl Chosen {
    fn of(kind: LockKind, reasons: Vec<String>) -> Self {
        Self { kind, reasons, reservations: None, compare: None }
    }
}

/// Chooses. Whatever was tried on the device is undone.
///
/// # Errors
/// A kind that this device cannot have, or somebody else's reservation.
pub(in crate::admin) fn choose(asked: LockChoice, device: &DirectDevice) -> Result<Chosen, Failure> {
    let plain = |kind| Ok(Chosen::of(kind, Vec::new()));
    match asked {
        LockChoice::Bakery => plain(LockKind::Bakery),
        LockChoice::Ofd => plain(LockKind::Ofd),
        LockChoice::Pr => pr(device),
        LockChoice::Caw => caw(device),
        LockChoice::Auto => Ok(auto(device)),
    }
}

fn reservations(device: &DirectDevice) -> Proof<ReservationProof> {
    let Some(commands) = device.commands() else {
        let seen = vec!["an image has no reservations".to_owned()];
        return Proof { verdict: ReservationProof::No, seen };
    };
    let second = second_path(device.path()).and_then(|path| DirectDevice::open(&path, Access::ReadWrite).ok());
    let other = second.as_ref().and_then(|path| path.commands().map(|c| (c, path as &dyn BlockDevice)));
    prove_reservations(commands, other)
}

fn compare(device: &DirectDevice) -> Proof<Caw> {
    match device.commands() {
        Some(commands) => prove_caw(commands, device, 0),
        None => Proof { verdict: Caw::No, seen: vec!["an image has no COMPARE AND WRITE".to_owned()] },
    }
}

fn auto(device: &DirectDevice) -> Chosen {
    let first = reservations(device);
    let mut reasons = vec![format!("reservations: {}", first.reason())];
    let tried = Some(first.reason().to_owned());
    if first.verdict == ReservationProof::Proven {
        reasons.push("lock pr: the storage itself refuses whoever was passed".to_owned());
        return Chosen { reservations: tried, ..Chosen::of(LockKind::Pr, reasons) };
    }
    let second = compare(device);
    reasons.push(format!("COMPARE AND WRITE: {}", second.reason()));
    let kind = if second.verdict == Caw::Proven {
        reasons.push("lock caw: who is inside is decided by the device in one act".to_owned());
        LockKind::Caw
    } else {
        reasons
            .push("lock bakery: it needs reads and writes only, and is safe on every shared block device".to_owned());
        LockKind::Bakery
    };
    if first.verdict == ReservationProof::KeysOnly {
        reasons
            .push("`--lock pr` would do, too: each log-on from a second host proves it by a refused write".to_owned());
    }
    Chosen { reservations: tried, compare: Some(second.reason().to_owned()), ..Chosen::of(kind, reasons) }
}

fn pr(device: &DirectDevice) -> Result<Chosen, Failure> {
    let proof = reservations(device);
    let why = proof.reason().to_owned();
    match proof.verdict {
        ReservationProof::Proven => Ok(Chosen::of(LockKind::Pr, proof.seen)),
        ReservationProof::KeysOnly => {
            let later = "each log-on from another host writes unregistered first, and goes on only if that was refused";
            Ok(Chosen::of(LockKind::Pr, vec![format!("reservations: {why}"), later.to_owned()]))
        }
        ReservationProof::Foreign => Err(Failure::refused(
            "no control volume with --lock pr here",
            format!("rule reservation: {why}"),
            "end them where they were made; volctl never breaks what is not its own",
        )),
        ReservationProof::No => Err(cannot("pr", &why)),
    }
}

fn caw(device: &DirectDevice) -> Result<Chosen, Failure> {
    let proof = compare(device);
    match proof.verdict {
        Caw::Proven => Ok(Chosen::of(LockKind::Caw, proof.seen)),
        Caw::No => Err(cannot("caw", proof.reason())),
    }
}

fn cannot(word: &str, why: &str) -> Failure {
    Failure::failed(
        format!("no control volume with --lock {word} here"),
        format!("it was tried on the device: {why}"),
        "use --lock auto, or bakery: it is safe on every shared block device",
    )
}

/// Another SCSI path of this host to the same disk, by its world wide name: the target takes it for another initiator.
fn second_path(device: &Path) -> Option<PathBuf> {
    let node = std::fs::canonicalize(device).ok()?;
    let own = node.file_name()?;
    let wwid = |disk: &Path| std::fs::read_to_string(disk.join("device/wwid")).ok().filter(|w| !w.trim().is_empty());
    let wanted = wwid(&Path::new("/sys/block").join(own))?;
    std::fs::read_dir("/sys/block")
        .ok()?
        .flatten()
        .filter(|disk| disk.file_name() != own && wwid(&disk.path()).as_ref() == Some(&wanted))
        .map(|disk| Path::new("/dev").join(disk.file_name()))
        .next()
}
