//! Figures, their targets, and how they are printed.

use std::time::Duration;

use serde::Serialize;

use crate::cli::output::table;

/// What a figure is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Unit {
    /// Milliseconds.
    Ms,
    /// A number of things.
    Count,
    /// Bytes.
    Bytes,
    /// MiB.
    Mib,
    /// Percent of one core.
    Percent,
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figure {
    /// What was measured.
    pub what: String,
    /// How much it is.
    pub measured: f64,
    /// In what.
    pub unit: Unit,
    /// It should be at most this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<f64>,
    /// Whether it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pass: Option<bool>,
}

/// The figures of one measurement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figures {
    /// Its name.
    pub bench: &'static str,
    /// In the order in which they were measured.
    pub figures: Vec<Figure>,
}

impl Figures {
    pub(super) fn new(bench: &'static str) -> Self {
        Self { bench, figures: Vec::new() }
    }

    /// A figure without a target.
    pub(super) fn add(&mut self, what: impl Into<String>, measured: f64, unit: Unit) {
        self.figures.push(Figure { what: what.into(), measured, unit, target: None, pass: None });
    }

    /// A figure that should be at most `target`.
    pub(super) fn at_most(&mut self, what: impl Into<String>, measured: f64, unit: Unit, target: f64) {
        let pass = Some(measured <= target);
        self.figures.push(Figure { what: what.into(), measured, unit, target: Some(target), pass });
    }

    /// Median, 99th percentile and worst of a time; the median has the target, if there is one.
    pub(super) fn times(&mut self, what: &str, times: &[Duration], target: Option<Duration>) {
        let spread = Spread::of(times);
        let median = format!("{what}, median of {}", times.len());
        match target {
            Some(target) => self.at_most(median, ms(spread.median), Unit::Ms, ms(target)),
            None => self.add(median, ms(spread.median), Unit::Ms),
        }
        if times.len() >= 100 {
            self.add(format!("{what}, 99 of 100 within"), ms(spread.p99), Unit::Ms);
        }
        self.add(format!("{what}, slowest"), ms(spread.slowest), Unit::Ms);
    }

    /// As columns.
    pub(super) fn text(&self) -> String {
        let mut rows = vec![[self.bench.to_uppercase().as_str(), "MEASURED", "TARGET", ""].map(str::to_owned).to_vec()];
        rows.extend(self.figures.iter().map(|figure| {
            let target = figure.target.map_or_else(|| "-".to_owned(), |t| format!("<= {}", words(t, figure.unit)));
            let verdict = figure.pass.map_or("", |pass| if pass { "pass" } else { "OVER" });
            vec![figure.what.clone(), words(figure.measured, figure.unit), target, verdict.to_owned()]
        }));
        table(&rows) + "\n"
    }
}

fn words(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Ms if value < 10.0 => format!("{value:.2} ms"),
        Unit::Ms => format!("{value:.0} ms"),
        Unit::Count => format!("{value:.0}"),
        Unit::Bytes => format!("{value:.0} bytes"),
        Unit::Mib => format!("{value:.1} MiB"),
        Unit::Percent => format!("{value:.2} %"),
    }
}

/// Milliseconds with their fraction.
pub(super) fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// How a measured time is spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spread {
    pub median: Duration,
    pub p99: Duration,
    pub slowest: Duration,
}

impl Spread {
    /// Of at least one time; of none, zeroes.
    pub(super) fn of(times: &[Duration]) -> Self {
        let mut sorted = times.to_vec();
        sorted.sort_unstable();
        let at = |hundredth: usize| {
            let index = (sorted.len() * hundredth).div_ceil(100).saturating_sub(1);
            sorted.get(index).copied().unwrap_or_default()
        };
        Self { median: at(50), p99: at(99), slowest: at(100) }
    }
}

/// The middle one of some counts.
pub(super) fn median(counts: &[u64]) -> f64 {
    let mut sorted = counts.to_vec();
    sorted.sort_unstable();
    // A count of reads or bytes is far below the 52 bits that a float keeps.
    sorted.get(sorted.len().saturating_sub(1) / 2).map_or(0.0, |c| u32::try_from(*c).map_or(f64::MAX, f64::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_names_times_that_were_measured() {
        let times: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        let spread = Spread::of(&times);
        let [median, p99, slowest] = [100, 198, 200].map(Duration::from_millis);
        assert_eq!(spread, Spread { median, p99, slowest });
        assert_eq!(Spread::of(&[slowest]), Spread { median: slowest, p99: slowest, slowest });
        assert_eq!(super::median(&[9, 3, 4]).to_bits(), 4.0_f64.to_bits());
    }

    #[test]
    fn a_figure_over_its_target_says_so() {
        let mut figures = Figures::new("lock");
        figures.at_most("writes", 4.0, Unit::Count, 3.0);
        figures.at_most("reads", 3.0, Unit::Count, 3.0);
        figures.add("bytes", 5.0, Unit::Bytes);
        let text = figures.text();
        let ends: Vec<bool> = text.lines().map(|line| line.ends_with("OVER")).collect();
        assert_eq!(ends, [false, true, false, false, false]);
        assert_eq!(text.matches("pass").count(), 1);
    }
}
