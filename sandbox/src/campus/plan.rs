//! The plan of a campus: what a healthy platform holds. The traps come on top.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Campus, CampusSize, CatalogRow, Course, CourseId, Doom, Extent, File, IdKind, Key, KeyValue, Organization, Owner,
    Point, StoredPath, TextId, jobs, objects, random::Random, rows, traps,
};
use crate::PointId;

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
const DOCUMENTS: usize = 2;

/// Grows a campus resource by resource; ids and contents follow from the order.
pub(super) struct Planner {
    pub campus: Campus,
    pub random: Random,
    next_number: u64,
}

impl Campus {
    /// Plans a campus that fills three stores. The same size gives the same campus.
    ///
    /// Sizes that make no sense are corrected: there are at least two organizations and no more doomed courses than
    /// courses.
    pub fn plan(size: CampusSize) -> Self {
        Self::filling(Extent::Core, size)
    }

    /// Plans a campus that fills all six stores, for a whole world. What it holds in those three is the same, but for the keys of
    /// queues, which are real ones here. No other campus may be in the same stores.
    pub fn whole(size: CampusSize) -> Self {
        Self::filling(Extent::Whole, size)
    }

    fn filling(extent: Extent, size: CampusSize) -> Self {
        let size =
            CampusSize { organizations: size.organizations.max(2), doomed: size.doomed.min(size.courses), ..size };
        let mut planner = Planner {
            campus: Self {
                size,
                extent,
                organizations: Vec::new(),
                courses: Vec::new(),
                foreign: Vec::new(),
                catalog: Vec::new(),
                keys: Vec::new(),
                points: Vec::new(),
                files: Vec::new(),
                jobs: Vec::new(),
                rows: Vec::new(),
                objects: Vec::new(),
            },
            random: Random::new(size.seed),
            // Campuses of different seeds do not meet in the numbers of their points.
            next_number: size.seed << 32,
        };
        planner.organizations();
        for index in 0..size.courses {
            planner.course(index);
        }
        for index in 0..size.foreign {
            planner.foreign_course(index);
        }
        traps::set(&mut planner);
        // Last, so that what a campus holds besides is the same with and without them.
        rows::plan(&mut planner);
        if extent == Extent::Whole {
            jobs::plan(&mut planner);
            objects::plan(&mut planner);
        }
        planner.campus
    }
}

impl Planner {
    fn organizations(&mut self) {
        for number in 1..=self.campus.size.organizations {
            let organization = Organization { id: self.random.uuid(), name: format!("Organization {number}") };
            self.campus.organizations.push(organization);
        }
    }

    fn id(&mut self, number: usize) -> CourseId {
        let CampusSize { ids, seed, .. } = self.campus.size;
        match ids {
            IdKind::Uuid => CourseId::Uuid(self.random.uuid()),
            IdKind::Text => CourseId::Text(TextId::of(self.random.uuid().as_u128())),
            // Small numbers: 4 is a prefix of 42, and both are courses. Seeds are 100 millions apart.
            IdKind::Integer => CourseId::Integer(
                i64::try_from(seed.saturating_sub(1)).unwrap_or(0) * 100_000_000
                    + i64::try_from(number).unwrap_or(i64::MAX / 2),
            ),
        }
    }

    fn course(&mut self, index: usize) {
        let CampusSize { courses, doomed, organizations, .. } = self.campus.size;
        // The doomed ones are spread among the others.
        let rank = (index * doomed) / courses;
        let is_doomed = ((index + 1) * doomed) / courses > rank;
        let doom = is_doomed.then_some(match rank % 4 {
            0 | 1 => Doom::ForgetfulPath,
            2 => Doom::Cascade,
            _ => Doom::OldDraft,
        });
        // The last organization is the one that is deleted.
        let home = if doom == Some(Doom::Cascade) { organizations - 1 } else { index % (organizations - 1) };
        let (status, age_days) = match (doom, index % 5) {
            (Some(Doom::OldDraft), _) => ("draft", 90),
            (_, 0) => ("draft", 3),
            (_, 1) => ("archived", 400),
            _ => ("published", 200),
        };
        let course = Course {
            id: self.id(index + 1),
            organization: self.campus.organizations[home].id,
            user: self.random.uuid(),
            slug: format!("course-{}-{}", self.campus.size.seed, index + 1),
            status,
            age_days,
            doom,
        };
        self.course_resources(course.id, course.organization, true);
        self.campus.courses.push(course);
    }

    /// A course of another environment: its resources are here, its rows are not.
    fn foreign_course(&mut self, index: usize) {
        let id = self.id(50_000_000 + index);
        let organization = self.random.uuid();
        self.course_resources(id, organization, false);
        self.campus.foreign.push(id);
    }

    fn course_resources(&mut self, id: CourseId, organization: Uuid, catalogued: bool) {
        let owner = Owner::Course(id);
        let documents: Vec<Uuid> = (0..DOCUMENTS).map(|_| self.random.uuid()).collect();
        let lesson = self.random.uuid();
        let (document, millis) = (documents[0], 1_768_471_200_000 + self.random.next() % 1_000_000_000);
        for (name, ttl) in [
            (format!("phase1_cache:{id}"), Some(DAY)),
            (format!("file_cache:{id}:{document}:markdown"), Some(4 * HOUR)),
            (format!("file_cache:{id}:{document}:processed"), Some(4 * HOUR)),
            (format!("lesson_md:{id}:{lesson}"), Some(4 * HOUR)),
            (format!("lesson:uuid:{id}:1.2"), Some(HOUR)),
            (format!("doc_class:v2:{id}:{document}"), None),
            (format!("generation:lock:{id}"), Some(HOUR / 6)),
            (format!("rag:{id}:section:1.2"), None),
            (format!("idempotency:generation-{id}-{millis}"), Some(DAY)),
            (format!("idempotency:auto-{id}-stage6-lesson-{lesson}"), Some(DAY)),
            (format!("idempotency:worker-fallback-stage4-auto-{id}-stage4"), Some(DAY)),
        ] {
            self.key(name, ttl, owner.clone());
        }

        for document in &documents {
            let path = format!("uploads/{organization}/{id}/{document}.pdf");
            self.file(path.clone(), owner.clone());
            if catalogued {
                self.catalog(Some(id), organization, StoredPath::Relative(path), None);
            }
        }
        self.file(format!("enrichments/{id}/card.webp"), owner.clone());
        let enrichment = self.random.uuid();
        self.file(format!("enrichments/{id}/{lesson}/{enrichment}.webp"), owner.clone());

        for chunk in 0..self.campus.size.points {
            let mut payload = self.payload(json!(id_value(id)), organization, documents[chunk % DOCUMENTS]);
            payload["chunk_id"] = json!(format!("{id}-{chunk}"));
            self.point(payload, owner.clone());
        }
    }

    pub fn payload(&mut self, course_id: Value, organization: Uuid, document: Uuid) -> Value {
        json!({
            "course_id": course_id,
            "organization_id": organization,
            "document_id": document,
            "chunk_id": self.random.uuid(),
            "level": "child",
            "chapter": "Chapter 1",
            "section": "Section 2",
            "indexed_at": "2026-01-15T10:00:00.000Z",
        })
    }

    pub fn key(&mut self, name: String, ttl: Option<u64>, owner: Owner) {
        let value = KeyValue::Text(format!("{:016x}", self.random.next()));
        self.campus.keys.push(Key { name, value, ttl, owner });
    }

    /// Every third point has a number for an id, as the old ones do.
    pub fn point(&mut self, payload: Value, owner: Owner) {
        let id = if self.campus.points.len().is_multiple_of(3) {
            self.next_number += 1;
            PointId::Number(self.next_number)
        } else {
            PointId::Uuid(self.random.uuid())
        };
        let dense = self.random.unit_vector(self.campus.size.vector_size);
        let sparse = vec![(3, 0.5), (40 + u32::from(self.random.next().to_le_bytes()[0]), 0.25)];
        self.campus.points.push(Point { id, payload, dense, sparse, owner });
    }

    pub fn file(&mut self, path: String, owner: Owner) {
        let file = self.content(path, owner);
        self.campus.files.push(file);
    }

    pub fn object(&mut self, name: String, owner: Owner) {
        let object = self.content(name, owner);
        self.campus.objects.push(object);
    }

    fn content(&mut self, path: String, owner: Owner) -> File {
        let content = format!("{path}\n{:016x}\n", self.random.next()).into_bytes();
        File { path, content, owner }
    }

    pub fn catalog(&mut self, course: Option<CourseId>, organization: Uuid, path: StoredPath, original: Option<Uuid>) {
        let id = self.random.uuid();
        self.campus.catalog.push(CatalogRow { id, course, organization, path, original });
    }
}

/// Those that are to be deleted, and those that stay.
pub(super) fn parted(campus: &Campus) -> (Vec<Course>, Vec<Course>) {
    campus.courses.iter().cloned().partition(|course| course.doom.is_some())
}

/// An id as payloads hold it.
pub(super) fn id_value(id: CourseId) -> Value {
    match id {
        CourseId::Uuid(id) => json!(id),
        CourseId::Integer(id) => json!(id),
        CourseId::Text(id) => json!(id.to_string()),
    }
}
