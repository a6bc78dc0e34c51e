//! The check of the checker: each rule of the protocols is taken out in its turn, and some run must break a promise.

use crate::plan::Plan;
use crate::weather::Weather;

/// A deliberate break.
pub(crate) struct Mutant {
    /// The switch.
    pub(crate) name: &'static str,
    /// What is broken, in words.
    pub(crate) what: &'static str,
    /// The weather in which it is looked for.
    pub(crate) weather: Weather,
    /// Breaks it.
    pub(crate) apply: fn(&mut Plan),
}

macro_rules! mutants {
    ($($weather:ident $group:ident . $($field:ident).+ : $what:literal),+ $(,)?) => {
        /// All of them.
        pub(crate) const ALL: &[Mutant] = &[$(Mutant {
            name: concat!(stringify!($group), $(".", stringify!($field)),+),
            what: $what,
            weather: Weather::$weather,
            apply: |plan| plan.$group.$($field).+ = false,
        }),+];
    };
}

mutants! {
    Mixed rules.lock.keep_tickets: "tickets fall back at release and log-on",
    Mixed rules.lock.own_residue: "two clients may draw one ticket",
    Mixed rules.lock.wait_for_choosing: "whoever is choosing is passed",
    Mixed rules.lock.lease_stays_over: "a late beat revives a lease that has ended",
    Mixed rules.lock.still_from_read_end: "stillness counts from the start of the first read",
    Mixed rules.lock.doubt_unknown_writes: "a slot write of unknown result is forgotten",
    Mixed rules.lock.claim_waits_margin: "a claim acts at once, without being read back late",
    Mixed rules.lock.claim_gives_up: "a claim that took too long is kept",
    Mixed rules.lock.entry_check: "who finds itself reaped inside goes on",
    Mixed rules.lock.reap_unreadable_above: "an unreadable slot is reaped only as far as it is known",
    Mixed rules.lock.draw_needs_header: "tickets are drawn without a header",
    Mixed rules.lock.judge_this_poll: "silence is remembered from before the acquisition",
    Mixed rules.lock.unknown_stops_draw: "a ticket is drawn past an unreadable slot",
    Mixed rules.lock.unknown_stops_entry: "somebody enters past an unreadable slot",
    Mixed rules.lock.unknown_in_every_read: "good reads between bad ones prove nothing",
    Mixed rules.lock.first_way_settles: "a restarted daemon does not let an old slot write land first",
    Mixed rules.lock.unreadable_must_be_still: "a slot with one bad sector is passed though the other changes",
    Mixed rules.lock.claim_above_reapers: "a claim takes a number that a reaper may be about to record",
    Mixed rules.lock.first_way_same_sector: "a log-on without waiting takes the other sector",
    Mixed rules.lock.second_way_other_sector: "a log-on from elsewhere takes the same sector",
    Mixed rules.lock.marks_of_earlier_reads: "a mark is compared with an older header",
    Mixed rules.commit.each_version_twice: "a version of a cell is written once",
    Mixed rules.commit.renew_header: "a header in flight is not outnumbered",
    Mixed rules.commit.finish_found: "an interrupted commit is not finished",
    Mixed rules.commit.both_headers: "acknowledged after the first header copy",
    Mixed rules.commit.own_number: "two commits of a tenure bear one number",
    Mixed rules.lease_before_write: "the lease is not asked before a write",
    Mixed rules.confirm_beats: "a beat extends the lease without being read back",
    Mixed rules.revoked_extends_nothing: "a revoked writer's lease goes on",
    Mixed rules.page_before_slot: "the slot tells of a page before it is written",
    Mixed rules.both_page_copies: "a page is written once",
    Mixed rules.sequence_is_spent: "a page sequence is used again after a failure",
    Mixed rules.older_page_is_unknown: "a page older than its slot is believed",
    Mixed rules.beats_are_told: "the semaphore does not hear of failed beats",
    Mixed rules.look_again: "a change is decided by what was read before the semaphore",
    Mixed rules.mark: "no mark of what was acknowledged",
    Mixed rules.hung_ends: "a hung tenure beats on",
    Mixed rules.standstill_ends: "a machine that stood still goes on",
    Mixed rules.log_off_waits: "the slot is left in the middle of a transaction",
    Mixed rules.mend_own_slot: "a bad sector of the own slot stays",
    Mixed switches.grant_looks_again: "a grant is taken by what was read before the semaphore",
    Mixed switches.newer_login_proves_nothing: "a newer login frees an older one's grant",
    Mixed switches.second_way_keeps_grants: "a log-on from elsewhere frees its own grant",
    Mixed switches.reaping_clears_no_grant: "reaping clears grants",
    Mixed switches.inflight_is_waited: "a dead writer's held-back writes are not waited for",
    Mixed switches.inflight_from_own_read: "in-flight time counts from somebody else's clock",
    Mixed switches.revocation_waits: "a living writer is robbed",
    Mixed switches.revocation_waits_inflight: "a silent revoked writer's writes are not waited for",
    Mixed switches.closed_names_its_grant: "an old 'gate closed' is believed",
    Mixed switches.promise_is_kept: "a promised volume is taken by whoever is first",
    Mixed switches.reaped_as_judged: "whoever is in the slot by now is reaped",
    Mixed switches.close_before_release: "the table is cleared before the gate is closed",
    Mixed switches.answers_by_id: "an old answer counts for a new request",
    Mixed switches.lost_grant_closes: "a writer without a grant goes on",
    Mixed switches.closed_before_log_off: "logged off with open gates",
    Mixed switches.pending_first: "an exclusive grant is held at once",
    Mixed switches.pending_waits_for_gates: "readers' gates are not waited for",
    Mixed switches.pending_locks_readers: "readers come in beside a pending writer",
    Mixed switches.announced_first: "a reader mounts before it says so",
    Mixed switches.second_look: "a reader does not look again after saying so",
    Mixed switches.detached_is_open: "a detached mount counts as closed",
    Mixed switches.dirty_is_set: "a mount leaves no mark of its writing",
    Mixed switches.dirty_until_published: "any release says clean",
    Mixed switches.dirty_is_not_shown: "readers see what nobody published",
    Mixed switches.pending_dirties_nothing: "a withdrawn grant leaves a dirty volume",
    Mixed switches.hold_before_mount: "a snapshot is mounted before it is held",
    Mixed switches.writer_named_now: "the second look is at the writer of before",
    Mixed switches.retired_is_heeded: "a retired generation is taken",
    Mixed switches.retired_before_delete: "holds are looked at before retiring",
    Mixed switches.dead_readers_hold: "a dead reader's snapshots go at once",
    Mixed switches.left_dirty_hides_older: "what a dead writer left is built upon",
    Mixed switches.generation_names_its_grant: "generations count on from an old page",
    Mixed switches.unknown_counts_as_open: "an unknown page counts as closed",
    Mixed switches.unknown_writer_is_waited_for: "an unknown writer's page counts as empty",
    Mixed switches.page_first: "effects overtake the page that they rest on",
}
