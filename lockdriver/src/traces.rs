//! The interleavings that the rules of sections 4 to 6 forbid, each run with the rule and without it, and the
//! searches that look for more. Tests only.

pub(crate) mod bench;
pub(crate) mod claim;
mod crash;
mod explore;
mod lease;
mod tickets;
mod unreadable;

use crate::rules::Rules;

/// Runs `scenario` with all rules, where it must come out true, and with one taken out, where it must not:
/// so each test has been seen red.
#[track_caller]
fn holds_only_with(take_out: impl Fn(&mut Rules), scenario: impl Fn(Rules) -> bool) {
    assert!(scenario(Rules::ALL), "broken although all rules are on");
    let mut rules = Rules::ALL;
    take_out(&mut rules);
    assert_ne!(rules, Rules::ALL, "no rule was taken out");
    assert!(!scenario(rules), "the rule makes no difference: the trace does not show why it is there");
}
