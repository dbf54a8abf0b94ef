//! What a report should say about everything that stays, once nothing is left to sweep.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Campus, CourseId, Fate, NOT_A_COURSES, Owner, UNRECOGNISED,
    fate::{Judged, directory},
};
use crate::{Addresses, Resource, config};

/// What stays of a course that is not live, in one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeldCourse {
    /// Why: [`super::STRANGER`], [`super::SEVERAL_IDS`] or [`super::REFERENCED`].
    pub reason: &'static str,
    /// How many points, keys or files that name no other course.
    pub resources: u64,
    /// How many that name several, one of which is live.
    pub entangled: u64,
}

/// What stays, as a report counts it. A store and its source have the names that [`crate::config::file()`] gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// By store, source and course.
    pub held: BTreeMap<(String, String, String), HeldCourse>,
    /// [`UNRECOGNISED`], by store and source: points, keys, and directories in a course's place.
    pub unrecognised: BTreeMap<(String, String), u64>,
    /// [`NOT_A_COURSES`], by store: keys that no template claims, and files outside the layout.
    pub unclaimed: BTreeMap<String, u64>,
}

impl Campus {
    /// What stays after the given courses were deleted and everything that may go has gone.
    pub fn leftovers(&self, addresses: &Addresses, deleted: &BTreeSet<CourseId>) -> Leftovers {
        let mut left = Leftovers::default();
        let mut directories = BTreeSet::new();
        for Judged { resource, owner, fate } in self.judged(deleted) {
            let Fate::Held(reason) = fate else { continue };
            let (store, source) = config::place(addresses, &resource);
            let (store, source) = (store.to_owned(), source.unwrap_or_default());
            match (reason, owner) {
                (NOT_A_COURSES, _) => *left.unclaimed.entry(store).or_default() += 1,
                (UNRECOGNISED, _) => {
                    // What is in a directory that is none of a course's is not looked at.
                    let Resource::File(path) = &resource else {
                        *left.unrecognised.entry((store, source)).or_default() += 1;
                        continue;
                    };
                    if directories.insert(directory(path).to_owned()) {
                        *left.unrecognised.entry((store, source)).or_default() += 1;
                    }
                }
                (_, Owner::Course(course) | Owner::Lookalike(course)) => {
                    let held = left.held.entry((store, source, course.to_string())).or_default();
                    held.reason = reason;
                    held.resources += 1;
                }
                (_, Owner::Courses(courses)) => {
                    for course in courses.iter().filter(|course| deleted.contains(course)) {
                        let key = (store.clone(), source.clone(), course.to_string());
                        let held = left.held.entry(key).or_default();
                        held.entangled += 1;
                        // What names no other course has a reason of its own to stay, if it stays.
                        if held.resources == 0 {
                            held.reason = reason;
                        }
                    }
                }
                (_, Owner::Unrecognised | Owner::Nobody) => {}
            }
        }
        left
    }
}
