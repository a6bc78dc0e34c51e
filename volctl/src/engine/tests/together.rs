//! Several clients at once, in an order that matters.

use std::time::Duration;

use ondisk::{AutoResponse, Message, ReadersPolicy};

use super::desk::{ALICE, BOB};
use super::studio::Studio;
use crate::engine::Command;

#[test]
fn an_administrator_gets_what_he_had_revoked_before_those_who_asked_first() {
    let mut studio = Studio::new(1, 3, &[ReadersPolicy::Live], Duration::ZERO);
    studio.administer("bob is an administrator", |t| t.clients[1].as_mut().unwrap().admin = true);
    (0..3).for_each(|c| studio.restart(c));
    studio.run(Duration::from_secs(2));
    let ask = |wait| Command::Request { volume: "v0".into(), message: Message::default(), wait };
    studio.command(0, ask(None));
    studio.run(Duration::from_secs(3));
    studio.command(2, ask(None));
    studio.run(Duration::from_secs(1));
    studio.command(1, Command::Takeover { volume: "v0".into(), yes_i_know: None });
    studio.run(Duration::from_secs(5));
    assert_eq!(studio.broken, None);
    assert_eq!(studio.grants.iter().map(|g| g.1).collect::<Vec<_>>(), [ALICE, BOB]);
}

#[test]
fn three_that_ask_at_once_get_it_one_after_the_other_in_order() {
    for seed in 0..20 {
        let mut studio = Studio::new(seed, 4, &[ReadersPolicy::Exclusive], Duration::ZERO);
        studio.administer("all say yes", |t| {
            t.clients.iter_mut().flatten().for_each(|r| r.auto_response = AutoResponse::Always);
        });
        (0..4).for_each(|c| studio.restart(c));
        studio.run(Duration::from_secs(3));
        let ask = || Command::Request {
            volume: "v0".into(),
            message: Message::default(),
            wait: Some(Duration::from_secs(60)),
        };
        studio.command(3, ask());
        studio.run(Duration::from_secs(3));
        // Nobody says yes for a moment, so that all three stand before the first is served.
        studio.administer("nobody says yes", |t| {
            t.clients.iter_mut().flatten().for_each(|r| r.auto_response = AutoResponse::Off);
        });
        studio.run(Duration::from_secs(1));
        for c in 0..3 {
            studio.command(c, ask());
        }
        studio.run(Duration::from_secs(1));
        studio.administer("all say yes", |t| {
            t.clients.iter_mut().flatten().for_each(|r| r.auto_response = AutoResponse::Always);
        });
        studio.run(Duration::from_secs(20));
        assert_eq!(studio.broken, None);
        let grants: Vec<u16> = studio.grants.iter().map(|g| g.1.0).collect();
        assert_eq!(grants, [3, 0, 1, 2], "seed {seed}");
    }
}
