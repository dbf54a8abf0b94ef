//! Starting, authentication, restarts, ends.

use std::collections::{BTreeMap, HashMap};

use qdrant_client::Qdrant;
use qdrant_client::qdrant::{
    Condition, CreateAliasBuilder, CreateCollectionBuilder, DeletePointsBuilder, Distance, FieldType, Filter,
    StrictModeConfigBuilder, VectorParamsBuilder,
};
use serde_json::json;
use tonic::Code;

use crate::calls::{collection, counts, facet, index, point, total, upsert};
use crate::support::{Sandbox, assert_refused, command};

#[tokio::test]
async fn the_health_check_tells_the_version_that_is_imitated() {
    let sandbox = Sandbox::start_with_key(Some("a key"));
    // As on a real server, it asks for no key.
    let health = sandbox.client_with_key(None).health_check().await.unwrap();
    assert_eq!(health.version, "1.20.0");
    assert!(health.title.contains("test server"));
}

#[tokio::test]
async fn every_other_call_needs_the_key() {
    let sandbox = Sandbox::start_with_key(Some("a key"));
    assert!(sandbox.client().list_collections().await.is_ok());
    assert_refused(
        sandbox.client_with_key(Some("another")).list_collections().await,
        Code::Unauthenticated,
        "Invalid API key or JWT",
    );
    let without = sandbox.client_with_key(None);
    let missing = "Must provide an API key or an Authorization bearer token";
    assert_refused(without.list_aliases().await, Code::Unauthenticated, missing);
    let delete = DeletePointsBuilder::new("docs").points(Filter::default());
    assert_refused(without.delete_points(delete).await, Code::Unauthenticated, missing);
}

/// Everything that has to outlive the process.
async fn fill(client: &Qdrant) {
    client
        .create_collection(
            CreateCollectionBuilder::new("docs")
                .vectors_config(VectorParamsBuilder::new(4, Distance::Dot))
                .metadata(HashMap::from([("pin".to_owned(), json!("x"))]))
                .strict_mode_config(StrictModeConfigBuilder::default().enabled(true).max_query_limit(5000)),
        )
        .await
        .unwrap();
    client.create_alias(CreateAliasBuilder::new("docs", "live")).await.unwrap();
    index(client, "docs", "k", FieldType::Keyword).await;
    let points = (0..300).map(|id| point(id, json!({"k": format!("v{}", id % 3)})));
    upsert(client, "docs", points.collect()).await;
    let dead = Filter::must([Condition::matches("k", "v0".to_owned())]);
    client.delete_points(DeletePointsBuilder::new("live").points(dead).wait(true)).await.unwrap();
    collection(client, "gone").await;
    client.delete_collection("gone").await.unwrap();
}

async fn assert_filled(client: &Qdrant) {
    let expected = counts([("v1", 100), ("v2", 100)]);
    assert_eq!(facet(client, "live", "k", false).await, expected);
    assert_eq!(total(client, "docs").await, 200);
    let collections = client.list_collections().await.unwrap().collections;
    assert_eq!(collections.len(), 1);
    let info = client.collection_info("live").await.unwrap().result.unwrap();
    assert_eq!(info.points_count, Some(200));
    let config = info.config.unwrap();
    assert_eq!(config.strict_mode_config.unwrap().max_query_limit, Some(5000));
    let metadata: BTreeMap<_, _> = config.metadata.into_iter().map(|(key, value)| (key, value.into_json())).collect();
    assert_eq!(metadata, BTreeMap::from([("pin".to_owned(), json!("x"))]));
}

#[tokio::test]
async fn everything_outlives_kill_9_and_an_orderly_stop() {
    let mut sandbox = Sandbox::start();
    fill(&sandbox.client()).await;
    sandbox.kill_and_restart();
    assert_filled(&sandbox.client()).await;
    sandbox.kill_and_restart();
    assert_filled(&sandbox.client()).await;
    sandbox.stop_and_restart();
    assert_filled(&sandbox.client()).await;
}

#[tokio::test]
async fn what_an_interrupted_create_left_is_removed_at_the_start() {
    let mut sandbox = Sandbox::start();
    fill(&sandbox.client()).await;
    let rest = sandbox.data().join("collections").join("rest");
    std::fs::create_dir(&rest).unwrap();
    sandbox.kill_and_restart();
    assert!(!rest.exists());
    assert_filled(&sandbox.client()).await;
}

#[tokio::test]
async fn it_ends_when_its_standard_input_does() {
    let mut sandbox = Sandbox::start();
    assert!(sandbox.client().list_collections().await.is_ok());
    sandbox.end_stdin();
    assert!(sandbox.wait_until_exited());
}

#[tokio::test]
async fn it_ends_on_sigterm() {
    let mut sandbox = Sandbox::start();
    fill(&sandbox.client()).await;
    sandbox.terminate();
    assert!(sandbox.wait_until_exited());
}

#[tokio::test]
async fn a_second_server_on_the_same_folder_does_not_start() {
    let sandbox = Sandbox::start();
    let output = command(sandbox.data()).output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("another server uses the folder"), "{text}");
    assert!(sandbox.client().list_collections().await.is_ok());
}

#[tokio::test]
async fn the_key_comes_from_a_file_and_an_empty_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "\n").unwrap();
    let output = command(&folder.path().join("data")).arg("--api-key-file").arg(&file).output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("is empty"), "{text}");

    std::fs::write(&file, "from a file\n").unwrap();
    let sandbox = Sandbox::start_with_key_file(&file, "from a file");
    assert!(sandbox.client().list_collections().await.is_ok());
    assert_refused(
        sandbox.client_with_key(Some("other")).list_collections().await,
        Code::Unauthenticated,
        "Invalid API key",
    );
}
