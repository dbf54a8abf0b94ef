//! Sides that do the same, one after the other, several times.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use futures::future::LocalBoxFuture;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::proc;
use crate::task::Task;

/// What a side came to, once.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Timed {
    /// How long it took.
    pub seconds: f64,
    /// How many courses it saw, or took the resources of; 0 if it does not tell.
    pub courses: u64,
    /// How many resources it saw, or removed; 0 if it does not tell.
    pub resources: u64,
    /// The most memory that its process ever had in RAM; 0 if nobody looked.
    pub peak_bytes: u64,
    /// What the calls of a load took, in seconds; 0 of anything else.
    pub half_within: f64,
    /// The same of all calls but one of a hundred.
    pub most_within: f64,
    /// How long it was kind: what its calls rested for their servers' sake, added up; in seconds.
    pub rested: f64,
}

/// What a side came to, round by round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lane {
    /// The side's name.
    pub name: String,
    /// How long it took, each time.
    pub seconds: Vec<f64>,
    /// If not 1: it did only this part of the work, and its times were divided by it.
    pub part: f64,
    /// Processor seconds of its own process, median.
    pub own_cpu: f64,
    /// Processor seconds of the servers, median.
    pub server_cpu: f64,
    /// See [`Timed`]; median.
    #[serde(default)]
    pub rested: f64,
    /// See [`Timed`]; the most of all rounds.
    pub peak_bytes: u64,
    /// See [`Timed`].
    pub courses: u64,
    /// See [`Timed`].
    pub resources: u64,
}

impl Lane {
    /// The median of the times.
    pub fn median(&self) -> f64 {
        median(&self.seconds)
    }
}

/// The middle one of some numbers; 0 of none.
pub fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.len() % 2, sorted.get(middle)) {
        (0, Some(upper)) => sorted.get(middle.wrapping_sub(1)).map_or(*upper, |lower| (lower + upper) / 2.0),
        (_, upper) => upper.copied().unwrap_or(0.0),
    }
}

/// How many times as long `a` took as `b`: the median over the rounds, in each of which both went; where one of them went less
/// often, of the medians.
pub fn ratio(a: &Lane, b: &Lane) -> f64 {
    if a.seconds.len() != b.seconds.len() {
        return a.median() / b.median();
    }
    median(&a.seconds.iter().zip(&b.seconds).map(|(a, b)| a / b).collect::<Vec<_>>())
}

type Go<'a> = Box<dyn Fn(u32) -> LocalBoxFuture<'a, Result<Timed>> + 'a>;

type Prepare<'a> = Box<dyn Fn(u32) -> LocalBoxFuture<'a, Result<()>> + 'a>;

struct Side<'a> {
    name: &'static str,
    prepare: Option<Prepare<'a>>,
    go: Go<'a>,
    /// In how many rounds it takes part.
    rounds: u32,
    part: f64,
}

/// Sides, and the servers that they burden.
pub struct Contest<'a> {
    rounds: u32,
    servers: Vec<i32>,
    sides: Vec<Side<'a>>,
}

impl<'a> Contest<'a> {
    /// A contest over servers, by their process ids.
    pub fn new(rounds: u32, servers: Vec<i32>) -> Self {
        Self { rounds, servers, sides: Vec::new() }
    }

    /// Enters a side, which is told the round.
    pub fn enter(mut self, name: &'static str, go: impl Fn(u32) -> LocalBoxFuture<'a, Result<Timed>> + 'a) -> Self {
        let rounds = self.rounds;
        self.sides.push(Side { name, prepare: None, go: Box::new(go), rounds, part: 1.0 });
        self
    }

    /// What has to be done each time before the side that was entered last goes, and does not count.
    pub fn prepared(mut self, prepare: impl Fn(u32) -> LocalBoxFuture<'a, Result<()>> + 'a) -> Self {
        if let Some(side) = self.sides.last_mut() {
            side.prepare = Some(Box::new(prepare));
        }
        self
    }

    /// The side that was entered last is slow: it goes in so many rounds only, and does only this part of the work.
    pub fn slow(mut self, rounds: u32, part: f64) -> Self {
        if let Some(side) = self.sides.last_mut() {
            side.rounds = rounds.min(side.rounds);
            side.part = part;
        }
        self
    }

    /// Lets them go, in another order each round.
    ///
    /// # Errors
    /// If a side fails.
    pub async fn hold(self) -> Result<Vec<Lane>> {
        let mut all: Vec<Vec<(Timed, f64, f64)>> = self.sides.iter().map(|_| Vec::new()).collect();
        for round in 0..self.rounds {
            let mut order: Vec<usize> = (0..self.sides.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for (side, times) in order.into_iter().filter_map(|at| Some((self.sides.get(at)?, at))) {
                if round >= side.rounds {
                    continue;
                }
                if let Some(prepare) = &side.prepare {
                    prepare(round).await.with_context(|| format!("preparing {}", side.name))?;
                }
                let before = (proc::children_cpu(), self.server_cpu());
                let timed = (side.go)(round).await.with_context(|| side.name)?;
                let cpu = (proc::children_cpu() - before.0, self.server_cpu() - before.1);
                if let Some(times) = all.get_mut(times) {
                    times.push((timed, cpu.0, cpu.1));
                }
            }
        }
        Ok(self.sides.iter().zip(all).map(|(side, times)| lane(side, &times)).collect())
    }

    fn server_cpu(&self) -> f64 {
        self.servers.iter().map(|pid| proc::server_cpu(*pid)).sum()
    }
}

fn lane(side: &Side<'_>, times: &[(Timed, f64, f64)]) -> Lane {
    let each = |of: &dyn Fn(&(Timed, f64, f64)) -> f64| -> Vec<f64> { times.iter().map(of).collect() };
    let last = times.last().map(|(timed, ..)| timed.clone()).unwrap_or_default();
    Lane {
        name: side.name.to_owned(),
        seconds: each(&|(timed, ..)| timed.seconds / side.part),
        part: side.part,
        own_cpu: median(&each(&|(_, own, _)| own / side.part)),
        server_cpu: median(&each(&|(_, _, servers)| servers / side.part)),
        rested: median(&each(&|(timed, ..)| timed.rested)),
        peak_bytes: times.iter().map(|(timed, ..)| timed.peak_bytes).max().unwrap_or(0),
        courses: last.courses,
        resources: last.resources,
    }
}

/// Does a task in a process of its own, so that its memory is its own.
///
/// # Errors
/// If it fails.
pub async fn alone(task: &Task) -> Result<Timed> {
    let output = Command::new(std::env::current_exe()?)
        .arg("--task")
        .arg(serde_json::to_string(task)?)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Runs a program, by its path, to its end; its output goes nowhere, and it is fed with what `stdin` holds.
///
/// # Errors
/// If it cannot be started, or fails.
pub async fn outside(program: PathBuf, arguments: &[&str], stdin: Option<&Path>) -> Result<Timed> {
    let stdin = match stdin {
        Some(path) => Stdio::from(std::fs::File::open(path)?),
        None => Stdio::null(),
    };
    let mut command = Command::new(&program);
    command.args(arguments).stdin(stdin).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let began = Instant::now();
    let output = command.output().await?;
    let seconds = began.elapsed().as_secs_f64();
    ensure!(
        output.status.success(),
        "{} {arguments:?}: {}",
        program.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(Timed { seconds, ..Timed::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane_of(seconds: &[f64]) -> Lane {
        let (name, part) = (String::new(), 1.0);
        let seconds = seconds.to_vec();
        Lane {
            name,
            seconds,
            part,
            own_cpu: 0.0,
            server_cpu: 0.0,
            rested: 0.0,
            peak_bytes: 0,
            courses: 0,
            resources: 0,
        }
    }

    #[test]
    fn a_median_is_the_middle_one() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn a_ratio_is_of_the_same_round_where_it_can_be() {
        // The machine was busy in the second round: both took ten times as long.
        assert_eq!(ratio(&lane_of(&[2.0, 20.0, 2.0]), &lane_of(&[1.0, 10.0, 1.0])), 2.0);
        assert_eq!(ratio(&lane_of(&[2.0, 20.0, 2.0]), &lane_of(&[1.0])), 2.0);
    }
}
