//! What strict mode refuses, and what it lets through.

use qdrant_client::qdrant::{
    Condition, CountPointsBuilder, DeletePointsBuilder, FacetCountsBuilder, FieldType, Filter, PointId,
    ScrollPointsBuilder, StrictModeConfigBuilder, UpsertPointsBuilder, ValuesCount,
};
use serde_json::json;
use tonic::Code;
use uuid::Uuid;

use crate::calls::{collection, enable_strict_mode, index, point, total, upsert};
use crate::support::{Sandbox, assert_refused};

const INVALID: Code = Code::InvalidArgument;

fn settings() -> StrictModeConfigBuilder {
    StrictModeConfigBuilder::default()
}

#[tokio::test]
async fn limits_of_scroll_and_facet_are_bounded() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    collection(&client, "docs").await;
    index(&client, "docs", "k", FieldType::Keyword).await;
    enable_strict_mode(&client, "docs", settings().max_query_limit(100)).await;
    let text = "Bad request: Limit exceeded 101 > 100 for \"limit\". \
                Help: Reduce the \"limit\" parameter to or below 100.";

    let scroll = |limit| client.scroll(ScrollPointsBuilder::new("docs").limit(limit));
    assert_refused(scroll(101).await, INVALID, text);
    assert!(scroll(100).await.is_ok());
    let facet = |limit| client.facet(FacetCountsBuilder::new("docs", "k").limit(limit));
    assert_refused(facet(101).await, INVALID, text);
    assert!(facet(100).await.is_ok());

    enable_strict_mode(&client, "docs", settings().max_query_limit(4)).await;
    let unsaid = client.scroll(ScrollPointsBuilder::new("docs")).await;
    assert_refused(unsaid, INVALID, "Limit exceeded 10 > 4");
    let unsaid = client.facet(FacetCountsBuilder::new("docs", "k")).await;
    assert_refused(unsaid, INVALID, "Limit exceeded 10 > 4");
}

#[tokio::test]
async fn settings_that_are_not_enabled_refuse_nothing() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    collection(&client, "docs").await;
    enable_strict_mode(&client, "docs", settings().max_query_limit(1)).await;
    let off = qdrant_client::qdrant::UpdateCollectionBuilder::new("docs").strict_mode_config(settings().enabled(false));
    client.update_collection(off).await.unwrap();
    assert!(client.scroll(ScrollPointsBuilder::new("docs").limit(2)).await.is_ok());
}

#[tokio::test]
async fn the_size_and_the_number_of_conditions_are_bounded() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    collection(&client, "docs").await;
    let bounds = settings().condition_max_size(256).filter_max_conditions(3);
    enable_strict_mode(&client, "docs", bounds).await;
    let any = |size: i64| Filter::must([Condition::matches("n", (0..size).collect::<Vec<_>>())]);
    let counting = |filter| client.count(CountPointsBuilder::new("docs").filter(filter));
    let deleting = |filter| client.delete_points(DeletePointsBuilder::new("docs").points(filter));
    let too_big = "Bad request: Condition size limit reached (257 > 256)";
    assert_refused(counting(any(257)).await, INVALID, too_big);
    assert_refused(deleting(any(257)).await, INVALID, too_big);
    assert!(counting(any(256)).await.is_ok());

    let many = |number: i64| Filter::must((0..number).map(|n| Condition::matches("n", n)));
    let nested = Filter::must([Condition::from(many(4))]);
    let too_many = "Bad request: Filter condition limit reached (4 > 3)";
    assert_refused(counting(many(4)).await, INVALID, too_many);
    assert_refused(counting(nested).await, INVALID, too_many);
    assert!(counting(many(3)).await.is_ok());
}

#[tokio::test]
async fn unindexed_keys_are_refused_for_reads_and_for_writes() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    collection(&client, "docs").await;
    upsert(&client, "docs", vec![point(1, json!({"k": "a"}))]).await;
    let filter = || Filter::must([Condition::matches("k", "a".to_owned())]);
    let count = || client.count(CountPointsBuilder::new("docs").filter(filter()));
    let scroll = || client.scroll(ScrollPointsBuilder::new("docs").filter(filter()));
    let facet = || client.facet(FacetCountsBuilder::new("docs", "other").filter(filter()));
    let delete = || {
        let request = DeletePointsBuilder::new("docs").points(filter());
        client.delete_points(request.wait(true))
    };
    let text = "Bad request: Index required but not found for \"k\" of one of the following \
                types: [keyword]. Help: Create an index for this key or use a different filter.";

    enable_strict_mode(&client, "docs", settings().unindexed_filtering_retrieve(false)).await;
    assert_refused(count().await, INVALID, text);
    assert_refused(scroll().await, INVALID, text);
    assert_refused(facet().await, INVALID, text);
    assert!(delete().await.is_ok());

    let only_writes = settings().unindexed_filtering_retrieve(true).unindexed_filtering_update(false);
    enable_strict_mode(&client, "docs", only_writes).await;
    assert_refused(delete().await, INVALID, text);
    assert!(count().await.is_ok());
    let by_id = DeletePointsBuilder::new("docs").points(vec![PointId::from(1)]);
    assert!(client.delete_points(by_id).await.is_ok());

    index(&client, "docs", "k", FieldType::Keyword).await;
    assert!(delete().await.is_ok());
}

/// For conditions on values the index must be of their type; for those on presence, absence and
/// number any index of the key will do.
#[tokio::test]
async fn which_index_a_condition_needs_depends_on_what_it_asks() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    let uuid = Uuid::new_v4().to_string();
    let few = ValuesCount { lt: Some(2), ..ValuesCount::default() };
    let conditions = || {
        [
            ("text", Condition::matches("k", "a".to_owned())),
            ("uuid", Condition::matches("k", vec![uuid.clone()])),
            ("uuid and text", Condition::matches("k", vec![uuid.clone(), "a".to_owned()])),
            ("integer", Condition::matches("k", vec![1, 2])),
            ("bool", Condition::matches("k", true)),
            ("nothing", Condition::matches("k", Vec::<String>::new())),
            ("number", Condition::values_count("k", few)),
            ("absence", Condition::is_empty("k")),
            ("null", Condition::is_null("k")),
        ]
    };
    for (kind, allowed) in [
        (None, &["nothing"][..]),
        (Some(FieldType::Keyword), &["text", "uuid", "uuid and text", "nothing", "number", "absence", "null"]),
        (Some(FieldType::Uuid), &["uuid", "nothing", "number", "absence", "null"]),
        (Some(FieldType::Integer), &["integer", "nothing", "number", "absence", "null"]),
        (Some(FieldType::Bool), &["bool", "nothing", "number", "absence", "null"]),
    ] {
        let name = format!("{kind:?}");
        collection(&client, &name).await;
        if let Some(kind) = kind {
            index(&client, &name, "k", kind).await;
        }
        enable_strict_mode(&client, &name, settings().unindexed_filtering_retrieve(false)).await;
        let mut passed = Vec::new();
        for (what, condition) in conditions() {
            let filter = Filter::must([condition]);
            let request = CountPointsBuilder::new(&name).filter(filter);
            match client.count(request).await {
                Ok(_) => passed.push(what),
                refused => assert_refused(refused, INVALID, "Index required but not found"),
            }
        }
        assert_eq!(passed, allowed, "with an index of {name}");
    }
    let absent = Filter::must([Condition::is_empty("k")]);
    assert_refused(
        client.count(CountPointsBuilder::new("None").filter(absent)).await,
        INVALID,
        "types: [bool, datetime, float, geo, integer, keyword, keyword (with prefix: true), text, \
         text (with phrase_matching: true), uuid]",
    );
}

#[tokio::test]
async fn exact_counts_long_timeouts_and_large_upserts_can_be_forbidden() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    collection(&client, "docs").await;
    index(&client, "docs", "k", FieldType::Keyword).await;
    let bounds = settings().search_allow_exact(false).max_timeout(5).upsert_max_batchsize(2);
    enable_strict_mode(&client, "docs", bounds).await;
    let exact = "Bad request: Exact search disabled!. Help: Set exact=false.";
    let count = |exact| client.count(CountPointsBuilder::new("docs").exact(exact));
    assert_refused(count(true).await, INVALID, exact);
    assert!(count(false).await.is_ok());
    let facet = client.facet(FacetCountsBuilder::new("docs", "k").exact(true)).await;
    assert_refused(facet, INVALID, exact);

    let slow = DeletePointsBuilder::new("docs").points(Filter::default());
    assert_refused(
        client.delete_points(slow.wait(true).timeout(6)).await,
        INVALID,
        "Limit exceeded 6 > 5 for \"timeout\"",
    );
    let points = (0..3).map(|id| point(id, json!({}))).collect::<Vec<_>>();
    assert_refused(
        client.upsert_points(UpsertPointsBuilder::new("docs", points).wait(true)).await,
        INVALID,
        "Limit exceeded 3 > 2 for \"upsert limit\"",
    );
    let allow = settings().search_allow_exact(true);
    enable_strict_mode(&client, "docs", allow).await;
    assert_eq!(total(&client, "docs").await, 0);
}
