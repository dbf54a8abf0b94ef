//! Collections, metadata, aliases.

use std::collections::{BTreeMap, HashMap};

use qdrant_client::qdrant::vectors_config::Config;
use qdrant_client::qdrant::{
    CountPointsBuilder, CreateAliasBuilder, CreateCollectionBuilder, DeletePointsBuilder, Distance, FacetCountsBuilder,
    FieldType, Filter, GetPointsBuilder, PayloadSchemaType, RenameAliasBuilder, ScrollPointsBuilder,
    StrictModeConfigBuilder, UpdateCollectionBuilder, UpsertPointsBuilder, VectorParamsBuilder,
};
use serde_json::json;
use tonic::Code;

use crate::calls::{collection, counts, facet, index, point, total, upsert};
use crate::support::{Sandbox, assert_refused, code_and_text};

#[tokio::test]
async fn collections_are_created_listed_told_and_deleted() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    assert!(!client.collection_exists("docs").await.unwrap());
    collection(&client, "docs").await;
    collection(&client, "a").await;

    assert!(client.collection_exists("docs").await.unwrap());
    let names: Vec<_> = client.list_collections().await.unwrap().collections;
    let names: Vec<_> = names.iter().map(|found| found.name.as_str()).collect();
    assert_eq!(names, ["a", "docs"]);

    upsert(&client, "docs", vec![point(1, json!({"course_id": "x"}))]).await;
    index(&client, "docs", "course_id", FieldType::Keyword).await;
    let info = client.collection_info("docs").await.unwrap().result.unwrap();
    assert_eq!(info.points_count, Some(1));
    let schema = &info.payload_schema["course_id"];
    assert_eq!(schema.data_type(), PayloadSchemaType::Keyword);
    assert_eq!(schema.points, Some(1));
    let config = info.config.unwrap();
    assert!(config.strict_mode_config.is_none());
    assert!(config.metadata.is_empty());
    match config.params.unwrap().vectors_config.unwrap().config {
        Some(Config::Params(params)) => {
            assert_eq!((params.size, params.distance()), (4, Distance::Dot));
        }
        other => panic!("not the unnamed vector: {other:?}"),
    }

    assert!(client.delete_collection("docs").await.unwrap().result);
    assert!(!client.collection_exists("docs").await.unwrap());
    assert!(!client.delete_collection("docs").await.unwrap().result);
}

#[tokio::test]
async fn a_collection_that_is_not_there_is_not_found_by_any_call() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    let errors = [
        client.collection_info("x").await.unwrap_err(),
        client.count(CountPointsBuilder::new("x")).await.unwrap_err(),
        client.facet(FacetCountsBuilder::new("x", "k")).await.unwrap_err(),
        client.scroll(ScrollPointsBuilder::new("x")).await.unwrap_err(),
        client.get_points(GetPointsBuilder::new("x", vec![1.into()])).await.unwrap_err(),
        client.delete_points(DeletePointsBuilder::new("x").points(Filter::default())).await.unwrap_err(),
        client.upsert_points(UpsertPointsBuilder::new("x", vec![point(1, json!({}))])).await.unwrap_err(),
        client.update_collection(UpdateCollectionBuilder::new("x")).await.unwrap_err(),
        client.create_alias(CreateAliasBuilder::new("x", "alias")).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(code_and_text(error), (Code::NotFound, "Not found: Collection `x` doesn't exist!".to_owned()));
    }
}

#[tokio::test]
async fn a_name_is_taken_once() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    collection(&client, "docs").await;
    let again = CreateCollectionBuilder::new("docs").vectors_config(VectorParamsBuilder::new(4, Distance::Dot));
    assert_refused(
        client.create_collection(again).await,
        Code::AlreadyExists,
        "Wrong input: Collection `docs` already exists!",
    );
    assert_refused(
        client.create_alias(CreateAliasBuilder::new("docs", "docs")).await,
        Code::AlreadyExists,
        "Collection `docs` already exists!",
    );
    client.create_alias(CreateAliasBuilder::new("docs", "alias")).await.unwrap();
    assert_refused(
        client.create_collection(CreateCollectionBuilder::new("alias")).await,
        Code::InvalidArgument,
        "Alias with the same name already exists",
    );
    assert_refused(
        client.create_collection(CreateCollectionBuilder::new("")).await,
        Code::InvalidArgument,
        "collection_name",
    );
}

#[tokio::test]
async fn metadata_and_strict_mode_are_kept_and_merged() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    let metadata = HashMap::from([("pin".to_owned(), json!("a")), ("n".to_owned(), json!(1))]);
    client
        .create_collection(
            CreateCollectionBuilder::new("docs")
                .vectors_config(VectorParamsBuilder::new(4, Distance::Dot))
                .metadata(metadata)
                .strict_mode_config(StrictModeConfigBuilder::default().max_query_limit(100)),
        )
        .await
        .unwrap();
    let changed = HashMap::from([("pin".to_owned(), json!({"deep": [true]})), ("n".to_owned(), json!(null))]);
    client
        .update_collection(
            UpdateCollectionBuilder::new("docs")
                .metadata(changed)
                .strict_mode_config(StrictModeConfigBuilder::default().enabled(true)),
        )
        .await
        .unwrap();

    let info = client.collection_info("docs").await.unwrap().result.unwrap();
    let config = info.config.unwrap();
    let metadata: BTreeMap<_, _> = config.metadata.into_iter().map(|(key, value)| (key, value.into_json())).collect();
    assert_eq!(metadata, BTreeMap::from([("pin".to_owned(), json!({"deep": [true]}))]));
    let strict = config.strict_mode_config.unwrap();
    assert_eq!(strict.enabled, Some(true));
    assert_eq!(strict.max_query_limit, Some(100));
}

#[tokio::test]
async fn aliases_are_created_renamed_deleted_and_resolved_by_every_call() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    collection(&client, "one").await;
    collection(&client, "two").await;
    let aliases = async || {
        let listed = client.list_aliases().await.unwrap().aliases;
        listed.into_iter().map(|alias| (alias.alias_name, alias.collection_name)).collect::<BTreeMap<_, _>>()
    };
    client.create_alias(CreateAliasBuilder::new("one", "live")).await.unwrap();
    client.create_alias(CreateAliasBuilder::new("two", "next")).await.unwrap();
    assert_eq!(
        aliases().await,
        BTreeMap::from([("live".to_owned(), "one".to_owned()), ("next".to_owned(), "two".to_owned())])
    );
    let of_two = client.list_collection_aliases("two").await.unwrap().aliases;
    assert_eq!(of_two.len(), 1);
    assert_eq!(of_two[0].alias_name, "next");

    upsert(&client, "live", vec![point(1, json!({"k": "v"}))]).await;
    index(&client, "live", "k", FieldType::Keyword).await;
    assert_eq!(total(&client, "one").await, 1);
    assert_eq!(facet(&client, "live", "k", false).await, counts([("v", 1)]));
    assert!(client.collection_exists("live").await.unwrap());
    let info = client.collection_info("live").await.unwrap().result.unwrap();
    assert_eq!(info.points_count, Some(1));
    let page = client.scroll(ScrollPointsBuilder::new("live")).await.unwrap();
    assert_eq!(page.result.len(), 1);

    client.rename_alias(RenameAliasBuilder::new("next", "later")).await.unwrap();
    client.delete_alias("live").await.unwrap();
    assert_eq!(aliases().await, BTreeMap::from([("later".to_owned(), "two".to_owned())]));
    assert_refused(
        client.rename_alias(RenameAliasBuilder::new("gone", "x")).await,
        Code::NotFound,
        "Alias gone does not exists!",
    );
    assert!(!client.delete_collection("later").await.unwrap().result);
    client.delete_collection("two").await.unwrap();
    assert!(aliases().await.is_empty());
}
