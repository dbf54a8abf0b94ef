//! Against the real BullMQ: what our removal leaves is, key by key, what BullMQ's own leaves of an identical copy.

use sandbox::{Bullmq, Redis};
use serde_json::{Value, json};

use super::*;

/// Two copies of what a BullMQ filled: ours in database 0, theirs in database 1.
struct Twins {
    server: Redis,
    major: u8,
}

impl Twins {
    async fn fill(major: u8, steps: Value) -> Self {
        let twins = Self { server: Redis::start().await.unwrap(), major };
        twins.ours().drive(steps).await.unwrap();
        // Whoever opens a queue notes its version there; what only a flow has put something into has none yet.
        let everything_there = everything(&twins.url(0)).await;
        let queues = everything_there.keys().filter_map(|key| key.strip_prefix("{bull}:")?.strip_suffix(":meta"));
        let open: Vec<Value> = queues.map(|queue| json!({ "do": "counts", "queue": queue })).collect();
        twins.ours().drive(Value::Array(open)).await.unwrap();
        let mut connection = connect(&twins.url(0)).await;
        for key in everything(&twins.url(0)).await.into_keys() {
            let copied: bool =
                cmd("COPY").arg(&key).arg(&key).arg("DB").arg(1).query_async(&mut connection).await.unwrap();
            assert!(copied, "{key}");
        }
        assert_eq!(everything(&twins.url(0)).await, everything(&twins.url(1)).await);
        twins
    }

    fn url(&self, database: u8) -> String {
        let url = self.server.url();
        format!("{}/{database}", url.strip_suffix("/0").unwrap())
    }

    fn ours(&self) -> Bullmq {
        Bullmq { major: self.major, url: self.url(0), prefix: PREFIX.into() }
    }

    fn theirs(&self) -> Bullmq {
        Bullmq { major: self.major, url: self.url(1), prefix: PREFIX.into() }
    }

    /// Removes in database 1 what these handles stand for, in their order, as BullMQ does.
    async fn remove_theirs(&self, handles: &[Handle]) {
        let step = |key: String| {
            let rest = key.strip_prefix(&format!("{PREFIX}:")).unwrap().to_owned();
            let (queue, id) = rest.split_once(':').unwrap();
            match id.strip_prefix("repeat:") {
                Some(scheduler) if !scheduler.contains(':') => {
                    json!({ "do": "unschedule", "queue": queue, "id": scheduler })
                }
                // It goes with its scheduler, unless it waits to be worked off.
                Some(_) | None => json!({ "do": "remove", "queue": queue, "id": id }),
            }
        };
        let steps: Vec<Value> = keys(handles).into_iter().map(step).collect();
        let answers = self.theirs().drive(Value::Array(steps)).await.unwrap();
        let right = [json!("removed"), json!(true), json!("gone")];
        assert!(answers.iter().all(|answer| right.contains(answer)), "{answers:?}");
    }
}

fn data(n: u64) -> Value {
    json!({ "courseId": uuid(n).to_string(), "text": "é\u{1f600}", "deep": { "list": [1, null] } })
}

/// Jobs of the live course 1 and the dead course 2 in every state.
fn campus() -> Value {
    let dead_id = format!("auto-{}-stage4", uuid(2));
    let mut steps = Vec::new();
    // What is finished is made first, while nothing else waits.
    for (n, end) in [(1, "completed"), (2, "completed"), (1, "failed"), (2, "failed")] {
        steps.push(json!({ "do": "add", "queue": "states", "data": data(n), "logs": ["begun", "done"] }));
        steps.push(json!({ "do": "take", "queue": "states", "end": end }));
    }
    for n in [1, 2, 1, 2, 2, 1] {
        steps.push(json!({ "do": "add", "queue": "states", "data": data(n), "logs": ["a line"] }));
        steps.push(json!({ "do": "add", "queue": "states", "data": data(n), "options": { "priority": 3 } }));
        steps.push(json!({ "do": "add", "queue": "states", "data": data(n), "options": { "delay": 3_600_000 } }));
        steps.push(json!({ "do": "add", "queue": "hold", "data": data(n) }));
    }
    steps.push(json!({ "do": "add", "queue": "states", "data": {}, "options": { "jobId": dead_id } }));
    for (n, id, options) in [
        (2, "simple", json!({ "deduplication": { "id": "simple" } })),
        (2, "timed", json!({ "deduplication": { "id": "timed", "ttl": 3_600_000 } })),
        (1, "live", json!({ "deduplication": { "id": "live" } })),
    ] {
        let options = options.as_object().unwrap().clone().into_iter().chain([("jobId".into(), json!(id))]);
        let options: serde_json::Map<String, Value> = options.collect();
        steps.push(json!({ "do": "add", "queue": "states", "data": data(n), "options": options }));
    }
    steps.push(json!({ "do": "pause", "queue": "hold" }));
    // Flows over two queues: of the dead alone, a child of it done; one of the dead and the living, and one of the living.
    for (parent, child) in [(2, 2), (2, 1), (1, 1)] {
        let children = json!([
            { "name": "part", "queueName": "parts", "data": data(child) },
            { "name": "part", "queueName": "parts", "data": data(child), "opts": { "delay": 3_600_000 },
              "children": [{ "name": "leaf", "queueName": "leaves", "data": data(parent) }] },
        ]);
        let flow = json!({ "name": "whole", "queueName": "wholes", "data": data(parent), "children": children });
        steps.push(json!({ "do": "flow", "flow": flow }));
        if (parent, child) == (2, 2) {
            steps.push(json!({ "do": "take", "queue": "parts", "end": "completed" }));
        }
    }
    for (n, id) in [(1, "of-the-living"), (2, "of-the-dead")] {
        steps.push(json!({ "do": "schedule", "queue": "plans", "id": id, "every": 3_600_000, "data": data(n) }));
    }
    Value::Array(steps)
}

const QUEUES: [&str; 6] = ["states", "hold", "wholes", "parts", "leaves", "plan*"];

/// What of each queue is the dead course's alone.
const GOES: [(&str, usize); 6] =
    [("states", 14), ("hold", 3), ("wholes", 1), ("parts", 2), ("leaves", 1), ("plans", 2)];

async fn removal_is_as_bullmq_s_own(major: u8) {
    let twins = Twins::fill(major, campus()).await;
    let store = store(&twins.url(0), IdType::Uuid, &QUEUES);
    let (live, dead) = (uuid(1), uuid(2));
    let before = everything(&twins.url(0)).await;

    let found = inventory(&store, &[live]).await;
    for (n, (queue, goes)) in GOES.iter().enumerate() {
        let found = &found.sources[n].dead[&dead];
        assert_eq!(found.amount.resources, *goes as u64, "{queue}: {found:?}");
        assert!(!found.locked, "{queue}");
    }
    assert_eq!(found.sources.iter().map(|source| source.unrecognised.count).sum::<u64>(), 0);
    let entangled: Vec<_> = [2, 4].map(|n| found.sources[n].dead[&dead].entangled).into();
    assert_eq!(entangled, [1, 1], "S5: the flow in which a live course has jobs stays as a whole");

    let handles = located(&store, &targets(&store, [dead])).await;
    assert_eq!(handles.len(), GOES.iter().map(|(_, goes)| goes).sum::<usize>(), "{:?}", keys(&handles));
    let (items, batch) = copied(&store, &handles).await;
    assert_eq!(everything(&twins.url(0)).await, before, "S12: copying changes nothing");
    let removed = store.delete(&batch).await;
    let gone = Outcome::Deleted { resources: 1, bytes: None };
    assert!(removed.outcomes.iter().all(|outcome| *outcome == gone), "{:?}", removed.outcomes);

    twins.remove_theirs(&handles).await;
    let theirs = everything(&twins.url(1)).await;
    assert_eq!(everything(&twins.url(0)).await, theirs, "as BullMQ's own removal leaves it");

    let back = store.put_back(&items, Restoring::Missing).await;
    assert!(back.iter().all(|outcome| *outcome == PutBack::Restored), "{back:?}");
    // A wake-up call for workers, which finds nothing, is left of the parent that went on for a moment.
    let mut restored = everything(&twins.url(0)).await;
    if !before.contains_key("{bull}:wholes:marker") {
        restored.remove("{bull}:wholes:marker");
    }
    assert_eq!(restored, before, "S12: all that went is back where it was");

    let again = located(&store, &targets(&store, [dead])).await;
    assert_eq!(BTreeSet::from_iter(keys(&again)), BTreeSet::from_iter(keys(&handles)));
    let uncopied = store.delete(&Condemned::for_test(again, FRESH)).await;
    assert!(uncopied.outcomes.iter().all(|outcome| *outcome == gone), "without quarantine too: {uncopied:?}");
    assert_eq!(everything(&twins.url(0)).await, theirs);
    assert_eq!(inventory(&store, &[live]).await.sources[0].dead.len(), 0);

    // What is left is worked off: of `states`, three waiting, three prioritized and the one that is deduplicated.
    let step = json!([{ "do": "work", "queues": ["states"], "count": 7 }, { "do": "counts", "queue": "states" }]);
    let answers = twins.ours().drive(step).await.unwrap();
    assert_eq!(answers[0].as_array().unwrap().len(), 7, "{answers:?}");
    assert_eq!(
        [&answers[1]["delayed"], &answers[1]["failed"], &answers[1]["completed"]],
        [3, 1, 8].map(Value::from).each_ref()
    );
    // A dead id would swallow this one.
    let deduplicated =
        json!({ "do": "add", "queue": "states", "data": data(1), "options": { "deduplication": { "id": "simple" } } });
    let added = twins.ours().drive(json!([deduplicated])).await.unwrap();
    let state = json!([{ "do": "state", "queue": "states", "id": added[0] }]);
    assert_eq!(twins.ours().drive(state).await.unwrap(), ["waiting"]);
}

#[tokio::test]
async fn what_is_removed_leaves_what_bullmq_5_leaves_and_comes_back() {
    removal_is_as_bullmq_s_own(5).await;
}

#[tokio::test]
async fn what_is_removed_leaves_what_bullmq_6_leaves_and_comes_back() {
    removal_is_as_bullmq_s_own(6).await;
}

/// A parent that waits for a dead child alone goes on, whether its queue is paused or not. Nothing that locates gives such a
/// child to the removal, since its parent lives; the script does it right all the same.
async fn a_parent_goes_on(major: u8) {
    let flow = |queue: &str| {
        let children = json!([{ "name": "part", "queueName": "parts", "data": data(2) }]);
        json!({ "do": "flow", "flow": { "name": "whole", "queueName": queue, "data": data(1), "children": children } })
    };
    let twins = Twins::fill(major, json!([{ "do": "pause", "queue": "still" }, flow("wholes"), flow("still")])).await;
    let store = store(&twins.url(0), IdType::Uuid, &["parts", "wholes", "still"]);
    let before = everything(&twins.url(0)).await;
    assert_eq!(located(&store, &targets(&store, [uuid(2)])).await, [], "S5: a live parent holds its children");
    let is_child = |key: &&String| key.starts_with("{bull}:parts:") && before[*key].contains(&uuid(2).to_string());
    let handle = |key: &String| Handle {
        source: SourceIndex(0),
        owner: uuid(2),
        mentions: IdType::Uuid.mentions(key.as_bytes()),
        key: key.clone().into_bytes().into(),
    };
    let handles: Vec<Handle> = before.keys().filter(is_child).map(handle).collect();
    assert_eq!(handles.len(), 2);
    let (items, batch) = copied(&store, &handles).await;
    let removed = store.delete(&batch).await;
    assert_eq!(removed.outcomes, vec![Outcome::Deleted { resources: 1, bytes: None }; 2]);
    twins.remove_theirs(&handles).await;
    assert_eq!(everything(&twins.url(0)).await, everything(&twins.url(1)).await);
    let back = store.put_back(&items, Restoring::Missing).await;
    assert_eq!(back, [PutBack::Restored, PutBack::Restored]);
    let mut restored = everything(&twins.url(0)).await;
    restored.remove("{bull}:wholes:marker");
    assert_eq!(restored, before, "S12: and its parent waits for it again");
}

#[tokio::test]
async fn a_parent_of_bullmq_5_goes_on_once_its_last_child_is_removed() {
    a_parent_goes_on(5).await;
}

#[tokio::test]
async fn a_parent_of_bullmq_6_goes_on_once_its_last_child_is_removed() {
    a_parent_goes_on(6).await;
}
