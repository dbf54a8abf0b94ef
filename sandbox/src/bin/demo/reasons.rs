//! What the report says of each orphan, against what the campus expects.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use sandbox::Resource;
use sandbox::campus::{Campus, CourseId, Fate, NOT_A_COURSES, Owner, REFERENCED, SEVERAL_IDS, STRANGER, UNRECOGNISED};
use serde_json::Value;

use crate::proof::mark;

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
#[derive(Default)]
struct Expected {
    /// What the run should have swept.
    swept: BTreeSet<Place>,
    /// What should be left, by the reason that should be given.
    held: BTreeMap<&'static str, BTreeSet<Place>>,
    /// What should be counted in each store, and never judged: points, keys, and entries of folders.
    ignored: BTreeMap<&'static str, BTreeSet<Resource>>,
}

impl Expected {
    fn of(campus: &Campus, deleted: &BTreeSet<CourseId>) -> Self {
        let fates = campus.fates(deleted);
        let mut expected = Self::default();
        for (resource, owner) in owners(campus) {
            let store = store_of(&resource);
            let places = || named(owner, deleted).into_iter().map(|course| (store.to_owned(), course));
            let reason = match fates.get(&resource) {
                Some(Fate::Gone) => {
                    expected.swept.extend(places());
                    continue;
                }
                Some(Fate::Held(UNRECOGNISED | NOT_A_COURSES)) => {
                    expected.ignored.entry(store).or_default().insert(entry(resource));
                    continue;
                }
                Some(Fate::Held(STRANGER)) => "not_exclusive",
                Some(Fate::Held(REFERENCED)) => "referenced",
                Some(Fate::Held(SEVERAL_IDS)) => "entangled",
                _ => continue,
            };
            expected.held.entry(reason).or_default().extend(places());
        }
        expected
    }
}

/// Prints what the run swept and what a later plan gives as reasons for the rest; true if all is as expected.
///
/// `run` is the report of the run that swept, `left` the one of a plan after it.
pub fn show(campus: &Campus, deleted: &BTreeSet<CourseId>, run: &Value, left: &Value) -> bool {
    let expected = Expected::of(campus, deleted);
    let swept: BTreeSet<Place> = orphans(run).filter(Reported::sweeps).map(|orphan| orphan.place()).collect();
    let mut held: BTreeMap<&str, BTreeSet<Place>> = BTreeMap::new();
    for orphan in orphans(left) {
        let reason = if orphan.sweeps() { "to sweep" } else { orphan.reason };
        held.entry(reason).or_default().insert(orphan.place());
    }

    println!("{:64} expected reported", "a course in a store, each");
    let none = BTreeSet::new();
    let mut right = line("swept: its course was seen live, and is gone", &expected.swept, &swept);
    for (reason, what) in [
        ("to sweep", "still to sweep"),
        ("not_exclusive", "held: never seen live, and the source is not exclusively ours"),
        ("referenced", "held: rows that are still there refer to all that is left of it"),
        ("entangled", "held: names a live course as well"),
    ] {
        let of = |places: Option<BTreeSet<Place>>| places.unwrap_or_default();
        right &= line(what, expected.held.get(reason).unwrap_or(&none), &of(held.remove(reason)));
    }
    // Whatever else is given as a reason was not expected.
    for (reason, places) in held {
        right &= line(&format!("held: {reason}"), &none, &places);
    }
    println!();
    for store in stores(left) {
        let (name, counted) = (text(store, "name"), unjudged(store));
        let ignored = expected.ignored.get(name).map_or(0, BTreeSet::len);
        let what = format!("without a course's id in {name}, counted and never judged");
        right &= compare(&what, counted == ignored as u64, ignored, counted);
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

/// Every resource with its owner.
fn owners(campus: &Campus) -> impl Iterator<Item = (Resource, &Owner)> {
    let keys = campus.keys.iter().map(|key| (Resource::Key(key.name.clone().into_bytes()), &key.owner));
    let points = campus.points.iter().map(|point| (Resource::Point(point.id), &point.owner));
    let files = campus.files.iter().map(|file| (Resource::File(file.path.clone()), &file.owner));
    keys.chain(points).chain(files)
}

/// The store of the configuration in which a resource lies.
fn store_of(resource: &Resource) -> &'static str {
    match resource {
        Resource::Point(_) => "vectors",
        Resource::Key(_) => "cache",
        Resource::File(path) if path.starts_with("uploads/") => "uploads",
        Resource::File(_) => "enrichments",
    }
}

/// What a resource is counted as: the entry where a course's folder would be, for all that lies in it.
fn entry(resource: Resource) -> Resource {
    match resource {
        Resource::File(path) => {
            let depth = if path.starts_with("uploads/") { 3 } else { 2 };
            Resource::File(path.splitn(depth + 1, '/').take(depth).collect::<Vec<_>>().join("/"))
        }
        other => other,
    }
}

/// The courses, none of them live, that a resource seems to belong to.
fn named(owner: &Owner, deleted: &BTreeSet<CourseId>) -> Vec<String> {
    match owner {
        Owner::Course(id) | Owner::Lookalike(id) => vec![id.to_string()],
        Owner::Courses(ids) => ids.iter().filter(|id| deleted.contains(id)).map(CourseId::to_string).collect(),
        Owner::Unrecognised | Owner::Nobody => Vec::new(),
    }
}

fn line(what: &str, expected: &BTreeSet<Place>, reported: &BTreeSet<Place>) -> bool {
    compare(what, expected == reported, expected.len(), reported.len())
}

fn compare(what: &str, ok: bool, expected: impl Display, reported: impl Display) -> bool {
    println!("{what:64} {expected:>8} {reported:>8}  {}", mark(ok));
    ok
}
