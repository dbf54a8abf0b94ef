//! A collection with courses' points.

use std::ops::Range;

use anyhow::Result;
use qdrant_client::Payload;
use qdrant_client::qdrant::{
    CreateCollectionBuilder, CreateFieldIndexCollectionBuilder, Distance, FieldType, PointStruct, UpsertPointsBuilder,
    VectorParamsBuilder,
};
use sandbox::Qdrant;
use serde_json::json;

use crate::ids;
use crate::theirs::qdrant::{KEY, Place};

/// How many points are written at once.
const TOGETHER: usize = 2_000;

/// The configuration of a store over it.
pub(super) fn store(place: &Place, quarantine: bool) -> String {
    let Place { url, collection } = place;
    format!(
        "vectors:\n  kind: qdrant\n  url: {url}\n  quarantine: {quarantine}\n  collections:\n    - {{ name: {collection}, exclusive: true }}\n"
    )
}

/// An empty collection with an index on the key.
pub(super) async fn create(qdrant: &Qdrant, collection: &str) -> Result<Place> {
    let place = Place { url: qdrant.url(), collection: collection.to_owned() };
    let client = place.connect()?;
    let vectors = VectorParamsBuilder::new(4, Distance::Cosine);
    client.create_collection(CreateCollectionBuilder::new(collection).vectors_config(vectors)).await?;
    let index = CreateFieldIndexCollectionBuilder::new(collection, KEY, FieldType::Keyword).wait(true);
    client.create_field_index(index).await?;
    Ok(place)
}

/// Writes so many points for each of these courses.
pub(super) async fn seed(place: &Place, courses: Range<u64>, each: u64) -> Result<()> {
    let client = place.connect()?;
    let points: Vec<(u64, u64)> = courses.flat_map(|course| (0..each).map(move |n| (course, n))).collect();
    for points in points.chunks(TOGETHER) {
        let point = |(course, n): &(u64, u64)| {
            let payload = json!({ KEY: ids::course(*course).to_string(), "n": n });
            Ok(PointStruct::new(course * each + n, vec![1.0, 2.0, 3.0, *n as f32], Payload::try_from(payload)?))
        };
        let points = points.iter().map(point).collect::<Result<Vec<_>>>()?;
        client.upsert_points(UpsertPointsBuilder::new(&place.collection, points).wait(true)).await?;
    }
    Ok(())
}
