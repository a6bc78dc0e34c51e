//! Hand-over, takeover, `exclusive`, holds.

use std::time::Duration;

use ondisk::{AnswerVerdict, Message, ReadersPolicy};
use volctl::engine::{Command, Switches};

use super::Entry;
use crate::run::{Limits, explore};
use crate::studio::Begins::{Away, Fresh, Settled, Unmounted};
use crate::studio::{Budget, Case, Studio};

const ALICE: usize = 0;
const BOB: usize = 1;
const CAROL: usize = 2;

const TWO_WRITE: &str = "two write";
const LATE: &str = "late writes of a dead writer meet the next one";
const OVERLAP: &str = "one reads an exclusive volume while another writes";
const UNPUBLISHED: &str = "one mounts a state that nobody published by that name";
const DELETED: &str = "one reads a snapshot that was deleted";

type TakeOut = fn(&mut Switches);
type Rule = Option<(&'static str, &'static str, TakeOut)>;

fn request() -> Command {
    Command::Request { volume: "footage".into(), message: Message::default(), wait: Some(Duration::from_secs(100)) }
}

fn release() -> Command {
    Command::Release { volume: "footage".into() }
}

fn withdraw() -> Command {
    Command::Withdraw { volume: "footage".into() }
}

fn unmount() -> Command {
    Command::Unmount { volume: "footage".into() }
}

fn mount() -> Command {
    Command::Mount { volume: "footage".into() }
}

fn takeover() -> Command {
    Command::Takeover { volume: "footage".into(), yes_i_know: None }
}

fn no_to_bob() -> Command {
    let client = "bob".into();
    Command::Answer { volume: "footage".into(), client, verdict: AnswerVerdict::No, message: Message::default() }
}

fn entry(model: &'static str, name: &'static str, case: Case, rule: Rule, large: bool) -> Entry {
    let mut setting = format!("{:?}, {:?}", case.readers, case.begins).to_lowercase();
    if case.writer.is_some() {
        setting += ", alice writes";
    }
    if case.gone.is_some() {
        setting += ", then is gone";
    }
    if case.dirty {
        setting += ", left dirty";
    }
    let people: Vec<String> = case
        .people
        .iter()
        .map(|(who, command)| {
            let word = format!("{command:?}");
            let word = word.split([' ', '{']).next().unwrap_or_default().to_lowercase();
            format!("{} runs {word}", ["alice", "bob", "carol"][*who])
        })
        .collect();
    let b = case.budget;
    let counts = [
        (b.jumps, "jumps"),
        (b.kills, "kills"),
        (b.lapses, "lapses"),
        (b.restarts, "restarts"),
        (b.leaves, "log-offs"),
    ];
    let counts = counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}"));
    for word in people.into_iter().chain(counts) {
        setting += &format!(", {word}");
    }
    let take_out = rule.map(|(_, _, take_out)| take_out);
    let run = move |out: bool, limits: Limits| {
        let mut switches = Switches::ALL;
        if let Some(take_out) = take_out.filter(|_| out) {
            take_out(&mut switches);
        }
        explore(Studio::new(case.clone(), switches), limits)
    };
    Entry { model, name, setting, rule: rule.map(|(r, h, _)| (r, h)), large, slow: false, run: Box::new(run) }
}

/// Nobody is there, nothing happens.
fn still(readers: ReadersPolicy) -> Case {
    Case {
        readers,
        begins: [Away; 3],
        people: Vec::new(),
        willing: false,
        keeps_files: None,
        writer: None,
        gone: None,
        dirty: false,
        fine: false,
        budget: Budget::default(),
    }
}

fn exclusive() -> Vec<Entry> {
    let still = || still(ReadersPolicy::Exclusive);
    // Alice asks; carol comes to read at any moment.
    let comes =
        || Case { begins: [Settled, Away, Unmounted], people: vec![(ALICE, request()), (CAROL, mount())], ..still() };
    let there = || Case { begins: [Settled, Settled, Away], people: vec![(ALICE, request())], ..still() };
    let crashed = || Case {
        begins: [Settled, Settled, Away],
        writer: Some(ALICE),
        budget: Budget { kills: 1, restarts: 1, ..Budget::default() },
        ..still()
    };
    // Two come to a volume that its last writer left unpublished.
    let orphaned = || Case { begins: [Away, Fresh, Fresh], dirty: true, ..still() };
    let give_up = || Case { people: vec![(BOB, request()), (BOB, withdraw())], ..orphaned() };
    let died_pending = || Case { people: vec![(BOB, request())], writer: None, ..crashed() };
    let keeps = || Case { keeps_files: Some(BOB), budget: Budget { jumps: 1, ..Budget::default() }, ..there() };
    let one = |name, case, rule| entry("exclusive", name, case, Some(rule), false);
    vec![
        one("d6 pending first", comes(), ("pending_first", OVERLAP, |s| s.pending_first = false)),
        one("d6 announced first", comes(), ("announced_first", OVERLAP, |s| s.announced_first = false)),
        one("d7 second look", comes(), ("second_look", OVERLAP, |s| s.second_look = false)),
        one("d7 pending locks", comes(), ("pending_locks_readers", OVERLAP, |s| s.pending_locks_readers = false)),
        one("d7 waits for gates", there(), ("pending_waits_for_gates", OVERLAP, |s| s.pending_waits_for_gates = false)),
        one("A7 detached is open", keeps(), ("detached_is_open", OVERLAP, |s| s.detached_is_open = false)),
        one(
            "d10 dirty is not shown",
            orphaned(),
            ("dirty_is_not_shown", UNPUBLISHED, |s| s.dirty_is_not_shown = false),
        ),
        one("d10 dirty is set", crashed(), ("dirty_is_set", UNPUBLISHED, |s| s.dirty_is_set = false)),
        one(
            "d10 only a publish clears it",
            give_up(),
            ("dirty_until_published", UNPUBLISHED, |s| s.dirty_until_published = false),
        )
        .slow(),
        one(
            "E10 pending dirties nothing",
            died_pending(),
            ("pending_dirties_nothing", "a volume is dirty that nobody wrote", |s| s.pending_dirties_nothing = false),
        )
        .slow(),
        entry("exclusive", "three clients", Case { begins: [Settled, Settled, Fresh], ..comes() }, None, true),
        entry(
            "exclusive",
            "three clients, a crash",
            Case {
                begins: [Settled, Settled, Unmounted],
                budget: Budget { kills: 1, restarts: 1, jumps: 1, ..Budget::default() },
                ..comes()
            },
            None,
            true,
        ),
    ]
}

fn snapshot() -> Vec<Entry> {
    let still = || still(ReadersPolicy::Snapshot);
    let reads = || Case {
        begins: [Settled, Away, Unmounted],
        people: vec![(CAROL, mount())],
        writer: Some(ALICE),
        budget: Budget { jumps: 1, ..Budget::default() },
        ..still()
    };
    let crash = Budget { jumps: 1, kills: 1, restarts: 1, ..Budget::default() };
    let crashed = || Case { budget: crash, ..reads() };
    let followed = || Case {
        begins: [Settled, Settled, Unmounted],
        people: vec![(BOB, request()), (CAROL, mount())],
        ..crashed()
    };
    let handed = || Case {
        begins: [Settled, Settled, Unmounted],
        people: vec![(ALICE, release()), (BOB, request()), (CAROL, mount())],
        budget: Budget { jumps: 2, ..Budget::default() },
        ..reads()
    };
    let again = || Case { begins: [Away, Fresh, Away], dirty: true, ..still() };
    let one = |name, case, rule| entry("holds", name, case, Some(rule), false);
    vec![
        one("c2 second look", reads(), ("second_look", DELETED, |s| s.second_look = false)),
        one("c2 hold before mount", reads(), ("hold_before_mount", DELETED, |s| s.hold_before_mount = false)),
        one(
            "c2 retired, then a new look",
            reads(),
            ("retired_before_delete", DELETED, |s| s.retired_before_delete = false),
        ),
        one("c8 retired is heeded", reads(), ("retired_is_heeded", DELETED, |s| s.retired_is_heeded = false)),
        entry(
            "holds",
            "E11 writer's page unknown",
            crashed(),
            Some(("unknown_writer_is_waited_for", DELETED, |s| s.unknown_writer_is_waited_for = false)),
            true,
        ),
        one(
            "A12 generations",
            again(),
            ("generation_names_its_grant", "two states are published under one name", |s| {
                s.generation_names_its_grant = false
            }),
        ),
        entry("holds", "a crash before another's request", followed(), None, true),
        entry("holds", "a release to another", handed(), None, true),
        entry(
            "holds",
            "three clients, page and slot apart",
            Case { begins: [Settled, Settled, Unmounted], fine: true, ..reads() },
            None,
            true,
        ),
    ]
}

fn handover() -> Vec<Entry> {
    let still = || still(ReadersPolicy::Live);
    let asked = || Case {
        begins: [Settled, Settled, Away],
        writer: Some(ALICE),
        people: vec![(BOB, request())],
        willing: true,
        ..still()
    };
    let two_ask = || Case {
        begins: [Away, Settled, Settled],
        writer: None,
        people: vec![(BOB, request()), (CAROL, request())],
        ..asked()
    };
    let promised = || Case {
        begins: [Settled; 3],
        writer: Some(ALICE),
        budget: Budget { jumps: 1, ..Budget::default() },
        ..two_ask()
    };
    let refused =
        || Case { willing: false, people: vec![(BOB, request()), (BOB, request()), (ALICE, no_to_bob())], ..asked() };
    // A reader whose files are open is told to end.
    let leaves = || Case {
        begins: [Settled, Away, Away],
        keeps_files: Some(ALICE),
        budget: Budget { leaves: 1, jumps: 1, ..Budget::default() },
        ..still()
    };
    let one = |name, case, rule| entry("hand-over", name, case, Some(rule), false);
    vec![
        one(
            "d5 closed before released",
            asked(),
            ("close_before_release", TWO_WRITE, |s| s.close_before_release = false),
        ),
        one("looks again inside", two_ask(), ("grant_looks_again", TWO_WRITE, |s| s.grant_looks_again = false)).slow(),
        one(
            "B6 promised",
            promised(),
            ("promise_is_kept", "one takes what was promised to another", |s| s.promise_is_kept = false),
        )
        .slow(),
        one(
            "C1 answers by id",
            refused(),
            ("answers_by_id", "an old no answers a new request", |s| s.answers_by_id = false),
        ),
        one(
            "closed before log-off",
            leaves(),
            ("closed_before_log_off", "one logs off with open gates", |s| s.closed_before_log_off = false),
        ),
        entry("hand-over", "two ask one", promised(), None, true),
        entry(
            "hand-over",
            "two ask one, a crash",
            Case { budget: Budget { jumps: 1, kills: 1, restarts: 1, ..Budget::default() }, ..promised() },
            None,
            true,
        ),
    ]
}

fn takeovers() -> Vec<Entry> {
    let still = || still(ReadersPolicy::Live);
    let jumps = |n: u8| Budget { jumps: n, ..Budget::default() };
    let dies = || Case {
        begins: [Settled, Settled, Away],
        writer: Some(ALICE),
        gone: Some((ALICE, true)),
        people: vec![(BOB, request())],
        budget: jumps(3),
        ..still()
    };
    let elsewhere = || Case { gone: Some((ALICE, false)), budget: Budget { restarts: 1, ..jumps(2) }, ..dies() };
    let returns = || Case { people: Vec::new(), budget: Budget { restarts: 1, ..jumps(1) }, ..dies() };
    let robbed = || Case { people: vec![(BOB, takeover())], gone: None, budget: jumps(0), ..dies() };
    let hangs = || Case { budget: jumps(3), ..robbed() };
    let just_granted =
        || Case { writer: None, people: vec![(ALICE, unmount()), (ALICE, request()), (BOB, takeover())], ..robbed() };
    let anywhere = || Case { gone: None, budget: Budget { kills: 1, ..jumps(3) }, ..dies() };
    let two_ask = || Case {
        begins: [Settled; 3],
        people: vec![(BOB, request()), (CAROL, request())],
        budget: Budget { restarts: 1, ..jumps(3) },
        ..dies()
    };
    let one = |name, case, rule| entry("takeover", name, case, Some(rule), false);
    vec![
        one(
            "A2 newer login",
            elsewhere(),
            ("newer_login_proves_nothing", LATE, |s| s.newer_login_proves_nothing = false),
        )
        .slow(),
        one("E1 second way", elsewhere(), ("second_way_keeps_grants", LATE, |s| s.second_way_keeps_grants = false))
            .slow(),
        one(
            "A10 reaping clears no grant",
            dies(),
            ("reaping_clears_no_grant", LATE, |s| s.reaping_clears_no_grant = false),
        ),
        one("A10 inflight is waited", dies(), ("inflight_is_waited", LATE, |s| s.inflight_is_waited = false)),
        one(
            "E2 inflight from the own read",
            dies(),
            ("inflight_from_own_read", LATE, |s| s.inflight_from_own_read = false),
        ),
        one(
            "A1 reaped as judged",
            returns(),
            ("reaped_as_judged", "one is reaped that lives", |s| s.reaped_as_judged = false),
        ),
        one("A9 revocation waits", robbed(), ("revocation_waits", TWO_WRITE, |s| s.revocation_waits = false)),
        one(
            "E3a closed names its grant",
            just_granted(),
            ("closed_names_its_grant", TWO_WRITE, |s| s.closed_names_its_grant = false),
        ),
        one(
            "E3b inflight after dead",
            hangs(),
            ("revocation_waits_inflight", LATE, |s| s.revocation_waits_inflight = false),
        )
        .slow(),
        entry("takeover", "a crash at any moment", anywhere(), None, true),
        entry("takeover", "a crash, two ask", two_ask(), None, true),
    ]
}

/// All of them.
pub(super) fn all() -> Vec<Entry> {
    let mut all = exclusive();
    all.extend(snapshot());
    all.extend(handover());
    all.extend(takeovers());
    all
}
