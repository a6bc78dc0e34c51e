//! The report for people.

use std::fmt::Write;
use std::time::Duration;

use super::latency::Tail;
use super::propose::short;
use super::report::{Device, Found, Report, Use};
use crate::units::{format_duration, format_size, round_size};

pub(super) fn words(report: &Report) -> String {
    let mut text = String::new();
    for device in &report.devices {
        if !text.is_empty() {
            text.push('\n');
        }
        one(device, &mut text);
    }
    if !report.set.is_empty() {
        text.push_str("\nall of them together:\n");
        for line in &report.set {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

fn row(text: &mut String, what: &str, value: &str) {
    let _ = writeln!(text, "  {what:<18}{value}");
}

fn one(device: &Device, text: &mut String) {
    let _ = writeln!(text, "{}", device.path);
    if let Some(found) = &device.found {
        facts(found, text);
    }
    if let Some(failure) = &device.failure {
        row(text, "failed", &format!("{}: {}", failure.what, failure.why));
    }
    if let Some(found) = &device.found {
        advice(found, text);
    }
}

fn facts(found: &Found, text: &mut String) {
    for (index, layer) in found.description.layers.iter().enumerate() {
        row(text, if index == 0 { "is" } else { "" }, layer);
    }
    let sectors = match (found.logical_sector, found.physical_block) {
        (Some(logical), Some(physical)) => format!(", sectors of {logical} bytes, written in units of {physical}"),
        _ => String::new(),
    };
    let read_only = if found.read_only { ", read-only" } else { "" };
    row(text, "size", &format!("{}{sectors}{read_only}", round_size(found.size)));
    let atomic = match found.description.atomicity {
        Some(atomic) if atomic.unit_max > 0 => {
            format!("writes of {} to {} bytes stay whole", atomic.unit_min, atomic.unit_max)
        }
        _ => "nothing promises more than a sector".to_owned(),
    };
    row(text, "atomic writes", &atomic);
    let direct = if found.direct_io.works { "works (tried)" } else { found.direct_io.why.as_deref().unwrap_or("no") };
    row(text, "direct I/O", direct);
    let cache = match found.description.write_cache.as_deref() {
        Some("write back") => "write back: volatile, so the kernel flushes it",
        Some("write through") => "write through: none that is volatile",
        Some(other) => other,
        None => "the kernel does not say",
    };
    row(text, "write cache", cache);
    row(text, "holds", &found.contents.text);
    let users = if found.used_by.is_empty() { "nobody on this host".to_owned() } else { found.used_by.join("; ") };
    row(text, "used by", &users);
    let latency = &found.latency;
    for (what, tail) in
        [("reads", &latency.reads), ("writes", &latency.writes), ("stable writes", &latency.stable_writes)]
    {
        match tail {
            Some(tail) => row(text, what, &tail_words(tail)),
            None if what == "reads" => row(text, what, "not measured"),
            None => {}
        }
    }
    if let Some(why) = &latency.not_written {
        row(text, "writes", &format!("not measured: {why}"));
    }
    for note in &latency.notes {
        row(text, "", &format!("({note})"));
    }
    late(found, text);
    row(text, "reservations", &found.reservations.text);
    row(text, "gate", &found.gate);
    row(text, "COMPARE AND WRITE", &found.compare_and_write.text);
}

fn late(found: &Found, text: &mut String) {
    let late = match (found.inflight.ms, &found.inflight.why) {
        (Some(0), _) => "0s: every client asks this very kernel".to_owned(),
        (Some(ms), _) => {
            format!("at most {} after this host was cut off", format_duration(Duration::from_millis(ms)))
        }
        (None, why) => format!("{}, so advisory: {}", found.inflight.bound, why.as_deref().unwrap_or_default()),
    };
    row(text, "late writes", &late);
    for (index, setting) in found.settings.iter().enumerate() {
        let words = format!("{} {} = {} ({})", setting.of, setting.name, setting.value, setting.meaning);
        row(text, if index == 0 { "settings" } else { "" }, &words);
    }
}

fn tail_words(tail: &Tail) -> String {
    let time = |us: u64| short(Duration::from_micros(us));
    format!(
        "median {}, 99 % {}, worst {} ({} of {} bytes)",
        time(tail.median_us),
        time(tail.p99_us),
        time(tail.worst_us),
        tail.count,
        format_size(tail.bytes.into())
    )
}

fn advice(found: &Found, text: &mut String) {
    let good_for = match found.good_for {
        Use::Control => "a control volume, or a new volume",
        Use::Volume => "a volume",
        Use::Already => "what it is",
        Use::Nothing => "nothing as it is",
    };
    row(text, "good for", &format!("{good_for}: {}", found.because));
    if let Some(command) = &found.command {
        row(text, "", command);
    }
    if matches!(found.good_for, Use::Nothing) {
        return;
    }
    if let Some(control) = &found.contents.control {
        let t = &control.timings;
        let [beat, lease, dead] = [t.beat(), t.lease(), t.dead()].map(format_duration);
        row(text, "it has", &format!("lock {}, beat {beat}, lease {lease}, dead {dead}", control.lock.word()));
    }
    let proposal = &found.proposal;
    let t = &proposal.timings;
    for reason in &proposal.reasons {
        let value = match reason.of {
            "lock" => proposal.lock.word().to_owned(),
            "lease" => format_duration(t.lease()),
            "beat" => format_duration(t.beat()),
            "dead" => format_duration(t.dead()),
            _ => format_duration(t.poll()),
        };
        row(text, &format!("{} {value}", reason.of), &reason.why);
    }
}
