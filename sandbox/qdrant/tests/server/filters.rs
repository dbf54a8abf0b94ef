//! Filters, counts, facets and payload indexes.

use qdrant_client::qdrant::r#match::MatchValue;
use qdrant_client::qdrant::{
    Condition, CountPointsBuilder, CreateFieldIndexCollectionBuilder, DeleteFieldIndexCollectionBuilder,
    DeletePointsBuilder, FacetCountsBuilder, FieldType, Filter, HasIdCondition, IntegerIndexParamsBuilder,
    NestedCondition, PointId, Range, ValuesCount,
};
use serde_json::json;
use tonic::Code;
use uuid::Uuid;

use crate::calls::{collection, count, counts, facet, index, point, upsert};
use crate::support::{Sandbox, assert_refused};

#[tokio::test]
async fn filters_select_by_value_presence_number_of_values_and_id() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    collection(&client, "docs").await;
    upsert(
        &client,
        "docs",
        vec![
            point(1, json!({"k": "a", "n": 1, "in": [{"x": 1}]})),
            point(2, json!({"k": ["a", "b"], "n": 5})),
            point(3, json!({"k": ["b", "c", "d"]})),
            point(4, json!({"k": []})),
            point(5, json!({"k": null})),
            point(6, json!({})),
        ],
    )
    .await;
    let one = |condition: Condition| Filter::must([condition]);
    let values = |gt, lt| ValuesCount { gt, lt, ..ValuesCount::default() };
    let strings = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    for indexed in [false, true] {
        if indexed {
            index(&client, "docs", "k", FieldType::Keyword).await;
            index(&client, "docs", "n", FieldType::Integer).await;
        }
        for (name, filter, expected) in [
            ("value", one(Condition::matches("k", "a".to_owned())), 2),
            ("any", one(Condition::matches("k", strings(&["a", "c"]))), 3),
            ("except", one(Condition::matches("k", !MatchValue::from(strings(&["a", "b"])))), 1),
            ("no any", one(Condition::matches("k", strings(&[]))), 0),
            ("is empty", one(Condition::is_empty("k")), 3),
            ("is null", one(Condition::is_null("k")), 1),
            ("several values", one(Condition::values_count("k", values(Some(1), None))), 2),
            ("at most one", one(Condition::values_count("k", values(None, Some(2)))), 4),
            ("range", one(Condition::range("n", Range { gte: Some(2.0), ..Range::default() })), 1),
            ("integers", one(Condition::matches("n", vec![1, 5, 9])), 2),
            ("ids", one(Condition::from(HasIdCondition::from(vec![PointId::from(1), PointId::from(77)]))), 1),
            ("not", Filter::must_not([Condition::matches("k", "a".to_owned())]), 4),
            ("should", Filter::should([Condition::is_null("k"), Condition::matches("k", "d".to_owned())]), 2),
            ("within", one(Condition::from(Filter::must([Condition::matches("k", "b".to_owned())]))), 2),
            (
                "nested",
                one(Condition::from(NestedCondition {
                    key: "in".to_owned(),
                    filter: Some(Filter::must([Condition::matches("x", 1)])),
                })),
                1,
            ),
        ] {
            assert_eq!(count(&client, "docs", filter).await, expected, "{name}, indexed: {indexed}");
        }
    }
}

#[tokio::test]
async fn facets_count_the_values_of_each_kind_of_index() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    collection(&client, "docs").await;
    let (one, two) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
    upsert(
        &client,
        "docs",
        vec![
            point(1, json!({"s": ["a", "b"], "u": one, "n": 7, "b": true})),
            point(2, json!({"s": "a", "u": [one, two], "n": [7, -1], "b": false})),
            point(3, json!({"s": "c", "n": 7})),
            point(4, json!({})),
        ],
    )
    .await;
    for (field, kind) in
        [("s", FieldType::Keyword), ("u", FieldType::Uuid), ("n", FieldType::Integer), ("b", FieldType::Bool)]
    {
        index(&client, "docs", field, kind).await;
    }
    for exact in [false, true] {
        assert_eq!(facet(&client, "docs", "s", exact).await, counts([("a", 2), ("b", 1), ("c", 1)]));
        assert_eq!(facet(&client, "docs", "u", exact).await, counts([(&one, 2), (&two, 1)]));
        assert_eq!(facet(&client, "docs", "n", exact).await, counts([("-1", 1), ("7", 3)]));
        assert_eq!(facet(&client, "docs", "b", exact).await, counts([("false", 1), ("true", 1)]));
    }
    let either = Filter::must([Condition::matches("u", vec![two.clone(), Uuid::nil().to_string()])]);
    assert_eq!(count(&client, "docs", either.clone()).await, 1);
    let filtered = FacetCountsBuilder::new("docs", "s").limit(10).filter(either);
    let hits = client.facet(filtered).await.unwrap().hits;
    assert_eq!(hits.iter().map(|hit| hit.count).collect::<Vec<_>>(), [1]);

    let cut = FacetCountsBuilder::new("docs", "s").limit(1);
    assert_eq!(client.facet(cut).await.unwrap().hits.len(), 1);
    assert_refused(client.facet(FacetCountsBuilder::new("docs", "s").limit(0)).await, Code::InvalidArgument, "limit");

    upsert(&client, "docs", vec![point(1, json!({}))]).await;
    assert_eq!(facet(&client, "docs", "s", false).await, counts([("a", 1), ("c", 1)]));
}

#[tokio::test]
async fn a_facet_needs_an_index_that_looks_up_values() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    collection(&client, "docs").await;
    upsert(&client, "docs", vec![point(1, json!({"k": "a", "n": 1}))]).await;
    let text = "Wrong input: No appropriate index for faceting: `k`.";
    let ask = || FacetCountsBuilder::new("docs", "k").limit(10);
    assert_refused(client.facet(ask()).await, Code::InvalidArgument, text);
    index(&client, "docs", "k", FieldType::Keyword).await;
    assert_eq!(client.facet(ask()).await.unwrap().hits.len(), 1);
    client.delete_field_index(DeleteFieldIndexCollectionBuilder::new("docs", "k").wait(true)).await.unwrap();
    assert_refused(client.facet(ask()).await, Code::InvalidArgument, text);
    let info = client.collection_info("docs").await.unwrap().result.unwrap();
    assert!(info.payload_schema.is_empty());

    client
        .create_field_index(
            CreateFieldIndexCollectionBuilder::new("docs", "n", FieldType::Integer)
                .field_index_params(IntegerIndexParamsBuilder::new(false, true))
                .wait(true),
        )
        .await
        .unwrap();
    assert_refused(
        client.facet(FacetCountsBuilder::new("docs", "n")).await,
        Code::InvalidArgument,
        "No appropriate index for faceting: `n`",
    );
}

#[tokio::test]
async fn an_approximate_count_is_near_the_exact_one() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    collection(&client, "docs").await;
    let points = (0..100).map(|id| point(id, json!({"k": "a"}))).collect();
    upsert(&client, "docs", points).await;
    let request = CountPointsBuilder::new("docs").exact(false);
    let approximate = client.count(request).await.unwrap().result.unwrap().count;
    assert_eq!(approximate, 100);
}

#[tokio::test]
async fn an_exact_facet_may_name_values_that_no_point_has_any_more() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    collection(&client, "docs").await;
    index(&client, "docs", "k", FieldType::Keyword).await;
    let points = vec![point(1, json!({"k": "a"})), point(2, json!({"k": "b"}))];
    upsert(&client, "docs", points).await;
    let dead = Filter::must([Condition::matches("k", "a".to_owned())]);
    client.delete_points(DeletePointsBuilder::new("docs").points(dead).wait(true)).await.unwrap();
    let approximate = facet(&client, "docs", "k", false).await;
    assert_eq!(approximate, counts([("b", 1)]));
    let exact = facet(&client, "docs", "k", true).await;
    assert_eq!(exact, counts([("a", 0), ("b", 1)]));
}
