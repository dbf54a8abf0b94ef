//! Calls that most tests make, in short.

use std::collections::BTreeMap;

use qdrant_client::qdrant::facet_value::Variant;
use qdrant_client::qdrant::{
    CountPointsBuilder, CreateCollectionBuilder, CreateFieldIndexCollectionBuilder, Distance, FacetCountsBuilder,
    FieldType, Filter, PointId, PointStruct, StrictModeConfigBuilder, UpdateCollectionBuilder, UpdateStatus,
    UpsertPointsBuilder, VectorParamsBuilder,
};
use qdrant_client::{Payload, Qdrant};

/// More than any test has values.
const FACET_LIMIT: u64 = 1000;

/// A point with a vector that fits [`collection`].
pub fn point(id: impl Into<PointId>, payload: serde_json::Value) -> PointStruct {
    PointStruct::new(id, vec![1.0, 0.0, 0.0, 0.0], Payload::try_from(payload).unwrap())
}

/// Creates a collection with an unnamed vector of four numbers.
pub async fn collection(client: &Qdrant, name: &str) {
    client
        .create_collection(
            CreateCollectionBuilder::new(name).vectors_config(VectorParamsBuilder::new(4, Distance::Dot)),
        )
        .await
        .unwrap();
}

/// Stores points and waits until they can be read.
pub async fn upsert(client: &Qdrant, name: &str, points: Vec<PointStruct>) {
    let response = client.upsert_points(UpsertPointsBuilder::new(name, points).wait(true)).await.unwrap();
    assert_eq!(response.result.unwrap().status, UpdateStatus::Completed as i32);
}

/// Creates a payload index.
pub async fn index(client: &Qdrant, name: &str, field: &str, kind: FieldType) {
    client.create_field_index(CreateFieldIndexCollectionBuilder::new(name, field, kind).wait(true)).await.unwrap();
}

/// How many points match, exactly.
pub async fn count(client: &Qdrant, name: &str, filter: Filter) -> u64 {
    let request = CountPointsBuilder::new(name).filter(filter).exact(true);
    client.count(request).await.unwrap().result.unwrap().count
}

/// How many points there are.
pub async fn total(client: &Qdrant, name: &str) -> u64 {
    count(client, name, Filter::default()).await
}

/// The counts by value, as text.
pub async fn facet(client: &Qdrant, name: &str, key: &str, exact: bool) -> BTreeMap<String, u64> {
    let request = FacetCountsBuilder::new(name, key).limit(FACET_LIMIT).exact(exact);
    let hits = client.facet(request).await.unwrap().hits;
    hits.into_iter()
        .map(|hit| {
            let value = match hit.value.unwrap().variant.unwrap() {
                Variant::StringValue(text) => text,
                Variant::IntegerValue(number) => number.to_string(),
                Variant::BoolValue(flag) => flag.to_string(),
            };
            (value, hit.count)
        })
        .collect()
}

/// What [`facet`] is expected to return.
pub fn counts<const N: usize>(pairs: [(&str, u64); N]) -> BTreeMap<String, u64> {
    pairs.map(|(value, count)| (value.to_owned(), count)).into()
}

/// Enables strict mode with these settings.
pub async fn enable_strict_mode(client: &Qdrant, name: &str, settings: StrictModeConfigBuilder) {
    client
        .update_collection(UpdateCollectionBuilder::new(name).strict_mode_config(settings.enabled(true)))
        .await
        .unwrap();
}
