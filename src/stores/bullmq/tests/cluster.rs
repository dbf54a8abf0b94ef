//! Queues in a Redis Cluster: those of a prefix lie in one slot.

use sandbox::{Bullmq, RedisCluster};
use serde_json::json;

use super::*;

/// The cluster, the URL of the master that has the slot of the prefix, and that of another one.
async fn cluster() -> (RedisCluster, String, String) {
    let cluster = RedisCluster::start().await.unwrap();
    let owner = cluster.owner(PREFIX.as_bytes()).await.unwrap();
    let [url, other] = [owner, (owner + 1) % 3].map(|n| cluster.masters()[n].url());
    (cluster, url, other)
}

/// BullMQ itself fills the queue; its client knows nothing of the cluster, and needs not: all keys are on one master.
#[tokio::test]
async fn jobs_of_a_cluster_are_found_from_any_master_and_removed_as_bullmq_does() {
    let (_cluster, url, other) = cluster().await;
    let data = json!({ "courseId": uuid(2).to_string() });
    let flow = json!({ "name": "whole", "queueName": "wholes", "data": data, "children": [
        { "name": "part", "queueName": "parts", "data": data }
    ] });
    let bullmq = Bullmq { major: 6, url: url.clone(), prefix: PREFIX.into() };
    bullmq
        .drive(json!([{ "do": "flow", "flow": flow }, { "do": "add", "queue": "parts", "data": data }]))
        .await
        .unwrap();

    let store = store(&other, IdType::Uuid, &["wholes", "parts"]);
    let identity = store.identity().await.unwrap();
    assert!(identity.contains("cluster of masters at") && identity.ends_with("prefix {bull}:"), "{identity}");
    let found = inventory(&store, &[]).await;
    let amounts = [0, 1].map(|source: usize| found.sources[source].dead[&uuid(2)].amount.resources);
    assert_eq!(amounts, [1, 2]);
    let handles = located(&store, &targets(&store, [uuid(2)])).await;
    let (items, batch) = copied(&store, &handles).await;
    let gone = Outcome::Deleted { resources: 1, bytes: None };
    assert_eq!(store.delete(&batch).await.outcomes, vec![gone; 3]);
    assert_eq!(store.remaining(&targets(&store, [uuid(2)])).await.unwrap(), vec![]);
    assert_eq!(store.put_back(&items, Restoring::Missing).await, vec![PutBack::Restored; 3]);
    let counts = bullmq.drive(json!([{ "do": "counts", "queue": "parts" }])).await.unwrap();
    assert_eq!(counts[0]["waiting"], 2);
}

/// A parent in another prefix is in another slot: what it stands in cannot be removed with it by one script.
#[tokio::test]
async fn s5_a_flow_across_slots_stays() {
    let (cluster, url, _) = cluster().await;
    let owner = cluster.owner(PREFIX.as_bytes()).await.unwrap();
    // Parents in a slot of another master, and in another slot of the same one.
    let mut parents = BTreeMap::new();
    for n in 0..100 {
        let parent = format!("{{other-{n}}}:q:1");
        parents.entry(cluster.owner(parent.as_bytes()).await.unwrap() == owner).or_insert(parent);
    }
    assert_eq!(parents.len(), 2);
    let mut connection = connect(&url).await;
    for (n, parent) in parents.values().enumerate() {
        let there = connect(&cluster.masters()[cluster.owner(parent.as_bytes()).await.unwrap()].url()).await;
        cmd("HSET").arg(parent).arg("data").arg("{}").query_async::<()>(&mut there.clone()).await.unwrap();
        let data = json!({ "courseId": uuid(2).to_string() }).to_string();
        let mut job = cmd("HSET");
        job.arg(format!("{PREFIX}:a:{n}")).arg("data").arg(data).arg("parentKey").arg(parent);
        job.query_async::<()>(&mut connection).await.unwrap();
    }
    let store = store(&url, IdType::Uuid, &["a"]);
    let found = inventory(&store, &[]).await;
    let dead = &found.sources[0].dead[&uuid(2)];
    assert_eq!((dead.amount.resources, dead.entangled), (0, 2));
    assert_eq!(located(&store, &targets(&store, [uuid(2)])).await, []);
}

#[tokio::test]
async fn a_prefix_without_a_hash_tag_is_refused_in_words() {
    let (_cluster, url, _) = cluster().await;
    for prefix in ["bull", "bull{}"] {
        let store = BullmqStore::new(BullmqSettings { prefix: prefix.into(), ..settings(&url, IdType::Uuid, &["a"]) });
        let store = store.unwrap();
        let error = chain(&store.remaining(&targets(&store, [uuid(2)])).await.unwrap_err());
        assert!(error.contains(&format!("queues of the prefix `{prefix}` lie in many of its slots")), "{error}");
    }
}
