//! One marker in the metadata of two collections.

use std::collections::HashMap;

use qdrant_client::qdrant::UpdateCollectionBuilder;
use serde_json::Value;
use uuid::Uuid;

use super::*;
use crate::stores::Marker;

fn marker(counter: u64) -> Marker {
    Marker { installation: Uuid::from_u128(1), name: "campus".into(), counter }
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
    assert!(!world.store.move_marker(None, &marker(2)).await.unwrap());
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

#[tokio::test]
async fn s7_collections_of_two_installations_or_counters_are_an_error() {
    let world = world().await;
    world.set_marker(NOTES, &marker(1)).await;
    let elsewhere = Marker { installation: Uuid::from_u128(2), ..marker(2) };
    for other in [elsewhere, marker(3)] {
        world.set_marker(CHUNKS, &other).await;
        let error = world.store.marker().await.unwrap_err().to_string();
        let carries = format!("`{}` that of installation {}", world.physical(CHUNKS), other.installation);
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
