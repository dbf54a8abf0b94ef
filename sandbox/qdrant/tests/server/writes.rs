//! Writes of points and payload, and when they are answered.

use qdrant_client::Payload;
use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::points_update_operation::{self, Operation, PointStructList};
use qdrant_client::qdrant::{
    Condition, DeletePayloadPointsBuilder, DeletePointsBuilder, Filter, PointId, PointStruct, PointsIdsList,
    PointsUpdateOperation, ScrollPointsBuilder, SetPayloadPointsBuilder, UpdateBatchPointsBuilder, UpdateStatus,
    UpsertPointsBuilder, ValuesCount,
};
use serde_json::json;
use tonic::Code;
use uuid::Uuid;

use crate::calls::{collection, count, point, total, upsert};
use crate::support::{Sandbox, assert_refused, eventually};

#[tokio::test]
async fn a_write_without_wait_is_acknowledged_and_one_with_it_completed() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    collection(&client, "docs").await;
    let request = UpsertPointsBuilder::new("docs", vec![point(1, json!({}))]);
    let result = client.upsert_points(request).await.unwrap().result.unwrap();
    assert_eq!(result.status(), UpdateStatus::Acknowledged);
    let delete = DeletePointsBuilder::new("docs").points(vec![PointId::from(1)]).wait(true).timeout(30);
    let result = client.delete_points(delete).await.unwrap().result.unwrap();
    assert_eq!(result.status(), UpdateStatus::Completed);
    assert_eq!(total(&client, "docs").await, 0);
}

#[tokio::test]
async fn a_wait_that_is_longer_than_its_timeout_says_so_and_the_write_goes_on() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    collection(&client, "docs").await;
    let points = (0..5).map(|id| point(id, json!({}))).collect::<Vec<_>>();
    let request = UpsertPointsBuilder::new("docs", points).wait(true).timeout(0);
    let result = client.upsert_points(request).await.unwrap().result.unwrap();
    assert_eq!(result.status(), UpdateStatus::WaitTimeout);
    eventually("the points are there", async || total(&client, "docs").await == 5).await;
}

#[tokio::test]
async fn points_are_deleted_by_ids_and_by_filter() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    collection(&client, "docs").await;
    let uuid = Uuid::new_v4().to_string();
    upsert(
        &client,
        "docs",
        vec![
            point(1, json!({"course_id": "a"})),
            point(2, json!({"course_id": ["a", "b"]})),
            point(3, json!({"course_id": ["c", "d"]})),
            point(uuid.clone(), json!({"course_id": "c"})),
        ],
    )
    .await;
    let dead = vec!["a".to_owned(), "zz".to_owned()];
    let owned_by_dead_only = Filter {
        must: vec![
            Condition::matches("course_id", dead),
            Condition::values_count("course_id", ValuesCount { lt: Some(2), ..Default::default() }),
        ],
        ..Filter::default()
    };
    assert_eq!(count(&client, "docs", owned_by_dead_only.clone()).await, 1);
    client
        .delete_points(DeletePointsBuilder::new("docs").points(owned_by_dead_only.clone()).wait(true).timeout(60))
        .await
        .unwrap();
    assert_eq!(count(&client, "docs", owned_by_dead_only).await, 0);
    assert_eq!(total(&client, "docs").await, 3);

    let ids = PointsIdsList { ids: vec![PointId::from(3), PointId::from(uuid), PointId::from(99)] };
    client.delete_points(DeletePointsBuilder::new("docs").points(ids).wait(true)).await.unwrap();
    let left = client.scroll(ScrollPointsBuilder::new("docs")).await.unwrap();
    assert_eq!(left.result.len(), 1);
    assert_eq!(left.result[0].id.clone().unwrap().point_id_options, Some(PointIdOptions::Num(2)));
}

#[tokio::test]
async fn a_vector_of_the_wrong_size_is_refused_only_if_waited_for() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    collection(&client, "docs").await;
    let wrong = || vec![PointStruct::new(1, vec![1.0, 2.0], Payload::new())];
    assert_refused(
        client.upsert_points(UpsertPointsBuilder::new("docs", wrong()).wait(true)).await,
        Code::InvalidArgument,
        "Wrong input: Vector dimension error: expected dim: 4, got 2",
    );
    let result = client.upsert_points(UpsertPointsBuilder::new("docs", wrong())).await.unwrap();
    assert_eq!(result.result.unwrap().status(), UpdateStatus::Acknowledged);
    assert_eq!(total(&client, "docs").await, 0);
}

#[tokio::test]
async fn payload_is_set_and_deleted() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    collection(&client, "docs").await;
    upsert(&client, "docs", vec![point(1, json!({"a": 1})), point(2, json!({"a": 2}))]).await;
    let added = Payload::try_from(json!({"b": {"deep": [1.5, null, "x"]}})).unwrap();
    client
        .set_payload(
            SetPayloadPointsBuilder::new("docs", added)
                .points_selector(Filter::must([Condition::matches("a", 1)]))
                .wait(true),
        )
        .await
        .unwrap();
    client
        .delete_payload(
            DeletePayloadPointsBuilder::new("docs", vec!["a".to_owned()])
                .points_selector(PointsIdsList { ids: vec![1.into()] })
                .wait(true),
        )
        .await
        .unwrap();
    let payloads = async || {
        let page = client.scroll(ScrollPointsBuilder::new("docs")).await.unwrap();
        page.result.into_iter().map(|found| serde_json::Value::from(Payload::from(found.payload))).collect::<Vec<_>>()
    };
    assert_eq!(payloads().await, [json!({"b": {"deep": [1.5, null, "x"]}}), json!({"a": 2})]);
    client
        .overwrite_payload(
            SetPayloadPointsBuilder::new("docs", Payload::try_from(json!({"c": true})).unwrap())
                .points_selector(Filter::default())
                .wait(true),
        )
        .await
        .unwrap();
    assert_eq!(payloads().await, [json!({"c": true}), json!({"c": true})]);
}

#[tokio::test]
async fn a_batch_applies_its_operations_in_order() {
    let sandbox = Sandbox::start();
    let client = sandbox.client();
    collection(&client, "docs").await;
    let operations = vec![
        PointsUpdateOperation {
            operation: Some(Operation::Upsert(PointStructList {
                points: vec![point(1, json!({})), point(2, json!({}))],
                ..Default::default()
            })),
        },
        PointsUpdateOperation {
            operation: Some(Operation::DeletePoints(points_update_operation::DeletePoints {
                points: Some(vec![PointId::from(1)].into()),
                shard_key_selector: None,
            })),
        },
    ];
    let request = UpdateBatchPointsBuilder::new("docs", operations).wait(true);
    let results = client.update_points_batch(request).await.unwrap().result;
    let statuses: Vec<_> = results.iter().map(|result| result.status()).collect();
    assert_eq!(statuses, [UpdateStatus::Completed, UpdateStatus::Completed]);
    assert_eq!(total(&client, "docs").await, 1);
}

#[tokio::test]
async fn a_batch_larger_than_a_file_of_the_log_is_stored() {
    let mut sandbox = Sandbox::start();
    let client = sandbox.client();
    collection(&client, "docs").await;
    let text = "x".repeat(10_000);
    let points = (0..1500).map(|id| point(id, json!({"text": text})));
    upsert(&client, "docs", points.collect()).await;
    sandbox.kill_and_restart();
    assert_eq!(total(&sandbox.client(), "docs").await, 1500);
}
