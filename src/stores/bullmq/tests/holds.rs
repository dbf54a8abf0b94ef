//! What holds jobs, and what they are refused for.

use sandbox::{Bullmq, Keyspace};
use serde_json::{Value, json};

use super::*;

struct Scene {
    keyspace: Keyspace,
    bullmq: Bullmq,
}

impl Scene {
    async fn fill(steps: Value) -> (Self, Vec<Value>) {
        let keyspace = Keyspace::create().await.unwrap();
        let bullmq = Bullmq { major: 6, url: keyspace.url().to_owned(), prefix: PREFIX.into() };
        let answers = bullmq.drive(steps).await.unwrap();
        (Self { keyspace, bullmq }, answers)
    }

    fn store(&self, queues: &[&str]) -> BullmqStore {
        store(self.keyspace.url(), IdType::Uuid, queues)
    }

    async fn run(&self, command: &mut ::redis::Cmd) {
        command.query_async::<::redis::Value>(&mut connect(self.keyspace.url()).await).await.unwrap();
    }
}

fn add(queue: &str, course: u64) -> Value {
    json!({ "do": "add", "queue": queue, "data": { "courseId": uuid(course).to_string() } })
}

const STAYS: Outcome = Outcome::Partly { resources: 0, bytes: None, left: 1 };

#[tokio::test]
async fn a_job_at_work_holds_its_course_in_every_queue_and_no_other_course() {
    let active = json!({ "do": "take", "queue": "a", "end": "active" });
    let (scene, _) = Scene::fill(json!([add("a", 2), active, add("b", 2), add("b", 3)])).await;
    let store = scene.store(&["a", "b"]);
    let locked = |found: &Inventory, source: usize, n| found.sources[source].dead[&uuid(n)].locked;
    let found = inventory(&store, &[]).await;
    assert_eq!([locked(&found, 0, 2), locked(&found, 1, 2), locked(&found, 1, 3)], [true, true, false]);
    let handles = located(&store, &targets(&store, [uuid(2), uuid(3)])).await;
    assert_eq!(handles.iter().map(|handle| handle.owner).collect::<Vec<_>>(), [uuid(3)]);

    // A worker that died: the lock ran out, and nobody has looked yet.
    scene.run(cmd("DEL").arg("{bull}:a:1:lock")).await;
    assert!(locked(&inventory(&store, &[]).await, 1, 2));
    assert_eq!(located(&store, &targets(&store, [uuid(2)])).await, []);

    // Neither lock nor list: it goes.
    scene.run(cmd("LREM").arg("{bull}:a:active").arg(0).arg("1")).await;
    assert!(!locked(&inventory(&store, &[]).await, 1, 2));
    assert_eq!(located(&store, &targets(&store, [uuid(2)])).await.len(), 2);
}

#[tokio::test]
async fn s12_a_job_that_is_taken_after_it_was_located_stays() {
    let (scene, _) = Scene::fill(json!([add("a", 2), add("a", 2)])).await;
    let store = scene.store(&["a"]);
    let handles = located(&store, &targets(&store, [uuid(2)])).await;
    let (_, batch) = copied(&store, &handles).await;
    let take =
        json!([{ "do": "take", "queue": "a", "end": "active" }, { "do": "take", "queue": "a", "end": "failed" }]);
    scene.bullmq.drive(take).await.unwrap();
    let before = everything(scene.keyspace.url()).await;
    assert_eq!(store.delete(&batch).await.outcomes, [STAYS, STAYS], "one is locked, the other one has changed");
    assert_eq!(everything(scene.keyspace.url()).await, before);
    let outcomes = store.delete(&Condemned::for_test(handles.clone(), FRESH)).await.outcomes;
    let at_work = keys(&handles).iter().position(|key| key == "{bull}:a:1").unwrap();
    assert_eq!(outcomes[at_work], STAYS, "without quarantine too");
    assert_eq!(
        outcomes[1 - at_work],
        Outcome::Deleted { resources: 1, bytes: None },
        "where what counts is whose it is"
    );
}

#[tokio::test]
async fn s5_a_job_that_names_somebody_else_since_it_was_located_stays() {
    let (scene, _) = Scene::fill(json!([add("a", 2)])).await;
    let store = scene.store(&["a"]);
    let handles = located(&store, &targets(&store, [uuid(2)])).await;
    let data = format!(r#"{{"courseId":"{}","of":"{}"}}"#, uuid(2), uuid(1));
    scene.run(cmd("HSET").arg("{bull}:a:1").arg("data").arg(data)).await;
    let before = everything(scene.keyspace.url()).await;
    let outcomes = store.delete(&Condemned::for_test(handles.clone(), FRESH)).await.outcomes;
    assert!(matches!(&outcomes[0], Outcome::Failed(why) if why.contains("names others")), "{outcomes:?}");
    let copied = store.copy(&copy_id(), &handles, &mut Items::default()).await.unwrap();
    assert!(matches!(&copied[0], Copied::Failed(why) if why.contains("names others")), "{copied:?}");
    assert_eq!(everything(scene.keyspace.url()).await, before);
}

#[tokio::test]
async fn the_next_job_of_a_scheduler_that_stays_holds_its_course() {
    let plan = |id, n| {
        let data = json!({ "courseId": uuid(n).to_string() });
        json!({ "do": "schedule", "queue": "plans", "id": id, "every": 3_600_000, "data": data })
    };
    let (scene, answers) = Scene::fill(json!([plan("live", 1), plan("dead", 2), add("a", 2), add("a", 3)])).await;
    let store = scene.store(&["plans", "a"]);
    let handles = located(&store, &targets(&store, [uuid(2), uuid(3)])).await;
    assert_eq!(handles.len(), 4);
    let next = |n: usize| format!("{{bull}}:plans:{}", answers[n].as_str().unwrap());
    let order: Vec<_> = keys(&handles).into_iter().filter(|key| key.contains(":plans:")).collect();
    assert_eq!(order, ["{bull}:plans:repeat:dead".to_owned(), next(1)], "a scheduler goes before its next job");

    // A live course's scheduler works for the dead one next.
    scene.run(cmd("HSET").arg(next(0)).arg("data").arg(format!(r#"{{"courseId":"{}"}}"#, uuid(3)))).await;
    let found = inventory(&store, &[uuid(1)]).await;
    assert!(found.sources[1].dead[&uuid(3)].locked && !found.sources[1].dead[&uuid(2)].locked);
    assert!(located(&store, &targets(&store, [uuid(3)])).await.is_empty());
    let handle = Handle { source: SourceIndex(0), owner: uuid(3), mentions: vec![], key: next(0).into() };
    assert_eq!(
        store.delete(&Condemned::for_test(vec![handle], FRESH)).await.outcomes,
        [STAYS],
        "the script asks again"
    );

    // The dead course's scheduler works for a live one next: neither goes.
    scene.run(cmd("HSET").arg(next(1)).arg("data").arg(format!(r#"{{"courseId":"{}"}}"#, uuid(1)))).await;
    let found = inventory(&store, &[uuid(1)]).await;
    assert_eq!((found.sources[0].dead[&uuid(2)].amount.resources, found.sources[0].dead[&uuid(2)].entangled), (0, 1));
    let left = located(&store, &targets(&store, [uuid(2)])).await;
    assert_eq!(keys(&left), ["{bull}:a:1"]);
}

#[tokio::test]
async fn s5_a_flow_that_reaches_out_of_the_store_or_to_who_is_no_target_stays() {
    let data = |n| json!({ "courseId": uuid(n).to_string() });
    let flow = |parent, queue, child| {
        let children = json!([{ "name": "part", "queueName": queue, "data": data(child) }]);
        json!({ "do": "flow", "flow": { "name": "whole", "queueName": "wholes", "data": data(parent), "children": children } })
    };
    let nobody = json!({ "do": "flow", "flow": { "name": "whole", "queueName": "wholes", "data": data(6), "children": [
        { "name": "part", "queueName": "parts", "data": {} }
    ] } });
    let (scene, _) =
        Scene::fill(json!([flow(2, "elsewhere", 2), flow(3, "parts", 4), flow(5, "parts", 5), nobody])).await;
    let store = scene.store(&["wholes", "parts"]);
    let found = inventory(&store, &[uuid(1)]).await;
    let wholes = |n| (found.sources[0].dead[&uuid(n)].amount.resources, found.sources[0].dead[&uuid(n)].entangled);
    assert_eq!([wholes(2), wholes(3), wholes(5), wholes(6)], [(0, 1), (1, 0), (1, 0), (0, 1)]);
    for course in [2, 3, 4, 6] {
        assert_eq!(located(&store, &targets(&store, [uuid(course)])).await, [], "course {course}");
    }
    let both = located(&store, &targets(&store, [uuid(3), uuid(4)])).await;
    // Their own ids are UUIDs, too, and mentioned like any.
    let courses = |ids: &[CourseId]| ids.iter().copied().filter(|id| [uuid(3), uuid(4)].contains(id)).collect();
    let named: Vec<(usize, CourseId, Vec<CourseId>)> =
        both.iter().map(|handle| (handle.source.0, handle.owner, courses(&handle.mentions))).collect();
    assert_eq!(
        named,
        [(1, uuid(4), vec![uuid(3)]), (0, uuid(3), vec![uuid(4)])],
        "children first, and both must be dead"
    );
    // A child came since: its parent stays.
    let parent: Vec<Handle> = located(&store, &targets(&store, [uuid(5)])).await.into_iter().skip(1).collect();
    assert_eq!(store.delete(&Condemned::for_test(parent, FRESH)).await.outcomes, [STAYS]);
}

#[tokio::test]
async fn a_job_deep_in_a_long_list_is_refused_with_a_reason() {
    let fill =
        json!({ "do": "fill", "queue": "a", "count": 30, "id": "n", "data": { "courseId": uuid(2).to_string() } });
    let (scene, _) = Scene::fill(json!([fill])).await;
    let mut store = scene.store(&["a"]);
    store.reach = 8;
    let mut handles = located(&store, &targets(&store, [uuid(2)])).await;
    handles.sort_by_key(|handle| {
        keys(std::slice::from_ref(handle))[0].rsplit('-').next().unwrap().parse::<u64>().unwrap()
    });
    let chosen = [0, 7, 15, 22, 29].map(|n| handles[n].clone()).to_vec();
    let outcomes = store.delete(&Condemned::for_test(chosen, FRESH)).await.outcomes;
    let gone = Outcome::Deleted { resources: 1, bytes: None };
    assert_eq!([&outcomes[0], &outcomes[1], &outcomes[4]], [&gone; 3]);
    assert!(matches!(&outcomes[2], Outcome::Failed(why) if why.contains("further than 8 jobs")), "{outcomes:?}");
    let counts = scene.bullmq.drive(json!([{ "do": "counts", "queue": "a" }])).await.unwrap();
    assert_eq!(counts[0]["waiting"], 30 - outcomes.iter().filter(|outcome| **outcome == gone).count());
}

#[tokio::test]
async fn jobs_that_no_structure_names_are_seen_and_go() {
    let (scene, _) = Scene::fill(json!([add("a", 2), add("a", 1)])).await;
    scene.run(cmd("LREM").arg("{bull}:a:wait").arg(0).arg("1")).await;
    // The id of a course is all that is left of another one.
    scene.run(cmd("HSET").arg(format!("{{bull}}:a:auto-{}-stage3", uuid(3))).arg("progress").arg(1)).await;
    scene.run(cmd("HSET").arg("{bull}:a:enrich-7").arg("progress").arg(1)).await;
    scene.run(cmd("SET").arg("{bull}:other:7").arg(1)).await;
    scene.run(cmd("SET").arg("unrelated").arg(1)).await;
    let store = scene.store(&["a"]);
    let found = inventory(&store, &[uuid(1)]).await;
    assert_eq!(found.sources[0].dead.keys().copied().collect::<Vec<_>>(), [uuid(2), uuid(3)]);
    assert_eq!((found.sources[0].unrecognised.count, found.unclaimed.count), (1, 1));
    let handles = located(&store, &targets(&store, [uuid(2), uuid(3)])).await;
    let gone = Outcome::Deleted { resources: 1, bytes: None };
    assert_eq!(store.delete(&Condemned::for_test(handles, FRESH)).await.outcomes, [gone.clone(), gone]);
}

#[tokio::test]
async fn s7_stores_of_one_server_have_markers_of_their_own() {
    let (scene, _) = Scene::fill(json!([])).await;
    let store = scene.store(&["a"]);
    let owner = crate::domain::markers::Owner {
        installation: Uuid::from_u128(1),
        name: "campus".into(),
        counter: 1,
        truths: crate::domain::markers::Truths::new(),
    };
    assert!(store.move_marker(None, &Marker::of(owner)).await.unwrap());
    let keys: Vec<String> =
        cmd("KEYS").arg("course-gc:*").query_async(&mut connect(scene.keyspace.url()).await).await.unwrap();
    let ours: Vec<_> = keys.iter().filter(|key| !key.contains("sandbox")).collect();
    assert_eq!(ours, ["course-gc:marker:bullmq:{bull}"]);
    let redis = crate::stores::redis::RedisStore::new(crate::stores::redis::RedisSettings {
        name: "cache".into(),
        server: at(scene.keyspace.url()),
        templates: vec![Template::compile("course-gc:*{course_id}").unwrap()],
        id_type: IdType::Integer,
        scan_count: 10,
        batch_limit: 10,
    })
    .unwrap();
    assert_eq!(redis.marker().await.unwrap(), None);
    let mut census = Census::new(Arc::new(LiveSet::from_ids(IdType::Integer, [])), 1);
    redis.inventory(&mut census).await.unwrap();
    let found = census.finish();
    let marked = found.sources[0].unrecognised.samples.iter().chain(&found.unclaimed.samples);
    assert_eq!(marked.filter(|name| name.contains("marker")).count(), 0, "no pass of another store counts it");
}
