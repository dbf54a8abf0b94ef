//! A source that is a pattern of collections, which come and go.

use std::collections::{BTreeMap, HashMap};

use qdrant_client::qdrant::{PointStruct, UpdateCollectionBuilder, UpsertPointsBuilder};
use qdrant_client::{Payload, Qdrant};
use sandbox::Collections;
use uuid::Uuid;

use super::bench::{connect, whole};
use super::*;
use crate::clock::MachineClock;
use crate::domain::markers::{Owner, Truths};
use crate::pace::{Pace, Settings};
use crate::stores::Marker;
use crate::stores::contract::Contents;
use crate::stores::copies::{Copied, CopyId, Item, PutBack, Restoring, Safe};
use crate::stores::qdrant::{QdrantStore, collection::Collection, names::Claim};

const MATERIALS: SourceIndex = SourceIndex(0);

fn owner(installation: u128, counter: u64) -> Owner {
    let truths = Truths::from([("77/campus".to_owned(), "77 1".to_owned())]);
    Owner { installation: Uuid::from_u128(installation), name: "campus".into(), counter, truths }
}

fn marker(counter: u64) -> Marker {
    Marker::of(owner(1, counter))
}

fn plan() -> Plan {
    Plan::new(IdType::Uuid, Some(FieldType::Keyword))
}

/// A server with collections whose points have the same ids in each: two of each course.
struct Sets {
    place: Collections,
    client: Qdrant,
    store: QdrantStore,
}

impl Sets {
    /// A store over `materials-*`, and these collections.
    async fn new(collections: &[&str]) -> Self {
        let place = Collections::create().await.unwrap();
        let client = connect(place.url(), place.api_key());
        let store = open(&place, IdType::Uuid, &["materials-*"]).unwrap();
        let sets = Self { place, client, store };
        for name in collections {
            sets.add(name).await;
        }
        sets
    }

    /// Two points of each of the courses 0, 1 and 2.
    async fn add(&self, name: &str) {
        let name = self.place.name(name);
        create(&self.client, &name, &plan()).await;
        let payload = |n: u64| Payload::try_from(json!({ KEY: uuid(n / 2).to_string() })).unwrap();
        let points = (0..6).map(|n| PointStruct::new(n, vec![1.0, n as f32], payload(n))).collect::<Vec<_>>();
        self.client.upsert_points(UpsertPointsBuilder::new(&name, points).wait(true)).await.unwrap();
    }

    async fn remove(&self, name: &str) {
        self.client.delete_collection(DeleteCollectionBuilder::new(self.place.name(name))).await.unwrap();
    }

    async fn adopt(&self) {
        assert_eq!(self.store.marker().await.unwrap(), None);
        assert!(self.store.move_marker(None, &marker(1)).await.unwrap());
        assert_eq!(self.store.marker().await.unwrap(), Some(marker(1)));
    }

    /// What carries which marker.
    async fn carries(&self, name: &str) -> serde_json::Value {
        let info = self.client.collection_info(self.place.name(name)).await.unwrap().result.unwrap();
        info.config.unwrap().metadata.remove("course_gc").map_or(json!(null), |value| value.into_json())
    }

    async fn set_marker(&self, name: &str, marker: &Marker) {
        let metadata = HashMap::from([("course_gc".to_owned(), serde_json::to_value(marker).unwrap())]);
        let update = UpdateCollectionBuilder::new(self.place.name(name)).metadata(metadata);
        self.client.update_collection(update).await.unwrap();
    }

    async fn contents(&self, names: &[&str]) -> Vec<Contents> {
        let mut contents = Vec::new();
        for name in names {
            contents.push(whole(&self.client, &self.place.name(name)).await);
        }
        contents
    }

    /// Courses 1 and 2 are dead: how many points each has, and what is told besides.
    async fn dead(&self) -> (Vec<u64>, Vec<String>, u64) {
        let source = inventory(&self.store, &[uuid(0)]).await.unwrap().sources.remove(0);
        let dead = source.dead.values().map(|found| found.amount.resources).collect();
        (dead, source.unrecognised.samples, source.unrecognised.count)
    }

    async fn handles(&self) -> Vec<Handle> {
        located(&self.store, &targets(MATERIALS, [uuid(1), uuid(2)])).await
    }

    /// How many points are left of each dead course.
    async fn remaining(&self) -> BTreeMap<CourseId, u64> {
        let mut left = BTreeMap::new();
        for (_, course, count) in self.store.remaining(&targets(MATERIALS, [uuid(1), uuid(2)])).await.unwrap() {
            *left.entry(course).or_default() += count;
        }
        left
    }

    async fn copy(&self, handles: &[Handle]) -> (Vec<Copied>, Safe, Vec<Item>) {
        let now = chrono::DateTime::UNIX_EPOCH;
        let id = CopyId { run: Uuid::from_u128(7), batch: 1, taken_at: now, expires_at: now + FRESH };
        let mut items = contract::Items::default();
        let copied = self.store.copy(&id, handles, &mut items).await.unwrap();
        let receipts = copied.iter().map(|copied| match copied {
            Copied::Whole(receipt) => receipt.clone(),
            Copied::Absent | Copied::Failed(_) => Default::default(),
        });
        (copied.clone(), Safe { id, receipts: receipts.collect() }, items.0)
    }
}

const GONE: Outcome = Outcome::Deleted { resources: 2, bytes: None };

#[tokio::test]
async fn exactly_the_dead_courses_points_of_the_matches_go() {
    let sets = Sets::new(&["materials-a", "materials-b", "notes"]).await;
    sets.adopt().await;
    assert_eq!(sets.dead().await, (vec![4, 4], vec![], 0));
    let handles = sets.handles().await;
    assert_eq!(handles.len(), 4, "of two courses in two collections");
    assert_eq!(delete(&sets.store, handles).await, [GONE; 4]);
    let sizes: Vec<_> =
        sets.contents(&["materials-a", "materials-b", "notes"]).await.iter().map(BTreeMap::len).collect();
    assert_eq!(sizes, [2, 2, 6], "the live course's, and what no source has");
    assert_eq!(sets.remaining().await.into_values().sum::<u64>(), 0);
    assert_eq!(sets.carries("notes").await, json!(null));
}

#[tokio::test]
async fn what_matches_by_its_name_and_by_aliases_is_counted_and_deleted_once() {
    let sets = Sets::new(&["materials-a", "embeddings_v7"]).await;
    for (of, name) in
        [("materials-a", "materials-now"), ("embeddings_v7", "materials-b"), ("embeddings_v7", "materials-c")]
    {
        alias(&sets.client, &sets.place.name(of), &sets.place.name(name)).await;
    }
    sets.adopt().await;
    assert_eq!(sets.dead().await, (vec![4, 4], vec![], 0));
    assert_eq!(delete(&sets.store, sets.handles().await).await, [GONE; 4]);
    // A match by an alias alone is one only as long as the alias leads there.
    sets.client.delete_alias(sets.place.name("materials-b")).await.unwrap();
    assert_eq!(sets.store.resolve().await.unwrap().len(), 2);
    sets.client.delete_alias(sets.place.name("materials-c")).await.unwrap();
    assert_eq!(sets.store.resolve().await.unwrap().len(), 1);
}

#[tokio::test]
async fn s7_a_match_that_came_after_the_adoption_is_told_and_held_until_it_is_adopted_too() {
    let sets = Sets::new(&["materials-a"]).await;
    sets.adopt().await;
    sets.add("materials-new").await;
    // Whether it came before the marker was read, or after: nobody adopted it.
    for _ in 0..2 {
        let told =
            format!("(collection {}, which is not adopted: adopt the store again)", sets.place.name("materials-new"));
        assert_eq!(sets.dead().await, (vec![2, 2], vec![told], 6));
        let handles = sets.handles().await;
        assert!(handles.iter().all(|handle| handle.key == sets.place.name("materials-a")), "{handles:?}");
        assert_eq!(sets.remaining().await.into_values().collect::<Vec<_>>(), [4, 4], "what is held is there");
        assert!(sets.store.identity().await.unwrap().contains("materials-new, which is not adopted"));
        assert_eq!(sets.store.marker().await.unwrap(), Some(marker(1)), "the rest stays adopted");
    }
    // Nobody's handle leads there, whoever made it.
    let new = sets.place.name("materials-new");
    let handle = Handle { source: MATERIALS, owner: uuid(1), mentions: vec![], key: new.clone().into() };
    let [Copied::Failed(why)] = &sets.copy(std::slice::from_ref(&handle)).await.0[..] else { panic!("it is copied") };
    assert!(why.contains(&new) && why.contains("carries no marker"), "{why}");
    let outcomes = delete(&sets.store, vec![handle]).await;
    assert!(matches!(&outcomes[..], [Outcome::Failed(why)] if why.contains("carries no marker")), "{outcomes:?}");

    // A run moves the marker where it is, and nowhere else.
    assert!(sets.store.move_marker(Some(&marker(1)), &marker(2)).await.unwrap());
    assert!(!sets.store.move_marker(None, &marker(2)).await.unwrap());
    assert_eq!(
        (sets.carries("materials-a").await, sets.carries("materials-new").await),
        (json!(marker(2)), json!(null))
    );
    sets.store.mark_newcomers().await.unwrap();
    assert_eq!(sets.store.marker().await.unwrap(), Some(marker(2)));
    assert_eq!(sets.dead().await, (vec![4, 4], vec![], 0));
    assert_eq!(delete(&sets.store, sets.handles().await).await, [GONE; 4]);
}

#[tokio::test]
async fn s7_before_a_pattern_is_adopted_all_of_it_is_shown() {
    let sets = Sets::new(&[]).await;
    let error = sets.store.move_marker(None, &marker(1)).await.unwrap_err().to_string();
    assert!(error.contains("no collection matches `") && error.contains("materials-*`"), "{error}");
    sets.store.mark_newcomers().await.unwrap();
    for name in ["materials-a", "materials-b"] {
        sets.add(name).await;
    }
    assert_eq!(sets.store.marker().await.unwrap(), None);
    assert_eq!(sets.dead().await, (vec![4, 4], vec![], 0));
    sets.store.mark_newcomers().await.unwrap();
    assert_eq!(sets.carries("materials-a").await, json!(null), "there is no marker to give");

    // An adoption that was interrupted is brought to its end by the next one.
    sets.set_marker("materials-a", &marker(0)).await;
    assert_eq!(sets.store.marker().await.unwrap(), Some(marker(0)));
    assert_eq!(sets.dead().await.2, 6);
    sets.store.mark_newcomers().await.unwrap();
    assert_eq!(sets.carries("materials-b").await, json!(marker(0)));
}

#[tokio::test]
async fn s7_a_newcomer_gets_the_marker_of_everybody_who_shares_the_store() {
    let sets = Sets::new(&["materials-a", "materials-b"]).await;
    let both = |one, two| Marker::of(owner(1, one)).with(owner(2, two));
    // One of them was interrupted in a run.
    sets.set_marker("materials-a", &both(6, 3)).await;
    sets.set_marker("materials-b", &both(5, 3)).await;
    sets.add("materials-c").await;
    sets.store.mark_newcomers().await.unwrap();
    assert_eq!(sets.carries("materials-c").await, json!(both(5, 3)));
    assert!(sets.store.move_marker(Some(&both(5, 3)), &both(6, 3)).await.unwrap());
    for name in ["materials-a", "materials-b", "materials-c"] {
        assert_eq!(sets.carries(name).await, json!(both(6, 3)));
    }
    // What carries somebody else's is not the store's, and nobody writes over it.
    sets.add("materials-d").await;
    sets.set_marker("materials-d", &Marker::of(owner(9, 9))).await;
    for error in [sets.store.marker().await.unwrap_err(), sets.store.mark_newcomers().await.unwrap_err()] {
        assert!(error.to_string().contains("different markers"), "{error}");
    }
    assert_eq!(sets.carries("materials-d").await, json!(Marker::of(owner(9, 9))));
}

#[tokio::test]
async fn a_match_that_vanishes_in_a_run_loses_nothing_of_the_others() {
    let sets = Sets::new(&["materials-a", "materials-b", "materials-c"]).await;
    sets.adopt().await;
    let places = sets.store.resolve().await.unwrap();
    let looked = sets.store.look_at(places.clone()).await.unwrap();
    let handles = sets.handles().await;
    assert_eq!(handles.len(), 6);
    sets.remove("materials-a").await;

    // Listed before it went, looked at afterwards.
    assert_eq!(sets.store.look_at(places.clone()).await.unwrap().len(), 2);
    let live = Arc::new(LiveSet::from_ids(IdType::Uuid, [uuid(0)]));
    let mut census = Census::new(live, 1);
    sets.store.take_inventories(&looked[..1], &mut census).await.expect("it matched, and has gone");
    let named = Collection { claim: Claim::Named, ..looked[0].clone() };
    assert!(sets.store.take_inventories(&[named], &mut census).await.is_err(), "S4: one that is named");
    let there = Err(sets.store.unusable("it failed"));
    let there: Result<Option<()>, _> = sets.store.unless_gone(Claim::Matched, &places[1].physical, there).await;
    assert!(there.is_err(), "S4: one that is there could not be read");

    assert_eq!(sets.store.marker().await.unwrap(), Some(marker(1)));
    let (copied, safe, items) = sets.copy(&handles).await;
    assert_eq!(copied.iter().filter(|copied| **copied == Copied::Absent).count(), 2, "{copied:?}");
    assert_eq!(items.len(), 8);
    sets.remove("materials-b").await;
    let outcomes = sets.store.delete(&Condemned::for_test_copied(handles, safe, FRESH)).await.outcomes;
    let of = |outcome: &Outcome| outcomes.iter().filter(|other| *other == outcome).count();
    assert_eq!((of(&Outcome::Absent), of(&GONE)), (4, 2), "{outcomes:?}");
    assert_eq!(sets.remaining().await.into_values().sum::<u64>(), 0);
    assert_eq!(sets.dead().await.0, Vec::<u64>::new());
}

/// A list that is asked for ahead must not keep the place of a call that has to end before anybody looks at the list.
#[tokio::test]
async fn an_inventory_of_many_collections_ends_however_few_calls_may_be_under_way() {
    let sets = Sets::new(&["materials-a", "materials-b", "materials-c", "materials-d", "materials-e"]).await;
    let settings = Settings { in_flight: 2, ..Pace::default().settings() };
    let store = open(&sets.place, IdType::Uuid, &["materials-*"]).unwrap();
    let store = store.paced(Pace::new(settings, Arc::new(MachineClock)));
    let ended = tokio::time::timeout(Duration::from_secs(30), inventory(&store, &[uuid(0)])).await;
    let source = ended.expect("it ends").unwrap().sources.remove(0);
    let dead: Vec<_> = source.dead.values().map(|found| found.amount.resources).collect();
    assert_eq!((source.live_courses, dead), (1, vec![10, 10]));
}

#[tokio::test]
async fn s7_a_match_that_was_made_anew_since_it_was_located_is_not_touched() {
    let sets = Sets::new(&["materials-a", "materials-b"]).await;
    sets.adopt().await;
    let handles = sets.handles().await;
    sets.remove("materials-a").await;
    sets.add("materials-a").await;
    assert_eq!(sets.store.marker().await.unwrap(), Some(marker(1)), "as each batch asks");
    let outcomes = delete(&sets.store, handles).await;
    let failed = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Failed(_))).count();
    assert_eq!((failed, outcomes.iter().filter(|outcome| **outcome == GONE).count()), (2, 2), "{outcomes:?}");
    let sizes: Vec<_> = sets.contents(&["materials-a", "materials-b"]).await.iter().map(BTreeMap::len).collect();
    assert_eq!(sizes, [6, 2]);
}

#[tokio::test]
async fn s12_points_of_the_same_ids_come_back_into_the_collections_they_were_in() {
    let names = ["materials-a", "materials-b"];
    let sets = Sets::new(&names).await;
    sets.adopt().await;
    let before = sets.contents(&names).await;
    let handles = sets.handles().await;
    let (_, safe, items) = sets.copy(&handles).await;
    let shown: BTreeSet<_> = items.iter().map(|item| item.name.clone()).collect();
    assert_eq!(shown.len(), 8, "each has a name of its own in its source");
    assert!(shown.contains(format!("{}/2", sets.place.name("materials-a")).as_bytes()), "{shown:?}");
    let outcomes = sets.store.delete(&Condemned::for_test_copied(handles, safe, FRESH)).await.outcomes;
    assert_eq!(outcomes, [GONE; 4]);
    assert_eq!(sets.store.put_back(&items, Restoring::Missing).await, vec![PutBack::Restored; 8]);
    assert_eq!(sets.contents(&names).await, before);

    // One of the two is not there any more: the other's come back, and each of its own says why not.
    sets.remove("materials-b").await;
    delete(&sets.store, sets.handles().await).await;
    let gone = sets.place.name("materials-b");
    for (item, outcome) in items.iter().zip(sets.store.put_back(&items, Restoring::Missing).await) {
        match outcome {
            PutBack::Failed(why) => {
                assert!(item.name.starts_with(gone.as_bytes()), "{item:?}");
                assert!(why.contains(&format!("collection `{gone}` does not exist")), "{why}");
            }
            outcome => assert_eq!((outcome, item.name.starts_with(gone.as_bytes())), (PutBack::Restored, false)),
        }
    }
    assert_eq!(sets.contents(&["materials-a"]).await, before[..1]);
}

#[tokio::test]
async fn an_unsearchable_match_is_named_and_holds_the_source() {
    let sets = Sets::new(&["materials-a"]).await;
    create(&sets.client, &sets.place.name("materials-b"), &Plan::new(IdType::Uuid, None)).await;
    sets.adopt().await;
    // Without an index, its points are read instead.
    assert_eq!(sets.dead().await, (vec![2, 2], vec![], 0));
    assert_eq!(sets.handles().await.len(), 2);
    create(&sets.client, &sets.place.name("materials-c"), &Plan::new(IdType::Uuid, None).strict()).await;
    sets.store.mark_newcomers().await.unwrap();
    let error = sets.store.remaining(&targets(MATERIALS, [uuid(1)])).await.unwrap_err().to_string();
    assert!(error.contains(&format!("collection `{}` has no index", sets.place.name("materials-c"))), "{error}");
}
