//! The program under test: the one that belongs to this build.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of `volctl`, built anew if its sources have changed.
pub fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        // Of a package that is not its own, cargo builds no program for a test; and an old one would prove nothing.
        let own = std::env::current_exe().expect("a test has a path");
        let folder = own.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST").to_owned();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", "volctl", "--bin", "volctl"]);
        if folder.ends_with("release") {
            build.arg("--release");
        }
        build.current_dir(crate::tree::root());
        let built = build.status().is_ok_and(|status| status.success());
        let program = folder.join("volctl");
        assert!(built && program.exists(), "{} could not be built", program.display());
        program
    })
}
