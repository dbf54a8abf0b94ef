//! What was measured: for people, for programs.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::contest::{Lane, ratio};
use crate::plot::svg;
use crate::size::Size;

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// What there was, in words.
    pub what: String,
    /// The sides; ours is the first.
    pub lanes: Vec<Lane>,
    /// What was asked of them.
    pub checks: Vec<Check>,
    /// The machine's load in the last minute, when it was done.
    pub load: f64,
}

/// A number and what it should be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What it is.
    pub what: String,
    /// The number.
    pub is: f64,
    /// What it should be; nothing is asked of what is only told.
    pub target: Option<Target>,
}

/// What a number should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "their names say it")]
pub enum Target {
    AtMost(f64),
    AtLeast(f64),
}

impl Check {
    /// True if it is as it should be.
    pub fn is_met(&self) -> bool {
        match self.target {
            Some(Target::AtMost(most)) => self.is <= most,
            Some(Target::AtLeast(least)) => self.is >= least,
            None => true,
        }
    }
}

impl Row {
    /// A row without checks.
    pub fn new(name: &str, what: String, lanes: Vec<Lane>) -> Self {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split_whitespace().next().and_then(|load| load.parse().ok()).unwrap_or(0.0);
        Self { name: name.to_owned(), what, lanes, checks: Vec::new(), load }
    }

    fn lane(&self, name: &str) -> Result<&Lane> {
        self.lanes.iter().find(|lane| lane.name == name).with_context(|| format!("{}: no side {name}", self.name))
    }

    /// Asks that `a` takes at most so many times as long as `b`.
    ///
    /// # Errors
    /// If there is no such side.
    pub fn at_most(mut self, a: &str, most: f64, b: &str) -> Result<Self> {
        let is = ratio(self.lane(a)?, self.lane(b)?);
        self.checks.push(Check { what: format!("{a} ÷ {b}"), is, target: Some(Target::AtMost(most)) });
        Ok(self)
    }

    /// Asks that `a` is at least so many times as fast as `b`.
    ///
    /// # Errors
    /// If there is no such side.
    pub fn faster(mut self, a: &str, least: f64, b: &str) -> Result<Self> {
        let is = ratio(self.lane(b)?, self.lane(a)?);
        self.checks.push(Check { what: format!("{b} ÷ {a}"), is, target: Some(Target::AtLeast(least)) });
        Ok(self)
    }

    /// Asks that a number is at most this.
    #[must_use]
    pub fn number(mut self, what: &str, is: f64, target: Option<Target>) -> Self {
        self.checks.push(Check { what: what.to_owned(), is, target });
        self
    }

    /// Makes sure that these sides saw, or removed, as many resources as ours.
    ///
    /// # Errors
    /// If they did not.
    pub fn agree(self, sides: &[&str]) -> Result<Self> {
        let ours = self.lanes.first().context("a row without sides")?;
        ensure!(ours.resources + ours.courses > 0, "{}: there was nothing to see", self.name);
        for side in sides {
            let theirs = self.lane(side)?;
            let agrees =
                theirs.resources == ours.resources || (theirs.resources == 0 && theirs.courses == ours.courses);
            ensure!(agrees, "{}: {ours:?} is not {theirs:?}", self.name);
        }
        Ok(self)
    }
}

/// Writes what was measured at a size into its files, `SIZE.json` and `SIZE.svg`; rows that are there already stay.
///
/// # Errors
/// If they cannot be read or written.
pub fn keep(folder: &Path, size: Size, row: Row) -> Result<()> {
    let name = format!("{size:?}").to_lowercase();
    let path = folder.join(format!("{name}.json"));
    std::fs::create_dir_all(folder)?;
    let mut rows: Vec<Row> = match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).with_context(|| format!("{}: remove it", path.display()))?,
        Err(_) => Vec::new(),
    };
    match rows.iter_mut().find(|other| other.name == row.name) {
        Some(other) => *other = row,
        None => rows.push(row),
    }
    std::fs::write(&path, serde_json::to_string_pretty(&rows)?)?;
    std::fs::write(folder.join(format!("{name}.svg")), svg(&format!("course-gc, size {name}"), &rows))?;
    Ok(())
}

/// A row as Markdown: its sides, and what was asked of them.
pub fn table(row: &Row) -> String {
    let mut text = format!("\n### {}: {}\n\n", row.name, row.what);
    text.push_str(
        "| side | median | each round | rested | own CPU | servers' CPU | memory |\n| --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for lane in &row.lanes {
        let rounds: Vec<String> = lane.seconds.iter().map(|seconds| time(*seconds)).collect();
        let part =
            if lane.part == 1.0 { String::new() } else { format!(" (1/{:.0} of it, times that)", 1.0 / lane.part) };
        let memory = match lane.peak_bytes {
            0 => String::new(),
            bytes => format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20)),
        };
        let rested = if lane.rested > 0.0 { time(lane.rested) } else { String::new() };
        let (own, servers) = (time(lane.own_cpu), time(lane.server_cpu));
        let _ = writeln!(
            text,
            "| {}{part} | {} | {} | {rested} | {own} | {servers} | {memory} |",
            lane.name,
            time(lane.median()),
            rounds.join(", ")
        );
    }
    text.push('\n');
    for check in &row.checks {
        let target = match check.target {
            Some(Target::AtMost(most)) => format!(", target ≤ {most}"),
            Some(Target::AtLeast(least)) => format!(", target ≥ {least}"),
            None => String::new(),
        };
        let missed = if check.is_met() { "" } else { ": MISSED" };
        let _ = writeln!(text, "- {} = {:.2}{target}{missed}", check.what, check.is);
    }
    let _ = writeln!(text, "- load of the machine: {}", row.load);
    text
}

fn time(seconds: f64) -> String {
    match seconds {
        seconds if seconds >= 100.0 => format!("{seconds:.0} s"),
        seconds if seconds >= 1.0 => format!("{seconds:.2} s"),
        seconds if seconds >= 0.001 => format!("{:.1} ms", seconds * 1e3),
        seconds => format!("{:.0} µs", seconds * 1e6),
    }
}
