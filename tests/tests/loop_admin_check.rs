//! `check`, `check --repair` and `dump` on damage of every kind.

use serde_json::Value;
use volctl_tests::control::Control;
use volctl_tests::fake::acknowledge;

fn offset(value: &Value) -> u64 {
    value["offset"].as_u64().expect("an offset")
}

fn cell<'a>(dump: &'a Value, key: &str, number: u64) -> &'a Value {
    dump["cells"].as_array().and_then(|all| all.iter().find(|c| c[key] == number)).expect("a cell")
}

/// The blocks of a cell's current version.
fn current(dump: &Value, key: &str, number: u64, name: &str) -> Vec<u64> {
    let blocks = cell(dump, key, number)["blocks"].as_array().expect("blocks").clone();
    let commit = |b: &Value| b["commit"].as_str().map(str::to_owned);
    let newest = blocks.iter().filter_map(commit).max_by_key(|c| {
        let (epoch, count) = c.split_once('.').expect("epoch.count");
        (epoch.parse::<u64>().expect("a number"), count.parse::<u64>().expect("a number"))
    });
    assert!(dump["clients"].to_string().contains(name));
    blocks.iter().filter(|b| commit(b) == newest).map(offset).collect()
}

fn two_clients() -> Control {
    let control = Control::small();
    let _ = control.run(&["client", "add", "alice"]).ok();
    let _ = control.run(&["client", "add", "bob"]).ok();
    control
}

#[test]
fn everything_that_has_another_copy_is_restored_and_said() {
    let control = two_clients();
    let dump = control.dump();
    let before = (dump["clients"].clone(), dump["superblock"]["uuid"].clone());
    control.ruin(offset(&dump["superblock"]["copies"][0]));
    control.ruin(offset(&dump["header"]["copies"][1]));
    control.ruin(current(&dump, "client", 0, "alice")[1]);
    control.ruin(offset(&dump["slots"][2]["sectors"][0]));
    control.ruin(offset(&dump["pages"][3]["copies"][1]));
    let said = control.look(&["check"]).is(6);
    said.says(&["lost redundancy", "--repair"]);
    for block in ["superblock copy 0", "table header copy 1", "client record 0", "slot 2 sector 0", "page of client 3"]
    {
        assert!(said.out.contains(block), "{block}: {}", said.out);
    }
    // A dump shows what counts all the same, and a check that only looks changes nothing.
    assert_eq!(control.dump()["clients"], before.0);
    let _ = control.look(&["check"]).is(6);
    let said = control.look(&["check", "--repair", "--json"]).ok();
    said.says(&["watching the slots"]);
    let repaired = said.json();
    assert_eq!(repaired["clean"], true);
    let lines = repaired["repaired"].to_string();
    for block in ["superblock copy 0", "table header copy 1", "recovered from copy", "written anew as commit"] {
        assert!(lines.contains(block), "{block}: {lines}");
    }
    let dump = control.dump();
    assert_eq!((dump["clients"].clone(), dump["superblock"]["uuid"].clone()), before);
    assert_eq!(dump["damage"], serde_json::json!([]));
    let _ = control.run(&["client", "add", "carol"]).ok();
    let said = control.look(&["check", "--repair"]).ok();
    assert!(said.out.contains("clean") && !said.out.contains("repaired"), "{}", said.out);
}

#[test]
fn commands_go_on_over_lost_redundancy() {
    let control = two_clients();
    let dump = control.dump();
    control.ruin(offset(&dump["superblock"]["copies"][1]));
    control.ruin(offset(&dump["header"]["copies"][0]));
    control.ruin(current(&dump, "client", 1, "bob")[0]);
    let _ = control.run(&["set-client", "bob", "admin", "on"]).ok();
    let _ = control.run(&["client", "add", "carol"]).ok();
    assert_eq!(control.dump()["clients"].as_array().map(Vec::len), Some(3));
}

#[test]
fn a_cell_without_a_copy_is_damage_and_stays_so() {
    let control = two_clients();
    let dump = control.dump();
    for offset in current(&dump, "client", 1, "bob") {
        control.ruin(offset);
    }
    control.look(&["check"]).is(6).says(&["damaged", "client record 1"]);
    control.run(&["client", "list"]).is(6).says(&["client record 1", "volctl check"]);
    control.run(&["client", "add", "carol"]).is(6).says(&["client record 1"]);
    control.look(&["check", "--repair"]).is(6).says(&["client record 1", "no other copy"]);
    // The rest is still shown.
    let dump = control.dump();
    assert_eq!(dump["clients"][0]["name"], "alice");
    assert!(dump["damage"].to_string().contains("client record 1: lost"));
}

#[test]
fn without_a_header_nobody_logs_on_and_nothing_is_invented() {
    let control = two_clients();
    let dump = control.dump();
    for copy in 0..2 {
        control.ruin(offset(&dump["header"]["copies"][copy]));
    }
    control.run(&["client", "add", "carol"]).is(6).says(&["header"]);
    control.run(&["client", "list"]).is(6).says(&["header"]);
    control.look(&["check"]).is(6).says(&["header"]);
    control.look(&["check", "--repair"]).is(6).says(&[
        "cannot be repaired",
        "no copy of the table header",
        "init --force",
    ]);
    assert_eq!(control.look(&["dump", "--json"]).ok().json()["slots"].as_array().map(Vec::len), Some(8));
}

#[test]
fn a_lost_acknowledged_change_stays_lost_until_a_human_accepts_it() {
    let control = two_clients();
    acknowledge(&control, 1, 4001);
    control.run(&["client", "add", "carol"]).is(6).says(&["acknowledged change", "lost"]);
    control.look(&["check"]).is(6).says(&["acknowledged change", "lost"]);
    control.look(&["check", "--repair"]).is(6).says(&["lost", "--accept-loss"]);
    control.look(&["check"]).is(6).says(&["lost"]);
    let _ = control.look(&["check", "--repair", "--accept-loss"]).ok();
    let _ = control.look(&["check"]).ok();
    let _ = control.run(&["client", "add", "carol"]).ok();
    assert_eq!(control.dump()["clients"].as_array().map(Vec::len), Some(3));
}

/// The slots of commands are damaged like any others; the next command waits them out or takes another one.
#[test]
fn damaged_administration_slots_stop_no_command() {
    let control = two_clients();
    let dump = control.dump();
    for slot in 4..8 {
        control.ruin(offset(&dump["slots"][slot]["sectors"][1]));
    }
    let said = control.run(&["client", "add", "carol"]).ok();
    said.says(&["waiting up to"]);
    let _ = control.look(&["check", "--repair"]).ok();
    let said = control.run(&["client", "add", "dave"]).ok();
    assert!(!said.err.contains("4s"), "{}", said.err);
}
