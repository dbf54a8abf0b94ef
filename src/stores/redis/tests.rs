use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Client, cmd};
use sandbox::{Keyspace, Redis, RedisCluster};
use uuid::Uuid;

use super::*;
use crate::domain::inventory::Inventory;
use crate::domain::live_set::LiveSet;
use crate::stores::contract::{self, Bench, Contents, located};

mod cluster;
mod faults;
mod markers;
mod paced;
mod places;
mod sentinel;

/// Where the marker is.
const MARKER: &[u8] = b"course-gc:marker";
/// What the sandbox marks a given server's database with.
const CLAIM: &[u8] = b"course-gc-sandbox:claim";
/// Long enough for a slow machine; tests that wait for it to pass use less.
const CALL: Duration = Duration::from_secs(10);
const FRESH: Duration = Duration::from_secs(3600);
const SOURCE: SourceIndex = SourceIndex(0);

fn settings(url: &str, id_type: IdType, templates: &[&str]) -> RedisSettings {
    RedisSettings {
        name: "cache".into(),
        server: at(url),
        templates: templates.iter().map(|text| Template::compile(text).unwrap()).collect(),
        id_type,
        scan_count: 10,
        batch_limit: 250,
    }
}

fn at(url: &str) -> ServerSettings {
    ServerSettings {
        url: url.to_owned().into(),
        restore_url: None,
        nodes: vec![],
        sentinels: vec![],
        ca: None,
        call_timeout: CALL,
    }
}

fn store(url: &str, id_type: IdType, templates: &[&str]) -> RedisStore {
    RedisStore::new(settings(url, id_type, templates)).unwrap()
}

async fn connect(url: &str) -> MultiplexedConnection {
    let config = ::redis::AsyncConnectionConfig::new().set_response_timeout(Some(CALL));
    Client::open(url).unwrap().get_multiplexed_async_connection_with_config(&config).await.unwrap()
}

fn uuid(n: u64) -> CourseId {
    CourseId::Uuid(Uuid::from_u64_pair(0x0b5a_6f0e_4d7c_4a39, 0x9a43_6d7a_5f0c_0000 + n))
}

fn targets(courses: impl IntoIterator<Item = CourseId>) -> Targets {
    let mut targets = Targets::none(1);
    courses.into_iter().for_each(|course| targets.insert(SOURCE, course));
    targets
}

async fn inventory(store: &RedisStore, id_type: IdType, live: &[CourseId]) -> Result<Inventory, StoreError> {
    let live = LiveSet::from_ids(id_type, live.iter().copied());
    let mut census = Census::new(Arc::new(live), store.sources().len());
    store.inventory(&mut census).await?;
    Ok(census.finish())
}

/// An error with its causes, and the proof that no password is in it, nor in its `Debug`.
fn words(error: &StoreError) -> String {
    let words = chain(error);
    assert!(!format!("{words} {error:?}").contains("secret"), "{words}");
    words
}

/// Sets `k:7:0`, `k:7:1` and so on.
async fn fill(connection: &mut MultiplexedConnection, keys: usize) {
    let mut pipeline = ::redis::pipe();
    for n in 0..keys {
        pipeline.cmd("SET").arg(format!("k:7:{n}")).arg(n).ignore();
    }
    pipeline.query_async::<()>(connection).await.unwrap();
}

/// Where the keys are.
enum Place {
    Alone(Keyspace),
    Cluster(RedisCluster),
}

impl Place {
    /// An address to begin with.
    fn url(&self) -> String {
        match self {
            Self::Alone(keyspace) => keyspace.url().to_owned(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    /// Connections to all servers.
    async fn all(&self) -> Vec<MultiplexedConnection> {
        match self {
            Self::Alone(keyspace) => vec![connect(keyspace.url()).await],
            Self::Cluster(cluster) => {
                futures::future::join_all(cluster.masters().iter().map(async |one| connect(&one.url()).await)).await
            }
        }
    }

    /// A connection to the server that has this key.
    async fn of(&self, key: &[u8]) -> MultiplexedConnection {
        match self {
            Self::Alone(keyspace) => connect(keyspace.url()).await,
            Self::Cluster(cluster) => connect(&cluster.masters()[cluster.owner(key).await.unwrap()].url()).await,
        }
    }
}

struct RedisBench {
    place: Place,
    store: RedisStore,
    id_type: IdType,
    planted: AtomicU64,
}

impl RedisBench {
    async fn create(id_type: IdType) -> Self {
        Self::at(Place::Alone(Keyspace::create().await.unwrap()), id_type)
    }

    fn at(place: Place, id_type: IdType) -> Self {
        let store = store(&place.url(), id_type, &["lesson:{course_id}:*", "job:*-{course_id}-*"]);
        Self { place, store, id_type, planted: AtomicU64::new(0) }
    }

    /// Sets a key of the next type in turn.
    async fn set(&self, name: impl Fn(u64) -> Vec<u8>) -> Vec<u8> {
        let n = self.planted.fetch_add(1, Ordering::Relaxed);
        let key = name(n);
        let mut connection = self.place.of(&key).await;
        let mut command = match n % 6 {
            0 => cmd("SET"),
            1 => cmd("RPUSH"),
            2 => cmd("SADD"),
            3 => cmd("HSET"),
            4 => cmd("ZADD"),
            _ => cmd("XADD"),
        };
        command.arg(&key);
        match n % 6 {
            3 => command.arg("field").arg(n),
            4 => command.arg(n).arg("member"),
            5 => command.arg("*").arg("field").arg(n),
            _ => command.arg(n),
        };
        command.query_async::<::redis::Value>(&mut connection).await.unwrap();
        key
    }
}

/// Bytes that are no UTF-8, and a line break.
const BINARY: &[u8] = b"\xff\xfe\n\r\0";

#[async_trait]
impl Bench for RedisBench {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    fn id_type(&self) -> IdType {
        self.id_type
    }

    async fn plant(&self, source: SourceIndex, course: CourseId) -> Vec<u8> {
        self.set(|n| match source {
            SOURCE => [format!("lesson:{course}:n{n}").as_bytes(), BINARY].concat(),
            _ => [b"job:", BINARY, format!("n{n}-{course}-x").as_bytes()].concat(),
        })
        .await
    }

    async fn plant_entangled(&self, source: SourceIndex, owner: CourseId, other: CourseId) -> Option<Vec<u8>> {
        let name = |n| match source {
            SOURCE => format!("lesson:{owner}:n{n}:{other}"),
            _ => format!("job:n{n}-{owner}-{other}"),
        };
        match self.id_type {
            IdType::Uuid | IdType::Text(_) => Some(self.set(|n| name(n).into_bytes()).await),
            IdType::Integer => None,
        }
    }

    async fn plant_unrecognised(&self, source: SourceIndex) -> Option<Vec<u8>> {
        let name = |n| match source {
            SOURCE => format!("lesson:../../etc:n{n}"),
            _ => format!("job:n{n}-007-x"),
        };
        Some(self.set(|n| name(n).into_bytes()).await)
    }

    async fn rewrite(&self, _: SourceIndex, _: CourseId, name: &[u8]) -> bool {
        let mut connection = self.place.of(name).await;
        cmd("SET").arg(name).arg("written to since").query_async::<()>(&mut connection).await.unwrap();
        true
    }

    async fn contents(&self) -> Contents {
        let mut contents = Contents::new();
        for mut connection in self.place.all().await {
            let mut cursor = 0_u64;
            loop {
                let (next, keys): (_, Vec<Vec<u8>>) =
                    cmd("SCAN").arg(cursor).arg("COUNT").arg(1000).query_async(&mut connection).await.unwrap();
                for key in keys.into_iter().filter(|key| key != CLAIM && key != MARKER) {
                    let dump = cmd("DUMP").arg(&key).query_async(&mut connection).await.unwrap();
                    contents.insert(key, dump);
                }
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        contents
    }
}

#[tokio::test]
async fn redis_keeps_the_contract_for_uuids() {
    contract::keeps(&RedisBench::create(IdType::Uuid).await).await;
}

#[tokio::test]
async fn redis_keeps_the_contract_for_texts() {
    contract::keeps(&RedisBench::create(contract::texts()).await).await;
}

#[tokio::test]
async fn redis_keeps_the_contract_for_integers() {
    contract::keeps(&RedisBench::create(IdType::Integer).await).await;
}

#[tokio::test]
async fn s5_a_key_of_two_ids_names_both() {
    let keyspace = Keyspace::create().await.unwrap();
    let mut connection = connect(keyspace.url()).await;
    let store = store(keyspace.url(), IdType::Uuid, &["lesson:{course_id}:*", "*:{course_id}"]);
    let (a, b, c) = (uuid(1), uuid(2), uuid(3));
    let upper = b.to_string().to_uppercase();
    for key in [format!("lesson:{a}:{upper}:{a}x"), format!("lesson:{a}:{b}"), format!("other:{c}")] {
        cmd("SET").arg(key).arg(1).query_async::<()>(&mut connection).await.unwrap();
    }

    let held = inventory(&store, IdType::Uuid, &[b]).await.unwrap();
    let found = &held.sources[0].dead[&a];
    assert_eq!((found.amount.resources, found.entangled), (0, 1), "a live id in another spelling holds the key");
    assert_eq!(held.sources[0].unrecognised.count, 1, "two templates that read two ids read none");
    assert_eq!(held.sources[1].dead[&c].amount.resources, 1);

    let handles = located(&store, &targets([a])).await;
    assert_eq!(handles.len(), 1);
    assert_eq!(handles[0].mentions, vec![b]);
    assert_eq!(store.remaining(&targets([a])).await.unwrap(), vec![(SOURCE, a, 1)]);
}

#[tokio::test]
async fn keys_of_nobody_are_unclaimed_and_stay() {
    let keyspace = Keyspace::create().await.unwrap();
    let mut connection = connect(keyspace.url()).await;
    let store = store(keyspace.url(), IdType::Uuid, &["lesson:{course_id}:*"]);
    let before = inventory(&store, IdType::Uuid, &[]).await.unwrap().unclaimed.count;
    for key in [&b"concurrency:7"[..], b"", b"\xff\n", b"lesson", b"embedding:\0"] {
        cmd("SET").arg(key).arg(1).query_async::<()>(&mut connection).await.unwrap();
    }
    let held = inventory(&store, IdType::Uuid, &[]).await.unwrap();
    assert_eq!(held.unclaimed.count - before, 5);
    assert!(held.sources[0].dead.is_empty());
}

#[tokio::test]
async fn s8_the_size_of_dead_courses_keys_is_estimated_from_a_few() {
    let keyspace = Keyspace::create().await.unwrap();
    let mut connection = connect(keyspace.url()).await;
    let store = store(keyspace.url(), IdType::Integer, &["k:{course_id}:*", "few:{course_id}"]);
    let (mut pipeline, mut truth) = (::redis::pipe(), 0);
    for n in 0..1_000 {
        pipeline.cmd("SET").arg(format!("k:7:{n}")).arg("x".repeat(100 + n % 7 * 300)).ignore();
        pipeline.cmd("SET").arg(format!("k:8:{n}")).arg("x".repeat(100_000)).ignore();
    }
    for n in [7, 8, 9] {
        pipeline.cmd("RPUSH").arg(format!("few:{n}")).arg("x".repeat(n * 100)).ignore();
    }
    pipeline.query_async::<()>(&mut connection).await.unwrap();
    for n in 0..1_000 {
        let mut usage = cmd("MEMORY");
        truth += usage.arg("USAGE").arg(format!("k:7:{n}")).query_async::<u64>(&mut connection).await.unwrap();
    }
    let held = inventory(&store, IdType::Integer, &[CourseId::Integer(8)]).await.unwrap();
    let estimate = held.sources[0].sizes.estimate(1_000).unwrap();
    assert_eq!((estimate.resources, estimate.sampled), (1_000, 100), "and nothing of what is live");
    let off = estimate.bytes.abs_diff(truth);
    assert!(estimate.standard_error > 0 && off <= 4 * estimate.standard_error, "{estimate:?}, and it is {truth}");
    let few = held.sources[1].sizes.estimate(2).unwrap();
    assert_eq!((few.sampled, few.standard_error), (2, 0), "whoever measured all is not wrong");
    assert_eq!(held, inventory(&store, IdType::Integer, &[CourseId::Integer(8)]).await.unwrap(), "the same ones");
}

#[tokio::test]
async fn a_batch_of_several_pipelines_is_deleted_whole() {
    let keyspace = Keyspace::create().await.unwrap();
    let mut connection = connect(keyspace.url()).await;
    let store = store(keyspace.url(), IdType::Integer, &["k:{course_id}:*"]);
    let course = CourseId::Integer(7);
    fill(&mut connection, 250).await;
    let handles = located(&store, &targets([course])).await;
    let removed = store.delete(&Condemned::for_test(handles, FRESH)).await;
    assert_eq!(removed.outcomes, vec![Outcome::Deleted { resources: 1, bytes: None }; 250]);
    assert_eq!(store.remaining(&targets([course])).await.unwrap(), vec![]);
}

#[tokio::test]
async fn an_identity_tells_version_and_place() {
    let keyspace = Keyspace::create().await.unwrap();
    let identity = store(keyspace.url(), IdType::Uuid, &["{course_id}"]).identity().await.unwrap();
    let (place, database) = identity.strip_prefix("redis ").unwrap().split_once(" at ").unwrap();
    assert!(place.starts_with(|version: char| version.is_ascii_digit()), "{identity}");
    assert!(keyspace.url().ends_with(database), "{identity}");
    assert!(!identity.contains('@'), "{identity}");
}

/// A key that SCAN returns twice, since the server shrinks its table in the middle of the pass, is one key.
#[tokio::test]
async fn duplicates_under_rehash_are_counted_once() {
    let server = Redis::start().await.unwrap();
    let mut connection = connect(&server.url()).await;
    let store = store(&server.url(), IdType::Integer, &["k:{course_id}:*"]);
    fill(&mut connection, 4096).await;

    let (sender, mut receiver) = mpsc::channel(1);
    let wanted = targets([CourseId::Integer(7)]);
    let pass = store.locate(&wanted, sender);
    let interfere = async {
        let mut keys = Vec::new();
        for _ in 0..1600 {
            keys.push(receiver.recv().await.unwrap().key);
        }
        // The last keys that were returned lie right behind the cursor: in a table of four, in its bucket.
        let kept: BTreeSet<_> = keys.iter().rev().take(4).map(|key| key.to_vec()).collect();
        let mut shrink = ::redis::pipe();
        for key in (0..4096).map(|n| format!("k:7:{n}").into_bytes()).filter(|key| !kept.contains(key)) {
            shrink.cmd("UNLINK").arg(key).ignore();
        }
        shrink.query_async::<()>(&mut connection).await.unwrap();
        // While the table is large, ten times COUNT empty buckets end a call; when it is small, one call sees it whole.
        let deadline = tokio::time::Instant::now() + CALL;
        loop {
            let (cursor, _): (u64, Vec<Vec<u8>>) =
                cmd("SCAN").arg(0).arg("COUNT").arg(40).query_async(&mut connection).await.unwrap();
            if cursor == 0 {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "the table did not shrink");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        while let Some(handle) = receiver.recv().await {
            keys.push(handle.key);
        }
        keys
    };
    let (located, keys) = tokio::join!(pass, interfere);
    located.unwrap();
    let distinct: BTreeSet<_> = keys.iter().collect();
    assert_eq!(distinct.len(), keys.len(), "each key once");
}
