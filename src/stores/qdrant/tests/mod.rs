//! The store on the real engine.

mod bench;
mod failures;
mod markers;
mod patterns;
mod vectors;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use qdrant_client::qdrant::{DeleteCollectionBuilder, FieldType, StrictModeConfig};
use serde_json::json;

use self::bench::{KEY, Plan, World, alias, create, open, strict, uuid};
use crate::domain::ids::{CourseId, IdType};
use crate::domain::inventory::{Census, Inventory, SourceIndex};
use crate::domain::live_set::LiveSet;
use crate::stores::contract::{self, Bench, located};
use crate::stores::{Handle, Outcome, Store, StoreError, Targets};
use crate::sweep::Condemned;

const NOTES: SourceIndex = SourceIndex(0);
const CHUNKS: SourceIndex = SourceIndex(1);
const FRESH: Duration = Duration::from_secs(3600);

async fn inventory(store: &dyn Store, live: &[CourseId]) -> Result<Inventory, StoreError> {
    let live = LiveSet::from_ids(IdType::Uuid, live.iter().copied());
    let mut census = Census::new(Arc::new(live), store.sources().len());
    store.inventory(&mut census).await?;
    Ok(census.finish())
}

fn targets(source: SourceIndex, courses: impl IntoIterator<Item = CourseId>) -> Targets {
    let mut targets = Targets::none(source.0 + 1);
    courses.into_iter().for_each(|course| targets.insert(source, course));
    targets
}

async fn delete(store: &dyn Store, handles: Vec<Handle>) -> Vec<Outcome> {
    store.delete(&Condemned::for_test(handles, FRESH)).await.outcomes
}

async fn keeps_the_contract(plan: Plan) {
    contract::keeps(&plan.build().await).await;
}

#[tokio::test]
async fn a_keyword_index_keeps_the_contract() {
    keeps_the_contract(Plan::new(IdType::Uuid, Some(FieldType::Keyword))).await;
}

#[tokio::test]
async fn a_keyword_index_under_strict_mode_keeps_the_contract() {
    keeps_the_contract(Plan::new(IdType::Uuid, Some(FieldType::Keyword)).strict()).await;
}

#[tokio::test]
async fn a_uuid_index_under_strict_mode_keeps_the_contract() {
    keeps_the_contract(Plan::new(IdType::Uuid, Some(FieldType::Uuid)).strict()).await;
}

#[tokio::test]
async fn uuids_without_an_index_keep_the_contract() {
    keeps_the_contract(Plan::new(IdType::Uuid, None)).await;
}

#[tokio::test]
async fn an_index_of_another_type_keeps_the_contract() {
    keeps_the_contract(Plan::new(IdType::Uuid, Some(FieldType::Integer))).await;
}

#[tokio::test]
async fn a_pattern_of_collections_keeps_the_contract() {
    contract::keeps(&Plan::new(IdType::Uuid, Some(FieldType::Keyword)).build_over_a_pattern().await).await;
}

#[tokio::test]
async fn an_integer_index_under_strict_mode_keeps_the_contract() {
    keeps_the_contract(Plan::new(IdType::Integer, Some(FieldType::Integer)).strict()).await;
}

#[tokio::test]
async fn integers_in_a_keyword_index_keep_the_contract() {
    keeps_the_contract(Plan::new(IdType::Integer, Some(FieldType::Keyword))).await;
}

#[tokio::test]
async fn texts_in_a_keyword_index_keep_the_contract() {
    keeps_the_contract(Plan::new(contract::texts(), Some(FieldType::Keyword))).await;
}

#[tokio::test]
async fn integers_without_an_index_keep_the_contract() {
    keeps_the_contract(Plan::new(IdType::Integer, None)).await;
}

/// A world of `courses` courses with two points each, in both collections.
async fn many(plan: Plan, courses: u64) -> World {
    let world = plan.build().await;
    for source in [NOTES, CHUNKS] {
        let payloads = (0..courses * 2).map(|n| json!({ KEY: uuid(n / 2).to_string() })).collect();
        world.write_all(source, payloads).await;
    }
    world
}

#[tokio::test]
async fn more_courses_than_strict_mode_lists_are_all_found_and_deleted() {
    let (courses, live) = (400, 100);
    let world = many(Plan::new(IdType::Uuid, Some(FieldType::Keyword)).strict(), courses).await;
    let live: Vec<_> = (0..live).map(uuid).collect();
    let dead: Vec<_> = (live.len() as u64..courses).map(uuid).collect();
    let inventory = inventory(&world.store, &live).await.unwrap();
    for source in &inventory.sources {
        assert_eq!((source.live_courses, source.live_resources), (100, 200));
        assert_eq!(source.dead.keys().copied().collect::<Vec<_>>(), dead);
        assert!(source.dead.values().all(|found| (found.amount.resources, found.entangled) == (2, 0)));
    }
    let handles = located(&world.store, &targets(CHUNKS, dead.clone())).await;
    assert_eq!(handles.len(), dead.len());
    // More of them than one condition may hold.
    let outcomes = delete(&world.store, handles).await;
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Deleted { resources: 2, bytes: None }), "{outcomes:?}");
    let remaining = world.store.remaining(&targets(CHUNKS, (0..courses).map(uuid))).await.unwrap();
    assert_eq!(remaining.iter().map(|(.., count)| count).sum::<u64>(), 200, "the live courses' points are there");
    assert_eq!(world.contents().await.len(), 200 + 800, "the other collection was not touched");
}

#[tokio::test]
async fn the_facet_asks_for_more_until_nothing_is_cut() {
    let (courses, live) = (2100, 2050);
    let world = Plan::new(IdType::Uuid, Some(FieldType::Keyword)).build().await;
    world.write_all(NOTES, (0..courses).map(|n| json!({ KEY: uuid(n).to_string() })).collect()).await;
    let live: Vec<_> = (0..live).map(uuid).collect();
    let source = inventory(&world.store, &live).await.unwrap().sources.remove(0);
    assert_eq!((source.live_courses, source.dead.len()), (2050, 50));
}

#[tokio::test]
async fn s5_a_point_that_names_more_than_one_value_is_never_deleted() {
    for index in [Some(FieldType::Keyword), Some(FieldType::Uuid), None] {
        let world = Plan::new(IdType::Uuid, index).build().await;
        let (dead, live) = (uuid(1).to_string(), uuid(0).to_string());
        let kept = [
            json!({ KEY: [dead, live] }),
            json!({ KEY: [dead, dead] }),
            json!({ KEY: [dead, 5] }),
            json!({ KEY: [dead, null] }),
            json!({ KEY: [dead, "draft"] }),
            json!({ KEY: [dead, uuid(2).to_string()] }),
            json!({ KEY: [[dead, live]] }),
            json!({ KEY: { "id": dead } }),
        ];
        let kept = world.write_all(NOTES, kept.to_vec()).await;
        world.write_all(NOTES, vec![json!({ KEY: dead }), json!({ KEY: [dead] })]).await;

        let found = inventory(&world.store, &[uuid(0)]).await.unwrap().sources[0].dead[&uuid(1)].clone();
        assert_eq!((found.amount.resources, found.entangled), (2, 6), "{index:?}");
        let handles = located(&world.store, &targets(NOTES, [uuid(1), uuid(2)])).await;
        assert_eq!(handles.len(), 1, "a course with shared points only has nothing to delete");
        assert_eq!(delete(&world.store, handles).await, [Outcome::Deleted { resources: 2, bytes: None }]);
        assert_eq!(world.contents().await.into_keys().collect::<BTreeSet<_>>(), kept.into_iter().collect());
        let remaining = world.store.remaining(&targets(NOTES, [uuid(1)])).await.unwrap();
        assert_eq!(remaining, [(NOTES, uuid(1), 6)]);
    }
}

/// There are as many values as points, and the index holds each point: what it does not show is that one has two values.
#[tokio::test]
async fn s5_a_point_of_two_values_of_which_an_index_shows_one_is_told() {
    let (dead, live) = (uuid(1).to_string(), uuid(0).to_string());
    for (index, odd) in [
        (FieldType::Keyword, json!([dead, dead])),
        (FieldType::Keyword, json!([dead, 5])),
        (FieldType::Uuid, json!([dead, dead])),
        (FieldType::Uuid, json!([dead, "draft"])),
    ] {
        let world = Plan::new(IdType::Uuid, Some(index)).build().await;
        let payloads = vec![json!({ KEY: odd }), json!({ KEY: live }), json!({ KEY: uuid(2).to_string() })];
        world.write_all(NOTES, payloads).await;
        let source = inventory(&world.store, &[uuid(0)]).await.unwrap().sources.remove(0);
        let found: Vec<_> = source.dead.iter().map(|(id, it)| (*id, it.amount.resources, it.entangled)).collect();
        assert_eq!(found, [(uuid(1), 0, 1), (uuid(2), 1, 0)], "{index:?} {odd}");
    }
}

#[tokio::test]
async fn what_was_deleted_is_no_orphan_any_more() {
    let world = Plan::new(IdType::Uuid, Some(FieldType::Keyword)).build().await;
    world.write_all(NOTES, (0..10).map(|n| json!({ KEY: uuid(n).to_string() })).collect()).await;
    let handles = located(&world.store, &targets(NOTES, (1..10).map(uuid))).await;
    delete(&world.store, handles).await;
    let inventory = inventory(&world.store, &[uuid(0)]).await.unwrap();
    assert!(inventory.sources[0].dead.is_empty(), "{inventory:?}");
    assert_eq!(inventory.sources[0].live_courses, 1);
}

#[tokio::test]
async fn a_key_within_an_object_names_the_course_too() {
    let world = Plan::new(IdType::Uuid, None).build().await;
    world.write_all(NOTES, (0..3).map(|n| json!({ "meta": { "course": uuid(n).to_string() } })).collect()).await;
    let mut settings = bench::settings(&world.place, IdType::Uuid, &["notes"]);
    settings.collections[0].key = "meta.course".to_owned();
    let store = super::QdrantStore::new(settings).unwrap();
    let inventory = inventory(&store, &[uuid(0)]).await.unwrap();
    assert_eq!((inventory.sources[0].live_courses, inventory.sources[0].dead.len()), (1, 2));
    let handles = located(&store, &targets(NOTES, [uuid(1), uuid(2)])).await;
    assert_eq!(delete(&store, handles).await.len(), 2);
    assert_eq!(world.contents().await.len(), 1);
}

#[tokio::test]
async fn only_a_uuid_index_takes_another_spelling_for_the_course() {
    for (index, expected) in [(Some(FieldType::Keyword), (0, 2)), (None, (0, 2)), (Some(FieldType::Uuid), (2, 0))] {
        let world = Plan::new(IdType::Uuid, index).build().await;
        let id = uuid(1).to_string();
        world.write_all(NOTES, [id.to_uppercase(), format!("{{{id}}}")].map(|id| json!({ KEY: id })).to_vec()).await;
        let source = inventory(&world.store, &[]).await.unwrap().sources.remove(0);
        let dead: u64 = source.dead.values().map(|found| found.amount.resources).sum();
        assert_eq!((dead, source.unrecognised.count), expected, "{index:?}");
        let remaining = world.store.remaining(&targets(NOTES, [uuid(1)])).await.unwrap();
        assert_eq!(remaining, [(NOTES, uuid(1), expected.0)], "{index:?}");
    }
}
