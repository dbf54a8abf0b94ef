//! The campus and the snapshot: what is seeded is what was planned, and no change goes unseen.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail as tests do")]

use std::collections::BTreeSet;

use qdrant_client::{
    Payload,
    qdrant::{CountPointsBuilder, PointsIdsList, SetPayloadPointsBuilder},
};
use sandbox::{
    PointId, Resource, Snapshot, Stores, World,
    campus::{Campus, CampusSize, Extent, Fate, IdKind, Job, JobState},
};
use serde_json::json;

async fn seeded(campus: Campus) -> (World, Stores, Campus) {
    let world = match campus.extent {
        Extent::Core => World::create().await.unwrap(),
        Extent::Whole => World::whole().await.unwrap(),
    };
    let stores = Stores::connect(&world.addresses()).await.unwrap();
    campus.seed(&stores).await.unwrap();
    (world, stores, campus)
}

fn integers() -> CampusSize {
    CampusSize { ids: IdKind::Integer, ..CampusSize::default() }
}

fn whole() -> Campus {
    Campus::whole(CampusSize::default())
}

#[test]
fn the_same_size_gives_the_same_campus() {
    for size in [CampusSize::default(), integers()] {
        assert_eq!(Campus::whole(size), Campus::whole(size));
        assert_eq!(Campus::plan(size), Campus::plan(size));
        assert_ne!(Campus::plan(size).keys, Campus::plan(CampusSize { seed: 2, ..size }).keys);
    }
}

#[test]
fn no_resource_is_planned_twice() {
    for size in [CampusSize::default(), integers(), CampusSize::large()] {
        let campus = Campus::plan(size);
        let resources = campus.keys.len() + campus.points.len() + campus.files.len();
        assert_eq!(campus.fates(&BTreeSet::new()).len(), resources);
        let other = Campus::plan(CampusSize { seed: 2, ..size }).fates(&BTreeSet::new());
        let common = |resource: &&Resource| other.contains_key(*resource);
        let fates = campus.fates(&BTreeSet::new());
        let shared: Vec<_> = fates.keys().filter(common).collect();
        // Odd names without any id are in every campus.
        assert!(shared.len() < 6, "{shared:?}");
    }
}

#[test]
fn a_whole_campus_holds_what_any_other_does_and_more() {
    for size in [CampusSize::default(), integers()] {
        let campus = Campus::whole(size);
        let jobs: usize = campus.jobs.iter().map(|job| job.ids().len()).sum();
        let resources = campus.keys.len() + campus.points.len() + campus.files.len();
        let further = jobs + campus.rows.len() + campus.objects.len();
        assert_eq!(campus.fates(&BTreeSet::new()).len(), resources + further, "none is planned twice");
        let core = Campus::plan(size);
        assert_eq!((core.points, core.files, core.catalog), (campus.points, campus.files, campus.catalog));
    }
}

#[test]
fn nothing_goes_while_every_course_is_there() {
    let campus = whole();
    assert!(campus.gone(&BTreeSet::new()).is_empty());
}

#[test]
fn every_reason_to_hold_occurs_in_both_kinds_of_campus() {
    use sandbox::campus::{LOCKED, NOT_A_COURSES, REFERENCED, SEVERAL_IDS, STRANGER, UNRECOGNISED};
    let core = [Campus::plan(CampusSize::default()), Campus::plan(integers())];
    for campus in core.into_iter().chain([whole(), Campus::whole(integers())]) {
        let fates: BTreeSet<Fate> = campus.fates(&campus.doomed()).into_values().collect();
        let reasons = [NOT_A_COURSES, REFERENCED, SEVERAL_IDS, STRANGER, UNRECOGNISED].map(Fate::Held);
        assert!(reasons.iter().chain(&[Fate::Gone, Fate::Live]).all(|fate| fates.contains(fate)), "{fates:?}");
        assert_eq!(fates.contains(&Fate::Held(LOCKED)), campus.extent == Extent::Whole);
    }
}

#[tokio::test]
async fn what_is_planned_is_seeded_and_the_deletes_remove_what_they_should() {
    for campus in [Campus::plan(CampusSize::default()), Campus::plan(integers()), whole()] {
        let (_world, stores, campus) = seeded(campus).await;
        let before = Snapshot::take(&stores).await.unwrap();
        let planned: BTreeSet<Resource> = campus.fates(&BTreeSet::new()).into_keys().collect();
        let there: BTreeSet<Resource> = before.resources().filter(|it| !is_claim(it)).cloned().collect();
        assert_eq!(there, planned);

        let deleted = campus.delete_doomed(&stores).await.unwrap();
        assert_eq!(deleted, campus.doomed());
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM courses").fetch_one(&stores.postgres).await.unwrap();
        assert_eq!(usize::try_from(left).unwrap(), campus.size.courses - campus.size.doomed);

        let difference = before.diff(&Snapshot::take(&stores).await.unwrap());
        assert!(difference.added.is_empty() && difference.changed.is_empty());
        assert!(!difference.gone.is_empty());
        for resource in &difference.gone {
            let Resource::Key(name) = resource else { panic!("{resource:?} is gone") };
            assert!(name.starts_with(b"idempotency:generation-"), "{resource:?}");
        }

        let back = *deleted.first().unwrap();
        campus.revive(&stores, back).await.unwrap();
        let courses: Vec<String> =
            sqlx::query_scalar("SELECT id::text FROM courses").fetch_all(&stores.postgres).await.unwrap();
        assert!(courses.contains(&back.to_string()));
    }
}

#[tokio::test]
async fn one_course_can_be_seeded_alone() {
    let world = World::create().await.unwrap();
    let stores = Stores::connect(&world.addresses()).await.unwrap();
    let campus = Campus::plan(CampusSize::default());
    campus.prepare(&stores).await.unwrap();
    let course = campus.only(campus.courses[0].id);
    course.seed_resources(&stores).await.unwrap();
    course.seed_rows(&stores).await.unwrap();
    let there = Snapshot::take(&stores).await.unwrap();
    let planned = course.fates(&BTreeSet::new());
    assert!(planned.values().all(|fate| *fate == Fate::Live));
    assert_eq!(there.resources().filter(|it| !is_claim(it)).count(), planned.len());
}

#[tokio::test]
async fn the_collection_is_as_strict_as_the_platform_s() {
    let (_world, stores, _campus) = seeded(Campus::plan(CampusSize::default())).await;
    let alias = &stores.addresses.alias;
    let info = stores.qdrant.collection_info(alias).await.unwrap().result.unwrap();
    let strict = info.config.unwrap().strict_mode_config.unwrap();
    assert_eq!((strict.enabled, strict.max_query_limit), (Some(true), Some(100)));
    let unindexed =
        qdrant_client::qdrant::Filter::must([qdrant_client::qdrant::Condition::matches("level", "child".to_owned())]);
    stores.qdrant.count(CountPointsBuilder::new(alias).filter(unindexed).exact(true)).await.unwrap_err();
}

#[tokio::test]
async fn a_snapshot_sees_one_changed_byte_in_every_store() {
    let (_world, stores, campus) = seeded(whole()).await;
    let before = Snapshot::take(&stores).await.unwrap();
    assert_eq!(before, Snapshot::take(&stores).await.unwrap());

    let key = &campus.keys[0].name;
    let mut redis = stores.redis.clone();
    redis::cmd("SETRANGE").arg(key).arg(0).arg("!").query_async::<()>(&mut redis).await.unwrap();

    let file = &campus.files[0].path;
    let path = stores.addresses.files.join(file);
    let mut content = std::fs::read(&path).unwrap();
    content[0] ^= 1;
    std::fs::write(&path, content).unwrap();

    let point = campus.points[0].id;
    let id = match point {
        PointId::Number(id) => id.into(),
        PointId::Uuid(id) => id.to_string().into(),
    };
    let payload = Payload::try_from(json!({ "section": "Section 3" })).unwrap();
    let change = SetPayloadPointsBuilder::new(stores.addresses.collection(), payload)
        .points_selector(PointsIdsList { ids: vec![id] })
        .wait(true);
    stores.qdrant.set_payload(change).await.unwrap();

    let row = &campus.rows[0];
    let change = format!("UPDATE {} SET context = context || '!' WHERE id = $1", row.table.name);
    sqlx::query(sqlx::AssertSqlSafe(change)).bind(row.id).execute(&stores.postgres).await.unwrap();

    let object = &campus.objects[0];
    let mut content = object.content.clone();
    content[0] ^= 1;
    stores.bucket.as_ref().unwrap().put(object.path.clone(), content).await.unwrap();

    // A job's own hash, its place in its queue, and a hash that has gone while its queue still names it.
    let delayed: Vec<&Job> = campus.jobs.iter().filter(|job| job.state == JobState::Delayed).take(3).collect();
    let key = |job: &Job| format!("bull:{}:{}", job.queue, job.id);
    redis::cmd("HSET").arg(key(delayed[0])).arg("name").arg("other").query_async::<()>(&mut redis).await.unwrap();
    let queue = format!("bull:{}:delayed", delayed[1].queue);
    redis::cmd("ZREM").arg(queue).arg(&delayed[1].id).query_async::<()>(&mut redis).await.unwrap();
    redis::cmd("DEL").arg(key(delayed[2])).query_async::<()>(&mut redis).await.unwrap();

    let difference = before.diff(&Snapshot::take(&stores).await.unwrap());
    let mut changed = BTreeSet::from([
        Resource::Key(campus.keys[0].name.clone().into_bytes()),
        Resource::Point(point),
        Resource::File(file.clone()),
        Resource::Row { table: row.table.name, id: row.id },
        Resource::Object(object.path.clone()),
    ]);
    changed.extend(delayed.iter().map(|job| Resource::Job { queue: job.queue.clone(), id: job.id.clone() }));
    assert_eq!(difference.changed, changed);
    assert!(difference.gone.is_empty() && difference.added.is_empty());
}

#[tokio::test]
async fn two_thousand_courses_are_seeded_in_seconds() {
    let (_world, stores, campus) = seeded(Campus::plan(CampusSize::large())).await;
    let there = Snapshot::take(&stores).await.unwrap();
    let resources = campus.keys.len() + campus.points.len() + campus.files.len();
    assert_eq!(there.resources().filter(|it| !is_claim(it)).count(), resources);
}

/// The mark on a logical database of a given server.
fn is_claim(resource: &Resource) -> bool {
    *resource == Resource::Key(b"course-gc-sandbox:claim".to_vec())
}
