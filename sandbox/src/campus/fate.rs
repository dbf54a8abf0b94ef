//! What should become of each resource, by the contract and not by looking at the collector.

use std::collections::{BTreeMap, BTreeSet};

use super::{Campus, CourseId, Extent, JobState, Owner, StoredPath};
use crate::Resource;

/// Held: its course was never live here. It is another environment's, or no course's at all.
pub const STRANGER: &str = "stranger";
/// Held: it names more than one course, one of which was deleted.
pub const SEVERAL_IDS: &str = "several ids";
/// Held: it holds no canonical id where one is expected.
pub const UNRECOGNISED: &str = "unrecognised";
/// Held: a row that is still there refers to it.
pub const REFERENCED: &str = "referenced";
/// Held: a worker has a job of its course, which stays as a whole in its store.
pub const LOCKED: &str = "locked";
/// Held: no template, no layout and no queue covers it.
pub const NOT_A_COURSES: &str = "not a course's";

/// What should have become of a resource once the collector swept everything that is past its grace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// Untouched: its course is live.
    Live,
    /// Removed: its course was deleted.
    Gone,
    /// Untouched, for this reason.
    Held(&'static str),
}

/// A resource, whose it is, and what should become of it.
pub(super) struct Judged<'a> {
    pub resource: Resource,
    pub owner: &'a Owner,
    pub fate: Fate,
}

impl Judged<'_> {
    /// Keeps what would go, for this reason.
    fn held_if(self, holds: bool, reason: &'static str) -> Self {
        match self.fate {
            Fate::Gone if holds => Self { fate: Fate::Held(reason), ..self },
            _ => self,
        }
    }
}

impl Campus {
    /// The fate of every resource after the given courses were deleted. A resource that the deleting path itself removed
    /// is not known here: compare with a snapshot that was taken after the deletions.
    pub fn fates(&self, deleted: &BTreeSet<CourseId>) -> BTreeMap<Resource, Fate> {
        self.judged(deleted).into_iter().map(|judged| (judged.resource, judged.fate)).collect()
    }

    /// Every resource with its owner and its fate.
    pub(super) fn judged(&self, deleted: &BTreeSet<CourseId>) -> Vec<Judged<'_>> {
        let ours: BTreeSet<CourseId> = self.courses.iter().map(|course| course.id).collect();
        let judge = |owner: &Owner| match owner {
            Owner::Course(id) if deleted.contains(id) => Fate::Gone,
            Owner::Course(id) if ours.contains(id) => Fate::Live,
            Owner::Course(_) | Owner::Lookalike(_) => Fate::Held(STRANGER),
            Owner::Courses(ids) if ids.iter().any(|id| deleted.contains(id)) => Fate::Held(SEVERAL_IDS),
            Owner::Courses(_) => Fate::Live,
            Owner::Unrecognised => Fate::Held(UNRECOGNISED),
            Owner::Nobody => Fate::Held(NOT_A_COURSES),
        };
        let referenced = self.referenced_files(deleted);
        let worked_on = self.worked_on();

        let judged = |resource, owner| Judged { resource, owner, fate: judge(owner) };
        let keys = self.keys.iter().map(|key| judged(Resource::Key(key.name.clone().into_bytes()), &key.owner));
        let points = self.points.iter().map(|point| judged(Resource::Point(point.id), &point.owner));
        let files = self.files.iter().map(|file| {
            let judged = judged(Resource::File(file.path.clone()), &file.owner);
            judged.held_if(referenced.contains(file.path.as_str()), REFERENCED)
        });
        let jobs = self.jobs.iter().flat_map(|job| {
            let resource = |id| Resource::Job { queue: job.queue.clone(), id };
            let holds = matches!(&job.owner, Owner::Course(id) if worked_on.contains(id));
            job.ids().into_iter().map(move |id| judged(resource(id), &job.owner).held_if(holds, LOCKED))
        });
        // Nobody is asked to clean the tables of a campus that is not whole.
        let rows = self.rows.iter().filter(|_| self.extent == Extent::Whole);
        let rows = rows.map(|row| judged(Resource::Row { table: row.table.name, id: row.id }, &row.owner));
        let objects = self.objects.iter().map(|object| judged(Resource::Object(object.path.clone()), &object.owner));
        keys.chain(points).chain(files).chain(jobs).chain(rows).chain(objects).collect()
    }

    /// The courses of which a worker has a job.
    fn worked_on(&self) -> BTreeSet<CourseId> {
        let course = |owner: &Owner| if let Owner::Course(id) = owner { Some(*id) } else { None };
        let active = self.jobs.iter().filter(|job| job.state == JobState::Active);
        active.filter_map(|job| course(&job.owner)).collect()
    }

    /// The resources that should be gone after the given courses were deleted.
    pub fn gone(&self, deleted: &BTreeSet<CourseId>) -> BTreeSet<Resource> {
        let gone = |(resource, fate)| (fate == Fate::Gone).then_some(resource);
        self.fates(deleted).into_iter().filter_map(gone).collect()
    }

    /// The files to which the rows lead that are left.
    fn referenced_files(&self, deleted: &BTreeSet<CourseId>) -> BTreeSet<&str> {
        let all: BTreeSet<&str> = self.files.iter().map(|file| file.path.as_str()).collect();
        let left = self.catalog.iter().filter(|row| row.course.is_none_or(|course| !deleted.contains(&course)));
        left.flat_map(|row| {
            let is_meant: Box<dyn Fn(&&&str) -> bool> = match &row.path {
                StoredPath::Relative(path) | StoredPath::Absolute(path) if all.contains(path.as_str()) => {
                    Box::new(move |file| **file == path.as_str())
                }
                // What leads into a directory and to no file there holds all of it.
                StoredPath::Relative(path) | StoredPath::Absolute(path) => {
                    Box::new(move |file| directory(file) == directory(path))
                }
                // What cannot be mapped holds every file of its base name.
                StoredPath::Elsewhere(path) => Box::new(move |file| file.rsplit('/').next() == path.rsplit('/').next()),
            };
            all.iter().filter(is_meant).copied().collect::<Vec<_>>()
        })
        .collect()
    }
}

/// The course's directory that a path leads into: `uploads/{organization}/{course}` or `enrichments/{course}`.
pub(super) fn directory(path: &str) -> &str {
    let levels = if path.starts_with("uploads/") { 3 } else { 2 };
    let end = path.match_indices('/').nth(levels - 1).map_or(path.len(), |(index, _)| index);
    &path[..end]
}
