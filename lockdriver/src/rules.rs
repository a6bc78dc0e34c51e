//! The rules of sections 4 to 6 that look odd, each with a switch, so that a test can take one out and watch the
//! trace that it forbids happen. Production code never turns one off.

/// One switch per rule; all on by default.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rules {
    /// Trace A3: `ticket` is never lowered, neither by a release nor by a log-on.
    pub keep_tickets: bool,
    /// Trace A3: a ticket is congruent to its slot number, so that no two slots draw the same.
    pub own_residue: bool,
    /// Lamport: whoever is choosing is waited for.
    pub wait_for_choosing: bool,
    /// Trace A1: a lease that has ended never comes back.
    pub lease_stays_over: bool,
    /// Trace A1 (the observer's side): stillness counts from the END of the first read.
    pub still_from_read_end: bool,
    /// Trace A5: after a slot write of unknown result: wait, write again, read back.
    pub doubt_unknown_writes: bool,
    /// Trace A6: the claim waits longer than `margin` before it is read back.
    pub claim_waits_margin: bool,
    /// Trace A6: a claim that took longer than `margin` since its read is given up.
    pub claim_gives_up: bool,
    /// Trace A9: a client that finds itself reaped on entering leaves without writing.
    pub entry_check: bool,
    /// Trace B4: reaping an unreadable slot records one more than the highest incarnation known.
    pub reap_unreadable_above: bool,
    /// Trace C4: without a valid header no ticket is drawn and nobody enters.
    pub draw_needs_header: bool,
    /// Trace C14: silence is judged by the bytes read in this step, not by a memory.
    pub judge_this_poll: bool,
    /// Trace n1: nobody draws past a slot that cannot be read.
    pub unknown_stops_draw: bool,
    /// Trace n2: nobody enters past a slot that cannot be read.
    pub unknown_stops_entry: bool,
    /// Trace E4: unknown for `dead` means in every own read, reads that saw it good between prove it alive.
    pub unknown_in_every_read: bool,
    /// A log-on without waiting lets a slot write of its own host whose result nobody knows land first.
    pub first_way_settles: bool,
    /// A slot that cannot be read is silent only if what of it can be read stood still, too: a log-on changes it.
    pub unreadable_must_be_still: bool,
    /// A log-on to a slot that cannot be read takes a number above the one that somebody who read it before may reap.
    pub claim_above_reapers: bool,
    /// Trace n3: a log-on without waiting overwrites only the sector of the daemon proven gone.
    pub first_way_same_sector: bool,
    /// Trace A6 on a slot left cleanly: a claim from elsewhere takes the other sector and a lower number.
    pub second_way_other_sector: bool,
    /// Trace E13: a mark is compared only with a header read begun after the slot was read.
    pub marks_of_earlier_reads: bool,
}

impl Rules {
    /// All rules on.
    pub const ALL: Self = Self {
        keep_tickets: true,
        own_residue: true,
        wait_for_choosing: true,
        lease_stays_over: true,
        still_from_read_end: true,
        doubt_unknown_writes: true,
        claim_waits_margin: true,
        claim_gives_up: true,
        entry_check: true,
        reap_unreadable_above: true,
        draw_needs_header: true,
        judge_this_poll: true,
        unknown_stops_draw: true,
        unknown_stops_entry: true,
        unknown_in_every_read: true,
        first_way_settles: true,
        unreadable_must_be_still: true,
        claim_above_reapers: true,
        first_way_same_sector: true,
        second_way_other_sector: true,
        marks_of_earlier_reads: true,
    };
}

impl Default for Rules {
    fn default() -> Self {
        Self::ALL
    }
}
