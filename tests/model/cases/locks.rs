//! The semaphore, the lease, the log-on and the commit.

use lockdriver::rules::Rules;
use lockdriver::transaction;

use super::Entry;
use crate::bakery::{Bakeries, Budget};
use crate::claim::Claims;
use crate::commit::{Commits, Fault, Wish};
use crate::lease::Leases;
use crate::run::{Limits, explore};

const TWO_INSIDE: &str = "two are inside";
const NO_GROWTH: &str = "an epoch does not grow";
const DAMAGED: &str = "the tables are damaged";
const LOST: &str = "an acknowledged commit is lost, or the tables never were so";

type TakeOut = fn(&mut Rules);
type TakeOutOfCommit = fn(&mut transaction::Rules);

fn rules(out: bool, take_out: Option<TakeOut>) -> Rules {
    let mut rules = Rules::ALL;
    if let Some(take_out) = take_out.filter(|_| out) {
        take_out(&mut rules);
    }
    rules
}

/// A case of the bakery, with its rule.
fn bakery(
    name: &'static str,
    clients: usize,
    budget: Budget,
    rule: Option<(&'static str, &'static str, TakeOut)>,
    large: bool,
) -> Entry {
    let b = budget;
    let mut setting = format!("{clients} clients, {} round(s)", b.rounds);
    let counts = [
        (b.lapses, "lapses"),
        (b.kills, "kills"),
        (b.restarts, "restarts"),
        (b.late, "late writes"),
        (b.bad_reads, "bad sectors"),
        (b.robbed, "living reaped"),
    ];
    for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
        setting += &format!(", {count} {what}");
    }
    let take_out = rule.map(|(_, _, take_out)| take_out);
    let run = move |out: bool, limits: Limits| explore(Bakeries::new(clients, budget, rules(out, take_out)), limits);
    Entry { model: "bakery", name, setting, rule: rule.map(|(r, h, _)| (r, h)), large, slow: false, run: Box::new(run) }
}

fn bakeries() -> Vec<Entry> {
    let peace = Budget::PEACE;
    vec![
        bakery(
            "A3 tickets kept",
            2,
            Budget { rounds: 2, ..peace },
            Some(("keep_tickets", NO_GROWTH, |r| r.keep_tickets = false)),
            false,
        ),
        bakery("A3 own numbers", 2, peace, Some(("own_residue", NO_GROWTH, |r| r.own_residue = false)), false),
        bakery(
            "Lamport choosing",
            2,
            peace,
            Some(("wait_for_choosing", TWO_INSIDE, |r| r.wait_for_choosing = false)),
            false,
        ),
        bakery(
            "A3 killed before its commit",
            2,
            Budget { kills: 1, restarts: 1, ..peace },
            Some(("keep_tickets", NO_GROWTH, |r| r.keep_tickets = false)),
            false,
        ),
        bakery(
            "A5 late own write",
            2,
            Budget { late: 1, ..peace },
            Some(("doubt_unknown_writes", TWO_INSIDE, |r| r.doubt_unknown_writes = false)),
            false,
        ),
        bakery(
            "A9 reaped waiter",
            3,
            Budget { robbed: 1, ..peace },
            Some(("entry_check", TWO_INSIDE, |r| r.entry_check = false)),
            false,
        ),
        bakery(
            "C14 judged by this reading",
            2,
            Budget { kills: 1, restarts: 1, ..peace },
            Some(("judge_this_poll", TWO_INSIDE, |r| r.judge_this_poll = false)),
            false,
        ),
        bakery(
            "n1 bad sector in step 2",
            2,
            Budget { bad_reads: 1, ..peace },
            Some(("unknown_stops_draw", TWO_INSIDE, |r| r.unknown_stops_draw = false)),
            false,
        ),
        bakery(
            "n2 bad sector in step 4",
            2,
            Budget { bad_reads: 1, ..peace },
            Some(("unknown_stops_entry", TWO_INSIDE, |r| r.unknown_stops_entry = false)),
            false,
        ),
        bakery(
            "n3 same sector",
            2,
            Budget { lapses: 1, kills: 1, restarts: 2, late: 1, ..peace },
            Some(("first_way_same_sector", TWO_INSIDE, |r| r.first_way_same_sector = false)),
            true,
        ),
        bakery(
            "killed in doubt",
            2,
            Budget { kills: 1, restarts: 1, late: 1, ..peace },
            Some(("first_way_settles", TWO_INSIDE, |r| r.first_way_settles = false)),
            false,
        ),
        bakery("peace", 3, peace, None, true),
        bakery("lapses and restarts", 3, Budget { lapses: 1, restarts: 1, ..peace }, None, true),
        bakery("kills and restarts", 3, Budget { kills: 1, restarts: 1, ..peace }, None, true),
        bakery("one late write", 3, Budget { lapses: 1, late: 1, ..peace }, None, true),
        bakery("a lapse, a late write", 3, Budget { lapses: 1, restarts: 1, late: 1, ..peace }, None, true),
        bakery("a kill, a late write", 3, Budget { kills: 1, restarts: 1, late: 1, ..peace }, None, true),
        bakery("two lapses", 3, Budget { lapses: 2, restarts: 2, ..peace }, None, true),
        bakery("three of two rounds", 3, Budget { rounds: 2, ..peace }, None, true),
        bakery("a bad sector", 3, Budget { bad_reads: 1, ..peace }, None, true),
        bakery("two rounds", 2, Budget { rounds: 2, lapses: 1, restarts: 1, late: 1, ..peace }, None, true),
    ]
}

fn lease(
    name: &'static str,
    (length, dead, horizon): (u64, u64, u64),
    rule: Option<(&'static str, &'static str, TakeOut)>,
    large: bool,
) -> Entry {
    let take_out = rule.map(|(_, _, take_out)| take_out);
    let run =
        move |out: bool, limits: Limits| explore(Leases::new(length, dead, horizon, rules(out, take_out)), limits);
    let setting = format!("lease {length} s, dead {dead} s, {horizon} s of any delays");
    Entry { model: "lease", name, setting, rule: rule.map(|(r, h, _)| (r, h)), large, slow: false, run: Box::new(run) }
}

fn leases() -> Vec<Entry> {
    const ALIVE: &str = "one is judged dead that may still act";
    let over = ("lease_stays_over", ALIVE, (|r: &mut Rules| r.lease_stays_over = false) as TakeOut);
    let end = ("still_from_read_end", ALIVE, (|r: &mut Rules| r.still_from_read_end = false) as TakeOut);
    vec![
        lease("A1 a lease that is over", (2, 3, 3), Some(over), false).slow(),
        lease("A1 from the end of the read", (2, 3, 3), Some(end), false).slow(),
        lease("against dead", (2, 3, 5), None, true),
    ]
}

fn claim(
    name: &'static str,
    hosts: &'static [u8],
    cleanly: bool,
    times: (u64, u64, u64),
    rule: Option<(&'static str, &'static str, TakeOut)>,
    large: bool,
) -> Entry {
    let take_out = rule.map(|(_, _, take_out)| take_out);
    let run =
        move |out: bool, limits: Limits| explore(Claims::new(hosts, cleanly, times, rules(out, take_out)), limits);
    let left = if cleanly { "left in order" } else { "left by a crash" };
    let setting = format!(
        "{} daemons on hosts {hosts:?}, slot {left} by host 1, lease {} s, dead {} s, {} s",
        hosts.len(),
        times.0,
        times.1,
        times.2
    );
    Entry { model: "claim", name, setting, rule: rule.map(|(r, h, _)| (r, h)), large, slow: false, run: Box::new(run) }
}

fn claims() -> Vec<Entry> {
    const HIDDEN: &str = "the slot of one that acts is hidden";
    let short = (4, 6, 8);
    let other = ("second_way_other_sector", HIDDEN, (|r: &mut Rules| r.second_way_other_sector = false) as TakeOut);
    let wait = ("claim_waits_margin", HIDDEN, (|r: &mut Rules| r.claim_waits_margin = false) as TakeOut);
    vec![
        claim("A6 wait", &[2, 3], true, short, Some(wait), false).slow(),
        claim("A6 other sector", &[1, 2], true, short, Some(other), true),
        claim("after a crash", &[1, 2], false, (4, 6, 14), None, true),
        claim("long times", &[2, 3], true, (8, 12, 14), Some(wait), true),
        claim("after a crash, elsewhere", &[2, 3], false, (4, 6, 14), None, true),
        claim("three at once", &[1, 2, 3], true, short, None, true),
    ]
}

fn commit(
    name: &'static str,
    holders: &'static [Wish],
    fault: Fault,
    reader: bool,
    rule: Option<(&'static str, &'static str, TakeOutOfCommit)>,
    large: bool,
) -> Entry {
    let take_out = rule.map(|(_, _, take_out)| take_out);
    let run = move |out: bool, limits: Limits| {
        let mut rules = transaction::Rules::default();
        if let Some(take_out) = take_out.filter(|_| out) {
            take_out(&mut rules);
        }
        explore(Commits::new(holders, fault, reader, rules), limits)
    };
    let fault = match fault {
        Fault::None => "crashes",
        Fault::Torn => "crashes, one torn write",
        Fault::Late => "crashes, one late write",
        Fault::Lost => "crashes, one lost block",
    };
    let reader = if reader { ", a reader without the semaphore" } else { "" };
    let setting = format!("holders {holders:?}, {fault}{reader}");
    Entry { model: "commit", name, setting, rule: rule.map(|(r, h, _)| (r, h)), large, slow: false, run: Box::new(run) }
}

fn commits() -> Vec<Entry> {
    use Wish::{Both, Reap, Twice, X};
    vec![
        commit(
            "b3c",
            &[X, X],
            Fault::Lost,
            false,
            Some(("each_version_twice", DAMAGED, |r| r.each_version_twice = false)),
            false,
        ),
        commit("b4c", &[X, X], Fault::Late, false, Some(("renew_header", DAMAGED, |r| r.renew_header = false)), false),
        commit("q7", &[X, X], Fault::Late, false, Some(("both_headers", LOST, |r| r.both_headers = false)), false),
        commit("q7b", &[X], Fault::Lost, false, Some(("both_headers", LOST, |r| r.both_headers = false)), false),
        commit("b8", &[Twice], Fault::None, false, Some(("own_number", DAMAGED, |r| r.own_number = false)), false),
        commit("q9", &[X, X], Fault::Lost, false, Some(("finish_found", DAMAGED, |r| r.finish_found = false)), false),
        commit("crashes", &[Both, Twice, X], Fault::None, true, None, true),
        commit("torn", &[Both, Twice, X], Fault::Torn, true, None, true),
        commit("late", &[Both, Reap, X], Fault::Late, true, None, true),
        commit("late, twice", &[X, Twice, X], Fault::Late, true, None, true),
        commit("lost", &[Both, Twice, X], Fault::Lost, false, None, true),
    ]
}

/// All of them.
pub(super) fn all() -> Vec<Entry> {
    let mut all = bakeries();
    all.extend(leases());
    all.extend(claims());
    all.extend(commits());
    all
}
