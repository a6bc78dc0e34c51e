//! The check of the checker: rules of the protocols are taken out, one in its turn, and some run must break a promise.
//!
//! Not every rule is here. Many guard what another guards too, or need one moment in millions: those are brought out by the
//! traces and the model, which take moments as they like (`docs/traces.md`).

use crate::plan::{Lock, Plan};
use crate::weather::Weather;

/// A deliberate break.
pub(crate) struct Mutant {
    /// The switch.
    pub(crate) name: &'static str,
    /// What is broken, in words.
    pub(crate) what: &'static str,
    /// The weather in which it is looked for.
    pub(crate) weather: Weather,
    /// The lock with which it is looked for; else each seed says itself.
    pub(crate) lock: Option<Lock>,
    /// Breaks it.
    pub(crate) apply: fn(&mut Plan),
}

macro_rules! mutants {
    (@lock) => { None };
    (@lock $lock:ident) => { Some(Lock::$lock) };
    ($($weather:ident $(($lock:ident))? $group:ident . $($field:ident).+ : $what:literal),+ $(,)?) => {
        /// All of them.
        pub(crate) const ALL: &[Mutant] = &[$(Mutant {
            name: concat!(stringify!($group), $(".", stringify!($field)),+),
            what: $what,
            weather: Weather::$weather,
            lock: mutants!(@lock $($lock)?),
            apply: |plan| plan.$group.$($field).+ = false,
        }),+];
    };
}

mutants! {
    Writes rules.lock.keep_tickets: "tickets fall back at release and log-on",
    Strangers rules.lock.own_residue: "two clients may draw one ticket",
    Strangers rules.lock.wait_for_choosing: "whoever is choosing is passed",
    Strangers rules.lock.still_from_read_end: "stillness counts from the start of the first read",
    Writes rules.lock.doubt_unknown_writes: "a slot write of unknown result is forgotten",
    Rot rules.commit.each_version_twice: "a version of a cell is written once",
    Rot rules.commit.both_headers: "acknowledged after the first header copy",
    Writes rules.commit.own_number: "two commits of a tenure bear one number",
    Writes rules.lease_before_write: "the lease is not asked before a write",
    Mixed switches.grant_looks_again: "a grant is taken by what was read before the semaphore",
    Late switches.inflight_is_waited: "a dead writer's held-back writes are not waited for",
    Snapshots switches.revocation_waits: "a living writer is robbed",
    Late switches.revocation_waits_inflight: "a silent revoked writer's writes are not waited for",
    Mixed switches.reaped_as_judged: "whoever is in the slot by now is reaped",
    Rot switches.close_before_release: "the table is cleared before the gate is closed",
    Exclusive switches.closed_before_log_off: "logged off with open gates",
    Exclusive switches.pending_first: "an exclusive grant is held at once",
    Exclusive switches.pending_waits_for_gates: "readers' gates are not waited for",
    Exclusive switches.pending_locks_readers: "readers come in beside a pending writer",
    Exclusive switches.announced_first: "a reader mounts before it says so",
    Exclusive switches.second_look: "a reader does not look again after saying so",
    Snapshots switches.detached_is_open: "a detached mount counts as closed",
    Mixed switches.dirty_is_set: "a mount leaves no mark of its writing",
    Mixed switches.dirty_is_not_shown: "readers see what nobody published",
    Snapshots switches.hold_before_mount: "a snapshot is mounted before it is held",
    Snapshots switches.retired_is_heeded: "a retired generation is taken",
    Snapshots switches.retired_before_delete: "holds are looked at before retiring",
    Writes switches.generation_names_its_grant: "generations count on from an old page",
    Writes(Pr) rules.victim_goes_first: "somebody is recorded as reaped who may still write",
    Writes(Pr) rules.expelled_is_looked_at: "a preemption of unknown result is taken for done",
    Mixed(Pr) rules.registers_anew: "a host that is still registered does not replace its key",
    Mixed(Pr) rules.accused_when_guarded: "one write that is let through makes a device worthless",
}
