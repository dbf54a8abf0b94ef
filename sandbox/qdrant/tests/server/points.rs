//! Reads of points, payload and vectors, and what is refused.

use qdrant_client::Payload;
use qdrant_client::qdrant::value::Kind;
use qdrant_client::qdrant::vector_output::Vector as Output;
use qdrant_client::qdrant::with_payload_selector::SelectorOptions;
use qdrant_client::qdrant::with_vectors_selector::SelectorOptions as WithVectors;
use qdrant_client::qdrant::{
    Condition, CreateCollectionBuilder, DeletePointsBuilder, Distance, FacetCountsBuilder, Filter, GetPointsBuilder,
    MultiVectorComparator, MultiVectorConfigBuilder, NamedVectors, PayloadExcludeSelector, PointId, PointStruct,
    QueryPointsBuilder, ScrollPointsBuilder, SparseVectorParamsBuilder, SparseVectorsConfigBuilder,
    UpsertPointsBuilder, Vector, VectorParamsBuilder, VectorsConfigBuilder,
};
use serde_json::json;
use tonic::Code;

use crate::calls::{collection, point, upsert};
use crate::support::{Sandbox, assert_refused};

#[tokio::test]
async fn scroll_pages_by_id_and_returns_only_the_payload_that_is_asked_for() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    collection(&client, "docs").await;
    let points = (0..25).map(|id| point(id, json!({"course_id": format!("c{}", id % 2), "text": "long"}))).collect();
    upsert(&client, "docs", points).await;

    let mut offset: Option<PointId> = None;
    let mut seen = Vec::new();
    loop {
        let mut request = ScrollPointsBuilder::new("docs")
            .limit(10)
            .with_payload(SelectorOptions::Include(vec!["course_id".to_owned()].into()))
            .with_vectors(false);
        if let Some(offset) = offset.take() {
            request = request.offset(offset);
        }
        let page = client.scroll(request).await.unwrap();
        for found in page.result {
            assert_eq!(found.payload.keys().collect::<Vec<_>>(), ["course_id"]);
            assert!(found.vectors.is_none());
            seen.push(found.id.unwrap());
        }
        offset = page.next_page_offset;
        if offset.is_none() {
            break;
        }
    }
    assert_eq!(seen, (0..25).map(PointId::from).collect::<Vec<_>>());

    let filtered = ScrollPointsBuilder::new("docs")
        .limit(100)
        .filter(Filter::must([Condition::matches("course_id", "c1".to_owned())]))
        .with_payload(SelectorOptions::Exclude(PayloadExcludeSelector { fields: vec!["course_id".to_owned()] }))
        .with_vectors(true);
    let page = client.scroll(filtered).await.unwrap();
    assert_eq!(page.result.len(), 12);
    for found in page.result {
        assert_eq!(found.payload.keys().collect::<Vec<_>>(), ["text"]);
        match found.vectors.unwrap().get_vector() {
            Some(Output::Dense(dense)) => assert_eq!(dense.data, [1.0, 0.0, 0.0, 0.0]),
            other => panic!("not a dense vector: {other:?}"),
        }
    }
    let default = client.scroll(ScrollPointsBuilder::new("docs")).await.unwrap();
    assert_eq!(default.result.len(), 10);
    assert_refused(client.scroll(ScrollPointsBuilder::new("docs").limit(0)).await, Code::InvalidArgument, "limit");
}

#[tokio::test]
async fn named_sparse_and_multi_vectors_come_back_as_they_were_stored() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    let mut vectors = VectorsConfigBuilder::default();
    vectors.add_named_vector_params("dense", VectorParamsBuilder::new(3, Distance::Euclid));
    vectors.add_named_vector_params(
        "multi",
        VectorParamsBuilder::new(2, Distance::Dot)
            .multivector_config(MultiVectorConfigBuilder::new(MultiVectorComparator::MaxSim)),
    );
    let mut sparse = SparseVectorsConfigBuilder::default();
    sparse.add_named_vector_params("sparse", SparseVectorParamsBuilder::default());
    client
        .create_collection(CreateCollectionBuilder::new("docs").vectors_config(vectors).sparse_vectors_config(sparse))
        .await
        .unwrap();
    let named = NamedVectors::default()
        .add_vector("dense", Vector::new_dense(vec![1.0, 2.0, 3.0]))
        .add_vector("multi", Vector::new_multi(vec![vec![1.0, 2.0], vec![3.0, 4.0]]))
        .add_vector("sparse", Vector::new_sparse(vec![7, 2], vec![0.5, 0.25]));
    let stored = PointStruct::new(1, named, Payload::new());
    upsert(&client, "docs", vec![stored]).await;

    let request = GetPointsBuilder::new("docs", vec![1.into(), 2.into()]).with_vectors(true);
    let found = client.get_points(request).await.unwrap().result;
    assert_eq!(found.len(), 1);
    let vectors = found[0].vectors.clone().unwrap();
    match vectors.get_vector_by_name("dense") {
        Some(Output::Dense(dense)) => assert_eq!(dense.data, [1.0, 2.0, 3.0]),
        other => panic!("not a dense vector: {other:?}"),
    }
    match vectors.get_vector_by_name("multi") {
        Some(Output::MultiDense(multi)) => {
            let multi: Vec<_> = multi.vectors.into_iter().map(|dense| dense.data).collect();
            assert_eq!(multi, [[1.0, 2.0], [3.0, 4.0]]);
        }
        other => panic!("not a multivector: {other:?}"),
    }
    match vectors.get_vector_by_name("sparse") {
        Some(Output::Sparse(sparse)) => {
            assert_eq!((sparse.indices, sparse.values), (vec![2, 7], vec![0.25, 0.5]));
        }
        other => panic!("not a sparse vector: {other:?}"),
    }

    let one = GetPointsBuilder::new("docs", vec![1.into()])
        .with_vectors(WithVectors::Include(vec!["dense".to_owned()].into()));
    let found = client.get_points(one).await.unwrap().result;
    let vectors = found[0].vectors.clone().unwrap();
    assert!(vectors.get_vector_by_name("dense").is_some());
    assert!(vectors.get_vector_by_name("sparse").is_none());

    let unknown = NamedVectors::default().add_vector("other", Vector::new_dense(vec![1.0]));
    let request = UpsertPointsBuilder::new("docs", vec![PointStruct::new(2, unknown, Payload::new())]);
    assert_refused(
        client.upsert_points(request.wait(true)).await,
        Code::InvalidArgument,
        "Wrong input: Not existing vector name error: other",
    );
}

#[tokio::test]
async fn what_is_not_implemented_says_so() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    collection(&client, "docs").await;
    assert_refused(
        client.query(QueryPointsBuilder::new("docs")).await,
        Code::Unimplemented,
        "qdrant-sandbox does not implement the call query",
    );
    assert_refused(client.list_snapshots("docs").await, Code::Unimplemented, "");
}

#[tokio::test]
async fn ids_and_keys_that_are_none_are_refused() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    collection(&client, "docs").await;
    let request = UpsertPointsBuilder::new("docs", vec![point("../../etc", json!({}))]);
    assert_refused(client.upsert_points(request).await, Code::InvalidArgument, "Unable to parse UUID: ../../etc");
    assert_refused(client.facet(FacetCountsBuilder::new("docs", "a[")).await, Code::InvalidArgument, "a[");
    assert_refused(
        client.delete_points(DeletePointsBuilder::new("docs")).await,
        Code::InvalidArgument,
        "PointsSelector is missing",
    );
}

#[tokio::test]
async fn payload_values_keep_their_kinds() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    collection(&client, "docs").await;
    upsert(&client, "docs", vec![point(1, json!({"i": 3, "d": 3.5, "t": "3", "n": null}))]).await;
    let page = client.scroll(ScrollPointsBuilder::new("docs")).await.unwrap();
    let payload = &page.result[0].payload;
    assert_eq!(payload["i"].kind, Some(Kind::IntegerValue(3)));
    assert_eq!(payload["d"].kind, Some(Kind::DoubleValue(3.5)));
    assert_eq!(payload["t"].kind, Some(Kind::StringValue("3".to_owned())));
    assert_eq!(payload["n"].kind, Some(Kind::NullValue(0)));
}
