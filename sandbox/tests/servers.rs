//! The servers: they answer, they keep their data over a restart, and they end with whoever started them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail as tests do")]

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use qdrant_client::qdrant::CreateCollectionBuilder;
use sandbox::{
    Database, Difference, Keyspace, Objects, PgBouncer, Pooling, Postgres, Qdrant, QdrantOptions, Redis, Server,
    Servers, Snapshot, Stores, World,
    campus::{Campus, CampusSize},
};
use sqlx::{Connection, PgConnection, Row};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SOON: Duration = Duration::from_secs(10);

/// Waits until a condition holds; fails after ten seconds.
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let poll = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, poll).await.unwrap_or_else(|_| panic!("{what}: not within {SOON:?}"));
}

fn runs(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// A server's traces: none of them may stay.
struct Traces {
    pid: i32,
    folder: PathBuf,
}

impl Traces {
    fn of(server: &Server) -> Self {
        Self { pid: server.pid().unwrap(), folder: server.folder().to_owned() }
    }

    fn are_there(&self) -> bool {
        runs(self.pid) || self.folder.exists()
    }
}

async fn postgres_answers(url: &str) -> sqlx::Result<i32> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::query_scalar("SELECT 1").fetch_one(&mut connection).await
}

async fn redis_get(url: &str, key: &str) -> redis::RedisResult<Option<String>> {
    let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    redis::cmd("GET").arg(key).query_async(&mut connection).await
}

async fn redis_set(url: &str, key: &str, value: &str) {
    let mut connection = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    redis::cmd("SET").arg(key).arg(value).query_async::<()>(&mut connection).await.unwrap();
}

fn qdrant_client(url: &str, key: Option<&str>) -> qdrant_client::Qdrant {
    qdrant_client::Qdrant::from_url(url).api_key(key).skip_compatibility_check().build().unwrap()
}

#[tokio::test]
async fn postgres_ends_with_its_handle() {
    let postgres = Postgres::start().await.unwrap();
    let url = postgres.create_database("campus").await.unwrap();
    assert_eq!(postgres_answers(&url).await.unwrap(), 1);
    let traces = Traces::of(&postgres);
    drop(postgres);
    assert!(!traces.are_there());
    postgres_answers(&url).await.unwrap_err();
}

#[tokio::test]
async fn postgres_keeps_its_data_over_a_restart_and_a_crash() {
    let postgres = Postgres::start().await.unwrap();
    let url = postgres.create_database("campus").await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)").execute(&mut connection).await.unwrap();

    postgres.stop().await.unwrap();
    postgres_answers(&url).await.unwrap_err();
    postgres.pid().unwrap_err();
    postgres.restart().await.unwrap();
    postgres_answers(&url).await.unwrap();

    postgres.crash().await.unwrap();
    postgres_answers(&url).await.unwrap_err();
    postgres.restart().await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let kept: i32 = sqlx::query_scalar("SELECT n FROM kept").fetch_one(&mut connection).await.unwrap();
    assert_eq!(kept, 7);
}

#[tokio::test]
async fn a_pooler_leads_to_its_postgres_and_ends_with_its_handle() {
    let postgres = Postgres::start().await.unwrap();
    let url = postgres.create_database("campus").await.unwrap();
    for pooling in [Pooling::Session, Pooling::Transaction, Pooling::Statement] {
        let pooler = PgBouncer::start(&url, pooling, 2).await.unwrap();
        let pooled = pooler.url().unwrap();
        let mut connection = PgConnection::connect(&pooled).await.unwrap();
        let database = sqlx::raw_sql("SELECT current_database()::text").fetch_one(&mut connection).await.unwrap();
        assert_eq!(database.get::<String, _>(0), "campus");
        let transaction = sqlx::raw_sql("BEGIN").execute(&mut connection).await;
        assert_eq!(transaction.is_ok(), pooling != Pooling::Statement, "{pooling:?}");
        let traces = Traces::of(&pooler);
        drop(pooler);
        assert!(!traces.are_there());
        postgres_answers(&pooled).await.unwrap_err();
    }
}

#[tokio::test]
async fn a_paused_postgres_answers_once_it_is_resumed() {
    let postgres = Postgres::start().await.unwrap();
    let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
    postgres.pause().unwrap();
    let question = sqlx::query_scalar::<_, i32>("SELECT 1").fetch_one(&mut connection);
    tokio::pin!(question);
    tokio::time::timeout(Duration::from_millis(300), &mut question).await.unwrap_err();
    postgres.resume().unwrap();
    assert_eq!(tokio::time::timeout(SOON, question).await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn a_paused_postgres_ends_with_its_handle_and_its_sessions_too() {
    let postgres = Postgres::start().await.unwrap();
    let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
    let session: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut connection).await.unwrap();
    let traces = Traces::of(&postgres);
    postgres.pause().unwrap();
    drop(postgres);
    assert!(!traces.are_there());
    eventually("the session's end", || !runs(session)).await;
}

#[tokio::test]
async fn each_database_is_fresh() {
    let (one, other) = tokio::try_join!(Database::create(), Database::create()).unwrap();
    let mut connection = PgConnection::connect(one.url()).await.unwrap();
    sqlx::raw_sql("CREATE TABLE mine ()").execute(&mut connection).await.unwrap();
    let mut connection = PgConnection::connect(other.url()).await.unwrap();
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(tables, 0);
}

#[tokio::test]
async fn redis_keeps_its_data_over_a_restart_and_a_crash_and_ends_with_its_handle() {
    let redis = Redis::start().await.unwrap();
    let url = redis.url();
    redis_set(&url, "kept", "7").await;
    redis.stop().await.unwrap();
    redis_get(&url, "kept").await.unwrap_err();
    redis.restart().await.unwrap();
    assert_eq!(redis_get(&url, "kept").await.unwrap().as_deref(), Some("7"));
    redis.crash().await.unwrap();
    redis.restart().await.unwrap();
    assert_eq!(redis_get(&url, "kept").await.unwrap().as_deref(), Some("7"));

    let traces = Traces::of(&redis);
    redis.pause().unwrap();
    drop(redis);
    assert!(!traces.are_there());
}

/// The first line that an S3 service answers to whoever has another key.
async fn s3_answers(server: &Objects) -> std::io::Result<String> {
    let mut connection = tokio::net::TcpStream::connect(("127.0.0.1", server.port())).await?;
    let key = "AWS4-HMAC-SHA256 Credential=nobody/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
    let head = format!("Host: 127.0.0.1\r\nAuthorization: {key}\r\nX-Amz-Date: 20260101T000000Z\r\n\r\n");
    let ask = format!("GET /{}?list-type=2 HTTP/1.0\r\n{head}", Objects::BUCKET);
    connection.write_all(ask.as_bytes()).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn an_s3_service_asks_for_its_key_and_ends_with_its_handle() {
    let objects = Objects::start().await.unwrap();
    assert_eq!(s3_answers(&objects).await.unwrap(), "HTTP/1.1 403 FORBIDDEN");
    objects.stop().await.unwrap();
    s3_answers(&objects).await.unwrap_err();
    objects.restart().await.unwrap();
    assert_eq!(s3_answers(&objects).await.unwrap(), "HTTP/1.1 403 FORBIDDEN");
    let traces = Traces::of(&objects);
    objects.pause().unwrap();
    drop(objects);
    assert!(!traces.are_there());
}

#[tokio::test]
async fn each_keyspace_is_empty() {
    let (one, other) = tokio::try_join!(Keyspace::create(), Keyspace::create()).unwrap();
    redis_set(one.url(), "mine", "1").await;
    assert_eq!(redis_get(other.url(), "mine").await.unwrap(), None);
}

#[tokio::test]
async fn qdrant_keeps_its_collections_over_a_restart_and_ends_with_its_handle() {
    let qdrant = Qdrant::start().await.unwrap();
    let client = qdrant_client(&qdrant.url(), None);
    client.create_collection(CreateCollectionBuilder::new("kept")).await.unwrap();
    qdrant.stop().await.unwrap();
    client.list_collections().await.unwrap_err();
    qdrant.restart().await.unwrap();
    let client = qdrant_client(&qdrant.url(), None);
    assert!(client.collection_exists("kept").await.unwrap());

    let traces = Traces::of(&qdrant);
    drop(qdrant);
    assert!(!traces.are_there());
}

#[tokio::test]
async fn qdrant_asks_for_its_key() {
    let api_key = Some("a key for a test".to_owned());
    let qdrant = Qdrant::start_with(QdrantOptions { api_key: api_key.clone() }).await.unwrap();
    qdrant_client(&qdrant.url(), None).list_collections().await.unwrap_err();
    qdrant_client(&qdrant.url(), api_key.as_deref()).list_collections().await.unwrap();
}

#[tokio::test]
async fn the_stores_of_own_servers_are_back_after_an_outage() {
    let servers = Servers::start().await.unwrap();
    let campus = Campus::plan(CampusSize::default());
    campus.seed(&Stores::connect(&servers.addresses()).await.unwrap()).await.unwrap();
    let before = Snapshot::take(&Stores::connect(&servers.addresses()).await.unwrap()).await.unwrap();
    for server in [&*servers.postgres, &*servers.redis, &*servers.qdrant] {
        server.crash().await.unwrap();
        server.restart().await.unwrap();
    }
    let after = Snapshot::take(&Stores::connect(&servers.addresses()).await.unwrap()).await.unwrap();
    assert_eq!(before.diff(&after), Difference::default());
}

/// Not a test: the process that `servers_end_when_their_process_is_killed` starts and kills.
#[tokio::test]
#[ignore = "holds servers until it is killed"]
async fn hold_servers() {
    let (postgres, redis) = (Postgres::shared().await.unwrap(), Redis::start().await.unwrap());
    let qdrant = Qdrant::start().await.unwrap();
    for server in [&**postgres, &*redis, &*qdrant] {
        println!("holding {} {}", server.pid().unwrap(), server.folder().display());
    }
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn servers_end_when_their_process_is_killed() {
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "hold_servers", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines().map_while(Result::ok);
    let held: Vec<Traces> = lines
        .filter_map(|line| {
            let (_, rest) = line.split_once("holding ")?;
            let (pid, folder) = rest.split_once(' ')?;
            Some(Traces { pid: pid.parse().unwrap(), folder: folder.into() })
        })
        .take(3)
        .collect();
    assert_eq!(held.len(), 3);
    assert!(held.iter().all(|server| runs(server.pid)));

    holder.kill().unwrap();
    holder.wait().unwrap();
    eventually("the servers' end", || held.iter().all(|server| !server.are_there())).await;
}

/// The names of everything on servers that were given to the tests.
async fn everything_on(postgres: &Postgres, redis: &Redis, qdrant: &Qdrant) -> Vec<String> {
    let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
    let mut names: Vec<String> =
        sqlx::query_scalar("SELECT datname FROM pg_database ORDER BY 1").fetch_all(&mut connection).await.unwrap();
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    names.push(redis::cmd("INFO").arg("keyspace").query_async(&mut connection).await.unwrap());
    let client = qdrant_client(&qdrant.url(), None);
    let collections = client.list_collections().await.unwrap().collections;
    names.extend(collections.into_iter().map(|collection| collection.name));
    let aliases = client.list_aliases().await.unwrap().aliases;
    names.extend(aliases.into_iter().map(|alias| alias.alias_name));
    names
}

#[tokio::test]
async fn a_world_is_empty_and_its_stores_can_be_written() {
    let world = World::create().await.unwrap();
    let stores = Stores::connect(&world.addresses()).await.unwrap();
    let campus = Campus::plan(CampusSize { courses: 2, doomed: 1, ..CampusSize::default() });
    campus.seed(&stores).await.unwrap();
    let courses: i64 = sqlx::query_scalar("SELECT count(*) FROM courses").fetch_one(&stores.postgres).await.unwrap();
    assert_eq!(courses, 2);
    println!("used {}", stores.addresses.redis);
}

#[tokio::test]
async fn given_servers_are_used_and_left_as_they_were() {
    let (postgres, redis, qdrant) = tokio::try_join!(Postgres::start(), Redis::start(), Qdrant::start()).unwrap();
    postgres.create_database("theirs").await.unwrap();
    // The first logical database that a test might take is in use.
    let theirs = redis.url().replace("/0", "/1");
    redis_set(&theirs, "theirs", "1").await;
    qdrant_client(&qdrant.url(), None).create_collection(CreateCollectionBuilder::new("theirs")).await.unwrap();
    let before = everything_on(&postgres, &redis, &qdrant).await;

    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_world_is_empty_and_its_stores_can_be_written", "--nocapture"])
        .env("DATABASE_URL", postgres.url())
        .env("REDIS_URL", redis.url())
        .env("QDRANT_URL", qdrant.url())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(&format!("used {}", redis.url().replace("/0", "/2"))), "{said}");
    assert_eq!(everything_on(&postgres, &redis, &qdrant).await, before);
}
