//! What was in the stores before and after, by what should have become of it.

use std::collections::BTreeMap;

use sandbox::campus::{Fate, LOCKED, NOT_A_COURSES, REFERENCED, SEVERAL_IDS, STRANGER, UNRECOGNISED};
use sandbox::{Resource, Snapshot};

/// The groups, in the order in which they are shown.
const GROUPS: [(Fate, &str); 8] = [
    (Fate::Gone, "left behind by deleted courses"),
    (Fate::Live, "of live courses"),
    (Fate::Held(STRANGER), "another environment's, or like it"),
    (Fate::Held(REFERENCED), "uploads to which a row still leads"),
    (Fate::Held(SEVERAL_IDS), "names a live course as well"),
    (Fate::Held(LOCKED), "of whom a worker has a job"),
    (Fate::Held(UNRECOGNISED), "no id where a course's would be"),
    (Fate::Held(NOT_A_COURSES), "nothing to do with courses"),
];

/// The kinds of resources, in the order in which they are shown.
const KINDS: [&str; 6] = ["points", "keys", "jobs", "files", "objects", "rows"];

/// How many there are of each of [`KINDS`].
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Count([usize; 6]);

impl Count {
    /// Counts these.
    pub fn of<'a>(resources: impl IntoIterator<Item = &'a Resource>) -> Self {
        let mut count = Self::default();
        for resource in resources {
            let column = match resource {
                Resource::Point(_) => 0,
                Resource::Key(_) => 1,
                Resource::Job { .. } => 2,
                Resource::File(_) => 3,
                Resource::Object(_) => 4,
                Resource::Row { .. } => 5,
            };
            count.0[column] += 1;
        }
        count
    }

    /// In words: `3 points, 10 keys`.
    pub fn words(self) -> String {
        let some = self.0.into_iter().zip(KINDS).filter(|(count, _)| *count > 0);
        let words = some.map(|(count, kind)| match count {
            1 => format!("1 {}", kind.trim_end_matches('s')),
            _ => format!("{count} {kind}"),
        });
        words.collect::<Vec<_>>().join(", ")
    }
}

/// Prints the table; true if everything is as it should be.
pub fn show(fates: &BTreeMap<Resource, Fate>, before: &Snapshot, after: &Snapshot) -> bool {
    let difference = before.diff(after);
    let as_it_was = |resource: &&Resource| after.contains(resource) && !difference.changed.contains(*resource);
    println!("{}", line("", KINDS.map(str::to_owned), ""));
    let mut right = true;
    for (fate, what) in GROUPS {
        let were: Vec<&Resource> = before.resources().filter(|resource| fates.get(resource) == Some(&fate)).collect();
        let (were, are) = (Count::of(were.iter().copied()), Count::of(were.into_iter().filter(as_it_was)));
        let (expected, outcome) =
            if fate == Fate::Gone { (Count::default(), "all gone") } else { (were, "as they were") };
        let ok = are == expected && were != Count::default();
        let numbers = were.0.map(|count| if count == 0 { "·".to_owned() } else { count.to_string() });
        let outcome = if ok { outcome.to_owned() } else { format!("but now {}", are.words()) };
        println!("{}", line(what, numbers, &format!("  {} {outcome}", mark(ok))));
        right &= ok;
    }
    let planned = before.resources().all(|resource| fates.contains_key(resource));
    right &= check("nothing was added or changed", difference.added.is_empty() && difference.changed.is_empty());
    right & check("every resource was counted", planned)
}

fn line(what: &str, cells: [String; 6], outcome: &str) -> String {
    let cells: String = cells.iter().map(|cell| format!("{cell:>8}")).collect();
    format!("{what:36}{cells}{outcome}")
}

/// Prints a claim and whether it holds.
pub fn check(claim: &str, holds: bool) -> bool {
    println!("{claim:84}  {}", mark(holds));
    holds
}

/// For the end of a line.
pub fn mark(ok: bool) -> char {
    if ok { '✓' } else { '✗' }
}
