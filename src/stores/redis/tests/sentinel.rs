//! A server that sentinels name: found by its name, and again after a failover.

use sandbox::RedisSentinels;

use super::*;
use crate::domain::markers::{Owner, Truths};

const COURSE: CourseId = CourseId::Integer(7);
const TEMPLATES: [&str; 1] = ["k:{course_id}:*"];

fn by(master: &str, sentinels: Vec<String>) -> RedisStore {
    let url = format!("redis://{master}/0");
    let sentinels = sentinels.into_iter().map(Into::into).collect();
    let server = ServerSettings { sentinels, ..at(&url) };
    RedisStore::new(RedisSettings { server, ..settings(&url, IdType::Integer, &TEMPLATES) }).unwrap()
}

fn marker(counter: u64) -> Marker {
    let installation = Uuid::from_u128(1);
    Marker::of(Owner { installation, name: "campus".into(), counter, truths: Truths::new() })
}

/// How many UNLINKs a server has executed.
async fn unlinks(server: &Redis) -> u64 {
    let info: String = cmd("INFO").arg("commandstats").query_async(&mut connect(&server.url()).await).await.unwrap();
    let calls = info.lines().find_map(|line| line.strip_prefix("cmdstat_unlink:calls="));
    calls.map_or(0, |calls| calls.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn s4_a_failover_fails_the_pass_and_the_next_one_finds_the_promoted_server() {
    let all = RedisSentinels::start().await.unwrap();
    let [first, second] = all.servers();
    fill(&mut connect(&first.url()).await, 2000).await;
    let store = by(RedisSentinels::MASTER, all.urls());
    assert!(store.identity().await.unwrap().ends_with(&format!(" at 127.0.0.1:{}/0", first.port())));
    assert!(store.move_marker(None, &marker(1)).await.unwrap());
    all.is_replicated().await.unwrap();

    let (sender, mut receiver) = mpsc::channel(1);
    let wanted = targets([COURSE]);
    let fail_over = async {
        receiver.recv().await.unwrap();
        all.fail_over().await.unwrap();
        all.is_promoted(1).await.unwrap();
        while receiver.recv().await.is_some() {}
    };
    let (located, ()) = tokio::join!(store.locate(&wanted, sender), fail_over);
    let error = words(&located.unwrap_err());
    assert!(error.contains("could not locate keys") && error.contains(&first.port().to_string()), "{error}");

    assert!(store.identity().await.unwrap().ends_with(&format!(" at 127.0.0.1:{}/0", second.port())));
    assert_eq!(store.remaining(&wanted).await.unwrap(), vec![(SOURCE, COURSE, 2000)]);
    assert_eq!(store.marker().await.unwrap(), Some(marker(1)), "S7: it went along");
    assert!(store.move_marker(Some(&marker(1)), &marker(2)).await.unwrap());
}

#[tokio::test]
async fn s2_no_delete_is_sent_twice_when_the_primary_dies_and_s7_a_move_that_was_lost_is_seen() {
    let all = RedisSentinels::start().await.unwrap();
    let [first, second] = all.servers();
    fill(&mut connect(&first.url()).await, 150).await;
    // The first of them has gone: the next one tells.
    all.sentinels()[0].stop().await.unwrap();
    let store = by(RedisSentinels::MASTER, all.urls());
    let handles = located(&store, &targets([COURSE])).await;
    assert!(store.move_marker(None, &marker(1)).await.unwrap());
    all.is_replicated().await.unwrap();
    all.sentinels()[0].restart().await.unwrap();

    // The replica misses the last move, and the primary dies with it.
    all.cut_off_replica().await.unwrap();
    assert!(store.move_marker(Some(&marker(1)), &marker(2)).await.unwrap());
    first.crash().await.unwrap();
    let outcomes = store.delete(&Condemned::for_test(handles.clone(), FRESH)).await.outcomes;
    assert!(outcomes[..PIPELINE].iter().all(|outcome| matches!(outcome, Outcome::Failed(_))), "{outcomes:?}");
    assert_eq!(outcomes[PIPELINE..], vec![Outcome::Unattempted; 50]);

    second.resume().unwrap();
    all.is_promoted(1).await.unwrap();
    assert_eq!(store.marker().await.unwrap(), Some(marker(1)), "S7: it is behind, and so holds the store");
    assert_eq!(unlinks(second).await, 0, "what failed was sent to nobody else");
    let outcomes = store.delete(&Condemned::for_test(handles, FRESH)).await.outcomes;
    assert_eq!(outcomes, vec![Outcome::Deleted { resources: 1, bytes: None }; 150]);
    assert_eq!(unlinks(second).await, 150, "each once");
}

#[tokio::test]
async fn sentinels_that_do_not_know_it_or_do_not_answer_are_named() {
    let server = Redis::start().await.unwrap();
    let nobody = format!("redis://127.0.0.1:{}", sandbox::free_port().unwrap());
    let error = words(&by("campus-cache", vec![nobody.clone()]).identity().await.unwrap_err());
    assert!(error.contains(&nobody["redis://".len()..]) && error.contains("that it runs"), "{error}");
    let error = words(&by("campus-cache", vec![server.url()]).identity().await.unwrap_err());
    assert!(error.contains("unknown command"), "a server of keys is no sentinel: {error}");

    let all = RedisSentinels::start().await.unwrap();
    let error = words(&by("another", all.urls()).identity().await.unwrap_err());
    assert!(error.contains("this sentinel knows no server `another`; write its name as the host in url"), "{error}");
    let direct = store(&all.urls()[0], IdType::Integer, &TEMPLATES).identity().await.unwrap_err();
    assert!(words(&direct).contains("mode `sentinel`"), "{direct}");
}

/// From a configuration to the servers: what it says of sentinels, and of a cluster's nodes, for both kinds of store.
#[tokio::test]
async fn a_configuration_leads_to_who_is_named() {
    let all = RedisSentinels::start().await.unwrap();
    let cluster = RedisCluster::start().await.unwrap();
    let nobody = format!("redis://127.0.0.1:{}", sandbox::free_port().unwrap());
    let watched = format!("url: redis://{}/0, sentinels: [\"{}\"]", RedisSentinels::MASTER, all.urls()[1]);
    let parted = format!("url: \"{nobody}\", nodes: [\"127.0.0.1:{}\"]", cluster.masters()[1].port());
    let text = format!(
        "installation: campus\n\
         liveness: {{ campus: {{ url: \"postgres://gc@db/campus\", query: SELECT 1 }} }}\n\
         stores:\n  \
           a: {{ kind: redis, templates: [\"k:{{course_id}}\"], {watched} }}\n  \
           b: {{ kind: bullmq, queues: [q], {watched} }}\n  \
           c: {{ kind: redis, templates: [\"k:{{course_id}}\"], {parted} }}\n  \
           d: {{ kind: bullmq, queues: [q], prefix: \"{{bull}}\", {parted} }}\n"
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let config = crate::config::Config::load(file.path(), []).unwrap_or_else(|error| panic!("{error}"));
    let stores = crate::app::collector(&config).unwrap().stores;
    assert_eq!(stores.len(), 4);
    let primary = format!(" at 127.0.0.1:{}/0", all.servers()[0].port());
    for (managed, expected) in stores.iter().zip([&primary[..], &primary, "cluster of masters", "cluster of masters"]) {
        let identity = managed.store.identity().await.unwrap();
        assert!(identity.contains(expected), "{}: {identity}", managed.store.name());
    }
}
