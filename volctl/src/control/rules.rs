//! The rules of a login that look odd, each with a switch, so that a test can take one out and watch the harm that it
//! forbids. Production code never turns one off.

use lockdriver::{rules, transaction};

/// One switch per rule, with those of the machines below; all on by default.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Of semaphore, lease, watch and log-on.
    pub lock: rules::Rules,
    /// Of the commit.
    pub commit: transaction::Rules,
    /// The lease is asked right before every single write (section 4).
    pub lease_before_write: bool,
    /// Trace A9: a beat extends the lease only after a read begun later shows that the login still stands.
    pub confirm_beats: bool,
    /// Trace A9: a revoked grant extends nothing.
    pub revoked_extends_nothing: bool,
    /// Trace c5: page first, slot second.
    pub page_before_slot: bool,
    /// Both copies of a page are brought equal after each change.
    pub both_page_copies: bool,
    /// A page sequence that was tried is never used again.
    pub sequence_is_spent: bool,
    /// A page older than its slot's sequence is unknown.
    pub older_page_is_unknown: bool,
    /// Traces A5, B3: writes of unknown result between acquisitions, and inside, reach the semaphore.
    pub beats_are_told: bool,
    /// Inside, the tables are looked at once more before anything is decided.
    pub look_again: bool,
    /// Trace m4: the acknowledged commit stands as a mark in the own slot.
    pub mark: bool,
    /// Trace B1: an engine or a tenure that hangs for longer than a lease ends the login.
    pub hung_ends: bool,
    /// Trace C7: a machine that stood still ends its login.
    pub standstill_ends: bool,
    /// A transaction under way comes to its end before the slot is left.
    pub log_off_waits: bool,
    /// The owner rewrites a bad sector of its own.
    pub mend_own_slot: bool,
    /// `pr`: whoever is about to be recorded as reaped is thrown out before.
    pub victim_goes_first: bool,
    /// `pr`: after a preemption it is looked whether the key is gone, whatever the answer was.
    pub expelled_is_looked_at: bool,
    /// `pr`: a host that is still registered from before replaces its key.
    pub registers_anew: bool,
    /// `pr`: a write that is let through says something only under a reservation that stands before and after.
    pub accused_when_guarded: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            lock: rules::Rules::ALL,
            commit: transaction::Rules::default(),
            lease_before_write: true,
            confirm_beats: true,
            revoked_extends_nothing: true,
            page_before_slot: true,
            both_page_copies: true,
            sequence_is_spent: true,
            older_page_is_unknown: true,
            beats_are_told: true,
            look_again: true,
            mark: true,
            hung_ends: true,
            standstill_ends: true,
            log_off_waits: true,
            mend_own_slot: true,
            victim_goes_first: true,
            expelled_is_looked_at: true,
            registers_anew: true,
            accused_when_guarded: true,
        }
    }
}
