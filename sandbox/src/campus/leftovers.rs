//! What a report should say about everything that stays, once nothing is left to sweep.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Campus, CourseId, Fate, NOT_A_COURSES, Owner, UNRECOGNISED,
    fate::{Judged, directory},
    queue_source,
};
use crate::{Addresses, Resource, Snapshot, config, redis::CLAIM};

/// What stays of a course that is not live, in one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeldCourse {
    /// Why: [`super::STRANGER`], [`super::SEVERAL_IDS`], [`super::REFERENCED`] or [`super::LOCKED`].
    pub reason: &'static str,
    /// How many points, keys, files, jobs, rows or objects that name no other course.
    pub resources: u64,
    /// How many that name several, one of which is live.
    pub entangled: u64,
}

/// What stays, as a report counts it. A store and its source have the names that [`crate::config::file()`] gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// By store, source and course.
    pub held: BTreeMap<(String, String, String), HeldCourse>,
    /// [`UNRECOGNISED`], by store and source; of files, directories in a course's place.
    pub unrecognised: BTreeMap<(String, String), u64>,
    /// [`NOT_A_COURSES`], by store: keys that no template claims, files and objects outside the layout, and each key of queues
    /// that are not ours.
    pub unclaimed: BTreeMap<String, u64>,
}

impl Campus {
    /// The stores from which something of each course goes when the given ones were deleted, by store and course.
    pub fn swept(&self, addresses: &Addresses, deleted: &BTreeSet<CourseId>) -> BTreeSet<(&'static str, CourseId)> {
        let gone = self.judged(deleted).into_iter().filter(|judged| judged.fate == Fate::Gone);
        gone.filter_map(|Judged { resource, owner, .. }| match owner {
            Owner::Course(course) => Some((config::place(addresses, &resource).0, *course)),
            _ => None,
        })
        .collect()
    }

    /// Of the given courses, which were deleted, one of which something goes from the most stores.
    pub fn richest(&self, addresses: &Addresses, deleted: &BTreeSet<CourseId>) -> Option<CourseId> {
        let swept = self.swept(addresses, deleted);
        let stores = |course: &CourseId| swept.iter().filter(|(_, of)| of == course).count();
        deleted.iter().copied().max_by_key(stores)
    }

    /// What stays after the given courses were deleted and everything that may go has gone. The snapshot of what is left says how
    /// many keys BullMQ's queues have, which is for nobody to plan.
    pub fn leftovers(&self, addresses: &Addresses, deleted: &BTreeSet<CourseId>, after: &Snapshot) -> Leftovers {
        let mut left = Leftovers::default();
        for (queue, keys) in after.queue_keys() {
            *left.unclaimed.entry("cache".to_owned()).or_default() += keys;
            if queue_source(queue).is_none() {
                *left.unclaimed.entry("jobs".to_owned()).or_default() += keys;
            }
        }
        if after.contains(&Resource::Key(CLAIM.into())) {
            *left.unclaimed.entry("cache".to_owned()).or_default() += 1;
        }
        let mut directories = BTreeSet::new();
        for Judged { resource, owner, fate } in self.judged(deleted) {
            let Fate::Held(reason) = fate else { continue };
            let (store, source) = config::place(addresses, &resource);
            let (store, source) = (store.to_owned(), source.unwrap_or_default());
            match (reason, owner) {
                // Its queue's keys were counted.
                (NOT_A_COURSES, _) if matches!(resource, Resource::Job { .. }) => {}
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
