//! A host's registration on a control volume of the kind `pr`: only registered hosts may write it.
//!
//! A registration belongs to the host's path and not to a process, so the logins of one host share one key
//! ([`super::host_key`]): the client's daemon brings its own, an administration slot uses what is there.

use std::sync::Arc;

use lockdriver::device::{AlignedBuf, BlockDevice, Durability};
use lockdriver::reservation::{Commands, Fault, Key, Kind, refused_by_reservation};
use lockdriver::semaphore::OfdResult;
use ondisk::{Incarnation, SlotIndex, Uuid};

use super::host::run_dir;
use super::host_key::HostKey;
use super::open::{ControlVolume, read};
use super::rules::Rules;
use crate::wire::outcome::Failure;

/// The reservation of a control volume.
const KIND: Kind = Kind::WriteAllRegistrants;

/// So often somebody is thrown out who comes back at once.
const EXPULSIONS: u8 = 3;

/// So often a write must be let through before the device is held to be wrong, and so often it is asked for its keys.
const TRIES: u8 = 3;

/// A registration that lasts as long as the value, or as the last login of this host that shares it.
pub struct Membership {
    device: Arc<dyn BlockDevice>,
    table: Uuid,
    key: Key,
    host: Box<dyn HostKey>,
    rules: Rules,
    /// A write of this host was refused before it registered: the device does what reservations are for.
    pub proven: bool,
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Membership").field("key", &self.key).field("proven", &self.proven).finish_non_exhaustive()
    }
}

fn commands(device: &dyn BlockDevice) -> Result<&dyn Commands, Fault> {
    device.commands().ok_or_else(|| Fault::Unsupported("this is no block device".to_owned()))
}

fn fails(what: &str, fault: &Fault) -> Failure {
    Failure::failed(
        "no log-on",
        format!("the control volume is of the kind pr, and {what}: {fault}"),
        "attach it as a whole disk through a path that knows persistent reservations",
    )
}

fn thrown_out() -> Failure {
    Failure::busy(
        "no log-on",
        "another host claims the same slot of the control volume, and threw this one's registration out",
        "try again; if it is one client on two hosts, give each a name of its own",
    )
}

fn no_file(e: &std::io::Error) -> Failure {
    let why = format!("the host's key has no file in {}: {e}", run_dir().display());
    Failure::failed("no log-on", why, "run it as root; /run must be writable")
}

/// What is registered, sorted by whose it is.
fn foreign_key(table: Uuid, keys: &[u64]) -> Option<Key> {
    keys.iter().map(|key| Key(*key)).find(|key| key.owner(table).is_none())
}

fn refuse_foreign(table: Uuid, commands: &dyn Commands) -> Result<(), Failure> {
    let keys = commands.keys().map_err(|e| fails("its keys cannot be read", &e))?;
    let held = commands.reservation().map_err(|e| fails("its reservation cannot be read", &e))?;
    let other =
        held.filter(|held| held.kind != KIND).map(|held| format!("a reservation {} of {}", held.kind, Key(held.key)));
    match other.or_else(|| foreign_key(table, &keys).map(|key| format!("the key {key}"))) {
        None => Ok(()),
        Some(what) => Err(Failure::refused(
            "no log-on",
            format!("rule reservation: somebody else's stands on the control volume: {what}"),
            "end it where it was made; volctl never breaks what is not its own",
        )),
    }
}

impl Membership {
    /// Registers this host, with the key of this login; an administration slot takes the key that the host has.
    ///
    /// # Errors
    /// Somebody else's keys or reservation; a device that does not do it, or lets those write who may not.
    pub fn join(volume: &ControlVolume, slot: SlotIndex, incarnation: Incarnation) -> Result<Self, Failure> {
        let host = volume.machine.host_key(volume.superblock.uuid).map_err(|e| no_file(&e))?;
        Self::join_with(host, volume, slot, incarnation)
    }

    fn join_with(
        host: Box<dyn HostKey>,
        volume: &ControlVolume,
        slot: SlotIndex,
        incarnation: Incarnation,
    ) -> Result<Self, Failure> {
        let table = volume.superblock.uuid;
        let device = Arc::clone(&volume.device);
        let on = commands(&*device).map_err(|e| fails("this path cannot do it", &e))?;
        refuse_foreign(table, on)?;
        let moment = host.moment().map_err(|e| no_file(&e))?;
        let alone = host.share().map_err(|e| no_file(&e))?;
        let shared = (!alone && volume.geometry.is_admin(slot)).then(|| host.key()).flatten();
        let (key, proven) = match shared {
            Some(key) => (key, false),
            None => {
                let key = Key::of(table, slot, incarnation);
                let proven = register(volume, on, key)?;
                host.set(Some(key)).map_err(|e| no_file(&e))?;
                (key, proven)
            }
        };
        drop(moment);
        let device = Arc::clone(&device);
        let member = Self { device, table, key, host, rules: volume.rules, proven };
        let reserved = reserve(on, key);
        if on.keys().is_ok_and(|keys| !keys.contains(&member.now().0)) {
            return Err(thrown_out());
        }
        reserved?;
        match member.stands() {
            OfdResult::Held => Ok(member),
            _ => Err(Failure::failed(
                "no log-on",
                "this host registered on the control volume, and its key is not there",
                "try again; if it stays so, make the control volume anew with --lock bakery",
            )),
        }
    }

    /// Is the key that this host has now registered, and does the reservation stand? A device that does not answer is asked again:
    /// whoever leaves the queue for that loses its place in it.
    pub fn stands(&self) -> OfdResult {
        let Ok(on) = commands(&*self.device) else { return OfdResult::Failed };
        for _ in 0..TRIES {
            let (Ok(keys), Ok(held)) = (on.keys(), on.reservation()) else { continue };
            let reserved = held.is_some_and(|held| held.kind == KIND);
            return if reserved && keys.contains(&self.now().0) { OfdResult::Held } else { OfdResult::NotHeld };
        }
        OfdResult::Failed
    }

    /// The key of this host: another login of it may have brought a newer one.
    fn now(&self) -> Key {
        self.host.key().unwrap_or(self.key)
    }

    /// Throws out the keys of these logins and of earlier ones in their slots, and ends their commands. The own host cannot be.
    ///
    /// # Errors
    /// When one of them is registered still, or nobody knows: then they may still write.
    pub fn expel(&self, logins: &[(SlotIndex, Incarnation)]) -> Result<(), Fault> {
        let on = commands(&*self.device)?;
        let own = self.now();
        let theirs = |key: &Key| {
            *key != own && logins.iter().any(|(slot, incarnation)| key.is_up_to(self.table, *slot, *incarnation))
        };
        let left = || on.keys().map(|keys| keys.into_iter().map(Key).filter(theirs).collect::<Vec<_>>());
        let mut victims = left()?;
        // Whoever claims a slot that is taken already registers before it reads that, and may come just between.
        for _ in 0..EXPULSIONS {
            for victim in &victims {
                tracing::warn!(event = "reservation.preempted", key = %victim, "a client that was passed may write no more");
                match on.preempt(own.0, victim.0, KIND) {
                    // Gone meanwhile, or of no known result: what counts is whether it is registered still.
                    Ok(()) | Err(Fault::Conflict | Fault::Unknown(_)) => {}
                    Err(other) => return Err(other),
                }
            }
            if !self.rules.expelled_is_looked_at {
                return Ok(());
            }
            victims = left()?;
            if victims.is_empty() {
                return Ok(());
            }
        }
        let keys: Vec<String> = victims.iter().map(Key::to_string).collect();
        Err(Fault::Unknown(format!("{} stays registered", keys.join(", "))))
    }
}

impl Membership {
    fn leave(&self) -> std::io::Result<()> {
        let _moment = self.host.moment()?;
        if self.host.let_go() {
            let key = self.now();
            if let Ok(on) = commands(&*self.device) {
                on.register(key.0, 0).map_err(std::io::Error::other)?;
            }
            self.host.set(None)?;
        }
        Ok(())
    }
}

impl Drop for Membership {
    /// The last login of this host takes the key away, so that what it left under way is refused.
    fn drop(&mut self) {
        if let Err(error) = self.leave() {
            tracing::warn!(event = "reservation.stays", key = %self.key, %error, "the own key could not be taken away");
        }
    }
}

/// Registers the key in the place of whatever this host's path had. True: a write was refused before.
///
/// A host that was still registered from before may write, and may be thrown out between that and its registration. So a write that was
/// let through says nothing of the device until this host itself has taken its key away and tried once more.
fn register(volume: &ControlVolume, on: &dyn Commands, key: Key) -> Result<bool, Failure> {
    let takes_none = |e| fails("it takes no key", &e);
    let mut certain = !volume.rules.accused_when_guarded;
    loop {
        let proof = proof(volume, on)?;
        match on.register(0, key.0) {
            Ok(()) if proof == WriteProof::LetThrough => {
                on.register(key.0, 0).map_err(takes_none)?;
                if std::mem::replace(&mut certain, true) {
                    return Err(worthless());
                }
            }
            Ok(()) => return Ok(proof == WriteProof::Refused),
            // An earlier login of this host, perhaps before it was reborn: a key outlives its host.
            Err(Fault::Conflict) if volume.rules.registers_anew => {
                return on.register_anyhow(key.0).map(|()| false).map_err(takes_none);
            }
            Err(e) => return Err(takes_none(e)),
        }
    }
}

fn worthless() -> Failure {
    Failure::refused(
        "no log-on",
        "rule reservation: the device let this host write although it was not registered",
        "its reservations are worth nothing: make the control volume anew with --lock bakery",
    )
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WriteProof {
    /// Nobody is there to be kept out for.
    Unguarded,
    Refused,
    LetThrough,
}

/// The last registrant may leave, and the next one come, just while this one tries: only what is let through again and again
/// under a reservation that stands before and after shows a device that does not do what it says.
fn proof(volume: &ControlVolume, on: &dyn Commands) -> Result<WriteProof, Failure> {
    let guarded = || on.reservation().map(|held| held.is_some());
    let guarded = || guarded().map_err(|e| fails("its reservation cannot be read", &e));
    let tries = if volume.rules.accused_when_guarded { TRIES } else { 1 };
    for _ in 0..tries {
        if !guarded()? {
            return Ok(WriteProof::Unguarded);
        }
        if test_write(volume)? {
            return Ok(WriteProof::Refused);
        }
    }
    let still = !volume.rules.accused_when_guarded || guarded()?;
    Ok(if still { WriteProof::LetThrough } else { WriteProof::Unguarded })
}

/// Writes what stands there already where nobody else writes; true: it was refused by the reservation.
fn test_write(volume: &ControlVolume) -> Result<bool, Failure> {
    let failed = |e: std::io::Error| fails("a test write failed", &Fault::Unknown(e.to_string()));
    let Some(place) = volume.geometry.semaphore_word() else { return Ok(false) };
    let len = usize::try_from(volume.device.sector_bytes()).expect("a sector fits memory");
    let block = AlignedBuf::copy_of(&read(&*volume.device, place.offset, len).map_err(failed)?);
    match volume.device.write_at(place.offset, &block, Durability::Plain) {
        Ok(()) => Ok(false),
        Err(e) if refused_by_reservation(&e) => Ok(true),
        Err(e) => Err(failed(e)),
    }
}

/// The reservation, which another registrant may have taken already.
fn reserve(on: &dyn Commands, key: Key) -> Result<(), Failure> {
    let done = on.reserve(key.0, KIND);
    match on.reservation() {
        Ok(Some(held)) if held.kind == KIND => Ok(()),
        Ok(_) => Err(fails("no reservation stands", &done.err().unwrap_or(Fault::Conflict))),
        Err(e) => Err(fails("its reservation cannot be read", &e)),
    }
}

#[cfg(test)]
mod tests;
