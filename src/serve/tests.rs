//! The loop on a real Postgres, with a store in memory, asked over HTTP as a probe or Prometheus asks.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use async_trait::async_trait;
use bytes::Bytes;
use sandbox::Database;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::*;
use crate::clock::MachineClock;
use crate::domain::evidence::Graces;
use crate::domain::ids::{CourseId, IdType};
use crate::domain::inventory::{Amount, Census, SourceIndex};
use crate::domain::markers::{AdoptedStore, Owner, truths};
use crate::domain::plan::Limits;
use crate::http::tests::{Answer, ask};
use crate::ledger::{Ledger, PostgresLedger};
use crate::liveness::{LivenessSource, PostgresSources};
use crate::postgres::Postgres;
use crate::quarantine::{Archives, ObjectPlace, Quarantine, Room};
use crate::reconcile::ManagedStore;
use crate::schedule::Schedule;
use crate::stores::copies::{Copied, Copies, CopyId, Item, PutBack, Restoring};
use crate::stores::{Handle, Marker, Outcome, Removed, Store, StoreError, Targets};
use crate::sweep::Condemned;

const PATIENCE: Duration = Duration::from_secs(60);
/// Due at the first start, and then not for as long as a test takes.
const YEARLY: &str = "0 0 1 1 *";
const EACH_SECOND: &str = "* * * * * *";

/// A store in memory that holds one resource for each of its courses.
struct Shelf {
    sources: Vec<String>,
    courses: std::sync::Mutex<BTreeSet<CourseId>>,
    marker: std::sync::Mutex<Option<Marker>>,
    /// An inventory begins: it takes until this is open.
    open: watch::Receiver<bool>,
    entered: watch::Sender<bool>,
}

#[async_trait]
impl Store for Shelf {
    fn name(&self) -> &str {
        "shelf"
    }

    fn kind(&self) -> &'static str {
        "memory"
    }

    fn sources(&self) -> &[String] {
        &self.sources
    }

    fn batch_limit(&self) -> usize {
        10
    }

    async fn identity(&self) -> Result<String, StoreError> {
        Ok("this process".into())
    }

    async fn marker(&self) -> Result<Option<Marker>, StoreError> {
        Ok(self.marker.lock().unwrap().clone())
    }

    async fn move_marker(&self, from: Option<&Marker>, to: &Marker) -> Result<bool, StoreError> {
        let mut marker = self.marker.lock().unwrap();
        let is_from = marker.as_ref() == from;
        if is_from {
            *marker = Some(to.clone());
        }
        Ok(is_from)
    }

    async fn inventory(&self, census: &mut Census) -> Result<(), StoreError> {
        self.entered.send_replace(true);
        self.open.clone().wait_for(|open| *open).await.map_err(|_| StoreError::Stopped)?;
        for course in self.courses.lock().unwrap().iter() {
            census.observe(SourceIndex(0), *course, Amount::one(b"it", Some(1)), Vec::new);
        }
        Ok(())
    }

    async fn locate(&self, targets: &Targets, handles: mpsc::Sender<Handle>) -> Result<(), StoreError> {
        let held = self.courses.lock().unwrap().clone();
        for owner in targets.of(SourceIndex(0)).filter(|course| held.contains(course)) {
            let handle = Handle { source: SourceIndex(0), owner, mentions: Vec::new(), key: Bytes::new() };
            handles.send(handle).await.map_err(|_| StoreError::Stopped)?;
        }
        Ok(())
    }

    /// Its managed store is not quarantined.
    async fn copy(&self, _: &CopyId, _: &[Handle], _: &mut dyn Copies) -> Result<Vec<Copied>, StoreError> {
        Err(StoreError::Unusable("nobody asks this shelf for copies".into()))
    }

    async fn put_back(&self, _: &[Item], _: Restoring) -> Vec<PutBack> {
        Vec::new()
    }

    async fn delete(&self, batch: &Condemned) -> Removed {
        let mut courses = self.courses.lock().unwrap();
        let mut delete = |handle: &Handle| match courses.remove(&handle.owner) {
            true => Outcome::Deleted { resources: 1, bytes: Some(1) },
            false => Outcome::Absent,
        };
        Removed { outcomes: batch.handles().iter().map(&mut delete).collect() }
    }

    async fn remaining(&self, targets: &Targets) -> Result<Vec<(SourceIndex, CourseId, u64)>, StoreError> {
        let courses = self.courses.lock().unwrap();
        let wanted = targets.of(SourceIndex(0)).filter(|course| courses.contains(course));
        Ok(wanted.map(|course| (SourceIndex(0), course, 1)).collect())
    }
}

/// A database in which the courses 1, 2 and 3 are live.
async fn campus() -> Database {
    let database = Database::create().await.unwrap();
    execute(&database, "CREATE TABLE courses (id bigint); INSERT INTO courses VALUES (1), (2), (3)").await;
    database
}

async fn execute(database: &Database, statement: &'static str) {
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
}

/// Nothing goes into it.
fn quarantine() -> Quarantine {
    let place = Arc::new(ObjectPlace::folder("/nonexistent/quarantine".into(), Duration::from_secs(10)));
    let room = Room { max_bytes: 0, min_free_percent: 0 };
    let archives = Archives::new(place, "test".into(), IdType::Integer, None, room);
    Quarantine { archives, keep: Duration::from_secs(60) }
}

fn ledger(database: &Database) -> PostgresLedger {
    PostgresLedger::new(postgres(database, "the ledger"), IdType::Integer).unwrap()
}

fn postgres(database: &Database, what: &str) -> Postgres {
    Postgres {
        what: what.into(),
        url: database.url().to_owned().into(),
        call_timeout: Duration::from_secs(10),
        idle_timeout: crate::postgres::IDLE_TIMEOUT,
        application: "course-gc test".into(),
    }
}

/// A collector that serves, as the program's process does.
struct Serving {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<Result<(), ServeError>>,
    shelf: Arc<Shelf>,
    /// Lets inventories go on.
    open: watch::Sender<bool>,
}

impl Serving {
    /// Starts; the shelf has something of the courses 1 to 4.
    async fn start(database: &Database, cron: &str) -> Self {
        let (open, opened) = watch::channel(false);
        let shelf = Arc::new(Shelf {
            sources: vec!["all".into()],
            courses: std::sync::Mutex::new((1..=4).map(CourseId::Integer).collect()),
            marker: std::sync::Mutex::new(None),
            open: opened,
            entered: watch::Sender::new(false),
        });
        let graces = Graces { tombstoned: Duration::ZERO, departed: Duration::ZERO, stranger: Duration::ZERO };
        let source = LivenessSource {
            accepted: Default::default(),
            name: "campus".into(),
            postgres: postgres(database, "liveness source campus"),
            query: "SELECT id FROM public.courses".into(),
            tombstones: None,
            organizations: None,
        };
        let collector = Collector {
            installation: "test".into(),
            id_type: IdType::Integer,
            liveness: Arc::new(PostgresSources { id_type: IdType::Integer, sources: vec![source] }),
            ledger: Arc::new(ledger(database)),
            stores: vec![ManagedStore { store: shelf.clone(), exclusive: vec![true], quarantined: false }],
            limits: Limits {
                graces,
                breaker_share: 100,
                breaker_share_strangers: 100,
                breaker_courses: 100,
                breaker_bytes: 1_000_000,
                cap_courses: None,
            },
            quarantine: Arc::new(quarantine()),
            refuse_below: 1,
            refuse_drop: 50,
            confirmation: Duration::from_secs(5),
            live_cleanups: None,
            schedule: Schedule::new(cron, chrono_tz::UTC).unwrap(),
            clock: Arc::new(MachineClock),
            leading: Default::default(),
        };
        match collector.ledger.adoption().await {
            // Where there is no ledger yet, or no table of courses, nothing is adopted.
            Err(_) => {}
            Ok(None) => _ = crate::adopt::adopt(&collector, true).await,
            // The shelf of a second one stands for the place that the first one adopted.
            Ok(Some(adoption)) => {
                let AdoptedStore { counter, .. } = adoption.stores["shelf"];
                let installation = adoption.installation;
                let truths = truths(adoption.sources.values().map(|(pin, _)| (pin, Some("the same"))));
                let owner = Owner { installation, name: "test".into(), counter, truths };
                *shelf.marker.lock().unwrap() = Some(Marker::of(owner));
            }
        }
        let metrics = Arc::new(Metrics::new(&[("shelf", "memory")]).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = super::Serving {
            works: Works { collector: Arc::new(collector), api: None, heard: Vec::new() },
            metrics,
            bell: Arc::default(),
            runs: Runs::Here,
            certificate: None,
            changes: None,
        };
        let task = tokio::spawn(serve_on(serving, listener, stop.clone()));
        Self { address, stop, task, shelf, open }
    }

    async fn get(&self, path: &str) -> Answer {
        ask(self.address, "GET", path).await.unwrap()
    }

    /// The value of a series; `None` if it is not there.
    async fn metric(&self, series: &str) -> Option<f64> {
        let body = self.get("/metrics").await.body;
        body.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    /// Waits until a series is at least so much.
    async fn until_metric(&self, series: &str, least: f64) {
        let reached = async {
            while self.metric(series).await.is_none_or(|value| value < least) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(PATIENCE, reached).await.is_err() {
            panic!("{series} is not {least}: {}", self.get("/metrics").await.body);
        }
    }

    /// Waits until an inventory has begun.
    async fn until_it_runs(&self) {
        let mut entered = self.shelf.entered.subscribe();
        timeout(PATIENCE, entered.wait_for(|entered| *entered)).await.unwrap().unwrap();
    }

    async fn end(self) -> Result<(), ServeError> {
        self.stop.cancel();
        timeout(PATIENCE, self.task).await.unwrap().unwrap()
    }
}

fn runs(verdict: &str) -> String {
    format!("course_gc_runs_total{{mode=\"run\",verdict=\"{verdict}\"}}")
}

#[tokio::test]
async fn it_runs_at_its_first_start_says_so_and_stops() {
    let database = campus().await;
    ledger(&database).migrate().await.unwrap();
    let serving = Serving::start(&database, YEARLY).await;
    serving.until_it_runs().await;
    assert_eq!(serving.get("/healthz").await.status, 200, "while a run is under way");
    assert_eq!(serving.get("/readyz").await.status, 200);
    assert_eq!(serving.metric(&runs("done")).await, Some(0.0));
    serving.open.send_replace(true);
    serving.until_metric(&runs("done"), 1.0).await;
    assert_eq!(serving.metric("course_gc_resources_deleted_total{store=\"shelf\"}").await, Some(1.0));
    serving.until_metric("course_gc_last_success_timestamp_seconds", 1e9).await;
    assert_eq!(serving.metric("course_gc_live_courses{source=\"campus\"}").await, Some(3.0));
    assert_eq!(serving.metric("course_gc_orphans{evidence=\"stranger\",store=\"shelf\"}").await, Some(0.0), "it went");
    assert_eq!(serving.metric("course_gc_orphans_found_total{evidence=\"stranger\",store=\"shelf\"}").await, Some(1.0));
    let stages = serving.get("/metrics").await.body;
    let stages: Vec<&str> =
        stages.lines().filter(|line| line.starts_with("course_gc_stage_duration_seconds_count")).collect();
    assert_eq!(stages.len(), 8, "no stage appears with the first run: {stages:?}");
    let timed = stages.iter().filter(|line| line.ends_with(" 1")).count();
    assert_eq!(timed, 7, "and every one is timed but the answers that nobody waits for: {stages:?}");
    assert_eq!(*serving.shelf.courses.lock().unwrap(), (1..=3).map(CourseId::Integer).collect());
    let address = serving.address;
    serving.end().await.unwrap();
    assert!(ask(address, "GET", "/healthz").await.is_none(), "nobody listens any more");
    assert_eq!(ledger(&database).latest(10, false).await.unwrap().len(), 1, "the next run is due next year");
}

#[tokio::test]
async fn s10_a_second_stands_by_and_takes_over_when_the_first_is_gone() {
    let database = campus().await;
    ledger(&database).migrate().await.unwrap();
    let first = Serving::start(&database, EACH_SECOND).await;
    first.until_it_runs().await;
    let second = Serving::start(&database, EACH_SECOND).await;
    second.open.send_replace(true);
    second.until_metric("course_gc_runs_locked_total", 1.0).await;
    first.until_metric("course_gc_leader", 1.0).await;
    assert_eq!(second.metric("course_gc_leader").await, Some(0.0));
    assert_eq!(second.get("/healthz").await.status, 200);
    assert_eq!(second.get("/readyz").await.status, 200);
    assert_eq!(second.metric(&runs("failed")).await, Some(0.0), "standing by is no failure");
    assert_eq!(second.shelf.courses.lock().unwrap().len(), 4, "and touches nothing");
    first.end().await.unwrap();
    second.until_metric(&runs("done"), 1.0).await;
    second.until_metric("course_gc_last_success_timestamp_seconds", 1e9).await;
    let third = Serving::start(&database, YEARLY).await;
    third.until_metric("course_gc_last_success_timestamp_seconds", 1e9).await;
    assert_eq!(third.metric(&runs("done")).await, Some(0.0), "it did nothing itself, and tells what the ledger knows");
    third.end().await.unwrap();
    second.end().await.unwrap();
}

#[tokio::test]
async fn s10_a_run_whose_process_died_is_begun_again_by_a_standby_though_none_is_due_and_one_that_dies_again_is_not() {
    let database = campus().await;
    ledger(&database).migrate().await.unwrap();
    let first = Serving::start(&database, YEARLY).await;
    first.until_it_runs().await;
    let second = Serving::start(&database, YEARLY).await;
    first.task.abort();
    // On a machine that does much else: not in the next year.
    timeout(Duration::from_secs(20), second.until_it_runs()).await.expect("it takes over");
    second.task.abort();
    let free = async {
        loop {
            match ledger(&database).lock().await {
                Ok(lock) => return lock.release().await,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(PATIENCE, free).await.unwrap();
    let third = Serving::start(&database, YEARLY).await;
    third.until_metric("course_gc_ledger_up", 1.0).await;
    timeout(Duration::from_secs(2), third.until_it_runs()).await.expect_err("nothing is due");
    assert_eq!(ledger(&database).latest(10, false).await.unwrap().len(), 2, "it may be the run itself that kills");
    third.end().await.unwrap();
}

#[tokio::test]
async fn a_run_under_way_is_stopped_in_order() {
    let database = campus().await;
    ledger(&database).migrate().await.unwrap();
    let serving = Serving::start(&database, YEARLY).await;
    serving.until_it_runs().await;
    serving.end().await.unwrap();
    let runs = ledger(&database).latest(10, false).await.unwrap();
    assert_eq!(runs.len(), 1);
    assert!(runs[0].finished_at.is_some(), "it wrote its end: {runs:?}");
    ledger(&database).lock().await.unwrap().release().await;
}

#[tokio::test]
async fn without_the_ledgers_tables_it_waits_for_them() {
    let database = campus().await;
    let serving = Serving::start(&database, YEARLY).await;
    serving.open.send_replace(true);
    let told = async {
        while !serving.get("/readyz").await.body.contains("run `course-gc migrate`") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, told).await.unwrap();
    assert_eq!(serving.get("/readyz").await.status, 503);
    assert_eq!(serving.get("/healthz").await.status, 200, "a restart would not help");
    assert_eq!(serving.metric("course_gc_ledger_up").await, Some(0.0));
    ledger(&database).migrate().await.unwrap();
    // Nobody adopted anything yet.
    serving.until_metric(&runs("held"), 1.0).await;
    assert_eq!(serving.metric("course_gc_ledger_up").await, Some(1.0));
    assert_eq!(serving.get("/readyz").await.status, 200);
    serving.end().await.unwrap();
}

#[tokio::test]
async fn a_run_that_fails_is_counted_and_ends_nothing() {
    let database = campus().await;
    ledger(&database).migrate().await.unwrap();
    execute(&database, "DROP TABLE courses").await;
    let serving = Serving::start(&database, EACH_SECOND).await;
    serving.open.send_replace(true);
    serving.until_metric(&runs("failed"), 1.0).await;
    assert_eq!(serving.get("/healthz").await.status, 200);
    assert_eq!(serving.get("/readyz").await.status, 200);
    assert_eq!(serving.shelf.courses.lock().unwrap().len(), 4);
    serving.end().await.unwrap();
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let error = bind(address).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot listen on {address}; ")), "{error}");
}
