//! The rules of sections 6 to 8 that the engine keeps, each with a switch, so that a test can take one out and watch the
//! trace that it forbids happen. Production code never turns one off.

/// One switch per rule; all on by default.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Switches {
    /// A grant is taken only after the table was looked at again under the semaphore.
    pub grant_looks_again: bool,
    /// Trace A2: a newer incarnation in a slot says nothing about an older one's grants.
    pub newer_login_proves_nothing: bool,
    /// Trace E1: a log-on the second way leaves its own older grants to reaping and `inflight`.
    pub second_way_keeps_grants: bool,
    /// Trace A10: reaping changes the header only.
    pub reaping_clears_no_grant: bool,
    /// Trace A10: a dead writer's grant passes on only `inflight` after the reaping.
    pub inflight_is_waited: bool,
    /// Trace E2: `inflight` counts from the end of the own first read of the reaping.
    pub inflight_from_own_read: bool,
    /// Trace A9: a revoked writer is waited for: until it says that its gate is closed, or for `dead` and `inflight`.
    pub revocation_waits: bool,
    /// Trace E3 b: after `dead` a revoked writer that says nothing still has `inflight`.
    pub revocation_waits_inflight: bool,
    /// Trace E3 a: "gate closed" counts for the grant that it names.
    pub closed_names_its_grant: bool,
    /// Trace B6: what was promised is left alone.
    pub promise_is_kept: bool,
    /// Traces A1 and A9: who is reaped was judged silent, in this very incarnation, once more under the semaphore.
    pub reaped_as_judged: bool,
    /// Trace d5: the gate is closed before the table stops naming the writer, and before it says yes.
    pub close_before_release: bool,
    /// Trace C1: an answer is to one request, by its id.
    pub answers_by_id: bool,
    /// A writer that the table no longer names closes its gate at once.
    pub lost_grant_closes: bool,
    /// The flag "logged on" goes only after every gate is closed.
    pub closed_before_log_off: bool,
    /// Trace d6: an `exclusive` grant is pending in the table first, and only then are the pages looked at.
    pub pending_first: bool,
    /// Traces d6 and d7: pending becomes held only when no other gate may be open.
    pub pending_waits_for_gates: bool,
    /// Trace d7: a pending grant, too, keeps readers of an `exclusive` volume out.
    pub pending_locks_readers: bool,
    /// Traces d6 and c2: a reader says what it is about to mount before it mounts it.
    pub announced_first: bool,
    /// Traces d7 and c2: a reader looks at the table again after that is on the disk.
    pub second_look: bool,
    /// Trace A7: a lazily detached mount with open files is not closed.
    pub detached_is_open: bool,
    /// Trace d10: a grant sets *dirty* before the first read-write mount.
    pub dirty_is_set: bool,
    /// Trace d10: only a release with its publish clears *dirty*.
    pub dirty_until_published: bool,
    /// Trace d10: readers do not mount a dirty volume without a writer.
    pub dirty_is_not_shown: bool,
    /// Trace E10: a pending grant leaves no dirty volume that nobody wrote.
    pub pending_dirties_nothing: bool,
    /// Trace c2: the hold stands in the page before the snapshot is mounted.
    pub hold_before_mount: bool,
    /// Trace h1: the second look is at the page of the writer that the table names now.
    pub writer_named_now: bool,
    /// Trace c8: a reader does not take what the writer has retired.
    pub retired_is_heeded: bool,
    /// Trace c2: only pages read after that was on the disk show who still holds it.
    pub retired_before_delete: bool,
    /// Trace A8: what a dead reader held is kept for a while.
    pub dead_readers_hold: bool,
    /// What a writer left unpublished hides the generations before it until the next publish.
    pub left_dirty_hides_older: bool,
    /// Trace A12: a generation is (grant epoch, count).
    pub generation_names_its_grant: bool,
    /// Trace E11: an unknown page counts as mounted and as holding everything.
    pub unknown_counts_as_open: bool,
    /// A reader does not act while the page of the writer is unknown.
    pub unknown_writer_is_waited_for: bool,
    /// The own page is on the disk before the effects that rely on it.
    pub page_first: bool,
}

impl Switches {
    /// All rules on.
    pub const ALL: Self = Self {
        grant_looks_again: true,
        newer_login_proves_nothing: true,
        second_way_keeps_grants: true,
        reaping_clears_no_grant: true,
        inflight_is_waited: true,
        inflight_from_own_read: true,
        revocation_waits: true,
        revocation_waits_inflight: true,
        closed_names_its_grant: true,
        promise_is_kept: true,
        reaped_as_judged: true,
        close_before_release: true,
        answers_by_id: true,
        lost_grant_closes: true,
        closed_before_log_off: true,
        pending_first: true,
        pending_waits_for_gates: true,
        pending_locks_readers: true,
        announced_first: true,
        second_look: true,
        detached_is_open: true,
        dirty_is_set: true,
        dirty_until_published: true,
        dirty_is_not_shown: true,
        pending_dirties_nothing: true,
        hold_before_mount: true,
        writer_named_now: true,
        retired_is_heeded: true,
        retired_before_delete: true,
        dead_readers_hold: true,
        left_dirty_hides_older: true,
        generation_names_its_grant: true,
        unknown_counts_as_open: true,
        unknown_writer_is_waited_for: true,
        page_first: true,
    };
}

impl Default for Switches {
    fn default() -> Self {
        Self::ALL
    }
}
