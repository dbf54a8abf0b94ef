//! What was in the stores before and after, by what should have become of it.

use std::collections::BTreeMap;

use sandbox::campus::{Fate, NOT_A_COURSES, REFERENCED, SEVERAL_IDS, STRANGER, UNRECOGNISED};
use sandbox::{Resource, Snapshot};

/// The groups, in the order in which they are shown.
const GROUPS: [(Fate, &str); 7] = [
    (Fate::Gone, "left behind by deleted courses"),
    (Fate::Live, "of live courses"),
    (Fate::Held(STRANGER), "another environment's, or like it"),
    (Fate::Held(REFERENCED), "uploads that a row still refers to"),
    (Fate::Held(SEVERAL_IDS), "names a live course as well"),
    (Fate::Held(UNRECOGNISED), "no id where a course's would be"),
    (Fate::Held(NOT_A_COURSES), "nothing to do with courses"),
];

/// Points, keys and files.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Count([usize; 3]);

impl Count {
    fn add(&mut self, resource: &Resource) {
        let column = match resource {
            Resource::Point(_) => 0,
            Resource::Key(_) => 1,
            Resource::File(_) => 2,
        };
        self.0[column] += 1;
    }

    fn cell(self) -> String {
        let [points, keys, files] = self.0;
        format!("{points:>6} {keys:>5} {files:>5}")
    }
}

/// Prints the table; true if everything is as it should be.
pub fn show(fates: &BTreeMap<Resource, Fate>, before: &Snapshot, after: &Snapshot) -> bool {
    let difference = before.diff(after);
    let as_it_was = |resource: &Resource| after.contains(resource) && !difference.changed.contains(resource);
    let columns = Count::default().cell().len();
    println!("{:36} {:^columns$} | {:^columns$} | {:^columns$}", "", "before", "after", "expected");
    let names = format!("{:>6} {:>5} {:>5}", "points", "keys", "files");
    println!("{:36} {names} | {names} | {names}", "");
    let mut right = true;
    for (fate, what) in GROUPS {
        let (mut was, mut is) = (Count::default(), Count::default());
        for resource in before.resources().filter(|resource| fates.get(resource) == Some(&fate)) {
            was.add(resource);
            if as_it_was(resource) {
                is.add(resource);
            }
        }
        let expected = if fate == Fate::Gone { Count::default() } else { was };
        let ok = is == expected && was != Count::default();
        println!("{what:36} {} | {} | {}  {}", was.cell(), is.cell(), expected.cell(), mark(ok));
        right &= ok;
    }
    let planned = before.resources().all(|resource| fates.contains_key(resource));
    right &= check("nothing was added or changed", difference.added.is_empty() && difference.changed.is_empty());
    right & check("every resource was counted", planned)
}

/// Prints a claim and whether it holds.
pub fn check(claim: &str, holds: bool) -> bool {
    println!("{claim:36} {}", mark(holds));
    holds
}

/// For the end of a line.
pub fn mark(ok: bool) -> char {
    if ok { '✓' } else { '✗' }
}
