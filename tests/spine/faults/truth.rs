//! The truth in the wrong place or of another time: Postgres promoted, emptied, restored, cloned.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use course_gc::adopt::adopt;
use course_gc::domain::ids::IdType;
use course_gc::domain::plan::{Decision, Hold};
use course_gc::domain::report::{Mode, RunReport, Verdict};
use course_gc::errors::chain;
use course_gc::ledger::PostgresLedger;
use course_gc::reconcile::{Collector, reconcile};
use sandbox::campus::{Campus, CampusSize};
use sandbox::config::Settings;
use sandbox::{Addresses, Difference, Postgres, Snapshot, Stores, World};
use sqlx::{AssertSqlSafe, PgPool};
use tokio_util::sync::CancellationToken;

use super::{documented, halts};
use crate::interposed::{Call, interpose};
use crate::outages::{Scene, activate};
use crate::support::{Installation, eventually};

const SIZE: CampusSize = CampusSize {
    seed: 1,
    ids: sandbox::campus::IdKind::Uuid,
    organizations: 3,
    courses: 40,
    doomed: 4,
    foreign: 2,
    points: 2,
    vector_size: 4,
};

/// A campus on a Postgres of its own, whose doomed courses are dead; nothing of them is left to wait for.
struct Bed {
    installation: Installation,
    campus: Campus,
    postgres: Postgres,
    /// The ledger's URL, where it is not in the campus' database.
    ledger: Option<String>,
    /// What lay in the stores when the courses had died.
    before: Snapshot,
    world: World,
}

impl Bed {
    /// The ledger is in the campus' database.
    async fn new(departed: &str) -> Result<Self> {
        Self::with(departed, None).await
    }

    /// The ledger is in another cluster, whose history says nothing of the campus'.
    async fn beside(ledger: &Postgres) -> Result<Self> {
        Self::with("0s", Some(ledger.create_database("ledger").await?)).await
    }

    async fn with(departed: &str, ledger: Option<String>) -> Result<Self> {
        let (world, postgres) = (World::create().await?, Postgres::start().await?);
        let addresses = Addresses { postgres: postgres.create_database("campus").await?, ..world.addresses() };
        let settings = Settings { departed: departed.to_owned(), ..Settings::default() };
        let installation = Installation::new(addresses, &settings).await?;
        let campus = Campus::plan(SIZE);
        campus.seed(&installation.stores).await?;
        let mut bed = Self { installation, campus, postgres, ledger, before: Snapshot::default(), world };
        if let Some(ledger) = bed.own_ledger()? {
            ledger.migrate().await?;
        }
        let collector = bed.collector()?;
        let adopted = adopt(&collector, false).await?;
        ensure!(adopted.iter().all(|(_, reason)| reason.is_none()), "{adopted:?}");
        assert_eq!(pass(&collector, Mode::Run).await?.verdict, Verdict::Clean);
        bed.campus.delete_doomed(&bed.installation.stores).await?;
        bed.before = Snapshot::take(&bed.installation.stores).await?;
        Ok(bed)
    }

    fn collector(&self) -> Result<Collector> {
        let mut collector = self.installation.collector()?;
        if let Some(ledger) = self.own_ledger()? {
            collector.ledger = Arc::new(ledger);
        }
        Ok(collector)
    }

    /// The ledger, if it has a server of its own.
    fn own_ledger(&self) -> Result<Option<PostgresLedger>> {
        let Some(url) = self.ledger.clone() else { return Ok(None) };
        let postgres = course_gc::postgres::Postgres { url: url.into(), ..self.installation.source()?.postgres };
        Ok(Some(PostgresLedger::new(postgres, IdType::Uuid)?))
    }

    /// Makes the database anew under its name, with nothing in it.
    async fn empty(&mut self) -> Result<()> {
        self.installation.stores.postgres.close().await;
        sql(&self.postgres.url(), "DROP DATABASE campus WITH (FORCE)").await?;
        self.postgres.create_database("campus").await?;
        self.reconnect().await
    }

    async fn reconnect(&mut self) -> Result<()> {
        self.installation.stores = Stores::connect(&self.installation.addresses).await?;
        Ok(())
    }

    async fn nothing_went(&self) -> Result<()> {
        let now = Snapshot::take(&self.installation.stores).await?;
        ensure!(self.before.diff(&now) == Difference::default(), "{:?}", self.before.diff(&now));
        Ok(())
    }

    /// The configuration of this installation over a database that is a copy of its own.
    async fn copied(&self, copy: &Postgres) -> Result<Installation> {
        let addresses = Addresses { postgres: copy.url_of("campus"), ..self.world.addresses() };
        let settings = Settings { departed: "1d".to_owned(), ..Settings::default() };
        Installation::new(addresses, &settings).await
    }
}

async fn sql(url: &str, statement: &str) -> Result<()> {
    let pool = PgPool::connect(url).await?;
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&pool).await?;
    pool.close().await;
    Ok(())
}

/// One run or plan that nobody adopts anything for.
async fn pass(collector: &Collector, mode: Mode) -> Result<RunReport> {
    Ok(reconcile(collector, mode, &CancellationToken::new()).await?)
}

#[tokio::test]
async fn s3_s7_an_empty_database_with_its_ledger_is_no_truth() -> Result<()> {
    let mut bed = Bed::new("0s").await?;
    bed.empty().await?;
    let error = pass(&bed.collector()?, Mode::Run).await.expect_err("there is no ledger");
    let why = "run `course-gc migrate`";
    ensure!(chain(error.as_ref()).contains(why), "{error:#}");
    bed.nothing_went().await?;
    documented(
        "replaced by an empty database, the ledger with it",
        &format!("failed: {why}; nothing went"),
        "s3_s7_an_empty_database_with_its_ledger_is_no_truth",
    )?;

    // Whoever obeys without a thought, and lets the application make its tables, gets no further.
    bed.campus.prepare(&bed.installation.stores).await?;
    bed.installation.ledger()?.migrate().await?;
    let report = pass(&bed.collector()?, Mode::Run).await?;
    let happened = halts(&report, "returned no live course")?;
    let adopted = bed.installation.program(&["adopt", "--yes"]).await?;
    ensure!(adopted.code == Some(1), "{adopted:?}");
    bed.nothing_went().await?;
    documented(
        "replaced by an empty one, with new tables and a new ledger",
        &happened,
        "s3_s7_an_empty_database_with_its_ledger_is_no_truth",
    )
}

#[tokio::test]
async fn s7_an_empty_database_beside_its_ledger_is_no_truth() -> Result<()> {
    let elsewhere = Postgres::start().await?;
    let mut bed = Bed::beside(&elsewhere).await?;
    let collector = bed.collector()?;
    bed.empty().await?;
    let error = pass(&collector, Mode::Run).await.expect_err("there are no courses");
    ensure!(chain(error.as_ref()).contains("relation \"public.courses\" does not exist"), "{error:#}");
    bed.campus.prepare(&bed.installation.stores).await?;
    let report = pass(&collector, Mode::Run).await?;
    let happened = halts(&report, "public.courses was replaced by another one of its name")?;
    bed.nothing_went().await?;
    documented(
        "replaced by an empty one, the ledger in another cluster",
        &happened,
        "s7_an_empty_database_beside_its_ledger_is_no_truth",
    )
}

#[tokio::test]
async fn s7_what_a_restore_to_yesterday_lost_waits_for_a_person() -> Result<()> {
    let elsewhere = Postgres::start().await?;
    let mut bed = Bed::beside(&elsewhere).await?;
    let collector = bed.collector()?;
    let folder = tempfile::tempdir()?;
    let yesterday = folder.path().join("data");
    bed.postgres.back_up(&yesterday).await?;
    bed.reconnect().await?;

    // Today's courses, which a run sees, and a day's work.
    let today = Campus::plan(CampusSize { seed: 2, courses: 5, doomed: 0, foreign: 0, ..SIZE });
    today.seed(&bed.installation.stores).await?;
    sql(&bed.installation.addresses.postgres, "CREATE TABLE public.work AS SELECT generate_series(1, 50000)").await?;
    pass(&collector, Mode::Plan).await?;
    bed.before = Snapshot::take(&bed.installation.stores).await?;

    bed.installation.stores.postgres.close().await;
    bed.postgres.restore(&yesterday).await?;
    bed.reconnect().await?;
    for _ in 0..2 {
        let report = pass(&collector, Mode::Plan).await?;
        assert_eq!(report.halt, None);
        let orphans = report.stores.iter().flat_map(|store| &store.sources).flat_map(|source| &source.orphans);
        let lost: Vec<_> = orphans
            .filter(|orphan| today.courses.iter().any(|it| it.id.to_string() == orphan.course.to_string()))
            .collect();
        ensure!(!lost.is_empty(), "{report:?}");
        let waits = |decision| decision == Decision::Held(Hold::Discontinuity);
        ensure!(lost.iter().all(|orphan| waits(orphan.decision) && orphan.accrued_seconds < 60), "{lost:?}");
    }
    let report = pass(&collector, Mode::Run).await?;
    assert_eq!(report.verdict, Verdict::Held, "{report:?}");
    let gone = bed.before.diff(&Snapshot::take(&bed.installation.stores).await?).gone;
    let of_today = today.fates(&Default::default());
    ensure!(!gone.iter().any(|resource| of_today.contains_key(resource)), "{gone:?}");
    documented(
        "restored to yesterday, the ledger in another cluster",
        "held: what yesterday did not know waits for `course-gc adopt`, every clock starts anew",
        "s7_what_a_restore_to_yesterday_lost_waits_for_a_person",
    )
}

#[tokio::test]
async fn s7_a_promoted_standby_that_lacks_the_last_run_halts() -> Result<()> {
    let mut bed = Bed::new("0s").await?;
    let standby = bed.postgres.standby().await?;
    standby.stop().await?;
    assert_eq!(pass(&bed.collector()?, Mode::Run).await?.verdict, Verdict::Done, "the standby does not learn of it");
    bed.before = Snapshot::take(&bed.installation.stores).await?;
    bed.postgres.crash().await?;
    standby.restart().await?;
    sql(&standby.url(), "SELECT pg_promote()").await?;
    bed.installation.addresses.postgres = standby.url_of("campus");
    bed.reconnect().await?;
    let report = pass(&bed.collector()?, Mode::Run).await?;
    let happened = halts(&report, "was used 1 times since this ledger knew of it")?;
    bed.nothing_went().await?;
    documented("promoted, a run behind", &happened, "s7_a_promoted_standby_that_lacks_the_last_run_halts")
}

#[tokio::test]
async fn s11_a_standby_that_is_promoted_in_mid_sweep_takes_it_up() -> Result<()> {
    let primary = Postgres::start().await?;
    let url = primary.create_database("campus").await?;
    let mut scene = Scene::with(|addresses| addresses.postgres = url).await?;
    let standby = primary.standby().await?;
    let (dying, rising) = (primary.clone(), standby.clone());
    let ended = activate(&scene, |collector| {
        interpose(collector, "cache", move |call, nth| {
            let (dying, rising) = (dying.clone(), rising.clone());
            Box::pin(async move {
                if (call, nth) == (Call::Delete, 1) {
                    fail_over(&dying, &rising).await.expect("the standby takes over");
                }
            })
        });
    })
    .await;
    ensure!(ended.is_err(), "nobody can write that it ended: {ended:?}");
    scene.installation.addresses.postgres = standby.url_of("campus");
    scene.reconnect().await?;
    let gone = scene.difference().await?.gone;
    ensure!(!gone.is_empty() && gone.is_subset(&scene.doomed), "{gone:?}");
    scene.recovers().await?;
    documented(
        "promoted when the first key is about to go, nothing lost",
        "failed: at most the batches in hand went; the next run, on the promoted one, does the rest",
        "s11_a_standby_that_is_promoted_in_mid_sweep_takes_it_up",
    )
}

/// Waits until the standby has everything, ends the primary as a crash would, and promotes the standby.
async fn fail_over(primary: &Postgres, standby: &Postgres) -> Result<()> {
    let (from, to) = (PgPool::connect(&primary.url()).await?, PgPool::connect(&standby.url()).await?);
    let written: String = sqlx::query_scalar("SELECT pg_current_wal_lsn()::text").fetch_one(&from).await?;
    let caught_up = async {
        let has = "SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn";
        while !sqlx::query_scalar::<_, bool>(has).bind(written.clone()).fetch_one(&to).await? {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(20), caught_up).await.context("the standby lags")??;
    primary.crash().await?;
    sqlx::query("SELECT pg_promote()").execute(&to).await?;
    Ok(())
}

/// A clone of the database, made while nobody looked.
async fn cloned(bed: &mut Bed, folder: &Path) -> Result<(Postgres, Installation)> {
    let copy = folder.join("data");
    bed.postgres.back_up(&copy).await?;
    bed.reconnect().await?;
    let clone = Postgres::clone_of(&copy).await?;
    let installation = bed.copied(&clone).await?;
    Ok((clone, installation))
}

#[tokio::test]
async fn s7_a_clone_that_runs_second_halts() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut bed = Bed::new("1d").await?;
    let (_clone, cloned) = cloned(&mut bed, folder.path()).await?;
    assert_eq!(pass(&bed.collector()?, Mode::Run).await?.verdict, Verdict::Clean);
    let report = pass(&cloned.collector()?, Mode::Run).await?;
    let happened = halts(&report, "was used 1 times since this ledger knew of it")?;
    bed.nothing_went().await?;
    assert_eq!(pass(&bed.collector()?, Mode::Run).await?.halt, None, "the original goes on");
    documented("a clone of it runs after it, on its stores", &happened, "s7_a_clone_that_runs_second_halts")
}

#[tokio::test]
async fn s7_a_clone_that_runs_first_is_noticed_by_the_original() -> Result<()> {
    let bed = Bed::new("20m").await?;
    assert_eq!(pass(&bed.collector()?, Mode::Run).await?.halt, None);
    // A copy that is made while the original goes on: nobody restarts that one.
    let clone = bed.postgres.standby().await?;
    let at: String = sqlx::query_scalar("SELECT pg_current_wal_insert_lsn()::text")
        .fetch_one(&bed.installation.stores.postgres)
        .await?;
    let replica = PgPool::connect(&clone.url()).await?;
    eventually("the copy has everything", async || {
        let has_it = "SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn";
        let has_it: bool = sqlx::query_scalar(has_it).bind(&at).fetch_one(&replica).await?;
        Ok(has_it.then_some(()))
    })
    .await?;
    sql(&clone.url(), "SELECT pg_promote()").await?;
    let cloned = bed.copied(&clone).await?;
    cloned.configure(&Settings { departed: "20m".to_owned(), ..Settings::default() })?;
    // Whoever tries things out on a clone deletes courses, too.
    let live = bed.campus.courses.iter().find(|course| course.doom.is_none()).context("a live course")?.id;
    bed.campus.delete_row(&cloned.stores, live).await?;
    let report = pass(&cloned.collector()?, Mode::Run).await?;
    assert_eq!(report.verdict, Verdict::Clean, "all of it is in its grace: {report:?}");

    let markers = async || -> Result<Vec<_>> {
        let mut markers = Vec::new();
        for managed in &bed.collector()?.stores {
            markers.push(managed.store.marker().await?);
        }
        Ok(markers)
    };
    let before = markers().await?;
    for mode in [Mode::Plan, Mode::Run] {
        assert_eq!(markers().await?, before, "a plan changes nothing");
        let report = pass(&bed.collector()?, mode).await?;
        let happened = halts(&report, "was used 1 times since this ledger knew of it")?;
        documented(
            "a clone of it runs before it, on its stores",
            &happened,
            "s7_a_clone_that_runs_first_is_noticed_by_the_original",
        )?;
    }
    let objected = markers().await?;
    assert_ne!(objected, before, "the original objects");

    // Its grace is over in the clone; it was not sent there in vain.
    cloned.age("25 minutes").await?;
    let happened =
        halts(&pass(&cloned.collector()?, Mode::Run).await?, "was used 2 times since this ledger knew of it")?;
    documented(
        "a clone of it that ran before it runs again",
        &happened,
        "s7_a_clone_that_runs_first_is_noticed_by_the_original",
    )?;
    // It objects in its turn, and neither does so twice.
    halts(&pass(&cloned.collector()?, Mode::Run).await?, "was used 4 times since this ledger knew of it")?;
    for _ in 0..2 {
        halts(&pass(&bed.collector()?, Mode::Run).await?, "since this ledger knew of it")?;
    }
    bed.nothing_went().await?;

    // A person says which of them is right.
    adopt(&bed.collector()?, false).await?;
    for _ in 0..2 {
        assert_eq!(pass(&bed.collector()?, Mode::Run).await?.halt, None, "the original goes on");
        halts(&pass(&cloned.collector()?, Mode::Run).await?, "since this ledger knew of it")?;
    }
    let now = Snapshot::take(&bed.installation.stores).await?;
    let gone = bed.before.diff(&now).gone;
    ensure!(gone.is_subset(&bed.campus.gone(&bed.campus.doomed())), "of the living: {gone:?}");
    Ok(())
}

#[tokio::test]
async fn s7_a_clone_that_runs_second_touches_no_marker() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut bed = Bed::new("1d").await?;
    let (_clone, cloned) = cloned(&mut bed, folder.path()).await?;
    pass(&bed.collector()?, Mode::Run).await?;
    let store = Arc::clone(&bed.collector()?.stores[0].store);
    let before = store.marker().await?;
    let happened =
        halts(&pass(&cloned.collector()?, Mode::Run).await?, "was used 1 times since this ledger knew of it")?;
    assert_eq!(store.marker().await?, before, "the original is not disturbed");
    documented("… and the markers are as they were", &happened, "s7_a_clone_that_runs_second_touches_no_marker")
}
