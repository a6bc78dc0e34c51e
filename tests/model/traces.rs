//! Each trace: there is no way to its harm with all rules on, and the search finds one with its rule taken out.

use crate::cases::all;

/// On two threads: the tests beside these run at the same time.
const THREADS: usize = 2;

/// Runs the case with all rules, where nothing bad may be found, and with its rule taken out, where the very harm must be.
#[track_caller]
fn comes_out_again(model: &str, name: &str) {
    let found = all().into_iter().find(|e| e.model == model && e.name == name);
    let entry = found.unwrap_or_else(|| panic!("no case {name} of {model}"));
    let (rule, expected) = entry.rule.expect("the case takes a rule out");
    let with = (entry.run)(false, THREADS);
    assert!(with.harm.is_none(), "with all rules: {:#?}", with.harm);
    assert!(with.states > 50, "{} states: the search did not search", with.states);
    let without = (entry.run)(true, THREADS).harm.unwrap_or_else(|| panic!("without {rule}: nothing found"));
    assert_eq!(without.what, expected, "without {rule}: {:#?}", without.trace);
}

macro_rules! traces {
    ($($test:ident: $model:literal, $name:literal;)*) => {
        $(
            #[test]
            fn $test() {
                comes_out_again($model, $name);
            }
        )*

        /// A case that is not large has its test here, so that none is run by `make model` only.
        #[test]
        fn every_small_case_that_takes_a_rule_out_has_its_test() {
            let tested = [$(($model, $name)),*];
            for entry in all().iter().filter(|e| !e.large && e.rule.is_some()) {
                assert!(tested.contains(&(entry.model, entry.name)), "{}: {}", entry.model, entry.name);
            }
        }
    };
}

traces! {
    a3_lowered_tickets_repeat_an_epoch: "bakery", "A3 tickets kept";
}

#[test]
fn a_log_on_after_a_crash_hides_nobody() {
    let found = all().into_iter().find(|e| e.model == "claim" && e.name == "after a crash");
    let outcome = (found.expect("the case").run)(false, THREADS);
    assert!(outcome.harm.is_none(), "{:#?}", outcome.harm);
}
