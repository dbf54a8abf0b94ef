//! S7: right place, right truth. What nobody adopted, and what is no longer what was adopted, is not touched.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result};
use async_trait::async_trait;
use course_gc::adopt::adopt;
use course_gc::domain::ids::{CourseId, IdType};
use course_gc::domain::live_set::LiveSet;
use course_gc::domain::plan::{Decision, Hold};
use course_gc::domain::report::{Mode, RunReport, StoreReport, Verdict};
use course_gc::ledger::{Intent, Intents, PostgresLedger};
use course_gc::liveness::{Liveness, LivenessSources};
use course_gc::postgres::PostgresError;
use course_gc::reconcile::reconcile;
use futures::FutureExt;
use sandbox::campus::{Campus, CampusSize};
use sandbox::config::Settings;
use sandbox::{Addresses, Postgres, Snapshot, Stores, World};
use sqlx::{AssertSqlSafe, PgPool};
use tokio_util::sync::CancellationToken;

use crate::interposed::{Call, interpose};
use crate::support::Installation;

const SIZE: CampusSize = CampusSize {
    seed: 1,
    ids: sandbox::campus::IdKind::Uuid,
    organizations: 3,
    courses: 24,
    doomed: 4,
    foreign: 2,
    points: 2,
    vector_size: 4,
};

/// Some course.
const COURSE: CourseId = CourseId::Uuid(uuid::Uuid::from_u128(1));

/// Without grace for who departed.
fn at_once() -> Settings {
    Settings { departed: "0s".to_owned(), ..Settings::default() }
}

/// An installation that saw its campus live, and lost some courses of it since.
async fn leaking(addresses: Addresses) -> Result<Installation> {
    let (installation, campus) = Installation::over(addresses, &at_once(), SIZE).await?;
    campus.delete_doomed(&installation.stores).await?;
    Ok(installation)
}

async fn sql(installation: &Installation, statements: &str) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&installation.stores.postgres).await?;
    Ok(())
}

/// One run, of which nothing comes.
async fn touches_nothing(installation: &Installation) -> Result<RunReport> {
    let before = Snapshot::take(&installation.stores).await?;
    let report = installation.run().await?;
    assert_eq!(report.verdict, Verdict::Held, "{report:?}");
    assert_eq!(before.diff(&Snapshot::take(&installation.stores).await?), Default::default());
    Ok(report)
}

async fn halts(installation: &Installation, why: &str) -> Result<()> {
    let halt = touches_nothing(installation).await?.halt.context("it did not halt")?;
    assert!(halt.contains(why) && halt.contains("course-gc adopt"), "{halt}");
    Ok(())
}

fn store<'a>(report: &'a RunReport, name: &str) -> &'a StoreReport {
    report.stores.iter().find(|store| store.name == name).expect("there is such a store")
}

/// Whoever looks at what is there adopts it, and the next run finishes.
async fn adopted_it_goes(installation: &Installation) -> Result<()> {
    let adopted = installation.program(&["adopt", "--yes"]).await?;
    assert_eq!(adopted.code, Some(0), "{adopted:?}");
    let report = installation.run().await?;
    assert_eq!(report.verdict, Verdict::Done, "{report:?}");
    assert_eq!(installation.plan().await?.verdict, Verdict::Clean);
    Ok(())
}

#[tokio::test]
async fn s7_what_nobody_adopted_is_not_touched() -> Result<()> {
    let world = World::create().await?;
    let installation = leaking(world.addresses()).await?;
    sql(&installation, "TRUNCATE course_gc.installation, course_gc.pinned_sources, course_gc.adopted_stores").await?;
    let report = touches_nothing(&installation).await?;
    let orphans = report.stores.iter().flat_map(|store| &store.sources).flat_map(|source| &source.orphans);
    assert!(orphans.clone().count() > 0);
    assert!(orphans.into_iter().all(|orphan| orphan.decision == Decision::Held(Hold::NotAdopted)));

    let shown = installation.program(&["adopt"]).await?;
    assert!(shown.stdout.contains("public.courses") && shown.stdout.contains("adopt --yes"), "{shown:?}");
    touches_nothing(&installation).await?;
    // The stores carry the entry of the installation that this one does not remember to be. It asked the same of the same
    // server, so neither takes the other's courses for strangers.
    adopted_it_goes(&installation).await
}

#[tokio::test]
async fn s7_stagings_configuration_on_productions_stores_deletes_and_writes_nothing() -> Result<()> {
    let world = World::create().await?;
    let production = leaking(world.addresses()).await?;
    let marker = production.collector()?.stores[1].store.marker().await?;
    assert!(marker.is_some());

    let elsewhere = World::create().await?;
    Campus::plan(CampusSize { seed: 2, ..SIZE }).seed(&Stores::connect(&elsewhere.addresses()).await?).await?;
    let pointed = Addresses { postgres: elsewhere.addresses().postgres, ..world.addresses() };
    let staging = Installation::new(pointed, &at_once()).await?;
    let report = touches_nothing(&staging).await?;
    for store in &report.stores {
        let reason = store.not_adopted.as_deref().unwrap_or_default();
        assert!(reason.contains("not adopted"), "{}: {reason}", store.name);
    }
    assert_eq!(production.collector()?.stores[1].store.marker().await?, marker);
    assert_eq!(production.run().await?.verdict, Verdict::Done, "production goes on");
    Ok(())
}

#[tokio::test]
async fn s7_another_relation_in_the_tables_place_halts() -> Result<()> {
    let world = World::create().await?;
    let installation = leaking(world.addresses()).await?;
    sql(
        &installation,
        "ALTER TABLE public.courses RENAME TO the_courses; CREATE TABLE public.courses AS SELECT * FROM public.the_courses",
    )
    .await?;
    halts(&installation, "public.courses was replaced").await?;
    sql(&installation, "DROP TABLE public.courses; ALTER TABLE public.the_courses RENAME TO courses").await?;

    // A view with the same columns over a half of them is another truth, too.
    sql(
        &installation,
        "ALTER TABLE public.courses RENAME TO all_courses; \
         CREATE VIEW public.courses AS SELECT * FROM public.all_courses WHERE status <> 'archived'",
    )
    .await?;
    halts(&installation, "public.courses was replaced").await?;
    sql(&installation, "DROP VIEW public.courses; ALTER TABLE public.all_courses RENAME TO courses").await?;
    assert_eq!(installation.run().await?.verdict, Verdict::Done, "the right table is back");
    Ok(())
}

#[tokio::test]
async fn s7_a_restored_ledger_halts_at_the_counter_and_clocks_start_anew() -> Result<()> {
    let server = Postgres::start().await?;
    server.create_database("campus").await?;
    let world = World::create().await?;
    let addresses = Addresses { postgres: server.url_of("campus"), ..world.addresses() };
    let installation = leaking(addresses).await?;

    // Yesterday's cold copy of the whole server.
    let folder = tempfile::tempdir()?;
    let copy = folder.path().join("data");
    server.back_up(&copy).await?;
    assert_eq!(installation.plan().await?.verdict, Verdict::Done, "it would go");
    let report = installation.run().await?;
    assert_eq!(report.verdict, Verdict::Done);

    server.restore(&copy).await?;
    halts(&installation, "was used 1 times since this ledger knew of it").await?;
    let adopted = installation.program(&["adopt", "--yes"]).await?;
    assert_eq!(adopted.code, Some(0), "{adopted:?}");
    let clocks: i64 = sqlx::query_scalar("SELECT count(*) FROM course_gc.orphans WHERE counted_at IS NOT NULL")
        .fetch_one(&installation.stores.postgres)
        .await?;
    assert_eq!(clocks, 0, "no clock goes on");
    assert_eq!(installation.run().await?.halt, None);
    Ok(())
}

#[tokio::test]
async fn s7_a_store_that_was_emptied_holds_itself_only() -> Result<()> {
    let world = World::create().await?;
    let installation = leaking(world.addresses()).await?;
    let mut redis = installation.stores.redis.clone();
    redis::cmd("DEL").arg("course-gc:marker").query_async::<()>(&mut redis).await?;
    let before = Snapshot::take(&installation.stores).await?;
    let report = installation.run().await?;
    assert_eq!(report.verdict, Verdict::Held);
    assert!(store(&report, "cache").not_adopted.as_deref().is_some_and(|reason| reason.contains("marker is gone")));
    assert_eq!(store(&report, "cache").swept().deleted, 0);
    assert!(store(&report, "vectors").swept().deleted > 0, "the others go on");
    let gone = before.diff(&Snapshot::take(&installation.stores).await?).gone;
    assert!(gone.iter().all(|resource| !matches!(resource, sandbox::Resource::Key(_))));
    adopted_it_goes(&installation).await
}

#[tokio::test]
async fn s7_a_store_that_loses_its_marker_in_mid_sweep_is_left() -> Result<()> {
    let world = World::create().await?;
    let installation = leaking(world.addresses()).await?;
    let before = Snapshot::take(&installation.stores).await?;
    let mut collector = installation.collector()?;
    let redis = installation.stores.redis.clone();
    interpose(&mut collector, "cache", move |call, nth| {
        let mut redis = redis.clone();
        async move {
            if (call, nth) == (Call::Copy, 2) {
                redis::cmd("DEL")
                    .arg("course-gc:marker")
                    .query_async::<()>(&mut redis)
                    .await
                    .expect("a key can be deleted");
            }
        }
        .boxed()
    });
    let report = reconcile(&collector, Mode::Run, &CancellationToken::new()).await?;
    assert_eq!(report.verdict, Verdict::Partly, "{report:?}");
    assert!(store(&report, "cache").error.as_deref().is_some_and(|error| error.contains("its marker is gone")));
    assert!(store(&report, "vectors").swept().deleted > 0, "the others go on");
    let gone = before.diff(&Snapshot::take(&installation.stores).await?).gone;
    let keys = gone.iter().filter(|resource| matches!(resource, sandbox::Resource::Key(_))).count();
    assert_eq!(keys, 1, "the first batch");
    adopted_it_goes(&installation).await
}

#[tokio::test]
async fn s7_a_failover_that_lost_nothing_lets_clocks_go_on() -> Result<()> {
    let primary = Postgres::start().await?;
    primary.create_database("campus").await?;
    let world = World::create().await?;
    let addresses = Addresses { postgres: primary.url_of("campus"), ..world.addresses() };
    let mut installation = leaking(addresses).await?;
    installation.configure(&Settings { departed: "1m".to_owned(), ..Settings::default() })?;
    assert_eq!(installation.run().await?.verdict, Verdict::Clean, "all of it is in its grace");
    installation.age("1 hour").await?;

    let standby = primary.standby().await?;
    primary.stop().await?;
    let promoted = sqlx::PgPool::connect(&standby.url_of("campus")).await?;
    sqlx::query("SELECT pg_promote()").execute(&promoted).await?;
    installation.stores.postgres = promoted;
    installation.addresses.postgres = standby.url_of("campus");
    let report = installation.run().await?;
    assert_eq!((report.halt.as_deref(), report.verdict), (None, Verdict::Done), "{report:?}");
    Ok(())
}

#[tokio::test]
async fn s7_a_break_is_not_forgotten_by_a_run_that_halts() -> Result<()> {
    let world = World::create().await?;
    let installation = Installation::new(world.addresses(), &at_once()).await?;
    let campus = Campus::plan(SIZE);
    campus.seed(&installation.stores).await?;
    // A ledger in another cluster: it proves nothing about the campus' history.
    let elsewhere = Postgres::start().await?;
    elsewhere.create_database("ledger").await?;
    let mut collector = installation.collector()?;
    let postgres =
        course_gc::postgres::Postgres { url: elsewhere.url_of("ledger").into(), ..installation.source()?.postgres };
    let ledger = PostgresLedger::new(postgres, IdType::Uuid)?;
    ledger.migrate().await?;
    collector.ledger = Arc::new(ledger);
    assert!(adopt(&collector, false).await?.iter().all(|(_, reason)| reason.is_none()));
    let stop = CancellationToken::new();
    assert_eq!(reconcile(&collector, Mode::Run, &stop).await?.verdict, Verdict::Clean);

    // The campus is restored from an older copy, which lacks some courses.
    campus.delete_doomed(&installation.stores).await?;
    let ledger = sqlx::PgPool::connect(&elsewhere.url_of("ledger")).await?;
    sqlx::query("UPDATE course_gc.pinned_sources SET position = jsonb_set(position, '{lsn}', '9000000000000000000')")
        .execute(&ledger)
        .await?;
    let before = Snapshot::take(&installation.stores).await?;
    collector.refuse_drop = 0;
    assert!(reconcile(&collector, Mode::Run, &stop).await?.halt.is_some(), "too many are gone");
    collector.refuse_drop = 100;
    for _ in 0..2 {
        let report = reconcile(&collector, Mode::Run, &stop).await?;
        let departed = report.stores.iter().flat_map(|store| &store.sources).flat_map(|source| &source.orphans);
        let held = departed.filter(|orphan| orphan.decision == Decision::Held(Hold::Discontinuity)).count();
        assert!(held > 0, "{report:?}");
        assert_eq!(before.diff(&Snapshot::take(&installation.stores).await?), Default::default());
    }
    Ok(())
}

/// Liveness sources with something that happens when their locks have been taken, and nothing was read yet.
struct Meanwhile {
    inner: Arc<dyn LivenessSources>,
    pool: PgPool,
    statement: &'static str,
}

#[async_trait]
impl LivenessSources for Meanwhile {
    async fn lock(&self) -> Result<Box<dyn Liveness>, PostgresError> {
        let locked = self.inner.lock().await?;
        sqlx::raw_sql(self.statement).execute(&self.pool).await.expect("it can be done");
        Ok(locked)
    }

    async fn glance(&self, ids: &BTreeSet<CourseId>) -> Result<LiveSet, PostgresError> {
        self.inner.glance(ids).await
    }
}

#[tokio::test]
async fn s7_the_position_that_is_remembered_is_later_than_every_row_that_was_read() -> Result<()> {
    let world = World::create().await?;
    let installation = leaking(world.addresses()).await?;
    let mut collector = installation.collector()?;
    let statement = "CREATE TABLE public.meanwhile AS SELECT pg_current_wal_insert_lsn() AS position";
    let (inner, pool) = (Arc::clone(&collector.liveness), installation.stores.postgres.clone());
    collector.liveness = Arc::new(Meanwhile { inner, pool, statement });
    assert_eq!(reconcile(&collector, Mode::Plan, &CancellationToken::new()).await?.halt, None);

    let committed: i64 = sqlx::query_scalar("SELECT pg_wal_lsn_diff(position, '0/0')::bigint FROM public.meanwhile")
        .fetch_one(&installation.stores.postgres)
        .await?;
    let adoption = collector.ledger.adoption().await?.context("it was adopted")?;
    let remembered = adoption.sources["campus"].1.lsn.context("it is told")?;
    assert!(remembered > committed.unsigned_abs(), "a restore to between the two would lose what was read, unseen");
    Ok(())
}

#[tokio::test]
async fn s6_s11_a_root_that_is_not_mounted_restarts_no_clock_and_settles_no_intent() -> Result<()> {
    let world = World::create().await?;
    let installation = leaking(world.addresses()).await?;
    installation.configure(&Settings { departed: "20m".to_owned(), ..Settings::default() })?;
    assert_eq!(installation.run().await?.verdict, Verdict::Clean, "all of it is in its grace");
    installation.age("25 minutes").await?;
    let ledger = installation.ledger()?;
    let intent = Intent { courses: [COURSE].into(), counting: [COURSE].into(), handles: 1 };
    ledger.open_intent(uuid::Uuid::nil(), "uploads", &intent).await?.context("nobody paused")?;

    let root = installation.addresses.files.join("uploads");
    let aside = installation.addresses.files.with_extension("aside");
    std::fs::rename(&root, &aside)?;
    std::fs::create_dir(&root)?;
    let report = installation.run().await?;
    assert!(store(&report, "uploads").not_adopted.is_some(), "{report:?}");
    assert!(ledger.open_intents().await?.contains_key("uploads"), "an empty place settles nothing");

    std::fs::remove_dir(&root)?;
    std::fs::rename(&aside, &root)?;
    let report = installation.run().await?;
    assert!(store(&report, "uploads").swept().deleted > 0, "its clocks went on: {report:?}");
    assert!(!ledger.open_intents().await?.contains_key("uploads"));
    Ok(())
}
