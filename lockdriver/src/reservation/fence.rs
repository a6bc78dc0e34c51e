//! The fence of a volume: a reservation under which everybody reads and only the writer's host writes.

use ondisk::Uuid;

use super::{Commands, Fault, Held, Key, Kind};

/// Registrants only: with one registrant, one host.
const KIND: Kind = Kind::WriteRegistrants;

/// Why a fence could not be raised.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FenceError {
    /// The device has no reservations: nothing was done.
    #[error("no reservations here: {0}")]
    NotHere(String),
    /// Somebody else's stand: nothing was done.
    #[error("somebody else's reservation stands: {0}")]
    Foreign(String),
    /// It could not be raised, or nobody knows.
    #[error(transparent)]
    Failed(#[from] Fault),
    /// It was raised, and what stands then is something else.
    #[error("the reservation does not stand as asked for: {0}")]
    NotAsAsked(String),
    /// The right to raise it ended meanwhile.
    #[error("the write privilege ended meanwhile")]
    Over,
}

/// What stands on a device, of a table whose UUID tells own keys from foreign ones.
fn look(on: &dyn Commands, table: Uuid) -> Result<(Vec<Key>, Option<Held>), FenceError> {
    let keys = match on.keys() {
        Err(Fault::Unsupported(why)) => return Err(FenceError::NotHere(why)),
        keys => keys?.into_iter().map(Key).collect::<Vec<_>>(),
    };
    let held = on.reservation()?;
    if let Some(key) = keys.iter().find(|key| key.owner(table).is_none()) {
        return Err(FenceError::Foreign(format!("the key {key}")));
    }
    match held {
        Some(held) if held.kind != KIND => Err(FenceError::Foreign(format!("{}, key {}", held.kind, Key(held.key)))),
        held => Ok((keys, held)),
    }
}

/// How a fence was raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Raised {
    /// Where this host had no key.
    Fresh,
    /// Over a key that an earlier login of this host left.
    OverOwn,
}

/// All that stands, if something of it was made by no client of this table; None: nothing was.
///
/// # Errors
/// The device's; [`FenceError::NotHere`] when it knows no reservations.
pub fn foreign(on: &dyn Commands, table: Uuid) -> Result<Option<String>, FenceError> {
    match look(on, table) {
        Ok(_) => Ok(None),
        Err(FenceError::Foreign(what)) => Ok(Some(describe(on, table)?.unwrap_or(what))),
        Err(other) => Err(other),
    }
}

/// Raises the fence for `key`: every other host of this table is thrown out and what it has under way is ended; then this host
/// alone may write. `may` is asked before each thing that hurts somebody: the write privilege must last. What is somebody
/// else's is thrown out, too, only if it `breaks`.
///
/// # Errors
/// See [`FenceError`]. After [`FenceError::NotHere`] and [`FenceError::Foreign`] everything is as it was.
pub fn raise(
    on: &dyn Commands,
    table: Uuid,
    key: Key,
    breaks: bool,
    may: &dyn Fn() -> bool,
) -> Result<Raised, FenceError> {
    let may = || if may() { Ok(()) } else { Err(FenceError::Over) };
    match look(on, table) {
        Err(FenceError::Foreign(_)) if breaks => {}
        other => drop(other?),
    }
    may()?;
    let raised = match on.register(0, key.0) {
        // An earlier login of this host left its own.
        Err(Fault::Conflict) => on.register_anyhow(key.0).map(|()| Raised::OverOwn)?,
        Err(Fault::Unsupported(why)) => return Err(FenceError::NotHere(why)),
        done => done.map(|()| Raised::Fresh)?,
    };
    let raised = alone(on, table, key, breaks, &may).map(|()| raised);
    if raised.is_err() {
        // A registrant may write: whoever has no fence must not stay one.
        let _ = lower(on, key);
    }
    raised
}

fn alone(
    on: &dyn Commands,
    table: Uuid,
    key: Key,
    breaks: bool,
    may: &dyn Fn() -> Result<(), FenceError>,
) -> Result<(), FenceError> {
    let keys = if breaks { on.keys()?.into_iter().map(Key).collect() } else { look(on, table)?.0 };
    for victim in keys.into_iter().filter(|k| *k != key) {
        may()?;
        match on.preempt(key.0, victim.0, KIND) {
            // Gone meanwhile, or of no known result: what counts is what stands in the end.
            Ok(()) | Err(Fault::Conflict | Fault::Unknown(_)) => {}
            Err(other) => return Err(other.into()),
        }
    }
    may()?;
    let reserved = on.reserve(key.0, KIND);
    match stands(on, table, key) {
        Ok(true) => Ok(()),
        Ok(false) => Err(FenceError::NotAsAsked(match reserved {
            Err(why) => why.to_string(),
            Ok(()) => "another key is registered, or holds it".to_owned(),
        })),
        Err(why) => Err(why),
    }
}

/// Raises the fence of a writer that goes on writing again, on a target that has forgotten everything. Throws nobody out: where
/// anything of anybody stands, or comes meanwhile, that stays, and this is false.
///
/// # Errors
/// The device's, and what is somebody else's.
pub fn renew(on: &dyn Commands, table: Uuid, key: Key, may: &dyn Fn() -> bool) -> Result<bool, FenceError> {
    let (keys, held) = look(on, table)?;
    // Its own key without a reservation is a renewal that was cut short.
    if held.is_some() || keys.iter().any(|k| *k != key) || !may() {
        return Ok(false);
    }
    if keys.is_empty() {
        match on.register(0, key.0) {
            Err(Fault::Conflict) => return Ok(false),
            done => done?,
        }
    }
    let reserved = on.reserve(key.0, KIND);
    let stood = stands(on, table, key);
    if !matches!(stood, Ok(true)) && matches!(reserved, Err(Fault::Conflict)) {
        // Somebody came first, and must find nobody beside him.
        let _ = lower(on, key);
    }
    stood
}

/// Does the fence stand: this key alone registered, and holding it?
///
/// # Errors
/// When nobody knows, or somebody else's stands.
pub fn stands(on: &dyn Commands, table: Uuid, key: Key) -> Result<bool, FenceError> {
    let (keys, held) = look(on, table)?;
    let alone = !keys.is_empty() && keys.iter().all(|k| *k == key);
    Ok(alone && held == Some(Held { key: key.0, kind: KIND }))
}

/// Does the fence of `writer` stand, and does it keep this host out? Seen by a write that changes nothing and must be refused; so
/// never true on the writer's own host, nor on a device that reports reservations and does not enforce them.
///
/// # Errors
/// When nobody knows, or somebody else's stands.
pub fn keeps_out(on: &dyn Commands, table: Uuid, writer: Key) -> Result<bool, FenceError> {
    if !stands(on, table, writer)? {
        return Ok(false);
    }
    match on.write_nothing() {
        Err(Fault::Conflict) => stands(on, table, writer),
        Ok(()) | Err(Fault::Unsupported(_)) => Ok(false),
        Err(unknown) => Err(unknown.into()),
    }
}

/// Throws out `writer`, whose privilege is over, and holds the fence in its place. True: what that writer had under way is
/// ended, and whatever of it comes later is refused for as long as this fence stands, so nobody need wait for it. Whoever else
/// came first keeps what he has: only that one key is ever preempted.
///
/// # Errors
/// When nobody knows, or somebody else's stands.
pub fn inherit(on: &dyn Commands, table: Uuid, key: Key, writer: Key) -> Result<bool, FenceError> {
    if !keeps_out(on, table, writer)? || !matches!(on.register(0, key.0), Ok(())) {
        return Ok(false);
    }
    match on.preempt(key.0, writer.0, KIND) {
        Ok(()) => stands(on, table, key),
        // It may have been done, and what was under way may not be ended yet: the fence is not given back, and the wait stays.
        Err(Fault::Unknown(_)) => Ok(false),
        Err(_) => {
            let _ = lower(on, key);
            Ok(false)
        }
    }
}

/// Takes the fence away: with its holder's registration the reservation goes, too.
///
/// # Errors
/// The device's. [`Fault::Conflict`]: it was not this host's any more.
pub fn lower(on: &dyn Commands, key: Key) -> Result<(), Fault> {
    on.register(key.0, 0)
}

/// Who is registered and what is reserved, for people; None: nothing is.
///
/// # Errors
/// The device's.
pub fn describe(on: &dyn Commands, table: Uuid) -> Result<Option<String>, Fault> {
    let (keys, held) = (on.keys()?, on.reservation()?);
    if keys.is_empty() && held.is_none() {
        return Ok(None);
    }
    let whose = |key: &u64| match Key(*key).owner(table) {
        Some((slot, incarnation)) => format!("{} (slot {slot}, login {incarnation})", Key(*key)),
        None => format!("{} (foreign)", Key(*key)),
    };
    let keys: Vec<String> = keys.iter().map(whose).collect();
    let held = held.map_or_else(|| "no reservation".to_owned(), |h| format!("{} held by {}", h.kind, whose(&h.key)));
    Ok(Some(format!("{held}; registered: {}", keys.join(", "))))
}

#[cfg(test)]
mod tests {
    use ondisk::{Incarnation, SlotIndex};

    use super::super::target::{Lies, Path, Target};
    use super::*;
    use crate::device::{AlignedBuf, BlockDevice, Durability, MemoryDevice};

    const TABLE: Uuid = Uuid::from_u128(77);

    fn target() -> Target {
        Target::new(MemoryDevice::new(4096, 512))
    }

    fn key(slot: u16, incarnation: u64) -> Key {
        Key::of(TABLE, SlotIndex(slot), Incarnation(incarnation))
    }

    fn up(path: &Path, key: Key) -> Result<(), FenceError> {
        raise(path, TABLE, key, false, &|| true).map(drop)
    }

    fn writes(path: &Path) -> bool {
        path.write_at(0, &AlignedBuf::zeroed(512), Durability::Plain).is_ok()
    }

    #[test]
    fn behind_a_fence_only_its_host_writes_and_everybody_reads() {
        let target = target();
        let (a, b) = (target.path(1), target.path(2));
        up(&a, key(0, 1)).unwrap();
        assert!(stands(&a, TABLE, key(0, 1)).unwrap() && stands(&b, TABLE, key(0, 1)).unwrap());
        assert!(writes(&a) && !writes(&b));
        b.read_at(0, &mut AlignedBuf::zeroed(512)).unwrap();
        assert!(describe(&b, TABLE).unwrap().unwrap().contains("slot 0, login 1"));
        lower(&a, key(0, 1)).unwrap();
        assert!(writes(&b) && describe(&b, TABLE).unwrap().is_none());
    }

    #[test]
    fn a_takeover_throws_the_old_writer_out_first() {
        let target = target();
        let (a, b) = (target.path(1), target.path(2));
        up(&a, key(0, 1)).unwrap();
        up(&b, key(1, 4)).unwrap();
        assert!(!writes(&a) && writes(&b) && !stands(&a, TABLE, key(0, 1)).unwrap());
        assert!(matches!(lower(&a, key(0, 1)), Err(Fault::Conflict)), "a late lowering changes nothing");
        assert!(!writes(&a) && writes(&b));
        // A host that was registered and held nothing goes, too.
        target.path(3).register(0, key(2, 1).0).unwrap();
        assert!(writes(&target.path(3)));
        up(&b, key(1, 6)).unwrap();
        assert!(!writes(&target.path(3)) && stands(&b, TABLE, key(1, 6)).unwrap());
    }

    #[test]
    fn only_a_refused_write_shows_that_a_fence_keeps_out() {
        let target = target();
        let (a, b) = (target.path(1), target.path(2));
        assert!(!keeps_out(&b, TABLE, key(0, 1)).unwrap(), "there is none");
        up(&a, key(0, 1)).unwrap();
        assert!(keeps_out(&b, TABLE, key(0, 1)).unwrap());
        assert!(!keeps_out(&a, TABLE, key(0, 1)).unwrap(), "the holder's own host is not kept out");
        assert!(!keeps_out(&b, TABLE, key(0, 2)).unwrap(), "the fence of another login");
        target.lie(Lies { lets_write: true, ..Lies::default() });
        assert!(!keeps_out(&b, TABLE, key(0, 1)).unwrap(), "a device that only says that it reserves");
        target.restart();
        assert!(!keeps_out(&b, TABLE, key(0, 1)).unwrap(), "a target that forgot");
    }

    #[test]
    fn whoever_inherits_a_fence_throws_out_its_writer_and_nobody_else() {
        let target = target();
        let (a, b, c) = (target.path(1), target.path(2), target.path(3));
        assert!(!inherit(&b, TABLE, key(1, 1), key(0, 1)).unwrap(), "there is none");
        up(&a, key(0, 1)).unwrap();
        assert!(inherit(&b, TABLE, key(1, 1), key(0, 1)).unwrap());
        assert!(!writes(&a) && stands(&b, TABLE, key(1, 1)).unwrap());
        // Somebody else came first, and may be writing: it keeps what it has.
        assert!(!inherit(&c, TABLE, key(2, 1), key(0, 1)).unwrap());
        assert!(stands(&b, TABLE, key(1, 1)).unwrap() && writes(&b) && !writes(&c));
        up(&b, key(1, 1)).unwrap();
        assert!(stands(&b, TABLE, key(1, 1)).unwrap());
        target.lie(Lies { lets_write: true, ..Lies::default() });
        assert!(!inherit(&c, TABLE, key(2, 1), key(1, 1)).unwrap(), "what was not seen to be refused is not relied on");
    }

    #[test]
    fn a_fence_is_renewed_only_where_nothing_stands() {
        let target = target();
        let (a, b) = (target.path(1), target.path(2));
        up(&a, key(0, 1)).unwrap();
        assert!(!renew(&a, TABLE, key(0, 1), &|| true).unwrap(), "it stands");
        target.restart();
        assert!(writes(&b), "the target has forgotten");
        assert!(!renew(&a, TABLE, key(0, 1), &|| false).unwrap() && writes(&b), "the privilege has ended");
        assert!(renew(&a, TABLE, key(0, 1), &|| true).unwrap());
        assert!(stands(&a, TABLE, key(0, 1)).unwrap() && !writes(&b));
        // Cut short between registration and reservation.
        target.restart();
        a.register(0, key(0, 1).0).unwrap();
        assert!(renew(&a, TABLE, key(0, 1), &|| true).unwrap());
        // Whoever came meanwhile keeps what he has, and is alone.
        target.restart();
        let comes = || up(&b, key(1, 1)).is_ok();
        assert!(!renew(&a, TABLE, key(0, 1), &comes).unwrap());
        assert!(stands(&b, TABLE, key(1, 1)).unwrap() && writes(&b) && !writes(&a));
        target.path(9).register(0, 0xabc).unwrap();
        assert!(matches!(renew(&a, TABLE, key(0, 1), &|| true), Err(FenceError::Foreign(_))));
    }

    #[test]
    fn a_privilege_that_ended_throws_nobody_out() {
        let target = target();
        let (a, b) = (target.path(1), target.path(2));
        up(&a, key(0, 1)).unwrap();
        for asked in 0..3 {
            let left = std::cell::Cell::new(asked);
            let may = || left.replace(left.get() - 1) > 0;
            let late = raise(&b, TABLE, key(1, 1), false, &may);
            assert!(matches!(late, Err(FenceError::Over)), "{asked}: {late:?}");
            assert!(asked == 2 || (writes(&a) && !writes(&b)), "{asked}");
        }
    }

    #[test]
    fn what_is_somebody_elses_is_named_and_stays() {
        let target = target();
        target.path(9).register(0, 0xabc).unwrap();
        assert!(matches!(up(&target.path(1), key(0, 1)), Err(FenceError::Foreign(_))));
        assert_eq!(target.path(1).keys().unwrap(), [0xabc]);
        target.path(9).reserve(0xabc, Kind::Other(1)).unwrap();
        assert!(foreign(&target.path(1), TABLE).unwrap().unwrap().contains("0x0000000000000abc (foreign)"));
        raise(&target.path(1), TABLE, key(0, 1), true, &|| true).unwrap();
        assert!(stands(&target.path(1), TABLE, key(0, 1)).unwrap() && !writes(&target.path(9)), "broken on purpose");
        assert_eq!(foreign(&target.path(1), TABLE).unwrap(), None);
        target.restart();
        target.lie(Lies { no_reservations: true, ..Lies::default() });
        assert!(matches!(up(&target.path(1), key(0, 1)), Err(FenceError::NotHere(_))));
        assert!(matches!(foreign(&target.path(1), TABLE), Err(FenceError::NotHere(_))));
    }
}
