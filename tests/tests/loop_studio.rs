//! The tests' own instruments: a witness that saw nothing would make every other test worthless.

use std::process::Command;
use std::time::Duration;

use volctl_tests::studio::{FAST, Studio, loops_below};

#[test]
fn loop_the_witness_sees_two_writers() {
    let studio = Studio::new(FAST);
    let image = studio.dir().join("v.img");
    std::fs::write(&image, vec![0_u8; 1 << 20]).expect("an image");
    let attach = |options: &[&str]| {
        let status = Command::new("losetup").args(options).arg("-f").arg(&image).status().expect("losetup");
        assert!(status.success());
    };
    attach(&[]);
    attach(&["-r"]);
    assert!(studio.witness.look_again().violations.is_empty(), "one writer and one reader are in order");
    attach(&[]);
    studio.wait_until("two writers are seen", Duration::from_secs(5), || {
        !studio.witness.look_again().violations.is_empty()
    });
    let dir = studio.dir().to_owned();
    drop(studio);
    assert!(loops_below(&dir).is_empty(), "a dropped studio leaves nothing");
}
