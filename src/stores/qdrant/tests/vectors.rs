//! Points of every shape, there and back.

use std::collections::HashMap;

use qdrant_client::Payload;
use qdrant_client::qdrant::{
    CreateCollectionBuilder, CreateFieldIndexCollectionBuilder, Distance, MultiVectorComparator,
    MultiVectorConfigBuilder, NamedVectors, PointId, PointStruct, SparseVectorParamsBuilder,
    SparseVectorsConfigBuilder, UpsertPointsBuilder, Vector, VectorParamsBuilder, VectorsConfigBuilder,
};
use sandbox::Collections;
use uuid::Uuid;

use super::bench::{connect, open};
use super::*;
use crate::stores::copies::{Copied, CopyId, PutBack, Restoring, Safe};

/// Named dense vectors, one of them not normalised by the server, sparse ones, and several of one name in a point.
async fn collection(place: &Collections) -> qdrant_client::Qdrant {
    let client = connect(place.url(), place.api_key());
    let mut dense = VectorsConfigBuilder::default();
    dense.add_named_vector_params("cosine", VectorParamsBuilder::new(3, Distance::Cosine));
    dense.add_named_vector_params("dot", VectorParamsBuilder::new(2, Distance::Dot));
    let several = MultiVectorConfigBuilder::new(MultiVectorComparator::MaxSim);
    dense.add_named_vector_params("several", VectorParamsBuilder::new(2, Distance::Euclid).multivector_config(several));
    let mut sparse = SparseVectorsConfigBuilder::default();
    sparse.add_named_vector_params("words", SparseVectorParamsBuilder::default());
    let name = place.name("notes");
    let create = CreateCollectionBuilder::new(&name).vectors_config(dense).sparse_vectors_config(sparse);
    client.create_collection(create).await.unwrap();
    let index = CreateFieldIndexCollectionBuilder::new(&name, KEY, FieldType::Keyword).wait(true);
    client.create_field_index(index).await.unwrap();
    client
}

/// Ids of both kinds, from the smallest to the largest; some with all vectors, and some with a part of them or none.
fn points() -> Vec<PointStruct> {
    let all = |n: u16| {
        let n = f32::from(n);
        HashMap::from([
            ("cosine".to_owned(), Vector::new_dense(vec![1.0 / 3.0, n, f32::MIN_POSITIVE])),
            ("dot".to_owned(), Vector::new_dense(vec![-0.0, f32::MAX])),
            ("several".to_owned(), Vector::new_multi(vec![vec![n, 0.1], vec![1e-40, -n], vec![n, 0.1]])),
            ("words".to_owned(), Vector::new_sparse(vec![0, 7, u32::MAX - 1], vec![0.1, -2.5, 1e-30])),
        ])
    };
    let only = |name: &str, n| HashMap::from_iter(all(n).remove_entry(name));
    let ids: [PointId; 6] = [
        0.into(),
        u64::MAX.into(),
        Uuid::nil().to_string().into(),
        Uuid::max().to_string().into(),
        7.into(),
        Uuid::from_u128(7).to_string().into(),
    ];
    let vectors = [all(1), all(2), only("several", 3), only("words", 4), only("dot", 5), HashMap::new()];
    let payload = json!({
        KEY: uuid(1).to_string(), "nothing": null, "deep": { "a": [1, 2.5, "x", [], {}] }, "big": i64::MAX, "é": "\u{0}"
    });
    let payload = Payload::try_from(payload).unwrap();
    let point = |(id, vectors)| PointStruct::new(id, NamedVectors { vectors }, payload.clone());
    ids.into_iter().zip(vectors).map(point).collect()
}

#[tokio::test]
async fn s12_vectors_of_every_kind_and_ids_of_both_come_back_bit_for_bit() {
    let place = Collections::create().await.unwrap();
    let client = collection(&place).await;
    let upsert = UpsertPointsBuilder::new(place.name("notes"), points()).wait(true);
    client.upsert_points(upsert).await.unwrap();
    let store = open(&place, IdType::Uuid, &["notes"]).unwrap();
    let before = bench::whole(&client, &place.name("notes")).await;
    assert_eq!(before.len(), 6);

    let handles = located(&store, &targets(NOTES, [uuid(1)])).await;
    let now = chrono::DateTime::UNIX_EPOCH;
    let id = CopyId { run: Uuid::from_u128(7), batch: 1, taken_at: now, expires_at: now + FRESH };
    let mut items = contract::Items::default();
    let copied = store.copy(&id, &handles, &mut items).await.unwrap();
    let [Copied::Whole(receipt)] = &copied[..] else { panic!("{copied:?}") };
    let safe = Safe { id, receipts: vec![receipt.clone()] };
    let outcomes = store.delete(&Condemned::for_test_copied(handles, safe, FRESH)).await.outcomes;
    assert_eq!(outcomes, [Outcome::Deleted { resources: 6, bytes: None }]);
    assert!(bench::whole(&client, &place.name("notes")).await.is_empty());
    for restoring in [Restoring::Missing, Restoring::Overwrite] {
        assert_eq!(store.put_back(&items.0, restoring).await, vec![PutBack::Restored; 6]);
        assert_eq!(bench::whole(&client, &place.name("notes")).await, before, "{restoring:?}");
    }
}
