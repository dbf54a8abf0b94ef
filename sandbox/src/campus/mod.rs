//! A course platform's data, with everything that makes cleaning up after deleted courses hard.
//!
//! [`Campus::plan`] and [`Campus::whole`] are pure: the same size gives the same campus, whatever the machine. [`Campus::seed`] writes it into
//! the stores; the functions in `vanish` delete courses the ways the platform does, which leave things behind.
//! [`Campus::fates`] says what should become of each resource then, without looking at any store: tests compare it with
//! the difference of two [`crate::Snapshot`]s.

mod fate;
mod ids;
mod jobs;
mod leftovers;
mod objects;
mod plan;
mod random;
mod rows;
mod seed;
mod traps;
mod vanish;

use std::collections::BTreeSet;

use serde_json::Value;
use uuid::Uuid;

pub use self::fate::{Fate, LOCKED, NOT_A_COURSES, REFERENCED, SEVERAL_IDS, STRANGER, UNRECOGNISED};
pub use self::ids::{CourseId, IdKind, TEXT_IDS, TextId};
pub(crate) use self::jobs::source as queue_source;
pub use self::jobs::{Job, JobState, QUEUES};
pub use self::leftovers::{HeldCourse, Leftovers};
pub use self::rows::{Row, TABLES, Table};
use crate::PointId;

/// The keys that name a course, as templates: `*` is anything.
pub const KEY_TEMPLATES: [&str; 11] = [
    "phase1_cache:{course_id}",
    "file_cache:{course_id}:*",
    "lesson_md:{course_id}:*",
    "lesson:uuid:{course_id}:*",
    "doc_class:v2:{course_id}:*",
    "generation:lock:{course_id}",
    "rag:{course_id}:*",
    "idempotency:generation-{course_id}-*",
    "idempotency:auto-{course_id}-stage*",
    "idempotency:worker-fallback-stage*-auto-{course_id}-stage*",
    "idempotency:worker-fallback-stage*-{course_id}",
];

/// Which of the platform's stores a campus fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Qdrant, Redis' keys and the folders: a matter of milliseconds.
    Core,
    /// Queues, tables and the bucket as well, which takes Node and an S3 service: for a [`crate::World::whole`].
    Whole,
}

/// How large a campus is. Two campuses in the same stores need different seeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CampusSize {
    /// What all ids and contents derive from.
    pub seed: u64,
    /// The type of the courses' ids.
    pub ids: IdKind,
    /// Organizations, one of which is about to be deleted with all its courses.
    pub organizations: usize,
    /// Courses in all, the doomed ones included.
    pub courses: usize,
    /// Courses that are meant to be deleted; the traps are set between them and the others.
    pub doomed: usize,
    /// Courses of another environment, whose rows are in no database of this one.
    pub foreign: usize,
    /// Points a course.
    pub points: usize,
    /// Dimensions of the dense vector. The platform's own is 768; a small one shows the same.
    pub vector_size: usize,
}

impl Default for CampusSize {
    /// A small campus: 60 courses, 12 of them doomed.
    fn default() -> Self {
        Self {
            seed: 1,
            ids: IdKind::Uuid,
            organizations: 5,
            courses: 60,
            doomed: 12,
            foreign: 6,
            points: 4,
            vector_size: 8,
        }
    }
}

impl CampusSize {
    /// 2,000 courses that stay and 200 doomed ones.
    pub fn large() -> Self {
        Self { organizations: 40, courses: 2_200, doomed: 200, foreign: 50, points: 3, ..Self::default() }
    }
}

/// A platform's data. All lists are in a fixed order.
#[derive(Clone, Debug, PartialEq)]
pub struct Campus {
    /// What it was planned from.
    pub size: CampusSize,
    /// The stores that it fills.
    pub extent: Extent,
    /// The platform's customers. The last one has doomed courses only.
    pub organizations: Vec<Organization>,
    /// The courses with a row in Postgres.
    pub courses: Vec<Course>,
    /// Courses of another environment that uses the same Redis, Qdrant and folder.
    pub foreign: Vec<CourseId>,
    /// Rows of `file_catalog`.
    pub catalog: Vec<CatalogRow>,
    /// Redis keys.
    pub keys: Vec<Key>,
    /// Points of the collection.
    pub points: Vec<Point>,
    /// Files.
    pub files: Vec<File>,
    /// BullMQ's jobs, in the order in which they are added; none unless it is [`Extent::Whole`].
    pub jobs: Vec<Job>,
    /// Rows that no foreign key ties to their courses.
    pub rows: Vec<Row>,
    /// Objects of the bucket, by their names; none unless it is [`Extent::Whole`].
    pub objects: Vec<File>,
}

/// A row of `organizations`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Organization {
    /// Its id.
    pub id: Uuid,
    /// What people call it.
    pub name: String,
}

/// A row of `courses`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Course {
    /// Its id.
    pub id: CourseId,
    /// The organization that it goes with.
    pub organization: Uuid,
    /// Its author.
    pub user: Uuid,
    /// Its name in URLs.
    pub slug: String,
    /// `draft`, `published` or `archived`; all three are live.
    pub status: &'static str,
    /// Age in days when it is seeded.
    pub age_days: i32,
    /// The way it is meant to be deleted, if it is.
    pub doom: Option<Doom>,
}

/// The ways in which courses vanish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doom {
    /// A delete path that cleans one kind of key and forgets the rest.
    ForgetfulPath,
    /// With its organization; no delete path is called.
    Cascade,
    /// The job that drops old drafts; no delete path is called.
    OldDraft,
}

/// A row of `file_catalog`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogRow {
    /// Its id.
    pub id: Uuid,
    /// The course that uses the file; none for files that no course owns.
    pub course: Option<CourseId>,
    /// The organization of that course.
    pub organization: Uuid,
    /// Where the file lies.
    pub path: StoredPath,
    /// The first upload of the same content, when this is a later one.
    pub original: Option<Uuid>,
}

/// What `storage_path` holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredPath {
    /// Relative, starting with `uploads/`.
    Relative(String),
    /// Absolute, as old rows have it; this is the part below the files' folder.
    Absolute(String),
    /// Absolute in a folder of an earlier machine, which cannot be mapped into this one's.
    Elsewhere(String),
}

/// Whose a resource is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// One course's, of this environment or of another.
    Course(CourseId),
    /// It names several courses.
    Courses(Vec<CourseId>),
    /// It lies where a course's resources lie, but what stands for the id is none.
    Unrecognised,
    /// It is no course's and looks like none.
    Nobody,
    /// Its name holds a UUID where a course's id would be, this one, but it is something else's.
    Lookalike(CourseId),
}

/// A Redis key.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: KeyValue,
    /// Time to live in seconds.
    pub ttl: Option<u64>,
    /// Whose it is.
    pub owner: Owner,
}

/// A Redis value.
#[derive(Clone, Debug, PartialEq)]
pub enum KeyValue {
    /// A string.
    Text(String),
    /// A sorted set of members and scores.
    Scores(Vec<(String, f64)>),
    /// A hash.
    Fields(Vec<(String, String)>),
    /// A list.
    List(Vec<String>),
}

/// A point of the collection.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Its id.
    pub id: PointId,
    /// Its payload, an object.
    pub payload: Value,
    /// The vector `dense`, of length 1.
    pub dense: Vec<f32>,
    /// The vector `sparse`, as (index, value).
    pub sparse: Vec<(u32, f32)>,
    /// Whose it is.
    pub owner: Owner,
}

/// A file, or an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path below the files' folder; an object's whole name.
    pub path: String,
    /// Its bytes.
    pub content: Vec<u8>,
    /// Whose it is.
    pub owner: Owner,
}

impl Campus {
    /// The courses that are meant to be deleted.
    pub fn doomed(&self) -> BTreeSet<CourseId> {
        self.courses.iter().filter(|course| course.doom.is_some()).map(|course| course.id).collect()
    }

    /// A course by its id.
    pub fn course(&self, id: CourseId) -> Option<&Course> {
        self.courses.iter().find(|course| course.id == id)
    }

    /// The part of this campus that is one course's: to seed courses one by one, rows or resources first.
    pub fn only(&self, id: CourseId) -> Self {
        self.some(&BTreeSet::from([id]))
    }

    /// The part of this campus that is some courses' own, without what names several.
    pub fn some(&self, ids: &BTreeSet<CourseId>) -> Self {
        let of = |owner: &Owner| matches!(owner, Owner::Course(id) if ids.contains(id));
        let courses: Vec<Course> = self.courses.iter().filter(|course| ids.contains(&course.id)).cloned().collect();
        let home = |organization: &&Organization| courses.iter().any(|it| it.organization == organization.id);
        let catalogued = |row: &&CatalogRow| row.course.is_some_and(|id| ids.contains(&id));
        Self {
            size: self.size,
            extent: self.extent,
            organizations: self.organizations.iter().filter(home).cloned().collect(),
            foreign: Vec::new(),
            catalog: self.catalog.iter().filter(catalogued).cloned().collect(),
            keys: self.keys.iter().filter(|key| of(&key.owner)).cloned().collect(),
            points: self.points.iter().filter(|point| of(&point.owner)).cloned().collect(),
            files: self.files.iter().filter(|file| of(&file.owner)).cloned().collect(),
            jobs: self.jobs.iter().filter(|job| of(&job.owner)).cloned().collect(),
            rows: self.rows.iter().filter(|row| of(&row.owner)).cloned().collect(),
            objects: self.objects.iter().filter(|object| of(&object.owner)).cloned().collect(),
            courses,
        }
    }
}
