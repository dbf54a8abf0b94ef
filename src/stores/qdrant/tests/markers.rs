//! One marker in the metadata of two collections.

use std::collections::HashMap;

use qdrant_client::qdrant::UpdateCollectionBuilder;
use serde_json::Value;
use uuid::Uuid;

use super::*;
use crate::domain::markers::{Owner, Truths};
use crate::stores::Marker;

fn owner(counter: u64) -> Owner {
    let truths = Truths::from([("77/campus".to_owned(), "77 1".to_owned())]);
    Owner { installation: Uuid::from_u128(1), name: "campus".into(), counter, truths }
}

fn marker(counter: u64) -> Marker {
    Marker::of(owner(counter))
}

async fn world() -> World {
    Plan::new(IdType::Uuid, Some(FieldType::Keyword)).strict().build().await
}

impl World {
    /// Writes a key of a collection's metadata; `null` removes it.
    async fn set(&self, source: SourceIndex, key: &str, value: Value) {
        let metadata = HashMap::from([(key.to_owned(), value)]);
        let update = UpdateCollectionBuilder::new(self.physical(source)).metadata(metadata);
        self.client.update_collection(update).await.unwrap();
    }

    async fn set_marker(&self, source: SourceIndex, marker: &Marker) {
        self.set(source, "course_gc", serde_json::to_value(marker).unwrap()).await;
    }

    /// All of a collection's metadata.
    async fn metadata(&self, source: SourceIndex) -> Value {
        let info = self.client.collection_info(self.physical(source)).await.unwrap().result.unwrap();
        info.config.unwrap().metadata.into_iter().map(|(key, value)| (key, value.into_json())).collect()
    }
}

#[tokio::test]
async fn s7_every_collection_carries_the_marker_beside_what_others_wrote() {
    let world = world().await;
    for source in [NOTES, CHUNKS] {
        world.set(source, "owner", json!({ "team": "content" })).await;
    }
    assert!(world.store.move_marker(None, &marker(1)).await.unwrap());
    assert!(world.store.move_marker(Some(&marker(1)), &marker(2)).await.unwrap());
    let expected = json!({ "owner": { "team": "content" }, "course_gc": marker(2) });
    for source in [NOTES, CHUNKS] {
        assert_eq!(world.metadata(source).await, expected);
    }
}

#[tokio::test]
async fn s7_an_interrupted_move_is_made_again() {
    let world = world().await;
    world.set_marker(NOTES, &marker(1)).await;
    assert_eq!(world.store.marker().await.unwrap(), None, "adopted in part is not adopted");
    let error = world.store.move_marker(None, &marker(2)).await.unwrap_err().to_string();
    assert!(error.contains("different markers") && error.contains("none"), "{error}");
    assert!(!world.store.move_marker(Some(&marker(1)), &marker(2)).await.unwrap());
    assert_eq!(world.metadata(CHUNKS).await, json!({}), "S7: false changes nothing");
    assert!(world.store.move_marker(None, &marker(1)).await.unwrap());
    assert_eq!(world.store.marker().await.unwrap(), Some(marker(1)));

    for source in [NOTES, CHUNKS] {
        world.set_marker(source, &marker(2)).await;
        if source == NOTES {
            assert_eq!(world.store.marker().await.unwrap(), Some(marker(1)));
            assert!(!world.store.move_marker(Some(&marker(2)), &marker(3)).await.unwrap());
            assert!(world.store.move_marker(Some(&marker(1)), &marker(2)).await.unwrap());
        }
        assert_eq!(world.store.marker().await.unwrap(), Some(marker(2)));
    }
}

/// Whichever of two owners moves next, what the other one's crash left in one collection does not stop it.
#[tokio::test]
async fn s7_an_owners_interrupted_move_does_not_stop_another_owner() {
    let world = world().await;
    let other = |counter| Owner { installation: Uuid::from_u128(2), ..owner(counter) };
    let both = |one, two| marker(one).with(other(two));
    world.set_marker(NOTES, &both(6, 3)).await;
    world.set_marker(CHUNKS, &both(5, 3)).await;
    assert_eq!(world.store.marker().await.unwrap(), Some(both(5, 3)));
    assert!(world.store.move_marker(Some(&both(5, 3)), &both(5, 4)).await.unwrap());
    assert_eq!(world.store.marker().await.unwrap(), Some(both(5, 4)), "the interrupted one is still where it was");
    assert!(world.store.move_marker(Some(&both(5, 4)), &both(6, 4)).await.unwrap());

    // A third one was interrupted while it joined.
    let third = Owner { installation: Uuid::from_u128(3), ..owner(0) };
    world.set_marker(NOTES, &both(6, 4).with(third)).await;
    assert_eq!(world.store.marker().await.unwrap(), Some(both(6, 4)));
    assert!(world.store.move_marker(Some(&both(6, 4)), &both(7, 4)).await.unwrap());
    for source in [NOTES, CHUNKS] {
        assert_eq!(world.metadata(source).await, json!({ "course_gc": both(7, 4) }));
    }
}

/// A collection was made anew, and what the others carry is several installations': none of them may write over the rest.
#[tokio::test]
async fn s7_what_is_left_of_several_owners_is_for_a_person_to_remove() {
    let world = world().await;
    let other = Owner { installation: Uuid::from_u128(2), ..owner(3) };
    world.set_marker(NOTES, &marker(5).with(other)).await;
    assert_eq!(world.store.marker().await.unwrap(), None);
    let error = world.store.move_marker(None, &marker(5)).await.unwrap_err().to_string();
    assert!(error.contains("remove `course_gc`") && error.contains("each installation"), "{error}");
    assert_eq!(world.metadata(CHUNKS).await, json!({}));

    world.set(NOTES, "course_gc", Value::Null).await;
    assert!(world.store.move_marker(None, &marker(5)).await.unwrap());
}

#[tokio::test]
async fn s7_collections_of_two_installations_or_counters_are_an_error() {
    let world = world().await;
    world.set_marker(NOTES, &marker(1)).await;
    let elsewhere = Owner { installation: Uuid::from_u128(2), ..owner(2) };
    for other in [Marker::of(elsewhere.clone()), marker(3), marker(3).with(elsewhere)] {
        world.set_marker(CHUNKS, &other).await;
        let error = world.store.marker().await.unwrap_err().to_string();
        let each =
            other.owners().iter().map(|owner| format!("installation {} at {}", owner.installation, owner.counter));
        let each = each.collect::<Vec<_>>().join(" and ");
        let carries = format!("`{}` that of {each}", world.physical(CHUNKS));
        assert!(error.contains("different markers") && error.contains(&carries), "{error}");
        assert!(!world.store.move_marker(Some(&marker(1)), &marker(2)).await.unwrap());
        assert_eq!(world.metadata(NOTES).await, json!({ "course_gc": marker(1) }));
    }
}

#[tokio::test]
async fn s7_what_is_no_marker_is_an_error_and_stays() {
    let world = world().await;
    world.set(CHUNKS, "course_gc", json!("mine")).await;
    let errors =
        [world.store.marker().await.unwrap_err(), world.store.move_marker(None, &marker(1)).await.unwrap_err()];
    for error in errors {
        let named = format!("the metadata of collection `{}` holds no marker", world.physical(CHUNKS));
        assert!(error.to_string().contains(&named), "{error}");
    }
    assert_eq!(world.metadata(NOTES).await, json!({}));
    assert_eq!(world.metadata(CHUNKS).await, json!({ "course_gc": "mine" }));
}
