//! Each trace: there is no way to its harm with all rules on, and the search finds one with its rule taken out.

use crate::cases::all;
use crate::run::Limits;

/// On two threads: the tests beside these run at the same time.
const LIMITS: Limits = Limits { threads: 2, most: None };

/// Runs the case with all rules, where nothing bad may be found (`make model` does that where it takes long), and with its
/// rule taken out, where the very harm must be.
#[track_caller]
fn comes_out_again(model: &str, name: &str) {
    let found = all().into_iter().find(|e| e.model == model && e.name == name);
    let entry = found.unwrap_or_else(|| panic!("no case {name} of {model}"));
    let (rule, expected) = entry.rule.expect("the case takes a rule out");
    if !entry.slow {
        let with = (entry.run)(false, LIMITS);
        assert!(with.harm.is_none(), "with all rules: {:#?}", with.harm);
        assert!(with.states > 10, "{} states: the search did not search", with.states);
    }
    let without = (entry.run)(true, LIMITS).harm.unwrap_or_else(|| panic!("without {rule}: nothing found"));
    assert_eq!(without.what, expected, "without {rule}: {:#?}", without.trace);
}

#[test]
fn a3_lowered_tickets_repeat_an_epoch() {
    comes_out_again("bakery", "A3 tickets kept");
}

#[test]
fn a3_numbers_of_two_slots_are_never_the_same() {
    comes_out_again("bakery", "A3 own numbers");
}

#[test]
fn a3_a_kill_before_the_commit_repeats_no_epoch() {
    comes_out_again("bakery", "A3 killed before its commit");
}

#[test]
fn lamports_choosing_is_waited_for() {
    comes_out_again("bakery", "Lamport choosing");
}

#[test]
fn a5_a_late_own_write_hides_no_ticket() {
    comes_out_again("bakery", "A5 late own write");
}

#[test]
fn a9_a_living_waiter_that_was_reaped_does_not_enter() {
    comes_out_again("bakery", "A9 reaped waiter");
}

/// The model found it: the successor knew nothing of a slot write without a result, claimed, and was hidden when that landed.
#[test]
fn whoever_is_killed_in_doubt_leaves_word_of_it() {
    comes_out_again("bakery", "killed in doubt");
}

#[test]
fn c14_a_remembered_silence_passes_nobody() {
    comes_out_again("bakery", "C14 judged by this reading");
}

#[test]
fn n1_nobody_draws_past_a_bad_sector() {
    comes_out_again("bakery", "n1 bad sector in step 2");
}

#[test]
fn n2_nobody_enters_past_a_bad_sector() {
    comes_out_again("bakery", "n2 bad sector in step 4");
}

#[test]
fn a1_a_lease_that_is_over_stays_over() {
    comes_out_again("lease", "A1 a lease that is over");
}

#[test]
fn a1_stillness_counts_from_the_end_of_the_read() {
    comes_out_again("lease", "A1 from the end of the read");
}

#[test]
fn a6_a_claim_waits_before_it_acts() {
    comes_out_again("claim", "A6 wait");
}

#[test]
fn b3c_one_copy_of_a_version_is_too_few() {
    comes_out_again("commit", "b3c");
}

#[test]
fn b4c_a_late_header_names_no_overwritten_cell() {
    comes_out_again("commit", "b4c");
}

#[test]
fn q7_a_late_header_takes_no_acknowledged_commit() {
    comes_out_again("commit", "q7");
}

#[test]
fn q7b_a_lost_header_takes_no_acknowledged_commit() {
    comes_out_again("commit", "q7b");
}

#[test]
fn b8_two_commits_of_a_tenure_have_two_numbers() {
    comes_out_again("commit", "b8");
}

#[test]
fn q9_what_was_interrupted_is_finished_first() {
    comes_out_again("commit", "q9");
}

#[test]
fn d6_a_grant_is_pending_before_the_pages_are_read() {
    comes_out_again("exclusive", "d6 pending first");
}

#[test]
fn d6_a_reader_announces_itself_before_it_mounts() {
    comes_out_again("exclusive", "d6 announced first");
}

#[test]
fn d7_a_reader_looks_again_after_its_announcement() {
    comes_out_again("exclusive", "d7 second look");
}

#[test]
fn d7_a_pending_grant_keeps_readers_out() {
    comes_out_again("exclusive", "d7 pending locks");
}

#[test]
fn d7_a_pending_grant_waits_for_every_gate() {
    comes_out_again("exclusive", "d7 waits for gates");
}

#[test]
fn a7_a_detached_mount_counts_as_open() {
    comes_out_again("exclusive", "A7 detached is open");
}

#[test]
fn d10_a_dirty_volume_is_not_shown() {
    comes_out_again("exclusive", "d10 dirty is not shown");
}

#[test]
fn d10_a_grant_sets_dirty_before_the_mount() {
    comes_out_again("exclusive", "d10 dirty is set");
}

#[test]
fn d10_only_a_publish_clears_dirty() {
    comes_out_again("exclusive", "d10 only a publish clears it");
}

#[test]
fn e10_a_pending_grant_dirties_nothing() {
    comes_out_again("exclusive", "E10 pending dirties nothing");
}

#[test]
fn c2_a_reader_looks_again_after_its_hold() {
    comes_out_again("holds", "c2 second look");
}

#[test]
fn c2_the_hold_stands_before_the_mount() {
    comes_out_again("holds", "c2 hold before mount");
}

#[test]
fn c2_retired_stands_before_the_pages_are_read() {
    comes_out_again("holds", "c2 retired, then a new look");
}

#[test]
fn c8_a_retired_generation_is_not_taken() {
    comes_out_again("holds", "c8 retired is heeded");
}

#[test]
fn a12_a_generation_names_its_grant() {
    comes_out_again("holds", "A12 generations");
}

#[test]
fn d5_the_gate_is_closed_before_the_release() {
    comes_out_again("hand-over", "d5 closed before released");
}

#[test]
fn who_takes_a_grant_looks_again_inside() {
    comes_out_again("hand-over", "looks again inside");
}

#[test]
fn b6_a_promised_volume_is_left_alone() {
    comes_out_again("hand-over", "B6 promised");
}

#[test]
fn c1_an_answer_is_to_one_request() {
    comes_out_again("hand-over", "C1 answers by id");
}

#[test]
fn gates_are_closed_before_the_log_off() {
    comes_out_again("hand-over", "closed before log-off");
}

#[test]
fn a2_a_newer_login_frees_no_older_grant() {
    comes_out_again("takeover", "A2 newer login");
}

#[test]
fn e1_a_log_on_from_elsewhere_frees_no_older_grant() {
    comes_out_again("takeover", "E1 second way");
}

#[test]
fn a10_a_reaping_clears_no_grant() {
    comes_out_again("takeover", "A10 reaping clears no grant");
}

#[test]
fn a10_a_dead_writers_grant_passes_after_inflight() {
    comes_out_again("takeover", "A10 inflight is waited");
}

#[test]
fn e2_inflight_counts_from_the_own_read_of_the_reaping() {
    comes_out_again("takeover", "E2 inflight from the own read");
}

#[test]
fn a1_only_the_judged_login_is_reaped() {
    comes_out_again("takeover", "A1 reaped as judged");
}

#[test]
fn a9_a_living_writer_is_waited_for() {
    comes_out_again("takeover", "A9 revocation waits");
}

#[test]
fn e3a_gate_closed_counts_for_the_grant_it_names() {
    comes_out_again("takeover", "E3a closed names its grant");
}

#[test]
fn e3b_a_hung_writer_still_has_inflight_after_dead() {
    comes_out_again("takeover", "E3b inflight after dead");
}

/// A case that is not large has its test here, so that none is run by `make model` only.
#[test]
fn every_small_case_that_takes_a_rule_out_has_its_test() {
    let text = include_str!("traces.rs");
    for entry in all().iter().filter(|e| !e.large && e.rule.is_some()) {
        let call = format!("comes_out_again({:?}, {:?});", entry.model, entry.name);
        assert!(text.contains(&call), "{call}");
    }
}
