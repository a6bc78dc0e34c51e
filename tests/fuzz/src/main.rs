//! One binary for all targets: `VOLCTL_FUZZ` names the one to run. The arguments are libFuzzer's.
//!
//! Reading all counters of so large a program takes longer than most of the targets do. So each input is run together with a
//! batch of inputs like it, which follow from its bytes alone: whatever fails fails again with the same input.
#![no_main]

use std::sync::OnceLock;

use volctl_tests::fuzz::feed::Like;
use volctl_tests::fuzz::{TARGETS, Target, find};

fn chosen() -> (Target, u32) {
    static CHOSEN: OnceLock<(Target, u32)> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("VOLCTL_FUZZ").unwrap_or_default();
        let target = find(&name).unwrap_or_else(|| {
            let known: Vec<_> = TARGETS.iter().map(|t| t.name).collect();
            eprintln!("VOLCTL_FUZZ='{name}' is no target; there are: {}", known.join(" "));
            std::process::exit(2);
        });
        let batch = std::env::var("VOLCTL_FUZZ_BATCH").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
        (target, batch)
    })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (target, batch) = chosen();
    (target.run)(data);
    let mut like = Like::of(data, 0);
    for _ in 1..batch {
        (target.run)(like.change(data));
    }
});
