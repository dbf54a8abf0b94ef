//! A cluster of three masters: as a whole, with slots on their way, and with a master that dies.

use super::*;

const COURSE: CourseId = CourseId::Integer(7);
const TEMPLATES: [&str; 1] = ["k:{course_id}:*"];

fn patient(url: &str) -> RedisStore {
    store(url, IdType::Integer, &TEMPLATES)
}

/// `k:7:0`, `k:7:1` and so on, by the master that has them.
async fn filled(cluster: &RedisCluster, keys: usize) -> [Vec<String>; 3] {
    let mut by_master = [vec![], vec![], vec![]];
    for n in 0..keys {
        let key = format!("k:7:{n}");
        let owner = cluster.owner(key.as_bytes()).await.unwrap();
        by_master[owner].push(key);
    }
    for (master, keys) in cluster.masters().iter().zip(&by_master) {
        let mut pipeline = ::redis::pipe();
        for key in keys {
            pipeline.cmd("SET").arg(key).arg(1).ignore();
        }
        pipeline.query_async::<()>(&mut connect(&master.url()).await).await.unwrap();
    }
    by_master
}

/// All handles of the course, and how its pass ended while `meanwhile` went on from its first handle.
async fn disturbed(store: &RedisStore, meanwhile: impl AsyncFnOnce()) -> Result<(), StoreError> {
    let (sender, mut receiver) = mpsc::channel(1);
    let wanted = targets([COURSE]);
    let disturb = async {
        receiver.recv().await.unwrap();
        meanwhile().await;
        while receiver.recv().await.is_some() {}
    };
    tokio::join!(store.locate(&wanted, sender), disturb).0
}

#[tokio::test]
async fn redis_keeps_the_contract_in_a_cluster() {
    for id_type in [IdType::Uuid, IdType::Integer] {
        contract::keeps(&RedisBench::at(Place::Cluster(RedisCluster::start().await.unwrap()), id_type)).await;
    }
}

#[tokio::test]
async fn keys_of_all_masters_are_found_from_any_of_them_and_go() {
    let cluster = RedisCluster::start().await.unwrap();
    let by_master = filled(&cluster, 250).await;
    assert!(by_master.iter().all(|keys| keys.len() > 20), "each has some: {by_master:?}");
    let identity = patient(&cluster.url()).identity().await.unwrap();
    for master in cluster.masters() {
        assert!(identity.contains(&format!("127.0.0.1:{}", master.port())), "{identity}");
        let store = patient(&master.url());
        assert_eq!(store.remaining(&targets([COURSE])).await.unwrap(), vec![(SOURCE, COURSE, 250)]);
    }

    // The first address may be nobody's: another node tells as well.
    let nowhere = format!("redis://127.0.0.1:{}", sandbox::free_port().unwrap());
    let nodes = vec![format!("127.0.0.1:{}", cluster.masters()[2].port())];
    let server = ServerSettings { nodes, ..at(&nowhere) };
    let store = RedisStore::new(RedisSettings { server, ..settings(&nowhere, IdType::Integer, &TEMPLATES) }).unwrap();
    let handles = located(&store, &targets([COURSE])).await;
    let outcomes = store.delete(&Condemned::for_test(handles, FRESH)).await.outcomes;
    assert_eq!(outcomes, vec![Outcome::Deleted { resources: 1, bytes: None }; 250]);
    assert_eq!(store.remaining(&targets([COURSE])).await.unwrap(), vec![]);
}

#[tokio::test]
async fn s4_a_pass_in_which_a_slot_is_on_its_way_is_not_complete() {
    let cluster = RedisCluster::start().await.unwrap();
    let by_master = filled(&cluster, 1000).await;
    let store = patient(&cluster.url());
    let moved = by_master[0][0].as_bytes();
    let slot = cluster.slot(moved).await.unwrap();
    let counted = async || store.remaining(&targets([COURSE])).await;

    let error = disturbed(&store, async || cluster.begin_to_move(slot, 0, 1).await.unwrap()).await.unwrap_err();
    assert!(words(&error).contains(&format!("a slot of it is on its way: [{slot}-")), "{error}");
    assert!(words(&counted().await.unwrap_err()).contains("wait for the next run"), "nor does one begin");

    cluster.end_to_move(slot, 0, 1).await.unwrap();
    assert_eq!(counted().await.unwrap(), vec![(SOURCE, COURSE, 1000)], "the next pass is whole");

    let whole_move = async || {
        cluster.begin_to_move(slot, 1, 0).await.unwrap();
        cluster.end_to_move(slot, 1, 0).await.unwrap();
    };
    let error = disturbed(&store, whole_move).await.unwrap_err();
    assert!(words(&error).contains("other masters at the end than at the beginning"), "{error}");
    assert_eq!(counted().await.unwrap(), vec![(SOURCE, COURSE, 1000)]);
}

/// While its slot is on its way, a key that has moved already is answered with ASK: that is its outcome, nobody is asked.
#[tokio::test]
async fn s2_a_delete_is_not_sent_after_a_key_that_has_moved() {
    let cluster = RedisCluster::start().await.unwrap();
    let by_master = filled(&cluster, 30).await;
    let store = patient(&cluster.url());
    let handles = located(&store, &targets([COURSE])).await;
    let key = &by_master[1][0];
    let slot = cluster.slot(key.as_bytes()).await.unwrap();
    cluster.begin_to_move(slot, 1, 2).await.unwrap();
    let mut migrate = cmd("MIGRATE");
    migrate.arg("127.0.0.1").arg(cluster.masters()[2].port()).arg(key).arg(0).arg(10_000);
    migrate.query_async::<::redis::Value>(&mut connect(&cluster.masters()[1].url()).await).await.unwrap();

    let outcomes = store.delete(&Condemned::for_test(handles.clone(), FRESH)).await.outcomes;
    for (handle, outcome) in handles.iter().zip(outcomes) {
        match outcome {
            Outcome::Failed(why) if handle.key == key.as_bytes() => {
                assert!(why.contains("nothing was done there") && why.contains("Ask: "), "{why}");
            }
            outcome => assert_eq!(outcome, Outcome::Deleted { resources: 1, bytes: None }, "{handle:?}"),
        }
    }
    cluster.end_to_move(slot, 1, 2).await.unwrap();
    assert_eq!(store.remaining(&targets([COURSE])).await.unwrap(), vec![(SOURCE, COURSE, 1)], "it is still there");
    let outcomes = store.delete(&Condemned::for_test(handles, FRESH)).await.outcomes;
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Deleted { .. })).count(), 1);
}

#[tokio::test]
async fn s4_a_master_that_dies_fails_the_pass_and_is_named() {
    let cluster = RedisCluster::start().await.unwrap();
    let by_master = filled(&cluster, 1000).await;
    let store = patient(&cluster.url());
    let handles = located(&store, &targets([COURSE])).await;
    let dead = &cluster.masters()[2];
    let name = format!("127.0.0.1:{}", dead.port());

    let error = disturbed(&store, async || dead.crash().await.unwrap()).await.unwrap_err();
    assert!(words(&error).contains(&name), "{error}");
    let error = inventory(&store, IdType::Integer, &[]).await.unwrap_err();
    assert!(words(&error).contains(&name) && words(&error).contains("that it runs"), "{error}");

    // What the others have may go, if the cluster still serves it; what the dead one has fails, and ends the batch.
    for master in &cluster.masters()[..2] {
        let mut connection = connect(&master.url()).await;
        let mut partly = cmd("CONFIG");
        partly.arg("SET").arg("cluster-require-full-coverage").arg("no");
        partly.query_async::<()>(&mut connection).await.unwrap();
    }
    let outcomes = store.delete(&Condemned::for_test(handles.clone(), FRESH)).await.outcomes;
    for (handle, outcome) in handles.iter().zip(&outcomes[..PIPELINE]) {
        let key = String::from_utf8(handle.key.to_vec()).unwrap();
        match outcome {
            Outcome::Failed(why) => assert!(by_master[2].contains(&key) && why.contains(&name), "{key}: {why}"),
            outcome => assert_eq!(*outcome, Outcome::Deleted { resources: 1, bytes: None }, "{key}"),
        }
    }
    assert!(outcomes[PIPELINE..].iter().all(|outcome| *outcome == Outcome::Unattempted));

    dead.restart().await.unwrap();
    let gone = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Deleted { .. })).count();
    let deadline = tokio::time::Instant::now() + CALL;
    loop {
        match store.remaining(&targets([COURSE])).await {
            Ok(left) => break assert_eq!(left, vec![(SOURCE, COURSE, 1000 - gone as u64)], "the next pass is whole"),
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_no_cluster_has_is_refused_in_words() {
    let cluster = RedisCluster::start().await.unwrap();
    let numbered = cluster.url().replace("/0", "/3");
    let error = patient(&numbered).identity().await.unwrap_err();
    assert!(words(&error).contains("a cluster has one database only"), "{error}");

    let alone = Redis::start().await.unwrap();
    let nodes = vec![format!("127.0.0.1:{}", cluster.masters()[0].port())];
    let server = ServerSettings { nodes, ..at(&alone.url()) };
    let store =
        RedisStore::new(RedisSettings { server, ..settings("redis://h", IdType::Integer, &TEMPLATES) }).unwrap();
    let error = store.identity().await.unwrap_err();
    assert!(words(&error).contains("it is no node of a cluster, but `nodes` names others"), "{error}");
    let server = ServerSettings { nodes: vec!["h".into()], ..at("redis://h") };
    let none = RedisStore::new(RedisSettings { server, ..settings("redis://h", IdType::Integer, &TEMPLATES) });
    assert!(words(&none.err().unwrap()).contains("write host:port"));
}

#[tokio::test]
async fn a_user_needs_cluster_in_a_cluster_and_is_told_so() {
    let cluster = RedisCluster::start().await.unwrap();
    filled(&cluster, 30).await;
    let reads = ["+ping", "+info", "+select", "+scan"];
    for (user, more) in [("half", &[][..]), ("whole", &["+cluster|slots", "+cluster|nodes"])] {
        for master in cluster.masters() {
            let mut acl = cmd("ACL");
            acl.arg("SETUSER").arg(user).arg("on").arg(">secret").arg("~k:7:*").arg(&reads).arg(more);
            acl.query_async::<()>(&mut connect(&master.url()).await).await.unwrap();
        }
    }
    let by = |user: &str| patient(&cluster.url().replace("://", &format!("://{user}:secret@")));
    let error = words(&by("half").remaining(&targets([COURSE])).await.unwrap_err());
    assert!(error.contains("in a cluster CLUSTER"), "{error}");
    assert_eq!(by("whole").remaining(&targets([COURSE])).await.unwrap(), vec![(SOURCE, COURSE, 30)]);
}
