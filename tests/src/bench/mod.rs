//! Measurements: each prints a table and leaves JSON rows in `target/bench/NAME.json`. What is compared is measured in one
//! run and interleaved, because the machines are shared; nothing here passes or fails by time.

pub mod change;
mod clock;
pub mod control;
pub mod datapath;
pub mod deny;
pub mod gate;
mod load;
pub mod memory;
mod operator;
pub mod path;
mod peer;
pub mod plot;
mod shape;
mod way;

use std::{
    fmt, fs,
    io::{self, IsTerminal as _},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use serde::Serialize;

/// Says how far a bench has come, on one line that is written over; to a terminal only.
fn progress(done: fmt::Arguments<'_>) {
    const REST_OF_LINE: &str = "\x1b[K";
    if io::stderr().is_terminal() {
        eprint!("\r{done}{REST_OF_LINE}");
    }
}

fn end_progress() {
    if io::stderr().is_terminal() {
        eprintln!();
    }
}

/// A line of a result.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub bench: &'static str,
    pub case: String,
    pub rules: usize,
    pub unit: &'static str,
    pub median: f64,
    pub min: f64,
    pub p99: f64,
    /// Measurements behind it.
    pub n: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<&'static str>,
    /// Ours against the baseline; above 1 is better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
}

/// What a figure is meant to be.
#[derive(Clone, Debug, Serialize)]
pub struct Target {
    pub wanted: String,
    pub limit: f64,
    pub met: bool,
}

impl Target {
    /// The figure shall not exceed this.
    pub fn at_most(figure: f64, limit: f64) -> Self {
        Self { wanted: format!("<= {limit}"), limit, met: figure <= limit }
    }

    /// The figure shall reach this.
    pub fn at_least(figure: f64, limit: f64) -> Self {
        Self { wanted: format!(">= {limit}"), limit, met: figure >= limit }
    }
}

impl Row {
    /// Sums up measurements, of which there is at least one.
    pub fn of(bench: &'static str, case: impl Into<String>, rules: usize, unit: &'static str, samples: &[f64]) -> Self {
        let sorted = Sorted::new(samples);
        Self {
            bench,
            case: case.into(),
            rules,
            unit,
            median: sorted.at(0.5),
            min: sorted.at(0.0),
            p99: sorted.at(0.99),
            n: samples.len(),
            baseline: None,
            ratio: None,
            target: None,
        }
    }

    #[must_use]
    pub fn against(self, baseline: &'static str, ratio: f64) -> Self {
        Self { baseline: Some(baseline), ratio: Some(ratio), ..self }
    }

    #[must_use]
    pub fn wanting(self, target: Target) -> Self {
        Self { target: Some(target), ..self }
    }
}

/// Measurements in order.
pub struct Sorted(Vec<f64>);

impl Sorted {
    pub fn new(samples: &[f64]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        Self(sorted)
    }

    /// The smallest measurement that this share of all does not exceed; 0 where there are none.
    pub fn at(&self, share: f64) -> f64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index, from a share of a length"
        )]
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
    }
}

pub fn median(samples: &[f64]) -> f64 {
    Sorted::new(samples).at(0.5)
}

/// Prints the rows and writes them down.
pub fn publish(name: &str, rows: &[Row]) -> Result<()> {
    println!(
        "\n{:<58} {:>8} {:>6} {:>12} {:>12} {:>12} {:>4}  {:<14} {:>6}  target",
        "case", "rules", "unit", "median", "min", "p99", "n", "baseline", "ratio"
    );
    for row in rows {
        let ratio = row.ratio.map_or(String::new(), |ratio| format!("{ratio:.3}"));
        let target = row
            .target
            .as_ref()
            .map_or(String::new(), |target| format!("{} {}", target.wanted, if target.met { "met" } else { "MISSED" }));
        println!(
            "{:<58} {:>8} {:>6} {:>12.2} {:>12.2} {:>12.2} {:>4}  {:<14} {:>6}  {target}",
            row.case,
            row.rules,
            row.unit,
            row.median,
            row.min,
            row.p99,
            row.n,
            row.baseline.unwrap_or(""),
            ratio,
        );
    }
    let directory = std::env::var_os("NETPOL_BENCH_DIR").map_or_else(|| PathBuf::from("target/bench"), PathBuf::from);
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    let path = directory.join(format!("{name}.json"));
    fs::write(&path, serde_json::to_vec_pretty(rows)?).with_context(|| format!("write {}", path.display()))?;
    println!("\nrows written to {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Sorted;

    #[test]
    fn ranks_are_measurements_that_were_made() {
        let sorted = Sorted::new(&[3.0, 1.0, 2.0, 4.0]);
        assert_eq!((sorted.at(0.0), sorted.at(0.5), sorted.at(0.99)), (1.0, 2.0, 4.0));
    }
}
