//! What the report says of each orphan, against what the campus expects.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use sandbox::campus::{Campus, CourseId, LOCKED, Leftovers, REFERENCED, SEVERAL_IDS, STRANGER};
use sandbox::{Addresses, Snapshot};
use serde_json::Value;

use crate::proof::mark;

/// Of what is counted in a line.
const WIDTH: usize = 66;

/// An orphan of a report.
pub struct Reported<'a> {
    store: &'a str,
    course: &'a str,
    decision: &'a str,
    reason: &'a str,
}

impl Reported<'_> {
    /// True if it goes.
    pub fn sweeps(&self) -> bool {
        self.decision != "held"
    }

    fn place(&self) -> Place {
        (self.store.to_owned(), self.course.to_owned())
    }
}

/// A store and a course.
type Place = (String, String);

/// What the campus expects of the reports.
pub struct Expected {
    /// What the run should have swept.
    swept: BTreeSet<Place>,
    /// What should be left, by the reason that should be given.
    held: BTreeMap<&'static str, BTreeSet<Place>>,
    /// How much should be counted in each store, and never judged.
    unjudged: BTreeMap<String, u64>,
}

impl Expected {
    /// What is expected once these courses were deleted and what may go has gone: `after` is what is there then.
    pub fn of(campus: &Campus, addresses: &Addresses, deleted: &BTreeSet<CourseId>, after: &Snapshot) -> Self {
        let swept = campus.swept(addresses, deleted).into_iter();
        let swept = swept.map(|(store, course)| (store.to_owned(), course.to_string())).collect();
        let Leftovers { held: left, unrecognised, unclaimed } = campus.leftovers(addresses, deleted, after);
        let mut held: BTreeMap<&str, BTreeSet<Place>> = BTreeMap::new();
        for ((store, _, course), left) in left {
            let reason = match left.reason {
                STRANGER => "not_exclusive",
                REFERENCED => "referenced",
                LOCKED => "locked",
                SEVERAL_IDS => "entangled",
                other => other,
            };
            held.entry(reason).or_default().insert((store, course));
        }
        let mut unjudged = unclaimed;
        for ((store, _), count) in unrecognised {
            *unjudged.entry(store).or_default() += count;
        }
        Self { swept, held, unjudged }
    }
}

/// Prints what the run swept and what a later plan gives as reasons for the rest; true if all is as expected.
///
/// `run` is the report of the run that swept, `left` the one of a plan after it.
pub fn show(mut expected: Expected, run: &Value, left: &Value) -> bool {
    let swept: BTreeSet<Place> = orphans(run).filter(Reported::sweeps).map(|orphan| orphan.place()).collect();
    let mut held: BTreeMap<&str, BTreeSet<Place>> = BTreeMap::new();
    for orphan in orphans(left) {
        let reason = if orphan.sweeps() { "to sweep" } else { orphan.reason };
        held.entry(reason).or_default().insert(orphan.place());
    }

    println!("{:WIDTH$} expected reported", "a course in a store, each");
    let mut right = line("swept: its course was seen live, and is gone", &expected.swept, &swept);
    for (reason, what) in [
        ("to sweep", "still to sweep"),
        ("not_exclusive", "held: never seen live, and the source is not exclusively ours"),
        ("referenced", "held: rows that are still there lead to all that is left of it"),
        ("entangled", "held: names a live course as well"),
        ("locked", "held: a worker has a job of it"),
    ] {
        let expected = expected.held.remove(reason).unwrap_or_default();
        right &= line(what, &expected, &held.remove(reason).unwrap_or_default());
    }
    // Whatever else is given as a reason, or should have been.
    for (reason, places) in held {
        right &= line(&format!("held: {reason}"), &BTreeSet::new(), &places);
    }
    for (reason, places) in expected.held {
        right &= line(&format!("held: {reason}"), &places, &BTreeSet::new());
    }
    println!("\n{:WIDTH$} expected reported", "without a course's id: counted, and never judged");
    for store in stores(left) {
        let (name, counted) = (text(store, "name"), unjudged(store));
        let expected = expected.unjudged.remove(name).unwrap_or_default();
        right &= compare(&format!("in {name}"), counted == expected, expected, counted);
    }
    right
}

/// All orphans of a report.
pub fn orphans(report: &Value) -> impl Iterator<Item = Reported<'_>> {
    stores(report).flat_map(|store| {
        let orphans = array(store, "sources").flat_map(|source| array(source, "orphans"));
        orphans.map(|orphan| Reported {
            store: text(store, "name"),
            course: text(orphan, "course"),
            decision: text(orphan, "decision"),
            reason: text(orphan, "reason"),
        })
    })
}

fn stores(report: &Value) -> impl Iterator<Item = &Value> {
    array(report, "stores")
}

fn array<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// What a store counts without judging it.
fn unjudged(store: &Value) -> u64 {
    let count = |value: &Value, name: &str| {
        value.get(name).and_then(|it| it.get("count")).and_then(Value::as_u64).unwrap_or_default()
    };
    count(store, "unclaimed") + array(store, "sources").map(|source| count(source, "unrecognised")).sum::<u64>()
}

fn line(what: &str, expected: &BTreeSet<Place>, reported: &BTreeSet<Place>) -> bool {
    compare(what, expected == reported, expected.len(), reported.len())
}

fn compare(what: &str, ok: bool, expected: impl Display, reported: impl Display) -> bool {
    println!("{what:WIDTH$} {expected:>8} {reported:>8}  {}", mark(ok));
    ok
}
