//! One binary for all targets: `VOLCTL_FUZZ` names the one to run. The arguments are libFuzzer's.
#![no_main]

use std::sync::OnceLock;

use volctl_tests::fuzz::{TARGETS, Target, find};

fn chosen() -> Target {
    static CHOSEN: OnceLock<Target> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("VOLCTL_FUZZ").unwrap_or_default();
        find(&name).unwrap_or_else(|| {
            let known: Vec<_> = TARGETS.iter().map(|t| t.name).collect();
            eprintln!("VOLCTL_FUZZ='{name}' is no target; there are: {}", known.join(" "));
            std::process::exit(2);
        })
    })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| (chosen().run)(data));
