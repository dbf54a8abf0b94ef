//! What a look at an installation found (`course-gc doctor`): what is as it should be, what could be better, what must be mended.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

/// A clock that is further away than this is told.
const ODD: TimeDelta = TimeDelta::seconds(5);
/// A clock that is further away than this makes certificates and tokens look expired, or not begun.
const WRONG: TimeDelta = TimeDelta::minutes(5);

/// What a finding asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing.
    Ok,
    /// It works; there is a better way.
    Advice,
    /// It does not work, or may do harm.
    Problem,
}

impl Level {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Advice => "advice",
            Self::Problem => "problem",
        }
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which check: `connection`, `rights`, `index`, …
    pub check: &'static str,
    /// What it asks for.
    pub level: Level,
    /// What was seen.
    pub seen: String,
    /// What to do; none if it is as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Finding {
    /// It is as it should be.
    pub fn ok(check: &'static str, seen: impl fmt::Display) -> Self {
        Self { check, level: Level::Ok, seen: seen.to_string(), fix: None }
    }

    /// There is a better way.
    pub fn advice(check: &'static str, seen: impl fmt::Display, fix: impl fmt::Display) -> Self {
        Self { check, level: Level::Advice, seen: seen.to_string(), fix: Some(fix.to_string()) }
    }

    /// It must be mended.
    pub fn problem(check: &'static str, seen: impl fmt::Display, fix: impl fmt::Display) -> Self {
        Self { check, level: Level::Problem, seen: seen.to_string(), fix: Some(fix.to_string()) }
    }
}

/// What was found of one part of an installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Which: `store cache`, `the ledger`, …
    pub part: String,
    /// What was found of it.
    pub findings: Vec<Finding>,
}

/// What was found of an installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checkup {
    /// The worst of all levels.
    pub verdict: Level,
    /// By part.
    pub parts: Vec<Part>,
}

impl Checkup {
    /// The checkup of these parts.
    pub fn of(parts: Vec<Part>) -> Self {
        let levels = parts.iter().flat_map(|part| &part.findings).map(|finding| finding.level);
        Self { verdict: levels.max().unwrap_or(Level::Ok), parts }
    }
}

/// Compares a server's clock with this machine's, which showed `before` when the server was asked, and `after` when it had answered.
pub fn clock(server: DateTime<Utc>, before: DateTime<Utc>, after: DateTime<Utc>) -> Finding {
    const CHECK: &str = "clock";
    // Whatever it showed in between is right.
    let off = if server < before { before - server } else { (server - after).max(TimeDelta::zero()) };
    let which = if server < before { "behind" } else { "ahead of" };
    let seen = format!("its clock is {}.{} s {which} ours", off.num_seconds(), off.subsec_millis() / 100);
    let fix = "let NTP set the clocks of both machines; times of the ledger are its database's, whatever ours says";
    match off {
        off if off > WRONG => Finding::problem(CHECK, seen, fix),
        off if off > ODD => Finding::advice(CHECK, seen, fix),
        _ => Finding::ok(CHECK, "its clock shows our time"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    #[test]
    fn a_clock_is_judged_by_what_it_cannot_have_shown_in_between() {
        let level = |server| clock(at(server), at(1000), at(1010)).level;
        assert_eq!([995, 1000, 1010, 1015].map(level), [Level::Ok; 4]);
        assert_eq!([994, 1016, 700, 1310].map(level), [Level::Advice; 4]);
        assert_eq!([699, 1311].map(level), [Level::Problem; 2]);
        assert_eq!(clock(at(940), at(1000), at(1001)).seen, "its clock is 60.0 s behind ours");
        assert_eq!(clock(at(1061), at(1000), at(1001)).seen, "its clock is 60.0 s ahead of ours");
    }

    #[test]
    fn the_worst_is_the_verdict() {
        let part = |findings| Part { part: "a".to_owned(), findings };
        let (ok, advice) = (Finding::ok("x", "y"), Finding::advice("x", "y", "z"));
        let verdict = |parts| Checkup::of(parts).verdict;
        assert_eq!(verdict(vec![]), Level::Ok);
        assert_eq!(verdict(vec![part(vec![ok.clone()]), part(vec![advice.clone(), ok.clone()])]), Level::Advice);
        let problem = Finding::problem("x", "y", "z");
        assert_eq!(verdict(vec![part(vec![advice, problem]), part(vec![ok])]), Level::Problem);
    }
}
