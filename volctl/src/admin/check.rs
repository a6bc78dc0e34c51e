//! `volctl check`: verifies a whole control volume, and restores its redundancy with --repair (sections 4, 9 and 11).

use std::sync::Arc;
use std::time::Duration;

use lockdriver::check::{BlockId, Finding, Report, Severity, Wrong, check};
use lockdriver::device::{Access, DirectDevice};
use ondisk::Timings;
use serde::Serialize;

use crate::cli::args::CheckArgs;
use crate::cli::output::Ui;
use crate::control::admin_login;
use crate::control::maintain::Stillness;
use crate::control::open::{ControlVolume, open_device};
use crate::control::source::Source;
use crate::units::format_duration;
use crate::wire::outcome::{ExitCode, Failure};

/// A finding that clients which live are making and mending is looked at so often.
const LOOKS: usize = 4;
/// No write of a living client is seen half-done for longer.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What is printed.
#[derive(Debug, Serialize)]
struct Checked {
    control: String,
    clean: bool,
    findings: Vec<Finding>,
    /// What --repair wrote again, in words.
    repaired: Vec<String>,
}

/// Runs `volctl check`.
///
/// # Errors
/// Damage (6) when something is wrong that is not only an unfinished transaction, after everything is printed.
pub fn run(args: &CheckArgs, ui: &mut Ui) -> Result<(), Failure> {
    if let Err(failure) = ControlVolume::open(&args.control, Access::Read)
        && failure.exit != ExitCode::Damaged
    {
        return Err(failure);
    }
    let device = Arc::new(open_device(&args.control, Access::Read)?);
    let mut report = settled(&device);
    let mut repaired = Vec::new();
    if args.repair && !report.clean {
        repaired = repair(args, &report, ui)?;
        report = settled(&device);
    }
    let outcome = outcome(args, &report);
    let checked = Checked {
        control: args.control.display().to_string(),
        clean: outcome.is_ok(),
        findings: report.findings.clone(),
        repaired,
    };
    ui.show(&checked, |checked| words(checked, &report));
    outcome
}

/// A check whose findings stand: what living clients write is seen half-done for an instant, so that a finding counts
/// only when it is there a beat later too.
fn settled(device: &Arc<DirectDevice>) -> Report {
    let mut report = check(&Source(&**device));
    for _ in 1..LOOKS {
        if report.findings.is_empty() || report.is_quiet() {
            break;
        }
        std::thread::sleep(pause(report.superblock().map(|s| s.timings)));
        let mut again = check(&Source(&**device));
        let all = again.findings.len();
        again.findings.retain(|f| report.findings.contains(f));
        let stands = again.findings.len() == all;
        again.clean = again.findings.is_empty();
        report = again;
        if stands {
            break;
        }
    }
    report
}

/// A beat, and a little more; but a volume that says its beats are hours apart does not hold a person up for hours.
fn pause(timings: Option<Timings>) -> Duration {
    timings.unwrap_or_default().beat().min(PAUSE_MAX) + Duration::from_millis(20)
}

fn outcome(args: &CheckArgs, report: &Report) -> Result<(), Failure> {
    let grave: Vec<&Finding> = report.findings.iter().filter(|f| f.severity > Severity::Note).collect();
    let Some(worst) = grave.iter().max_by_key(|f| f.severity) else { return Ok(()) };
    let control = args.control.display();
    let next = match worst.severity {
        Severity::Lost if args.repair && !args.accept_loss => {
            format!("restore a backup, or go on from what is left: `volctl check {control} --repair --accept-loss`")
        }
        _ if args.repair => {
            "clients that live mend their own blocks; what stays has no other copy: see `volctl dump`".to_owned()
        }
        _ => format!("restore what has another copy: `volctl check {control} --repair`"),
    };
    let what = match worst.severity {
        Severity::Lost => format!("an acknowledged change of {control} is lost"),
        Severity::Damage => format!("{control} is damaged"),
        _ => format!("{control} has lost redundancy"),
    };
    let count = match grave.len() {
        1 => String::new(),
        n => format!(" (and {} more)", n - 1),
    };
    Err(Failure::damaged(what, format!("{worst}{count}"), next))
}

fn words(checked: &Checked, report: &Report) -> String {
    let mut text = String::new();
    for line in &checked.repaired {
        text.push_str(&format!("repaired: {line}\n"));
    }
    for finding in &checked.findings {
        let severity = match finding.severity {
            Severity::Note => "note",
            Severity::Redundancy => "redundancy",
            Severity::Damage => "damage",
            Severity::Lost => "lost",
        };
        text.push_str(&format!("{severity}: {finding}\n"));
    }
    if let (true, Some(tables)) = (checked.clean, &report.tables) {
        let (clients, volumes) = tables.counts();
        let commit = tables.header.commit;
        text.push_str(&format!("{}: clean; {clients} clients, {volumes} volumes, commit {commit}\n", checked.control));
    }
    text
}

/// Logs on, and writes again under the semaphore what another copy still has. Returns what was written, in words.
fn repair(args: &CheckArgs, report: &Report, ui: &mut Ui) -> Result<Vec<String>, Failure> {
    refuse_hopeless(args, report)?;
    let mut notes = |line: &str| ui.remark(line);
    admin_login::run_damaged(&args.control, &mut notes, |login, notes| {
        let session = &login.session;
        let others = |f: &Finding| matches!(f.block, BlockId::Slot(..) | BlockId::Page(..));
        let mut still = Stillness::default();
        if report.findings.iter().any(others) {
            let dead = format_duration(session.volume.superblock.timings.dead());
            notes(&format!("watching the slots for {dead}: what a living client writes is left to it"));
            still = session.watch_still()?;
        }
        let (found, plan) = session.repair(still, args.accept_loss)?;
        let mended = |finding: &&Finding| plan.writes.iter().any(|w| w.block == finding.block);
        let mut lines: Vec<String> = found.findings.iter().filter(mended).map(ToString::to_string).collect();
        if let Some(commit) = plan.commit {
            lines.push(format!("the table header was written anew as commit {commit}"));
        }
        Ok(lines)
    })
}

/// Without a header nobody can log on: its numbers are what keeps two clients from writing at once.
fn refuse_hopeless(args: &CheckArgs, report: &Report) -> Result<(), Failure> {
    let what = format!("{} cannot be repaired", args.control.display());
    let next = "`volctl dump` shows what is left; `volctl init --force` makes new tables";
    if report.geometry().is_none() {
        let why = report.findings.first().map_or_else(String::new, ToString::to_string);
        return Err(Failure::damaged(what, format!("no superblock can be used: {why}"), next));
    }
    let header = report.findings.iter().filter(|f| matches!(f.block, BlockId::Header(_)));
    let gone = header.clone().filter(|f| f.severity == Severity::Damage && !matches!(f.wrong, Wrong::Rule(_)));
    match gone.map(ToString::to_string).next() {
        Some(why) => Err(Failure::damaged(what, format!("no copy of the table header can be used: {why}"), next)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The longest beat that the rules for timings let pass is above 5 hours; with a slot that cannot be read, `check` waited for
    /// three of them.
    #[test]
    fn a_volume_with_hours_between_beats_is_checked_in_seconds() {
        let day = 24 * 3600 * 1000;
        let hostile = Timings { beat_ms: day / 5, lease_ms: day / 5 * 4, dead_ms: day, poll_ms: 1 };
        assert_eq!(hostile.broken_rule(), None);
        assert!(pause(Some(hostile)) < Duration::from_secs(6));
        assert!(pause(None) > Timings::default().beat());
    }
}
