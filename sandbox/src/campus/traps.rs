//! What a collector must not fall for. Each trap is something that was seen on a real platform, or its near relative.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    CatalogRow, Course, CourseId, Extent, IdKind, Key, KeyValue, Owner, StoredPath,
    plan::{Planner, id_value, parted},
};

pub(super) fn set(planner: &mut Planner) {
    let (doomed, staying) = parted(&planner.campus);
    shared_uploads(planner, &doomed, &staying);
    odd_files(planner, &doomed, &staying);
    odd_points(planner, &doomed, &staying);
    odd_keys(planner, &doomed, &staying);
    keys_of_no_course(planner);
    // A whole campus has real ones.
    if planner.campus.extent == Extent::Core {
        queues(planner, &doomed, &staying);
    }
}

/// Uploads are stored once: another course's row can lead into a doomed course's directory.
fn shared_uploads(planner: &mut Planner, doomed: &[Course], staying: &[Course]) {
    let Some(user) = staying.first() else { return };
    // The first doomed course is left without, so that even a tiny campus has something to sweep.
    for (number, lender) in doomed.iter().enumerate().skip(1).take(6) {
        let Some(CatalogRow { id, path: StoredPath::Relative(path), .. }) =
            planner.campus.catalog.iter().find(|row| row.course == Some(lender.id)).cloned()
        else {
            continue;
        };
        let borrower = staying.get(number).unwrap_or(user);
        let base_name = path.rsplit('/').next().unwrap_or_default().to_owned();
        let (course, path) = match number {
            1 | 2 => (Some(borrower.id), StoredPath::Relative(path)),
            3 => (Some(borrower.id), StoredPath::Absolute(path)),
            4 => (Some(borrower.id), StoredPath::Elsewhere(format!("/srv/old-server/data/{base_name}"))),
            5 => (None, StoredPath::Relative(path)),
            // The borrower is doomed as well: its row goes with it and holds nothing.
            _ => (Some(doomed[0].id), StoredPath::Relative(path)),
        };
        planner.catalog(course, borrower.organization, path, Some(id));
    }
}

fn odd_files(planner: &mut Planner, doomed: &[Course], staying: &[Course]) {
    for course in doomed.iter().take(2).chain(staying.first()) {
        let organization = course.organization;
        for text in uncanonical(course.id) {
            planner.file(format!("uploads/{organization}/{text}/notes.pdf"), Owner::Unrecognised);
            planner.file(format!("enrichments/{text}/card.webp"), Owner::Unrecognised);
        }
        let playbook = planner.random.uuid();
        let path = format!("uploads/{organization}/career-playbooks/{playbook}/playbook.pdf");
        planner.file(path.clone(), Owner::Unrecognised);
        planner.catalog(None, organization, StoredPath::Relative(path), None);
    }
    planner.file("uploads/.gitkeep".to_owned(), Owner::Nobody);
    planner.file("enrichments/readme.txt".to_owned(), Owner::Nobody);
}

fn odd_points(planner: &mut Planner, doomed: &[Course], staying: &[Course]) {
    let unrecognised = |planner: &mut Planner, course_id: Value| {
        let (organization, document) = (planner.random.uuid(), planner.random.uuid());
        let payload = planner.payload(course_id, organization, document);
        planner.point(payload, Owner::Unrecognised);
    };
    for text in ["", "../../etc", "none"] {
        unrecognised(planner, json!(text));
    }
    unrecognised(planner, Value::Null);
    for course in doomed.iter().take(2).chain(staying.first()) {
        for text in uncanonical(course.id) {
            unrecognised(planner, json!(text));
        }
    }
    let (organization, document) = (planner.random.uuid(), planner.random.uuid());
    let mut without = planner.payload(Value::Null, organization, document);
    if let Some(payload) = without.as_object_mut() {
        payload.remove("course_id");
    }
    planner.point(without, Owner::Unrecognised);

    for (dead, live) in doomed.iter().zip(staying).take(3) {
        let both = json!([id_value(dead.id), id_value(live.id)]);
        let payload = planner.payload(both, dead.organization, document);
        planner.point(payload, Owner::Courses(vec![dead.id, live.id]));
    }
}

fn odd_keys(planner: &mut Planner, doomed: &[Course], staying: &[Course]) {
    for course in doomed.iter().take(2).chain(staying.first()) {
        for text in uncanonical(course.id) {
            planner.key(format!("phase1_cache:{text}"), None, Owner::Unrecognised);
            planner.key(format!("rag:{text}:section:1.2"), None, Owner::Unrecognised);
        }
        // Close to a template, but none.
        planner.key(format!("phase1_cache_old:{}", course.id), None, Owner::Nobody);
        planner.key(format!("phase1_cache:{}:extra", course.id), None, Owner::Unrecognised);
    }
    for text in ["", "../../etc"] {
        planner.key(format!("phase1_cache:{text}"), None, Owner::Unrecognised);
    }
    // Numbers stand everywhere in names, so only other ids can be found anywhere in them.
    if planner.campus.size.ids != IdKind::Integer {
        for (dead, live) in doomed.iter().zip(staying).take(3) {
            let both = Owner::Courses(vec![dead.id, live.id]);
            planner.key(format!("rag:{}:from:{}", dead.id, live.id), None, both.clone());
            planner.key(format!("lesson_md:{}:copied-to-{}", dead.id, live.id), None, both);
        }
    }
}

fn keys_of_no_course(planner: &mut Planner) {
    for _ in 0..5 {
        let (user, session, outbox) = (planner.random.uuid(), planner.random.uuid(), planner.random.uuid());
        let hash = format!("{:016x}{:016x}", planner.random.next(), planner.random.next());
        planner.key(format!("concurrency:user:{user}"), None, Owner::Nobody);
        planner.key(format!("draft:session:{user}:{session}"), Some(86_400), Owner::Nobody);
        planner.key(format!("embedding:{hash}"), None, Owner::Nobody);
        planner.key(format!("intent_class:v1:{hash}"), None, Owner::Nobody);
        let looks = match planner.campus.size.ids {
            IdKind::Uuid => Owner::Lookalike(CourseId::Uuid(outbox)),
            IdKind::Integer | IdKind::Text => Owner::Unrecognised,
        };
        planner.key(format!("idempotency:worker-fallback-stage2-{outbox}"), Some(86_400), looks);
        let requests = KeyValue::Scores(vec![(session.to_string(), 1_768_471_200.0)]);
        planner.campus.keys.push(Key {
            name: format!("rate-limit:{user}"),
            value: requests,
            ttl: Some(3_600),
            owner: Owner::Nobody,
        });
    }
}

/// A queue's keys look like any others; deleting them as keys breaks the queue.
fn queues(planner: &mut Planner, doomed: &[Course], staying: &[Course]) {
    let queue = format!("bull:course-generation-{}", planner.campus.size.seed);
    let mut jobs = Vec::new();
    for course in doomed.iter().take(3).chain(staying.iter().take(2)) {
        let job = format!("auto-{}-stage4", course.id);
        let data = json!({ "courseId": id_value(course.id), "stage": 4 }).to_string();
        let value = KeyValue::Fields(vec![("name".to_owned(), "stage4".to_owned()), ("data".to_owned(), data)]);
        planner.campus.keys.push(Key { name: format!("{queue}:{job}"), value, ttl: None, owner: Owner::Nobody });
        jobs.push(job);
    }
    if jobs.is_empty() {
        return;
    }
    let failed = KeyValue::Scores(jobs.iter().map(|job| (job.clone(), 1_768_471_200_000.0)).collect());
    for (name, value) in [("failed", failed), ("wait", KeyValue::List(jobs))] {
        planner.campus.keys.push(Key { name: format!("{queue}:{name}"), value, ttl: None, owner: Owner::Nobody });
    }
}

/// Texts that a lenient parser takes for the id and that are not its canonical form.
pub(super) fn uncanonical(id: CourseId) -> [String; 2] {
    match id {
        CourseId::Uuid(id) => [upper(id), format!("{{{id}}}")],
        CourseId::Integer(id) => [format!("{id:012}"), format!("+{id}")],
        CourseId::Text(id) => [id.to_string().to_uppercase(), format!("x{id}")],
    }
}

/// The id in upper case; an id without a letter has none, which no planned one is.
fn upper(id: Uuid) -> String {
    id.to_string().to_uppercase()
}
