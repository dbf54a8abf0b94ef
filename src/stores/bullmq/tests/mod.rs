use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Client, cmd};
use uuid::Uuid;

use super::*;
use crate::domain::ids::IdType;
use crate::domain::inventory::Inventory;
use crate::domain::live_set::LiveSet;
use crate::stores::contract::{Items, located};
use crate::stores::copies::{Receipt, Safe};
use crate::stores::template::Template;

mod alike;
mod bench;
mod cluster;
mod holds;
mod throughput;

/// Long enough for a slow machine.
const CALL: Duration = Duration::from_secs(10);
const FRESH: Duration = Duration::from_secs(3600);
const PREFIX: &str = "{bull}";

fn store(url: &str, id_type: IdType, queues: &[&str]) -> BullmqStore {
    BullmqStore::new(settings(url, id_type, queues)).unwrap()
}

fn settings(url: &str, id_type: IdType, queues: &[&str]) -> BullmqSettings {
    let reading = Reading {
        pointers: vec!["/courseId".into(), "/course_id".into()],
        job_ids: vec![Template::compile("auto-{course_id}-stage*").unwrap()],
        id_type,
    };
    BullmqSettings {
        name: "jobs".into(),
        server: at(url),
        prefix: PREFIX.into(),
        queues: queues.iter().map(|queue| (*queue).to_owned()).collect(),
        reading,
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

async fn connect(url: &str) -> MultiplexedConnection {
    let config = ::redis::AsyncConnectionConfig::new().set_response_timeout(Some(CALL));
    Client::open(url).unwrap().get_multiplexed_async_connection_with_config(&config).await.unwrap()
}

fn uuid(n: u64) -> CourseId {
    CourseId::Uuid(Uuid::from_u64_pair(0x0b5a_6f0e_4d7c_4a39, 0x9a43_6d7a_5f0c_0000 + n))
}

fn targets(store: &BullmqStore, courses: impl IntoIterator<Item = CourseId>) -> Targets {
    let mut targets = Targets::none(store.sources.len());
    for course in courses {
        (0..store.sources.len()).for_each(|source| targets.insert(SourceIndex(source), course));
    }
    targets
}

async fn inventory(store: &BullmqStore, live: &[CourseId]) -> Inventory {
    let live = LiveSet::from_ids(IdType::Uuid, live.iter().copied());
    let mut census = Census::new(Arc::new(live), store.sources.len());
    store.inventory(&mut census).await.unwrap();
    census.finish()
}

fn keys(handles: &[Handle]) -> Vec<String> {
    handles.iter().map(|handle| String::from_utf8(handle.key.to_vec()).unwrap()).collect()
}

fn copy_id() -> CopyId {
    let now = chrono::DateTime::UNIX_EPOCH;
    CopyId { run: Uuid::from_u128(7), batch: 1, taken_at: now, expires_at: now + FRESH }
}

/// Copies handles, all of which can be, and gives what was copied and the batch that may go.
async fn copied(store: &BullmqStore, handles: &[Handle]) -> (Vec<Item>, Condemned) {
    let mut items = Items::default();
    let copied = store.copy(&copy_id(), handles, &mut items).await.unwrap();
    let receipts: Vec<Receipt> = copied
        .into_iter()
        .map(|copied| match copied {
            Copied::Whole(receipt) => receipt,
            other => panic!("{other:?}"),
        })
        .collect();
    let safe = Safe { id: copy_id(), receipts };
    (items.0, Condemned::for_test_copied(handles.to_vec(), safe, FRESH))
}

/// What a key holds, by its type, in an order of its own only where the type has one.
async fn content(connection: &mut MultiplexedConnection, key: &[u8]) -> String {
    let kind: String = cmd("TYPE").arg(key).query_async(connection).await.unwrap();
    let pairs = |pairs: Vec<(Vec<u8>, Vec<u8>)>| -> String {
        let pairs: BTreeMap<String, String> =
            pairs.iter().map(|(a, b)| (a.escape_ascii().to_string(), b.escape_ascii().to_string())).collect();
        format!("{pairs:?}")
    };
    let texts =
        |texts: Vec<Vec<u8>>| -> Vec<String> { texts.iter().map(|text| text.escape_ascii().to_string()).collect() };
    let value = match kind.as_str() {
        "string" => cmd("GET").arg(key).query_async::<String>(connection).await.unwrap(),
        "hash" => pairs(cmd("HGETALL").arg(key).query_async(connection).await.unwrap()),
        "list" => {
            format!("{:?}", texts(cmd("LRANGE").arg(key).arg(0).arg(-1).query_async(connection).await.unwrap()))
        }
        "set" => {
            let members = texts(cmd("SMEMBERS").arg(key).query_async(connection).await.unwrap());
            format!("{:?}", BTreeSet::from_iter(members))
        }
        "zset" => {
            let mut read = cmd("ZRANGE");
            read.arg(key).arg(0).arg(-1).arg("WITHSCORES");
            let members: Vec<Vec<u8>> = read.query_async(connection).await.unwrap();
            format!("{:?}", texts(members))
        }
        "none" => String::new(),
        other => other.to_owned(),
    };
    format!("{kind} {value}")
}

/// Every key with its content, but the streams of events and the markers of course-gc.
async fn everything(url: &str) -> BTreeMap<String, String> {
    let mut connection = connect(url).await;
    let mut contents = BTreeMap::new();
    let mut cursor = 0_u64;
    loop {
        let (next, keys): (_, Vec<Vec<u8>>) =
            cmd("SCAN").arg(cursor).arg("COUNT").arg(1000).query_async(&mut connection).await.unwrap();
        for key in keys.into_iter().filter(|key| !key.ends_with(b":events") && !key.starts_with(b"course-gc")) {
            contents.insert(key.escape_ascii().to_string(), content(&mut connection, &key).await);
        }
        cursor = next;
        if cursor == 0 {
            return contents;
        }
    }
}

#[tokio::test]
async fn queues_of_a_server_with_tls_are_found_if_its_authority_is_known() {
    let server = sandbox::Redis::start_with_tls().await.unwrap();
    let by = |ca| {
        let mut settings = settings(&server.url(), IdType::Uuid, &["course-generation"]);
        settings.server.ca = ca;
        BullmqStore::new(settings).unwrap()
    };
    assert!(inventory(&by(Some(server.authority())), &[]).await.sources[0].dead.is_empty());
    let error = chain(&by(Some(server.other_authority())).identity().await.unwrap_err());
    assert!(error.contains("bullmq store `jobs`") && error.contains("as ca"), "{error}");
}
