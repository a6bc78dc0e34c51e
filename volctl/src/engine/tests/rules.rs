//! Every rule in its order, each with its own refusal.

use std::time::Duration;

use ondisk::{Access, ReadersPolicy};

use super::desk::{BOB, Desk, healthy, parts, why, world};
use crate::engine::{Command, Effect, Job, rules};

#[test]
fn each_rule_refuses_in_its_order_with_its_own_words() {
    let (mut tables, peers) = parts(ReadersPolicy::Live);
    let refusal = |tables: &lockdriver::tables::Tables| {
        let world = world(Duration::ZERO, tables, &peers);
        why(rules::may_ask(&world, BOB, tables.volumes[0].as_ref().unwrap()))
    };
    // Everything forbidden at once; then one after the other is allowed.
    let record = tables.clients[1].take();
    let table = tables.volumes[0].as_mut().unwrap();
    table.write_enabled = false;
    table.permissions[1].access = Access::Read;
    table.permissions[1].lockout = true;
    assert_eq!(refusal(&tables), "rule client: this client is not in the tables");
    tables.clients[1] = record;
    tables.clients[1].as_mut().unwrap().enabled = false;
    tables.clients[1].as_mut().unwrap().locked_out = true;
    assert_eq!(refusal(&tables), "rule enabled: client bob is disabled");
    tables.clients[1].as_mut().unwrap().enabled = true;
    assert_eq!(refusal(&tables), "rule mount access: bob has access read to v0");
    tables.volumes[0].as_mut().unwrap().permissions[1].access = Access::Write;
    assert_eq!(refusal(&tables), "rule lockout: bob may not ask for v0");
    tables.volumes[0].as_mut().unwrap().permissions[1].lockout = false;
    assert_eq!(refusal(&tables), "rule lockout: bob may not ask for any volume");
    tables.clients[1].as_mut().unwrap().locked_out = false;
    assert_eq!(refusal(&tables), "rule write-enabled: nobody may write v0");
    tables.volumes[0].as_mut().unwrap().write_enabled = true;
    assert_eq!(refusal(&tables), "");
}

#[test]
fn a_takeover_needs_an_administrator() {
    let (mut tables, peers) = parts(ReadersPolicy::Live);
    let refused = rules::is_admin(&world(Duration::ZERO, &tables, &peers), BOB);
    assert_eq!(why(refused), "rule admin: bob is not an administrator");
    tables.clients[1].as_mut().unwrap().admin = true;
    assert!(rules::is_admin(&world(Duration::ZERO, &tables, &peers), BOB).is_ok());
}

#[test]
fn a_client_with_no_access_never_mounts() {
    let mut desk = Desk::new(ReadersPolicy::Live).published();
    desk.table().permissions[1].access = Access::None;
    desk.settle();
    assert!(desk.effects.iter().all(|e| !matches!(e, Effect::Job { .. })));
    let id = desk.command(Command::Mount { volume: "v0".into() });
    assert_eq!(desk.failure(id).why, "rule mount access: bob has access none to v0");
}

#[test]
fn what_is_somebody_elses_on_the_device_is_broken_by_a_takeover_and_not_by_a_request_after_it() {
    for takes_over in [true, false] {
        let mut desk = Desk::new(ReadersPolicy::Live).published();
        desk.tables.clients[1].as_mut().unwrap().admin = true;
        desk.settle();
        desk.command(Command::Takeover { volume: "v0".into(), yes_i_know: None });
        if !takes_over {
            desk.request(None);
        }
        let breaks = (0..20).find_map(|_| {
            match desk.job() {
                Some(Job::MountWriter { breaks_foreign, .. }) => return Some(breaks_foreign),
                Some(job) => desk.end_job(healthy(&job)),
                None if desk.effects.iter().any(|e| matches!(e, Effect::Table { .. })) => desk.run_op().1.unwrap(),
                None => {}
            }
            desk.step();
            None
        });
        assert_eq!(breaks, Some(takes_over));
    }
}
