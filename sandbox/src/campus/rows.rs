//! Rows that name a course and go with none: no foreign key ties them to it.

use serde_json::json;
use uuid::Uuid;

use super::{
    CourseId, Extent, Owner,
    plan::{Planner, parted},
};

/// A table of such rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name with its schema.
    pub name: &'static str,
    /// Its column with the course's id, or with several.
    pub column: &'static str,
}

impl Table {
    /// Whether a row may name several courses.
    pub fn holds_many(self) -> bool {
        self == BUNDLES
    }
}

/// A cache that the platform's delete path cleans by hand.
const CACHE: Table = Table { name: "public.rag_context_cache", column: "course_id" };
/// What is shown together; a row names several courses.
const BUNDLES: Table = Table { name: "public.course_bundles", column: "course_ids" };

/// The tables of a campus.
pub const TABLES: [Table; 2] = [CACHE, BUNDLES];

/// A row of one of [`TABLES`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its id.
    pub id: Uuid,
    /// The courses that it names, in order; NULL where there is none. In a table whose rows name one, one.
    pub names: Vec<Option<CourseId>>,
    /// Where it is.
    pub table: Table,
    /// What it says.
    pub text: String,
    /// Whose it is.
    pub owner: Owner,
}

pub(super) fn plan(planner: &mut Planner) {
    let (doomed, staying) = parted(&planner.campus);
    let courses: Vec<CourseId> = planner.campus.courses.iter().map(|course| course.id).collect();
    for id in courses {
        planner.row(CACHE, vec![Some(id)], Owner::Course(id));
    }
    if planner.campus.extent == Extent::Core {
        return;
    }
    for id in planner.campus.foreign.clone() {
        planner.row(CACHE, vec![Some(id)], Owner::Course(id));
    }
    for course in doomed.iter().take(3).chain(staying.iter().take(3)) {
        planner.row(BUNDLES, vec![Some(course.id)], Owner::Course(course.id));
    }
    for (dead, live) in doomed.iter().zip(&staying).take(3) {
        let both = Owner::Courses(vec![dead.id, live.id]);
        planner.row(BUNDLES, vec![Some(dead.id), Some(live.id)], both);
    }
    planner.row(BUNDLES, Vec::new(), Owner::Unrecognised);
    planner.row(BUNDLES, vec![None], Owner::Unrecognised);
}

impl Planner {
    fn row(&mut self, table: Table, names: Vec<Option<CourseId>>, owner: Owner) {
        let (id, text) = (self.random.uuid(), json!({ "tokens": self.random.next() % 10_000 }).to_string());
        self.campus.rows.push(Row { id, names, table, text, owner });
    }
}
